"""Reads of the API over a real socket and a real ledger: every row once, exact, of its own account only."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from cli.api_sources import sources_of
from tests.support.api import VIEWER, Api, api_on
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import add_order, add_trade, intent
from web.api.cursors import cursor_of
from web.api.reads import read_routes
from web.views import lists
from workers.settings import Settings, build
from workers.settings.sources import SettingSources
from workers.settings.values import policy_of

TRADES = 60
NOON = "2026-03-01T12:00:00+00:00"
SYMBOLS = ("BTC-USD", "ETH-USD", "ETH-EUR", "SOL-USD")


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A ledger with closed trades of two accounts, and some open orders."""
    await write_ledger(database, TRADES, seed=3)
    await write_ledger(database, 5, seed=4, account="other")
    found = await create_pool(database, size=4, statement_seconds=20)
    for number in range(8):
        await add_order(found, intent(f"open-{number}"))
    yield found
    found.terminate()


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncIterator[Api]:
    """The API on that ledger."""
    settings = Settings()
    async with api_on(routers=[read_routes(sources_of(settings, pool, lambda: policy_of(settings)))]) as found:
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
        given = {**filters, **({"cursor": cursor} if cursor else {})}
        answer = await viewer.get(path, params=given)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert len(body["items"]) <= filters.get("limit", 100)
        found += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


