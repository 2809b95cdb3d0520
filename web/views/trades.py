"""Trades: one, a list, a trade's full record, open ones and results.

A trade is its entry and everything that closes it, named by the entry's key. Profit and loss are the position book's:
net proceeds of the sold size less its share of the cost, both with fees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from domain.exits import ExitRules, target_price
from domain.ids import exit_workflow_id, order_workflow_id
from domain.money import average
from domain.wording import tidy
from web.views import Json, Ledger, Row
from web.views.orders import described_order, read_order

__all__ = [
    "Story",
    "accepted_commands",
    "described_decision",
    "described_story",
    "described_trade",
    "every_trade",
    "exit_of",
    "find_trade",
    "how_they_ended",
    "open_by_symbol",
    "read_story",
    "read_trade",
    "rules_of",
    "what_is_open",
]

_TRADES = """
SELECT t.*, o.trigger, o.source, o.snapshot_id, o.buy_score, o.state AS entry_state,
       p.state AS plan_state, p.peak, p.stop, p.distance, p.atr, p.steps,
       (SELECT count(*) FROM trade_exits e WHERE e.entry_key = t.entry_key)::int AS exits
FROM trades t JOIN orders o ON o.order_key = t.entry_key LEFT JOIN exit_plans p ON p.entry_key = t.entry_key
"""
_TRADE = _TRADES + "WHERE t.entry_key = $1"
_EVERY = _TRADES + "WHERE $1::text[] IS NULL OR t.entry_key = ANY($1) ORDER BY t.opened_at"
_ACCEPTED = """
SELECT c.kind, c.given_by, c.note, c.accepted_at,
       CASE WHEN c.kind = 'close' THEN coalesce(t.state = 'CLOSED', o.finished) ELSE o.finished END AS done
  FROM commands c JOIN orders o ON o.order_key = c.subject LEFT JOIN trades t ON t.entry_key = o.order_key
 WHERE c.subject = $1 AND c.accepted_at IS NOT NULL ORDER BY c.accepted_at
"""
_GIVEN_BY = "SELECT kind, id, given_by FROM commands WHERE subject = $1"
_ENTRY_OF = "SELECT coalesce(entry_key, order_key) FROM orders WHERE order_key = $1"
_SELLS = "SELECT order_key FROM orders WHERE entry_key = $1 AND order_key <> $1 ORDER BY received_at"
_EXITS = """
SELECT order_key, reason, target_fraction, trigger_price, size, average_price, achieved_gross, achieved_net, slippage,
       fees, path, attempts, trailing_state, due_at, at FROM trade_exits"""
_EXIT = f"{_EXITS} WHERE order_key = $1"
_OF_TRADE = "IN (SELECT order_key FROM orders WHERE order_key = $1 OR entry_key = $1)"
_PARTS = {
    "gates": f"""SELECT g.order_key, o.role, g.position, g.gate, g.passed, g.numbers, g.at
                 FROM gate_results g JOIN orders o USING (order_key) WHERE g.order_key {_OF_TRADE}
                 ORDER BY o.received_at, g.position""",  # noqa: S608 - our own text, the key is a parameter
    "attempts": f"""SELECT order_key, number, client_order_id, exchange_order_id, status, size, limit_price,
                           filled_size, filled_value, quote_fees, status_source, refusal, refusal_text, sends,
                           prepared_at, acknowledged_at, final_at
                    FROM attempts WHERE order_key {_OF_TRADE} ORDER BY prepared_at, number""",  # noqa: S608 - as above
    "fills": f"""SELECT order_key, side, size, price, value, quote_fees, base_fees, liquidity, origin, ingest_via,
                        exchange_order_id, trade_id, at
                 FROM fills WHERE order_key {_OF_TRADE} ORDER BY at, id""",  # noqa: S608 - as above
    "linkage": f"""SELECT order_key, order_id, client_order_id, snapshot_id, buy_score, sell_score, trigger_type,
                          sell_trigger, exit_reason, linked_at, completed_at
                   FROM trade_strategy_link WHERE order_key {_OF_TRADE} ORDER BY linked_at""",  # noqa: S608 - as above
    "stop_changes": """SELECT at, given_by, note, sentence, bid FROM stop_changes WHERE entry_key = $1 ORDER BY at""",
    "exits": f"{_EXITS} WHERE entry_key = $1 ORDER BY at",
    "promises": _ACCEPTED,
    "incidents": f"""SELECT kind, severity, sentence, at FROM incidents
                     WHERE subject {_OF_TRADE} ORDER BY at""",  # noqa: S608 - as above
}
_OPEN = """
SELECT t.entry_key AS key, t.symbol, 'trade' AS what, t.remaining AS size, t.state FROM trades t
 WHERE t.account = $1 AND t.state <> 'CLOSED' AND ($2::text IS NULL OR t.symbol = $2)
