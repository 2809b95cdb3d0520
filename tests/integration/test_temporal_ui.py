"""Temporal's Web UI and HTTP API on paper: the owner's page works, and everything else is refused."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from yarl import URL

from domain.visibility import VIEWS
from tests.support.api import api_on
from tests.support.waiting import eventually
from workers.errors import UserError
from workers.stack import dev_server, temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.temporal_ui import UiGate, UiGateConfig


@dataclass(frozen=True)
class Shown:
    """A dev server with its Web UI behind the gate."""

    server: DevServer
    gate: UiGate
    client: Client
    http: aiohttp.ClientSession

    async def workflow(self) -> WorkflowHandle[Any, Any]:
        """A running workflow without a worker on its queue."""
        return await self.client.start_workflow("Nothing", id=f"ui-{uuid.uuid4()}", task_queue="nobody")

    async def cancel(self, base: str, handle: WorkflowHandle[Any, Any], **headers: str) -> int:
        """Request its cancellation like the UI. Returns the status."""
        address = f"{base}/api/v1/namespaces/default/workflows/{handle.id}/cancel"
        async with self.http.post(address, headers=headers, data="{}") as answer:
            return answer.status


@pytest_asyncio.fixture(scope="module")
async def shown(servers_folder: Path) -> AsyncIterator[Shown]:
    """One for the module."""
    program = await temporal_binary.ensure_async()
    server = DevServer(DevServerConfig(program=program, log=servers_folder / "temporal-shown.log"))
    await server.start()
    gate = UiGate(UiGateConfig(server.upstream))
    await gate.start()
    async with aiohttp.ClientSession() as http:
        yield Shown(server, gate, await Client.connect(server.address), http)
    await gate.stop()
    await server.stop()


async def asked_to_cancel(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether its history has the request."""
    history = await handle.fetch_history()
    return any(event.HasField("workflow_execution_cancel_requested_event_attributes") for event in history.events)


async def test_the_owners_page_loads_and_acts(shown: Shown) -> None:
    """Files, settings, lists, the page of a workflow's details, and a cancellation pass the gate."""
    base, handle = shown.gate.url, await shown.workflow()
    async with shown.http.get(f"{base}/namespaces/default/workflows") as page:
        text = await page.text()
    script = next(part for part in text.split('"') if part.startswith("/_app/") and part.endswith(".js"))
    async with shown.http.get(base + script) as answer:
        assert (answer.status, "javascript" in answer.content_type) == (200, True)
    async with shown.http.get(f"{base}/api/v1/settings") as answer:
        assert (await answer.json())["DefaultNamespace"] == "default"
    async with shown.http.get(f"{base}/render", params={"content": "a **word**"}) as answer:
        assert "<strong>word</strong>" in await answer.text()

    async def listed() -> bool:
        query = {"query": f"WorkflowId='{handle.id}'"}
        async with shown.http.get(f"{base}/api/v1/namespaces/default/workflows", params=query) as answer:
            return handle.id in await answer.text()

    await eventually(listed, what="the workflow in the list")
    assert await shown.cancel(base, handle, Origin=base) == 200
    assert await asked_to_cancel(handle)


async def test_a_short_address_leads_to_each_list(shown: Shown) -> None:
    """It leads to the UI's own list with the query, which Temporal's API accepts; the UI's page gets our columns before
    its other scripts, a workflow's details get none.
    """
    assert list(shown.gate.views) == list(VIEWS)
    for name, address in shown.gate.views.items():
        async with shown.http.get(address, allow_redirects=False) as answer:
            assert answer.status == 303
            where = urlsplit(answer.headers["Location"])
        assert where.path == "/namespaces/default/workflows"
        assert parse_qs(where.query) == {"query": [VIEWS[name]]}
        async with shown.http.get(f"{shown.gate.url}/api/v1{where.path}?{where.query}") as answer:
            assert answer.status == 200, await answer.text()
        async with shown.http.get(address) as answer:
            page = await answer.text()
        assert page.index("<head><script>") < page.index("<meta")
        assert page.count("TradeTrigger") == 1
    async with shown.http.get(f"{shown.gate.url}/render", params={"content": "text"}) as answer:
        assert "TradeTrigger" not in await answer.text()


