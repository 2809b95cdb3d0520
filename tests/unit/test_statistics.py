"""Intervals compared with published values and with simulation."""

from __future__ import annotations

import random
from decimal import Decimal
from statistics import fmean, variance

import pytest

from domain.leaderboard import SymbolRecord, rank_symbols, trusted_symbols
from domain.statistics import (
    Interval,
    Sample,
    correlation_interval,
    difference_interval,
    mean_interval,
    ratio_interval,
    t_quantile,
    wilson_interval,
)


def sample(values: list[float]) -> Sample:
    """Count, mean and variance of some values."""
    return Sample(len(values), fmean(values), variance(values) if len(values) > 1 else 0.0)


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [
        (0.95, 1, 12.706205), (0.95, 2, 4.302653), (0.95, 3, 3.182446), (0.95, 4, 2.776445), (0.95, 10, 2.228139),
        (0.95, 30, 2.042272), (0.95, 1_000, 1.962339), (0.99, 3, 5.840909), (0.99, 10, 3.169273), (0.9, 5, 2.015048),
    ],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_tables(confidence: float, freedom: int, expected: float) -> None:
    """Six digits from one degree of freedom to a thousand."""
    assert t_quantile(confidence, freedom) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits: int, count: int, low: float, high: float) -> None:
    """Newcombe's worked examples, to four places."""
    found = wilson_interval(hits, count)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_nothing_is_known_of_nothing() -> None:
    """Without samples there is no estimate, with one sample no interval."""
    assert wilson_interval(0, 0) == mean_interval(Sample(0)) == Interval(None)
    assert mean_interval(Sample(1, 2.0)) == Interval(2.0)
    assert ratio_interval(Sample(0), Sample(3, 1.0, 1.0)) == Interval(None)
    assert difference_interval(Sample(0), Sample(3, 1.0, 1.0)) == Interval(None)


@pytest.mark.parametrize("kind", ["mean", "ratio", "difference"])
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str) -> None:
    """Of two thousand simulated samples, about 95 % have the true value in their interval."""
    dice = random.Random(7)
    hits = 0
    for _ in range(2_000):
        one = sample([dice.gauss(4, 1) for _ in range(40)])
        other = sample([dice.gauss(2, 0.8) for _ in range(25)])
        found, truth = {
            "mean": (mean_interval(one), 4.0),
            "ratio": (ratio_interval(one, other), 2.0),
            "difference": (difference_interval(one, other), 2.0),
        }[kind]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.935 <= hits / 2_000 <= 0.975


def test_a_correlation_has_fishers_interval() -> None:
    """r = 0.5 over 28 pairs: 0.16 to 0.74; a perfect one has none."""
    found = correlation_interval(0.5, 28)
    assert found.low == pytest.approx(0.1559, abs=1e-3)
    assert found.high == pytest.approx(0.7364, abs=1e-3)
    assert correlation_interval(1.0, 10) == Interval(1.0)


def test_symbols_rank_by_what_is_likely_at_least() -> None:
    """A small gain confirmed by many trades ranks before a large one of five; too few trades have no rank."""
    steady = SymbolRecord("BTC-USD", Sample(400, 0.004, 0.0001), 260, Decimal(90))
    lucky = SymbolRecord("ETH-USD", Sample(5, 0.03, 0.01), 3, Decimal(400))
    few = SymbolRecord("SOL-USD", Sample(2, 0.09, 0.0001), 2, Decimal(50))
    found = rank_symbols([lucky, few, steady])
    assert [(item.place, item.symbol, item.profitable) for item in found] == [
        (1, "BTC-USD", True),
        (2, "ETH-USD", False),
    ]


def test_who_loses_for_sure_never_leads() -> None:
    """A well-confirmed small loss ranks after an uncertain gain and has no place, alone or beside other losers."""
    loser = SymbolRecord("BTC-USD", Sample(400, -0.001, 0.000001), 20, Decimal(-40))
    winner = SymbolRecord("ETH-USD", Sample(8, 0.02, 0.01), 6, Decimal(16))
    found = rank_symbols([loser, winner])
    assert loser.results.variance < winner.results.variance
    assert [(item.place, item.symbol) for item in found] == [(1, "ETH-USD"), (None, "BTC-USD")]
    assert trusted_symbols(found, 10) == {"ETH-USD"}
    alone = rank_symbols([loser])
    assert [item.place for item in alone] == [None]
    assert trusted_symbols(alone, 10) == set()
