"""The API: pages deep in long lists, the delay of a fill on an open page, and the cost of five open pages.

The lists are in their own PostgreSQL with 200,000 ended orders. For the rest the worker and the API have their own
processes, and a page is its event stream, which this process holds open; a browser's drawing is not measured here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import httpx
import psutil

from activities.database import Pool, create_pool
from bench.rig import CALM, CRASH, SYMBOLS, Rig, open_rig
from bench.rows import Row, percentile
from domain.exits import ExitRules
from schema import migrate
from tests.support.generated_ledger import write_ledger
from web.views import Row as LedgerRow
from web.views.changes import SeenChanges, changes_since
from web.views.lists import Place, described_order_line, described_trade_line, ended_orders, trades_of
from web.views.standing import read_standing
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig
from workers.stack.processes import Child, Command, free_port, python_environment, python_module

__all__ = ["web"]

Say = Callable[[str], None]
_ACCOUNT = "main"
_PAGES = 5
_PAGE_ROWS = 100
_PATIENCE = 30.0
_DEEP_MS, _CPU_PERCENT, _FILL_SECONDS, _NO_SLOWER = 5.0, 1.0, 2.0, 0.95
_LANES = 20
_OPEN_TRADES, _SUMS_MS = 2500, 50.0
_NEW_PRICES = """
INSERT INTO market_prices (account, symbol, price, bid, ask, at)
SELECT $1, symbol, $3::numeric, $3::numeric, $3::numeric + 0.01, now() FROM unnest($2::text[]) AS symbol
ON CONFLICT (account, symbol) DO UPDATE
   SET price = excluded.price, bid = excluded.bid, ask = excluded.ask, at = excluded.at
"""


_OPEN_ORDERS = """
INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point, trigger, intent,
                    intent_digest, state, finished, filled_size, filled_value, finished_at)
SELECT md5('open-' || n), $1, ($2::text[])[1 + n % cardinality($2::text[])], 'BUY', 'ENTRY', md5('open-' || n),
       'MARKET', 'manual', 'bench', 'manual', '{}', '', 'FILLED', true, 1, 100, now()
  FROM generate_series(1, $3::int) AS n
"""
_TRADES_OF_THEM = """
WITH made AS (
    INSERT INTO trades (entry_key, account, symbol, state, bought_size, bought_value, entry_final, rules)
    SELECT order_key, account, symbol, 'PROTECTED', 1, 100, true, $2::jsonb FROM orders
     WHERE account = $1 AND entry_point = 'bench' RETURNING *)
