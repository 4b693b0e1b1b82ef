"""Figures of symmetry inference: what is drawn is what was given, words stay inside and apart, nothing leaks."""

import gc
import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from scipy.stats import norm

from partial_equiv import drawing
from partial_equiv.drawing.style import PALETTE
from partial_equiv.errors import UserError
from tests.drawing.readable import check_pixels, check_words, drawn_in_a_users_style

GENERATOR = np.random.default_rng(0)
DIGITS = [str(digit) for digit in range(10)]
POSES = {name: GENERATOR.uniform(-1, 1, 50) * math.pi * int(name) / 10 for name in DIGITS}
CIRCLE = np.linspace(-math.pi, math.pi, 181)
EVEN = (CIRCLE, np.full(181, 1 / (2 * math.pi)))
IMAGES = GENERATOR.integers(0, 256, (30, 3, 6, 6), dtype=np.uint8)
UPRIGHT = np.ascontiguousarray(np.rot90(IMAGES, axes=(2, 3)))
NAMES = [name for name in ("cat", "dog", "frog") for _ in range(10)]
ROWS = [("ours", {"error (°)": 5.0, "accuracy (%)": 91.25}), ("no centre term", {"error (°)": 40.0})]
LEVELS = {"cat": (0.1, 0.05, 0.2), "dog": (math.pi, 2.0, math.pi), "frog": (1.0, 1.1, 1.2)}
TESTS = {"C2": {"cat": 0.0001, "dog": 0.7, "frog": 0.05}, "rotations": {"cat": 0.0499, "dog": 0.3}}


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def line(axes, colour, style="-"):
    (found,) = [it for it in axes.lines if it.get_color() == colour and it.get_linestyle() == style]
    return np.asarray(found.get_xdata(), dtype=float), np.asarray(found.get_ydata(), dtype=float)


def wrapped_kernels(poses, degrees, width=6.0):
    """Mean of wrapped normals in degrees, one copy after another."""
    total = np.zeros(len(degrees))
    for pose in np.degrees(poses):
        for copy in range(-3, 4):
            total += norm.pdf(degrees, loc=pose + 360 * copy, scale=width)
    return total / len(poses)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=1, max_size=8))
def test_densities_are_wrapped_kernels_around_the_poses(poses):
    figure = drawing.pose_densities({"a": poses})
    degrees, density = line(panels(figure)["a"], PALETTE[0])
    assert (degrees[0], degrees[-1]) == pytest.approx((-180, 180))
    np.testing.assert_allclose(density, wrapped_kernels(np.array(poses) % (2 * math.pi), degrees), atol=1e-7)
    assert np.trapezoid(density, degrees) == pytest.approx(1)


def test_laws_are_dashed_and_the_comparison_is_in_a_second_colour():
    comparison = {"3": [0.5, 0.5]}
    figure = drawing.pose_densities(POSES, {"3": EVEN, "4": None}, comparison, "Poses", ["ours", "plain"])
    three, four = panels(figure)["3"], panels(figure)["4"]
    degrees, law = line(three, "#222222", "--")
    np.testing.assert_allclose(degrees, np.degrees(CIRCLE))
    np.testing.assert_allclose(law, 1 / 360)
    degrees, density = line(three, PALETTE[1])
    np.testing.assert_allclose(density, wrapped_kernels([0.5], degrees), atol=1e-7)
    assert len(four.lines) == 1
    assert {"ours", "plain", "true law"} <= set(words(figure))
    assert three.get_ylim()[1] > density.max()


def test_ten_panels_at_most_and_none_for_an_empty_class():
    figure = drawing.pose_densities({**POSES, "ten": [0.0], "none": []})
    assert list(panels(figure)) == DIGITS
    assert "Inferred poses: the first 10 of 11 classes" in words(figure)
    assert any("left out, without images: none" in text for text in words(figure))
    assert list(panels(drawing.pose_densities({"a": [], "b": [math.pi] * 5}))) == ["b"]


