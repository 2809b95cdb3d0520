"""A person's close is accepted at any time, also while a stop is due and can't sell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest_asyncio
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle

from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id
from domain.messages import CloseRequest
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import market_buy
from tests.support.waiting import eventually
from workers.settings import SymbolSettings
from workers.settings.changes import set_override
from workers.settings.sources import SettingSources
from workers.stack.dev_server import DevServer


@pytest_asyncio.fixture
async def hodl(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A system whose BTC is never sold by the system."""
    symbols = SymbolSettings(allow=("BTC-USD", "ETH-USD"), hodl=("BTC-USD",))
    async with trading_system(database, temporal_server.address, symbols=symbols) as system:
        yield system


async def test_a_close_sells_what_a_hodl_list_keeps_from_a_due_stop(hodl: TradingSystem) -> None:
    """The list stops the system's hard stop, which is reported once; it does not stop a person."""
    trade = await hodl.start(market_buy(hodl.account, "0.01"))
    await trade.until_protected("0.01")
    await hodl.price("47000")

    async def refused() -> bool:
        return bool(await hodl.value("SELECT count(*) = 1 FROM incidents WHERE kind = 'EXIT_REFUSED'"))

    await eventually(refused, what="the refused stop is told")
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.MANUAL
    assert outcome.exit_size == outcome.entry_size
    assert await hodl.value("SELECT count(*) FROM incidents WHERE kind LIKE 'EXIT_%' AND resolved_at IS NULL") == 0
    await hodl.assert_books_agree()


async def test_a_change_of_the_hodl_list_counts_within_seconds(hodl: TradingSystem) -> None:
    """A stop refused by the list sells as soon as the symbol is removed, and a working one stands down when it is
    added."""
    sources = SettingSources(from_file=hodl.settings.model_dump())

    async def listed(*symbols: str) -> None:
        async with hodl.pool.acquire() as connection:
            await set_override(connection, sources, "symbols.hodl", symbols, by="a person")

    async def refused(key: str) -> bool:
        return bool(await hodl.value("SELECT count(*) > 0 FROM orders WHERE entry_key = $1 AND gate = 'HODL'", key))

    trade = await hodl.start(market_buy(hodl.account, "0.01"))
    await trade.until_protected("0.01")
    await hodl.price("47000")
    await eventually(lambda: refused(trade.key), what="the stop is refused")
    await listed("ETH-USD")
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP

    await hodl.price("50000")
    rules = ExitRules(reprice_seconds=Decimal("0.25"), max_reprices=50)
    other = await hodl.start(market_buy(hodl.account, "0.01", rules=rules))
    await other.until_protected("0.01")
    await hodl.price("48700")
    await hodl.exchange_id(client_order_id(other.leg_key(1), 1))
    await listed("BTC-USD")
    await eventually(lambda: refused(other.key), what="the soft stop stands down for the list")
    working = [item for item in await hodl.control.orders() if item["status"] == "OPEN"]
    assert working == []
    await other.monitor.signal("close", CloseRequest(by="a person"))
    assert (await other.closed()).exit_reason is ExitReason.MANUAL
    await hodl.assert_books_agree()


async def test_a_close_ends_the_pause_before_a_refused_stop_is_tried_again(system: TradingSystem) -> None:
    """The pause after a refusal is the stop's; the person's order is sent at once."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.product("BTC-USD", cancel_only=True)
    await system.price("47000")

    async def paused() -> bool:
        return await pausing_for(trade.monitor) >= 4

    await eventually(paused, what="a pause of four seconds or more")
    await system.control.product("BTC-USD", cancel_only=False)
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.MANUAL
    assert await timers_fired_before_selling(trade.monitor, "close") == 0
    await system.assert_books_agree()


async def pausing_for(handle: WorkflowHandle[Any, Any]) -> int:
    """Seconds of the monitor's present pause; 0 if there is none."""
    seconds: dict[int, int] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("timer_started_event_attributes") and b"is tried again" in event.user_metadata.summary.data:
            seconds[event.event_id] = event.timer_started_event_attributes.start_to_fire_timeout.seconds
        elif event.HasField("timer_fired_event_attributes"):
            seconds.pop(event.timer_fired_event_attributes.started_event_id, None)
        elif event.HasField("timer_canceled_event_attributes"):
            seconds.pop(event.timer_canceled_event_attributes.started_event_id, None)
    return max(seconds.values(), default=0)


async def timers_fired_before_selling(handle: WorkflowHandle[Any, Any], signal: str) -> int:
    """How many timers fired between this signal and the next exit order's start."""
    events = (await handle.fetch_history()).events
    told = next(
        event.event_id for event in events if event.workflow_execution_signaled_event_attributes.signal_name == signal
    )
    sold = next(
        event.event_id
        for event in events
        if event.event_id > told and event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
    )
    return sum(event.event_type == EventType.EVENT_TYPE_TIMER_FIRED for event in events[told:sold])
