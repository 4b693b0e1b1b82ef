"""Loss, accuracy, draws and regularisers of classification, on a toy and on real networks."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv import UserError, build
from partial_equiv.convs import ContinuousConv, GroupConv
from partial_equiv.datasets import Batch
from partial_equiv.objectives import (
    Classification,
    Record,
    Regulariser,
    monotonic_penalty,
    published_weight_decay,
    recording,
)


def make_spec(net="CKResNet", partial=True, group="SE2", no_samples=4, method="random", **net_keys):
    random = method == "random"
    return {
        "net": {
            "type": net,
            "no_hidden": 4,
            "no_blocks": 1,
            "dropout": 0.2,
            "norm": "BatchNorm",
            "block_width_factors": None,
            "pool_blocks": [],
            "dropout_blocks": [],
            "last_conv_T2": False,
            "learnable_final_pooling": False,
            "final_spatial_dim": [1, 1],
            **net_keys,
        },
        "conv": {"padding": "same", "partial_equiv": partial, "bias": True},
        "kernel": {
            "type": "SIREN",
            "no_hidden": 4,
            "no_layers": 3,
            "size": 3,
            "angle": "circle",
            "omega0": 10.0,
            "learn_omega0": False,
            "weight_norm": False,
            "norm": None,
            "activation": None,
        },
        "base_group": {
            "name": group,
            "no_samples": no_samples,
            "sampling_method": method,
            "sample_per_layer": random,
            "sample_per_batch_element": False,
            "count": "all",
            "gumbel_init_temp": 0.5,
            "gumbel_end_temp": 1e-4,
        },
        "info": {"in_channels": 1, "no_classes": 3, "size": [8, 8]},
    }


def make_batch(size=6):
    return Batch(torch.randn(size, 1, 8, 8), torch.arange(size) % 3, torch.arange(size))


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, images, generator=None):
        return self.head(images.flatten(1))


def test_a_step_is_cross_entropy_and_accuracy():
    model, batch = Toy(), make_batch()
    step = Classification(model)(batch)
    logits = model(batch.images)
    torch.testing.assert_close(step.loss, functional.cross_entropy(logits, batch.labels))
    assert float(step.metrics["accuracy"]) == float((logits.argmax(-1) == batch.labels).double().mean())
    assert step.size == 6
    assert step.loss.requires_grad
    assert not step.metrics["accuracy"].requires_grad


def test_one_draw_after_another_is_averaged_and_repeats_bit_for_bit():
    model, batch = build(make_spec()).eval(), make_batch()
    fixed, drawn = Classification(model).eval(), Classification(model, no_draws=5).eval()
    with torch.no_grad():
        first, second = drawn.scores(batch.images), drawn.scores(batch.images)
        assert torch.equal(first, second)
        assert torch.equal(fixed.scores(batch.images), fixed.scores(batch.images))
        assert not torch.allclose(first.softmax(-1), fixed.scores(batch.images).softmax(-1), atol=1e-6)
        torch.testing.assert_close(first.exp().sum(-1), torch.ones(6))
    before = torch.get_rng_state()
    drawn(batch)
    assert torch.equal(before, torch.get_rng_state())


def test_draws_are_the_mean_of_probabilities():
    class Coin(nn.Module):
        def forward(self, images, generator=None):
            return torch.randn(len(images), 3, generator=generator)

    objective = Classification(Coin(), no_draws=4).eval()
    scores = objective.scores(torch.zeros(2, 1, 8, 8))
    generator = torch.Generator().manual_seed(0x5EED)
    expected = torch.stack([torch.randn(2, 3, generator=generator).softmax(-1) for _ in range(4)]).mean(0)
    torch.testing.assert_close(scores.exp(), expected)


def test_negative_draws_are_answered():
    with pytest.raises(UserError, match="no_draws=-1"):
        Classification(Toy(), no_draws=-1)


@pytest.mark.parametrize("net", ["CKResNet", "GCNN"])
@pytest.mark.parametrize("partial", [True, False])
def test_published_weight_decay_is_the_sum_of_norms_of_this_steps_kernels(net, partial):
    model, batch = build(make_spec(net, partial)), make_batch()
    convs = [module for module in model.modules() if isinstance(module, ContinuousConv)]
    for conv in convs:
        if conv.bias is not None:
            nn.init.normal_(conv.bias)
    kernels = []
    handles = [
        conv.kernel_hook.register_forward_hook(lambda _, __, out: kernels.append(out.detach())) for conv in convs
    ]
    objective = Classification(model, regularisers={"weight_decay": Regulariser(published_weight_decay, 0.1)})
    torch.manual_seed(3)
    step = objective(batch)
    for handle in handles:
        handle.remove()
    expected = sum(float(k.double().square().sum().sqrt()) for k in kernels)
    expected += sum(float(c.bias.detach().double().norm()) for c in convs if c.bias is not None)
    assert len(kernels) == len(convs)
    assert float(step.metrics["weight_decay"]) == pytest.approx(expected, rel=1e-5)
    other = build_like(model, net, partial)
    torch.manual_seed(3)
    plain = Classification(other)(batch)
    assert float(step.loss.detach()) == pytest.approx(float(plain.loss.detach()) + 0.1 * expected, rel=1e-4)
    step.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def build_like(model, net, partial):
    other = build(make_spec(net, partial))
    other.load_state_dict(model.state_dict())
    # The first forward pass has moved the running statistics, which training mode does not read.
    return other


def test_no_hook_and_no_graph_outlives_a_step():
    model, seen = build(make_spec()), []
    objective = Classification(model, regularisers={"weight_decay": Regulariser(published_weight_decay, 0.1)})
    conv = next(module for module in model.modules() if isinstance(module, GroupConv))
    handle = conv.kernel_hook.register_forward_hook(lambda _, __, kernel: seen.append(weakref.ref(kernel)))
    step = objective(make_batch())
    handle.remove()
    step.loss.backward()
    del step
    gc.collect()
    assert seen[0]() is None
    convs = [module for module in model.modules() if isinstance(module, ContinuousConv)]
    assert not any(conv.kernel_hook._forward_hooks for conv in convs)


def test_regularisers_are_left_out_of_evaluation():
    model, batch = build(make_spec()), make_batch()
    terms = {"weight_decay": Regulariser(published_weight_decay, 0.1)}
    with torch.no_grad():
        with_terms, without = (Classification(model, regularisers=r).eval()(batch) for r in (terms, {}))
    assert torch.equal(with_terms.loss, without.loss)
    assert set(with_terms.metrics) == {"accuracy"}


def test_the_monotonic_penalty_is_its_formula():
    levels = [torch.tensor(value, requires_grad=True) for value in (0.9, 0.5, 0.7, 0.7, 0.8)]
    penalty = monotonic_penalty(Record([], [], levels))
    assert float(penalty.detach()) == pytest.approx(0.2 + 0.1)
    penalty.backward()
    assert [float(level.grad) for level in levels] == [0.0, -1.0, 1.0, -1.0, 1.0]


@pytest.mark.parametrize("net", ["CKResNet", "GCNN"])
def test_the_monotonic_penalty_walks_the_group_convolutions_of_every_network(net):
    model = build(make_spec(net, no_blocks=2))
    levels = [m.sampler.level for m in model.modules() if isinstance(m, GroupConv)]
    with torch.no_grad():
        for number, level in enumerate(levels):
            level.fill_(0.1 * (number + 1))
    objective = Classification(model, regularisers={"monotonic_decay": Regulariser(monotonic_penalty, 1.0)})
    step = objective(make_batch())
    assert float(step.metrics["monotonic_decay"]) == pytest.approx(0.1 * (len(levels) - 1), abs=1e-6)


@pytest.mark.parametrize("spec", [{"partial": False}, {"partial": True, "method": "deterministic"}])
def test_the_monotonic_penalty_is_zero_without_levels(spec):
    objective = Classification(
        build(make_spec(**spec)), regularisers={"monotonic_decay": Regulariser(monotonic_penalty, 1.0)}
    )
    assert float(objective(make_batch()).metrics["monotonic_decay"]) == 0.0


def test_recording_ends_also_when_the_network_fails():
    model = build(make_spec())
    with pytest.raises(ValueError, match="broken"), recording(model):
        raise ValueError("broken")
    assert not any(m.kernel_hook._forward_hooks for m in model.modules() if isinstance(m, ContinuousConv))


def test_what_was_learned_is_told_layer_by_layer():
    model = build(make_spec(group="E2"))
    objective = Classification(model)
    objective.set_progress(0.5)
    found = objective.learned()
    no_layers = sum(isinstance(m, GroupConv) for m in model.modules())
    assert found["levels"] == [1.0] * no_layers
    assert found["mirror"] == pytest.approx([0.8808] * no_layers, abs=1e-4)
    grid = Classification(build(make_spec(method="deterministic"))).learned()
    assert all(len(gates) == 4 for key, gates in grid.items() if key.startswith("gates/"))
