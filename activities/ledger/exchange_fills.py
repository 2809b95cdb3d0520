"""Replaces derived fills with the exchange's own executions (LIFE-5).

From a stream of totals, fills are derived as differences: one may combine several executions at their average price.
Once the exchange's list of an order's executions is complete (it adds up to the order's filled size, to the exchange's
own places), it replaces the derived rows in one transaction, and the FIFO book is matched again from the first of them
on. The position book changes only where the exchange's own value or fees differ from the totals it had reported.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import structlog

from activities.database import Connection, Pool, Record, lock_symbol, write_many
from activities.incidents import report_incident, report_once
from activities.ledger.lots import rematch_from, unmatch_from
from activities.ledger.rows import totals_of
from domain.differences import Execution
from domain.incidents import IncidentKind
from domain.market import base_of
from domain.money import ZERO
from domain.orders import Side, Totals, rounding
from domain.reconcile import execution_problem
from exchange.port import Exchange, ExchangeError, VenueFill

__all__ = ["SETTLED_WITHIN", "replace_derived_fills", "settle_fills", "settle_symbol"]

SETTLED_WITHIN = timedelta(minutes=15)
"""Executions that don't add up to their order for longer than this may never do so: this is reported, and nothing else
waits for them.
"""

log = structlog.get_logger(__name__)


def totals_of_fills(fills: Sequence[VenueFill], base: str) -> Totals:
    """The totals of a list of executions; fees count as base fees if they were charged in `base`."""
    size = sum((fill.size for fill in fills), ZERO)
    value = sum((fill.size * fill.price for fill in fills), ZERO)
    base_fees = sum((fill.fee for fill in fills if fill.fee_currency == base), ZERO)
    quote_fees = sum((fill.fee for fill in fills if fill.fee_currency != base), ZERO)
    return Totals(size, value, quote_fees, base_fees)


async def replace_derived_fills(pool: Pool, account: str, exchange_order_id: str, fills: Sequence[VenueFill]) -> bool:
    """Replace one order's derived fills with the exchange's executions; False if they are not complete yet.

    They are complete when they add up to the order's filled size; it is done only once. A list with an invalid
    execution (size, side, product, fee currency) replaces nothing: the derived totals stay.
    """
    if not fills:
        return False
    return await _replace_together(pool, account, fills[0].symbol, {exchange_order_id: fills}) == 1


async def settle_symbol(pool: Pool, account: str, symbol: str, lists: Mapping[str, Sequence[VenueFill]]) -> int:
    """`replace_derived_fills` for orders of one symbol, together if possible; returns for how many.

    An order whose executions the ledger can't record becomes an incident and does not block others. Raises the
    database's other errors.
    """
    try:
        return await _replace_together(pool, account, symbol, lists)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as problem:
        if len(lists) > 1:
            return sum([await settle_symbol(pool, account, symbol, {name: lists[name]}) for name in sorted(lists)])
        for identity in lists:
            await report_once(
                pool,
                account,
                IncidentKind.FILLS_NOT_SETTLED,
                "CRITICAL",
                identity,
                f"the executions of order {identity} contradict the ledger, so its derived fills stay: {problem}",
            )
    return 0


async def _replace_together(pool: Pool, account: str, symbol: str, lists: Mapping[str, Sequence[VenueFill]]) -> int:
    """Replaces all complete ones in one transaction and matches the FIFO book again once; returns how many."""
    wanted = {
        identity: list({fill.trade_id: fill for fill in fills}.values())
        for identity, fills in lists.items()
        if fills and not any(_senseless(fill, fills[0]) or fill.symbol != symbol for fill in fills)
    }
    if not wanted:
        return 0
    async with pool.acquire() as connection, connection.transaction():
        await lock_symbol(connection, account, symbol)
        ready = await _ready(connection, account, symbol, wanted)
        if not ready:
            return 0
        since = min(item.since for item in ready)
        await unmatch_from(connection, account, symbol, since)
        await _replace(connection, account, ready)
        await connection.execute(
            "UPDATE attempts SET settled_size = filled_size WHERE client_order_id = ANY($1::text[])",
            [item.attempt["client_order_id"] for item in ready],
        )
        await rematch_from(connection, account, symbol, since)
    return len(ready)


@dataclass(frozen=True, slots=True)
class _Replacement:
    """An order whose executions are complete: its attempt, its derived fills, and the executions not yet in."""

    attempt: Record
    derived: Sequence[Any]
    missing: Sequence[VenueFill]
    rest: Totals
    """The rounding difference between the executions and the totals."""

    @property
    def since(self) -> datetime:
        first: datetime = self.derived[0]["at"]
        return min([first, *(fill.at for fill in self.missing)])


async def _ready(
    connection: Connection, account: str, symbol: str, wanted: Mapping[str, Sequence[VenueFill]]
) -> list[_Replacement]:
    """The orders that can be replaced now; if executions differ in value or fees, the totals are corrected."""
    ids = sorted(wanted)
    attempts = await connection.fetch(
        "SELECT * FROM attempts WHERE account = $1 AND exchange_order_id = ANY($2::text[]) ORDER BY number DESC",
        account,
        ids,
    )
    attempt_of = {row["exchange_order_id"]: row for row in attempts}
    derived: dict[str, list[Any]] = defaultdict(list)
    there: dict[str, set[str]] = defaultdict(set)
    for row in await connection.fetch(
        "SELECT * FROM fills WHERE account = $1 AND exchange_order_id = ANY($2::text[]) ORDER BY at, id", account, ids
    ):
        if row["origin"] == "derived":
            derived[row["exchange_order_id"]].append(row)
        else:
            there[row["exchange_order_id"]].add(row["trade_id"])
    ready = []
    for identity, own in wanted.items():
        attempt, old = attempt_of.get(identity), derived[identity]
        if attempt is None or not old or (old[0]["symbol"], old[0]["side"]) != (symbol, own[0].side):
            continue
        sums = totals_of_fills(own, base_of(symbol))
        known = totals_of(attempt)
        missing = sorted((fill for fill in own if fill.trade_id not in there[identity]), key=lambda fill: fill.at)
        rest, near = known - sums, rounding(fill.price for fill in own) if missing else Totals()
        if abs(rest.size) > near.size:
            continue
        # What only the rounding of the exchange's figures makes is booked with the last execution; the totals stand.
        apart = Totals(
            ZERO,
            ZERO if abs(rest.value) <= near.value else rest.value,
            ZERO if abs(rest.quote_fees) <= near.quote_fees else rest.quote_fees,
            ZERO if abs(rest.base_fees) <= near.base_fees else rest.base_fees,
        )
        if apart != Totals():
            await _correct(connection, account, attempt, Totals() - apart)
        ready.append(_Replacement(attempt, old, missing, rest - apart))
    return ready


def _senseless(fill: VenueFill, first: VenueFill) -> bool:
    problem = execution_problem(
        Execution(
            fill.trade_id,
            fill.exchange_order_id,
            fill.symbol,
            fill.side,
            fill.size,
            fill.price,
            fill.fee_currency,
            fill.at,
        )
    )
    return problem is not None or (fill.symbol, fill.side) != (first.symbol, first.side)


async def _replace(connection: Connection, account: str, ready: Sequence[_Replacement]) -> None:
    await connection.execute(
        "DELETE FROM fills WHERE id = ANY($1::bigint[])", [row["id"] for item in ready for row in item.derived]
    )
    base = base_of(ready[0].derived[0]["symbol"])
    await write_many(
        connection,
        """
        INSERT INTO fills (fill_key, account, symbol, side, order_key, client_order_id, exchange_order_id, trade_id,
                           origin, ingest_via, size, price, value, quote_fees, base_fees, liquidity, at, recorded_at,
                           lot_remaining)
        VALUES ($1,$2,$3,$4,$5,$6,$7,$8,'exchange',$9,$10,$11,$12,$13,$14,$15,$16,$17,$18)
        """,
        [
            _row(account, item, fill, base, recorded_at, item.rest if fill is item.missing[-1] else Totals())
            for item in ready
            for fill, recorded_at in zip(item.missing, _recorded(item), strict=True)
        ],
    )


def _recorded(item: _Replacement) -> list[datetime]:
    """When each execution was recorded: with the derived fill in which it ended, so that a balance read between two of
    them is not assumed to include the later one.
    """
    times: list[datetime] = []
    reached, derived = ZERO, ZERO
    rows = iter(item.derived)
    recorded_at = item.derived[0]["recorded_at"]
    for fill in item.missing:
        reached += fill.size
        while derived < reached and (row := next(rows, None)) is not None:
            derived += row["size"]
            recorded_at = max(recorded_at, row["recorded_at"])
        times.append(recorded_at)
    return times


def _row(
    account: str, item: _Replacement, fill: VenueFill, base: str, recorded_at: datetime, rest: Totals
) -> tuple[Any, ...]:
    attempt, first = item.attempt, item.derived[0]
    size = fill.size + rest.size
    in_base = fill.fee_currency == base
    base_fee = rest.base_fees + (fill.fee if in_base else ZERO)
    return (
        # A trade id is the product's, and one trade may have two orders of ours on its sides.
        f"{account}/{fill.exchange_order_id}/trade/{fill.trade_id}",
        account,
        first["symbol"],
        first["side"],
        first["order_key"],
        attempt["client_order_id"],
        fill.exchange_order_id,
        fill.trade_id,
        first["ingest_via"],
        size,
        fill.price,
        fill.size * fill.price + rest.value,
        rest.quote_fees + (ZERO if in_base else fill.fee),
        base_fee,
        fill.liquidity,
        fill.at,
        recorded_at,
        max(size - base_fee, ZERO) if first["side"] == Side.BUY else None,
    )


# What exits of a trade achieved, from its totals and theirs; with the places that `domain.outcome` has.
_TELL_EXITS = """
UPDATE trade_exits x
   SET fees = o.quote_fees, average_price = round(p.price, 18),
       slippage = x.slippage + round(p.price, 18) - x.average_price,
       achieved_gross = round(p.price / p.cost - 1, 18),
       achieved_net = round((p.price - p.fee) / (p.cost + p.costs) - 1, 18)
  FROM orders o JOIN trades t ON t.entry_key = o.entry_key CROSS JOIN LATERAL (
       SELECT (o.filled_value + z) / o.filled_size AS price, (o.quote_fees + z) / o.filled_size AS fee,
              (t.bought_value + z) / t.bought_size AS cost, (t.bought_quote_fees + z) / t.bought_size AS costs
         FROM (SELECT 0::numeric(60, 40) AS z) places) p
 WHERE x.entry_key = $1 AND o.order_key = x.order_key AND o.filled_size > 0 AND t.bought_value > 0
