"""Figures of inferred symmetry: by how much each class is turned, and how well that is known.

Axes: N images, A angles. Angles are radians, counter-clockwise positive, drawn in degrees.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from partial_equiv.drawing.style import INK, SOFT, colour, new_figure, styled
from partial_equiv.errors import UserError

Values = NDArray[np.float64]

PANELS = 10
KERNEL = math.radians(6)
NAMED = 20  # more classes than this are drawn without their names
ON_TOP: dict[str, Any] = {"linestyle": "none", "zorder": 4}
GRID = np.linspace(-math.pi, math.pi, 361)


def finite(values: ArrayLike, what: str) -> Values:
    """Return the values as an array [N] of floats.

    Raises:
        UserError: Some are NaN or infinite.
    """
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    if faults := int((~np.isfinite(numbers)).sum()):
        raise UserError(f"{what}: {faults} of {numbers.size} values are not finite; leave those images out.")
    return numbers


def filled(values: Mapping[str, ArrayLike], what: str) -> dict[str, Values]:
    """Return the classes that have values, these as finite arrays [N].

    Raises:
        UserError: No class has any, or some are NaN or infinite.
    """
    kept = {name: numbers for name, v in values.items() if (numbers := finite(v, f"{what} of “{name}”")).size}
    if not kept:
        raise UserError(f"{what}: none of the {len(values)} classes has any; pass at least one value.")
    return kept


def short(name: str, most: int) -> str:
    """Return a name with at most so many letters, cut where it is longer."""
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def degrees_text(degrees: float) -> str:
    """Return an angle in whole degrees, for example -90 -> "−90°"."""
    return f"{degrees:.0f}°".replace("-", "\N{MINUS SIGN}")


def head(figure: Figure, title: str) -> None:
    """Write the title above a figure, in as many lines as its width asks for."""
    figure.suptitle(textwrap.fill(title, max(20, int(11 * figure.get_figwidth()))))


@styled
def pose_densities(
    poses: Mapping[str, ArrayLike],
    laws: Mapping[str, tuple[ArrayLike, ArrayLike] | None] | None = None,
    comparison: Mapping[str, ArrayLike] | None = None,
    title: str = "Inferred poses",
    labels: Sequence[str] = ("inferred poses", "comparison"),
) -> Figure:
    """Draw the density of the inferred poses of each class around the circle, one panel per class.

    p(a) = mean over n of WN(a - a_n; 6 degrees), WN the wrapped normal. Each panel has its own height. At most ten
    classes are drawn, which the title says; a class without poses is left out, which a line below says.

    Args:
        poses: Class -> angles [N] in radians, on any turn of the circle.
        laws: Class -> angles [A] in radians and the true density per radian [A], drawn dashed; None where unknown.
        comparison: Class -> angles [N] of another method, in a second colour; classes may be missing.
        title: Title of the figure.
        labels: Names of the poses and of the comparison.

    Raises:
        UserError: No class has a pose, or an angle or density is NaN or infinite.
    """
    kept = filled(poses, "poses")
    shown = list(kept)[:PANELS]
    columns = len(shown) if len(shown) <= 5 else math.ceil(len(shown) / 2)
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(max(1.84 * columns + 0.2, 4.2), 1.55 * rows + 1.15)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[0.12 if laws or comparison else 0.01, *[1] * rows])
    head(figure, title if len(shown) == len(kept) else f"{title}: the first {PANELS} of {len(kept)} classes")
    handles: dict[str, Artist] = {}
    for index, name in enumerate(shown):
        axes = figure.add_subplot(grid[1 + index // columns, index % columns])
        _pose_frame(axes, named=index + columns >= len(shown))
        axes.set_title(short(name, 20), fontsize=9)
        handles[labels[0]] = _density(axes, kept[name], colour(0), filled=True)
        if (others := finite((comparison or {}).get(name, []), f"{labels[-1]} of “{name}”")).size:
            handles[labels[-1]] = _density(axes, others, colour(1), filled=False)
        if (law := (laws or {}).get(name)) is not None:
            angles, density = (finite(values, f"law of “{name}”") for values in law)
            handles["true law"] = axes.plot(np.degrees(angles), np.radians(density), "--", color=INK, linewidth=1.0)[0]
        axes.set_ylim(0, 1.08 * max(float(np.max(line.get_ydata())) for line in axes.lines))
    empty = [short(name, 20) for name in poses if name not in kept]
    figure.supylabel("density, each to its own height", fontsize=8)
    figure.supxlabel(_below("inferred pose (counter-clockwise)", empty, figure), fontsize=9)
    key = figure.add_subplot(grid[0, :])
    key.axis("off")
    if len(handles) > 1:
        key.legend(list(handles.values()), list(handles), loc="center", ncols=len(handles), borderpad=0)
    return figure


def _density(axes: Axes, poses: Values, tone: str, *, filled: bool) -> Artist:
    """Draw the density per degree by its Fourier series, in which the kernel is a factor."""
    k = np.arange(1, math.ceil(6 / KERNEL))
    moments = np.exp(-1j * np.outer(k, poses)).mean(axis=1) * np.exp(-((k * KERNEL) ** 2) / 2)
    density = (1 + 2 * (np.exp(1j * np.outer(GRID, k)) @ moments).real.clip(min=-0.5)) / 360
    if filled:
        axes.fill_between(np.degrees(GRID), 0, density, color=tone, alpha=0.25, linewidth=0)
    return axes.plot(np.degrees(GRID), density, color=tone, linewidth=1.4)[0]


def _pose_frame(axes: Axes, *, named: bool) -> None:
    axes.set(xlim=(-180, 180), yticks=[])
    ticks = (-90, 0, 90)
    axes.set_xticks(ticks, [degrees_text(tick) for tick in ticks] if named else [])
    axes.set_xticks((-180, 180), minor=True)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")


def _below(words: str, left_out: Sequence[str], figure: Figure) -> str:
    note = f"left out, without images: {', '.join(left_out)}" if left_out else ""
    return "\n".join([words, *textwrap.wrap(note, int(13 * figure.get_figwidth()))])


@styled
def level_scatter(
    predicted: Mapping[str, ArrayLike],
    true: Mapping[str, float],
    title: str = "Predicted against true level of symmetry",
    published_degrees: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the predicted levels of each class over its true level: 5 to 95 %, quartiles, median and mean.

    On the dashed diagonal a prediction is right. Classes of one true level stand beside each other, a dashed line
    across them. More than 20 classes go without names; a class without predictions is left out, which is said below.

    Args:
        predicted: Class -> predicted levels [N] of its images, radians.
        true: Class -> true level, radians.
        title: Title of the figure.
        published_degrees: Class -> published mean prediction in degrees, as tables print it; classes may be missing.

    Raises:
        UserError: A class has no true level, no class has a prediction, or a value is NaN or infinite.
    """
    kept = {name: np.degrees(values) for name, values in filled(predicted, "levels").items()}
    if missing := [name for name in kept if name not in true]:
        raise UserError(f"true: no level for {', '.join(missing)}; give one for each class or leave the class out.")
    levels = {name: float(np.degrees(finite(true[name], f"true level of “{name}”")).item()) for name in kept}
    published = {
        name: float(finite(v, "published")[0]) for name, v in (published_degrees or {}).items() if name in kept
    }
    reach = max(*levels.values(), 20.0)
    step = reach / 32
    places = _places(levels, step)
    figure = new_figure(7.2, 5.4)
    head(figure, title)
    axes = figure.add_subplot()
    handles = _level_marks(axes, kept, places)
    tops = {name: float(np.quantile(values, 0.95)) for name, values in kept.items()}
    if published:
        hollow = {"markerfacecolor": "white", "markeredgecolor": colour(1), "markeredgewidth": 1.3, **ON_TOP}
        spots = [places[name] for name in published]
        (handles["published mean"],) = axes.plot(spots, list(published.values()), "D", markersize=5, **hollow)
        tops = {name: max(top, published.get(name, top)) for name, top in tops.items()}
    (handles["predicted = true"],) = axes.plot([0, reach], [0, reach], "--", color=SOFT, linewidth=1.0, zorder=1)
    for names in _tied(levels):
        if len(names) > 1:
            ends = [places[names[0]] - step / 2, places[names[-1]] + step / 2]
            axes.plot(ends, [levels[names[0]]] * 2, "--", color=INK, linewidth=1.0)
    _level_frame(axes, list(places.values()), max(reach, *tops.values()), step)
    if len(kept) <= NAMED:
        _names(axes, places, tops)
    empty = [short(name, 20) for name in predicted if name not in kept]
    axes.set_xlabel(_below("true level", empty, figure))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles))
    return figure


