"""Intervals and tests over seeds and over images.

Axes: S seeds; an interval is two-sided and of 95 % unless said.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from partial_equiv.errors import UserError

LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval; the ends are NaN where one value alone gives none."""

    value: float
    low: float
    high: float


class MeanTest(NamedTuple):
    """A two-sided t-test of equal means."""

    difference: float
    """Mean of the first minus mean of the second."""
    statistic: float
    df: float
    """Degrees of freedom."""
    p: float


class Band(NamedTuple):
    """Means over seeds with their t-intervals, one entry per column of the values [S, ...]."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def t_band(values: ArrayLike, level: float = LEVEL) -> Band:
    """Return mean -+ t_{S-1} s / sqrt(S) over the first axis, s with the divisor S - 1.

    Args:
        values: One row per seed; a single row gives ends of NaN, because one seed says nothing of the spread.
        level: Of confidence, in (0, 1).
    Shape:
        values [S, ...] -> three arrays [...].

    Raises:
        UserError: no row, or a value that is not finite.
    """
    rows = _finite(values, "t_band")
    mean = rows.mean(axis=0)
    if len(rows) == 1:
        return Band(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    from scipy.stats import t  # type: ignore[import-untyped]  # slow to import

    half = t.ppf((1 + level) / 2, len(rows) - 1) * rows.std(axis=0, ddof=1) / math.sqrt(len(rows))
    return Band(mean, mean - half, mean + half)


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the mean of numbers with its t-interval: `t_band` of one column."""
    band = t_band(np.asarray(values, dtype=np.float64).reshape(-1), level)
    return Interval(float(band.mean), float(band.low), float(band.high))


