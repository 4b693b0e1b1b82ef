"""Families of laws: their densities against sampled poses and integrals, levels and borders."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from partial_equiv.symmetry import FAMILIES, SYMMETRY_FAMILIES, family_levels
from tests.symmetry.simulated import simulate

CIRCLE = torch.linspace(-math.pi, math.pi, 7201, dtype=torch.float64)


def parameter_of(name, degrees):
    """Return the parameter of a law, in double precision."""
    return torch.tensor(math.radians(degrees) if SYMMETRY_FAMILIES[name].has_spread else 1.0, dtype=torch.float64)


@pytest.mark.parametrize("noise", [0.02, 0.3, 1.0, math.pi])
@pytest.mark.parametrize("name", FAMILIES)
def test_densities_integrate_to_one_for_every_parameter(name, noise):
    family = SYMMETRY_FAMILIES[name]
    parameters = family.parameters()
    density = family.density(CIRCLE, parameters[:, None], noise)
    assert (density >= 0).all()
    masses = torch.trapezoid(density, CIRCLE, dim=-1)
    # A law of order n and large noise is cut off at 4 n radians, where it is flat: 1e-3 of its mass at most.
    assert masses.tolist() == pytest.approx([1.0] * len(parameters), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "degrees"),
    [("none", 0), ("uniform", 50), ("uniform", 175), ("normal", 20), ("normal", 80), ("C2", 0), ("C5", 0), ("full", 0)],
)
def test_a_density_is_the_law_of_simulated_poses(name, degrees):
    noise = math.radians(6)
    poses, _ = simulate(name, degrees, no_images=4000, noise=noise, any_centre=False)
    edges = np.linspace(-math.pi, math.pi, 73)
    counts, _ = np.histogram(poses.numpy(), edges)
    density = SYMMETRY_FAMILIES[name].density(CIRCLE, parameter_of(name, degrees), noise)
    cumulative = torch.cumulative_trapezoid(density, CIRCLE).numpy()[99::100]
    expected = np.diff(cumulative, prepend=0) * poses.numel()
    rare = expected < 20
    assert counts[rare].sum() < 40 * max(rare.sum(), 1)
    chi = ((counts - expected)[~rare] ** 2 / expected[~rare]).sum()
    assert stats.chi2.sf(chi, (~rare).sum()) > 1e-4


@pytest.mark.parametrize("angle", [0.0, 0.7, 0.9, 2.5, -3.1])
def test_an_interval_seen_through_noise_is_a_convolution(angle):
    bound, noise = 0.8, 0.2

    def blurred(turn):
        return sum(stats.norm.pdf(angle - turn + 2 * math.pi * j, scale=noise) for j in range(-2, 3)) / (2 * bound)

    expected = quad(blurred, -bound, bound, points=[max(-bound, min(bound, angle))])[0]
    found = SYMMETRY_FAMILIES["uniform"].density(
        torch.tensor(angle, dtype=torch.float64), torch.tensor(bound, dtype=torch.float64), noise
    )
    assert float(found) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("order", [2, 3, 8])
def test_a_cyclic_law_is_an_equal_mixture_about_its_elements(order):
    noise = 0.15
    expected = sum(
        stats.norm.pdf(CIRCLE.numpy() - 2 * math.pi * j / order, scale=noise) / order
        for j in range(-2 * order, 2 * order)
    )
    found = SYMMETRY_FAMILIES[f"C{order}"].density(CIRCLE, parameter_of(f"C{order}", 0), noise)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    assert SYMMETRY_FAMILIES[f"C{order}"].order == order


def test_an_interval_reaches_from_no_turn_to_the_full_circle():
    uniform = SYMMETRY_FAMILIES["uniform"]
    none = SYMMETRY_FAMILIES["none"].density(CIRCLE, parameter_of("none", 0), 0.1)
    torch.testing.assert_close(
        uniform.density(CIRCLE, torch.zeros((), dtype=torch.float64), 0.1), none, atol=1e-5, rtol=0
    )
    full = uniform.density(CIRCLE, parameter_of("uniform", 180), 0.1)
    torch.testing.assert_close(full, torch.full_like(full, 1 / (2 * math.pi)))
    spreads = uniform.parameters()
    assert float(spreads[0]) == 0 and float(spreads[-1]) == pytest.approx(math.pi)


def test_levels_go_by_family():
    levels = torch.tensor([[0.3, 0.2]]).expand(len(FAMILIES), 2)
    found = dict(zip(FAMILIES, family_levels(torch.arange(len(FAMILIES)), levels).tolist(), strict=True))
    expected = {"none": 0, "uniform": 0.3, "normal": 0.2, "full": math.pi} | {
        f"C{n}": 2 * math.pi / n for n in range(2, 9)
    }
    assert found == pytest.approx(expected)
    assert FAMILIES == ("none", "uniform", "normal", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "full")
