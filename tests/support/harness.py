"""The whole system in one process for a test: real Temporal, real PostgreSQL, a paper exchange over real sockets.

    async with trading_system(database, temporal_server.address) as system:
        trade = await system.start(market_buy(system.account))

Each system has its own account and task queues, so that many share one Temporal. The market is in step mode: it moves
only when the test moves it. Workers run in this process, made by the product's own `workers_for`.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import SecretStr
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool, create_pool
from activities.identity import establish
from activities.interfaces.starting import start_order
from domain.ids import client_order_id, exit_workflow_id, intent_key, order_workflow_id
from domain.messages import OrderIntent, OrderOutcome, TradeOutcome
from exchange.paper.config import PaperConfig
from exchange.paper.control_client import PaperControl
from exchange.paper.server import PaperExchange
from tests.support.waiting import SLACK, eventually
from workers.ledger_identity import brought_by
from workers.runner import WorkerParts, workers_for
from workers.schedules import ensure_singletons
from workers.settings import (
    DatabaseSettings,
    ExchangeSettings,
    OrderSettings,
    Settings,
    StreamSettings,
    SymbolSettings,
    TemporalSettings,
)
from workers.settings.quoting import QuotingSettings
from workers.settings.risk import RiskSettings
from workers.settings.sources import SettingSources
from workers.settings.strategy import StrategySettings
from workers.settings.values import exchange_of
from workflows.exit_monitor import MonitorViewState
from workflows.market_data import market_data_workflow_id
from workflows.order import OrderView, OrderWorkflow
from workflows.streams import price_watcher_workflow_id, user_stream_workflow_id

__all__ = ["ALL_ROLES", "Trade", "TradingSystem", "step_market", "trading_system"]

_AT_WORK = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
)
ALL_ROLES = frozenset({"orders", "streams", "watchers"})
BID, ASK = "50000", "50001"
WIDE = RiskSettings(
    allow_buys_on_red_day=True,
    max_position_pct=Decimal(100),
    daily_loss_limit=Decimal(0),
    losing_trades_in_a_row=0,
)
"""Limits that never apply."""


def step_market(**changes: Any) -> PaperConfig:
    """A paper exchange without rate limits whose market moves only on request."""
    given: dict[str, Any] = {
        "step": True,
        "private_rate": 0,
        "public_rate": 0,
        "connection_rate": 0,
        "message_rate": 0,
        "trade_batch": 0.0,
        "depth_batch": 0.0,
        "products": ["BTC-USD", "ETH-USD"],
    }
    return PaperConfig(**(given | changes))


@dataclass
class Trade:
    """A started entry with its exit monitor."""

    system: TradingSystem
    intent: OrderIntent
    handle: WorkflowHandle[OrderWorkflow, OrderOutcome]

    @property
    def key(self) -> str:
        """The entry's order key."""
        return self.intent.order_key

    @property
    def monitor(self) -> WorkflowHandle[Any, TradeOutcome]:
        """The exit monitor's handle."""
        return self.system.client.get_workflow_handle(exit_workflow_id(self.key), result_type=TradeOutcome)

    def leg_key(self, number: int) -> str:
        """The order key of the trade's exit number `number`, from 1."""
        intent = self.intent
        return intent_key("exit", self.key, intent.account, intent.symbol, "SELL", str(number))

    async def view(self) -> OrderView:
        """The entry's answer to `state`."""
        return await self.handle.query(OrderWorkflow.state)

    async def until_state(self, *states: str, within: float = 20.0) -> OrderView:
        """Wait until the entry is in one of these states."""

        async def so() -> OrderView | None:
            view = await self.view()
            return view if view.state in states else None

        return await eventually(so, within=within, what=f"the entry is {' or '.join(states)}")

    async def until_protected(self, size: str | None = None, within: float = 20.0) -> OrderView:
        """Wait until the entry has filled (`size` base, if given) and its exit monitor runs."""

        async def so() -> OrderView | None:
            view = await self.view()
            filled = view.filled_size > 0 if size is None else view.filled_size == Decimal(size)
            return view if filled and view.exit_monitor and await self._monitor_is_there() else None

        return await eventually(so, within=within, what=f"filled {size or ''} and protected")

    async def _monitor_is_there(self) -> bool:
        """The entry reports its monitor as started a moment before Temporal has it."""
        try:
            await self.monitor.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def monitor_view(self) -> MonitorViewState:
        """The exit monitor's answer to `state`."""
        return MonitorViewState.model_validate(await self.monitor.query("state"))

    async def until_looked(self, within: float = 20.0) -> None:
        """Wait until the exit monitor has read its position since the last report of a change."""

        async def so() -> bool:
            events = (await self.monitor.fetch_history()).events
            told = [
                event.event_id
                for event in events
                if event.workflow_execution_signaled_event_attributes.signal_name == "position_changed"
            ]
            looked = [event.event_id for event in events if event.HasField("marker_recorded_event_attributes")]
            at_rest = events[-1].event_type not in _AT_WORK
            return at_rest and max(told, default=0) < max(looked, default=0)

        await eventually(so, within=within, what="the monitor has looked at its position")

    async def result(self, within: float = 30.0) -> OrderOutcome:
        """The entry's result, once the trade is closed."""
        try:
            async with asyncio.timeout(SLACK * within):
                return await self.handle.result()
        except TimeoutError:
            raise AssertionError(f"no result within {SLACK} × {within:g} s:\n{await self.story()}") from None

    async def story(self) -> str:
        """The state of the entry and its monitor, for a failed test's message."""
        lines = ["entry:", *await self.handle.query("timeline")]
        with contextlib.suppress(RPCError):
            lines += ["monitor:", *await self.monitor.query("timeline")]
        return "\n".join(lines)

    async def closed(self, within: float = 30.0) -> TradeOutcome:
        """The trade's outcome."""
        outcome = await self.result(within)
        assert outcome.trade is not None, f"the order ended without a trade: {outcome}"
        return outcome.trade

    async def exchange_id(self, attempt: int = 1, within: float = 10.0) -> str:
        """The exchange's id of an attempt of the entry, once the exchange has it."""
        return await self.system.exchange_id(client_order_id(self.key, attempt), within=within)