def counts_t_interval(histogram: Sequence[int], level: float = LEVEL) -> Interval:
    """Return the mean with its t-interval of numbers of which only a histogram is kept.

    Args:
        histogram: How many of the values are k / K, for k = 0..K.
        level: Of confidence.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    values, total = np.linspace(0, 1, len(counts)), int(counts.sum())
    mean = float(counts @ np.arange(len(counts))) / (total * (len(counts) - 1))  # one rounding: 1 where all are right
    if total == 1:
        return Interval(mean, math.nan, math.nan)
    from scipy.stats import t

    variance = float(counts @ (values - mean) ** 2) / (total - 1)
    half = float(t.ppf((1 + level) / 2, total - 1)) * math.sqrt(variance / total)
    return Interval(mean, mean - half, mean + half)


def wilson(no_right: int, no_all: int, level: float = LEVEL) -> Interval:
    """Return a share with Wilson's score interval: the p for which |share - p| <= z sqrt(p (1 - p) / n).

    It stays inside [0, 1] and does not collapse at a share of 0 or 1, as the usual share -+ z s does.

    Args:
        no_right: Successes.
        no_all: Trials, n.
        level: Of confidence.
    Raises:
        UserError: no trials, or more successes than trials.
    Source: Wilson 1927.
    """
    share = _share(no_right, no_all)
    from scipy.stats import norm

    square = float(norm.ppf((1 + level) / 2)) ** 2
    centre = (no_right + square / 2) / (no_all + square)
    half = math.sqrt(square * (no_all * share * (1 - share) + square / 4)) / (no_all + square)
    # At the two ends the interval touches 0 or 1, which rounding must not move.
    low, high = 0.0 if no_right == 0 else centre - half, 1.0 if no_right == no_all else centre + half
    return Interval(share, low, high)


def exact_binomial(no_right: int, no_all: int, level: float = LEVEL) -> Interval:
    """Return a share with the interval of Clopper and Pearson: at least `level` for every true share, so wider.

    Args:
        no_right: Successes.
        no_all: Trials.
        level: Of confidence.
    Raises:
        UserError: no trials, or more successes than trials.
    Source: Clopper and Pearson 1934.
    """
    share = _share(no_right, no_all)
    from scipy.stats import beta

    tail, no_wrong = (1 - level) / 2, no_all - no_right
    low = float(beta.ppf(tail, no_right, no_wrong + 1)) if no_right else 0.0
    high = float(beta.ppf(1 - tail, no_right + 1, no_wrong)) if no_wrong else 1.0
    return Interval(share, low, high)


def welch(first: Sequence[float], second: Sequence[float]) -> MeanTest:
    """Return Welch's t-test of two independent sets of seeds; variances are never pooled.

    t = (a - b) / sqrt(s_a^2 / n_a + s_b^2 / n_b), degrees of freedom by Welch and Satterthwaite. Where neither set
    varies, the test is the plain comparison: p is 1 for equal means and 0 else, degrees of freedom are NaN.

    Args:
        first: One value per seed.
        second: The same of the other model; another number of seeds is fine.
    Raises:
        UserError: fewer than 2 values in a set, or one that is not finite.
    Source: Welch 1947.
    """
    a, b = _finite(first, "welch", 2), _finite(second, "welch", 2)
    rounding = _rounding(a, b)
    errors = [_squared_error(values, rounding) for values in (a, b)]
    difference = float(a.mean() - b.mean())
    if not sum(errors):
        return _constant(difference, rounding)
    df = sum(errors) ** 2 / sum(e**2 / (len(values) - 1) for e, values in zip(errors, (a, b), strict=True))
    return _t_test(difference, math.sqrt(sum(errors)), df)


def paired(first: Sequence[float], second: Sequence[float]) -> MeanTest:
    """Return the paired t-test: the same seeds in the same order on both sides.

    t = mean(a - b) / (s_{a - b} / sqrt(n)), n - 1 degrees of freedom. Where the differences do not vary: as `welch`.

    Args:
        first: One value per seed.
        second: The same of the other model.
    Raises:
        UserError: lengths differ, fewer than 2 values, or one that is not finite.
    """
    a, b = _finite(first, "paired", 2), _finite(second, "paired", 2)
    if len(a) != len(b):
        raise UserError(f"paired needs one pair per seed, got {len(a)} and {len(b)} values: give the same seeds twice")
    gaps, rounding = a - b, _rounding(a, b)
    error = math.sqrt(_squared_error(gaps, rounding))
    difference = float(gaps.mean())
    return _t_test(difference, error, len(gaps) - 1) if error else _constant(difference, rounding)


def _t_test(difference: float, error: float, df: float) -> MeanTest:
    from scipy.stats import t

    statistic = difference / error
    return MeanTest(difference, statistic, df, 2 * float(t.sf(abs(statistic), df)))


def _constant(difference: float, rounding: float) -> MeanTest:
    if abs(difference) <= rounding:
        return MeanTest(0.0, 0.0, math.nan, 1.0)
    return MeanTest(difference, math.copysign(math.inf, difference), math.nan, 0.0)


def _rounding(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return what sums of these values are off by: equal seeds must not seem to vary by a last digit."""
    return 8 * float(np.finfo(np.float64).eps) * float(max(np.abs(a).max(), np.abs(b).max()))


def _squared_error(values: NDArray[np.float64], rounding: float) -> float:
    """Return the variance of the mean of the values, 0 where they differ by rounding alone."""
    return float(values.var(ddof=1)) / len(values) if float(np.ptp(values)) > rounding else 0.0


def _finite(values: ArrayLike, name: str, least: int = 1) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or len(array) < least:
        raise UserError(
            f"{name} got {0 if array.ndim == 0 else len(array)} values: give at least {least}, one per seed"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{name} got a value that is NaN or infinite: leave out the run that failed")
    return array


def _share(no_right: int, no_all: int) -> float:
    if not 0 <= no_right <= no_all or no_all < 1:
        raise UserError(f"{no_right} successes of {no_all} trials make no share: give 0 <= successes <= trials >= 1")
    return no_right / no_all
