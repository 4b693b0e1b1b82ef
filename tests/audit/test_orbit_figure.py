"""The comparison figure: the numbers that reach its axes, laws of training angles, and pixels that do not overlap."""

import math

import matplotlib
import numpy as np
import pytest
import scipy.stats

from partial_equiv import drawing
from partial_equiv.audit.law import TrainingLaw, read_law
from partial_equiv.audit.statistics import t_band
from partial_equiv.drawing import orbit_comparison
from partial_equiv.errors import UserError

ANGLES = [2 * math.pi * i / 36 for i in range(36)]
RNG = np.random.default_rng(2)
VALUES = {name: RNG.uniform(low, 0.97, (4, 36)) for name, low in (("exact", 0.9), ("approximate", 0.3))}
CURVES = {name: t_band(values) for name, values in VALUES.items()}
HEAD = ["pair", "points", "p"]


def axes_of(figure):
    left = next(axes for axes in figure.axes if axes.get_ylabel() == "accuracy (%)")
    return left, next(axes for axes in figure.axes if axes.name == "polar")


def test_curve_and_circle_show_means_in_percent_and_close_the_circle():
    left, right = axes_of(orbit_comparison(ANGLES, CURVES))
    for index, values in enumerate(VALUES.values()):
        expected = 100 * np.append(values.mean(axis=0), values[:, 0].mean())
        for axes, places in ((left, np.arange(0, 361, 10)), (right, np.radians(np.arange(0, 361, 10)))):
            np.testing.assert_allclose(axes.lines[index].get_xdata(), places, atol=1e-9)
            np.testing.assert_allclose(axes.lines[index].get_ydata(), expected)
            assert axes.lines[index].get_markevery() == [0, 9, 18, 27, 36]  # the right angles
    assert right.get_theta_direction() == 1 and right.get_theta_offset() == pytest.approx(math.pi / 2)
    assert [label.get_text() for label in right.get_xticklabels()] == ["0°", "90°", "180°", "270°"]
    assert [label.get_text() for label in left.get_xticklabels()] == ["0°", "90°", "180°", "270°", "360°"]


def test_bands_are_the_t_intervals():
    left, _ = axes_of(orbit_comparison(ANGLES, CURVES))
    values = 100 * VALUES["approximate"]
    half = scipy.stats.t.ppf(0.975, 3) * scipy.stats.sem(values)
    corners = left.collections[1].get_paths()[0].vertices
    at_40 = corners[np.isclose(corners[:, 0], 40), 1]
    assert (at_40.min(), at_40.max()) == pytest.approx((values.mean(0)[4] - half[4], values.mean(0)[4] + half[4]))
    one_seed, _ = axes_of(orbit_comparison(ANGLES, {"one": t_band(VALUES["exact"][:1])}))
    assert len(one_seed.lines[0].get_ydata()) == 37
    assert sum(len(path.vertices) for path in one_seed.collections[0].get_paths()) == 0


def test_angles_in_any_order_and_over_a_part_of_the_circle():
    turns = [math.pi / 4, 0.0, math.pi / 2]
    band = t_band(np.array([[0.5, 0.9, 0.7], [0.5, 0.9, 0.7]]))
    left, _ = axes_of(orbit_comparison(turns, {"a": band}))
    np.testing.assert_allclose(left.lines[0].get_xdata(), [0, 45, 90])
    np.testing.assert_allclose(left.lines[0].get_ydata(), [90, 50, 70])


def test_axes_begin_at_zero_unless_all_is_high():
    low, _ = axes_of(orbit_comparison(ANGLES, CURVES))
    high, circle = axes_of(orbit_comparison(ANGLES, {"exact": CURVES["exact"]}))
    assert low.get_ylim() == (0, 100)
    assert high.get_ylim() == (80, 100) and circle.get_ylim()[0] == 80
    lowest = 100 * CURVES["exact"].low.min()
    assert 80 < lowest < 95


