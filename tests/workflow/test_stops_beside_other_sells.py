"""A due stop and a person's close sell the size that the exchange still has for them, though another sell has taken or
holds a part of the coins and no read says how much (EXIT-4, EXIT-10).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from activities.ledger.validator import check_ledger
from domain.exits import ExitReason
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy
from tests.support.waiting import eventually
from tests.workflow.test_urgent_exits import RULES, STOP, bought, close, sells, told, told_in_story, until_sold

READS: dict[str, dict[str, Any]] = {
    "failing": {"kind": "server_error"},
    "hanging": {"kind": "slow", "delay": 20},
    "slow": {"kind": "slow", "delay": 0.8},
    "lagging": {"kind": "lagging", "delay": 3600},
}
PART = "0.004"
PATIENCE = 90.0
"""Wall seconds for a busy machine: no fault here ends by itself, so a longer wait proves the same."""


async def reads(system: TradingSystem, how: str) -> None:
    """From now on the exchange answers no read correctly."""
    fault = dict(READS[how])
    await system.control.fault(fault.pop("kind"), "GET *", count=None, **fault)


async def rests_a_sell(system: TradingSystem, size: str = PART) -> str:
    """A person rests a sell in the exchange's app. Returns its id there."""
    resting = {"limit_limit_gtc": {"base_size": size, "limit_price": "90000"}}
    return str((await system.control.order("BTC-USD", "SELL", resting))["order_id"])


async def in_journal(system: TradingSystem, exchange_order_id: str) -> None:
    """Wait until the ledger has the stream's report of an order."""
    await eventually(
        lambda: system.value("SELECT count(*) > 0 FROM attempts WHERE exchange_order_id = $1", exchange_order_id),
        what="the journal has the person's order",
    )


async def refusals(system: TradingSystem) -> int:
    """How many orders the exchange has refused."""
    return sum(bool(item["refused"]) for item in await system.control.journal())


async def most_sold(system: TradingSystem, trade: Trade, size: str) -> None:
    """Wait until nearly `size` is sold; more of it can't be."""

    async def so() -> bool:
        sold = sum(Decimal(item["filled_size"]) for item in await sells(system, trade))
        assert sold <= Decimal(size)
        return sold >= Decimal(size) * Decimal("0.95")

    try:
        await eventually(so, within=PATIENCE, what=f"nearly {size} is sold")
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{await trade.story()}\n{await sells(system, trade)}") from None


@pytest.mark.parametrize("how", list(READS))
async def test_a_persons_resting_sell_of_a_part_keeps_nothing_else_from_being_sold(
    system: TradingSystem, how: str
) -> None:
    """The stream reported the person's sell, and no read works: the remaining size is sold by the second order, for a
    close and for a stop, people are told of the rest, and it is sold once the person cancels theirs.
    """
    for by in ("close", "stop"):
        trade = await bought(system)
        await reads(system, how)
        other = await rests_a_sell(system)
        await in_journal(system, other)
        refused = await refusals(system)
        if by == "stop":
            await system.price("47000")
        else:
            await close(trade)
        await until_sold(system, trade, "0.006", within=PATIENCE)
        assert await refusals(system) - refused <= 1, await trade.story()
        await told(system, "INSUFFICIENT_FUND")
        await system.control.cancel(other)
        await system.control.clear_faults()
        assert (await trade.closed(within=60)).exit_size == Decimal("0.01")
    await system.assert_books_agree()
    assert (await check_ledger(system.pool, None, system.account)).violations == ()


@pytest.mark.parametrize("how", ["failing", "lagging"])
async def test_what_holds_a_part_and_was_told_by_nobody_is_found_by_smaller_orders(
    system: TradingSystem, how: str
) -> None:
    """No message and no read reports the person's sell: the stop requests less after each refusal, so that nearly all
    of the rest is sold with few orders, and the remainder once it is free.
    """
    trade = await bought(system)
    await system.control.fault("missing", "user", count=1)
    await system.control.fault("server_error", "GET /time", count=None)  # so no catch-up reports it
    await reads(system, how)
    other = await rests_a_sell(system)
    await system.price("47000")
    await most_sold(system, trade, "0.006")
    assert len(await system.control.journal()) < 30
    await system.control.cancel(other)
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_size == Decimal("0.01")
    await system.assert_books_agree()


@pytest.mark.parametrize("how", ["failing", "lagging"])
async def test_what_a_person_sold_at_the_market_keeps_nothing_else_from_being_sold(
    system: TradingSystem, how: str
) -> None:
    """The person sold a part in the app, and no read says so: the stop sells the rest by its second order."""
    trade = await bought(system)
    await reads(system, how)
    sold = await system.control.order("BTC-USD", "SELL", {"market_market_ioc": {"base_size": PART}})
    await in_journal(system, sold["order_id"])
    await system.price("47000")
    await until_sold(system, trade, "0.006", within=PATIENCE)