"""


async def _correct(connection: Connection, account: str, attempt: Record, delta: Totals) -> None:
    """The exchange's executions are authoritative for value and fees; every total is corrected."""
    values: tuple[Decimal, ...] = (delta.value, delta.quote_fees, delta.base_fees)
    columns = "filled_value = filled_value + $2, quote_fees = quote_fees + $3, base_fees = base_fees + $4"
    await connection.execute(
        f"UPDATE attempts SET {columns} WHERE client_order_id = $1", attempt["client_order_id"], *values
    )
    order = await connection.fetchrow(
        f"UPDATE orders SET {columns} WHERE order_key = $1 RETURNING side, entry_key", attempt["order_key"], *values
    )
    if order["entry_key"] is not None:
        book = "bought" if order["side"] == Side.BUY else "sold"
        await connection.execute(
            f"""UPDATE trades SET {book}_value = {book}_value + $2, {book}_quote_fees = {book}_quote_fees + $3,
                {book}_base_fees = {book}_base_fees + $4 WHERE entry_key = $1""",
            order["entry_key"],
            *values,
        )
        await connection.execute(_TELL_EXITS, order["entry_key"])
    await connection.execute(
        """UPDATE trade_records SET total_fees_usd = total_fees_usd + $3, price = $4
           WHERE account = $1 AND order_id = $2""",
        account,
        attempt["exchange_order_id"],
        delta.quote_fees,
        (attempt["filled_value"] + delta.value) / attempt["filled_size"],
    )
    await report_incident(
        connection,
        account,
        IncidentKind.CORRECTED_TOTALS,
        "INFO",
        attempt["order_key"],
        f"the exchange's executions of order {attempt['exchange_order_id']} differ from its reported totals by "
        f"{delta.value} in value and {delta.quote_fees} in fees; the executions are used",
    )


