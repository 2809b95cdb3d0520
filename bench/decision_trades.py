"""Trades decided by the system itself, on recorded prices: `python -m bench.decision_trades FILE`.

The whole system runs on a throw-away stack at high speed: market data, scheduled strategy runs with momentum, market
making, orders, exits. Windows of the file's five-minute candles, a different one for each product, are played as ticks
with their volumes; the default windows have every trigger within some hundred candles. It prints the decisions by
trigger with their outcomes, exits and linkage, and fails if a link is missing or the ledger's check fails.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from activities.ledger.validator import check_ledger
from exchange.paper.control_client import PaperControl
from research.linkage import read_linkage
from workers.settings import load_settings
from workers.settings.risk import WITHOUT_LIMITS
from workers.settings.values import exchange_of
from workers.stack.local_stack import LocalStack, LocalStackConfig

__all__ = ["main"]

_ACCOUNT = "main"
_TICK_VALUE = 5_000.0
"""The value of an average tick, in USD."""
_TRIGGERS = ("rsi_oversold", "macd_cross", "bb_squeeze", "volume_spike", "multi_signal", "roc_momo", "passive_mm")
_CANDLE = timedelta(minutes=5)

_SETTINGS = """
[symbols]
allow = ["BTC-USD", "ETH-USD", "SOL-USD"]
max_open_buys = 100

[strategy]
enabled = true

[roc]
buy_pct = "0.6"
sell_pct = "0.8"

[quoting]
enabled = {quoting}
min_quote_volume = "0"
max_inventory_quote = "2000"

[exits]
soft_stop_pct = "0.9"
hard_stop_pct = "1.5"
trailing_arm_pct = "0.8"
trailing_min_distance_pct = "0.3"
trailing_max_distance_pct = "0.6"
take_profit_pct = "0.7"
take_profit_enabled = true

[triggers.roc_momo.exits]
take_profit_pct = "1.0"
""" + "".join(f'\n[triggers.{name}]\norder_type = "LIMIT"\n' for name in _TRIGGERS if name != "passive_mm")


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of the file that one product plays: its first row, and its starting price."""

    product: str
    first: int
    price: float


_WINDOWS = (_Window("BTC-USD", 8050, 23_000.0), _Window("ETH-USD", 5700, 1_600.0), _Window("SOL-USD", 6980, 25.0))


def ticks_of(prices: Path, windows: Sequence[_Window], candles: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of a tick file: time, symbol, price, size; four ticks a candle, as long as the shortest window."""
    packed = prices.read_bytes()
    text = (gzip.decompress(packed) if prices.suffix == ".gz" else packed).decode()
    rows = list(csv.DictReader(text.splitlines()))
    bars = [rows[window.first : window.first + candles] for window in windows]
    if any(not part for part in bars):
        raise SystemExit(f"{prices} has only {len(rows)} candles")
    start = datetime.fromisoformat(bars[0][0]["time"])
    for number in range(min(len(part) for part in bars)):
        for quarter, name in enumerate(("open", "low", "high", "close")):
            at = start + _CANDLE * number + _CANDLE / 4 * quarter
            for window, part in zip(windows, bars, strict=True):
                usual = sum(float(row["volume"]) for row in part) / len(part)
                price = float(part[number][name]) / float(part[0]["open"]) * window.price
                size = float(part[number]["volume"]) / usual * _TICK_VALUE / price
                yield at.isoformat(), window.product, f"{price:.2f}", f"{size:.8f}"


async def run(prices: Path, candles: int, speed: int, *, quoting: bool) -> int:
    """Play the windows and print the results. Returns 0 if every order is linked and the ledger's check passes."""
    with tempfile.TemporaryDirectory(prefix="bt-decisions-") as folder:
        ticks, config = Path(folder) / "ticks.csv", Path(folder) / "bottrader.toml"
        with ticks.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["time", "symbol", "price", "size"])
            writer.writerows(ticks_of(prices, _WINDOWS, candles))
        config.write_text(_SETTINGS.format(quoting=str(quoting).lower()))
        return await _play(ticks, config, candles, speed)


async def _play(ticks: Path, config: Path, candles: int, speed: int) -> int:
    products = [part for window in _WINDOWS for part in ("--product", window.product)]
    stack_config = LocalStackConfig(
        durable=True,
        ui=False,
        config_file=config,
        paper_arguments=[
            *("--prices", str(ticks), *products, "--speed", str(speed), "--no-rate-limits", "--spread-bps", "25"),
            *("--balance", "USD=1000000", "--maker-fee", "0.0005", "--taker-fee", "0.001"),
        ],
        env={**WITHOUT_LIMITS, "BOTTRADER_SPEED": str(speed), "BOTTRADER_LOGGING__LEVEL": "WARNING"},
    )
    async with LocalStack(stack_config) as stack, PaperControl(stack.paper) as control:
        exchange = exchange_of(load_settings(None, stack.environment))
        pool = await asyncpg.create_pool(stack.dsn, min_size=1, max_size=3)
        try:
            await _watch(pool, control, candles * _CANDLE.total_seconds() / speed)
            await control.pause()
            return await _report(pool, exchange)
        finally:
            await exchange.close()
            await pool.close()


