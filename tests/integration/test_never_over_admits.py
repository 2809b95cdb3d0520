"""Any number of concurrent entries never gets more than is available: one balance, one last slot, one position limit.

And an order's reservation is released exactly once, however the order ends.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from domain.orders import OrderState, TimeInForce
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.stack.dev_server import DevServer


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission alone."""
    async with desk_at_a_paper_exchange(database) as running:
        yield running


@pytest.mark.parametrize("seed", range(8))
async def test_concurrent_entries_never_exceed_balance_slots_or_position(desk: Desk, seed: int) -> None:
    """For concurrent entries of any size and symbol the sums of the admitted ones stay within every limit."""
    dice = random.Random(seed)
    account = desk.another_account()
    balance, spent = Decimal(dice.randint(200, 4000)), Decimal(dice.randint(0, 200))
    slots, share = dice.choice([1, 2, 3, 40]), Decimal(dice.choice(["0.05", "0.3", "1"]))
    desk.policy = replace(desk.policy, max_open_buys=slots, max_position=share)
    await desk.balance(str(balance))
    await desk.pool.execute(
        """INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, origin, ingest_via, size, price,
                              value, quote_fees, at)
           VALUES ($1,$2,'SOL-USD','BUY','x','exchange','rest',1,$3,$3,0,now())""",
        f"{account}/x",
        account,
        spent,
    )
    intents = []
    for _ in range(dice.randint(2, 40)):
        symbol, price = dice.choice([("BTC-USD", 49_000), ("ETH-USD", 2_900)])
        size = str(round(Decimal(dice.uniform(5, 900)) / price, 6))
        buy = limit_buy if dice.random() < 0.5 else market_buy
        intents.append(buy(account, size, *([str(price)] if buy is limit_buy else []), symbol=symbol))
    answers = await asyncio.gather(*(desk.admit(intent) for intent in intents))
    rows = await desk.pool.fetch("SELECT symbol, reserved_quote, finished FROM orders WHERE account = $1", account)
    admitted = [row for row in rows if not row["finished"]]
    assert len(admitted) == sum(answer.accepted for answer in answers)
    assert sum((row["reserved_quote"] for row in admitted), Decimal(0)) <= balance - spent
    for symbol, count in Counter(row["symbol"] for row in admitted).items():
        assert count <= slots
        taken = sum(row["reserved_quote"] for row in admitted if row["symbol"] == symbol)
        assert share == 1 or taken <= share * (balance - spent)
    refusals = {answer.gate for answer in answers if not answer.accepted}
    assert refusals <= {"INSUFFICIENT_BALANCE", "SKIP_MAX_OPEN_ORDERS", "SKIP_POSITION_TOO_LARGE", "BELOW_MINIMUM_SIZE"}
    # Nothing that would have fitted alone was refused because of the others: the rest really is too small.
    for intent, answer in zip(intents, answers, strict=True):
        if answer.gate == "INSUFFICIENT_BALANCE":
            numbers = answer.gates[-1].numbers
            assert Decimal(numbers["needed"]) > Decimal(numbers["available"]), intent.order_key


async def test_the_last_slot_goes_to_one(desk: Desk) -> None:
    """Thirty entries for one free slot and money for one: one passes, and repeated ones get the same answer."""
    desk.policy = replace(desk.policy, max_open_buys=1, max_position=Decimal(1))
    await desk.balance("100000")
    intents = [limit_buy(desk.account, "0.001", "49000") for _ in range(30)]
    answers = await asyncio.gather(*(desk.admit(intent) for intent in intents + intents))
    assert sum(answer.accepted for answer in answers[:30]) == 1
    assert [answer.accepted for answer in answers[:30]] == [answer.accepted for answer in answers[30:]]
    assert await desk.value("SELECT count(*) FROM attempts") == 1
    desk.another_account()
    desk.policy = replace(desk.policy, max_open_buys=1000)
    await desk.balance("60")
    answers = await asyncio.gather(*(desk.admit(limit_buy(desk.account, "0.001", "49000")) for _ in range(30)))
    assert sum(answer.accepted for answer in answers) == 1


async def _available(system: TradingSystem) -> Decimal:
    """The balance available to an entry now, by the gate's own numbers; it is a dry run and changes nothing."""
    probe = market_buy(system.account, "0.0001", dry_run=True)
    admission = await system.parts.trading.admit(probe)
    assert admission.gate == "DRY_RUN", admission.sentence
    numbers = {gate.gate: gate.numbers for gate in admission.gates}["INSUFFICIENT_BALANCE"]
    return Decimal(numbers["available"])


async def test_reservations_are_given_back_once_whatever_becomes_of_the_order(
    database: str, temporal_server: DevServer
) -> None:
    """Refused, cancelled, expired, failed, unknown and absent, cancelled in part, filled: the ledger has exactly as
    much for the next entry as the exchange."""
    async with trading_system(database, temporal_server.address, late_acceptance_seconds=2) as system:
        account, control = system.account, system.control

        async def known() -> bool:
            return bool(await system.value("SELECT count(*) FROM balances WHERE currency = 'USD'"))

        async def level() -> bool:
            at_exchange = (await control.balances())["USD"]
            return await _available(system) == at_exchange["available"]

        async def settled(state: str, key: str) -> None:
            row = (await system.rows("SELECT * FROM orders WHERE order_key = $1", key))[0]
            assert (row["state"], row["finished"], row["reserved_quote"]) == (state, True, 0)
            await eventually(level, what=f"as much is available as at the exchange after {state}")

        await eventually(known, what="the balance is known")
        before = await _available(system)

        refused = await system.start(market_buy(account, "1000"))
        assert (await refused.result()).state is OrderState.REJECTED
        await settled("REJECTED", refused.key)

        cancelled = await system.start(limit_buy(account, "0.1", "49000"))
        await cancelled.exchange_id()
        assert await _available(system) < before - 4900
        await cancelled.handle.cancel()
        await cancelled.result()
        await settled("CANCELLED", cancelled.key)

        expired = await system.start(limit_buy(account, "0.1", "49000", expires_after=Decimal("0.3")))
        await expired.result()
        await settled("EXPIRED", expired.key)

        # The exchange has less than the last balance, and refuses.
        await control.withdraw("USD", "99000")
        failed = await system.start(market_buy(account, "0.1"))
        await failed.result()
        row = (await system.rows("SELECT state, reserved_quote FROM orders WHERE order_key = $1", failed.key))[0]
        assert (row["state"], row["reserved_quote"]) == ("FAILED", 0)
        await control.deposit("USD", "99000")
        await settled("FAILED", failed.key)

        await control.fault("not_accepted_cut", "POST /orders", count=50)
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        absent = await system.start(limit_buy(account, "0.1", "49000", valid_until=soon))
        await absent.result()
        await control.clear_faults()
        await settled("FAILED", absent.key)
        assert await system.value("SELECT status FROM attempts WHERE order_key = $1", absent.key) == "ABSENT"
        assert await _available(system) == before

        at_once = await system.start(limit_buy(account, "0.1", "49999", time_in_force=TimeInForce.IOC))
        await at_once.result()
        await settled("CANCELLED", at_once.key)

        part = await system.start(limit_buy(account, "0.1", "49999"))
        await control.fill(await part.exchange_id(), "0.03")
        await part.until_protected("0.03")
        await part.handle.cancel()
        await part.until_state("CANCELLED")
        await settled("CANCELLED", part.key)

        filled = await system.start(market_buy(account, "0.01"))
        await filled.until_protected("0.01")
        await settled("FILLED", filled.key)
