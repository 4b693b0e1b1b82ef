"""Figures of what layers learned of their group.

Angles are radians, counter-clockwise positive; a level of 1 is the whole circle, 0 the identity alone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from partial_equiv.drawing.style import FAINT, INK, SOFT, angle_axis, colour, dash, new_figure, pi_text, styled

PLAIN, MIRRORED = colour(0), colour(1)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


class Subset(Protocol):
    """What a layer learned of its group, such as `partial_equiv.nets.LayerSubset`."""

    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def level(self) -> float | None:
        """Half-width of the kept rotations over pi, None where none is learned."""

    @property
    def mirror(self) -> float | None:
        """Probability of the mirrored elements, None where none is learned."""

    @property
    def gates(self) -> Sequence[float]:
        """Probability of each rotation of a grid, identity first; empty where none is learned."""


@styled
def learned_subsets(
    layers: Sequence[Subset], no_rotations: int | None = None, title: str = "Learned subsets"
) -> Figure:
    """Draw the rotations that each layer keeps as a wedge of +-pi level, angle 0 up, counter-clockwise.

    Dots are the evaluation elements pi level (-1 + 2 (i + 1/2) / N). A learned grid shows a bar per rotation, as long
    as its probability. Learned mirrors are an inner disc, as opaque as the mirror is probable. Grey: not learned.

    Args:
        layers: One entry per layer that learns something, in order.
        no_rotations: N, rotations per layer; None leaves the dots out.
        title: Title of the figure.
    """
    rows = max(math.ceil(len(layers) / 5), 1)
    columns = max(math.ceil(len(layers) / rows), 1)
    figure = new_figure(max(1.85 * columns, 3.8), 2.3 * rows + 0.5)
    figure.suptitle(title)
    for index, layer in enumerate(layers):
        axes = figure.add_subplot(rows, columns, index + 1, projection="polar")
        assert isinstance(axes, PolarAxes)
        _polar_frame(axes)
        _subset(axes, layer, no_rotations)
    if not layers:
        figure.text(0.5, 0.5, "this network learns no subset of its group", ha="center", va="center", color=SOFT)
    return figure


def _polar_frame(axes: PolarAxes) -> None:
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(1)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([quarters * math.pi / 4 for quarters in (0, 2, 4, 6)])
    axes.set_xticklabels([pi_text(0), pi_text(2), "±π", pi_text(-2)])
    axes.tick_params(pad=-1, labelsize=7)
    axes.grid(visible=False)
    axes.spines["polar"].set_color(FAINT)


def _subset(axes: PolarAxes, layer: Subset, no_rotations: int | None) -> None:
    lines = []
    inner = 0.5 if layer.mirror is not None else 0.0
    if layer.gates:
        _gates(axes, layer.gates, inner)
        lines.append(f"{sum(layer.gates):.1f} of {len(layer.gates)} rotations")
    else:
        level = 1.0 if layer.level is None else layer.level
        _wedge(axes, level, inner, 1.0, FAINT if layer.level is None else PLAIN, 0.45)
        if no_rotations:
            angles = math.pi * level * (-1 + 2 * (np.arange(no_rotations) + 0.5) / no_rotations)
            axes.scatter(angles, np.full(no_rotations, 0.9), s=9, color=INK, zorder=4, linewidths=0)
        lines.append("rotations not learned" if layer.level is None else f"θ = {level:.3f}, ±{180 * level:.0f}°")
    if layer.mirror is not None:
        level = 1.0 if layer.level is None or layer.gates else layer.level
        _wedge(axes, level, 0.0, 0.45, MIRRORED, 0.85 * layer.mirror)
        lines.append(f"mirrored (inner): p = {layer.mirror:.2f}")
    axes.set_title(layer.name, pad=8, fontsize=9)
    axes.set_xlabel("\n".join(lines), labelpad=3, fontsize=8)


def _wedge(axes: PolarAxes, level: float, inner: float, outer: float, tone: str, opacity: float) -> None:
    """Fill +-pi level between two radii; a level of 0 leaves the line of the identity."""
    angles = np.linspace(-math.pi * level, math.pi * level, 181)
    axes.fill_between(angles, inner, outer, color=tone, alpha=opacity, linewidth=0, zorder=2)
    # On a circle that is closed to the eye, an edge would look like a cut.
    for angle in (angles[0], angles[-1]) if level < 0.995 else ():
        axes.plot([angle, angle], [inner, outer], color=tone, linewidth=1.4, alpha=min(2 * opacity, 1), zorder=3)


def _gates(axes: PolarAxes, gates: Sequence[float], inner: float) -> None:
    step = 2 * math.pi / len(gates)
    angles = np.arange(len(gates)) * step
    width = 0.6 * step
    axes.bar(
        angles, np.full(len(gates), 1 - inner), width=width, bottom=inner, color=FAINT, alpha=0.5, linewidth=0, zorder=1
    )
    axes.bar(
        angles,
        (1 - inner) * np.asarray(gates),
        width=width,
        bottom=inner,
        color=PLAIN,
        alpha=0.75,
        linewidth=0,
        zorder=2,
    )


@styled
def subset_bands(levels: Mapping[str, Sequence[float | None]], title: str = "Learned subsets of rotations") -> Figure:
    """Draw the rotations that each layer keeps, as a band of +-pi level over the layers, one band per run.

    A hollow mark is a layer that learns no level and uses the whole circle.

    Args:
        levels: Label -> level of each layer, None where none is learned.
        title: Title of the figure.
    """
    no_layers = max((len(values) for values in levels.values()), default=1)
    figure = new_figure(2.6 + 0.75 * max(no_layers, 4), 3.6)
    figure.suptitle(title)
    axes = figure.add_subplot()
    for index, (label, values) in enumerate(levels.items()):
        _band(axes, label, values, index)
    axes.set_xlim(0.5, no_layers + 0.5)
    axes.set_xticks(range(1, no_layers + 1))
    hollow = any(value is None for values in levels.values() for value in values)
    note = "; hollow: no level is learned" if hollow else ""
    axes.set(xlabel=f"layer (index from the input{note})", ylabel="kept rotations ±πθ (radians)")
    angle_axis(axes)
    axes.axhline(0, color=SOFT, linewidth=0.6, zorder=0)
    axes.grid(visible=True, axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _band(axes: Axes, label: str, values: Sequence[float | None], index: int) -> None:
    layers = np.arange(1, len(values) + 1)
    edge = math.pi * np.asarray([1.0 if value is None else value for value in values])
    learned = np.asarray([value is not None for value in values], dtype=bool)
    tone, mark = colour(index), MARKERS[index % len(MARKERS)]
    axes.fill_between(layers, -edge, edge, color=tone, alpha=0.12, linewidth=0)
    # Later marks are smaller, so that runs which agree are all seen.
    look: dict[str, Any] = {
        "color": tone,
        "linestyle": dash(index),
        "marker": mark,
        "markersize": max(8.0 - 1.6 * index, 3.0),
        "linewidth": 1.4,
    }
    for sign in (1, -1):
        axes.plot(
            layers, sign * edge, label=label if sign > 0 else None, markevery=list(np.flatnonzero(learned)), **look
        )
        axes.plot(
            layers[~learned], sign * edge[~learned], **{**look, "linestyle": "none"}, markerfacecolor="white", zorder=3
        )