INSERT INTO exit_plans (entry_key, account, symbol, state, rules, entry_price, quantity)
SELECT entry_key, account, symbol, 'ARMED', rules, 100, 1 FROM made
"""


async def web(say: Say, *, quick: bool) -> list[Row]:
    """All rows."""
    rows = await _deep_pages(say, 10_000 if quick else 100_000, 50 if quick else 300)
    async with open_rig() as rig, rig.worker_process(), _api(rig) as api:
        rows.append(await _fills(say, rig, api, 10 if quick else 60))
        rows.append(await _trading_beside(say, rig, api, 4.0 if quick else 15.0))
        rows.append(await _cost(say, rig, api, 5.0 if quick else 30.0))
    return rows


# --- lists ------------------------------------------------------------------------------------------------------------


async def _deep_pages(say: Say, trades: int, samples: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bottrader-bench-") as folder:
        server = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        await server.start()
        try:
            await server.create_database("bench")
            dsn = server.dsn("bench")
            await migrate.upgrade(dsn)
            say(f"a ledger of {trades:,} closed trades, {2 * trades:,} ended orders")
            await write_ledger(dsn, trades)
            pool = await create_pool(dsn, size=2)
            try:
                # As the server itself does within a minute; rows that nobody has read yet cost a write of their page.
                await pool.execute("VACUUM (ANALYZE)", timeout=600)
                return [
                    await _paged(
                        pool,
                        "executed orders",
                        "orders",
                        "finished_at",
                        "order_key",
                        _orders,
                        described_order_line,
                        samples,
                    ),
                    await _paged(pool, "closed trades", "trades", "closed_at", "entry_key", _trades, _trade, samples),
                    *await _sums(say, pool, _OPEN_TRADES, max(samples // 3, 20)),
                ]
            finally:
                await pool.close()
        finally:
            await server.stop()


async def _orders(pool: Pool, after: Place | None) -> list[LedgerRow]:
    return await ended_orders(pool, _ACCOUNT, after=after, limit=_PAGE_ROWS)


async def _trades(pool: Pool, after: Place | None) -> list[LedgerRow]:
    return await trades_of(pool, _ACCOUNT, closed=True, after=after, limit=_PAGE_ROWS)


def _trade(row: LedgerRow) -> object:
    return described_trade_line(row, ())


async def _paged(
    pool: Pool,
    what: str,
    table: str,
    at: str,
    key: str,
    read: Callable[[Pool, Place | None], Awaitable[list[LedgerRow]]],
    describe: Callable[[LedgerRow], object],
    samples: int,
) -> Row:
    """Pages at places anywhere in the list's deeper half, each compared with the first page."""
    places = await pool.fetch(
        f"SELECT {at} AS at, {key} AS key FROM {table} WHERE account = $1 ORDER BY 1, 2 "  # noqa: S608 - our own names
        f"LIMIT (SELECT count(*) / 2 FROM {table})",
        _ACCOUNT,
    )
    dice = random.Random(1)
    deep, first, described = [], [], []
    for number in range(samples + 10):
        place = places[dice.randrange(_PAGE_ROWS, len(places))]
        began = time.perf_counter()
        rows = await read(pool, Place(place["at"], place["key"]))
        took = time.perf_counter() - began
        assert len(rows) == _PAGE_ROWS
        began = time.perf_counter()
        assert len([describe(row) for row in rows]) == _PAGE_ROWS
        making = time.perf_counter() - began
        began = time.perf_counter()
        assert len(await read(pool, None)) == _PAGE_ROWS
        if number >= 10:  # the first ones of a connection are planned again
            deep.append(took)
            described.append(making)
            first.append(time.perf_counter() - began)
    p50 = statistics.median(deep) * 1e3
    return Row(
        what=f"a page of {_PAGE_ROWS} {what}, deep in {2 * len(places):,}",
        unit="ms",
        p50=p50,
        p99=percentile(deep, 99) * 1e3,
        floor=statistics.median(first) * 1e3,
        ratio=statistics.median(deep) / statistics.median(first),
        aim=f"p50 <= {_DEEP_MS:g} ms",
        ok=p50 <= _DEEP_MS,
        note=f"{len(deep)} samples; the floor is the first page; its rows for people take "
        f"{statistics.median(described) * 1e3:.1f} ms more",
    )


async def _sums(say: Say, pool: Pool, trades: int, samples: int) -> list[Row]:
    """What is at risk in many open trades, beside that ledger: from everything, and by a look at what has changed."""
    say(f"{trades:,} open trades on {len(SYMBOLS)} products, whose prices all change between two looks")
    await pool.execute(_OPEN_ORDERS, _ACCOUNT, list(SYMBOLS), trades)
    rules = ExitRules().model_dump(mode="json")
    await pool.execute(_TRADES_OF_THEM, _ACCOUNT, rules)
    await pool.execute("ANALYZE orders, trades, exit_plans, market_prices")
    seen, whole, looks, cpu = SeenChanges(), [], [], []
    for number in range(samples + 1):
        await pool.execute(_NEW_PRICES, _ACCOUNT, list(SYMBOLS), CALM + Decimal(number % 90) / 100)
        began = time.perf_counter()
        standing = await read_standing(pool, _ACCOUNT, [], _nothing_alone)
        took = time.perf_counter() - began
        began, used = time.perf_counter(), time.process_time()
        found = await changes_since(pool, _ACCOUNT, seen, _nothing_alone, count=False)
        look, used = time.perf_counter() - began, time.process_time() - used
        assert found.summary["risks"] == standing["risks"]
        assert found.summary["counts"]["open_trades"] == trades
        if number:  # the first look reads everything
            assert len(found.prices) == len(SYMBOLS)
            whole.append(took)
            looks.append(look)
            cpu.append(used)
    return [
        Row(
            what=f"what is at risk in {trades:,} open trades, {what}",
            unit="ms",
            p50=statistics.median(times) * 1e3,
            p99=percentile(times, 99) * 1e3,
            aim=f"p50 <= {_SUMS_MS:g} ms",
            ok=statistics.median(times) * 1e3 <= _SUMS_MS,
            note=note,
        )
        for what, times, note in (
            ("from everything (the summary)", whole, f"{len(whole)} samples, with counts and all else of the summary"),
            (
                "by a stream's look",
                looks,
                f"{len(looks)} samples; {statistics.median(cpu) * 1e3:.1f} ms of them our own processor time",
            ),
        )
    ]


