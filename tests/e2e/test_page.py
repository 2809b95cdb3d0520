"""The page in a real browser on a running system: it shows the API's data, and its actions have their effect."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from cli.api_hands import hands_of
from tests.support.api import PASSWORD, TRADER
from tests.support.intents import limit_buy, market_buy
from tests.support.page import NEEDS_BROWSER, PageDesk, page_desk
from tests.support.waiting import SLACK, eventually
from workers.stack.dev_server import DevServer

pytestmark = NEEDS_BROWSER
expect.set_options(timeout=15_000 * SLACK)


@pytest_asyncio.fixture(scope="module")
async def desk(module_database: str, temporal_server: DevServer) -> AsyncIterator[PageDesk]:
    """One system and one browser for the module; every test has its own page and log-in."""
    async with page_desk(module_database, temporal_server.address) as found:
        yield found


async def resting(desk: PageDesk, price: str, size: str = "0.002") -> str:
    """An entry that rests at the exchange. Returns its key."""
    order = await desk.system.start(limit_buy(desk.system.account, size, price))
    await order.until_state("OPEN")
    return order.key


def grouped(text: str) -> str:
    """A number in the page's notation."""
    return f"{Decimal(text).normalize():,f}".replace("-", "−")


def cents(text: str) -> str:
    """Dollars in the page's notation: to the cent, below half a cent two digits that count."""
    value = Decimal(text)
    shown = value.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    if value and not shown:
        shown = value.quantize(Decimal(1).scaleb(value.adjusted() - 1), rounding=ROUND_HALF_UP).normalize()
    return f"{shown:,f}"


def percent(text: str) -> str:
    """A fraction as the page shows a gain or a loss."""
    value = (Decimal(text) * 100).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{abs(value)} %"


def seconds(given: float) -> str:
    """A length of time below an hour as the page shows it."""
    if given < 10:
        return f"{given:.2f} s" if given < 1 else f"{given:.1f} s"
    return f"{int(given)} s" if given < 60 else f"{int(given / 60)} min"


async def test_open_orders_are_the_apis_row_by_row(desk: PageDesk) -> None:
    """Every row of the API is a row of the page, in the same order, with the same values."""
    keys = [await resting(desk, price) for price in ("40000", "41000.5", "42000")]
    seen = await desk.open()
    for key in keys:
        await seen.row(key).wait_for()
    rows = await desk.rows("/api/open-orders")
    assert await seen.keys() == [row["order_key"] for row in rows]
    for row in rows:
        key = row["order_key"]
        for column, text in {
            "symbol": row["symbol"],
            "side": row["side"],
            "role": row["kind"],
            "limit": grouped(row["limit_price"]),
            "size": grouped(row["base_size"]),
            "state": row["public_state"].replace("_", " "),
            "attempt": str(row["attempts"]),
            "trigger": row["trigger"],
        }.items():
            await expect(seen.cell(key, column)).to_have_text(text)
    seen.assert_clean()
    await seen.context.close()


async def test_a_new_order_comes_by_itself_and_is_cancelled(desk: PageDesk) -> None:
    """An order appears without a reload; Cancel asks with its size, cancels it, says so, and the row moves to Executed
    Orders with the API's values.
    """
    seen = await desk.open()
    key = await resting(desk, "39000", "0.003")
    await seen.cell(key, "actions").get_by_role("button", name="Cancel").click()
    dialog = seen.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("0.003")
    await expect(dialog).to_contain_text("39,000")
    await seen.confirm("Cancel the order")
    await expect(seen.page.locator(".toast").first).to_be_visible()
    await expect(seen.row(key)).to_have_count(0)
    await seen.tab("Executed Orders")
    await expect(seen.cell(key, "status")).to_have_text("CANCELLED")
    row = next(row for row in await desk.rows("/api/executed-orders") if row["order_key"] == key)
    await expect(seen.cell(key, "status_source")).to_have_text(row["status_source"].replace("_", " ").lower())
    assert await seen.keys() == [row["order_key"] for row in await desk.rows("/api/executed-orders")]
    seen.assert_clean()
    await seen.context.close()


