"""Actions by the API on the real system: once each, by the same workflows as commands, recorded with the user."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest_asyncio

from cli.api_hands import hands_of
from tests.support.api import VIEWER, Api, Page, api_on
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from web.api.actions import NoTemporalError, action_routes
from web.api.callers import Program, Role
from workers.stack.dev_server import DevServer

_keys = itertools.count()


@dataclass
class Desk:
    """A system with a logged-in page."""

    system: TradingSystem
    api: Api
    page: Page

    async def do(self, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        """An action of the page, with its own key if none is given."""
        return await self.page.post(path, body, **{"Idempotency-Key": key or f"key-of-a-test-{next(_keys)}"})

    async def commands(self) -> list[tuple[str, str, str]]:
        """Kind, subject and user of the commands, without orders."""
        rows = await self.system.rows("SELECT kind, subject, given_by FROM commands WHERE kind <> 'order' ORDER BY at")
        return [(row["kind"], row["subject"], row["given_by"]) for row in rows]

    async def until_closed(self, key: str) -> None:
        """Wait until the trade is closed."""

        async def so() -> bool:
            return bool(await self.system.value("SELECT state = 'CLOSED' FROM trades WHERE entry_key = $1", key))

        await eventually(so, what="the trade is closed")


@pytest_asyncio.fixture
async def desk(database: str, temporal_server: DevServer) -> AsyncIterator[Desk]:
    """A desk on its own system."""
    async with trading_system(database, temporal_server.address) as system:
        routers = [action_routes(hands_of(system.settings, system.pool))]
        async with api_on(routers=routers, account=system.account) as api, api.page() as page:
            yield Desk(system, api, page)


async def test_a_trade_is_closed_once_however_often_it_is_clicked(desk: Desk) -> None:
    """Clicks with one key are one close, with one answer and one command in the user's name; a later one gets the
    answer that the trade is closed.
    """
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    path = f"/api/trades/{trade.key}/close"
    answers = await asyncio.gather(*(desk.do(path, {"note": "enough"}, key="one-double-click") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert all(answer.json()["accepted"] for answer in answers)
    await desk.until_closed(trade.key)
    assert await desk.commands() == [("close", trade.key, "owner (API)")]
    exits = await desk.system.rows("SELECT order_key FROM orders WHERE role = 'EXIT' AND entry_key = $1", trade.key)
    assert len(exits) == 1
    again = await desk.do(path, {"note": "enough"}, key="one-double-click")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() in [answer.json() for answer in answers]
    late = await desk.do(path)
    assert (late.status_code, late.json()["code"]) == (409, "TRADE_CLOSED")
    assert late.headers["content-type"] == "application/problem+json"
    recorded = await desk.system.rows("SELECT given_by, kind, subject, status FROM api_actions ORDER BY at")
    assert [tuple(row.values()) for row in recorded] == [
        ("owner (API)", "close", trade.key, 200),
        ("owner (API)", "close", trade.key, 409),
    ]
    assert "owner (API)" in await trade.story()


async def test_an_order_is_cancelled(desk: Desk) -> None:
    """A resting order is withdrawn by its workflow; after its end there is nothing to cancel."""
    order = await desk.system.start(limit_buy(desk.system.account, "0.002", "40000"))
    await order.until_state("OPEN")
    assert (await desk.do(f"/api/trades/{order.key}/close")).json()["code"] == "NO_POSITION"
    answer = await desk.do(f"/api/orders/{order.key}/cancel", {"note": "changed my mind"})
    assert (answer.status_code, answer.json()["accepted"]) == (200, True), answer.text
    await order.until_state("CANCELLED")
    again = await desk.do(f"/api/orders/{order.key}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "ORDER_ENDED")


async def test_who_may_only_look_moves_nothing(desk: Desk) -> None:
    """With the role view every action is refused and not recorded."""
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    paths = [
        f"/api/trades/{trade.key}/close",
        f"/api/trades/{trade.key}/stops",
        f"/api/orders/{trade.key}/cancel",
        "/api/flatten",
        "/api/halt",
        "/api/resume",
        "/api/incidents/1/resolve",
    ]
    async with desk.api.program(VIEWER) as viewer:
        for path in paths:
            body = {"confirm": "flatten"} if path == "/api/flatten" else {}
            answer = await viewer.post(path, json=body, headers={"Idempotency-Key": "key-of-the-viewer"})
            assert (answer.status_code, answer.json()["code"]) == (403, "ROLE_MAY_NOT"), path
    assert await desk.system.value("SELECT count(*) FROM api_actions") == 0
    assert await desk.commands() == []
    assert not await desk.system.value("SELECT bool_or(halted) FROM account_controls")


async def test_an_old_resume_never_ends_a_new_halt(desk: Desk) -> None:
    """Resume requires its word; repeated after another halt it returns its old answer and changes nothing, and neither
    does one that was begun and never answered.
    """
    assert (await desk.do("/api/halt", {"note": "lunch"})).json()["changed"] is True
    assert (await desk.do("/api/halt")).json()["changed"] is False
    for confirm in ("", "yes", desk.system.account):
        refused = await desk.do("/api/resume", {"confirm": confirm})
        assert (refused.status_code, refused.json()["code"]) == (422, "NOT_CONFIRMED")
    resumed = await desk.do("/api/resume", {"confirm": "resume"}, key="resume-after-lunch")
    assert resumed.json()["changed"] is True
    await desk.do("/api/halt", {"note": "a crash"})
    replayed = await desk.do("/api/resume", {"confirm": "resume"}, key="resume-after-lunch")
    assert replayed.json() == resumed.json()
    await desk.system.rows("UPDATE api_actions SET status = NULL, answer = NULL WHERE kind = 'resume' RETURNING 1")
    unknown = await desk.do("/api/resume", {"confirm": "resume"}, key="resume-after-lunch")
    assert (unknown.status_code, unknown.json()["code"]) == (409, "OUTCOME_UNKNOWN")
    control = (await desk.system.rows("SELECT halted, reason, changed_by FROM account_controls"))[0]
    assert tuple(control.values()) == (True, "a crash", "owner (API)")


async def test_stops_are_moved(desk: Desk) -> None:
    """A stop is moved as requested, recorded with the user; one further away is refused with the monitor's message."""
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    path = f"/api/trades/{trade.key}/stops"
    moved = await desk.do(path, {"soft_stop": "49900", "note": "nearer"})
    assert moved.status_code == 200, moved.text
    assert moved.json()["accepted"]
    further = await desk.do(path, {"soft_stop": "49000"})
    assert further.status_code == 409, further.text
    assert "further" in further.json()["detail"].lower()
    for body in ({}, {"hard_stop": "-1"}, {"hard_stop": "x"}, {"take_profit": "none"}, {"soft_stop": "1", "size": "1"}):
        assert (await desk.do(path, body)).status_code == 422
    rows = await desk.system.rows("SELECT given_by, note FROM stop_changes")
    assert [tuple(row.values()) for row in rows] == [("owner (API)", "nearer")]


