"""The two-sample test: rings against slow sums, moves against pixels, false alarms on symmetric sets, and power."""

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

from partial_equiv.datasets import rotate_images
from partial_equiv.datasets.digits import read_upright
from partial_equiv.datasets.mnist import read_mnist
from partial_equiv.errors import UserError
from partial_equiv.symmetry import two_sample
from partial_equiv.symmetry.two_sample import acted, area_and_p_value, moved, planar, ring_series, two_sample_test

GROUPS = ("C2", "C4", "D1", "SO2")


def digits(size=28):
    return read_upright(size)[0].mul(255).round().to(torch.uint8)


def some(images, number, seed):
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:number]]


def symmetric(images, group, seed):
    """Return the images, each moved on the pixel grid by a uniform element of the group."""
    draws = torch.Generator().manual_seed(seed)
    if group == "SO2":
        return rotate_images(images, (2 * torch.rand(len(images), generator=draws, dtype=torch.float64) - 1) * math.pi)
    if group == "D1":
        flips = torch.rand(len(images), generator=draws) < 0.5
        return torch.where(flips[:, None, None, None], images.flip(-1), images)
    step = 4 // int(group[1:])
    turns = torch.randint(int(group[1:]), (len(images),), generator=draws).tolist()
    moved_images = [torch.rot90(image, step * k, (-2, -1)) for image, k in zip(images, turns, strict=True)]
    return torch.stack(moved_images)


def pictures(number, seed):
    """Return smooth noise that reaches the frame, 32 pixels a side."""
    noise = np.random.default_rng(seed).uniform(size=(number, 1, 32, 32))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5), mode="reflect")
    return torch.from_numpy(128 + 500 * (smooth - 0.5)).clamp(0, 255).round().to(torch.uint8)


def no_rejections(upright, group, no_sets, number=200):
    sets = (symmetric(some(upright, number, seed), group, seed) for seed in range(no_sets))
    return sum(
        two_sample_test(one, group, seed=seed, no_permutations=999).p_value <= 0.05 for seed, one in enumerate(sets)
    )


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12)])
def test_rings_are_the_sums_of_the_equation(height, width):
    images = torch.randint(256, (1, 2, height, width), dtype=torch.uint8)
    half = min(height, width) / 2
    found = ring_series(images).reshape(2, 8, 12)
    for channel in range(2):
        for k, m in [(0, 1), (3, 2), (7, 5), (7, 12)]:
            radius, total = (k + 0.5) / 8 * (half - 2), 0
            for t in range(64):
                angle = 2 * math.pi * t / 64
                weights = 0, 0
                for row in range(height):
                    for column in range(width):
                        right, up = column - (width - 1) / 2, (height - 1) / 2 - row
                        apart = (right - radius * math.cos(angle)) ** 2 + (up - radius * math.sin(angle)) ** 2
                        weight = math.exp(-apart / 2)
                        value = images[0, channel, row, column].item() / 255
                        weights = weights[0] + weight * value, weights[1] + weight
                total += cmath.exp(-1j * m * angle) * weights[0] / weights[1] / 64
            assert abs(found[channel, k, m - 1] - math.sqrt(radius) * total) < 1e-6


@pytest.mark.parametrize("size", [20, 21, 28])
def test_moves_of_rings_are_moves_of_pixels(size):
    images = digits(size)[:6]
    rings = ring_series(images)
    for quarter in range(4):
        for mirror in (0, 1):
            pixels = torch.rot90(images.flip(-1) if mirror else images, quarter, (-2, -1))
            expected = acted(rings, np.full(6, quarter * math.pi / 2), np.full(6, mirror))
            assert np.abs(ring_series(pixels) - expected).max() < 2e-6


def test_a_phase_is_a_turn_by_any_angle_counter_clockwise():
    images = digits()[:20]
    turned = ndimage.rotate(images.double(), 40, axes=(-1, -2), reshape=False, order=3)
    expected = acted(ring_series(images), np.full(20, math.radians(40)), np.zeros(20, int))
    found = ring_series(torch.from_numpy(turned).clamp(0, 255).round().to(torch.uint8))
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize(("group", "order"), [("C2", 2), ("C4", 4), ("D1", 2), ("D2", 4), ("D4", 8)])
def test_each_element_but_the_identity_is_equally_likely(group, order):
    image = digits()[:1]
    elements = [torch.rot90(i, k, (-2, -1)) for i in (image, image.flip(-1)) for k in range(4)]
    candidates = ring_series(torch.cat(elements))
    rings = np.repeat(ring_series(image), 4000, 0)
    drawn = moved(rings, planar(group), np.random.default_rng(0))
    apart = np.abs(drawn[:, None] - candidates[None]).max((-2, -1))
    assert apart.min(1).max() < 2e-6
    counts = np.bincount(apart.argmin(1), minlength=8)
    assert counts[0] == 0
    seen = counts[counts > 0]
    assert len(seen) == order - 1
    assert stats.chisquare(seen).pvalue > 0.001 or order == 2


