"""Gates: what they weigh, how often they open, and how their temperature falls."""

import math

import pytest
import torch

from partial_equiv.sampling import set_hard_gates, set_progress
from tests.sampling.cases import make


def subset_weights(p, sampler, case):
    """Return the weights that open shares `p` of the gates mean; the identity always counts."""
    turns = [1.0] * sampler.no_rotations if case == "E2 interval" else [1.0, *p[: sampler.no_rotations - 1]]
    return [*turns, *(turn * p[-1] for turn in turns)] if sampler.group.mirror else turns


@pytest.mark.parametrize("case", ["SE2 subset", "E2 subset", "D4 subset", "E2 interval"])
def test_gates_weigh_turns_and_the_mirrored_half(case):
    sampler = make(case).double().eval()
    with torch.no_grad():
        sampler.gates.copy_(torch.linspace(-1, 2, sampler.gates.numel()))
    p = [1 / (1 + math.exp(-2 * float(gate))) for gate in sampler.gates.detach()]
    expected = subset_weights(p, sampler, case)
    assert sampler(1).weights[0].tolist() == pytest.approx(expected)
    set_hard_gates(sampler, True)
    assert sampler(1).weights[0].tolist() == subset_weights([float(value > 0.5) for value in p], sampler, case)
    set_hard_gates(sampler, False)
    assert sampler(1).weights[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("case", ["SE2 subset", "E2 subset", "E2 interval"])
def test_gates_are_drawn_with_their_probability(case):
    sampler = make(case).train()
    with torch.no_grad():
        sampler.gates.fill_(0.25)
    share = sampler(20_000).weights[:, -1].mean().item()
    p = 1 / (1 + math.exp(-0.5))
    expected = p if case != "E2 subset" else p * p  # a mirrored turn needs its turn and the mirror
    assert abs(share - expected) < 4 * math.sqrt(0.25 / 20_000)


@pytest.mark.parametrize("case", ["SE2 subset", "E2 interval"])
def test_full_and_empty_subsets_are_reachable(case):
    sampler = make(case).train()
    for logit, expected in ((100.0, 1.0), (-100.0, 0.0)):
        sampler.gates.data.fill_(logit)
        assert torch.equal(sampler(50).weights[:, -1], torch.full((50,), expected))


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0, 1.7])
def test_progress_sets_the_temperature_and_never_inverts_a_gate(progress):
    sampler = make("E2 subset").train()
    set_progress(sampler, progress)
    assert sampler(20_000).weights[:, 1].mean().item() == pytest.approx(0.8808, abs=0.012)
    before = sampler.gates.grad
    sampler(20).weights.sum().backward()
    assert before is None and sampler.gates.grad.isfinite().all() and (sampler.gates.grad >= 0).all()
    assert "progress" not in sampler.state_dict()


def test_progress_sharpens_the_gradient():
    sampler, gradients = make("SE2 subset").train(), []
    for progress in (0.0, 0.9):
        set_progress(sampler, progress)
        sampler.zero_grad()
        sampler(2000, torch.Generator().manual_seed(0)).weights.sum().backward()
        gradients.append(float(sampler.gates.grad.std()))
    assert gradients[1] > gradients[0], "colder gates have rarer, larger gradients"
