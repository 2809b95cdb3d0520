"""Unknown facts refuse an entry: they are requested at once, waited for briefly, and never counted as zero or one."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest_asyncio

from activities.orders.limits import halt_if_lost_too_much
from domain.messages import Admission, OrderIntent
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy, market_buy

BALANCES, BOOK = "GET /accounts", "GET /product_book"


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission without a limit on positions, before any balance has been read."""
    async with desk_at_a_paper_exchange(database) as running:
        running.policy = replace(running.policy, max_position=Decimal(1), max_open_buys=100)
        yield running


def bought(desk: Desk, size: str = "0.001", price: str = "49000", **given: Any) -> OrderIntent:
    """A limit entry whose decision doesn't expire, however slow the machine is: it waits two seconds at most."""
    return limit_buy(desk.account, size, price, valid_until=datetime.now(UTC) + timedelta(minutes=10), **given)


async def decided(desk: Desk, intent: OrderIntent) -> tuple[Admission, dict[str, str]]:
    """The decision, and the numbers of the gate that refused."""
    admission = await desk.admit(intent)
    return admission, {} if admission.accepted else dict(admission.gates[-1].numbers)


async def aged(desk: Desk, **by: float) -> None:
    """Date the balance this long ago."""
    await desk.pool.execute(
        """UPDATE balances SET asked_at = asked_at - $2::interval, answered_at = answered_at - $2::interval
           WHERE account = $1""",
        desk.account,
        timedelta(**by),
    )


async def test_the_first_entry_reads_the_balance_itself(desk: Desk) -> None:
    """No balance has been read: the entry reads it, stores all of it, and is held to it; the next one finds it
    there."""
    await desk.control.set_price("ETH-USD", "3000", "3001")
    assert (await desk.admit(bought(desk))).accepted
    stored = await desk.value("SELECT available + hold FROM balances WHERE currency = 'USD'")
    assert stored == (await desk.control.balances())["USD"]["total"]
    too_much, numbers = await decided(desk, market_buy(desk.account, "3"))
    assert too_much.gate == "INSUFFICIENT_BALANCE"
    assert Decimal(numbers["available"]) < stored
    fault = await desk.control.fault("server_error", BALANCES, count=1000)
    assert (await desk.admit(bought(desk))).accepted, "what is known is not asked for"
    await desk.control.clear_faults(fault)


