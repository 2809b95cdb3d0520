"""Long lists by the page: orders that are open, orders that have ended, trades, events; each by key, newest first.

A page begins behind the last row of the one before (its time and key), so that a deep one costs no more than the first
and nothing is left out or shown twice while rows are added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from domain.exits import loss_at_stop
from domain.money import average, divide
from domain.orders import Side
from domain.wording import tidy
from web.views import Ledger, Row
from web.views.orders import described_order
from web.views.reasons import unit_of_risk
from web.views.risks import stop_of
from web.views.trades import described_trade

__all__ = [
    "ORDER_KINDS",
    "Place",
    "described_order_line",
    "described_trade_line",
    "ended_orders",
    "events",
    "every_order",
    "open_orders",
    "order_line",
    "order_lines",
    "order_parts",
    "trade_line",
    "trade_lines",
    "trades_of",
]

ORDER_KINDS = ("entry", "exit", "protection", "quote", "external")
_OPEN_WORDS = frozenset({"NEW", "ACTIVE", "PARTIALLY_FILLED"})


@dataclass(frozen=True, slots=True)
class Place:
    """The last row that was seen: its time (UTC) and key."""

    at: datetime
    key: str


_KIND = """CASE WHEN o.protection_role IS NOT NULL THEN 'protection' WHEN o.role = 'EXTERNAL' THEN 'external'
                WHEN o.entry_point = 'passive_mm' THEN 'quote' WHEN o.role = 'EXIT' THEN 'exit' ELSE 'entry' END"""
_ENDED_AT = "coalesce(o.finished_at, o.received_at)"
_ORDER_COLUMNS = f"""
SELECT o.order_key, o.symbol, o.side, o.role, o.order_type, o.state, o.finished, o.gate, o.gate_sentence, o.refusal,
       o.base_size, o.quote_size, o.limit_price, o.filled_size, o.filled_value, o.quote_fees, o.trigger, o.source,
       o.exit_reason, o.entry_key, o.snapshot_id, o.received_at, o.finished_at, o.protection_role, o.status_source,
       o.entry_point, o.placed_at, o.first_fill_at, o.last_fill_at, o.buy_score, o.sell_score,
       o.intent ->> 'time_in_force' AS time_in_force, o.intent ->> 'post_only' AS post_only,
       t.state AS trade_state, {_KIND} AS kind, m.bid, m.ask, m.at AS price_at,
       e.achieved_net, e.slippage, {_ENDED_AT} AS ended_at,
       (SELECT a.refusal_text FROM attempts a WHERE a.order_key = o.order_key ORDER BY a.number DESC LIMIT 1)
           AS refusal_text,
       (SELECT count(*) FROM attempts a WHERE a.order_key = o.order_key)::int AS attempts
  FROM orders o LEFT JOIN trades t ON t.entry_key = coalesce(o.entry_key, o.order_key)
  LEFT JOIN market_prices m ON m.account = o.account AND m.symbol = o.symbol
  LEFT JOIN trade_exits e ON e.order_key = o.order_key
 WHERE o.account = $1"""  # noqa: S608 - our own texts, every value is a parameter
_ORDER_LINES = f"{_ORDER_COLUMNS} AND o.order_key = ANY($2::text[])"
_PARTS = {
    "gates": """SELECT g.position, g.gate, g.passed, g.numbers, g.at FROM gate_results g JOIN orders o USING (order_key)
                 WHERE g.order_key = $2 AND o.account = $1 ORDER BY g.position, g.id""",
    "attempts": """SELECT number, client_order_id, exchange_order_id, status, size, limit_price, filled_size,
                          filled_value, quote_fees, status_source, refusal, refusal_text, sends, prepared_at,
                          acknowledged_at, final_at
                     FROM attempts WHERE account = $1 AND order_key = $2 ORDER BY number""",
    "fills": """SELECT side, size, price, value, quote_fees, base_fees, liquidity, origin, ingest_via,
                       exchange_order_id, trade_id, at
                  FROM fills WHERE account = $1 AND order_key = $2 ORDER BY at, id""",
    "commands": """SELECT kind, given_by, note, at, accepted_at FROM commands
                    WHERE account = $1 AND subject = $2 ORDER BY at""",
    "incidents": """SELECT kind, severity, sentence, at, resolved_at FROM incidents
                     WHERE account = $1 AND subject = $2 ORDER BY at""",
}
_TRADE_COLUMNS = """
SELECT t.entry_key, t.symbol, t.state, t.rules, t.remaining, t.entry_final, t.exit_reason, t.pnl,
       t.bought_size, t.bought_value, t.bought_quote_fees, t.bought_base_fees,
       t.sold_size, t.sold_value, t.sold_quote_fees, t.dust_size, t.dust_why, t.external_size,
       t.opened_at, t.closed_at, t.unprotected_seconds,
       o.trigger, o.source, o.snapshot_id, o.buy_score, o.sell_score, o.entry_point, o.state AS entry_state,
       p.peak, p.stop, m.bid, m.at AS price_at, e.exits, e.exit_slippage,
       coalesce(o.intent #>> '{rules,hard_stop}',
                (SELECT c.rules_before ->> 'hard_stop' FROM stop_changes c WHERE c.entry_key = t.entry_key
                  ORDER BY c.at LIMIT 1), t.rules ->> 'hard_stop')::numeric AS first_hard_stop,
       CASE WHEN t.state = 'CLOSED' THEN 0 ELSE
           (SELECT count(*) FROM orders s WHERE s.entry_key = t.entry_key AND s.protection_role IS NOT NULL
               AND NOT s.finished)::int END AS protections
  FROM trades t JOIN orders o ON o.order_key = t.entry_key LEFT JOIN exit_plans p ON p.entry_key = t.entry_key
  LEFT JOIN market_prices m ON m.account = t.account AND m.symbol = t.symbol
  CROSS JOIN LATERAL (SELECT count(*)::int AS exits, sum(x.slippage * x.size) AS exit_slippage FROM trade_exits x
                       WHERE x.entry_key = t.entry_key) e
 WHERE t.account = $1"""
_TRADE_LINES = f"{_TRADE_COLUMNS} AND t.entry_key = ANY($2::text[])"
_EVENTS = """
SELECT i.id, i.at, i.severity, i.kind, i.subject, i.sentence, i.resolved_at, o.symbol, o.side, o.role,
       n.messages, n.targets, n.told_at, n.telegram_chats
  FROM incidents i
  LEFT JOIN orders o ON o.order_key = i.subject AND o.account = i.account
  LEFT JOIN LATERAL (SELECT sum(times)::int AS messages, count(*)::int AS targets, min(told_at) AS told_at,
                            count(*) FILTER (WHERE target LIKE 'telegram-%')::int AS telegram_chats
                       FROM notices WHERE incident_id = i.id) n ON true
 WHERE i.account = $1 AND i.id < coalesce($2::bigint, 9223372036854775807)
   AND ($3::text IS NULL OR i.kind = $3) AND ($4::text IS NULL OR i.severity = $4)
   AND (NOT $5 OR i.resolved_at IS NULL)
 ORDER BY i.id DESC LIMIT $6
