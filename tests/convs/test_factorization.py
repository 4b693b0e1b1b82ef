"""Factorised convolutions against the dense convolution of the product of their kernels.

The law by slow loops, and by dense weights written from the values of k_H and k_R2 at single points.
"""

import functools
import itertools

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from partial_equiv.convs import GConv2d, GroupFeatureMap
from partial_equiv.errors import UserError
from partial_equiv.groups import make_group
from partial_equiv.kernels import KERNELS, MLP
from partial_equiv.sampling import Sample, make_sampler
from tests.convs.dense import (
    FACTORS,
    LAYERS,
    Product,
    dense_of,
    expected_values,
    expected_weight,
    make_conv,
    relative_gap,
    run_filters,
    sample_of,
)
from tests.convs.loops import random_elements, random_map, slow_group, slow_lifting

BIASED = functools.partial(MLP, no_hidden=6, no_layers=3, norm=None, activation="Tanh")  # 0 nowhere, one tap included
SIREN_KEYS = {"omega0": 5.0, "learn_omega0": False, "weight_norm": False}
KINDS = {
    "SIREN learned": ("SIREN", SIREN_KEYS | {"learn_omega0": True}),
    "SIREN weight norm": ("SIREN", SIREN_KEYS | {"weight_norm": True}),
    "MLP": ("MLP", {"norm": None, "activation": "Swish"}),
    "MLP LayerNorm": ("MLP", {"norm": "LayerNorm", "activation": None}),
    "MLP BatchNorm": ("MLP", {"norm": "BatchNorm", "activation": None}),
    "Fourier": ("Fourier", {}),
    "Gabor": ("Gabor", {}),
    "MAGNet": ("MAGNet", {}),
}
GROUPS = [("T2", 1), ("SE2", 4), ("SE2", 5), ("E2", 4), ("C4", 4), ("C8", 8), ("D4", 8)]
EXACT = 1e-10
factorised = pytest.mark.parametrize("factorization", FACTORS)
each_layer = pytest.mark.parametrize(("kind", "factorization"), LAYERS)


def call_of(kind, conv, f, sample):
    """Return the values of a convolution; a lifting reads those of the first element as an image."""
    return conv.at(f.values[:, :, 0] if kind == "lifting" else f, sample).values.detach()


def check(conv, factorization, f, sample, size=3, tolerance=EXACT):
    found = conv.at(f, sample)
    expected = expected_values(conv, factorization, f.values, sample, sample_of(f), size)
    assert relative_gap(found.values.detach(), expected) < tolerance
    no_sets = max(len(t) for t in (f.elements, sample.elements, f.weights) if t is not None)
    assert torch.equal(found.elements, sample.elements.expand(no_sets, -1, -1))


# The law by loops over pixels.


@factorised
@pytest.mark.parametrize(("name", "number"), [("T2", 1), ("SE2", 4), ("E2", 4), ("D4", 8), ("C3", 3)])
@pytest.mark.parametrize("no_sets", [1, 2])
def test_group_convolutions_by_slow_loops(factorization, name, number, no_sets):
    conv = make_conv("group", factorization, name, number)
    weights = torch.rand(no_sets, 3, dtype=torch.float64) if no_sets == 2 else None
    f = random_map(conv.group, number=3, no_sets=no_sets, side=(4, 3), weights=weights)
    elements = random_elements(conv.group, no_sets, 2)
    found = conv.at(f, Sample(elements)).values.detach()
    expected = torch.from_numpy(slow_group(Product(conv, factorization), f, elements, 3))
    assert relative_gap(found, expected) < EXACT


@pytest.mark.parametrize(("name", "number"), [("T2", 1), ("SE2", 4), ("E2", 4), ("C3", 3)])
@pytest.mark.parametrize("no_sets", [1, 2])
def test_liftings_by_slow_loops(name, number, no_sets):
    conv = make_conv("lifting", "gc", name, number)
    images, elements = torch.randn(2, 2, 5, 4, dtype=torch.float64), random_elements(conv.group, no_sets, 3)
    found = conv.at(images, Sample(elements))
    expected = torch.from_numpy(slow_lifting(Product(conv, "gc"), images, elements, 3))
    assert relative_gap(found.values.detach(), expected) < EXACT
    assert torch.equal(found.elements, elements) and found.weights is None


# The same with dense weights, over everything a layer can be told.


