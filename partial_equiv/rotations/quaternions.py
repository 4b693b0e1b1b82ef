"""Rotations of space as quaternions, matrices and Euler angles.

Axes: `...` any leading axes; a quaternion is a row (x, y, z, w), its scalar last; angles are radians.
"""

import torch
from torch import Tensor


def euler_quaternion(angles: Tensor) -> Tensor:
    """Return the quaternion q_z(c) q_y(b) q_x(a): turns about the fixed axes x, y, z, in this order.

    The sign is that of the product, neither w >= 0 nor continuous where an angle passes a full turn: see `canonical`.

    Args:
        angles: (a, b, c), radians.
    Shape:
        angles [..., 3] -> [..., 4] of length 1.
    Source: the sequence "xyz" of scipy, which means extrinsic turns.
    """
    (ca, cb, cc), (sa, sb, sc) = ((angles / 2).cos().unbind(-1), (angles / 2).sin().unbind(-1))
    x = sa * cb * cc - ca * sb * sc
    y = ca * sb * cc + sa * cb * sc
    z = ca * cb * sc - sa * sb * cc
    w = ca * cb * cc + sa * sb * sc
    return torch.stack([x, y, z, w], dim=-1)


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """Return the product p q, the rotation that turns by q first: [..., 4], [..., 4] -> [..., 4], axes broadcast."""
    (px, py, pz, pw), (qx, qy, qz, qw) = p.unbind(-1), q.unbind(-1)
    x = pw * qx + px * qw + py * qz - pz * qy
    y = pw * qy - px * qz + py * qw + pz * qx
    z = pw * qz + px * qy - py * qx + pz * qw
    w = pw * qw - px * qx - py * qy - pz * qz
    return torch.stack([x, y, z, w], dim=-1)


def conjugate(q: Tensor) -> Tensor:
    """Return (-x, -y, -z, w), for length 1 the inverse: [..., 4] -> [..., 4]."""
    return torch.cat([-q[..., :3], q[..., 3:]], dim=-1)


def canonical(q: Tensor) -> Tensor:
    """Return q or -q, the one with w >= 0, which is the same rotation: [..., 4] -> [..., 4].

    Half turns have w = 0 and keep their sign; near them the result jumps.
    """
    return torch.where(q[..., 3:] < 0, -q, q)


def quaternion_matrix(q: Tensor) -> Tensor:
    """Return the rotation matrix of a quaternion of any length above 0; q and -q have the same.

    R = I + 2 w K / |q|^2 + 2 K^2 / |q|^2 with K v = (x, y, z) x v.

    Shape:
        q [..., 4] -> [..., 3, 3], acting on columns: `quaternion_matrix(multiply(p, q))` is the product of theirs.
    """
    x, y, z, w = q.unbind(-1)
    zero = torch.zeros_like(w)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    scale = 2 / q.square().sum(dim=-1)[..., None, None]
    identity = torch.eye(3, dtype=q.dtype, device=q.device)
    matrix: Tensor = identity + scale * (w[..., None, None] * cross + cross @ cross)
    return matrix


def euler_matrix(angles: Tensor) -> Tensor:
    """Return R_z(c) R_y(b) R_x(a), turns about fixed axes, of angles (a, b, c): [..., 3] -> [..., 3, 3]."""
    return quaternion_matrix(euler_quaternion(angles))


def quaternion_euler(q: Tensor) -> Tensor:
    """Return angles (a, b, c) of turns about the fixed axes x, y, z, the inverse of `euler_quaternion`.

    a and c lie in [-pi, pi], b in [-pi / 2, pi / 2]. At b = +-pi / 2 only a sum of a and c is defined; c = 0 is given
    there. Angles jump, and their gradient is not finite, at that lock: networks should see another encoding.

    Shape:
        q [..., 4], any length above 0 -> [..., 3], radians.
    """
    matrix = quaternion_matrix(q)
    cosine = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    b = torch.atan2(-matrix[..., 2, 0], cosine)
    free = cosine > 16 * torch.finfo(q.dtype).eps
    a = torch.where(
        free,
        torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2]),
        torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
    )
    c = torch.where(free, torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]), torch.zeros_like(a))
    return torch.stack([a, b, c], dim=-1)


def geodesic(p: Tensor, q: Tensor) -> Tensor:
    """Return the angle of the turn between two rotations: 2 atan2(|v|, |w|) of conj(p) q = (v, w).

    The sign of either quaternion does not matter, nor does its length; for length 0 the angle is NaN. Unlike an arc
    cosine it keeps small angles exact.

    Shape:
        p [..., 4], q [..., 4] -> [...] in [0, pi], radians, axes broadcast.
    """
    unit_p, unit_q = (r / torch.linalg.vector_norm(r, dim=-1, keepdim=True) for r in (p, q))
    between = multiply(conjugate(unit_p), unit_q)
    sine = torch.linalg.vector_norm(between[..., :3], dim=-1)
    return 2 * torch.atan2(sine, between[..., 3].abs())
