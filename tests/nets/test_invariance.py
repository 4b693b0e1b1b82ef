"""Logits: invariant to what the layers cover, and to nothing else; evaluations repeat bit for bit."""

import copy
import pickle

import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.nets import learned_subsets
from partial_equiv.sampling import random_draws, samplers, set_hard_gates, set_progress
from tests.nets.specs import D4, E2, GCNN, INTERVAL, PER_IMAGE, RANDOM, SHARED, SUBSET, T2, make_spec, trained

EXACT, BROKEN = 1e-10, 1e-3
AUGERINO = {**SHARED, "net.type": "AugerinoCKResNet"}
AUGERINO_GCNN = {**SHARED, "net.type": "AugerinoGCNN", "net.pool_blocks": [1]}
LAST_T2, LAYER_NORM = {"net.last_conv_T2": True}, {"net.norm": "LayerNorm"}
POOLED = {"net.learnable_final_pooling": True}
TURNS = {k: lambda x, k=k: torch.rot90(x, k, dims=(-2, -1)) for k in (1, 2, 3)}
FLIPS = {"columns": lambda x: x.flip(-1), "rows": lambda x: x.flip(-2)}
NETS = {
    "SE2": [],
    "C4": [{"base_group.name": "C4"}],
    "SE2 8": [{"base_group.no_samples": 8}],
    "SE2 random": [RANDOM],
    "SE2 shared": [SHARED],
    "SE2 partial at level 1": [INTERVAL],
    "E2": [E2],
    "D4": [D4],
    "E2 random": [E2, RANDOM],
    "SE2 LayerNorm": [LAYER_NORM],
    "GCNN SE2": [GCNN],
    "GCNN D4": [GCNN, D4],
    "GCNN valid": [GCNN, {"conv.padding": "valid", "net.pool_blocks": [2]}],
    "SE2 MAGNet": [{"kernel.type": "MAGNet"}],
    "SE2 full": [{"kernel.size": "full", "net.pool_blocks": [2]}, GCNN],
    "Augerino SE2": [AUGERINO],
    "Augerino E2": [AUGERINO, E2],
    "Augerino GCNN": [AUGERINO_GCNN],
}
MIRRORED = [name for name in NETS if "E2" in name.split() or "D4" in name.split()]


@torch.no_grad()
def change(model, move, side=12):
    """Return how much the logits move under a transformation of the images, relative to their spread."""
    images = torch.randn(3, 2, side, side, dtype=torch.float64)
    logits, other = model(images), model(move(images))
    return ((logits - other).abs().max() / logits.std()).item()


def opened(model):
    """Open every gate, so that the mirrored half counts fully."""
    for sampler in samplers(model):
        if sampler.gates is not None:
            sampler.gates.data.fill_(100.0)
    return model


@pytest.mark.parametrize("name", NETS)
def test_logits_are_invariant_to_right_turns(name):
    model = trained(*NETS[name])
    assert max(change(model, move) for move in TURNS.values()) < EXACT


@pytest.mark.parametrize("name", MIRRORED)
def test_logits_are_invariant_to_flips_where_the_group_has_them(name):
    model = opened(trained(*NETS[name]))
    assert max(change(model, move) for move in (*FLIPS.values(), *TURNS.values())) < EXACT


@pytest.mark.parametrize("name", [name for name in NETS if name not in MIRRORED])
def test_logits_see_flips_where_the_group_has_none(name):
    model = trained(*NETS[name])
    assert min(change(model, move) for move in FLIPS.values()) > BROKEN


@pytest.mark.parametrize(
    "changes",
    [[T2], [T2, GCNN], [{"base_group.no_samples": 1}], [{"base_group.name": "D1", "base_group.no_samples": 2}]],
)
def test_a_network_without_turns_sees_turns(changes):
    assert min(change(trained(*changes), move) for move in TURNS.values()) > BROKEN


def test_a_grid_of_two_sees_quarter_turns_only():
    model = trained({"base_group.no_samples": 2})
    assert change(model, TURNS[2]) < EXACT
    assert min(change(model, TURNS[1]), change(model, TURNS[3])) > BROKEN


