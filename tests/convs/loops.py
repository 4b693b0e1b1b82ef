"""The convolutions once more: slow loops from the equations, in float64, with group arithmetic of their own."""

import functools
import math

import numpy as np
import torch

from partial_equiv.convs import GroupConv, GroupFeatureMap, LiftingConv, PointwiseConv
from partial_equiv.groups import make_group
from partial_equiv.kernels import KERNELS
from partial_equiv.sampling import make_sampler

SIREN = functools.partial(KERNELS["SIREN"], no_hidden=6, no_layers=3, omega0=5.0, learn_omega0=False, weight_norm=False)
LARGE = 1e-9  # taps at distance 1 are alive, to rounding


def rotation(angle, mirror=1.0):
    """Return R(r) diag(1, m), which mirrors the columns and then turns, on positions (row, column)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, mirror])


def matrix_of(element):
    """Return the matrix of one element, given as its numbers."""
    numbers = [float(x) for x in element]
    return rotation(*numbers) if numbers else np.eye(2)


def matrices_of(elements):
    return [matrix_of(element) for element in elements.detach().tolist()]


def coordinates_of(matrix, dimension, angle):
    """Return how the kernel sees the element of a matrix: the angle is read off its first column."""
    if dimension == 0:
        return [1.0]
    turn = math.atan2(matrix[1, 0], matrix[0, 0]) % (2 * math.pi)
    turn = 0.0 if 2 * math.pi - turn < 1e-12 else turn
    mirror = [float(np.sign(np.linalg.det(matrix)))] if dimension == 2 else []
    return [math.cos(turn), math.sin(turn), *mirror] if angle == "circle" else [turn / math.pi - 1, *mirror]


def taps_of(size):
    """Return (row index, column index, position) of every tap in the disc of radius 1."""
    side = np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    return [
        (v, u, np.array([y, x]))
        for v, y in enumerate(side)
        for u, x in enumerate(side)
        if math.hypot(y, x) <= 1 + LARGE
    ]


def kernel_at(conv, point):
    """Return the kernel's values at one point, [O, I]."""
    with torch.no_grad():
        values = conv.kernel(torch.tensor(point, dtype=torch.float64).unsqueeze(0)).squeeze(0)
    return values.numpy().reshape(conv.out_channels, conv.in_channels)


def margin_of(padding, size):
    """Return zero pixels before the first one: with "same" an even kernel has its extra pixel at the end."""
    return {"same": (size - 1) // 2, "valid": 0}.get(padding, padding)


def side_of(length, size, padding):
    return length if padding == "same" else length - size + 1 + 2 * (0 if padding == "valid" else padding)


def pixel(image, y, x):
    """Return a pixel, zero outside."""
    inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
    return image[y, x] if inside else 0.0


def slow_lifting(conv, images, elements, size):
    """(f * k)(x, h) = c sum_i sum_x' f_i(x') k(h^-1 (x' - x)) + bias, c = 1 / sqrt(I T)."""
    images, taps, margin = images.numpy(), taps_of(size), margin_of(conv.padding, size)
    batch, no_in, height, width = images.shape
    rows, columns = (side_of(n, size, conv.padding) for n in (height, width))
    out = np.zeros((batch, conv.out_channels, elements.shape[1], rows, columns))
    constant = 1 / math.sqrt(no_in * len(taps))
    for b in range(batch):
        for g, h in enumerate(matrices_of(elements[b % len(elements)])):
            for v, u, position in taps:
                kernel = kernel_at(conv, np.linalg.inv(h) @ position)
                for y in range(rows):
                    for x in range(columns):
                        column = [pixel(images[b, i], y + v - margin, x + u - margin) for i in range(no_in)]
                        out[b, :, g, y, x] += constant * kernel @ np.array(column)
    return out + (0 if conv.bias is None else conv.bias.detach().numpy()[:, None, None, None])


def slow_group(conv, f, elements, size):
    """(f * k)(x, h) = c sum_i mean_h' sum_x' f_i(x', h') k(h^-1 (x' - x), h^-1 h') + bias, c = sqrt(F / (I T)).

    The mean counts every h' by its weight; F elements the layer was made for; `size` None is pointwise.
    """
    values, dimension = f.values.numpy(), f.elements.shape[-1]
    padding, taps = ("valid", [(0, 0, None)]) if size is None else (conv.padding, taps_of(size))
    batch, no_in, no_inputs, height, width = values.shape
    margin, rows, columns = margin_of(padding, size or 1), *(side_of(n, size or 1, padding) for n in (height, width))
    out = np.zeros((batch, conv.out_channels, elements.shape[1], rows, columns))
    constant = math.sqrt(conv.no_samples / (no_in * len(taps)))
    for b in range(batch):
        inputs = matrices_of(f.elements[b % len(f.elements)])
        weights = np.ones(no_inputs) if f.weights is None else f.weights[b % len(f.weights)].detach().numpy()
        for g, h in enumerate(matrices_of(elements[b % len(elements)])):
            for j, other in enumerate(inputs):
                relative = coordinates_of(np.linalg.inv(h) @ other, dimension, conv.angle)
                for v, u, position in taps:
                    spatial = [] if position is None else list(np.linalg.inv(h) @ position)
                    kernel = constant * weights[j] / weights.sum() * kernel_at(conv, [*spatial, *relative])
                    for y in range(rows):
                        for x in range(columns):
                            column = [pixel(values[b, i, j], y + v - margin, x + u - margin) for i in range(no_in)]
                            out[b, :, g, y, x] += kernel @ np.array(column)
    return out + (0 if conv.bias is None else conv.bias.detach().numpy()[:, None, None, None])


def make_convs(name="SE2", no_samples=4, size=3, channels=(2, 3), make_kernel=SIREN, angle="circle", **keys):
    """Return the three convolutions in float64, biases drawn; `keys` go to lifting and group convolution."""
    group = make_group(name)
    sampler = make_sampler(group=group, no_samples=no_samples)
    common = {"group": group, "make_kernel": make_kernel, "angle": angle}
    convs = {
        "lifting": LiftingConv(*channels, size=size, sampler=sampler, **common, **keys),
        "group": GroupConv(*channels, size=size, sampler=None, no_samples=no_samples, **common, **keys),
        "pointwise": PointwiseConv(*channels, no_samples=no_samples, **common),
    }
    for conv in convs.values():
        conv.double().eval()
        if conv.bias is not None:
            torch.nn.init.normal_(conv.bias)
    return convs


def random_elements(group, no_sets, number):
    """Return elements anywhere on the group, [S, number, d]; with a mirror, some of them mirrored."""
    angles = 2 * math.pi * torch.rand(no_sets, number, dtype=torch.float64)
    if group.dimension == 0:
        return angles.new_zeros(no_sets, number, 0)
    signs = torch.ones(number, dtype=torch.float64)
    signs[::3] = -1
    return torch.stack([angles, signs.expand_as(angles)], -1) if group.mirror else angles.unsqueeze(-1)


def random_map(group, *, batch=2, channels=2, number=4, side=(5, 4), no_sets=1, elements=None, weights=None):
    """Return random features on random (or the given) elements."""
    elements = random_elements(group, no_sets, number) if elements is None else elements
    return GroupFeatureMap(
        torch.randn(batch, channels, elements.shape[1], *side, dtype=torch.float64), elements, weights
    )
