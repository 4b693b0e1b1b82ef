"""Factorised convolutions are as equivariant as full ones: exact where pixels allow, broken where they must be."""

import functools
import math

import numpy as np
import pytest
import torch

from partial_equiv.audit import equivariance_error
from partial_equiv.convs import GroupFeatureMap, max_readout, spatial_max_pool
from partial_equiv.groups import make_group
from partial_equiv.kernels import MLP
from partial_equiv.sampling import Sample, make_sampler
from tests.convs.dense import FACTORS, make_conv, relative_gap
from tests.convs.loops import random_map, rotation
from tests.convs.test_equivariance import CASES, MOVES, moved

EXACT, BROKEN = 1e-10, 0.02
BIASED = functools.partial(MLP, no_hidden=6, no_layers=3, norm=None, activation="Tanh")  # 0 nowhere, one tap included
FACTORISED = [("lifting", "gc"), ("group", "g"), ("group", "gc")]
each_layer = pytest.mark.parametrize(("kind", "factorization"), FACTORISED)


def layer_on(kind, factorization, name, elements, closure=1, **keys):
    """Return a function of an image or feature map, and an input for it."""
    conv, sample = make_conv(kind, factorization, name, elements.shape[1], **keys), Sample(elements, None, closure)
    f = random_map(conv.group, elements=elements, side=(6, 6))._replace(closure=closure)
    return (lambda x: conv.at(x, sample)), f.values[:, :, 0] if kind == "lifting" else f


@torch.no_grad()
def error_of(layer, x, move, wrong=None):
    """Return how far layer(g x) is from g layer(x); `wrong` replaces g on the output's elements."""
    out = layer(x)
    found = layer(moved(x, move) if isinstance(x, GroupFeatureMap) else MOVES[move][1](x))
    return relative_gap(found.values, moved(out, move, wrong).values)


def grid_of(name, number):
    return make_sampler(group=make_group(name), no_samples=number).double()()


@each_layer
@pytest.mark.parametrize(("name", "number", "move"), CASES)
@pytest.mark.parametrize("known", [True, False])
def test_grids_are_exactly_equivariant(kind, factorization, name, number, move, known):
    """With the shared kernels of cosets and, told nothing of the elements, without."""
    sample = grid_of(name, number)
    layer, x = layer_on(kind, factorization, name, sample.elements, sample.closure if known else 1)
    assert error_of(layer, x, move) < EXACT
    assert error_of(layer, x, move, wrong=np.eye(2)) > BROKEN
    if move in ("quarter", "three quarters"):
        assert error_of(layer, x, move, wrong=np.linalg.inv(MOVES[move][0])) > BROKEN


@each_layer
@pytest.mark.parametrize(("size", "padding"), [(5, "same"), (5, "valid"), (3, 1), ("full", "same"), (1, "same")])
def test_every_odd_size_and_padding_is_exact(kind, factorization, size, padding):
    keys = {"make_kernel": BIASED} if size == 1 else {}
    sample = grid_of("D4", 8)
    layer, x = layer_on(kind, factorization, "D4", sample.elements, sample.closure, size=size, padding=padding, **keys)
    assert max(error_of(layer, x, move) for move in MOVES) < EXACT


@each_layer
def test_a_stride_is_exact_on_a_symmetric_grid_alone(kind, factorization):
    sample = grid_of("D4", 8)
    layer, x = layer_on(kind, factorization, "D4", sample.elements, sample.closure, padding=1, stride=2)
    odd = x._replace(values=x.values[..., :5, :5]) if kind == "group" else x[..., :5, :5]
    assert max(error_of(layer, odd, move) for move in MOVES) < EXACT
    assert error_of(layer, x, "quarter") > BROKEN, "6 pixels, stride 2: the grid of outputs is not symmetric"


@each_layer
@pytest.mark.parametrize("name", ["SE2", "E2"])
def test_random_sets_of_the_whole_group_are_exact_under_turns(kind, factorization, name):
    sampler = make_sampler(group=make_group(name), no_samples=8, sampling_method="random").double().train()
    sample = sampler()
    layer, x = layer_on(kind, factorization, name, sample.elements, sample.closure)
    assert max(error_of(layer, x, move) for move in ("quarter", "half", "three quarters")) < EXACT
    assert error_of(layer, x, "quarter", wrong=np.linalg.inv(MOVES["quarter"][0])) > BROKEN


@each_layer
def test_elements_that_are_not_closed_match_under_no_permutation(kind, factorization):
    elements = make_group("SE2").from_angles(torch.tensor([[0.1, 0.6, 1.1, 2.4]], dtype=torch.float64))
    layer, x = layer_on(kind, factorization, "SE2", elements)
    act = MOVES["quarter"][1]
    turned = act(x) if kind == "lifting" else x._replace(values=act(x.values))
    with torch.no_grad():
        out, found = layer(x).values, layer(turned).values
    for i in range(4):
        assert min(relative_gap(found[:, :, i], act(out[:, :, j])) for j in range(4)) > BROKEN


@each_layer
def test_an_eighth_turn_of_the_elements_is_seen(kind, factorization):
    sample = grid_of("SE2", 8)
    layer, x = layer_on(kind, factorization, "SE2", sample.elements, sample.closure)
    with torch.no_grad():
        out = layer(x)
    order = [(index - 1) % 8 for index in range(8)]
    assert np.allclose(rotation(math.pi / 4), rotation(float(out.elements[0, 1, 0])))
    assert relative_gap(out.values[:, :, order], out.values) > BROKEN


@pytest.mark.parametrize("factorization", FACTORS)
@pytest.mark.parametrize(("name", "group"), [("C4", "C4"), ("SE2", "C4"), ("D4", "D4"), ("E2", "D4")])
def test_a_stack_of_layers_is_equivariant(factorization, name, group):
    """Lifting, group convolution, pooling, pointwise and readout; by the library's own measure too."""
    number = 4 if group == "C4" else 8
    sample = grid_of(name, number)
    lifting = make_conv("lifting", "gc", name, number)
    conv = make_conv("group", factorization, name, number, channels=(3, 2))
    pointwise = make_conv("pointwise", "full", name, number)

    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = torch.nn.ModuleList([lifting, conv, pointwise])

        def features(self, images):
            f = lifting.at(images, sample).map(torch.relu)
            return pointwise(spatial_max_pool(conv.at(f, sample).map(torch.relu)), sample)

        def forward(self, images):
            return max_readout(self.features(images).map(torch.relu))

    stack, images = Stack().eval(), torch.randn(3, 2, 8, 8, dtype=torch.float64)
    moves = [move for move in MOVES if group == "D4" or not move.startswith("flip")]
    assert max(error_of(stack.features, images, move) for move in moves) < EXACT
    assert equivariance_error(stack, images, group) < EXACT
    if group == "C4":
        assert equivariance_error(stack, images, "D4") > BROKEN, "no mirror in the group"


@each_layer
def test_shifts_commute_with_every_layer(kind, factorization):
    sample = grid_of("SE2", 4)
    layer, x = layer_on(kind, factorization, "SE2", sample.elements, sample.closure)
    values = torch.nn.functional.pad(x if kind == "lifting" else x.values, (6, 6, 6, 6))
    shifted = values.roll((1, 2), dims=(-2, -1))
    first, second = ((v if kind == "lifting" else x._replace(values=v)) for v in (values, shifted))
    assert torch.allclose(layer(second).values, layer(first).values.roll((1, 2), dims=(-2, -1)), atol=1e-12)
