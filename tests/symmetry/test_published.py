"""The published estimators: slow loops from their formulas, and the numbers known of them."""

import math

import pytest
import torch

from partial_equiv.errors import UserError
from partial_equiv.symmetry import PUBLISHED_ESTIMATORS, cyclic_order_published, estimate_published
from tests.symmetry.simulated import simulate

NAMES = list(PUBLISHED_ESTIMATORS)


def slowly(row, name):
    """Return the estimate of one list of poses, step by step."""
    values = [abs(pose) for pose in row]
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    if name.endswith("outliers") and name != "gaussian_no_outliers":
        values = [0.0 if v > mean + 2 * deviation else v for v in values]
    if name == "moments":
        return 2 * mean
    if name == "moments_outliers":
        return 2 * sum(values) / sum(v != 0 for v in values)
    if name.startswith("mle"):
        return max(values)
    centre = sum(values) / len(values)
    deviation = math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))
    return deviation / math.sqrt(1 - 2 / math.pi) if "half_normal" in name else deviation


@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_is_its_formula(name):
    poses, _ = simulate("normal", 30, no_images=20, no_neighbours=12, any_centre=False)
    poses[:5, 0] = 3.0  # outliers
    expected = [slowly(row, name) for row in poses.tolist()]
    assert estimate_published(poses, name).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "family", "value", "noise", "degrees", "tolerance"),
    [
        ("moments_outliers", "none", 0, 5, 7.3, 0.1),
        ("moments_outliers", "none", 0, 8, 11.6, 0.15),
        ("mle_outliers", "uniform", 36, 5, 37.9, 0.3),
        ("mle_outliers", "uniform", 36, 8, 39.8, 0.5),
        ("gaussian_half_normal", "normal", 36, 0, 35.7, 0.3),
        ("gaussian_half_normal", "normal", 81, 0, 74.4, 0.6),
        ("gaussian_half_normal_outliers", "normal", 9, 0, 7.6, 0.1),
        ("gaussian_half_normal_outliers", "normal", 36, 0, 30.6, 0.3),
        ("gaussian_half_normal_outliers", "normal", 81, 0, 67.8, 0.6),
        ("gaussian", "normal", 36, 0, 0.6 * 36, 0.3),
    ],
)
def test_the_known_biases_are_kept(name, family, value, noise, degrees, tolerance):
    poses, _ = simulate(family, value, no_images=4000, noise=math.radians(noise), any_centre=False)
    assert math.degrees(float(estimate_published(poses, name).mean())) == pytest.approx(degrees, abs=tolerance)


def test_the_moments_are_unbiased_and_spread_by_a_twelfth():
    poses, _ = simulate("uniform", 100, no_images=4000, noise=0.0, any_centre=False)
    levels = estimate_published(poses, "moments")
    assert math.degrees(float(levels.mean())) == pytest.approx(100, abs=0.5)
    assert math.degrees(float(levels.std())) == pytest.approx(8.6, abs=0.3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("poses", [torch.zeros(3, 45), torch.full((3, 1), 0.4), torch.full((2, 5), -3.0)])
def test_levels_are_finite_and_zero_where_all_poses_are(name, poses):
    levels = estimate_published(poses, name)
    assert torch.isfinite(levels).all() and levels.shape == poses.shape[:1]
    assert poses.any() or not levels.any()


@pytest.mark.parametrize("name", NAMES)
def test_signs_are_dropped(name):
    poses, _ = simulate("normal", 30, no_images=50)
    assert torch.equal(estimate_published(poses, name), estimate_published(poses.abs(), name))


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(UserError, match="moments_outliers"):
        estimate_published(torch.zeros(1, 5), "moment_outliers")


def order_slowly(row, no_orders=8):
    """Return the order of one list of poses by the rule of least divergence, bin by bin."""

    def place(degrees):
        return min(max(math.floor(degrees + 180), 0), 359)

    histogram = [1e-10] * 360
    for pose in row:
        histogram[place(abs(pose) * 180 / math.pi)] += 1 / len(row)
    divergences = []
    for n in range(1, no_orders + 1):
        model = [1e-10] * 360
        for j in range(n):
            degrees = 360 * j / n
            for end in (-180, 180) if degrees == 180 else (degrees if degrees < 180 else degrees - 360,):
                model[place(end)] += (0.5 if degrees == 180 else 1) / n
        divergences.append(sum(h * math.log(h / q) for h, q in zip(histogram, model, strict=True)))
    return 1 + divergences.index(min(divergences))


def test_the_cyclic_order_is_that_of_least_divergence():
    poses = torch.cat(
        [
            simulate(f"C{n}", no_images=4, noise=math.radians(s), any_centre=False)[0]
            for n in range(1, 9)
            for s in (1, 6)
        ]
    ).double()
    found = cyclic_order_published(poses)
    assert found.dtype == torch.int64
    assert found.tolist() == [order_slowly(row) for row in poses.tolist()]
    assert cyclic_order_published(poses, no_orders=3).max() == 3


def test_cyclic_orders_are_found_at_one_degree_of_noise_and_mostly_at_three():
    for degrees, least in ((1, 0.997), (3, 0.94)):
        right = []
        for n in range(1, 9):
            poses, _ = simulate(f"C{n}", no_images=1000, noise=math.radians(degrees), any_centre=False)
            right.append(float((cyclic_order_published(poses) == n).float().mean()))
        assert min(right) >= least, (degrees, right)
