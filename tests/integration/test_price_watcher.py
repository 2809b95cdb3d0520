"""The price watcher with real PostgreSQL and Temporal: a due exit is signalled, at once, and only then."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest_asyncio
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.database import Pool, create_pool
from activities.exits.past_candles import begins
from activities.exits.price_watcher import PriceWatcher, WatcherOptions
from activities.interfaces.streams import WatcherInput
from activities.leases import LeaseTerms
from activities.starting import Starter
from domain.exits import ExitReason, ExitRules, atr_window
from domain.ids import exit_workflow_id
from domain.messages import ExitDue, MonitorStart
from exchange.coinbase import CoinbaseConfig, CoinbaseExchange
from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.port import Candle, CandleUpdate, Connected, Disconnected
from exchange.streams import ReconnectSettings
from tests.support.fake_exchange import FakeExchange, ticker
from tests.support.ledger_rows import ACCOUNT, add_trade, cut_connections, until
from tests.support.recording_workflows import RecordingMonitor, RecordingOrder

BTC, ETH = "BTC-USD", "ETH-USD"
OPTIONS = WatcherOptions(
    symbols=(BTC,),
    lease=LeaseTerms(seconds=2.0, renew_seconds=0.5, wait_seconds=0.05),
    poll_seconds=0.2,
    resync_seconds=1.0,
    repeat_seconds=0.5,
    unacknowledged_seconds=1.0,
    peak_seconds=0.2,
    quote_repeat_seconds=0.2,
    first_quote_repeat_seconds=0.1,
    beat_seconds=0.02,
    peak_tries=2,
)


@dataclass
class World:
    """Everything around a watcher."""

    pool: Pool
    client: Client
    exchange: FakeExchange
    queue: str
    beats: list[dict[str, Any]]

    @asynccontextmanager
    async def watching(self, options: WatcherOptions = OPTIONS) -> AsyncIterator[asyncio.Task[None]]:
        """A running watcher during the block."""
        starter = Starter(self.pool, self.client, task_queue=self.queue)
        watcher = PriceWatcher(self.pool, self.exchange, self.client, starter, options)
        before = len(self.exchange.market_streams)
        task = asyncio.create_task(watcher.run(WatcherInput(account=ACCOUNT), self.beats.append))
        try:
            await until(lambda: truth(task.done() or len(self.exchange.market_streams) > before))
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def monitor(self, entry_key: str, symbol: str = BTC) -> WorkflowHandle[Any, Any]:
        """A running exit monitor."""
        return await self.client.start_workflow(
            RecordingMonitor.run,
            MonitorStart(entry_key=entry_key, account=ACCOUNT, symbol=symbol),
            id=exit_workflow_id(entry_key),
            task_queue=self.queue,
        )

    async def due(self, entry_key: str) -> list[ExitDue]:
        """The signals to the trade's monitor; nothing if there are none."""
        handle = self.client.get_workflow_handle(exit_workflow_id(entry_key))
        try:
            told: list[ExitDue] = await handle.query(RecordingMonitor.due)
        except RPCError:
            return []
        return told

    async def armed(self, count: int = 1) -> None:
        """Wait until the watcher holds this many plans."""
        await until(lambda: truth(self.beats and self.beats[-1].get("plans") == count))

    async def settled(self, *, unacknowledged: int = 0) -> None:
        """Send one more tick in the quiet band, and wait until the watcher is done with it and has this many
        signals."""
        seen = self.beats[-1]["ticks"]
        self.exchange.tick(BTC, "100")
        await until(
            lambda: truth(self.beats[-1]["ticks"] > seen and self.beats[-1]["unacknowledged"] == unacknowledged)
        )

    async def plan(self, entry_key: str) -> Any:
        """The plan's row."""
        return await self.pool.fetchrow("SELECT * FROM exit_plans WHERE entry_key = $1", entry_key)

    async def acknowledge(self, entry_key: str, reason: str | None) -> None:
        """The monitor begins an exit, or arms the plan again."""
        await self.pool.execute(
            "UPDATE exit_plans SET state = $2, exit_reason = $3, revision = nextval('exit_plan_revision') "
            "WHERE entry_key = $1",
            entry_key,
            "EXITING" if reason else "ARMED",
            reason,
        )
        await self.pool.execute("SELECT pg_notify('exit_plan', $1)", entry_key)


