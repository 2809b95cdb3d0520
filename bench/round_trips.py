"""Whole trades a second: entry, protection, hard stop, exit, closed, with 40 in flight and one worker process.

Each lane trades its own symbol, like a desk with 40 positions. The floor's rate is measured before and after.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from bench.floor import floor_process, floor_rate
from bench.rig import CALM, CRASH, SYMBOLS, open_rig
from bench.rows import Row, percentile

__all__ = ["round_trips"]

_IN_FLIGHT = 40
_LEAST = 0.2


async def round_trips(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """One row: the rate, its ratio to the floor's rate, and the duration of a round trip."""
    seconds, floor_seconds = (6.0, 2.0) if quick else (20.0, 4.0)
    async with (
        open_rig() as rig,
        rig.worker_process(),
        floor_process(rig.client, rig.stack.temporal_address, rig.stack.data / "logs" / "floor.log"),
    ):
        say(f"round trips with {_IN_FLIGHT} in flight for {seconds:.0f} s")
        floors = [await floor_rate(rig.client, floor_seconds, _IN_FLIGHT)]
        took: list[float] = []
        began = time.perf_counter()

        async def lane(symbol: str) -> None:
            while time.perf_counter() - began < seconds:
                started = time.perf_counter()
                trade = await rig.open(symbol)
                await rig.price(symbol, CRASH)
                await rig.result(trade)
                await rig.price(symbol, CALM)
                took.append(time.perf_counter() - started)

        await asyncio.gather(*(lane(symbol) for symbol in SYMBOLS[:_IN_FLIGHT]))
        rate = len(took) / (time.perf_counter() - began)
        floors.append(await floor_rate(rig.client, floor_seconds, _IN_FLIGHT))
    floor = statistics.mean(floors)
    return [
        Row(
            what=f"round-trip trades a second, {_IN_FLIGHT} in flight, one worker",
            unit="1/s",
            p50=rate,
            floor=floor,
            ratio=rate / floor,
            aim=f">= {_LEAST:g} x",
            ok=rate >= _LEAST * floor,
            note=f"{len(took)} trades, one took {statistics.median(took):.2f} s, p99 {percentile(took, 99):.2f} s",
        )
    ]
