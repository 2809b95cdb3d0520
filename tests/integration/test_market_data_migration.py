"""Migrations on a whole schema with rows, and workers of the release before 0026 on it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from activities.database import Pool, create_pool
from activities.exits.plans import PlanTable
from activities.identity import Brought, establish, stamp_empty
from activities.incidents import report_incident
from activities.leases import LeaseTerms, hold
from activities.ledger.recompute import repair_symbol
from activities.market.candles import CandleTable, MarketRow
from activities.market.keeper import market_data_lease
from activities.strategy.store import StrategyStore
from domain.candles import CANDLE
from domain.incidents import IncidentKind
from exchange.port import Candle
from schema import tables
from tests.support.fake_exchange import FakeExchange, order
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import ACCOUNT, add_order, add_trade, intent, open_books
from tests.support.migrations import differences, in_schema, to
from workers.settings.changes import record_base, set_override
from workers.settings.sources import SettingSources

BTC = "BTC-USD"
START = datetime(2026, 11, 1, tzinfo=UTC)
VERSIONS = Path(tables.__file__).parent / "migrations" / "versions"

# The statements of the previous release.
OLD_CANDLE = """
INSERT INTO candles (symbol, seconds, start, open, high, low, close, volume) VALUES ($1, 300, $2, $3, $3, $3, $3, $4)
ON CONFLICT (symbol, seconds, start) DO UPDATE
   SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume
 WHERE excluded.volume > candles.volume OR (excluded.volume = candles.volume AND excluded.close <> candles.close)
"""
OLD_PRICE = """
INSERT INTO market_state (symbol, price, bid, ask, change_24h, quote_volume_24h, at) VALUES ($1, $2, $2, $2, 0, 1, $3)
ON CONFLICT (symbol) DO UPDATE
   SET price = COALESCE(excluded.price, market_state.price), bid = COALESCE(excluded.bid, market_state.bid),
       at = GREATEST(excluded.at, market_state.at)
"""
OLD_MATRIX = """
WITH run AS (
    INSERT INTO strategy_runs (snapshot_id, account, at) VALUES ($1, $2, $3) RETURNING snapshot_id
), matrix AS (
    INSERT INTO market_snapshots (snapshot_id, symbol, at, action) SELECT run.snapshot_id, $4, $3, 'sell' FROM run
)
INSERT INTO trade_signals (symbol, side, source, trigger, snapshot_id, decision, details, at)
SELECT $4, 'BUY', 'sighook', 'x', run.snapshot_id, 'started', jsonb_build_object('account', $2::text, 'candle', 'C'), $3
  FROM run
"""
OLD_STATES = "SELECT * FROM market_state WHERE symbol = ANY($1)"
OLD_SIGNALS = """
SELECT DISTINCT ON (symbol) symbol, snapshot_id, at, sell_score, action FROM market_snapshots
 WHERE symbol = ANY($1) AND at > now() - $2::interval ORDER BY symbol, at DESC
