"""What metrics cost a worker: its CPU for the same trades with and without them, and the share of our instruments.

Workers in processes of their own take turns, one with both endpoints of metrics, which are scraped, and one without. A
hundredth is less than two such workers differ anyway, so the share is also measured by itself, in one process: the time
in every call of an instrument, and a scrape and a read of the gauges every 15 s, over the whole process's time.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import psutil
from prometheus_client import generate_latest

from bench.rig import CALM, CRASH, SYMBOLS, Rig, open_rig
from bench.rows import Row
from workers.stack.processes import free_port
from workers.telemetry import Telemetry

__all__ = ["telemetry"]

_IN_FLIGHT = 8
_EVERY_S = 15.0
_MOST = 0.01
_INSTRUMENTS = (
    "sent", "ended", "failed", "recorded", "matched", "written", "attempt_ended", "fill_failed", "stops_calculated",
    "unprotected",
)  # fmt: skip


async def telemetry(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Two rows: the ratio of CPU a trade, and the share of the instruments, which has the aim."""
    rounds, trades = (2, 40) if quick else (6, 120)
    ports = {"BOTTRADER_TELEMETRY__PORT": str(free_port()), "BOTTRADER_TELEMETRY__SDK_PORT": str(free_port())}
    with_metrics: list[float] = []
    without: list[float] = []
    async with open_rig() as rig:
        for number in range(rounds):
            say(f"{trades} trades by a worker with metrics and by one without, round {number + 1} of {rounds}")
            turns = [(with_metrics, ports), (without, {})]
            for costs, env in turns if number % 2 else reversed(turns):
                costs.append(await _cost_by_process(rig, env, trades))
        say(f"the instruments' own time in {trades} trades")
        share, most_of_it = await _share(rig, ports, trades)
    ratios = [ours / floor for ours, floor in zip(with_metrics, without, strict=True)]
    floor, ours = statistics.median(without) * 1e3, statistics.median(with_metrics) * 1e3
    spread = f"{min(ratios):.3f} to {max(ratios):.3f} in {rounds} rounds of {trades} trades"
    return [
        Row(
            "a worker's CPU a trade with metrics",
            "ms",
            ours,
            floor=floor,
            ratio=statistics.median(ratios),
            note=spread,
        ),
        Row(
            "share of metrics in a worker's CPU",
            "%",
            share * 100,
            aim=f"<= {_MOST:.0%}",
            ok=share <= _MOST,
            note=most_of_it,
        ),
    ]


async def _trade(rig: Rig, trades: int) -> None:
    """Round trips, a lane a symbol."""

    async def lane(symbol: str, count: int) -> None:
        for _ in range(count):
            trade = await rig.open(symbol)
            await rig.price(symbol, CRASH)
            await rig.result(trade)
            await rig.price(symbol, CALM)

    await asyncio.gather(*(lane(symbol, trades // _IN_FLIGHT) for symbol in SYMBOLS[:_IN_FLIGHT]))


async def _cost_by_process(rig: Rig, env: dict[str, str], trades: int) -> float:
    """CPU seconds of a worker's process for each trade."""
    async with rig.worker_process(env) as pid:
        process = psutil.Process(pid)
        scraping = asyncio.create_task(_scrape(list(env.values())))
        before = _cpu(process)
        await _trade(rig, trades)
        used = _cpu(process) - before
        scraping.cancel()
        with suppress(asyncio.CancelledError):
            await scraping
    return used / trades


def _cpu(process: psutil.Process) -> float:
    """CPU seconds, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def _scrape(ports: list[str]) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        while True:
            for port in ports:
                (await http.get(f"http://127.0.0.1:{port}/metrics")).raise_for_status()
            await asyncio.sleep(_EVERY_S)


async def _share(rig: Rig, env: dict[str, str], trades: int) -> tuple[float, str]:
    """The share of the instruments in this process's CPU, with the rest of the measurement in it, and its parts."""
    with _timed() as spent:
        async with rig.worker_here(env) as parts:
            told = next(item for item in parts.interceptors if isinstance(item, Telemetry))
            spent.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            await _trade(rig, trades)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            calls = sum(spent)
            began = time.process_time()
            await told.look(parts.pool, parts.settings)
            look = time.process_time() - began
            began = time.thread_time()
            generate_latest(told.registry)
            scrape = time.thread_time() - began
    periodic = (look + scrape) * wall / _EVERY_S
    periods = f"{look * 1e3:.1f} ms a read, {scrape * 1e3:.1f} ms a scrape"
    parts_of_it = f"{calls / trades * 1e6:.0f} µs of calls a trade, {periods}"
    return (calls + periodic) / cpu, parts_of_it


@contextmanager
def _timed() -> Iterator[list[float]]:
    """While it runs, every call of an instrument adds its CPU seconds; one within another counts twice."""
    spent: list[float] = []
    kept = {name: getattr(Telemetry, name) for name in _INSTRUMENTS}

    def timed(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def call(*args: object, **named: object) -> None:
            began = time.thread_time()
            method(*args, **named)
            spent.append(time.thread_time() - began)

        return call

    for name, method in kept.items():
        setattr(Telemetry, name, timed(method))
    try:
        yield spent
    finally:
        for name, method in kept.items():
            setattr(Telemetry, name, method)