async def test_executed_orders_are_the_apis_row_by_row(desk: PageDesk) -> None:
    """However an order has ended, its row has the API's values in every column, and the rows have the API's order."""
    cancelled = await resting(desk, "39500.25", "0.0031")
    trade = await desk.system.start(market_buy(desk.system.account, "0.0123"))
    await trade.until_protected()
    refused = await desk.system.start(limit_buy(desk.system.account, "0.00000001", "40000"))
    await refused.result()
    async with desk.api.program(TRADER) as trader:
        for path in (f"orders/{cancelled}/cancel", f"trades/{trade.key}/close"):
            headers = {"Idempotency-Key": path.replace("/", "-")}
            answer = await trader.post(f"/api/{path}", json={}, headers=headers)
            assert answer.status_code == 200, answer.text
    await trade.result()

    async def ended() -> list[dict[str, Any]] | None:
        rows = await desk.rows("/api/executed-orders")
        return rows if {cancelled, trade.key, refused.key} <= {row["order_key"] for row in rows} else None

    rows = await eventually(ended, what="all three have ended")
    assert {"FILLED", "CANCELLED"} < {row["public_state"] for row in rows}
    seen = await desk.open(path="#/executed-orders", width=2000, height=1600)
    await seen.row(rows[0]["order_key"]).wait_for()
    assert await seen.keys() == [row["order_key"] for row in rows]
    for row in rows[:8]:
        for column, text in executed_texts(row).items():
            await expect(seen.cell(row["order_key"], column), column).to_have_text(text)
    seen.assert_clean()
    await seen.context.close()


def executed_texts(row: dict[str, Any]) -> dict[str, str]:
    """What each column of Executed Orders shows of a row."""

    def words(text: str | None) -> str:
        return text.replace("_", " ").lower() if text else "–"

    def at(name: str) -> datetime | None:
        return datetime.fromisoformat(row[name]) if row[name] else None

    currency = row["symbol"].partition("-")[2]
    ended, placed, filled = at("ended_at"), at("placed_at"), at("last_fill_at")
    assert ended is not None
    took = None if placed is None or filled is None else max((filled - placed).total_seconds(), 0)
    result = row["achieved_net"]
    trade = (row["order_key"] if row["trade_state"] else None) if row["role"] == "ENTRY" else row["entry_key"]
    size = f"{cents(row['quote_size'])} {currency}" if row["base_size"] is None else grouped(row["base_size"])
    return {
        "ended": ended.strftime("%H:%M:%S"),
        "key": row["order_key"][:8],
        "symbol": row["symbol"],
        "side": row["side"],
        "role": row["kind"],
        "type": words(row["order_type"]) + (" post" if row["post_only"] else ""),
        "filled": grouped(row["filled_size"]),
        "size": size,
        "average": "–" if row["average_price"] is None else grouped(row["average_price"]),
        "fees": cents(row["fees"]),
        "status": row["public_state"].replace("_", " "),
        "status_source": words(row["status_source"]),
        "reason": words(row["exit_reason"] or row["gate"] or row["refusal"] or row["sentence"]),
        "result": "–" if result is None else percent(result),
        "trigger": row["trigger"] or "–",
        "trade": trade[:8] if trade else "–",
        "took": "–" if took is None else seconds(took),
    }


