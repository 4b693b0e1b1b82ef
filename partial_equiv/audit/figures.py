"""Figures of the audit: the errors of all layers, and how they change over a training."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partial_equiv.audit.report import AuditReport, LayerError, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

FLOOR = 1e-17  # below what float64 can show: exact zeros lie here
MOST_LABELS = 70
LEGEND_LINES = 12


def layer_errors(report: AuditReport) -> "Figure":
    """Draw what each layer adds and its total, on a log axis, from the first layer at the top to the output.

    Args:
        report: Of an audit.
    """
    from partial_equiv import drawing

    return drawing.style.styled(_layer_errors)(report)


def errors_over_epochs(
    runs: Mapping[str, Sequence[Row]], prefix: str = "audit/", title: str = "Equivariance error over training"
) -> "Figure":
    """Draw the error of every layer against the epoch, one panel for each run, all on one log axis.

    Args:
        runs: Label, such as "size 33" -> rows with "epoch" and `prefix` + layer -> error, layers in their order.
        prefix: Of the keys that are drawn.
        title: Of the figure.
    """
    from partial_equiv import drawing

    return drawing.style.styled(_errors_over_epochs)(runs, prefix, title)


def _layer_errors(report: AuditReport) -> "Figure":
    from partial_equiv.drawing import style

    rows, culprits = report.rows, report.culprits
    height = min(max(0.155 * len(rows), 1.2), 11.5)
    figure = style.new_figure(8.2, height + 1.5)
    figure.suptitle(f"{report.network}: equivariance error under {report.group}", x=0.02, ha="left")
    axes = figure.add_subplot()
    limit = _limit([row.cumulative for row in rows] + [row.local for row in rows])
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        if row in culprits:
            axes.axhspan(place - 0.5, place + 0.5, color=style.colour(1), alpha=0.10, linewidth=0)
            axes.hlines(place, FLOOR, _seen(row.local, limit), color=style.colour(1), linewidth=1.0)
    small = 3.4 if len(rows) <= MOST_LABELS else 2.2
    total = {"color": style.colour(0), "marker": "o", "markersize": small}
    added = {"color": style.colour(1), "marker": "D", "markersize": small, "markerfacecolor": "white"}
    moved = {"color": style.colour(2), "marker": "|", "markersize": 2 * small}
    _dots(axes, rows, "cumulative", limit, label="in total, with what it inherits", **total)
    if any(row.law is not None for row in rows):
        _dots(axes, rows, "law", limit, label="in total, all elements moved (law)", **moved)
    _dots(axes, rows, "local", limit, label="added by the layer itself", **added)
    breaks = [row if row in culprits else None for row in rows]
    _dots(axes, breaks, "local", limit, **(added | {"markerfacecolor": style.colour(1)}))
    axes.axvline(report.tolerance, color=style.SOFT, linestyle=":", linewidth=0.9, label="tolerance")
    _label_rows(axes, rows, culprits, limit)
    _error_axis(axes.xaxis, limit)
    axes.set_xlim(FLOOR / 3, limit * 2)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("error relative to the variation between images")
    axes.grid(visible=True, axis="x")
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    axes.legend(ncols=4, handlelength=1.2, columnspacing=1.2, fontsize=7.5, **above)
    figure.supxlabel(textwrap.fill(f"{report.verdict} {report.caption}.", 118), fontsize=7.5, color=style.SOFT)
    return figure


def _dots(axes: "Axes", rows: Sequence[LayerError | None], name: str, limit: float, **look: Any) -> None:
    found = {place: getattr(row, name) for place, row in enumerate(rows) if row is not None}
    places = [place for place, error in found.items() if error is not None]
    axes.plot([_seen(found[place], limit) for place in places], places, linestyle="none", **look)


def _label_rows(axes: "Axes", rows: Sequence[LayerError], culprits: Sequence[LayerError], limit: float) -> None:
    """Name the rows: every one if they fit, else every n-th; the culprits and the output always."""
    from partial_equiv.drawing import style

    step = math.ceil(len(rows) / MOST_LABELS)
    kept = [i for i, row in enumerate(rows) if row in culprits or row.kind == "output"]
    free = [i for i in range(0, len(rows), step) if all(abs(i - other) >= step for other in kept)]
    shown = sorted({*kept, *free}) if step > 1 else list(range(len(rows)))
    size = 7.0 if len(rows) <= MOST_LABELS else 5.6
    axes.set_yticks(shown, [_short(rows[i].name) for i in shown], fontsize=size)
    for i, label in zip(shown, axes.get_yticklabels(), strict=True):
        if rows[i] in culprits:
            label.set_color(style.colour(1))
            label.set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    for place, row in enumerate(rows):
        if row.cumulative is None:
            axes.text(1e-9, place, "no total", va="center", ha="center", fontsize=size - 1, color=style.SOFT)
    first = next((i for i, row in enumerate(rows) if row in culprits), None)
    if first is not None:
        look: dict[str, Any] = {
            "fontsize": 6.8,
            "color": style.colour(1),
            "fontweight": "bold",
            "ha": "right",
            "va": "center",
        }
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        text = f"first to break: adds {number_text(rows[first].local)}"
        axes.text(_seen(rows[first].local, limit) / 2.5, first, text, bbox=box, **look)


def _short(name: str, most: int = 46) -> str:
    return name if len(name) <= most else f"{name[:12]}…{name[-(most - 13) :]}"


def _limit(errors: Sequence[float | None]) -> float:
    """Return the right end of the axis; infinite errors lie on it."""
    finite = [error for error in errors if error is not None and math.isfinite(error)]
    return max([*finite, 1.0]) * (10 if any(error == math.inf for error in errors) else 1)


def _seen(error: float | None, limit: float) -> float:
    """Return where an error lies on an axis that has neither zero nor infinity."""
    return min(max(error or 0.0, FLOOR), limit)


def _error_axis(axis: Any, limit: float) -> None:
    """Make an axis logarithmic, with ticks at powers of ten; the lowest is zero."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    powers = range(-14, max(math.floor(math.log10(limit)), 0) + 1, 2)
    scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    scale("log")
    axis.set_major_locator(FixedLocator([FLOOR, *(10.0**power for power in powers)]))
    axis.set_major_formatter(FixedFormatter(["0", *(f"$10^{{{power}}}$" for power in powers)]))
    axis.set_minor_locator(NullLocator())