UNION ALL
SELECT o.order_key, o.symbol, 'entry', o.base_size - o.filled_size, o.state FROM orders o
 WHERE o.account = $1 AND o.role = 'ENTRY' AND NOT o.finished AND ($2::text IS NULL OR o.symbol = $2)
   AND NOT EXISTS (SELECT 1 FROM trades t WHERE t.entry_key = o.order_key AND t.state <> 'CLOSED')
 ORDER BY 2, 1
"""
_OPEN_BY_SYMBOL = """
SELECT symbol, count(*) AS trades, sum(remaining) AS size FROM trades
 WHERE account = $1 AND state <> 'CLOSED' GROUP BY symbol ORDER BY symbol
"""
_ENDS = """
SELECT o.order_key AS key, o.state, o.filled_size, t.state AS trade_state, t.exit_reason, t.pnl,
       (SELECT sentence FROM incidents i WHERE i.subject = o.order_key AND i.kind = 'EXIT_REFUSED'
          AND i.resolved_at IS NULL ORDER BY i.id DESC LIMIT 1) AS refusal
  FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key WHERE o.order_key = ANY($1::text[])
"""


async def find_trade(ledger: Ledger, key: str) -> Row | None:
    """A trade by its entry's key, with its entry's decision and its exit plan; None: there is none."""
    return await ledger.fetchrow(_TRADE, key)


async def read_trade(ledger: Ledger, key: str) -> Row:
    """The same for an existing trade. Raises LookupError if there is none."""
    row = await find_trade(ledger, key)
    if row is None:
        raise LookupError(key)
    return row


async def every_trade(ledger: Ledger, keys: Collection[str] | None) -> list[Row]:
    """Every trade of the ledger in all accounts, or those with these keys, oldest first."""
    return await ledger.fetch(_EVERY, keys)


def rules_of(row: Row) -> ExitRules:
    """The exit rules of a trade's row."""
    return _checked_rules(orjson.dumps(row["rules"]))


@lru_cache(maxsize=1024)
def _checked_rules(text: bytes) -> ExitRules:
    """Most trades share their rules with many others; to check them takes longer than all the rest of a row."""
    return ExitRules.model_validate_json(text)


def described_trade(row: Row, bid: Decimal | None = None, alone: Collection[str] | None = None) -> dict[str, Any]:
    """A trade as JSON: sizes in base, prices in quote per base, P&L and fees in quote currency, times in UTC.

    `alone`: the symbols whose price is not watched now; None if not checked.
    """

    rules = rules_of(row)
    entry = average(row["bought_value"], row["bought_size"])
    cost = row["bought_value"] + row["bought_quote_fees"]
    bought = row["bought_size"] - row["bought_base_fees"]
    closed = row["state"] == "CLOSED"
    unrealised = None
    if bid is not None and not closed and bought > 0:
        unrealised = row["remaining"] * bid - cost * row["remaining"] / bought
    return {
        "entry_key": row["entry_key"],
        "workflow_id": order_workflow_id(row["entry_key"]),
        "exit_workflow_id": exit_workflow_id(row["entry_key"]),
        "symbol": row["symbol"],
        "state": row["state"],
        "watched": None if alone is None or closed else row["symbol"] not in alone,
        "entry_final": row["entry_final"],
        "entry_size": row["bought_size"],
        "entry_price": tidy(entry),
        "remaining": row["remaining"],
        "hard_stop": None if entry is None else tidy(entry * (1 - rules.hard_stop)),
        "soft_stop": None if entry is None else tidy(entry * (1 - rules.soft_stop)),
        "trailing_arms_at": None
        if entry is None or rules.trailing_arm is None
        else tidy(entry * (1 + rules.trailing_arm)),
        "trailing_stop": tidy(row["stop"]),
        "trailing_peak": tidy(row["peak"]),
        "take_profit": None if entry is None else tidy(target_price(rules, entry)),
        "bid": bid,
        "unrealised_pnl": tidy(unrealised),
        "exit_size": row["sold_size"],
        "exit_price": tidy(average(row["sold_value"], row["sold_size"])),
        "exit_reason": row["exit_reason"],
        "exits": row["exits"],
        "pnl": tidy(row["pnl"]) if row["sold_size"] > 0 else None,
        "fees": row["bought_quote_fees"] + row["sold_quote_fees"],
        "dust_size": row["dust_size"],
        "dust_why": row["dust_why"],
        "external_size": row["external_size"],
        "trigger": row["trigger"],
        "source": row["source"],
        "snapshot_id": row["snapshot_id"],
        "opened_at": row["opened_at"],
        "closed_at": row["closed_at"],
    }


