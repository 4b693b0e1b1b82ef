"""Augerino: its warp against torch.rot90, flips and scipy, and its average against a loop."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from partial_equiv.groups import make_group
from partial_equiv.nets import Augerino
from partial_equiv.nets.augerino import transform_images
from partial_equiv.sampling import make_sampler

SIDES = [(8, 8), (7, 7), (9, 6), (6, 9)]


def warped(images, angle, mirror=1.0, name="E2"):
    group = make_group(name)
    element = torch.tensor([[angle, mirror][: group.dimension]], dtype=torch.float64)
    return transform_images(images, group, element)[0]


@pytest.mark.parametrize("side", [(8, 8), (7, 7)])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_right_angles_equal_the_inverse_rot90_and_flip(side, turns, mirror):
    images = torch.randn(2, 3, *side, dtype=torch.float64)
    found = warped(images, turns * math.pi / 2, mirror)
    back = torch.rot90(images, -turns, dims=(-2, -1))  # h^-1 = mirror after the turn back
    expected = back.flip(-1) if mirror < 0 else back
    assert torch.allclose(found, expected, atol=1e-9)
    if turns in (1, 3):
        wrong = torch.rot90(images, turns, dims=(-2, -1))
        assert not torch.allclose(found, wrong.flip(-1) if mirror < 0 else wrong, atol=0.1)


@pytest.mark.parametrize("side", [(9, 6), (6, 9), (5, 8)])
def test_half_turns_and_flips_are_exact_on_any_shape(side):
    images = torch.randn(2, 3, *side, dtype=torch.float64)
    assert torch.allclose(warped(images, math.pi), images.flip(-1).flip(-2), atol=1e-9)
    assert torch.allclose(warped(images, 0.0, -1.0), images.flip(-1), atol=1e-9)
    assert torch.allclose(warped(images, 0.0), images, atol=1e-9)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("angle", "mirror"), [(0.4, 1.0), (2.2, 1.0), (-1.1, -1.0), (math.pi / 2, 1.0), (4.0, -1.0)])
def test_any_angle_equals_scipy(side, angle, mirror):
    """The value at x is the image's at h x, in pixels about the centre, linear in between and zero outside."""
    images = torch.randn(2, 3, *side, dtype=torch.float64)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, mirror])
    centre = (np.array(side) - 1) / 2
    found = warped(images, angle, mirror)
    for b in range(2):
        for c in range(3):
            expected = ndimage.affine_transform(
                images[b, c].numpy(), matrix, centre - matrix @ centre, order=1, mode="grid-constant"
            )
            assert np.abs(found[b, c].numpy() - expected).max() < 1e-9


def test_one_copy_an_element_in_order():
    images = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    elements = make_group("D4").grid(8, torch.float64)
    copies = transform_images(images, make_group("D4"), elements)
    assert copies.shape == (8, 2, 1, 6, 6)
    for element, found in zip(elements, copies, strict=True):
        assert torch.allclose(found, warped(images, *element.tolist()), atol=1e-12)


def test_single_precision_stays_close():
    images = torch.rand(1, 1, 28, 28)
    found = warped(images, 0.7)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), warped(images.double(), 0.7), atol=1e-4)


class Net(nn.Module):
    """A network that sees where things are, so that the average shows."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(36, 4).double()

    def forward(self, images, generator=None):
        return self.linear(images.flatten(1)).tanh()


@pytest.mark.parametrize("name", ["SE2", "E2"])
def test_logits_are_the_weighted_average_over_the_copies(name):
    group, net = make_group(name), Net()
    sampler = make_sampler(group=group, no_samples=4, sampling_method="random", partial_equiv=True)
    model = Augerino(net, sampler).double().eval()
    sampler.level.data.fill_(0.4)
    if sampler.gates is not None:
        sampler.gates.data.fill_(-0.3)
    images = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    elements, weights, _ = sampler(1)
    weights = [1.0] * 4 if weights is None else weights[0].tolist()
    logits = [net(warped(images, *h.tolist(), name=name)) for h in elements[0]]
    expected = sum(w * x for w, x in zip(weights, logits, strict=True)) / sum(weights)
    assert torch.allclose(model(images), expected, atol=1e-12)


def test_the_level_and_the_mirror_learn():
    sampler = make_sampler(group=make_group("E2"), no_samples=4, sampling_method="random", partial_equiv=True)
    model = Augerino(Net(), sampler).double().train()
    model(torch.randn(3, 1, 6, 6, dtype=torch.float64)).square().sum().backward()
    assert sampler.level.grad.abs() > 0 and sampler.gates.grad.abs() > 0
