"""The migrated database is the one that `schema` describes: tables, functions, computed columns."""

from __future__ import annotations

import random
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from activities.database import Pool, create_pool
from activities.ledger.closing import position_view
from activities.venue import Venue
from domain.outcome import trade_pnl
from schema import tables
from schema.texts import in_force, text_of
from tests.support.fake_exchange import FakeExchange
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import ACCOUNT, add_order, add_trade, intent
from tests.support.migrations import catalogue, differences, in_schema, to
from workers.stack.embedded_postgres import EmbeddedPostgres

_FUNCTIONS = """
SELECT p.proname::text, pg_get_functiondef(p.oid) FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f' ORDER BY 1
"""

# The statements of the release before 0030: claims beside a trade, its result at the close.
_OLD_CLAIMS = """
SELECT coalesce(sum(greatest(o.claimed_base - o.filled_size - o.base_fees, 0)), 0) FROM orders o
 WHERE o.entry_key = $1 AND o.side = 'SELL' AND NOT o.finished
"""
_OLD_RESULTS = """
SELECT t.entry_key, CASE WHEN t.sold_size + t.sold_base_fees >= t.bought_size - t.bought_base_fees
     THEN CASE WHEN t.bought_size > t.bought_base_fees
               THEN t.sold_value - t.sold_quote_fees - t.bought_value - t.bought_quote_fees ELSE 0 END
     WHEN t.sold_size + t.sold_base_fees <= 0 THEN 0
     ELSE t.sold_value - t.sold_quote_fees - (t.bought_value + t.bought_quote_fees)
          * (t.sold_size + t.sold_base_fees) / (t.bought_size - t.bought_base_fees) END AS pnl
  FROM trades t ORDER BY 1
"""
_OLD_SELL = """
INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point, trigger, intent,
                    intent_digest, state, claimed_base)
VALUES ($1,$2,'BTC-USD','SELL','EXIT',$3,'MARKET','webhook','exit','HARD_STOP','{}','','ADMITTED',$4)
"""
_OLD_FILL = """
UPDATE orders SET filled_size = 0.3, base_fees = 0.05, state = 'PARTIALLY_FILLED' WHERE order_key = $1
"""
_OLD_SHRINK = """
UPDATE trades SET sold_size = 0.3, sold_value = 33, sold_base_fees = 0.05, sold_quote_fees = 1 WHERE entry_key = $1
"""
_OLD_END = "UPDATE orders SET state = 'CANCELLED', finished = true, claimed_base = 0 WHERE order_key = $1"


async def test_a_migrated_database_is_that_of_the_tables(database: str, postgres_server: EmbeddedPostgres) -> None:
    """PostgreSQL's catalogue of a migrated ledger's tables (types, nullability, defaults, computed columns, checks,
    keys, indexes with their conditions, comments) is as if `schema.tables` had created them.
    """

    def make(connection: Connection) -> None:
        connection.execute(text(text_of("functions", "trade_pnl", 1)))
        tables.metadata.create_all(connection)

    assert await in_schema(database, differences) == []
    await postgres_server.create_database("made_of_tables")
    made = postgres_server.dsn("made_of_tables")
    await in_schema(made, make)
    pool, other = await create_pool(database), await create_pool(made)
    try:
        migrated, described = await catalogue(pool), await catalogue(other)
    finally:
        await pool.close()
        await other.close()
    for name, rows in described.items():
        assert sorted(rows ^ migrated[name], key=str) == [], name
    assert len(described["columns"]) > 400


async def test_the_functions_in_force_are_the_files(database: str) -> None:
    """A migrated database has each function that has a file, no other, and word for word as in its newest file."""
    pool = await create_pool(database)
    try:
        before = [tuple(row) for row in await pool.fetch(_FUNCTIONS)]
        assert [name for name, _ in before] == list(in_force("functions"))
        for statement in in_force("functions").values():
            await pool.execute(statement)
        after = [tuple(row) for row in await pool.fetch(_FUNCTIONS)]
    finally:
        await pool.close()
    assert after == before


def _position(dice: random.Random) -> tuple[Decimal, ...]:
    """A trade's bought and sold size, value, fees in quote and in base, twice; often odd, often sold in part."""
    places = dice.choice((0, 3, 8, 16))
    size = Decimal(dice.randint(1, 10**6)).scaleb(-places)
    base_fees = size * Decimal(dice.choice((0, 0, 1, 3))) / 1000
    held = size - base_fees
    sold = dice.choice((Decimal(0), held, held * dice.randint(1, 999) / 1000, held * Decimal(2)))
    sold_base_fees = sold * Decimal(dice.choice((0, 0, 2))) / 1000
    value, got = (Decimal(dice.randint(0, 10**12)).scaleb(-dice.choice((2, 6, 9))) for _ in range(2))
    return size, value, value / 250, base_fees, sold, got, got / 250, sold_base_fees


# Shares of a cost that are exactly half between two numbers of 18 places, and just beside it.
_TIES = [
    (Decimal(4), Decimal(cost).scaleb(-18), Decimal(0), Decimal(0), Decimal(1), Decimal(1), Decimal(0), Decimal(0))
    for cost in (2, 6, 10, 1, 3, 5, 7, -2, -6, -1, -3)
]


