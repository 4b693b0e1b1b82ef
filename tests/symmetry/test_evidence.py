"""Integrated likelihoods, against sums over hypotheses written out with the exact poses."""

import math

import numpy as np
import pytest
import torch

from partial_equiv.symmetry import FAMILIES, SYMMETRY_FAMILIES
from partial_equiv.symmetry.evidence import NO_BINS, bin_angles, bin_shares, fit, tabulate
from tests.symmetry.simulated import simulate

NOISE = math.radians(4)
STRAYS = 0.02


def by_hypotheses(family, poses, any_centre):
    """Return (log evidence, mean parameter, n-fold mean of the centre) of one neighbourhood, one by one."""
    parameters = family.parameters()
    logs, points = [], []
    for parameter in parameters:
        for centre in bin_angles().tolist() if any_centre else [0.0]:
            angles = torch.remainder(poses - centre + math.pi, 2 * math.pi) - math.pi
            density = (1 - STRAYS) * family.density(angles, parameter, NOISE) + STRAYS / (2 * math.pi)
            logs.append(float(density.log().sum()))
            points.append((float(parameter), np.exp(1j * family.order * centre)))
    weights = np.exp(np.array(logs) - max(logs))
    evidence = max(logs) + math.log(weights.mean())
    weights /= weights.sum()
    return (
        evidence,
        sum(w * p for w, (p, _) in zip(weights, points, strict=True)),
        weights @ np.array([c for _, c in points]),
    )


@pytest.mark.long
@pytest.mark.parametrize("any_centre", [True, False])
@pytest.mark.parametrize(("law", "degrees"), [("uniform", 60), ("C3", 0), ("none", 0)])
@pytest.mark.parametrize("name", ["none", "uniform", "normal", "C3", "full"])
def test_a_fit_is_the_sum_over_hypotheses(name, law, degrees, any_centre):
    poses = simulate(law, degrees, no_images=1, no_neighbours=9, noise=NOISE, any_centre=any_centre)[0].double()
    family = SYMMETRY_FAMILIES[name]
    table = tabulate(family, noise=NOISE, stray_share=STRAYS, like=poses)
    found = fit(bin_shares(poses), table, any_centre=any_centre)
    evidence, parameter, direction = by_hypotheses(family, poses[0], any_centre)
    # Densities are interpolated between bins of one degree: 0.01 nats for a pose, at 4 degrees of noise.
    assert float(found.log_evidence) == pytest.approx(evidence, abs=0.15)
    assert float(found.parameter) == pytest.approx(parameter, abs=0.01)
    if family.order and abs(direction) > 0.1:
        assert np.exp(1j * family.order * float(found.centre)) == pytest.approx(direction / abs(direction), abs=0.02)


def test_shares_count_every_pose_between_its_two_bins():
    step = 2 * math.pi / NO_BINS
    shares = bin_shares(torch.tensor([[0.0, 1.25 * step, -0.5 * step]], dtype=torch.float64))[0]
    expected = torch.zeros(NO_BINS, dtype=torch.float64)
    expected[[0, 1, 2, NO_BINS - 1]] = torch.tensor([1.5, 0.75, 0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(shares, expected)


def test_single_precision_is_enough():
    poses, _ = simulate("normal", 40, no_images=20)
    for name in FAMILIES:
        fits = []
        for given in (poses, poses.double()):
            table = tabulate(SYMMETRY_FAMILIES[name], noise=NOISE, stray_share=STRAYS, like=given)
            fits.append(fit(bin_shares(given), table, any_centre=True))
        torch.testing.assert_close(fits[0].log_evidence.double(), fits[1].log_evidence, atol=1e-2, rtol=0)
        torch.testing.assert_close(fits[0].parameter.double(), fits[1].parameter, atol=1e-3, rtol=0)
