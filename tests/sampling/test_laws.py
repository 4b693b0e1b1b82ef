"""The laws of the samples against closed forms and their gradients."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import RelaxedBernoulli

from partial_equiv.sampling import gate_probability, interval_angles, relaxed_gates, temperature

LEVELS = [0.0, 1e-3, 0.3, 0.77, 1.0]


def closed_form(level, number, offset):
    return [math.pi * level * (-1 + 2 * (i + offset) / number) for i in range(number)]


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("number", [1, 4, 8])
@pytest.mark.parametrize("offset", [0.0, 0.5, 0.9])
def test_every_angle_and_its_gradient_follow_the_closed_form(level, number, offset):
    u = scalar([[offset]])
    angles = interval_angles(scalar(level), number, u)
    assert angles.shape == (1, number)
    assert angles[0].tolist() == pytest.approx(closed_form(level, number, offset))
    found = jacobian(lambda theta: interval_angles(theta, number, u)[0], scalar(level))
    assert found.tolist() == pytest.approx(closed_form(1.0, number, offset)), (
        "d r_i / d level = pi (-1 + 2 (i + u) / N)"
    )
    numeric = (
        interval_angles(scalar(level + 1e-6), number, u) - interval_angles(scalar(level - 1e-6), number, u)
    ) / 2e-6
    assert torch.allclose(found, numeric[0], atol=1e-8)


def test_the_spread_is_part_of_the_gradient():
    found = jacobian(lambda theta: interval_angles(theta, 4, scalar([[0.5]]))[0], scalar(0.5))
    assert found.max() > 2 and found.min() < -2, "a detached spread gives one number for all turns, a rigid turn"


def test_offsets_of_several_sets_give_one_row_each():
    angles = interval_angles(scalar(0.5), 3, scalar([[0.0], [0.25]]))
    assert angles[0].tolist() == pytest.approx(closed_form(0.5, 3, 0.0))
    assert angles[1].tolist() == pytest.approx(closed_form(0.5, 3, 0.25))


def test_one_level_a_set_gives_each_set_its_own_interval():
    angles = interval_angles(scalar([[0.2], [1.0]]), 3, scalar([[0.5], [0.5]]))
    assert [row.tolist() for row in angles] == [pytest.approx(closed_form(level, 3, 0.5)) for level in (0.2, 1.0)]


def test_level_one_is_the_whole_circle_and_level_zero_the_identity():
    full = interval_angles(scalar(1.0), 8, scalar([[0.5]]))[0].sort().values
    gaps = torch.cat([full, full[:1] + 2 * math.pi]).diff()
    assert torch.allclose(gaps, torch.full_like(gaps, math.pi / 4))
    assert not interval_angles(scalar(0.0), 8, scalar([[0.5]])).any()


@pytest.mark.parametrize("number", [1, 2, 8])
@pytest.mark.parametrize("level", [0.1, 0.6, 1.0])
def test_all_turns_stay_inside_the_interval_at_any_offset(number, level):
    for offset in (0.0, 0.2, 0.999):
        assert interval_angles(scalar(level), number, scalar([[offset]])).abs().max() <= math.pi * level + 1e-12


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.5), (0.25, 0.3750250), (0.5, 0.25005), (1.0, 1e-4), (1.5, 1e-4), (-1.0, 0.5)]
)
def test_the_temperature_is_linear_and_clamped(progress, expected):
    assert temperature(scalar(progress), 0.5, 1e-4).item() == pytest.approx(expected)
    assert temperature(scalar(progress), 0.5, 1e-4) == temperature(scalar(progress), 0.5, 1e-4)


def test_the_temperature_is_never_below_its_end():
    heats = torch.stack([temperature(scalar(k / 20), 0.5, 1e-4) for k in range(100)])
    assert (heats >= 1e-4 - 1e-12).all() and (heats.diff() <= 0).all()


def test_the_gate_probability_is_a_sigmoid_of_twice_the_logit():
    logits = [-100.0, -1.0, 0.0, 0.3, 1.0, 100.0]
    expected = [1 / (1 + math.exp(-2 * p)) if abs(p) < 50 else float(p > 0) for p in logits]
    assert gate_probability(scalar(logits)).tolist() == pytest.approx(expected)
    assert gate_probability(scalar(1.0)).item() == pytest.approx(0.8808, abs=1e-4)


@pytest.mark.parametrize("logit", [-1.5, -0.3, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("heat", [0.5, 1e-4])
def test_gates_open_with_their_probability_at_any_temperature(logit, heat):
    no_draws = 40_000
    noise = torch.rand(no_draws, 1, dtype=torch.float64)
    opened = relaxed_gates(scalar([logit]), noise, scalar(heat)).mean().item()
    expected = 1 / (1 + math.exp(-2 * logit))
    assert abs(opened - expected) < 4 * math.sqrt(expected * (1 - expected) / no_draws)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("heat", [0.5, 0.1, 1e-4])
def test_gates_are_exactly_zero_or_one(dtype, heat):
    gates = relaxed_gates(
        torch.randn(500, dtype=dtype), torch.rand(40, 500, dtype=dtype), torch.tensor(heat, dtype=dtype)
    )
    assert set(gates.unique().tolist()) == {0.0, 1.0}


def test_gates_survive_the_ends_of_the_noise():
    noise = torch.tensor([[0.0, 1.0 - 2**-24, 0.5]])
    logits = torch.tensor([50.0, -50.0, 3.0], requires_grad=True)
    gates = relaxed_gates(logits, noise, torch.tensor(1e-4))
    gates.sum().backward()
    assert gates.isfinite().all() and logits.grad.isfinite().all()


@pytest.mark.parametrize("heat", [0.5, 0.2])
def test_the_gradient_is_that_of_the_relaxed_bernoulli(heat, monkeypatch):
    noise = torch.rand(6, 3, dtype=torch.float64)
    ours, theirs = (scalar([-0.5, 0.2, 1.0]).requires_grad_() for _ in range(2))
    direction = torch.randn(6, 3, dtype=torch.float64)
    relaxed_gates(ours, noise, scalar(heat)).mul(direction).sum().backward()
    monkeypatch.setattr(torch, "rand", lambda *shape, **keywords: noise)  # the same noise for torch's own law
    drawn = RelaxedBernoulli(scalar(heat), probs=torch.sigmoid(2 * theirs)).rsample((6,))
    drawn.mul(direction).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-6)
    assert torch.equal(relaxed_gates(ours, noise, scalar(heat)).round(), (drawn > 0.5).double())