async def _watch(pool: Any, control: PaperControl, seconds: float) -> None:
    began = time.monotonic()
    while time.monotonic() - began < seconds and not (await control.state())["exhausted"]:
        runs, entries, closed = await pool.fetchrow(
            """SELECT (SELECT count(*) FROM strategy_runs), (SELECT count(*) FROM orders WHERE role = 'ENTRY'),
                      (SELECT count(*) FROM trades WHERE state = 'CLOSED')"""
        )
        took = time.monotonic() - began
        print(
            f"  {took:.0f} of {seconds:.0f} s: {runs} runs, {entries} entries, {closed} trades closed", file=sys.stderr
        )
        await asyncio.sleep(min(15.0, max(seconds - took, 0.1)))


_BY_TRIGGER = """
SELECT o.trigger, count(*) AS orders, count(*) FILTER (WHERE o.filled_size > 0) AS filled,
       count(l.order_key) FILTER (WHERE o.filled_size > 0 AND l.snapshot_id IS NOT NULL) AS linked,
       count(*) FILTER (WHERE t.state = 'CLOSED') AS closed, count(*) FILTER (WHERE t.state <> 'CLOSED') AS open,
       round(coalesce(sum(t.pnl) FILTER (WHERE t.state = 'CLOSED'), 0), 2) AS pnl
  FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key LEFT JOIN trade_strategy_link l USING (order_key)
 WHERE o.role = 'ENTRY' GROUP BY 1 ORDER BY 1
"""
_QUERIES = {
    "runs": "SELECT count(*) AS runs, min(symbols) AS symbols, sum(buys) AS buys, sum(sells) AS sells, "
    "round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - at))::numeric, 3) AS p50_s "
    "FROM strategy_runs WHERE finished_at IS NOT NULL",
    "decisions": "SELECT side, decision, count(*) FROM trade_signals GROUP BY 1, 2 ORDER BY 1, 3 DESC",
    "matrix, by trigger": "SELECT action, trigger, count(*) FROM market_snapshots WHERE trigger IS NOT NULL "
    "GROUP BY 1, 2 ORDER BY 1, 3 DESC",
    "entries, by trigger": _BY_TRIGGER,
    "refused entries": "SELECT gate, count(*) FROM orders WHERE role = 'ENTRY' AND gate IS NOT NULL GROUP BY 1",
    "exits": "SELECT o.trigger AS entered_by, e.reason, count(*) FROM trade_exits e "
    "JOIN orders o ON o.order_key = e.entry_key GROUP BY 1, 2 ORDER BY 1, 2",
    "incidents": "SELECT kind, count(*) FROM incidents GROUP BY 1 ORDER BY 2 DESC",
}


async def _report(pool: Any, exchange: Any) -> int:
    console = Console(width=120)
    for title, query in _QUERIES.items():
        _print(console, title, await pool.fetch(query))
    async with pool.acquire() as connection:
        linkage = await read_linkage(connection, _ACCOUNT)
    ledger = await check_ledger(pool, exchange, _ACCOUNT)
    seen = {row["trigger"] for row in await pool.fetch("SELECT DISTINCT trigger FROM orders WHERE filled_size > 0")}
    missing = [name for name in _TRIGGERS if name not in seen]
    console.print(f"linkage {linkage.percent} %, ledger ok: {ledger.ok} {ledger.counts}; {ledger.compared}")
    console.print(f"triggers without a filled entry: {', '.join(missing) or 'none'}")
    return int(not ledger.ok or linkage.percent != 100)


def _print(console: Console, title: str, rows: Sequence[Any]) -> None:
    if not rows:
        console.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0].keys():  # noqa: SIM118 - a record iterates over its values
        table.add_column(name)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.decision_trades", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("prices", type=Path, help="five-minute candles as CSV (.gz)")
    parser.add_argument("--candles", type=int, default=350, help="candles of each window")
    parser.add_argument("--speed", type=int, default=300, help="market seconds a wall second")
    parser.add_argument("--no-quotes", action="store_true", help="without market making")
    asked = parser.parse_args()
    return asyncio.run(run(asked.prices.absolute(), asked.candles, asked.speed, quoting=not asked.no_quotes))


if __name__ == "__main__":
    sys.exit(main())
