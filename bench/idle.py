"""The cost of an open trade while nothing happens: history events and rows written (its CPU time: `bench.watcher`).

Trades are opened on every symbol, then prices move within the quiet band for some seconds. Rows that belong to the
account and not to a trade (leases, the streams' positions, balances, fee rates) are not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal

from bench.rig import CALM, PROBE, SYMBOLS, BenchTrade, Rig, open_rig
from bench.rows import Row
from domain.ids import exit_workflow_id

__all__ = ["idle"]

_WRITES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables
 WHERE relname <> ALL('{leases,stream_positions,balances,fee_rates}')
"""


async def idle(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Events and rows written."""
    seconds = 2.0 if quick else 5.0
    async with open_rig() as rig, rig.worker_process():
        trades = await rig.open_many(len(SYMBOLS))
        say(f"{len(trades)} idle trades under {seconds:.0f} s of ticks")
        await _settled(rig)
        events, writes = await _events(rig, trades), await _writes(rig)
        ticks = await _ticks(rig, seconds)
        await asyncio.sleep(1.5)  # PostgreSQL's counters are behind by up to a second
        events = await _events(rig, trades) - events
        writes = await _writes(rig) - writes
    note = f"{len(trades)} trades, {ticks} ticks"
    return [
        Row("idle trades: history events", "events", events, aim="0", ok=events == 0, note=note),
        Row("idle trades: rows written", "rows", writes, aim="0", ok=writes == 0, note=note),
    ]


async def _settled(rig: Rig) -> None:
    """Wait until the work after the openings (settlement of fills, the first reconcile) has been written."""
    last = -1
    async with asyncio.timeout(90):
        while (now := await _writes(rig)) != last:
            last = now
            await asyncio.sleep(8)


async def _writes(rig: Rig) -> int:
    return int(await rig.database.fetchval(_WRITES))


async def _events(rig: Rig, trades: list[BenchTrade]) -> int:
    total = 0
    for trade in trades:
        for handle in (trade.handle, rig.client.get_workflow_handle(exit_workflow_id(trade.entry_key))):
            total += (await handle.describe()).history_length
    return total


async def _ticks(rig: Rig, seconds: float) -> int:
    """Prices of all symbols within the quiet band."""
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for number, symbol in enumerate((*SYMBOLS, PROBE)):
            await rig.price(symbol, CALM + Decimal((count + number) % 90) / 100)
        count += len(SYMBOLS) + 1
        await asyncio.sleep(0.1)
    return count
