"""Recomputes a symbol's FIFO book from its fills, compares it with the stored one, and repairs differences.

Only differences are written: correct rows are not touched. The book is computed without locks from one snapshot; under
the symbol's lock it is only checked that nothing has changed since, and the difference is written. The result equals
the rows from recording fill by fill, except for row ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from activities.database import Connection, Pool, Statements, lock_symbol
from activities.ledger.lots import ALLOCATION_COLUMNS, FILL_COLUMNS, allocation_row, fill_record
from domain.money import ZERO, divide
from domain.orders import Side
from fifo.matching import match_all

__all__ = [
    "BookDifference",
    "StoredBook",
    "compare_book",
    "read_book",
    "repair_symbol",
    "repair_symbols",
    "stale_records",
    "symbols_of",
]

_AT_ONCE = 2
"""Symbols processed in parallel: computing uses one core, the database another."""
_TRIES = 3
_SECONDS = 300.0
"""A large book is read and written in one statement each."""

_FILLS = f"""
SELECT {FILL_COLUMNS} FROM fills WHERE account = $1 AND symbol = $2 AND size > 0 ORDER BY at, id
"""
_ALLOCATIONS = f"""
SELECT id, {", ".join(ALLOCATION_COLUMNS)} FROM fifo_allocations WHERE account = $1 AND symbol = $2
"""
# A sum of hashes over (number, transaction that wrote the row): changes with any row, whatever their order.
_MARK = """
SELECT (SELECT (count(*), sum(hashint8extended(id, xmin::text::bigint)::numeric))::text
          FROM fills WHERE account = $1 AND symbol = $2)
    || (SELECT (count(*), sum(hashint8extended(id, xmin::text::bigint)::numeric))::text
          FROM fifo_allocations WHERE account = $1 AND symbol = $2)
"""
# What a symbol's trade records must say, and which of them (r) say otherwise.
_SELLS = """(
    SELECT sell_order_id, sum(pnl) AS pnl, sum(cost_basis) AS cost, sum(proceeds) AS proceeds, sum(net_proceeds) AS net,
           coalesce(array_agg(buy_order_id ORDER BY buy_time, buy_fill) FILTER (WHERE buy_order_id IS NOT NULL),
                    '{}') AS parents
      FROM fifo_allocations WHERE account = $1 AND symbol = $2 GROUP BY sell_order_id) a
"""
_SELL_DIFFERS = """a.sell_order_id = r.order_id AND r.account = $1 AND r.symbol = $2 AND r.side = 'SELL'
  AND (r.pnl_usd, r.realized_profit, r.cost_basis_usd, r.sale_proceeds_usd, r.net_sale_proceeds_usd, r.parent_ids,
       r.parent_id, r.remaining_size)
      IS DISTINCT FROM (a.pnl, a.pnl, a.cost, a.proceeds, a.net, a.parents, a.parents[1], NULL)
"""
_BUYS = """(
    SELECT f.order_id, f.remaining, g.pnl FROM (
        SELECT exchange_order_id AS order_id, sum(lot_remaining) AS remaining FROM fills
         WHERE account = $1 AND symbol = $2 AND side = 'BUY' GROUP BY 1) f
    LEFT JOIN (
        SELECT buy_order_id AS order_id, sum(pnl) AS pnl FROM fifo_allocations
         WHERE account = $1 AND symbol = $2 GROUP BY 1) g USING (order_id)) a
"""
_BUY_DIFFERS = """a.order_id = r.order_id AND r.account = $1 AND r.symbol = $2 AND r.side = 'BUY'
  AND (r.remaining_size, r.realized_profit) IS DISTINCT FROM (a.remaining, a.pnl)
"""
_STALE_SELLS = f"SELECT r.order_id FROM trade_records r JOIN {_SELLS} ON {_SELL_DIFFERS}"
_STALE_BUYS = f"SELECT r.order_id FROM trade_records r JOIN {_BUYS} ON {_BUY_DIFFERS}"
_REFRESH_SELLS = f"""
UPDATE trade_records r SET pnl_usd = a.pnl, realized_profit = a.pnl, cost_basis_usd = a.cost,
       sale_proceeds_usd = a.proceeds, net_sale_proceeds_usd = a.net, parent_ids = a.parents,
       parent_id = a.parents[1], remaining_size = NULL
  FROM {_SELLS} WHERE {_SELL_DIFFERS} RETURNING r.order_id
