"""Figures of what the parts of a representation know, and of what a predictor finds among the views of an object.

Axes: M examples, C channels, Y X pixels. Angles are radians, drawn in degrees.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from partial_equiv.drawing.style import FAINT, INK, SOFT, bare, colour, dash, new_figure, picture, styled
from partial_equiv.drawing.symmetry import Values, degrees_text, finite, head, short
from partial_equiv.errors import UserError

ROWS = 8
TILE = 0.86  # inches
GAP, APART, CAPTION = 0.08, 0.45, 0.3  # of a tile's side
POINTS = 1_500
PARTS = ("all", "inv", "equi")
NAMES_OF_PARTS = {"all": "all", "inv": "invariant", "equi": "equivariant"}


class Retrieved(NamedTuple):
    """One question to a predictor, and the views that it found nearest.

    Args:
        source: The view that it started from.
        asked: The view whose pose it was asked for.
        found: The nearest views, best first.
        right: Whether each of them is the one asked for.
        rank: Place of the one asked for.
        degrees: By how much the pose of each found view is off, radians; empty where poses are unknown.
        name: Name of the object or its class.
    Shape:
        source, asked uint8 [C, Y, X]; found uint8 [F, C, Y, X].
    """

    source: NDArray[np.uint8]
    asked: NDArray[np.uint8]
    found: NDArray[np.uint8]
    right: Sequence[bool]
    rank: float
    degrees: Sequence[float]
    name: str


@styled
def nearest_views(rows: Sequence[Retrieved], title: str = "Nearest views of a predicted embedding") -> Figure:
    """Draw one row per question: the source, the view asked for, and the nearest views, the right one framed.

    Args:
        rows: Questions; the first 8 are drawn.
        title: Title of the figure.

    Raises:
        UserError: There is no row.
    """
    if not rows:
        raise UserError("rows: there is none; give at least one question.")
    shown = rows[:ROWS]
    most = max(len(row.found) for row in shown)
    aspect = shown[0].source.shape[1] / shown[0].source.shape[2]
    places = [0.0, 1 + GAP, *(2 + GAP + APART + (1 + GAP) * index for index in range(most))]
    pitch, width = aspect + CAPTION + GAP, places[-1] + 1
    margin = 0.25 + 0.085 * max(len(short(row.name, 18)) for row in shown)
    figure = new_figure(max(TILE * (width + margin), 4.5), TILE * (pitch * len(shown) + 0.4) + 0.4)
    head(figure, title)
    axes = figure.add_subplot()
    bare(axes)
    headings = [("source", 0), ("asked for", 1), ("found, nearest first", 2)]
    for words, index in headings[: 2 + (most > 0)]:
        at = places[index] + (0.5 if index < 2 else 0)
        axes.text(at, -0.1, words, ha="center" if index < 2 else "left", va="bottom", size=8, color=SOFT)
    for line, row in enumerate(shown):
        top = line * pitch
        axes.text(-0.15, top + aspect / 2, short(row.name, 18), ha="right", va="center", size=9)
        for place, image in zip(places, (row.source, row.asked, *row.found), strict=False):
            _tile(axes, image, place, top, aspect)
        axes.text(places[1] + 0.5, top + aspect + 0.05, f"rank {row.rank:g}", ha="center", va="top", size=8)
        for index, right in enumerate(row.right):
            at = places[2 + index]
            if right:
                frame: dict[str, Any] = {"facecolor": "none", "edgecolor": colour(2), "linewidth": 2.5, "zorder": 3}
                axes.add_patch(Rectangle((at, top), 1, aspect, **frame))
            words = f"{degrees_text(np.degrees(row.degrees[index]))} off" if len(row.degrees) else ""
            words = "right" if right else words
            tone = colour(2) if right else SOFT
            axes.text(at + 0.5, top + aspect + 0.05, words, ha="center", va="top", size=8, color=tone)
    axes.set(xlim=(-margin, width + 0.05), ylim=(pitch * len(shown), -0.4), aspect="equal")
    return figure


def _tile(axes: Axes, image: NDArray[np.uint8], left: float, top: float, aspect: float) -> None:
    place = (left, left + 1, top + aspect, top)
    axes.imshow(picture(image), cmap="gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
    axes.add_patch(Rectangle((left, top), 1, aspect, facecolor="none", edgecolor=FAINT, linewidth=0.6))


@styled
def predicted_rotation(
    true: ArrayLike,
    predicted: ArrayLike,
    constant: ArrayLike,
    errors: ArrayLike,
    constant_errors: ArrayLike,
    title: str = "Predicted against true rotation",
) -> Figure:
    """Draw each component of the predicted quaternions against the true one, and the angles between them.

    On the dashed diagonal a prediction is right; the orange line is the best constant.

    Args:
        true: Components [M, 4], (x, y, z, w).
        predicted: Components [M, 4]; at most 1,500, evenly spread, are drawn.
        constant: The constant [4] that the training examples suggest.
        errors: Angles [M] between the two, radians in [0, pi].
        constant_errors: Angles [M] between the constant and the true rotations.
        title: Title of the figure.

    Raises:
        UserError: Lengths differ, there is no example, or a value is NaN or infinite.
    """
    answers, guesses = (finite(v, name).reshape(-1, 4) for v, name in ((true, "true"), (predicted, "predicted")))
    angles, others = finite(errors, "errors"), finite(constant_errors, "constant_errors")
    if not len(answers) == len(guesses) == len(angles) == len(others) or not len(angles):
        raise UserError(
            f"{len(answers)} true and {len(guesses)} predicted rotations, {len(angles)} and {len(others)} errors: give "
            "as many of each, and one at least."
        )
    figure = new_figure(9.0, 4.5)
    head(figure, title)
    panels = figure.subplot_mosaic([["x", "y", "angle"], ["z", "w", "angle"]], width_ratios=[1, 1, 1.6])
    shown = np.linspace(0, len(answers) - 1, min(len(answers), POINTS)).round().astype(int)
    for index, name in enumerate("xyzw"):
        axes = panels[name]
        axes.plot([-1, 1], [-1, 1], "--", color=SOFT, linewidth=1.0)
        axes.plot(answers[shown, index], guesses[shown, index], ".", color=colour(0), alpha=0.3, markersize=3, mew=0)
        axes.axhline(finite(constant, "constant")[index], color=colour(1), linewidth=1.2)
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=(-1, 0, 1), yticks=(-1, 0, 1), aspect="equal")
        axes.set_title(name, fontsize=9)
        axes.grid(visible=True)
    figure.supylabel("predicted", fontsize=9)
    panels["z"].set_xlabel("true")
    panels["w"].set_xlabel("true")
    _angles(panels["angle"], {"prediction": angles, "best constant": others})
    return figure


def _angles(axes: Axes, errors: Mapping[str, Values]) -> None:
    edges = [5.0 * edge for edge in range(37)]
    for index, (name, values) in enumerate(errors.items()):
        degrees = np.degrees(values)
        weights = np.full(len(degrees), 100 / len(degrees))
        label = f"{name}, median {degrees_text(float(np.median(degrees)))}"
        axes.hist(degrees, edges, weights=weights, color=colour(index), alpha=0.45, label=label)
        axes.axvline(float(np.median(degrees)), color=colour(index), linestyle=dash(index))
    ticks = range(0, 181, 45)
    axes.set_xticks(ticks, [degrees_text(tick) for tick in ticks])
    axes.set(xlim=(0, 180), xlabel="angle between predicted and true rotation", ylabel="examples (%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))  # above: the medians cross the panel


@styled
def part_bars(numbers: Mapping[str, float], title: str = "What each part knows") -> Figure:
    """Draw accuracy and honest R^2 of every part, one panel per question, with the level of chance as a dashed line.

    Args:
        numbers: Values by the names that the probes `classification`, `rotation` and `color` give them, such as
            "rotation/equi/deep/quaternion/r2"; others are passed over.
        title: Title of the figure.

    Raises:
        UserError: None of the numbers is of these probes, or one is NaN or infinite.
    """
    panels = _panels(numbers)
    if not panels:
        raise UserError(f"numbers: none of {len(numbers)} is of the probes classification, rotation or color; run one.")
    heads = list(dict.fromkeys(kind for bars in panels.values() for _, kind in bars))
    figure = new_figure(0.6 + 2.6 * len(panels), 3.4)
    head(figure, title)
    for place, (name, bars) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        _bars(axes, bars, heads, 100.0 if name == "classification" else 1.0)
        _chance(axes, name, numbers)
    if len(heads) > 1:
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour(index)) for index in range(len(heads))]
        figure.legend(handles, [f"{kind} head" for kind in heads], loc="outside lower center", ncols=len(heads))
    return figure


def _panels(numbers: Mapping[str, float]) -> dict[str, dict[tuple[str, str], float]]:
    """Return panel -> (part, head) -> value."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for key, value in numbers.items():
        match key.split("/"):
            case ["classification", part, kind, "top1"] | ["color", part, kind, "r2"] if part in PARTS:
                found.setdefault(key.split("/")[0], {})[part, kind] = float(finite(value, key)[0])
            case ["rotation", part, kind, target, "r2"] if part in PARTS:
                found.setdefault(f"rotation/{target}", {})[part, kind] = float(finite(value, key)[0])
    return dict(sorted(found.items()))


