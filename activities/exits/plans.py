"""The table of exit plans, and the matrix's newest rows, as a price watcher reads and writes them.

A trailing stop is written by `GREATEST` and under the lease, so that it is never lowered, whoever writes it and in
whatever order. A watcher's own writes bump no revision: they are no news to watchers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal

import asyncpg

from activities.database import Connection, Pool, lock_trade
from activities.leases import HELD, Lease, LeaseLostError
from domain.exits import ExitReason, ExitRules, Position, SellSignal, Trailing
from domain.money import divide, plain
from domain.watch import Plan, PlanRow, trailing_document

__all__ = ["PlanTable", "locked_plan", "plan_of", "position_of", "read_plan"]

_COLUMNS = """
SELECT p.entry_key, p.symbol, p.state, p.rules, p.entry_price, p.peak, p.stop, p.distance, p.atr, p.steps,
       p.exit_reason, p.revision, COALESCE(t.protected_at, t.opened_at) AS armed_at,
       t.bought_size, t.bought_value, t.bought_quote_fees, t.bought_base_fees
"""
_FROM = " FROM exit_plans p JOIN trades t ON t.entry_key = p.entry_key WHERE "
_PLANS = _COLUMNS + _FROM + "p.account = $1 AND "
_ONE_PLAN = f"""{_COLUMNS},
       (SELECT action = 'sell' FROM market_snapshots m WHERE m.account = p.account AND m.symbol = p.symbol
         ORDER BY m.at DESC LIMIT 1) AS says_sell {_FROM} p.entry_key = $1"""
_ARMED_PLANS = _PLANS + "p.state <> 'DISARMED'"
_CHANGED_PLANS = _PLANS + "p.revision > $2"
_NAMED_PLANS = _PLANS + "p.entry_key = ANY($2)"

# Rows that a transaction of the ledger holds are left for the next time, a moment later: no waiting, no deadlock.
_SAVE_TRAILING = (
    """
WITH news AS (
    SELECT * FROM jsonb_to_recordset($3::jsonb)
        AS n (entry_key text, peak numeric, stop numeric, distance numeric, atr numeric, steps int)
), ours AS (
    SELECT p.entry_key FROM exit_plans p JOIN news USING (entry_key)
     WHERE p.lease_epoch <= $2 AND p.state <> 'DISARMED' AND """
    + HELD
    + """
       FOR UPDATE OF p SKIP LOCKED
), saved AS (
    UPDATE exit_plans p
       SET stop = GREATEST(p.stop, n.stop), peak = GREATEST(p.peak, n.peak), steps = GREATEST(p.steps, n.steps),
           distance = COALESCE(p.distance, n.distance), atr = COALESCE(p.atr, n.atr),
           lease_epoch = $2, updated_at = now()
      FROM news n JOIN ours USING (entry_key)
     WHERE p.entry_key = n.entry_key
    RETURNING p.entry_key
)
SELECT """
    + HELD
    + """ AS held, ARRAY(SELECT entry_key FROM saved) AS saved
"""
)
# The ATR that a target is measured in is fixed once. The trade's own copy of the rules is what people are shown.
_SAVE_TARGETS = (
    """
WITH news AS (
    SELECT * FROM jsonb_to_recordset($3::jsonb) AS n (entry_key text, target_atr text)
), ours AS (
    SELECT p.entry_key, coalesce(p.rules ->> 'target_atr', news.target_atr) AS target_atr
      FROM exit_plans p JOIN news USING (entry_key) JOIN trades t ON t.entry_key = p.entry_key
     WHERE p.state <> 'DISARMED' AND """
    + HELD
    + """
       FOR UPDATE OF t, p SKIP LOCKED
), trade AS (
    UPDATE trades t SET rules = t.rules || jsonb_build_object('target_atr', o.target_atr)
      FROM ours o WHERE t.entry_key = o.entry_key
), plan AS (
    UPDATE exit_plans p SET rules = p.rules || jsonb_build_object('target_atr', o.target_atr), updated_at = now()
      FROM ours o WHERE p.entry_key = o.entry_key
)
SELECT """
    + HELD
    + """ AS held, (SELECT jsonb_object_agg(entry_key, target_atr) FROM ours) AS saved
"""
)
_SIGNALS = """
SELECT s.symbol, m.snapshot_id, m.at, m.sell_score, m.action FROM unnest($2::text[]) AS s (symbol),
       LATERAL (SELECT snapshot_id, at, sell_score, action FROM market_snapshots
                 WHERE account = $1 AND symbol = s.symbol AND at > now() - $3::interval ORDER BY at DESC LIMIT 1) m