"""


@dataclass(frozen=True, slots=True)
class _List:
    """A list that is read by the page, the last first.

    `rows` selects whole rows of the account `$1`; in the list are those of `table` that meet `where`, sorted by `at`
    and `key`. `filters` have what each filter compares, and what has to be joined for it.
    """

    rows: str
    table: str
    where: str
    at: str
    key: str
    filters: Mapping[str, tuple[str, str]]

    async def read(
        self, ledger: Ledger, account: str, asked: Mapping[str, str | None], after: Place | None, limit: int
    ) -> list[Row]:
        """At most `limit` rows that the filters leave (None: no filter), after a place.

        One statement: its inner part finds the page's keys in an index, its outer part their rows. Only the filters
        that are asked for are in it, and the limit is a number in its text: otherwise PostgreSQL can't see that few
        rows are wanted, and plans each page anew.
        """
        given = {name: value for name, value in asked.items() if value is not None}
        values: list[object] = [account, *given.values()]
        conditions = [self.where, *(f"{self.filters[name][0]} = ${number}" for number, name in enumerate(given, 2))]
        if after is not None:
            values += [after.at, after.key]
            conditions.append(f"({self.at}, {self.key}) < (${len(values) - 1}, ${len(values)})")
        tables = " ".join([self.table, *{self.filters[name][1]: None for name in given}])
        order = f"ORDER BY {self.at} DESC, {self.key} DESC"
        # Our own texts and a number; every value is a parameter.
        keys = f"SELECT {self.key} FROM {tables} WHERE {' AND '.join(conditions)} {order} LIMIT {int(limit)}"  # noqa: S608
        return await ledger.fetch(f"{self.rows} AND {self.key} = ANY(ARRAY({keys})) {order}", *values)


_ORDER_FILTERS = {
    "symbol": ("o.symbol", ""),
    "side": ("o.side", ""),
    "kind": (_KIND, ""),
    "state": ("o.state", ""),
}
_TRADE_FILTERS = {
    "symbol": ("t.symbol", ""),
    "trigger": ("o.trigger", "JOIN orders o ON o.order_key = t.entry_key"),
}
_OPEN_ORDERS = _List(
    _ORDER_COLUMNS,
    "orders o",
    "o.account = $1 AND NOT o.finished",
    "o.received_at",
    "o.order_key",
    _ORDER_FILTERS,
)
_ENDED_ORDERS = replace(_OPEN_ORDERS, where="o.account = $1 AND o.finished", at=_ENDED_AT)
_EVERY_ORDER = replace(_OPEN_ORDERS, where="o.account = $1")
_OPEN_TRADES = _List(
    _TRADE_COLUMNS,
    "trades t",
    "t.account = $1 AND t.state <> 'CLOSED'",
    "t.opened_at",
    "t.entry_key",
    _TRADE_FILTERS,
)
_CLOSED_TRADES = replace(_OPEN_TRADES, where="t.account = $1 AND t.state = 'CLOSED'", at="t.closed_at")
_EVERY_TRADE = replace(_OPEN_TRADES, where="t.account = $1")


async def open_orders(
    ledger: Ledger,
    account: str,
    *,
    symbol: str | None = None,
    side: str | None = None,
    kind: str | None = None,
    after: Place | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` orders that have not ended, the newest first."""
    return await _OPEN_ORDERS.read(ledger, account, {"symbol": symbol, "side": side, "kind": kind}, after, limit)