async def test_the_csv_of_what_is_filtered_is_downloaded(desk: PageDesk) -> None:
    """A click on CSV saves a file with all rows that the chips leave, in the API's order and with its values."""
    await (await desk.system.start(limit_buy(desk.system.account, "0.00000001", "40000"))).result()
    cancelled = await resting(desk, "39400")
    async with desk.api.program(TRADER) as trader:
        await trader.post(f"/api/orders/{cancelled}/cancel", json={}, headers={"Idempotency-Key": "csv-of-cancelled"})
    seen = await desk.open(path="#/executed-orders?state=CANCELLED")
    await seen.row(cancelled).wait_for()
    async with seen.page.expect_download() as download:
        await seen.page.get_by_role("link", name="CSV").click()
    file = await download.value
    assert file.suggested_filename == "executed-orders.csv"
    text = await asyncio.to_thread((await file.path()).read_text, encoding="utf-8")
    saved = list(csv.DictReader(io.StringIO(text)))
    rows = await desk.rows("/api/executed-orders", state="CANCELLED")
    assert [row["order_key"] for row in saved] == [row["order_key"] for row in rows]
    assert {row["public_state"] for row in saved} == {"CANCELLED"}
    for name in ("symbol", "limit_price", "base_size", "ended_at", "status_source"):
        assert [row[name] for row in saved] == [row[name] or "" for row in rows]
    seen.assert_clean()
    await seen.context.close()


async def test_live_has_a_red_frame_and_wants_the_accounts_name(desk: PageDesk) -> None:
    """In live mode the page says so in red, and flatten and resume want the account's name: their word is not enough,
    neither for the page nor for the API.
    """
    key = await resting(desk, "37500")
    hands = replace(hands_of(desk.system.settings, desk.system.pool), live=True)
    async with desk.also(hands, mode="live") as live:
        seen = await live.open()
        await expect(seen.page.locator(".badge.live")).to_have_text("LIVE")
        frame = await seen.page.locator(".shell").evaluate(
            "shell => [getComputedStyle(shell).borderTopWidth, getComputedStyle(shell).borderTopColor]"
        )
        red = await seen.page.locator(".badge.live").evaluate("badge => getComputedStyle(badge).color")
        assert frame == ["3px", red]
        await seen.row(key).wait_for()
        await seen.page.get_by_role("button", name="Flatten", exact=True).click()
        dialog = seen.page.get_by_role("dialog")
        button = dialog.get_by_role("button", name="Flatten", exact=True)
        await dialog.locator('input[name="confirm"]').fill("flatten")
        await expect(button).to_be_disabled()
        await expect(dialog).to_contain_text(desk.system.account)
        async with live.api.program(TRADER) as trader:
            refused = await trader.post(
                "/api/flatten", json={"confirm": "flatten"}, headers={"Idempotency-Key": "live-by-its-word"}
            )
            assert (refused.status_code, refused.json()["code"]) == (422, "NOT_CONFIRMED")
        assert key in {row["order_key"] for row in await desk.rows("/api/open-orders")}
        await seen.confirm("Flatten", word=desk.system.account)
        await expect(seen.row(key)).to_have_count(0)
        seen.assert_clean()
        await seen.context.close()
    paper = await desk.open()
    await expect(paper.page.locator(".badge.live")).to_have_count(0)
    assert await paper.page.locator(".shell").evaluate("shell => getComputedStyle(shell).borderTopWidth") == "0px"
    await paper.context.close()


