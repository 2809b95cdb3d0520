"""Explanations of the API: why a trade came about, where its result comes from, what happened and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from activities.database import Pool, create_pool
from activities.ledger.recompute import repair_symbol
from activities.orders.controls import halt
from cli.api_sources import sources_of
from cli.main import run
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.api import VIEWER, Api, api_on
from tests.support.generated_ledger import write_ledger
from tests.support.intents import linkage, market_buy
from tests.support.ledger_rows import add_trade
from web.api.reads import read_routes
from web.views.audit import AUDIT_SOURCES, read_audit
from web.views.lists import Place
from workers.settings import DatabaseSettings, Settings
from workers.settings.values import policy_of

TRADES = 40


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A ledger with closed trades of two accounts, and the FIFO book of the first."""
    await write_ledger(database, TRADES, seed=5)
    await write_ledger(database, 3, seed=6, account="other")
    found = await create_pool(database, size=4, statement_seconds=20)
    for row in await found.fetch("SELECT DISTINCT symbol FROM trades WHERE account = 'main'"):
        await repair_symbol(found, "main", row["symbol"])
    yield found
    found.terminate()


@pytest_asyncio.fixture
async def api(pool: Pool, database: str) -> AsyncIterator[Api]:
    """The API on that ledger."""
    settings = Settings(database=DatabaseSettings(url=SecretStr(database)))
    async with api_on(routers=[read_routes(sources_of(settings, pool, lambda: policy_of(settings)))]) as found:
        yield found