async def truth(value: object) -> bool:
    """For `until`."""
    return bool(value)


@pytest_asyncio.fixture
async def world(database: str, temporal_client: Client) -> AsyncIterator[World]:
    """A database, an exchange, and a worker with recording workflows."""
    pool = await create_pool(database)
    queue = f"orders-{uuid.uuid4().hex[:8]}"
    async with Worker(temporal_client, task_queue=queue, workflows=[RecordingOrder, RecordingMonitor]):
        yield World(pool, temporal_client, FakeExchange(), queue, [])
    await pool.close()


async def test_a_new_plan_is_armed_by_its_notification_and_its_stop_is_told_within_milliseconds(world: World) -> None:
    """A plan made while the watcher runs needs no poll, and a bid below its stop is signalled at once."""
    options = replace(OPTIONS, poll_seconds=30.0)
    async with world.watching(options):
        world.exchange.tick(BTC, "100")
        key = await add_trade(world.pool, "a")
        await world.monitor(key)
        await world.armed()
        world.exchange.tick(BTC, "97.51")
        world.exchange.tick(BTC, "97.5")
        due = await until(lambda: world.due(key))
    assert [(item.reason, item.price, item.epoch) for item in due] == [(ExitReason.SOFT_STOP, Decimal("97.5"), 1)]


async def test_a_low_between_two_bids_triggers(world: World) -> None:
    """Every bid counts, in order, even if a higher one has already arrived when it is processed."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        for bid in ("100", "94.9", "101"):
            world.exchange.tick(BTC, bid)
        due = await until(lambda: world.due(key))
    assert due[0].reason is ExitReason.HARD_STOP
    assert due[0].price == Decimal("94.9")


async def test_a_due_exit_is_told_again_until_acknowledged_and_then_only_what_outranks_it(world: World) -> None:
    """Unacknowledged it is repeated; acknowledged only a higher reason is sent; armed again the rules start afresh."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "97")
        await until(lambda: world.due(key))
        await until(lambda: count_of(world, key, 2))
        await world.acknowledge(key, "SOFT_STOP")
        await world.settled()
        told = len(await world.due(key))
        for bid in ("96.9", "97", "96.5"):
            world.exchange.tick(BTC, bid)
        await world.settled()
        assert len(await world.due(key)) == told
        world.exchange.tick(BTC, "94")
        await until(lambda: count_of(world, key, told + 1))
        assert (await world.due(key))[-1].reason is ExitReason.HARD_STOP
        await world.acknowledge(key, "HARD_STOP")
        await world.settled()
        told = len(await world.due(key))
        await world.acknowledge(key, None)
        world.exchange.tick(BTC, "97")
        await until(lambda: count_of(world, key, told + 1))
    assert {item.reason for item in (await world.due(key))[:2]} == {ExitReason.SOFT_STOP}


async def count_of(world: World, key: str, count: int) -> bool:
    """Whether the monitor was signalled at least this often."""
    return len(await world.due(key)) >= count


async def test_a_plan_without_a_monitor_gets_one_with_the_exit(world: World) -> None:
    """If nobody receives the signal the monitor is started with it, and knows the trade."""
    key = await add_trade(world.pool, "a")
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "97")
        due = await until(lambda: world.due(key))
        start = await world.client.get_workflow_handle(exit_workflow_id(key)).query(RecordingMonitor.start)
    assert due[0].reason is ExitReason.SOFT_STOP
    assert start is not None
    assert (start.symbol, start.size, start.entry_price) == (BTC, Decimal(1), Decimal(100))