@factorised
@pytest.mark.parametrize(("name", "number"), GROUPS)
@pytest.mark.parametrize("angle", ["circle", "linear"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_factorised_convolution_is_its_dense_one(factorization, name, number, angle, dtype):
    conv = make_conv("group", factorization, name, number, 5, angle=angle, dtype=dtype)
    f = random_map(conv.group, number=number, side=(7, 6))
    f = GroupFeatureMap(f.values.to(dtype), f.elements.to(dtype))
    sample = Sample(random_elements(conv.group, 1, 3).to(dtype))
    check(conv, factorization, f, sample, 5, EXACT if dtype == torch.float64 else 1e-5)


@factorised
@pytest.mark.parametrize(("name", "number"), [("SE2", 4), ("SE2", 8), ("C4", 4), ("C8", 8), ("D4", 8), ("E2", 8)])
def test_grids_are_convolved_like_any_other_set(factorization, name, number):
    """A set that is told to be closed under quarter turns: the layer may go another way to the same numbers."""
    conv = make_conv("group", factorization, name, number)
    sample = make_sampler(group=conv.group, no_samples=number).double()()
    assert sample.closure > 1
    f = random_map(conv.group, elements=sample.elements)._replace(closure=sample.closure)
    check(conv, factorization, f, sample)


@pytest.mark.parametrize(("name", "number"), GROUPS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_factorised_lifting_is_its_dense_one(name, number, dtype):
    conv = make_conv("lifting", "gc", name, number, 5, channels=(3, 4), dtype=dtype)
    assert conv.channels.shape == (4, 3) and isinstance(conv.channels, nn.Parameter)
    images, sample = torch.randn(2, 3, 7, 6, dtype=dtype), Sample(random_elements(conv.group, 2, 3).to(dtype))
    expected = expected_values(conv, "gc", images.unsqueeze(2), sample, None, 5)
    assert relative_gap(conv.at(images, sample).values.detach(), expected) < (EXACT if dtype == torch.float64 else 1e-5)


@factorised
@pytest.mark.parametrize("make_kernel", KINDS)
def test_every_kernel_of_the_menu_serves_both_factors(factorization, make_kernel):
    name, keys = KINDS[make_kernel]
    make_kernel = functools.partial(KERNELS[name], no_hidden=8, no_layers=3, **keys)
    conv = make_conv("group", factorization, "E2", 4, make_kernel=make_kernel)
    check(conv, factorization, random_map(conv.group), Sample(random_elements(conv.group, 1, 3)))
    assert conv.kernel is not conv.spatial_kernel and {type(conv.kernel)} == {type(conv.spatial_kernel)}


@each_layer
@pytest.mark.parametrize(
    ("size", "padding", "stride"),
    [*itertools.product([1, 3, 5, "3"], ["same", "valid", 0, 1, 3], [1]), (3, 1, 2), (3, 0, 2), (5, 2, 3), (1, 0, 2)],
)
def test_paddings_strides_and_odd_sizes(kind, factorization, size, padding, stride):
    conv = make_conv(kind, factorization, "E2", 2, size, make_kernel=BIASED, padding=padding, stride=stride)
    f, sample = random_map(conv.group, number=2, side=(7, 6)), Sample(random_elements(conv.group, 1, 2))
    values, inputs = (f.values[:, :, :1], None) if kind == "lifting" else (f.values, sample_of(f))
    expected = expected_values(conv, factorization, values, sample, inputs, int(size))
    assert relative_gap(call_of(kind, conv, f, sample), expected) < EXACT


@each_layer
@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (4, 4), (2, 4)])
@pytest.mark.parametrize("size", ["same", "full"])
def test_sizes_that_follow_the_map_even_ones_included(kind, factorization, shape, size):
    side = {"same": max(shape), "full": 2 * max(shape) - 1}[size]
    conv = make_conv(kind, factorization, "SE2", 2, size)
    f, sample = random_map(conv.group, number=2, side=shape), Sample(random_elements(conv.group, 1, 2))
    values, inputs = (f.values[:, :, :1], None) if kind == "lifting" else (f.values, sample_of(f))
    expected = expected_values(conv, factorization, values, sample, inputs, side)
    assert relative_gap(call_of(kind, conv, f, sample), expected) < EXACT


@each_layer
def test_one_layer_serves_maps_of_different_sizes(kind, factorization):
    conv = make_conv(kind, factorization, "SE2", 2, "same")
    sample = Sample(random_elements(conv.group, 1, 2))
    for side in (3, 6, 3, 5):
        f = random_map(conv.group, number=2, side=(side, side))
        values, inputs = (f.values[:, :, :1], None) if kind == "lifting" else (f.values, sample_of(f))
        with torch.no_grad():
            found = call_of(kind, conv, f, sample)
        assert relative_gap(found, expected_values(conv, factorization, values, sample, inputs, side)) < EXACT


@factorised
@pytest.mark.parametrize(("sets_in", "sets_out"), [(1, 1), (3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("side", [(3, 3), (9, 8)], ids=["small maps", "large maps"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_set_for_every_image(factorization, sets_in, sets_out, side, bias):
    conv = make_conv("group", factorization, "SE2", 4, channels=(2, 4), bias=bias)
    f = random_map(conv.group, batch=3, number=5, no_sets=sets_in, side=side)
    check(conv, factorization, f, Sample(random_elements(conv.group, sets_out, 3)))


@factorised
@pytest.mark.parametrize("no_sets", [1, 2])
@pytest.mark.parametrize("closed", [False, True], ids=["any elements", "a closed grid"])
def test_input_elements_count_by_their_weight(factorization, no_sets, closed):
    conv = make_conv("group", factorization, "D4", 8)
    grid = make_sampler(group=conv.group, no_samples=8).double()()
    weights = torch.rand(no_sets, 8, dtype=torch.float64)
    weights[:, 1] = 0
    f = random_map(conv.group, number=8, weights=weights, elements=grid.elements if closed else None)
    f = f._replace(closure=grid.closure if closed else 1)
    sample = grid._replace(weights=torch.rand(no_sets, 8, dtype=torch.float64))
    sample = sample if closed else Sample(random_elements(conv.group, 1, 8), sample.weights)
    check(conv, factorization, f, sample)
    assert torch.equal(conv.at(f, sample).weights, sample.weights), "they are the next layer's to use"
    kept = [0, *range(2, 8)]
    without = GroupFeatureMap(f.values[:, :, kept], f.elements[:, kept], weights[:, kept])
    assert relative_gap(conv.at(f, sample).values, conv.at(without, sample).values) < EXACT


@factorised
@pytest.mark.parametrize("name", ["SE2", "E2"])
@pytest.mark.parametrize("per_batch_element", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_learned_levels_below_one(factorization, name, per_batch_element, training):
    """Elements of an interval, and with E2 a gate on the mirrored half, drawn by the layer itself."""
    sampler = make_sampler(group=make_group(name), no_samples=4, sampling_method="random", partial_equiv=True)
    sampler.level.data.fill_(0.4)
    conv = make_conv("group", factorization, name, 4, sampler=sampler, per_batch_element=per_batch_element)
    conv.train(training)
    f = random_map(conv.group)
    found = conv(f, torch.Generator().manual_seed(1))
    assert found.closure == 1 and found.elements.shape[0] == (2 if per_batch_element and training else 1)
    sample = Sample(found.elements.detach(), found.weights)
    expected = expected_values(conv, factorization, f.values, sample, sample_of(f))
    assert relative_gap(found.values.detach(), expected) < EXACT
    after = make_conv("group", factorization, name, 4, channels=(3, 2))
    inputs = found._replace(values=found.values.detach(), elements=sample.elements)
    check(after, factorization, inputs, Sample(random_elements(conv.group, 1, 3)))


# Plain filters: the same layer as bare convolutions.


def plain_case(kind, factorization, name="D4", number=8, **keys):
    """Return a convolution, a feature map on its grid and the output elements, gates on the input."""
    conv = make_conv(kind, factorization, name, number, **keys)
    sample = make_sampler(group=conv.group, no_samples=number).double()()
    weights = None if kind == "lifting" else torch.rand(1, number, dtype=torch.float64)
    f = random_map(conv.group, elements=sample.elements, side=(8, 6), weights=weights)
    return conv, f._replace(closure=sample.closure), sample


@pytest.mark.parametrize(("kind", "factorization"), [*LAYERS, ("pointwise", "full")])
@pytest.mark.parametrize(
    ("size", "padding", "stride"), [(3, "same", 1), (5, "valid", 1), (3, 1, 2), ("same", "same", 1)]
)
@pytest.mark.parametrize("training", [False, True])
def test_filters_applied_in_order_are_the_layer(kind, factorization, size, padding, stride, training):
    keys = {} if kind == "pointwise" else {"size": size, "padding": padding, "stride": stride}
    if kind == "pointwise" and (padding, size) != ("same", 3):
        return
    conv, f, sample = plain_case(kind, factorization, **keys)
    conv.train(training)
    side = f.values.shape[-2:]
    with torch.no_grad():
        x, inputs = (f.values[:, :, 0], None) if kind == "lifting" else (f.values.flatten(1, 2), sample_of(f))
        filters = conv.filters(sample, inputs, tuple(side))
        found = run_filters(filters, x)
        expected = call_of(kind, conv, f, sample).flatten(1, 2)
    assert relative_gap(found, expected) < 1e-12
    assert len(filters) == (2 if (kind, factorization) == ("group", "gc") else 1), "the others are multiplied out"


@pytest.mark.parametrize("name", ["C4", "D4"])
@pytest.mark.parametrize(
    ("in_rep", "split"), [("trivial", None), ("regular", None), ("regular", "g"), ("regular", "gc")]
)
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (1, 1, 0)])
@torch.no_grad()
def test_filters_of_exact_convolutions_are_the_layer(name, in_rep, split, size, stride, padding):
    group = make_group(name)
    conv = GConv2d(group, 2, 3, size, in_rep=in_rep, split=split, stride=stride, padding=padding).double().eval()
    conv.bias.normal_()
    x = torch.randn(2, 2, *([] if in_rep == "trivial" else [conv.no_elements]), 8, 8, dtype=torch.float64)
    flat = x if in_rep == "trivial" else x.flatten(1, 2)
    assert relative_gap(run_filters(conv.filters(), flat), conv(x).flatten(1, 2)) < 1e-12


@factorised
@torch.no_grad()
def test_filters_amount_to_the_dense_weight(factorization):
    conv, f, sample = plain_case("group", factorization)
    filters = conv.filters(sample, sample_of(f), (8, 6))
    expected = expected_weight(Product(conv, factorization), sample.elements[0], f.elements[0], f.weights[0])
    dense = dense_of(filters, 2 * 8)
    assert relative_gap(dense, expected.transpose(0, 1).flatten(2, 3).flatten(0, 1)) < EXACT
    if factorization == "gc":
        mix, spatial = filters
        assert mix.weight.shape == (3 * 8, 2 * 8, 1, 1) and mix.groups == 1
        assert spatial.weight.shape == (3 * 8, 1, 3, 3) and spatial.groups == 3 * 8


# What it costs: multiplications of the convolutions, from the closed forms.


@pytest.mark.parametrize(
    ("factorization", "kind"), [("full", "group"), ("g", "group"), ("gc", "group"), ("gc", "lifting")]
)
@torch.no_grad()
def test_a_layer_multiplies_as_often_as_its_factors_say(factorization, kind):
    """Per element and pixel: gc O I F + O k^2; the others, multiplied out, O I F k^2, a lifting with F = 1."""
    no_in, no_out, number, size, batch, side = 3, 4, 5, 3, 2, 8
    conv = make_conv(kind, factorization, "SE2", number, size, channels=(no_in, no_out)).requires_grad_(False)
    f = random_map(conv.group, batch=batch, channels=no_in, number=number, side=(side, side))
    sample = Sample(random_elements(conv.group, 1, number))
    call_of(kind, conv, f, sample)  # the weights are kept from here on
    with FlopCounterMode(display=False) as counter:
        call_of(kind, conv, f, sample)
    mixed = no_out * no_in * (1 if kind == "lifting" else number)
    each = mixed + no_out * size**2 if (kind, factorization) == ("group", "gc") else mixed * size**2
    assert counter.get_total_flops() == 2 * batch * number * side**2 * each


# What is refused.


def test_a_lifting_has_no_elements_to_share_a_filter_over():
    with pytest.raises(UserError) as caught:
        make_conv("lifting", "g")
    assert "g" in str(caught.value) and "gc" in str(caught.value)


@pytest.mark.parametrize("kind", ["lifting", "group"])
def test_unknown_factorizations_are_told(kind):
    with pytest.raises(UserError) as caught:
        make_conv(kind, "cg")
    assert all(word in str(caught.value) for word in ("'cg'", "full", "gc"))


# What a fresh layer can tell apart.


@each_layer
@pytest.mark.parametrize("angle", ["circle", "linear"])
@torch.no_grad()
def test_fresh_sirens_tell_half_a_turn(kind, factorization, angle):
    """A SIREN without biases is odd and a product of two even: h and half a turn more would be one element."""
    conv = make_conv(kind, factorization, "SE2", 8, fresh=True, angle=angle)
    sample = make_sampler(group=conv.group, no_samples=8).double()()
    f = random_map(conv.group, elements=sample.elements, side=(6, 6))
    values = conv.at(f.values[:, :, 0] if kind == "lifting" else f, sample).values
    assert relative_gap(values[:, :, 4:], values[:, :, :4]) > 0.1
    if factorization != "full":
        assert relative_gap(values[:, :, 4:], -values[:, :, :4]) > 0.1


@factorised
@torch.no_grad()
def test_a_fresh_factor_of_one_tap_is_not_zero(factorization):
    conv = make_conv("group", factorization, "SE2", 4, 1, fresh=True)
    f = random_map(conv.group)
    assert conv.at(f, Sample(random_elements(conv.group, 1, 3))).values.std() > 0.1
