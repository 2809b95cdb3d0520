"""Two accounts in one ledger, perhaps on different venues: neither sees the other's market or decisions (RISK-7)."""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.exits.plans import PlanTable
from activities.interfaces.strategy import MarketDataInput
from activities.leases import LeaseTerms, hold
from activities.ledger.known_bids import LAST_PRICE
from activities.market.candles import CandleTable, MarketRow
from activities.market.keeper import MarketDataOptions, MarketKeeper, market_data_lease
from activities.market.universe import Universe
from activities.strategy.store import Signal, StrategyStore
from domain.candles import CANDLE, holds, settles
from domain.scoring import Action, Decision
from exchange.port import Candle
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy
from tests.support.waiting import eventually
from web.views.why import newest_matrix, newest_signals

BTC = "BTC-USD"
OURS, THEIRS = "ours", "theirs"
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """The ledger's."""
    found = await create_pool(database)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission alone."""
    async with desk_at_a_paper_exchange(database) as running:
        yield running


@pytest.mark.parametrize("seed", range(3))
async def test_each_account_has_its_venues_last_word_of_every_candle(pool: Pool, seed: int) -> None:
    """For any candles from two venues, each table has the result of `domain.candles` for its own venue."""
    dice = random.Random(seed)
    last = START + 4 * CANDLE
    wanted: dict[str, dict[datetime, tuple[Candle, bool]]] = {OURS: {}, THEIRS: {}}
    async with AsyncExitStack() as stack:
        leases = {
            account: await stack.enter_async_context(hold(pool, market_data_lease(account), account, LeaseTerms()))
            for account in wanted
        }
        for _ in range(60):
            account = dice.choice([OURS, THEIRS])
            starts = dice.sample([START + number * CANDLE for number in range(6)], dice.randint(1, 4))
            told = [Candle(BTC, at, *(Decimal(dice.randint(1, 99)) for _ in range(5))) for at in starts]
            last_closed = last if dice.random() < 0.4 else None
            await CandleTable(pool, account).save(leases[account], told, last_closed=last_closed)
            for candle in told:
                final = settles(candle.start, last_closed)
                _, settled = wanted[account].get(candle.start, (None, False))
                if holds(settled=settled, settles=final):
                    wanted[account][candle.start] = candle, final
    for account, words in wanted.items():
        table = CandleTable(pool, account)
        assert await table.newest([BTC]) == max(words)
        block = await table.block([BTC], START + 5 * CANDLE, 6)
        for place in range(6):
            word = words.get(START + place * CANDLE)
            seen = [getattr(block, name)[0, place] for name in ("open", "high", "low", "close", "volume")]
            if word is None:
                assert all(math.isnan(value) for value in seen), "a candle that nobody told"
            else:
                said = word[0]
                assert seen == [said.open, said.high, said.low, said.close, said.volume]


async def test_a_correction_with_less_volume_is_taken_and_not_taken_back_by_the_stream(pool: Pool) -> None:
    """A cancelled trade's volume is removed; the stream, which repeats the old version, doesn't bring it back."""
    table = CandleTable(pool, OURS)
    wrong = Candle(BTC, START, *map(Decimal, (50000, 50100, 49900, 50050, 11)))
    right = replace(wrong, close=Decimal(50000), volume=Decimal(10))

    async def close() -> float:
        return float((await table.block([BTC], START, 1)).close[0, 0])

    async with hold(pool, market_data_lease(OURS), "a", LeaseTerms()) as lease:
        await table.save(lease, [wrong])
        await table.save(lease, [right])
        assert await close() == 50000, "the stream's later word"
        await table.save(lease, [wrong])
        await table.save(lease, [right], last_closed=START + CANDLE)
        await table.save(lease, [wrong])
        assert await close() == 50000, "the records' word"
        await table.save(lease, [replace(right, close=Decimal(49999))], last_closed=START + 2 * CANDLE)
        assert await close() == 49999, "the records' later word"


async def test_prices_are_each_accounts_own(desk: Desk) -> None:
    """Another venue's touch, day and last price of the same product are not visible to this account's gates."""
    ours = desk.policy
    await desk.balance("100000")
    await desk.market(BTC, bid="50000", ask="50001", price="50000", change_24h="0.01")
    theirs = desk.another_account()
    await desk.balance("100000")
    await desk.market(BTC, bid="20000", ask="20900", price="20000", change_24h="-0.5")
    for policy, bid, fall in ((ours, "50000", False), (desk.policy, "20000", True)):
        desk.policy = replace(policy, buy_on_red_day=False)
        admission = await desk.admit(limit_buy(policy.account, "0.001", "19000", dry_run=True))
        assert (admission.gate in ("SKIP_RED_DAY", "SKIP_SPREAD_TOO_WIDE")) is fall, admission.sentence
        assert (await desk.pool.fetchrow(LAST_PRICE, policy.account, BTC))["bid"] == Decimal(bid)
        kept = await desk.admissions.touches.market(BTC, asks_for=None)
        assert kept.bid == Decimal(bid)
        assert [row.bid for row in (await CandleTable(desk.pool, policy.account).states([BTC])).values()] == [kept.bid]
    store = StrategyStore(desk.pool)
    await desk.market("JUNK-USD", price="1")
    long_ago = datetime.now(UTC) - timedelta(days=1)
    for account, traded in ((ours.account, [BTC]), (theirs, [BTC, "JUNK-USD"])):
        assert await store.most_traded(account, 9, long_ago, quotes=["USD"], least=Decimal(0)) == traded


async def test_the_matrix_and_what_it_decided_are_each_accounts_own(pool: Pool) -> None:
    """Another account's newer row sells nothing of ours, is no decision of ours, and is not in `why`."""
    store, now = StrategyStore(pool), datetime.now(UTC)
    snapshots = {account: str(uuid.uuid4()) for account in (OURS, THEIRS)}
    for account, ago, action in ((OURS, 30, Action.HOLD), (THEIRS, 5, Action.SELL)):
        told: dict[str, Any] = {"prices": {}, "candle": "C", "details": {}}
        decision = Decision(BTC, action, None, 0.5, 9.0, {}, (), "")
        signal = Signal(BTC, "SELL", "sighook", "x", "started", f"of {account}")
        await store.store(
            account=account,
            snapshot_id=snapshots[account],
            at=now - timedelta(seconds=ago),
            decisions=[decision],
            signals=[signal] if account == THEIRS else [],
            **told,
        )
    for account, sells in ((OURS, False), (THEIRS, True)):
        signal_of = (await PlanTable(pool, account).sell_signals([BTC], timedelta(hours=1)))[BTC]
        assert (signal_of.says_sell, str(signal_of.snapshot_id)) == (sells, snapshots[account])
        assert bool(await store.decided(account, [BTC], "C", now)) is sells
        matrix = await newest_matrix(pool, account, BTC, 9)
        assert [str(row["snapshot_id"]) for row in matrix] == [snapshots[account]]
        told_of = await newest_signals(pool, account, BTC, 9)
        assert [row["sentence"] for row in told_of] == ([f"of {account}"] if sells else [])


