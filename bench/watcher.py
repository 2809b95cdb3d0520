"""The price watcher with 1,000 plans on 50 symbols at 500 ticks a second: its share of a core, and its delay.

Servers are our own children (embedded PostgreSQL, Temporal dev server); prices come from an in-process stream, so that
the watcher with its database and Temporal calls is measured, not a generator of prices. A due exit is timed from the
moment its tick is passed to the stream to the time at which the server wrote the signal into the monitor's history.

Aims: less than one core; p99 of tick → signal within 50 ms; less than 5 µs a plan and tick.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.database import Pool, create_pool
from activities.exits.price_watcher import PriceWatcher, WatcherOptions
from activities.interfaces.starting import EXIT_MONITOR_WORKFLOW
from activities.interfaces.streams import WatcherInput
from activities.starting import Starter
from domain.exits import ExitReason, ExitRules, Position
from domain.ids import exit_workflow_id
from domain.messages import ExitDue, MonitorStart
from domain.watch import PlanRow, Watch
from schema import migrate
from tests.support.fake_exchange import FakeExchange, ticker
from tests.support.ledger_rows import ACCOUNT, add_trade, until
from workers.stack import temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

__all__ = ["run"]

SYMBOLS = tuple(f"C{number:02}-USD" for number in range(50))
PLANS_PER_SYMBOL = 20
TICKS_PER_SECOND = 500
DUE_PER_SECOND = 10
SECONDS = 10.0
_VICTIMS = (("102.2", "99.6"), ("102.0", "99.4"), ("101.8", "99.2"), ("101.6", "99.0"))
"""Entry price, and the bid that makes only this one of a symbol's plans due."""