async def test_a_history_can_be_downloaded(shown: Shown) -> None:
    """Complete, over its pages, in the form that replays; also for an id that the UI escapes twice."""
    handle = await shown.client.start_workflow("Nothing", id=f"a:{uuid.uuid4()} b", task_queue="nobody")
    for number in range(300):
        await handle.signal("more", number)
    path = f"/api/v1/namespaces/default/workflows/{quote(quote(handle.id, safe=''), safe='')}"
    address = f"{shown.gate.url}{path}/run/{handle.first_execution_run_id}/history.json"
    async with shown.http.get(URL(address, encoded=True)) as answer:
        assert answer.status == 200
        events = await answer.json()
    assert [event["eventId"] for event in events] == [str(number) for number in range(1, len(events) + 1)]
    assert len(events) == len((await handle.fetch_history()).events) > 300
    WorkflowHistory.from_json(handle.id, {"events": events})
    async with shown.http.get(URL(shown.gate.url + path, encoded=True)) as answer:
        assert (await answer.json())["workflowExecutionInfo"]["execution"]["workflowId"] == handle.id


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test", "Origin": "http://evil.test"},
        {"Origin": "http://evil.test", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "cross-site"},
        {},
    ],
)
async def test_a_page_from_elsewhere_cancels_nothing(shown: Shown, headers: dict[str, str]) -> None:
    """Neither under a rebound name, nor from another origin, nor without an origin."""
    handle = await shown.workflow()
    assert await shown.cancel(shown.gate.url, handle, **headers) == 403
    assert not await asked_to_cancel(handle)


async def test_the_servers_own_ports_do_nothing(shown: Shown) -> None:
    """On the ports of the HTTP API and of the UI's files no request changes or reads anything."""
    handle = await shown.workflow()
    api, files = shown.server.upstream.api, shown.server.upstream.files
    for host in ("127.0.0.1", "localhost", "evil.test", "nobody.invalid", "*"):
        assert await shown.cancel(api, handle, Host=host, Origin=f"http://{host}") == 403
    async with shown.http.get(files) as answer:  # its own protection, which a rebound page could satisfy
        token = answer.cookies["_csrf"].value
    met = {"X-CSRF-Token": token, "Cookie": f"_csrf={token}", "Authorization": "none"}
    for prefix in ("", "/api", "/x", "/^/*api", "/^", "//api/.."):
        assert await shown.cancel(files + prefix, handle, **met) in {404, 405}
        async with shown.http.get(f"{files}{prefix}/api/v1/namespaces", headers=met) as answer:
            assert answer.content_type == "text/html"
    assert not await asked_to_cancel(handle)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_an_address_that_is_not_the_uis_is_refused(shown: Shown) -> None:
    """The gate passes on only paths below our own addresses."""
    for path in ("/api/../nexus/x", "/_app/../api/v1/namespaces", "/.."):
        reader, writer = await _raw(shown.gate.url, f"GET {path} HTTP/1.1")
        assert b" 403 " in await reader.readline()
        writer.close()
    reader, writer = await _raw(shown.gate.url, "GET HTTP://127.0.0.1/api/v1/namespaces HTTP/1.1")
    assert b" 403 " in await reader.readline()
    writer.close()


