"""Factorised networks in use: steps, copies, precision, what is kept in evaluation, and what regularisers see."""

import copy
import pickle

import pytest
import torch
from torch import nn

from partial_equiv import build
from partial_equiv.convs import ContinuousConv, GroupConv
from partial_equiv.datasets import Batch
from partial_equiv.objectives import Classification, Regulariser, published_weight_decay
from tests.convs.dense import Counter
from tests.nets.factorized import FACTORS, NETS, by, images_of, pairs
from tests.nets.specs import D4, E2, GCNN, INTERVAL, RANDOM, SHARED, T2, make_spec, trained
from tests.nets.test_invariance import LAST_T2

factorised = pytest.mark.parametrize("factorization", FACTORS)


# Steps, copies, precision.


EVERY = [
    *NETS.values(),
    [LAST_T2],
    [T2],
    [INTERVAL, E2],
    [SHARED],
    [{"kernel.weight_norm": True, "kernel.learn_omega0": True}],
]
every = pytest.mark.parametrize(
    ("changes", "factorization"),
    pairs(EVERY),
    ids=lambda case: case if isinstance(case, str) else "+".join(str(v) for c in case for v in c.values()),
)


@every
def test_a_step_reaches_every_parameter_and_lowers_the_loss(changes, factorization):
    model, images = build(make_spec(*changes, by(factorization))).double(), images_of(4)
    labels, optimizer = torch.tensor([0, 1, 2, 0]), torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images, generator=torch.Generator().manual_seed(0)), labels)
        loss.backward()
        if not losses:
            named = dict(model.named_parameters())
            dead = [name for name, p in named.items() if p.grad is None or not p.grad.isfinite().all()]
            assert not dead
            kernels = [name for name in named if "kernel.readout" in name]
            assert len(kernels) >= 10 and all(named[name].grad.any() for name in kernels)
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]


@every
def test_copies_of_a_used_network_give_its_logits(changes, factorization):
    model, images = trained(*changes, by(factorization)), images_of(2)
    with torch.no_grad():
        expected = model(images)
        fresh = build(make_spec(*changes, by(factorization))).double().eval()
        fresh.load_state_dict(model.state_dict())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
            assert torch.equal(twin(images), expected)
        largest = expected.abs().max().item()
        assert torch.allclose(model.float()(images.float()).double(), expected, atol=1e-2 * largest)
        assert torch.allclose(model.double()(images), expected, atol=1e-4 * max(largest, 1))
        assert torch.allclose(model(images[:1]), model(images)[:1], atol=1e-10), "an image does not see its neighbours"


@factorised
@pytest.mark.parametrize("changes", [[], [D4], [GCNN, RANDOM]])
def test_bfloat16_gives_nearly_the_same(changes, factorization):
    model, images = trained(*changes, by(factorization)).float(), images_of(4).float()
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(images)
    assert found.isfinite().all()
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(images).float().square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


# What is kept in evaluation.


@factorised
@torch.no_grad()
def test_frozen_kernels_are_evaluated_once_and_anew_when_something_changes(factorization):
    model, images = trained(INTERVAL, by(factorization)), images_of(2)
    counter, conv = Counter(model), model.blocks[1].conv1
    first = model(images)
    assert counter.take() > 0
    assert torch.equal(model(images), first) and counter.take() == 0
    changes = {
        "the kernel on the group": lambda: conv.kernel.readout.weight.data.mul_(1.5),
        "the kernel on the plane": lambda: conv.spatial_kernel.readout.bias.add_(0.3),
        "its first layer": lambda: conv.spatial_kernel.layers[0].linear.weight.mul_(0.9),
        "a level": lambda: conv.sampler.level.fill_(0.7),
        "the lifting": lambda: (
            model.lifting.channels if factorization == "gc" else model.lifting.kernel.readout.bias
        ).add_(0.2),
    }
    for what, change_it in changes.items():
        change_it()
        found = model(images)
        assert counter.take() > 0 or (what == "the lifting" and factorization == "gc"), what
        assert not torch.allclose(found, first, atol=1e-6), what
        twin = build(make_spec(INTERVAL, by(factorization))).double().eval()
        twin.load_state_dict(model.state_dict())
        assert torch.equal(found, twin(images)), f"{what}: a stale kernel"
        first = found


@factorised
def test_nothing_is_kept_while_something_is_learned(factorization):
    model, images = trained(by(factorization)), images_of(2)
    counter = Counter(model)
    for training in (True, False):
        counts = []
        for _ in range(2):
            model.train(training)(images).sum().backward()
            counts.append(counter.take())
        assert counts[0] == counts[1] > 0


# Regularisers.


@factorised
@pytest.mark.parametrize("net", [[], [GCNN]])
def test_published_weight_decay_reaches_both_factors(factorization, net):
    """The term alone, cross entropy taken away: every kernel gets a gradient, and larger kernels a larger term."""
    model = build(make_spec(*net, RANDOM, by(factorization)))
    objective = Classification(model, regularisers={"weight_decay": Regulariser(published_weight_decay, 1.0)})
    batch = Batch(images_of(3).float(), torch.arange(3), torch.arange(3))

    def term():
        torch.manual_seed(3)
        step = objective(batch)
        plain = Classification(copy.deepcopy(model))
        torch.manual_seed(3)
        return step.loss - plain(batch).loss.detach(), step.metrics["weight_decay"].item()

    _, before = term()
    assert before > 0
    seen = []
    convs = [module for module in model.modules() if isinstance(module, ContinuousConv)]
    handles = [conv.kernel_hook.register_forward_hook(lambda _, __, out: seen.append(out)) for conv in convs]
    torch.manual_seed(3)
    objective(batch)
    for handle in handles:
        handle.remove()
    biases = sum(conv.bias.norm().item() for conv in convs if conv.bias is not None)
    assert before == pytest.approx(sum(kernel.norm().item() for kernel in seen) + biases, rel=1e-5)
    sum(kernel.norm() for kernel in seen).backward()
    for name, parameter in model.named_parameters():
        if "kernel.readout" in name or name.endswith("channels"):
            assert parameter.grad.any(), name
    for conv in convs:
        if isinstance(conv, GroupConv):
            for kernel in (conv.kernel, conv.spatial_kernel):
                kernel.readout.weight.data.mul_(3)
                kernel.readout.bias.data.mul_(3)
                _, after = term()
                assert after > before * 1.01
                before = after
