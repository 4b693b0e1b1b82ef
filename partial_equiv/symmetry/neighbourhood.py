"""Centre, level and family of the law of turns around an image, from the poses of its neighbours.

Axes: N images, k neighbours, F families.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.symmetry.angles import circular_mean, wrap
from partial_equiv.symmetry.evidence import Fit, Table, bin_shares, fit, tabulate
from partial_equiv.symmetry.families import FAMILIES, SYMMETRY_FAMILIES, family_levels

NO_STRAYS = 1e-100  # keeps logarithms finite; a neighbour outside a law costs it more than any wider law does
LEAST_NOISE = math.radians(1)  # one bin: below, more certainty changes no level that k neighbours can tell apart
AT_ONCE = 512  # neighbourhoods: the table of one family takes 50 MB


class Neighbourhood(NamedTuple):
    """What the neighbours of an image say.

    Shape:
        centre [N]: radians, to be taken off poses; uniform [N]: the bound if the law is an interval; normal [N]: the
        deviation if it is normal; posterior [N, F]: probabilities of the families; family [N] int64: the most probable
        one, a place in FAMILIES.
    """

    centre: Tensor
    uniform: Tensor
    normal: Tensor
    posterior: Tensor
    family: Tensor

    @property
    def level(self) -> Tensor:
        """The level by the family, radians: [N]."""
        return family_levels(self.family, torch.stack([self.uniform, self.normal], dim=-1))


@torch.no_grad()
def estimate(
    poses: Tensor, *, noise: float, centring: bool, trimming: float, signed: bool, noise_correction: bool
) -> Neighbourhood:
    """Return what poses say under every family, by integrated likelihoods.

    Families are equally probable a priori. Levels are means a posteriori: nothing is maximised, so that nothing jumps.
    The centre is that of the most probable family: for C_n the one nearest to 0 of its n equal choices, for full 0.

    Args:
        poses: Of the neighbours, any number of whole turns, radians.
        noise: Standard deviation of a pose, radians; from 1 degree to pi, and taken as the nearer of the two beyond.
        centring: Find the centre; else it is 0.
        trimming: Share of the neighbours that may be strays and lie anywhere, 0 to below 1; 0 counts every one.
        signed: Keep the signs of the poses; else take absolute values, as published.
        noise_correction: Levels are those of the turns; else those of the poses, noise included.
    Shape:
        [N, k] -> see `Neighbourhood`.

    Raises:
        UserError: no poses, values that are not finite, a noise below 0, or a share out of range.
    Source: Urbano & Romero 2023, section 3.2. Differs: all of it; see `estimate_published`.
    """
    _check(poses, noise, trimming)
    folded = wrap(poses) if signed else wrap(poses).abs()
    tables = _tables(noise, trimming=trimming, noise_correction=noise_correction, like=poses)
    chunks = [_estimate(chunk, tables, centring=centring) for chunk in folded.split(AT_ONCE)]
    return Neighbourhood(*(torch.cat(column) for column in zip(*chunks, strict=True)))


def _tables(noise: float, *, trimming: float, noise_correction: bool, like: Tensor) -> list[Table]:
    """Return every family on its grid."""
    seen = min(max(noise, LEAST_NOISE), math.pi)
    stray_share = max(trimming, NO_STRAYS)
    return [
        tabulate(
            family,
            noise=LEAST_NOISE if family.has_spread and not noise_correction else seen,
            stray_share=stray_share,
            like=like,
        )
        for family in SYMMETRY_FAMILIES.values()
    ]


def _estimate(poses: Tensor, tables: list[Table], *, centring: bool) -> Neighbourhood:
    """Return the estimate of one chunk [N, k]."""
    # Centres are counted from the mean, however little it means: a turn of all poses then changes no bin.
    origin = circular_mean(poses).mean if centring else torch.zeros_like(poses[:, 0])
    shares = bin_shares(poses - origin.unsqueeze(-1))
    fits = [fit(shares, table, any_centre=centring) for table in tables]
    posterior = torch.stack([found.log_evidence for found in fits], dim=-1).softmax(dim=-1)
    family = posterior.argmax(dim=-1)
    centres = torch.stack(
        [_absolute(found, origin, table.family.order) for found, table in zip(fits, tables, strict=True)], dim=-1
    )
    return Neighbourhood(
        centre=centres.gather(-1, family.unsqueeze(-1)).squeeze(-1),
        uniform=fits[FAMILIES.index("uniform")].parameter,
        normal=fits[FAMILIES.index("normal")].parameter,
        posterior=posterior,
        family=family,
    )


def _absolute(found: Fit, origin: Tensor, order: int) -> Tensor:
    """Return the centre of a fit about `origin`, the nearest to 0 of its n equal choices: [N]."""
    return wrap(order * (origin + found.centre)) / order if order else found.centre


def _check(poses: Tensor, noise: float, trimming: float) -> None:
    """Raise UserError for what no law can be read off."""
    if poses.dim() != 2 or 0 in poses.shape or not bool(torch.isfinite(poses).all()):
        raise UserError(
            f"poses of shape {list(poses.shape)} hold no angle, or one that is not finite: give [N, k] in radians, "
            "at least one neighbour of at least one image"
        )
    if not 0 <= trimming < 1:
        raise UserError(f"train.corrections.trimming={trimming} is no share of strays: give 0 (off) to below 1")
    if not 0 <= noise < math.inf:
        raise UserError(f"noise={noise} is not a standard deviation: give radians, 0 or more, as noise_floor does")