def _bars(axes: Axes, bars: Mapping[tuple[str, str], float], heads: Sequence[str], factor: float) -> None:
    parts = [part for part in PARTS if any(part == other for other, _ in bars)]
    own = [kind for kind in heads if any(kind == other for _, other in bars)]
    width = 0.8 / max(len(own), 2)
    for (part, kind), value in bars.items():
        x = parts.index(part) + width * (own.index(kind) - (len(own) - 1) / 2)
        axes.bar(x, factor * value, width=0.92 * width, color=colour(heads.index(kind)), linewidth=0)
        words = f"{factor * value:.1f}" if factor > 1 else f"{value:z.2f}".replace("-", "\N{MINUS SIGN}")
        up = value >= 0
        place: dict[str, Any] = {"xytext": (0, 2 if up else -2), "va": "bottom" if up else "top"}
        axes.annotate(words, (x, factor * value), textcoords="offset points", ha="center", size=7, zorder=4, **place)
    axes.set_xticks(range(len(parts)), [NAMES_OF_PARTS[part] for part in parts])
    low, high = min(0.0, *bars.values()), max(0.1, *bars.values())
    room = 0.12 * (high - low)  # for the words
    axes.set_xlim(-0.7, len(parts) - 0.3)
    axes.set_ylim(factor * (low - room * (low < 0)), factor * (high + room))
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=SOFT, linewidth=0.8)