"""


class PlanTable:
    """Plans of one account. Every method raises the database's errors."""

    def __init__(self, pool: Pool, account: str) -> None:
        self._pool = pool
        self._account = account

    async def armed(self) -> list[asyncpg.Record]:
        """All plans that are not disarmed."""
        return await self._rows(_ARMED_PLANS, self._account)

    async def changed(self, since: int) -> list[asyncpg.Record]:
        """Plans in any state with a revision above `since`."""
        return await self._rows(_CHANGED_PLANS, self._account, since)

    async def named(self, entry_keys: Sequence[str]) -> list[asyncpg.Record]:
        """These plans, in any state."""
        return await self._rows(_NAMED_PLANS, self._account, list(entry_keys))

    async def save_trailing(self, lease: Lease, plans: Sequence[tuple[Plan, Trailing]]) -> set[str]:
        """Write trailing stops under the lease; the entry keys of those that were written.

        Raises LeaseLostError if the lease is another's.
        """
        news = [{"entry_key": plan.entry_key, **trailing_document(trailing)} for plan, trailing in plans]
        row = await self._pool.fetchrow(_SAVE_TRAILING, lease.name, lease.epoch, news)
        if not row["held"]:
            raise LeaseLostError(f"the lease {lease.name} is another holder's by now")
        return set(row["saved"])

    async def save_targets(self, lease: Lease, plans: Iterable[Plan]) -> dict[str, Decimal]:
        """Write the ATR that targets are measured in; what the plans that could be written have now, by entry key.

        Raises LeaseLostError if the lease is another's.
        """
        news = [
            {"entry_key": plan.entry_key, "target_atr": plain(plan.position.rules.target_atr)}
            for plan in plans
            if plan.position.rules.target_atr is not None
        ]
        row = await self._pool.fetchrow(_SAVE_TARGETS, lease.name, lease.epoch, news)
        if not row["held"]:
            raise LeaseLostError(f"the lease {lease.name} is another holder's by now")
        return {key: Decimal(atr) for key, atr in (row["saved"] or {}).items()}

    async def sell_signals(self, symbols: Sequence[str], max_age: timedelta) -> dict[str, SellSignal]:
        """The newest row of the matrix for each symbol that has one of at most `max_age`."""
        rows = await self._pool.fetch(_SIGNALS, self._account, list(symbols), max_age)
        return {
            row["symbol"]: SellSignal(row["action"] == "sell", row["at"], row["sell_score"], row["snapshot_id"])
            for row in rows
        }

    async def _rows(self, sql: str, *values: object) -> list[asyncpg.Record]:
        return list(await self._pool.fetch(sql, *values))


async def read_plan(pool: Pool, entry_key: str) -> tuple[Position, bool | None] | None:
    """A trade's position as its plan has it, and whether the newest row of the matrix says sell (None: there is none).

    None for a trade without a plan. Raises the database's errors, and as `plan_of`.
    """
    row = await pool.fetchrow(_ONE_PLAN, entry_key)
    return None if row is None else (position_of(row), row["says_sell"])


async def locked_plan(connection: Connection, entry_key: str) -> asyncpg.Record | None:
    """A trade's plan with both its rows held. Raises the database's errors."""
    await lock_trade(connection, entry_key)
    return await connection.fetchrow(f"{_COLUMNS}, t.state AS trade_state {_FROM} p.entry_key = $1", entry_key)


def position_of(row: asyncpg.Record) -> Position:
    """What the rules look at. Raises pydantic's ValidationError if they make no sense."""
    trailing = None
    if row["stop"] is not None and row["peak"] is not None and row["distance"] is not None and row["atr"] is not None:
        trailing = Trailing(row["peak"], row["stop"], row["distance"], row["atr"], row["steps"])
    held = row["bought_size"] - row["bought_base_fees"]
    cost = divide(row["bought_value"] + row["bought_quote_fees"], held) if held > 0 else None
    return Position(row["entry_price"], ExitRules.model_validate(row["rules"]), trailing, row["armed_at"], cost)


def plan_of(row: asyncpg.Record) -> PlanRow:
    """A row of the table as a plan. Raises pydantic's ValidationError or ValueError if it makes no sense."""
    exiting = row["state"] == "EXITING"
    return PlanRow(
        entry_key=row["entry_key"],
        symbol=row["symbol"],
        exiting=exiting,
        exit_reason=ExitReason(row["exit_reason"]) if exiting and row["exit_reason"] else None,
        position=position_of(row),
        revision=row["revision"],
        armed_at=row["armed_at"],
    )