async def test_every_order_is_in_exactly_one_list(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Over all pages each order of the account is listed once, either as open or as executed."""
    open_ones = await pages(viewer, "/api/open-orders", limit=3)
    ended = await pages(viewer, "/api/executed-orders", limit=7)
    keys = [row["order_key"] for row in [*open_ones, *ended]]
    ours = await pool.fetch("SELECT order_key FROM orders WHERE account = 'main'")
    assert sorted(keys) == sorted(row["order_key"] for row in ours)
    assert {row["public_state"] for row in open_ones} <= {"NEW", "ACTIVE", "PARTIALLY_FILLED"}
    assert len(open_ones) == 8
    assert [row["ended_at"] for row in ended] == sorted((row["ended_at"] for row in ended), reverse=True)


@pytest.mark.parametrize("state", ["FAILED", "REJECTED", "EXPIRED", "CANCELLED", "UNKNOWN"])
async def test_an_order_is_found_however_it_stands(viewer: httpx.AsyncClient, pool: Pool, state: str) -> None:
    """In any state, and without an end time, an order is listed: by whether more of it can follow."""
    key = await pool.fetchval("SELECT order_key FROM orders WHERE NOT finished AND account = 'main' LIMIT 1")
    for finished in (False, True):
        await pool.execute("UPDATE orders SET state = $2, finished = $3 WHERE order_key = $1", key, state, finished)
        lists = {
            path: [row for row in await pages(viewer, path) if row["order_key"] == key]
            for path in ("/api/open-orders", "/api/executed-orders")
        }
        shown, absent = ("/api/executed-orders", "/api/open-orders")[:: 1 if finished else -1]
        assert not lists[absent]
        (row,) = lists[shown]
        assert row["state"] == state
        assert finished or row["public_state"] == "NEW"


async def test_rows_that_come_meanwhile_neither_hide_nor_repeat_others(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Paging shows each row that existed at its start once, while new ones are added."""
    before = {row["order_key"] for row in await pages(viewer, "/api/open-orders")}
    seen: list[str] = []
    cursor, number = None, 0
    while True:
        body = (
            await viewer.get("/api/open-orders", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += [row["order_key"] for row in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
        number += 1
        await add_order(pool, intent(f"later-{number}"))
    assert sorted(seen) == sorted(before)


async def test_filters_are_the_cursors_own(viewer: httpx.AsyncClient) -> None:
    """A cursor of other filters or another list, or a made-up one, is refused by name; none is an internal error."""
    body = (await viewer.get("/api/executed-orders", params={"limit": 5, "side": "SELL"})).json()
    cursor = body["next_cursor"]
    assert {row["side"] for row in body["items"]} == {"SELL"}
    wrong = [
        ("/api/executed-orders", {"cursor": cursor}),
        ("/api/executed-orders", {"cursor": cursor, "side": "BUY"}),
        ("/api/open-orders", {"cursor": cursor, "side": "SELL"}),
        ("/api/trades", {"cursor": cursor}),
        ("/api/monitoring/telegram-messages", {"cursor": cursor}),
        *(("/api/open-orders", {"cursor": made}) for made in ("", "x", "[]", "é", "W10", "A" * 5000, cursor[:-4])),
    ]
    for path, given in wrong:
        answer = await viewer.get(path, params=given)
        assert (answer.status_code, answer.json()["code"]) == (422, "BAD_CURSOR"), (path, given)
    assert (await viewer.get("/api/open-orders?symbol=%00")).json()["code"] == "BAD_TEXT"
    for given in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"side": "HOLD"}, {"kind": "all"}):
        answer = await viewer.get("/api/open-orders", params=given)
        assert (answer.status_code, answer.json()["field"]) == (422, next(iter(given)))


@pytest.mark.parametrize(
    "place", [("0001-01-01T00:00:00+14:00", "x"), ("9999-12-31T23:59:59-14:00", "x"), (NOON, "\ud800")]
)
@pytest.mark.parametrize("name", ["open-orders", "executed-orders", "open-trades", "closed-trades"])
async def test_a_made_up_cursor_is_refused(viewer: httpx.AsyncClient, name: str, place: tuple[str, str]) -> None:
    """Also one that is well formed, of these filters, and names a time or a key that there can't be."""
    path, state = (f"/api/{name}", {}) if "orders" in name else ("/api/trades", {"state": name.partition("-")[0]})
    answer = await viewer.get(path, params={**state, "cursor": cursor_of({"list": name}, *place)})
    assert (answer.status_code, answer.json()["code"]) == (422, "BAD_CURSOR"), answer.text
    real = await viewer.get(path, params={**state, "cursor": cursor_of({"list": name}, NOON, "x")})
    assert real.status_code == 200, real.text


@pytest.mark.parametrize("path", ["/api/pnl", "/api/equity", "/api/candles/BTC-USD"])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_time_that_is_none_in_utc_is_refused(viewer: httpx.AsyncClient, path: str, at: str) -> None:
    """A time whose zone leads out of the calendar is an invalid parameter, with its name, not an error of ours."""
    for name in ("since", "until"):
        answer = await viewer.get(path, params={name: at})
        assert (answer.status_code, answer.json()["field"]) == (422, name), answer.text


async def test_numbers_are_exact_text_and_times_are_utc(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Money and sizes are the ledger's own numbers as text, without exponent; times end in Z."""
    for row in await pages(viewer, "/api/executed-orders", limit=50):
        ours = await pool.fetchrow("SELECT * FROM orders WHERE order_key = $1", row["order_key"])
        assert Decimal(row["filled_size"]) == ours["filled_size"]
        assert Decimal(row["fees"]) == ours["quote_fees"]
        assert isinstance(row["fees"], str)
        assert "E" not in row["fees"]
        assert row["received_at"].endswith("Z")
        assert datetime.fromisoformat(row["finished_at"]) == ours["finished_at"]


async def test_nothing_of_another_account_is_shown(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Neither in lists nor by key, nor in a sum."""
    theirs = await pool.fetch("SELECT order_key FROM orders WHERE account = 'other'")
    for path in ("orders", "trades"):
        for key in (theirs[0]["order_key"], "0" * 32, "x", "%00", "a" * 31 + "'"):
            answer = await viewer.get(f"/api/{path}/{key}")
            assert (answer.status_code, answer.json()["code"]) in {(404, "NO_SUCH_ORDER"), (404, "NO_SUCH_TRADE")}
    closed = await pages(viewer, "/api/trades", state="closed", limit=9)
    assert len(closed) == TRADES
    (group,) = (await viewer.get("/api/pnl")).json()["groups"]
    assert group["trades"] == TRADES


async def test_figures_are_those_of_the_books(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Groups, the sum over time and the list of closed trades have the same profit, to the last shown digit."""
    total = await pool.fetchval("SELECT sum(pnl) FROM trades WHERE account = 'main'")
    for by in ("all", "day", "hour", "symbol", "trigger", "exit"):
        groups = (await viewer.get("/api/pnl", params={"by": by})).json()["groups"]
        assert abs(sum(Decimal(group["pnl"]) for group in groups) - total) < Decimal("0.000001"), by
    for bucket in ("hour", "day", "week", "month"):
        (series,) = (await viewer.get("/api/equity", params={"bucket": bucket})).json()["series"]
        assert abs(Decimal(series["points"][-1]["total"]) - total) < Decimal("0.000001")
        assert all(Decimal(point["drawdown"]) >= 0 for point in series["points"])
    trades = await pages(viewer, "/api/trades", state="closed")
    assert abs(sum(Decimal(trade["pnl"]) for trade in trades) - total) < Decimal("0.000001")
    naive = await viewer.get("/api/pnl", params={"since": "2026-01-01T00:00:00"})
    assert (naive.status_code, naive.json()["field"]) == (422, "since")


async def test_one_order_and_one_trade_tell_their_story(viewer: httpx.AsyncClient) -> None:
    """An order has its attempts and fills; a trade is found by any of its orders, and lists all of them."""
    trade = (await pages(viewer, "/api/trades", state="closed", limit=50))[0]
    story = (await viewer.get(f"/api/trades/{trade['entry_key']}")).json()
    assert story["trade"] == trade
    (sell,) = story["exit_orders"]
    by_sell = (await viewer.get(f"/api/trades/{sell['order_key']}")).json()
    assert by_sell["trade"] == trade
    assert {fill["side"] for fill in story["fills"]} == {"BUY", "SELL"}
    order = (await viewer.get(f"/api/orders/{sell['order_key']}")).json()
    assert order["order"]["kind"] == "exit"
    assert [fill["order_key"] for fill in story["fills"] if fill["side"] == "SELL"] == [sell["order_key"]]
    assert len(order["fills"]) == len(order["attempts"]) == 1


async def test_candles_come_with_our_fills(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """The newest candles of a product, oldest first, with the fills since the first of them, and the available
    lengths."""
    trade = (await pages(viewer, "/api/trades", state="closed"))[0]
    closed = datetime.fromisoformat(trade["closed_at"]).replace(second=0, microsecond=0)
    starts = [closed + timedelta(minutes=number) for number in range(-3, 3)]
    rows = [("main", trade["symbol"], 60, at, *map(Decimal, "1234"), Decimal(5)) for at in starts]
    await pool.executemany(
        """INSERT INTO candles (account, symbol, seconds, start, open, high, low, close, volume)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        rows,
    )
    found = (await viewer.get(f"/api/candles/{trade['symbol']}", params={"seconds": 60, "limit": 4})).json()
    assert [datetime.fromisoformat(candle["at"]) for candle in found["candles"]] == starts[2:]
    assert found["candles"][0]["open"] == "1"
    assert found["lengths"] == [60]
    assert all(datetime.fromisoformat(mark["at"]) >= starts[2] for mark in found["marks"])
    nothing = await viewer.get("/api/candles/%3Cscript%3E")
    assert (nothing.status_code, nothing.json()["candles"]) == (200, [])


async def test_the_summary_says_how_it_stands(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Counts, the day's result with its limit, the switch, incidents, and streams without a message yet."""
    await pool.execute(
        """INSERT INTO incidents (account, kind, severity, subject, sentence, resolved_at) VALUES
           ('main', 'TEST_KIND', 'CRITICAL', 'x', 'something <b>broke</b>', NULL),
           ('main', 'TEST_KIND', 'INFO', 'y', 'it is over', now()),
           ('other', 'TEST_KIND', 'INFO', 'z', 'theirs', NULL)"""
    )
    await pool.execute("INSERT INTO account_controls VALUES ('main', true, 'a break', 'ana', now())")
    found = (await viewer.get("/api/monitoring/summary")).json()
    assert found["counts"]["open_orders"] == 8
    assert found["counts"]["closed_trades"] == TRADES
    assert (found["counts"]["open_incidents"], found["counts"]["critical_incidents"]) == (1, 1)
    assert (found["switch"]["halted"], found["switch"]["by"]) == (True, "ana")
    assert [item["sentence"] for item in found["incidents"]] == ["something <b>broke</b>"]
    assert found["today"]["loss_limit"] is not None
    assert {stream["held"] for stream in found["streams"]} == {False}
    told = await pages(viewer, "/api/monitoring/telegram-messages", limit=1)
    assert [item["sentence"] for item in told] == ["it is over", "something <b>broke</b>"]
    assert [item["messages"] for item in told] == [0, 0]
    assert [item["telegram"] for item in told] == [None, None]


async def test_events_say_what_became_of_them_at_telegram(pool: Pool) -> None:
    """Sent to every chat, waiting for one, or not for them: by the kind's setting, or as it is too old and not an open
    CRITICAL one."""
    settings = build(
        SettingSources(from_file={"telegram": {"chats": [-5, 6], "kinds": {"warning": "off", "halted": "silent"}}})
    )
    for kind, severity, ago, chats in (
        ("OVERSOLD", "CRITICAL", 0, 2),
        ("OVERSOLD", "CRITICAL", 0, 1),
        ("stale_price", "WARNING", 0, 0),
        ("TRADING_HALTED", "WARNING", 0, 0),
        ("OVERSOLD", "CRITICAL", 2, 0),
        ("TRADING_HALTED", "WARNING", 2, 0),
        ("chat", "INFO", 0, 0),
    ):
        number = await pool.fetchval(
            "INSERT INTO incidents (account, kind, severity, sentence, at) "
            "VALUES ('main', $1, $2, $1, now() - $3::int * interval '1 day') RETURNING id",
            kind,
            severity,
            ago,
        )
        for chat in range(chats):
            await pool.execute("INSERT INTO notices (incident_id, target) VALUES ($1, $2)", number, f"telegram-{chat}")
        await pool.execute("INSERT INTO notices (incident_id, target) VALUES ($1, 'json-1')", number)
    sources = sources_of(settings, pool, lambda: policy_of(settings), lambda: settings)
    async with api_on(routers=[read_routes(sources)]) as api, api.program(VIEWER) as viewer:
        told = await pages(viewer, "/api/monitoring/telegram-messages", limit=4)
    assert [item["telegram"] for item in reversed(told)] == ["sent", "waits", "off", "waits", "waits", "off", "off"]


async def test_the_summary_says_what_is_at_risk(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """By currency the sums of the open trades' own rows; what has no price is counted, not taken for nothing; a trade
    is unprotected where nobody watches its price and nothing rests for it at the exchange.
    """
    keys = [await add_trade(pool, f"risk-{number}", symbol=symbol) for number, symbol in enumerate(SYMBOLS)]
    old = datetime(2026, 3, 1, tzinfo=UTC)
    for symbol, bid, at in (("BTC-USD", 104, old + timedelta(days=1)), ("ETH-USD", 90, old), ("ETH-EUR", 99, None)):
        await pool.execute(
            """INSERT INTO market_prices (account, symbol, bid, at) VALUES ('main', $1, $2, $3)
               ON CONFLICT (account, symbol) DO UPDATE SET bid = excluded.bid, at = excluded.at""",
            symbol,
            Decimal(bid),
            at or old + timedelta(days=2),
        )
    await pool.execute("UPDATE exit_plans SET stop = 101, peak = 104 WHERE entry_key = $1", keys[0])
    await pool.execute(
        """UPDATE orders SET protection_role = 'STOP_LOSS', entry_key = $1, role = 'EXIT', side = 'SELL'
            WHERE order_key = (SELECT order_key FROM orders WHERE NOT finished AND account = 'main' LIMIT 1)""",
        keys[1],
    )
    found = (await viewer.get("/api/monitoring/summary")).json()
    risks = {item["currency"]: item for item in found["risks"]}
    rows = await pages(viewer, "/api/trades")
    for currency, priced in (("USD", 2), ("EUR", 1)):
        own = [row for row in rows if row["currency"] == currency]
        known = [row for row in own if row["bid"] is not None]
        assert len(known) == priced
        assert (risks[currency]["trades"], risks[currency]["unpriced"]) == (len(own), len(own) - priced)
        at_risk = sum(max(Decimal(row["at_risk"]), Decimal(0)) for row in known)
        assert Decimal(risks[currency]["at_risk"]) == at_risk
        assert Decimal(risks[currency]["exposure"]) == sum(Decimal(row["bid"]) for row in known)
    assert Decimal(risks["USD"]["at_risk"]) == 3, "the trailing stop is the nearest; a passed stop adds nothing"
    assert found["unprotected"] == len(SYMBOLS) - 1
    assert found["oldest"] == {"what": "ETH-USD", "at": "2026-03-01T00:00:00Z"}


async def test_a_ledger_that_is_away_is_said(api: Api, viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Without its database the API answers 503 in its one form, and sessions continue."""
    await pool.close()
    answer = await viewer.get("/api/open-orders")
    assert (answer.status_code, answer.json()["code"]) == (503, "NO_DATABASE")
    assert (await viewer.get("/api/session")).status_code == 200
    assert api.door.sessions is not None


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lists.ended_orders, "ix_orders_ended"),
        (functools.partial(lists.trades_of, closed=True), "ix_trades_closed_at"),
    ],
    ids=["executed orders", "closed trades"],
)
async def test_deep_pages_read_by_the_index(
    pool: Pool, read: Callable[..., Awaitable[object]], index: str, plan: str
) -> None:
    """The page after any row is found in the index at its place, planned for its values or for any, so a deep one costs
    the same as the first.
    """
    asked = _Asked()
    await read(asked, "main", after=lists.Place(datetime.now(UTC), "f" * 32), limit=100)
    values = ", ".join(f"'{value}'" for value in asked.values)
    async with pool.acquire() as connection, connection.transaction():
        for line in ("enable_seqscan = off", "enable_sort = off", f"plan_cache_mode = {plan}"):
            await connection.execute(f"SET LOCAL {line}")
        await connection.execute(f"PREPARE page AS {asked.query}")
        lines = [row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE page ({values})")]
    found = [lines[number + 1] for number, line in enumerate(lines) if f"Backward using {index}" in line]
    at_its_place = (
        r"Index Cond: \(\(account = .* AND \((ROW\(COALESCE\(finished_at, received_at\), order_key\)|closed_at) <"
    )
    assert any(re.search(at_its_place, line) for line in found), "\n".join(lines)


@dataclass
class _Asked:
    """A ledger that only keeps the statement that is asked of it."""

    query: str = ""
    values: tuple[object, ...] = ()

    async def fetch(self, query: str, *values: object) -> list[Any]:
        """No rows."""
        self.query, self.values = query, values
        return []