async def test_flatten_closes_what_is_open(desk: Desk) -> None:
    """Confirmed by its word, every trade is sold and every entry cancelled, and each answer is returned."""
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    order = await desk.system.start(limit_buy(desk.system.account, "0.002", "40000"))
    await order.until_state("OPEN")
    assert (await desk.do("/api/flatten", {"confirm": "close"})).json()["code"] == "NOT_CONFIRMED"
    answer = await desk.do("/api/flatten", {"confirm": "flatten", "halt": True})
    assert answer.status_code == 200, answer.text
    assert {item["key"]: item["what"] for item in answer.json()["items"]} == {trade.key: "trade", order.key: "entry"}
    assert all(item["accepted"] for item in answer.json()["items"])
    await desk.until_closed(trade.key)
    await order.until_state("CANCELLED")
    assert await desk.system.value("SELECT halted FROM account_controls")
    assert sorted(await desk.commands()) == sorted(
        [("close", trade.key, "owner (API)"), ("cancel", order.key, "owner (API)")]
    )


async def test_a_repeated_flatten_closes_nothing_that_opened_since(desk: Desk) -> None:
    """A flatten whose answer was lost closes with its key again what was open when it was first asked for: a trade that
    has opened since stays protected, and entries that a person has allowed again stay allowed.
    """
    gone = await desk.system.start(market_buy(desk.system.account))
    await gone.until_protected()
    body = {"confirm": "flatten", "halt": True}
    first = await desk.do("/api/flatten", body, key="flatten-once")
    assert [item["key"] for item in first.json()["items"]] == [gone.key]
    await desk.until_closed(gone.key)
    assert (await desk.do("/api/resume", {"confirm": "resume"})).json()["changed"] is True
    since = await desk.system.start(market_buy(desk.system.account))
    await since.until_protected()
    # As the API's process leaves it where it ends before its answer.
    await desk.system.rows("UPDATE api_actions SET status = NULL, answer = NULL WHERE kind = 'flatten' RETURNING 1")
    again = await desk.do("/api/flatten", body, key="flatten-once")
    assert (again.status_code, again.json()["items"]) == (200, []), again.text
    assert again.json()["sentence"] == "1 of 1 had ended before"
    assert await desk.system.value("SELECT state FROM trades WHERE entry_key = $1", since.key) == "PROTECTED"
    assert not await desk.system.value("SELECT halted FROM account_controls")
    assert await desk.commands() == [("close", gone.key, "owner (API)")]
    other = await desk.do("/api/flatten", {"confirm": "flatten"})
    assert [item["key"] for item in other.json()["items"]] == [since.key]
    await desk.until_closed(since.key)


