"""Which symbols have earned trust: ranked by the least a trade in them is likely to gain.

The measure is the lower end of the confidence interval of the mean net result of a trade: a high mean of few trades
ranks below a smaller one that held over many. Symbols with a total loss have no place and come after all that gained: a
narrow interval around a loss earns no trust, also if every symbol has lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from domain.statistics import Interval, Sample, mean_interval

__all__ = ["SymbolRank", "SymbolRecord", "rank_symbols", "trusted_symbols"]


@dataclass(frozen=True, slots=True)
class SymbolRecord:
    """The results of a symbol's closed trades; `results` are net results as fractions of the cost, `pnl` in quote."""

    symbol: str
    results: Sample
    wins: int
    pnl: Decimal


@dataclass(frozen=True, slots=True)
class SymbolRank:
    """A symbol's place, from 1; None if its trades lost. `mean`: the mean net result of a trade, a fraction of cost."""

    place: int | None
    symbol: str
    trades: int
    wins: int
    pnl: Decimal
    mean: Interval

    @property
    def gains(self) -> bool:
        """Whether its trades gained, both on average and in total."""
        return self.pnl > 0 and (self.mean.value or 0.0) > 0

    @property
    def profitable(self) -> bool:
        """Whether trades on it gain, with the interval's confidence."""
        return self.mean.low is not None and self.mean.low > 0


def rank_symbols(
    records: Iterable[SymbolRecord], *, least_trades: int = 5, confidence: float = 0.95
) -> Sequence[SymbolRank]:
    """The symbols with at least `least_trades` closed trades, best first; only those that gained have a place."""
    enough = [
        (record, mean_interval(record.results, confidence))
        for record in records
        if record.results.count >= max(2, least_trades)
    ]
    ranks = [
        SymbolRank(None, record.symbol, record.results.count, record.wins, record.pnl, mean) for record, mean in enough
    ]
    ranks.sort(key=lambda item: (not item.gains, -(item.mean.low or 0.0), item.symbol))
    return [replace(rank, place=place) if rank.gains else rank for place, rank in enumerate(ranks, 1)]


def trusted_symbols(ranks: Iterable[SymbolRank], places: int) -> set[str]:
    """Symbols in the first `places` whose trades gained: those traded because they are on the leaderboard."""
    return {item.symbol for item in ranks if item.place is not None and item.place <= places}