async def test_an_account_keeps_its_past_as_long_as_it_says_itself(desk: Desk) -> None:
    """The keeper of an account that keeps one day leaves another's candles and matrix of last week."""
    pool, old = desk.pool, datetime.now(UTC) - timedelta(days=5)
    for account in (OURS, THEIRS):
        await pool.execute(
            """INSERT INTO candles (account, symbol, seconds, start, open, high, low, close, volume)
               VALUES ($1, $2, 300, $3, 1, 1, 1, 1, 1)""",
            account,
            BTC,
            old,
        )
        await pool.execute(
            """INSERT INTO market_snapshots (account, snapshot_id, symbol, at, action)
               VALUES ($1, gen_random_uuid(), $2, $3, 'hold')""",
            account,
            BTC,
            old,
        )
    options = MarketDataOptions(universe=Universe(allow=(BTC,)), window=2, keep_matrix_days=1, keep_candles_days=1)
    keeper = MarketKeeper(pool, desk.venue.exchange, lambda: options)
    keeping = asyncio.create_task(keeper.run(MarketDataInput(account=OURS), lambda *_: None))

    async def left(account: str) -> list[int]:
        sql = """SELECT (SELECT count(*) FROM market_snapshots WHERE account = $1 AND at = $2)::int AS rows,
                        (SELECT count(*) FROM candles WHERE account = $1 AND start = $2)::int AS candles"""
        return list((await pool.fetchrow(sql, account, old)).values())

    async def gone() -> bool:
        return (await left(OURS))[0] == 0

    try:
        await eventually(gone, what="the account's own old matrix is gone")
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    await CandleTable(pool, OURS).forget(datetime.now(UTC) - timedelta(days=1))
    assert (await left(OURS), await left(THEIRS)) == ([0, 0], [1, 1])


async def test_a_row_that_says_nothing_of_prices_keeps_the_accounts_own(pool: Pool) -> None:
    """The day's change of one account's venue is written beside its own price, not beside the other's."""
    async with (
        hold(pool, market_data_lease(OURS), "a", LeaseTerms()) as ours,
        hold(pool, market_data_lease(THEIRS), "b", LeaseTerms()) as theirs,
    ):
        touch = MarketRow(BTC, Decimal(50000), Decimal(50000), Decimal(50001), at=START)
        await CandleTable(pool, OURS).save(ours, [], [touch])
        await CandleTable(pool, THEIRS).save(theirs, [], [MarketRow(BTC, change_24h=Decimal("-0.5"))])
        await CandleTable(pool, OURS).save(ours, [], [MarketRow(BTC, change_24h=Decimal("0.01"))])
    assert await CandleTable(pool, OURS).states([BTC]) == {BTC: replace(touch, change_24h=Decimal("0.01"))}
    assert await CandleTable(pool, THEIRS).states([BTC]) == {BTC: MarketRow(BTC, change_24h=Decimal("-0.5"))}
