"""Alerts over a real socket into the real system: decisions, idempotency, and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.starting import Starter
from cli.web import terms_of
from domain.incidents import IncidentKind
from tests.support.harness import Trade, trading_system
from tests.support.intents import market_buy
from tests.support.live_stack import run_command
from tests.support.waiting import eventually
from tests.support.webhook import SECRET, TOKEN, Webhook, buy, raw, webhook_on
from web.alert import read_alert
from web.decisions import AlertDecisions
from web.journal import AlertJournal
from web.old_alert import is_old, read_old_alert
from web.senders import Proof
from web.strict_json import read_json
from workers.settings import TriggerSettings
from workers.settings.values import policy_of
from workers.stack.dev_server import DevServer
from workers.stack.processes import free_port
from workflows.order import OrderWorkflow


@pytest_asyncio.fixture
async def webhook(database: str, temporal_server: DevServer) -> AsyncIterator[Webhook]:
    """A webhook on its own system."""
    async with trading_system(database, temporal_server.address) as system:
        async with webhook_on(system) as found:
            yield found
        for row in await system.rows("SELECT order_key FROM orders WHERE role = 'ENTRY'"):
            system._started.append(row["order_key"])


# --- decisions --------------------------------------------------------------------------------------------------------


async def test_an_alert_becomes_an_order_with_its_whole_linkage(webhook: Webhook) -> None:
    """The answer has the order's ids at the exchange, in the ledger and in Temporal; the ledger has the whole
    decision."""
    answer = await webhook.send(
        buy(
            "k1",
            trigger="rsi_oversold",
            order_type="MARKET",
            indicators={
                "rsi": {"value": 27.4, "fired": True, "weight": "1.5", "contribution": 1.5},
                "atr": "412.50",
            },
            score=1.5,
            time=datetime.now(UTC).isoformat(),
        )
    )
    found = answer.json()
    assert (answer.status_code, found["decision"], found["repeated"]) == (200, "admitted", False)
    system = webhook.system
    handle = system.client.get_workflow_handle(found["workflow_id"])

    async def protected() -> bool:
        return bool(await system.value("SELECT count(*) FROM trades WHERE state = 'PROTECTED'"))

    await eventually(protected, within=20, what="the trade is protected")
    assert (await handle.query(OrderWorkflow.state)).trigger == "rsi_oversold"
    order = await system.venue_order(found["client_order_id"])
    assert order["product_id"] == "BTC-USD"
    (link,) = await system.rows("SELECT * FROM trade_strategy_link")
    assert (link["trigger_type"], link["buy_score"], link["indicators_fired"]) == (
        "rsi_oversold",
        Decimal("1.5"),
        ["rsi"],
    )
    assert (
        link["indicator_breakdown"]["atr"]["value"] == "412.50"
        or link["indicator_breakdown"]["atr"]["value"] == "412.5"
    )
    (row,) = await system.rows("SELECT source, entry_point, intent FROM orders")
    assert (row["source"], row["entry_point"], row["intent"]["asked_by"]) == ("sighook", "webhook", "tradingview")
    await system.assert_books_agree()


SNAPSHOT = "5a3c3f0e-6f6b-4f6c-9d7e-0d6f5c0a1b2c"


async def test_an_alert_in_the_old_form_becomes_the_same_order_and_its_sell_closes(webhook: Webhook) -> None:
    """Pair, side, scores, trigger and snapshot of the old payload are the order's; a repeat makes no second order; a
    sell closes the position.
    """
    system = webhook.system
    old = {
        "pair": "BTC-USD",
        "side": "buy",
        "snapshot_id": SNAPSHOT,
        "score": {"Buy Score": 1.5, "Sell Score": 0.25},
        "trigger": {"trigger": "rsi_oversold"},
        "order_type": "market",
    }
    found = (await webhook.send(old)).json()
    assert (found["decision"], found["action"], found["symbol"]) == ("admitted", "buy", "BTC-USD"), found
    (row,) = await system.rows("SELECT * FROM orders")
    assert (row["source"], row["trigger"], row["snapshot_id"]) == ("sighook", "rsi_oversold", SNAPSHOT)
    assert (row["buy_score"], row["sell_score"]) == (Decimal("1.5"), Decimal("0.25"))

    async def protected() -> bool:
        return bool(await system.value("SELECT count(*) FROM trades WHERE state = 'PROTECTED'"))

    await eventually(protected, within=20, what="the trade is protected")
    assert (await webhook.send(old)).json()["repeated"] is True
    assert await webhook.orders() == 1
    other = await webhook.send({**old, "score": {"Buy Score": 2}})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "INTENT_CONFLICT")
    sold = (await webhook.send({**old, "side": "sell", "score": {"Buy Score": float("nan")}})).json()
    assert (sold["decision"], sold["action"]) == ("closing", "close")
    assert [trade["entry_key"] for trade in sold["trades"]] == [found["order_key"]]


async def test_a_wrong_alert_in_the_old_form_is_told_by_its_own_names(webhook: Webhook) -> None:
    """Each error is 422 with the field as sent, and one sentence."""
    right = {"pair": "BTC-USD", "side": "buy", "snapshot_id": SNAPSHOT, "trigger": {"trigger": "rsi_oversold"}}
    for changes, field, words in (
        ({"pair": "BTCUSD"}, "pair", "must be a product like BTC-USD"),
        ({"side": "hold"}, "side", "'buy' or 'sell'"),
        ({"action": "sell"}, "action", "contradict each other"),
        ({"score": {"buy score": 1}}, "score.buy score", "is not a field; did you mean Buy Score?"),
        ({"score": 3}, "score", 'an object such as {"Buy Score"'),
        ({"trigger": {}}, "trigger.trigger", "is missing"),
        ({"trigger": {"trigger": "nobody's"}}, "trigger.trigger", "must be lower-case"),
        ({"snapshot_id": "x"}, "snapshot_id", "UUID"),
        ({"snapshot_id": None}, "snapshot_id", "is missing: without it"),
        ({"symbol": "BTC-USD"}, "symbol", "is not a field"),
        ({"verified": "not valid"}, "verified", "'valid'"),
        ({"order_amount_fiat": -5}, "order_amount_fiat", "above 0"),
    ):
        answer = await webhook.send({**right, **changes})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["field"]) == (422, "BAD_ALERT", field), (changes, error)
        assert words in error["sentence"], error
    unknown = await webhook.send({**right, "trigger": {"trigger": "unheard_of"}})
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (422, "trigger")
    assert await webhook.orders() == 0


async def test_the_same_key_gets_the_same_decision_and_never_a_second_order(webhook: Webhook) -> None:
    """A repeated alert, at once, concurrently or after the order has ended, stays one order."""
    alert = buy("again")
    answers = await asyncio.gather(*(webhook.send(alert) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["order_key"] for answer in answers}) == 1
    assert [answer.json()["repeated"] for answer in answers].count(False) == 1
    assert await webhook.orders() == 1
    refused = [await webhook.send(buy("refused", size_quote="0.0000001")) for _ in range(2)]
    assert [answer.json()["decision"] for answer in refused] == ["refused", "refused"]
    assert refused[0].json()["gate"] == refused[1].json()["gate"] == "BELOW_MINIMUM_SIZE"
    assert refused[1].json()["numbers"]
    assert await webhook.orders() == 2
    assert len(await webhook.system.control.orders()) <= 1


async def test_the_same_key_with_another_body_is_refused(webhook: Webhook) -> None:
    """A key is one alert: another size, symbol or action under it is a conflict, and nothing is traded."""
    assert (await webhook.send(buy("k", dry_run=True))).json()["gate"] == "DRY_RUN"
    others = (buy("k"), buy("k", size_quote=101, dry_run=True), buy("k", symbol="ETH-USD", dry_run=True))
    for other in (*others, {"key": "k", "symbol": "BTC-USD", "action": "close"}):
        answer = await webhook.send(other)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "INTENT_CONFLICT")
    assert webhook.counted("INTENT_CONFLICT") == 4
    assert await webhook.orders() == 1
    written = await webhook.send(buy("k", symbol="btc/usd", dry_run=True))
    assert written.json()["repeated"] is True, "the same product written another way is the same alert"


async def test_an_alert_without_key_and_time_is_refused_however_it_is_proven(webhook: Webhook) -> None:
    """A signature's time doesn't identify an alert, as each retry is signed again; the alert's own time does."""
    alert = {"symbol": "BTC-USD", "action": "buy", "dry_run": True}
    for answer in (
        await webhook.send(alert),
        await webhook.signed(alert),
        await webhook.signed(alert, at=time.time() - 1),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["field"]) == (422, "NO_KEY", "key")
        assert error["sentence"].count(".") == 1
    assert await webhook.orders() == 0
    timed = {**alert, "time": datetime.now(UTC).isoformat()}
    signed = [await webhook.signed(timed, at=time.time() - seconds) for seconds in (2, 0)]
    assert [answer.json()["repeated"] for answer in signed] == [False, True]
    assert len({answer.json()["order_key"] for answer in signed}) == await webhook.orders() == 1


