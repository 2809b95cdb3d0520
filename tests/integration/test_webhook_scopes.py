"""Scopes of senders over a real socket into the real system: alerts outside are refused, reported and counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.support.harness import TradingSystem, trading_system
from tests.support.ledger_rows import open_books
from tests.support.waiting import eventually
from tests.support.webhook import TOKEN, Webhook, buy, webhook_on
from workers.stack.dev_server import DevServer


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A separate system."""
    async with trading_system(database, temporal_server.address) as found:
        yield found
        for row in await found.rows("SELECT order_key FROM orders WHERE role = 'ENTRY'"):
            found._started.append(row["order_key"])


def scope(**bounds: Any) -> dict[str, Any]:
    """The settings of the sender that the tests send as."""
    return {"senders": {"tradingview": {"token": TOKEN, **bounds}}}


async def gates(webhook: Webhook, *alerts: dict[str, Any]) -> list[str | None]:
    """The gate that refused each alert; None if it wasn't refused."""
    answers = [(await webhook.send(alert)).json() for alert in alerts]
    assert all(answer["decision"] in ("refused", "admitted", "closing", "nothing_to_close") for answer in answers)
    return [answer.get("gate") for answer in answers]


async def test_what_is_outside_a_senders_scope_is_refused_and_told(system: TradingSystem) -> None:
    """Another product, trigger or action, and an order that is too large, is a decision with its own code, stored under
    its key, without an order, and an incident; alerts inside are traded.
    """
    bounds = scope(symbols=["BTC-USD"], triggers=["webhook"], actions=["buy", "close"], max_order_quote=150)
    outside = [
        buy("a", symbol="ETH-USD"),
        buy("b", trigger="rsi_oversold"),
        {"key": "c", "symbol": "BTC-USD", "action": "sell", "size_base": "0.001"},
        buy("d", size_quote="150.01"),
        {"key": "e", "symbol": "BTC-USD", "action": "buy", "size_base": "0.01"},
        {"key": "f", "symbol": "BTC-USD", "action": "buy", "size_base": "0.01", "price": 20_000},
        {"key": "g", "symbol": "ETH-USD", "action": "close"},
    ]
    codes = ["SENDER_SYMBOL", "SENDER_TRIGGER", "SENDER_ACTION", *["SENDER_ORDER_SIZE"] * 3, "SENDER_SYMBOL"]
    async with webhook_on(system, **bounds) as webhook:
        assert await gates(webhook, *outside) == codes
        again = (await webhook.send(outside[0])).json()
        assert (again["gate"], again["repeated"]) == ("SENDER_SYMBOL", True)
        assert await webhook.orders() == 0
        rows = await system.rows("SELECT subject, severity, details FROM incidents WHERE kind = 'alert_refused'")
        assert {(row["subject"], row["severity"]) for row in rows} == {("tradingview", "WARNING")}
        assert {row["details"]["code"] for row in rows} == set(codes)
        stored = await system.rows("SELECT refusal, intent FROM webhook_alerts ORDER BY received_at, request_id")
        assert {row["refusal"]["gate"] for row in stored} == set(codes)
        assert {row["intent"] for row in stored} == {None}
        assert await gates(webhook, buy("h", size_quote=150)) == [None]
    assert await system.value("SELECT count(*) FROM orders") == 1


async def test_a_sell_takes_what_no_trade_owns_only_where_its_sender_may(system: TradingSystem) -> None:
    """An alert can't sell coins that a person holds outside the trades, unless the settings allow it."""
    await system.control.deposit("BTC", "1")
    await open_books(system.pool, system.account, BTC="1")
    sell = {"symbol": "BTC-USD", "action": "sell", "size_base": "0.5"}
    async with webhook_on(system) as webhook:
        assert await gates(webhook, {"key": "a", **sell}) == ["SENDER_POOL"]
        assert await webhook.orders() == 0
    async with webhook_on(system, **scope(pool=True)) as webhook:
        assert await gates(webhook, {"key": "b", **sell}) == [None]
        assert await webhook.orders() == 1


async def test_a_burst_gets_no_more_orders_than_a_day_has(system: TradingSystem) -> None:
    """Of many concurrent alerts, each sent twice, as many are orders as the day allows, and a repeated one counts once;
    refusals by gates and closes don't count, and another day is counted separately.
    """
    async with webhook_on(system, **scope(orders_per_day=3)) as webhook:
        assert (
            await gates(webhook, *(buy(f"small{number}", size_quote="0.0000001") for number in range(4)))
            == ["BELOW_MINIMUM_SIZE"] * 4
        )
        alerts = [buy(f"k{number}") for number in range(8)]
        answers = [a.json() for a in await asyncio.gather(*(webhook.send(alert) for alert in (*alerts, *alerts)))]
        by_key: dict[str, set[str | None]] = {}
        for answer in answers:
            by_key.setdefault(answer["key"], set()).add(answer.get("gate"))
        assert sorted(map(repr, by_key.values())) == ["{'SENDER_ORDERS_PER_DAY'}"] * 5 + ["{None}"] * 3
        again = [(await webhook.send(alert)).json() for alert in alerts]
        assert {answer["key"]: {answer.get("gate")} for answer in again} == by_key, "the same key, the same decision"
        assert await webhook.orders() == 4 + 3
        assert await gates(webhook, buy("dry", dry_run=True)) == ["DRY_RUN"]

        async def bought() -> bool:
            return int(await system.value("SELECT count(*) FROM trades WHERE state = 'PROTECTED'")) == 3

        await eventually(bought, within=30, what="the three are protected")
        assert await gates(webhook, {"key": "c", "symbol": "BTC-USD", "action": "close"}) == [None]
        await system.pool.execute("UPDATE webhook_alerts SET received_at = received_at - interval '1 day'")
        assert await gates(webhook, buy("tomorrow")) == [None]
