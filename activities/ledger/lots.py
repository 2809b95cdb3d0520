"""The FIFO book: which lots a sell takes, and its rows.

The newest fill of a symbol only changes the rows it needs. A late one takes back the allocations of the sells after it
and replays only those. `fifo.replay` computes this; `rematch_from` does it for replaced fills, while
`activities.ledger.bookings` already has the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from activities.database import Connection, Record
from activities.ledger.writes import AllocationWrite, Writes
from domain.money import ZERO, divide, plain
from domain.orders import Side
from fifo.matching import Allocation, FillRecord, Lot
from fifo.replay import replay

__all__ = [
    "ALLOCATION_COLUMNS",
    "FILL_COLUMNS",
    "allocation_row",
    "allocation_write",
    "fill_record",
    "refresh_records",
    "rematch_from",
    "unmatch_from",
]

FILL_COLUMNS = "id, exchange_order_id, side, size, value, quote_fees, base_fees, at, lot_remaining"
"""The columns of a fill that matching needs."""

ALLOCATION_COLUMNS = (
    "sell_fill",
    "buy_fill",
    "sell_order_id",
    "buy_order_id",
    "size",
    "sell_price",
    "buy_price",
    "sell_fee_per_unit",
    "buy_fee_per_unit",
    "cost_basis",
    "proceeds",
    "net_proceeds",
    "pnl",
    "buy_time",
    "sell_time",
)
"""The columns of `allocation_row`, in its order; account and symbol come before them."""
_LOTS_AT_A_TIME = 200
_WRITE_ALLOCATIONS = f"""
WITH written AS (
    INSERT INTO fifo_allocations (account, symbol, {", ".join(ALLOCATION_COLUMNS)})
    SELECT $1, $2, * FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::numeric[], $10::numeric[],
        $11::numeric[], $12::numeric[], $13::numeric[], $14::numeric[], $15::numeric[], $16::numeric[], $17::numeric[],
        $18::timestamptz[], $19::timestamptz[]))
UPDATE fills SET lot_remaining = new.remaining FROM unnest($3::bigint[], $4::numeric[]) AS new (id, remaining)
 WHERE fills.id = new.id
