"""Figures of tables: ratios with their quartiles and goals, and growth on logarithmic axes."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Judged, Table, text
from benchmarks.spread import Spread
from partial_equiv.drawing.style import FAINT, INK, SOFT, colour, dash, new_figure, styled

LINE = 0.21  # inches of a row
MARKERS = ("o", "s", "D", "^")


def draw(table: Table) -> Figure | None:
    """Return the figure of a table, None where there is nothing to draw."""
    if table.plot == "bars" and columns_of_ratios(table):
        return bars(table)
    return growth(table) if table.plot == "growth" and table.rows else None


def columns_of_ratios(table: Table) -> list[int]:
    """Return which columns hold figures with a spread or a goal."""
    return [
        index
        for index, _ in enumerate(table.header)
        if any(isinstance(row[index], Spread | Judged) for row in table.rows)
    ]


@styled
def bars(table: Table) -> Figure:
    """Draw every column of ratios as bars from 1, quartiles as whiskers, goals as a tick; log scale."""
    columns = columns_of_ratios(table)
    rows = [row for row in table.rows if any(isinstance(row[index], Spread | Judged) for index in columns)]
    figure = new_figure(3.6 + 2.9 * len(columns), 1.0 + LINE * len(rows))
    figure.suptitle(table.title)
    first = None
    for place, column in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), place + 1, sharey=first)
        first = first or axes
        for index, row in enumerate(rows):
            bar(axes, index, row[column])
        axes.set_xscale("log")
        axes.set_xlabel(table.header[column])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}" if few(axes) else "")
        axes.axvline(1, color=SOFT, linewidth=0.8)
        axes.grid(visible=True, axis="x", which="both")
        axes.tick_params(axis="y", length=0, labelleft=place == 0)
    assert first is not None
    first.set_yticks(range(len(rows)), [text(row[0]) for row in rows])
    first.set_ylim(len(rows) - 0.4, -0.6)
    return figure


def few(axes: Axes) -> bool:
    """Say whether the axis spans less than a decade, so that its minor ticks need their numbers."""
    low, high = axes.get_xlim()
    return high < 10 * low


def bar(axes: Axes, place: int, cell: object) -> None:
    """Draw one ratio."""
    value = cell.value if isinstance(cell, Judged) else cell
    if not isinstance(value, Spread | float):
        return
    found = value if isinstance(value, Spread) else Spread(value, value, value)
    met = not isinstance(cell, Judged) or cell.met
    axes.barh(place, found.median - 1, left=1, height=0.62, color=colour(0 if met else 1), alpha=0.85, linewidth=0)
    axes.plot([found.low, found.high], [place, place], color=INK, linewidth=1.2)
    if isinstance(cell, Judged):
        limit = cell.goal.limit
        axes.plot([limit, limit], [place - 0.4, place + 0.4], color=colour(2), linewidth=2)


@styled
def growth(table: Table) -> Figure:
    """Draw seconds above and memory below, one column for each thing that grows, one line a factorisation.

    Args:
        table: Rows (what grows, factorisation, value, seconds, MiB or None).
    """
    names = list(dict.fromkeys(str(row[0]) for row in table.rows))
    kinds = list(dict.fromkeys(str(row[1]) for row in table.rows))
    figure = new_figure(2.3 * len(names) + 0.8, 4.6)
    figure.suptitle(table.title)
    for column, name in enumerate(names):
        for line, label in enumerate(("seconds", "memory, MiB")):
            axes = figure.add_subplot(2, len(names), line * len(names) + column + 1)
            for index, kind in enumerate(kinds):
                rows = [row for row in table.rows if row[0] == name and row[1] == kind and row[3 + line] is not None]
                curve(axes, rows, 3 + line, index, kind)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(visible=True, color=FAINT)
            axes.set_xlabel(name)
            if column == 0:
                axes.set_ylabel(label)
            if column == 0 and line == 0:
                axes.legend()
    return figure


def curve(axes: Axes, rows: Sequence[Sequence[object]], column: int, index: int, label: str) -> None:
    """Draw one line with the quartiles of its points."""
    if not rows:
        return
    found = [
        cell if isinstance(cell, Spread) else Spread(*[float(str(cell))] * 3) for cell in (r[column] for r in rows)
    ]
    values = [float(str(row[2])) for row in rows]
    medians = [one.median for one in found]
    errors = [[one.median - one.low for one in found], [one.high - one.median for one in found]]
    look: dict[str, Any] = {
        "color": colour(index),
        "linestyle": dash(index),
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 3.5,
    }
    axes.errorbar(values, medians, errors, label=label, **look)
