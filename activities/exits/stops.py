"""Stops and targets that a person moves (EXIT-14): the plan, the trade's own rules and the record, in one transaction.

The plan is the truth: the price watcher hears of it at once, and an exit monitor that is started anew reads it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

from activities.commands import given_by
from activities.database import Pool, lock_symbol
from activities.exits.plans import locked_plan, position_of
from activities.interfaces.orders import MoveStops
from activities.ledger.known_bids import LAST_PRICE
from activities.venue import Venue
from domain.commands import CommandKind, noted, through_temporal
from domain.exits import ExitReason, ExitRules, price_stop
from domain.messages import StopsAnswer, StopsRequest
from domain.protection import Protection
from domain.stops import LEVELS, StopsRefusedError, moved_stops, same_levels
from exchange.port import ExchangeError

__all__ = ["move_stops"]

_ASK_SECONDS = 3.0
_KEPT_SECONDS = 60.0
"""For so long (wall time) a bid that a stream told says something."""

# GREATEST, as the price watcher writes: a trailing stop is never lowered, whoever writes it and in whatever order.
_WRITE = """
WITH trade AS (
    UPDATE trades SET rules = $2 WHERE entry_key = $1
), plan AS (
    UPDATE exit_plans p
       SET rules = $2, stop = greatest(p.stop, $3), peak = greatest(p.peak, $4),
           distance = coalesce(p.distance, $5), atr = coalesce(p.atr, $6), updated_at = now(),
           revision = nextval('exit_plan_revision')
     WHERE entry_key = $1
)
INSERT INTO stop_changes (id, account, entry_key, given_by, note, sentence, rules_before, rules_after, bid, levels)
VALUES ($7, $8, $1, $9, $10, $11, $12, $2, $13, $14)
"""


async def move_stops(pool: Pool, venue: Venue, account: str, request: MoveStops) -> StopsAnswer:
    """Do what a person asks, or what was done when it was asked for before.

    Raises StopsRefusedError, and the database's errors.
    """
    key, wanted = request.entry_key, request.request
    symbol = await pool.fetchval("SELECT symbol FROM trades WHERE entry_key = $1", key)
    if symbol is None:
        raise StopsRefusedError("NO_POSITION", "the trade has no position")
    bid = await _bid(pool, venue, account, symbol)
    async with pool.acquire() as connection, connection.transaction():
        await lock_symbol(connection, account, symbol)
        done = await connection.fetchrow(
            "SELECT entry_key, sentence, rules_after, levels FROM stop_changes WHERE id = $1", request.change_id
        )
        if done is not None and done["entry_key"] != key:
            raise StopsRefusedError("COMMAND_USED", "the command was given for another trade's stops: use a new one")
        if done is not None and done["levels"] is not None:
            before = StopsRequest.model_validate(done["levels"])
            if not same_levels(before, wanted):
                raise StopsRefusedError(
                    "COMMAND_USED", f"the command was given for other levels ({done['sentence']}): use a new one"
                )
        if done is not None:
            return StopsAnswer(sentence=done["sentence"], rules=ExitRules.model_validate(done["rules_after"]))
        row = await locked_plan(connection, key)
        if row is None or row["state"] == "DISARMED" or row["trade_state"] == "CLOSED":
            raise StopsRefusedError("TRADE_CLOSED", "the trade is closed")
        if row["state"] == "EXITING" and row["exit_reason"] and price_stop(ExitReason(row["exit_reason"])):
            raise StopsRefusedError(
                "EXIT_UNDER_WAY", f"its {row['exit_reason']} is due, and a stop that is due stays due"
            )
        position = position_of(row)
        protection = await connection.fetchval("SELECT intent -> 'protection' FROM orders WHERE order_key = $1", key)
        first = None if protection is None else Protection.model_validate(protection)
        moved = moved_stops(position, bid, wanted, first)
        by = await given_by(connection, account, wanted.command, CommandKind.STOPS, key)
        trailing = moved.trailing
        await connection.execute(
            _WRITE,
            key,
            moved.rules.model_dump(mode="json"),
            *((None,) * 4 if trailing is None else (trailing.stop, trailing.peak, trailing.distance, trailing.atr)),
            request.change_id,
            account,
            by or through_temporal(wanted.by),
            noted(wanted.note),
            moved.sentence,
            position.rules.model_dump(mode="json"),
            bid,
            wanted.model_dump(mode="json", include=set(LEVELS)),
        )
        await connection.execute("SELECT pg_notify('exit_plan', $1)", key)
    return StopsAnswer(sentence=moved.sentence, rules=moved.rules)


async def _bid(pool: Pool, venue: Venue, account: str, symbol: str) -> Decimal | None:
    """The exchange's own, or where it doesn't tell it in time, one that was told in the last minute."""
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return (await venue.quote(symbol)).bid
    except (ExchangeError, TimeoutError):
        kept = await pool.fetchrow(LAST_PRICE, account, symbol)
    old = kept is None or (datetime.now(UTC) - kept["at"]).total_seconds() > _KEPT_SECONDS
    return None if old else Decimal(kept["bid"])
