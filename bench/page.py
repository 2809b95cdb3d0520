"""The page in a browser: the time until it shows 2,000 open orders, and the cost of keeping them current.

The ledger has its own PostgreSQL, the API is the product's in this process, the browser is the system's Chromium.
200 orders change every second. The load of the page's main thread is measured by the browser's own task counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from playwright.async_api import Browser, Page

from activities.database import Pool, create_pool
from bench.rows import Row, percentile
from cli.api_sources import sources_of
from schema import migrate
from tests.support.api import Api, api_on
from tests.support.ledger_rows import add_order, intent
from tests.support.page import CHROMIUM, browser
from web.api.page import page_routes, read_page
from web.api.reads import read_routes
from web.api.sessions import Sessions
from web.api.stream import Streams, stream_routes
from workers.errors import UnreachableError
from workers.settings import Settings
from workers.settings.values import policy_of
from workers.stack import page_libraries
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

__all__ = ["page"]

_ORDERS = 2_000
_CHANGES = 200
_FIRST_SECONDS, _THREAD_PERCENT = 1.0, 5.0
_WHEN_DRAWN = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('.body .line')) return;
  observer.disconnect();
  requestAnimationFrame(() => { window.firstRows = performance.now(); });
}).observe(document, {childList: true, subtree: true});
"""

_FIRST_ROWS = """
new Promise(done => {
  const look = () => window.firstRows ? done(window.firstRows) : requestAnimationFrame(look);
  look();
})
"""


async def page(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Both rows; none without Chromium or the page's libraries, which is reported."""
    if CHROMIUM is None:
        say("page: not measured, as no Chromium is installed")
        return []
    try:
        libraries = await page_libraries.ensure_async(say)
    except UnreachableError as error:
        say(error.sentence)
        return []
    async with _served(libraries) as (pool, api), browser() as found:
        say(f"{_ORDERS:,} open orders")
        for start in range(0, _ORDERS, 100):
            await asyncio.gather(*(add_order(pool, intent(f"open-{start + number}")) for number in range(100)))
        say("the page's first rows, with nothing in the browser's cache")
        first = await _first_rows(api, found, 3 if quick else 15)
        say(f"its main thread while {_CHANGES} orders change each second")
        return [first, await _kept_current(api, found, pool, 10.0 if quick else 60.0)]


@contextlib.asynccontextmanager
async def _served(libraries: Path) -> AsyncIterator[tuple[Pool, Api]]:
    with tempfile.TemporaryDirectory(prefix="bottrader-bench-") as folder:
        server = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        await server.start()
        try:
            await server.create_database("bench")
            await migrate.upgrade(server.dsn("bench"))
            pool = await create_pool(server.dsn("bench"), size=4)
            settings, sessions = Settings(), Sessions(43_200, 3600)
            sources = sources_of(settings, pool, lambda: policy_of(settings))
            streams = Streams(sources, sessions)
            shown = page_routes(read_page(libraries), ["link"])
            routers = [read_routes(sources), stream_routes(streams)]
            async with api_on(routers=routers, sessions=sessions, stop=streams.stop, page=shown) as api:
                yield pool, api
            await pool.close()
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def _opened(api: Api, found: Browser) -> AsyncIterator[Page]:
    """A page with its first rows, in a browser with an empty cache."""
    context = await found.new_context(viewport={"width": 1400, "height": 900})
    shown = await context.new_page()
    await shown.add_init_script(_WHEN_DRAWN)
    await shown.goto(f"{api.origin}/login?token={api.link.token}")
    await shown.locator(".body .line").first.wait_for()
    try:
        yield shown
    finally:
        await context.close()


async def _first_rows(api: Api, found: Browser, samples: int) -> Row:
    took = []
    for _ in range(samples):
        async with _opened(api, found) as shown:
            took.append(float(await shown.evaluate(_FIRST_ROWS)) / 1e3)
    p50 = percentile(took, 50)
    return Row(
        what=f"page: first rows of {_ORDERS:,} open orders, cold",
        unit="s",
        p50=p50,
        p99=percentile(took, 99),
        aim=f"p50 <= {_FIRST_SECONDS:g} s",
        ok=p50 <= _FIRST_SECONDS,
        note=f"{len(took)} samples, from the start of the navigation",
    )


async def _kept_current(api: Api, found: Browser, pool: Pool, seconds: float) -> Row:
    keys = [row["order_key"] for row in await pool.fetch("SELECT order_key FROM orders ORDER BY received_at DESC")]

    async def change() -> None:
        turn = 0
        while True:
            # The newest are in view, so that some of the drawn rows change each second.
            some = [keys[(turn * _CHANGES // 2 + number) % len(keys)] for number in range(_CHANGES)]
            await pool.execute(
                "UPDATE orders SET limit_price = limit_price + 0.01 WHERE order_key = ANY($1::text[])", some
            )
            turn += 1
            await asyncio.sleep(1)

    async with _opened(api, found) as shown:
        browser_side = await shown.context.new_cdp_session(shown)
        await browser_side.send("Performance.enable")

        async def spent() -> tuple[float, float]:
            answer = await browser_side.send("Performance.getMetrics")
            metrics = {item["name"]: item["value"] for item in answer["metrics"]}
            return time.monotonic(), metrics["TaskDuration"]

        changing = asyncio.create_task(change())
        await asyncio.sleep(3)  # the cost of the start is not measured
        began, before = await spent()
        await asyncio.sleep(seconds)
        ended, after = await spent()
        changing.cancel()
        await browser_side.send("HeapProfiler.collectGarbage")
        heap = float(await shown.evaluate("performance.memory.usedJSHeapSize"))
    percent = 100 * (after - before) / (ended - began)
    return Row(
        what=f"page: main thread, {_CHANGES} of {_ORDERS:,} open orders change each second",
        unit="%",
        p50=percent,
        aim=f"<= {_THREAD_PERCENT:g} %",
        ok=percent <= _THREAD_PERCENT,
        note=f"over {seconds:.0f} s; heap after a collection {heap / 2**20:.1f} MB",
    )