@dataclass(frozen=True, slots=True)
class Story:
    """Everything in the ledger about a trade."""

    entry: Row
    trade: Row | None
    """None while nothing has filled."""
    sells: list[Row]
    """Orders that sell from it, in the order of their requests."""
    parts: dict[str, list[Row]]
    """Its gates, attempts, fills, linkage, stop_changes, exits, promises and incidents, oldest first."""
    given_by: dict[tuple[str, str], str]
    """The authors of commands on it, by the command's kind and id."""

    @property
    def key(self) -> str:
        """The entry's key."""
        return str(self.entry["order_key"])


async def read_story(ledger: Ledger, key: str) -> Story:
    """The full record of the trade that the existing order `key` enters or sells."""
    entry_key = await ledger.fetchval(_ENTRY_OF, key)
    sells = [row["order_key"] for row in await ledger.fetch(_SELLS, entry_key)]
    return Story(
        entry=await read_order(ledger, entry_key),
        trade=await find_trade(ledger, entry_key),
        sells=[await read_order(ledger, sell) for sell in sells],
        parts={name: await ledger.fetch(statement, entry_key) for name, statement in _PARTS.items()},
        given_by={(row["kind"], row["id"]): row["given_by"] for row in await ledger.fetch(_GIVEN_BY, entry_key)},
    )


def described_story(story: Story, *, alone: Collection[str] | None) -> dict[str, Any]:
    """A trade's full record as JSON; `alone` as in `described_trade`."""
    entry = story.entry
    return {
        "trade": None if story.trade is None else described_trade(story.trade, alone=alone),
        "entry": described_order(entry),
        "decision": described_decision(entry),
        "exit_orders": [described_order(row) for row in story.sells],
        **{name: [dict(row) for row in rows] for name, rows in story.parts.items()},
    }


def described_decision(order: Row) -> Json:
    """The decision behind an order as JSON: scores, indicators, and who asked for it."""
    return {
        "buy_score": order["buy_score"],
        "sell_score": order["sell_score"],
        "indicators_fired": order["indicators_fired"],
        "indicator_breakdown": order["indicator_breakdown"],
        "asked_by": order["intent"].get("asked_by", ""),
        "request_id": order["intent"].get("request_id", ""),
    }


async def exit_of(ledger: Ledger, key: str) -> Row | None:
    """What an exit order achieved; None if it is no exit, or nothing of it has filled."""
    return await ledger.fetchrow(_EXIT, key)


async def accepted_commands(ledger: Ledger, key: str) -> list[Row]:
    """Closes and cancels of an entry's trade that were accepted, and whether they are done."""
    return await ledger.fetch(_ACCEPTED, key)


async def what_is_open(ledger: Ledger, account: str, symbol: str | None = None) -> list[Row]:
    """Trades that are not closed, and entries that have not ended and have no open trade, of one product or all: `what`
    is trade or entry."""
    return await ledger.fetch(_OPEN, account, symbol)


async def open_by_symbol(ledger: Ledger, account: str) -> list[Row]:
    """The number of open trades in each product, and their remaining size (base)."""
    return await ledger.fetch(_OPEN_BY_SYMBOL, account)


async def how_they_ended(ledger: Ledger, keys: Iterable[str]) -> dict[str, Row]:
    """Entries by their keys, with their trades' results and the reason of a still refused exit."""
    return {row["key"]: row for row in await ledger.fetch(_ENDS, sorted(keys))}
