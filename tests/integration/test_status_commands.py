"""`bottrader status`, `balance` and the lists' cursors, compared with the API's answers on the same ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from cli.api_sources import sources_of
from cli.main import run
from tests.support.api import VIEWER, api_on
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import add_order, add_trade, intent, open_books
from web.api.reads import read_routes
from workers.settings import Settings
from workers.settings.values import policy_of

TRADES = 12
Capture = pytest.CaptureFixture[str]


@pytest_asyncio.fixture
async def pool(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """A ledger with closed trades, an open one and open orders, and a command line that reads it."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("COLUMNS", "200")
    await write_ledger(database, TRADES, seed=5)
    found = await create_pool(database, size=4, statement_seconds=20)
    for number in range(5):
        await add_order(found, intent(f"open-{number}"))
    await add_trade(found, "held")
    await found.execute("INSERT INTO market_prices (account, symbol, bid, at) VALUES ('main', 'BTC-USD', 99, now())")
    yield found
    found.terminate()


@pytest_asyncio.fixture
async def viewer(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """The API on the same ledger, with a user who may read."""
    settings = Settings()
    routers = [read_routes(sources_of(settings, pool, lambda: policy_of(settings)))]
    async with api_on(routers=routers) as api, api.program(VIEWER) as found:
        yield found


async def bottrader(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    """The command's exit code, answer and notes."""
    capsys.readouterr()
    code = await asyncio.to_thread(run, list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


async def test_status_has_the_numbers_of_the_page(pool: Pool, viewer: httpx.AsyncClient, capsys: Capture) -> None:
    """Every number is the summary's; a halt, a missing price and an unknown order are stated in words."""
    code, out, _ = await bottrader(capsys, "status", "--json")
    assert code == 0
    found, summary = json.loads(out), (await viewer.get("/api/monitoring/summary")).json()
    for name in ("counts", "risks", "unprotected", "oldest", "switch"):
        assert found[name] == summary[name], name
    assert {name: summary["today"][name] for name in ("pnl", "losses_in_a_row")} == {
        name: found["today"][name] for name in ("pnl", "losses_in_a_row")
    }
    _, plain, _ = await bottrader(capsys, "status")
    assert plain.startswith("PAPER ×1, account main: entries are allowed.")
    for words in ("limit -500.00 USD", "1.50 USD", "99.00 USD", "1 of 1 open trades", "BTC-USD"):
        assert words in plain, plain
    await pool.execute("INSERT INTO account_controls VALUES ('main', true, 'the news', 'ana', now())")
    await pool.execute("DELETE FROM market_prices")
    await pool.execute("UPDATE orders SET state = 'UNKNOWN' WHERE order_key IN (SELECT order_key FROM orders WHERE NOT "
                       "finished ORDER BY 1 LIMIT 1)")  # fmt: skip
    _, halted, _ = await bottrader(capsys, "status")
    assert "HALTED by ana since" in halted
    assert "the news." in halted
    assert "without 1 of 1 trades, which have no price" in halted
    assert "5, 1 with an unknown outcome" in halted
    assert "none yet" in halted


async def test_balance_sets_exchange_beside_ledger(pool: Pool, capsys: Capture) -> None:
    """Each currency has both sides with their difference, the size in trades, and the age of the exchange's balance."""
    await open_books(pool, "main", BTC="3", USD="1000")
    await pool.execute("DELETE FROM fills")
    await pool.executemany(
        """INSERT INTO balances (account, currency, available, hold, asked_at, answered_at)
           VALUES ('main', $1, $2, $3, $4, $4)""",
        [
            ("BTC", Decimal(2), Decimal("0.5"), datetime.now(UTC) - timedelta(minutes=7)),
            ("EUR", Decimal(0), Decimal(0), datetime.now(UTC)),
        ],
    )
    code, out, _ = await bottrader(capsys, "balance", "--json")
    assert code == 0
    rows = {row["currency"]: row for row in json.loads(out)}
    assert set(rows) == {"BTC", "USD"}
    btc = {name: rows["BTC"][name] for name in ("exchange", "available", "hold", "ledger", "difference", "in_trades")}
    assert btc == {
        "exchange": "2.5", "available": "2", "hold": "0.5", "ledger": "3", "difference": "-0.5", "in_trades": "1"
    }  # fmt: skip
    assert (rows["USD"]["exchange"], rows["USD"]["difference"]) == (None, None), "not known is not zero"
    _, plain, _ = await bottrader(capsys, "balance", "--all")
    assert "7 min" in plain
    assert "EUR" in plain


@pytest.mark.parametrize(
    ("command", "path", "filters", "key", "count"),
    [
        (("orders", "--open"), "/api/open-orders", {}, "order_key", 5),
        (("orders", "--ended"), "/api/executed-orders", {}, "order_key", 2 * TRADES + 1),
        (("trades", "--open"), "/api/trades", {"state": "open"}, "entry_key", 1),
        (("trades", "--closed"), "/api/trades", {"state": "closed"}, "entry_key", TRADES),
        (("orders",), None, {}, "order_key", 2 * TRADES + 6),
        (("trades",), None, {}, "entry_key", TRADES + 1),
    ],
)
async def test_lists_go_on_by_the_cursors_of_the_api(
    pool: Pool,
    viewer: httpx.AsyncClient,
    capsys: Capture,
    command: tuple[str, ...],
    path: str | None,
    filters: dict[str, str],
    key: str,
    count: int,
) -> None:
    """Over all pages every row is there once; each page and cursor is the API's, and either's cursor works in the
    other."""
    seen: list[str] = []
    cursor = "first"
    while cursor:
        code, out, _ = await bottrader(capsys, *command, "--limit", "4", "--json", "--cursor", cursor)
        assert code == 0
        page: dict[str, Any] = json.loads(out)
        if path is not None:
            given = {**filters, "limit": "4"} | ({} if cursor == "first" else {"cursor": cursor})
            theirs = (await viewer.get(path, params=given)).json()
            assert theirs["next_cursor"] == page["next_cursor"]
            assert [row[key] for row in theirs["items"]] == [row[key] for row in page["items"]]
        seen += [row[key] for row in page["items"]]
        cursor = page["next_cursor"]
    assert (len(seen), len(set(seen))) == (count, count)


async def test_a_list_says_how_it_goes_on(pool: Pool, capsys: Capture) -> None:
    """Below an incomplete table, stderr has the next page's cursor; another list's cursor is refused."""
    _, out, err = await bottrader(capsys, "orders", "--limit", "3")
    assert "There are more" in err
    cursor = err.split("--cursor ")[1].strip()
    code, more, _ = await bottrader(capsys, "orders", "--limit", "3", "--cursor", cursor)
    assert code == 0
    assert not set(out.split()) & set(more.split()) & {row["order_key"][:12] for row in await pool.fetch(
        "SELECT order_key FROM orders")}  # fmt: skip
    for wrong in (("orders", "--open"), ("trades",), ("incidents",)):
        code, _, told = await bottrader(capsys, *wrong, "--cursor", cursor)
        assert (code, "This cursor does not belong to this list" in told) == (2, True)


async def test_incidents_go_on_by_a_cursor(pool: Pool, capsys: Capture) -> None:
    """The newest are first, each once."""
    await pool.executemany(
        "INSERT INTO incidents (account, kind, severity, subject, sentence) VALUES ('main', 'T', 'INFO', $1, $1)",
        [(f"number {number}",) for number in range(5)],
    )
    seen: list[str] = []
    cursor = "first"
    while cursor:
        _, out, _ = await bottrader(capsys, "incidents", "--limit", "2", "--json", "--cursor", cursor)
        page = json.loads(out)
        seen += [row["sentence"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [f"number {number}" for number in reversed(range(5))]
