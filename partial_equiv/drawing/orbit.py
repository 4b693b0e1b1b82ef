"""Accuracy against the angle by which the test images are turned.

Axes: A angles. Angles are radians, counter-clockwise positive; accuracies are shares in [0, 1], drawn in percent.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.projections.polar import PolarAxes
from numpy.typing import NDArray

from partial_equiv.drawing.style import FAINT, INK, SOFT, colour, dash, new_figure, styled

LAW_TONE = "#BDBDBD"
LAW_RAMP = LinearSegmentedColormap.from_list("law", ["white", LAW_TONE])
RIM = 0.2  # of the radius
# Of the axes' height: the density of the whole circle, and the most that a peak may take.
EVEN, PEAK = 0.045, 0.32
LETTERS = 130  # of 8 points, that stand beside each other
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")


class Curve(Protocol):
    """Mean over seeds with its interval, each [A], such as `partial_equiv.audit.statistics.Band`."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean accuracy at each angle."""

    @property
    def low(self) -> NDArray[np.float64]:
        """Lower end of the interval, NaN where there is none."""

    @property
    def high(self) -> NDArray[np.float64]:
        """Upper end."""


class Law(Protocol):
    """By how much the training images were turned, such as `partial_equiv.audit.TrainingLaw`; str() names it."""

    def density(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the density per radian at each angle; 0 everywhere where all images are upright: drawn as a spike."""


@styled
def orbit_comparison(
    angles: Sequence[float],
    curves: Mapping[str, Curve],
    law: Law | None = None,
    tests: Sequence[Sequence[str]] = (),
    title: str = "",
) -> Figure:
    """Draw accuracy against the turn of the test images, as a curve and around the circle, one line per entry.

    Bands are the intervals; marks are right angles, where no pixel is interpolated. Grey is the law of the training
    angles, as tall as it is dense on the left and as dark on the rim of the right.

    Args:
        angles: Turns in radians, in any order.
        curves: Label -> mean and interval at each angle.
        law: Of the angles of the training images; None draws none.
        tests: Rows of a table below, the first of them its heading.
        title: Title of the figure.
    """
    labels = list(curves) if law is None else [*curves, f"training angles: {law}"]
    # Inches of legend, plots and table.
    beside = max(1, min(3, len(labels), LETTERS // (max(map(len, labels), default=1) + 10)))
    heights = [0.2 * math.ceil(len(labels) / beside), 4.1, 0.22 * len(tests) + 0.01]
    figure = new_figure(9.4, sum(heights) + 0.4)
    figure.suptitle(title or "Accuracy on turned test images")
    grid = figure.add_gridspec(3, 2, height_ratios=heights, width_ratios=[1.55, 1])
    left, right = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1], projection="polar")
    assert isinstance(right, PolarAxes)
    floor = _floor(curves)
    _straight_frame(left, floor)
    _round_frame(right, floor, rim=law is not None)
    order, turns = _around(angles)
    for index, curve in enumerate(curves.values()):
        _line(left, np.degrees(turns), turns, curve, order, index)
        _line(right, turns, turns, curve, order, index)
    handles: list[Artist] = list(left.lines)
    if law is not None:
        _straight_law(left, law)
        _round_law(right, law, floor)
        handles.append(Patch(color=LAW_TONE, alpha=0.7, linewidth=0))
    key, table = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[2, :])
    key.axis("off")
    table.axis("off")
    key.legend(handles, labels, loc="center", ncols=beside, borderpad=0)
    if tests:
        _table(table, tests)
    return figure


def _floor(curves: Mapping[str, Curve]) -> float:
    """Return the percent at which the axes begin: 0, or a multiple of 10 below all that is drawn where all is high."""
    lowest = min((100 * float(np.nanmin([*curve.mean, *curve.low])) for curve in curves.values()), default=0.0)
    return max(0.0, 10 * math.floor((lowest - 5) / 10)) if lowest > 50 else 0.0


def _around(angles: Sequence[float]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return an ascending order of the angles and these in [0, 2 pi]; the first comes again where they go around."""
    turns = np.asarray(angles, dtype=np.float64) % (2 * math.pi)
    order = np.argsort(turns)
    turns = turns[order]
    gaps = np.diff(np.append(turns, turns[0] + 2 * math.pi))
    if len(turns) > 2 and gaps[-1] <= 1.5 * gaps[:-1].max():
        order, turns = np.append(order, order[0]), np.append(turns, turns[0] + 2 * math.pi)
    return order, turns


def _line(
    axes: Axes,
    places: NDArray[np.float64],
    turns: NDArray[np.float64],
    curve: Curve,
    order: NDArray[np.intp],
    index: int,
) -> None:
    mean, low, high = (100 * np.asarray(values)[order] for values in (curve.mean, curve.low, curve.high))
    quarters = turns / (math.pi / 2)
    marked = np.flatnonzero(np.abs(quarters - quarters.round()) < 1e-6)
    look: dict[str, Any] = {"color": colour(index), "linestyle": dash(index), "marker": MARKS[index % len(MARKS)]}
    axes.fill_between(places, low, high, color=colour(index), alpha=0.2, linewidth=0)
    axes.plot(places, mean, markersize=4.5, markevery=marked.tolist(), clip_on=False, **look)


def _straight_frame(axes: Axes, floor: float) -> None:
    axes.set(xlim=(0, 360), ylim=(floor, 100), xlabel="turn of the test images (counter-clockwise)")
    axes.set_ylabel("accuracy (%)")
    axes.set_yticks(_percents(floor))
    axes.set_xticks(range(0, 361, 90), [f"{tick}°" for tick in range(0, 361, 90)])
    axes.set_xticks(range(0, 361, 30), minor=True)
    axes.grid(visible=True, axis="y")
    axes.grid(visible=True, axis="x", color=SOFT, linewidth=0.7, linestyle=(0, (1, 2)))


def _round_frame(axes: PolarAxes, floor: float, *, rim: bool) -> None:
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(1)
    axes.set_ylim(floor, floor + (100 - floor) * (1 + RIM * rim))
    axes.set_yticks(_percents(floor)[1:], [])
    patch = {"boxstyle": "square,pad=0.15", "facecolor": "white", "linewidth": 0}
    for percent in _percents(floor)[1:]:
        axes.text(
            -math.pi / 4, percent, str(percent), ha="center", va="center", size=7, color=SOFT, bbox=patch, zorder=1.5
        )
    axes.set_xticks([quarter * math.pi / 2 for quarter in range(4)], ["0°", "90°", "180°", "270°"])
    axes.grid(visible=True, axis="y")
    axes.grid(visible=True, axis="x", color=SOFT, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.spines["polar"].set_color(FAINT)


def _percents(floor: float) -> list[int]:
    step = next(step for step in (1, 2, 5, 10, 20) if (100 - floor) / step <= 5)
    return list(range(int(floor), 101, step))


def _straight_law(axes: Axes, law: Law) -> None:
    look: dict[str, Any] = {"color": LAW_TONE, "alpha": 0.7, "linewidth": 0, "zorder": 1}
    look["transform"] = axes.get_xaxis_transform()  # heights as shares of the axes
    turns = np.linspace(0, 2 * math.pi, 721)
    density = law.density(turns)
    if not density.any():
        for end, inward in ((0, 5), (360, -5)):
            axes.fill([end, end, end + inward], [0, PEAK, 0], **look)
        return
    heights = density * min(2 * math.pi * EVEN, PEAK / density.max())
    axes.fill_between(np.degrees(turns), 0, heights, **look)


def _round_law(axes: PolarAxes, law: Law, floor: float) -> None:
    """Shade the rim outside 100 %."""
    inner, outer = (100 + (100 - floor) * share * RIM for share in (0.4, 1.0))
    edges = np.radians(np.arange(361))
    centres = (edges[1:] + edges[:-1]) / 2
    density = law.density(centres)
    if not density.any():
        density = (np.cos(centres) > math.cos(math.radians(2))).astype(np.float64)
    shares = density / density.max()
    shades = np.ma.masked_less(shares, 0.01)[None]
    axes.pcolormesh(edges, [inner, outer], shades, cmap=LAW_RAMP, vmin=0, vmax=1)


def _table(axes: Axes, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    shares = [width / sum(widths) for width in widths]
    drawn = axes.table([list(row) for row in rows], colWidths=shares, bbox=[0, 0, 1, 1], edges="horizontal")  # type: ignore[arg-type]
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(min(8.0, 8.0 * LETTERS / sum(widths)))
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor(FAINT)
        cell.get_text().set_color(SOFT if row == 0 else INK)
        cell.get_text().set_horizontalalignment("left" if column == 0 else "right")