async def test_a_flatten_whose_plan_was_lost_closes_nothing_later(desk: Desk) -> None:
    """Begun, and ended before it was recorded what is open: with its key again it is refused as of unknown outcome,
    what has opened since stays, and nothing is halted.
    """
    body = {"confirm": "flatten", "halt": True}
    assert (await desk.do("/api/flatten", body, key="flatten-unplanned")).json()["items"] == []
    assert (await desk.do("/api/resume", {"confirm": "resume"})).json()["changed"] is True
    since = await desk.system.start(market_buy(desk.system.account))
    await since.until_protected()
    await desk.system.rows(
        "UPDATE api_actions SET status = NULL, answer = NULL, planned = NULL WHERE kind = 'flatten' RETURNING 1"
    )
    for _ in range(2):
        again = await desk.do("/api/flatten", body, key="flatten-unplanned")
        assert (again.status_code, again.json()["code"]) == (409, "OUTCOME_UNKNOWN"), again.text
    assert await desk.system.value("SELECT state FROM trades WHERE entry_key = $1", since.key) == "PROTECTED"
    assert not await desk.system.value("SELECT halted FROM account_controls")


async def test_a_program_repeats_what_an_earlier_version_recorded(desk: Desk) -> None:
    """An action that was recorded under the name that programs had before is found by its key and body and not done
    again; what a user of that name did since the program has its own name is another action.
    """
    async with desk.api.program() as program:

        async def halts(key: str, note: str) -> httpx.Response:
            return await program.post("/api/halt", json={"note": note}, headers={"Idempotency-Key": key})

        async def as_before(key: str) -> None:
            await desk.system.rows("UPDATE api_actions SET given_by = 'trader (API)' WHERE key = $1 RETURNING 1", key)

        first = await halts("before-the-upgrade", "a crash")
        assert first.json()["changed"] is True, first.text
        await as_before("before-the-upgrade")
        again = await halts("before-the-upgrade", "a crash")
        assert (again.headers.get("idempotent-replayed"), again.json()) == ("true", first.json())
        assert "idempotent-replayed" not in (await halts("before-the-upgrade", "another")).headers
        await halts("after-the-upgrade", "by a user")
        await as_before("after-the-upgrade")
        assert "idempotent-replayed" not in (await halts("after-the-upgrade", "by a user")).headers
    recorded = await desk.system.rows("SELECT given_by, key FROM api_actions ORDER BY at")
    assert [tuple(row.values()) for row in recorded] == [
        ("trader (API)", "before-the-upgrade"),
        ("trader (API token)", "before-the-upgrade"),
        ("trader (API)", "after-the-upgrade"),
        ("trader (API token)", "after-the-upgrade"),
    ]


async def test_a_user_and_a_program_of_one_name_share_no_keys(desk: Desk) -> None:
    """The same key of a user and of a program that is called the same names two actions, each done and recorded."""
    hands = hands_of(desk.system.settings, desk.system.pool)
    namesake = Program("owner", Role.TRADE, b"token-of-the-namesake")
    async with (
        api_on(routers=[action_routes(hands)], account=desk.system.account, programs=[namesake]) as api,
        api.page() as page,
        api.program("token-of-the-namesake") as program,
    ):
        headers = {"Idempotency-Key": "key-of-two-callers"}
        halted = await page.post("/api/halt", {"note": "by hand"}, **headers)
        resumed = await program.post("/api/resume", json={"confirm": "resume"}, headers=headers)
        assert (halted.status_code, halted.json()["changed"]) == (200, True), halted.text
        assert (resumed.status_code, resumed.json()["changed"]) == (200, True), resumed.text
    recorded = await desk.system.rows("SELECT given_by, kind FROM api_actions ORDER BY at")
    assert [tuple(row.values()) for row in recorded] == [("owner (API)", "halt"), ("owner (API token)", "resume")]


async def test_flatten_of_one_product_leaves_the_others(desk: Desk) -> None:
    """What is open in the named product is sold and cancelled; a trade in another one stays protected."""
    gone = await desk.system.start(market_buy(desk.system.account))
    stays = await desk.system.start(market_buy(desk.system.account, "0.02", symbol="ETH-USD"))
    await gone.until_protected()
    await stays.until_protected("0.02")
    answer = await desk.do("/api/flatten", {"confirm": "flatten", "symbol": "BTC-USD"})
    assert [item["key"] for item in answer.json()["items"]] == [gone.key], answer.text
    await desk.until_closed(gone.key)
    assert await desk.system.value("SELECT state FROM trades WHERE entry_key = $1", stays.key) == "PROTECTED"
    nothing = await desk.do("/api/flatten", {"confirm": "flatten", "symbol": "SOL-USD"})
    assert (nothing.status_code, nothing.json()["sentence"]) == (200, "there was nothing to close in SOL-USD")


