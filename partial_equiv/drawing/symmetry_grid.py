"""Figures of symmetry laid out as a table: upright images, variants by metric, classes by group.

Axes: N images, C channels, Y X pixels. Angles are radians, drawn in degrees.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from numpy.typing import NDArray

from partial_equiv.drawing.style import FAINT, INK, SOFT, bare, colour, new_figure, picture, styled
from partial_equiv.drawing.symmetry import degrees_text, finite, head, short
from partial_equiv.errors import UserError

COLUMNS = 10
CLASSES = 10
# Of a tile's width: between tiles, between the two rows of a class, and between classes.
GAP, BETWEEN, APART = 0.07, 0.07, 0.3
TILE = 0.8  # inches
LETTERS = 18
METRICS_BESIDE = 4
CLASSES_LISTED = 40
KEPT, REJECTED = to_rgb(colour(0)), to_rgb("#F6DCCB")


@styled
def standardised_grid(
    images: NDArray[np.uint8],
    standardised: NDArray[np.uint8],
    names: Sequence[str],
    title: str = "Images and their upright versions",
) -> Figure:
    """Draw two rows per class: images as they are, and below each the same image turned upright.

    At most ten images of ten classes are drawn, in the order given; the title says where classes are missing.

    Args:
        images: Pictures, uint8 [N, C, Y, X].
        standardised: The same pictures turned back by their inferred pose, uint8 [N, C, Y, X].
        names: Class of each picture.
        title: Title of the figure.

    Raises:
        UserError: Shapes or lengths differ, there is no image, or values are not uint8.
    """
    _check_pairs(images, standardised, names)
    classes = list(dict.fromkeys(names))
    rows = {name: [i for i, other in enumerate(names) if other == name][:COLUMNS] for name in classes[:CLASSES]}
    columns = max(map(len, rows.values()))
    aspect = images.shape[2] / images.shape[3]
    pitch = 2 * aspect + BETWEEN + APART
    height, width = len(rows) * pitch - APART, columns * (1 + GAP) - GAP
    longest = max(len(short(name, LETTERS)) for name in rows)
    size = 12.0 if longest <= 4 else 9.0
    margin = 0.95 + 0.011 * size * longest
    figure = new_figure(max(TILE * (width + margin), 3.4), TILE * height + 0.45)
    head(figure, title if len(rows) == len(classes) else f"{title}: the first {CLASSES} of {len(classes)} classes")
    axes = figure.add_subplot()
    bare(axes)
    for row, (name, members) in enumerate(rows.items()):
        top = row * pitch
        below = top + aspect + BETWEEN
        for column, index in enumerate(members):
            _tile(axes, images[index], column * (1 + GAP), top, aspect)
            _tile(axes, standardised[index], column * (1 + GAP), below, aspect)
        axes.plot([-0.1, -0.1], [below, below + aspect], color=colour(0), linewidth=2, solid_capstyle="butt")
        axes.text(-0.18, top + aspect / 2, "input", ha="right", va="center", size=8, color=SOFT)
        axes.text(-0.18, below + aspect / 2, "upright", ha="right", va="center", size=8, color=colour(0))
        axes.text(-0.92, below - BETWEEN / 2, short(name, LETTERS), ha="right", va="center", size=size, weight="bold")
    axes.set(xlim=(-margin, width), ylim=(height, 0), aspect="equal")
    return figure


def _check_pairs(images: NDArray[np.uint8], standardised: NDArray[np.uint8], names: Sequence[str]) -> None:
    if images.shape != standardised.shape or images.ndim != 4 or len(images) != len(names) or not len(images):
        raise UserError(
            f"images {images.shape}, standardised {standardised.shape}, {len(names)} names: all three need the same "
            "N > 0 and the pictures one shape [N, C, Y, X]; pass each picture with its upright version and its class."
        )
    if {images.dtype, standardised.dtype} != {np.dtype(np.uint8)}:
        raise UserError(
            f"images {images.dtype}, standardised {standardised.dtype}: pictures are uint8 from 0 to 255; scale and "
            "round them first."
        )


def _tile(axes: Axes, image: NDArray[np.uint8], left: float, top: float, aspect: float) -> None:
    """Draw an image one unit wide, its corners rounded."""
    shape = "round,pad=0,rounding_size=0.07"
    frame = FancyBboxPatch((left, top), 1, aspect, shape, facecolor="none", edgecolor=FAINT, linewidth=0.6)
    axes.add_patch(frame)
    place = (left, left + 1, top + aspect, top)
    shown = axes.imshow(picture(image), cmap="gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
    shown.set_clip_path(frame)


@styled
def ablation_bars(
    rows: Sequence[tuple[str, Mapping[str, float]]],
    targets: Mapping[str, float] | None = None,
    title: str = "What each part is worth",
) -> Figure:
    """Draw one panel per metric with a bar per variant, its value at the end, and the target as a dashed line.

    The first row, the method itself, is dark; a variant without a metric has a dash there. Bars begin at 0.

    Args:
        rows: Name of each variant and its value of each metric, best known first.
        targets: Metric -> value to reach; metrics may be missing.
        title: Title of the figure.

    Raises:
        UserError: There is no row or no metric, or a value is NaN or infinite.
    """
    metrics = list(dict.fromkeys(metric for _, values in rows for metric in values))
    if not metrics:
        raise UserError(f"rows: {len(rows)} variants with no metric among them; give one value of one metric at least.")
    beside = min(len(metrics), METRICS_BESIDE)
    lines = math.ceil(len(metrics) / beside)
    figure = new_figure(max(3.0 + 1.6 * beside, 5.0), lines * (0.3 * len(rows) + 0.75) + 0.4)
    head(figure, title)
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(lines, beside, index + 1)
        _metric(axes, metric, [values.get(metric) for _, values in rows], (targets or {}).get(metric))
        labels = [textwrap.shorten(label, 36, placeholder="…") for label, _ in rows]
        axes.set_yticks(range(len(rows)), labels if index % beside == 0 else [])
    return figure


def _metric(axes: Axes, metric: str, values: Sequence[float | None], target: float | None) -> None:
    given = [value for value in (*values, target) if value is not None]
    most, least = max(*finite(given, metric), 0.0), min(*finite(given, metric), 0.0)
    reach = max(most, -least) or 1.0
    decimals = min(max(2 - math.floor(math.log10(reach)), 0), 4)
    for y, value in enumerate(values):
        axes.barh(y, value or 0.0, height=0.68, color=colour(0), alpha=1.0 if y == 0 else 0.45, linewidth=0)
        words = "–" if value is None else f"{value:z,.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        below = value is not None and value < 0
        patch = {"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0}
        axes.annotate(
            words,
            (value or 0.0, y),
            xytext=(-3 if below else 3, 0),
            textcoords="offset points",
            ha="right" if below else "left",
            va="center",
            size=8,
            bbox=patch,
            zorder=4,
        )
    span = most - least or 1.0
    axes.set(xlim=(least - 0.3 * span * (least < 0), most + 0.3 * span * (most > 0 or not least)), xticks=[])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.set_title("\n".join(textwrap.wrap(metric, 24)), fontsize=9, pad=16 if target is not None else 6)
    if target is not None:
        axes.axvline(target, color=colour(1), linestyle="--", linewidth=1.2)
        where = (target, 1.0)
        words = f"target {target:z,.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        axes.annotate(
            words,
            where,
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            size=8,
            color=colour(1),
        )


@styled
def dataset_symmetry(
    levels: Mapping[str, tuple[float, float, float]],
    p_values: Mapping[str, Mapping[str, float]],
    title: str = "Symmetry of each class",
    threshold: float = 0.05,
) -> Figure:
    """Draw each class's inferred level with its interval, and beside it the p-value of each group's two-sample test.

    The test compares images of a class with transformed ones: a small p rejects that they are of one law, and the
    class is not symmetric under the group. At most 40 classes are drawn, which the title says.

    Args:
        levels: Class -> level, lower and upper end of its interval, radians in [0, pi].
        p_values: Group -> class -> p-value in [0, 1]; classes may be missing and get a dash.
        title: Title of the figure.
        threshold: A p-value below it rejects.

    Raises:
        UserError: There is no class, or a level or p-value lies outside its range.
    """
    _check_report(levels, p_values)
    shown = list(levels)[:CLASSES_LISTED]
    margin = 0.5 + 0.07 * max(len(short(name, 24)) for name in shown)
    cells = max(0.72 * len(p_values), 0.01)
    figure = new_figure(max(margin + 3.6 + cells, 5.0), 0.29 * len(shown) + 1.5)
    head(
        figure, title if len(shown) == len(levels) else f"{title}: the first {CLASSES_LISTED} of {len(levels)} classes"
    )
    grid = figure.add_gridspec(1, 2, width_ratios=[3.4, cells])
    left = figure.add_subplot(grid[0, 0])
    _level_bars(left, shown, levels)
    if p_values:
        right = figure.add_subplot(grid[0, 1], sharey=left)
        _cells(right, shown, p_values, threshold)
        words = (f"no difference found, p ≥ {threshold:g}", f"differs when transformed, p < {threshold:g}")
        handles = [Patch(facecolor=tone) for tone in (KEPT, REJECTED)]
        figure.legend(handles, words, loc="outside lower center", ncols=2)
    return figure


def _check_report(
    levels: Mapping[str, tuple[float, float, float]], p_values: Mapping[str, Mapping[str, float]]
) -> None:
    if not levels:
        raise UserError("levels: no class is given; give at least one with its level and interval.")
    for name, triple in levels.items():
        if not all(-1e-9 <= value <= math.pi + 1e-9 for value in triple):
            raise UserError(f"level of “{name}”: {triple} leaves [0, pi]; levels and intervals are in radians.")
    for group, row in p_values.items():
        for name, p in row.items():
            if not 0 <= p <= 1:
                raise UserError(f"p-value of “{name}” under {group}: {p} is not in [0, 1]; leave a missing one out.")


def _level_bars(axes: Axes, names: Sequence[str], levels: Mapping[str, tuple[float, float, float]]) -> None:
    level, low, high = np.degrees([levels[name] for name in names]).T
    y = np.arange(len(names))
    axes.barh(y, level, height=0.62, color=colour(0), alpha=0.45, linewidth=0)
    axes.hlines(y, low, high, color=INK, linewidth=1.3)
    for place, value, end in zip(y, level, np.maximum(level, high), strict=True):
        axes.annotate(degrees_text(value), (end, place), xytext=(4, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(y, [short(name, 24) for name in names])
    axes.set(xlim=(0, 205), ylim=(len(names) - 0.5, -0.5), xlabel="level of symmetry and its interval")
    axes.set_xticks(range(0, 181, 45), [degrees_text(tick) for tick in range(0, 181, 45)])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")


def _cells(axes: Axes, names: Sequence[str], p_values: Mapping[str, Mapping[str, float]], threshold: float) -> None:
    tones = np.ones((len(names), len(p_values), 3))
    for x, row in enumerate(p_values.values()):
        for y, name in enumerate(names):
            p = row.get(name)
            if p is not None:
                tones[y, x] = REJECTED if p < threshold else KEPT
            tone = "white" if p is not None and p >= threshold else INK
            words = "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
            axes.text(x, y, words, ha="center", va="center", size=8, color=tone)
    axes.imshow(tones, aspect="auto", interpolation="nearest")
    axes.hlines(np.arange(len(names) + 1) - 0.5, -0.5, len(p_values) - 0.5, color="white", linewidth=2)
    axes.vlines(np.arange(len(p_values) + 1) - 0.5, -0.5, len(names) - 0.5, color="white", linewidth=2)
    groups = [short(group, 20) for group in p_values]
    slope: dict[str, Any] = (
        {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if max(map(len, groups)) > 10 else {}
    )
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(groups)), groups, **slope)
    axes.tick_params(length=0, labelleft=False)
    axes.set_xlabel("p-value")
    for spine in axes.spines.values():
        spine.set_visible(False)
