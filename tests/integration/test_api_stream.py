"""The stream of changes, over a real socket and a real ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.exits.price_watcher import watcher_lease
from cli.api_sources import sources_of
from domain.exits import ExitRules
from domain.orders import OrderRole, Side
from tests.support.api import VIEWER, Api, api_on
from tests.support.ledger_rows import add_order, add_trade, intent
from tests.support.waiting import SLACK, eventually
from web.api.reads import read_routes
from web.api.sessions import Sessions
from web.api.stream import Streams, stream_routes
from workers.settings import Settings
from workers.settings.values import policy_of


@dataclass
class Streaming:
    """A running API with its streams."""

    api: Api
    streams: Streams
    pool: Pool


@pytest_asyncio.fixture
async def streaming(database: str) -> AsyncIterator[Streaming]:
    """An API on a ledger with an open order, polled often."""
    pool = await create_pool(database, size=4, statement_seconds=60)
    await add_order(pool, intent("open-1"))
    settings, sessions = Settings(), Sessions(43_200, 3600)
    sources = sources_of(settings, pool, lambda: policy_of(settings))
    streams = Streams(sources, sessions, look_s=0.25, session_s=0.5)
    routers = [read_routes(sources), stream_routes(streams)]
    async with api_on(routers=routers, sessions=sessions, stop=streams.stop) as api:
        yield Streaming(api, streams, pool)
    pool.terminate()


@contextlib.asynccontextmanager
async def watching(
    streaming: Streaming, last: str | None = None
) -> AsyncIterator[AsyncIterator[tuple[str, str, dict[str, Any]]]]:
    """A viewer's events: event, id, data."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with (
        streaming.api.program(VIEWER) as viewer,
        viewer.stream("GET", "/api/stream", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer)


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    found: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, text = line.partition(": ")
            found[name] = text
        else:
            yield found["event"], found["id"], json.loads(found["data"])
            found = {}


async def until(events: AsyncIterator[tuple[str, str, dict[str, Any]]], topic: str) -> tuple[str, dict[str, Any]]:
    """The next event of a topic, with its id."""
    async with asyncio.timeout(45 * SLACK):
        async for event, number, data in events:
            if event == topic:
                return number, data
    raise AssertionError(f"the stream ended without {topic}")


async def test_changes_come_as_rows_and_ends_as_keys(streaming: Streaming) -> None:
    """A new order is sent as the list's row, a change as the new row, and an end as a removed key."""
    pool = streaming.pool
    async with watching(streaming) as events, streaming.api.program(VIEWER) as viewer:
        await until(events, "hello")
        await add_order(pool, intent("open-2"))
        _, news = await until(events, "orders")
        (row,) = news["changed"]
        listed = (await viewer.get("/api/open-orders", params={"limit": 1})).json()["items"]
        assert [row] == listed
        assert news["gone"] == []
        await pool.execute(
            "UPDATE orders SET filled_size = 0.5, filled_value = 1 WHERE order_key = $1", row["order_key"]
        )
        _, news = await until(events, "orders")
        assert news["changed"][0]["filled_size"] == "0.5"
        await pool.execute(
            "UPDATE orders SET finished = true, finished_at = now(), state = 'CANCELLED' WHERE order_key = $1",
            row["order_key"],
        )
        _, news = await until(events, "orders")
        assert news == {"changed": [], "gone": [row["order_key"]]}


async def test_events_and_the_switch_are_told(streaming: Streaming) -> None:
    """An incident is sent once as an event of the list of events, and a halt changes the summary."""
    async with watching(streaming) as events:
        await until(events, "hello")
        await streaming.pool.execute(
            "INSERT INTO incidents (account, kind, severity, sentence) "
            "VALUES ('main', 'TEST', 'INFO', 'it <b>broke</b>')"
        )
        _, news = await until(events, "audit")
        assert [item["sentence"] for item in news["changed"]] == ["it <b>broke</b>"]
        await streaming.pool.execute("INSERT INTO account_controls VALUES ('main', true, 'a break', 'ana', now())")
        async for event, _, data in events:
            if event == "summary" and data["switch"]["halted"]:
                break


