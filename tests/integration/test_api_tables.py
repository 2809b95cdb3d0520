"""Long lists of the API over a real ledger: CSV of all filtered rows, actions, 10,000 rows, hostile names."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter
from starlette.requests import Request

from activities.database import Pool, create_pool
from cli.api_hands import hands_of
from cli.api_sources import sources_of
from domain.text import spreadsheet_text
from tests.support.api import VIEWER, Api, api_on
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import add_order, intent
from web.api.actions import action_routes
from web.api.reads import read_routes
from web.api.rows import ActionRow, OrderRow, TradeRow
from web.api.tables import Listing
from workers.settings import Settings
from workers.settings.values import policy_of

TRADES = 1_100
HOSTILE = ("<img src=x onerror=alert(1)>-USD", "=cmd|'/c calc'!A1", '"><script>alert(1)</script>')


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A ledger with more closed trades than a page of CSV."""
    await write_ledger(database, TRADES, seed=5)
    found = await create_pool(database, size=4, statement_seconds=60)
    yield found
    found.terminate()


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncIterator[Api]:
    """The API on that ledger."""
    settings = Settings()
    sources = sources_of(settings, pool, lambda: policy_of(settings))
    async with api_on(routers=[read_routes(sources), action_routes(hands_of(settings, pool))]) as found:
        yield found