async def test_the_answer_warns_of_what_may_not_be_meant(webhook: Webhook) -> None:
    """A limit far from the market and a stop within the costs are reported with the decision, again when it is
    repeated; a usual order has no warning, and none is refused for it.
    """
    system = webhook.system
    await system.pool.execute(
        """INSERT INTO market_prices (account, symbol, price, bid, ask, at)
           VALUES ($1, 'BTC-USD', 50000, 50000, 50001, now())
           ON CONFLICT (account, symbol) DO UPDATE SET bid = 50000, ask = 50001, at = now()""",
        system.account,
    )
    far = buy("far", price=30_000, order_type="LIMIT")
    for repeated in (False, True):
        answer = (await webhook.send(far)).json()
        assert (answer["decision"], answer["repeated"]) == ("admitted", repeated)
        (warning,) = answer["warnings"]
        assert "the limit 30000 is 40 % below the market (50001)" in warning
    assert "warnings" not in (await webhook.send(buy("near"))).json()
    async with webhook_on(system, trigger="tight") as tight:
        tight.settings.triggers["tight"] = TriggerSettings.model_validate(
            {"size_quote": "100", "exits": {"hard_stop_pct": "0.05", "soft_stop_pct": "0.03"}}
        )
        answer = (await tight.send(buy("tight", trigger="tight"))).json()
        assert answer["decision"] == "admitted"
        assert any("the hard stop at 0.05 % is within the cost of a round trip" in item for item in answer["warnings"])