"""
_REFRESH_BUYS = f"""
UPDATE trade_records r SET remaining_size = a.remaining, realized_profit = a.pnl
  FROM {_BUYS} WHERE {_BUY_DIFFERS} RETURNING r.order_id
"""
_STALE_TOTALS = """
SELECT r.order_id, f.size, f.value, f.fees FROM trade_records r JOIN (
    SELECT exchange_order_id, sum(size) AS size, sum(value) AS value, sum(quote_fees) AS fees FROM fills
     WHERE account = $1 AND symbol = $2 GROUP BY 1
) f ON f.exchange_order_id = r.order_id
WHERE r.account = $1 AND r.symbol = $2
  AND (r.size <> f.size OR r.total_fees_usd <> f.fees OR abs(r.price * r.size - f.value) > 1e-12 * f.value)
"""


@dataclass(frozen=True, slots=True)
class StoredBook:
    """A symbol's fills and FIFO book as stored at one moment."""

    symbol: str
    fills: Sequence[Any]
    allocations: Sequence[Any]


@dataclass(frozen=True, slots=True)
class BookDifference:
    """The changes of a recompute. Sizes in base, profit in quote currency.

    `missing` are rows to insert, `surplus` numbers of rows to delete (a row that differs is both), `lots` the right
    `lot_remaining` by fill, with the stored one; `stale` are trade records whose derived columns are wrong.
    """

    symbol: str
    fills: int
    rows_before: int
    rows_after: int
    missing: Sequence[tuple[Any, ...]]
    surplus: Sequence[int]
    lots: Mapping[int, tuple[Decimal, Decimal]]
    stale: Sequence[str]
    pnl_before: Decimal
    pnl_after: Decimal
    open_before: Decimal
    open_after: Decimal
    rows: Sequence[str] = ()
    """The first differing rows, as text."""

    @property
    def clean(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.surplus or self.lots or self.stale)


async def symbols_of(connection: Statements, account: str) -> list[str]:
    """Symbols with fills, by name. Raises the database's errors."""
    rows = await connection.fetch("SELECT DISTINCT symbol FROM fills WHERE account = $1 ORDER BY 1", account)
    return [row["symbol"] for row in rows]


async def read_book(connection: Connection, account: str, symbol: str) -> StoredBook:
    """The stored book; in a transaction of one snapshot or under the symbol's lock. Raises the database's errors."""
    return StoredBook(
        symbol,
        await connection.fetch(_FILLS, account, symbol, timeout=_SECONDS),
        await connection.fetch(_ALLOCATIONS, account, symbol, timeout=_SECONDS),
    )


async def stale_records(connection: Connection, account: str, symbol: str) -> list[str]:
    """Orders whose trade record doesn't agree with the stored fills and allocations. Raises the database's errors."""
    found: set[str] = set()
    for statement in (_STALE_SELLS, _STALE_BUYS, _STALE_TOTALS):
        found |= {row["order_id"] for row in await connection.fetch(statement, account, symbol, timeout=_SECONDS)}
    return sorted(found)


def compare_book(book: StoredBook, stale: Sequence[str] = ()) -> BookDifference:
    """Compares a new matching of all fills with the stored book. Pure, and slow for a large book."""
    expected = match_all([fill_record(row) for row in book.fills])
    stored = {(row["sell_fill"], row["buy_fill"]): row for row in book.allocations}
    wanted = [allocation_row(item) for item in expected.allocations]
    missing: list[tuple[Any, ...]] = []
    surplus: list[int] = []
    for row in wanted:
        found = stored.pop(row[:2], None)
        if found is None or tuple(found)[1:] != row:
            missing.append(row)
            if found is not None:
                surplus.append(found["id"])
    surplus += [row["id"] for row in stored.values()]
    left = {lot.fill.fill_id: lot.remaining for lot in expected.lots}
    buys = [row for row in book.fills if row["side"] == Side.BUY]
    lots = {
        row["id"]: (row["lot_remaining"], left.get(row["id"], ZERO))
        for row in buys
        if row["lot_remaining"] != left.get(row["id"], ZERO)
    }
    return BookDifference(
        symbol=book.symbol,
        fills=len(book.fills),
        rows_before=len(book.allocations),
        rows_after=len(wanted),
        missing=missing,
        surplus=surplus,
        lots=lots,
        stale=stale,
        pnl_before=sum((row["pnl"] for row in book.allocations if row["pnl"] is not None), ZERO),
        pnl_after=sum((item.pnl for item in expected.allocations if item.pnl is not None), ZERO),
        open_before=sum((row["lot_remaining"] for row in buys if row["lot_remaining"] is not None), ZERO),
        open_after=sum(left.values(), ZERO),
        rows=_in_words(missing, lots),
    )


