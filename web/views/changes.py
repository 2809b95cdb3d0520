"""What of the open orders and trades has changed since a look before, by the rows' own versions; cheap enough for each
second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from web.views import Ledger, Row
from web.views.lists import order_lines, trade_lines

__all__ = ["Changes", "SeenChanges", "changes_since"]

_ORDERS = "SELECT order_key AS key, xmin::text AS version FROM orders WHERE account = $1 AND NOT finished"
_TRADES = """
SELECT t.entry_key AS key, t.xmin::text || '/' || coalesce(p.xmin::text, '') AS version
  FROM trades t LEFT JOIN exit_plans p ON p.entry_key = t.entry_key WHERE t.account = $1 AND t.state <> 'CLOSED'
"""
_PRICES = """
SELECT symbol, bid, ask, price, at, xmin::text AS version FROM market_prices
 WHERE account = $1 AND symbol IN (SELECT symbol FROM trades WHERE account = $1 AND state <> 'CLOSED'
                                   UNION SELECT symbol FROM orders WHERE account = $1 AND NOT finished)
"""
_NEWEST_EVENT = "SELECT coalesce(max(id), 0) FROM incidents WHERE account = $1"


@dataclass
class SeenChanges:
    """The versions of the last look."""

    orders: dict[str, str] = field(default_factory=dict)
    trades: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    event: int | None = None


@dataclass
class Changes:
    """Rows that are new or have changed, and keys that are open no more."""

    orders: list[Row] = field(default_factory=list)
    orders_gone: list[str] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    trades_gone: list[str] = field(default_factory=list)
    prices: list[dict[str, Any]] = field(default_factory=list)
    events_from: int | None = None
    """The newest event that was known before, where there is a newer one."""


async def changes_since(ledger: Ledger, account: str, seen: SeenChanges) -> Changes:
    """What has changed since `seen`, which becomes what is seen now. Nothing has since a look that saw nothing yet."""
    first = seen.event is None
    found = Changes()
    orders = _versions(await ledger.fetch(_ORDERS, account))
    changed, found.orders_gone = _difference(seen.orders, orders)
    found.orders = await order_lines(ledger, account, changed) if changed and not first else []
    trades = _versions(await ledger.fetch(_TRADES, account))
    changed, found.trades_gone = _difference(seen.trades, trades)
    found.trades = await trade_lines(ledger, account, changed) if changed and not first else []
    prices = await ledger.fetch(_PRICES, account)
    found.prices = [
        {name: row[name] for name in ("symbol", "bid", "ask", "price", "at")}
        for row in prices
        if not first and seen.prices.get(row["symbol"]) != row["version"]
    ]
    newest = await ledger.fetchval(_NEWEST_EVENT, account)
    if seen.event is not None and newest > seen.event:
        found.events_from = seen.event
    seen.orders, seen.trades, seen.event = orders, trades, newest
    seen.prices = {row["symbol"]: row["version"] for row in prices}
    return found


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    return {row["key"]: row["version"] for row in rows}


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Keys that are new or have another version, and those that are gone."""
    changed = [key for key, version in now.items() if before.get(key) != version]
    return changed, [key for key in before if key not in now]
