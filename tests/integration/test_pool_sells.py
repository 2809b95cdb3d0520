"""Sells without a trade take from the pool by the books, on any product of the coin (RISK-4)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import pytest_asyncio

from activities.database import coin_transaction, trade_transaction
from activities.ledger.holdings import cover_shortage
from activities.ledger.record import LedgerWriter
from domain.exits import ExitReason
from domain.messages import Admission, OrderIntent, OrderUpdate, StatusSource
from domain.orders import AttemptStatus
from tests.support.admission_desk import CATALOGUE, Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy, sell
from tests.support.ledger_rows import open_books, until

ETHER, TWIN = "ETH-USD", "ETH-BTC"
"""Two products that sell the same coin."""


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission with the account's books opened on 1 ETH in the pool, and money for any buy."""
    products = ("BTC-USD", ETHER, TWIN)
    async with desk_at_a_paper_exchange(database, products=products, products_file=CATALOGUE) as found:
        await found.control.set_price(TWIN, "0.05", "0.0501")
        found.policy = replace(found.policy, max_position=Decimal(1), max_open_buys=1000)
        await found.balance("1000000")
        await found.control.deposit("ETH", "1")
        await open_books(found.pool, found.account, ETH="1")
        yield found


async def pool_sell(desk: Desk, size: str, symbol: str = ETHER) -> Admission:
    """The decision on a sell from the pool."""
    return await desk.admit(sell(desk.account, size, symbol=symbol, exit_reason=ExitReason.MANUAL))


async def filled_at_the_exchange(desk: Desk, size: str) -> OrderIntent:
    """An entry that has bought `size`, not yet recorded in the books."""
    intent = limit_buy(desk.account, size, "2900", symbol=ETHER)
    assert (await desk.admit(intent)).accepted
    await desk.control.deposit("ETH", size)
    return intent


async def record(desk: Desk, intent: OrderIntent, size: str, status: AttemptStatus = AttemptStatus.FILLED) -> None:
    """Record an order's fill in the books."""
    update = OrderUpdate(
        attempt=1,
        status=status,
        exchange_order_id=f"x-{intent.order_key}",
        filled_size=Decimal(size),
        filled_value=Decimal(size) * 2900,
        quote_fees=Decimal(0),
        source=StatusSource.WEBSOCKET,
        at=datetime.now(UTC),
    )
    await LedgerWriter(desk.pool, desk.account).record(intent.order_key, update)


@pytest.mark.parametrize("recorded", [True, False])
async def test_what_a_trade_owns_is_sold_on_no_product_of_the_coin(desk: Desk, recorded: bool) -> None:
    """Bought on one product, it can't be sold on the other as from the pool; nor before its fill is recorded."""
    entry = await filled_at_the_exchange(desk, "2")
    if recorded:
        await record(desk, entry, "2")
    for symbol in (ETHER, TWIN):
        refused = await pool_sell(desk, "1.5", symbol)
        assert (refused.gate, refused.accepted) == ("INSUFFICIENT_BALANCE", False)
        assert "it would sell 1.5 ETH, 1 may be sold" in refused.sentence
    assert (await pool_sell(desk, "0.6", TWIN)).accepted
    refused = await pool_sell(desk, "0.6")
    assert "0.4 may be sold" in refused.sentence
    assert (await pool_sell(desk, "0.4")).accepted
    if not recorded:
        await record(desk, entry, "2")
    assert "0 may be sold" in (await pool_sell(desk, "0.1", TWIN)).sentence


async def test_what_the_books_dont_know_is_nobodys_to_sell(desk: Desk) -> None:
    """A deposit that isn't booked, books that aren't opened and an exchange that doesn't answer refuse with a sentence;
    withdrawals count before they are booked.
    """
    await desk.control.deposit("ETH", "5")
    refused = await pool_sell(desk, "2")
    assert "1 may be sold: another 5 ETH are not in the books yet: run `bottrader reconcile`" in refused.sentence
    await desk.control.withdraw("ETH", "5.5")
    assert "0.5 may be sold" in (await pool_sell(desk, "0.6")).sentence
    await desk.control.fault("server_error", "GET /accounts", count=1000, status=503)
    refused = await pool_sell(desk, "0.1")
    assert "an unknown size may be sold: the exchange does not report a balance of ETH" in refused.sentence
    await desk.control.clear_faults()
    desk.another_account()
    refused = await pool_sell(desk, "0.1")
    assert "an unknown size may be sold: the books are not opened yet" in refused.sentence