def _chance(axes: Axes, name: str, numbers: Mapping[str, float]) -> None:
    """Write what the panel shows, and draw what a guess that sees no image reaches."""
    if name == "classification":
        value, words = 100 * numbers.get("classification/chance/top1", 0.0), "class, top-1 accuracy (%)"
    else:
        question, _, target = name.partition("/")
        constant = f"{question}/baseline/{target}/r2" if target else f"{question}/baseline/r2"
        value = max(numbers.get(constant, 0.0), 0.0)
        words = "colour, R²" if name == "color" else f"rotation, R²\n({target})"
    axes.axhline(value, color=INK, linestyle="--", linewidth=1.0, zorder=3)
    axes.set_title(words, fontsize=9)
    axes.set_xlabel(f"dashed: without images, {value:.3g}", fontsize=8)


@styled
def spectrum(curves: Mapping[str, ArrayLike], title: str = "Spectrum of representations and embeddings") -> Figure:
    """Draw singular values, largest first; a cliff is a collapse to as many dimensions as lie before it.

    Args:
        curves: Name -> log10 of singular values over the largest [D].
        title: Title of the figure.

    Raises:
        UserError: There is no curve, or a value is NaN or infinite.
    """
    if not curves:
        raise UserError("curves: there is none; give at least one.")
    figure = new_figure(5.4, 3.4)
    head(figure, title)
    axes = figure.add_subplot()
    for index, (name, values) in enumerate(curves.items()):
        heights = finite(values, name)
        axes.plot(np.arange(1, len(heights) + 1), heights, color=colour(index), linestyle=dash(index), label=name)
    axes.set(xlabel="singular value, largest first", ylabel="log₁₀ of its share of the largest")
    axes.set_xlim(left=0)
    axes.grid(visible=True)
    axes.legend(loc="best")
    return figure
