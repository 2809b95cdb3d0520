"""How an account stands, for `bottrader status`, the page's top line and its monitoring: counts, switch, money at risk,
age of the data, what runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from domain.wording import tidy
from web.views import Json, Ledger, Row
from web.views.risks import OpenTrades, read_open_trades

__all__ = [
    "Happened",
    "Unwatched",
    "equity",
    "market_of",
    "newest_runs",
    "newest_signals_of_all",
    "notice_targets",
    "read_closed",
    "read_happened",
    "read_standing",
]

Unwatched = Callable[[Collection[str]], Awaitable[Collection[str]]]

_ZERO = Decimal(0)
_OPEN_ORDERS = """
SELECT count(*)::int AS open_orders, (count(*) FILTER (WHERE state = 'UNKNOWN'))::int AS unknown_orders
  FROM orders WHERE account = $1 AND NOT finished
"""
# A trade has this time from its close on and for good; counted so, an index is read and no trade.
_CLOSED = "SELECT count(*)::int FROM trades WHERE account = $1 AND closed_at IS NOT NULL"
_HAPPENED = """
SELECT open.events::int AS open_incidents, open.critical::int AS critical_incidents,
       (SELECT count(*) FROM commands WHERE account = $1 AND kind IN ('close', 'cancel') AND accepted_at > now()
           - interval '1 day')::int AS closes_and_cancels_today,
       (SELECT coalesce(max(id), 0) FROM incidents WHERE account = $1) AS newest_event,
       s.halted, s.reason, s.changed_by, s.changed_at
  FROM (SELECT count(*) AS events, count(*) FILTER (WHERE severity = 'CRITICAL') AS critical
          FROM incidents WHERE account = $1 AND resolved_at IS NULL) open
  LEFT JOIN account_controls s ON s.account = $1
"""
_STREAMS = """
SELECT n.name, coalesce(l.expires_at > now(), false) AS held, p.connected, p.connections, p.gaps, p.malformed,
       p.last_message_at
  FROM unnest($1::text[]) AS n (name)
  LEFT JOIN stream_positions p ON p.name = n.name LEFT JOIN leases l ON l.name = n.name
 ORDER BY n.name
"""
_RUN = """
SELECT at, started_at, finished_at, symbols, buys, sells FROM strategy_runs WHERE account = $1 ORDER BY at DESC LIMIT 1
"""
_RUNS = """
SELECT snapshot_id, at, started_at, finished_at, symbols, buys, sells FROM strategy_runs
 WHERE account = $1 ORDER BY at DESC LIMIT $2
"""
_TARGETS = """
SELECT failures, last_error, last_failed_at, last_delivered_at FROM notice_targets WHERE account = $1 ORDER BY target
"""
_CHECK = "SELECT at, ok, violations, seconds FROM ledger_checks WHERE account = $1 ORDER BY at DESC LIMIT 1"
_PRICES = """
SELECT min(m.at) AS oldest_at, count(*)::int AS symbols
  FROM (SELECT DISTINCT symbol FROM trades WHERE account = $1 AND state <> 'CLOSED') t
  LEFT JOIN market_prices m ON m.account = $1 AND m.symbol = t.symbol
"""
_SIGNALS = """
SELECT at, symbol, side, source, trigger, decision, coalesce(details ->> 'sentence', '') AS sentence, snapshot_id,
       order_key
  FROM trade_signals WHERE account = $1 ORDER BY id DESC LIMIT $2
"""
_EQUITY = """
SELECT split_part(translate(symbol, '_', '-'), '-', 2) AS currency, date_trunc($2, closed_at, 'UTC') AS at,
       sum(pnl) AS pnl, sum(bought_quote_fees + sold_quote_fees) AS fees, count(*)::int AS trades
  FROM trades
 WHERE account = $1 AND state = 'CLOSED' AND sold_size > 0
   AND ($3::timestamptz IS NULL OR closed_at >= $3) AND ($4::timestamptz IS NULL OR closed_at < $4)
 GROUP BY 1, 2 ORDER BY 1, 2
"""
_CANDLES = """
SELECT start AS at, open, high, low, close, volume, settled FROM candles
 WHERE account = $1 AND symbol = $2 AND seconds = $3
   AND ($4::timestamptz IS NULL OR start >= $4) AND ($5::timestamptz IS NULL OR start < $5)
 ORDER BY start DESC LIMIT $6
"""
_LENGTHS = "SELECT DISTINCT seconds FROM candles WHERE account = $1 AND symbol = $2 ORDER BY seconds"
_MARKS = """
SELECT f.at, f.side, f.size, f.price, f.order_key, o.entry_key, o.role, o.exit_reason
  FROM fills f JOIN orders o ON o.order_key = f.order_key
 WHERE f.account = $1 AND f.symbol = $2 AND ($3::timestamptz IS NULL OR f.at >= $3)
   AND ($4::timestamptz IS NULL OR f.at < $4)
 ORDER BY f.at DESC, f.id DESC LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class Happened:
    """What is counted of incidents and commands, the switch of entries, and the newest incident's number (0: none)."""

    counts: Json
    switch: Json
    newest_event: int