@pytest.mark.parametrize("seed", range(3))
async def test_sells_of_the_pool_at_once_never_claim_more_than_it_has(desk: Desk, seed: int) -> None:
    """Sells on both products beside buys that are recorded in any order: together they claim the pool's size, and each
    refused one would not have fitted alone.
    """
    dice = random.Random(seed)
    entries = [await filled_at_the_exchange(desk, "0.5") for _ in range(4)]

    async def told(entry: OrderIntent) -> None:
        await record(desk, entry, "0.2", AttemptStatus.OPEN)
        await record(desk, entry, "0.5")

    sizes = [f"{dice.randint(1, 60) / 100:.2f}" for _ in range(12)]
    work = [pool_sell(desk, size, dice.choice((ETHER, TWIN))) for size in sizes]
    beside = [told(entry) for entry in entries]
    answers, _ = await asyncio.gather(asyncio.gather(*work), asyncio.gather(*beside))
    claimed = await desk.value("SELECT sum(claimed_base) FROM orders WHERE side = 'SELL' AND NOT finished")
    assert claimed <= 1
    refused = [Decimal(size) for size, answer in zip(sizes, answers, strict=True) if not answer.accepted]
    assert {answer.gate for answer in answers} <= {None, "INSUFFICIENT_BALANCE"}
    assert all(size > 1 - claimed for size in refused)
    assert await desk.value("SELECT sum(remaining) FROM trades") == 2


async def test_a_buy_that_pays_with_the_coin_and_a_sell_of_it_never_both_take_it(desk: Desk) -> None:
    """Of one BTC in the pool either ETH for all of it is bought, or it is sold, whichever is first."""
    await desk.control.deposit("BTC", "1")
    await desk.pool.execute("DELETE FROM balance_transfers")
    await open_books(desk.pool, desk.account, BTC="1")
    await desk.balance("1", currency="BTC")
    await desk.market(TWIN, bid="0.05", ask="0.0501", price="0.05")
    intents = [limit_buy(desk.account, "19", "0.05", symbol=TWIN), sell(desk.account, "0.9", symbol="BTC-USD")]
    answers = await asyncio.gather(*(desk.admit(intent) for intent in intents))
    assert sum(answer.accepted for answer in answers) == 1
    assert {answer.gate for answer in answers} == {None, "INSUFFICIENT_BALANCE"}


async def with_bitcoin(desk: Desk, of_a_trade: str, *, recorded: bool) -> OrderIntent:
    """The account has one BTC in the pool, and an entry's fill, recorded or not. Returns that entry."""
    await desk.control.deposit("BTC", "1")
    await desk.pool.execute("DELETE FROM balance_transfers")
    await open_books(desk.pool, desk.account, BTC="1")
    await desk.market(TWIN, bid="0.05", ask="0.0501", price="0.05")
    entry = limit_buy(desk.account, of_a_trade, "49000")
    assert (await desk.admit(entry)).accepted
    await desk.control.deposit("BTC", of_a_trade)
    if recorded:
        await record(desk, entry, of_a_trade)
    await desk.balance(str(1 + Decimal(of_a_trade)), currency="BTC")
    return entry


def paid_with_bitcoin(desk: Desk, bitcoin: str) -> OrderIntent:
    """An entry that pays this much BTC for ETH, without its fee."""
    return limit_buy(desk.account, str(Decimal(bitcoin) / Decimal("0.05")), "0.05", symbol=TWIN)


@pytest.mark.parametrize("recorded", [True, False])
async def test_no_buy_pays_with_what_a_trade_owns(desk: Desk, recorded: bool) -> None:
    """The coins that another trade has bought are not spent, also before its fill is recorded, when only the exchange's
    balance has them; the pool is.
    """
    entry = await with_bitcoin(desk, "2", recorded=recorded)
    refused = await desk.admit(paid_with_bitcoin(desk, "1.5"))
    assert (refused.gate, refused.accepted) == ("INSUFFICIENT_BALANCE", False)
    assert "BTC, 1 are available" in refused.sentence
    assert ("another 2 BTC are not in the books yet" in refused.sentence) != recorded
    assert (await desk.admit(paid_with_bitcoin(desk, "0.9"))).accepted
    if not recorded:
        await record(desk, entry, "2")
    await desk.balance("3", currency="BTC")
    assert (await desk.admit(paid_with_bitcoin(desk, "0.2"))).gate == "INSUFFICIENT_BALANCE"


async def test_no_buy_pays_with_a_coin_before_the_books_are_opened(desk: Desk) -> None:
    """The pool is unknown then, and the refusal says so."""
    await with_bitcoin(desk, "0.1", recorded=False)
    await desk.pool.execute("DELETE FROM balance_transfers")
    refused = await desk.admit(paid_with_bitcoin(desk, "0.5"))
    assert refused.gate == "INSUFFICIENT_BALANCE"
    assert "the amount of BTC that may be spent is not known: the books are not opened yet" in refused.sentence


