"""An entry is decided on facts read without a lock, and written only if they still hold."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio

from activities.database import Pool
from activities.orders import decisions, entries
from activities.orders.admission import Admissions
from activities.orders.admission_sql import ENTRY_FACTS
from activities.orders.controls import halt, resume
from activities.orders.group_controls import halt_group, resume_group
from activities.orders.group_limits import GROUP_FACTS
from activities.venue import Venue
from domain.limit_groups import GroupKind, GroupLimits, LimitGroup
from domain.market import Quote
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy, market_buy


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission alone, with money and fresh market data."""
    async with desk_at_a_paper_exchange(database) as running:
        running.policy = replace(running.policy, max_position=Decimal(1), max_open_buys=100)
        await running.balance("100000")
        for symbol, price in (("BTC-USD", "50000"), ("ETH-USD", "3000")):
            await running.market(symbol, bid=price, ask=price, price=price)
        yield running


class Between:
    """The pool; once, right after reading an entry's facts (or by another statement), it runs something first."""

    def __init__(self, pool: Pool, do: Callable[[], Awaitable[object]], after: str) -> None:
        self._pool, self._do, self._after = pool, do, after
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(self, query: str, *values: object) -> Any:
        """Like the pool."""
        found = await self._pool.fetch(query, *values)
        if query is self._after:
            self.reads += 1
            if self.reads == 1:
                await self._do()
        return found


def interrupted(desk: Desk, do: Callable[[], Awaitable[object]], after: str = ENTRY_FACTS) -> Between:
    """Interrupt the desk's next entry between its read and its write."""
    between = Between(desk.pool, do, after)
    desk.admissions = Admissions(cast("Pool", between), desk.venue, lambda: desk.policy)
    return between


async def test_a_halt_between_read_and_write_refuses(desk: Desk) -> None:
    """Once a halt is committed no entry passes, not even one that had read before; a resume lets the next one pass."""

    async def stop() -> None:
        async with desk.pool.acquire() as connection:
            await halt(connection, desk.account, "the news", "ada")

    between = interrupted(desk, stop)
    refused = await desk.admit(limit_buy(desk.account, "0.001", "49000"))
    assert (refused.gate, between.reads) == ("SKIP_TRADING_HALTED", 2)
    async with desk.pool.acquire() as connection:
        await resume(connection, desk.account, "", "ada")
    assert (await desk.admit(limit_buy(desk.account, "0.001", "49000"))).accepted


async def test_a_halt_of_the_strategy_between_read_and_write_refuses(desk: Desk) -> None:
    """The same for a halt of the entry's strategy alone, and of a trigger that has no limits."""
    dip = LimitGroup(GroupKind.STRATEGY, "dip", frozenset({"rsi_oversold"}))
    desk.policy = replace(desk.policy, groups=(dip,))
    for kind, name, after in (
        (GroupKind.STRATEGY, "dip", GROUP_FACTS),
        (GroupKind.TRIGGER, "rsi_oversold", GROUP_FACTS),
        (GroupKind.TRIGGER, "rsi_oversold", ENTRY_FACTS),
    ):
        if after is ENTRY_FACTS:  # without limits only the facts say that something is halted
            desk.policy = replace(desk.policy, groups=())

        async def stop(kind: GroupKind = kind, name: str = name) -> None:
            async with desk.pool.acquire() as connection:
                await halt_group(connection, desk.account, kind, name, "", "ada")

        between = interrupted(desk, stop, after)
        refused = await desk.admit(limit_buy(desk.account, "0.001", "49000"))
        assert (refused.gate, between.reads) == (f"SKIP_{kind.value.upper()}_HALTED", 2)
        async with desk.pool.acquire() as connection:
            await resume_group(connection, desk.account, kind, name, "", "ada")


async def test_another_process_takes_the_budget_between(desk: Desk) -> None:
    """Of two processes that read the same budget, with room for one, one is admitted and the other refused."""
    dip = LimitGroup(GroupKind.STRATEGY, "dip", frozenset({"rsi_oversold"}), GroupLimits(budget=Decimal(60)))
    desk.policy = replace(desk.policy, groups=(dip,))
    other = Admissions(desk.pool, desk.venue, lambda: desk.policy)

    async def buy() -> None:
        assert (await other.admit(limit_buy(desk.account, "0.001", "49000"))).accepted

    between = interrupted(desk, buy, GROUP_FACTS)
    answer = await desk.admit(limit_buy(desk.account, "0.001", "49000"))
    assert (answer.gate, between.reads) == ("SKIP_STRATEGY_BUDGET", 2)


async def test_another_process_takes_the_money_between(desk: Desk) -> None:
    """Of two processes that read the same balance, enough for one, one is admitted and the other refused."""
    await desk.balance("60")
    other = Admissions(desk.pool, desk.venue, lambda: desk.policy)

    async def buy() -> None:
        assert (await other.admit(limit_buy(desk.account, "0.001", "49000"))).accepted

    between = interrupted(desk, buy)
    answer = await desk.admit(limit_buy(desk.account, "0.001", "49000"))
    assert (answer.gate, between.reads) == ("INSUFFICIENT_BALANCE", 2)
    assert await desk.value("SELECT count(*) FROM attempts") == 1


async def test_the_same_intent_in_two_processes_is_one_order(desk: Desk) -> None:
    """The second gets the decision of the first; nothing is stored twice, admitted or refused."""
    other = Admissions(desk.pool, desk.venue, lambda: desk.policy)
    for intent in (limit_buy(desk.account, "0.001", "49000"), market_buy(desk.account, "0.001", dry_run=True)):
        between = interrupted(desk, lambda intent=intent: other.admit(intent))  # type: ignore[misc]
        answer = await desk.admit(intent)
        assert (answer.accepted, answer.gate, between.reads) == (
            not intent.dry_run,
            "DRY_RUN"[: 7 * intent.dry_run] or None,
            2,
        )
    assert await desk.value("SELECT count(*) FROM orders") == 2
    assert await desk.value("SELECT count(*) FROM attempts") == 1