async def test_an_exit_nobody_takes_becomes_critical(world: World) -> None:
    """A due exit that stays unacknowledged is a CRITICAL incident, resolved by the acknowledgement."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "97")
        find = "SELECT count(*) = 1 FROM incidents WHERE kind = 'exit_not_acknowledged' AND severity = 'CRITICAL'"
        await until(lambda: world.pool.fetchval(find))
        await world.acknowledge(key, "SOFT_STOP")
        await until(lambda: world.pool.fetchval(find + " AND resolved_at IS NOT NULL"))


async def test_trailing_is_written_as_it_rises_and_never_lowered(world: World) -> None:
    """Arming and each step are written with the epoch, a higher stop of another writer stays, and it sells."""
    rules = ExitRules(trailing_arm=Decimal("0.03"))
    key = await add_trade(world.pool, "a", rules=rules)
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "104")
        first = await until(lambda: plan_where(world, key, "stop IS NOT NULL"))
        revision = first["revision"]
        assert (first["peak"], first["lease_epoch"]) == (Decimal(104), 1)
        world.exchange.tick(BTC, "108")
        second = await until(lambda: plan_where(world, key, "steps > 0"))
        assert second["stop"] > first["stop"]
        await world.pool.execute("UPDATE exit_plans SET stop = 107.5 WHERE entry_key = $1", key)
        world.exchange.tick(BTC, "109")
        third = await until(lambda: plan_where(world, key, "peak = 109"))
        assert third["stop"] == Decimal("107.5")
        assert third["revision"] == revision, "the watcher's own writes are no news to watchers"
        world.exchange.tick(BTC, "103")
        due = await until(lambda: world.due(key))
    assert due[0].reason is ExitReason.TRAILING_STOP
    assert due[0].trailing is not None
    assert due[0].trailing["peak"] == "109"


async def plan_where(world: World, key: str, condition: str) -> Any:
    """The plan's row if the condition holds."""
    return await world.pool.fetchrow(
        f"SELECT * FROM exit_plans WHERE entry_key = $1 AND {condition}",  # noqa: S608 - conditions of this module
        key,
    )


async def test_a_successor_goes_on_with_the_stop_and_finds_the_peak_that_was_missed(world: World) -> None:
    """After a takeover the stored stop holds, and candles of the unwatched time raise it before profit exits."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "104")
        before = await until(lambda: plan_where(world, key, "stop IS NOT NULL"))
        await until(lambda: world.pool.fetchval("SELECT last_message_at FROM stream_positions"))
    long_ago = datetime.now(UTC) - timedelta(minutes=10)
    await world.pool.execute("UPDATE trades SET protected_at = $1", long_ago)
    await world.pool.execute("UPDATE stream_positions SET last_message_at = $1", long_ago)
    world.exchange.candle_list = [
        candle(long_ago - timedelta(minutes=3), "150"),  # before the position was protected, so not its peak
        candle(long_ago + timedelta(minutes=4), "110"),
    ]
    async with world.watching():
        after = await until(lambda: plan_where(world, key, "peak = 110"))
        assert after["stop"] > before["stop"]
        assert after["lease_epoch"] == 2
        world.exchange.tick(BTC, "105")
        due = await until(lambda: world.due(key))
    assert due[0].reason is ExitReason.TRAILING_STOP


def candle(start: datetime, high: str) -> Candle:
    """A candle with this high."""
    price = Decimal(high)
    return Candle(BTC, start, price - 2, price, price - 3, price - 1, Decimal(1))


async def test_a_reconnect_looks_for_the_peak_it_missed(world: World) -> None:
    """A high between two connections raises an armed trailing stop."""
    key = await add_trade(world.pool, "a")
    await world.pool.execute("UPDATE trades SET protected_at = now() - interval '10 minutes'")
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "104")
        await until(lambda: plan_where(world, key, "stop IS NOT NULL"))
        world.exchange.push_market(Disconnected("cut", 0, 0.1, datetime.now(UTC)), BTC)
        world.exchange.candle_list = [candle(datetime.now(UTC), "112")]
        world.exchange.push_market(Connected(2, datetime.now(UTC)), BTC)
        await until(lambda: plan_where(world, key, "peak = 112"))


async def test_a_peak_that_cannot_be_read_is_told(world: World) -> None:
    """If REST has no answer for a gap, a person is told that trailing stops may be low, and profit exits go on."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    await world.pool.execute("UPDATE trades SET protected_at = now() - interval '10 minutes'")
    world.exchange.unavailable = True
    async with world.watching():
        await world.armed()
        await world.pool.execute(
            "INSERT INTO market_snapshots (account, snapshot_id, symbol, at, action) VALUES ($1,$2,$3,now(),'sell')",
            ACCOUNT,
            uuid.uuid4(),
            BTC,
        )
        await world.pool.execute("SELECT pg_notify('matrix', '')")
        world.exchange.tick(BTC, "101")
        due = await until(lambda: world.due(key), seconds=30)
        await until(lambda: world.pool.fetchval("SELECT count(*) FROM incidents WHERE kind = 'missed_peak_unknown'"))
    assert due[0].reason is ExitReason.SIGNAL_EXIT