async def test_an_exit_that_goes_on_for_less_is_not_taken_for_one_that_has_ended(system: TradingSystem) -> None:
    """A soft stop's limit rests for what a person's sell leaves: as something else is told of the trade, no second exit
    is begun beside it, which could only be refused, and the story doesn't say that its final size is known.
    """
    trade = await bought(system)
    await reads(system, "failing")
    other = await rests_a_sell(system)
    await in_journal(system, other)
    await system.price("48700")

    async def rests() -> bool:
        return any(item["status"] == "OPEN" for item in await sells(system, trade))

    await eventually(rests, what="the soft stop rests for the smaller size")
    refused = await refusals(system)
    await trade.monitor.signal("position_changed")
    await trade.until_looked()
    assert (await trade.monitor_view()).exit_orders == 1
    assert "only the final size" not in await trade.story()
    assert await refusals(system) == refused
    await system.control.cancel(other)
    await system.control.clear_faults()
    await system.price("46000")
    assert (await trade.closed(within=60)).exit_size == Decimal("0.01")
    await system.assert_books_agree()


async def test_what_a_persons_sell_has_freed_is_sold_with_the_next_order(system: TradingSystem) -> None:
    """A target was refused for lack of funds and rests for less; then the person's sell ends, as the stream tells, and
    no read works: the stop sells all that is free with one order, not half after half.
    """
    trade = await bought(system, rules=RULES.model_copy(update={"take_profit": Decimal("0.01")}))
    await reads(system, "failing")
    other = await rests_a_sell(system)
    await in_journal(system, other)
    await system.price("50600")

    async def rests() -> bool:
        return any(item["status"] == "OPEN" for item in await sells(system, trade))

    await eventually(rests, what="the target rests for the smaller size")
    await system.control.cancel(other)
    await eventually(
        lambda: system.value("SELECT status = 'CANCELLED' FROM attempts WHERE exchange_order_id = $1", other),
        what="the journal has the end of the person's sell",
    )
    await system.price("46000")
    await until_sold(system, trade, within=PATIENCE)
    await system.control.clear_faults()
    outcome = await trade.closed(within=60)
    # In two on a busy machine, where the target isn't cancelled within half a second.
    assert [item.size for item in outcome.exits] in ([Decimal("0.01")], [Decimal("0.004"), Decimal("0.006")])
    assert {item.reason for item in outcome.exits} == {ExitReason.HARD_STOP}
    await system.assert_books_agree()


async def test_what_an_entry_still_fills_is_sold_beside_a_persons_sell(system: TradingSystem) -> None:
    """A close was refused for lack of funds down to next to nothing, and then the entry fills more: that was not
    refused, so it is sold with the next order.
    """
    trade = await system.start(limit_buy(system.account, "0.1", "49999", rules=RULES))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")
    await reads(system, "failing")
    other = await rests_a_sell(system)
    await in_journal(system, other)
    await system.control.latency(cancel=None)
    await close(trade)
    await until_sold(system, trade, "0.006", within=PATIENCE)
    await told(system, "INSUFFICIENT_FUND")
    await system.control.fill(entry, "0.02")
    await until_sold(system, trade, "0.026", within=PATIENCE)
    sold = [Decimal(item["filled_size"]) for item in await sells(system, trade)]
    assert sold == [Decimal("0.006"), Decimal("0.02")]
    await system.control.latency(cancel=0)
    await system.control.finish_cancel(entry)
    await system.control.cancel(other)
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_size == Decimal("0.03")
    await system.assert_books_agree()


async def test_what_neither_protection_without_an_end_nor_a_person_holds_is_sold(system: TradingSystem) -> None:
    """Protection of one part has no known end, a person's sell holds another, and reads fail: the stop sells the
    rest."""
    trade = await system.start(limit_buy(system.account, "0.01", "49999", rules=RULES, protection=STOP))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.006")
    await trade.until_protected("0.006")

    async def rests() -> str | None:
        return next((item["order_id"] for item in await sells(system, trade) if item["status"] == "OPEN"), None)

    protection = await eventually(rests, what="the protection of the first part rests")
    await system.control.latency(cancel=None)
    await system.control.fill(entry, "0.004")
    await told_in_story(trade, "cancelling the protection at the exchange first: it sells 0.006")
    other = await rests_a_sell(system, "0.002")
    await in_journal(system, other)
    await reads(system, "failing")
    await system.price("47000")
    await until_sold(system, trade, "0.002", within=PATIENCE)
    await system.control.latency(cancel=0)
    await system.control.finish_cancel(protection)
    await system.control.cancel(other)
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_size == Decimal("0.01")
    await system.assert_books_agree()
