"""Angles on the circle.

Axes: `...` any leading axes, k angles that are averaged.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class CircularMean(NamedTuple):
    """The mean of angles, and how much it means.

    Shape:
        mean [...] in (-pi, pi], radians; resultant [...] in [0, 1]: 1 where all angles agree, 0 where they prefer none.
    """

    mean: Tensor
    resultant: Tensor


def wrap(angle: Tensor) -> Tensor:
    """Return equal angles in (-pi, pi], radians."""
    turned = math.pi - torch.remainder(math.pi - angle, 2 * math.pi)
    return torch.where(turned <= -math.pi, math.pi, turned)  # what rounding sends to the open end


def circular_mean(angles: Tensor, weights: Tensor | None = None) -> CircularMean:
    """Return the direction of the mean of (cos a, sin a), and its length.

    The mean is the angle c with the least sum of 1 - cos(a - c). Where the resultant is 0 any angle is, and 0 is given.

    Args:
        angles: Radians, any number of turns.
        weights: At least 0, of the shape of `angles`; None weighs all alike.
    Shape:
        angles [..., k] -> [...], [...].
    Source: Mardia & Jupp 2000, section 2.2.
    """
    weights = torch.ones_like(angles) if weights is None else weights
    total = weights.sum(dim=-1).clamp(min=torch.finfo(angles.dtype).tiny)
    x = (weights * angles.cos()).sum(dim=-1) / total
    y = (weights * angles.sin()).sum(dim=-1) / total
    return CircularMean(wrap(torch.atan2(y, x)), torch.hypot(x, y).clamp(max=1))