async def test_an_alert_may_spend_a_share_of_the_account(webhook: Webhook) -> None:
    """While the account's value isn't known the answer is to send it again, and people are told; then it spends its
    share. Once recorded, it gets its decision again without that value; an alert with a size of its own needs to know
    nothing."""
    system, triggers = webhook.system, webhook.settings.triggers
    triggers["share"] = TriggerSettings.model_validate({"size_pct": "0.05", "order_type": "MARKET"})
    read = "SELECT worth FROM account_worth($1, 'USD', 120, 120)"
    worth = await eventually(lambda: system.value(read, system.account), what="the balances are read")
    known = webhook.settings.risk
    strict = known.model_copy(update={"balance_stale_after_s": Decimal("0.000001")})
    webhook.settings.__dict__["risk"] = strict
    alert = buy("share-1", trigger="share")
    del alert["size_quote"]
    unknown = await webhook.send(alert)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "WORTH_NOT_KNOWN"), unknown.text
    assert "no fresh balance of USD" in unknown.json()["error"]["sentence"]
    assert int(unknown.headers["Retry-After"]) > 0
    told = (
        "SELECT severity, subject, details ->> 'key' AS key, details ->> 'code' AS code FROM incidents WHERE kind = $1"
    )
    (row,) = await system.rows(told, IncidentKind.ALERT_REFUSED)
    assert tuple(row.values()) == ("WARNING", "tradingview", "share-1", "WORTH_NOT_KNOWN")
    webhook.settings.__dict__["risk"] = known
    answer = await webhook.send(alert)
    assert answer.json()["decision"] == "admitted", answer.text
    webhook.settings.__dict__["risk"] = strict
    again = await webhook.send(alert)
    assert (again.status_code, again.json()["repeated"]) == (200, True), again.text
    assert again.json()["order_key"] == answer.json()["order_key"]
    other = await webhook.send(alert | {"symbol": "ETH-USD"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "INTENT_CONFLICT"), other.text
    assert (await webhook.send(buy("own-size", trigger="share"))).json()["decision"] == "admitted"
    sizes = await system.rows("SELECT intent ->> 'quote_size' AS size FROM webhook_alerts ORDER BY received_at")
    assert [Decimal(row["size"]) for row in sizes] == [worth * Decimal("0.0005"), 100]


async def test_close_sells_what_was_open_and_only_that(webhook: Webhook) -> None:
    """A close sells the product's open trades; repeated it does not affect a trade opened since."""
    system = webhook.system
    first = (await webhook.send(buy("b1"))).json()["order_key"]

    async def trades(state: str) -> list[str]:
        return [row["entry_key"] for row in await system.rows("SELECT entry_key FROM trades WHERE state = $1", state)]

    async def is_protected() -> bool:
        return await trades("PROTECTED") == [first]

    await eventually(is_protected, within=20, what="the first trade is protected")
    close = {"key": "c1", "symbol": "BTC-USD", "side": "close"}
    answer = (await webhook.send(close)).json()
    assert (answer["decision"], [item["accepted"] for item in answer["trades"]]) == ("closing", [True])

    async def is_closed() -> bool:
        return await trades("CLOSED") == [first]

    await eventually(is_closed, within=20, what="the first trade is closed")
    asked_by = await system.value(
        "SELECT intent->>'asked_by' FROM orders WHERE entry_key = $1 AND role = 'EXIT'", first
    )
    assert asked_by == "tradingview", "the sender is proven by its token"
    second = (await webhook.send(buy("b2"))).json()["order_key"]

    async def second_is_protected() -> bool:
        return await trades("PROTECTED") == [second]

    await eventually(second_is_protected, within=20, what="the second trade is protected")
    again = (await webhook.send(close)).json()
    assert (again["decision"], again["repeated"]) == ("closing", True), "the answer of the first time"
    assert [item["entry_key"] for item in again["trades"]] == [first]
    assert await trades("PROTECTED") == [second]
    assert (await webhook.send({"key": "c2", "symbol": "ETH-USD", "action": "close"})).json()["decision"] == (
        "nothing_to_close"
    )
    resting = await webhook.send(
        {"key": "b3", "symbol": "ETHUSD", "action": "buy", "order_type": "LIMIT", "price": 2000, "size_quote": 100}
    )
    withdrawn = (await webhook.send({"key": "c3", "symbol": "ETH-USD", "action": "close"})).json()
    assert [item["entry_key"] for item in withdrawn["trades"]] == [resting.json()["order_key"]]

    async def is_withdrawn() -> bool:
        sql = "SELECT state FROM orders WHERE order_key = $1"
        return bool(await system.value(sql, resting.json()["order_key"]) == "CANCELLED")

    await eventually(is_withdrawn, within=20, what="the buy that has not filled is withdrawn")
    sold = await webhook.send({"key": "s1", "symbol": "BTCUSD", "action": "sell", "size_base": "0.0001"})
    assert (sold.json()["decision"], sold.status_code) == ("admitted", 200)
    (row,) = await system.rows(
        "SELECT entry_key, exit_reason FROM orders WHERE order_key = $1", sold.json()["order_key"]
    )
    assert (row["entry_key"], row["exit_reason"]) == (second, "MANUAL")


async def test_a_hodl_product_is_not_sold_by_an_alert(webhook: Webhook) -> None:
    """A HODL product is never sold by the system, and an alert is not a person."""
    symbols = webhook.system.settings.symbols.model_copy(update={"hodl": ("BTC-USD",)})
    webhook.system.settings = webhook.system.settings.model_copy(update={"symbols": symbols})
    async with webhook_on(webhook.system) as strict:
        answer = await strict.send({"key": "h", "symbol": "BTC-USD", "action": "close"})
        assert (answer.json()["decision"], answer.json()["gate"]) == ("refused", "HODL")


async def test_without_a_worker_the_answer_is_that_it_is_being_decided(
    database: str, temporal_server: DevServer
) -> None:
    """Without a decision in time the sender is told so, and the same key later gets the decision of the one order."""
    async with (
        trading_system(database, temporal_server.address) as system,
        webhook_on(system, decision_timeout_s="0.5") as webhook,
    ):
        queue = system.settings.temporal.model_copy(update={"orders_queue": f"{system.account}-nobody"})
        idle = webhook.settings.model_copy(update={"temporal": queue})
        decisions = AlertDecisions(
            system.client, AlertJournal(system.pool, system.account), lambda: terms_of(idle, policy_of(idle))
        )
        answer = await decisions.decide(read_alert(buy("slow")), Proof("tradingview"))
        assert (answer.decision, answer.state) == ("deciding", "RECEIVED")
        assert answer.order_key is not None
        handle = system.client.get_workflow_handle(f"order-{answer.order_key}")
        await handle.terminate("nobody will ever take it")
        # The workflow is deleted, the alert's own row is not: the same alert starts the same order again.

        async def decided() -> dict[str, object] | None:
            said: dict[str, object] = (await webhook.send(buy("slow"))).json()
            return said if said["decision"] != "deciding" else None

        later = await eventually(decided, within=20, what="the same key has the order's decision")
        assert (later["decision"], later["order_key"], later["repeated"]) == ("admitted", answer.order_key, True)
        system._started.append(answer.order_key)


async def test_a_close_for_which_no_workflow_runs_is_kept(webhook: Webhook) -> None:
    """Monitor and entry are gone: the close is accepted, and the trade's next monitor sells it for the sender."""
    system = webhook.system
    bought = (await webhook.send(buy("held", order_type="MARKET"))).json()
    held = Trade(system, market_buy(system.account), system.client.get_workflow_handle(bought["workflow_id"]))
    held.intent = held.intent.model_copy(update={"order_key": bought["order_key"]})
    await held.until_protected()
    for handle in (held.handle, held.monitor):
        await handle.terminate("a person's mistake")
    for repeated in (False, True):
        answer = (await webhook.send({"key": "c1", "symbol": "BTC-USD", "action": "close"})).json()
        assert (answer["decision"], answer["repeated"]) == ("closing", repeated)
        assert "the close is stored" in answer["trades"][0]["sentence"]
    assert await system.parts.starter.monitor(held.key)

    async def closed() -> bool:
        return bool(await system.value("SELECT exit_reason = 'MANUAL' FROM trades WHERE state = 'CLOSED'"))

    await eventually(closed, what="the trade is closed")
    assert await system.value("SELECT intent ->> 'asked_by' FROM orders WHERE role = 'EXIT'") == "tradingview"


async def test_a_close_that_nobody_has_answered_outlives_the_run_that_was_asked(webhook: Webhook) -> None:
    """No worker answers and the monitor's run fails before one does: the trade's next monitor sells for the sender."""
    system = webhook.system
    bought = (await webhook.send(buy("held", order_type="MARKET"))).json()
    held = Trade(system, market_buy(system.account), system.client.get_workflow_handle(bought["workflow_id"]))
    held.intent = held.intent.model_copy(update={"order_key": bought["order_key"]})
    await held.until_protected()
    for handle in (held.handle, held.monitor):
        await handle.terminate("a person's mistake")
    nobody = Starter(system.pool, system.client, task_queue=f"{system.account}-nobody")
    assert await nobody.monitor(held.key)
    async with webhook_on(system, decision_timeout_s="0.5") as hurried:
        answer = (await hurried.send({"key": "c1", "symbol": "BTC-USD", "action": "close"})).json()
    assert answer["decision"] == "closing"
    assert answer["trades"][0]["sentence"] == "requested; no worker has answered yet"
    await held.monitor.terminate("its run has failed")
    assert await system.parts.starter.monitor(held.key)

    async def closed() -> bool:
        return bool(await system.value("SELECT exit_reason = 'MANUAL' FROM trades WHERE state = 'CLOSED'"))

    await eventually(closed, what="the trade is closed")
    assert await system.value("SELECT intent ->> 'asked_by' FROM orders WHERE role = 'EXIT'") == "tradingview"


# --- refusals --------------------------------------------------------------------------------------------------


async def test_a_signature_is_over_time_and_body(webhook: Webhook) -> None:
    """A signed alert is accepted; another body, secret or time under the signature is not, nor is an old or future
    one."""
    alert = buy("signed", dry_run=True)
    assert (await webhook.signed(alert)).json()["sender"] == "strategist"
    now = time.time()
    refused = {
        "WRONG_SIGNATURE": [
            await webhook.signed(buy("x1"), secret="another-secret-of-nobody"),
            await webhook.signed(buy("x2"), sent=json.dumps(buy("x2", size_quote=1000)).encode()),
            await webhook.send(buy("x3"), token=None, **{"X-Timestamp": str(int(now)), "X-Signature": "00"}),
            await webhook.send(buy("x4"), **{"X-Timestamp": str(int(now)), "X-Signature": "f" * 64}),
        ],
        "OLD_TIMESTAMP": [
            await webhook.signed(buy("x5"), at=now - 302),
            await webhook.send(buy("x6", time=int(now - 302))),
        ],
        "FUTURE_TIMESTAMP": [
            await webhook.signed(buy("x7"), at=now + 400),
            await webhook.send(buy("x8", time=datetime.fromtimestamp(now + 400, UTC).isoformat())),
        ],
        "BAD_TIMESTAMP": [
            await webhook.send(buy("x9"), **{"X-Signature": "f" * 64}),
            await webhook.send(buy("x10"), **{"X-Timestamp": "yesterday", "X-Signature": "f" * 64}),
        ],
        "WRONG_TOKEN": [
            await webhook.send(buy("x11"), token="token-of-tradingview-2"),
            await webhook.send(buy("x12", token="guess"), token=None),
            await webhook.send(buy("x13"), token=None, Authorization="Basic dG9rZW4="),
            await webhook.send(buy("x14"), token=SECRET),
        ],
        "NO_PROOF": [await webhook.send(buy("x15"), token=None), await webhook.send(buy("x16", token=5), token=None)],
    }
    for code, answers in refused.items():
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(401, code)] * len(
            answers
        )
        assert webhook.counted(code) == len(answers)
    assert await webhook.orders() == 1


