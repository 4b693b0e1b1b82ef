"""What the planner says of one layer on one axis, and the table that holds it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

BOTH = "HW"
"""The axis of rows about quarter turns, which exchange the two."""

COLUMNS = ("layer", "kind", "axis", "i", "k'", "s", "p", "o", "r", "shift", "exact", "reason")


@dataclass(frozen=True)
class Row:
    """One layer on one image axis.

    Args:
        name: Module path; with ":operation" where a module that holds others calls a function itself.
        kind: "conv", "max_pool", "linear", "table", ...
        axis: Image axis, "H" or "W"; "HW" for the treatment of one against the other, which quarter turns need.
        i: Input size.
        k: k', pixels that a kernel spans with its dilation.
        s: Stride.
        p: Padding (left, right) of the layer itself.
        o: Output size.
        r: Phase offset between the sampling grid and its mirror image, in pixels of the layer's input.
        shift: The same in image pixels.
        exact: Whether the axis may be read backwards; None for an operation the planner does not know.
        reason: Why, in words.
        always: Whether no size of the image mends it.
    """

    name: str
    kind: str
    axis: str
    i: int | None = None
    k: int | None = None
    s: int | None = None
    p: tuple[int, int] | None = None
    o: int | None = None
    r: float | None = None
    shift: float | None = None
    exact: bool | None = True
    reason: str = ""
    always: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"p": None if self.p is None else list(self.p)}

    def cells(self) -> tuple[str, ...]:
        """Return the row as texts, in the order of `COLUMNS`."""
        exact = {True: "yes", False: "NO", None: "?"}[self.exact]
        p = None if self.p is None else self.p[0] if self.p[0] == self.p[1] else f"{self.p[0]},{self.p[1]}"
        numbers = (self.i, self.k, self.s, p, self.o, self.r, self.shift)
        texts = ("" if n is None else n if isinstance(n, str) else f"{n:g}" for n in numbers)
        return (self.name, self.kind, self.axis, *texts, exact, self.reason)


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of text with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)
    return [line.rstrip() for line in lines]


def make_table(rows: Sequence[Row]) -> list[str]:
    """Return rows as lines of text; the two axes of a layer share a line where they agree."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for row in rows:
        cells = row.cells()
        if lines[-1][:2] == cells[:2] and lines[-1][3:] == cells[3:] and lines[-1][2] == "H" and cells[2] == "W":
            lines[-1] = (*cells[:2], "H, W", *cells[3:])
        else:
            lines.append(cells)
    return align(lines)