async def test_without_a_balance_nothing_is_bought(desk: Desk) -> None:
    """None, one of three days ago, one of the day after tomorrow, while the exchange returns none: refused, a person's
    order too, by either gate that needs it; as soon as the exchange answers, the entry passes."""
    told: tuple[tuple[dict[str, float], str], ...] = (
        ({}, "has not reported"),
        ({"days": 3}, "s ago and is valid for 120 s"),
        ({"days": -2}, "s ahead of ours"),
    )
    for by, says in told:
        desk.another_account()
        if by:
            await desk.balance("1000000")
            await aged(desk, **by)
        fault = await desk.control.fault("server_error", BALANCES, count=1000)
        for share, entry_point, gate, number in (
            ("1", "test", "INSUFFICIENT_BALANCE", "available"),
            ("1", "manual", "INSUFFICIENT_BALANCE", "available"),
            ("0.1", "test", "SKIP_POSITION_TOO_LARGE", "worth"),
        ):
            desk.policy = replace(desk.policy, max_position=Decimal(share))
            refused, numbers = await decided(desk, bought(desk, entry_point=entry_point))
            assert refused.gate == gate
            assert says in refused.sentence
            assert numbers[number] == "not known"
        await desk.control.clear_faults(fault)
        assert (await desk.admit(bought(desk))).accepted
        query = "SELECT * FROM balances WHERE account = $1 AND currency = 'USD'"
        stored = await desk.pool.fetchrow(query, desk.account)
        assert stored["available"] + stored["hold"] == (await desk.control.balances())["USD"]["total"]
        assert abs(stored["asked_at"] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_entry_waits_for_the_balance_while_its_decision_is_valid(desk: Desk) -> None:
    """The exchange's first reads fail, a later one doesn't: the entry is admitted by it."""
    await desk.control.fault("server_error", BALANCES, count=1)
    intent = limit_buy(desk.account, "0.001", "49000", valid_until=datetime.now(UTC) + timedelta(seconds=60))
    assert (await desk.admit(intent)).accepted


async def test_what_is_held_for_orders_that_nobody_knows_is_not_available(desk: Desk) -> None:
    """Of 10,000 the exchange holds 9,900: 100 are available. Holds of own orders count once."""
    await desk.balance("100", hold="9900")
    refused, numbers = await decided(desk, bought(desk, "0.01"))
    assert refused.gate == "INSUFFICIENT_BALANCE"
    assert (numbers["available"], numbers["held_elsewhere"]) == ("100", "9900")
    assert (await desk.admit(bought(desk))).accepted, "49 and the fee are there"

    desk.another_account()
    await desk.balance("10000")
    assert (await desk.admit(bought(desk, "0.1"))).accepted
    reserved = await desk.value("SELECT reserved_quote FROM orders WHERE account = $1", desk.account)
    for at_exchange in (reserved, reserved - 1, Decimal(0)):
        # The exchange holds the reservation, a little less as its rate is lower, or nothing as it hasn't arrived yet.
        await desk.balance(str(10_000 - at_exchange), hold=str(at_exchange))
        refused, numbers = await decided(desk, bought(desk, "0.2"))
        assert Decimal(numbers["available"]) == 10_000 - reserved
    # In addition 3,000 are held for an unknown order.
    await desk.balance(str(7_000 - reserved), hold=str(reserved + 3_000))
    refused, numbers = await decided(desk, bought(desk, "0.2"))
    assert Decimal(numbers["available"]) == 7_000 - reserved


async def test_a_crossed_book_and_a_time_in_the_future_are_asked_again(desk: Desk) -> None:
    """The cached touch is crossed, or dated two days ahead: the exchange is read again, and without its answer the
    entry is refused, a person's too."""
    await desk.balance("100000")
    ahead = datetime.now(UTC) + timedelta(days=2)
    odd: dict[str, dict[str, Any]] = {
        "SKIP_SPREAD_TOO_WIDE": {"bid": "50002", "ask": "50001"},
        "SKIP_MARKET_DATA_STALE": {"bid": "50000", "ask": "50001", "at": ahead},
    }
    for gate, kept in odd.items():
        await desk.market(**kept)
        assert (await desk.admit(bought(desk))).accepted
        assert (await desk.admit(bought(desk, entry_point="manual"))).accepted
        fault = await desk.control.fault("server_error", BOOK, count=1000)
        for entry_point in ("test", "manual"):
            began = time.monotonic()
            refused, _ = await decided(desk, bought(desk, entry_point=entry_point))
            assert refused.gate == gate, refused.sentence
            assert time.monotonic() - began < 5
        await desk.control.clear_faults(fault)


async def test_what_is_held_is_never_worth_what_it_once_cost(desk: Desk) -> None:
    """Without a fresh price the exchange is read; if it has none, the worth of a held symbol is unknown."""
    desk.policy = replace(desk.policy, max_position=Decimal("0.1"))
    await desk.balance("10000")
    await desk.market(bid="50000", ask="50001", price="50000")
    await desk.trade(symbol="ETH-USD", size="10", price="1")
    await desk.market("ETH-USD", price="1", at=datetime.now(UTC) - timedelta(days=30))
    fault = await desk.control.fault("server_error", BOOK, count=1000)
    refused, numbers = await decided(desk, bought(desk))
    assert (refused.gate, numbers["worth"]) == ("SKIP_POSITION_TOO_LARGE", "not known")
    assert "no fresh price of ETH-USD" in refused.sentence
    await desk.control.clear_faults(fault)
    refused, numbers = await decided(desk, bought(desk, "0.1"))
    assert (refused.gate, numbers["worth"]) == ("SKIP_POSITION_TOO_LARGE", "40000")
    # A fresh cached price is used before a requested one.
    await desk.market("ETH-USD", price="2000")
    refused, numbers = await decided(desk, bought(desk, "0.1"))
    assert numbers["worth"] == "30000"


async def test_losses_in_other_currencies_count_at_the_rate_of_their_close(desk: Desk) -> None:
    """Without a EUR rate: refused. With one, 400 EUR are 440 USD, and stay so; a hundredth of a bitcoin is 500."""
    await desk.balance("100000")
    await desk.trade("-400", symbol="BTC-EUR", price="40000")
    refused, numbers = await decided(desk, bought(desk))
    assert refused.gate == "SKIP_DAILY_LOSS_LIMIT"
    assert (numbers["pnl"], numbers["without_rate"]) == ("not known", "EUR")
    assert not await desk.value("SELECT count(*) FROM account_controls"), "what isn't known halts nobody"

    await desk.market("EUR-USD", price="1.1")
    assert (await desk.admit(bought(desk))).accepted
    assert await desk.value("SELECT quote_rate FROM trades WHERE symbol = 'BTC-EUR'") == Decimal("1.1")
    await desk.market("EUR-USD", price="2")
    assert (await desk.admit(bought(desk))).accepted, "the rate is that of the close"

    await desk.trade("-0.001", symbol="ETH-BTC", price="0.06")
    assert await halt_if_lost_too_much(desk.pool, desk.policy) is False, "nobody has told the rate of BTC yet"
    assert await halt_if_lost_too_much(desk.pool, desk.policy, desk.venue) is False
    rate = await desk.value("SELECT quote_rate FROM trades WHERE symbol = 'ETH-BTC'")
    assert Decimal(50_000) <= rate <= Decimal(50_001)
    await desk.trade("-10", symbol="ETH-USDC")
    assert await halt_if_lost_too_much(desk.pool, desk.policy, desk.venue)
    refused, _ = await decided(desk, bought(desk))
    assert refused.gate == "SKIP_TRADING_HALTED"
    assert "have lost 500.0" in refused.sentence


async def test_a_rate_counts_in_the_currency_that_it_is_in(desk: Desk) -> None:
    """`risk.currency` changes from USD to JPY: 0.009 BTC lost at 50,000 USD are 67,500 JPY, and never 450."""
    await desk.balance("100000")
    await desk.market(bid="50000", ask="50001", price="50000")
    await desk.trade("-0.009", symbol="ETH-BTC", price="0.06")
    assert await halt_if_lost_too_much(desk.pool, desk.policy, desk.venue) is False
    assert await desk.value("SELECT quote_rate FROM trades WHERE symbol = 'ETH-BTC'") == 50_000
    desk.policy = replace(desk.policy, currency="JPY", daily_loss_limit=Decimal(67_500))
    refused, numbers = await decided(desk, bought(desk))
    assert numbers.get("without_rate") == "BTC", refused.sentence
    await desk.market("BTC-JPY", price="7500000")
    assert await halt_if_lost_too_much(desk.pool, desk.policy)
    refused, _ = await decided(desk, bought(desk))
    assert "have lost 67500.00" in refused.sentence


async def test_a_day_that_is_known_in_part_refuses_and_halts_nobody(desk: Desk) -> None:
    """600 USD of an allowed 500 are lost, and a trade's result in EUR is unknown: it may have gained more than that, so
    entries are refused, and nobody is halted until it is known."""
    await desk.balance("100000")
    await desk.trade("-600")
    await desk.trade("700", symbol="BTC-EUR", price="40000")
    assert await halt_if_lost_too_much(desk.pool, desk.policy, desk.venue) is False
    refused, numbers = await decided(desk, bought(desk))
    assert (refused.gate, numbers.get("without_rate")) == ("SKIP_DAILY_LOSS_LIMIT", "EUR"), refused.sentence
    assert "resume" in refused.sentence, "it says what a person may do"
    await desk.market("EUR-USD", price="0.1")
    assert await halt_if_lost_too_much(desk.pool, desk.policy), "530 are lost, as is known now"


async def test_a_day_ends_at_midnight_in_utc_and_a_halt_does_not(desk: Desk) -> None:
    """A loss in the last microsecond of yesterday is not today's, one in the first is; a halt because of it stays when
    the day is over.
    """
    await desk.balance("100000")
    key = await desk.trade("-600")
    closed = "UPDATE trades SET closed_at = date_trunc('day', now(), 'UTC') + $2::interval WHERE entry_key = $1"
    await desk.pool.execute(closed, key, timedelta(microseconds=-1))
    assert not await halt_if_lost_too_much(desk.pool, desk.policy)
    assert (await desk.admit(bought(desk))).accepted
    await desk.pool.execute(closed, key, timedelta())
    assert await halt_if_lost_too_much(desk.pool, desk.policy)
    await desk.pool.execute(closed, key, timedelta(microseconds=-1))
    refused, _ = await decided(desk, bought(desk))
    assert refused.gate == "SKIP_TRADING_HALTED"


async def test_the_days_result_is_the_sum_of_what_is_known(desk: Desk) -> None:
    """Trades in three currencies and an alias, some rates unknown: the gate has each at its rate, to the last digit,
    and names the currencies without one; the account's own currency may be any."""
    chance = random.Random(7)
    symbols = {"USD": "BTC-USD", "USDC": "BTC-USDC", "EUR": "BTC-EUR", "BTC": "ETH-BTC"}
    for own, alias in (("USD", "USDC"), ("USD", "USDC"), ("EUR", "EUR"), ("BTC", "BTC")):
        desk.another_account()
        desk.policy = replace(desk.policy, currency=own, daily_loss_limit=Decimal(10**9), losing_streak=0)
        await desk.balance("100000")
        expected, missing = Decimal(0), set()
        for _ in range(12):
            currency = chance.choice(sorted(symbols))
            pnl = Decimal(chance.randint(-(10**6), 10**6)).scaleb(-4)
            key = await desk.trade(str(pnl), symbol=symbols[currency])
            if currency in (own, alias):
                expected += pnl
            elif chance.random() < 0.7:
                rate = Decimal(chance.randint(1, 10**8)).scaleb(-4)
                await desk.pool.execute(
                    "UPDATE trades SET quote_rate = $2, quote_rate_currency = $3 WHERE entry_key = $1", key, rate, own
                )
                expected += pnl * rate
            elif own != "USD" or currency != "BTC":  # the exchange has BTC in USD
                missing.add(currency)
            else:
                await desk.pool.execute("UPDATE trades SET quote_rate = 50000 WHERE entry_key = $1", key)
                expected += pnl * 50_000
        fault = await desk.control.fault("server_error", BOOK, count=1000)
        admission = await desk.admit(bought(desk, entry_point="manual"))
        rows = await desk.pool.fetch(
            """SELECT g.numbers FROM gate_results g JOIN orders o USING (order_key)
               WHERE o.account = $1 AND g.gate = 'SKIP_DAILY_LOSS_LIMIT'""",
            desk.account,
        )
        await desk.control.clear_faults(fault)
        numbers = rows[0]["numbers"]
        assert admission.accepted == (not missing)
        assert set(filter(None, numbers.get("without_rate", "").split(", "))) == missing
        assert Decimal(numbers["pnl_of_others" if missing else "pnl"]) == expected
