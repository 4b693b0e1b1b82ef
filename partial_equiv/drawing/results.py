"""Figures of what a network does with images, and of the images themselves.

Axes: N images, C channels, Y X pixels. Angles are radians, counter-clockwise positive.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from partial_equiv.drawing.style import INK, SOFT, bare, colour, dash, new_figure, picture, styled

SAMPLES_SHOWN = 48


@styled
def rotation_response(
    angles: Sequence[float],
    responses: Mapping[str, Sequence[float]],
    class_name: str,
    images: Sequence[NDArray[np.generic]] = (),
    title: str = "",
) -> Figure:
    """Draw the probability of one class against the angle by which a test image is turned, one line per entry.

    Args:
        angles: Turns in radians, counter-clockwise, ascending.
        responses: Label -> probability at each angle.
        class_name: The class.
        images: Optional thumbnails [C, Y, X], shown above, evenly spread from the first angle to the last.
        title: Title of the figure.
    """
    figure = new_figure(6.6, 4.0 if images else 3.4)
    figure.suptitle(title or f"Probability of “{class_name}” as a test image turns")
    degrees = np.degrees(np.asarray(angles, dtype=float))
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 5.2]) if images else figure.add_gridspec(1, 1)
    axes = figure.add_subplot(grid[-1, 0])
    for index, (label, values) in enumerate(responses.items()):
        axes.plot(degrees, values, color=colour(index), linestyle=dash(index), label=label)
    step = 45 if degrees[-1] - degrees[0] > 180 else 15
    ticks = np.arange(math.ceil(degrees[0] / step) * step, degrees[-1] + 1e-6, step)
    axes.set(xticks=ticks, xticklabels=[f"{tick:.0f}°".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    axes.set(xlim=(degrees[0], degrees[-1]), ylim=(-0.03, 1.03), ylabel=f"probability of “{class_name}”")
    axes.set_xlabel("turn of the input (counter-clockwise)")
    axes.grid(visible=True)
    if images:
        _thumbnails(figure.add_subplot(grid[0, 0]), images, (degrees[0], degrees[-1]))
    if len(responses) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _thumbnails(axes: Axes, images: Sequence[NDArray[np.generic]], span: tuple[float, float]) -> None:
    bare(axes)
    axes.set_xlim(span)
    axes.set_ylim(0, 1)
    half = (span[1] - span[0]) / (2.6 * (len(images) - 1)) if len(images) > 1 else (span[1] - span[0]) / 10
    for centre, image in zip(np.linspace(*span, len(images)), images, strict=True):
        place = axes.inset_axes((centre - half, 0.0, 2 * half, 1.0), transform=axes.transData)
        bare(place)
        place.imshow(picture(image), cmap="gray", interpolation="nearest")


@styled
def confusion_matrix(
    counts: NDArray[np.integer], class_names: Sequence[str], title: str = "Confusion matrix"
) -> Figure:
    """Draw how often each true class (row) is taken for each class (column), as percent of the row.

    Args:
        counts: Counts [true, predicted].
        class_names: Names, in order; many classes are drawn without names and numbers.
        title: Title of the figure.
    """
    no_classes = len(counts)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3.0 + 0.34 * min(no_classes, 20)
    figure = new_figure(side + 0.9, side + 0.2)
    axes = figure.add_subplot()
    shown = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{title} ({np.trace(counts) / max(counts.sum(), 1):.1%} correct of {counts.sum():,})")
    if no_classes <= 20:
        long = max(map(len, class_names), default=0) > 3
        axes.set_xticks(range(no_classes), class_names, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(no_classes), class_names)
        for y, x in np.argwhere(counts > 0):
            tone = "white" if percent[y, x] > 55 else INK
            axes.text(x, y, f"{counts[y, x]}", ha="center", va="center", fontsize=7, color=tone)
    figure.colorbar(shown, ax=axes, label="percent of the true class", shrink=0.82)
    return figure


@styled
def sample_sheet(images: NDArray[np.uint8], labels: Sequence[str], title: str = "Samples", note: str = "") -> Figure:
    """Draw images in rows, each with its label above, as the network gets them before normalisation.

    Args:
        images: Pictures, uint8 [N, C, Y, X]; the first 48 are shown.
        labels: Name of each picture's class.
        title: Title of the figure.
        note: A line below, such as where the data come from.
    """
    shown = images[:SAMPLES_SHOWN]
    columns = min(8, max(len(shown), 1))
    rows = math.ceil(max(len(shown), 1) / columns)
    figure = new_figure(0.95 * columns + 0.3, 1.12 * rows + 0.55 + (0.25 if note else 0))
    figure.suptitle(title)
    for index, image in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        bare(axes)
        axes.imshow(picture(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(labels[index], fontsize=7.5, pad=2)
    if note:
        figure.supxlabel(note, fontsize=7.5, color=SOFT)
    return figure
