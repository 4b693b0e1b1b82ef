"""Group convolutions that permute pixels: the law by slow loops, equivariance to the last bit, and what they refuse."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from partial_equiv.convs import CosetPool, GConv2d, GroupPool2d, bank_table, check_pixel_group, element_index
from partial_equiv.errors import UserError
from partial_equiv.groups import make_group

GROUPS = ("C1", "C2", "C4", "D1", "D2", "D4")


def order(group):
    return group.no_turns * (1 + group.mirror)


def matrices(group):
    """Return the integer matrix of every element on (row, column)."""
    return [m.round().astype(int) for m in group.matrix(group.grid(order(group), torch.float64)).numpy()]


def slow_bank(weight, group):
    """Return W[o, a, i, h, x] = w[o, i, a^-1 h, a^-1 x], element by element, in doubled integer coordinates."""
    elements = matrices(group)
    no_outputs, no_channels, no_inputs, size, _ = weight.shape
    bank = np.empty((no_outputs, len(elements), no_channels, no_inputs, size, size))
    for a, h, v, u in itertools.product(range(len(elements)), range(no_inputs), range(size), range(size)):
        inverse = np.linalg.inv(elements[a]).round().astype(int)
        y, x = (inverse @ np.array([2 * v - size + 1, 2 * u - size + 1]) + size - 1) // 2
        relative = inverse @ elements[h]
        source = next(i for i, e in enumerate(elements) if (e == relative).all()) if no_inputs > 1 else 0
        bank[:, a, :, h, v, u] = weight[:, :, source, y, x]
    return bank


def slow_conv(x, bank, bias, stride, padding, dilation):
    """Return the correlation of [B, I, F, Y, X] with a bank, tap by tap."""
    x = np.pad(x, [(0, 0)] * 3 + [(padding, padding)] * 2)
    no_outputs, no_elements, _, _, size, _ = bank.shape
    reach = dilation * (size - 1) + 1
    rows, columns = ((n - reach) // stride + 1 for n in x.shape[-2:])
    out = np.zeros((len(x), no_outputs, no_elements, rows, columns)) + bias[:, None, None, None]
    for r, c, v, u in itertools.product(range(rows), range(columns), range(size), range(size)):
        pixel = x[..., r * stride + v * dilation, c * stride + u * dilation]
        out[..., r, c] += np.einsum("bif,oaif->boa", pixel, bank[..., v, u])
    return out


def make(name, size=3, split=None, in_rep="regular", **keys):
    conv = GConv2d(make_group(name), 2, 3, size, in_rep=in_rep, split=split, **keys).double()
    with torch.no_grad():
        conv.bias.normal_()
    return conv


def field(conv, side, batch=2):
    shape = [] if conv.in_rep == "trivial" else [conv.no_elements]
    return torch.randn(batch, conv.in_channels, *shape, *side, dtype=torch.float64)


def act(group, number, x):
    """Return element `number` acting on pixels: mirror the columns, then turn."""
    turns = number % group.no_turns * 4 // group.no_turns
    return torch.rot90(x.flip(-1) if number >= group.no_turns else x, turns, dims=(-2, -1))


def act_regular(group, number, f):
    """Return g f: (g f)(x, h) = f(g^-1 x, g^-1 h)."""
    elements = matrices(group)
    inverse = np.linalg.inv(elements[number])
    sources = [next(i for i, e in enumerate(elements) if np.allclose(e, inverse @ h)) for h in elements]
    return act(group, number, f)[:, :, sources]


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_bank_is_the_law(name, size):
    for in_rep in ("trivial", "regular"):
        conv = make(name, size, in_rep=in_rep)
        bank = slow_bank(conv.weight.detach().numpy(), conv.group)
        assert np.array_equal(conv.bank().detach().numpy(), bank.reshape(3 * conv.no_elements, -1, size, size))


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation"), [(3, 1, 1, 1), (3, 2, 0, 1), (2, 2, 1, 1), (3, 1, 0, 2), (4, 3, 2, 1)]
)
@pytest.mark.parametrize("split", [None, "g", "gc"])
def test_every_layer_is_the_law_by_slow_loops(name, size, stride, padding, dilation, split):
    conv = make(name, size, split, stride=stride, padding=padding, dilation=dilation)
    x = field(conv, (6, 7))
    bank = slow_bank(conv.full_weight().detach().numpy(), conv.group)
    expected = slow_conv(x.numpy(), bank, conv.bias.detach().numpy(), stride, padding, dilation)
    assert np.abs(conv(x).detach().numpy() - expected).max() < 1e-12


def test_the_factors_are_those_of_their_equations():
    for split, equation in (("g", "oih,oixy->oihxy"), ("gc", "oih,oxy->oihxy")):
        conv = make("C4", 3, split)
        spatial = conv.spatial if split == "g" else conv.spatial[:, 0]
        assert torch.equal(conv.full_weight(), torch.einsum(equation, conv.pointwise, spatial))


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "C1"])
@pytest.mark.parametrize("split", [None, "g", "gc"])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "side"), [(3, 1, 1, 6), (3, 2, 1, 7), (4, 2, 1, 8), (2, 2, 0, 8)]
)
def test_layers_are_equivariant_on_symmetric_grids(name, split, size, stride, padding, side):
    conv = make(name, size, split, stride=stride, padding=padding)
    x = field(conv, (side, side))
    out = conv(x).detach()
    for number in range(1, conv.no_elements):
        found = conv(act_regular(conv.group, number, x)).detach()
        assert (found - act_regular(conv.group, number, out)).abs().max() < 1e-12 * out.abs().max()
        # Where the elements stay in their places, the pixels alone do not agree.
        assert (found - act(conv.group, number, out)).abs().max() > 0.05 * out.abs().max()


def test_a_grid_that_is_not_symmetric_breaks_it():
    conv = make("C4", 3, stride=2, padding=1)
    x = field(conv, (8, 8))
    found, out = conv(act_regular(conv.group, 1, x)).detach(), conv(x).detach()
    assert (found - act_regular(conv.group, 1, out)).abs().max() > 0.05 * out.abs().max()


@settings(deadline=None, max_examples=30)
@given(name=st.sampled_from(GROUPS), size=st.integers(1, 6), data=st.data())
def test_turning_a_filter_twice_is_turning_it_once_by_the_product(name, size, data):
    group = make_group(name)
    table = bank_table(group, order(group), size)
    first, second = (data.draw(st.integers(0, order(group) - 1)) for _ in range(2))
    elements = group.grid(order(group), torch.float64)
    both = int(element_index(group, group.product(elements[second], elements[first])))
    # Reading through `first`, then through `second`: (second (first w))(h, x) = w(first^-1 second^-1 (h, x)).
    assert torch.equal(table[first].flatten()[table[second].flatten()], table[both].flatten())
    assert torch.equal(table[0].flatten(), torch.arange(table[0].numel()))


@pytest.mark.parametrize("split", [None, "g", "gc"])
def test_gradients_are_those_of_differences(split):
    conv = GConv2d(make_group("D4"), 1, 2, 2, split=split).double()
    x = torch.randn(1, 1, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*conv.named_parameters(), strict=True)

    def layer(x, *weights):
        return torch.func.functional_call(conv, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(layer, (x, *weights))


@pytest.mark.parametrize("split", [None, "g", "gc"])
@pytest.mark.parametrize("in_rep", ["trivial", "regular"])
def test_the_initial_scale_keeps_the_variance_through_a_relu(split, in_rep):
    """Var(out) = 2 for white inputs of variance 1, half of which a ReLU removes; input elements count."""
    if split and in_rep == "trivial":
        pytest.skip("a lifting is never split")
    variances = []
    for seed in range(20):
        torch.manual_seed(seed)
        conv = GConv2d(make_group("C4"), 6, 8, 3, in_rep=in_rep, split=split)
        shape = (4, 6, 9, 9) if in_rep == "trivial" else (4, 6, 4, 9, 9)
        variances.append(conv(torch.randn(shape)).var().item())
    assert 1.6 < np.mean(variances) < 2.4


def test_padding_modes_are_those_of_torch():
    for mode in ("reflect", "replicate", "circular"):
        conv = make("C4", 3, padding=1, padding_mode=mode)
        x = field(conv, (5, 5))
        padded = functional.pad(x.flatten(1, 2), [1] * 4, mode=mode)
        expected = functional.conv2d(padded, conv.bank()).unflatten(1, (3, 4)) + conv.bias[:, None, None, None]
        assert torch.equal(conv(x), expected)


@pytest.mark.parametrize("split", [None, "g", "gc"])
def test_evaluation_keeps_the_filters_until_they_change(split):
    conv = make("C4", split=split).eval()
    x = field(conv, (5, 5))
    with torch.no_grad():
        conv(x)
        kept = [cache.weight for cache in conv.caches.values()]
        assert sum(weight is not None for weight in kept) == (2 if split == "gc" else 1)
        conv(x)
        assert all(cache.weight is weight for cache, weight in zip(conv.caches.values(), kept, strict=True))
        before = conv(x)
        next(conv.parameters()).data.mul_(2)
        assert torch.allclose(conv(x) - conv.bias[:, None, None, None], 2 * (before - conv.bias[:, None, None, None]))
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x), conv(x))
    assert set(conv.state_dict()) == ({"weight", "bias"} if split is None else {"pointwise", "spatial", "bias"})


def test_pools_of_even_sides_are_exact_on_even_maps_alone():
    group = make_group("D4")
    for kind in ("max", "avg", "blur4"):
        pool = GroupPool2d(kind)
        for side, exact in ((8, True), (7, False)):
            f = torch.randn(2, 2, 8, side, side, dtype=torch.float64)
            errors = [
                (pool(act_regular(group, n, f)) - act_regular(group, n, pool(f))).abs().max().item() for n in range(8)
            ]
            assert (max(errors) < 1e-12) == exact, (kind, side, errors)


def test_the_blur_is_the_binomial_filter():
    f = torch.randn(1, 1, 1, 6, 6, dtype=torch.float64)
    line = np.array([1, 3, 3, 1]) / 8
    padded = np.pad(f[0, 0, 0].numpy(), 1)
    expected = [[line @ padded[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] @ line for x in range(3)] for y in range(3)]
    assert np.allclose(GroupPool2d("blur4")(f)[0, 0, 0], expected)


def test_coset_pools_are_invariant_on_the_fibre():
    f = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    assert torch.equal(CosetPool("max")(f), f.max(dim=2).values)
    assert torch.allclose(CosetPool("mean")(f), f.sum(dim=2) / 4)
    assert torch.allclose(CosetPool("logsumexp")(f), f.exp().sum(dim=2).log())
    for kind in ("max", "mean", "logsumexp"):
        assert torch.allclose(CosetPool(kind)(f), CosetPool(kind)(f.roll(1, dims=2)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GConv2d(make_group("SE2"), 1, 1, 3), "SE2 does not map pixels to pixels: give C1, C2, C4"),
        (lambda: GConv2d(make_group("C8"), 1, 1, 3), "C8 does not map pixels"),
        (lambda: GConv2d(make_group("C4"), 1, 1, 0), "kernel_size=0 is out of range: give 1 or more"),
        (lambda: GConv2d(make_group("C4"), 1, 1, 3, stride=0), "stride=0"),
        (lambda: GConv2d(make_group("C4"), 1, 1, 3, padding=-1), "padding=-1 is negative"),
        (lambda: GConv2d(make_group("C4"), 1, 1, 3, in_rep="trivial", split="gc"), "a lifting .* has none"),
        (lambda: GroupPool2d("median"), "kind='median' is not one of: max, avg, blur4"),
        (lambda: CosetPool("sum"), "kind='sum' is not one of: max, mean, logsumexp"),
        (lambda: check_pixel_group(make_group("D3")), "D3 does not map pixels"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_it_prints_what_it_is():
    assert (
        repr(make("C4", split="gc"))
        == "GConv2d(C4, 2, 3, kernel_size=3, in_rep='regular', stride=1, padding=0, split='gc')"
    )
    assert math.prod(make("D4").weight.shape) == 3 * 2 * 8 * 9