def texts(figure):
    tables = figure.findobj(matplotlib.table.Table)
    cells = [cell.get_text().get_text() for table in tables for cell in table.get_celld().values()]
    return cells + [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_the_table_and_the_legend_say_what_is_drawn():
    rows = [HEAD, ["exact − approximate", "+20.00", "< 0.0001"]]
    figure = orbit_comparison(ANGLES, CURVES, TrainingLaw("upright"), rows, "MNIST")
    for text in [*HEAD, *rows[1], "exact", "approximate", "training angles: upright", "MNIST"]:
        assert text in texts(figure)
    assert not any("training" in text for text in texts(orbit_comparison(ANGLES, CURVES)))


@pytest.mark.parametrize(
    "law",
    [
        TrainingLaw("uniform"),
        TrainingLaw("uniform", 0.0, math.pi / 3),
        TrainingLaw("normal", math.pi / 4, math.radians(20)),
        TrainingLaw("normal", 6.2, 2.5),
    ],
)
def test_densities_are_scipys_around_the_circle(law):
    turns = np.linspace(0, 2 * math.pi, 7201)[:-1] + 1e-4
    density = law.density(turns)
    assert density.mean() * 2 * math.pi == pytest.approx(1, abs=2e-3)
    copies = [turns + 2 * math.pi * k for k in range(-9, 10)]
    if law.kind == "normal":
        expected = sum(scipy.stats.norm.pdf(copy, law.centre, law.width) for copy in copies)
    else:
        expected = sum(scipy.stats.uniform.pdf(copy, law.centre - law.width, 2 * law.width) for copy in copies)
    np.testing.assert_allclose(density, expected, atol=1e-7)


def test_laws_are_read_as_they_were_written_and_named_in_degrees():
    for law, words in (
        (TrainingLaw("upright"), "upright"),
        (TrainingLaw("uniform"), "uniform"),
        (TrainingLaw("uniform", 0.0, math.pi / 2), "uniform, 0° ± 90°"),
        (TrainingLaw("normal", math.pi / 4, math.radians(20)), "normal, 45° ± 20°"),
    ):
        assert read_law(law.to_dict()) == law and str(law) == words
    assert not TrainingLaw("upright").density(np.zeros(3)).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "cauchy"},
        {"kind": "normal", "width": 0},
        {"kind": "uniform", "width": 4},
        {"kind": "normal", "centre": "45"},
        {"kind": "normal", "std": 1},
    ],
)
def test_what_is_no_law_is_named(wrong):
    with pytest.raises(UserError, match="give"):
        read_law(wrong)


def test_the_law_is_shaded_where_it_is_dense():
    law = TrainingLaw("normal", math.pi / 2, 0.2)
    left, right = axes_of(orbit_comparison(ANGLES, CURVES, law))
    corners = left.collections[-1].get_paths()[0].vertices
    assert corners[corners[:, 1].argmax(), 0] == pytest.approx(90, abs=0.5)
    shades = right.collections[-1].get_array().ravel()
    assert 89 <= shades.argmax() <= 90 and shades.mask[180:].all()
    assert 0.25 < corners[:, 1].max() < 0.5
    _, upright = axes_of(orbit_comparison(ANGLES, CURVES, TrainingLaw("upright")))
    assert list(np.flatnonzero(~np.ma.getmaskarray(upright.collections[-1].get_array().ravel()))) == [0, 1, 358, 359]


def boxes(figure):
    """Return the boxes in pixels of legend, plots and table, as drawn."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    parts = [axes.get_tightbbox(renderer) for axes in axes_of(figure)]
    parts += [legend.get_window_extent(renderer) for legend in figure.findobj(matplotlib.legend.Legend)]
    parts += [table.get_window_extent(renderer) for table in figure.findobj(matplotlib.table.Table)]
    return [*parts, figure._suptitle.get_window_extent(renderer)]


@pytest.mark.parametrize(
    "label", ["exact", "P4, approximate (27), groups shared over channels and a long name (5 seeds)"]
)
def test_nothing_overlaps_and_the_picture_is_not_blank(label):
    curves = {f"{label} {i}": CURVES["exact"] for i in range(4)}
    rows = [["Welch's t-test", "points", "t", "df", "p"]] + [[f"{label} − {label}", "−1.00", "−2.0", "3.1", "0.1"]] * 6
    figure = orbit_comparison(ANGLES, curves, TrainingLaw("uniform"), rows)
    with drawing.style.house_style():
        found = boxes(figure)
    for i, one in enumerate(found):
        assert one.x0 > -1 and one.y0 > -1 and one.x1 < figure.bbox.x1 + 1 and one.y1 < figure.bbox.y1 + 1
        assert not any(one.padded(-1.5).overlaps(other.padded(-1.5)) for other in found[i + 1 :])
    pixels = drawing.pixels(drawing.png(figure))
    assert 500 < min(pixels.shape[:2]) <= max(pixels.shape[:2]) < 2500
    assert (pixels != 255).any(axis=-1).mean() > 0.01