async def test_a_size_is_shown_whole_or_rounded_with_all_its_digits_in_the_tooltip(desk: PageDesk) -> None:
    """No size is cut: with more digits than fit it is rounded, and the tooltip has all of them, in every list."""
    sizes = {
        "0.00226803": "0.00226803",
        "0.002268031234567891": "0.00226803",
        "1234567.891234567891": "1,234,567.89",
        "0.000000001234": "0.0000000012",
        "98765432.1": "98,765,432.1",
    }
    await resting(desk, "33500")
    order = (await desk.rows("/api/open-orders"))[0]
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    held = next(row for row in await desk.rows("/api/trades") if row["entry_key"] == trade.key)
    seen = await desk.open(logged_in=False, width=2000)

    def given(row: dict[str, Any], key: str, *names: str) -> dict[str, Any]:
        rows = [row | {key: f"{number:032d}", **dict.fromkeys(names, size)} for number, size in enumerate(sizes)]
        return {"items": rows, "next_cursor": None}

    ended = order | {"public_state": "FILLED", "ended_at": order["received_at"]}
    closed = held | {"state": "CLOSED", "closed_at": held["opened_at"]}
    answers = {
        "open-orders": given(order, "order_key", "base_size"),
        "executed-orders": given(ended, "order_key", "base_size", "filled_size"),
        "trades?state=closed": given(closed, "entry_key", "entry_size"),
        "trades?state=open": given(held, "entry_key", "remaining"),
    }

    async def give(route: Route) -> None:
        found = next(answer for path, answer in answers.items() if f"/api/{path}" in route.request.url)
        await route.fulfill(json=found)

    for path in answers:
        await seen.page.route(re.compile(re.escape(f"/api/{path}")), give)
    await seen.page.goto(f"{desk.api.origin}/login?token={desk.api.link.token}")
    await seen.page.locator(".shell").wait_for()
    for path, columns in {
        "#/": ["size"],
        "#/executed-orders": ["size", "filled"],
        "#/trades": ["size"],
        "#/trades?list=closed": ["size"],
    }.items():
        await seen.page.goto(f"{desk.api.origin}/{path}")
        for number, (size, shown) in enumerate(sizes.items()):
            for column in columns:
                cell = seen.cell(f"{number:032d}", column)
                await expect(cell, path).to_have_text(shown)
                await expect(cell, path).to_have_attribute("title", grouped(size))
                wide, room = await cell.evaluate("cell => [cell.scrollWidth, cell.clientWidth]")
                assert wide <= room, (path, size)
    await seen.context.close()


async def test_columns_stand_under_each_other_however_long_a_cell_is(desk: PageDesk) -> None:
    """A long reason is cut in its own column, and moves no other one of its row."""
    await resting(desk, "33400")
    order = (await desk.rows("/api/open-orders"))[0] | {"public_state": "CANCELLED", "ended_at": "2026-03-01T00:00:00Z"}
    rows = [order | {"order_key": f"{number:032d}", "refusal": "x" * 40 * number} for number in range(3)]
    seen = await desk.open(logged_in=False, width=1200)
    await seen.page.route(
        re.compile("/api/executed-orders"), lambda route: route.fulfill(json={"items": rows, "next_cursor": None})
    )
    await seen.page.goto(f"{desk.api.origin}/login?token={desk.api.link.token}")
    await seen.page.locator(".shell").wait_for()
    await seen.page.goto(f"{desk.api.origin}/#/executed-orders")
    await seen.row(rows[2]["order_key"]).wait_for()
    left = "cells => new Set(cells.map(cell => Math.round(cell.getBoundingClientRect().left))).size"
    for column in ("reason", "result", "trigger", "took"):
        assert await seen.page.locator(f'.body [data-column="{column}"]').evaluate_all(left) == 1, column
    head = await seen.page.get_by_role("columnheader", name="Placed → filled").bounding_box()
    cell = await seen.cell(rows[2]["order_key"], "took").bounding_box()
    assert head is not None
    assert cell is not None
    assert abs(head["x"] - cell["x"]) <= 1
    await seen.context.close()


async def test_a_trade_is_closed_by_its_button(desk: PageDesk) -> None:
    """Close asks with the size, the bid and the result to expect; confirmed, the trade is sold once, in the person's
    name, and leaves the open trades.
    """
    trade = await desk.system.start(market_buy(desk.system.account, "0.01"))
    await trade.until_protected()
    seen = await desk.open()
    await seen.tab("Trades & P&L")
    await seen.row(trade.key).wait_for()
    await desk.price("50010")
    await desk.price("50020")
    await seen.cell(trade.key, "actions").get_by_role("button", name="Close").click()
    dialog = seen.page.get_by_role("dialog")
    for text in ("0.01", "50,020", "Expected result", "500.20 USD"):
        await expect(dialog).to_contain_text(text)
    await dialog.get_by_label("Note for the record").fill("enough")
    await seen.confirm("Sell at MARKET")
    await expect(seen.row(trade.key)).to_have_count(0)

    async def closed() -> bool:
        return bool(await desk.system.value("SELECT state = 'CLOSED' FROM trades WHERE entry_key = $1", trade.key))

    await eventually(closed, what="the trade is closed")
    given = await desk.system.rows(
        "SELECT given_by, note FROM commands WHERE subject = $1 AND kind = 'close'", trade.key
    )
    assert [tuple(row.values()) for row in given] == [("owner (API)", "enough")]
    sells = await desk.system.rows("SELECT 1 FROM orders WHERE role = 'EXIT' AND entry_key = $1", trade.key)
    assert len(sells) == 1
    seen.assert_clean()
    await seen.context.close()