"""
OLD_CLOSES = "SELECT close FROM candles WHERE symbol = $1 AND seconds = 300 AND start >= $2 ORDER BY start"


async def old_ledger(pool: Pool, *accounts: str) -> dict[str, str]:
    """Rows written by these accounts' workers of the previous release. Returns each account's snapshot id."""
    snapshots = {account: str(uuid.uuid4()) for account in accounts}
    for number, account in enumerate(accounts):
        await pool.execute(
            "INSERT INTO leases (name, holder, epoch, expires_at) VALUES ($1, 'old', 1, now())",
            market_data_lease(account),
        )
        at = datetime.now(UTC) - timedelta(seconds=60 - number)
        await old_writes(pool, account, snapshots[account], str(50_000 - number), at)
    return snapshots


async def old_writes(pool: Pool, account: str, snapshot: str, price: str, at: datetime) -> None:
    """The writes of a worker of the previous release, about each second and in a run."""
    await pool.execute(OLD_CANDLE, BTC, START, Decimal(price), Decimal(1))
    await pool.execute(OLD_PRICE, BTC, Decimal(price), at)
    await pool.execute(OLD_MATRIX, uuid.UUID(snapshot), account, at, BTC)


async def test_the_schema_is_that_of_the_tables(database: str) -> None:
    """A migrated database has the tables, keys and indexes of `schema.tables`, also after a downgrade and upgrade."""
    assert await in_schema(database, differences) == []
    await in_schema(database, to("0025", down=True))
    assert await in_schema(database, differences) != []
    await in_schema(database, to("head"))
    assert await in_schema(database, differences) == []


async def test_each_migration_goes_down_and_up_again_with_rows_in_place(database: str) -> None:
    """From the newest to the first, one at a time: the books' rows stay, and the schema in the end is the tables'."""
    made = await write_ledger(database, 30)
    revisions = ["base", *sorted(path.name[:4] for path in VERSIONS.glob("[0-9]*.py"))]
    assert (await in_schema(database, counts))["trades"] == made.trades
    for lower, upper in reversed([*pairwise(revisions)]):
        before = await in_schema(database, counts)
        await in_schema(database, to(lower, down=True))
        below = await in_schema(database, counts)
        await in_schema(database, to(upper))
        again = await in_schema(database, counts)
        assert below == {name: before[name] for name in below}, upper
        assert below == {name: again[name] for name in below}, upper
        await in_schema(database, to(lower, down=True))
    await in_schema(database, to("head"))
    assert await in_schema(database, differences) == []


def counts(connection: Connection) -> dict[str, int]:
    """The number of rows of each table of the books that is there."""
    return {
        name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()  # noqa: S608 - fixed names
        for name in ("orders", "attempts", "fills", "trades", "fifo_allocations")
        if inspect(connection).has_table(name)
    }


async def rows_of(pool: Pool) -> dict[str, list[dict[str, Any]]]:
    """Every table's rows as text, in an order that no migration changes."""
    found = {}
    names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    for (name,) in await pool.fetch(names):
        rows = await pool.fetch(f'SELECT to_jsonb(t)::text AS row FROM "{name}" t')  # noqa: S608 - a table's own name
        found[name] = sorted((json.loads(row["row"]) for row in rows), key=str)
    return found


async def test_a_ledger_with_open_trades_goes_back_and_forth_and_loses_nothing(database: str) -> None:
    """Closed and open trades, resting orders, lots, settings and incidents from before the ledger had a stamp: every
    column of that version has the same values after the upgrade.
    """
    made = await write_ledger(database, 30)
    pool = await create_pool(database)
    try:
        await add_trade(pool, "open")
        await add_order(pool, intent("resting"), exchange_order_id="x-resting")
        await open_books(pool, ACCOUNT, USD="1000", BTC="1")
        await repair_symbol(pool, ACCOUNT, "BTC-USD")
        await report_incident(pool, ACCOUNT, IncidentKind.STALE_PRICE, "WARNING", "subject", "sentence", {"size": "1"})
        async with pool.acquire() as connection:
            await record_base(connection, SettingSources(), starting=True)
            await set_override(connection, SettingSources(), "symbols.block", ["ETH-USD"], by="ann")
    finally:
        await pool.close()
    await in_schema(database, to("0015", down=True))
    pool = await create_pool(database)
    try:
        before = await rows_of(pool)
        await in_schema(database, to("head"))
        assert await in_schema(database, differences) == []
        after = await rows_of(pool)
        assert len(before["trades"]) == made.trades + 1
        for name in ("orders", "fills", "fifo_allocations", "exit_plans", "balance_transfers", "setting_changes"):
            assert before[name], name
        for name, rows in before.items():
            kept = sorted(({key: row[key] for key in rows[0]} for row in after[name]), key=str) if rows else []
            assert kept == rows, name
    finally:
        await pool.close()


