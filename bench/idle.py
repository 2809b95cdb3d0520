"""What an open trade costs while nothing happens to it: events, rows written, and CPU per tick.

Trades are opened on every symbol, then prices move within the quiet band for some seconds. Rows that belong to the
account and not to a trade (leases, the streams' positions, balances, fee rates) are not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from activities.market_state import PlanRow, Watch
from bench.rig import CALM, PROBE, SYMBOLS, Rig, Trade, open_rig
from bench.rows import Row
from domain.exits import ExitRules, Position
from domain.ids import exit_workflow_id

__all__ = ["idle"]

_MOST_SECONDS = 5e-6
_WRITES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables
 WHERE relname <> ALL('{leases,stream_positions,balances,fee_rates}')
"""


async def idle(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Events, rows written, CPU."""
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
    one, twenty = _cpu(1), _cpu(20)
    return [
        Row("idle trades: history events", "events", events, aim="0", ok=events == 0, note=note),
        Row("idle trades: rows written", "rows", writes, aim="0", ok=writes == 0, note=note),
        Row(
            what="idle trade: CPU per tick",
            unit="µs",
            p50=one * 1e6,
            aim=f"< {_MOST_SECONDS * 1e6:g}",
            ok=one < _MOST_SECONDS,
            note=f"alone on its symbol; {twenty * 1e6:.2f} µs each for 20 trades on one symbol",
        ),
    ]


async def _settled(rig: Rig) -> None:
    """Until what follows the openings (routing marks, balances) has been written."""
    last = -1
    async with asyncio.timeout(30):
        while (now := await _writes(rig)) != last:
            last = now
            await asyncio.sleep(2.5)


async def _writes(rig: Rig) -> int:
    return int(await rig.database.fetchval(_WRITES))


async def _events(rig: Rig, trades: list[Trade]) -> int:
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


def _cpu(plans: int, ticks: int = 20_000) -> float:
    """CPU seconds of a tick and trade, in the watcher's own bookkeeping."""
    now = datetime.now(UTC)
    watch = Watch(epoch=1, signal_max_age=timedelta(minutes=10), on_due=lambda _: None, monotonic=time.monotonic)
    for number in range(plans):
        watch.put(PlanRow(f"{number:032x}", PROBE, False, None, Position(CALM, ExitRules()), number + 1, now))
    bids = [CALM + Decimal(number % 90) / 100 for number in range(ticks)]
    began = time.process_time()
    for bid in bids:
        watch.tick(PROBE, bid, now)
    took = time.process_time() - began
    assert not watch.pending
    return took / ticks / plans