@pytest.mark.parametrize("changes", [[INTERVAL], [INTERVAL, E2], [INTERVAL, GCNN], [AUGERINO]])
def test_a_level_below_one_breaks_the_invariance(changes):
    model = opened(trained(*changes))
    assert change(model, TURNS[1]) < EXACT
    learned = [sampler for sampler in samplers(model) if sampler.level is not None]
    learned[-1].level.data.fill_(0.5)
    assert change(model, TURNS[1]) > BROKEN


@pytest.mark.parametrize("changes", [[SUBSET], [SUBSET, E2], [SUBSET, D4], [INTERVAL, E2]])
def test_a_closed_gate_breaks_the_invariance(changes):
    model = opened(trained(*changes))
    moves = [*TURNS.values(), *(FLIPS.values() if len(changes) > 1 else [])]
    assert max(change(model, move) for move in moves) < EXACT
    samplers(model)[-1].gates.data[-1] = -1.0
    assert max(change(model, move) for move in moves) > BROKEN


def test_a_learned_pooling_is_not_invariant():
    assert change(trained(POOLED), TURNS[1]) > BROKEN


@pytest.mark.parametrize("changes", [[LAST_T2], [LAST_T2, E2], [LAST_T2, INTERVAL, E2]])
def test_a_last_convolution_on_the_plane_sees_turns_while_what_it_reads_turns_along(changes):
    """The mean over elements turns with the image; the plain kernel that follows does not."""
    model, seen = opened(trained(*changes)), []
    model.last_conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.randn(3, 2, 12, 12, dtype=torch.float64)
    for move in [*TURNS.values(), *(FLIPS.values() if len(changes) > 1 else [])]:
        seen.clear()
        with torch.no_grad():
            logits, other = model(images), model(move(images))
        assert seen[0].values.shape[2] == seen[0].elements.shape[1] == 1 and seen[0].weights is None
        assert torch.allclose(move(seen[0].values), seen[1].values, atol=EXACT)
        assert (logits - other).abs().max() > BROKEN * logits.std()
        if len(changes) > 1:
            assert seen[0].elements[0, 0].tolist() == [0.0, 1.0], "the identity of E2 has mirror +1"


EVERY = [
    [],
    [E2],
    [T2],
    [RANDOM],
    [SHARED],
    [INTERVAL],
    [INTERVAL, E2],
    [SUBSET],
    [SUBSET, E2],
    [SUBSET, T2],
    [PER_IMAGE],
    [PER_IMAGE, INTERVAL, E2],
    [LAST_T2],
    [POOLED],
    [GCNN, INTERVAL],
    [GCNN, SUBSET, D4],
    [AUGERINO],
    [AUGERINO, E2],
    [AUGERINO_GCNN],
    [LAYER_NORM, INTERVAL, E2],
    [{"kernel.type": "MLP", "kernel.norm": "BatchNorm"}, INTERVAL],
    [{"kernel.type": "SIREN", "kernel.weight_norm": True, "kernel.learn_omega0": True}, INTERVAL],
    [{"kernel.size": "same", "net.pool_blocks": [1]}],
    [INTERVAL, {"base_group.count": "ceil"}],
]
every = pytest.mark.parametrize(
    "changes", EVERY, ids=lambda changes: "+".join(str(v) for c in changes for v in c.values())
)


@every
def test_two_evaluations_agree_bit_for_bit(changes):
    model, images = trained(*changes), torch.randn(3, 2, 12, 12, dtype=torch.float64)
    state = torch.get_rng_state()
    with torch.no_grad():
        logits = [model(images), model(images)]
    with_gradient = model(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert logits[0].shape == (3, 3) and logits[0].isfinite().all()
    assert torch.equal(logits[0], logits[1]) and torch.allclose(logits[0], with_gradient, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(model(images[:1]), logits[0][:1], atol=1e-10), "an image does not see its neighbours"


@every
def test_copies_of_a_used_network_give_its_logits(changes):
    model, images = trained(*changes), torch.randn(2, 2, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
        fresh = build(make_spec(*changes)).double().eval()
        fresh.load_state_dict(model.state_dict())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
            assert torch.equal(twin(images), expected)
        assert torch.allclose(model.float()(images.float()).double(), expected, atol=1e-2 * expected.abs().max().item())
        assert torch.allclose(model.double()(images), expected, atol=1e-4)


@every
def test_a_step_reaches_every_parameter(changes):
    model, images = build(make_spec(*changes)).double(), torch.randn(4, 2, 12, 12, dtype=torch.float64)
    set_progress(model, 0.0)
    torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 0])).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not dead
    levels = [p for name, p in model.named_parameters() if name.endswith("level")]
    # At the published count a set of one turn may be the identity alone; otherwise every level is alive at 1.
    assert all(p.grad.item() != 0 for p in levels)