@pytest_asyncio.fixture
async def viewer(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A user who may read."""
    async with api.program(VIEWER) as found:
        yield found


@contextlib.asynccontextmanager
async def served(desk: Desk, database: str) -> AsyncIterator[httpx.AsyncClient]:
    """A user who may read, with an API on the desk's account."""
    settings = Settings(account=desk.account, database=DatabaseSettings(url=SecretStr(database)))
    async with (
        api_on(routers=[read_routes(sources_of(settings, desk.pool, lambda: desk.policy))]) as api,
        api.program(VIEWER) as found,
    ):
        yield found


async def read(viewer: httpx.AsyncClient, path: str, **given: Any) -> Any:
    """The answer of a read."""
    answer = await viewer.get(path, params=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def events(viewer: httpx.AsyncClient, **filters: Any) -> list[dict[str, Any]]:
    """The whole audit, page by page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await read(viewer, "/api/audit", **filters, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def sentences(answer: dict[str, Any], about: str) -> str:
    """The sentences of a section."""
    (section,) = [section for section in answer["why"] if section["about"] == about]
    return "\n".join(section["sentences"])


async def test_the_parts_of_a_result_add_up_to_its_last_digit(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """For each closed trade price gain, slippage and fees add up to its P&L exactly; its lots are the FIFO book's, and
    the unit of risk is the distance to the hard stop at its entry."""
    closed = (await read(viewer, "/api/trades", state="closed", limit=1000))["items"]
    assert len(closed) == TRADES
    for row in closed:
        story = await read(viewer, f"/api/trades/{row['entry_key']}")
        result = {name: Decimal(text) for name, text in story["result"].items() if name != "currency"}
        parts = result["price_gain"] + result["slippage"] - result["entry_fees"] - result["exit_fees"]
        ours = await pool.fetchrow("SELECT * FROM trades WHERE entry_key = $1", row["entry_key"])
        assert parts == result["pnl"] == ours["pnl"]
        assert result["unit_of_risk"] == Decimal(row["unit_of_risk"])
        assert abs(result["unit_of_risk"] - ours["bought_value"] * Decimal("0.05")) < Decimal("1e-7")
        assert Decimal(row["result_in_risk"]) == result["result_in_risk"]
        assert abs(Decimal(row["slippage"]) - result["slippage"]) < Decimal("1e-7")
        lots = await pool.fetch(
            "SELECT a.pnl FROM fifo_allocations a JOIN fills f ON f.id = a.sell_fill WHERE f.order_key = $1",
            story["exit_orders"][0]["order_key"],
        )
        assert sorted(Decimal(lot["pnl"]) for lot in story["lots"]) == sorted(lot["pnl"] for lot in lots)
        assert lots


async def test_a_closed_trade_says_why_it_bought_and_sold(viewer: httpx.AsyncClient) -> None:
    """Its sections have trigger, scores, indicators, the exit with target, due price, result, slippage and fees."""
    row = (await read(viewer, "/api/trades", state="closed", limit=1))["items"][0]
    story = await read(viewer, f"/api/trades/{row['entry_key']}")
    assert [section["about"] for section in story["why"]] == ["bought", "sold", "result"]
    bought = sentences(story, "bought")
    assert f"{row['trigger']} (sighook) decided to buy, buy score " in bought
    assert "fired: " in bought.lower()
    sold = sentences(story, "sold")
    for part in (f"by {row['exit_reason']}", "It was due at a price of ", "before fees", "Slippage ", "Fees "):
        assert part in sold
    assert sentences(story, "result").startswith("P&L ")
    lines = story["timeline"]
    times = [datetime.fromisoformat(line["at"]) for line in lines]
    assert times == sorted(times)
    kinds = [line["kind"] for line in lines]
    assert kinds.count("fill") == 2
    assert kinds.index("fill") < kinds.index("exit")
    order = await read(viewer, f"/api/orders/{story['exit_orders'][0]['order_key']}")
    assert "by " + row["exit_reason"] in sentences(order, "sold")
    assert {line["order_key"] for line in order["timeline"]} == {order["order"]["order_key"]}


async def test_an_open_trade_says_what_it_waits_for(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """It has the held size, the prices at which it sells, and who moved its stops; it has no result yet."""
    key = await add_trade(pool, "held", notify=False)
    await pool.execute(
        """INSERT INTO stop_changes (id, account, entry_key, given_by, sentence, rules_before, rules_after)
           VALUES ('one', 'main', $1, 'ana (API)', 'hard stop 95 to 97', '{}', '{}')""",
        key,
    )
    story = await read(viewer, f"/api/trades/{key}")
    assert [section["about"] for section in story["why"]] == ["bought", "held"]
    held = sentences(story, "held")
    assert "1 are held: hard stop 95 (-5 %), soft stop 97.5 (-2.5 %)" in held
    assert "Stops were moved by ana (API) at " in held
    assert "hard stop 95 to 97." in held
    assert story["result"] is None
    assert story["lots"] == []


async def test_why_it_did_not_buy_has_the_gate_and_its_numbers(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused entry names its gate, in its words, and the number of gates passed before; the product's answer is that
    of `bottrader why`, and the audit has the numbers."""
    monkeypatch.setenv("DATABASE_URL", database)
    async with desk_at_a_paper_exchange(database) as desk:
        await desk.balance("10000")
        await desk.market(change_24h="-0.042", bid="50000", ask="50001")
        desk.policy = replace(desk.policy, buy_on_red_day=False)
        given = linkage().model_copy(update={"snapshot_id": str(uuid.uuid4())})
        intent = market_buy(desk.account, linkage=given)
        assert (await desk.admit(intent)).gate == "SKIP_RED_DAY"
        async with served(desk, database) as viewer:
            for path in ("orders", "trades"):
                answer = await read(viewer, f"/api/{path}/{intent.order_key}")
                about = "refused" if path == "orders" else "not_bought"
                assert "refused by SKIP_RED_DAY: BTC-USD fell by 4.20 % over the last 24 hours." in sentences(
                    answer, about
                )
                assert "passed before that one." in sentences(answer, about)
            asked = await read(viewer, "/api/why/btc-usd")
            (event,) = await events(viewer, about="order")
    assert any("was refused by SKIP_RED_DAY" in answer for answer in asked["answers"])
    assert asked["orders"][0]["order_key"] == intent.order_key
    assert (event["event"], event["gate"]) == ("ORDER_REFUSED", "SKIP_RED_DAY")
    assert "change_24h -0.042" in event["numbers"]


async def test_the_page_and_the_command_give_the_same_answer(
    viewer: httpx.AsyncClient,
    pool: Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`GET /api/why/{symbol}` is `bottrader why --json`, sentence by sentence."""
    monkeypatch.setenv("DATABASE_URL", database)
    async with pool.acquire() as connection:
        await halt(connection, "main", "a break", "ada")
    symbol = await pool.fetchval("SELECT symbol FROM trades WHERE account = 'main' LIMIT 1")
    asked = await read(viewer, f"/api/why/{symbol}")
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["why", symbol, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == asked["answers"]
    assert asked["answers"][0].startswith("Entries are halted by ada since ")


@pytest.mark.parametrize("limit", [3, 1000])
async def test_the_audit_has_every_event_once(viewer: httpx.AsyncClient, pool: Pool, limit: int) -> None:
    """Over all pages every event is there once, in the order of time, from all sources, also with many at the same
    moment; nothing of another account; a filter returns just its part."""
    await happenings(pool, "main")
    await happenings(pool, "other")
    found = await events(viewer, limit=limit)
    assert len({event["id"] for event in found}) == len(found)
    places = [(datetime.fromisoformat(event["at"]), event["id"]) for event in found]
    assert places == sorted(places, reverse=True)
    orders = await pool.fetchval("SELECT count(*) FROM orders WHERE account = 'main'")
    assert len(found) == 2 * orders + 5 * len(AUDIT_SOURCES[1:]) + 5
    assert not any("other" in json.dumps(event) for event in found)
    whole: list[str] = []
    for about in AUDIT_SOURCES:
        part = [event["id"] for event in await events(viewer, limit=limit, about=about)]
        assert part == [event["id"] for event in found if event["about"] == about]
        whole += part
    assert sorted(whole) == sorted(event["id"] for event in found)
    some = await events(viewer, limit=limit, symbol="XYZ-USD")
    assert {event["about"] for event in some} == {"signal", "incident"}


async def happenings(pool: Pool, account: str) -> None:
    """Five signals, incidents, commands, actions and changed settings, all at one moment."""
    for number in range(5):
        await pool.execute(
            """WITH a AS (INSERT INTO trade_signals (account, symbol, side, source, trigger, decision, details)
                          VALUES ($1, 'XYZ-USD', 'BUY', $1, 'rsi', 'throttled', '{"sentence": "too soon"}')),
                    b AS (INSERT INTO incidents (account, kind, severity, subject, sentence)
                          VALUES ($1, 'stale_price', 'WARNING', 'XYZ-USD', $1)),
                    c AS (INSERT INTO commands (id, account, kind, subject, given_by)
                          VALUES ($1 || $2::text, $1, 'close', 'none', $1)),
                    d AS (INSERT INTO api_actions (account, given_by, key, kind, subject, digest, body, status, answer)
                          VALUES ($1, $1, $2::text, 'halt', '', '', '{"note": "a break"}', 200,
                                  '{"sentence": "entries are halted"}'))
               INSERT INTO setting_changes (account, key, old, new, changed_by)
               VALUES ($1, 'symbols.block', '[]', '["BTC-USD"]', $1)""",
            account,
            str(number),
        )


async def test_a_cursor_of_the_audit_is_of_its_filters(viewer: httpx.AsyncClient) -> None:
    """With other sources or another product it is refused by name; an unknown source is bad input."""
    cursor = (await read(viewer, "/api/audit", limit=2))["next_cursor"]
    for given in ({"about": "signal"}, {"symbol": "BTC-USD"}):
        answer = await viewer.get("/api/audit", params={"cursor": cursor, **given})
        assert (answer.status_code, answer.json()["code"]) == (422, "BAD_CURSOR")
    assert (await viewer.get("/api/audit", params={"about": "nobody"})).status_code == 422


async def test_linkage_and_health_are_those_of_the_commands(viewer: httpx.AsyncClient, pool: Pool) -> None:
    """Linkage counts the filled orders; health has doctor's findings, computed once for all requests within seconds."""
    linked = await read(viewer, "/api/linkage")
    filled = await pool.fetchval("SELECT count(*) FROM orders WHERE account = 'main' AND filled_size > 0")
    assert (linked["filled"], linked["linked"]) == (filled, filled)
    first, second = await asyncio.gather(*(read(viewer, "/api/monitoring/health") for _ in range(2)))
    assert first == second
    assert {finding["verdict"] for finding in first["findings"]} <= {"ok", "warn", "fail"}
    assert {"settings", "database"} <= {finding["check"] for finding in first["findings"]}
    assert datetime.fromisoformat(first["at"]).tzinfo is not None


class Explained:
    """A ledger that answers with the query plan."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, query: str, *values: object) -> Any:
        """The plan, line by line."""
        return await self._connection.fetch(f"EXPLAIN {query}", *values)


async def test_a_deep_page_of_the_audit_reads_by_the_indexes(database: str, pool: Pool) -> None:
    """Every source is read by its own index from the place where the page begins, so a deep page costs the same as the
    first one."""
    await happenings(pool, "main")
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; ANALYZE")
        ledger: Any = Explained(connection)
        rows: Any = await read_audit(ledger, "main", after=Place(datetime.now(UTC), "x"), limit=100)
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    for index in (
        "ix_orders_ended",
        "ix_orders_received_at",
        "ix_trade_signals_account_at",
        "ix_incidents_at",
        "ix_commands_at",
        "ix_api_actions_at",
        "ix_setting_changes_at",
    ):
        assert f"Backward using {index}" in plan, plan
