"""A transactions report of Coinbase with 1,000,000 rows: read, compared with the ledger, written, matched; and again.

The real commands in their own processes with their own PostgreSQL: start and imports of the program included. The
report has the format since 2024, newest row first, and contains each kind of row that becomes fills.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from bench.rows import Row
from schema import migrate
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

__all__ = ["importing", "report_lines"]

_ROOT = Path(__file__).parents[1]
_NEWEST = datetime(2025, 6, 1, tzinfo=UTC)
_PRICES = {
    "BTC": 60_000, "ETH": 3_000, "SOL": 150, "ADA": 1, "XRP": 1, "LTC": 80, "LINK": 15, "DOT": 7, "AVAX": 35, "ATOM": 9
}  # fmt: skip
_HEAD = (
    "\nTransactions\nUser,Somebody,1b2c\nID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,"
    "Price at Transaction,Subtotal,Total (inclusive of fees and/or spread),Fees and/or Spread,Notes,Sender Address,"
    "Recipient Address\n"
)


async def importing(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Rows for an import, the same import again, a recompute and a check after it."""
    count = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="bt-bench-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "transactions.csv"
        say(f"a transactions report of {count:,} rows")
        with path.open("w") as file:
            file.writelines(report_lines(count))
        server = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        await server.start()
        try:
            await server.create_database("import")
            dsn = server.dsn("import")
            await migrate.upgrade(dsn)
            rows = []
            for what, command in (
                (f"import of a report of {count:,} rows", ["import", str(path), "--json"]),
                ("the same again: nothing is new", ["import", str(path), "--json"]),
                ("ledger repair after it", ["repair", "--json"]),
                ("ledger verify after it", ["verify", "--without-exchange", "--json"]),
            ):
                say(what)
                rows.append(await asyncio.to_thread(_ran, say, what, command, dsn, Path(folder)))
            return rows
        finally:
            await server.stop()


def _ran(say: Callable[[str], None], what: str, command: Sequence[str], dsn: str, home: Path) -> Row:
    """A `bottrader ledger` command: its time by the clock, its own processor time and its peak of memory."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(_ROOT), "DATABASE_URL": dsn,
           "BOTTRADER_DATA": str(home / "data")}  # fmt: skip
    said: list[float] = []
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "ledger", *command],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr or ():
        said.append(time.perf_counter() - began)
        say(f"{said[-1]:6.1f} s  {line.rstrip()}")
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (what, process.returncode)
    silent = max(after - before for before, after in pairwise([0.0, *said, took]))
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    note = f"{cpu:.0f} s of the program's own processor time; {peak:.0f} MiB at most; {silent:.0f} s silent at most"
    return Row(what=what, unit="s", p50=took, note=note)


def report_lines(count: int, seed: int = 5) -> Iterator[str]:
    """The heading and `count` rows, newest first: buys and sells, some paid with a coin or in euros, conversions, and a
    few rows that are not trades.
    """
    yield _HEAD
    dice, assets = random.Random(seed), list(_PRICES)
    for number in range(count):
        at = _NEWEST - timedelta(seconds=30 * number)
        asset = dice.choice(assets)
        price = _PRICES[asset] * Decimal(dice.randint(9_000, 11_000)) / 10_000
        buy = dice.random() < 0.52
        size = (dice.randint(1_000, 100_000) / price).quantize(Decimal("1e-8"))
        yield _row(f"r{count - number}", at, asset, price, size, dice.random(), buy=buy)


def _row(name: str, at: datetime, asset: str, price: Decimal, size: Decimal, kind: float, *, buy: bool) -> str:
    worth = (size * price).quantize(Decimal("1.00"))
    fee = (worth / 200).quantize(Decimal("1.00"))
    total = worth + fee if buy else worth - fee
    word, did, sign = ("Buy", "Bought", "") if buy else ("Sell", "Sold", "-")
    if kind < 0.03:
        word, notes = "Send", f"Sent {size} {asset}"
    elif kind < 0.05 and asset not in ("BTC", "ETH"):
        coins = size * price / 60_000
        word, notes = "Convert", f"Converted {size} {asset} to {coins:.8f} BTC"
    elif kind < 0.15 and asset != "BTC":
        rate = price / 60_000
        word = f"Advanced Trade {word}"
        notes = f"{did} {size} {asset} for {size * rate:.12f} BTC on {asset}-BTC at {rate:.12f} BTC/{asset}"
    elif kind < 0.25:
        word = f"Advanced Trade {word}"
        notes = f"{did} {size} {asset} for {total:f} EUR on {asset}-EUR at {price} EUR/{asset}"
    else:
        word = f"Advanced Trade {word}" if kind < 0.6 else word
        notes = f"{did} {size} {asset} for {total} USD on {asset}-USD at {price} USD/{asset}"
    return (
        f'{name},{at:%Y-%m-%d %H:%M:%S} UTC,{word},{asset},{sign}{size},USD,"${price:,.4f}","{sign}${worth:,}",'
        f'"{sign}${total:,}",${fee},{notes},,\n'
    )
