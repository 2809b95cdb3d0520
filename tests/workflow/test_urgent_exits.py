"""Nothing that may fail is between a due stop and its order (EXIT-10): reads fail or hang, a stopped process holds a
lock, answers are lost, and the due exit is at the exchange all the same.

The faults last longer than the tests wait, so that anything that waits for one of them fails.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from temporalio.service import RPCError

from activities import venue
from activities.database import SYMBOL_LOCK
from activities.streams import unclear_orders
from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id, order_workflow_id
from domain.messages import CloseAnswer, CloseRequest
from domain.protection import Protection, ProtectionKind
from tests.support.harness import Trade, TradingSystem, step_market, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.settings import SymbolSettings
from workers.stack.dev_server import DevServer

HANGS, WITHIN = 16.0, 12.0
RULES = ExitRules(reprice_seconds=Decimal(60), trailing_arm=None)
QUICK = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=1, trailing_arm=Decimal("0.035"))
STOP = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.08"))
FAULTS: dict[str, dict[str, Any]] = {"server_error": {}, "slow": {"delay": HANGS}}


async def sells(system: TradingSystem, trade: Trade) -> list[dict[str, Any]]:
    """The trade's exits at the exchange, oldest first."""
    ours = {
        row["client_order_id"]
        for row in await system.rows(
            "SELECT client_order_id FROM attempts JOIN orders USING (order_key) WHERE entry_key = $1 AND side = 'SELL'",
            trade.key,
        )
    }
    return [item for item in await system.control.orders() if item["client_order_id"] in ours]


async def until_sold(system: TradingSystem, trade: Trade, size: str = "0.01", within: float = WITHIN) -> None:
    """Wait until the exchange has sold this much for the trade."""

    async def so() -> bool:
        return sum(Decimal(item["filled_size"]) for item in await sells(system, trade)) == Decimal(size)

    try:
        await eventually(so, within=within, what="the trade is sold")
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{await trade.story()}\n{await sells(system, trade)}") from None


def leg(trade: Trade, number: int, attempt: int) -> str:
    """Our id of an attempt of one of the trade's exits."""
    return client_order_id(trade.leg_key(number), attempt)


async def close(trade: Trade) -> None:
    """A person closes the trade."""
    await trade.monitor.execute_update("close", CloseRequest(by="a person"), result_type=CloseAnswer)


