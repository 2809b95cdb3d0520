"""The schema `old`: scripts of the previous systems read it, by their names and formats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from activities.database import Pool, create_pool
from activities.ledger.recompute import repair_symbols, symbols_of
from schema.texts import in_force
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import ACCOUNT, add_order, intent
from tests.support.migrations import in_schema, to

# As scripts name them; each has `account` at the end, and `currency` if there are amounts.
_RECORDS = (
    "order_id parent_id parent_ids symbol side order_time price size pnl_usd total_fees_usd trigger order_type status "
    "source cost_basis_usd sale_proceeds_usd net_sale_proceeds_usd remaining_size realized_profit ingest_via "
    "last_reconciled_at last_reconciled_via exit_reason"
)
_ALLOCATIONS = (
    "sell_order_id buy_order_id symbol allocated_size buy_price sell_price buy_fees_per_unit sell_fees_per_unit "
    "cost_basis_usd proceeds_usd net_proceeds_usd pnl_usd buy_time sell_time"
)
_VIEWS = "SELECT schemaname || '.' || viewname AS name, definition FROM pg_views WHERE schemaname = 'old' ORDER BY 1"


async def _fills_in_bitcoin(pool: Pool) -> None:
    """A buy and a sell of ETH-BTC, imported."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    await pool.executemany(
        """INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, trade_id, origin, ingest_via, size,
                              price, value, quote_fees, at, lot_remaining)
           VALUES ($1, $2, 'ETH-BTC', $3, $1, $1, 'exchange', 'import', 1, $4, $4, 0.001, $5, $6)""",
        [
            ("buy", ACCOUNT, "BUY", Decimal("0.05"), at, Decimal(1)),
            ("sell", ACCOUNT, "SELL", Decimal("0.06"), at + timedelta(hours=1), None),
        ],
    )
    await pool.executemany(
        """INSERT INTO trade_records (order_id, account, symbol, side, order_time, price, size, total_fees_usd,
                                      order_type, status, source, ingest_via)
           VALUES ($1, $2, 'ETH-BTC', $3, $5, $4, 1, 0.001, 'UNKNOWN', 'FILLED', 'import', 'import')""",
        [("buy", ACCOUNT, "BUY", Decimal("0.05"), at), ("sell", ACCOUNT, "SELL", Decimal("0.06"), at)],
    )


async def test_records_and_allocations_have_their_old_names_and_forms(database: str) -> None:
    """Lower case, a buy as its own parent, a sell's oldest lot, dollars only in the columns named so, and the same sums
    as our own tables.
    """
    await write_ledger(database, 20)
    pool = await create_pool(database)
    try:
        await _fills_in_bitcoin(pool)
        await repair_symbols(pool, ACCOUNT, await symbols_of(pool, ACCOUNT))
        records = {row["order_id"]: row for row in await pool.fetch("SELECT * FROM old.trade_records")}
        allocations = await pool.fetch("SELECT * FROM old.fifo_allocations ORDER BY sell_time")
        assert [*records["buy"].keys()] == [*_RECORDS.split(), "currency", "account"]
        assert [*allocations[0].keys()] == [*_ALLOCATIONS.split(), "currency", "account"]
        assert len(records) == 42

        buy, sell = records["buy"], records["sell"]
        assert (buy["side"], buy["status"], buy["parent_id"], buy["currency"]) == ("buy", "filled", "buy", "BTC")
        assert (sell["parent_id"], sell["parent_ids"]) == ("buy", ["buy"])
        assert sell["realized_profit"] == Decimal("0.008")
        assert {sell[name] for name in ("pnl_usd", "total_fees_usd", "cost_basis_usd", "sale_proceeds_usd")} == {None}
        ours = await pool.fetchval("SELECT sum(pnl) FROM fifo_allocations WHERE symbol <> 'ETH-BTC'")
        assert sum(row["pnl_usd"] for row in records.values() if row["pnl_usd"] is not None) == ours
        assert sum(row["pnl_usd"] for row in allocations if row["currency"] == "USD") == ours
        (in_bitcoin,) = (row for row in allocations if row["currency"] == "BTC")
        assert (in_bitcoin["allocated_size"], in_bitcoin["pnl_usd"]) == (1, None)
        assert in_bitcoin["buy_fees_per_unit"] == Decimal("0.001")
    finally:
        await pool.close()


