"""What the open trades are worth and would lose at their nearest stops, and which of them nothing protects.

Where a stop lies and what it costs is decided in `domain.exits`; here it is only summed up. A trade is read once and
then again when its row has changed (`changes`), so that each second's sums cost no more than its prices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from domain.exits import loss_at_stop, nearest_stop
from domain.money import ZERO, average
from domain.wording import tidy
from web.views import Json, Ledger, Row
from web.views.trades import rules_of

__all__ = ["Bid", "OpenTrade", "OpenTrades", "open_trade", "read_open_trades", "stop_of"]

# The plans of open trades are found by an index of those that are not disarmed, not in all plans that there have been.
_OPEN = """
SELECT t.entry_key, t.symbol, t.remaining, t.bought_size, t.bought_value, t.rules, p.stop, m.bid, m.at,
       EXISTS (SELECT FROM orders s WHERE s.entry_key = t.entry_key AND s.protection_role IS NOT NULL
                  AND NOT s.finished) AS rests
  FROM trades t LEFT JOIN exit_plans p ON p.entry_key = t.entry_key AND p.state <> 'DISARMED'
  LEFT JOIN market_prices m ON m.account = t.account AND m.symbol = t.symbol
 WHERE t.account = $1 AND t.state <> 'CLOSED'
"""


@dataclass(frozen=True, slots=True)
class Bid:
    """A stored bid, quote per base, and when it was seen; None: not known."""

    price: Decimal | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """What its risk is computed from. `stop`: its nearest one, quote per base; None while nothing is bought."""

    symbol: str
    remaining: Decimal
    stop: Decimal | None


@dataclass
class OpenTrades:
    """The open trades of an account by key, the stored bids by symbol, and the trades for which an order rests at the
    exchange.
    """

    trades: Mapping[str, OpenTrade] = field(default_factory=dict)
    bids: Mapping[str, Bid] = field(default_factory=dict)
    resting: frozenset[str] = frozenset()

    @property
    def symbols(self) -> set[str]:
        """Their products."""
        return {trade.symbol for trade in self.trades.values() if trade.remaining > 0}

    def risks(self) -> list[Json]:
        """By quote currency: `trades`, how many of them are `unpriced` and in neither sum, `at_risk`, what is lost if
        every one sells at its nearest stop, before fees, and `exposure`, what they are worth, both at the bids.
        """
        found: dict[str, dict[str, Any]] = {}
        for trade in self.trades.values():
            if trade.remaining <= 0:
                continue
            currency = trade.symbol.replace("_", "-").partition("-")[2]
            sums = found.get(currency)
            if sums is None:
                sums = {"currency": currency, "trades": 0, "unpriced": 0, "at_risk": ZERO, "exposure": ZERO}
                found[currency] = sums
            sums["trades"] += 1
            bid = self._bid(trade.symbol)
            if bid is None:
                sums["unpriced"] += 1
                continue
            sums["exposure"] += bid * trade.remaining
            if trade.stop is not None:
                sums["at_risk"] += loss_at_stop(trade.stop, bid, trade.remaining)
        return [
            {**sums, "at_risk": tidy(sums["at_risk"]), "exposure": tidy(sums["exposure"])}
            for _, sums in sorted(found.items())
        ]

    def unprotected(self, alone: Collection[str]) -> int:
        """How many have no order resting at the exchange and a product that is `alone`: nobody watches its price."""
        return sum(
            trade.remaining > 0 and trade.symbol in alone and key not in self.resting
            for key, trade in self.trades.items()
        )

    def oldest(self) -> tuple[datetime, str] | None:
        """When the oldest of their prices was seen, and of which product; None: there is none."""
        known = [(bid.at, symbol) for symbol in self.symbols if (bid := self.bids.get(symbol)) and bid.at]
        return min(known, default=None)

    def _bid(self, symbol: str) -> Decimal | None:
        found = self.bids.get(symbol)
        return None if found is None else found.price


async def read_open_trades(ledger: Ledger, account: str) -> OpenTrades:
    """All of them, in one look."""
    rows = await ledger.fetch(_OPEN, account)
    return OpenTrades(
        {row["entry_key"]: open_trade(row) for row in rows},
        {row["symbol"]: Bid(row["bid"], row["at"]) for row in rows},
        frozenset(row["entry_key"] for row in rows if row["rests"]),
    )


def open_trade(row: Row) -> OpenTrade:
    """Of a trade's row with its plan's `stop`."""
    return OpenTrade(row["symbol"], row["remaining"], stop_of(row))


def stop_of(row: Row) -> Decimal | None:
    """The nearest stop of a trade's row with its plan's `stop`, quote per base; None while nothing is bought."""
    entry = average(row["bought_value"], row["bought_size"])
    return None if entry is None else nearest_stop(rules_of(row), entry, row["stop"])
