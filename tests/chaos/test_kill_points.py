"""`kill -9` of the worker at each point of a trade's life: the same ledger as the undisturbed run, nothing sent twice.

One stack with a separate worker process plays the same trade again and again; only the kill differs. The market is in
step mode, so that the results are exactly comparable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from activities.crash_points import CRASH_AT
from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id
from exchange.paper.control_client import PaperControl
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy
from tests.support.waiting import eventually
from workers.settings import load_settings
from workers.settings.risk import WITHOUT_LIMITS
from workers.stack.local_stack import LocalStack, LocalStackConfig

PATIENT = ExitRules(reprice_seconds=Decimal(3600))
PAPER = ("--step", "--no-rate-limits", "--product", "BTC-USD")


@dataclass
class Stage:
    """The stack, and the connections with which a test plays on it."""

    stack: LocalStack
    system: TradingSystem
    environment: dict[str, str]

    @property
    def control(self) -> PaperControl:
        """The paper exchange's control."""
        return self.system.control

    async def crash_at(self, point: str) -> Path:
        """Make the worker kill itself when it next reaches this point. Returns the file that records it."""
        marker = self.stack.data / f"crashed-{point}"
        self.environment[CRASH_AT] = f"{point}={marker}"
        await self.stack.restart_worker()
        return marker


@pytest_asyncio.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    """A stack with its worker in a process that may be killed."""
    environment = {
        **WITHOUT_LIMITS,
        "BOTTRADER_STREAMS__RECONNECT_MIN_S": "0.1",
        "BOTTRADER_STREAMS__RECONNECT_MAX_S": "1",
        "BOTTRADER_STREAMS__LEASE_S": "3",
        "BOTTRADER_EXCHANGE__TIMEOUT_S": "3",
        "BOTTRADER_EXCHANGE__PRIVATE_REQUESTS_PER_S": "1000",
        "BOTTRADER_SYMBOLS__ALLOW": "BTC-USD",
        # A scheduled strategy run in between would give later exits a sell score that the first one had not.
        "BOTTRADER_ENTRY_POINTS": "webhook",
    }
    config = LocalStackConfig(ui=False, paper_arguments=PAPER, env=environment)
    async with LocalStack(config) as stack, PaperControl(stack.paper) as control:
        await control.set_price("BTC-USD", "50000", "50001")
        settings = load_settings(environ=stack.environment)
        system = TradingSystem(settings, control, frozenset())
        await system.start_workers()  # none: the connections only
        yield Stage(stack, system, environment)
        await system.stop_workers()


@pytest_asyncio.fixture(scope="module")
async def undisturbed(stage: Stage) -> dict[str, Any]:
    """The trade's ledger without a kill."""
    return await play(stage)


async def nothing() -> None:
    """No disturbance."""


async def until_ledger_has(system: TradingSystem, key: str, size: str) -> None:
    """Wait until the order has this filled size in the ledger."""

    async def so() -> bool:
        return bool(
            await system.value("SELECT filled_size = $2::numeric FROM orders WHERE order_key = $1", key, Decimal(size))
        )

    await eventually(so, within=60, what=f"{size} of {key} in the ledger")


