"""Estimates on simulated neighbourhoods whose centre, level and family are known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.errors import UserError
from partial_equiv.symmetry import FAMILIES, estimate, estimate_published, likeliest_noise, wrap
from tests.symmetry.simulated import NOISE, simulate

CORRECTED = {"centring": True, "trimming": 0.05, "signed": True, "noise_correction": True}
INTERVAL_LIKE = torch.tensor([FAMILIES.index("uniform"), FAMILIES.index("normal")])


def degrees(radians):
    return math.degrees(float(radians.mean()))


def share(found, name):
    """Return the share of neighbourhoods told to be of a family; an interval and a normal law count alike."""
    place = torch.tensor([FAMILIES.index(name)])
    return float(torch.isin(found.family, INTERVAL_LIKE if name in ("uniform", "normal") else place).float().mean())


@pytest.mark.long
@pytest.mark.parametrize("centring", [True, False])
@pytest.mark.parametrize(
    ("name", "value"), [*(("uniform", v) for v in range(18, 163, 18)), *(("normal", v) for v in range(9, 82, 9))]
)
def test_levels_are_right_on_average_about_any_centre(name, value, centring):
    poses, centres = simulate(name, value, any_centre=centring)
    found = estimate(poses, noise=NOISE, **CORRECTED | {"centring": centring})
    assert degrees(getattr(found, name)) == pytest.approx(value, rel=0.05)
    # Where an interval leaves less than the usual gap between 45 poses, nobody can tell where it is.
    if value < 162:
        assert share(found, name) >= (0.85 if (name, value) == ("normal", 81) else 0.95)
        errors = wrap(found.centre - centres).abs()
        assert degrees(errors.median()) < 0.2 * value
    if not centring:
        assert not found.centre.any()


@pytest.mark.long
@pytest.mark.parametrize("centring", [True, False])
@pytest.mark.parametrize("name", ["none", *(f"C{n}" for n in range(2, 9)), "full"])
def test_families_without_a_spread_are_told_apart(name, centring):
    poses, centres = simulate(name, no_images=1000, any_centre=centring)
    found = estimate(poses, noise=NOISE, **CORRECTED | {"centring": centring})
    assert share(found, name) >= (0.94 if name == "full" else 0.99)
    order = {"none": 1, "full": 0}.get(name) if name in ("none", "full") else int(name[1:])
    errors = wrap(order * (found.centre - centres)).abs() / max(order, 1)
    right = found.family == FAMILIES.index(name)
    assert degrees(errors[right].median()) < 1
    assert (found.centre[right].abs() <= math.pi / order + 1e-5).all() if order else not found.centre[right].any()
    expected = {"none": 0, "full": 180}.get(name, 360 / max(order, 1))
    assert degrees(found.level[right]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("centring", [True, False])
def test_intervals_and_normal_laws_of_any_width_are_told_apart(centring):
    draws = torch.rand(2, 1000, 1, generator=torch.Generator().manual_seed(0))
    widths = {"uniform": 20 + 130 * draws[0], "normal": 10 + 60 * draws[1]}
    right = []
    for name, width in widths.items():
        poses, _ = simulate(name, width, no_images=1000, any_centre=centring)
        found = estimate(poses, noise=NOISE, **CORRECTED | {"centring": centring})
        assert share(found, name) >= 0.98
        right.append(float((found.family == FAMILIES.index(name)).float().mean()))
    assert sum(right) / 2 >= 0.88 and min(right) >= 0.85, right


def test_what_is_never_turned_reads_at_most_five_degrees():
    for noise in (1, 3, 5, 8):
        poses, _ = simulate("none", noise=math.radians(noise))
        found = estimate(poses, noise=math.radians(noise), **CORRECTED)
        assert degrees(found.uniform) < 5 and degrees(found.normal) < 5 and degrees(found.level) < 0.5


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([("uniform", 60), ("normal", 30), ("none", 0), ("C3", 0)]),
    st.floats(-10, 10),
    st.integers(0, 99),
)
def test_turning_all_poses_turns_the_centre_and_nothing_else(law, angle, seed):
    poses = simulate(*law, no_images=5, seed=seed)[0].double()
    before, after = (estimate(given, noise=NOISE, **CORRECTED) for given in (poses, poses + angle))
    order = 3 if law[0] == "C3" else 1
    # The three elements of C3 leave no mean direction to count bins from: half a bin of doubt.
    tolerance = math.radians(0.5) if order == 3 else 1e-6
    assert (wrap(order * (after.centre - before.centre - angle)).abs() <= order * tolerance).all()
    assert torch.equal(after.family, before.family)
    if order == 1:
        torch.testing.assert_close(after.uniform, before.uniform, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(after.normal, before.normal, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(after.posterior, before.posterior, atol=1e-6, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(FAMILIES), st.permutations(range(12)), st.booleans())
def test_the_order_of_neighbours_and_of_images_says_nothing(name, order, centring):
    poses = simulate(name, 50, no_images=6, no_neighbours=12)[0].double()
    images = torch.tensor([4, 1, 0, 5, 2, 3])
    before = estimate(poses, noise=NOISE, **CORRECTED | {"centring": centring})
    after = estimate(poses[images][:, torch.tensor(order)], noise=NOISE, **CORRECTED | {"centring": centring})
    for name_, column in before._asdict().items():
        torch.testing.assert_close(getattr(after, name_), column[images], atol=1e-6, rtol=1e-6, msg=name_)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.one_of(st.just(0.0), st.floats(0, 1e6)),
    st.fixed_dictionaries(
        {
            name: st.booleans() if value is True else st.sampled_from([0.0, 0.05, 0.5])
            for name, value in CORRECTED.items()
        }
    ),
)
def test_estimates_are_finite_whatever_the_poses(rows, noise, switches):
    found = estimate(torch.tensor(rows), noise=noise, **switches)
    for name, column in found._asdict().items():
        assert torch.isfinite(column).all(), name
    assert ((found.uniform >= 0) & (found.uniform <= math.pi + 1e-5)).all()
    torch.testing.assert_close(found.posterior.sum(dim=-1), torch.ones(len(rows)))


@pytest.mark.parametrize("poses", [torch.full((2, 1), 2.0), torch.full((2, 45), -3.0), torch.zeros(2, 45)])
def test_one_neighbour_and_equal_poses_are_no_obstacle(poses):
    found = estimate(poses, noise=NOISE, **CORRECTED)
    assert torch.isfinite(found.level).all()
    if poses.shape[1] > 1:
        assert set(found.family.tolist()) == {FAMILIES.index("none")}
        torch.testing.assert_close(found.centre, poses[:, 0], atol=1e-3, rtol=0)


def with_strays(poses, stray_share):
    draws = torch.Generator().manual_seed(1)
    strays = math.pi * (2 * torch.rand(poses.shape, generator=draws) - 1)
    return torch.where(torch.rand(poses.shape, generator=draws) < stray_share, strays, poses)


def test_trimming_withstands_neighbours_that_do_not_belong():
    for name, value in (("none", 0), ("uniform", 36), ("C4", 0)):
        poses = with_strays(simulate(name, value)[0], 0.05)
        kept, trimmed = (estimate(poses, noise=NOISE, **CORRECTED | {"trimming": t}) for t in (0.0, 0.05))
        assert share(trimmed, name) > 0.95
        if name != "C4":
            assert abs(degrees(trimmed.uniform) - value) < 3 < abs(degrees(kept.uniform) - value)
        else:
            assert share(kept, name) < share(trimmed, name) - 0.05


def test_noise_correction_takes_the_noise_off():
    noise = math.radians(8)
    poses, _ = simulate("normal", 18, noise=noise, no_images=1000)
    with_noise, without = (estimate(poses, noise=noise, **CORRECTED | {"noise_correction": c}) for c in (False, True))
    assert degrees(with_noise.normal) == pytest.approx(math.hypot(18, 8), rel=0.05)
    assert degrees(without.normal) == pytest.approx(18, rel=0.05)
    assert degrees(without.uniform) < degrees(with_noise.uniform)


def test_absolute_values_halve_what_centring_finds():
    poses, _ = simulate("uniform", 90, any_centre=False)
    folded = estimate(poses, noise=NOISE, **CORRECTED | {"signed": False})
    assert degrees(folded.uniform) == pytest.approx(45, rel=0.05)
    assert degrees(folded.centre) == pytest.approx(45, rel=0.05)
    about_zero = estimate(poses, noise=NOISE, **CORRECTED | {"signed": False, "centring": False})
    assert degrees(about_zero.uniform) == pytest.approx(90, rel=0.05)


def test_the_estimate_beats_the_published_one():
    poses, _ = simulate("uniform", 144, any_centre=False)
    true = math.radians(144)
    ours = (estimate(poses, noise=NOISE, **CORRECTED | {"centring": False}).uniform - true).square().mean().sqrt()
    published = (estimate_published(poses, "moments_outliers") - true).square().mean().sqrt()
    assert float(ours) < 0.5 * float(published)


def test_posteriors_are_calibrated():
    """Where the estimate is 70 % to 95 % sure of an interval or of a normal law, it is right about that often."""
    draws = torch.rand(2, 1000, 1, generator=torch.Generator().manual_seed(3))
    sure, right = [], []
    for name, width in {"uniform": 20 + 130 * draws[0], "normal": 12 + 75 * draws[1]}.items():
        found = estimate(simulate(name, width, no_images=1000)[0], noise=NOISE, **CORRECTED)
        probability = found.posterior.amax(dim=-1)
        kept = (probability > 0.7) & (probability < 0.95)
        sure.append(probability[kept])
        right.append((found.family == FAMILIES.index(name))[kept].float())
    assert float(torch.cat(right).mean()) == pytest.approx(float(torch.cat(sure).mean()), abs=0.08)


@pytest.mark.parametrize(
    ("poses", "noise", "words"),
    [
        (torch.zeros(3), 0.1, r"\[3\]"),
        (torch.zeros(3, 0), 0.1, r"\[3, 0\]"),
        (torch.tensor([[0.0, math.nan]]), 0.1, "not finite"),
        (torch.zeros(1, 3), -0.1, "noise=-0.1"),
        (torch.zeros(1, 3), math.nan, "noise=nan"),
    ],
)
def test_mistakes_are_explained(poses, noise, words):
    with pytest.raises(UserError, match=words):
        estimate(poses, noise=noise, **CORRECTED)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_estimate_on_a_gpu_is_that_of_the_processor():
    poses, _ = simulate("normal", 40, no_images=50)
    for centring in (True, False):
        keys = CORRECTED | {"centring": centring}
        found, expected = estimate(poses.cuda(), noise=NOISE, **keys), estimate(poses, noise=NOISE, **keys)
        assert found.normal.is_cuda
        torch.testing.assert_close(found.normal.cpu(), expected.normal, atol=1e-2, rtol=0)
        assert float((found.family.cpu() == expected.family).float().mean()) >= 0.95


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_of_strays_that_is_none_is_refused(share):
    with pytest.raises(UserError, match="train.corrections.trimming"):
        estimate(torch.zeros(2, 5), noise=NOISE, **CORRECTED | {"trimming": share})


@pytest.mark.long
@pytest.mark.parametrize("degrees", [3, 6, 10])
def test_the_likeliest_noise_is_that_of_the_poses(degrees):
    """Laws of several widths, all blurred alike: their edges tell by how much; the estimate then reads the widths."""
    noise = math.radians(degrees)
    poses = torch.cat([simulate("uniform", bound, no_images=150, noise=noise)[0] for bound in (40, 60, 90, 120)])
    found = likeliest_noise(poses, math.radians(2), trimming=0.05)
    assert math.degrees(found) == pytest.approx(degrees, abs=2.1)
    assert likeliest_noise(poses, math.radians(14), trimming=0.05) == pytest.approx(math.radians(14))  # never below


@pytest.mark.long
@pytest.mark.parametrize(("bound", "off"), [(30, 0.3), (45, 0.15), (60, 0.1)])
def test_a_set_of_one_law_is_not_called_noise(bound, off):
    """Where every image turns by one law, nothing under much noise fits as well, and must not win."""
    poses, _ = simulate("uniform", bound, no_images=400, noise=math.radians(8))
    found = likeliest_noise(poses, math.radians(2), trimming=0.05)
    assert math.degrees(found) < 13
    levels = estimate(poses, noise=found, **CORRECTED).uniform
    assert math.degrees(levels.mean()) == pytest.approx(bound, rel=off)


def test_none_is_an_interval_of_nothing():
    """Poses that noise explains read near 0 as an interval too, where the mean bound alone would not."""
    poses, _ = simulate("none", no_images=200, noise=math.radians(10))
    found = estimate(poses, noise=math.radians(10), **CORRECTED)
    assert math.degrees(found.uniform.mean()) < 4 and math.degrees(found.normal.mean()) < 3
