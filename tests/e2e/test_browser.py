"""A real browser beside a running stack: other sites' pages can do nothing on any port, the owner's page works.

Needs Chromium (`apt-get install chromium`, or any other Chrome on PATH).
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, Route, async_playwright
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from domain.visibility import VIEWS
from tests.support.waiting import eventually
from workers.stack.local_stack import LocalStack, LocalStackConfig

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

# Everything that an informed page sends to a base address; it returns the readable parts of the answers.
_ATTACK = """
async ({base, namespace, workflow, mode}) => {
  const read = [];
  const ask = async (method, path, body, headers) => {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), 3000);
    try {
      const how = {method, body, headers, mode, credentials: 'include', signal: abort.signal};
      const answer = await fetch(base + path, how);
      if (answer.ok && (answer.headers.get('content-type') || '').includes('json')) read.push(`${method} ${path}`);
    } catch (error) { /* refused, or not to be read */ }
    clearTimeout(timer);
  };
  await ask('GET', '/');
  const token = (document.cookie.match(/_csrf=([^;]*)/) || [])[1] || 'none';
  const rich = {'Content-Type': 'application/json', 'X-CSRF-Token': token, 'Authorization': 'Bearer x'};
  const plain = {'Content-Type': 'text/plain'};
  const start = JSON.stringify({workflowType: {name: 'Nothing'}, taskQueue: {name: 'nobody'}, identity: 'stranger'});
  const waiting = [];
  for (const headers of mode === 'no-cors' ? [plain] : [plain, rich]) {
    for (const prefix of ['/api/v1', '', '/api/api/v1', '//api/v1']) {
      const one = `${prefix}/namespaces/${namespace}/workflows/${workflow}`;
      waiting.push(ask('GET', `${prefix}/namespaces`, undefined, headers));
      waiting.push(ask('POST', `${prefix}/namespaces/${namespace}/workflows/strange-${Math.random()}`, start, headers));
      for (const what of ['cancel', 'terminate', 'signal/close', 'update/cancel']) {
        waiting.push(ask('POST', `${one}/${what}`, '{}', headers));
      }
    }
    for (const path of ['/webhook', '/price', '/fill', '/nexus/endpoints/x/services/y/z', '/settings']) {
      waiting.push(ask('POST', path, '{"key": "x", "symbol": "BTC-USD", "action": "buy"}', headers));
    }
  }
  await Promise.all(waiting);
  return read;
}
"""


@dataclass(frozen=True)
class Door:
    """Our own server without any checks, which records method, Host and path: pages do reach ports."""

    port: int
    came: list[tuple[str, str, str]]

    def passed(self, host: str) -> bool:
        """Whether a request to end the workflow arrived, for this Host; clears the record."""
        passed = any(method == "POST" and to == host and path.endswith("/terminate") for method, to, path in self.came)
        self.came.clear()
        return passed


@contextlib.asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    """One on a free port."""
    came: list[tuple[str, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        came.append((request.method, request.host, request.path))
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Door(runner.addresses[0][1], came)
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Beside:
    """A stack, a client of its Temporal, a workflow that runs in it, and a browser."""

    stack: LocalStack
    client: Client
    handle: WorkflowHandle[Any, Any]
    browser: Browser
    door: "Door"

    @property
    def ports(self) -> list[int]:
        """Every TCP port on which the stack listens: its children's, and the Web UI's gate in ours."""
        found = set()
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # the browser's ports change
                found |= {
                    connection.laddr.port
                    for connection in child.net_connections("tcp")
                    if connection.status == psutil.CONN_LISTEN
                }
        assert self.stack.ui_url is not None
        return sorted({*found, int(self.stack.ui_url.rsplit(":", 1)[1])})

    async def page_at(self, address: str) -> Page:
        """A page of another site, whose name resolves to this machine: its later requests are really sent."""
        page = await self.browser.new_page()

        async def serve(route: Route) -> None:
            await route.fulfill(body="<title>a page</title>", content_type="text/html")

        await page.route(address, serve)
        await page.goto(address)
        await page.unroute(address)
        return page

    async def attack(self, page: Page, base: str, mode: str) -> list[str]:
        """Send everything to `base` from the page."""
        told = {"base": base, "namespace": "default", "workflow": self.handle.id, "mode": mode}
        read: list[str] = await page.evaluate(_ATTACK, told)
        return read

    async def state(self) -> tuple[int, int]:
        """How many workflows of this kind there have been, and how many events the running one has."""
        history = await self.handle.fetch_history()
        return (await self.client.count_workflows('WorkflowType="Nothing"')).count, len(history.events)

    async def event(self, kind: "EventType.ValueType") -> bool:
        """Whether the workflow's history has an event of this kind."""
        return any(event.event_type == kind for event in (await self.handle.fetch_history()).events)