async def every_order(
    ledger: Ledger, account: str, *, symbol: str | None = None, after: Place | None = None, limit: int
) -> list[Row]:
    """At most `limit` orders, open or ended, the newest first."""
    return await _EVERY_ORDER.read(ledger, account, {"symbol": symbol}, after, limit)


async def ended_orders(
    ledger: Ledger,
    account: str,
    *,
    symbol: str | None = None,
    side: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    after: Place | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` orders that have ended, by when they did, the last first. None is in both lists or in neither."""
    filters = {"symbol": symbol, "side": side, "kind": kind, "state": state}
    return await _ENDED_ORDERS.read(ledger, account, filters, after, limit)


async def order_line(ledger: Ledger, account: str, key: str) -> Row | None:
    """One order of the account as those lists have it; None if it has none of this key."""
    rows = await order_lines(ledger, account, [key])
    return rows[0] if rows else None


async def order_lines(ledger: Ledger, account: str, keys: Sequence[str]) -> list[Row]:
    """Those of the account's orders that have these keys, as those lists have them."""
    return await ledger.fetch(_ORDER_LINES, account, keys)


async def order_parts(ledger: Ledger, account: str, key: str) -> dict[str, list[dict[str, Any]]]:
    """An order's own gates, attempts, fills, commands and incidents, oldest first."""
    return {
        name: [dict(row) for row in await ledger.fetch(statement, account, key)] for name, statement in _PARTS.items()
    }


def described_order_line(row: Row) -> dict[str, Any]:
    """An order for a table: `described_order` with what a table shows beside it.

    `distance_to_touch`: how far its limit is from its own side's best price, a fraction of that, above zero: behind it.
    `kind` is one of ORDER_KINDS.
    """
    found: dict[str, Any] = described_order(row)
    size = row["base_size"]
    open_word = found["public_state"] in _OPEN_WORDS
    if not row["finished"] and not open_word:  # between two attempts: another one follows
        found["public_state"] = "PARTIALLY_FILLED" if row["filled_size"] > 0 else "NEW"
    return found | {
        "kind": row["kind"],
        "protection_role": row["protection_role"],
        "entry_point": row["entry_point"],
        "status_source": row["status_source"],
        "refusal_text": row["refusal_text"],
        "filled_fraction": None if not size else tidy(divide(row["filled_size"], size)),
        "bid": row["bid"],
        "ask": row["ask"],
        "price_at": row["price_at"],
        "distance_to_touch": None if row["finished"] else _distance(row),
        "buy_score": row["buy_score"],
        "sell_score": row["sell_score"],
        "achieved_net": tidy(row["achieved_net"]),
        "slippage": tidy(row["slippage"]),
        "placed_at": row["placed_at"],
        "first_fill_at": row["first_fill_at"],
        "last_fill_at": row["last_fill_at"],
        "ended_at": row["ended_at"] if row["finished"] else None,
    }


def _distance(row: Row) -> Decimal | None:
    limit, buys = row["limit_price"], row["side"] == Side.BUY
    touch = row["bid"] if buys else row["ask"]
    if limit is None or not touch:
        return None
    return tidy(divide(touch - limit if buys else limit - touch, touch))


async def trades_of(
    ledger: Ledger,
    account: str,
    *,
    closed: bool | None,
    symbol: str | None = None,
    trigger: str | None = None,
    after: Place | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` trades, the last first: closed ones by when they closed; open ones, or with `closed` of None
    both, by when they opened.
    """
    listed = _EVERY_TRADE if closed is None else _CLOSED_TRADES if closed else _OPEN_TRADES
    return await listed.read(ledger, account, {"symbol": symbol, "trigger": trigger}, after, limit)


async def trade_line(ledger: Ledger, account: str, key: str) -> Row | None:
    """One trade of the account as those lists have it; None if it has none of this key."""
    rows = await trade_lines(ledger, account, [key])
    return rows[0] if rows else None


async def trade_lines(ledger: Ledger, account: str, keys: Sequence[str]) -> list[Row]:
    """Those of the account's trades that have these keys, as those lists have them."""
    return await ledger.fetch(_TRADE_LINES, account, keys)


def described_trade_line(row: Row, alone: Collection[str] | None) -> dict[str, Any]:
    """A trade for a table: `described_trade` at the price that is kept, with what a table shows beside it.

    `nearest_stop`: the highest of its stops. `stop_distance`: from the bid down to it, a fraction of the bid; below
    zero: the bid has passed it. `at_risk`: what is lost if it sells there, in quote currency; zero once the bid has
    passed it. `result_fraction`: of what was paid, with fees.
    `unit_of_risk`: see there. `slippage`: of all its exits, in quote currency.
    """
    found = described_trade(row, None if row["state"] == "CLOSED" else row["bid"], alone)
    nearest, bid = None if row["state"] == "CLOSED" else stop_of(row), found["bid"]
    cost = row["bought_value"] + row["bought_quote_fees"]
    entry = average(row["bought_value"], row["bought_size"])
    risk = unit_of_risk(entry, row["bought_size"], row["first_hard_stop"])
    return found | {
        "entry_point": row["entry_point"],
        "buy_score": row["buy_score"],
        "sell_score": row["sell_score"],
        "entry_state": row["entry_state"],
        "price_at": row["price_at"],
        "would_gain_fraction": _of_cost(found["unrealised_pnl"], row["remaining"] * (found["entry_price"] or 0)),
        "nearest_stop": tidy(nearest),
        "stop_distance": tidy(divide(bid - nearest, bid)) if nearest is not None and bid else None,
        "at_risk": tidy(loss_at_stop(nearest, bid, row["remaining"])) if nearest is not None and bid else None,
        "protections": row["protections"],
        "unprotected_seconds": tidy(row["unprotected_seconds"]),
        "result_fraction": _of_cost(found["pnl"], cost) if row["state"] == "CLOSED" else None,
        "unit_of_risk": risk,
        "result_in_risk": _of_cost(row["pnl"], risk) if row["state"] == "CLOSED" and risk is not None else None,
        "slippage": tidy(row["exit_slippage"]),
        "currency": row["symbol"].replace("_", "-").partition("-")[2],
    }


def _of_cost(gain: Decimal | None, cost: Decimal) -> Decimal | None:
    return None if gain is None or not cost else tidy(divide(gain, cost))


async def events(
    ledger: Ledger,
    account: str,
    *,
    kind: str | None = None,
    severity: str | None = None,
    only_open: bool = False,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` incidents, the newest first, with the messages that were sent of each and to how many targets."""
    return await ledger.fetch(_EVENTS, account, before, kind, severity, only_open, limit)