async def test_atr_comes_from_closed_candles(world: World) -> None:
    """The trailing distance is twice the ATR of past candles in REST, without the open one; so is a target in ATRs.

    The ATR of the target is stored in the plan and in the trade's own copy of the rules.
    """
    opened = begins(datetime.now(UTC), 300)
    world.exchange.candle_list = [
        Candle(BTC, opened - timedelta(minutes=5 * n), *map(Decimal, ("100", "100.4", "99.6", "100", "1")))
        for n in range(atr_window(14), 0, -1)
    ]
    key = await add_trade(world.pool, "a", rules=ExitRules(take_profit_atr=Decimal(9)))
    async with world.watching():
        await world.armed()
        newest = Candle(BTC, opened, *map(Decimal, ("100", "180", "20", "100", "1")))
        world.exchange.push_market(CandleUpdate(newest, snapshot=True), BTC)
        await until(lambda: truth(f"candles {BTC} 300" in world.exchange.calls))
        await world.settled()
        world.exchange.tick(BTC, "104")
        row = await until(lambda: plan_where(world, key, "stop IS NOT NULL"))
    assert row["atr"] == Decimal("0.8")
    assert row["distance"] == Decimal("1.6")
    for table in ("exit_plans", "trades"):
        rules = await world.pool.fetchval(f"SELECT rules FROM {table} WHERE entry_key = $1", key)  # noqa: S608 - above
        assert ExitRules.model_validate(rules).target_atr == Decimal("0.8")


async def test_a_stale_price_is_told_and_the_book_decides_instead(world: World) -> None:
    """A symbol with a frozen feed raises an incident, its REST quote is used, and the incident ends with the feed."""
    key = await add_trade(world.pool, "a", rules=ExitRules(stale_seconds=Decimal("0.5")))
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "100")
        world.exchange.quotes[BTC] = Decimal(96)
        due = await until(lambda: world.due(key))
        find = "SELECT count(*) > 0 FROM incidents WHERE kind = 'stale_price' AND severity = 'WARNING'"
        await until(lambda: world.pool.fetchval(find + " AND resolved_at IS NULL"))
        world.exchange.tick(BTC, "96")
        await until(lambda: world.pool.fetchval(find + " AND resolved_at IS NOT NULL"))
    assert due[0].reason is ExitReason.SOFT_STOP


async def test_a_feed_that_is_frozen_while_others_move_is_told_and_the_book_decides(world: World) -> None:
    """Bitcoin's price is repeated and never changes, ether's does: the book is read, has another one, so the feed
    decides nothing until it moves.
    """
    key = await add_trade(world.pool, "a", rules=ExitRules(stale_seconds=Decimal("1.5")))
    await world.monitor(key)
    moves = 0

    async def said(bid: str, where: str) -> bool:
        nonlocal moves
        moves += 1
        world.exchange.tick(ETH, str(100 + moves % 2))
        world.exchange.tick(BTC, bid)
        find = "SELECT count(*) > 0 FROM incidents WHERE kind = 'stale_price' AND sentence LIKE '%stands still%' AND "
        return bool(await world.pool.fetchval(find + where))

    async with world.watching(replace(OPTIONS, symbols=(BTC, ETH))):
        await world.armed()
        await said("100", "true")
        world.exchange.quotes[BTC] = Decimal(90)
        await until(lambda: said("100", "resolved_at IS NULL"))
        due = await world.due(key)
        await until(lambda: said("91", "resolved_at IS NOT NULL"))
    assert (due[0].reason, due[0].price) == (ExitReason.HARD_STOP, Decimal(90))