@pytest_asyncio.fixture
async def viewer(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A user who may read."""
    async with api.program(VIEWER) as found:
        yield found


async def pages(viewer: httpx.AsyncClient, path: str, **filters: Any) -> list[dict[str, Any]]:
    """All rows of a list, page by page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = await viewer.get(path, params={**filters, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


async def table(viewer: httpx.AsyncClient, path: str, **filters: Any) -> list[dict[str, str]]:
    """All rows of a list as CSV."""
    answer = await viewer.get(path, params={"format": "csv", **filters})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment;")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def as_cell(value: Any) -> str:
    """A JSON value as a cell."""
    if value is None:
        return ""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("path", "filters", "columns", "count"),
    [
        ("/api/executed-orders", {}, OrderRow, 2 * TRADES),
        ("/api/executed-orders", {"side": "SELL"}, OrderRow, TRADES),
        ("/api/trades", {"state": "closed"}, TradeRow, TRADES),
        ("/api/trades", {"state": "closed", "symbol": "ETH-USD"}, TradeRow, None),
        ("/api/open-orders", {}, OrderRow, 0),
    ],
)
async def test_a_table_has_every_row_of_its_filters(
    viewer: httpx.AsyncClient, path: str, filters: dict[str, str], columns: Any, count: int | None
) -> None:
    """As CSV a list has all rows of all pages, with the same columns and values as the JSON, losses as numbers."""
    listed = await pages(viewer, path, limit=1000, **filters)
    found = await table(viewer, path, **filters)
    assert len(found) == len(listed)
    assert count is None or len(found) == count
    for row, expected in zip(found, listed, strict=True):
        assert list(row) == list(columns.model_fields)
        assert row == {name: as_cell(expected[name]) for name in columns.model_fields}
    if path == "/api/trades":
        assert any(row["pnl"].startswith("-") for row in found)


async def test_a_cell_is_no_formula_and_a_name_is_only_text(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """A symbol or trigger with markup or a formula is unchanged as JSON, which no browser treats as a page, and as CSV
    in cells that no spreadsheet computes.
    """
    for number, symbol in enumerate(HOSTILE):
        wanted = intent(f"hostile-{number}", symbol=symbol)
        await add_order(pool, wanted)
        await pool.execute("UPDATE orders SET trigger = '@SUM(A1)' WHERE order_key = $1", wanted.order_key)
    answer = await viewer.get("/api/open-orders")
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("application/json", "nosniff")
    assert {row["symbol"] for row in answer.json()["items"]} == set(HOSTILE)
    found = await table(viewer, "/api/open-orders")
    assert {row["symbol"] for row in found} == {spreadsheet_text(symbol) for symbol in HOSTILE}
    assert {row["trigger"] for row in found} == {"'@SUM(A1)"}
    for symbol in HOSTILE:
        only = await viewer.get("/api/open-orders", params={"symbol": symbol})
        assert [row["symbol"] for row in only.json()["items"]] == [symbol]
        assert (await viewer.get("/api/executed-orders", params={"symbol": symbol})).json()["items"] == []


@pytest.mark.parametrize(
    ("accept", "form", "csv_comes"),
    [
        ("*/*", None, False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None, False),
        ("application/json", None, False),
        ("text/csv", None, True),
        ("text/csv, application/json;q=0.5", None, True),
        ("application/json, text/csv;q=0.5", None, False),
        ("text/csv;q=0", None, False),
        ("text/csv", "json", False),
        ("application/json", "csv", True),
    ],
)
async def test_who_asks_says_which_form(
    viewer: httpx.AsyncClient, accept: str, form: str | None, csv_comes: bool
) -> None:
    """`format` decides, else the header Accept; browsers and programs that name no CSV get JSON."""
    params = {"symbol": "BTC-USD", **({} if form is None else {"format": form})}
    answer = await viewer.get("/api/executed-orders", params=params, headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/csv" if csv_comes else "application/json")


async def test_a_table_that_can_not_be_finished_ends_in_an_error(pool: Pool, viewer: httpx.AsyncClient) -> None:
    """Without the ledger CSV is a 503; if it fails in the middle, the connection ends without the table's end."""
    await pool.close()
    away = await viewer.get("/api/executed-orders", params={"format": "csv"})
    assert (away.status_code, away.json()["code"]) == (503, "NO_DATABASE")
    router = APIRouter()

    @router.get("/api/broken")
    async def broken(request: Request) -> Any:
        async def read(after: tuple[Any, ...] | None, most: int) -> list[dict[str, Any]]:
            if after is not None:
                raise OSError("the ledger went away")
            return [{"at": datetime.now(UTC), "key": "k"}] * most

        return await Listing("broken", ActionRow, {}, ("at", "key"), read).answer(request, "csv", None, 100)

    async with api_on(routers=[router]) as other, other.program(VIEWER) as http:
        for accepted in ("gzip", "identity"):
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/api/broken", headers={"Accept-Encoding": accepted})
        assert (await http.get("/api/session")).status_code == 200


async def test_actions_are_listed_by_who_asked(api: Api, viewer: httpx.AsyncClient) -> None:
    """Each action is a row with who asked, for what, and the answer, refusals too; over all pages each is there once,
    and the filters work.
    """
    async with api.page() as page, api.program() as trader:
        for number in range(5):
            headers = {"Idempotency-Key": f"halt-number-{number}"}
            assert (await page.post("/api/halt", {"note": f"<b>{number}</b>"}, **headers)).status_code == 200
        wrong = await trader.post(
            f"/api/orders/{'0' * 32}/cancel", json={}, headers={"Idempotency-Key": "cancel-of-nothing"}
        )
        assert wrong.status_code == 404
    listed = await pages(viewer, "/api/actions", limit=2)
    assert [(row["by"], row["kind"], row["status"], row["accepted"]) for row in listed] == [
        ("trader (API token)", "cancel", 404, False),
        *[("owner (API)", "halt", 200, True)] * 5,
    ]
    assert [row["note"] for row in listed] == [None, *(f"<b>{number}</b>" for number in reversed(range(5)))]
    assert (listed[0]["subject"], listed[0]["code"]) == ("0" * 32, "NO_SUCH_ORDER")
    assert listed[1]["sentence"].startswith("entries are halted")
    assert "key" not in listed[0]
    assert await pages(viewer, "/api/actions", by="owner (API)", limit=3) == listed[1:]
    assert await pages(viewer, "/api/actions", kind="cancel") == listed[:1]
    assert await pages(viewer, "/api/actions", subject="0" * 32) == listed[:1]
    cursor = (await viewer.get("/api/actions", params={"limit": 1})).json()["next_cursor"]
    refused = await viewer.get("/api/actions", params={"cursor": cursor, "kind": "halt"})
    assert (refused.status_code, refused.json()["code"]) == (422, "BAD_CURSOR")


async def test_an_action_without_the_ledger_is_not_done(api: Api, pool: Pool, database: str) -> None:
    """While the ledger is unreachable an action is a 503 and not done; the same key does it once the ledger is back."""
    headers = {"Idempotency-Key": "halt-while-away"}
    await pool.close()
    async with api.page() as page:
        away = await page.post("/api/halt", {"note": "now"}, **headers)
    assert (away.status_code, away.json()["code"]) == (503, "NO_DATABASE")
    assert int(away.headers["retry-after"]) > 0
    again = await create_pool(database, size=2)
    try:
        assert not await again.fetchval("SELECT count(*) FROM account_controls")
        settings = Settings()
        async with api_on(routers=[action_routes(hands_of(settings, again))]) as back, back.page() as page:
            done = await page.post("/api/halt", {"note": "now"}, **headers)
        assert (done.status_code, done.json()["changed"]) == (200, True)
        assert "idempotent-replayed" not in done.headers
    finally:
        await again.close()


async def test_ten_thousand_open_orders_come_page_by_page(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Ten thousand open orders, many received at the same moment, are listed once each, newest first, gzipped."""
    await pool.execute(
        """INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point,
                               trigger, intent, intent_digest, state, base_size, limit_price, received_at)
           SELECT md5(n::text), 'main', 'BTC-USD', 'BUY', 'ENTRY', md5(n::text), 'LIMIT', 'manual', 'test', 'manual',
                  '{}', '', 'OPEN', 1, 100, now() - make_interval(secs => n / 100) FROM generate_series(1, 10000) n"""
    )
    listed = await pages(viewer, "/api/open-orders", limit=1000)
    assert len({row["order_key"] for row in listed}) == len(listed) == 10_000
    assert [row["received_at"] for row in listed] == sorted((row["received_at"] for row in listed), reverse=True)
    assert len(await table(viewer, "/api/open-orders")) == 10_000
    answer = await viewer.get("/api/open-orders", params={"limit": 1000})
    assert answer.headers["content-encoding"] == "gzip"
    summary = (await viewer.get("/api/monitoring/summary")).json()
    assert summary["counts"]["open_orders"] == 10_000