def test_turns_of_the_circle_are_uniform_and_half_of_o2_is_mirrored():
    rings = np.ones((5000, 1, 12), np.complex64) * 1j
    for group in ("SO2", "O2"):
        drawn = moved(rings, planar(group), np.random.default_rng(0))[:, 0]
        assert stats.kstest(np.angle(drawn[:, 0]) / (2 * math.pi) + 0.5, "uniform").pvalue > 0.001
        mirrored = np.abs(drawn[:, 1] - 1j * (drawn[:, 0] / 1j) ** 2) > 1e-3  # a turn alone squares its phase
        assert mirrored.mean() == pytest.approx(0.5 * (group == "O2"), abs=0.03)


@given(st.lists(st.integers(0, 9), min_size=4, max_size=30), st.randoms())
def test_the_area_is_that_of_scikit_learn(scores, draws):
    names = [0, 1] + [draws.randint(0, 1) for _ in scores[2:]]
    area, p_value = area_and_p_value(np.array(scores, float), np.array(names), np.random.default_rng(0), 9)
    assert area == pytest.approx(roc_auc_score(names, scores))
    assert p_value in [pytest.approx(k / 10) for k in range(1, 11)]


@pytest.mark.parametrize("shift", [0.0, 0.6, 1.2])
def test_the_p_value_is_that_of_mann_and_whitney(shift):
    draws = np.random.default_rng(1)
    scores, names = draws.normal(size=24), np.repeat([1, 0], 12)
    scores += shift * names
    exact = stats.mannwhitneyu(scores[:12], scores[12:], alternative="greater", method="exact").pvalue
    _, found = area_and_p_value(scores, names, draws, 20_000)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_scores_that_say_nothing_are_never_significant():
    assert area_and_p_value(np.ones(20), np.repeat([1, 0], 10), np.random.default_rng(0), 99) == (0.5, 1.0)


def test_no_image_is_in_two_parts(monkeypatch):
    seen = []

    class Recorder:
        def fit(self, features, names):
            seen.append(features)
            return self

        def decision_function(self, features):
            seen.append(features)
            return features[:, 0]

    monkeypatch.setattr("sklearn.svm.SVC", Recorder)
    monkeypatch.setattr(two_sample, "GRAIN", 0)
    images = digits()[:100]
    assert two_sample_test(images, "SO2", seed=0).no_images == 100
    halves = np.concatenate(seen).reshape(100, 8, 24)
    sizes = np.hypot(halves[..., :12], halves[..., 12:]).reshape(100, -1)  # no turn changes them
    known = np.abs(ring_series(images)).reshape(100, -1)
    nearest = np.abs(sizes[:, None] - known[None]).max(-1)
    assert sorted(nearest.argmin(1)) == list(range(100))
    assert nearest.min(1).max() < 1e-5


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("size", [20, 28])
def test_upright_digits_are_rejected(group, size):
    upright = digits(size)
    assert two_sample_test(upright, group, seed=0).p_value == 0.0001
    for seed in range(5):
        found = two_sample_test(some(upright, 200, seed), group, seed=seed)
        assert found.p_value < 0.01
        assert found.statistic > 0.8 and found.accuracy > 0.6


@pytest.mark.parametrize("group", ["C4", "D1", "SO2"])
def test_symmetric_digits_are_seldom_rejected(group):
    assert no_rejections(digits(), group, 20) <= 4  # more happens to a valid test once in 400


@pytest.mark.long
@pytest.mark.parametrize("number", [200, 1000])
@pytest.mark.parametrize("group", ["C2", "C4", "D1", "SO2"])
def test_of_a_hundred_symmetric_sets_at_most_ten_are_rejected(group, number):
    assert no_rejections(digits(), group, 100, number) <= 10


@pytest.mark.long
@pytest.mark.parametrize("group", GROUPS)
def test_upright_digits_are_always_rejected(group):
    upright = digits()
    assert all(two_sample_test(some(upright, 200, seed), group, seed=seed).p_value <= 0.05 for seed in range(100))


