"""What of the open orders and trades has changed since a look before, by the rows' own versions; cheap enough for each
second.

What is summed up of them (`risks`, counts) is computed from what was seen, and what changes seldom is read again when
it may have: a look costs a few small statements, whatever the ledger holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from web.views import Json, Ledger, Row
from web.views.lists import order_lines, trade_lines
from web.views.risks import Bid, OpenTrade, OpenTrades, open_trade, read_open_trades
from web.views.standing import Happened, Unwatched, read_closed, read_happened

__all__ = ["Changes", "SeenChanges", "changes_since"]

_ORDERS = """
SELECT order_key AS key, xmin::text AS version, state = 'UNKNOWN' AS unknown,
       CASE WHEN protection_role IS NOT NULL THEN entry_key END AS protects
  FROM orders WHERE account = $1 AND NOT finished
"""
_TRADES = """
SELECT t.entry_key AS key, t.xmin::text || '/' || coalesce(p.xmin::text, '') AS version, t.symbol
  FROM trades t LEFT JOIN exit_plans p ON p.entry_key = t.entry_key AND p.state <> 'DISARMED'
 WHERE t.account = $1 AND t.state <> 'CLOSED'
"""
_PRICES = """
SELECT symbol, bid, ask, price, at, xmin::text AS version FROM market_prices
 WHERE account = $1 AND symbol IN (SELECT symbol FROM trades WHERE account = $1 AND state <> 'CLOSED'
                                   UNION SELECT symbol FROM orders WHERE account = $1 AND NOT finished)
"""


@dataclass
class SeenChanges:
    """What the last look saw: versions by key, and what the sums are computed from."""

    orders: dict[str, str] = field(default_factory=dict)
    trades: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    open: OpenTrades = field(default_factory=OpenTrades)
    alone: frozenset[str] = frozenset()
    happened: Happened | None = None
    """None: there was no look yet."""
    closed: int = 0


@dataclass
class Changes:
    """Rows that are new or have changed, and keys that are open no more."""

    orders: list[Row] = field(default_factory=list)
    orders_gone: list[str] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    trades_gone: list[str] = field(default_factory=list)
    prices: list[dict[str, Any]] = field(default_factory=list)
    alone: frozenset[str] = frozenset()
    """Products of open trades whose price nobody watches."""
    events_from: int | None = None
    """The newest event that was known before, where there is a newer one."""
    turned: bool = False
    """Whether entries were halted or allowed again."""
    summary: Json = field(default_factory=dict)
    """`counts`, `switch`, `risks` and `unprotected`, as in `read_standing`."""


async def changes_since(
    ledger: Ledger, account: str, seen: SeenChanges, unwatched: Unwatched, *, count: bool = True
) -> Changes:
    """What has changed since `seen`, which becomes what is seen now. Nothing has since a look that saw nothing yet.

    `count`: closed trades are counted anew, as some may have closed between two looks, or have been imported.
    """
    before, first = seen.happened, seen.happened is None
    found = Changes()
    order_rows = await ledger.fetch(_ORDERS, account)
    trade_rows = await ledger.fetch(_TRADES, account)
    price_rows = await ledger.fetch(_PRICES, account)
    happened = await read_happened(ledger, account)
    orders, trades = _versions(order_rows), _versions(trade_rows)
    resting = frozenset(row["protects"] for row in order_rows if row["protects"] is not None)
    products = {row["key"]: row["symbol"] for row in trade_rows}
    found.alone = frozenset(await unwatched(set(products.values()))) if products else frozenset()

    changed, found.orders_gone = _difference(seen.orders, orders)
    if changed and not first:
        found.orders = await order_lines(ledger, account, changed)
    changed, found.trades_gone = _difference(seen.trades, trades)
    # What guards a trade is in its line, and no column of its own row.
    guarded, watched = resting ^ seen.open.resting, found.alone ^ seen.alone
    changed += [
        key
        for key, symbol in products.items()
        if (key in guarded or symbol in watched) and seen.trades.get(key) == trades[key]
    ]
    known: Mapping[str, OpenTrade] = seen.open.trades
    if first:
        known = (await read_open_trades(ledger, account)).trades
    elif changed:
        found.trades = await trade_lines(ledger, account, changed)
        known = {**known, **{row["entry_key"]: open_trade(row) for row in found.trades}}
    closed = await read_closed(ledger, account) if count or first else seen.closed + len(found.trades_gone)

    found.prices = [
        {name: row[name] for name in ("symbol", "bid", "ask", "price", "at")}
        for row in price_rows
        if not first and seen.prices.get(row["symbol"]) != row["version"]
    ]
    if before is not None:
        found.events_from = before.newest_event if happened.newest_event > before.newest_event else None
        found.turned = happened.switch != before.switch
    seen.orders, seen.trades, seen.happened, seen.closed, seen.alone = orders, trades, happened, closed, found.alone
    seen.prices = {row["symbol"]: row["version"] for row in price_rows}
    seen.open = OpenTrades(
        {key: known[key] for key in trades if key in known},
        {row["symbol"]: Bid(row["bid"], row["at"]) for row in price_rows},
        resting,
    )
    counts = {
        "open_trades": len(trades),
        "closed_trades": closed,
        "open_orders": len(orders),
        "unknown_orders": sum(row["unknown"] for row in order_rows),
    }
    found.summary = {
        "counts": counts | happened.counts,
        "switch": happened.switch,
        "risks": seen.open.risks(),
        "unprotected": seen.open.unprotected(found.alone),
    }
    return found


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    return {row["key"]: row["version"] for row in rows}


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Keys that are new or have another version, and those that are gone."""
    changed = [key for key, version in now.items() if before.get(key) != version]
    return changed, [key for key in before if key not in now]
