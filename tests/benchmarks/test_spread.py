"""Medians, quartiles and fitted exponents."""

import math

import numpy as np
import pytest

from benchmarks.spread import Spread, digits, slope, slopes, spread


def test_median_and_quartiles_are_those_of_numpy():
    values = [3.0, 1.0, 9.0, 4.0, 2.0, 7.0, 5.5]
    found = spread(values)
    assert (found.low, found.median, found.high) == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]))
    assert spread([2.5]) == Spread(2.5, 2.5, 2.5)


@pytest.mark.parametrize("power", [0.0, 1.42, 2.0])
def test_a_power_law_gives_its_exponent(power):
    xs = [8, 16, 24, 32]
    found = slope(xs, [0.3 * x**power for x in xs])
    assert found.median == pytest.approx(power, abs=1e-12)
    assert found.high - found.low < 1e-9


def test_the_error_of_a_slope_is_that_of_least_squares():
    xs, ys = np.array([1.0, 2, 4, 8, 16]), np.array([1.1, 1.7, 4.5, 7.2, 17.0])
    (expected, _), left, *_ = np.polyfit(np.log(xs), np.log(ys), 1, full=True)
    width = np.square(np.log(xs) - np.log(xs).mean()).sum()
    found = slope(list(xs), list(ys))
    assert found.median == pytest.approx(expected)
    assert found.high - found.median == pytest.approx(math.sqrt(left[0] / 3 / width))


def test_exponents_are_fitted_round_by_round():
    xs = [8, 16, 32]
    rounds = [[x**power for x in xs] for power in (1.0, 1.5, 1.2, 1.4, 1.3)]
    found = slopes(xs, rounds)
    assert (found.low, found.median, found.high) == pytest.approx((1.2, 1.3, 1.4))


@pytest.mark.parametrize(
    ("number", "written"),
    [(1.07123, "1.071"), (0.07123, "0.0712"), (6.0777, "6.08"), (565.16, "565"), (12345.6, "12,346"), (0.0, "0.0")],
)
def test_numbers_have_three_digits_and_ratios_near_one_four(number, written):
    assert digits(number) == written