async def test_a_process_that_stood_still_reads_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that were read too long ago are not used for a decision."""
    monkeypatch.setattr(decisions, "_LONGEST", timedelta(seconds=0.05))
    between = interrupted(desk, lambda: desk.pool.execute("SELECT pg_sleep(0.1)"))
    assert (await desk.admit(limit_buy(desk.account, "0.001", "49000"))).accepted
    assert between.reads == 2


async def test_who_always_comes_second_gets_its_turn(desk: Desk) -> None:
    """An entry that is overtaken each time finally waits for the account's lock, and then is not overtaken."""
    other = Admissions(desk.pool, desk.venue, lambda: desk.policy)
    overtaking: list[asyncio.Task[Any]] = []

    async def overtake() -> None:
        between.reads = 0
        overtaking.append(asyncio.create_task(other.admit(limit_buy(desk.account, "0.001", "49000"))))
        if len(overtaking) <= entries._TRIES:
            await overtaking[-1]

    between = interrupted(desk, overtake)
    assert (await desk.admit(limit_buy(desk.account, "0.001", "49000"))).accepted
    assert len(overtaking) == entries._TRIES
    assert await desk.value("SELECT count(*) FROM orders WHERE NOT finished") == entries._TRIES + 1


@pytest.mark.parametrize("seed", range(4))
async def test_processes_at_once_never_exceed_balance_or_slots(desk: Desk, seed: int) -> None:
    """Three processes with bursts of entries, halts and resumes in between: no more is admitted than is available."""
    dice = random.Random(seed)
    account = desk.another_account()
    slots, balance = dice.choice([2, 5, 100]), Decimal(dice.randint(300, 3000))
    desk.policy = replace(desk.policy, max_open_buys=slots)
    await desk.balance(str(balance))
    processes = [Admissions(desk.pool, desk.venue, lambda: desk.policy) for _ in range(3)]

    async def enter() -> bool:
        symbol, price = dice.choice([("BTC-USD", 49_000), ("ETH-USD", 2_900)])
        size = str(round(Decimal(dice.uniform(5, 300)) / price, 6))
        return (await dice.choice(processes).admit(limit_buy(account, size, str(price), symbol=symbol))).accepted

    async def turn() -> None:
        async with desk.pool.acquire() as connection:
            await halt(connection, account, "", "ada")
            await resume(connection, account, "", "ada")

    answers = await asyncio.gather(*(turn() if number % 10 == 9 else enter() for number in range(40)))
    answers += await asyncio.gather(*(enter() for _ in range(30)))
    rows = await desk.pool.fetch(
        "SELECT symbol, count(*)::int AS orders, sum(reserved_quote) AS reserved FROM orders "
        "WHERE account = $1 AND NOT finished GROUP BY symbol",
        account,
    )
    assert sum(row["orders"] for row in rows) == sum(bool(answer) for answer in answers) > 0
    assert max(row["orders"] for row in rows) <= slots
    assert sum(row["reserved"] for row in rows) <= balance


async def test_one_that_cannot_be_written_fails_alone(desk: Desk) -> None:
    """In a burst, an entry that the database refuses raises for its own caller; the others are admitted once each."""
    good = [limit_buy(desk.account, "0.001", "49000") for _ in range(10)]
    bad = limit_buy(desk.account, "0.001", "49000", source="no\0where")
    found = await asyncio.gather(*(desk.admit(intent) for intent in (*good, bad)), return_exceptions=True)
    assert isinstance(found[-1], asyncpg.DataError)
    assert all(not isinstance(answer, BaseException) and answer.accepted for answer in found[:-1])
    assert await desk.value("SELECT count(*) FROM orders") == 10


class Slow:
    """The exchange; it returns products and fee rates only once both are requested, and counts its touches."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._both = asyncio.Barrier(2)
        self.quotes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    async def products(self, symbols: Any = None) -> Any:
        """Like the exchange."""
        await self._both.wait()
        return await self._exchange.products(symbols)

    async def fee_rates(self, symbol: str | None = None) -> Any:
        """Like the exchange."""
        await self._both.wait()
        return await self._exchange.fee_rates(symbol)

    async def quote(self, symbol: str) -> Quote:
        """Like the exchange."""
        self.quotes += 1
        found: Quote = await self._exchange.quote(symbol)
        return found


async def test_reads_of_an_entry_run_side_by_side_and_serve_its_retry(desk: Desk) -> None:
    """Rules and fees are read concurrently; an entry that is decided again uses the same touch."""
    exchange = Slow(desk.venue.exchange)

    async def away() -> None:
        raise asyncpg.ConnectionDoesNotExistError("away")

    venue = Venue(exchange)
    desk.admissions = Admissions(cast("Pool", Between(desk.pool, away, ENTRY_FACTS)), venue, lambda: desk.policy)
    wanted = market_buy(desk.account, "0.01")
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await asyncio.wait_for(desk.admit(wanted), 30)
    # A machine slower than a retry's limit would request it again.
    venue._attempts = {key: (time.monotonic(), quote) for key, (_, quote) in venue._attempts.items()}
    assert (await desk.admit(wanted)).accepted
    assert exchange.quotes == 1
    assert (await desk.admit(market_buy(desk.account, "0.01"))).accepted
    assert exchange.quotes == 2