async def test_a_token_in_the_body_is_taken_and_never_kept(webhook: Webhook, capfd: pytest.CaptureFixture[str]) -> None:
    """TradingView can't send headers: the token may be a field, which neither ledger nor log has afterwards."""
    answer = await webhook.send(buy("in-body", token=TOKEN, dry_run=True), token=None)
    assert answer.json()["decision"] == "refused"
    assert answer.json()["gate"] == "DRY_RUN"
    assert answer.json()["sentence"].startswith("Dry run")
    (row,) = await webhook.system.rows("SELECT alert, intent FROM webhook_alerts")
    written = json.dumps([row["alert"], row["intent"]])
    out = "".join(capfd.readouterr())
    assert TOKEN not in written + answer.text
    assert "in-body" in out
    assert TOKEN not in out


async def test_an_old_alert_is_told_what_was_decided_while_it_was_new(webhook: Webhook) -> None:
    """An expired alert is refused, unless its key is known: then it gets its stored decision."""
    alert = buy("aged", time=int(time.time()) - 2, dry_run=True)
    assert (await webhook.send(alert)).json()["gate"] == "DRY_RUN"
    async with webhook_on(webhook.system, replay_window_s=1) as strict:
        again = await strict.send(alert)
        assert (again.status_code, again.json()["repeated"]) == (200, True)
        assert (await strict.send({**alert, "key": "unknown"})).status_code == 401


