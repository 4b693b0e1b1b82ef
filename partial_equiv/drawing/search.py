"""Figure of a hyper-parameter search: what each trial reached, and how that hangs on each parameter."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from partial_equiv.drawing.style import INK, SOFT, colour, new_figure, styled

COLUMNS = 4
"""Panels in a row."""
MARKS: Mapping[str, dict[str, Any]] = {
    "complete": {"marker": "o", "color": colour(0), "s": 20},
    "pruned": {"marker": "o", "facecolor": "none", "edgecolor": colour(1), "s": 20},
    "failed": {"marker": "x", "color": SOFT, "s": 20, "linewidth": 1.0},
}
"""How a trial is drawn, by how it ended."""


@styled
def search_history(
    trials: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    maximise: bool,
    logarithmic: Collection[str] = (),
    title: str = "Hyper-parameter search",
) -> Figure:
    """Draw the metric against the number of the trial, with the best so far, and against each parameter.

    Args:
        trials: Each with "number", "state" ("complete", "pruned" or "failed"), "value" (None if it failed) and
            "parameters" (numbers, or texts for choices, by name).
        metric: Name of what was searched for.
        maximise: Whether more of it is better.
        logarithmic: Parameters whose axis is logarithmic.
        title: Title of the figure.
    """
    names = list(dict.fromkeys(itertools.chain.from_iterable(trial["parameters"] for trial in trials)))
    no_rows = -(-(1 + len(names)) // COLUMNS)
    no_columns = min(1 + len(names), COLUMNS)
    figure = new_figure(max(4.0, 2.9 * no_columns), 0.8 + 2.6 * no_rows)
    figure.suptitle(title)
    first = figure.add_subplot(no_rows, no_columns, 1)
    _history(first, trials, maximise)
    first.set_ylabel(metric)
    for place, name in enumerate(names, start=2):
        axes = figure.add_subplot(no_rows, no_columns, place, sharey=first)
        _parameter(axes, trials, name)
        if name in logarithmic:
            axes.set_xscale("log")
        if place % no_columns == 1:
            axes.set_ylabel(metric)
        else:
            axes.tick_params(labelleft=False)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKS) + 1)
    return figure


def _history(axes: Axes, trials: Sequence[Mapping[str, Any]], maximise: bool) -> None:
    """Draw every trial by its number, one that failed at the lower edge, and the best of the whole ones so far."""
    ordered = sorted(trials, key=lambda trial: trial["number"])
    for state, style in MARKS.items():
        chosen = [trial for trial in ordered if trial["state"] == state]
        if not chosen:
            continue
        if state == "failed":
            heights, place = [0.02] * len(chosen), axes.get_xaxis_transform()
            axes.scatter([trial["number"] for trial in chosen], heights, transform=place, label=state, **style)
        else:
            axes.scatter(*_points(chosen, "number"), label=state, **style)
    whole = [trial for trial in ordered if trial["state"] == "complete"]
    best = list(itertools.accumulate((trial["value"] for trial in whole), max if maximise else min))
    if best:
        numbers = [trial["number"] for trial in whole]
        last = ordered[-1]["number"]
        axes.step([*numbers, last], [*best, best[-1]], where="post", color=INK, linewidth=1.0, label="best so far")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(visible=True, axis="y")


def _points(trials: Sequence[Mapping[str, Any]], key: str) -> tuple[list[Any], list[float]]:
    """Return a number of each trial, and its value."""
    return [trial[key] for trial in trials], [trial["value"] for trial in trials]


def _parameter(axes: Axes, trials: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draw the value of every trial that has one against a parameter; choices stand side by side."""
    known = [trial for trial in trials if trial["value"] is not None and name in trial["parameters"]]
    given = [trial["parameters"][name] for trial in known]
    choices = sorted({value for value in given if isinstance(value, str)})
    for state, style in MARKS.items():
        chosen = [(value, trial["value"]) for value, trial in zip(given, known, strict=True) if trial["state"] == state]
        if chosen:
            across = [choices.index(value) if choices else value for value, _ in chosen]
            axes.scatter(across, [reached for _, reached in chosen], **style)
    if choices:
        axes.set_xticks(range(len(choices)), choices, rotation=20 if max(map(len, choices)) > 8 else 0)
        axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.set_xlabel(name)
    axes.grid(visible=True, axis="y")
