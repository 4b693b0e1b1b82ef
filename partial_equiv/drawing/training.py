"""Figures of a training run over its epochs, from the rows of `metrics.jsonl`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from partial_equiv.drawing.style import SOFT, colour, dash, new_figure, ramp, styled

Row = Mapping[str, Any]


@styled
def curves(rows: Sequence[Row], title: str = "Training") -> Figure:
    """Draw loss (log scale) and accuracy of training and validation against the epoch.

    Args:
        rows: Rows of `metrics.jsonl` with "epoch" and "train/<metric>", "validation/<metric>" where there are any.
        title: Title of the figure.
    """
    panels = _metrics(rows)
    figure = new_figure(3.8 * len(panels), 3.2)
    figure.suptitle(title)
    epochs = [row["epoch"] for row in rows]
    for index, (metric, factor, label) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for tone, phase in ((colour(0), "train"), (colour(1), "validation")):
            values = [row.get(f"{phase}/{metric}") for row in rows]
            if any(value is not None for value in values):
                numbers = [math.nan if value is None else factor * value for value in values]
                axes.plot(epochs, numbers, color=tone, label=phase, marker="o", markersize=2.5)
        axes.set_ylabel(label)
        if metric == "loss" and axes.lines and all(np.nanmin(line.get_ydata()) > 0 for line in axes.lines):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        _epochs(axes, rows)
        if axes.lines:
            axes.legend(loc="best")
    return figure


def _metrics(rows: Sequence[Row]) -> list[tuple[str, float, str]]:
    """Return name, factor and label of each panel: loss and accuracy of a classifier, else every metric but the loss.

    The losses of several stages have no common scale.
    """
    classifier = [("loss", 1.0, "loss"), ("accuracy", 100.0, "accuracy (%)")]
    names = dict.fromkeys(key.partition("/")[2] for row in rows for key in row if key.startswith("train/"))
    others = [name for name in names if name != "loss" and "/" not in name]
    if "accuracy" in others or not others:
        return classifier
    return [(name, 1.0, name.replace("_", " ")) for name in others]


@styled
def levels_over_epochs(
    rows: Sequence[Row], names: Sequence[str] = (), title: str = "Learned levels over training"
) -> Figure:
    """Draw the level of each layer against the epoch, and the mirror probability beside it where one is learned.

    Args:
        rows: Rows of `metrics.jsonl` with "epoch", "levels" and "mirror" (lists, one entry per layer, None where not
            learned).
        names: Names of the layers; "layer 1" and so on where absent.
        title: Title of the figure.
    """
    panels = [(key, label) for key, label in PANELS if any(v is not None for row in rows for v in row.get(key) or [])]
    panels = panels or PANELS[:1]
    figure = new_figure(1.6 + 4.2 * len(panels), 3.3)
    figure.suptitle(title)
    for index, (key, label) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _layer_lines(axes, rows, key, names)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel(label, labelpad=6)
        _epochs(axes, rows)
        if index == len(panels) - 1 and axes.lines:
            axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title="layer")
    return figure


PANELS = [("levels", "level θ (1 = whole circle)"), ("mirror", "probability of the mirror")]


def _layer_lines(axes: Axes, rows: Sequence[Row], key: str, names: Sequence[str]) -> None:
    no_layers = max((len(row.get(key) or []) for row in rows), default=0)
    series = [[(row.get(key) or [None] * no_layers)[i] for row in rows] for i in range(no_layers)]
    learned = [i for i in range(no_layers) if any(v is not None for v in series[i])]
    epochs = [row["epoch"] for row in rows]
    for i, tone in zip(learned, ramp(len(learned)), strict=True):
        values = [math.nan if value is None else value for value in series[i]]
        label = names[i] if i < len(names) else str(i + 1)
        axes.plot(epochs, values, color=tone, linestyle=dash(i), marker="o", markersize=2.5, label=label)
    if not learned:
        axes.text(0.5, 0.5, "no level is learned", transform=axes.transAxes, ha="center", va="center", color=SOFT)


def _epochs(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(rows) == 1:  # one point alone would get an axis of fractions
        axes.set_xlim(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1)
    axes.grid(visible=True, axis="y")
