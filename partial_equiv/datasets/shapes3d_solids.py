"""Where rays meet boxes, ellipsoids and cylinders, in closed form.

Axes: K rays or points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from partial_equiv.datasets.shapes3d_objects import Part

Coordinates = Sequence[Tensor]
"""Three tensors: x, y and z of points or directions. Sums over them are written out, and so of one rounding always."""


def crossing(part: Part, start: Coordinates, direction: Coordinates) -> tuple[Tensor, Tensor]:
    """Return where rays start + t direction enter and leave a part.

    A ray meets the part exactly if it enters before it leaves; otherwise the two are in another order, or NaN.
    """
    q = [(start[axis] - part.centre[axis]) / part.half[axis] for axis in range(3)]
    spans = []
    for axis in (axis for axis in range(3) if not part.round[axis]):
        duration = part.half[axis] / direction[axis]
        middle, reach = -q[axis] * duration, duration.abs()
        spans.append((middle - reach, middle + reach))
    if any(part.round):
        spans.append(crossing_of_ball(part, q, direction))
    enters, leaves = spans[0]
    for first, last in spans[1:]:
        enters, leaves = torch.maximum(enters, first), torch.minimum(leaves, last)
    return enters, leaves


def crossing_of_ball(part: Part, q: Coordinates, direction: Coordinates) -> tuple[Tensor, Tensor]:
    """Return the two roots of a t^2 + 2 b t + c = 0, which is |q + t direction / half|^2 = 1 over the round axes."""
    a, b, c = torch.zeros(()), torch.zeros(()), -torch.ones(())
    for axis in (axis for axis in range(3) if part.round[axis]):
        step = direction[axis] / part.half[axis]
        a, b, c = a + step * step, b + q[axis] * step, c + q[axis] * q[axis]
    root = torch.sqrt(b * b - a * c)  # NaN for a ray that misses, which no comparison accepts
    return (-b - root) / a, (root - b) / a


def shaded(parts: Sequence[Part], start: Coordinates, direction: Coordinates, end: float) -> Tensor:
    """Say which rays meet a part between t = 0 and t = end, bool [K]."""
    met = torch.zeros_like(direction[0], dtype=torch.bool)
    for part in parts:
        enters, leaves = crossing(part, start, direction)
        met |= (enters < leaves) & (enters > 0) & (enters < end)
    return met


def normals(parts: Sequence[Part], number: Tensor, point: Tensor) -> Tensor:
    """Return unit normals of points on the surfaces of parts, number [K], point [K, 3] -> [K, 3]."""
    centre = torch.tensor([part.centre for part in parts]).to(point)[number]
    half = torch.tensor([part.half for part in parts]).to(point)[number]
    round_axes = torch.tensor([part.round for part in parts], device=point.device)[number]
    q = (point - centre) / half
    radial, flat = q * round_axes, q * ~round_axes
    depth, axis = flat.abs().max(dim=1)
    face = torch.zeros_like(q).scatter_(1, axis[:, None], flat.gather(1, axis[:, None]).sign())
    on_round = length(radial) > depth
    normal = torch.where(on_round[:, None], radial / half, face)
    return normal / length(normal)[:, None]


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Return inner products, [K, 3] -> [K]."""
    return one[:, 0] * other[:, 0] + one[:, 1] * other[:, 1] + one[:, 2] * other[:, 2]


def length(vectors: Tensor) -> Tensor:
    """Return Euclidean lengths, [K, 3] -> [K]."""
    x, y, z = vectors.unbind(1)
    return torch.sqrt(x * x + y * y + z * z)


def turn_back(rotations: Tensor, vectors: Tensor) -> list[Tensor]:
    """Return the coordinates of R^T v, a rotation for each vector.

    Shape:
        rotations [..., 3, 3], vectors [..., 3] -> 3 x [...], with broadcasting.
    """
    x, y, z = vectors.movedim(-1, 0).contiguous()
    return [rotations[..., 0, k] * x + rotations[..., 1, k] * y + rotations[..., 2, k] * z for k in range(3)]
