"""Confidence intervals for results of trades. Pure; floats, because these are estimates and no money is computed from
them.

Rates: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927): holds for
few samples and near 0 and 1, where the normal interval does not. Means: Student's t; its quantiles by G. W. Hill,
"Algorithm 396", Communications of the ACM 13 (1970), six digits and more from 3 degrees of freedom on. Ratios of means:
the delta method on the logarithm (Casella and Berger, "Statistical Inference", 5.5.4). Differences of means: B. L.
Welch, Biometrika 34 (1947). Correlations: Fisher's z; of several groups the mean of their z, weighted with n - 3
(Hedges and Olkin, "Statistical Methods for Meta-Analysis", 1985, chapter 11).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

__all__ = [
    "Interval",
    "Sample",
    "correlation_interval",
    "difference_interval",
    "mean_interval",
    "pooled_correlation",
    "ratio_interval",
    "t_quantile",
    "wilson_interval",
]

_NORMAL = NormalDist()
_LEAST_PAIRS = 4
_PERFECT = 0.9999
"""A perfect correlation of a few pairs has no finite z; it counts as this."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its interval at the requested confidence; None if there is too little data."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Number, mean and variance (with n - 1) of a sample."""

    count: int
    mean: float = 0.0
    variance: float = 0.0

    @property
    def error(self) -> float:
        """The mean's squared standard error."""
        return self.variance / self.count if self.count else 0.0


def wilson_interval(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """The rate `hits / count` with Wilson's interval; without samples there is none."""
    if count == 0:
        return Interval(None)
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    rate, z2 = hits / count, z * z
    middle = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count * count))
    return Interval(rate, max(0.0, middle - half), min(1.0, middle + half))


def t_quantile(confidence: float, freedom: float) -> float:
    """How many standard errors hold `confidence` on both sides together, with `freedom` >= 1 degrees of freedom."""
    tail = 1 - confidence
    if freedom < 1:
        raise ValueError(f"there are no {freedom} degrees of freedom")
    if freedom == 1:
        return 1 / math.tan(tail * math.pi / 2)
    if freedom == 2:
        return math.sqrt(2 / (tail * (2 - tail)) - 2)
    n = freedom
    a = 1 / (n - 0.5)
    b = (48 / a) / a
    c = ((20_700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    x = d * tail
    y = x ** (2 / n)
    if y > 0.05 + a:
        x = _NORMAL.inv_cdf(tail / 2)
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y * y
        y = math.expm1(y) if y > 0.002 else 0.5 * y * y + y
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (n + 2)
        y += 1 / (x ** (2 / n))
    return math.sqrt(n * y)


def mean_interval(sample: Sample, confidence: float = 0.95) -> Interval:
    """The mean with Student's interval; one sample alone has none."""
    if sample.count == 0:
        return Interval(None)
    if sample.count == 1:
        return Interval(sample.mean)
    half = t_quantile(confidence, sample.count - 1) * math.sqrt(sample.error)
    return Interval(sample.mean, sample.mean - half, sample.mean + half)


def ratio_interval(above: Sample, below: Sample, confidence: float = 0.95) -> Interval:
    """The ratio of two independent positive means (average win to average loss)."""
    if not above.count or not below.count or above.mean <= 0 or below.mean <= 0:
        return Interval(None)
    ratio = above.mean / below.mean
    if above.count < 2 or below.count < 2:
        return Interval(ratio)
    relative = above.error / above.mean**2 + below.error / below.mean**2
    freedom = max(1, min(above.count, below.count) - 1)
    half = t_quantile(confidence, freedom) * math.sqrt(relative)
    # Beyond e^±50 nothing is known; the float must not overflow to say so.
    return Interval(ratio, ratio * math.exp(-min(half, 50.0)), ratio * math.exp(min(half, 50.0)))


def difference_interval(one: Sample, other: Sample, confidence: float = 0.95) -> Interval:
    """The first mean less the second, with Welch's interval."""
    if not one.count or not other.count:
        return Interval(None)
    difference, error = one.mean - other.mean, one.error + other.error
    if one.count < 2 or other.count < 2 or error == 0:
        return Interval(difference)
    freedom = error**2 / (one.error**2 / (one.count - 1) + other.error**2 / (other.count - 1))
    half = t_quantile(confidence, max(1.0, freedom)) * math.sqrt(error)
    return Interval(difference, difference - half, difference + half)


def correlation_interval(correlation: float, count: int, confidence: float = 0.95) -> Interval:
    """A correlation coefficient with Fisher's interval."""
    if count < _LEAST_PAIRS or abs(correlation) >= 1:
        return Interval(correlation)
    half = _NORMAL.inv_cdf((1 + confidence) / 2) / math.sqrt(count - 3)
    z = math.atanh(correlation)
    return Interval(correlation, math.tanh(z - half), math.tanh(z + half))


def pooled_correlation(groups: Sequence[tuple[float, int]], confidence: float = 0.95) -> Interval:
    """The correlation within groups, from each group's own coefficient and number of pairs, with Fisher's interval.

    Groups may differ in scale and mean: differences between groups are not included. Groups of fewer than four pairs
    are ignored.
    """
    told = [(correlation, count) for correlation, count in groups if count >= _LEAST_PAIRS]
    if not told:
        return Interval(None)
    if len(told) == 1:
        return correlation_interval(*told[0], confidence)
    weight = sum(count - 3 for _, count in told)
    limit = _PERFECT
    z = sum((count - 3) * math.atanh(min(limit, max(-limit, value))) for value, count in told) / weight
    half = _NORMAL.inv_cdf((1 + confidence) / 2) / math.sqrt(weight)
    return Interval(math.tanh(z), math.tanh(z - half), math.tanh(z + half))
