"""The stream reports a cancelled order's end with the totals before the last fill, and the order itself reports it late
or never: sold sizes are not sold again from others' coins, and if that can't be known, the books are corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from activities.streams import unclear_orders
from domain.exits import ExitReason
from domain.messages import StopsAnswer, StopsRequest
from domain.protection import Protection, ProtectionKind
from tests.support.harness import Trade, TradingSystem
from tests.support.ledger_rows import open_books
from tests.support.waiting import eventually
from tests.workflow.test_urgent_exits import STOP, WITHIN, bought, close, leg, sells, until_sold

LATE: dict[str, dict[str, Any]] = {"lagging": {"delay": 1}, "slow": {"delay": 1}}
"""An answer from a second ago, in which the order is live, and one that takes a second."""
BRACKET = Protection(kind=ProtectionKind.BRACKET, stop=Decimal("0.08"), take_profit=Decimal("0.2"))
"""Its limit is on the book, where it can sell a part."""


async def resting(system: TradingSystem, trade: Trade) -> str:
    """The exchange's id of the trade's resting order."""

    async def rests() -> str | None:
        return next((item["order_id"] for item in await sells(system, trade) if item["status"] == "OPEN"), None)

    return str(await eventually(rests, what="something rests of the trade"))


async def two_orders(system: TradingSystem, trade: Trade) -> bool:
    """Whether the trade has sent a second sell."""
    return len(await sells(system, trade)) == 2


async def fills_unseen(system: TradingSystem, order: str, fault: str, settings: Mapping[str, Any]) -> None:
    """A resting order sells 0.004 without a message, and its end is reported without it; reads fail."""
    await system.control.fault("server_error", "GET /time", count=None)  # so no catch-up reports it
    await system.control.fault(fault, "GET *", count=None, **settings)
    await system.control.fault("missing", "user", count=1)
    await system.control.fill(order, "0.004")
    await system.control.fault("stale_cancelled", "user")


@pytest.mark.parametrize("kind", ["market", "unanswered", "lower", "protection", "moved"])
@pytest.mark.parametrize("late", list(LATE))
async def test_an_end_is_looked_at_until_an_answer_shows_it(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch, kind: str, late: str
) -> None:
    """Neither a stop's own MARKET order (its sending answered or not yet), nor a limit exit or protection below a stop,
    nor protection that is replaced makes a trade sell more than its own, though the account has more of the coin and
    the order's answer is late.
    """
    monkeypatch.setattr(unclear_orders, "_LOOK_WHERE_OTHERS_HAVE", 20.0)  # a slow machine answers in time, too
    await system.control.deposit("BTC", "1")
    trade = await bought(system, protection=BRACKET if kind in ("protection", "moved") else None)
    if kind in ("market", "unanswered"):
        delay = 3 if kind == "unanswered" else 1  # reads that are answered after the sending
        await system.control.fault(late, "GET *", count=None, delay=delay)
        if kind == "unanswered":
            await system.control.fault("slow", "POST /orders", count=1, delay=1)
        await system.control.fault("stale_cancelled", "user")
        await system.control.fault("thin_book", "SELL BTC-USD", count=1, share=0.4)
        await close(trade)
    else:
        if kind == "lower":
            await system.price("48700")
            await system.exchange_id(leg(trade, 1, 1))
        await fills_unseen(system, await resting(system, trade), late, LATE[late])
        if kind == "moved":
            nearer = StopsRequest(by="a person", hard_stop=Decimal(47600), command="nearer")
            await trade.monitor.execute_update("stops", nearer, result_type=StopsAnswer)
            await eventually(lambda: two_orders(system, trade), within=30, what="other protection is at the exchange")
            sizes = [
                item["order_configuration"]["trigger_bracket_gtc"]["base_size"] for item in await sells(system, trade)
            ]
            assert sizes == ["0.01", "0.006"]
        await system.price("47000")
    await trade.closed(within=60)
    assert sum(Decimal(item["filled_size"]) for item in await sells(system, trade)) == Decimal("0.01")
    await system.control.clear_faults()
    await system.assert_books_agree()


async def test_an_end_is_not_waited_for_where_nobody_else_has_of_the_coin(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No read works and no trade or pool has any of the coin: a stop is sent as soon as its protection's end is
    reported, however long the wait would be otherwise.
    """
    monkeypatch.setattr(unclear_orders, "_LOOK_WHERE_OTHERS_HAVE", 3600.0)
    await open_books(system.pool, system.account, USD="100000", BTC="0")
    trade = await bought(system, protection=STOP)
    await resting(system, trade)
    await system.control.fault("server_error", "GET *", count=None)
    await system.price("47000")
    await until_sold(system, trade)
    await system.control.clear_faults()
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


async def test_whose_coins_an_end_told_too_low_sold_has_them_no_more(system: TradingSystem) -> None:
    """No read works, so the last fill of a stop's own order can't be known: the rest is sent all the same, from another
    trade's coins. Once the fill is known, that trade has that much less, in the books, in its plan and for its exits,
    and people are notified.
    """
    await open_books(system.pool, system.account, USD="100000", BTC="0")
    trade, other = await bought(system), await bought(system)
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fault("stale_cancelled", "user")
    await system.control.fault("thin_book", "SELL BTC-USD", count=1, share=0.4)
    await close(trade)
    await until_sold(system, trade, "0.014")
    await system.control.clear_faults()
    await trade.closed(within=60)

    async def shorter() -> bool:
        row = "SELECT remaining, quantity FROM trades JOIN exit_plans USING (entry_key) WHERE entry_key = $1"
        (found,) = await system.rows(row, other.key)
        return (found["remaining"], found["quantity"]) == (Decimal("0.006"), Decimal("0.006"))

    await eventually(shorter, within=WITHIN, what="the other trade has what is left")
    told = await system.rows("SELECT kind, subject FROM incidents WHERE kind IN ('OVERSOLD', 'SOLD_OUTSIDE')")
    assert {(item["kind"], item["subject"] == other.key) for item in told} == {
        ("OVERSOLD", False),
        ("SOLD_OUTSIDE", True),
    }
    await close(other)
    assert (await other.closed()).exit_size == Decimal("0.006")
    await system.assert_books_agree()