async def _raw(base: str, line: str) -> Any:
    import asyncio

    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{line}\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def test_a_link_logs_in_once(shown: Shown, tmp_path: Path) -> None:
    """With a log-in nothing is shown or done without it; the link works once, and the next one is in its file."""
    link_file = tmp_path / "link"
    gate = UiGate(UiGateConfig(shown.server.upstream, link_file=link_file))
    await gate.start()
    try:
        handle = await shown.workflow()
        for address in (gate.url, f"{gate.url}/api/v1/settings", f"{gate.url}/login?token=guessed"):
            async with shown.http.get(address) as answer:
                assert answer.status == 401
        assert await shown.cancel(gate.url, handle, Origin=gate.url) == 401
        assert link_file.stat().st_mode & 0o777 == 0o600
        link = link_file.read_text().strip()
        assert link == gate.link
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as owner:
            async with owner.head(link) as answer:
                assert answer.status == 401
            async with owner.get(link, allow_redirects=False) as answer:
                assert answer.status == 303
                cookie = answer.cookies["bottrader_ui"]
            assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Strict", "43200")
            async with owner.get(f"{gate.url}/api/v1/namespaces") as answer:
                assert answer.status == 200
            async with owner.get(f"{gate.url}/api/v1/namespaces", headers={"Host": "evil.test"}) as answer:
                assert answer.status == 403
        async with shown.http.get(link, allow_redirects=False) as answer:
            assert answer.status == 401
        assert link_file.read_text().strip() not in {"", link}
        assert not await asked_to_cancel(handle)
    finally:
        await gate.stop()
    assert not link_file.exists()


async def test_who_is_logged_in_to_the_page_uses_the_ui(shown: Shown) -> None:
    """Where the API runs, its sessions open the UI and nothing else does: the role view reads, the role trade acts, a
    log-out applies to the next request, and without the API nobody gets in.
    """
    addresses: list[str | None] = [None]
    gate = UiGate(UiGateConfig(shown.server.upstream, login=lambda: addresses[0]))
    await gate.start()
    try:
        handle = await shown.workflow()

        async def asked(cookie: str) -> tuple[int, int]:
            """What reading and cancelling are answered with."""
            headers = {"Cookie": cookie} if cookie else {}
            async with shown.http.get(f"{gate.url}/api/v1/namespaces", headers=headers) as answer:
                read = answer.status
            return read, await shown.cancel(gate.url, handle, Origin=gate.url, **headers)

        assert await asked("") == (503, 503)
        async with api_on() as api, api.page() as page:
            addresses[0] = api.origin
            name = f"__Host-bottrader-{api.port}"
            viewer = f"{name}={api.door.sessions.open('vera', 'view')[0]}"
            owner = page.http.headers["cookie"]
            for wrong in ("", "other=x", f"{name}=", f"{name}={'x' * 43}", f"{name}=a b", owner.replace(name, "n")):
                assert await asked(wrong) == (401, 401), wrong
            async with shown.http.get(gate.url) as answer:
                assert (answer.status, api.origin in await answer.text()) == (401, True)
            assert await asked(viewer) == (200, 403)
            assert not await asked_to_cancel(handle)
            async with shown.http.get(f"{gate.url}/", headers={"Cookie": viewer}) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
            for cookie, without_buttons in ((viewer, True), (owner, False)):
                async with shown.http.get(f"{gate.url}/api/v1/settings", headers={"Cookie": cookie}) as answer:
                    assert (await answer.json())["DisableWriteActions"] is without_buttons
            assert await shown.cancel(gate.url, handle, Origin="http://evil.test", Cookie=owner) == 403
            assert await shown.cancel(gate.url, handle, Origin=api.origin, Cookie=owner) == 403
            assert not await asked_to_cancel(handle)
            assert await asked(owner) == (200, 200)
            await page.post("/api/logout")
            assert await asked(owner) == (401, 401)
        assert await asked(viewer) == (503, 503)
    finally:
        await gate.stop()


async def test_behind_a_proxy_the_ui_has_the_address_that_a_browser_shows(shown: Shown) -> None:
    """With `origin`, requests of that page pass, beside those of the gate's own address, and no other's do."""
    gate = UiGate(UiGateConfig(shown.server.upstream, origin="https://bot.example:8443"))
    await gate.start()
    try:
        handle = await shown.workflow()
        proxied = {"Host": "bot.example:8443"}
        for origin in ("https://bot.example", "http://bot.example:8443", gate.url):
            assert await shown.cancel(gate.url, handle, Origin=origin, **proxied) == 403
        assert not await asked_to_cancel(handle)
        assert await shown.cancel(gate.url, handle, Origin="https://bot.example:8443", **proxied) == 200
        async with shown.http.get(f"{gate.url}/api/v1/namespaces") as answer:
            assert answer.status == 200
    finally:
        await gate.stop()


