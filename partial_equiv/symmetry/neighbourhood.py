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
NOISE_STEPS = tuple(math.radians(degrees) for degrees in (1, 2, 3, 4, 5, 6, 8, 10, 12))
"""Deviations that are tried; a wider one would call laws of 20 degrees noise."""
LEAST_NOISE = math.radians(1)  # one bin: below, more certainty changes no level that k neighbours can tell apart
AT_ONCE = 512  # neighbourhoods: the table of one family takes 50 MB


class Neighbourhood(NamedTuple):
    """What the neighbours of an image say.

    Shape:
        centre [N]: radians, to be taken off poses; uniform [N]: the bound if the law is an interval, of which none is
        the one of bound 0; normal [N]: the deviation if it is normal, or none; posterior [N, F]: probabilities of the
        families; family [N] int64: the most probable one, a place in FAMILIES.
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
    evidence = torch.stack([found.log_evidence for found in fits], dim=-1)
    posterior = evidence.softmax(dim=-1)
    family = posterior.argmax(dim=-1)
    centres = torch.stack(
        [_absolute(found, origin, table.family.order) for found, table in zip(fits, tables, strict=True)], dim=-1
    )
    return Neighbourhood(
        centre=centres.gather(-1, family.unsqueeze(-1)).squeeze(-1),
        uniform=_or_none(evidence, fits, "uniform"),
        normal=_or_none(evidence, fits, "normal"),
        posterior=posterior,
        family=family,
    )


def _or_none(evidence: Tensor, fits: list[Fit], name: str) -> Tensor:
    """Return the mean parameter of a family and of its limit 0, each as probable as the poses make it: [N]."""
    place = FAMILIES.index(name)
    share = (evidence[:, place] - evidence[:, FAMILIES.index("none")]).sigmoid()
    return share * fits[place].parameter


def likeliest_noise(poses: Tensor, floor: float, *, trimming: float) -> float:
    """Return the deviation of a pose, from `floor` up, under which the poses of all neighbourhoods are most probable.

    argmax over s of sum_i log sum_F p(a_i | F, s): images of one class differ by more than an encoder errs, for hands
    slant, and that blurs the edges of every law alike. A normal law hides it: there the floor is as good. F runs over
    every family but none, which enough noise would make the cheapest explanation of any set.

    Args:
        poses: Of the neighbours of images; a thousand images tell, all are used.
        floor: Least deviation, as `noise_floor` gives it, radians.
        trimming: As in `estimate`.
    Shape:
        [N, k] -> radians.

    Raises:
        UserError: as `estimate`.
    Source: empirical Bayes, see Robbins 1956.
    """
    _check(poses, floor, trimming)
    steps = sorted({min(max(floor, LEAST_NOISE), math.pi), *(step for step in NOISE_STEPS if step > floor)})
    totals = [sum(_total(chunk, step, trimming) for chunk in wrap(poses).split(AT_ONCE)) for step in steps]
    return steps[totals.index(max(totals))]


def _total(poses: Tensor, noise: float, trimming: float) -> float:
    """Return the sum over images of the log evidence of their neighbours' poses, families equally probable."""
    tables = _tables(noise, trimming=trimming, noise_correction=True, like=poses)
    shares = bin_shares(poses - circular_mean(poses).mean.unsqueeze(-1))
    turning = [table for name, table in zip(FAMILIES, tables, strict=True) if name != "none"]
    evidence = [fit(shares, table, any_centre=True).log_evidence for table in turning]
    return float(torch.stack(evidence, dim=-1).logsumexp(dim=-1).sum())


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
