"""The page's trades, monitoring, audit and drawer in a real browser: they show the API's data."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from activities.ledger.recompute import repair_symbol
from tests.support.api import TRADER, VIEWER
from tests.support.generated_ledger import write_ledger
from tests.support.intents import limit_buy, market_buy
from tests.support.page import NEEDS_BROWSER, PageDesk, SeenPage, page_desk
from tests.support.waiting import SLACK, eventually
from workers.settings.changes import set_override
from workers.settings.sources import SettingSources
from workers.stack.dev_server import DevServer

pytestmark = NEEDS_BROWSER
expect.set_options(timeout=15_000 * SLACK)
TRADES = 130


@pytest_asyncio.fixture(scope="module")
async def desk(module_database: str, temporal_server: DevServer) -> AsyncIterator[PageDesk]:
    """One system with closed trades, their FIFO book and candles, and one browser for the module."""
    async with page_desk(module_database, temporal_server.address) as found:
        account, pool = found.system.account, found.system.pool
        await write_ledger(module_database, TRADES, seed=11, account=account)
        for row in await pool.fetch("SELECT DISTINCT symbol FROM trades WHERE account = $1", account):
            await repair_symbol(pool, account, row["symbol"])
        yield found


async def read(desk: PageDesk, path: str, **given: str) -> Any:
    """An answer of the API."""
    async with desk.api.program(VIEWER) as viewer:
        answer = await viewer.get(path, params=given)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def held(desk: PageDesk) -> str:
    """An open trade. Returns its key."""
    order = await desk.system.start(market_buy(desk.system.account))
    await order.until_protected()
    return order.key


def grouped(text: str) -> str:
    """A number in the page's notation."""
    return f"{Decimal(text).normalize():,f}".replace("-", "−")


def cents(text: str, *, signed: bool = False) -> str:
    """Dollars in the page's notation: to the cent, below half a cent two significant digits."""
    value = Decimal(text)
    shown = value.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    if value and not shown:
        shown = value.quantize(Decimal(1).scaleb(value.adjusted() - 1), rounding=ROUND_HALF_UP).normalize()
    sign = "−" if shown < 0 else "+" if signed and shown > 0 else ""
    return f"{sign}{abs(shown):,f}"


def part(seen: SeenPage, name: str) -> Locator:
    """A part of the drawer."""
    return seen.page.locator(f'aside.drawer [data-part="{name}"]')


async def assert_fits(seen: SeenPage) -> None:
    """Nothing is wider than the screen."""
    wide, screen = await seen.page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert wide <= screen


async def test_tiles_and_curves_are_the_apis_figures(desk: PageDesk) -> None:
    """Net P&L, fees, trades, drawdown and linkage above the lists are the API's; each curve has a point a day."""
    seen = await desk.open(path="#/trades")
    (group,) = (await read(desk, "/api/pnl", by="all"))["groups"]
    (series,) = (await read(desk, "/api/equity", bucket="day"))["series"]
    linked = await read(desk, "/api/linkage")
    lowest = max(Decimal(point["drawdown"]) for point in series["points"])
    for name, text in {
        "Net P&L": f"{cents(group['pnl'], signed=True)} USD",
        "Fees": f"{cents(group['fees'])} USD",
        "Trades": f"{group['trades']} ({group['wins']} won)",
        "Largest drawdown": f"{cents(str(lowest))} USD",
        "Linkage": f"{100 * linked['linked'] / linked['filled']:.1f} %",
    }.items():
        tile = seen.page.locator(".tile", has=seen.page.get_by_text(name, exact=True))
        await expect(tile.locator("b")).to_have_text(text)
    await expect(seen.page.locator("figure.graph")).to_have_count(3)
    await expect(seen.page.locator("figure.graph rect.bar")).to_have_count(min(len(series["points"]), 90))
    seen.assert_clean()
    await seen.context.close()


