"""Elements closed under quarter turns and flips: one part of the kernels is made, the others are its permutations."""

import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.convs import NORMS, GroupFeatureMap, instance_norm, spatial_max_pool
from partial_equiv.groups import make_group
from partial_equiv.sampling import Sample, make_sampler
from tests.convs.dense import LAYERS, Counter, dense_of, make_conv, relative_gap, sample_of
from tests.convs.loops import SIREN, matrices_of, random_elements, random_map
from tests.convs.test_equivariance import MOVES

EVERY = [*LAYERS, ("pointwise", "full")]
each_layer = pytest.mark.parametrize(("kind", "factorization"), EVERY)
# Name -> group, samples, method, order of the symmetries in training.
CLOSED = {
    "SE2 grid": ("SE2", 8, "deterministic", 4),
    "SE2 random 4": ("SE2", 4, "random", 4),
    "SE2 random 8": ("SE2", 8, "random", 4),
    "SE2 random 16": ("SE2", 16, "random", 4),
    "E2 random": ("E2", 8, "random", 4),
    "C4": ("C4", 4, "deterministic", 4),
    "C8": ("C8", 8, "deterministic", 4),
    "D4": ("D4", 8, "deterministic", 8),
    "D8": ("D8", 16, "deterministic", 8),
    "E2 grid": ("E2", 8, "deterministic", 8),
    "E2 grid 16": ("E2", 16, "deterministic", 8),
}
OPEN = {
    "T2": ("T2", 1, "deterministic"),
    "SE2 two": ("SE2", 2, "deterministic"),
    "SE2 six": ("SE2", 6, "random"),
    "C6": ("C6", 6, "deterministic"),
    "C2": ("C2", 2, "deterministic"),
    "D2": ("D2", 4, "deterministic"),
    "E2 with two turns": ("E2", 4, "deterministic"),
    "E2 with six turns": ("E2", 12, "random"),
}
each_closed = pytest.mark.parametrize("case", CLOSED)


def sampler_of(name, number, method, *_, partial=False, **keys):
    keys = {"sampling_method": method, "partial_equiv": partial, **keys}
    return make_sampler(group=make_group(name), no_samples=number, **keys).double()


def places(elements, matrix):
    """Return for each h the index of g^-1 h among the elements, by their matrices."""
    known, found = matrices_of(elements), []
    for h in known:
        near = [np.abs(np.linalg.inv(matrix) @ h - other).max() for other in known]
        found.append(int(np.argmin(near)) if min(near) < 1e-5 else None)  # elements are float32 in part
    return found


def moves_of(closure):
    return [move for move in MOVES if closure == 8 or not move.startswith("flip")] if closure > 1 else []


def assert_closed(elements, closure):
    """Check by matrices that every set is mapped to itself by the symmetries it is said to have."""
    for chosen in elements:
        for move in moves_of(closure):
            assert None not in places(chosen, MOVES[move][0]), move


def layer_of(case, kind, factorization, dtype=torch.float64, **keys):
    """Return a convolution, its input on one draw of elements, and another draw for its output."""
    name, number, method, _ = CLOSED[case]
    conv = make_conv(kind, factorization, name, number, dtype=dtype, **keys)
    sampler = sampler_of(name, number, method).to(dtype).train()
    inputs, sample = sampler(), sampler()
    values = torch.randn(2, 2, number, 6, 6, dtype=dtype)
    return conv, GroupFeatureMap(values, inputs.elements, None, inputs.closure), sample


def values_of(kind, conv, f, sample):
    return conv.at(f.values[:, :, 0] if kind == "lifting" else f, sample).values


def opened(f, sample):
    """Return the same elements, of which nothing is known."""
    return f._replace(closure=1), sample._replace(closure=1)


# What samplers know.


@each_closed
@pytest.mark.parametrize("training", [True, False])
def test_samplers_say_under_what_their_elements_are_closed(case, training):
    name, number, method, expected = CLOSED[case]
    for no_sets in (1, 3):
        sample = sampler_of(name, number, method).train(training)(no_sets)
        assert type(sample.closure) is int
        # Without an offset, a mirrored set that is random in training may be known to be closed under flips too.
        assert sample.closure == expected or (not training and (name, method, sample.closure) == ("E2", "random", 8))
        assert_closed(sample.elements, sample.closure)


@pytest.mark.parametrize("case", OPEN)
def test_sets_without_quarter_turns_are_closed_under_nothing(case):
    sample = sampler_of(*OPEN[case])()
    assert sample.closure == 1
    assert len(sample.elements[0]) < 4 or None in places(sample.elements[0], MOVES["quarter"][0])