async def test_old_workers_of_one_account_go_on_beside_new_ones(database: str) -> None:
    """Existing rows are the account's; each release reads the other's writes, in the old keys and the new."""
    await in_schema(database, to("0025", down=True))
    pool = await create_pool(database)
    try:
        snapshots = await old_ledger(pool, "o'ne")
        await in_schema(database, to("head"))
        table, store = CandleTable(pool, "o'ne"), StrategyStore(pool)
        assert (await table.block([BTC], START, 1)).close[0, 0] == 50_000
        assert (await table.states([BTC]))[BTC].bid == 50_000
        watched = await PlanTable(pool, "o'ne").sell_signals([BTC], timedelta(hours=1))
        assert str(watched[BTC].snapshot_id) == snapshots["o'ne"]
        assert await store.decided("o'ne", [BTC], "C", datetime.now(UTC)) == {BTC}

        now, snapshot = datetime.now(UTC), str(uuid.uuid4())
        await old_writes(pool, "o'ne", snapshot, "50001", now)
        await pool.execute(OLD_CANDLE, BTC, START, Decimal(50_001), Decimal(2))
        assert (await table.block([BTC], START, 1)).close[0, 0] == 50_001
        assert (await table.states([BTC]))[BTC].bid == 50_001
        watched = await PlanTable(pool, "o'ne").sell_signals([BTC], timedelta(hours=1))
        assert str(watched[BTC].snapshot_id) == snapshot

        async with hold(pool, market_data_lease("o'ne"), "new", LeaseTerms()) as lease:
            price = Decimal(50_002)
            candles = [Candle(BTC, at, price, price, price, price, Decimal(1)) for at in (START, START + CANDLE)]
            await table.save(lease, candles, [MarketRow(BTC, bid=Decimal(50_002), at=datetime.now(UTC))])
        assert [row["close"] for row in await pool.fetch(OLD_CLOSES, BTC, START)] == [50_002, 50_002]
        (state,) = await pool.fetch(OLD_STATES, [BTC])
        assert MarketRow(**dict(state)).bid == 50_002
        (newest,) = await pool.fetch(OLD_SIGNALS, [BTC], timedelta(hours=1))
        assert str(newest["snapshot_id"]) == snapshot
    finally:
        await pool.close()


async def test_a_second_accounts_first_start_takes_the_old_keys_away(database: str) -> None:
    """From then on both have their own candle and price of one product; the first one's stay. The second one exists by
    an earlier order."""
    await in_schema(database, to("0025", down=True))
    pool = await create_pool(database)
    try:
        await old_ledger(pool, "one")
        for account in ("one", "two"):
            brought = Brought("paper", account, "coinbase")
            await stamp_empty(pool, brought)
            if account == "one":
                await establish(pool, FakeExchange(), brought)
                await in_schema(database, to("head"))
                with_old_keys = await pool.fetchval(
                    "SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%one_account'"
                )
                assert with_old_keys == 2
            else:
                exchange = FakeExchange(portfolio="p-2")
                exchange.history["x-1"] = order("x-1", "c-1")
                await add_order(pool, intent("two").model_copy(update={"account": "two"}), exchange_order_id="x-1")
                await establish(pool, exchange, brought)
        async with hold(pool, market_data_lease("two"), "new", LeaseTerms()) as lease:
            price = Decimal(20_000)
            told = Candle(BTC, START, price, price, price, price, Decimal(1))
            await CandleTable(pool, "two").save(lease, [told], [MarketRow(BTC, bid=Decimal(20_000), at=START)])
        for account, bid in (("one", 50_000), ("two", 20_000)):
            table = CandleTable(pool, account)
            assert (await table.block([BTC], START, 1)).close[0, 0] == bid
            assert (await table.states([BTC]))[BTC].bid == bid
    finally:
        await pool.close()


async def test_what_several_accounts_wrote_is_told_apart_or_read_again(database: str) -> None:
    """The matrix and its decisions are assigned by run; candles and prices of unknown account go; a downgrade works."""
    await in_schema(database, to("0025", down=True))
    pool = await create_pool(database)
    try:
        snapshots = await old_ledger(pool, "one", "two")
        await in_schema(database, to("head"))
        for account, snapshot in snapshots.items():
            watched = await PlanTable(pool, account).sell_signals([BTC], timedelta(hours=1))
            assert str(watched[BTC].snapshot_id) == snapshot
            assert await StrategyStore(pool).decided(account, [BTC], "C", datetime.now(UTC)) == {BTC}
            table = CandleTable(pool, account)
            assert (await table.newest([BTC]), await table.states([BTC])) == (None, {})
            async with hold(pool, market_data_lease(account), "new", LeaseTerms()) as lease:
                price = Decimal(50_000 if account == "one" else 20_000)
                told = Candle(BTC, START, price, price, price, price, Decimal(1 if account == "one" else 2))
                await table.save(lease, [told], [MarketRow(BTC, bid=price, at=START)])
        assert len(await pool.fetch(OLD_STATES, [BTC])) == 1
        await in_schema(database, to("0025", down=True))
        assert [row["close"] for row in await pool.fetch(OLD_CLOSES, BTC, START)] == [20_000]
        assert len(await pool.fetch(OLD_STATES, [BTC])) == 1
        await pool.execute(OLD_PRICE, BTC, Decimal(3), datetime.now(UTC))
        assert await pool.fetchval("SELECT count(*) FROM market_snapshots") == 2
    finally:
        await pool.close()