def _in_words(missing: Sequence[tuple[Any, ...]], lots: Mapping[int, tuple[Decimal, Decimal]]) -> list[str]:
    place = {name: number for number, name in enumerate(ALLOCATION_COLUMNS)}
    sells = [
        f"sell fill {row[place['sell_fill']]} must take {row[place['size']]} of "
        + (f"buy fill {row[place['buy_fill']]}" if row[place["buy_fill"]] is not None else "no lot (uncovered)")
        for row in missing[:5]
    ]
    return sells + [
        f"lot {fill}: {before} left as stored, {after} is right" for fill, (before, after) in list(lots.items())[:5]
    ]


async def repair_symbols(pool: Pool, account: str, symbols: Sequence[str]) -> list[BookDifference]:
    """`repair_symbol` for each, two at a time: the database writes one while the next is computed."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(symbol: str) -> BookDifference:
        async with room:
            return await repair_symbol(pool, account, symbol)

    return list(await asyncio.gather(*(one(symbol) for symbol in symbols)))


async def repair_symbol(pool: Pool, account: str, symbol: str) -> BookDifference:
    """Recompute a symbol's FIFO book and write the differences; returns them. Raises the database's errors.

    If fills arrive faster than the book can be computed, it is finally computed under the symbol's lock.
    """
    for _ in range(_TRIES):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            mark = await connection.fetchval(_MARK, account, symbol, timeout=_SECONDS)
            book = await read_book(connection, account, symbol)
        found = await asyncio.to_thread(compare_book, book)
        async with pool.acquire() as connection, connection.transaction():
            await lock_symbol(connection, account, symbol, long=True)
            if await connection.fetchval(_MARK, account, symbol, timeout=_SECONDS) == mark:
                return await _write(connection, account, found)
    async with pool.acquire() as connection, connection.transaction():
        await lock_symbol(connection, account, symbol, long=True)
        found = await asyncio.to_thread(compare_book, await read_book(connection, account, symbol))
        return await _write(connection, account, found)


async def _write(connection: Connection, account: str, found: BookDifference) -> BookDifference:
    """Write the difference; the symbol's lock is held."""
    if found.surplus:
        await connection.execute(
            "DELETE FROM fifo_allocations WHERE id = ANY($1::bigint[])", list(found.surplus), timeout=_SECONDS
        )
    if found.missing:
        await connection.copy_records_to_table(
            "fifo_allocations",
            records=[(account, found.symbol, *row) for row in found.missing],
            columns=["account", "symbol", *ALLOCATION_COLUMNS],
            timeout=_SECONDS,
        )
    if found.lots:
        await connection.execute(
            """UPDATE fills SET lot_remaining = new.remaining
               FROM unnest($1::bigint[], $2::numeric[]) AS new (id, remaining) WHERE fills.id = new.id""",
            list(found.lots),
            [after for _, after in found.lots.values()],
            timeout=_SECONDS,
        )
    return await _refresh(connection, account, found)


async def _refresh(connection: Connection, account: str, found: BookDifference) -> BookDifference:
    """Derived columns of trade records follow the book that was just written."""
    stale: set[str] = set()
    for statement in (_REFRESH_SELLS, _REFRESH_BUYS):
        rows = await connection.fetch(statement, account, found.symbol, timeout=_SECONDS)
        stale |= {row["order_id"] for row in rows}
    totals = await connection.fetch(_STALE_TOTALS, account, found.symbol, timeout=_SECONDS)
    if totals:
        await connection.executemany(
            "UPDATE trade_records SET size = $3, total_fees_usd = $4, price = $5 WHERE account = $1 AND order_id = $2",
            [(account, row["order_id"], row["size"], row["fees"], _price(row["value"], row["size"])) for row in totals],
            timeout=_SECONDS,
        )
    return replace(found, stale=sorted(stale | {row["order_id"] for row in totals}))


def _price(value: Decimal, size: Decimal) -> Decimal:
    return divide(value, size) if size else ZERO