async def test_the_sums_of_a_stream_are_those_of_the_summary(streaming: Streaming) -> None:
    """Counts, what is at risk, exposure and what is unprotected, which a stream computes from what has changed, are
    after each change what the summary computes from everything.
    """
    pool = streaming.pool
    names = ("counts", "switch", "risks", "unprotected", "today")

    async def changed(events: AsyncIterator[tuple[str, str, dict[str, Any]]]) -> dict[str, Any]:
        """The summary of the stream, once it is the API's."""
        async for event, _, data in events:
            if event == "summary":
                async with streaming.api.program(VIEWER) as viewer:
                    whole = (await viewer.get("/api/monitoring/summary")).json()
                if data == {name: whole[name] for name in names}:
                    return data
        raise AssertionError("the stream ended")

    async with watching(streaming) as events:
        await until(events, "hello")
        first = await add_trade(pool, "sums-1", rules=ExitRules(soft_stop=Decimal("0.03")))
        found = await changed(events)
        assert (found["counts"]["open_trades"], found["risks"][0]["unpriced"], found["unprotected"]) == (1, 1, 1)
        await pool.execute(
            "INSERT INTO market_prices (account, symbol, bid, at) VALUES ('main', 'BTC-USD', 104, now())"
        )
        found = await changed(events)
        assert found["risks"] == [{"currency": "USD", "trades": 1, "unpriced": 0, "at_risk": "7", "exposure": "104"}]
        await pool.execute("UPDATE exit_plans SET stop = 103, peak = 104 WHERE entry_key = $1", first)
        assert (await changed(events))["risks"][0]["at_risk"] == "1"
        guard = intent("guard", side=Side.SELL, role=OrderRole.EXIT, entry_key=first)
        await add_order(pool, guard)
        await pool.execute("UPDATE orders SET protection_role = 'STOP_LOSS' WHERE order_key = $1", guard.order_key)
        assert (await changed(events))["unprotected"] == 0
        await add_trade(pool, "sums-2", symbol="ETH-EUR")
        found = await changed(events)
        assert [(item["currency"], item["trades"]) for item in found["risks"]] == [("EUR", 1), ("USD", 1)]
        await pool.execute(
            """UPDATE trades SET state = 'CLOSED', closed_at = now(), sold_size = 1, sold_value = 90
                WHERE entry_key = $1""",
            first,
        )
        found = await changed(events)
        assert (found["counts"]["open_trades"], found["counts"]["closed_trades"]) == (1, 1)
        assert (found["today"]["pnl"], found["today"]["losses_in_a_row"]) == ("-10", 1)


async def test_what_guards_a_trade_is_in_its_row(streaming: Streaming) -> None:
    """A trade is sent again when an order that protects it begins or ends, and when its price is watched or no more."""
    pool = streaming.pool
    key = await add_trade(pool, "guarded")
    async with watching(streaming) as events:
        await until(events, "hello")
        guard = intent("guard", side=Side.SELL, role=OrderRole.EXIT, entry_key=key)
        await add_order(pool, guard)
        await pool.execute("UPDATE orders SET protection_role = 'STOP_LOSS' WHERE order_key = $1", guard.order_key)
        _, news = await until(events, "trades")
        assert [(row["entry_key"], row["protections"], row["watched"]) for row in news["changed"]] == [(key, 1, False)]
        lease = watcher_lease("main", 0)
        await pool.execute(
            "INSERT INTO leases (name, holder, epoch, expires_at) VALUES ($1, 'x', 1, now() + interval '1 hour')", lease
        )
        _, news = await until(events, "trades")
        assert [(row["entry_key"], row["watched"]) for row in news["changed"]] == [(key, True)]
        await pool.execute("UPDATE orders SET finished = true WHERE order_key = $1", guard.order_key)
        _, news = await until(events, "trades")
        assert [(row["entry_key"], row["protections"]) for row in news["changed"]] == [(key, 0)]


async def test_who_comes_back_late_reads_anew(streaming: Streaming) -> None:
    """A reconnect with an id other than the last poll's gets `reset`, also with one of another process."""
    async with watching(streaming) as events:
        number, _ = await until(events, "tick")
    for last in (number + "0", "of-another-process-7"):
        async with watching(streaming, last) as events:
            event, _, _ = await anext(events)
            assert event == "reset"


async def test_nobody_is_looked_for_when_nobody_watches(streaming: Streaming) -> None:
    """Polling ends with the last viewer, however each one left, and begins again with the next."""
    for _ in range(2):
        async with watching(streaming) as events:
            await until(events, "tick")
            assert streaming.streams.watchers == 1

        async def alone() -> bool:
            return not streaming.streams.looks

        await eventually(alone, what="nobody looks any more")
        assert streaming.streams.watchers == 0


async def test_streams_are_few_and_only_for_who_is_logged_in(streaming: Streaming) -> None:
    """Nobody watches without a log-in, and the seventeenth viewer is refused instead of slowing the others."""
    assert (await streaming.api.http.get("/api/stream")).status_code == 401
    async with contextlib.AsyncExitStack() as stack:
        heard = [await stack.enter_async_context(watching(streaming)) for _ in range(16)]
        for events in heard:
            await until(events, "hello")
        async with streaming.api.program(VIEWER) as viewer:
            answer = await viewer.get("/api/stream")
        assert (answer.status_code, answer.json()["code"]) == (503, "TOO_MANY_STREAMS")


