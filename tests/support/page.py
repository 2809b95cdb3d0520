"""The page in a real browser beside a running system, for tests.

    async with page_desk(database, temporal_server.address) as desk:
        seen = await desk.open()
        await seen.page.get_by_role(...)

Needs Chromium (`apt-get install chromium`, or any other Chrome on PATH) and the page's libraries; without them the
tests are skipped and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from fastapi import APIRouter
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright

from cli.api_hands import hands_of
from cli.api_sources import sources_of
from tests.support.api import PASSWORD, VIEWER, Api, api_on
from tests.support.harness import TradingSystem, trading_system
from tests.support.waiting import SLACK
from web.api.actions import Hands, action_routes
from web.api.page import page_routes, read_page
from web.api.reads import read_routes
from web.api.sessions import Sessions
from web.api.stream import Streams, stream_routes
from workers.errors import UnreachableError
from workers.stack import page_libraries

__all__ = ["CHROMIUM", "NEEDS_BROWSER", "PageDesk", "SeenPage", "browser", "page_desk", "page_of_libraries"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
_WITHIN_MS = 15_000.0 * SLACK


@dataclass
class SeenPage:
    """A page in the browser, with its console messages and the hosts that it requested."""

    page: Page
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def row(self, key: str) -> Locator:
        """The row of an order or trade."""
        return self.page.locator(f'.line[data-key="{key}"]')

    def cell(self, key: str, column: str) -> Locator:
        """A cell of such a row."""
        return self.row(key).locator(f'[data-column="{column}"]')

    async def keys(self) -> list[str]:
        """Keys of the drawn rows, from the top."""
        found: list[str] = await self.page.locator(".body .line").evaluate_all(
            """lines => lines
                .map(line => [line.getBoundingClientRect().top, line.dataset.key])
                .sort((a, b) => a[0] - b[0])
                .map(pair => pair[1])"""
        )
        return found

    async def tab(self, name: str) -> None:
        """Go to a tab."""
        await self.page.get_by_role("navigation", name="Tabs").get_by_role("button", name=name).click()

    async def confirm(self, button: str, *, word: str | None = None) -> None:
        """Type the required word, press the dialog's button, and wait until the dialog is closed."""
        dialog = self.page.get_by_role("dialog")
        if word is not None:
            await dialog.locator('input[name="confirm"]').fill(word)
        await dialog.get_by_role("button", name=button, exact=True).click()
        await dialog.wait_for(state="detached")

    def assert_clean(self) -> None:
        """The console is empty, and no other host was requested."""
        assert self.complaints == []
        assert self.hosts == {"127.0.0.1"}


@dataclass
class PageDesk:
    """A system, its API with the page, and a browser."""

    system: TradingSystem
    api: Api
    streams: Streams
    browser: Browser

    async def open(
        self,
        *,
        user: str | None = None,
        path: str = "",
        width: int = 1400,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
        logged_in: bool = True,
    ) -> SeenPage:
        """The page in its own browser context: logged in by the link as the owner, or as `user` by password."""
        context = await self.browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(_WITHIN_MS)
        page = await context.new_page()
        seen = SeenPage(page, context)
        # Without a log-in the answer is 401, which browsers report in the console.
        page.on("console", lambda told: seen.complaints.append(told.text) if "401" not in told.text else None)
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).hostname or request.url))
        if not logged_in:
            await page.goto(f"{self.api.origin}/{path}")
        elif user is None:
            await page.goto(f"{self.api.origin}/login?token={self.api.link.token}")
            await page.locator(".shell").wait_for()
            if path:
                await page.goto(f"{self.api.origin}/{path}")
        else:
            await page.goto(f"{self.api.origin}/{path}")
            await page.get_by_label("User").fill(user)
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Log in").click()
        if logged_in:
            await page.locator(".shell").wait_for()
        return seen

    @contextlib.asynccontextmanager
    async def also(self, hands: Hands, *, mode: str) -> AsyncIterator[PageDesk]:
        """The same system with another API, that acts by `hands` and says that this is its mode."""
        sessions, system = Sessions(43_200, 3600), self.system
        sources = sources_of(system.settings, system.pool, lambda: system.parts.live.policy)
        streams = Streams(sources, sessions, look_s=0.25)
        routers = [read_routes(sources), action_routes(hands), stream_routes(streams)]
        page = await page_of_libraries()
        async with api_on(
            routers=routers, sessions=sessions, account=system.account, stop=streams.stop, page=page, mode=mode
        ) as api:
            yield PageDesk(system, api, streams, self.browser)

    async def price(self, bid: str, *, symbol: str = "BTC-USD") -> None:
        """Move the market, and keep the price as the role strategy does, which doesn't run here."""
        await self.system.price(bid, symbol=symbol)
        await self.system.pool.execute(
            """INSERT INTO market_prices AS known (account, symbol, price, bid, ask, change_24h, at)
               VALUES ($1, $2, $3::numeric, $3::numeric, $3::numeric + 1, 0, now())
               ON CONFLICT (account, symbol) DO UPDATE
               SET price = excluded.price, bid = excluded.bid, ask = excluded.ask, at = excluded.at""",
            self.system.account,
            symbol,
            Decimal(bid),
        )

    async def rows(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """All rows of a list of the API."""
        found: list[dict[str, Any]] = []
        async with self.api.program(VIEWER) as viewer:
            cursor: dict[str, str] = {}
            for _ in itertools.count():
                answer = await viewer.get(path, params={"limit": "1000", **parameters, **cursor})
                assert answer.status_code == 200, answer.text
                found += answer.json()["items"]
                if answer.json()["next_cursor"] is None:
                    break
                cursor = {"cursor": answer.json()["next_cursor"]}
        return found


async def page_of_libraries() -> APIRouter:
    """The page's addresses, with its libraries from the cache, or fetched; skips the test if they are not available."""
    try:
        libraries = await asyncio.to_thread(page_libraries.ensure, lambda _: None)
    except UnreachableError as error:
        pytest.skip(error.sentence)
    return page_routes(read_page(libraries), ["link", "password"])


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A headless browser."""
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        try:
            yield found
        finally:
            await found.close()


@contextlib.asynccontextmanager
async def page_desk(database: str, temporal_address: str) -> AsyncIterator[PageDesk]:
    """All of it on one system."""
    async with trading_system(database, temporal_address) as system, browser() as found:
        sessions = Sessions(43_200, 3600)
        sources = sources_of(system.settings, system.pool, lambda: system.parts.live.policy)
        streams = Streams(sources, sessions, look_s=0.25)
        routers = [
            read_routes(sources),
            action_routes(hands_of(system.settings, system.pool, lambda: system.parts.live.policy)),
            stream_routes(streams),
        ]
        page = await page_of_libraries()
        async with api_on(
            routers=routers, sessions=sessions, account=system.account, stop=streams.stop, page=page
        ) as api:
            yield PageDesk(system, api, streams, found)