@dataclass
class TradingSystem:
    """A running system; see the module."""

    settings: Settings
    control: PaperControl
    roles: frozenset[str]
    sources: SettingSources | None = None
    """The sources of settings, for a test that changes their file while workers run."""
    parts: WorkerParts = field(init=False)
    _running: contextlib.AsyncExitStack | None = field(default=None, init=False)
    _started: list[str] = field(default_factory=list, init=False)

    @property
    def account(self) -> str:
        """The account's name, unique for the test."""
        return self.settings.account

    @property
    def client(self) -> Client:
        """The workers' Temporal client."""
        return self.parts.client

    @property
    def pool(self) -> Pool:
        """The workers' database pool."""
        return self.parts.pool

    # --- workers ------------------------------------------------------------------------------------------------------

    async def start_workers(self) -> None:
        """Connect and run the roles; returns when the streams are subscribed."""
        running = contextlib.AsyncExitStack()
        settings = self.settings
        client = await Client.connect(settings.temporal.address, data_converter=pydantic_data_converter)
        pool = await create_pool(settings.database.dsn)
        running.push_async_callback(self._close_pool, pool)
        exchange = exchange_of(settings)
        running.push_async_callback(exchange.close)
        await establish(pool, exchange, brought_by(settings))
        self.parts = WorkerParts(settings, client, pool, exchange, sources=self.sources)
        await running.enter_async_context(self.parts.live.following())
        for worker in workers_for(self.parts, set(self.roles)):
            await running.enter_async_context(worker)
        self._running = running
        if self.roles & {"streams", "watchers"}:
            await ensure_singletons(client, settings)
            await self.until_streams_are_up()

    async def stop_workers(self) -> None:
        """Drain the workers and close their connections."""
        running, self._running = self._running, None
        if running is not None:
            await running.aclose()

    async def until_streams_are_up(self, within: float = 30.0) -> None:
        """Wait until the exchange has a user stream and a price stream of ours."""

        async def so() -> bool:
            connections = await self.control.connections()
            channels = {channel for item in connections if not item["half_open"] for channel in item["subscriptions"]}
            return {"user", "ticker"} <= channels

        await eventually(so, within=within, what="both streams are subscribed")

    @staticmethod
    async def _close_pool(pool: Pool) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)

    # --- what tests do ------------------------------------------------------------------------------------------------

    async def start(self, intent: OrderIntent) -> Trade:
        """Start an order's workflow, as every entry point does."""
        handle = await start_order(self.client, intent, task_queue=self.settings.temporal.orders_queue)
        self._started.append(intent.order_key)
        return Trade(self, intent, handle)

    async def price(
        self, bid: str, ask: str | None = None, *, symbol: str = "BTC-USD", size: str | None = None
    ) -> None:
        """Move the market; the ask is one dollar above the bid unless given."""
        await self.control.set_price(symbol, bid, ask or str(Decimal(bid) + 1), size)

    async def exchange_id(self, client_id: str, within: float = 10.0) -> str:
        """The exchange's id of one of our attempts, once the exchange has it."""

        async def so() -> str | None:
            return next(
                (str(item["order_id"]) for item in await self.control.orders() if item["client_order_id"] == client_id),
                None,
            )

        return await eventually(so, within=within, what=f"the exchange has {client_id}")

    async def venue_order(self, client_id: str) -> dict[str, Any]:
        """The exchange's own view of one of our attempts."""
        found = [item for item in await self.control.orders() if item["client_order_id"] == client_id]
        assert len(found) == 1, f"{len(found)} orders at the exchange for {client_id}"
        return found[0]

    async def rows(self, sql: str, *values: object) -> list[Mapping[str, Any]]:
        """Rows of the ledger."""
        return [dict(row) for row in await self.pool.fetch(sql, *values)]

    async def value(self, sql: str, *values: object) -> Any:
        """One value of the ledger."""
        return await self.pool.fetchval(sql, *values)

    # --- what must be true after any test
    # --------------------------------------------------------------------------------

    async def assert_books_agree(self) -> None:
        """Nothing lost, nothing twice, everything linked: ledger, journal and exchange agree.

        One order at the exchange per attempt; fills sum to the exchange's own by order; positions to its balances; each
        filled order of ours has its linkage; nothing is sold twice or left open by a trade that is closed.
        """
        ours = {row["client_order_id"]: row for row in await self.rows("SELECT * FROM attempts")}
        # Orders placed in the exchange's app have no client order id of ours.
        at_exchange = [order["client_order_id"] for order in await self.control.orders() if order["client_order_id"]]
        assert len(set(at_exchange)) == len(at_exchange), "two orders at the exchange for one attempt"
        assert set(at_exchange) <= set(ours)

        traded: dict[str, list[Decimal]] = {}
        for fill in await self.control.fills():
            sums = traded.setdefault(fill["order_id"], [Decimal(0)] * 3)
            size, price = Decimal(fill["size"]), Decimal(fill["price"])
            base = size / price if fill["size_in_quote"] else size
            sums[0] += base
            sums[1] += base * price
            sums[2] += Decimal(fill["commission"])
        booked = {
            row["exchange_order_id"]: [row["size"], row["value"], row["fees"]]
            for row in await self.rows(
                "SELECT exchange_order_id, sum(size) AS size, sum(value) AS value, sum(quote_fees) AS fees "
                "FROM fills GROUP BY 1"
            )
        }
        assert booked == traded

        unlinked = await self.rows(
            "SELECT order_key FROM orders o WHERE role <> 'EXTERNAL' AND filled_size > 0 "
            "AND NOT EXISTS (SELECT 1 FROM trade_strategy_link l WHERE l.order_key = o.order_key)"
        )
        assert unlinked == [], "linkage is not 100 %"
        held = {
            row["base"]: row["held"]
            for row in await self.rows(
                "SELECT split_part(symbol, '-', 1) AS base, sum(remaining + dust_size) AS held FROM trades GROUP BY 1"
            )
        }
        balances = await self.control.balances()
        for base, size in held.items():
            found = balances.get(base)
            assert size == ((found["total"] - found["deposited"]) if found else 0), f"{base}: {size} and {found}"
        assert await self.value("SELECT count(*) FROM trades WHERE remaining < 0") == 0
        assert (
            await self.value(
                "SELECT count(*) FROM trades t JOIN exit_plans p USING (entry_key) "
                "WHERE (t.state = 'CLOSED') <> (p.state = 'DISARMED')"
            )
            == 0
        )

    async def _forget(self) -> None:
        """End everything still running for this account: the next test has its own queues."""
        account = self.account
        ids = [
            user_stream_workflow_id(account),
            price_watcher_workflow_id(account, 0),
            market_data_workflow_id(account),
        ]
        for key in self._started:
            ids += [order_workflow_id(key), exit_workflow_id(key)]
        client = self.client
        for workflow_id in ids:
            handle = client.get_workflow_handle(workflow_id)
            try:
                if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                    await handle.terminate("the test is over")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise


@contextlib.asynccontextmanager
async def trading_system(
    database: str,
    temporal_address: str,
    *,
    market: PaperConfig | None = None,
    roles: frozenset[str] = ALL_ROLES,
    late_acceptance_seconds: int = 150,
    timeout_seconds: str = "3",
    symbols: SymbolSettings | None = None,
    risk: RiskSettings | None = None,
    quoting: QuotingSettings | None = None,
    others: Mapping[str, Any] | None = None,
    before: Callable[[PaperControl], Awaitable[object]] | None = None,
) -> AsyncIterator[TradingSystem]:
    """A system that runs during the block, with BTC-USD at 50,000/50,001 and ETH-USD at 3,000/3,001.

    `before` runs at the exchange before the account's first start.
    """
    name = f"t{uuid.uuid4().hex[:12]}"
    async with PaperExchange(market or step_market()) as paper, PaperControl(paper.addresses()) as control:
        await control.set_price("BTC-USD", BID, ASK)
        await control.set_price("ETH-USD", "3000", "3001")
        settings = Settings(
            account=name,
            database=DatabaseSettings(url=SecretStr(database)),
            temporal=TemporalSettings(
                address=temporal_address,
                orders_queue=f"{name}-orders",
                streams_queue=f"{name}-streams",
                watchers_queue=f"{name}-watchers",
                strategy_queue=f"{name}-strategy",
            ),
            exchange=ExchangeSettings(
                rest=paper.rest_address,
                stream=paper.stream_url,
                user_stream=paper.user_stream_url,
                ca_file=paper.ca_file,
                key_file=paper.key_file,
                private_requests_per_s=1000,
                timeout_s=Decimal(timeout_seconds),
            ),
            streams=StreamSettings(reconnect_min_s=Decimal("0.1"), reconnect_max_s=Decimal(1), lease_s=Decimal(6)),
            orders=OrderSettings(unknown_resolution_s=Decimal(late_acceptance_seconds)),
            symbols=symbols or SymbolSettings(allow=("BTC-USD", "ETH-USD"), max_open_buys=1000),
            # Most tests trade regardless of limits; tests of limits set them.
            risk=risk or WIDE,
            quoting=quoting or QuotingSettings(),
            # Makes a sell row of the matrix count; no schedule runs without the role strategy.
            **({"strategy": StrategySettings(enabled=True)} | dict(others or {})),
        )
        if before is not None:
            await before(control)
        system = TradingSystem(settings, control, roles)
        try:
            await system.start_workers()
            yield system
        finally:
            if hasattr(system, "parts"):
                await system._forget()
            await system.stop_workers()