async def _nothing_alone(symbols: Collection[str]) -> Collection[str]:
    assert symbols
    return ()


# --- five pages during trading ----------------------------------------------------------------------------------------


@dataclass
class _Page:
    """An open page: when it first got each trade (wall seconds), and how many events it got."""

    heard: dict[str, float] = field(default_factory=dict)
    events: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, http: httpx.AsyncClient) -> None:
        """Read until cancelled."""
        async with http.stream("GET", "/api/stream") as answer:
            assert answer.status_code == 200, answer.status_code
            topic = ""
            async for line in answer.aiter_lines():
                name, _, text = line.partition(": ")
                if name == "event":
                    topic = text
                    self.events += 1
                    self.ready.set()
                elif name == "data" and topic == "trades":
                    now = time.time()
                    for row in json.loads(text)["changed"]:
                        self.heard.setdefault(row["entry_key"], now)


@dataclass
class _Api:
    """The API as a process."""

    process: psutil.Process
    base: str
    token: str

    @contextlib.asynccontextmanager
    async def pages(self) -> AsyncIterator[list[_Page]]:
        """Five pages, each on its own connection."""
        headers = {"Authorization": f"Bearer {self.token}"}
        found = [_Page() for _ in range(_PAGES)]
        async with contextlib.AsyncExitStack() as stack:
            reading = []
            for page in found:
                http = httpx.AsyncClient(base_url=self.base, headers=headers, timeout=_PATIENCE, trust_env=False)
                await stack.enter_async_context(http)
                reading.append(asyncio.create_task(page.read(http)))
            try:
                async with asyncio.timeout(_PATIENCE):
                    await asyncio.gather(*(page.ready.wait() for page in found))
                yield found
                assert not any(task.done() for task in reading), "a page's stream has ended"
            finally:
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextlib.asynccontextmanager
async def _api(rig: Rig) -> AsyncIterator[_Api]:
    token, port = secrets.token_hex(24), free_port()
    given = {**rig.stack.environment, "BOTTRADER_API__PROGRAMS__BENCH__TOKEN": token}
    child = await Child.start(
        Command(
            name="the API",
            argv=python_module("cli.main", "api", "serve", "--port", str(port)),
            log=rig.stack.data / "logs" / "api.log",
            env=python_environment(given),
        )
    )
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=base, timeout=_PATIENCE, trust_env=False) as http:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    assert child.running, child.log_tail()
                    with contextlib.suppress(httpx.TransportError):
                        if (await http.get("/health")).status_code == 200:
                            break
                    await asyncio.sleep(0.1)
        yield _Api(psutil.Process(child.pid), base, token)
    finally:
        await child.stop()


