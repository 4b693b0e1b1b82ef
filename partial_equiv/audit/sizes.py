"""Which image sizes are exact: the congruence where there is one, and proposals found by running the pass again."""

import functools
import itertools
import math
from collections.abc import Iterable
from typing import Literal

from partial_equiv.audit.conditions import Class, solve
from partial_equiv.audit.network import Network
from partial_equiv.audit.quarter import unlike_rows
from partial_equiv.audit.rows import BOTH, Row
from partial_equiv.audit.trace import BrokenError, Trace
from partial_equiv.errors import UserError

Mode = Literal["nearest", "up", "down"]
Size = tuple[int, int]

TRIES = 4
"""How many sizes are tried to mend one layer."""

WINDOW = 512
"""The largest modulus that is confirmed, and the furthest that proposals are looked for, in pixels."""


class Sizes:
    """Passes through one network at many sizes.

    Args:
        network: The network.
        axes: What the group needs: "H", "W", and "HW" for quarter turns.
        size: (H, W) of the first pass.
    """

    def __init__(self, network: Network, axes: frozenset[str], size: Size) -> None:
        self.network = network
        self.axes = axes
        self.size = size
        self.first = network.run(*size)
        self._exact: dict[tuple[Size, frozenset[str]], bool] = {}
        self._rows: dict[Size, tuple[Row, ...]] = {}

    def rows(self, size: Size | None = None) -> tuple[Row, ...]:
        """Return all rows at a size, the first one by default.

        Raises:
            UserError: the network cannot take this size.
        """
        size = size or self.size
        if size not in self._rows:
            trace = self.first if size == self.size else self.network.run(*size)
            drafts = trace.drafts + (self._unlike(trace, size) if BOTH in self.axes else [])
            self._rows[size] = tuple(row for _, row in sorted(drafts, key=lambda draft: draft[0]))
        return self._rows[size]

    def _unlike(self, trace: Trace, size: Size) -> list[tuple[int, Row]]:
        height, width = size
        if height == width:
            return unlike_rows(trace, trace)
        try:
            return unlike_rows(trace, self.network.run(width, height))
        except UserError as error:
            reason = f"the turned image, {width} x {height}, is not taken: {error}"
            return [(trace.step, Row("input", "unlike", BOTH, exact=False, reason=reason, always=True))]

    def exact(self, size: Size, axes: frozenset[str] | None = None) -> bool:
        """Return whether a size is taken, and all rows of the needed axes are exact there."""
        needed = self.axes if axes is None else axes
        key = (size, needed)
        if key not in self._exact:
            self._exact[key] = self._try(size, needed)
        return self._exact[key]

    def _try(self, size: Size, needed: frozenset[str]) -> bool:
        if min(size) < 1:
            return False
        try:
            trace = self.network.run(*size, impatient=needed)
        except (BrokenError, UserError):
            return False
        return BOTH not in needed or not self._unlike(trace, size)

    def mend(self, name: str) -> Size | None:
        """Return the nearest size at which the network is exact, or if there is none, at which one layer is."""
        for size in self.propose(self.size, 1, "nearest"):
            return size
        found = self._solved(name)
        if found is None:
            return None
        around = ((self.size[0] + t, self.size[1] + t) for t in _steps(WINDOW, "nearest"))
        tried = itertools.islice((size for size in around if _in(found, size)), TRIES)
        return next((size for size in tried if self._layer_exact(size, name)), None)

    def _layer_exact(self, size: Size, name: str) -> bool:
        try:
            rows = [row for row in self.rows(size) if row.name == name and row.axis in self.axes]
        except UserError:
            return False
        return bool(rows) and all(row.exact for row in rows)

    def _solved(self, name: str | None = None) -> dict[str, Class] | None:
        """Return the congruence of each needed axis, of one layer or of all; None where there is none."""
        found = {}
        for axis in sorted(self.axes - {BOTH}):
            lines = [line for layer, line in self.first.lines[axis] if name in (None, layer)]
            known = [line for line in lines if line is not None]
            solved = solve(known) if len(known) == len(lines) else None
            if solved is None:
                return None
            found[axis] = solved
        return found

    @functools.cached_property
    def classes(self) -> dict[str, Class] | None:
        """Return the residue and modulus of each needed axis, or None where no congruence holds.

        Solved from the layers of the first pass, then confirmed: over one whole period, the pass run again at each size
        must find exact the sizes of the class and no other.
        """
        found = self._solved()
        period = math.lcm(*(modulus for _, modulus in (found or {}).values()))
        if found is None or period > WINDOW:
            return None
        walks = self._walks(found, period)
        # The sizes of the class first: where nothing is exact, one pass says so.
        walks.sort(key=lambda size: not _in(found, size))
        met = _in(found, walks[0]) and all(self.exact(size) == _in(found, size) for size in walks)
        return found if met else None

    def _walks(self, found: dict[str, Class], period: int) -> list[Size]:
        """Return sizes over one period: square ones, or each axis alone, with the other one at a size of its class."""
        height, width = self.size
        if height == width:
            return [(height + t, width + t) for t in range(period + 1)]
        h, w = (_up(size, found.get(axis)) for axis, size in (("H", height), ("W", width)))
        return [(height + t, w) for t in range(period + 1)] + [(h, width + t) for t in range(period + 1)]

    def propose(self, near: Size, count: int, mode: Mode) -> list[Size]:
        """Return exact sizes from `near` on: square ones if `near` is square, else any."""
        if self.always_broken():
            return []
        found = self.classes or {}
        reach = min(WINDOW, (count + 1) * self._step())
        if near[0] == near[1]:
            candidates: Iterable[Size] = ((near[0] + t, near[1] + t) for t in _steps(reach, mode))
        else:
            candidates = self._pairs(near, reach, mode, count)
        exact = (size for size in candidates if _in(found, size) and self.exact(size))
        return list(itertools.islice(exact, count))

    def always_broken(self) -> bool:
        """Return whether something breaks that no size mends."""
        return any(row.always and row.exact is False and row.axis in self.axes for row in self.rows())

    def _step(self) -> int:
        """Return how far apart exact sizes lie at most; a guess where there is no congruence."""
        if self.classes:
            return math.lcm(*(modulus for _, modulus in self.classes.values()))
        lines = [line for found in self.first.lines.values() for _, line in found if line]
        return max([64, *(slope.denominator for slope, _ in lines)])

    def _pairs(self, near: Size, reach: int, mode: Mode, count: int) -> list[Size]:
        """Return pairs of a good height and a good width, each found with the other side left alone."""
        height, width = near
        tall = ((height + t, width) for t in _steps(reach, mode))
        wide = ((height, width + t) for t in _steps(reach, mode))
        heights = itertools.islice((size for size in tall if self._good(size, "H")), count + 1)
        widths = itertools.islice((size for size in wide if self._good(size, "W")), count + 1)
        pairs = [(h, w) for (h, _), (_, w) in itertools.product(heights, widths)]
        return sorted(pairs, key=lambda pair: abs(pair[0] - height) + abs(pair[1] - width))

    def _good(self, size: Size, axis: str) -> bool:
        known = (self.classes or {}).get(axis)
        return (known is None or _in({axis: known}, size)) and self.exact(size, self.axes & {axis})


def _steps(reach: int, mode: Mode) -> list[int]:
    """Return 0 and the steps away from it up to `reach`, nearest first."""
    offsets = [0, *(d for n in range(1, reach + 1) for d in (n, -n))]
    return [d for d in offsets if mode == "nearest" or (d >= 0 if mode == "up" else d <= 0)]


def _in(classes: dict[str, Class], size: Size) -> bool:
    sides = {"H": size[0], "W": size[1]}
    return all(sides[axis] % modulus == residue for axis, (residue, modulus) in classes.items())


def _up(size: int, found: Class | None) -> int:
    if found is None:
        return size
    residue, modulus = found
    return size + (residue - size) % modulus