async def test_ten_megabytes_are_refused_before_they_are_read(webhook: Webhook) -> None:
    """A body above the limit is refused by its length, and by the bytes received if no length is given."""
    large = await webhook.send(b'{"note": "' + b"x" * 10_000_000 + b'"}')
    assert (large.status_code, large.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"[" * 4096

    chunked = await webhook.http.post("/webhook", content=endless(), headers={"Authorization": f"Bearer {TOKEN}"})
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")
    assert webhook.counted("BODY_TOO_LARGE") == 2
    assert await webhook.orders() == 0


async def test_who_sends_slowly_is_cut_off(webhook: Webhook) -> None:
    """Endless headers or bodies are not waited for."""
    async with webhook_on(webhook.system, body_timeout_s="0.3") as brief:
        answer = await raw(brief, b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert await raw(brief, b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
        assert await raw(brief) == b""
        assert brief.counted("BODY_TOO_SLOW") == 1


async def test_what_is_not_json_or_not_an_alert_is_refused_with_its_place(webhook: Webhook) -> None:
    """Each kind of bad input gets a sentence that names it, is counted, and trades nothing."""
    good = b'"key": "k", "symbol": "BTC-USD", "action": "buy"'
    broken: dict[bytes, str] = {
        b"": "empty",
        b"buy BTC": "not JSON",
        b"[" * 5000: "deeper than 8",
        b'{"a":' * 9 + b"1" + b"}" * 9: "deeper than 8",
        b"{" + good + b', "action": "sell"}': "twice",
        b"{" + good + b', "note": "a\\u0000b"}': "control",
        b"{" + good + b', "note": "\\ud800"}': "surrogate",
        b'{"key": "\xff"}': "UTF-8",
    }
    for body, word in broken.items():
        answer = await webhook.send(body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_JSON"), body[:60]
        assert word.lower() in answer.json()["error"]["sentence"].lower()
    no_numbers = (b"NaN", b"-Infinity", b"1e999", b"1e99999999999999999999", b"-1E-99999999999999999999", b"9" * 300)
    wrong: list[tuple[object, str | None, str]] = [
        *((b"{" + good + b', "size_quote": ' + text + b"}", "size_quote", "must be a number") for text in no_numbers),
        (b"{" + good + b', "note": 1e99999999999999999999}', "note", "string"),
        (b"{" + good + b', "time": NaN}', "time", "must be a number"),
        (b"{" + good + b', "dry_run": Infinity}', "dry_run", "boolean"),
        ([], None, "JSON object"),
        ({}, "symbol", "missing"),
        ({"symbol": "BTC-USD", "key": "k"}, None, "action is missing"),
        (buy("k", size_qoute=5), "size_qoute", "did you mean size_quote?"),
        (buy("k", action="short"), "action", "'buy', 'sell' or 'close'"),
        (buy("k", side="sell"), None, "contradict"),
        (buy("k", size_quote=True), "size_quote", "must be a number"),
        (buy("k", size_quote=[1]), "size_quote", "must be a number"),
        (buy("k", size_quote=0), "size_quote", "above 0"),
        (buy("k", size_quote="1e300"), "size_quote", "number"),
        (buy("k", size_base=1), None, "two sizes"),
        (buy("k", symbol=5), "symbol", "string"),
        (buy("k", symbol="BINANCE:BTCUSDT"), "symbol", "trades at COINBASE"),
        (buy("k", symbol="BTCUSDT.P"), "symbol", "perpetual"),
        (buy("k", symbol="NONSENSE"), "symbol", "write it like BTC-USD"),
        (buy("a key"), "key", "1 to 100 printable"),
        (buy("k", trigger="unheard_of"), "trigger", "there are for"),
        (buy("k", order_type="LIMIT"), None, "needs a price"),
        (buy("k", order_type="STOP"), "order_type", "LIMIT_POST_ONLY"),
        (buy("k", time="half past nine"), "time", "2026-11-21T09:30:00Z"),
        (buy("k", time="2026-11-21T09:30:00"), "time", "zone"),
        (buy("k", indicators={"rsi": {"valu": 3}}), "indicators.rsi.valu", "did you mean value?"),
        (buy("k", indicators={"rsi": []}), "indicators.rsi.value", "must be a number"),
        (buy("k", snapshot_id="7"), "snapshot_id", "UUID"),
        ({"symbol": "BTC-USD", "action": "buy"}, "key", "needs a"),
        ({"key": "k", "symbol": "BTC-USD", "action": "sell"}, None, "size_base"),
        ({"key": "k", "symbol": "BTC-USD", "action": "close", "size_base": 1}, None, "every open trade"),
    ]
    for alert, field, words in wrong:
        answer = await webhook.send(alert)
        error = answer.json()["error"]
        assert (answer.status_code, error.get("field")) == (422, field), (alert, error)
        assert words in error["sentence"], (alert, error)
    assert webhook.counted("BAD_JSON") == len(broken)
    assert webhook.counted("BAD_ALERT") + webhook.counted("NO_KEY") == len(wrong)
    kinds = await webhook.send(b"<alert/>", **{"Content-Type": "application/xml"})
    assert kinds.status_code == 415
    assert (await webhook.http.get("/webhook")).status_code == 405
    assert (await webhook.http.get("/nothing")).json()["error"]["code"] == "NOT_FOUND"
    assert await webhook.orders() == 0
    assert await webhook.system.control.orders() == []


async def test_a_symbol_that_the_exchange_has_not_is_refused_by_its_gate(webhook: Webhook) -> None:
    """A well-formed symbol goes to the gates, whose answer has their name."""
    answer = (await webhook.send(buy("u", symbol="NOPE-USD"))).json()
    assert (answer["decision"], answer["gate"]) == ("refused", "UNKNOWN_SYMBOL")


async def test_too_many_and_too_many_at_once_are_put_off(webhook: Webhook) -> None:
    """Rate and concurrency limits answer 429 and 503 with the seconds to wait; nothing is done, and people are
    notified."""
    async with webhook_on(webhook.system, requests_per_minute=6, burst=2) as slow:
        answers = [await slow.send(buy(f"r{number}", dry_run=True)) for number in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 10
        assert (await slow.signed(buy("other", dry_run=True))).status_code == 200, "each sender has its own bucket"
        assert [(await slow.send(buy(f"s{number}"))).status_code for number in range(3)] == [429] * 3
        told = await webhook.system.rows("SELECT subject, details FROM incidents WHERE kind = 'alert_refused'")
        assert [(row["subject"], row["details"]["code"]) for row in told] == [("tradingview", "TOO_MANY")]
    async with webhook_on(webhook.system, max_concurrent=1) as narrow:
        answers = await asyncio.gather(*(narrow.send(buy(f"c{number}", dry_run=True)) for number in range(12)))
        busy = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert {(answer.json()["error"]["code"], answer.headers["Retry-After"]) for answer in busy} == {("BUSY", "1")}
        assert narrow.counted("BUSY") == len(busy)


async def test_it_lives_and_says_what_it_needs(webhook: Webhook) -> None:
    """Health is the process's, readiness is that of a decision's requirements, and the schema has the alert with
    examples."""
    assert (await webhook.http.get("/health")).json() == {"ok": True}
    ready = await webhook.http.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"ok": True, "database": True, "temporal": True})
    assert (await webhook.http.get("/metrics")).status_code == 200
    schema = (await webhook.http.get("/openapi.json")).json()
    assert "symbol" in schema["components"]["schemas"]["Alert"]["properties"]
    body = schema["paths"]["/webhook"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        value = read_json(json.dumps(example["value"]).encode(), max_depth=8)
        assert (read_old_alert(value) if is_old(value) else read_alert(value)).does in ("buy", "close")


async def _cut_off(address: str) -> Client:
    """A client that was connected to Temporal until its connection broke."""
    host, _, port = address.partition(":")
    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, far_writer))
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    near = server.sockets[0].getsockname()[1]
    client = await Client.connect(f"127.0.0.1:{near}", data_converter=pydantic_data_converter)
    server.close()
    for writer in writers:
        writer.transport.abort()
    return client


async def test_while_a_server_is_away_the_same_key_may_be_sent_again(webhook: Webhook) -> None:
    """Without ledger or Temporal alerts get 503; once both are back, the same key is one order."""
    system = webhook.system
    nowhere = await asyncpg.create_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/none", min_size=0, timeout=1)
    try:
        async with webhook_on(system, pool=nowhere) as without:
            answer = await without.send(buy("away", dry_run=True))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "NO_DATABASE")
            assert answer.headers["Retry-After"]
            ready = await without.http.get("/ready")
            assert (ready.status_code, ready.json()["database"]) == (503, False)
        client = await _cut_off(system.settings.temporal.address)
        async with webhook_on(system, client=client, decision_timeout_s="0.3") as without:
            answer = await without.send(buy("away", dry_run=True))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "NO_TEMPORAL")
            assert "same key" in answer.json()["error"]["sentence"]
    finally:
        await nowhere.close()
    answer = await webhook.send(buy("away", dry_run=True))
    assert (answer.status_code, answer.json()["gate"], answer.json()["repeated"]) == (200, "DRY_RUN", True)
    assert await webhook.orders() == 1


async def test_whatever_its_schema_allows_or_forbids_it_never_fails(webhook: Webhook, tmp_path: Path) -> None:
    """Hundreds of generated requests, valid and invalid by the schema: no 5xx, and every answer fits the schema."""
    url = f"{webhook.http.base_url}/openapi.json"
    done = await run_command(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", url, "--seed", "5", "--generation-deterministic"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--no-color", "--mode", "all"),
            *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
            *("--checks", "response_schema_conformance", "--header", f"Authorization: Bearer {TOKEN}"),
        ],
        {**os.environ, "NO_PROXY": "127.0.0.1", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        timeout=120,
    )
    assert done.code == 0, done.out + done.err
    assert webhook.counted("FAULT") == 0
    assert webhook.counted("BAD_ALERT") > 50, "most of what was generated reached the alert"
