"""Time from a decision and from a due exit to the order at the exchange, and a trade's cost in Temporal.

Rows: decision → order (the deciding process runs the worker, so its workflow starts there); history events of a round
trip; tick → exit order with 1, 100 and 1,000 open trades; 1,000 stops due at the same moment; the worker's memory.
Floors are measured alternately between the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import psutil

from bench.floor import floor_once, floor_process, floor_rate, floor_worker
from bench.rig import CALM, CRASH, PROBE, SYMBOLS, BenchTrade, Rig, arrival, open_rig
from bench.rows import Row, percentile, reaction
from domain.ids import exit_workflow_id, order_workflow_id

__all__ = ["decisions", "exits"]

Say = Callable[[str], None]

_MOST_EVENTS = 70
_STOPS_MOST = 3.0
_STOPS_PATIENCE = 300.0


async def decisions(say: Say, *, quick: bool) -> list[Row]:
    """Decision → order at the exchange, and the events of a round trip."""
    rounds = 15 if quick else 60
    async with open_rig() as rig, rig.worker_here(), floor_worker(rig.client):
        say(f"decision → order: {rounds} round trips, each beside a floor workflow")
        await floor_once(rig.client)
        trades, floors = [], []
        for _ in range(rounds):
            trades.append(await _round_trip(rig))
            floors.append(await floor_once(rig.client))
        found = await rig.arrivals()
        waits = [arrival(found, trade.entry_key) - trade.decided for trade, _ in trades]
        events = [await _events(rig, trade) for trade, _ in trades[:5]]
    return [
        reaction("decision → order at the exchange", waits, floors, 1.0),
        Row(
            what="history events of a round-trip trade, all its workflows",
            unit="events",
            p50=statistics.median(events),
            p99=max(events),
            aim=f"<= {_MOST_EVENTS}",
            ok=max(events) <= _MOST_EVENTS,
            note="market entry, hard stop",
        ),
    ]


async def exits(say: Say, *, quick: bool) -> list[Row]:
    """Tick → exit order with growing numbers of open trades, then all their stops at once."""
    rounds, crowd = (8, (1, 50)) if quick else (25, (1, 100, 1000))
    rows: list[Row] = []
    async with open_rig() as rig, rig.worker_process() as pid, _floor(rig):
        others: list[BenchTrade] = []
        for open_trades in crowd:
            say(f"tick → exit order with {open_trades} open trades (opening {open_trades - 1 - len(others)} more)")
            others += await rig.open_many(open_trades - 1 - len(others))
            rows.append(await _tick_to_exit(rig, rounds, open_trades))
        memory = psutil.Process(pid).memory_info().rss / 2**20
        rows.append(Row(f"memory of the worker with {len(others) + 1:,} open trades", "MiB", memory))
        others.append(await rig.open(SYMBOLS[-1]))
        say(f"{len(others)} stops due at once")
        rows.append(await _stops_at_once(rig, others))
    return rows


def _floor(rig: Rig) -> AbstractAsyncContextManager[None]:
    return floor_process(rig.client, rig.stack.temporal_address, rig.stack.data / "logs" / "floor.log")


async def _round_trip(rig: Rig) -> tuple[BenchTrade, float]:
    """A trade opened and stopped out on the probe's symbol. Returns when its stop was crossed."""
    trade = await rig.open(PROBE)
    crossed = await rig.price(PROBE, CRASH)
    await rig.result(trade)
    await rig.price(PROBE, CALM)
    return trade, crossed


async def _events(rig: Rig, trade: BenchTrade) -> int:
    """Events of the entry, its monitor and its exit order."""
    names = [
        order_workflow_id(trade.entry_key),
        exit_workflow_id(trade.entry_key),
        order_workflow_id(trade.exit_key),
    ]
    return sum([len((await rig.client.get_workflow_handle(name).fetch_history()).events) for name in names])


async def _tick_to_exit(rig: Rig, rounds: int, open_trades: int) -> Row:
    trips, floors = [], []
    for _ in range(rounds):
        trips.append(await _round_trip(rig))
        floors.append(await floor_once(rig.client))
    found = await rig.arrivals()
    waits = [arrival(found, trade.exit_key) - crossed for trade, crossed in trips]
    return reaction(f"tick → exit order at the exchange, {open_trades:,} open trades", waits, floors, 1.5)


async def _stops_at_once(rig: Rig, trades: Sequence[BenchTrade]) -> Row:
    before = await floor_rate(rig.client, 3)
    await rig.prices(SYMBOLS, CALM)
    crossed = await rig.prices(SYMBOLS, CRASH)
    told = time.time()
    closed = await rig.all_closed(_STOPS_PATIENCE)
    await rig.prices(SYMBOLS, CALM)
    rate = statistics.mean([before, await floor_rate(rig.client, 3)])
    found = await rig.arrivals()
    waits = [arrival(found, trade.exit_key) - crossed for trade in trades]
    floor = len(trades) / rate
    return Row(
        what=f"{len(trades):,} stops due at once: last exit order at the exchange",
        unit="s",
        p50=statistics.median(waits),
        p99=percentile(waits, 99),
        floor=floor,
        ratio=max(waits) / floor,
        aim=f"<= {_STOPS_MOST:g} x",
        ok=max(waits) <= _STOPS_MOST * floor,
        note=f"last {max(waits):.1f} s, closed after {closed - crossed:.1f} s, prices set in {told - crossed:.2f} s; "
        f"floor {rate:.0f}/s",
    )
