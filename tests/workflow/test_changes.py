"""Which changes of workflow code a run has is the same in every replay, whoever asks the workflow while it works."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.service import RPCError

from activities.interfaces.streams import SweepInput
from activities.reconcile.sweep import Sweep, SweepOptions
from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id, exit_workflow_id, order_workflow_id
from domain.messages import OrderOutcome, TradeOutcome
from domain.protection import Protection
from tests.support.harness import Trade, TradingSystem
from tests.support.waiting import eventually
from tests.workflow.test_pauses_that_end import LONG
from tests.workflow.test_replay import replayer
from tests.workflow.test_urgent_exits import STOP, bought, close, until_sold
from workflows import changes
from workflows.changes import CodeChange
from workflows.exit_monitor import ExitMonitorWorkflow
from workflows.order import OrderWorkflow
from workflows.timeline import Timeline

ROOM = Path(changes.__file__).parent


@pytest.fixture
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query takes so long that whatever the workflow has begun besides ends meanwhile."""
    lines = vars(Timeline)["lines"].fget

    def slowly(timeline: Timeline) -> list[str]:
        time.sleep(0.05)
        return list(lines(timeline))

    monkeypatch.setattr(Timeline, "lines", property(slowly))


@asynccontextmanager
async def asked_all_the_time(trade: Trade, *, told: bool = False) -> AsyncIterator[None]:
    """Three people look at the trade's timeline without a pause; with `told`, it hears of changes meanwhile."""

    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            with suppress(RPCError):  # too many people ask
                await trade.monitor.query("timeline")

    async def tell() -> None:
        chance = random.Random(7)
        while not over.is_set():
            with suppress(RPCError):  # it has ended
                await trade.monitor.signal("position_changed")
            await asyncio.sleep(chance.random() * 0.05)  # at any place of its work

    async with asyncio.TaskGroup() as people:
        for _ in range(3):
            people.create_task(ask())
        if told:
            people.create_task(tell())
        try:
            yield
        finally:
            over.set()


async def histories(trade: Trade) -> list[WorkflowHistory]:
    """Those of the trade's entry, monitor and exits."""
    exits = range(1, (await trade.monitor_view()).exit_orders + 1)
    ids = [order_workflow_id(trade.key), exit_workflow_id(trade.key)]
    ids += [order_workflow_id(trade.leg_key(number)) for number in exits]
    return [await trade.system.client.get_workflow_handle(item).fetch_history() for item in ids]


async def test_a_monitor_that_is_asked_while_it_works_replays(system: TradingSystem, slow_answers: None) -> None:
    """Its history stays one that another worker can go on with, so that its stop is sent there."""
    trade = await bought(system, rules=LONG)
    await system.control.fault("server_error", "POST /orders", count=1, status=401)
    async with asked_all_the_time(trade):
        await close(trade)
        await until_sold(system, trade)
        await trade.closed()
    for history in await histories(trade):
        await replayer().replay_workflow(history)


@pytest.mark.parametrize("protection", [None, STOP], ids=["sold by the monitor", "protected at the exchange"])
async def test_a_monitor_that_is_asked_and_told_while_it_works_replays(
    system: TradingSystem, slow_answers: None, protection: Protection | None
) -> None:
    """What it hears between a question and the result of its own write comes at the same place in every replay."""
    rules = LONG.model_copy(update={"take_profit": Decimal("0.01")})
    trade = await bought(system, rules=rules, protection=protection)
    async with asked_all_the_time(trade, told=True):
        await system.price("50600")

        async def is_sold_at_its_target() -> bool:
            return bool(await system.value("SELECT state = 'EXITING' FROM exit_plans WHERE entry_key = $1", trade.key))

        await eventually(is_sold_at_its_target, what="an exit at the target")
        await system.price("46000")
        assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    for history in await histories(trade):
        await replayer().replay_workflow(history)


def test_no_workflow_asks_for_a_change_in_another_way() -> None:
    """Only `changes` calls Temporal's own check, whose answer an asked workflow may lose."""
    others = [path.name for path in ROOM.glob("*.py") if "patched(" in path.read_text() and path.stem != "changes"]
    assert others == []


def test_a_change_keeps_its_text() -> None:
    """The texts are in histories of running workflows: a new change adds one, none is altered or taken away."""
    assert len(set(CodeChange)) == len(CodeChange.__members__)
    told = sha256("\n".join(sorted(CodeChange)).encode()).hexdigest()
    assert told[:16] == "e4b5ed90a462394c", "add a change to the list, and this digest with it, but never alter one"


async def _otherwise(monitor: ExitMonitorWorkflow) -> TradeOutcome | None:
    """A monitor's life that begins with a command that no history of today's code has."""
    workflow.upsert_memo({"life": "another"})
    return await LIVE(monitor)


LIVE = ExitMonitorWorkflow._live


async def test_a_monitor_whose_history_does_not_fit_is_replaced(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A due stop is sold by another run from the ledger, where the first run can never go on."""
    trade = await bought(system, rules=LONG)
    await system.stop_workers()
    monkeypatch.setattr(ExitMonitorWorkflow, "_live", _otherwise)
    await system.start_workers()
    await system.price("46000")
    await until_sold(system, trade)
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
    await system.assert_books_agree()


async def test_a_monitor_that_can_not_go_on_is_replaced_by_the_sweep(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose workflow task fails again and again is ended, and its due stop is sold by another."""
    trade = await bought(system, rules=LONG)
    first = (await trade.monitor.describe()).run_id
    monkeypatch.setattr(ExitMonitorWorkflow, "_leave", _leave_not(first))
    await system.price("46000")
    sweep = Sweep(system.pool, system.client, system.parts.starter, SweepOptions(stuck_attempts=2))

    async def is_replaced() -> bool:
        await sweep.sweep(SweepInput(account=system.account))
        return (await trade.monitor.describe()).run_id != first

    await eventually(is_replaced, what="another run of the monitor")
    await until_sold(system, trade)
    assert (await trade.monitor.result()).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


def _leave_not(run: str) -> Callable[[ExitMonitorWorkflow, ExitReason], Awaitable[None]]:
    """A monitor's way to sell which fails the workflow task of that run."""
    leave = ExitMonitorWorkflow._leave

    async def fails(monitor: ExitMonitorWorkflow, reason: ExitReason) -> None:
        if workflow.info().run_id == run:
            raise OSError("this worker can't do it")
        await leave(monitor, reason)

    return fails


async def _order_otherwise(order: OrderWorkflow) -> OrderOutcome | None:
    """An order's life that begins with a command that no history of today's code has."""
    workflow.upsert_memo({"life": "another"})
    return await ORDER_LIVE(order)


ORDER_LIVE = OrderWorkflow._live


async def test_an_exit_whose_history_does_not_fit_is_continued(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resting exit whose run can never go on is continued by another run, and sells what its trade has once."""
    trade = await bought(system, rules=ExitRules(reprice_seconds=Decimal(60), trailing_arm=None))
    await system.price("48700")
    soft = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.stop_workers()
    monkeypatch.setattr(OrderWorkflow, "_live", _order_otherwise)
    await system.start_workers()
    await system.control.fill(soft, "0.01")
    outcome = await trade.monitor.result()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.SOFT_STOP, Decimal("0.01"))
    await system.assert_books_agree()