def test_levels_are_quantiles_over_the_true_level():
    predicted = {"a": np.radians(np.arange(101)), "b": np.radians([90.0, 90.0, 96.0])}
    figure = drawing.level_scatter(predicted, {"a": math.pi / 4, "b": math.pi / 2, "c": 1.0}, "Levels", {"b": 85.5})
    (axes,) = figure.axes
    wide, box = (np.array(drawn.get_segments()) for drawn in axes.collections)
    np.testing.assert_allclose(wide[0], [[45, 5], [45, 95]])
    np.testing.assert_allclose(box[0], [[45, 25], [45, 75]])
    median, mean, published, identity = axes.lines
    np.testing.assert_allclose(median.get_xydata(), [[45, 50], [90, 90]])
    np.testing.assert_allclose(mean.get_xydata(), [[45, 50], [90, 92]])
    np.testing.assert_allclose(published.get_xydata(), [[90, 85.5]])
    assert published.get_markerfacecolor() == "white"
    np.testing.assert_allclose(identity.get_xdata(), identity.get_ydata())
    assert {"published mean", "a", "b", "Levels"} <= set(words(figure))
    assert "published mean" not in words(drawing.level_scatter(predicted, {"a": 0.0, "b": 1.0}))


def test_classes_of_one_level_stand_beside_each_other():
    figure = drawing.level_scatter({name: [1.0] for name in "abcd"}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.5})
    median, _, _, tie = figure.axes[0].lines
    x = median.get_xdata()
    one = math.degrees(1)
    assert x[1] == pytest.approx(one) and x[3] == pytest.approx(one / 2)
    assert x[2] - x[1] == pytest.approx(x[1] - x[0]) and x[1] - x[0] > 1
    np.testing.assert_allclose(tie.get_ydata(), one)
    assert tie.get_xdata()[0] < x[0] and tie.get_xdata()[1] > x[2]


def test_many_or_empty_classes_of_levels():
    many = {f"class {i}": [0.1 * i] for i in range(30)}
    assert not any(text.startswith("class") for text in words(drawing.level_scatter(many, dict.fromkeys(many, 0.0))))
    figure = drawing.level_scatter({"a": [0.0, 0.0], "b": []}, {"a": 0.0})
    assert "left out, without images: b" in figure.axes[0].get_xlabel()
    with pytest.raises(UserError, match=r"true: no level for b, c; "):
        drawing.level_scatter({"a": [0.0], "b": [0.0], "c": [0.0]}, {"a": 0.0})


def test_upright_images_stand_below_their_inputs():
    figure = drawing.standardised_grid(IMAGES, UPRIGHT, NAMES)
    (axes,) = figure.axes
    assert len(axes.images) == 60
    for index in (0, 9, 17, 29):
        above, below = axes.images[2 * index : 2 * index + 2]
        np.testing.assert_array_equal(above.get_array(), np.moveaxis(IMAGES[index], 0, -1))
        np.testing.assert_array_equal(below.get_array(), np.moveaxis(UPRIGHT[index], 0, -1))
        (left, right, low, high), under = above.get_extent(), below.get_extent()
        assert [left, right] == under[:2] == pytest.approx([index % 10 * 1.07, index % 10 * 1.07 + 1])
        assert high < low < under[3] < under[2]  # the axis points down
    assert axes.yaxis_inverted()
    assert [text for text in words(figure) if text in NAMES] == ["cat", "dog", "frog"]


def test_at_most_ten_images_of_ten_classes():
    names = [str(i % 12) for i in range(132)]
    grey = np.zeros((132, 1, 4, 8), dtype=np.uint8)
    figure = drawing.standardised_grid(grey, grey, names)
    assert len(figure.axes[0].images) == 200
    assert "Images and their upright versions: the first 10 of 12 classes" in words(figure)
    tiles = figure.axes[0].findobj(FancyBboxPatch)
    assert {tile.get_height() / tile.get_width() for tile in tiles} == {0.5}  # as long as the images