@pytest.mark.parametrize("name", ["SE2", "E2"])
@pytest.mark.parametrize("count", ["all", "ceil"])
@pytest.mark.parametrize("level", [1.0, 0.5])
def test_learned_intervals_are_closed_under_nothing(name, count, level):
    sampler = sampler_of(name, 8, "random", partial=True, count=count)
    sampler.level.data.fill_(level)
    assert sampler.train()().closure == sampler.eval()().closure == 1


@pytest.mark.parametrize(("name", "number", "expected"), [("SE2", 8, 4), ("E2", 8, 8), ("D4", 8, 8), ("SE2", 6, 1)])
def test_a_gated_grid_is_as_closed_as_the_grid(name, number, expected):
    """Gates are weights: they are no part of where the elements are."""
    sample = sampler_of(name, number, "deterministic", partial=True)()
    assert sample.closure == expected and sample.weights is not None
    assert_closed(sample.elements, sample.closure)


def test_nothing_is_known_of_elements_given_by_hand():
    assert Sample(torch.zeros(1, 4, 1)).closure == 1
    assert GroupFeatureMap(torch.zeros(1, 1, 4, 2, 2), torch.zeros(1, 4, 1)).closure == 1


@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
@pytest.mark.parametrize("case", ["SE2 random 8", "E2 grid"])
def test_features_carry_what_is_known_of_their_elements(case, kind):
    conv, f, sample = layer_of(case, kind, "full")
    x = f.values[:, :, 0] if kind == "lifting" else f
    out = conv.at(x, sample)
    assert out.closure == sample.closure and conv.at(x, sample._replace(closure=1)).closure == 1
    if kind == "group":
        assert conv(f).closure == f.closure, "a layer without sampler keeps its input's elements"
    passed = [spatial_max_pool, instance_norm, NORMS["BatchNorm"](3).double(), NORMS["LayerNorm"](3).double()]
    assert all(step(out).closure == out.closure for step in passed)
    assert out.map(torch.relu).closure == out.closure


# What convolutions make of it.


def assert_permuted(dense, f, sample, closure):
    """Check w[g h](x, h') = w[h](g^-1 x, g^-1 h') to the last bit, dense weight [O, G, I, F, V, U]."""
    assert len(moves_of(closure)) >= 3
    for move in moves_of(closure):
        matrix, act = MOVES[move]
        moved = act(dense[:, places(sample.elements[0], matrix)])
        if dense.shape[3] > 1:
            moved = moved[:, :, :, places(f.elements[0], matrix)]
        assert torch.equal(dense, moved), move


def expanded(kind, conv, f, sample, side=(6, 6)):
    """Return the dense weight of the plain filters, [O, G, I, F, V, U]."""
    number, no_inputs = len(sample.elements[0]), 1 if kind == "lifting" else len(f.elements[0])
    with torch.no_grad():
        filters = conv.filters(sample, None if kind == "lifting" else sample_of(f), side)
        dense = dense_of(filters, conv.in_channels * no_inputs)
    return dense.unflatten(1, (conv.in_channels, no_inputs)).unflatten(0, (conv.out_channels, number))


@each_layer
@each_closed
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernels_of_a_coset_are_equal_bit_by_bit(case, kind, factorization, dtype):
    conv, f, sample = layer_of(case, kind, factorization, dtype)
    assert sample.closure == CLOSED[case][3]
    assert_permuted(expanded(kind, conv, f, sample), f, sample, sample.closure)


@pytest.mark.parametrize("size", [5, 7, "same"])
@each_layer
def test_kernels_of_every_side_are_equal_bit_by_bit(kind, factorization, size):
    """ "same" on 6 x 6 pixels is a kernel of an even side: its taps turn into one another all the same."""
    keys = {} if kind == "pointwise" else {"size": size}
    conv, f, sample = layer_of("E2 grid", kind, factorization, torch.float32, **keys)
    assert_permuted(expanded(kind, conv, f, sample, (6, 6)), f, sample, 8)


@each_layer
@pytest.mark.parametrize("channels", [(1, 1), (1, 2), (5, 7), (16, 16)])
def test_kernels_of_every_width_are_equal_bit_by_bit(kind, factorization, channels):
    """Products of matrices add up in an order that may depend on their shape: not on the place of a point, though."""
    make_kernel = functools.partial(SIREN, no_hidden=32)
    conv, f, sample = layer_of(
        "SE2 random 8", kind, factorization, torch.float32, channels=channels, make_kernel=make_kernel
    )
    assert_permuted(expanded(kind, conv, f, sample), f, sample, 4)


