"""The published estimators of a level from the absolute poses of k neighbours, defects included.

Axes: N images, k neighbours, n orders, 360 bins of one degree.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from partial_equiv.menu import choose

TRIM = 2  # standard deviations above the mean
HALF_NORMAL = math.sqrt(1 - 2 / math.pi)  # deviation of |a| where a has deviation 1
NO_BINS = 360
LEAST_SHARE = 1e-10


def estimate_published(poses: Tensor, estimator: str) -> Tensor:
    """Return the level that a published estimator reads off poses.

    Args:
        poses: Radians in (-pi, pi]; signs are dropped.
        estimator: A name in PUBLISHED_ESTIMATORS.
    Shape:
        [N, k] -> [N], radians.

    Raises:
        UserError: no such estimator.
    """
    return choose(PUBLISHED_ESTIMATORS, estimator, "train.estimator")(poses)


def zero_outliers(distances: Tensor) -> Tensor:
    """Return distances [N, k] with 0 for those above their row's mean + 2 deviations (unbiased, one pass).

    The published step: what is called removed stays in later deviations as a 0.
    """
    limit = distances.mean(dim=-1, keepdim=True) + TRIM * _deviation(distances).unsqueeze(-1)
    return torch.where(distances > limit, 0, distances)


def moments(poses: Tensor) -> Tensor:
    """Return 2 mean |a|: the bound of an interval, since E|a| = t / 2. [N, k] -> [N]."""
    return 2 * poses.abs().mean(dim=-1)


def moments_outliers(poses: Tensor) -> Tensor:
    """Return twice the mean of the |a| that are not 0 after `zero_outliers`. [N, k] -> [N].

    Differs: a row of zeros gives 0, not 0 / 0.
    """
    kept = zero_outliers(poses.abs())
    return 2 * kept.sum(dim=-1) / kept.count_nonzero(dim=-1).clamp(min=1)


def mle(poses: Tensor) -> Tensor:
    """Return max |a|: the most likely bound of an interval without noise. [N, k] -> [N]."""
    return poses.abs().amax(dim=-1)


def mle_outliers(poses: Tensor) -> Tensor:
    """Return max |a| after `zero_outliers`. [N, k] -> [N]."""
    return zero_outliers(poses.abs()).amax(dim=-1)


def gaussian_half_normal(poses: Tensor) -> Tensor:
    """Return std |a| / sqrt(1 - 2 / pi): the deviation of a zero-mean normal law. [N, k] -> [N]."""
    return _deviation(poses.abs()) / HALF_NORMAL


def gaussian_half_normal_outliers(poses: Tensor) -> Tensor:
    """Return the same after `zero_outliers`, whose zeros pull it down by 15 %. [N, k] -> [N]."""
    return _deviation(zero_outliers(poses.abs())) / HALF_NORMAL


def gaussian(poses: Tensor) -> Tensor:
    """Return std |a|, which is 0.6 of the deviation of a normal law: the formula is one for signed angles.

    [N, k] -> [N]. It goes by two published names, and neither of them trims.
    """
    return _deviation(poses.abs())


PUBLISHED_ESTIMATORS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "moments": moments,
    "moments_outliers": moments_outliers,
    "mle": mle,
    "mle_outliers": mle_outliers,
    "gaussian_half_normal": gaussian_half_normal,
    "gaussian_half_normal_outliers": gaussian_half_normal_outliers,
    "gaussian": gaussian,
    "gaussian_no_outliers": gaussian,
}
"""Name -> poses [N, k] in radians -> levels [N]. Signs are dropped. Levels are finite for every k >= 1."""


def cyclic_order_published(poses: Tensor, no_orders: int = 8) -> Tensor:
    """Return the order n of the group C_n whose elements the absolute poses match best.

    Least KL(h || q_n), with h the histogram of |a| in bins of one degree on [-180, 180] and q_n the share 1 / n in the
    bin of every element, the half turn split between the first bin and the last; 1e-10 is added to both. Bins are not
    smoothed: a pose beside an element's bin counts as lost.

    Args:
        poses: Radians in (-pi, pi].
        no_orders: Largest n.
    Shape:
        [N, k] -> [N], int64, from 1 to no_orders.
    Source: Urbano & Romero 2023.
    """
    shares = poses.new_full((1, NO_BINS), 1 / poses.shape[-1]).expand(*poses.shape[:-1], -1)
    bins = _bins(torch.rad2deg(poses.abs()))
    histogram = poses.new_full((len(poses), NO_BINS), LEAST_SHARE).scatter_add_(1, bins, shares[:, : poses.shape[-1]])
    models = torch.stack([_cyclic_shares(n) for n in range(1, no_orders + 1)]).to(poses)
    # The entropy of h is the same for every n.
    return 1 + (histogram @ models.log().T).argmax(dim=-1)


def _cyclic_shares(order: int) -> Tensor:
    """Return q_n: [360], float64."""
    shares = torch.full((NO_BINS,), LEAST_SHARE, dtype=torch.float64)
    for element in range(order):
        if 2 * element == order:
            shares[[0, -1]] += 0.5 / order
        else:
            degrees = 360 * element / order
            shares[_bins(torch.tensor(degrees - 360 if degrees > 180 else degrees))] += 1 / order
    return shares


def _bins(degrees: Tensor) -> Tensor:
    """Return the place of the bin of each angle in [-180, 180]."""
    return (degrees + 180).floor().long().clamp(0, NO_BINS - 1)


def _deviation(values: Tensor) -> Tensor:
    """Return the unbiased standard deviation over the last axis, 0 for a single value."""
    return values.std(dim=-1) if values.shape[-1] > 1 else torch.zeros_like(values[..., 0])