async def play(
    stage: Stage,
    *,
    protected: Callable[[], Awaitable[None]] = nothing,
    exiting: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """Buy 0.1 in two fills, fall to the soft stop, sell it in one. Returns the ledger's rows without ids and times."""
    system, control = stage.system, stage.control
    await control.set_price("BTC-USD", "50000", "50001")
    trade = await system.start(limit_buy(system.account, "0.1", "49999", rules=PATIENT))
    bought = await system.exchange_id(client_order_id(trade.key, 1), within=60)
    await control.fill(bought, "0.04")
    await until_ledger_has(system, trade.key, "0.04")
    await control.fill(bought, "0.06", "49990")
    await until_ledger_has(system, trade.key, "0.1")
    await protected()
    await control.set_price("BTC-USD", "48700", "48701")
    sold = await system.exchange_id(client_order_id(trade.leg_key(1), 1), within=60)

    async def sell() -> None:
        await control.fill(sold, "0.1")

    await (exiting(sell) if exiting else sell())
    outcome = await trade.closed(within=60)
    assert outcome.exit_reason is ExitReason.SOFT_STOP
    await assert_one_order_per_attempt(system, trade)
    await system.assert_books_agree()
    return await ledger_of(system, trade)


async def assert_one_order_per_attempt(system: TradingSystem, trade: Trade) -> None:
    """Each attempt of the trade's orders is one order at the exchange, and there is no other."""
    keys = {trade.key, trade.leg_key(1)}
    at_exchange = [
        order["client_order_id"] for order in await system.control.orders() if order["client_order_id"][:32] in keys
    ]
    assert sorted(at_exchange) == sorted(client_order_id(key, 1) for key in keys)


async def ledger_of(system: TradingSystem, trade: Trade) -> dict[str, Any]:
    """The trade's rows: sizes, prices, fees, reasons, linkage."""
    keys = [trade.key, trade.leg_key(1)]
    queries = {
        "orders": "SELECT role, side, state, finished, filled_size, filled_value, quote_fees, exit_reason, trigger, "
        "buy_score, reserved_quote, claimed_base FROM orders WHERE order_key = ANY($1) ORDER BY role",
        "attempts": "SELECT number, status, live, size, limit_price, filled_size, filled_value, quote_fees "
        "FROM attempts WHERE order_key = ANY($1) ORDER BY order_key = $2, number",
        "fills": "SELECT side, size, price, value, quote_fees, lot_remaining FROM fills WHERE order_key = ANY($1) "
        "ORDER BY id",
        "trades": "SELECT state, bought_size, bought_value, bought_quote_fees, sold_size, sold_value, sold_quote_fees, "
        "remaining, entry_final, exit_reason, exit_legs, trigger_price, dust_size FROM trades "
        "WHERE entry_key = ANY($1)",
        "exits": "SELECT reason, target_fraction, trigger_price, size, average_price, achieved_gross, achieved_net, "
        "slippage, fees FROM trade_exits WHERE entry_key = ANY($1)",
        "plans": "SELECT state, entry_price, quantity, exit_reason FROM exit_plans WHERE entry_key = ANY($1)",
        "records": "SELECT side, size, price, pnl_usd, total_fees_usd, status, exit_reason, cost_basis_usd, "
        "remaining_size FROM trade_records WHERE order_key = ANY($1) ORDER BY side",
        "allocations": "SELECT a.size, sell_price, buy_price, cost_basis, proceeds, net_proceeds, pnl "
        "FROM fifo_allocations a JOIN fills f ON f.id = a.sell_fill WHERE f.order_key = ANY($1) ORDER BY a.id",
        "links": "SELECT trigger_type, buy_score, sell_score, sell_trigger, exit_reason, indicators_fired, "
        "completed_at IS NOT NULL AS completed FROM trade_strategy_link WHERE order_key = ANY($1) "
        "ORDER BY order_key = $2",
        "open": "SELECT count(*) AS orders FROM passive_orders WHERE order_key = ANY($1)",
        "incidents": "SELECT kind FROM incidents WHERE severity = 'CRITICAL' AND subject = ANY($1)",
    }
    found: dict[str, Any] = {}
    for name, sql in queries.items():
        values = [keys, trade.key] if "$2" in sql else [keys]
        found[name] = [dict(row) for row in await system.rows(sql, *values)]
    return found


@pytest.mark.parametrize(
    "point",
    [
        "before_entry_submit",
        "before_entry_acknowledgement",
        "before_record",
        "before_exit_submit",
        "before_exit_acknowledgement",
    ],
)
async def test_the_worker_is_killed_at_a_point(stage: Stage, undisturbed: dict[str, Any], point: str) -> None:
    """Killed before a submit, between accept and acknowledgement, or between fill and record: the same ledger."""
    marker = await stage.crash_at(point)
    assert await play(stage) == undisturbed
    assert marker.exists(), "the worker was not killed"


async def test_the_worker_is_killed_while_protected(stage: Stage, undisturbed: dict[str, Any]) -> None:
    """A stop that is due while no worker runs is sold by the next one."""
    stage.environment.pop(CRASH_AT, None)

    async def kill() -> None:
        await stage.stack.kill_worker()
        await stage.control.set_price("BTC-USD", "48700", "48701")
        await stage.stack.restart_worker()

    assert await play(stage, protected=kill) == undisturbed


async def test_the_worker_is_killed_with_an_exit_pending(stage: Stage, undisturbed: dict[str, Any]) -> None:
    """An exit that fills while no worker runs closes its trade with the next one."""
    stage.environment.pop(CRASH_AT, None)

    async def kill(sell: Callable[[], Awaitable[None]]) -> None:
        await stage.stack.kill_worker()
        await sell()
        await stage.stack.restart_worker()

    assert await play(stage, exiting=kill) == undisturbed
