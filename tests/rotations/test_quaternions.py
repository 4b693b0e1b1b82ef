"""Quaternions, matrices and Euler angles, against scipy and by the laws of the group."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from partial_equiv.rotations import (
    canonical,
    conjugate,
    euler_matrix,
    euler_quaternion,
    geodesic,
    multiply,
    quaternion_euler,
    quaternion_matrix,
)

EXAMPLES = settings(max_examples=50, deadline=None, derandomize=True)
CLOSE = {"atol": 1e-12, "rtol": 0}
angle = st.floats(-10, 10)
turns = st.tuples(angle, angle, angle).map(lambda numbers: torch.tensor(numbers, dtype=torch.float64))


def drawn(no_rows, bound=math.pi):
    return (torch.rand(no_rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1) * bound


def scipy_of(angles):
    return Rotation.from_euler("xyz", angles.numpy())


def numbers(array):
    return torch.as_tensor(np.asarray(array))


def test_euler_quaternions_and_matrices_are_those_of_scipy_with_their_sign():
    angles = drawn(500, bound=2 * math.pi)
    torch.testing.assert_close(euler_quaternion(angles), numbers(scipy_of(angles).as_quat()), **CLOSE)
    torch.testing.assert_close(euler_matrix(angles), numbers(scipy_of(angles).as_matrix()), **CLOSE)
    assert (euler_quaternion(angles)[:, 3] < 0).any()


def test_each_axis_turns_as_it_should():
    quarter = math.pi / 2 * torch.eye(3, dtype=torch.float64)
    moved = euler_matrix(quarter) @ torch.eye(3, dtype=torch.float64)
    # About x, y turns to z; about y, z turns to x; about z, x turns to y.
    for axis in range(3):
        start, end = (axis + 1) % 3, (axis + 2) % 3
        torch.testing.assert_close(moved[axis, :, start], torch.eye(3, dtype=torch.float64)[end], **CLOSE)


@given(turns, turns)
@EXAMPLES
def test_products_are_those_of_scipy_and_of_matrices(first, second):
    p, q = euler_quaternion(first), euler_quaternion(second)
    torch.testing.assert_close(quaternion_matrix(multiply(p, q)), euler_matrix(first) @ euler_matrix(second), **CLOSE)
    expected = numbers((scipy_of(first) * scipy_of(second)).as_quat())
    torch.testing.assert_close(multiply(p, q), expected, **CLOSE)


@given(turns, turns, turns)
@EXAMPLES
def test_the_laws_of_the_group(first, second, third):
    p, q, r = (euler_quaternion(t) for t in (first, second, third))
    identity = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(multiply(multiply(p, q), r), multiply(p, multiply(q, r)), **CLOSE)
    torch.testing.assert_close(multiply(p, identity), p, **CLOSE)
    torch.testing.assert_close(multiply(conjugate(p), p), identity, **CLOSE)
    torch.testing.assert_close(quaternion_matrix(conjugate(p)), quaternion_matrix(p).mT, **CLOSE)


@given(turns, st.floats(0.1, 10), st.sampled_from([-1, 1]))
@EXAMPLES
def test_neither_sign_nor_length_changes_a_rotation(angles, length, sign):
    q = euler_quaternion(angles)
    torch.testing.assert_close(quaternion_matrix(sign * length * q), quaternion_matrix(q), **CLOSE)
    assert float(geodesic(sign * length * q, q)) == pytest.approx(0, abs=1e-7)
    chosen = canonical(sign * q)
    assert chosen[3] >= 0 and (torch.equal(chosen, q) or torch.equal(chosen, -q))


def test_canonical_is_that_of_scipy():
    angles = drawn(200, bound=2 * math.pi)
    expected = numbers(scipy_of(angles).as_quat(canonical=True))
    torch.testing.assert_close(canonical(euler_quaternion(angles)), expected, **CLOSE)


def test_euler_angles_come_back_and_are_those_of_scipy():
    angles = drawn(500) * torch.tensor([1, 0.5, 1])
    q = euler_quaternion(angles)
    torch.testing.assert_close(quaternion_euler(q), angles, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        quaternion_euler(-3 * q), numbers(Rotation.from_quat(q).as_euler("xyz")), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("lock", [-math.pi / 2, math.pi / 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_lock_the_angles_still_give_the_rotation(lock, dtype):
    angles = torch.tensor([[0.3, lock, 1.1], [-2.0, lock, 0.4], [0.0, lock, 0.0]], dtype=dtype)
    found = quaternion_euler(euler_quaternion(angles))
    tolerance = 3e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(euler_matrix(found), euler_matrix(angles), atol=tolerance, rtol=0)


def test_the_geodesic_angle_is_that_of_scipy():
    first, second = drawn(300), drawn(300).roll(1, dims=0)
    expected = (scipy_of(first).inv() * scipy_of(second)).magnitude()
    found = geodesic(euler_quaternion(first), euler_quaternion(second))
    torch.testing.assert_close(found, numbers(expected), atol=1e-10, rtol=0)


def test_the_geodesic_angle_keeps_small_and_large_angles_in_float32_and_has_a_finite_gradient():
    identity = torch.tensor([0.0, 0, 0, 1])
    for size in (1e-6, 1e-3, 3.1415):
        turned = euler_quaternion(torch.tensor([0.0, size, 0.0]))
        assert float(geodesic(identity, turned)) == pytest.approx(size, rel=1e-5)
    q = torch.tensor([[0.0, 0, 0, 1], [0.0, 0, 0, 3], [1.0, 0, 0, 0], [0.1, 0.2, 0.3, -0.4]], requires_grad=True)
    geodesic(q, identity).sum().backward()
    assert torch.isfinite(q.grad).all()
    assert torch.isnan(geodesic(torch.zeros(4), identity))


def test_leading_axes_broadcast_and_dtypes_are_kept():
    p, q = torch.randn(3, 1, 4), torch.randn(5, 4)
    assert multiply(p, q).shape == (3, 5, 4) and geodesic(p, q).shape == (3, 5)
    torch.testing.assert_close(multiply(p, q)[2, 4], multiply(p[2, 0], q[4]))
    for dtype in (torch.float32, torch.float64):
        assert quaternion_matrix(euler_quaternion(torch.zeros(2, 3, dtype=dtype))).dtype == dtype
