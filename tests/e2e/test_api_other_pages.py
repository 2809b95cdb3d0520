"""A real browser that is logged in to the API and opens other pages: from another port, another origin, or under a
rebound name they can read nothing and do nothing.

Needs Chromium (`apt-get install chromium`, or any other Chrome on PATH).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import web
from fastapi import APIRouter
from playwright.async_api import BrowserContext, Page, Route, async_playwright

from tests.support.api import Api, api_on

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

# Everything that an informed page sends with the browser's cookies; returns the readable parts of the answers.
_ATTACK = """
async ({base, csrf}) => {
  const read = [];
  const ask = async (method, path, how) => {
    try {
      const answer = await fetch(base + path, {method, credentials: 'include', ...how});
      if (answer.type !== 'opaque' && answer.ok) read.push(`${method} ${path}`);
    } catch (error) { /* refused, or not to be read */ }
  };
  const body = JSON.stringify({note: 'x'});
  const json = {'Content-Type': 'application/json', 'X-CSRF': csrf, 'Idempotency-Key': 'of-a-strange-page'};
  for (const mode of ['no-cors', 'cors']) {
    for (const path of ['/api/session', '/api/probe', '/api/session/check', '/api/openapi.json', '/']) {
      await ask('GET', path, {mode});
    }
    await ask('POST', '/api/probe', {mode, body, headers: {'Content-Type': 'text/plain'}});
    await ask('POST', '/api/logout', {mode, body, headers: {'Content-Type': 'text/plain'}});
    if (mode === 'cors') await ask('POST', '/api/probe', {mode, body, headers: json});
  }
  const framed = (make) => new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.name = 'strange';
    document.body.append(frame);
    frame.onload = () => done(frame);  // not that of the empty frame
    make(frame);
    setTimeout(() => done(frame), 10000);
  });
  for (const kind of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
    const frame = await framed(() => {
      const form = document.createElement('form');
      Object.assign(form, {method: 'POST', action: base + '/api/probe', enctype: kind, target: 'strange'});
      const input = document.createElement('input');
      Object.assign(input, {name: '{"note": "', value: '"}'});
      form.append(input);
      document.body.append(form);
      form.submit();
    });
    frame.remove();
  }
  const frame = await framed((made) => { made.src = base + '/api/session'; });
  try { if (frame.contentDocument.body.innerText.includes('csrf')) read.push('frame'); } catch (error) { /* foreign */ }
  frame.remove();
  return read;
}
"""


@dataclass(frozen=True)
class Unguarded:
    """A server that accepts every request: evidence that the pages' requests reach a port, and with which cookie."""

    port: int
    came: list[tuple[str, str]]


@contextlib.asynccontextmanager
async def unguarded() -> AsyncIterator[Unguarded]:
    """One on a free port, which notes the method and the cookie of each request."""
    came: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        came.append((request.method, request.headers.get("Cookie", "")))
        return web.Response(text="<title>another port</title>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Unguarded(runner.addresses[0][1], came)
    finally:
        await runner.cleanup()


@dataclass
class LoggedIn:
    """A browser whose owner is logged in, and the actions done by the API."""

    api: Api
    context: BrowserContext
    own: Page
    acted: list[str]

    async def page_at(self, address: str) -> Page:
        """A page of another site."""
        page = await self.context.new_page()

        async def serve(route: Route) -> None:
            await route.fulfill(body="<title>a page</title><body></body>", content_type="text/html")

        await page.route(address, serve)
        await page.goto(address)
        await page.unroute(address)
        return page


@pytest_asyncio.fixture
async def logged_in() -> AsyncIterator[LoggedIn]:
    """One on an API with an address that reads and one that acts."""
    acted: list[str] = []
    router = APIRouter()

    @router.get("/api/probe")
    async def probe() -> dict[str, bool]:
        return {"read": True}

    @router.post("/api/probe")
    async def act() -> dict[str, bool]:
        acted.append("done")
        return {"done": True}

    async with api_on(routers=[router]) as api, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            chromium_sandbox=os.geteuid() != 0,
            args=[
                "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                # Not every browser has Chromium's own protection of local addresses, and its users can disable it.
                "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            ],
        )
        context = await browser.new_context()
        own = await context.new_page()
        await own.goto(f"{api.origin}/login?token={api.link.token}", timeout=120_000)
        yield LoggedIn(api, context, own, acted)
        await browser.close()


_OWN = """
async () => {
  const session = await (await fetch('/api/session')).json();
  const headers = {'Content-Type': 'application/json', 'X-CSRF': session.csrf};
  const answer = await fetch('/api/probe', {method: 'POST', headers, body: '{}'});
  return [answer.status, session.csrf];
}
"""


async def test_other_pages_read_nothing_and_get_nothing_done(logged_in: LoggedIn) -> None:
    """With the session's cookie in the browser, and even with its X-CSRF: a page on another port, of another origin or
    under a rebound name is refused for any request, a form too; the owner's page works before and after.
    """
    status, csrf = await logged_in.own.evaluate(_OWN)
    assert (status, logged_in.acted) == (200, ["done"])
    port, cookie = logged_in.api.port, f"__Host-bottrader-{logged_in.api.port}="
    async with unguarded() as other:
        for address, name, same_site in (
            ("http://127.0.0.1:4000/", "127.0.0.1", True),
            ("http://evil.test:4000/", "127.0.0.1", False),
            (f"http://evil.test:{port}/strange-page", "evil.test", False),
        ):
            page = await logged_in.page_at(address)
            assert await page.evaluate(_ATTACK, {"base": f"http://{name}:{port}", "csrf": csrf}) == [], address
            assert logged_in.acted == ["done"], address
            other.came.clear()
            await page.evaluate(_ATTACK, {"base": f"http://{name}:{other.port}", "csrf": csrf})
            posts = [sent for method, sent in other.came if method == "POST"]
            assert len(posts) >= 7, "the requests do reach a port that lets everybody in"
            assert any(cookie in sent for sent in posts) is same_site, address
            await page.close()
    status, _ = await logged_in.own.evaluate(_OWN)
    assert (status, logged_in.acted) == (200, ["done", "done"])


async def test_the_session_is_known_on_another_port_of_this_machine(logged_in: LoggedIn) -> None:
    """The browser sends the page's cookie to every port of its host, so the gate of Temporal's Web UI knows who is
    logged in; no script there can read it.
    """
    async with unguarded() as other:
        page = await logged_in.context.new_page()
        await page.goto(f"http://127.0.0.1:{other.port}/")
        assert await page.evaluate("document.cookie") == ""
        assert f"__Host-bottrader-{logged_in.api.port}=" in other.came[0][1]
