"""Samplers: what they draw, what they learn, and what they leave alone."""

import math

import pytest
import torch

from partial_equiv.errors import UserError
from partial_equiv.groups import GROUPS, make_group
from partial_equiv.sampling import (
    IntervalSampler,
    Sampler,
    SubsetSampler,
    make_sampler,
    random_draws,
    samplers,
)
from tests.sampling.cases import CASES, LEARNED, RANDOM, gated, make


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("no_sets", [1, 3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_dtypes_and_weights(case, no_sets, training, dtype):
    sampler = make(case).to(dtype).train(training)
    elements, weights, _ = sampler(no_sets)
    dimension = make_group(CASES[case][0]).dimension
    sets = no_sets if case in RANDOM and training else 1
    assert elements.shape == (sets, CASES[case][1], dimension) and elements.dtype == dtype
    assert (weights is not None) == gated(case)
    if weights is not None:
        assert weights.shape == (no_sets if training else 1, CASES[case][1]) and weights.dtype == dtype
        assert (weights >= 0).all() and (weights <= 1).all()
        assert torch.equal(weights[:, 0], torch.ones_like(weights[:, 0])), "the identity always counts fully"
        assert not training or set(weights.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_learned_is_saved(case):
    sampler = make(case)
    sampler(1)
    assert {key: tuple(value.shape) for key, value in sampler.state_dict().items()} == LEARNED.get(case, {})
    assert all((p == 1).all() for p in sampler.parameters())
    assert {name: Sampler.roles[name] for name, _ in sampler.named_parameters()} == {
        key: {"level": "levels", "gates": "gates"}[key] for key in LEARNED.get(case, {})
    }


@pytest.mark.parametrize("case", CASES)
def test_evaluation_is_deterministic_and_training_leaves_evaluation_alone(case):
    sampler = make(case).eval()
    state = torch.get_rng_state()
    first, second = sampler(2), sampler(2)
    assert torch.equal(torch.get_rng_state(), state)
    sampler.train()(2)
    third = sampler.eval()(2)
    for other in (second, third):
        assert torch.equal(first.elements, other.elements)
        assert first.weights is None or torch.equal(first.weights, other.weights)


@pytest.mark.parametrize("case", CASES)
def test_a_generator_repeats_and_leaves_the_global_one_alone(case):
    sampler = make(case).train()
    state = torch.get_rng_state()
    draws = [sampler(3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0].elements, draws[1].elements)
    if gated(case):
        assert torch.equal(draws[0].weights, draws[1].weights)
    if case in RANDOM:
        assert not torch.equal(draws[0].elements, draws[2].elements)
        assert not torch.equal(draws[0].elements[0], draws[0].elements[1]), "each set has its own offset"


@pytest.mark.parametrize("case", RANDOM)
def test_without_a_generator_the_global_one_is_used(case):
    sampler = make(case).train()
    torch.manual_seed(3)
    first = sampler(2).elements
    torch.manual_seed(3)
    assert torch.equal(first, sampler(2).elements)
    assert not torch.equal(first, sampler(2).elements)


@pytest.mark.parametrize("case", ["SE2 interval", "E2 interval", "SE2 one"])
@pytest.mark.parametrize("training", [True, False])
def test_level_zero_is_the_identity_alone(case, training):
    sampler = make(case).train(training)
    sampler.level.data.zero_()
    turns = sampler(2).elements[..., 0]
    assert not turns.any()


@pytest.mark.parametrize("case", ["SE2 interval", "E2 interval"])
def test_evaluation_spreads_all_turns_over_the_learned_interval(case):
    sampler = make(case).double().eval()
    sampler.level.data.fill_(0.3)
    n = sampler.no_rotations
    turns = sampler(1).elements[0, :, 0].tolist()
    expected = [math.pi * 0.3 * (-1 + 2 * (i + 0.5) / n) for i in range(n)]
    assert turns == pytest.approx(expected * (8 // n))


@pytest.mark.parametrize("level", [-0.2, 0.0, 0.4, 1.0, 1.3])
def test_the_level_is_clamped_with_the_gradient_of_the_identity(level):
    sampler = make("SE2 interval").double().train()
    sampler.level.data.fill_(level)
    u = float(torch.rand((1, 1), generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    turns = sampler(1, torch.Generator().manual_seed(1)).elements[0, :, 0]
    inside, steps = min(max(level, 0.0), 1.0), [math.pi * (-1 + 2 * (i + u) / 8) for i in range(8)]
    assert turns.tolist() == pytest.approx([inside * step for step in steps])
    for turn, step in zip(turns, steps, strict=True):
        (gradient,) = torch.autograd.grad(turn, sampler.level, retain_graph=True)
        assert gradient.item() == pytest.approx(step)


def test_at_level_one_a_descent_step_moves_inward():
    sampler = make("SE2 interval").double().train()
    optimiser = torch.optim.SGD(sampler.parameters(), lr=0.01)
    sampler(1).elements.square().sum().backward()
    optimiser.step()
    assert float(sampler.level.detach()) < 1


def relative_deviation(angles, no_bins=16):
    counts = torch.histc(torch.remainder(angles, 2 * math.pi), no_bins, 0, 2 * math.pi)
    return float((counts / counts.mean() - 1).abs().max())


@pytest.mark.parametrize("case", ["SE2 random", "E2 random", "SE2 interval", "E2 interval", "SE2 one"])
def test_random_full_sampling_covers_the_circle_uniformly(case):
    sampler = make(case).train()
    elements = sampler(20_000, torch.Generator().manual_seed(0)).elements
    halves = [elements[..., 0]]
    if sampler.group.mirror:
        halves = [elements[..., 0][elements[..., 1] == sign] for sign in (1.0, -1.0)]
        assert halves[0].numel() == halves[1].numel() == elements.numel() // 4
    for half in halves:
        # Every bin holds a sixteenth; 3.5 deviations of its count even if all turns of a set moved together.
        assert relative_deviation(half) < 3.5 * math.sqrt(15 / 20_000)


def test_the_test_of_coverage_sees_half_a_circle():
    angles = make("SE2 random").train()(20_000).elements[..., 0]
    assert relative_deviation(angles.remainder(math.pi)) > 0.5


def test_partial_sampling_covers_its_interval_uniformly():
    sampler = make("SE2 interval").train()
    sampler.level.data.fill_(0.5)
    turns = sampler(20_000, torch.Generator().manual_seed(0)).elements[..., 0]
    assert turns.abs().max() <= math.pi / 2 + 1e-6
    assert relative_deviation((turns + math.pi / 2) * 2) < 3.5 * math.sqrt(15 / 20_000)


@pytest.mark.parametrize(
    ("name", "number", "level", "count"),
    [
        ("SE2", 8, 1.0, 8),
        ("SE2", 8, 0.5, 4),
        ("SE2", 8, 0.5001, 5),
        ("SE2", 8, 0.01, 1),
        ("SE2", 8, 0.0, 1),
        ("SE2", 8, -2.0, 1),
        ("SE2", 8, 3.0, 8),
        ("E2", 8, 0.6, 6),
    ],
)
def test_the_published_count_is_a_ceiling(name, number, level, count):
    sampler = make_sampler(
        group=make_group(name), no_samples=number, sampling_method="random", partial_equiv=True, count="ceil"
    ).double()
    sampler.level.data.fill_(level)
    elements, weights, _ = sampler.eval()(1)
    assert elements.shape[1] == count
    assert weights is None or weights.shape == (1, count)
    n, inside = count // (1 + (name == "E2")), min(max(level, 0.0), 1.0)
    expected = [math.pi * inside * (-1 + 2 * (i + 0.5) / n) for i in range(n)]
    assert elements[0, :n, 0].tolist() == pytest.approx(expected)


def test_random_draws_is_a_context_that_restores():
    model = torch.nn.ModuleList([make("SE2 interval"), make("SE2 random"), make("E2 subset")]).eval()
    assert samplers(model) == list(model)
    fixed = [sampler(2).elements for sampler in model]
    with random_draws(model):
        assert model[0](2).elements.shape[0] == 2
        assert not torch.equal(model[1](1).elements, fixed[1])
        assert set(model[2](50).weights.unique().tolist()) == {0.0, 1.0}
        with random_draws(model):
            pass
        assert model[0].random
    with pytest.raises(RuntimeError, match="stop"), random_draws(model):
        raise RuntimeError("stop")
    for sampler, elements in zip(model, fixed, strict=True):
        assert not sampler.random and torch.equal(sampler(2).elements, elements)


@pytest.mark.parametrize("name", [name for name, group in GROUPS.items() if not group.continuous])
@pytest.mark.parametrize("partial", [True, False])
def test_random_sampling_of_a_finite_group_is_refused(name, partial):
    group = make_group(name)
    with pytest.raises(UserError, match="sampling_method=random") as caught:
        make_sampler(group=group, no_samples=1, sampling_method="random", partial_equiv=partial)
    assert "deterministic" in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("key", ["gumbel_init_temp", "gumbel_end_temp"])
@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_temperature_must_be_positive(key, value):
    with pytest.raises(UserError, match=f"{key}={value}"):
        make("SE2 subset", **{key: value})


@pytest.mark.parametrize(("name", "number"), [("E2", 7), ("C4", 5), ("SE2", 0)])
@pytest.mark.parametrize("partial", [True, False])
def test_a_wrong_number_of_samples_is_refused(name, number, partial):
    with pytest.raises(UserError, match=f"no_samples={number}"):
        make_sampler(group=make_group(name), no_samples=number, partial_equiv=partial)


def test_the_menu_of_methods():
    assert isinstance(make("SE2 interval"), IntervalSampler) and isinstance(make("E2 subset"), SubsetSampler)
    assert all(isinstance(make(case), Sampler) for case in CASES)