async def test_without_any_price_nothing_is_decided(world: World) -> None:
    """Without a feed and without a quote no exit is due, and the plan stays armed."""
    key = await add_trade(world.pool, "a", rules=ExitRules(stale_seconds=Decimal("0.3")))
    await world.monitor(key)
    world.exchange.unavailable = True
    async with world.watching():
        await world.armed()
        await until(lambda: world.pool.fetchval("SELECT count(*) > 0 FROM incidents WHERE kind = 'stale_price'"))
        assert await world.due(key) == []
        assert (await world.plan(key))["state"] == "ARMED"


async def test_a_message_from_the_past_decides_nothing(world: World) -> None:
    """A ticker overtaken by two minutes of others is not a price."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        world.exchange.tick(BTC, "100")
        old = datetime.now(UTC) - timedelta(seconds=200)
        world.exchange.push_market(ticker(BTC, "90", at=old), BTC)
        await world.settled()
        assert await world.due(key) == []


async def test_a_clock_that_was_ahead_holds_nothing_up(world: World) -> None:
    """After times that were ten minutes ahead the true ones decide, from the second message on."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        ahead = datetime.now(UTC) + timedelta(seconds=600)
        world.exchange.push_market(ticker(BTC, "100", at=ahead), BTC)
        world.exchange.push_market(CandleUpdate(candle(ahead + timedelta(days=1), "102"), snapshot=False), BTC)
        world.exchange.tick(BTC, "99.9")
        world.exchange.tick(BTC, "90")
        due = await until(lambda: world.due(key))
    assert due[0].reason is ExitReason.HARD_STOP


async def test_a_stop_goes_by_the_bid_alone(world: World) -> None:
    """Without asks, in the stream and by REST, the bid decides all the same."""
    key = await add_trade(world.pool, "a")
    other = await add_trade(world.pool, "b", symbol=ETH)
    await world.monitor(key)
    await world.monitor(other, ETH)
    world.exchange.quotes[ETH] = Decimal(90)
    world.exchange.no_asks = True
    async with world.watching():
        await world.armed(2)
        world.exchange.push_market(replace(ticker(BTC, "100"), bid=None), BTC)
        world.exchange.push_market(replace(ticker(BTC, "90"), ask=None), BTC)
        due = await until(lambda: world.due(key))
        by_rest = await until(lambda: world.due(other))
    assert (due[0].reason, due[0].price) == (ExitReason.HARD_STOP, Decimal(90))
    assert by_rest[0].reason is ExitReason.HARD_STOP


async def test_a_sell_signal_is_seen_within_a_second_and_never_sells_at_a_loss(world: World) -> None:
    """The matrix's newest row sells a position that is not losing, with its score and snapshot; an old row is ignored,
    and so are the rows of another account of the ledger."""
    winner = await add_trade(world.pool, "a", entry_price="99")
    loser = await add_trade(world.pool, "b", entry_price="101")
    for key in (winner, loser):
        await world.monitor(key)
    snapshot, old = uuid.uuid4(), uuid.uuid4()
    insert = """INSERT INTO market_snapshots (account, snapshot_id, symbol, at, action, sell_score)
                VALUES ($1,$2,$3,$4,'sell',3.5)"""
    async with world.watching():
        await world.armed(2)
        world.exchange.tick(BTC, "100")
        await world.pool.execute(insert, ACCOUNT, old, BTC, datetime.now(UTC) - timedelta(minutes=11))
        await world.pool.execute(insert, "another", uuid.uuid4(), BTC, datetime.now(UTC))
        await world.pool.execute("SELECT pg_notify('matrix', '')")
        await world.settled()
        assert await world.due(winner) == []
        await world.pool.execute(insert, ACCOUNT, snapshot, BTC, datetime.now(UTC))
        due = await until(lambda: world.due(winner), seconds=2)
        assert await world.due(loser) == []
    assert (due[0].reason, due[0].sell_score, due[0].snapshot_id) == (
        ExitReason.SIGNAL_EXIT,
        Decimal("3.5"),
        str(snapshot),
    )


