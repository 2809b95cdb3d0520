"""An account trades only under its own name: workers, commands and stacks of another are refused (RISK-7, SAFE-1)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.database import create_pool
from activities.identity import Brought, establish
from activities.interfaces.orders import CancelAttempt, TradeKey
from activities.interfaces.reconcile import ReconcileInput
from activities.interfaces.starting import start_order
from domain.identity import IdentityError
from domain.orders import OrderRole, Side
from tests.support.fake_exchange import FakeExchange, order
from tests.support.harness import trading_system
from tests.support.intents import market_buy
from tests.support.live_stack import run_command
from tests.support.waiting import eventually
from workers.errors import UserError
from workers.own_account import OTHER_ACCOUNT, OwnAccount
from workers.stack.dev_server import DevServer
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import python_environment
from workflows.reconcile import ReconcileWorkflow


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def test_a_worker_does_nothing_for_another_account_whatever_comes_to_its_queue(
    database: str, temporal_server: DevServer
) -> None:
    """An order and a reconcile of another account on our queues wait for its worker; our own orders continue."""
    async with trading_system(database, temporal_server.address) as system:
        queues = system.settings.temporal
        theirs = market_buy("second")
        order_of_theirs = await start_order(system.client, theirs, task_queue=queues.orders_queue)
        reconcile = await system.client.start_workflow(
            ReconcileWorkflow.run,
            ReconcileInput(account="second", why="test"),
            id=f"reconcile-second-{theirs.order_key}",
            task_queue=queues.streams_queue,
        )
        try:
            for waiting in (order_of_theirs, reconcile):
                await eventually(partial(_refused, waiting), within=60, what="it was refused, and is tried again")
            trade = await system.start(market_buy(system.account))
            await trade.until_protected("0.01")
        finally:
            for waiting in (order_of_theirs, reconcile):
                await waiting.terminate("the test is over")
        sent = [order["client_order_id"] for order in await system.control.orders()]
        assert sent == [row["client_order_id"] for row in await system.rows("SELECT client_order_id FROM attempts")]
        assert len(sent) == 1
        for table in ("orders", "attempts", "trades", "balance_transfers", "balances", "raw_facts"):
            rows = await system.rows(f"SELECT account FROM {table}")  # noqa: S608 - our own names
            assert {row["account"] for row in rows} <= {system.account}, table


async def _refused(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether an activity of the workflow is retried because the worker has another account."""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(item.last_failure.application_failure_info.type == OTHER_ACCOUNT for item in pending)


async def test_what_names_only_an_order_or_a_trade_goes_by_whose_it_is(pool: Any) -> None:
    """Another account's is refused, our own is accepted and cached, and none is left to the activity."""
    ours, theirs, nobodys = ("aa" * 16, "bb" * 16, "cc" * 16)
    await _order_row(pool, ours, "main")
    await _order_row(pool, theirs, "second")
    own = OwnAccount(pool, "main")
    for request in (TradeKey(entry_key=theirs), CancelAttempt(order_key=theirs, number=1)):
        with pytest.raises(ApplicationError, match="refuses requests for account second") as refused:
            await own.require_own(request)
        assert (refused.value.type, refused.value.non_retryable) == (OTHER_ACCOUNT, False)
    with pytest.raises(ApplicationError):
        await own.require_own(market_buy("main", entry_key=theirs, side=Side.SELL, role=OrderRole.EXIT))
    await own.require_own(CancelAttempt(order_key=nobodys, number=1))
    await own.require_own(CancelAttempt(order_key=ours, number=1))
    await pool.execute("UPDATE orders SET account = 'second' WHERE order_key = $1", ours)
    await own.require_own(TradeKey(entry_key=ours))


async def test_an_order_that_was_admitted_here_is_not_asked_for_again(pool: Any) -> None:
    """The admission shows that its row is our account's; if the admission failed, the next activity looks it up."""
    intent = market_buy("main")

    class Admits(ActivityInboundInterceptor):
        """Replaces the activity: raises, or stores the order."""

        fails = True

        def __init__(self) -> None:
            pass

        async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
            if self.fails:
                raise ApplicationError("not now")
            await _order_row(pool, intent.order_key, "main")

    async def admit() -> None:
        """Only its name matters."""

    own, activity = OwnAccount(pool, "main"), Admits()
    inbound, asked = own.intercept_activity(activity), ExecuteActivityInput(admit, [intent], None, {})
    with pytest.raises(ApplicationError, match="not now"):
        await inbound.execute_activity(asked)
    await _order_row(pool, intent.order_key, "second")
    with pytest.raises(ApplicationError, match="refuses requests for account second"):
        await own.require_own(CancelAttempt(order_key=intent.order_key, number=1))
    await pool.execute("DELETE FROM orders")
    activity.fails = False
    await inbound.execute_activity(asked)
    # A read of the row would refuse it now.
    await pool.execute("UPDATE orders SET account = 'second'")
    await own.require_own(CancelAttempt(order_key=intent.order_key, number=1))