async def test_a_close_is_promised_while_temporal_is_away(desk: Desk) -> None:
    """Without a reachable monitor the close is kept in the ledger like a command's, and the answer is 202."""
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()

    async def nowhere() -> Any:
        raise NoTemporalError

    hands = replace(hands_of(desk.system.settings, desk.system.pool), client=nowhere)
    async with api_on(routers=[action_routes(hands)]) as api, api.page() as page:
        headers = {"Idempotency-Key": "close-while-away"}
        answer = await page.post(f"/api/trades/{trade.key}/close", {}, **headers)
        assert (answer.status_code, answer.json()["kept"]) == (202, True), answer.text
        stops = await page.post(
            f"/api/trades/{trade.key}/stops", {"hard_stop": "49900"}, **{"Idempotency-Key": "stops-away"}
        )
        assert (stops.status_code, stops.json()["code"]) == (503, "NO_TEMPORAL")
    kept = await desk.system.rows(
        "SELECT kind, accepted_at FROM commands WHERE kind = 'close' AND subject = $1", trade.key
    )
    assert [row["kind"] for row in kept] == ["close"]
    assert kept[0]["accepted_at"] is not None
    assert await desk.system.value("SELECT count(*) FROM api_actions WHERE kind = 'stops' AND status IS NULL") == 1


async def test_a_key_is_of_one_action(desk: Desk) -> None:
    """The same key with another body or for another action is refused, as is an action without one; another user's same
    key is another action.
    """
    assert (await desk.do("/api/halt", {"note": "one"}, key="key-of-one-action")).status_code == 200
    for path, body in (("/api/halt", {"note": "two"}), ("/api/resume", {"confirm": "resume"})):
        conflict = await desk.do(path, body, key="key-of-one-action")
        assert (conflict.status_code, conflict.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    async with desk.api.program() as trader:
        other = await trader.post("/api/halt", json={"note": "x"}, headers={"Idempotency-Key": "key-of-one-action"})
        assert (other.status_code, other.json()["changed"]) == (200, False)
    for key in ({}, {"Idempotency-Key": "short"}, {"Idempotency-Key": "with blanks in it"}):
        answer = await desk.page.post("/api/halt", {}, **key)
        assert (answer.status_code, answer.json()["code"]) == (422, "BAD_REQUEST")


async def test_what_is_not_the_accounts_is_not_found(desk: Desk) -> None:
    """An unknown key, or one of another account, can't be closed or cancelled."""
    trade = await desk.system.start(market_buy(desk.system.account))
    await trade.until_protected()
    assert (await desk.do("/api/trades/%00/close")).json()["code"] == "BAD_TEXT"
    assert (await desk.do("/api/halt", {"note": "\x00"})).json()["code"] == "BAD_TEXT"
    for key in ("0" * 32, "x", "..%2f..", "a" * 31 + "'"):
        for path in (f"/api/trades/{key}/close", f"/api/orders/{key}/cancel"):
            answer = await desk.do(path)
            assert answer.status_code == 404, (path, answer.text)
    assert (await desk.do("/api/incidents/999999/resolve")).json()["code"] == "NO_SUCH_INCIDENT"
    hands = replace(hands_of(desk.system.settings, desk.system.pool), account="another")
    async with api_on(routers=[action_routes(hands)]) as api, api.page() as page:
        for number, path in enumerate((f"/api/trades/{trade.key}/close", f"/api/orders/{trade.key}/cancel")):
            answer = await page.post(path, {}, **{"Idempotency-Key": f"key-of-another-{number}"})
            assert answer.status_code == 404


async def test_an_incident_is_resolved(desk: Desk) -> None:
    """It is resolved once; afterwards the answer is that it already was."""
    number = await desk.system.value(
        "INSERT INTO incidents (account, kind, severity, subject, sentence) VALUES ($1, 'TEST', 'WARNING', 'x', 'y') "
        "RETURNING id",
        desk.system.account,
    )
    assert (await desk.do(f"/api/incidents/{number}/resolve")).json()["changed"] is True
    assert (await desk.do(f"/api/incidents/{number}/resolve")).json()["changed"] is False
    assert await desk.system.value("SELECT resolved_at IS NOT NULL FROM incidents WHERE id = $1", number)
