"""The FIFO book in the database: every fill's allocations, in the transaction that records it.

A fill that is the newest of its symbol costs what it touches. A late one takes back the allocations of the sells
after it and replays those, and only those.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from activities.database import Connection
from domain.money import ZERO, divide, plain
from domain.orders import Side
from fifo.matching import Allocation, FillRecord, Lot, match_sell

__all__ = [
    "ALLOCATION_COLUMNS",
    "FILL_COLUMNS",
    "allocation_row",
    "book_in_fifo",
    "fill_record",
    "refresh_records",
    "rematch_from",
    "unmatch_from",
]

FILL_COLUMNS = "id, exchange_order_id, side, size, value, quote_fees, base_fees, at, lot_remaining"
"""Of a fill, what matching needs."""

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


def fill_record(row: Any) -> FillRecord:
    """A row of FILL_COLUMNS as what is matched."""
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


async def book_in_fifo(connection: Connection, account: str, symbol: str, fill_id: int) -> None:
    """Match a newly written fill, and again the sells after it if it came late. The symbol's lock is held."""
    rows = await connection.fetch(
        f"""SELECT {FILL_COLUMNS} FROM fills WHERE account = $1 AND symbol = $2
             AND (at, id) >= (SELECT at, id FROM fills WHERE id = $3) AND (id = $3 OR (side = 'SELL' AND size > 0))
            ORDER BY at, id""",
        account,
        symbol,
        fill_id,
    )
    fill, *sells = [fill_record(row) for row in rows]
    touched = {fill.order_id} if fill.side is Side.BUY else set()
    if sells:
        touched |= await _take_back(connection, [sell.fill_id for sell in sells])
    if fill.side is Side.SELL and fill.size > 0:
        sells.insert(0, fill)
    await _match(connection, account, symbol, sells, touched)


async def unmatch_from(connection: Connection, account: str, symbol: str, since: datetime) -> None:
    """Take back the allocations of all sells from `since` on, before fills from then on are replaced."""
    sells = await _sells_from(connection, account, symbol, since, 0)
    freed = await _take_back(connection, [sell.fill_id for sell in sells])
    # Whoever matches again may take other lots: the records of these are true from here on.
    await refresh_records(connection, account, set(), freed)


async def rematch_from(connection: Connection, account: str, symbol: str, since: datetime) -> None:
    """Match all sells from `since` on again. The symbol's lock is held, and `unmatch_from` took theirs back."""
    sells = await _sells_from(connection, account, symbol, since, 0)
    buys = await connection.fetch(
        """SELECT DISTINCT exchange_order_id FROM fills
           WHERE account = $1 AND symbol = $2 AND side = 'BUY' AND at >= $3""",
        account,
        symbol,
        since,
    )
    await _match(connection, account, symbol, sells, {row["exchange_order_id"] for row in buys})


async def _sells_from(
    connection: Connection, account: str, symbol: str, at: datetime, fill_id: int
) -> list[FillRecord]:
    rows = await connection.fetch(
        f"""SELECT {FILL_COLUMNS} FROM fills WHERE account = $1 AND symbol = $2 AND side = 'SELL' AND size > 0
            AND (at, id) >= ($3, $4) ORDER BY at, id""",
        account,
        symbol,
        at,
        fill_id,
    )
    return [fill_record(row) for row in rows]


async def _match(
    connection: Connection, account: str, symbol: str, sells: list[FillRecord], touched_buys: set[str]
) -> None:
    for sell in sells:
        touched_buys |= await _allocate(connection, account, symbol, sell)
    await refresh_records(connection, account, {sell.order_id for sell in sells}, touched_buys)


async def _take_back(connection: Connection, sell_fills: list[int]) -> set[str]:
    """Take back the allocations of these sells; the buy orders whose lots are larger again."""
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


async def _allocate(connection: Connection, account: str, symbol: str, sell: FillRecord) -> set[str]:
    """Match one sell with the lots that were open at its time; returns the buy orders it consumed."""
    wanted = sell.size + sell.base_fees
    lots: list[Lot] = []
    found, last = ZERO, (datetime.min.replace(tzinfo=sell.at.tzinfo), 0)
    while found < wanted:
        rows = await connection.fetch(
            f"""SELECT {FILL_COLUMNS} FROM fills
                WHERE account = $1 AND symbol = $2 AND side = 'BUY' AND lot_remaining > 0
                  AND (at, id) < ($3, $4) AND (at, id) > ($5, $6) ORDER BY at, id LIMIT {_LOTS_AT_A_TIME}""",
            account,
            symbol,
            sell.at,
            sell.fill_id,
            *last,
        )
        lots += [Lot(fill_record(row), row["lot_remaining"]) for row in rows]
        found += sum((row["lot_remaining"] for row in rows), ZERO)
        if len(rows) < _LOTS_AT_A_TIME:
            break
        last = (rows[-1]["at"], rows[-1]["id"])
    allocations, changed = match_sell(sell, lots)
    rows = [allocation_row(item) for item in allocations]
    await connection.execute(
        _WRITE_ALLOCATIONS,
        account,
        symbol,
        [lot.fill.fill_id for lot in changed],
        [Decimal(plain(lot.remaining)) for lot in changed],
        *(list(column) for column in zip(*rows, strict=True)),
    )
    return {lot.fill.order_id for lot in changed}


def allocation_row(item: Allocation) -> tuple[Any, ...]:
    """An allocation as ALLOCATION_COLUMNS: the same for one fill at a time as for a recompute, to the last digit."""
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


async def refresh_records(
    connection: Connection, account: str, sells: set[str], buys: set[str], *, timeout: float | None = None
) -> None:
    """Keep the derived columns of `trade_records` true for the orders that were touched."""
    if not sells and not buys:
        return
    await connection.execute(
        """
        WITH bought AS (
            UPDATE trade_records r SET remaining_size = f.remaining,
                   realized_profit = (SELECT sum(pnl) FROM fifo_allocations a
                                      WHERE a.account = $1 AND a.buy_order_id = r.order_id)
              FROM (SELECT exchange_order_id, sum(lot_remaining) AS remaining FROM fills
                     WHERE account = $1 AND exchange_order_id = ANY($3::text[]) GROUP BY 1) f
             WHERE r.account = $1 AND r.order_id = f.exchange_order_id AND r.side = 'BUY')
        UPDATE trade_records r SET pnl_usd = a.pnl, realized_profit = a.pnl, cost_basis_usd = a.cost,
               sale_proceeds_usd = a.proceeds, net_sale_proceeds_usd = a.net,
               parent_ids = a.parents, parent_id = a.parents[1], remaining_size = NULL
          FROM (SELECT sell_order_id, sum(pnl) AS pnl, sum(cost_basis) AS cost, sum(proceeds) AS proceeds,
                       sum(net_proceeds) AS net,
                       coalesce(array_agg(buy_order_id ORDER BY buy_time, buy_fill)
                                FILTER (WHERE buy_order_id IS NOT NULL), '{}') AS parents
                  FROM fifo_allocations WHERE account = $1 AND sell_order_id = ANY($2::text[])
                 GROUP BY sell_order_id) a
         WHERE r.account = $1 AND r.order_id = a.sell_order_id
        """,
        account,
        sorted(sells),
        sorted(buys),
        timeout=timeout,
    )