async def test_somebody_elses_order_is_no_reason_to_spend_a_fill_that_is_not_recorded(desk: Desk) -> None:
    """Its hold at the exchange is taken out of the pool, not of the fill's part of the balance."""
    await with_bitcoin(desk, "2", recorded=False)
    await desk.pool.execute(
        """INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger, intent,
                               intent_digest, state)
           VALUES ($2, $1, 'BTC-USD', 'SELL', 'EXTERNAL', 'LIMIT', 'websocket', 'external', 'manual', '{}', '',
                   'OPEN')""",
        desk.account,
        "7" * 32,
    )
    await desk.pool.execute(
        """INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, live, size,
                                 limit_price)
           VALUES ('theirs', $2, 1, $1, 'BTC-USD', '{}', 'OPEN', false, 0.8, 60000)""",
        desk.account,
        "7" * 32,
    )
    assert "0.2 may be sold" in (await pool_sell(desk, "0.3", "BTC-USD")).sentence
    assert "0.2 are available" in (await desk.admit(paid_with_bitcoin(desk, "0.3"))).sentence
    assert (await desk.admit(paid_with_bitcoin(desk, "0.15"))).accepted


@pytest.mark.parametrize("seed", range(3))
async def test_buys_and_sells_of_a_coin_at_once_leave_what_other_trades_bought(desk: Desk, seed: int) -> None:
    """Buys that pay with BTC and sells of it, beside entries whose fills are recorded in any order and snapshots of the
    balance at any time: together they take at most the one BTC in the pool.
    """
    dice = random.Random(seed)
    entries = [await with_bitcoin(desk, "0.7", recorded=False)]
    for _ in range(3):
        entries.append(limit_buy(desk.account, "0.7", "49000"))
        assert (await desk.admit(entries[-1])).accepted
        await desk.control.deposit("BTC", "0.7")

    async def told(entry: OrderIntent) -> None:
        await record(desk, entry, "0.3", AttemptStatus.OPEN)
        await desk.balance("3.8", currency="BTC")
        await record(desk, entry, "0.7")

    sizes = [f"{dice.randint(5, 60) / 100:.2f}" for _ in range(12)]
    work = [
        pool_sell(desk, size, "BTC-USD") if dice.random() < 0.4 else desk.admit(paid_with_bitcoin(desk, size))
        for size in sizes
    ]
    answers, _ = await asyncio.gather(asyncio.gather(*work), asyncio.gather(*(told(entry) for entry in entries)))
    taken = await desk.value(
        """SELECT sum(CASE side WHEN 'SELL' THEN claimed_base ELSE reserved_quote END) FROM orders
            WHERE NOT finished AND (side = 'SELL' OR symbol = 'ETH-BTC')"""
    )
    assert 0 < taken <= 1
    assert {answer.gate for answer in answers} <= {None, "INSUFFICIENT_BALANCE"}
    assert await desk.value("SELECT sum(remaining) FROM trades") == Decimal("2.8")


async def test_sells_of_the_pool_wait_for_each_other_only(desk: Desk) -> None:
    """While one is stopped between its read and its claim, other coins are sold and its own fills are recorded."""
    entry = await filled_at_the_exchange(desk, "2")
    await desk.control.deposit("BTC", "1")
    await open_books(desk.pool, desk.account, BTC="1")
    async with coin_transaction(desk.pool, desk.account, "ETH"):
        await record(desk, entry, "2")
        assert (await pool_sell(desk, "0.1", "BTC-USD")).accepted


async def test_what_an_exit_is_just_claiming_of_its_trade_is_not_taken_by_a_sale_outside(desk: Desk) -> None:
    """An exit claims under its trade's rows alone. A sale outside that is taken from trades waits for it and sees it:
    the other trade bears that, and nothing is sold twice.
    """
    trades = [await filled_at_the_exchange(desk, "1") for _ in range(2)]
    for entry in trades:
        await record(desk, entry, "1")
    await desk.pool.execute(
        """INSERT INTO balance_transfers (account, currency, kind, amount, expected, found)
           VALUES ($1, 'ETH', 'withdrawal', -2, 3, 1)""",
        desk.account,
    )
    await desk.control.withdraw("ETH", "2")

    async def nothing_is_free(_currency: str) -> Decimal:
        return Decimal(0)

    async def waits() -> bool:
        return bool(await desk.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))

    first = trades[0].order_key
    async with trade_transaction(desk.pool, first) as exit_:
        cover = asyncio.create_task(cover_shortage(desk.pool, desk.account, "ETH", nothing_is_free))
        await until(waits)
        await exit_.execute(
            """INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point,
                                   trigger, intent, intent_digest, state, claimed_base)
               VALUES ($1,$2,$3,'SELL','EXIT',$4,'MARKET','webhook','exit','HARD_STOP','{}','','ADMITTED',1)""",
            uuid.uuid4().hex,
            desk.account,
            ETHER,
            first,
        )
    taken = await cover
    assert [(item.entry_key, item.size) for item in taken] == [(trades[1].order_key, Decimal(1))]