@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
@pytest.mark.parametrize("case", ["SE2 random 8", "D4"])
def test_the_weights_of_a_training_step_are_equal_bit_by_bit(case, kind):
    conv, f, sample = layer_of(case, kind, "full", torch.float32)
    seen = []
    conv.train().kernel_hook.register_forward_hook(lambda module, inputs, weight: seen.append(weight.detach()))
    values_of(kind, conv, f, sample)
    number, no_inputs = len(sample.elements[0]), 1 if kind == "lifting" else len(f.elements[0])
    # Rows of the weight are (set, element, channel).
    dense = seen[0].unflatten(0, (number, 3)).unflatten(2, (2, no_inputs)).transpose(0, 1)
    assert_permuted(dense, f, sample, sample.closure)


def test_without_that_knowledge_rounding_shows():
    """So the equality above is no accident of the arithmetic."""
    conv, f, sample = layer_of("SE2 random 8", "group", "full", torch.float32)
    f, sample = opened(f, sample)
    with pytest.raises(AssertionError):
        assert_permuted(expanded("group", conv, f, sample), f, sample, 4)


def gradients_of(kind, conv, f, sample):
    conv.zero_grad()
    out = values_of(kind, conv, f, sample)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in conv.named_parameters()}


@each_layer
@each_closed
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_without_the_knowledge(case, kind, factorization, training):
    conv, f, sample = layer_of(case, kind, factorization)
    conv.train(training)
    found, gradients = gradients_of(kind, conv, f, sample)
    expected, others = gradients_of(kind, conv, *opened(f, sample))
    assert relative_gap(found, expected) < 1e-12
    assert gradients.keys() == others.keys() and len(others) > 4
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-9, atol=1e-10 * others[name].abs().max().item()), name


@each_layer
@pytest.mark.parametrize("case", ["SE2 random 8", "E2 random"])
def test_a_closed_set_for_every_image(case, kind, factorization):
    conv, f, _ = layer_of(case, kind, factorization)
    name, number, method, closure = CLOSED[case]
    sampler = sampler_of(name, number, method).train()
    for inputs, outputs in ((1, 2), (2, 1), (2, 2)):
        first, second = sampler(inputs), sampler(outputs)
        assert first.closure == second.closure == closure
        f = f._replace(elements=first.elements)
        found, expected = values_of(kind, conv, f, second), values_of(kind, conv, *opened(f, second))
        assert relative_gap(found.detach(), expected.detach()) < 1e-12


@pytest.mark.parametrize(("kind", "factorization"), [case for case in EVERY if case[0] != "lifting"])
@pytest.mark.parametrize(("name", "number"), [("SE2", 8), ("E2", 8), ("D4", 8)])
@pytest.mark.parametrize("no_sets", [1, 2])
def test_gates_keep_their_weights(kind, factorization, name, number, no_sets):
    """The weight of an input element follows the element, not its place in the coset."""
    sampler = sampler_of(name, number, "deterministic", partial=True).train()
    sampler.gates.data.uniform_(-1, 1)
    conv = make_conv(kind, factorization, name, number)
    sample = sampler.eval()() if no_sets == 1 else sampler(2)
    weights = sample.weights.detach() * torch.linspace(0.2, 1, number, dtype=torch.float64)
    f = random_map(conv.group, elements=sample.elements, weights=weights)._replace(closure=sample.closure)
    assert weights[0].unique().numel() > 3 and sample.closure > 1
    found, expected = values_of(kind, conv, f, sample), values_of(kind, conv, *opened(f, sample))
    assert relative_gap(found.detach(), expected.detach()) < 1e-12


def test_gates_get_the_gradient_they_had():
    sampler = sampler_of("E2", 8, "deterministic", partial=True)
    conv, found = make_conv("group", "gc", "E2", 8), []
    for known in (True, False):
        sampler.zero_grad()
        sample = sampler.eval()()
        f = random_map(conv.group, elements=sample.elements, weights=sample.weights)
        f = f._replace(values=torch.linspace(-1, 1, f.values.numel(), dtype=torch.float64).sin().view_as(f.values))
        f = f._replace(closure=sample.closure if known else 1)
        conv.at(f, sample if known else sample._replace(closure=1)).values.square().sum().backward()
        found.append(sampler.gates.grad.clone())
    assert found[0].ne(0).all() and torch.allclose(*found, rtol=1e-9, atol=1e-12)


@each_layer
@each_closed
def test_a_quarter_or_an_eighth_of_the_kernel_is_evaluated(case, kind, factorization):
    conv, f, sample = layer_of(case, kind, factorization)
    counter = Counter(conv.train())
    values_of(kind, conv, f, sample)
    known = counter.take()
    values_of(kind, conv, *opened(f, sample))
    assert known * sample.closure == counter.take() > 0


