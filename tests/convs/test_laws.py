"""Every convolution against a slow loop written from its law."""

import functools

import pytest
import torch

from partial_equiv.convs import GroupFeatureMap, LiftingConv
from partial_equiv.errors import UserError
from partial_equiv.groups import make_group
from partial_equiv.kernels import MLP
from partial_equiv.sampling import Sample
from tests.convs.loops import make_convs, random_elements, random_map, slow_group, slow_lifting, taps_of

BIASED = functools.partial(MLP, no_hidden=6, no_layers=3, norm=None, activation="Tanh")  # 0 nowhere
GROUPS = [("T2", 1), ("SE2", 4), ("E2", 4), ("D4", 8), ("C3", 3)]
PADDINGS = ["same", "valid", 0, 1, 3]


def close(found, expected):
    assert tuple(found.shape) == expected.shape
    assert torch.allclose(found.detach(), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "number"), GROUPS)
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("no_sets", [1, 2])
def test_lifting(name, number, size, no_sets):
    conv = make_convs(name, number, size)["lifting"]
    images = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    elements = random_elements(conv.group, no_sets, 3)
    found = conv.at(images, Sample(elements))
    close(found.values, slow_lifting(conv, images, elements, size))
    assert torch.equal(found.elements, elements) and found.weights is None


@pytest.mark.parametrize(("name", "number"), GROUPS)
@pytest.mark.parametrize("angle", ["circle", "linear"])
@pytest.mark.parametrize(("sets_in", "sets_out"), [(1, 1), (2, 2), (1, 2), (2, 1)])
def test_group(name, number, angle, sets_in, sets_out):
    conv = make_convs(name, number, angle=angle)["group"]
    f = random_map(conv.group, number=3, no_sets=sets_in, side=(4, 3))
    elements = random_elements(conv.group, sets_out, 2)
    found = conv.at(f, Sample(elements))
    close(found.values, slow_group(conv, f, elements, 3))
    assert torch.equal(found.elements, elements.expand(max(sets_in, sets_out), -1, -1))


@pytest.mark.parametrize(("name", "number"), [("SE2", 4), ("E2", 4)])
def test_group_with_a_larger_kernel(name, number):
    conv = make_convs(name, number, size=5, channels=(2, 2))["group"]
    f = random_map(conv.group, number=4, batch=1)
    close(conv.at(f, Sample(f.elements)).values, slow_group(conv, f, f.elements, 5))


@pytest.mark.parametrize(("name", "number"), GROUPS)
@pytest.mark.parametrize("angle", ["circle", "linear"])
@pytest.mark.parametrize("no_sets", [1, 2])
def test_pointwise(name, number, angle, no_sets):
    conv = make_convs(name, number, angle=angle)["pointwise"]
    f = random_map(conv.group, number=3, no_sets=no_sets)
    elements = random_elements(conv.group, no_sets, 4)
    close(conv(f, Sample(elements)).values, slow_group(conv, f, elements, None))


@pytest.mark.parametrize("kind", ["group", "pointwise"])
@pytest.mark.parametrize("sets", [1, 2])
def test_input_elements_count_by_their_weight(kind, sets):
    conv = make_convs("E2", 4)[kind]
    weights = torch.rand(sets, 4, dtype=torch.float64)
    weights[:, 1] = 0
    f = random_map(conv.group, weights=weights)
    sample = Sample(random_elements(conv.group, 1, 2), torch.rand(sets, 2, dtype=torch.float64))
    found = conv.at(f, sample)
    close(found.values, slow_group(conv, f, sample.elements, 3 if kind == "group" else None))
    assert found.weights is sample.weights, "the output elements' weights are the next layer's to use"


@pytest.mark.parametrize("no_sets", [1, 3])
@pytest.mark.parametrize("side", [(2, 2), (9, 8)], ids=["small maps", "large maps"])
def test_sets_elements_channels_and_biases_keep_their_places(no_sets, side):
    """Every axis of another length, and maps both smaller and larger than the weights."""
    convs = make_convs("SE2", 5, channels=(2, 4))
    f, elements = (
        random_map(make_group("SE2"), batch=3, number=5, side=side),
        random_elements(make_group("SE2"), no_sets, 2),
    )
    images = f.values[:, :, 0]
    close(convs["lifting"].at(images, Sample(elements)).values, slow_lifting(convs["lifting"], images, elements, 3))
    close(convs["group"].at(f, Sample(elements)).values, slow_group(convs["group"], f, elements, 3))
    close(convs["pointwise"].at(f, Sample(elements)).values, slow_group(convs["pointwise"], f, elements, None))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [1, 3, 5, "3"])
