"""How noisy poses are, from how far they are from following a turn."""

import math

import torch
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.symmetry.angles import wrap

NORMAL_QUARTILE = 0.6744897501960817  # median of |a| where a is standard normal


def noise_floor(differences: Tensor) -> float:
    """Return the standard deviation of a pose: median |d| / 0.6745 / sqrt 2.

    d = psi(T_a x) - psi(x) - a is 0 for exact poses, and holds the errors of two of them. The median lets up to half of
    the images have no pose of their own, since they look the same after part of a turn.

    Args:
        differences: d, any number of whole turns, radians.
    Shape:
        [M] -> radians.

    Raises:
        UserError: no differences, or values that are not finite.
    """
    if not differences.numel() or not bool(torch.isfinite(differences).all()):
        raise UserError(f"{differences.numel()} differences of poses, some not finite: give at least one, all finite")
    return float(wrap(differences).abs().median()) / NORMAL_QUARTILE / math.sqrt(2)
