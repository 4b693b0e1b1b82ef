"""Weights of elements: an element of weight 0 equals its removal, in every norm and readout."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv.convs import (
    NORMS,
    BatchNorm,
    GroupFeatureMap,
    LayerNorm,
    element_mean,
    instance_norm,
    max_readout,
    mean_readout,
    spatial_max_pool,
)
from partial_equiv.groups import make_group
from partial_equiv.sampling import Sample
from tests.convs.loops import make_convs, random_elements, random_map

KEPT = [0, 2, 3]


@pytest.fixture(params=[1, 2], ids=["one set", "a set per image"])
def f(request):
    """Return features of 5 elements, of which the weights keep three."""
    weights = torch.zeros(request.param, 5, dtype=torch.float64)
    weights[:, KEPT] = 1
    return random_map(make_group("E2"), number=5, channels=3, no_sets=request.param, weights=weights)


def removed(f):
    return GroupFeatureMap(f.values[:, :, KEPT], f.elements[:, KEPT])


def spread(f):
    """Return the map with weights strictly between 0 and 1."""
    return f._replace(weights=torch.rand_like(f.weights) * 0.9 + 0.05)


def fresh_norm(kind):
    norm = NORMS[kind](3).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


@pytest.mark.parametrize("kind", ["group", "pointwise"])
def test_convolutions_do_not_see_a_removed_element(f, kind):
    conv = make_convs("E2", 6, channels=(3, 2))[kind]
    sample = Sample(random_elements(conv.group, 1, 4))
    assert torch.allclose(conv.at(f, sample).values, conv.at(removed(f), sample).values, atol=1e-12)


def test_a_layer_that_keeps_its_elements_keeps_their_weights(f):
    conv = make_convs("E2", 6, channels=(3, 2))["group"]
    assert torch.equal(conv(f).weights, f.weights)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_norms_do_not_see_a_removed_element(f, kind, training):
    norm = fresh_norm(kind).train(training)
    found, expected = norm(f), norm(removed(f))
    assert torch.allclose(found.values[:, :, KEPT], expected.values, atol=1e-10)
    assert found.weights is f.weights


def test_running_statistics_do_not_see_a_removed_element(f):
    first, second = fresh_norm("BatchNorm"), fresh_norm("BatchNorm")
    for _ in range(3):
        first(f)
        second(removed(f))
    assert torch.allclose(first.norm.running_mean, second.norm.running_mean, atol=1e-12)
    assert torch.allclose(first.norm.running_var, second.norm.running_var, rtol=1e-9)
    assert first.norm.num_batches_tracked == second.norm.num_batches_tracked == 3


def test_instance_norm_does_not_see_a_removed_element(f):
    found, expected = instance_norm(f).values[:, :, KEPT], instance_norm(removed(f)).values
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("readout", [max_readout, mean_readout, element_mean])
def test_readouts_do_not_see_a_removed_element(f, readout):
    f = f.map(torch.relu)
    assert torch.allclose(readout(f), readout(removed(f)), atol=1e-12)


def weighted_statistics(values, weights):
    """Return mean and variance, element by element, of values [n] that count by weights [n]."""
    total = sum(weights)
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
    return mean, sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / total


def naive_norm(f, groups, eps):
    """Return the values normalised over entries of one label in `groups`, each entry counted by its weight."""
    weights = f.weights[:, None, :, None, None].expand_as(f.values)
    out = torch.empty_like(f.values)
    for label in groups.unique():
        chosen = groups == label
        mean, variance = weighted_statistics(f.values[chosen].tolist(), weights[chosen].tolist())
        out[chosen] = (f.values[chosen] - mean) / (variance + eps) ** 0.5
    return out


def labels_of(values, axes):
    """Return for each entry the number of its group: entries that agree on `axes` share one."""
    shape = [values.shape[axis] if axis in axes else 1 for axis in range(5)]
    return torch.arange(int(torch.tensor(shape).prod())).reshape(shape).expand_as(values)


@pytest.mark.parametrize(("kind", "axes", "eps"), [("BatchNorm", (1,), 1e-5), ("LayerNorm", (0,), 1e-12)])
def test_weighted_norms_count_every_entry_by_its_weight(f, kind, axes, eps):
    f, norm = spread(f), fresh_norm(kind)
    expected = naive_norm(f, labels_of(f.values, axes), eps)
    weight, bias = (p.detach()[None, :, None, None, None] for p in norm.norm.parameters())
    assert torch.allclose(norm(f).values, expected * weight + bias, atol=1e-9)


def test_weighted_instance_norm_counts_every_entry_by_its_weight(f):
    f = spread(f)
    assert torch.allclose(instance_norm(f).values, naive_norm(f, labels_of(f.values, (0, 1)), 1e-5), atol=1e-9)


def test_weighted_readouts_follow_their_formulas(f):
    f = spread(f).map(torch.relu)
    for b in range(2):
        w = f.weights[b % len(f.weights)].tolist()
        for c in range(3):
            maps = [f.values[b, c, g] for g in range(5)]
            mean = sum(x * m for x, m in zip(w, maps, strict=True)) / sum(w)
            assert torch.allclose(element_mean(f)[b, c], mean)
            assert mean_readout(f)[b, c].item() == pytest.approx(mean.mean().item())
            highest = max(x * m.max().item() for x, m in zip(w, maps, strict=True))
            assert max_readout(f)[b, c].item() == pytest.approx(highest)


def test_the_maximum_moves_continuously_with_a_weight(f):
    f = f.map(torch.relu)
    f.values[:, :, 1] += 3  # the gated element holds the maximum once its gate is open enough
    steps = []
    for gate in torch.linspace(0, 1, 201, dtype=torch.float64):
        weights = torch.ones_like(f.weights)
        weights[:, 1] = gate
        steps.append(max_readout(f._replace(weights=weights)))
    change = torch.stack(steps).diff(dim=0).abs().amax()
    assert 0 < change <= f.values.max() / 200 + 1e-12


# Without weights the norms are torch's own.


@pytest.mark.parametrize("weights", [None, "ones"])
def test_full_weights_give_torchs_norms(weights):
    f = random_map(make_group("E2"), number=4, channels=3)
    f = f if weights is None else f._replace(weights=torch.ones(1, 4, dtype=torch.float64))
    batch, theirs = fresh_norm("BatchNorm"), nn.BatchNorm3d(3).double()
    theirs.load_state_dict(batch.norm.state_dict())
    for _ in range(2):
        assert torch.allclose(batch(f).values, theirs(f.values), atol=1e-10)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.allclose(getattr(batch.norm, name), getattr(theirs, name)), name
    assert torch.allclose(batch.eval()(f).values, theirs.eval()(f.values), atol=1e-10)
    layer = fresh_norm("LayerNorm")
    expected = functional.group_norm(f.values, 1, layer.norm.weight, layer.norm.bias, eps=1e-12)
    assert torch.allclose(layer(f).values, expected, atol=1e-10)
    instance = functional.instance_norm(f.values, eps=1e-5)
    assert torch.allclose(instance_norm(f).values, instance, atol=1e-10)


def test_the_menu_of_norms():
    assert {"BatchNorm": BatchNorm, "LayerNorm": LayerNorm} == NORMS


def test_pooling_keeps_elements_and_weights(f):
    pooled = spatial_max_pool(f)
    assert pooled.elements is f.elements and pooled.weights is f.weights
    for b, c, g in ((0, 0, 0), (1, 2, 4)):
        assert torch.equal(pooled.values[b, c, g], functional.max_pool2d(f.values[b, c, g][None], 2)[0])


def test_weights_get_a_gradient_everywhere(f):
    weights = (torch.rand_like(f.weights) * 0.9 + 0.05).requires_grad_()
    conv = make_convs("E2", 6, channels=(3, 3))["group"]
    out = f._replace(weights=weights)
    for step in (fresh_norm("BatchNorm"), fresh_norm("LayerNorm"), instance_norm, conv, lambda g: g.map(torch.relu)):
        out = step(out)
    (max_readout(out) + mean_readout(out)).square().sum().backward()
    assert weights.grad.isfinite().all() and weights.grad.ne(0).all()
