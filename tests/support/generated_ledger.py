"""A ledger of any number of closed trades, written in bulk, for reports, checks and measurements.

Every trade is one buy and one sell of its whole size, from a seeded market; the FIFO book is made by a recompute.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import orjson

from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id
from domain.money import divide
from domain.outcome import achieved, target_fraction

__all__ = ["START", "GeneratedLedger", "write_ledger"]

START = datetime(2026, 3, 1, tzinfo=UTC)
_FEE = Decimal("0.002")
_SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "XRP-USD")
_TRIGGERS = ("rsi_oversold", "macd_cross", "bb_squeeze", "volume_spike", "roc_momo")
_INDICATORS = ("rsi", "macd", "bollinger", "volume", "roc")
_RULES = ExitRules(take_profit=Decimal("0.04"), soft_stop=Decimal("0.02"))
_REASONS = {
    ExitReason.TP: (0.38, Decimal("0.04")),
    ExitReason.SOFT_STOP: (0.4, Decimal("-0.02")),
    ExitReason.TRAILING_STOP: (0.1, Decimal("0.03")),
    ExitReason.SIGNAL_EXIT: (0.12, Decimal("0.01")),
}


@dataclass(slots=True)
class GeneratedLedger:
    """The written trades: by outcome, and their sum, which a report must reproduce."""

    trades: int = 0
    wins: int = 0
    pnl: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    by_trigger: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)


_COLUMNS = {
    "orders": (
        "order_key", "account", "symbol", "side", "role", "entry_key", "order_type", "source", "entry_point", "trigger",
        "exit_reason", "buy_score", "indicator_breakdown", "indicators_fired", "intent", "intent_digest", "state",
        "finished", "filled_size", "filled_value", "quote_fees", "received_at", "placed_at", "first_fill_at",
        "last_fill_at", "finished_at", "snapshot_id",
    ),
    "attempts": (
        "client_order_id", "order_key", "number", "account", "symbol", "body", "status", "live", "exchange_order_id",
        "filled_size", "filled_value", "quote_fees", "prepared_at", "final_at",
    ),
    "fills": (
        "fill_key", "account", "symbol", "side", "order_key", "client_order_id", "exchange_order_id", "origin",
        "ingest_via", "size", "price", "value", "quote_fees", "at", "recorded_at", "lot_remaining",
    ),
    "trades": (
        "entry_key", "account", "symbol", "state", "bought_size", "bought_value", "bought_quote_fees", "sold_size",
        "sold_value", "sold_quote_fees", "entry_final", "exit_reason", "rules", "opened_at", "closed_at",
        "entry_trigger",
    ),
    "trade_exits": (
        "order_key", "entry_key", "reason", "target_fraction", "trigger_price", "size", "average_price",
        "achieved_gross", "achieved_net", "slippage", "fees", "attempts", "due_at", "at",
    ),
    "exit_plans": (
        "entry_key", "account", "symbol", "state", "rules", "entry_price", "quantity", "exit_reason", "updated_at",
    ),
    "trade_records": (
        "order_id", "account", "order_key", "client_order_id", "symbol", "side", "order_time", "price", "size",
        "total_fees_usd", "order_type", "status", "source", "ingest_via", "remaining_size", "trigger",
        "exit_reason",
    ),
    "trade_strategy_link": (
        "order_key", "order_id", "client_order_id", "snapshot_id", "trigger_type", "indicator_breakdown",
        "indicators_fired", "entry_key", "buy_score", "exit_reason", "completed_at",
    ),
}  # fmt: skip


async def write_ledger(dsn: str, count: int, *, seed: int = 1, account: str = "main") -> GeneratedLedger:
    """Write `count` closed trades with their orders, attempts, fills, exits, records and linkage."""
    dice = random.Random(seed)
    made = GeneratedLedger(rows={table: [] for table in _COLUMNS})
    for number in range(count):
        _trade(dice, made, number, account)
    connection = await asyncpg.connect(dsn)
    try:
        # COPY is binary, so JSON must be, too.
        await connection.set_type_codec(
            "jsonb",
            encoder=lambda value: b"\x01" + orjson.dumps(value),
            decoder=bytes,
            schema="pg_catalog",
            format="binary",
        )
        async with connection.transaction():
            for table, columns in _COLUMNS.items():
                await connection.copy_records_to_table(
                    table, records=made.rows[table], columns=list(columns), timeout=300
                )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    made.rows.clear()
    return made


def _trade(dice: random.Random, made: GeneratedLedger, number: int, account: str) -> None:
    symbol, trigger = dice.choice(_SYMBOLS), dice.choice(_TRIGGERS)
    reason = dice.choices(list(_REASONS), [weight for weight, _ in _REASONS.values()])[0]
    opened = START + timedelta(seconds=60 * number + dice.randint(0, 59))
    closed = opened + timedelta(seconds=dice.randint(30, 7_200))
    size = Decimal(dice.randint(1, 5_000)) / 1000
    entry = Decimal(dice.randint(9_000, 11_000)) / 100
    due = entry * (1 + _REASONS[reason][1] + Decimal(dice.randint(-8, 8)) / 10_000)
    out = due - Decimal(dice.randint(0, 6)) / 100
    keys = [uuid.UUID(int=dice.getrandbits(128)).hex for _ in range(2)]
    fired = tuple(sorted(name for name in _INDICATORS if dice.random() < 0.4))
    breakdown = {
        name: {"value": "1", "fired": name in fired, "weight": "1", "contribution": "1"} for name in _INDICATORS
    }
    score = Decimal(len(fired)) / 2 + Decimal(dice.randint(0, 40)) / 100
    paid, got = size * entry, size * out
    bought_fees, sold_fees = paid * _FEE, got * _FEE
    sides = (
        ("BUY", "ENTRY", keys[0], trigger, None, paid, bought_fees, entry, opened, "sighook"),
        ("SELL", "EXIT", keys[1], reason.value, reason.value, got, sold_fees, out, closed, "webhook"),
    )
    for side, role, key, why, left_by, value, fees, price, at, source in sides:
        venue, name, placed = f"x-{key}", client_order_id(key, 1), at - timedelta(seconds=0.2)
        snapshot = str(uuid.UUID(int=dice.getrandbits(128)))
        intent = {"trigger_price": str(due), "due_at": closed.isoformat()} if side == "SELL" else {}
        made.rows["orders"].append(
            (key, account, symbol, side, role, keys[0], "MARKET", source, "generated", why, left_by, score, breakdown,
             list(fired), intent, "", "FILLED", True, size, value, fees, placed, placed, at, at, at, snapshot)
        )  # fmt: skip
        made.rows["attempts"].append(
            (name, key, 1, account, symbol, {}, "FILLED", False, venue, size, value, fees, placed, at)
        )
        made.rows["fills"].append(
            (f"{account}/{venue}", account, symbol, side, key, name, venue, "derived", "websocket", size, price, value,
             fees, at, at, size if side == "BUY" else None)
        )  # fmt: skip
        made.rows["trade_records"].append(
            (venue, account, key, name, symbol, side, at, price, size, fees, "MARKET", "FILLED", source, "websocket",
             size if side == "BUY" else None, {"trigger": why, "snapshot_id": snapshot}, left_by)
        )  # fmt: skip
        made.rows["trade_strategy_link"].append(
            (key, venue, name, snapshot, why, breakdown, list(fired), keys[0], score, reason.value,
             closed if side == "BUY" else None)
        )  # fmt: skip
    made.rows["trades"].append(
        (keys[0], account, symbol, "CLOSED", size, paid, bought_fees, size, got, sold_fees, True, reason.value,
         _RULES_JSON, opened, closed, trigger)
    )  # fmt: skip
    made.rows["exit_plans"].append(
        (keys[0], account, symbol, "DISARMED", _RULES_JSON, entry, Decimal(0), reason.value, closed)
    )
    gross, net = achieved(entry, out, divide(bought_fees, size), divide(sold_fees, size))
    made.rows["trade_exits"].append(
        (keys[1], keys[0], reason.value, target_fraction(reason, _RULES), due, size, out, gross, net, out - due,
         sold_fees, 1, closed, closed)
    )  # fmt: skip
    gain = got - sold_fees - paid - bought_fees
    made.trades += 1
    made.wins += gain > 0
    made.pnl += gain
    made.fees += bought_fees + sold_fees
    made.by_trigger[trigger] = made.by_trigger.get(trigger, 0) + 1


_RULES_JSON = _RULES.model_dump(mode="json")
