"""Figures of split representations: what is drawn is what was given, words stay inside and apart."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.spatial.transform import Rotation

from partial_equiv import drawing
from partial_equiv.drawing.style import PALETTE
from partial_equiv.errors import UserError
from tests.drawing.readable import check_pixels, check_words, drawn_in_a_users_style

GENERATOR = np.random.default_rng(0)
ANSWERS = ["classification/{}/linear/top1", "rotation/{}/deep/quaternion/r2", "color/{}/deep/r2"]
NUMBERS = {
    "classification/chance/top1": 0.125,
    "classification/all/linear/top1": 0.75,
    "classification/inv/linear/top1": 0.875,
    "classification/equi/linear/top1": 0.5,
    "classification/equi/linear/top5": 0.9,
    "rotation/baseline/quaternion/r2": -0.001,
    "rotation/baseline/quaternion/r2_flat": 0.229,
    "rotation/inv/deep/quaternion/r2": -0.25,
    "rotation/equi/deep/quaternion/r2": 0.75,
    "rotation/equi/linear/quaternion/r2": 0.5,
    "rotation/equi/deep/quaternion/r2/near_symmetric": 0.1,
    "color/equi/deep/r2": 0.0,
    "color/equi/deep/r2_flat": 0.3,
    "loss": 3.0,
}


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def row(place=0, channels=3, degrees=(0.1, 0.2, math.pi), name="chair", rank=1.0):
    images = GENERATOR.integers(0, 256, (5, channels, 8, 12), dtype=np.uint8)
    right = [index == place for index in range(3)]
    return drawing.Retrieved(images[0], images[1], images[2:], right, rank, degrees, name)


def test_views_stand_in_order_and_the_right_one_is_framed():
    rows = [row(1, rank=2.0), row(None, degrees=(), name="mug", rank=17.5)]
    figure = drawing.nearest_views(rows)
    (axes,) = figure.axes
    for line, shown in enumerate(rows):
        pictures = axes.images[5 * line : 5 * line + 5]
        for drawn, image in zip(pictures, (shown.source, shown.asked, *shown.found), strict=True):
            np.testing.assert_array_equal(drawn.get_array(), np.moveaxis(image, 0, -1))
            left, right, low, high = drawn.get_extent()
            assert (low - high) / (right - left) == pytest.approx(8 / 12)  # as the pixels are
        lefts = [drawn.get_extent()[0] for drawn in pictures]
        assert lefts == sorted(lefts)
    frames = [it for it in axes.patches if isinstance(it, Rectangle) and it.get_edgecolor() == to_rgba(PALETTE[2])]
    (frame,) = frames
    assert frame.get_x() == axes.images[3].get_extent()[0]
    said = words(figure)
    assert {"chair", "mug", "rank 2", "rank 17.5", "right", "6° off", "180° off"} <= set(said)
    assert not any("off" in text for text in words(drawing.nearest_views(rows[1:])))
    assert len(drawing.nearest_views([row()] * 20).axes[0].images) == 8 * 5
    grey = drawing.nearest_views([row(channels=1)]).axes[0].images[0]
    assert grey.get_array().shape == (8, 12) and grey.get_clim() == (0, 255)


def rotations(count=200):
    true = Rotation.random(count, rng=np.random.default_rng(1))
    error = Rotation.from_rotvec(np.random.default_rng(2).normal(size=(count, 3)) * 0.2)
    constant = np.array([0.0, 0.1, 0.2, 0.5])
    return true.as_quat(), (true * error).as_quat(), constant, error.magnitude(), true.magnitude()


def test_components_stand_over_the_true_ones_and_angles_in_a_histogram():
    true, predicted, constant, errors, others = rotations()
    figure = drawing.predicted_rotation(true, predicted, constant, errors, others, "Rotation")
    shown = panels(figure)
    for index, name in enumerate("xyzw"):
        diagonal, points, line = shown[name].lines
        np.testing.assert_allclose(diagonal.get_xdata(), diagonal.get_ydata())
        np.testing.assert_allclose(points.get_xydata(), np.stack([true[:, index], predicted[:, index]], axis=1))
        np.testing.assert_allclose(line.get_ydata(), constant[index])
    (histogram,) = [axes for axes in figure.axes if axes.patches]
    heights = np.array([bar.get_height() for bar in histogram.patches])
    assert heights.shape == (72,)
    for drawn, angles in ((heights[:36], errors), (heights[36:], others)):
        expected, _ = np.histogram(np.degrees(angles), np.arange(0, 181, 5))
        np.testing.assert_allclose(drawn, expected / 2)  # percent of 200
    medians = [line.get_xdata()[0] for line in histogram.lines]
    np.testing.assert_allclose(medians, np.degrees([np.median(errors), np.median(others)]))
    assert f"prediction, median {np.degrees(np.median(errors)):.0f}°" in words(figure)


def test_many_examples_are_thinned():
    values = rotations(4_000)
    points = panels(drawing.predicted_rotation(*values))["x"].lines[1]
    assert len(points.get_xdata()) == 1_500
    assert points.get_xdata()[-1] == values[0][-1, 0]


def test_bars_are_the_numbers_and_the_dashes_what_a_guess_reaches():
    figure = drawing.part_bars(NUMBERS)
    shown = panels(figure)
    assert list(shown) == ["class, top-1 accuracy (%)", "colour, R²", "rotation, R²\n(quaternion)"]
    kind, colour, turn = shown.values()
    assert [bar.get_height() for bar in kind.patches] == [75, 87.5, 50]
    assert [bar.get_height() for bar in turn.patches] == [-0.25, 0.75, 0.5]
    assert [bar.get_height() for bar in colour.patches] == [0]
    chance = {name: [line for line in axes.lines if line.get_linestyle() == "--"] for name, axes in shown.items()}
    assert [line.get_ydata()[0] for (line,) in chance.values()] == [12.5, 0, 0]
    assert [label.get_text() for label in kind.get_xticklabels()] == ["all", "invariant", "equivariant"]
    assert [label.get_text() for label in turn.get_xticklabels()] == ["invariant", "equivariant"]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in turn.patches]
    assert sorted(round(centre) for centre in centres) == [0, 1, 1] and len(set(centres)) == 3
    assert {"87.5", "\N{MINUS SIGN}0.25", "0.75", "linear head", "deep head"} <= set(words(figure))
    low, high = turn.get_ylim()
    assert low < -0.25 and high > 0.75
    one = drawing.part_bars({"color/all/deep/r2": 0.5})
    assert len(one.axes) == 1 and not any("head" in text for text in words(one))


def test_spectra_are_drawn_as_given():
    figure = drawing.spectrum({"representation": [0.0, -1.0, -2.0], "embedding": [0.0, -8.0]})
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0], [2, -1], [3, -2]])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [0, -8])
    assert {"representation", "embedding"} <= set(words(figure))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: drawing.nearest_views([]), "rows: there is none"),
        (lambda: drawing.part_bars({"loss": 1.0}), "numbers: none of 1 is of the probes classification"),
        (lambda: drawing.part_bars({"color/all/deep/r2": math.nan}), "color/all/deep/r2: 1 of 1 values are not finite"),
        (lambda: drawing.spectrum({}), "curves: there is none"),
        (lambda: drawing.spectrum({"h": [0.0, -math.inf]}), "h: 1 of 2 values are not finite"),
        (
            lambda: drawing.predicted_rotation([[0, 0, 0, 1]], [[0, 0, 0, 1]], [0, 0, 0, 1], [], [0]),
            "1 true and 1 pred",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(UserError, match=message):
        draw()


def every_figure():
    long = "A title that goes on and on, about the data set, the network, the seed and all its settings, to the end"
    yield drawing.nearest_views([row(name="a very long name of a class"), row(2, rank=3.0)], long)
    yield drawing.nearest_views([row(channels=1, degrees=())])
    yield drawing.predicted_rotation(*rotations(), long)
    yield drawing.part_bars(NUMBERS, "What each part knows")
    both = {key.format(part): 0.5 for key in ANSWERS for part in ("all", "inv", "equi")}
    euler = {f"rotation/{part}/{kind}/euler/r2": 0.9 for part in ("inv", "equi") for kind in ("linear", "deep")}
    yield drawing.part_bars(both | euler, long)
    yield drawing.part_bars({"rotation/all/deep/euler/r2": -0.5})
    yield drawing.spectrum({"representation": np.linspace(0, -8, 64), "embedding": [0.0]}, long)


@pytest.fixture(scope="module")
def drawn():
    return drawn_in_a_users_style(every_figure)


def test_words_stay_inside_the_figure_and_off_each_other(drawn):
    for figure, _ in drawn:
        check_words(figure)


def test_pictures_are_not_blank_and_the_users_style_does_not_matter(drawn):
    for _, pixels in drawn:
        check_pixels(pixels)
