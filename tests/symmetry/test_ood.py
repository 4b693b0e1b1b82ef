"""Scores of poses that the data does not show."""

import math

import pytest
import torch

from partial_equiv.datasets import Law
from partial_equiv.symmetry import FAMILIES, SYMMETRY_FAMILIES, negative_log_density, ood_score

CIRCLE = torch.linspace(-math.pi, math.pi, 1001)
ANGLES = CIRCLE[1:-1]  # both sides of half a turn are one angle
LAWS = ["none", "uniform:60", "uniform:162", "normal:27", "cyclic:2", "cyclic:5", "full"]


def known(law):
    """Return level and family of every angle, as they would be read without error."""
    name = f"C{law.value:g}" if law.kind == "cyclic" else law.kind
    return torch.full_like(ANGLES, law.level), torch.full(ANGLES.shape, FAMILIES.index(name))


@pytest.mark.parametrize("text", LAWS)
def test_a_score_above_zero_is_what_the_law_does_not_contain(text):
    law, margin = Law.parse(text), math.radians(5)
    score = ood_score(ANGLES, *known(law), margin=margin)
    clear = score.abs() > 1e-5
    assert ((score > 0) == ~law.contains(ANGLES, margin))[clear].all()
    assert clear.float().mean() > 0.98
    torch.testing.assert_close(ood_score(ANGLES + 2 * math.pi, *known(law), margin=margin), score, atol=1e-5, rtol=0)


def test_scores_are_distances():
    family = torch.tensor([FAMILIES.index(name) for name in ("none", "uniform", "normal", "C4", "full")])
    pose, level = torch.full((5,), math.radians(-100)), torch.full((5,), math.radians(30))
    found = torch.rad2deg(ood_score(pose, level, family, margin=math.radians(5)))
    assert found[:4].tolist() == pytest.approx([95, 70, 70, 5], abs=1e-3)
    assert float(found[4]) < 0


def test_without_a_family_every_law_is_an_interval_as_published():
    pose, level = torch.tensor([0.5, -0.5, 3.0]), torch.tensor([0.4, 0.6, 0.0])
    torch.testing.assert_close(ood_score(pose, level, margin=1.0), pose.abs() - level)


@pytest.mark.parametrize("text", LAWS)
def test_the_log_density_is_that_of_the_family_with_noise_and_strays(text):
    law, noise = Law.parse(text), 0.1
    level, family = known(law)
    found = negative_log_density(ANGLES, level, family, noise=noise)
    member = SYMMETRY_FAMILIES[FAMILIES[int(family[0])]]
    parameter = level if law.kind in ("uniform", "normal") else torch.ones_like(level)
    expected = -torch.log(0.98 * member.density(ANGLES, parameter, noise) + 0.02 / (2 * math.pi))
    torch.testing.assert_close(found, expected)
    densities = torch.nn.functional.pad((-found).exp()[None], (1, 1), mode="replicate")[0]
    assert float(torch.trapezoid(densities, CIRCLE)) == pytest.approx(1, abs=0.005)
