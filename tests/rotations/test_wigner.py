"""Wigner matrices, against spherical harmonics of scipy and by the laws of a representation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from partial_equiv import UserError
from partial_equiv.rotations import euler_matrix, stack_width, wigner, wigner_stack
from partial_equiv.rotations.wigner import _coupling_on

EXAMPLES = settings(max_examples=15, deadline=None, derandomize=True)
DEGREES = range(6)
angle = st.floats(-math.pi, math.pi)
rotations = st.tuples(angle, angle, angle).map(lambda t: euler_matrix(torch.tensor(t, dtype=torch.float64)))


def harmonics(points, degree):
    """Return the real spherical harmonics of scipy without its phase (-1)^m, orders -l to l."""
    x, y, z = points.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    columns = []
    for order in range(-degree, degree + 1):
        value = (-1) ** order * sph_harm_y(degree, abs(order), polar, azimuth)
        columns.append(value.real if order == 0 else math.sqrt(2) * (value.imag if order < 0 else value.real))
    return torch.as_tensor(np.stack(columns, axis=-1))


@pytest.mark.parametrize("degree", DEGREES)
@given(first=rotations, second=rotations)
@EXAMPLES
def test_it_is_an_orthogonal_representation(degree, first, second):
    size = 2 * degree + 1
    product = wigner(first, degree) @ wigner(second, degree)
    torch.testing.assert_close(wigner(first @ second, degree), product, atol=1e-12, rtol=0)
    identity = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(wigner(first, degree) @ wigner(first, degree).mT, identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(wigner(first.mT, degree), wigner(first, degree).mT, atol=1e-12, rtol=0)


@pytest.mark.parametrize("degree", DEGREES)
@given(rotation=rotations)
@EXAMPLES
def test_it_turns_the_spherical_harmonics(degree, rotation):
    points = torch.nn.functional.normalize(torch.randn(30, 3, dtype=torch.float64), dim=-1)
    turned = harmonics((points @ rotation.mT).clamp(-1, 1), degree)
    expected = harmonics(points, degree) @ wigner(rotation, degree).mT
    torch.testing.assert_close(turned, expected, atol=1e-7, rtol=0)  # the arc cosine in the oracle loses digits


@pytest.mark.parametrize("degree", DEGREES)
def test_the_trace_is_the_character_of_the_degree(degree):
    turn = torch.tensor([0.0, 0.3, 1.7, 3.0], dtype=torch.float64)
    tilted = euler_matrix(torch.tensor([0.4, -1.0, 2.0], dtype=torch.float64))
    about_x = euler_matrix(torch.stack([turn, 0 * turn, 0 * turn], dim=-1))
    traces = wigner(tilted @ about_x @ tilted.mT, degree).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    expected = 1 + 2 * sum(torch.cos(k * turn) for k in range(1, degree + 1))
    torch.testing.assert_close(traces, expected * torch.ones_like(turn), atol=1e-12, rtol=0)


def test_degree_one_is_the_rotation_of_y_z_x():
    rotation = euler_matrix(torch.randn(7, 3))
    reordered = rotation[:, [1, 2, 0]][:, :, [1, 2, 0]]
    torch.testing.assert_close(wigner(rotation, 1), reordered, atol=1e-6, rtol=0)


def test_a_turn_about_z_mixes_only_orders_of_equal_size():
    turn = torch.tensor(0.7, dtype=torch.float64)
    found = wigner(euler_matrix(torch.stack([0 * turn, 0 * turn, turn])), 3)
    expected = torch.zeros(7, 7, dtype=torch.float64)
    for order in range(-3, 4):
        expected[3 + order, 3 + order] = math.cos(order * 0.7)
        expected[3 + order, 3 - order] -= math.sin(order * 0.7)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_the_stack_holds_all_degrees_row_by_row():
    rotation = euler_matrix(torch.randn(4, 2, 3))
    found = wigner_stack(rotation, 3)
    assert found.shape == (4, 2, stack_width(3)) == (4, 2, 1 + 9 + 25 + 49)
    start = 0
    for degree in range(4):
        block = found[..., start : start + (2 * degree + 1) ** 2]
        torch.testing.assert_close(block.unflatten(-1, (2 * degree + 1, -1)), wigner(rotation, degree))
        start += (2 * degree + 1) ** 2
    identities = torch.cat([torch.eye(2 * degree + 1).flatten() for degree in range(4)])
    torch.testing.assert_close(wigner_stack(torch.eye(3), 3), identities, atol=1e-6, rtol=0)


def test_it_has_a_gradient_also_after_use_without_one():
    _coupling_on.cache_clear()
    with torch.inference_mode():
        wigner(torch.eye(3, dtype=torch.float64), 4)
    angles = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: wigner(euler_matrix(a), 3), angles)


def test_a_degree_below_zero_is_told():
    with pytest.raises(UserError, match="degree -1"):
        wigner(torch.eye(3), -1)