async def bought(system: TradingSystem, size: str = "0.01", **fields: Any) -> Trade:
    """A trade that was bought at the market, 0.01 BTC unless given otherwise."""
    trade = await system.start(market_buy(system.account, size, **({"rules": RULES} | fields)))
    await trade.until_protected(size)
    return trade


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_due_exit_waits_for_no_read(
    database: str, temporal_server: DevServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """With every read failing, or hanging, each exit is sold: hard, soft and trailing stops and a person's closes,
    whether nothing rests of the trade, a limit exit, protection at the exchange or the rest of the entry.
    """
    monkeypatch.setattr(venue, "_REMEMBER_SECONDS", 0.0)  # instead of waiting for a minute until it is requested again
    async with trading_system(
        database,
        temporal_server.address,
        market=step_market(products=["BTC-USD", "ETH-USD", "SOL-USD"]),
        symbols=SymbolSettings(allow=("BTC-USD", "ETH-USD", "SOL-USD"), max_open_buys=1000),
        timeout_seconds="20",
    ) as system:
        await system.price("100", "100.01", symbol="SOL-USD")
        plain, by_hand = await bought(system), await bought(system)
        shielded = await bought(system, protection=STOP)
        limits = RULES.model_copy(update={"take_profit": Decimal("0.01")})
        resting = await bought(system, rules=limits)
        repriced = await bought(
            system, rules=limits.model_copy(update={"reprice_seconds": Decimal("0.3"), "max_reprices": 50})
        )
        growing = await system.start(limit_buy(system.account, "0.1", "49999", rules=RULES))
        await system.control.fill(await growing.exchange_id(), "0.01")
        await growing.until_protected("0.01")
        soft = await bought(system, "0.1", symbol="ETH-USD", rules=QUICK)
        trailing = await bought(system, "5", symbol="SOL-USD", rules=QUICK)
        await system.price("104", symbol="SOL-USD")
        await system.price("50600")
        for trade in (resting, repriced):
            await system.exchange_id(leg(trade, 1, 1))

        async def armed() -> bool:
            return bool(await system.value("SELECT stop IS NOT NULL FROM exit_plans WHERE symbol = 'SOL-USD'"))

        async def shield_rests() -> bool:
            return any(item["status"] == "OPEN" for item in await sells(system, shielded))

        await eventually(armed, what="trailing is armed")
        await eventually(shield_rests, what="the protection rests")

        await system.control.fault(fault, "GET *", count=None, **FAULTS[fault])
        await close(by_hand)
        await close(growing)
        await until_sold(system, by_hand)
        await until_sold(system, growing)
        await system.price("2915", symbol="ETH-USD")
        await system.price("101", symbol="SOL-USD")
        await system.price("47000")  # the hard stops, above where the protection's own would be
        for trade in (plain, shielded, resting, repriced):
            await until_sold(system, trade)
        await until_sold(system, soft, "0.1")
        await until_sold(system, trailing, "5")
        await system.control.clear_faults()
        outcomes = [await trade.closed(within=45) for trade in (plain, resting, soft, trailing, by_hand)]
        assert [outcome.exit_reason for outcome in outcomes] == [
            ExitReason.HARD_STOP,
            ExitReason.HARD_STOP,
            ExitReason.SOFT_STOP,
            ExitReason.TRAILING_STOP,
            ExitReason.MANUAL,
        ]
        for trade in (shielded, repriced, growing):
            await trade.closed(within=45)
        await system.assert_books_agree()


async def test_a_due_exit_waits_for_nobody_who_holds_its_symbol(system: TradingSystem, database: str) -> None:
    """A stopped transaction with the symbol's lock doesn't keep an exit from the exchange, nor a stop whose trade a
    resting exit has claimed: that one's end is written without the lock.
    """
    trade = await bought(system)
    resting = await bought(system, rules=RULES.model_copy(update={"take_profit": Decimal("0.01")}))
    await system.price("50600")
    await system.exchange_id(leg(resting, 1, 1))
    still = await asyncpg.connect(database)
    try:
        await still.execute("BEGIN")
        await still.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", SYMBOL_LOCK, f"{system.account}/BTC-USD")
        await close(trade)
        await until_sold(system, trade)
        await system.price("47000")
        await until_sold(system, resting)
    finally:
        await still.close()
    assert (await trade.closed()).exit_reason is ExitReason.MANUAL
    assert (await resting.closed()).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


@pytest.mark.parametrize("lost", ["accepted_cut", "not_accepted_cut"])
async def test_a_lost_exit_is_sent_again_before_anything_is_looked_up(system: TradingSystem, lost: str) -> None:
    """With its answer lost and every list failing, an exit is sold, and is one order at the exchange."""
    trade = await bought(system)
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fault(lost, "POST /orders", count=1)
    await system.price("46000")
    await until_sold(system, trade)
    await system.control.clear_faults()
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    assert len(await sells(system, trade)) == 1
    await system.assert_books_agree()


async def told(system: TradingSystem, words: str) -> None:
    """Wait until a CRITICAL incident with this text is open."""

    async def so() -> bool:
        found = await system.rows("SELECT severity, sentence FROM incidents WHERE resolved_at IS NULL")
        return any(row["severity"] == "CRITICAL" and words in row["sentence"] for row in found)

    await eventually(so, what=f"people are told: {words}")


async def told_in_story(trade: Trade, words: str) -> None:
    """Wait until the trade's timeline has a line with these words."""

    async def so() -> bool:
        return words in await trade.story()

    await eventually(so, what=f"the story says: {words}")


async def test_what_an_entry_may_still_fill_keeps_nothing_from_being_sold(system: TradingSystem) -> None:
    """The entry's cancel has no known end: the filled size is sold at once, later fills as they arrive, people are
    notified until its end is known, and then the trade is closed.
    """
    trade = await system.start(limit_buy(system.account, "0.1", "49999", rules=RULES))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")
    await system.control.latency(cancel=None)
    await close(trade)
    await until_sold(system, trade)
    await told(system, "the entry's end is not known yet")
    await system.control.fill(entry, "0.02")
    await until_sold(system, trade, "0.03")
    await system.control.finish_cancel(entry)
    outcome = await trade.closed()
    assert outcome.exit_size == Decimal("0.03")
    assert await system.value("SELECT count(*) FROM incidents WHERE kind = 'EXIT_REFUSED' AND resolved_at IS NULL") == 0
    await system.assert_books_agree()


async def test_an_exit_whose_end_is_not_known_is_not_sold_twice(system: TradingSystem) -> None:
    """A limit exit whose cancel has no known end may sell all of the trade: the stop above it waits, people are
    notified, and it sells exactly the rest.
    """
    trade = await bought(system)
    await system.price("48700")
    soft = await system.exchange_id(leg(trade, 1, 1))
    await system.control.latency(cancel=None)
    await system.price("46000")
    await told(system, "HARD_STOP waits for the end of SOFT_STOP")
    await system.control.fill(soft, "0.004")
    await system.control.finish_cancel(soft)
    outcome = await trade.closed()
    assert [(item.reason, item.size) for item in outcome.exits] == [
        (ExitReason.SOFT_STOP, Decimal("0.004")),
        (ExitReason.HARD_STOP, Decimal("0.006")),
    ]
    await system.assert_books_agree()


async def test_protection_whose_end_is_not_known_is_not_sold_twice(system: TradingSystem) -> None:
    """Protection whose cancel has no known end may sell all of the trade: the stop waits, and people are notified."""
    trade = await bought(system, protection=STOP)

    async def rests() -> bool:
        return any(item["status"] == "OPEN" for item in await sells(system, trade))

    await eventually(rests, what="the protection rests")
    await system.control.latency(cancel=None)
    await system.price("47000")
    await told(system, "HARD_STOP waits for the end of the protection")
    (order,) = await sells(system, trade)
    await system.control.finish_cancel(order["order_id"])
    assert (await trade.closed()).exit_size == Decimal("0.01")
    await system.assert_books_agree()


async def test_what_became_due_while_a_profit_exit_waited_is_what_is_sold_for(system: TradingSystem) -> None:
    """A target waits for the end of its protection, and meanwhile a hard stop is due: no exit for the target is begun,
    which would have to stand down at once, again and again.
    """
    rules = ExitRules(take_profit=Decimal("0.02"), trailing_arm=None)
    trade = await bought(system, protection=STOP, rules=rules)

    async def rests() -> str | None:
        return next((item["order_id"] for item in await sells(system, trade) if item["status"] == "OPEN"), None)

    protection = await eventually(rests, what="the protection rests")
    await system.control.latency(cancel=None)
    await system.price("51005")
    await told(system, "TP waits for the end of the protection")
    await system.price("47000")

    async def heard() -> bool:
        return (await trade.monitor_view()).due == ExitReason.HARD_STOP

    await eventually(heard, what="the monitor has heard of the stop")
    await system.control.latency(cancel=0)
    await system.control.finish_cancel(protection)
    await until_sold(system, trade)
    assert {item.reason for item in (await trade.closed()).exits} == {ExitReason.HARD_STOP}
    begun = await system.rows("SELECT exit_reason FROM orders WHERE entry_key = $1 AND entry_point = 'exit'", trade.key)
    assert {row["exit_reason"] for row in begun} == {"HARD_STOP"}
    await system.assert_books_agree()


@pytest.mark.parametrize("by", ["stop", "close"])
async def test_what_is_due_goes_before_a_protection_that_is_being_replaced(system: TradingSystem, by: str) -> None:
    """An entry grows, and the cancel of its first part's protection has no known end: the unclaimed size is sold."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999", rules=RULES, protection=STOP))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")

    async def rests() -> str | None:
        return next((item["order_id"] for item in await sells(system, trade) if item["status"] == "OPEN"), None)

    protection = await eventually(rests, what="the protection of the first part rests")
    await system.control.latency(cancel=None)
    await system.control.fill(entry, "0.09")
    await told_in_story(trade, "cancelling the protection at the exchange first: it sells 0.01")
    if by == "stop":
        await system.price("47000")
    else:
        await close(trade)
    await until_sold(system, trade, "0.09")
    await system.control.latency(cancel=0)
    await system.control.finish_cancel(protection)
    outcome = await trade.closed()
    assert outcome.exit_size == Decimal("0.1")
    assert {item.reason for item in outcome.exits} == {ExitReason.HARD_STOP if by == "stop" else ExitReason.MANUAL}
    await system.assert_books_agree()


async def test_a_stop_needs_no_more_of_its_protections_end_than_its_size(system: TradingSystem) -> None:
    """The protection's end is late and without its side, and every read fails: the stop is sent all the same."""
    trade = await bought(system, protection=STOP)

    async def rests() -> str | None:
        return next((item["order_id"] for item in await sells(system, trade) if item["status"] == "OPEN"), None)

    protection = await eventually(rests, what="the protection rests")
    await system.control.latency(cancel=None)
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fault("unknown_side", "user", count=None)
    await system.price("47000")
    await told(system, "HARD_STOP waits for the end of the protection")
    await system.control.finish_cancel(protection)
    await until_sold(system, trade)
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_size == Decimal("0.01")
    await system.assert_books_agree()


async def test_a_restarted_worker_sells_by_the_rules_that_were_told_before(system: TradingSystem) -> None:
    """After a restart, with the product and its price unknown, an exit of a product without market orders is the limit
    order that it accepts.
    """
    await system.control.product("BTC-USD", limit_only=True)
    trade = await bought(system)

    async def kept() -> bool:
        return bool(await system.value("SELECT (rules ->> 'limit_only')::bool FROM product_rules"))

    await eventually(kept, what="the rules are in the ledger")
    await system.stop_workers()
    await system.start_workers()
    for path in ("products*", "product_book*"):
        await system.control.fault("server_error", f"GET /{path}", count=None)
    await system.price("46000")
    await until_sold(system, trade)
    (order,) = await sells(system, trade)
    assert list(order["order_configuration"]) == ["sor_limit_ioc"]
    await system.control.clear_faults()
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


async def test_a_long_pause_that_the_exchange_asks_for_keeps_no_stop(system: TradingSystem) -> None:
    """Everything is answered with 429 and a reset in 45 s: the stop is sent again soon, and sold when possible."""
    trade = await bought(system)
    await system.control.fault("rate_limited", "*", count=None, delay=45)
    await system.price("46000")

    async def sent_again() -> bool:
        stop = system.client.get_workflow_handle(order_workflow_id(trade.leg_key(1)))
        try:
            return sum("not accepted: RATE_LIMITED" in line for line in await stop.query("timeline")) >= 3
        except RPCError:
            return False  # it has not begun yet

    await eventually(sent_again, within=WITHIN, what="the stop is sent a third time")
    await system.control.clear_faults()
    await until_sold(system, trade)
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    assert len(await sells(system, trade)) == 1
    await system.assert_books_agree()


async def test_a_cancelled_exit_that_is_told_with_old_totals_is_not_sold_twice(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resting exit sells a part without a message, and its end is reported without it: the stop sells the rest,
    though the account has more of the coin.
    """
    monkeypatch.setattr(unclear_orders, "_LOOK_WHERE_OTHERS_HAVE", 20.0)  # a slow machine answers in time, too
    await system.control.deposit("BTC", "1")
    trade = await bought(system)
    await system.price("48700")
    soft = await system.exchange_id(leg(trade, 1, 1))
    await system.control.fault("server_error", "GET /time", count=None)  # so no catch-up reports the part
    await system.control.fault("missing", "user", count=1)
    await system.control.fill(soft, "0.004")
    await system.control.fault("stale_cancelled", "user")
    await system.price("46000")
    outcome = await trade.closed()
    assert [(item.reason, item.size) for item in outcome.exits] == [
        (ExitReason.SOFT_STOP, Decimal("0.004")),
        (ExitReason.HARD_STOP, Decimal("0.006")),
    ]
    assert sum(Decimal(item["filled_size"]) for item in await sells(system, trade)) == Decimal("0.01")
    await system.control.clear_faults()
    await system.assert_books_agree()


@pytest.mark.parametrize("unclear", ["no_price", "unknown_side"])
async def test_a_stop_needs_no_more_of_a_lower_exits_end_than_its_size(system: TradingSystem, unclear: str) -> None:
    """The stream reports a limit exit's end without its price, or its side, and every read fails: the stop above it
    sells the rest, and the books agree once the exchange can be read.
    """
    trade = await bought(system)
    await system.price("48700")
    lower = await system.exchange_id(leg(trade, 1, 1))
    await system.control.fault(unclear, "user", count=None)
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fill(lower, "0.004")
    await system.price("46000")
    await until_sold(system, trade)
    await system.control.clear_faults()
    outcome = await trade.closed(within=60)
    assert {item.reason: item.size for item in outcome.exits} == {
        ExitReason.SOFT_STOP: Decimal("0.004"),
        ExitReason.HARD_STOP: Decimal("0.006"),
    }
    await system.assert_books_agree()


@pytest.mark.parametrize("answered", ["at once", "late"])
@pytest.mark.parametrize("unclear", ["no_price", "unknown_side"])
async def test_a_stop_that_ends_half_sold_needs_no_more_of_that_end_than_its_size(
    system: TradingSystem, unclear: str, answered: str
) -> None:
    """A stop's own MARKET order ends CANCELLED, reported without its price or its side, and every read fails: the rest
    is sold at once, also if the order's sending is answered after its end, and the books agree once the exchange can be
    read.
    """
    trade = await bought(system)
    if answered == "late":
        await system.control.fault("slow", "POST /orders", count=1, delay=3)
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fault(unclear, "user", count=None)
    await system.control.fault("thin_book", "SELL BTC-USD", count=1, share=0.4)
    await system.price("46000")
    await until_sold(system, trade)
    await system.control.clear_faults()
    outcome = await trade.closed(within=60)
    # Which end the exchange reports first, once it can be read, is random.
    assert sorted(item.size for item in outcome.exits if item.reason is ExitReason.HARD_STOP) == [
        Decimal("0.004"),
        Decimal("0.006"),
    ]
    await system.assert_books_agree()


@pytest.mark.parametrize("by", ["stop", "close"])
async def test_an_exit_whose_workflow_was_terminated_stands_down_for_a_higher_one(
    system: TradingSystem, by: str
) -> None:
    """A person terminates the workflow of a soft stop's resting order: it is continued, and stands down when a hard
    stop or a close is due, instead of keeping its claim until the next sweep.
    """
    trade = await bought(system)
    await system.price("48700")
    await system.exchange_id(leg(trade, 1, 1))
    await system.client.get_workflow_handle(order_workflow_id(trade.leg_key(1))).terminate("a person's mistake")
    if by == "stop":
        await system.price("46000")
    else:
        await close(trade)
    await until_sold(system, trade)
    outcome = await trade.closed()
    assert [item.reason for item in outcome.exits] == [ExitReason.HARD_STOP if by == "stop" else ExitReason.MANUAL]
    await system.assert_books_agree()


@pytest.mark.parametrize("by", ["stop", "close"])
async def test_a_monitor_and_its_exit_order_terminated_by_hand_go_on(system: TradingSystem, by: str) -> None:
    """A person terminates both the workflow of a soft stop's resting order and the monitor that started it: the next
    monitor has the order stand down for a hard stop or a close, and all is sold once.
    """
    trade = await bought(system)
    await system.price("48700")
    await system.exchange_id(leg(trade, 1, 1))
    await trade.monitor.terminate("a person's mistake")
    await system.client.get_workflow_handle(order_workflow_id(trade.leg_key(1))).terminate("a person's mistake")
    assert await system.parts.starter.monitor(trade.key)
    await told_in_story(trade, "an exit of an earlier monitor is still working")
    await close(trade) if by == "close" else await system.price("46000")

    async def swept() -> bool:
        # Like the sweep: the order continues from the ledger, and receives the monitor's request.
        await system.parts.starter.resume(trade.leg_key(1))
        return bool(await system.value("SELECT state = 'CLOSED' FROM trades"))

    await eventually(swept, every=1.0, what="the trade is closed")
    sold = sum(Decimal(item["filled_size"]) for item in await sells(system, trade))
    assert (sold, await system.value("SELECT exit_reason FROM trades")) == (
        Decimal("0.01"),
        "HARD_STOP" if by == "stop" else "MANUAL",
    )
    await system.assert_books_agree()
