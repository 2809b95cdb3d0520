"""Paper trades on recorded prices, and the report on them: `python -m bench.paper_trades FILE [--trades 500]`.

The whole system runs on a throw-away stack: each run of a plain indicator strategy (RSI, MACD, Bollinger width, volume,
rate of change by TA-Lib, on the exchange's own candles) decides entries through Temporal; exits are the price
watcher's. It is not a profitable strategy: it decides on real prices, so that there are trades to analyse. Trades that
are open at the same time have the same prices, so intervals, which assume independent trades, are too narrow.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import talib
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from activities.interfaces.starting import start_order
from activities.ledger.leaderboard import leaderboard
from activities.ledger.validator import check_ledger
from domain.exits import ExitRules
from domain.ids import intent_key
from domain.market import Candle
from domain.messages import IndicatorPart, Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side, TimeInForce
from exchange.paper.control_client import PaperControl
from research.html import ReportHead, html_report
from research.linkage import read_linkage
from research.trades import read_trades
from workers.settings import load_settings
from workers.settings.risk import WITHOUT_LIMITS
from workers.settings.values import exchange_of
from workers.stack.local_stack import LocalStack, LocalStackConfig

__all__ = ["main"]

_SYMBOL = "BTC-USD"
_ACCOUNT = "main"
_CANDLES = 120
_AT_A_TIME = 4
_RULES = {
    "rsi_oversold": ("0.012", "0.008", "0.016"),
    "macd_cross": ("0.010", "0.006", "0.014"),
    "bb_squeeze": ("0.015", "0.007", "0.016"),
    "volume_spike": ("0.008", "0.006", "0.014"),
    "roc_momo": ("0.020", "0.010", "0.020"),
    "multi_signal": ("0.015", "0.010", "0.020"),
}
"""Take profit, soft stop and hard stop of each trigger, fractions."""
_WEIGHTS = {"rsi": "1.5", "macd": "1.0", "bollinger": "1.2", "volume": "0.8", "roc": "1.0"}
_TRIGGER_OF = {
    "rsi": "rsi_oversold", "macd": "macd_cross", "bollinger": "bb_squeeze", "volume": "volume_spike", "roc": "roc_momo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordedSignal:
    """A run's indicators of the market."""

    trigger: str
    score: Decimal
    parts: dict[str, IndicatorPart]

    @property
    def fired(self) -> tuple[str, ...]:
        """The indicators that fired, by name."""
        return tuple(sorted(name for name, part in self.parts.items() if part.fired))


def signal_of(candles: Sequence[Candle]) -> RecordedSignal | None:
    """The entry by the fired indicators, if any; three or more are a multi_signal."""
    close = np.array([float(item.close) for item in candles])
    volume = np.array([float(item.volume) for item in candles])
    if len(close) < 60:
        return None
    rsi = talib.RSI(close, 14)
    macd, line, _ = talib.MACD(close)
    upper, middle, lower = talib.BBANDS(close, 20)
    width = (upper - lower) / middle
    roc = talib.ROC(close, 10)
    usual = volume[-31:-1].mean()
    values: dict[str, tuple[float, bool]] = {
        "rsi": (rsi[-1], rsi[-1] < 30),
        "macd": (macd[-1] - line[-1], macd[-1] > line[-1] and macd[-2] <= line[-2]),
        "bollinger": (width[-1], width[-1] <= np.nanmin(width[-40:]) * 1.05 and close[-1] > middle[-1]),
        "volume": (
            volume[-1] / usual if usual else 0.0,
            usual > 0 and volume[-1] > 2 * usual and close[-1] > close[-2],
        ),
        "roc": (roc[-1], roc[-1] > 0.4),
    }
    parts = {
        name: IndicatorPart(
            value=Decimal(f"{value:.6f}"),
            fired=bool(fired),
            weight=Decimal(_WEIGHTS[name]),
            contribution=Decimal(_WEIGHTS[name]) if fired else Decimal(0),
        )
        for name, (value, fired) in values.items()
        if np.isfinite(value)
    }
    fired = [name for name, part in parts.items() if part.fired]
    if not fired:
        return None
    trigger = "multi_signal" if len(fired) >= 3 else _TRIGGER_OF[max(fired, key=lambda name: parts[name].weight)]
    return RecordedSignal(trigger, sum((part.contribution for part in parts.values()), Decimal(0)), parts)


def intent_of(found: RecordedSignal, run: str, number: int, speed: Decimal) -> OrderIntent:
    """The entry of a strategy: at market, with its trigger's exit rules."""
    take_profit, soft, hard = _RULES[found.trigger]
    request = f"{run}-{number}"
    return OrderIntent(
        order_key=intent_key("paper", request, _ACCOUNT, _SYMBOL, Side.BUY),
        account=_ACCOUNT,
        symbol=_SYMBOL,
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.MARKET,
        quote_size=Decimal(500 + 100 * (number % 6)),
        time_in_force=TimeInForce.IOC,
        source="sighook",
        entry_point="strategy",
        request_id=request,
        linkage=Linkage(
            trigger=found.trigger,
            snapshot_id=run,
            buy_score=found.score,
            sell_score=Decimal(0),
            indicator_breakdown=found.parts,
            indicators_fired=found.fired,
        ),
        rules=ExitRules(
            take_profit=Decimal(take_profit) if number % 2 else None,
            soft_stop=Decimal(soft),
            hard_stop=Decimal(hard),
            trailing_arm=None if number % 2 else Decimal(take_profit),
            trailing_min_distance=Decimal("0.002"),
            trailing_max_distance=Decimal("0.004"),
            signal_exit=False,
            reprice_seconds=speed,
            max_reprices=3,
        ),
    )