def test_paddings_and_odd_sizes(padding, size):
    side = int(size)
    assert padding == "same" or 5 + 2 * (0 if padding == "valid" else padding) >= side
    convs = make_convs("E2", 2, size, padding=padding)
    images, f = (
        torch.randn(1, 2, 6, 5, dtype=torch.float64),
        random_map(make_group("E2"), number=2, batch=1, side=(6, 5)),
    )
    elements = random_elements(make_group("E2"), 1, 2)
    close(convs["lifting"].at(images, Sample(elements)).values, slow_lifting(convs["lifting"], images, elements, side))
    close(convs["group"].at(f, Sample(elements)).values, slow_group(convs["group"], f, elements, side))


@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (4, 4), (2, 4)])
@pytest.mark.parametrize("size", ["same", "full"])
def test_sizes_that_follow_the_map(shape, size):
    side = {"same": max(shape), "full": 2 * max(shape) - 1}[size]
    convs = make_convs("SE2", 2, size, channels=(1, 2))
    images, f = (
        torch.randn(1, 1, *shape, dtype=torch.float64),
        random_map(make_group("SE2"), number=2, channels=1, batch=1, side=shape),
    )
    elements = random_elements(make_group("SE2"), 1, 2)
    close(convs["lifting"].at(images, Sample(elements)).values, slow_lifting(convs["lifting"], images, elements, side))
    close(convs["group"].at(f, Sample(elements)).values, slow_group(convs["group"], f, elements, side))


def test_one_layer_serves_maps_of_different_sizes():
    conv = make_convs("SE2", 2, "same", channels=(1, 2))["lifting"]
    elements = random_elements(conv.group, 1, 2)
    for side in (3, 5, 3):
        images = torch.randn(1, 1, side, side, dtype=torch.float64)
        close(conv.at(images, Sample(elements)).values, slow_lifting(conv, images, elements, side))


@pytest.mark.parametrize(("size", "live"), [(1, 1), (3, 5), (5, 13), (7, 29), (9, 49)])
def test_taps_outside_the_disc_are_dead_at_every_turn(size, live):
    assert len(taps_of(size)) == live, "the published counts"
    seen = []
    for conv in make_convs("E2", 4, size, make_kernel=BIASED).values():
        conv.kernel_hook.register_forward_hook(lambda module, inputs, output: seen.append(output))
        sample = Sample(random_elements(conv.group, 2, 50))
        f = random_map(conv.group, no_sets=2, side=(size, size))
        conv.at(f.values[:, :, 0] if isinstance(conv, LiftingConv) else f, sample)
    expected = torch.zeros(size, size, dtype=torch.bool)
    for v, u, _ in taps_of(size):
        expected[v, u] = True
    for weight in seen[:2]:
        assert torch.equal(weight.detach().ne(0).any(1).all(0), expected)
    assert seen[2].detach().ne(0).all(), "pointwise: no tap to lose"


@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_the_hook_sees_the_dense_weight(kind):
    conv, seen = make_convs("E2", 4)[kind], []
    conv.kernel_hook.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    sample = Sample(random_elements(conv.group, 2, 5))
    if kind == "lifting":
        conv.at(torch.randn(2, 2, 4, 4, dtype=torch.float64), sample)
    else:
        conv.at(random_map(conv.group, number=4), sample)
    inputs, side = (2 if kind == "lifting" else 2 * 4), (1 if kind == "pointwise" else 3)
    assert seen == [(2 * 5 * 3, inputs, side, side)]


@pytest.mark.parametrize("size", [2, 4, 28, "6"])
def test_even_sizes_name_the_nearest_two(size):
    with pytest.raises(UserError) as caught:
        make_convs(size=size)
    assert f"kernel.size={int(size)}" in str(caught.value)
    assert f"{int(size) - 1} or {int(size) + 1}" in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, "big", ""])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(UserError, match="odd number up to 1023, 'same' or 'full'"):
        make_convs(size=size)


@pytest.mark.parametrize(("padding", "room"), [("valid", 4), (0, 4), (1, 2)])
def test_a_map_smaller_than_the_kernel_is_told(padding, room):
    convs = make_convs(size=5, padding=padding)
    f = random_map(make_group("SE2"), side=(7, room))
    with pytest.raises(UserError, match=f"7x{room}.*kernel.size=5"):
        convs["lifting"](torch.randn(1, 2, 7, room, dtype=torch.float64))
    with pytest.raises(UserError, match="smaller than the kernel"):
        convs["group"](f)


@pytest.mark.parametrize("kind", ["lifting", "group"])
def test_without_a_bias_there_is_none(kind):
    conv = make_convs(bias=False)[kind]
    assert conv.bias is None and "bias" not in conv.state_dict()
    zeros = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    f = GroupFeatureMap(zeros.unsqueeze(2), random_elements(conv.group, 1, 1))
    out = conv(zeros) if kind == "lifting" else conv(f)
    assert not out.values.any()


def test_gradients_reach_kernel_bias_and_input():
    convs = make_convs("E2", 4)
    images = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    out = convs["group"](convs["lifting"].train()(images)._replace(values=convs["lifting"](images).values[:, :2]))
    out.values.square().sum().backward()
    assert images.grad.abs().sum() > 0
    for conv in (convs["lifting"], convs["group"]):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())