async def run(seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Rows with the measurement, its aim, and whether it is met. `seconds` of steady ticks."""
    rows = [_idle_cost()]
    async with _servers() as (pool, client):
        rows += await _live(pool, client, seconds)
    return rows


def _idle_cost(ticks: int = 20_000) -> dict[str, Any]:
    """Microseconds of CPU time per plan and tick, with nothing due: the ticks alone, without waiting for anything."""
    now = datetime.now(UTC)
    watch = Watch(
        epoch=1,
        signal_max_age=timedelta(minutes=10),
        on_due=lambda _: None,
        now=lambda: now,
        monotonic=time.monotonic,
    )
    for symbol in SYMBOLS:
        for number in range(PLANS_PER_SYMBOL):
            position = Position(Decimal(100), ExitRules())
            watch.put(PlanRow(f"{symbol}/{number}", symbol, False, None, position, 1, now))
    bids = [Decimal("99.5") + Decimal(n) / 100 for n in range(100)]
    started = time.process_time()
    for n in range(ticks):
        watch.tick(SYMBOLS[n % len(SYMBOLS)], bids[n % len(bids)], now)
    cost = (time.process_time() - started) / (ticks * PLANS_PER_SYMBOL) * 1e6
    return {"what": "idle plan, one tick", "unit": "µs CPU", "ours": round(cost, 3), "aim": "< 5", "ok": cost < 5}


async def _live(pool: Pool, client: Client, seconds: float) -> list[dict[str, Any]]:
    victims = await _plans(pool, client, seconds)
    floor = await _signal_floor(client)
    exchange = FakeExchange(quotes=dict.fromkeys(SYMBOLS, Decimal(100)))
    starter = Starter(pool, client, task_queue="bench-nobody")
    options = WatcherOptions(symbols=SYMBOLS, repeat_seconds=600, unacknowledged_seconds=600)
    beats: list[dict[str, Any]] = []
    watcher = PriceWatcher(pool, exchange, client, starter, options)
    task = asyncio.create_task(watcher.run(WatcherInput(account=ACCOUNT), beats.append))
    try:
        await until(lambda: _true(beats and beats[-1].get("plans") == len(SYMBOLS) * PLANS_PER_SYMBOL), seconds=30)
        ticked, share, wall = await _market(exchange, victims, seconds)
        await until(lambda: _true(beats[-1]["signalled"] >= len(victims)), seconds=30)
        ticks = beats[-1]["ticks"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    late = [await _delay(client, key, ticked[key]) for _, _, key in victims]
    p50, p99 = _quantile(late, 0.5), _quantile(late, 0.99)
    return [
        {
            "what": f"{len(SYMBOLS) * PLANS_PER_SYMBOL} plans, {len(SYMBOLS)} symbols, {ticks / wall:.0f} ticks/s",
            "unit": "cores",
            "ours": round(share, 3),
            "aim": "< 1",
            "ok": share < 1 and ticks >= TICKS_PER_SECOND * seconds * 0.95,
        },
        {
            "what": f"tick → exit signal in its history ({len(late)} exits)",
            "unit": "ms",
            "floor": round(floor, 1),
            "p50": round(p50, 1),
            "p99": round(p99, 1),
            "max": round(max(late), 1),
            "aim": "p99 <= 50",
            "ok": p99 <= 50,
        },
    ]


async def _plans(pool: Pool, client: Client, seconds: float) -> list[tuple[str, str, str]]:
    """All plans, and those that will be due in turn: symbol, the bid that makes it due, entry key."""
    wanted = min(int(seconds * DUE_PER_SECOND), len(SYMBOLS) * len(_VICTIMS))
    victims = []
    for place in range(PLANS_PER_SYMBOL):
        for number, symbol in enumerate(SYMBOLS):
            due = place < len(_VICTIMS) and place * len(SYMBOLS) + number < wanted
            entry, dip = _VICTIMS[place] if due else ("100", "")
            key = await add_trade(pool, uuid.uuid4().hex, symbol=symbol, entry_price=entry, notify=False)
            if due:
                victims.append((symbol, dip, key))
                await _monitor(client, key)
    return victims


async def _monitor(client: Client, entry_key: str) -> WorkflowHandle[Any, Any]:
    """A monitor without a worker: the server's receipt of the signal is measured."""
    return await client.start_workflow(
        EXIT_MONITOR_WORKFLOW,
        MonitorStart(entry_key=entry_key, account=ACCOUNT, symbol=""),
        id=exit_workflow_id(entry_key),
        task_queue="bench-nobody",
    )


async def _signal_floor(client: Client) -> float:
    """Median milliseconds of one bare signal after another."""
    handle = await _monitor(client, uuid.uuid4().hex)
    due = ExitDue(reason=ExitReason.SOFT_STOP, price=Decimal(1), at=datetime.now(UTC))
    took = []
    for _ in range(50):
        started = time.perf_counter()
        await handle.signal("exit_due", due)
        took.append((time.perf_counter() - started) * 1000)
    return _quantile(took, 0.5)


async def _market(
    exchange: FakeExchange, victims: list[tuple[str, str, str]], seconds: float
) -> tuple[dict[str, datetime], float, float]:
    """Steady ticks, and between them those that make one plan due: returns the time of each, the share of a core, wall
    seconds.

    The share is the whole process's, so it includes making the ticks.
    """
    streams = {symbol: stream for stream in exchange.market_streams for symbol in stream.symbols}
    ticked: dict[str, datetime] = {}
    started, used = time.perf_counter(), time.process_time()
    total, made, due = int(seconds * TICKS_PER_SECOND), 0, 0
    while made < total:
        elapsed = time.perf_counter() - started
        while made < min(total, elapsed * TICKS_PER_SECOND):
            symbol = SYMBOLS[made % len(SYMBOLS)]
            streams[symbol].push(ticker(symbol, Decimal(9995 + made % 11) / 100))
            made += 1
        if due < len(victims) and elapsed * len(victims) / seconds >= due:
            symbol, dip, key = victims[due]
            ticked[key] = datetime.now(UTC)
            streams[symbol].push(ticker(symbol, dip))
            due += 1
        await asyncio.sleep(0.002)
    wall = time.perf_counter() - started
    return ticked, (time.process_time() - used) / wall, wall


async def _delay(client: Client, entry_key: str, ticked: datetime) -> float:
    """Milliseconds from the tick to the first signal in the monitor's history."""
    async for event in client.get_workflow_handle(exit_workflow_id(entry_key)).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            return (event.event_time.ToDatetime(UTC) - ticked).total_seconds() * 1000
    raise AssertionError(f"exit-{entry_key} was not signalled")


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def _true(value: object) -> bool:
    return bool(value)


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[Pool, Client]]:
    """A migrated database and a Temporal server that end with the block."""
    with tempfile.TemporaryDirectory(prefix="bt-bench-", ignore_cleanup_errors=True) as folder:
        postgres = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        server = DevServer(
            DevServerConfig(
                program=await temporal_binary.ensure_async(),
                log=Path(folder) / "temporal.log",
                database=Path(folder) / "temporal.db",
                ui=False,
            )
        )
        stops: list[Callable[[], Awaitable[None]]] = [postgres.stop, server.stop]
        try:
            await postgres.start()
            await postgres.create_database("bench")
            await migrate.upgrade(postgres.dsn("bench"))
            await server.start()
            client = await Client.connect(server.address, data_converter=pydantic_data_converter)
            pool = await create_pool(postgres.dsn("bench"))
            stops.insert(0, pool.close)
            yield pool, client
        finally:
            for stop in stops:
                await stop()


def main() -> None:
    """Print the rows."""
    for row in asyncio.run(run()):
        figures = ", ".join(f"{key} {row[key]}" for key in ("floor", "ours", "p50", "p99", "max") if key in row)
        print(f"{row['what']}: {figures} {row['unit']} (aim {row['aim']}) {'ok' if row['ok'] else 'NOT MET'}")


if __name__ == "__main__":
    main()
