"""A remainder that can't be sold for its worth at the bid is dust: reported with size and worth, and not guarded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from activities.ledger import closing
from domain.exits import ExitReason, ExitRules
from domain.messages import CloseRequest
from domain.protection import Protection, ProtectionKind
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from tests.workflow.test_exits_while_reads_fail import until_bid_is_kept
from tests.workflow.test_urgent_exits import bought, close
from web.views.trades import described_trade, read_trade


async def cancelled_early(system: TradingSystem) -> tuple[Trade, str]:
    """An entry that was withdrawn when 0.5 USD had filled: nothing is due, and nothing could be sold."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.00001")
    await trade.until_protected("0.00001")
    await trade.handle.signal("cancel", CloseRequest(by="a person"))
    return trade, "0.00001 BTC are too small to sell (worth 0.5 USD, minimum 1 USD) and remain as dust"


async def fallen(system: TradingSystem) -> tuple[Trade, str]:
    """15 USD that fell 95 %: the stop is due, and is refused for its size."""
    trade = await system.start(market_buy(system.account, "0.0003"))
    await trade.until_protected("0.0003")
    await system.price("2500")
    return trade, "0.0003 BTC are too small to sell (worth 0.75 USD, minimum 1 USD) and remain as dust"


@pytest.mark.parametrize("story", [cancelled_early, fallen], ids=["ended short", "fell 95 %"])
async def test_what_is_too_small_to_sell_closes_as_dust_and_says_so(system: TradingSystem, story: object) -> None:
    """The trade is closed without an exit reason, timeline, ledger, incident and `trade show` name the dust, and a
    rising price changes nothing.
    """
    trade, sentence = await story(system)  # type: ignore[operator]
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size, outcome.dust_size) == (None, 0, outcome.entry_size)
    assert outcome.dust_why == sentence
    assert "nothing was sold; " + sentence in (await trade.story()).splitlines()[-1]
    assert "STOP" not in (await trade.story()).splitlines()[-1]
    row = await read_trade(system.pool, trade.key)
    assert (described_trade(row)["dust_why"], row["remaining"]) == (sentence, 0)
    told = await system.rows("SELECT severity, sentence FROM incidents WHERE kind = 'DUST_LEFT'")
    assert [(item["severity"], sentence in item["sentence"]) for item in told] == [("INFO", True)]
    assert await system.value("SELECT count(*) FROM incidents WHERE resolved_at IS NULL") == 0
    await system.price("90000")
    assert not await system.parts.starter.monitor(trade.key)
    await system.assert_books_agree()


@pytest.mark.parametrize("fault", [{"kind": "server_error"}, {"kind": "slow", "delay": 20}], ids=["failing", "hanging"])
async def test_dust_is_called_so_by_what_the_stream_told_while_reads_fail(
    system: TradingSystem, fault: dict[str, Any]
) -> None:
    """With every read failing, or hanging, a remainder that is too small to sell at the stream's bid closes as dust,
    without an incident.
    """
    trade = await system.start(market_buy(system.account, "0.0003"))
    await trade.until_protected("0.0003")
    await system.control.fault(scope="GET *", count=None, **fault)
    await system.price("2500")
    outcome = await trade.closed()
    assert (outcome.dust_size, outcome.exit_reason) == (Decimal("0.0003"), None)
    assert outcome.dust_why == "0.0003 BTC are too small to sell (worth 0.75 USD, minimum 1 USD) and remain as dust"
    alarms = await system.rows("SELECT kind, sentence FROM incidents WHERE severity = 'CRITICAL'")
    assert [item for item in alarms if "EXIT" in item["kind"].upper()] == []
    await system.control.clear_faults()
    await system.assert_books_agree()


async def test_dust_that_a_close_leaves_is_called_so_by_the_watchers_bid(system: TradingSystem) -> None:
    """No read works, and a thin book takes all but half a dollar of what a person closes: that is dust, by the bid that
    the price watcher keeps.
    """
    trade = await bought(system)
    await until_bid_is_kept(system, "50000")
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fault("thin_book", "SELL BTC-USD", count=1, share=0.999)
    await close(trade)
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.00999"))
    assert outcome.dust_why == "0.00001 BTC are too small to sell (worth 0.5 USD, minimum 1 USD) and remain as dust"
    assert await system.value("SELECT count(*) FROM orders WHERE gate IS NOT NULL") == 0
    await system.control.clear_faults()
    await system.assert_books_agree()


async def test_a_rest_of_unknown_worth_is_no_dust(system: TradingSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the exchange's book and a stored bid, the trade stays open; it is dust once its worth is known."""
    monkeypatch.setattr(closing, "KEPT_BID", "NULL::numeric")
    trade = await system.start(market_buy(system.account, "0.0003"))
    await trade.until_protected("0.0003")
    fault = await system.control.fault("server_error", "GET /product_book", duration=600)
    await system.price("2500")

    async def refused() -> bool:
        return bool(await system.value("SELECT count(*) >= 2 FROM orders WHERE gate = 'BELOW_MINIMUM_SIZE'"))

    await eventually(refused, what="refused twice")
    assert await system.value("SELECT state FROM trades") != "CLOSED"
    await system.control.clear_faults(fault)
    outcome = await trade.closed()
    assert (outcome.dust_size, outcome.exit_reason) == (Decimal("0.0003"), None)
    await system.assert_books_agree()


@pytest.mark.parametrize("beside", ["the protection", "TP"])
async def test_dust_beside_what_may_still_sell_a_trade_is_not_sent(system: TradingSystem, beside: str) -> None:
    """Protection, or a lower exit, has no known end and may sell all but half a dollar of the trade: a close sends no
    order for that, which would be refused; people are told that it waits, and it sells all once the end is known.
    """
    shield = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.08")) if beside == "the protection" else None
    rules = ExitRules(reprice_seconds=Decimal(60), trailing_arm=None, take_profit=Decimal("0.01"))
    trade = await system.start(limit_buy(system.account, "0.1", "49999", rules=rules, protection=shield))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")

    async def rests() -> str | None:
        sells = [item for item in await system.control.orders() if item["side"] == "SELL" and item["status"] == "OPEN"]
        return sells[0]["order_id"] if sells else None

    if shield is None:
        await system.control.latency(cancel=None)  # the entry's own cancel has no end either
        await system.price("50600")
    order = await eventually(rests, what="what sells the trade rests")
    await system.control.latency(cancel=None)
    await system.control.fill(entry, "0.00001")
    await eventually(
        lambda: system.value("SELECT remaining = 0.01001 FROM trades"), what="the ledger has what the entry filled"
    )
    await trade.monitor.signal("close", CloseRequest(by="a person"))

    async def told() -> bool:
        rows = await system.rows("SELECT sentence FROM incidents WHERE severity = 'CRITICAL' AND resolved_at IS NULL")
        return any(f"MANUAL waits for the end of {beside}" in row["sentence"] for row in rows)

    await eventually(told, within=12, what="people are told that it waits")
    await system.control.latency(cancel=0)
    await system.control.finish_cancel(order)
    await system.control.finish_cancel(entry)
    outcome = await trade.closed()
    assert (outcome.exit_size, outcome.exits[-1].reason) == (Decimal("0.01001"), ExitReason.MANUAL)
    refused = await system.rows("SELECT gate_sentence, intent FROM orders WHERE gate = 'BELOW_MINIMUM_SIZE'")
    assert refused == [], await trade.story()
    await system.assert_books_agree()
