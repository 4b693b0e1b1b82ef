"""How well a family explains the poses of a neighbourhood, over all its centres and parameters at once.

Axes: N images, k neighbours, A bins of the circle, P parameters, C centres (A of them, or 1).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.symmetry.angles import wrap
from partial_equiv.symmetry.families import SymmetryFamily

NO_BINS = 360


class Table(NamedTuple):
    """A family on a grid.

    Shape:
        log_density [P, A], per radian about centre 0; parameters [P].
    """

    family: SymmetryFamily
    log_density: Tensor
    parameters: Tensor


class Fit(NamedTuple):
    """What a family makes of a neighbourhood.

    Shape:
        log_evidence [N]; parameter [N], its mean a posteriori; centre [N], its circular mean a posteriori, radians,
        known up to 2 pi / n where the family has order n, and 0 where every centre is as good.
    """

    log_evidence: Tensor
    parameter: Tensor
    centre: Tensor


def bin_angles() -> Tensor:
    """Return the angles of the bins, from 0 upward in steps of one degree: float64 [A], radians."""
    return torch.arange(NO_BINS, dtype=torch.float64) * (2 * math.pi / NO_BINS)


def tabulate(family: SymmetryFamily, *, noise: float, stray_share: float, like: Tensor) -> Table:
    """Return the logarithm of `mixed_density` at every bin.

    Args:
        family: p.
        noise: Deviation of the poses, radians; a few bins, or more.
        stray_share: e, the share of neighbours that do not belong and lie anywhere.
        like: Gives device and dtype.
    """
    parameters = family.parameters()
    density = mixed_density(family, wrap(bin_angles()), parameters.unsqueeze(-1), noise=noise, stray_share=stray_share)
    return Table(family, density.log().to(like), parameters.to(like))


def mixed_density(
    family: SymmetryFamily, angles: Tensor, parameter: Tensor, *, noise: float, stray_share: float
) -> Tensor:
    """Return (1 - e) p(a) + e / 2 pi, the density of a neighbour that with probability e does not belong."""
    return (1 - stray_share) * family.density(angles, parameter, noise) + stray_share / (2 * math.pi)


def bin_shares(poses: Tensor) -> Tensor:
    """Return how many poses lie in each bin, each shared between the two bins beside it in proportion.

    The product with a table is then the sum of the log densities, interpolated linearly.

    Shape:
        poses [N, k] in radians -> [N, A].
    """
    place = torch.remainder(poses, 2 * math.pi) * (NO_BINS / (2 * math.pi))
    below = place.floor()
    share, first = place - below, below.long() % NO_BINS
    shares = poses.new_zeros(len(poses), NO_BINS).scatter_add_(1, first, 1 - share)
    return shares.scatter_add_(1, (first + 1) % NO_BINS, share)


def fit(shares: Tensor, table: Table, *, any_centre: bool) -> Fit:
    """Integrate the likelihood over parameters and centres, each as probable a priori as the next.

    log (1 / PC) sum_{p, c} prod_j f_p(a_j - c): what a family cannot decide costs it evidence, so that the more general
    of two laws that fit alike loses. The sums over j for all centres c are one circular correlation.

    Args:
        shares: Poses, as `bin_shares`.
        table: The family.
        any_centre: Try every bin as centre; else 0 alone.
    """
    if any_centre:
        spectrum = torch.fft.rfft(shares).unsqueeze(1) * torch.fft.rfft(table.log_density).conj()
        log_likelihood = torch.fft.irfft(spectrum, n=NO_BINS)
    else:
        log_likelihood = (shares @ table.log_density.T).unsqueeze(-1)
    no_hypotheses = log_likelihood[0].numel()
    highest = log_likelihood.amax(dim=(1, 2), keepdim=True)
    weights = (log_likelihood - highest).exp_()
    by_centre, by_parameter = weights.sum(dim=1), weights.sum(dim=2)
    total = by_parameter.sum(dim=1)
    return Fit(
        log_evidence=highest.flatten() + (total / no_hypotheses).log(),
        parameter=(by_parameter @ table.parameters) / total,
        centre=_centre(by_centre, table.family.order),
    )


def _centre(by_centre: Tensor, order: int) -> Tensor:
    """Return the circular mean of centres, as n-fold angles: weights [N, C] -> [N]."""
    if order == 0:
        return by_centre.new_zeros(len(by_centre))
    angles = order * bin_angles()[: by_centre.shape[1]].to(by_centre)
    return torch.atan2(by_centre @ angles.sin(), by_centre @ angles.cos()) / order