def test_a_subgroup_is_told_from_the_whole():
    halves, quarters = (symmetric(digits(), group, 1) for group in ("C2", "C4"))
    assert two_sample_test(halves, "C2", seed=0).p_value > 0.05
    assert two_sample_test(halves, "C4", seed=0).p_value < 0.01
    assert two_sample_test(quarters, "C4", seed=0).p_value > 0.05
    assert two_sample_test(quarters, "SO2", seed=0).p_value < 0.01


@pytest.mark.long
@pytest.mark.parametrize("name", ["MNIST", "CIFAR10"])
def test_real_images_that_were_turned_once_are_seldom_rejected(name, real_data):
    if name == "MNIST":
        images = read_mnist(str(real_data), download=False).train_images
    else:
        with np.load(real_data / "npz" / "cifar10_train_batch1.npz", allow_pickle=False) as file:
            images = torch.from_numpy(file["images"]).permute(0, 3, 1, 2)
    assert no_rejections(images, "SO2", 20, 2000) <= 4
    assert two_sample_test(images, "SO2", seed=0).p_value < 0.01


def test_turned_pictures_are_not_told_by_smoothness_or_by_the_frame(monkeypatch):
    turned = symmetric(pictures(1200, 0), "SO2", 0)
    p_values = [two_sample_test(turned, "SO2", seed=seed, no_permutations=999).p_value for seed in range(3)]
    assert min(p_values) > 0.01
    # Rings that touch the frame see the black corners of turned pictures where the frame is square.
    monkeypatch.setattr(two_sample, "RIM", 0)
    assert two_sample_test(turned, "SO2", seed=0).p_value < 0.01


def test_rounding_tells_nothing(monkeypatch):
    far = torch.hypot(*torch.meshgrid(2 * [torch.arange(20) - 9.5], indexing="ij"))
    disc = (255 * torch.sigmoid(6 - far)).to(torch.uint8).expand(400, 1, 20, 20)
    assert all(two_sample_test(disc, group, seed=0).p_value > 0.05 for group in ("C4", "D1", "D4"))
    monkeypatch.setattr(two_sample, "GRAIN", 0)
    assert two_sample_test(disc, "C4", seed=0).p_value < 0.01


def test_colour_counts_and_oblong_images_have_half_turns_and_mirrors():
    grey = symmetric(digits(), "D1", 0)[:400].repeat(1, 3, 1, 1)
    grey[:, 0] += torch.linspace(0, 60, 28).to(torch.uint8).minimum(255 - grey[:, 0])  # redder to the right
    assert two_sample_test(grey[..., 2:-2, :], "D1", seed=0).p_value < 0.01
    assert two_sample_test(grey[:, 1:, 2:-2], "D1", seed=0).p_value > 0.05


def test_equal_seeds_give_equal_results_and_only_so_many_images_are_used():
    images = digits()
    one, again, other = (two_sample_test(images, "D1", seed=seed, no_images=300) for seed in (-3, -3, 4))
    assert one == again != other
    assert one.no_images == 300
    assert two_sample_test(images, "D1", seed=0, no_images=300, no_permutations=99).p_value == 0.01


@pytest.mark.parametrize(
    ("images", "group", "why"),
    [
        (torch.zeros(60, 1, 9, 9), "C4", "takes uint8 images .*float32"),
        (torch.zeros(60, 9, 9, dtype=torch.uint8), "C4", r"\[N,C,Y,X\].*\[60, 9, 9\]"),
        (torch.zeros(60, 1, 9, 9, dtype=torch.uint8), "C4", "all 60 images are constant"),
        (digits()[:39], "C4", "at least 40 images, got 39"),
        (digits()[:60, :, :7, :7], "C4", "8 pixels a side, got 7x7"),
        (digits()[:60, :, 2:], "C4", "C4 turns 26x28 images out of their frame: crop .* C2 and D1"),
        (digits()[:60, :, 2:], "SO2", "SO2 turns 26x28"),
        (digits()[:60], "C1", "'C1' has no moves to test: give C<n>"),
        (digits()[:60], "SE2", "'SE2' has no moves"),
        (digits()[:60], "D0", "'D0' has no moves"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_one_sentence(images, group, why):
    with pytest.raises(UserError, match=why) as refused:
        two_sample_test(images, group, seed=0)
    assert "\n" not in str(refused.value)


def test_too_few_images_to_use_are_refused():
    with pytest.raises(UserError, match="no_images=10 is too few"):
        two_sample_test(digits(), "C4", seed=0, no_images=10)
