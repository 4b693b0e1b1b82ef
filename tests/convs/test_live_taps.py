"""Kernels are evaluated at the live taps alone, and are 0 at the dead ones."""

import functools

import pytest
import torch

from partial_equiv.kernels import MLP
from partial_equiv.sampling import Sample
from tests.convs.dense import LAYERS, Counter, dense_of, make_conv, sample_of
from tests.convs.loops import random_elements, random_map, taps_of

BIASED = functools.partial(MLP, no_hidden=6, no_layers=3, norm=None, activation="Tanh")  # 0 nowhere
each_layer = pytest.mark.parametrize(("kind", "factorization"), LAYERS)
LIVE = {1: 1, 3: 5, 5: 13, 7: 29, 9: 49}  # published


def at(kind, conv, f, sample):
    return conv.at(f.values[:, :, 0] if kind == "lifting" else f, sample)


def points_of(kind, factorization, number, inputs, live):
    """Return how many points each kernel of a layer has to be evaluated at, a set of elements."""
    if kind == "lifting":
        return {"kernel" if factorization == "full" else "spatial_kernel": number * live}
    if factorization == "full":
        return {"kernel": number * inputs * live}
    return {"kernel": number * inputs, "spatial_kernel": number * live}


@each_layer
@pytest.mark.parametrize("size", [*LIVE, "same", "full"])
@pytest.mark.parametrize("no_sets", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_no_kernel_sees_a_dead_tap(kind, factorization, size, no_sets, training):
    conv = make_conv(kind, factorization, "SE2", 4, size, make_kernel=BIASED).train(training)
    f = random_map(conv.group, number=4, no_sets=no_sets, side=(6, 5) if isinstance(size, str) else (9, 9))
    counter = Counter(conv)
    at(kind, conv, f, Sample(random_elements(conv.group, no_sets, 3)))
    live = len(taps_of({"same": 6, "full": 11}.get(size, size)))
    assert LIVE.get(size, live) == live
    expected = points_of(kind, factorization, 3 * no_sets, 4, live)
    assert {name: sum(map(len, points)) for name, points in counter.points.items()} == expected
    for name, points in counter.points.items():
        if name == "spatial_kernel" or kind == "lifting" or factorization == "full":
            reach = torch.cat(points)[:, :2].norm(dim=1)
            assert reach.max() < 1 + 1e-9 and (size == 1 or reach.max() > 0.7)


@each_layer
@pytest.mark.parametrize("size", [1, 3, 5, 7, "same"])
@torch.no_grad()
def test_the_weight_is_zero_at_dead_taps_and_nowhere_else(kind, factorization, size):
    conv = make_conv(kind, factorization, "E2", 4, size, make_kernel=BIASED)
    f, sample = random_map(conv.group, number=4, side=(6, 6)), Sample(random_elements(conv.group, 1, 20))
    filters = conv.filters(sample, None if kind == "lifting" else sample_of(f), (6, 6))
    dense = dense_of(filters, 2 if kind == "lifting" else 8)
    expected = torch.zeros(dense.shape[-2:], dtype=torch.bool)
    for v, u, _ in taps_of(len(expected)):
        expected[v, u] = True
    assert torch.equal(dense.ne(0), expected.expand_as(dense))


@pytest.mark.parametrize(("kind", "factorization"), [case for case in LAYERS if case[1] != "full"])
def test_corners_get_no_gradient_into_the_features(kind, factorization):
    """What lies under dead taps of a 3 x 3 kernel on a single pixel is not seen, what lies under live ones is."""
    conv = make_conv(kind, factorization, "SE2", 4, make_kernel=BIASED, padding="valid")
    f = random_map(conv.group, number=4, side=(3, 3))
    f.values.requires_grad_()
    at(kind, conv, f, Sample(random_elements(conv.group, 1, 3))).values.sum().backward()
    live = f.values.grad[:, :, : 1 if kind == "lifting" else 4].ne(0)
    plus = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.bool)
    assert torch.equal(live, plus.expand_as(live))
