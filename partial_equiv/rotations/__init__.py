"""Rotations of space: quaternions, matrices, Euler angles and Wigner matrices."""

from partial_equiv.rotations.quaternions import (
    canonical,
    conjugate,
    euler_matrix,
    euler_quaternion,
    geodesic,
    multiply,
    quaternion_euler,
    quaternion_matrix,
)
from partial_equiv.rotations.wigner import stack_width, wigner, wigner_stack

__all__ = [
    "canonical",
    "conjugate",
    "euler_matrix",
    "euler_quaternion",
    "geodesic",
    "multiply",
    "quaternion_euler",
    "quaternion_matrix",
    "stack_width",
    "wigner",
    "wigner_stack",
]