def test_bars_are_as_long_as_the_values_written_at_their_ends():
    figure = drawing.ablation_bars(ROWS, {"error (°)": 5.74}, "Ablation")
    error, accuracy = (panels(figure)[metric] for metric in ("error (°)", "accuracy (%)"))
    assert [bar.get_width() for bar in error.patches[:2]] == [5.0, 40.0]
    ends = {text.get_text(): text.xy for text in error.texts}
    assert ends == {"5.0": (5.0, 0), "40.0": (40.0, 1), "target 5.7": (5.74, 1.0)}
    x, _ = line(error, PALETTE[1], "--")
    np.testing.assert_allclose(x, 5.74)
    assert [text.get_text() for text in accuracy.texts] == ["91.2", "–"]
    assert [label.get_text() for label in error.get_yticklabels()] == ["ours", "no centre term"]
    assert error.get_ylim()[0] > error.get_ylim()[1]  # first row above


def test_bars_of_negative_and_zero_values():
    figure = drawing.ablation_bars([("a", {"gain": -0.25, "none": 0.0}), ("b", {"gain": 0.5, "none": -0.0})])
    gain, none = figure.axes
    (low, high), positions = gain.get_xlim(), [text.get_ha() for text in gain.texts]
    assert low < -0.25 and high > 0.5 and positions == ["right", "left"]
    assert [text.get_text() for text in gain.texts] == ["\N{MINUS SIGN}0.250", "0.500"]
    assert [text.get_text() for text in none.texts] == ["0.00", "0.00"]


def test_the_report_shows_levels_intervals_and_tests():
    figure = drawing.dataset_symmetry(LEVELS, TESTS)
    left, right = figure.axes
    np.testing.assert_allclose([bar.get_width() for bar in left.patches], np.degrees([0.1, math.pi, 1.0]))
    (intervals,) = left.collections
    for y, (segment, (_, low, high)) in enumerate(zip(intervals.get_segments(), LEVELS.values(), strict=True)):
        np.testing.assert_allclose(segment, [[math.degrees(low), y], [math.degrees(high), y]])
    assert [text.get_text() for text in left.texts] == ["6°", "180°", "57°"]
    kept, rejected, missing = to_rgb(PALETTE[0]), to_rgb("#F6DCCB"), (1, 1, 1)
    expected = [[rejected, rejected], [kept, kept], [kept, missing]]
    np.testing.assert_allclose(right.images[0].get_array(), expected)
    cells = {text.get_position(): text.get_text() for text in right.texts}
    assert cells[0, 0] == "<0.001" and cells[0, 2] == "0.050" and cells[1, 1] == "0.300" and cells[1, 2] == "–"
    assert [label.get_text() for label in right.get_xticklabels()] == ["C2", "rotations"]
    strict = drawing.dataset_symmetry(LEVELS, TESTS, threshold=0.5)
    np.testing.assert_allclose(strict.axes[1].images[0].get_array()[1], [kept, rejected])


def test_the_report_of_many_classes_or_of_no_group():
    many = {str(i): (1.0, 0.5, 1.5) for i in range(50)}
    figure = drawing.dataset_symmetry(many, {"C2": dict.fromkeys(many, 0.2)})
    assert "Symmetry of each class: the first 40 of 50 classes" in " ".join(words(figure)).replace("\n", " ")
    assert figure.axes[1].images[0].get_array().shape == (40, 1, 3)
    assert len(drawing.dataset_symmetry(many, {}).axes) == 1