"""


def fill_record(row: Record) -> FillRecord:
    """A row of FILL_COLUMNS as a fill for matching."""
    return FillRecord(
        fill_id=row["id"],
        order_id=row["exchange_order_id"],
        side=Side(row["side"]),
        size=row["size"],
        value=row["value"],
        quote_fees=row["quote_fees"],
        base_fees=row["base_fees"],
        at=row["at"],
    )


async def unmatch_from(connection: Connection, account: str, symbol: str, since: datetime) -> None:
    """Take back the allocations of all sells from `since` on, before fills from then on are replaced."""
    sells = await _sells_from(connection, account, symbol, since)
    freed = await _take_back(connection, [sell.fill_id for sell in sells])
    # Whoever matches again may take other lots: the records of these are true from here on.
    await refresh_records(connection, account, set(), freed)


async def rematch_from(connection: Connection, account: str, symbol: str, since: datetime) -> None:
    """Match all sells from `since` on again. The symbol's lock is held, and `unmatch_from` has taken back their
    allocations."""
    sells = await _sells_from(connection, account, symbol, since)
    buys = await connection.fetch(
        """SELECT DISTINCT exchange_order_id FROM fills
           WHERE account = $1 AND symbol = $2 AND side = 'BUY' AND at >= $3""",
        account,
        symbol,
        since,
    )
    touched = {row["exchange_order_id"] for row in buys}
    if sells:
        lots = await _lots_for(connection, account, symbol, sells)
        allocations, left = replay(sells, lots)
        columns = zip(*(allocation_row(item) for item in allocations), strict=True)
        await connection.execute(
            _WRITE_ALLOCATIONS, account, symbol, list(left), list(left.values()), *(list(column) for column in columns)
        )
        touched |= {lot.fill.order_id for lot in lots if lot.fill.fill_id in left}
    await refresh_records(connection, account, {sell.order_id for sell in sells}, touched)


async def _sells_from(connection: Connection, account: str, symbol: str, at: datetime) -> list[FillRecord]:
    rows = await connection.fetch(
        f"""SELECT {FILL_COLUMNS} FROM fills WHERE account = $1 AND symbol = $2 AND side = 'SELL' AND size > 0
            AND at >= $3 ORDER BY at, id""",
        account,
        symbol,
        at,
    )
    return [fill_record(row) for row in rows]


async def _lots_for(connection: Connection, account: str, symbol: str, sells: Sequence[FillRecord]) -> list[Lot]:
    """Open lots, oldest first, until they cover the sells or are too new for all of them."""
    wanted = sum((sell.size + sell.base_fees for sell in sells), ZERO)
    lots: list[Lot] = []
    last, page = (datetime.min.replace(tzinfo=sells[0].at.tzinfo), 0), _LOTS_AT_A_TIME
    while wanted > 0:
        rows = await connection.fetch(
            f"""SELECT {FILL_COLUMNS} FROM fills
                WHERE account = $1 AND symbol = $2 AND side = 'BUY' AND lot_remaining > 0
                  AND (at, id) < ($3, $4) AND (at, id) > ($5, $6) ORDER BY at, id LIMIT $7""",
            account,
            symbol,
            sells[-1].at,
            sells[-1].fill_id,
            *last,
            page,
        )
        lots += [Lot(fill_record(row), row["lot_remaining"]) for row in rows]
        wanted -= sum((row["lot_remaining"] for row in rows), ZERO)
        if len(rows) < page:
            break
        last, page = (rows[-1]["at"], rows[-1]["id"]), 4 * page
    return lots


async def _take_back(connection: Connection, sell_fills: list[int]) -> set[str]:
    """Take back the allocations of these sells; returns the buy orders whose lots grow again."""
    rows = await connection.fetch(
        """
        WITH gone AS (DELETE FROM fifo_allocations WHERE sell_fill = ANY($1::bigint[]) RETURNING buy_fill, size),
             back AS (SELECT buy_fill, sum(size) AS size FROM gone WHERE buy_fill IS NOT NULL GROUP BY buy_fill)
        UPDATE fills SET lot_remaining = trim_scale(lot_remaining + back.size) FROM back WHERE fills.id = back.buy_fill
        RETURNING exchange_order_id
        """,
        sell_fills,
    )
    return {row["exchange_order_id"] for row in rows}


def allocation_row(item: Allocation) -> tuple[Any, ...]:
    """An allocation as ALLOCATION_COLUMNS: identical for single fills and for a recompute, to the last digit."""
    sell, lot = item.sell, item.lot
    return (
        sell.fill_id,
        lot.fill_id if lot else None,
        sell.order_id,
        lot.order_id if lot else None,
        Decimal(plain(item.size)),
        sell.price,
        lot.price if lot else None,
        divide(sell.quote_fees, sell.size) if sell.size else ZERO,
        (divide(lot.quote_fees, lot.size) if lot.size else ZERO) if lot else None,
        item.cost_basis,
        item.proceeds,
        item.net_proceeds,
        item.pnl,
        lot.at if lot else None,
        sell.at,
    )


def allocation_write(item: Allocation) -> AllocationWrite:
    """An allocation as `ledger_write` takes it: `allocation_row` by name."""
    row = dict(zip(ALLOCATION_COLUMNS, allocation_row(item), strict=True))
    return cast("AllocationWrite", row)


async def refresh_records(
    connection: Connection, account: str, sells: set[str], buys: set[str], *, timeout: float | None = None
) -> None:
    """Update the derived columns of `trade_records` for the affected orders."""
    if not sells and not buys:
        return
    await connection.execute(
        "SELECT ledger_write($1, NULL, $2)",
        account,
        Writes(refresh_buys=sorted(buys), refresh_sells=sorted(sells)),
        timeout=timeout,
    )