async def test_a_symbol_that_joins_is_subscribed_and_priced_at_once_and_others_go_on(world: World) -> None:
    """A plan on a new symbol opens a stream beside the others; until it delivers the REST book gives the price."""
    async with world.watching():
        world.exchange.quotes[ETH] = Decimal(90)
        key = await add_trade(world.pool, "a", symbol=ETH)
        due = await until(lambda: world.due(key), seconds=2)
        assert due[0].reason is ExitReason.HARD_STOP
        await until(lambda: truth(world.exchange.watched() == {BTC, ETH}))
        assert not world.exchange.market_streams[0].closed


async def test_many_streams_become_one_without_a_gap(world: World) -> None:
    """Too many connections are replaced by one for all symbols, and the old ones end only when it delivers."""
    symbols = [f"C{n}-USD" for n in range(5)]
    async with world.watching():
        for number, symbol in enumerate(symbols):
            world.exchange.quotes[symbol] = Decimal(100)
            await add_trade(world.pool, f"t{number}", symbol=symbol)
            await until(lambda: truth(symbol in world.exchange.watched()))  # noqa: B023 - awaited here
        streams = world.exchange.market_streams
        await until(lambda: truth(streams[-1].symbols == {BTC, *symbols}))
        assert not any(stream.closed for stream in streams)
        streams[-1].push(ticker(BTC, "100"))
        await until(lambda: truth(sum(not stream.closed for stream in streams) == 1))
        assert world.exchange.watched() == {BTC, *symbols}


async def test_an_outage_of_the_feed_is_told_once_and_resolved(world: World) -> None:
    """Ten consecutive failures are a CRITICAL incident, resolved when all connections are back."""
    async with world.watching():
        for failures in (9, 10, 11):
            world.exchange.push_market(Disconnected("refused", failures, 0.1, datetime.now(UTC)), BTC)
        find = "SELECT count(*) = 1 FROM incidents WHERE kind = 'market_stream_down' AND severity = 'CRITICAL'"
        await until(lambda: world.pool.fetchval(find))
        world.exchange.push_market(Connected(2, datetime.now(UTC)), BTC)
        await until(lambda: world.pool.fetchval(find + " AND resolved_at IS NOT NULL"))


async def test_a_database_that_was_away_costs_nothing_but_a_moment(world: World) -> None:
    """When every database connection is cut, ticks still decide, and new plans are noticed as before."""
    options = replace(OPTIONS, poll_seconds=30.0, resync_seconds=30.0)
    first = await add_trade(world.pool, "a")
    await world.monitor(first)
    async with world.watching(options) as watching:
        await world.armed()
        await cut_connections(world.pool)
        world.exchange.tick(BTC, "97")
        await until(lambda: world.due(first))
        await until(lambda: world.pool.fetchval(_LISTENERS))
        second = await add_trade(world.pool, "b", entry_price="97")
        await world.monitor(second)
        await world.armed(2)
        world.exchange.tick(BTC, "90")
        await until(lambda: world.due(second))
        assert not watching.done(), "the lease was kept"


_LISTENERS = """
SELECT count(*) > 0 FROM pg_stat_activity
 WHERE datname = current_database() AND query ILIKE 'LISTEN%matrix%' AND state = 'idle'
"""


