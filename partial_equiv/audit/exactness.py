"""Static planner: which layer breaks exact equivariance at an image size, and which size or repair mends it."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from partial_equiv.audit.conditions import Class, repairs
from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.audit.network import Network
from partial_equiv.audit.rows import BOTH, Row, make_table
from partial_equiv.audit.sizes import Mode, Size, Sizes
from partial_equiv.errors import UserError

MODES = ("nearest", "up", "down")
ALLOWS = "the grid allows exactness; whether the weights use it is measured by audit"
POOLS = ("max_pool", "avg_pool")
GRIDS = ("conv", "unfold", *POOLS)
"""Kinds of layers whose grid depends on the size of their input."""
SWAPS = {
    "linear": "global_pool",
    "table": "no_table",
    "roll": "no_roll",
    "resize": "bilinear",
    "pad": "equal_borders",
    "conv_transpose": "output_padding0",
    "unlike": "same_on_both_axes",
}
"""Repairs that do not depend on a size."""


@dataclass(frozen=True)
class ExactnessReport:
    """What one pass says: every layer on every axis, the culprits, and what would mend them.

    A layer of input size i, k' = d (k - 1) + 1, stride s and padding p commutes with reversing an axis iff
    (i + 2 p - k') mod s = 0: then its sampling grid is its own mirror image. Otherwise the turned image is sampled r
    pixels beside. Exact means: the grid allows exact equivariance. Whether the weights are symmetric is not looked at.

    Args:
        rows: A row for each layer that samples, shifts or weighs pixels, on each axis, in the order of the network.
        group: The group.
        input_size: (H, W).
        axes: What the group needs: "H", "W" to be read backwards, "HW" to be exchanged. Rows of others do not count.
        note: What was checked instead, if the group asks for more than right angles.
    """

    rows: tuple[Row, ...]
    group: str
    input_size: Size
    axes: frozenset[str]
    note: str
    _sizes: Sizes = field(repr=False, compare=False)

    @property
    def culprits(self) -> tuple[str, ...]:
        """The layers that break, in the order of the network."""
        return _names(row for row in self._needed() if row.exact is False)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The layers that the planner does not understand."""
        return _names(row for row in self._needed() if row.exact is None)

    @property
    def exact(self) -> bool:
        """Whether every layer is known and exact on every axis that the group needs."""
        return not self.culprits and not self.unknown

    def _needed(self) -> list[Row]:
        return [row for row in self.rows if row.axis in self.axes]

    @functools.cached_property
    def moduli(self) -> dict[str, Class] | None:
        """(residue, S) of each axis that the group reads backwards: exact iff the size is residue mod S.

        None where no such law holds: something breaks at every size, or the network makes sizes by other rules. The
        law is confirmed by a pass at each size of one period.
        """
        return None if self._sizes.always_broken() else self._sizes.classes

    @property
    def modulus(self) -> Class | None:
        """(residue, S) if one law holds for all axes: (1, 32) says that 193, 225 and 257 are exact; see `moduli`."""
        found = set((self.moduli or {}).values())
        return found.pop() if len(found) == 1 else None

    def propose(self, near: int | Size | None = None, n: int = 3, mode: Mode = "nearest") -> list[Any]:
        """Return exact sizes, each found by running the pass at it.

        Args:
            near: Where to look: a number for square images, (H, W) for others; the input size by default.
            n: How many.
            mode: "nearest", "up" for larger ones, "down" for smaller ones; all include `near` itself.

        Raises:
            UserError: unknown mode, or no sizes.
        """
        if mode not in MODES:
            raise UserError(f"mode={mode!r} is not one of: {', '.join(MODES)}")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UserError(f"n={n!r} is not a number of sizes: give 1 or more")
        height, width = self.input_size if near is None else _pair(near, "near")
        found = self._sizes.propose((height, width), n, mode)
        return [size[0] if height == width else size for size in found]

    @functools.cached_property
    def fixes(self) -> dict[str, list[str]]:
        """Repairs of each culprit, each of them checked to make it exact; empty where none is known.

        "k4s2p1": kernel 4, stride 2, padding 1. "pool2": stride 1, then a 2 x 2 pooling (for a pooling: it alone).
        "blur4": stride 1, then a blur of 4 taps with stride 2 and padding 1. "resize:225": resize the image to 225.
        Others say what to use, or to leave away: "global_pool", "no_table", "no_roll", "bilinear", "equal_borders",
        "output_padding0", "same_on_both_axes".
        """
        return {name: self._fixes(name) for name in self.culprits}

    def _fixes(self, name: str) -> list[str]:
        rows = [row for row in self._needed() if row.name == name]
        broken = [row for row in rows if row.exact is False]
        found = [SWAPS[row.kind] for row in broken if row.kind in SWAPS]
        found += _replacements([row for row in rows if row.kind in GRIDS])
        if any(row.kind in GRIDS for row in broken):
            size = self._sizes.mend(name)
            found += [f"resize:{size[0]}" if size[0] == size[1] else f"resize:{size[0]}x{size[1]}"] if size else []
        return list(dict.fromkeys(found))

    @property
    def verdict(self) -> str:
        """One sentence."""
        where = f"{self.input_size[0]} x {self.input_size[1]} under {self.group}"
        if self.exact:
            return f"exact at {where}: {ALLOWS}"
        parts = []
        if self.culprits:
            parts.append(f"{len(self.culprits)} layers break it, first {self.culprits[0]}")
        if self.unknown:
            parts.append(f"{len(self.unknown)} are unknown to the planner, first {self.unknown[0]}")
        return f"not exact at {where}: {'; '.join(parts)}"

    def table(self, broken: bool = False) -> str:
        """Return the rows as aligned text, and the verdict.

        Args:
            broken: Leave out the rows that are exact.
        """
        lines = make_table([row for row in self.rows if not (broken and row.exact)])
        return "\n".join([*lines, "", self.verdict, *([self.note] if self.note else [])])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the congruence, proposals and repairs among them."""
        return {
            "group": self.group,
            "input_size": list(self.input_size),
            "exact": self.exact,
            "verdict": self.verdict,
            "note": self.note,
            "culprits": list(self.culprits),
            "unknown": list(self.unknown),
            "moduli": {axis: list(found) for axis, found in (self.moduli or {}).items()},
            "proposals": [size if isinstance(size, int) else list(size) for size in self.propose()],
            "fixes": self.fixes,
            "rows": [row.to_dict() for row in self.rows],
        }


def check_exactness(
    model: nn.Module,
    input_size: int | tuple[int, int],
    group: str = "C4",
    *,
    in_channels: int = 3,
    example: Tensor | None = None,
) -> ExactnessReport:
    """Say which layers of a network break exact equivariance at an image size.

    f(T x) = T f(x) needs every layer to see the image and its mirror image alike. One pass on tensors without values
    follows the image's axes through every operation. What the planner does not know it calls unknown, never exact.

    The model is not run, moved, hooked or changed: a copy of it is, in evaluation.

    Args:
        model: Any torch module whose forward takes images alone.
        input_size: Pixels, one number for square images or (H, W).
        group: As in `make_moves`, right angles: "C2", "C4", "D1", "D2", "D4", "flip_h", "flip_w". Of others, C8 or D8,
            the right angles are checked, and the report says so.
        in_channels: Channels of the image.
        example: Images [B, C, H, W] to run on the CPU, for a network that reads values of tensors.

    Returns:
        The report: `table()`, `culprits`, `exact`, `modulus`, `propose(near=224)`, `fixes`.

    Raises:
        UserError: no such size or group, no right angles, or a network that does not take the image.
    """
    size = _pair(input_size, "input_size")
    moves, note = _right_angles(group)
    if isinstance(example, Tensor) and example.ndim == 4 and tuple(example.shape[2:]) != size:
        raise UserError(f"example has {list(example.shape[2:])} pixels and input_size is {list(size)}: make them equal")
    axes = {axis for move in moves for axis in move.reversed_axes} | {BOTH for move in moves if move.swaps_axes}
    sizes = Sizes(Network(model, in_channels, example), frozenset(axes), size)
    return ExactnessReport(sizes.rows(), group, size, frozenset(axes), note, sizes)


def _right_angles(group: str) -> tuple[list[Move], str]:
    moves = make_moves(group)
    exact = [move for move in moves if move.exact]
    if not exact:
        raise UserError(
            f"group={group!r} has no right angles, and others interpolate pixels: give C2, C4, D1, D2 or D4"
        )
    note = (
        ""
        if len(exact) == len(moves)
        else f"of {group} the right angles are checked: {', '.join(m.name for m in exact)}"
    )
    return exact, note


def _pair(size: Any, what: str) -> Size:
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise UserError(f"{what}={size!r} is not a size in pixels: give one number of 1 or more, or (H, W)")
    return (sides[0], sides[1])


def _names(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.name for row in rows))


def _replacements(rows: list[Row]) -> list[str]:
    """Return repairs that are exact on every axis of every use of a layer; of new kernels one."""
    common: list[str] | None = None
    for row in rows:
        assert row.i and row.k and row.s and row.p and row.o
        if row.kind == "unfold":
            return []
        mine = repairs(row.i, row.k, row.s, row.p[0], row.o, row.kind in POOLS)
        common = mine if common is None else [code for code in common if code in mine]
    kernels = [code for code in common or [] if code.startswith("k")]
    return kernels[:1] + [code for code in common or [] if not code.startswith("k")]
