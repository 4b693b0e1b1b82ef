"""Figures: the numbers that reach the axes, labels with units, pixels that are not blank, no trace in matplotlib."""

import gc
import math
import subprocess
import sys
import weakref
from typing import NamedTuple

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from partial_equiv import drawing
from partial_equiv.drawing.style import PALETTE, pi_text

MINUS = "\N{MINUS SIGN}"


class Layer(NamedTuple):
    name: str
    level: float | None
    mirror: float | None
    gates: list[float]


ROWS = [
    {
        "epoch": epoch,
        "levels": [1 - 0.1 * epoch, None, 1.0],
        "mirror": [None, None, 0.88 - 0.1 * epoch],
        "train/loss": 2.0 / (1 + epoch),
        "train/accuracy": 0.2 * epoch,
        "validation/loss": 2.5 / (1 + epoch) if epoch else None,
        "validation/accuracy": 0.1 * epoch,
    }
    for epoch in range(4)
]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def lines(axes):
    return {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in axes.lines}


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_wedges_span_plus_minus_pi_level_and_dots_are_the_evaluation_elements():
    figure = drawing.learned_subsets([Layer("block 1", 0.25, None, []), Layer("block 2", 1.0, 0.3, [])], no_rotations=4)
    first, second = figure.axes
    assert first.get_theta_direction() == 1  # counter-clockwise
    assert first.get_theta_offset() == pytest.approx(math.pi / 2)  # 0 is up
    angles = first.collections[0].get_paths()[0].vertices[:, 0]
    assert (angles.min(), angles.max()) == pytest.approx((-math.pi / 4, math.pi / 4))
    dots = first.collections[1].get_offsets()[:, 0]
    np.testing.assert_allclose(dots, [math.pi * 0.25 * (-1 + 2 * (i + 0.5) / 4) for i in range(4)])
    assert first.get_title() == "block 1"
    assert "θ = 0.250, ±45°" in first.get_xlabel()
    assert "p = 0.30" in second.get_xlabel()
    assert "mirror" not in first.get_xlabel()


def test_gates_are_bars_as_long_as_their_probability():
    figure = drawing.learned_subsets([Layer("conv", None, None, [1.0, 0.5, 0.0, 0.25])])
    bars = figure.axes[0].patches[4:]  # after the four empty ones behind them
    np.testing.assert_allclose([bar.get_height() for bar in bars], [1.0, 0.5, 0.0, 0.25])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    np.testing.assert_allclose(centres, [0, math.pi / 2, math.pi, 3 * math.pi / 2], atol=1e-9)


def test_a_network_that_learns_nothing_gets_a_figure_that_says_so():
    assert any("learns no subset" in text for text in texts(drawing.learned_subsets([])))
    assert any("no level is learned" in text for text in texts(drawing.levels_over_epochs([{"epoch": 0}])))


def test_levels_and_mirrors_over_epochs():
    figure = drawing.levels_over_epochs(ROWS)
    levels, mirrors = (lines(axes) for axes in figure.axes)
    np.testing.assert_allclose(levels["1"], [1.0, 0.9, 0.8, 0.7])
    np.testing.assert_allclose(levels["3"], 1.0)
    assert set(levels) == {"1", "3"}
    assert set(mirrors) == {"3"}
    figure = drawing.levels_over_epochs(ROWS, names=["a", "b", "c"])
    assert set(lines(figure.axes[0])) == {"a", "c"}
    assert len(drawing.levels_over_epochs([{"epoch": 0, "levels": [0.5]}]).axes) == 1


def test_curves_show_loss_and_percent():
    figure = drawing.curves(ROWS)
    loss, accuracy = (lines(axes) for axes in figure.axes)
    np.testing.assert_allclose(loss["train"], [2.0, 1.0, 2 / 3, 0.5])
    assert math.isnan(loss["validation"][0])
    np.testing.assert_allclose(accuracy["validation"], [0, 10, 20, 30])
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy (%)"]
    for rows in ([], ROWS[:1], [{"epoch": 0, "train/loss": 0.0}], [{"epoch": 0, "train/loss": None}]):
        assert drawing.png(drawing.curves(rows))


def test_rotation_response_is_in_degrees():
    angles = [math.radians(degree) for degree in range(-180, 181, 10)]
    values = [0.5 + 0.5 * math.cos(angle) for angle in angles]
    figure = drawing.rotation_response(angles, {"a": values, "b": values}, "6", images=list(IMAGES))
    axes = next(axes for axes in figure.axes if axes.get_xlabel())
    np.testing.assert_allclose(axes.lines[0].get_xdata(), range(-180, 181, 10))
    np.testing.assert_allclose(lines(axes)["b"], values)
    assert axes.get_xlim() == (-180, 180)
    assert "90°" in [label.get_text() for label in axes.get_xticklabels()]
    assert "6" in axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_confusion_matrix_is_percent_of_rows_and_shows_counts():
    counts = np.array([[8, 2, 0], [0, 4, 0], [0, 0, 0]])
    figure = drawing.confusion_matrix(counts, ["six", "seven", "eight"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[80, 20, 0], [0, 100, 0], [0, 0, 0]])
    assert {"8", "2", "4"} <= set(texts(figure))
    assert "85.7% correct of 14" in figure.axes[0].get_title()
    assert "12" not in texts(drawing.confusion_matrix(np.full((100, 100), 12), []))


