"""From two tensors to an error, and from a field to the representation it is measured in.

Axes: B batch, then whatever the layer has.
"""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor

from partial_equiv.audit.fields import is_field, is_map, is_typed, tensor_of
from partial_equiv.audit.guesses import Frame, Override, candidates, override
from partial_equiv.audit.moves import Move
from partial_equiv.audit.representations import Representation, Unmeasured
from partial_equiv.audit.typed import aligned, weighted

ROUNDING = 64  # in units of the last place of the mean magnitude
CLEARLY = 0.1  # a less likely reading of a shape is taken where its error is below this share of the likeliest's


class Place(NamedTuple):
    """Where a field was seen: what went into a call or came out of it, or the network's output; and which field.

    Args:
        kind: "layer" for what came out, "between" for what went in, "output".
        call: Name of the call; "output".
        path: Of the field, in what went in or came out.
    """

    kind: str
    call: str
    path: str = ""

    @property
    def name(self) -> str:
        """The name by which `reps` and the table know it; all that goes into one call has one name."""
        return f"before {self.call}" if self.kind == "between" else f"{self.call}{self.path}"


class Measure(NamedTuple):
    """One error for one move: relative to the variation over the batch, and the absolute ones it is made of."""

    error: float | None
    mean: float = math.nan
    worst: float = math.nan
    reason: str = ""


class Pick(NamedTuple):
    """The representation a field was measured in, what it should have been, and how far it is off."""

    representation: Representation
    expected: Any
    measure: Measure


