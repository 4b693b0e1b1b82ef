"""Is the offset of the sampling grid the sole cause? Shift every grid by its remainder and compare again.

Axes: B batch, C channels, Y X image.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from partial_equiv.audit.dynamic import Representations, prepare
from partial_equiv.audit.fields import fields
from partial_equiv.audit.frozen import frozen
from partial_equiv.audit.measures import Place
from partial_equiv.audit.moves import Move
from partial_equiv.audit.recording import Nothing, run
from partial_equiv.audit.report import number_text
from partial_equiv.audit.representations import Unmeasured
from partial_equiv.audit.shifted import Here, PhaseMode, Shift
from partial_equiv.errors import UserError

EXPLAINED = 1e-9


@dataclass(frozen=True, kw_only=True)
class PhaseRow:
    """One move: the error of f(T x) against T f(x), and against T f of x with shifted grids."""

    move: str
    before: float
    after: float
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, kw_only=True)
class PhaseReport:
    """What shifting the sampling grids explains.

    Args:
        network: Class of the network.
        group: Name of the group.
        shape: Of the images.
        rows: One for each move.
    """

    network: str
    group: str
    shape: tuple[int, ...]
    rows: tuple[PhaseRow, ...]

    @property
    def explained(self) -> bool:
        """Whether the offsets of the grids are the sole cause: nothing is left once they are shifted."""
        return all(row.after <= EXPLAINED for row in self.rows)

    def table(self) -> str:
        """Return the rows as text."""
        lines = [("move", "error", "grids shifted", "offsets (pixels)")]
        for row in self.rows:
            lines.append((row.move, number_text(row.before), number_text(row.after), _offsets(row.shifts)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        verdict = "the sole cause of the error" if self.explained else "not the sole cause of the error"
        size = "x".join(map(str, self.shape))
        return "\n".join([f"{self.network}, {self.group}, {size}: the offsets are {verdict}.", *texts])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self) | {"explained": self.explained}


def _offsets(shifts: Sequence[Shift]) -> str:
    """Return the offsets layer by layer: "conv1 H+1 W+1, pool W+1"."""
    found: dict[str, list[str]] = {}
    for shift in shifts:
        found.setdefault(shift.layer or shift.operation, []).append(f"{shift.axis}{shift.remainder:+d}")
    return ", ".join(f"{name} {' '.join(axes)}" for name, axes in found.items()) or "none"


def phase_report(
    model: nn.Module,
    x: Tensor,
    group: str = "C4",
    *,
    reps: Representations = "auto",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> PhaseReport:
    """Confirm that a network is inequivariant by the offsets of its sampling grids alone, or that it is not.

    On an axis that T reverses, window j of a layer starts at -p + js for T x, which is -p + r + j's in the frame of x.
    So f(T x) = T f_r(x), where f_r samples every layer r pixels further on these axes: exactly, for a network that is
    equivariant but for its grids, such as a symmetrised twin, G-convolutions, or escnn's.

    Args:
        model: Any module whose grids are those of conv2d, max_pool2d, avg_pool2d and lp_pool2d.
        x: Two images or more.
        group: A group of right angles.
        reps: As in `audit`, for "output".
        dtype: Of the evaluation.
        seed: Of what is random in a forward pass.
    Shape:
        x [B, C, Y, X].
    Raises:
        UserError: the group interpolates; an output has no number; or as in `audit`.
    Source: Edixhoven, Lengyel & van Gemert 2023 (the offset); the identity is derived here.
    """
    setting = prepare(model, x, group, None, reps, dtype, seed, None)
    for move in setting.moves:
        move.reversed_axes  # noqa: B018  (raises for turns that interpolate)
    rows = []
    with frozen(setting.model, dtype):

        def outputs(images: Tensor, watcher: Any, what: str) -> dict[str, Any]:
            hint = "audit() names the layer in which a pass goes wrong"
            return fields(run(setting.model, images, watcher, seed=seed, what=what, hint=hint))

        plain = outputs(setting.images, Nothing(), "x")
        for move in setting.moves:
            moved = outputs(setting.turned(move), Nothing(), f"x under the move {move.name!r}")
            here = Here()
            with PhaseMode(move.reversed_axes, here) as mode:
                shifted = outputs(setting.images, here, "x with shifted sampling grids")
            pairs = [_errors(setting.judge, path, moved.get(path), plain[path], shifted[path], move) for path in plain]
            before, after = (max(pair[i] for pair in pairs) for i in (0, 1))
            rows.append(PhaseRow(move=move.name, before=before, after=after, shifts=tuple(mode.shifts)))
    name, shape = type(setting.model).__name__, tuple(setting.images.shape)
    return PhaseReport(network=name, group=group, shape=shape, rows=tuple(rows))


def _errors(judge: Any, path: str, moved: Any, plain: Any, shifted: Any, move: Move) -> tuple[float, float]:
    """Return the error of one output against T f(x) and against T f_r(x), in one representation."""
    place = Place("output", "output", path)
    try:
        after = judge.pick(place, moved, shifted, move).measure.error
        return judge.again(place, moved, plain, move).measure.error, after
    except Unmeasured as reason:
        raise UserError(
            f"{place.name} has no equivariance error ({reason}): pass reps={{'{place.name}': ...}}"
        ) from None