async def _order_row(pool: Any, key: str, account: str) -> None:
    await pool.execute(
        """INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger, intent,
                               intent_digest, state)
           VALUES ($1, $2, 'BTC-USD', 'BUY', 'ENTRY', 'MARKET', 'manual', 'manual', 'manual', '{}', '', 'OPEN')""",
        key,
        account,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["order", "buy", "BTC-USD", "--size", "0.01"],
        ["halt"],
        ["reconcile"],
        ["trades"],
        ["trade", "close", "{trade}"],
        ["orders"],
        ["order", "cancel", "{trade}"],
        ["ledger", "import", "{file}"],
        ["doctor"],
        ["web", "--port", "0"],
        ["live", "status"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
async def test_no_command_passes_for_an_account_that_the_ledger_does_not_have(
    pool: Any, database: str, temporal_server: DevServer, arguments: list[str], tmp_path: Any
) -> None:
    """One sentence that names the existing account, exit code 2, and nothing was done."""
    await establish(pool, FakeExchange(), Brought("paper", "main", "coinbase"))
    file = tmp_path / "fills.csv"
    file.write_text("id,time,symbol,side,size,price,fee\n1,2025-01-01T00:00:00Z,BTC-USD,BUY,1,50000,0\n")
    given = [word.format(trade="ab" * 16, file=file) for word in arguments]
    shown = await run_command(
        [sys.executable, "-m", "cli.main", *given],
        _environment(database, temporal_server.address) | {"BOTTRADER_ACCOUNT": "third"},
    )
    assert (shown.code, len(shown.err.strip().splitlines())) == (2, 1), shown.err
    assert "This ledger has the account main, and the settings say account = third" in shown.err
    for statement in ("TABLE account_controls", "TABLE orders", "TABLE fills"):
        assert await pool.fetch(statement) == []


def _environment(database: str, temporal: str) -> dict[str, str]:
    return python_environment({"DATABASE_URL": database, "TEMPORAL_ADDRESS": temporal, "COLUMNS": "200"})


async def test_no_further_account_begins_in_a_ledger_that_has_one(
    pool: Any, database: str, temporal_server: DevServer
) -> None:
    """Worker and stack are refused with the same sentence, and leave no stamp."""
    await establish(pool, FakeExchange(), Brought("paper", "main", "coinbase"))
    with pytest.raises(IdentityError, match="use a separate ledger for second"):
        await establish(pool, FakeExchange(portfolio="p-2"), Brought("paper", "second", "coinbase"))
    stack = LocalStack(
        LocalStackConfig(
            database_url=database,
            temporal_address=temporal_server.address,
            paper=False,
            env={"BOTTRADER_ACCOUNT": "second"},
        )
    )
    with pytest.raises(UserError, match="use a separate ledger for second"):
        await stack.start()
    assert await pool.fetchval("SELECT array_agg(account) FROM account_identities") == ["main"]


async def test_an_account_with_orders_from_before_there_were_stamps_is_one(pool: Any) -> None:
    """A second account with orders in an older ledger continues, as the exchange knows them."""
    await establish(pool, FakeExchange(), Brought("paper", "main", "coinbase"))
    exchange = FakeExchange(portfolio="p-2")
    exchange.history["x-1"] = order("x-1", "c-1")
    await _order_row(pool, "ab" * 16, "second")
    await pool.execute(
        """INSERT INTO attempts (client_order_id, order_key, account, symbol, number, exchange_order_id, body, status)
           VALUES ('c-1', $1, 'second', 'BTC-USD', 1, 'x-1', '{}', 'OPEN')""",
        "ab" * 16,
    )
    await establish(pool, exchange, Brought("paper", "second", "coinbase"))
    assert sorted(await pool.fetchval("SELECT array_agg(account) FROM account_identities")) == ["main", "second"]