async def test_streams_that_come_at_once_are_no_more_than_allowed(streaming: Streaming) -> None:
    """Of many that ask in the same moment exactly sixteen are let in, and each that ends makes room for one."""
    async with contextlib.AsyncExitStack() as stack:
        viewer = await stack.enter_async_context(streaming.api.program(VIEWER))
        asked = [viewer.send(viewer.build_request("GET", "/api/stream"), stream=True) for _ in range(2 * 16)]
        answers = await asyncio.gather(*asked)
        for answer in answers:
            stack.push_async_callback(answer.aclose)
        assert sorted(answer.status_code for answer in answers) == [200] * 16 + [503] * 16
        assert streaming.streams.watchers == 16
        await next(answer for answer in answers if answer.status_code == 200).aclose()

        async def room() -> bool:
            return streaming.streams.watchers == 15

        await eventually(room, what="there is room for one more")
        async with watching(streaming) as events:
            await until(events, "tick")


async def test_who_leaves_at_once_keeps_no_place(streaming: Streaming) -> None:
    """Clients that close their connection right behind their request leave no stream behind."""
    request = (
        f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{streaming.api.port}\r\nAuthorization: Bearer {VIEWER}\r\n\r\n"
    )
    for _ in range(40):
        _, writer = await asyncio.open_connection("127.0.0.1", streaming.api.port)
        writer.write(request.encode())
        await writer.drain()
        writer.transport.abort()

    async def empty() -> bool:
        return streaming.streams.watchers == 0

    await eventually(empty, what="nobody watches")
    async with watching(streaming) as events:
        await until(events, "tick")


async def test_a_stream_ends_with_its_session(streaming: Streaming) -> None:
    """A page that was logged out hears so and its stream ends; a program's, which has no session, goes on."""
    async with streaming.api.page() as page, watching(streaming) as program:
        async with page.http.stream("GET", "/api/stream") as answer:
            events = _events(answer)
            await until(events, "hello")
            assert (await page.post("/api/logout")).status_code == 204
            await until(events, "logged-out")
            assert [event async for event, _, _ in events] == []
        await until(program, "hello")
        await until(program, "tick")
        assert (await page.http.get("/api/stream")).status_code == 401


async def test_a_ledger_that_is_away_is_told_and_waited_for(streaming: Streaming) -> None:
    """While the database refuses, `away` is sent; afterwards changes are sent again, including those in between."""
    pool = streaming.pool
    async with watching(streaming) as events:
        await until(events, "hello")
        await pool.execute("ALTER TABLE market_prices RENAME TO elsewhere")
        await until(events, "away")
        await add_order(pool, intent("open-3"))
        await pool.execute("ALTER TABLE elsewhere RENAME TO market_prices")
        _, news = await until(events, "orders")
        assert len(news["changed"]) == 1


async def test_where_the_first_look_fails_everything_is_read_anew(streaming: Streaming) -> None:
    """What changes between `hello` and the first look that succeeds can't be told: `reset` comes first of all."""
    pool = streaming.pool
    await pool.execute("ALTER TABLE market_prices RENAME TO elsewhere")
    async with watching(streaming) as events:
        await until(events, "hello")
        await until(events, "away")
        await pool.execute("UPDATE orders SET filled_size = 0.5, filled_value = 1")
        await pool.execute("ALTER TABLE elsewhere RENAME TO market_prices")
        async with asyncio.timeout(45 * SLACK):
            told = [topic async for topic, _, _ in _until_not(events, {"away", "tick"})]
        assert told == ["reset"]
        await add_order(pool, intent("open-3"))
        _, news = await until(events, "orders")
        assert [row["filled_size"] for row in news["changed"]] == ["0"]


async def _until_not(
    events: AsyncIterator[tuple[str, str, dict[str, Any]]], topics: set[str]
) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """The next event of another topic."""
    async for event in events:
        if event[0] not in topics:
            yield event
            return


async def test_what_a_failed_look_has_seen_is_told_by_the_next(streaming: Streaming) -> None:
    """Where a look fails after it has found a change, the change is sent once a look succeeds."""
    pool = streaming.pool
    async with watching(streaming) as events:
        await until(events, "hello")
        await pool.execute("ALTER TABLE notices RENAME TO elsewhere")
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO incidents (account, kind, severity, sentence) VALUES ('main', 'TEST', 'INFO', 'it broke')"
            )
            await connection.execute("UPDATE orders SET filled_size = 0.5, filled_value = 1")
        await until(events, "away")
        await pool.execute("ALTER TABLE elsewhere RENAME TO notices")
        _, news = await until(events, "orders")
        assert [row["filled_size"] for row in news["changed"]] == ["0.5"]
        _, news = await until(events, "audit")
        assert [item["sentence"] for item in news["changed"]] == ["it broke"]


async def test_a_stop_ends_the_streams(streaming: Streaming) -> None:
    """On a stop every stream ends by itself, so that the server does not have to cut it off."""
    async with watching(streaming) as events:
        await until(events, "hello")
        streaming.streams.stop()
        with pytest.raises(AssertionError, match="ended without"):
            await until(events, "nothing of this name")