def _level_marks(axes: Axes, predicted: Mapping[str, Values], places: Mapping[str, float]) -> dict[str, Artist]:
    quantiles = np.array([np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for values in predicted.values()]).T
    means = [values.mean() for values in predicted.values()]
    x, tone = [places[name] for name in predicted], colour(0)
    median: dict[str, Any] = {"color": tone, "markersize": 12, "markeredgewidth": 2, **ON_TOP}
    mean: dict[str, Any] = {"color": INK, "markersize": 5, "markeredgecolor": "white", **ON_TOP}
    return {
        "5 to 95 %": axes.vlines(x, quantiles[0], quantiles[4], color=tone, linewidth=1.4),
        "quartiles": axes.vlines(x, quantiles[1], quantiles[3], color=tone, linewidth=7, alpha=0.45),
        "median": axes.plot(x, quantiles[2], "_", **median)[0],
        "mean": axes.plot(x, means, "D", **mean)[0],
    }


def _tied(levels: Mapping[str, float]) -> list[list[str]]:
    """Return the classes by level, those together whose levels are equal to the eye."""
    order = sorted(levels, key=lambda name: levels[name])
    return [list(group) for _, group in groupby(order, lambda name: round(levels[name], 1))]


def _places(levels: Mapping[str, float], step: float) -> dict[str, float]:
    """Return where each class stands along the axis: at its level, those of one level a step from each other."""
    return {
        name: levels[name] + step * (i - (len(names) - 1) / 2)
        for names in _tied(levels)
        for i, name in enumerate(names)
    }


def _level_frame(axes: Axes, x: Sequence[float], top: float, step: float) -> None:
    axes.set(xlim=(min(-step, min(x) - step), max(x) + 2 * step), ylim=(-0.03 * top, 1.1 * top))
    axes.set_ylabel("predicted level")
    for axis in (axes.xaxis, axes.yaxis):
        high = max(axis.get_view_interval())
        spacing = next(s for s in (5, 10, 15, 30, 45, 90) if high / s <= 8 or s == 90)
        ticks = np.arange(0, min(high, 180) + 1e-6, spacing)
        axis.set_ticks(ticks, labels=[degrees_text(tick) for tick in ticks])
    axes.grid(visible=True)


def _names(axes: Axes, places: Mapping[str, float], tops: Mapping[str, float]) -> None:
    long = max(map(len, places)) > 2
    for name, place in places.items():
        axes.annotate(
            short(name, 16),
            (place, tops[name]),
            xytext=(0, 6),
            textcoords="offset points",
            rotation=90 if long else 0,
            ha="center",
            va="bottom",
            size=8,
            annotation_clip=False,
        )