async def test_every_order_that_was_sent_and_has_ended_has_a_record(database: str) -> None:
    """One that was cancelled, or refused by the exchange, without a fill; not one that rests, was never sent, or
    already has a record.
    """
    made = await write_ledger(database, 1)
    pool = await create_pool(database)
    try:
        ends = {"cancelled": "CANCELLED", "refused": "FAILED", "rests": "OPEN", "never sent": "FAILED"}
        names = {}
        for name, status in ends.items():
            wanted = intent(name)
            known = f"x-{name}" if name in {"cancelled", "rests"} else None
            names[await add_order(pool, wanted, exchange_order_id=known)] = name
            await pool.execute(
                "UPDATE attempts SET status = $2, sends = $3 WHERE order_key = $1",
                wanted.order_key,
                status,
                0 if name == "never sent" else 1,
            )
        found = await pool.fetch("SELECT * FROM old.trade_records WHERE size = 0 ORDER BY status")
        assert [(row["status"], row["side"], row["price"]) for row in found] == [
            ("cancelled", "buy", 100),
            ("failed", "buy", 100),
        ]
        assert found[0]["order_id"] == found[0]["parent_id"] == "x-cancelled"
        assert names[found[1]["order_id"]] == "refused"
        assert found[0]["trigger"]["trigger"] == "manual"
        assert await pool.fetchval("SELECT count(*) FROM old.trade_records") == 2 * made.trades + 2
    finally:
        await pool.close()


async def test_links_and_resting_orders_have_their_old_forms(database: str) -> None:
    """Fired indicators as a number, with their names in addition; resting orders in lower case."""
    await write_ledger(database, 5)
    pool = await create_pool(database)
    try:
        await pool.execute(
            """INSERT INTO passive_orders (client_order_id, account, symbol, side, order_type, price, size, status)
               VALUES ('c-1', $1, 'BTC-USD', 'BUY', 'LIMIT', 100, 1, 'OPEN')""",
            ACCOUNT,
        )
        links = await pool.fetch("SELECT * FROM old.trade_strategy_link")
        assert len(links) == 10
        assert all(row["indicators_fired"] == len(row["indicators"]) and row["account"] == ACCOUNT for row in links)
        assert any(row["indicators_fired"] for row in links)
        (resting,) = await pool.fetch("SELECT * FROM old.passive_orders")
        assert (resting["side"], resting["status"], resting["size"]) == ("buy", "open", 1)
    finally:
        await pool.close()


async def test_the_views_in_force_are_the_files(database: str) -> None:
    """A migrated database has the views of the files, in the newest version; they are created and dropped with their
    migration, and objects that others added stay.
    """
    pool = await create_pool(database)
    try:
        before = [tuple(row) for row in await pool.fetch(_VIEWS)]
        assert [name for name, _ in before] == list(in_force("views"))
        for statement in in_force("views").values():
            await pool.execute(statement)
        assert [tuple(row) for row in await pool.fetch(_VIEWS)] == before

        await in_schema(database, to("0030", down=True))
        assert await pool.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'old'") == 0
        await in_schema(database, to("head"))
        await pool.execute("CREATE TABLE old.mine (id int)")
        await in_schema(database, to("0030", down=True))
        assert await pool.fetchval("SELECT count(*) FROM old.mine") == 0
        await in_schema(database, to("head"))
        assert [tuple(row) for row in await pool.fetch(_VIEWS)] == before
    finally:
        await pool.close()