async def test_connections_in_masses_leave_the_process_its_files(shown: Shown) -> None:
    """Beyond so many connections an idle one is closed for each further one, and there is room again once they end."""
    gate = UiGate(UiGateConfig(shown.server.upstream))
    await gate.start()
    port = urlsplit(gate.url).port
    try:
        async with contextlib.AsyncExitStack() as closing:
            ends = []
            for _ in range(300):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                closing.callback(writer.close)
                ends.append(asyncio.create_task(reader.read()))

            async def refused() -> bool:
                return sum(end.done() for end in ends) >= 300 - 256

            await eventually(refused)  # those that are not wait for their request to be sent
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

        async def served() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with shown.http.get(f"{gate.url}/api/v1/settings") as answer:
                    return answer.status == 200
            return False

        await eventually(served)
    finally:
        await gate.stop()


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ",
        "POST /api/v1/namespaces HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 9\r\n\r\n{{",
        "GET /api/v1/settings HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ],
    ids=["nothing", "half a header", "half a body", "one request"],
)
async def test_slow_connections_keep_nobody_out(shown: Shown, sent: str) -> None:
    """While others hold as many connections as there may be, and more, each new request is answered at once."""
    gate = UiGate(UiGateConfig(shown.server.upstream))
    await gate.start()
    host = gate.url.removeprefix("http://")
    try:
        async with contextlib.AsyncExitStack() as closing:
            for _ in range(260):
                _, writer = await asyncio.open_connection(*host.split(":"))
                closing.callback(writer.close)
                writer.write(sent.format(host=host).encode())
            for _ in range(3):
                async with aiohttp.ClientSession() as owner, owner.get(f"{gate.url}/api/v1/namespaces") as answer:
                    assert answer.status == 200
    finally:
        await gate.stop()


async def test_a_request_that_temporal_is_answering_is_not_cut_off(shown: Shown) -> None:
    """However many connections are made meanwhile, a page that waits for a workflow's next event gets its answer."""
    gate = UiGate(UiGateConfig(shown.server.upstream))
    await gate.start()
    host = gate.url.removeprefix("http://")
    handle = await shown.workflow()
    address = f"{gate.url}/api/v1/namespaces/default/workflows/{handle.id}/history"
    first = {"execution.runId": str(handle.first_execution_run_id)}
    try:
        async with contextlib.AsyncExitStack() as closing, aiohttp.ClientSession() as owner:
            async with owner.get(address, params={**first, "waitNewEvent": "true"}) as answer:
                token = (await answer.json())["nextPageToken"]
            wanted = {**first, "waitNewEvent": "true", "nextPageToken": token}
            waiting = asyncio.create_task(_answered(owner, address, wanted))
            for _ in range(300):
                _, writer = await asyncio.open_connection(*host.split(":"))
                closing.callback(writer.close)
            assert not waiting.done()
            await handle.signal("more", 1)
            events = (await waiting)["history"]["events"]
            assert [event["eventType"] for event in events][:1] == ["EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED"]
    finally:
        await gate.stop()


async def _answered(http: aiohttp.ClientSession, address: str, params: dict[str, str]) -> Any:
    async with http.get(address, params=params) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_a_taken_port_is_an_error(shown: Shown) -> None:
    """The gate never uses another port than the requested one."""
    port = int(shown.gate.url.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=f"Port {port} .*--ui-port") as caught:
        await UiGate(UiGateConfig(shown.server.upstream, port=port)).start()
    assert caught.value.code == "PORT_IN_USE"


async def test_a_version_that_can_not_be_shut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the options mean something else in the program found, it isn't used."""
    monkeypatch.setattr(dev_server, "PUBLIC_PATH", "/ui")
    program = await temporal_binary.ensure_async()
    server = DevServer(DevServerConfig(program=program, log=tmp_path / "log"))
    with pytest.raises(UserError, match="web pages could trade") as caught:
        await server.start()
    assert caught.value.code == "TEMPORAL_OPEN"
    assert server.child is None