NAN = {"a": [0.0, math.nan]}


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: drawing.pose_densities(NAN), r"poses of “a”: 1 of 2 values are not finite; leave"),
        (lambda: drawing.pose_densities({"a": [0.0]}, comparison=NAN), "comparison of “a”: 1 of 2"),
        (lambda: drawing.pose_densities({"a": [0.0]}, {"a": ([0.0], [math.inf])}), "law of “a”: 1 of 1"),
        (lambda: drawing.pose_densities({"a": []}), "poses: none of the 1 classes has any; pass"),
        (lambda: drawing.level_scatter(NAN, {"a": 0.0}), "levels of “a”: 1 of 2"),
        (lambda: drawing.level_scatter({"a": [0.0]}, {"a": math.nan}), "true level of “a”: 1 of 1"),
        (lambda: drawing.standardised_grid(IMAGES, UPRIGHT[:2], NAMES), r"standardised \(2, 3, 6, 6\), 30 names"),
        (lambda: drawing.standardised_grid(IMAGES[:0], UPRIGHT[:0], []), "N > 0"),
        (lambda: drawing.standardised_grid(IMAGES / 255, UPRIGHT, NAMES), "images float64.*from 0 to 255"),
        (lambda: drawing.ablation_bars([("a", {"m": math.nan})]), "m: 1 of 1 values"),
        (lambda: drawing.ablation_bars([("a", {})]), "rows: 1 variants with no metric"),
        (lambda: drawing.dataset_symmetry({}, {}), "levels: no class"),
        (lambda: drawing.dataset_symmetry({"a": (90, 80, 100)}, {}), r"\(90, 80, 100\) leaves \[0, pi\]; .* radians"),
        (lambda: drawing.dataset_symmetry({"a": (1, math.nan, 1)}, {}), "radians"),
        (lambda: drawing.dataset_symmetry({"a": (1, 1, 1)}, {"C2": {"a": 1.1}}), "“a” under C2: 1.1 is not in"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(UserError, match=message):
        draw()


def every_figure():
    long = (
        "A title that goes on and on, about the data set, the network, the seed and all its other settings, to the end"
    )
    classes = ["English springer spaniel", "cat", "aeroplane"]
    yield drawing.pose_densities(POSES, dict.fromkeys(POSES, EVEN), POSES, long, ["ours", "plain auto-encoder"])
    yield drawing.pose_densities({"a": [1.0] * 4, "none": []})
    yield drawing.level_scatter(POSES, {name: int(name) / 4 for name in POSES}, long, {"3": 60.0})
    yield drawing.level_scatter({name: [0.5, 0.7] for name in classes}, dict.fromkeys(classes, math.pi))
    yield drawing.standardised_grid(IMAGES, UPRIGHT, [classes[i // 10] for i in range(30)], long)
    yield drawing.standardised_grid(IMAGES[:1, :1], IMAGES[:1, :1], ["3"])
    metrics = ["error of class means (°)", "sample error (°)", "k-means accuracy (%)", "accuracy (%)", "time (s)"]
    rows = [
        (f"{name} and more words than there is room", {m: 10.0 + i for i, m in enumerate(metrics)}) for name in "ab"
    ]
    yield drawing.ablation_bars(rows, {"sample error (°)": 2.0, "time (s)": 14.0}, long)
    yield drawing.ablation_bars([("a", {"m": 0.0})])
    yield drawing.dataset_symmetry(LEVELS, TESTS, long)
    yield drawing.dataset_symmetry({classes[0]: (0.0, 0.0, 0.0)}, {"C4": {}})


@pytest.fixture(scope="module")
def drawn():
    return drawn_in_a_users_style(every_figure)


def test_words_stay_inside_the_figure_and_off_each_other(drawn):
    for figure, _ in drawn:
        check_words(figure)


def test_pictures_are_not_blank_and_the_users_style_does_not_matter(drawn):
    for _, pixels in drawn:
        check_pixels(pixels)


def test_figures_are_freed():
    poses = weakref.ref(drawing.pose_densities({"a": [0.0]}, {"a": EVEN}))
    pictures = weakref.ref(drawing.standardised_grid(IMAGES[:1], UPRIGHT[:1], ["a"]))
    gc.collect()
    assert poses() is None
    assert pictures() is None