async def test_a_trades_result_is_the_domains(database: str) -> None:
    """`trades.pnl` of any position equals `domain.outcome.trade_pnl`, to the last of 18 places: sold in part,
    completely or beyond, with fees in base, with nothing bought or sold, and if the share of the cost is a tie.
    """
    dice = random.Random(30)
    rows = [*_TIES, (Decimal(0),) * 8, *(_position(dice) for _ in range(3_000))]
    names = ("size", "value", "quote_fees", "base_fees")
    columns = [f"{side}_{name}" for side in ("bought", "sold") for name in names]
    pool = await create_pool(database)
    try:
        async with pool.acquire() as connection, connection.transaction():
            # The table's own computed columns, without the keys and checks that rows without an order would violate.
            await connection.execute("CREATE TEMP TABLE positions (LIKE trades INCLUDING GENERATED INCLUDING DEFAULTS)")
            await connection.execute("ALTER TABLE positions ADD number int")
            await connection.executemany(
                f"""INSERT INTO positions (entry_key, account, symbol, state, number, {", ".join(columns)})
                    VALUES ('', '', '', '', $1, $2, $3, $4, $5, $6, $7, $8, $9)""",  # noqa: S608 - our own names
                [(number, *row) for number, row in enumerate(rows)],
            )
            found = await connection.fetch("SELECT pnl FROM positions ORDER BY number")
    finally:
        await pool.close()
    for row, (pnl,) in zip(rows, found, strict=True):
        size, value, quote_fees, base_fees, sold, got, sold_fees, sold_base_fees = row
        assert pnl == trade_pnl(size - base_fees, value + quote_fees, sold + sold_base_fees, got - sold_fees), row
    assert sum(pnl.as_tuple().exponent == -18 for (pnl,) in found) > 500


async def _sell(pool: Pool, entry_key: str, claimed: str, **columns: Any) -> str:
    """A sell of the trade with this claim. Returns its key."""
    key = uuid.uuid4().hex
    await pool.execute(_OLD_SELL, key, ACCOUNT, entry_key, Decimal(claimed))
    for name, value in columns.items():
        await pool.execute(f"UPDATE orders SET {name} = $2 WHERE order_key = $1", key, value)  # noqa: S608
    return key


async def test_what_a_sell_may_still_take_counts_its_fees_in_base(database: str) -> None:
    """An open claim is less the sold size and the base fees, never negative, and released with the order; a buy has
    none. The view used by exits has the same value.
    """
    pool = await create_pool(database)
    try:
        entry_key = await add_trade(pool, "held")
        at_work = await _sell(pool, entry_key, "0.6", filled_size=Decimal("0.2"), base_fees=Decimal("0.1"))
        over = await _sell(pool, entry_key, "0.1", filled_size=Decimal("0.1"), base_fees=Decimal("0.01"))
        ended = await _sell(pool, entry_key, "0.3", finished=True)
        buy = intent("buy")
        await add_order(pool, buy)
        await pool.execute("UPDATE orders SET claimed_base = 1 WHERE order_key = $1", buy.order_key)
        claims = {
            row["order_key"]: row["open_claim"] for row in await pool.fetch("SELECT order_key, open_claim FROM orders")
        }
        assert claims == {at_work: Decimal("0.3"), over: 0, ended: 0, buy.order_key: 0, entry_key: 0}
        view = await position_view(pool, Venue(FakeExchange()), entry_key)
        assert (view.remaining, view.pending_claims) == (Decimal(1), Decimal("0.3"))
    finally:
        await pool.close()


async def test_computed_columns_come_and_go_with_rows_in_place(database: str) -> None:
    """Older rows get their claims and results in migration 0030; workers of the previous release read and write as
    before, consistently with the columns; a downgrade removes only them.
    """
    made = await write_ledger(database, 20)
    await in_schema(database, to("0029", down=True))
    pool = await create_pool(database)
    try:
        entry_key = await add_trade(pool, "open")
        sell = await _sell(pool, entry_key, "1")
        before = await pool.fetch("SELECT * FROM trades ORDER BY entry_key")
        await in_schema(database, to("head"))
        await pool.expire_connections()
        assert await pool.fetchval("SELECT sum(pnl) FROM trades") == made.pnl
        assert await pool.fetchval("SELECT sum(open_claim) FROM orders") == 1

        await pool.execute(_OLD_FILL, sell)
        await pool.execute(_OLD_SHRINK, entry_key)
        assert await pool.fetchval(_OLD_CLAIMS, entry_key) == Decimal("0.65")
        assert await pool.fetchval("SELECT open_claim FROM orders WHERE order_key = $1", sell) == Decimal("0.65")
        told = await pool.fetch("SELECT entry_key, pnl FROM trades ORDER BY 1")
        assert [tuple(row) for row in told] == [tuple(row) for row in await pool.fetch(_OLD_RESULTS)]
        await pool.execute(_OLD_END, sell)
        assert await pool.fetchval("SELECT sum(open_claim) FROM orders") == 0

        await in_schema(database, to("0029", down=True))
        await pool.expire_connections()
        after = await pool.fetch("SELECT * FROM trades ORDER BY entry_key")
        assert [row for row in after if row["entry_key"] != entry_key] == [
            row for row in before if row["entry_key"] != entry_key
        ]
    finally:
        await pool.close()


async def test_a_trade_of_before_gets_the_trigger_of_its_entry(database: str) -> None:
    """A trade that closed before trades had a trigger has that of its entry after the upgrade; one that has it keeps
    it.
    """
    pool = await create_pool(database, size=2)
    old, new = await add_trade(pool, "old"), await add_trade(pool, "new")
    await in_schema(database, to("0042", down=True))
    await pool.execute("UPDATE trades SET entry_trigger = NULL WHERE entry_key = $1", old)
    await pool.execute("UPDATE trades SET entry_trigger = 'kept' WHERE entry_key = $1", new)
    await in_schema(database, to("head"))
    rows = await pool.fetch("SELECT entry_key, entry_trigger FROM trades")
    await pool.close()
    assert {row["entry_key"]: row["entry_trigger"] for row in rows} == {old: "manual", new: "kept"}