async def test_a_disarmed_plan_is_forgotten(world: World) -> None:
    """When the trade is closed its plan decides nothing any more."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching():
        await world.armed()
        await world.pool.execute("UPDATE exit_plans SET state = 'DISARMED', revision = nextval('exit_plan_revision')")
        await world.pool.execute("SELECT pg_notify('exit_plan', $1)", key)
        await world.armed(0)
        world.exchange.tick(BTC, "90")
        await world.settled()
        assert await world.due(key) == []


async def test_two_watchers_never_watch_at_once_and_the_second_takes_over(world: World) -> None:
    """A second watcher waits; when the first one ends it continues within a second, with its own epoch."""
    key = await add_trade(world.pool, "a")
    await world.monitor(key)
    async with world.watching() as first:
        await world.armed()
        starter = Starter(world.pool, world.client, task_queue=world.queue)
        beats: list[dict[str, Any]] = []
        watcher = PriceWatcher(world.pool, world.exchange, world.client, starter, OPTIONS)
        second = asyncio.create_task(watcher.run(WatcherInput(account=ACCOUNT), beats.append))
        await until(lambda: truth(beats))
        assert "waiting_for" in beats[-1]
        first.cancel()
        started = time.monotonic()
        await until(lambda: truth(beats[-1].get("plans") == 1))
        assert time.monotonic() - started < 2
        world.exchange.tick(BTC, "90")
        due = await until(lambda: world.due(key))
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    assert {item.epoch for item in due} == {2}


async def test_a_stop_at_the_paper_exchange_is_told_also_after_a_cut(world: World) -> None:
    """With the real adapter: prices by stream, trailing across a cut connection, and a stop on a second symbol."""
    async with on_paper(world, OPTIONS) as control:
        btc = await add_trade(world.pool, "a", entry_price="50000")
        eth = await add_trade(world.pool, "b", symbol=ETH, entry_price="3000")
        await world.armed(2)
        await until(lambda: truth(world.beats[-1]["ticks"] >= 2))
        await control.set_price(BTC, "52000", "52001")
        await until(lambda: plan_where(world, btc, "stop IS NOT NULL"))
        await control.sockets("drop", "market")
        await control.set_price(BTC, "50900", "50901")
        due = await until(lambda: world.due(btc))
        assert due[0].reason is ExitReason.TRAILING_STOP
        await control.set_price(ETH, "2840", "2841")
        due = await until(lambda: world.due(eth))
        assert due[0].reason is ExitReason.HARD_STOP


async def test_a_peak_in_a_cut_of_a_fast_market_is_found(world: World) -> None:
    """With a faster market, candles in market time show the high that was reached while our sockets were cut."""
    async with on_paper(world, replace(OPTIONS, market_speed=60.0), speed=60.0) as control:
        key = await add_trade(world.pool, "a", entry_price="50000", protected_for=30)
        await world.armed()
        await control.set_price(BTC, "52000", "52001")
        await until(lambda: plan_where(world, key, "stop IS NOT NULL"))
        # Silent first: a connection made again before the trade would have missed nothing.
        await control.sockets("half_open", "market")
        await control.trade(BTC, "90000", "0.001")
        await control.sockets("drop", "market")
        row = await until(lambda: plan_where(world, key, "peak = 90000"))
    assert row["steps"] > 0


@asynccontextmanager
async def on_paper(world: World, options: WatcherOptions, speed: float = 1.0) -> AsyncIterator[PaperControl]:
    """A watcher on the real adapter with a paper exchange, BTC at 50,000 and ETH at 3,000."""
    config = PaperConfig(step=True, speed=speed, products=[BTC, ETH], private_rate=0, public_rate=0, connection_rate=0)
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "50000", "50001")
        await control.set_price(ETH, "3000", "3001")
        exchange = CoinbaseExchange(
            CoinbaseConfig(
                rest_address=paper.rest_address,
                stream_url=paper.stream_url,
                user_stream_url=paper.user_stream_url,
                ca_file=paper.ca_file,
                key_file=paper.key_file,
                streams=ReconnectSettings(backoff_first=0.05, backoff_cap=0.2),
            )
        )
        starter = Starter(world.pool, world.client, task_queue=world.queue)
        watcher = PriceWatcher(world.pool, exchange, world.client, starter, options)
        task = asyncio.create_task(watcher.run(WatcherInput(account=ACCOUNT), world.beats.append))
        try:
            yield control
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await exchange.close()
