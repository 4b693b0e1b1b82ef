"""Intervals and tests against scipy's own, closed forms and brute force over the binomial law."""

import math

import numpy as np
import pytest
import scipy.stats

from partial_equiv.audit.statistics import (
    counts_t_interval,
    exact_binomial,
    paired,
    t_band,
    t_interval,
    welch,
    wilson,
)
from partial_equiv.errors import UserError

RNG = np.random.default_rng(3)
# Different variances and sizes: the pooled test gives another answer here.
WIDE, NARROW = RNG.normal(0.80, 0.09, 5), RNG.normal(0.75, 0.01, 12)


def test_t_interval_is_scipys():
    found = t_interval(list(NARROW))
    expected = scipy.stats.t.interval(0.95, 11, loc=NARROW.mean(), scale=scipy.stats.sem(NARROW))
    assert found == pytest.approx((NARROW.mean(), *expected), rel=1e-12)
    # Two values: half-width = t_1(0.975) |a - b| / 2, and t_1 is Cauchy's law: tan(0.475 pi).
    assert t_interval([1.0, 3.0]).high == pytest.approx(2 + math.tan(0.475 * math.pi), rel=1e-12)


def test_t_band_is_one_interval_per_column():
    values = RNG.normal(size=(6, 3))
    band = t_band(values)
    for column in range(3):
        expected = t_interval(list(values[:, column]))
        assert (band.mean[column], band.low[column], band.high[column]) == pytest.approx(expected, rel=1e-12)
    assert t_band(values, level=0.5).high[0] < band.high[0]


def test_one_seed_has_a_mean_and_no_interval():
    value, low, high = t_interval([0.7])
    assert value == 0.7 and math.isnan(low) and math.isnan(high)


def test_a_histogram_gives_the_interval_of_its_values():
    histogram = [3, 0, 5, 9, 2]
    values = np.repeat(np.arange(5) / 4, histogram)
    assert counts_t_interval(histogram) == pytest.approx(t_interval(list(values)), rel=1e-12)
    assert counts_t_interval([0, 0, 7]) == (1.0, 1.0, 1.0)
    assert math.isnan(counts_t_interval([0, 1]).low)


def test_welch_is_scipys_and_not_the_pooled_test():
    found = welch(WIDE, NARROW)
    expected = scipy.stats.ttest_ind(WIDE, NARROW, equal_var=False)
    assert (found.statistic, found.df, found.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert found.difference == pytest.approx(WIDE.mean() - NARROW.mean())
    # The predecessor handed equal_var to format() and so pooled the variances: that is another number.
    pooled = scipy.stats.ttest_ind(WIDE, NARROW)
    assert abs(found.p - pooled.pvalue) > 0.1 and abs(found.df - pooled.df) > 5


def test_paired_is_scipys_and_sees_what_welch_does_not():
    seeds = RNG.normal(0.5, 0.1, 8)
    better = seeds + 0.01 + RNG.normal(0, 0.002, 8)
    found = paired(better, seeds)
    expected = scipy.stats.ttest_rel(better, seeds)
    assert (found.statistic, found.df, found.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert found.p < 1e-4 < 0.5 < welch(better, seeds).p


@pytest.mark.parametrize("test", [welch, paired])
def test_seeds_that_do_not_vary_are_compared_as_they_are(test):
    # 0.1 + 0.1 + 0.1 over 3 is not 0.1: the last digit must not count as a spread of seeds.
    assert test([0.1] * 3, [0.1] * 3)[:2] == (0.0, 0.0) and test([0.1] * 3, [0.1] * 3).p == 1
    apart = test([0.1] * 3, [0.3] * 3)
    assert apart.statistic == -math.inf and apart.p == 0 and math.isnan(apart.df)


def test_wilson_solves_its_equation_and_gives_known_values():
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    known = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (right, total), ends in known.items():
        assert wilson(right, total)[1:] == pytest.approx(ends, abs=5e-5)
    share, *ends = wilson(37, 50, level=0.9)
    for end in ends:
        assert abs(share - end) == pytest.approx(scipy.stats.norm.ppf(0.95) * math.sqrt(end * (1 - end) / 50))
    assert wilson(20, 20).high == 1.0 and wilson(0, 20).low == 0.0


def test_exact_binomial_is_scipys_and_covers_at_every_share():
    for right in (0, 1, 7, 12):
        expected = scipy.stats.binomtest(right, 12).proportion_ci(method="exact")
        assert exact_binomial(right, 12)[1:] == pytest.approx((expected.low, expected.high), abs=1e-12)
    ends = [exact_binomial(right, 12) for right in range(13)]
    for share in np.linspace(0.01, 0.99, 50):
        law = [math.comb(12, k) * share**k * (1 - share) ** (12 - k) for k in range(13)]
        assert sum(p for p, (_, low, high) in zip(law, ends, strict=True) if low <= share <= high) >= 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t_interval([]), "at least 1"),
        (lambda: welch([0.5], [0.5, 0.6]), "at least 2"),
        (lambda: welch([0.5, math.nan], [0.5, 0.6]), "NaN"),
        (lambda: paired([0.5, 0.6], [0.5, 0.6, 0.7]), "2 and 3 values"),
        (lambda: wilson(3, 2), "3 successes of 2 trials"),
        (lambda: exact_binomial(0, 0), "0 trials"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