async def test_halt_and_resume_are_seen_by_everybody(desk: PageDesk) -> None:
    """Halt marks every open page; resume requires exactly its word."""
    seen, other = await desk.open(), await desk.open(user="vera")
    await seen.page.get_by_role("button", name="Halt", exact=True).click()
    await seen.confirm("Halt entries")
    for page in (seen, other):
        await expect(page.page.locator(".badge.halted")).to_have_text("Halted")
    assert await desk.system.value("SELECT halted FROM account_controls WHERE account = $1", desk.system.account)
    await seen.page.get_by_role("button", name="Resume", exact=True).click()
    await expect(seen.page.get_by_role("button", name="Resume entries")).to_be_disabled()
    await seen.confirm("Resume entries", word="resume")
    for page in (seen, other):
        await expect(page.page.locator(".badge.halted")).to_have_count(0)
        page.assert_clean()
        await page.context.close()


async def test_the_role_view_has_no_actions(desk: PageDesk) -> None:
    """With the role view the same rows are shown, without any button for actions."""
    key = await resting(desk, "38000")
    seen = await desk.open(user="vera")
    await seen.row(key).wait_for()
    await expect(seen.page.locator('[data-column="actions"]')).to_have_count(0)
    for name in ("Halt", "Resume", "Flatten", "Cancel", "Close"):
        await expect(seen.page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    seen.assert_clean()
    await seen.context.close()


async def test_flatten_ends_everything_once_its_word_is_typed(desk: PageDesk) -> None:
    """After the word, every trade is sold and every entry cancelled; before it, the button does nothing."""
    key = await resting(desk, "37000")
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    seen = await desk.open()
    await seen.row(key).wait_for()
    await seen.page.get_by_role("button", name="Flatten", exact=True).click()
    button = seen.page.get_by_role("dialog").get_by_role("button", name="Flatten", exact=True)
    await expect(button).to_be_disabled()
    await seen.confirm("Flatten", word="flatten")

    async def flat() -> bool:
        return not await desk.system.value(
            "SELECT (SELECT count(*) FROM trades WHERE state <> 'CLOSED') "
            "+ (SELECT count(*) FROM orders WHERE NOT finished)"
        )

    await eventually(flat, what="nothing is open")
    await expect(seen.page.locator(".table .empty")).to_have_text("There are no open orders.")
    seen.assert_clean()
    await seen.context.close()


async def test_keys_move_and_open(desk: PageDesk) -> None:
    """g and a letter change the tab, / filters, j and Enter open a row, Esc closes it, ? lists the keys."""
    first, second = await resting(desk, "36000"), await resting(desk, "36500")
    seen = await desk.open()
    await seen.row(first).wait_for()
    press = seen.page.keyboard.press
    await press("g")
    await press("e")
    await expect(seen.page.locator('[aria-current="page"]')).to_contain_text("Executed Orders")
    await press("g")
    await press("o")
    await seen.row(first).wait_for()
    await press("/")
    await seen.page.keyboard.type(first[:12])
    await expect(seen.row(second)).to_have_count(0)
    assert f"q={first[:12]}" in seen.page.url
    await press("Escape")
    await press("j")
    await press("Enter")
    await expect(seen.page.locator("aside.drawer")).to_be_visible()
    assert f"order={first}" in seen.page.url
    await press("Escape")
    await expect(seen.page.locator("aside.drawer")).to_have_count(0)
    await press("?")
    await expect(seen.page.get_by_role("dialog")).to_contain_text("filter the rows")
    await seen.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone_nothing_is_wider_than_the_screen(desk: PageDesk, scheme: Any) -> None:
    """At 390 px rows are cards, and no tab scrolls sideways."""
    key = await resting(desk, "35000" if scheme == "light" else "35500")
    seen = await desk.open(width=390, height=844, scheme=scheme)
    await seen.page.locator(f'.line.card[data-key="{key}"]').wait_for()
    for tab in ("Open Orders", "Executed Orders", "Trades & P&L", "Monitoring", "Throttle/Audit"):
        await seen.tab(tab)
        await expect(seen.page.get_by_text("Loading …")).to_have_count(0)
        wide = await seen.page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= 390, tab
    seen.assert_clean()
    await seen.context.close()


async def test_old_data_looks_old_and_nothing_can_be_done_with_it(desk: PageDesk) -> None:
    """Without the stream the rows stay, a banner says that they are old, and no action is possible."""
    key = await resting(desk, "34000")
    seen = await desk.open()
    await seen.row(key).wait_for()

    async def cut(route: Route) -> None:
        await route.abort()

    await seen.page.route("**/api/stream", cut)
    await seen.page.reload()
    await expect(seen.page.locator(".banner")).to_contain_text("No data for 15 s")
    await seen.row(key).wait_for()
    await expect(seen.cell(key, "actions").get_by_role("button")).to_be_disabled()
    await expect(seen.page.get_by_role("button", name="Flatten", exact=True)).to_be_disabled()
    await seen.context.close()


async def test_a_database_that_is_away_is_told_and_what_is_known_stays(desk: PageDesk) -> None:
    """While the API can't read the ledger, the page says so, keeps its rows, and takes no action."""
    key = await resting(desk, "34500")
    seen = await desk.open(logged_in=False)
    told = "".join(f"event: {name}\nid: {name}\ndata: {{}}\n\n" for name in ("hello", "away", "tick"))
    reads = 0

    async def stream(route: Route) -> None:
        # It ends at once, so the browser asks for it again and again.
        await route.fulfill(content_type="text/event-stream", body=told)

    async def orders(route: Route) -> None:
        nonlocal reads
        reads += 1
        if reads == 1:
            await route.continue_()
            return
        sentence = {"status": 503, "code": "NO_DATABASE", "detail": "The ledger does not answer: try again."}
        await route.fulfill(status=503, json=sentence, content_type="application/problem+json")

    await seen.page.route("**/api/stream", stream)
    await seen.page.route("**/api/open-orders*", orders)
    await seen.page.goto(f"{desk.api.origin}/login?token={desk.api.link.token}")
    await expect(seen.page.locator(".banner")).to_contain_text("The database can't be reached")

    async def read_again() -> bool:
        return reads > 1

    await eventually(read_again, what="the list has been read again, in vain")
    await expect(seen.row(key)).to_have_count(1)
    await expect(seen.cell(key, "actions").get_by_role("button")).to_be_disabled()
    await seen.context.close()


async def test_ten_thousand_rows_are_one_screen_of_elements(desk: PageDesk) -> None:
    """Of 10,000 rows only those in view are drawn, the last can be reached, and markup in a name is text."""
    await resting(desk, "33000")
    example = (await desk.rows("/api/open-orders"))[0]
    name = "<img src=x onerror=alert(1)>-USD"
    many = [example | {"order_key": f"{number:032d}", "symbol": name} for number in range(10_000)]
    seen = await desk.open(logged_in=False)

    async def give(route: Route) -> None:
        start = int(route.request.url.partition("cursor=")[2] or 0)
        following = start + 1000
        await route.fulfill(
            json={"items": many[start:following], "next_cursor": str(following) if following < len(many) else None}
        )

    await seen.page.route("**/api/open-orders*", give)
    await seen.page.goto(f"{desk.api.origin}/login?token={desk.api.link.token}")
    await expect(seen.page.locator(".count")).to_have_text("10,000 rows")
    assert await seen.page.locator(".body .line").count() < 100
    await seen.page.locator(".scroll").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    await seen.row(min(row["order_key"] for row in many)).wait_for()
    assert await seen.page.locator(".body .line").count() < 100
    assert await seen.page.locator(".body img").count() == 0
    await expect(seen.page.locator('[data-column="symbol"]').first).to_have_text(name)
    seen.assert_clean()
    await seen.context.close()


async def test_a_password_logs_in_and_logging_out_ends_it(desk: PageDesk) -> None:
    """A wrong password is refused in a sentence, the right one shows the page; after a log-out nothing is left."""
    seen = await desk.open(logged_in=False)
    await expect(seen.page.locator("main.log-in")).to_contain_text("bottrader up")
    await seen.page.get_by_label("User").fill("ana")
    await seen.page.get_by_label("Password").fill("not the password")
    await seen.page.get_by_role("button", name="Log in").click()
    await expect(seen.page.get_by_role("alert")).to_have_text("No user has this name and this password.")
    await seen.page.get_by_label("Password").fill(PASSWORD)
    await seen.page.get_by_role("button", name="Log in").click()
    await seen.page.locator(".shell").wait_for()
    await seen.page.get_by_role("button", name="Log out").click()
    await expect(seen.page.locator("main.log-in")).to_be_visible()
    assert await seen.context.cookies() == []
    await seen.page.reload()
    await expect(seen.page.locator("main.log-in")).to_be_visible()
    seen.assert_clean()
    await seen.context.close()


async def test_a_link_that_has_been_used_leads_to_the_page(desk: PageDesk) -> None:
    """Opened again by a logged-in user, it shows the page; by somebody else, the log-in with the reason."""
    link = f"{desk.api.origin}/login?token={desk.api.link.token}"
    seen, other = await desk.open(logged_in=False), await desk.open(logged_in=False)
    for _ in range(2):
        await seen.page.goto(link)
        await seen.page.locator(".shell").wait_for()
    await other.page.goto(link)
    await expect(other.page.get_by_role("alert")).to_contain_text("This link has been used")
    for each in (seen, other):
        each.assert_clean()
        await each.context.close()


_NUMBERS = """
async base => {
  const {money, percent, price, quantity, seconds} = await import(`${base}/format.js`);
  const {add, divide, multiply, rounded, subtract} = await import(`${base}/decimal.js`);
  return [
    money('1234567.895'), money('-0.004', {signed: true}), money('0'), money(null),
    money('0.1', {signed: true, unit: true}), money('0.000012345', {currency: 'BTC'}),
    price('65664.930000'), price('0.00001234567899'), quantity('1.500000000000000001'),
    percent('-0.05'), percent('0.123456', {signed: true}), seconds(7.25), seconds(3725), seconds(200000),
    add('0.1', '0.2'), subtract('1', '1.000000000000000000000001'), multiply('-0.1', '0.2'), divide('1', '3', 4),
    divide('-2', '3', 2), String(divide('1', '0')), rounded('0.5', 0), rounded('-1.005', 2, true),
  ];
}
"""


async def test_numbers_are_exact_and_signed(desk: PageDesk) -> None:
    """Money is rounded by its digits, never by binary fractions; an unknown value is a dash."""
    seen = await desk.open()
    base = await seen.page.evaluate("document.querySelector('script[src]').src.replace(/.app.js$/, '')")
    assert await seen.page.evaluate(_NUMBERS, base) == [
        "1,234,567.90", "−0.004", "0.00", "–", "+0.10 USD",
        "0.00001235", "65,664.93", "0.000012345679", "1.500000000000000001",
        "−5.00 %", "+12.35 %", "7.3 s", "1 h 02", "2 d 7 h",
        "0.3", "-0.000000000000000000000001", "-0.02", "0.3333",
        "-0.67", "null", "1", "-1.01",
    ]  # fmt: skip
    await seen.context.close()