async def run(prices: Path, trades: int, speed: Decimal, open_at_once: int, seconds: float, out: Path) -> int:
    """Trade until enough have closed, check the ledger, write the report. Returns 0 if all succeeded."""
    config = LocalStackConfig(
        durable=True,
        ui=False,
        paper_arguments=[
            *("--prices", str(prices), "--product", _SYMBOL, "--speed", str(speed), "--no-rate-limits"),
            *("--balance", "USD=10000000", "--maker-fee", "0.0005", "--taker-fee", "0.001"),
        ],
        env={
            **WITHOUT_LIMITS,
            "BOTTRADER_SPEED": str(speed),
            "BOTTRADER_SYMBOLS__ALLOW": _SYMBOL,
            "BOTTRADER_SYMBOLS__MAX_OPEN_BUYS": "1000",
            "BOTTRADER_LOGGING__LEVEL": "WARNING",
        },
    )
    async with LocalStack(config) as stack, PaperControl(stack.paper) as control:
        client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
        exchange = exchange_of(load_settings(None, stack.environment))
        pool = await asyncpg.create_pool(stack.dsn, min_size=1, max_size=3)
        try:
            await _trade(client, exchange, pool, control, trades, speed, open_at_once, seconds)
            await control.pause()
            return await _report(pool, exchange, prices, speed, out)
        finally:
            await exchange.close()
            await pool.close()


async def _trade(
    client: Client,
    exchange: Any,
    pool: Any,
    control: PaperControl,
    trades: int,
    speed: Decimal,
    open_at_once: int,
    seconds: float,
) -> None:
    began, number, told = time.monotonic(), 0, 0.0
    while time.monotonic() - began < seconds:
        state = await control.state()
        if state["exhausted"]:
            return
        closed, still = await pool.fetchrow(
            "SELECT count(*) FILTER (WHERE state = 'CLOSED'), count(*) FILTER (WHERE state <> 'CLOSED') FROM trades"
        )
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"  {told - began:.0f} s: {closed} closed, {still} open", file=sys.stderr, flush=True)
        if closed >= trades:
            return
        now = datetime.fromtimestamp(state["market_time"], UTC)
        candles = await exchange.candles(_SYMBOL, 300, now - timedelta(seconds=300 * _CANDLES), now)
        found = signal_of(sorted(candles, key=lambda item: item.start))
        if found is not None:
            run_id = str(uuid.uuid4())
            for _ in range(min(_AT_A_TIME, open_at_once - still)):
                number += 1
                try:
                    await start_order(client, intent_of(found, run_id, number, speed))
                except RPCError as problem:
                    print(f"  not started: {problem}", file=sys.stderr)
        await asyncio.sleep(0.5)


async def _report(pool: Any, exchange: Any, prices: Path, speed: Decimal, out: Path) -> int:
    async with pool.acquire() as connection:
        table = await read_trades(connection, _ACCOUNT, indicators=True)
        linkage = await read_linkage(connection, _ACCOUNT)
    standings = await leaderboard(pool, _ACCOUNT)
    ledger = await check_ledger(pool, exchange, _ACCOUNT)
    note = f"Paper trades on {prices.name} at {speed}x speed: times are wall times."
    head = ReportHead(_ACCOUNT, datetime.now(UTC), "USD", note)
    await asyncio.to_thread(out.write_text, html_report(head, table, linkage, standings), encoding="utf-8")
    print(f"{len(table)} closed trades, linkage {linkage.percent} %, ledger ok: {ledger.ok} {ledger.counts}")
    print(f"{ledger.compared}; report in {out}")
    return int(not ledger.ok or linkage.percent != 100)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.paper_trades", description=__doc__.splitlines()[0])
    parser.add_argument("prices", type=Path, help="candles as CSV (.gz)")
    parser.add_argument("--trades", type=int, default=500, help="closed trades to stop at")
    parser.add_argument("--speed", type=Decimal, default=Decimal(1800), help="market seconds a wall second")
    parser.add_argument("--open", type=int, default=40, help="trades open at once at most")
    parser.add_argument("--seconds", type=float, default=900.0, help="wall seconds at most")
    parser.add_argument("--out", type=Path, default=Path("paper-trades.html"), help="the report")
    asked = parser.parse_args()
    return asyncio.run(run(asked.prices.absolute(), asked.trades, asked.speed, asked.open, asked.seconds, asked.out))


if __name__ == "__main__":
    sys.exit(main())