def _errors_over_epochs(runs: Mapping[str, Sequence[Row]], prefix: str, title: str) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    from partial_equiv.drawing import style

    names = list(dict.fromkeys(key for rows in runs.values() for row in rows for key in row if key.startswith(prefix)))
    layers = [name for name in names if not name.removeprefix(prefix).startswith("output")]
    tones = dict(zip(layers, style.ramp(len(layers)), strict=True))
    limit = _limit([row.get(name) for rows in runs.values() for row in rows for name in names])
    figure = style.new_figure(1.9 + 3.4 * max(len(runs), 1), 3.4)
    figure.suptitle(title)
    panels = figure.subplots(1, max(len(runs), 1), sharey=True, squeeze=False)[0]
    for axes, (label, rows) in zip(panels, runs.items(), strict=True):
        axes.set_title(label)
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
            tone = tones.get(name, style.INK)
            look = {"color": tone, "linewidth": 1.1} if name in tones else {"color": tone, "linewidth": 2.2}
            errors = [_seen(error, limit) for _, error in points]
            axes.plot([epoch for epoch, _ in points], errors, label=name.removeprefix(prefix), **look)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, axis="y")
    _error_axis(panels[0].yaxis, limit)
    panels[0].set_ylim(FLOOR / 3, limit * 3)
    panels[0].set_ylabel("error relative to the variation")
    _depth_legend(panels)
    return figure


def _depth_legend(panels: Sequence["Axes"]) -> None:
    """Name the lines from shallow to deep: all if they are few, else every n-th and the last."""
    lines, labels = panels[0].get_legend_handles_labels()
    if not lines:
        return
    step = math.ceil(len(lines) / LEGEND_LINES)
    kept = sorted({*range(0, len(lines), step), len(lines) - 1})
    names = [_short(labels[i], 28) for i in kept]
    title = "layer" if step == 1 else f"one layer in {step}"
    panels[-1].legend([lines[i] for i in kept], names, loc="center left", bbox_to_anchor=(1.02, 0.5), title=title)