@every
def test_a_generator_repeats_a_training_pass(changes):
    model, images = build(make_spec(*changes)).double().train(), torch.randn(4, 2, 12, 12, dtype=torch.float64)
    state = torch.get_rng_state()
    with torch.no_grad():
        logits = [model(images, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state), "dropout is 0: nothing else draws"
    assert torch.equal(logits[0], logits[1])
    drawn = "base_group.sampling_method" in {k for c in changes for k in c} or any(c is SUBSET for c in changes)
    assert torch.equal(logits[0], logits[2]) != (drawn and T2 not in changes)


def test_random_draws_in_evaluation_differ_and_average():
    model, images = trained(INTERVAL), torch.randn(2, 2, 12, 12, dtype=torch.float64)
    with torch.no_grad(), random_draws(model):
        first, second = model(images), model(images)
    with torch.no_grad():
        assert not torch.allclose(first, second)
        assert torch.equal(model(images), model(images))


def test_hard_gates_threshold_at_one_half():
    model, images = trained(SUBSET, E2), torch.randn(2, 2, 12, 12, dtype=torch.float64)
    for index, sampler in enumerate(samplers(model)):
        if sampler.gates is not None:
            sampler.gates.data.copy_(torch.tensor([0.4, -0.3, 0.01, (-1) ** index * 0.2]))
    with torch.no_grad():
        soft = model(images)
        set_hard_gates(model, True)
        thresholded = model(images)
        set_hard_gates(model, False)
        assert torch.equal(model(images), soft) and not torch.allclose(soft, thresholded, atol=1e-3)
        for sampler in samplers(model):
            if sampler.gates is not None:
                sampler.gates.data.copy_(torch.where(sampler.gates > 0, 1000.0, -1000.0))
        assert torch.allclose(model(images), thresholded, atol=1e-12)


def test_learned_subsets_are_told_layer_by_layer():
    layers = ["blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "last_conv"]
    assert learned_subsets(build(make_spec())) == learned_subsets(build(make_spec(RANDOM))) == []
    model = build(make_spec(INTERVAL))
    model.blocks[1].conv1.sampler.level.data.fill_(0.3)
    model.last_conv.sampler.level.data.fill_(1.2)
    found = learned_subsets(model)
    assert [row.name for row in found] == layers
    assert [row.level for row in found] == pytest.approx([1, 1, 0.3, 1, 1])
    assert all(row.mirror is None and row.gates == [] for row in found)
    start = 0.8807970779778823
    found = learned_subsets(build(make_spec(INTERVAL, E2)))
    assert [row.level for row in found] == [1.0] * 5
    assert [row.mirror for row in found] == pytest.approx([start] * 5) and all(row.gates == [] for row in found)
    found = learned_subsets(build(make_spec(SUBSET, E2)))
    assert all(row.level is None and row.mirror == pytest.approx(start) for row in found)
    assert all(row.gates == pytest.approx([1, start, start, start]) for row in found)
    found = learned_subsets(build(make_spec(SUBSET)))
    assert all(row.mirror is None and row.gates == pytest.approx([1, start, start, start]) for row in found)
    (row,) = learned_subsets(build(make_spec(AUGERINO, E2)))
    assert (row.name, row.level, row.mirror) == ("sampler", 1.0, pytest.approx(start))


def test_an_impossible_network_leaves_no_half_built_one():
    with pytest.raises(UserError):
        build(make_spec({"net.norm": "Batchnorm"}))