@pytest_asyncio.fixture(scope="module")
async def beside() -> AsyncIterator[Beside]:
    """A whole paper stack with its webhook, and one browser, for the module."""
    async with (
        LocalStack(LocalStackConfig(paper_arguments=["--step"], web=True)) as stack,
        async_playwright() as playwright,
    ):
        client = await Client.connect(stack.temporal_address)
        handle = await client.start_workflow("Nothing", id=f"kept-{uuid.uuid4()}-T00:00:00Z", task_queue="nobody")

        async def listed() -> bool:
            return (await client.count_workflows('WorkflowType="Nothing"')).count == 1

        await eventually(listed, what="the workflow in the list")
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            chromium_sandbox=os.geteuid() != 0,
            args=[
                "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                # Not every browser has Chromium's own protection of local addresses, and its users can disable it.
                "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            ],
        )
        async with open_door() as door:
            yield Beside(stack, client, handle, browser, door)
        await browser.close()


async def test_a_page_of_another_origin_gets_nothing_done_on_any_port(beside: Beside) -> None:
    """From another site or from another port of this machine: nothing is started, signalled, cancelled or ended."""
    before = await beside.state()
    ports = beside.ports
    assert len(ports) >= 8
    for origin in ("http://evil.test:4000/", "http://127.0.0.1:4000/"):
        page = await beside.page_at(origin)
        for port in ports:
            assert await beside.attack(page, f"http://127.0.0.1:{port}", "no-cors") == []
            assert await beside.attack(page, f"http://127.0.0.1:{port}", "cors") == []
        await beside.attack(page, f"http://127.0.0.1:{beside.door.port}", "no-cors")
        assert beside.door.passed(f"127.0.0.1:{beside.door.port}")
        await page.close()
    assert await beside.state() == before


async def test_a_page_under_a_rebound_name_gets_nothing_done_on_any_port(beside: Beside) -> None:
    """A page with the port's own origin, because its name now resolves there, reads and changes nothing either."""
    before = await beside.state()
    for port in beside.ports:
        page = await beside.page_at(f"http://evil.test:{port}/strange-page")
        assert await beside.attack(page, f"http://evil.test:{port}", "same-origin") == []
        await page.close()
    page = await beside.page_at(f"http://evil.test:{beside.door.port}/strange-page")
    await beside.attack(page, f"http://evil.test:{beside.door.port}", "same-origin")
    assert beside.door.passed(f"evil.test:{beside.door.port}")
    await page.close()
    assert await beside.state() == before


async def test_the_list_shows_trades_and_keeps_the_columns_that_somebody_chose(beside: Beside) -> None:
    """A new browser has a trader's columns and saved views; columns chosen by hand and a view's deletion are kept."""
    context = await beside.browser.new_context(viewport={"width": 1440, "height": 800})
    page = await context.new_page()
    await page.goto(beside.stack.ui_views["Open trades"])
    for name in ("Symbol", "Side", "TradeTrigger", "TradeStatus", "ExitReason"):
        await page.get_by_role("columnheader", name=name, exact=True).wait_for(timeout=60_000)
    for name in VIEWS:
        await page.get_by_role("button", name=name).wait_for(timeout=30_000)
    assert parse_qs(urlsplit(page.url).query) == {"query": [VIEWS["Open trades"]]}
    await page.evaluate(
        """() => {
          const columns = JSON.stringify({default: [{label: 'Type'}, {label: 'Workflow ID'}]});
          localStorage.setItem('namespace-workflow-table-columns', columns);
          localStorage.setItem('saved-workflow-queries', JSON.stringify({default: []}));
        }"""
    )
    await page.goto(f"{beside.stack.ui_url}/namespaces/default/workflows")
    await page.get_by_text(beside.handle.id).first.wait_for(timeout=60_000)
    assert await page.get_by_role("columnheader", name="Type", exact=True).count() == 1
    assert await page.get_by_role("columnheader", name="TradeStatus").count() == 0
    assert await page.get_by_role("button", name="Open trades").count() == 0
    await context.close()


async def test_the_owners_page_shows_signals_and_cancels(beside: Beside) -> None:
    """In the same browser the Web UI loads through its gate, without an error, and its buttons work; the other pages'
    requests, sent from it, have their effect.
    """
    page, errors = await beside.browser.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{beside.stack.ui_url}/namespaces/default/workflows/{quote(beside.handle.id, safe='')}")
    await page.get_by_text(beside.handle.id).first.wait_for(timeout=60_000)
    await page.get_by_role("button", name="Request Cancellation").click(timeout=30_000)
    await page.get_by_role("dialog").get_by_role("button", name="Confirm").click(timeout=30_000)
    await eventually(
        lambda: beside.event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED), what="the cancellation"
    )
    assert beside.stack.ui_url is not None
    read = await beside.attack(page, beside.stack.ui_url, "same-origin")
    assert any("/terminate" in line for line in read), json.dumps(read)
    assert await beside.event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
    assert errors == []
    await page.close()