_UNSETTLED = """
SELECT exchange_order_id, min(at) AS first FROM fills
WHERE account = $1 AND origin = 'derived' AND recorded_at > now() - $2::interval
GROUP BY exchange_order_id ORDER BY min(at) LIMIT 200
"""
_CLOCK_MARGIN = timedelta(seconds=10)


async def settle_fills(pool: Pool, exchange: Exchange, account: str, *, look_back: timedelta, timeout: float) -> int:
    """Fetch the exchange's executions of all orders with derived fills, and replace those; returns how many orders.

    One read from the oldest of them on, for any number. A failed read is left to the next time; an order whose
    executions the ledger can't record becomes an incident and does not block others.
    """
    rows = await pool.fetch(_UNSETTLED, account, look_back)
    if not rows:
        return 0
    try:
        async with asyncio.timeout(timeout):
            # A row that can't be read is told by the reconciler, and keeps only its own order from adding up.
            found = await exchange.fills(since=min(row["first"] for row in rows) - _CLOCK_MARGIN, unreadable=[])
    except (ExchangeError, OSError, TimeoutError) as problem:
        log.warning("fills not read", problem=repr(problem))
        return 0
    wanted = {row["exchange_order_id"] for row in rows}
    lists: dict[str, dict[str, list[VenueFill]]] = defaultdict(lambda: defaultdict(list))
    for fill in found:
        if fill.exchange_order_id in wanted:
            lists[fill.symbol][fill.exchange_order_id].append(fill)
    done = 0
    for symbol, by_order in sorted(lists.items()):
        done += await settle_symbol(pool, account, symbol, by_order)
    return done
