"""Laws of angles: their texts, draws against scipy, membership and density against slow sums."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from partial_equiv.datasets import Law, parse_laws
from partial_equiv.datasets.law import brief, laws_of_turns
from partial_equiv.errors import UserError

ALL = [
    "none",
    "full",
    "uniform:60",
    "uniform:180",
    "normal:9",
    "normal:81",
    "cyclic:1",
    "cyclic:2",
    "cyclic:4",
    "cyclic:7",
]
MANY = torch.arange(20_000)
DEGREES = st.floats(0, 180, exclude_min=True)
LAWS = st.one_of(
    st.sampled_from([Law("none"), Law("full")]),
    st.builds(Law, st.sampled_from(["uniform", "normal"]), DEGREES),
    st.builds(Law, st.just("cyclic"), st.integers(1, 12)),
)
ANGLES = st.lists(st.floats(-20, 20), min_size=1, max_size=9)


@given(law=LAWS)
def test_a_law_is_its_text(law):
    assert Law.parse(str(law)) == law


def test_texts_are_those_of_the_option_files():
    assert [str(Law.parse(text)) for text in ALL] == ALL
    assert Law.parse("uniform:22.5") == Law("uniform", 22.5)


@pytest.mark.parametrize(
    "text",
    [
        *("", "None", "uniform", "uniform:", "uniform:0", "uniform:-5", "uniform:181", "uniform:nan", "linear:6"),
        *("normal:inf", "normal:0", "cyclic:0", "cyclic:2.5", "cyclic:361", "none:0", "full:180", 60, None),
    ],
)
def test_what_is_no_law_is_told(text):
    with pytest.raises(UserError, match=r"is no law of angles: give none, full, uniform:<bound>"):
        Law.parse(text)


def test_one_law_for_all_or_one_for_each():
    assert parse_laws("cyclic:4", 3) == (Law("cyclic", 4),) * 3
    assert parse_laws(["none", "full"], 2) == (Law("none"), Law("full"))
    with pytest.raises(
        UserError, match=r"2 laws of angles are given \(none \(class 0\), full \(class 1\)\): give one for"
    ):
        parse_laws(["none", "full"], 3)
    with pytest.raises(UserError, match="because the images have no labels"):
        parse_laws(["none", "full"], 1)
    with pytest.raises(UserError, match="is no law of angles"):
        parse_laws([60], 1)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("uniform:60", stats.uniform(-math.pi / 3, 2 * math.pi / 3)),
        ("uniform:162", stats.uniform(-0.9 * math.pi, 1.8 * math.pi)),
        ("full", stats.uniform(-math.pi, 2 * math.pi)),
        ("normal:9", stats.norm(0, math.pi / 20)),
        ("normal:81", stats.norm(0, 0.45 * math.pi)),
    ],
)
def test_draws_follow_the_law(text, distribution):
    angles = Law.parse(text).angles(MANY, seed=42, stream=0)
    assert angles.dtype == torch.float64
    assert stats.kstest(angles.numpy(), distribution.cdf).pvalue > 0.01
    wider = stats.kstest(1.1 * angles.numpy(), distribution.cdf)
    assert wider.pvalue < 1e-3  # the test would see a law that is a tenth wider


@pytest.mark.parametrize("order", [1, 2, 3, 4, 7, 8])
def test_draws_of_a_cyclic_law_are_its_elements_alike(order):
    angles = Law("cyclic", order).angles(MANY, seed=42, stream=0).numpy()
    steps = angles * order / (2 * math.pi)
    assert np.abs(steps - steps.round()).max() < 1e-12
    assert angles.min() > -math.pi and angles.max() <= math.pi
    counts = np.bincount(steps.round().astype(int) % order, minlength=order)
    assert order == 1 or stats.chisquare(counts).pvalue > 0.01


def test_quarter_turns_are_exact():
    angles = set(Law("cyclic", 4).angles(MANY, seed=0, stream=0).tolist())
    assert angles == {-math.pi / 2, 0.0, math.pi / 2, math.pi}


@pytest.mark.parametrize("text", ALL)
def test_an_angle_depends_on_seed_stream_and_position_alone(text):
    law, index = Law.parse(text), torch.tensor([5, 17_000, 5, 3])
    whole = law.angles(MANY, seed=1, stream=2)
    assert torch.equal(law.angles(index, seed=1, stream=2), whole[index])
    if text in ("none", "cyclic:1"):
        assert not whole.any()
        return
    for other in (law.angles(MANY, seed=2, stream=2), law.angles(MANY, seed=1, stream=1)):
        assert abs(np.corrcoef(whole.numpy(), other.numpy())[0, 1]) < 0.03


def test_levels():
    texts = ["none", "full", "uniform:60", "normal:9", "cyclic:4"]
    assert [Law.parse(t).level for t in texts] == pytest.approx([0, math.pi, math.pi / 3, math.pi / 20, math.pi / 2])


def distance(one, other):
    """Return the angle between two directions."""
    return abs(np.angle(np.exp(1j * (one - other))))


@settings(deadline=None)
@given(law=LAWS, angles=ANGLES, margin=st.floats(0, 1))
def test_membership_is_that_of_a_loop(law, angles, margin):
    found = law.contains(torch.tensor(angles), margin).tolist()
    for angle, member in zip(torch.tensor(angles).tolist(), found, strict=True):
        if law.kind in ("none", "cyclic"):
            order = int(law.value) or 1
            nearest, most = min(distance(angle, 2 * math.pi * k / order) for k in range(order)), margin
        else:
            nearest, most = distance(angle, 0), law.level
        if abs(nearest - most) > 1e-6:  # else rounding decides
            assert member == (nearest < most)


@pytest.mark.parametrize("text", [text for text in ALL if not text.startswith("normal")])
def test_a_law_contains_its_draws(text):
    law = Law.parse(text)
    angles = law.angles(MANY, seed=3, stream=0)
    assert law.contains(angles, 0.0).all()
    assert law.contains(angles + 4 * math.pi, 1e-6).all()


def test_two_thirds_of_a_normal_law_are_within_one_deviation():
    law = Law("normal", 20)
    assert law.contains(law.angles(MANY, seed=3, stream=0), 0.0).double().mean().item() == pytest.approx(
        0.683, abs=0.01
    )


@pytest.mark.parametrize("text", ALL)
def test_a_density_has_mass_one_and_one_value_on_the_circle(text):
    law = Law.parse(text)
    grid = (torch.arange(36_000, dtype=torch.float64) + 0.5) / 36_000 * 2 * math.pi - math.pi
    density = law.density(grid)
    assert density.mean().item() * 2 * math.pi == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(law.density(grid + 2 * math.pi), density)


def test_densities_are_those_of_slow_sums():
    angles = torch.linspace(-3, 3, 13, dtype=torch.float64)
    shifts = 2 * math.pi * np.arange(-50, 51)
    for text, centres, deviation in (
        ("normal:120", [0.0], math.radians(120)),
        ("normal:9", [0.0], math.radians(9)),
        ("none", [0.0], math.radians(3)),
        ("cyclic:4", [0.0, math.pi / 2, math.pi, -math.pi / 2], math.radians(3)),
    ):
        slow = [np.mean([stats.norm.pdf(a - c + shifts, 0, deviation).sum() for c in centres]) for a in angles.tolist()]
        assert Law.parse(text).density(angles).tolist() == pytest.approx(slow, abs=1e-12)
    assert Law("full").density(angles).tolist() == pytest.approx([1 / (2 * math.pi)] * 13)
    assert Law("uniform", 90).density(torch.tensor([0.0, 1.5, 1.6])).tolist() == pytest.approx([1 / math.pi] * 2 + [0])


def test_published_turns_as_laws():
    assert laws_of_turns(2, 0) == (Law("none"),) * 2
    assert laws_of_turns(2, 180) == (Law("full"),) * 2
    assert laws_of_turns(2, 45) == (Law("uniform", 45),) * 2
    assert laws_of_turns(2, 0, [0, 20]) == (Law("normal", 20),) * 2
    assert laws_of_turns(2, 0, [0, 0]) == (Law("none"),) * 2
    assert laws_of_turns(2, 0, [45, 20]) is None
    with pytest.raises(UserError, match="rot_interval=181 is out of range"):
        laws_of_turns(2, 181)
    with pytest.raises(UserError, match="is no normal law"):
        laws_of_turns(2, 0, [45])


def test_many_laws_in_a_few_words():
    assert brief(parse_laws("uniform:60", 10)) == "uniform:60"
    assert brief(parse_laws(["uniform:60"] * 5 + ["uniform:90"] * 5, 10)) == (
        "uniform:60 (classes 0-4), uniform:90 (classes 5-9)"
    )
    assert brief(parse_laws(["none", *(f"uniform:{18 * d}" for d in range(1, 10))], 10)) == (
        "none (class 0), uniform:18 (class 1), ..., uniform:162 (class 9)"
    )
