"""Numbers with their spread: median and quartiles over rounds, and exponents fitted on logarithmic axes."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median of what was measured, with the quartiles around it (of a fit: the slope, one standard error around it)."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it with three digits."""
        return f"{digits(self.median)} ({digits(self.low)} to {digits(self.high)})"


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; of one value all three are that value."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def slope(xs: Sequence[float], ys: Sequence[float]) -> Spread:
    """Return b of y = a x^b by least squares of the logarithms, with its standard error around it (0 of two points)."""
    u, v = [math.log(x) for x in xs], [math.log(y) for y in ys]
    fit = statistics.linear_regression(u, v)
    left = sum((b - fit.intercept - fit.slope * a) ** 2 for a, b in zip(u, v, strict=True))
    middle = statistics.fmean(u)
    width = sum((a - middle) ** 2 for a in u)
    error = math.sqrt(left / (len(u) - 2) / width) if len(u) > 2 else 0.0
    return Spread(fit.slope, fit.slope - error, fit.slope + error)


def slopes(xs: Sequence[float], rounds: Sequence[Sequence[float]]) -> Spread:
    """Return median and quartiles of the exponents of several rounds, each [len(xs)]."""
    return spread([slope(xs, ys).median for ys in rounds])


def digits(number: float) -> str:
    """Return a number with three significant digits, and four from 1 to 2, where ratios lie."""
    if number == 0 or not math.isfinite(number):
        return str(number)
    if 1 <= abs(number) < 2:
        return f"{number:.3f}"
    places = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:,.{places}f}"
