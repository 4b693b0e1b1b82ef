"""The oracle of the planner's tests: real noise through a symmetrised twin in float64, and no planner."""

import copy

import torch
from torch import nn

BROKEN = 1e-6  # of the variation across images: exact networks stay below 1e-9, broken ones were never seen below 1e-4


def symmetric(weight):
    """Return filters averaged over the mirror images, and over the diagonal where they are square."""
    weight = (weight + weight.flip(-1)) / 2
    weight = (weight + weight.flip(-2)) / 2
    square = weight.shape[-1] == weight.shape[-2]
    return (weight + weight.transpose(-1, -2)) / 2 if square else weight


def symmetrised(model):
    """Return a copy in float64 whose filters are symmetric, so that nothing but the grid can break a symmetry."""
    twin = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.copy_(symmetric(module.weight))
    return twin


def mirrored(x, axis):
    """Return images, or maps, read backwards along an axis; logits have none."""
    return x.flip(-2 if axis == "H" else -1) if x.ndim == 4 else x


def error(f, x, move):
    """Return mean |f(T x) - T f(x)| / mean |f(x') - f(x)|; None where f does not see the image at all.

    Dividing by |f(x)| would hide breaks behind a bias, spec 4.3.
    """
    with torch.no_grad():
        y = f(x)
        variation = (y - y.roll(1, 0)).abs().mean()
        difference = (f(move(x)) - move(y)).abs().mean()
    return float(difference / variation) if 1e-12 < variation < float("inf") else None


def noise(size, batch=2, channels=3, seed=0):
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)


def breaks(f, x, axis):
    """Return whether reading the image backwards along an axis breaks f; None where f does not see the image."""
    found = error(f, x, lambda t: mirrored(t, axis))
    return None if found is None else found > BROKEN
