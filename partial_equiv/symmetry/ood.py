"""Does the data show such an image in such a pose?

Axes: B images, F families.
"""

import torch
from torch import Tensor

from partial_equiv.symmetry.angles import wrap
from partial_equiv.symmetry.evidence import mixed_density
from partial_equiv.symmetry.families import SYMMETRY_FAMILIES, Uniform

STRAY_SHARE = 0.02
"""Of poses that lie anywhere: no pose is impossible."""


def ood_score(relative_pose: Tensor, level: Tensor, family: Tensor | None = None, *, margin: float) -> Tensor:
    """Return how far poses lie outside their laws, above 0 for outside.

    uniform, normal: |a| - level; none, C_n: distance to the nearest element - margin; full: -1.

    Args:
        relative_pose: a, from the centre, radians.
        level: Bound or deviation, radians; the other families do not look at it.
        family: Places in FAMILIES; None takes every law for an interval, as published.
        margin: Slack of the laws that allow single angles, radians.
    Shape:
        [B], [B], [B] -> [B].
    Source: Urbano & Romero 2023, section 5.3. Differs: distances are wrapped, and one rule for all families.
    """
    if family is None:
        return Uniform().excess(relative_pose, level, margin)
    columns = [member.excess(relative_pose, level, margin) for member in SYMMETRY_FAMILIES.values()]
    return torch.stack(columns, dim=-1).gather(-1, family.unsqueeze(-1)).squeeze(-1)


def negative_log_density(relative_pose: Tensor, level: Tensor, family: Tensor, *, noise: float) -> Tensor:
    """Return -log p(a), with noise and strays: an out-of-distribution score that knows where a law is dense.

    Args:
        relative_pose: a, from the centre, radians.
        level: Bound or deviation, radians; the other families do not look at it.
        family: Places in FAMILIES.
        noise: Standard deviation of a pose, radians in (0, pi].
    Shape:
        [B], [B], [B] -> [B].
    """
    angles, columns = wrap(relative_pose), []
    for member in SYMMETRY_FAMILIES.values():
        parameter = level if member.has_spread else torch.ones_like(level)
        columns.append(mixed_density(member, angles, parameter, noise=noise, stray_share=STRAY_SHARE))
    return -torch.stack(columns, dim=-1).gather(-1, family.unsqueeze(-1)).squeeze(-1).log()
