"""A strategy run over 500 symbols × 300 candles: computing compared with a loop of TA-Lib calls, and the whole run.

The loop calls TA-Lib for the same indicators symbol by symbol and discards the results; ours also scores and decides,
and keeps every contribution. The whole run reads the candles from PostgreSQL, computes, and stores the matrix.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import talib

from activities.database import Pool, create_pool
from activities.interfaces.strategy import StrategyRun
from activities.market.universe import Universe
from activities.starting import Starter
from activities.strategy.runs import StrategyOptions, StrategyRuns
from bench.rows import Row, percentile, reaction
from domain.candles import CANDLE, CANDLE_SECONDS
from domain.indicators import Block, Floats
from domain.momentum import RocMomentum
from domain.strategies import Weighted, decide_all, look_at
from schema import migrate
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

__all__ = ["strategy"]

_SYMBOLS = 500
_ACCOUNT = "bench"
_CANDLES = 300
_MOST_SECONDS = 2.0


async def strategy(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Computing compared with the loop, then the whole run."""
    times = 10 if quick else 50
    block = _market(_SYMBOLS, _CANDLES)
    say(f"indicators and scores of {_SYMBOLS} symbols, {times} times")
    ours, loops = _computing(block, times)
    rows = [reaction(f"indicators and scores, {_SYMBOLS} symbols x {_CANDLES}", ours, loops, 1.0)]
    say(f"whole runs on PostgreSQL, {max(5, times // 5)} times")
    whole = await _whole(block, max(5, times // 5))
    slowest = percentile(whole, 99)
    rows.append(
        Row(
            what="strategy run: read candles, decide, store the matrix",
            unit="s",
            p50=statistics.median(whole),
            p99=slowest,
            aim=f"<= {_MOST_SECONDS:g} s",
            ok=slowest <= _MOST_SECONDS,
            note=f"{len(whole)} runs of {_SYMBOLS} symbols",
        )
    )
    return rows


def _market(symbols: int, candles: int) -> Block:
    """Random walks with a coin's volatility in five minutes."""
    dice = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(dice.normal(0, 0.003, (symbols, candles)), axis=1))
    opened = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    wick = np.abs(dice.normal(0, 0.001, (symbols, candles)))
    high, low = np.maximum(opened, close) * (1 + wick), np.minimum(opened, close) * (1 - wick)
    names = tuple(f"S{number:03}-USD" for number in range(symbols))
    return Block(names, opened, high, low, close, dice.lognormal(3, 0.8, (symbols, candles)))


def _computing(block: Block, times: int) -> tuple[list[float], list[float]]:
    strategies = (Weighted(), RocMomentum())
    ours, loops = [], []
    # Objects from imports are excluded from garbage collection during the measurement: 65 ms each time.
    gc.collect()
    gc.freeze()
    for number in range(times + 2):
        began = time.perf_counter()
        decisions = decide_all(look_at(block), strategies)
        between = time.perf_counter()
        _loop(block)
        ended = time.perf_counter()
        assert len(decisions) == len(block.symbols)
        if number >= 2:  # the first ones compute the weights and warm the caches
            ours.append(between - began)
            loops.append(ended - between)
    return ours, loops


def _loop(block: Block) -> None:
    """The same indicators, with one call each for every symbol."""
    for row in range(len(block.symbols)):
        close, high, low, volume = block.close[row], block.high[row], block.low[row], block.volume[row]
        talib.RSI(close, 14)
        talib.MACD(close, 12, 26, 9)
        upper, middle, lower = talib.BBANDS(close, 20)
        talib.MIN((upper - lower) / middle, 120)
        talib.SMA(volume, 20)
        talib.ATR(high, low, close, 14)
        talib.ROC(close, 12)
        talib.SMA(close, 50)
        talib.EMA(close, 50)


async def _whole(block: Block, times: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="bt-bench-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        await server.start()
        try:
            await server.create_database("strategy")
            await migrate.upgrade(server.dsn("strategy"))
            pool = await create_pool(server.dsn("strategy"))
            try:
                await _store(pool, block)
                return [await _one(pool, block) for _ in range(times)]
            finally:
                await pool.close()
        finally:
            await server.stop()


async def _store(pool: Pool, block: Block) -> None:
    newest = datetime.fromtimestamp(int(time.time()) // CANDLE_SECONDS * CANDLE_SECONDS, UTC)
    starts = [newest - CANDLE * (block.candles - number) for number in range(block.candles)]
    columns: list[Floats] = [block.open, block.high, block.low, block.close, block.volume]
    records: list[tuple[Any, ...]] = [
        (_ACCOUNT, symbol, CANDLE_SECONDS, start, *(round(float(column[row, number]), 8) for column in columns))
        for row, symbol in enumerate(block.symbols)
        for number, start in enumerate(starts)
    ]
    # One more for the open candle.
    records += [(_ACCOUNT, symbol, CANDLE_SECONDS, newest, 1, 1, 1, 1, 0) for symbol in block.symbols]
    columns_written = ("account", "symbol", "seconds", "start", "open", "high", "low", "close", "volume")
    await pool.copy_records_to_table("candles", records=records, columns=columns_written)
    await pool.execute(
        "INSERT INTO market_prices (account, symbol, price, bid, ask, quote_volume_24h, at) "
        "SELECT $2, s, 100, 99.9, 100.1, 1e6, now() + interval '1 hour' FROM unnest($1::text[]) s",
        list(block.symbols),
        _ACCOUNT,
    )
    await pool.execute("ANALYZE candles")


async def _one(pool: Pool, block: Block) -> float:
    options = StrategyOptions(
        universe=Universe(allow=block.symbols),
        strategies=lambda: (Weighted(), RocMomentum()),
        window=_CANDLES,
        stale_seconds=float(timedelta(days=1).total_seconds()),
        by_the_clock=False,
    )
    # Switched off, it starts no orders: nothing here could start one.
    runs = StrategyRuns(pool, cast("Starter", None), lambda: options)
    request = StrategyRun(account=_ACCOUNT, snapshot_id=str(uuid.uuid4()), nominal_at=datetime.now(UTC))
    began = time.perf_counter()
    report = await runs.run(request)
    took = time.perf_counter() - began
    assert report.symbols == len(block.symbols)
    assert report.buys > 0, report
    return took