async def test_closed_trades_are_the_apis_row_by_row(desk: PageDesk) -> None:
    """Every closed trade is there in the API's order, read page by page as it is scrolled into view, with its
    numbers."""
    seen = await desk.open(path="#/trades?list=closed", height=1600)
    rows = await desk.rows("/api/trades", state="closed")
    await seen.row(rows[0]["entry_key"]).wait_for()
    first = await seen.keys()
    assert first == [row["entry_key"] for row in rows[: len(first)]]
    for row in rows[:5]:
        for column, text in {
            "symbol": row["symbol"],
            "reason": row["exit_reason"].replace("_", " ").lower(),
            "pnl": cents(row["pnl"], signed=True),
            "risk": cents(row["result_in_risk"], signed=True),
            "slippage": cents(row["slippage"], signed=True),
            "fees": cents(row["fees"]),
            "trigger": row["trigger"],
        }.items():
            await expect(seen.cell(row["entry_key"], column)).to_have_text(text)
    await expect(seen.page.locator(".count")).to_have_text("100 rows")
    await seen.page.locator(".scroll").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    await expect(seen.page.locator(".count")).to_have_text(f"{len(rows)} rows")
    await seen.page.locator(".scroll").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    await seen.row(rows[-1]["entry_key"]).wait_for()
    seen.assert_clean()
    await seen.context.close()


@pytest.mark.parametrize("by", ["symbol", "trigger", "exit", "score"])
async def test_groups_are_the_reports(desk: PageDesk, by: str) -> None:
    """Each group of closed trades has the numbers of the report; one of a product or trigger links to its trades."""
    seen = await desk.open(path=f"#/trades?list={by}")
    groups = [group for group in (await read(desk, "/api/pnl", by=by))["groups"] if group["trades"]]
    for group in groups[:6]:
        key = f"{group['group']}/{group['currency']}"
        await expect(seen.cell(key, "pnl")).to_have_text(cents(group["pnl"], signed=True))
        await expect(seen.cell(key, "trades")).to_have_text(str(group["trades"]))
    if by == "symbol":
        await seen.cell(f"{groups[0]['group']}/{groups[0]['currency']}", "group").click()
        await expect(seen.page.locator(".count")).to_have_text(f"{groups[0]['trades']} rows")
    seen.assert_clean()
    await seen.context.close()


async def test_an_open_trade_is_the_apis_and_is_closed_by_its_button(desk: PageDesk) -> None:
    """Its row has the API's numbers; Close asks with size, bid and expected result, sells it, and the trade moves to
    the closed ones with its exit."""
    key = await held(desk)
    seen = await desk.open(path="#/trades")
    await seen.row(key).wait_for()
    row = next(row for row in await desk.rows("/api/trades") if row["entry_key"] == key)
    for column, text in {
        "symbol": row["symbol"],
        "state": row["state"],
        "size": grouped(row["remaining"]),
        "entry": grouped(row["entry_price"]),
        "target": grouped(row["take_profit"]) if row["take_profit"] else "–",
        "trigger": row["trigger"],
    }.items():
        await expect(seen.cell(key, column)).to_have_text(text)
    await seen.cell(key, "actions").get_by_role("button", name="Close").click()
    dialog = seen.page.get_by_role("dialog")
    for text in (grouped(row["remaining"]), "Bid", "Expected result"):
        await expect(dialog).to_contain_text(text)
    await seen.confirm("Sell at MARKET")
    await expect(seen.row(key)).to_have_count(0)
    await seen.page.get_by_role("button", name="Closed", exact=True).click()
    await expect(seen.cell(key, "reason")).to_have_text("manual")
    seen.assert_clean()
    await seen.context.close()


async def test_the_drawer_says_why_in_the_apis_words(desk: PageDesk) -> None:
    """A closed trade's drawer has every sentence of the API, the parts of its result, its lots, exits and timeline."""
    row = (await desk.rows("/api/trades", state="closed"))[-1]
    story = await read(desk, f"/api/trades/{row['entry_key']}")
    seen = await desk.open(path=f"#/trades?trade={row['entry_key']}")
    for section in story["why"]:
        shown = part(seen, f"why-{section['about']}")
        await expect(shown.locator("h3")).to_have_text(section["title"])
        await expect(shown.locator("p.why")).to_have_text(section["sentences"])
    result = story["result"]
    cells = part(seen, "result").locator('table[aria-label="Parts of the result"] td.right')
    fees = [f"-{result[name]}" for name in ("entry_fees", "exit_fees")]
    parts = [result["price_gain"], result["slippage"], *fees, result["pnl"]]
    await expect(cells).to_have_text([cents(text, signed=True) for text in parts])
    lots = part(seen, "result").locator('table[aria-label="Lots"] tbody tr')
    await expect(lots).to_have_count(len(story["lots"]))
    await expect(part(seen, "timeline").locator("li")).to_have_count(len(story["timeline"]))
    await expect(part(seen, "indicators").locator("tbody tr")).to_have_count(
        len(story["decision"]["indicator_breakdown"])
    )
    await expect(part(seen, "fills").locator("tbody tr")).to_have_count(len(story["fills"]))
    seen.assert_clean()
    await seen.context.close()


