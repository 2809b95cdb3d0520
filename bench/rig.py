"""A throw-away system for measurements: the local stack with a paper exchange in step mode and without rate limits.

Prices move only on request of the measurement, and the exchange's own request journal says when an order arrived (its
clock is the machine's). The worker runs in the measuring process (`worker_here`) or, as in production, in its own
(`worker_process`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncpg
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from activities.interfaces.starting import start_order
from domain.ids import client_order_id, exit_workflow_id, intent_key
from domain.messages import Linkage, OrderIntent, OrderOutcome
from domain.orders import OrderRole, OrderType, Side
from domain.protection import Protection
from exchange.paper.control_client import PaperControl
from workers.polling import polled_since
from workers.runner import ROLES, WorkerParts, worker_parts, workers_for
from workers.schedules import ensure_singletons
from workers.settings import load_settings
from workers.settings.risk import WITHOUT_LIMITS
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import Child, Command, python_environment, python_module
from workflows.order import OrderWorkflow

__all__ = ["CALM", "CRASH", "PROBE", "SYMBOLS", "BenchTrade", "Rig", "arrival", "open_rig", "through"]

SYMBOLS = tuple(f"B{number:02}-USD" for number in range(50))
"""The market of the measurements."""
PROBE = "PROBE-USD"
"""Moves alone, so that measurements on it disturb no other trade."""
CALM = Decimal(100)
"""Best bid at which everything is bought, in USD."""
CRASH = Decimal(94)
"""Best bid past every hard stop."""
_NONE = Decimal(0)
_SIZE = Decimal("0.1")
_ACCOUNT = "main"
_DOLLARS = Decimal(1_000_000_000)
_BOOKS = """
INSERT INTO balance_transfers (account, currency, kind, amount, expected, found)
VALUES ($1, $2, 'opening', $3, 0, $3)
"""
"""Opens the books as the first reconcile does, for which there is no schedule here."""


@dataclass(frozen=True, slots=True)
class BenchTrade:
    """A started entry, and the time just before the call (wall seconds)."""

    entry_key: str
    symbol: str
    decided: float
    handle: WorkflowHandle[OrderWorkflow, OrderOutcome]

    @property
    def exit_key(self) -> str:
        """The order key of the first exit."""
        return intent_key("exit", self.entry_key, _ACCOUNT, self.symbol, Side.SELL, "1")


@dataclass
class Rig:
    """The running system."""

    stack: LocalStack
    client: Client
    control: PaperControl
    database: Any
    _armed: dict[str, asyncio.Event] = field(default_factory=dict)

    # --- the market -----------------------------------------------------------------------------------------------

    async def price(self, symbol: str, bid: Decimal) -> float:
        """Set the touch. Returns the wall time just before the call."""
        at = time.time()
        await self.control.set_price(symbol, bid, bid + Decimal("0.01"))
        return at

    async def prices(self, symbols: Sequence[str], bid: Decimal) -> float:
        """Set the touch of many symbols at once. Returns the wall time just before the first call."""
        at = time.time()
        await asyncio.gather(*(self.price(symbol, bid) for symbol in symbols))
        return at

    async def arrivals(self) -> dict[str, float]:
        """When each client order id first arrived at the exchange, wall seconds of the exchange's clock."""
        found: dict[str, float] = {}
        for entry in await self.control.journal():
            at = datetime.fromisoformat(entry["time"]).timestamp()
            found.setdefault(entry["client_order_id"], at)
        return found

    # --- trades ---------------------------------------------------------------------------------------------------

    async def enter(self, symbol: str, protection: Protection | None = None) -> BenchTrade:
        """Decide to buy at market; `protection` is the protective order that rests at the exchange."""
        request = uuid.uuid4().hex
        key = intent_key("sighook", request, _ACCOUNT, symbol, Side.BUY)
        intent = OrderIntent(
            order_key=key,
            account=_ACCOUNT,
            symbol=symbol,
            side=Side.BUY,
            role=OrderRole.ENTRY,
            order_type=OrderType.MARKET,
            base_size=_SIZE,
            source="sighook",
            entry_point="sighook",
            request_id=request,
            linkage=Linkage(trigger="rsi_oversold", snapshot_id=str(uuid.uuid4()), buy_score=Decimal("0.7")),
            protection=protection,
        )
        self._armed[key] = asyncio.Event()
        decided = time.time()
        return BenchTrade(key, symbol, decided, await start_order(self.client, intent))

    async def protected(self, trade: BenchTrade) -> None:
        """Wait until the trade's plan is armed and its exit monitor runs."""
        armed = self._armed[trade.entry_key]
        ended = asyncio.ensure_future(trade.handle.result())
        waiting = asyncio.ensure_future(armed.wait())
        done, _ = await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        ended.cancel()
        waiting.cancel()
        if waiting not in done:
            raise AssertionError(f"the entry did not fill: {ended.result() if ended in done else 'no news in 60 s'}")
        del self._armed[trade.entry_key]
        monitor = self.client.get_workflow_handle(exit_workflow_id(trade.entry_key))
        async with asyncio.timeout(30):
            while True:
                try:
                    await monitor.describe()
                except RPCError as problem:
                    if problem.status is not RPCStatusCode.NOT_FOUND:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    return

    async def open(self, symbol: str, protection: Protection | None = None) -> BenchTrade:
        """A protected trade."""
        trade = await self.enter(symbol, protection)
        await self.protected(trade)
        return trade

    async def open_many(self, count: int, *, at_once: int = 40) -> list[BenchTrade]:
        """Protected trades, spread evenly over SYMBOLS."""
        return await through([self.open(SYMBOLS[n % len(SYMBOLS)]) for n in range(count)], at_once)

    async def all_closed(self, patience: float) -> float:
        """Wait until no trade is open and return the wall time. Raises AssertionError with the number still open.

        This reads the ledger: a thousand waits for a thousand workflows would be a load of their own.
        """
        until = time.monotonic() + patience
        while still_open := await self.database.fetchval("SELECT count(*) FROM trades WHERE state <> 'CLOSED'"):
            assert time.monotonic() < until, f"{still_open} trades are still open after {patience:.0f} s"
            await asyncio.sleep(0.25)
        return time.time()

    async def result(self, trade: BenchTrade) -> OrderOutcome:
        """The outcome of a trade that is being closed."""
        return await asyncio.wait_for(trade.handle.result(), 120)

    def hear(self, _connection: object, _pid: int, _channel: str, entry_key: str) -> None:
        """A plan was armed, changed or disarmed."""
        if entry_key in self._armed:
            self._armed[entry_key].set()

    # --- workers --------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def worker_here(self, env: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[WorkerParts]:
        """All roles in this process, so that a decision made here starts its workflow here. `env` is added to the
        stack's environment.
        """
        settings = load_settings(None, {**self.stack.environment, **env})
        async with worker_parts(settings) as parts, contextlib.AsyncExitStack() as running:
            for worker in workers_for(parts, set(ROLES)):
                await running.enter_async_context(worker)
            await ensure_singletons(parts.client, settings)
            outside, self.client = self.client, parts.client
            try:
                await self._warm_up()
                yield parts
            finally:
                self.client = outside

    @contextlib.asynccontextmanager
    async def worker_process(self, env: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[int]:
        """All roles in their own process, with `env` added to the stack's environment. Yields its id."""
        began = time.time()
        child = await Child.start(
            Command(
                name="the worker",
                argv=python_module("cli.main", "worker", "--role", "all"),
                log=self.stack.data / "logs" / "worker.log",
                env=python_environment({**self.stack.environment, **env}),
            )
        )
        try:
            async with asyncio.timeout(30):
                while not await polled_since(self.client, "orders", began):
                    assert child.running, child.log_tail()
                    await asyncio.sleep(0.1)
            await self._warm_up()
            yield child.pid
        finally:
            await child.stop()

    async def _warm_up(self) -> None:
        """A few whole round trips, after which streams are connected and product rules and connections cached."""
        await self.prices([*SYMBOLS, PROBE], CALM)
        for _ in range(3):
            trade = await self.open(PROBE)
            await self.price(PROBE, CRASH)
            await self.result(trade)
            await self.price(PROBE, CALM)


@contextlib.asynccontextmanager
async def open_rig(coins: Decimal = _NONE) -> AsyncIterator[Rig]:
    """Start PostgreSQL, Temporal and the paper exchange, without a worker; everything is deleted afterwards.

    `coins`: the size of each coin that the account has and no trade owns.
    """
    opening = {"USD": _DOLLARS} | ({symbol.removesuffix("-USD"): coins for symbol in SYMBOLS} if coins else {})
    with tempfile.TemporaryDirectory(prefix="bottrader-bench-") as folder:
        products = Path(folder) / "products.json"
        products.write_text(json.dumps({"products": [_product(symbol) for symbol in (*SYMBOLS, PROBE)]}))
        config = LocalStackConfig(
            durable=True,
            ui=False,
            worker=False,
            paper_arguments=[
                "--step",
                "--no-rate-limits",
                "--products-file",
                str(products),
                *(part for currency, amount in opening.items() for part in ("--balance", f"{currency}={amount}")),
            ],
            env={
                **WITHOUT_LIMITS,
                "BOTTRADER_EXCHANGE__PRIVATE_REQUESTS_PER_S": "1000",
                "BOTTRADER_EXCHANGE__PUBLIC_REQUESTS_PER_S": "1000",
                "BOTTRADER_SYMBOLS__ALLOW": ",".join((*SYMBOLS, PROBE)),
                "BOTTRADER_SYMBOLS__MAX_OPEN_BUYS": "10000",
                "BOTTRADER_LOGGING__LEVEL": "WARNING",
                # Entries that the system decides itself have their own measurement.
                "BOTTRADER_ENTRY_POINTS": "webhook",
            },
        )
        async with LocalStack(config) as stack, PaperControl(stack.paper) as control:
            client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
            database = await asyncpg.connect(stack.dsn)
            try:
                rig = Rig(stack, client, control, database)
                await database.add_listener("exit_plan", rig.hear)
                await database.executemany(_BOOKS, [(_ACCOUNT, *held) for held in opening.items()])
                yield rig
            finally:
                await database.close()


async def through(work: Sequence[Awaitable[Any]], at_once: int) -> list[Any]:
    """The results of all, this many at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[Any]) -> Any:
        async with slots:
            return await item

    return list(await asyncio.gather(*(one(item) for item in work)))


def arrival(found: dict[str, float], order_key: str) -> float:
    """When the order's first attempt arrived. Raises KeyError if it didn't."""
    return found[client_order_id(order_key, 1)]


def _product(symbol: str) -> dict[str, str]:
    return {
        "product_id": symbol,
        "base_name": symbol.partition("-")[0],
        "price": str(CALM),
        "base_increment": "0.0001",
        "quote_increment": "0.01",
        "price_increment": "0.01",
        "base_min_size": "0.0001",
        "base_max_size": "1000000",
        "quote_min_size": "1",
        "quote_max_size": "100000000",
    }
