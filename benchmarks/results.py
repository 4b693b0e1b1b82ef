"""Tables as data: what was measured, the goals beside it, and how both become Markdown and JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.spread import Spread, digits

Figure = float | Spread


@dataclass(frozen=True)
class Goal:
    """A number to reach, and what it is a number of; `named` goals make the list of all goals at the end."""

    what: str
    limit: float
    side: Literal["at most", "at least"] = "at most"
    named: bool = True

    def met(self, figure: Figure) -> bool:
        """Say whether a figure, or the median of its rounds, keeps the limit."""
        value = figure.median if isinstance(figure, Spread) else figure
        return value <= self.limit if self.side == "at most" else value >= self.limit

    def __str__(self) -> str:
        """Return the limit in words."""
        return f"{self.side} {self.limit:g}"


@dataclass(frozen=True)
class Judged:
    """A figure beside its goal."""

    value: Figure
    goal: Goal

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.goal.met(self.value)

    def __str__(self) -> str:
        """Return figure, limit and verdict."""
        return f"{text(self.value)}, {self.goal}: {'met' if self.met else '**not met**'}"


Cell = str | int | float | Spread | Judged | None


@dataclass(frozen=True)
class Table:
    """A title, a heading, rows of cells, and notes below; `plot` says how it is drawn."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    plot: Literal["bars", "growth", "none"] = "none"

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", row_of(self.header), "|" + "---|" * len(self.header)]
        lines += [row_of([text(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", *(line for note in self.notes for line in (note, ""))])

    def judged(self) -> list[tuple[str, Judged]]:
        """Return every figure that has a goal, with the first cell of its row."""
        return [(text(row[0]), cell) for row in self.rows for cell in row if isinstance(cell, Judged)]


def row_of(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def text(cell: Cell) -> str:
    """Return what a reader sees of a cell."""
    if cell is None:
        return "-"
    return digits(cell) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def goals_table(tables: Iterable[tuple[Table, str]]) -> Table:
    """Return the list of all figures with a named goal, of tables with the commit that each was measured at."""
    found = [(row, cell, commit) for table, commit in tables for row, cell in table.judged() if cell.goal.named]
    rows = [
        (cell.goal.what, row, text(cell.value), str(cell.goal), "met" if cell.met else "**not met**", commit)
        for row, cell, commit in found
    ]
    return Table("Numbers to reach", ("what", "measured on", "figure", "goal", "", "commit"), tuple(rows))


def to_json(tables: Sequence[Table]) -> str:
    """Return tables as JSON, every figure a number."""
    plain = [asdict(table) | {"rows": [[encode(cell) for cell in row] for row in table.rows]} for table in tables]
    return json.dumps(plain, indent=1, ensure_ascii=False)


def from_json(content: str) -> list[Table]:
    """Return the tables that `to_json` wrote."""
    return [
        Table(
            entry["title"],
            tuple(entry["header"]),
            tuple(tuple(decode(cell) for cell in row) for row in entry["rows"]),
            tuple(entry["notes"]),
            entry["plot"],
        )
        for entry in json.loads(content)
    ]


def encode(cell: Cell) -> Any:
    """Return a cell as JSON knows it."""
    if isinstance(cell, Judged):
        return {"value": encode(cell.value), "goal": asdict(cell.goal), "met": cell.met}
    return asdict(cell) if isinstance(cell, Spread) else cell


def decode(plain: Any) -> Cell:
    """Return the cell that `encode` wrote."""
    if not isinstance(plain, dict):
        cell: Cell = plain
        return cell
    if "goal" in plain:
        value = decode(plain["value"])
        assert isinstance(value, int | float | Spread)
        return Judged(value, Goal(**plain["goal"]))
    return Spread(**plain)