class Judge:
    """Measures fields, and remembers in which representation.

    error = mean |actual - expected| / mean |h(x') - h(x)|, x' the batch rolled by one image. Where h hardly varies, so
    that rounding would show as an error, it is 0 for a difference within rounding, and infinite for no variation at
    all.

    Args:
        frame: What representations are guessed from.
        reps: Name or pattern of a row -> its representation.
        tolerance: An error that counts as none.
    """

    def __init__(self, frame: Frame, reps: Mapping[str, Override], tolerance: float) -> None:
        self.frame, self.reps, self.tolerance = frame, reps, tolerance
        self.chosen: dict[tuple[Place, Move], Representation] = {}
        self._made: dict[int, Representation] = {}
        self._exact: dict[tuple[int, ...], Representation] = {}
        self._spreads: dict[int, tuple[Tensor, tuple[float, float]]] = {}
        self._scratch = torch.empty(0)

    def pick(self, place: Place, actual: Any, recorded: Any, move: Move) -> Pick:
        """Measure a field of the run on g x against g times that of the run on x, in the representation that fits.

        Raises:
            Unmeasured: no representation is known that carries the move.
        """
        reasons: list[str] = []
        found: list[Pick] = []
        for representation in self._readings(place, recorded):
            try:
                pick = self._try(representation, actual, recorded, move)
            except Unmeasured as reason:
                reasons.append(str(reason))
                continue
            found.append(pick)
            if _error(pick) <= self.tolerance:
                break
        if not found:
            raise Unmeasured(reasons[0])
        # Learned tokens are the same for every x, exactly; nothing less makes a map one that does not move.
        moving = [
            pick for pick in found[1:] if pick.representation.name != "invariant" or _error(pick) <= self.tolerance
        ]
        best = min([found[0], *moving], key=_error)
        pick = best if _error(best) < CLEARLY * _error(found[0]) else found[0]
        self.chosen[place, move] = pick.representation
        if isinstance(recorded, Tensor):
            if place.kind == "layer":
                self._made[id(recorded)] = pick.representation
            if _error(pick) <= self.tolerance and pick.representation.name != "invariant":
                self._exact[tuple(recorded.shape)] = pick.representation
        return pick

    def again(self, place: Place, actual: Any, recorded: Any, move: Move) -> Pick:
        """Measure a field in the representation that was picked before, or pick one now."""
        known = self.chosen.get((place, move))
        return self.pick(place, actual, recorded, move) if known is None else self._try(known, actual, recorded, move)

    def _readings(self, place: Place, recorded: Any) -> list[Representation]:
        for pattern, what in self.reps.items():
            if matches(pattern, place.name):
                return override(recorded, what, self.frame)
        found = candidates(recorded, self.frame)
        if is_typed(recorded) or len(found) == 1:
            return found
        # First as what it came from, then as what others of its shape turned out to be.
        known = [self._made.get(id(tensor_of(recorded))) if place.kind == "between" else None]
        known.append(self._exact.get(tuple(tensor_of(recorded).shape)))
        return [*(reading for reading in known if reading is not None), *found]

    def _try(self, representation: Representation, actual: Any, recorded: Any, move: Move) -> Pick:
        expected = representation.act(recorded, move)
        mask = None if move.exact else representation.mask(tensor_of(recorded))
        if not is_field(actual):
            raise Unmeasured("x turned gives no such output")
        if is_map(expected):
            if not is_map(actual):
                raise Unmeasured("the map on x is none on x turned")
            actual = aligned(actual, expected)
        measure = self.measure(tensor_of(actual), tensor_of(expected), tensor_of(recorded), mask)
        return Pick(representation, expected, measure)

    def measure(self, actual: Tensor, expected: Tensor, recorded: Tensor, mask: Tensor | None) -> Measure:
        """Return the error of `actual`, relative to the variation of `recorded` over its batch.

        Raises:
            Unmeasured: the values are not finite, or none lie in the mask.
        """
        if actual.shape != expected.shape:
            found, wanted = list(actual.shape), list(expected.shape)
            return Measure(math.inf, math.inf, math.inf, f"x turned gives the shape {found}, which should be {wanted}")
        if recorded.numel() == 0 or (mask is not None and not bool(mask.any())):
            raise Unmeasured("the map is too small for an inscribed disc" if recorded.numel() else "it is empty")
        difference = self._difference(number(actual), number(expected), mask)
        mean, worst = float(difference.mean()), float(difference.max())
        variation, magnitude = self._spread(recorded, mask)
        if not math.isfinite(mean + variation + magnitude):
            raise Unmeasured("its values are not finite")
        rounding = ROUNDING * torch.finfo(difference.dtype).eps * magnitude
        if mean <= rounding and variation * self.tolerance <= rounding:
            return Measure(0.0, mean, worst, "it hardly varies over the batch" if variation <= rounding else "")
        return Measure(mean / variation if variation > rounding else math.inf, mean, worst)

    def _spread(self, recorded: Tensor, mask: Tensor | None) -> tuple[float, float]:
        """Return the mean variation over the batch and the mean magnitude; without a mask they are found once."""
        known = self._spreads.get(id(recorded)) if mask is None else None
        if known is not None:
            return known[1]
        values = number(recorded)
        pairs = [(values[:-1], values[1:]), (values[-1:], values[:1])]  # the batch and itself rolled by one image
        sums = [float(self._difference(*pair, mask).mean()) * len(pair[0]) for pair in pairs]
        spread = sum(sums) / len(values), float(self._difference(values, torch.zeros_like(values[:1]), mask).mean())
        if mask is None:
            self._spreads[id(recorded)] = recorded, spread  # held, so that no other tensor gets its id
        return spread

    def _difference(self, first: Tensor, second: Tensor, mask: Tensor | None) -> Tensor:
        """Return |first - second|, in memory that the next call overwrites: fresh memory costs more than sums."""
        if first.is_complex() or first.dtype != second.dtype:
            size = (first - second).abs()
        else:
            if self._scratch.numel() < first.numel() or self._scratch.dtype != first.dtype:
                with torch.inference_mode(False):  # the next pass may be outside a network's own inference mode
                    self._scratch = torch.empty(first.numel(), dtype=first.dtype, device=first.device)
            size = torch.sub(first, second, out=self._scratch[: first.numel()].view(first.shape)).abs_()
        return size if mask is None else size.masked_select(mask)


def weighted_measure(judge: Judge, actual: Any, expected: Any, recorded: Any, mask: Tensor | None) -> Measure:
    """Measure maps at the same elements, each element's values times its weight."""
    return judge.measure(weighted(actual), weighted(expected), weighted(recorded), mask)


def matches(pattern: str, row: str) -> bool:
    """Say whether a key of `reps` means a row; what goes into a layer is meant by keys that begin with "before "."""
    alike = pattern.startswith("before ") == row.startswith("before ")
    return row == pattern or (alike and fnmatchcase(row, pattern))


def number(values: Tensor) -> Tensor:
    """Return values that can be subtracted: what holds no fractions as float64 (float32 where the device has none)."""
    if values.is_floating_point() or values.is_complex():
        return values
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def _error(pick: Pick) -> float:
    assert pick.measure.error is not None
    return pick.measure.error