def test_sample_sheet_shows_the_pixels_and_the_note():
    figure = drawing.sample_sheet(IMAGES, list("abcde"), note="seeded rotation, not the official files")
    assert len(figure.axes) == 5
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), np.moveaxis(IMAGES[3], 0, -1))
    assert figure.axes[3].get_title() == "d"
    assert "seeded rotation, not the official files" in texts(figure)
    assert len(drawing.sample_sheet(np.repeat(IMAGES, 20, 0), ["x"] * 100).axes) == 48


def test_bands_are_plus_minus_pi_level_with_ticks_in_multiples_of_half_pi():
    figure = drawing.subset_bands({"rotMNIST": [1.0, 0.5], "CIFAR10": [None, 0.25, 0.0]})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{MINUS}π", f"{MINUS}π/2", "0", "π/2", "π"]
    np.testing.assert_allclose(axes.get_yticks(), [-math.pi, -math.pi / 2, 0, math.pi / 2, math.pi])
    np.testing.assert_allclose(lines(axes)["rotMNIST"], [math.pi, math.pi / 2])
    np.testing.assert_allclose(lines(axes)["CIFAR10"], [math.pi, math.pi / 4, 0])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["rotMNIST", "CIFAR10"]
    assert "hollow" in axes.get_xlabel()


def test_kernels_and_activations_stand_under_their_element():
    rng = np.random.default_rng(1)
    kernels, activations = rng.normal(size=(8, 4, 3, 3)), [rng.normal(size=(4, 6, 6)) for _ in range(2)]
    inputs = {"x": rng.random((1, 6, 6)), "flip(x)": rng.random((1, 6, 6))}
    figure = drawing.kernels_and_activations("lifting", inputs, kernels, activations, list("abcd"), list("ABCDEFGH"))
    grid = np.array(figure.axes).reshape(6, 5)
    np.testing.assert_allclose(grid[1, 3].images[0].get_array(), kernels[2, 2])
    np.testing.assert_allclose(grid[5, 4].images[0].get_array(), activations[1][3])
    assert grid[0, 2].get_title() == "b"
    assert grid[5, 0].get_ylabel() == "flip(x)"


@pytest.mark.parametrize(
    ("quarters", "text"), [(0, "0"), (1, "π/4"), (3, "3π/4"), (-2, f"{MINUS}π/2"), (4, "π"), (8, "2π")]
)
def test_multiples_of_pi(quarters, text):
    assert pi_text(quarters) == text


def test_the_palette_is_told_apart_also_without_red_or_green():
    # Viénot, Brettel and Mollon 1999: linear RGB as protanopes and deuteranopes see it.
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    rgb = np.array([matplotlib.colors.to_rgb(tone) for tone in PALETTE])
    for sight in (np.eye(3), protan, deutan):
        seen = (rgb**2.2 @ sight.T).clip(0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
        assert distance.min() > 0.1


def every_figure():
    angles = [-math.pi, 0.0, math.pi]
    return [
        drawing.learned_subsets([Layer("a", 0.3, 0.5, []), Layer("b", None, None, [1, 0.5])], 4),
        drawing.levels_over_epochs(ROWS),
        drawing.curves(ROWS),
        drawing.rotation_response(angles, {"a": [0, 1, 0]}, "6", list(IMAGES)),
        drawing.confusion_matrix(np.eye(3, dtype=int), list("abc")),
        drawing.sample_sheet(IMAGES, list("abcde")),
        drawing.subset_bands({"a": [1.0, 0.5]}),
        drawing.kernels_and_activations(
            "a", {"x": IMAGES[0] / 255}, np.ones((1, 2, 3, 3)), [np.ones((2, 8, 8))], ["e", "g"]
        ),
    ]


def test_pictures_are_not_blank_and_of_sensible_size():
    for figure in every_figure():
        assert type(figure) is Figure
        pixels = drawing.pixels(drawing.png(figure))
        assert pixels.dtype == np.uint8
        assert 200 < min(pixels.shape[:2]) <= max(pixels.shape[:2]) < 2500
        assert (pixels != 255).any(axis=-1).mean() > 0.01


def test_matplotlib_is_left_as_it_was_and_the_users_style_does_not_matter():
    expected = drawing.png(drawing.curves(ROWS))
    with matplotlib.rc_context({"lines.linewidth": 9.0, "savefig.dpi": 10, "axes.facecolor": "red", "font.size": 30}):
        before = dict(matplotlib.rcParams)
        assert drawing.png(drawing.curves(ROWS)) == expected
        assert dict(matplotlib.rcParams) == before


def test_figures_are_freed():
    kept = [weakref.ref(figure) for figure in every_figure()]
    gc.collect()
    assert all(reference() is None for reference in kept)


def test_pyplot_is_never_loaded():
    code = (
        "import sys; import partial_equiv.drawing as d; "
        "d.png(d.curves([{'epoch': 0, 'train/loss': 1.0}])); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