@each_layer
def test_the_knowledge_of_both_sets_is_needed(kind, factorization):
    """Inputs that are not closed, or under less, leave what both have in common."""
    conv, f, sample = layer_of("E2 grid", kind, factorization)
    counter, points = Counter(conv.train()), {}
    for inputs in (1, 4, 8):
        for outputs in (1, 4, 8):
            values = values_of(kind, conv, f._replace(closure=inputs), sample._replace(closure=outputs))
            points[inputs, outputs] = counter.take()
            assert relative_gap(values.detach(), values_of(kind, conv, *opened(f, sample)).detach()) < 1e-12
            counter.take()
    for (inputs, outputs), number in points.items() if factorization == "full" else ():
        assert number * (outputs if kind == "lifting" else min(inputs, outputs)) == points[1, 1]


@pytest.mark.parametrize(("kind", "factorization"), [case for case in EVERY if case[0] != "lifting"])
def test_inputs_that_are_not_closed_are_met_one_by_one(kind, factorization):
    conv, _, sample = layer_of("SE2 random 8", kind, factorization)
    f = random_map(conv.group, number=5, side=(6, 6))
    assert f.closure == 1
    found, expected = values_of(kind, conv, f, sample), values_of(kind, conv, *opened(f, sample))
    assert relative_gap(found.detach(), expected.detach()) < 1e-12
    bare = make_sampler(group=conv.group, no_samples=8).double()()
    f = f._replace(elements=bare.elements, values=torch.randn(2, 2, 8, 6, 6, dtype=torch.float64), closure=4)
    out = Sample(random_elements(conv.group, 1, 3))
    found, expected = values_of(kind, conv, f, out), values_of(kind, conv, *opened(f, out))
    assert relative_gap(found.detach(), expected.detach()) < 1e-12


@each_layer
@torch.no_grad()
def test_what_is_kept_in_evaluation_is_made_anew_for_other_elements(kind, factorization):
    """Of one convolution: closed elements, others that are not, and the first ones again."""
    conv, f, sample = layer_of("SE2 random 8", kind, factorization)
    others = Sample(sample.elements.flip(1) * 0.7)
    for chosen in (sample, others, sample, sample._replace(closure=1), others):
        found = values_of(kind, conv, f, chosen)
        fresh = values_of(kind, copy.deepcopy(conv), *opened(f, chosen))
        assert relative_gap(found, fresh) < 1e-12


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@given(
    layer=st.sampled_from(EVERY),
    case=st.sampled_from(["SE2", "E2", "C", "D", "SE2 random", "E2 random"]),
    quarters=st.integers(1, 5),
    size=st.sampled_from([1, 3, 5, "same"]),
    angle=st.sampled_from(["circle", "linear"]),
    seed=st.integers(0, 1000),
)
def test_any_closed_set_gives_the_same_layer(layer, case, quarters, size, angle, seed):
    torch.manual_seed(seed)
    turns, (name, *method) = 4 * quarters, case.split()
    mirrored = name in ("E2", "D")
    name, number = f"{name}{turns}" if name in "CD" else name, turns * (1 + mirrored)
    sampler = sampler_of(name, number, *method or ["deterministic"]).train()
    inputs, sample = sampler(), sampler()
    assert sample.closure == (8 if mirrored and not method else 4)
    keys = {} if layer[0] == "pointwise" else {"size": size}
    conv = make_conv(*layer, name, number, angle=angle, **keys).train()
    f = GroupFeatureMap(torch.randn(1, 2, number, 4, 4, dtype=torch.float64), inputs.elements, None, inputs.closure)
    if angle == "linear" and not method:  # which jumps at relative angle 0, where rounding decides on which side
        sample = Sample(sample.elements + 0.1 * torch.tensor([1.0, 0.0])[: sample.elements.shape[-1]], None, 4)
    counter = Counter(conv)
    found = values_of(layer[0], conv, f, sample).detach()
    known = counter.take()
    expected = values_of(layer[0], conv, *opened(f, sample)).detach()
    assert known * sample.closure == counter.take()
    assert (found - expected).abs().max() <= 1e-11 * max(expected.abs().max().item(), 1e-3)
    if angle == "circle":
        assert_permuted(expanded(layer[0], conv, f, sample, (4, 4)), f, sample, sample.closure)


def test_the_matrices_of_this_file_are_the_moves_of_pixels():
    """A set of the four quarter turns, moved by one, is the set in another order: so `places` has its sign right."""
    elements = make_group("C4").grid(4, torch.float64)
    order = places(elements, MOVES["quarter"][0])
    assert order == [3, 0, 1, 2]
    assert np.allclose(matrices_of(elements)[1] @ np.array([0.0, 1.0]), [-1, 0]), "right goes up: counter-clockwise"