async def _fills(say: Say, rig: Rig, api: _Api, rounds: int) -> Row:
    """From the fill at the exchange until the slowest of five pages has the trade."""
    say(f"{rounds} fills, until each is on {_PAGES} pages")
    waits = []
    await rig.prices(SYMBOLS, CALM)
    async with api.pages() as pages:
        for number in range(rounds):
            symbol = SYMBOLS[number % len(SYMBOLS)]
            trade = await rig.open(symbol)
            filled = await rig.database.fetchval(
                "SELECT extract(epoch FROM min(at)) FROM fills WHERE order_key = $1", trade.entry_key
            )
            async with asyncio.timeout(_PATIENCE):
                while True:
                    if all(trade.entry_key in page.heard for page in pages):
                        break
                    await asyncio.sleep(0.01)
            waits.append(max(page.heard[trade.entry_key] for page in pages) - float(filled))
            await rig.price(symbol, CRASH)
            await rig.result(trade)
            await rig.price(symbol, CALM)
    p99 = percentile(waits, 99)
    return Row(
        what=f"a fill at the exchange → on the slowest of {_PAGES} pages",
        unit="ms",
        p50=statistics.median(waits) * 1e3,
        p99=p99 * 1e3,
        aim=f"p99 <= {_FILL_SECONDS:g} s",
        ok=p99 <= _FILL_SECONDS,
        note=f"{len(waits)} samples; the ledger is read once a second",
    )


async def _trading_beside(say: Say, rig: Rig, api: _Api, seconds: float) -> Row:
    """Round trips a second with and without pages, alternately, so that other load on the machine affects both."""
    say(f"round trips with {_LANES} in flight, with and without {_PAGES} pages, {seconds:.0f} s each")
    rates: dict[bool, list[float]] = {False: [], True: []}
    for watched in (False, True, True, False, False, True):
        async with contextlib.AsyncExitStack() as stack:
            if watched:
                await stack.enter_async_context(api.pages())
            rates[watched].append(await _rate(rig, seconds))
    ours, floor = statistics.mean(rates[True]), statistics.mean(rates[False])
    return Row(
        what=f"round-trip trades a second beside {_PAGES} pages",
        unit="1/s",
        p50=ours,
        floor=floor,
        ratio=ours / floor,
        aim=f">= {_NO_SLOWER:g} x",
        ok=ours >= _NO_SLOWER * floor,
        note=", ".join(f"{name} {[round(rate, 2) for rate in rates[key]]}" for name, key in _NAMES),
    )


_NAMES = (("with", True), ("without", False))


async def _rate(rig: Rig, seconds: float) -> float:
    began, count = time.perf_counter(), 0

    async def lane(symbol: str) -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            trade = await rig.open(symbol)
            await rig.price(symbol, CRASH)
            await rig.result(trade)
            await rig.price(symbol, CALM)
            count += 1

    await asyncio.gather(*(lane(symbol) for symbol in SYMBOLS[:_LANES]))
    return count / (time.perf_counter() - began)


async def _cost(say: Say, rig: Rig, api: _Api, seconds: float) -> Row:
    """The API's processor time while five pages show 50 open trades, whose prices all change each second."""
    await rig.prices(SYMBOLS, CALM)
    trades = await rig.open_many(len(SYMBOLS), at_once=10)
    say(f"{_PAGES} pages with {len(trades)} open trades for {seconds:.0f} s")
    async with api.pages() as pages:
        await _ticks(rig, 3.0)  # the first reads are complete ones
        before: tuple[float, float, int] = (api.cpu(), time.perf_counter(), sum(page.events for page in pages))
        await _ticks(rig, seconds)
        used, took = api.cpu() - before[0], time.perf_counter() - before[1]
        events = sum(page.events for page in pages) - before[2]
    percent = used / took * 100
    return Row(
        what=f"the API's processor time with {_PAGES} pages",
        unit="% of a core",
        p50=percent,
        aim=f"<= {_CPU_PERCENT:g} %",
        ok=percent <= _CPU_PERCENT,
        note=f"{len(trades)} open trades, all prices change each second; {events / took:.0f} events/s",
    )


async def _ticks(rig: Rig, seconds: float) -> None:
    """New prices of all symbols in the ledger, where the API reads them, each second."""
    until, count = time.monotonic() + seconds, 0
    while (left := until - time.monotonic()) > 0:
        count += 1
        await rig.database.execute(_NEW_PRICES, _ACCOUNT, list(SYMBOLS), CALM + Decimal(count % 90) / 100)
        await asyncio.sleep(min(1.0, left))
