"""Positions in parts: the first layer of a kernel maps each part alone, and broadcasting does the rest."""

import copy
import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.kernels.test_kernels import CASES, make

# Leading shapes and widths of the parts: what convolutions hand over, and every other way to broadcast.
PARTS = {
    "taps and elements": [((6, 1, 5), 2), ((6, 4, 1), 3)],
    "a part without rows": [((5,), 2), ((6, 4, 1), 2)],
    "elements first": [((3, 4, 1), 3), ((1, 1, 5), 2)],
    "three parts": [((2, 1, 1), 1), ((3, 1), 2), ((4,), 2)],
    "alike": [((7,), 2), ((7,), 1)],
    "one": [((3, 5), 4)],
    "one number each": [((4, 1), 1), ((1, 6), 1)],
}


def parts_of(name):
    return [2 * torch.rand(*shape, width, dtype=torch.float64) - 1 for shape, width in PARTS[name]]


def joined(parts):
    """Return the points the parts stand for, one by one: [..., c]."""
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    points = torch.empty(*shape, sum(part.shape[-1] for part in parts), dtype=parts[0].dtype)
    for index in itertools.product(*map(range, shape)):
        points[index] = torch.cat([part.expand(*shape, -1)[index] for part in parts])
    return points


def kernel_for(case, parts):
    kernel = make(case, in_features=sum(part.shape[-1] for part in parts)).double()
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no bias is left at 0
    return kernel


def near(found, expected, tolerance=1e-12):
    """Compare, relative to the size of the values; frequencies of the filters magnify the last bit of a position."""
    assert found.shape == expected.shape
    return (found - expected).abs().max() <= tolerance * max(expected.abs().max().item(), 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("training", [True, False])
def test_features_of_parts_are_those_of_the_points(case, name, training):
    parts = parts_of(name)
    kernel = kernel_for(case, parts).train(training)
    twin = copy.deepcopy(kernel)
    found, expected = kernel.features(*parts), twin.features(joined(parts))
    assert near(found, expected)
    for key, value in twin.state_dict().items():  # running statistics of an MLP see every point
        assert torch.allclose(kernel.state_dict()[key].double(), value.double(), rtol=1e-12, atol=1e-12), key


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PARTS)
def test_one_tensor_stays_a_list_of_points(case, name):
    parts = parts_of(name)
    kernel, points = kernel_for(case, parts).eval(), joined(parts)
    assert torch.equal(kernel.readout(kernel.features(points)), kernel(points))
    assert near(kernel.features(points.flatten(0, -2)), kernel.features(points).flatten(0, -2))


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_parts_and_parameters_alike(case):
    gradients, outputs = [], []
    base = parts_of("taps and elements")
    kernel = kernel_for(case, base)
    for join in (False, True):
        parts, twin = [part.clone().requires_grad_() for part in base], copy.deepcopy(kernel)
        shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        points = [torch.cat([part.expand(*shape, -1) for part in parts], -1)] if join else parts
        out = twin.features(*points)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        gradients.append(
            [part.grad for part in parts] + [p.grad for n, p in twin.named_parameters() if "readout" not in n]
        )
        outputs.append(out.detach())
    assert near(*outputs)
    for found, expected in zip(*gradients, strict=True):
        assert found.isfinite().all() and expected.any()
        # A bias before a batch normalisation has a gradient of 0, to rounding.
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-10 * max(expected.abs().max().item(), 1e-3))


@pytest.mark.parametrize("case", CASES)
def test_parts_in_single_precision_agree_with_double(case):
    parts = parts_of("taps and elements")
    kernel = kernel_for(case, parts).eval()
    expected = kernel.features(*parts)
    found = copy.deepcopy(kernel).float().features(*(part.float() for part in parts))
    assert found.dtype == torch.float32
    assert near(found.double(), expected, 2e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_first_layer_multiplies_each_part_alone(case):
    """c columns at the points of their own part instead of at all points: that many products less."""
    parts = [torch.rand(32, 1, 16, 2, dtype=torch.float64), torch.rand(32, 8, 1, 3, dtype=torch.float64)]
    kernel, counts = kernel_for(case, parts).eval(), []
    for points in (parts, [torch.cat([part.expand(32, 8, 16, -1) for part in parts], -1)]):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            kernel.features(*points)
        counts.append(counter.get_total_flops())
    filters = {"Fourier": 4, "Gabor": 3 * 4, "MAGNet": 3 * 4}.get(case, 1)  # a window is two products, a wave is one
    all_points, alone = 5 * 32 * 8 * 16, 2 * 32 * 16 + 3 * 32 * 8
    assert counts[1] - counts[0] == 2 * 8 * filters * (all_points - alone)