async def test_the_chart_shows_candles_and_says_whose_it_is(desk: PageDesk) -> None:
    """With candles there is a chart with the lines' names; its library is named and linked in the footer; without
    candles a sentence says so."""
    rows = await desk.rows("/api/trades", state="closed")
    row = rows[-1]
    other = next(found for found in reversed(rows) if found["symbol"] not in (row["symbol"], "BTC-USD"))
    opened = datetime.fromisoformat(row["opened_at"]).replace(second=0, microsecond=0)
    price = Decimal(row["entry_price"])
    values = [
        (
            desk.system.account,
            row["symbol"],
            60,
            opened + timedelta(minutes=n),
            price,
            price + 2,
            price - 2,
            price + 1,
            1,
        )
        for n in range(-30, 150)
    ]
    await desk.system.pool.executemany(
        """INSERT INTO candles (account, symbol, seconds, start, open, high, low, close, volume)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        values,
    )
    seen = await desk.open(path=f"#/trades?trade={row['entry_key']}")
    await expect(part(seen, "chart").locator("canvas").first).to_be_visible()
    for name in ("entry", "hard stop", "soft stop", "target"):
        await expect(part(seen, "chart").locator(".legend")).to_contain_text(name)
    foot = seen.page.locator("footer")
    await expect(foot).to_contain_text("TradingView")
    await expect(foot.get_by_role("link", name="tradingview.com")).to_have_attribute(
        "href", "https://www.tradingview.com/"
    )
    await seen.page.goto(f"{desk.api.origin}/#/trades?trade={other['entry_key']}")
    await expect(part(seen, "chart")).to_contain_text(f"No candles of {other['symbol']} are kept")
    seen.assert_clean()
    await seen.context.close()


async def test_stops_are_moved_from_the_drawer(desk: PageDesk) -> None:
    """A nearer hard stop is accepted, recorded and shown; one beyond the old one is refused in the workflow's words."""
    key = await held(desk)
    seen = await desk.open(path=f"#/trades?trade={key}")
    await seen.page.get_by_role("button", name="Move stops").first.click()
    form = seen.page.get_by_role("form", name="Move stops")
    row = next(row for row in await desk.rows("/api/trades") if row["entry_key"] == key)
    wanted = (Decimal(row["hard_stop"]) + 100).quantize(Decimal(1))
    await form.locator('input[name="hard_stop"]').fill(str(int(Decimal(row["hard_stop"])) - 1000))
    await form.get_by_role("button", name="Move stops").click()
    await expect(form.get_by_role("alert")).not_to_be_empty()
    await form.locator('input[name="hard_stop"]').fill(str(wanted))
    await form.get_by_role("button", name="Move stops").click()
    await expect(form).to_have_count(0)

    async def moved() -> bool:
        (found,) = [row for row in await desk.rows("/api/trades") if row["entry_key"] == key]
        return bool(Decimal(found["hard_stop"]) == wanted)

    await eventually(moved, what="the hard stop is moved")
    await expect(part(seen, "moves").locator("tbody tr")).to_have_count(1)
    await expect(part(seen, "why-held")).to_contain_text("Stops were moved by owner")
    # A refusal is an answer of 409, which browsers report in the console.
    assert [told for told in seen.complaints if "409" not in told] == []
    await seen.context.close()


async def test_a_drawer_follows_its_trade_until_it_is_closed(desk: PageDesk) -> None:
    """While it is open a drawer says why the trade holds; once the trade is closed, by somebody else, why it sold and
    what came of it, without a reload."""
    key = await held(desk)
    seen = await desk.open(path=f"#/trades?trade={key}")
    await expect(part(seen, "why-held")).to_be_visible()
    async with desk.api.program(TRADER) as trader:
        answer = await trader.post(f"/api/trades/{key}/close", json={}, headers={"Idempotency-Key": f"close-{key}"})
        assert answer.status_code == 200, answer.text
    await expect(part(seen, "why-sold")).to_contain_text("by MANUAL")
    await expect(part(seen, "result")).to_be_visible()
    await expect(part(seen, "why-held")).to_have_count(0)
    seen.assert_clean()
    await seen.context.close()


async def test_why_it_did_not_buy_is_in_the_orders_drawer(desk: PageDesk) -> None:
    """A refused order's drawer has the gate, its sentence and the compared numbers."""
    refused = await desk.system.start(limit_buy(desk.system.account, "100000", "40000"))
    await refused.until_state("REJECTED")
    story = await read(desk, f"/api/orders/{refused.key}")
    seen = await desk.open(path=f"#/executed-orders?order={refused.key}")
    await expect(part(seen, "why-refused").locator("p.why")).to_have_text(story["why"][0]["sentences"])
    assert story["order"]["gate"] in story["why"][0]["sentences"][0]
    await expect(part(seen, "gates").locator("tbody tr")).to_have_count(len(story["gates"]))
    await expect(part(seen, "gates")).to_contain_text("REFUSED")
    seen.assert_clean()
    await seen.context.close()


async def test_incidents_are_resolved_and_parts_have_a_finding(desk: PageDesk) -> None:
    """Monitoring has the API's open incidents, each resolved by its button; health by part; why of a product."""
    number = await desk.system.value(
        """INSERT INTO incidents (account, kind, severity, subject, sentence)
           VALUES ($1, 'stale_price', 'WARNING', 'BTC-USD', 'no <b>price</b> for 120 s') RETURNING id""",
        desk.system.account,
    )
    seen = await desk.open(path="#/monitoring")
    panel = seen.page.locator('[data-panel="incidents"]')
    line = panel.locator("tbody tr", has_text="no <b>price</b> for 120 s")
    await expect(line).to_have_count(1)
    await line.get_by_role("button", name="Resolve").click()
    await seen.confirm("It is over")
    await expect(line).to_have_count(0)
    assert await desk.system.value("SELECT resolved_at IS NOT NULL FROM incidents WHERE id = $1", number)
    health = seen.page.locator('[data-panel="health"] tbody tr')
    findings = (await read(desk, "/api/monitoring/health"))["findings"]
    await expect(health).to_have_count(len(findings))
    await expect(health.filter(has_text=re.compile("^database"))).not_to_have_count(0)
    await seen.page.get_by_label("Product").fill("btc-usd")
    await seen.page.get_by_role("button", name="Why?").click()
    answers = (await read(desk, "/api/why/BTC-USD"))["answers"]
    await expect(seen.page.locator('[data-panel="why"] p.why')).to_have_text(answers)
    seen.assert_clean()
    await seen.context.close()


async def test_limits_of_strategies_are_shown_and_one_is_halted(desk: PageDesk) -> None:
    """Monitoring has each strategy's use beside its limits, by the settings in force; Halt and Resume are of that row
    alone, and a second page sees it. The limits stay in force, and are wide enough for the trades of later tests.
    """
    sources = SettingSources(from_file=desk.system.settings.model_dump())
    async with desk.system.pool.acquire() as connection:
        for key, value in (("triggers", "rsi_oversold"), ("budget", "90000"), ("max_open_trades", "700")):
            await set_override(connection, sources, f"risk.strategies.dip.{key}", [value], by="a person")
    seen, other = await desk.open(path="#/monitoring"), await desk.open(user="vera", path="#/monitoring")
    lines = [page.page.locator('[data-panel="limits"] tbody tr', has_text="dip") for page in (seen, other)]
    (group,) = (await read(desk, "/api/monitoring/summary"))["limits"]["groups"]
    for line in lines:
        await expect(line).to_contain_text("of 90,000.00")
        await expect(line).to_contain_text(f"{group['open_trades']} of 700")
        await expect(line).to_contain_text("allowed")
    await lines[0].get_by_role("button", name="Halt").click()
    await seen.confirm("Halt dip")
    for line in lines:
        await expect(line).to_contain_text("HALTED")
        await expect(line).to_contain_text("owner (API)")
    assert await desk.system.value("SELECT halted FROM group_controls WHERE kind = 'strategy' AND name = 'dip'")
    await expect(seen.page.locator(".badge.halted")).to_have_count(0)
    await expect(lines[1].get_by_role("button")).to_have_count(0)
    await lines[0].get_by_role("button", name="Resume").click()
    await seen.confirm("Resume dip", word="resume")
    for line, page in zip(lines, (seen, other), strict=True):
        await expect(line).to_contain_text("allowed")
        page.assert_clean()
        await page.context.close()


async def test_the_audit_is_the_apis_row_by_row(desk: PageDesk) -> None:
    """Events in the API's order with reason and numbers, filtered by subject, more on scrolling."""
    await desk.system.pool.execute(
        "INSERT INTO incidents (account, kind, severity, sentence) VALUES ($1, 'stale_price', 'INFO', 'for the audit')",
        desk.system.account,
    )
    seen = await desk.open(path="#/audit?about=order")
    events = (await read(desk, "/api/audit", about="order", limit="40"))["items"]
    await seen.row(events[0]["id"]).wait_for()
    shown = await seen.keys()
    assert shown == [event["id"] for event in events[: len(shown)]]
    for event in events[:8]:
        reason = f"{event['sentence']} ({event['numbers']})" if event["numbers"] else event["sentence"]
        await expect(seen.cell(event["id"], "reason")).to_have_text(reason)
        await expect(seen.cell(event["id"], "event")).to_have_text(event["event"].replace("_", " "))
    await seen.page.locator(".scroll").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    await expect(seen.page.locator(".count")).not_to_have_text("100 rows")
    await seen.page.get_by_role("button", name="Incidents", exact=True).click()
    await expect(seen.page.locator(".body")).to_contain_text("for the audit")
    await expect(seen.page.locator(".body")).not_to_contain_text("ORDER")
    seen.assert_clean()
    await seen.context.close()


async def test_the_role_view_only_looks(desk: PageDesk) -> None:
    """With the role view there is no Close, no Move stops and no Resolve, in no tab and no drawer."""
    key = await held(desk)
    await desk.system.pool.execute(
        "INSERT INTO incidents (account, kind, severity, sentence) VALUES ($1, 'stale_price', 'INFO', 'seen by all')",
        desk.system.account,
    )
    seen = await desk.open(user="vera")
    await seen.page.goto(f"{desk.api.origin}/#/trades?trade={key}")
    await expect(part(seen, "why-held")).to_be_visible()
    for name in ("Close", "Move stops"):
        await expect(
            seen.page.locator(".content, .drawer-body").get_by_role("button", name=name, exact=True)
        ).to_have_count(0)
    await seen.page.goto(f"{desk.api.origin}/#/monitoring")
    await expect(seen.page.locator('[data-panel="incidents"]')).to_contain_text("seen by all")
    await expect(seen.page.get_by_role("button", name="Resolve")).to_have_count(0)
    seen.assert_clean()
    await seen.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone_tabs_and_drawer_fit(desk: PageDesk, scheme: Any) -> None:
    """At 390 px neither these tabs nor a drawer are wider than the screen, and the console is empty."""
    row = (await desk.rows("/api/trades", state="closed"))[0]
    seen = await desk.open(width=390, height=844, scheme=scheme)
    for path, what in {
        "trades": ".tile",
        "trades?list=closed": ".line.card",
        "trades?list=symbol": ".line.card",
        "monitoring": '[data-panel="health"] tbody tr',
        "audit": ".line.card",
        f"trades?trade={row['entry_key']}": '[data-part="timeline"] li',
        f"audit?order={row['entry_key']}": '[data-part="timeline"] li',
    }.items():
        await seen.page.goto(f"{desk.api.origin}/#/{path}")
        await seen.page.locator(what).first.wait_for()
        await assert_fits(seen)
    seen.assert_clean()
    await seen.context.close()


async def test_keys_lead_to_a_trade(desk: PageDesk) -> None:
    """g t shows the trades, j and Enter open one, Esc closes it; the address opens it again."""
    key = await held(desk)
    seen = await desk.open()
    await seen.page.keyboard.press("g")
    await seen.page.keyboard.press("t")
    await seen.row(key).wait_for()
    await seen.page.keyboard.press("j")
    await seen.page.keyboard.press("Enter")
    await expect(seen.page.locator("article[data-trade]")).to_be_visible()
    assert "trade=" in seen.page.url
    await seen.page.reload()
    await expect(seen.page.locator("article[data-trade]")).to_be_visible()
    await seen.page.keyboard.press("Escape")
    await expect(seen.page.locator("aside.drawer")).to_have_count(0)
    await seen.context.close()