async def read_happened(ledger: Ledger, account: str) -> Happened:
    """As it stands."""
    row = await ledger.fetchrow(_HAPPENED, account)
    if row is None:
        raise LookupError(account)
    names = ("open_incidents", "critical_incidents", "closes_and_cancels_today")
    switch = {
        "halted": bool(row["halted"]),
        "by": row["changed_by"] or "",
        "reason": row["reason"] or "",
        "since": row["changed_at"],
    }
    return Happened({name: row[name] for name in names}, switch, row["newest_event"])


async def read_closed(ledger: Ledger, account: str) -> int:
    """How many trades have closed."""
    found: int = await ledger.fetchval(_CLOSED, account)
    return found


async def read_standing(
    ledger: Ledger, account: str, streams: Sequence[str], unwatched: Unwatched | None = None
) -> dict[str, Any]:
    """Counts, the switch of entries, the newest run and check, how old the oldest price of an open trade is, and
    whether these streams are `held` by somebody and when each was last heard.

    `risks`, by quote currency: `at_risk`, what is lost if every open trade sells at its nearest stop, before fees, and
    `exposure`, what they are worth, both at the stored bids; `unpriced` of the `trades` have none and are in neither.
    `unprotected`: open trades whose price nobody watches and for which no order rests at the exchange; None without
    `unwatched`, which returns those of some symbols that nobody watches. `oldest`: the oldest of the prices of open
    trades and of the streams' last messages; None before there is any.
    """
    happened = await read_happened(ledger, account)
    orders = await ledger.fetchrow(_OPEN_ORDERS, account)
    prices = await ledger.fetchrow(_PRICES, account)
    run = await ledger.fetchrow(_RUN, account)
    check = await ledger.fetchrow(_CHECK, account)
    heard = [dict(row) for row in await ledger.fetch(_STREAMS, list(streams))]
    held = await read_open_trades(ledger, account)
    alone = None if unwatched is None else set(await unwatched(held.symbols))
    return {
        "counts": {
            "open_trades": len(held.trades),
            "closed_trades": await read_closed(ledger, account),
            **dict(orders or {}),
            **happened.counts,
        },
        "switch": happened.switch,
        "prices": dict(prices or {}),
        "risks": held.risks(),
        "unprotected": None if alone is None else held.unprotected(alone),
        "oldest": _oldest(held, heard),
        "streams": heard,
        "run": dict(run) if run else None,
        "ledger_check": dict(check) if check else None,
    }


def _oldest(held: OpenTrades, heard: Sequence[Row]) -> dict[str, Any] | None:
    """The oldest price or message: `what` is a product or a stream."""
    known = [(row["last_message_at"], row["name"]) for row in heard if row["last_message_at"]]
    if (price := held.oldest()) is not None:
        known.append(price)
    if not known:
        return None
    at, what = min(known)
    return {"what": what, "at": at}


async def newest_signals_of_all(ledger: Ledger, account: str, most: int) -> list[Row]:
    """The newest signals on any product and what became of them, newest first."""
    return await ledger.fetch(_SIGNALS, account, most)


async def newest_runs(ledger: Ledger, account: str, most: int) -> list[Row]:
    """The strategy's newest runs: how many products they looked at, and how many buys and sells they decided."""
    return await ledger.fetch(_RUNS, account, most)


async def notice_targets(ledger: Ledger, account: str) -> list[Row]:
    """How sending to each target of notices goes: failures in a row, the last error, the last message sent. Targets are
    secrets and are not named.
    """
    return await ledger.fetch(_TARGETS, account)


async def equity(ledger: Ledger, account: str, bucket: str, since: object, until: object) -> list[dict[str, Any]]:
    """By currency what closed trades brought in each `bucket` (hour, day, week, month; UTC), summed up from the first
    one of the range, and how far that is below its highest point so far.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in await ledger.fetch(_EQUITY, account, bucket, since, until):
        series = found.setdefault(
            row["currency"], {"currency": row["currency"], "points": [], "sum": _ZERO, "top": _ZERO}
        )
        series["sum"] += row["pnl"]
        series["top"] = max(series["top"], series["sum"])
        point = {"at": row["at"], "trades": row["trades"], "pnl": tidy(row["pnl"]), "fees": tidy(row["fees"])}
        sums = {"total": tidy(series["sum"]), "drawdown": tidy(series["top"] - series["sum"])}
        series["points"].append(point | sums)
    return [{"currency": each["currency"], "points": each["points"]} for each in found.values()]


async def market_of(
    ledger: Ledger, account: str, symbol: str, seconds: int, since: object, until: object, most: int
) -> dict[str, Any]:
    """The newest `most` candles of one length (seconds), oldest first, with our fills in the same range, and which
    lengths there are.
    """
    candles = [dict(row) for row in await ledger.fetch(_CANDLES, account, symbol, seconds, since, until, most)]
    candles.reverse()
    first = since if not candles else candles[0]["at"]
    marks = [dict(row) for row in await ledger.fetch(_MARKS, account, symbol, first, until, most)]
    marks.reverse()
    lengths = [row["seconds"] for row in await ledger.fetch(_LENGTHS, account, symbol)]
    return {"symbol": symbol, "seconds": seconds, "lengths": lengths, "candles": candles, "marks": marks}
