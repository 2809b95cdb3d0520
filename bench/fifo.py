"""FIFO: fills a second from arrays, from a file, and one late fill, beside a plain Decimal deque and rp2.

rp2 (a well-known tax engine) has its own environment in the cache, installed from PyPI the first time.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from bench.rows import Row
from domain.orders import Side
from fifo import Book, Fill
from fifo.amounts import decimal_of
from fifo.columns import FillColumns, match_columns
from workers.stack.folders import cache_dir

__all__ = ["covered_fills", "fifo", "history", "rp2_parts", "rp2_python"]

RP2 = "rp2==1.7.2"
_LEAST, _LEAST_COMMAND = 1_000_000, 100_000
_OPEN_LOTS = 50_000
_START = datetime(2024, 1, 1, tzinfo=UTC)


async def fifo(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """All rows, measured one after the other in this thread, as nothing else runs meanwhile."""
    million = 200_000 if quick else 1_000_000
    say(f"FIFO over {million:,} fills")
    columns = history(million)
    plain = _deque_rate(columns, min(million, 200_000))
    rate = _rate(columns)
    rows = [
        _of_rate(f"FIFO from arrays, {million:,} fills", rate, plain, _LEAST, "floor: a plain Decimal deque"),
        _of_rate(
            f"the same, {_OPEN_LOTS:,} lots open",
            _rate(history(million, open_lots=_OPEN_LOTS)),
            plain,
            _LEAST,
            "floor: a plain Decimal deque",
        ),
        _of_rate(
            "the same, 500 symbols, unordered",
            _rate(history(million, symbols=500, shuffled=True)),
            plain,
            _LEAST,
            "floor: a plain Decimal deque",
        ),
        _beyond_64_bits(million // 2, plain),
    ]
    if not quick:
        say("FIFO over 10,000,000 fills")
        ten = _rate(history(10 * million), repeats=2)
        rows.append(
            Row(
                "FIFO from arrays, 10,000,000 fills",
                "fills/s",
                ten,
                floor=rate,
                ratio=ten / rate,
                aim=">= 0.7 x",
                ok=ten >= 0.7 * rate,
                note="linear; floor: the rate at 1,000,000",
            )
        )
    say("FIFO from a file, with the real command")
    rows += [_command(200_000 if quick else 1_000_000, kind) for kind in ("jsonl", "csv")]
    rows += _late(million)
    say("rp2 on the same fills")
    rows.append(await asyncio.to_thread(_rp2_row, rate))
    return rows


def history(
    count: int,
    *,
    symbols: int = 1,
    open_lots: int = 0,
    shuffled: bool = False,
    wide: bool = False,
    seed: int = 7,
) -> FillColumns:
    """Seeded fills: sizes of 8 places (`wide`: 18, to 1e12), cents, fees; first `open_lots` buys that stay unsold."""
    dice = np.random.default_rng(seed)
    buy = dice.random(count) < 0.5
    size: Any = dice.integers(10**4, 10**9, count)
    if open_lots:
        buy[:open_lots] = True
        size[:open_lots] = 10**9
        # Alternating buys and sells of the same size keep that many lots open to the end.
        turn = np.arange(count - open_lots)
        buy[open_lots:] = turn % 2 == 0
        size[open_lots:] = size[open_lots + (turn - turn % 2)]
    at = np.arange(count) * 10**9
    if shuffled:
        dice.shuffle(at)
    if wide:
        size = dice.integers(1, 10**15, count).astype(object) * 10**15 + dice.integers(0, 10**15, count).astype(object)
    return FillColumns(
        symbol=dice.integers(0, symbols, count),
        time=at,
        seq=np.zeros(count, np.int64),
        buy=buy,
        size=size,
        price=dice.integers(10**5, 10**7, count),
        fee=dice.integers(0, 10**12, count),
        base_fee=np.zeros(count, np.int64),
        size_places=18 if wide else 8,
        price_places=2,
        fee_places=10,
    )


def _rate(columns: FillColumns, repeats: int = 3) -> float:
    """Fills a second of this core's time, the best of some runs."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        match_columns(columns)
        best = min(best, time.process_time() - began)
    return len(columns) / best


def _of_rate(what: str, rate: float, floor: float, least: float, note: str) -> Row:
    return Row(what, "fills/s", rate, floor=floor, ratio=rate / floor, aim=f">= {least:,}", ok=rate >= least, note=note)


def _beyond_64_bits(count: int, floor: float) -> Row:
    """Without an aim: numbers too large for columns of machine integers."""
    rate = _rate(history(count, wide=True))
    note = "Python's integers; floor: a plain Decimal deque, which rounds these"
    return Row("the same, sizes of 18 places to 1e12", "fills/s", rate, floor=floor, ratio=rate / floor, note=note)


def _fills(columns: FillColumns, count: int) -> list[tuple[bool, Decimal, Decimal, Decimal]]:
    return [
        (bool(buy), Decimal(int(size)).scaleb(-8), Decimal(int(price)).scaleb(-2), Decimal(int(fee)).scaleb(-10))
        for buy, size, price, fee in zip(
            columns.buy[:count], columns.size[:count], columns.price[:count], columns.fee[:count], strict=True
        )
    ]


def _deque_rate(columns: FillColumns, count: int) -> float:
    """The obvious implementation: a deque of Decimals, one symbol, only the profit of each sell."""
    fills = _fills(columns, count)
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        lots: deque[list[Decimal]] = deque()
        profits: list[Decimal] = []
        for buy, size, price, fee in fills:
            if buy:
                lots.append([size, (size * price + fee) / size])
                continue
            left, cost = size, Decimal(0)
            while left and lots:
                lot = lots[0]
                part = min(left, lot[0])
                cost += part * lot[1]
                left -= part
                lot[0] -= part
                if not lot[0]:
                    lots.popleft()
            profits.append(size * price - fee - cost)
        best = min(best, time.process_time() - began)
    return count / best


def _late(count: int) -> list[Row]:
    """One late fill among many, near the end and in the middle, compared with computing all."""
    dice = np.random.default_rng(3)
    sides = [Side.BUY if item else Side.SELL for item in dice.random(count) < 0.5]
    sizes = [Decimal(item).scaleb(-8) for item in dice.integers(10**4, 10**9, count).tolist()]
    fills = [
        Fill(number, "BTC-USD", number * 1000, side, size, Decimal(50_000))
        for number, (side, size) in enumerate(zip(sides, sizes, strict=True))
    ]
    book = Book()
    began = time.process_time()
    book.extend(fills)
    whole = time.process_time() - began
    rows = []
    for behind in (1_000, count // 2):
        late = Fill(f"late {behind}", "BTC-USD", (count - behind) * 1000 - 1, Side.BUY, Decimal(1), Decimal(50_000))
        began = time.process_time()
        computed = book.add(late)
        took = time.process_time() - began
        assert behind <= computed <= behind + 2
        most = max(2 * behind / count, 0.01)
        rows.append(
            Row(
                f"one late fill among {count:,}, {behind:,} after it",
                "ms",
                took * 1e3,
                floor=whole * 1e3,
                ratio=took / whole,
                aim=f"<= {most:g} x",
                ok=took <= most * whole,
                note="floor: computing all",
            )
        )
    return rows


def _command(count: int, kind: str) -> Row:
    """The real command in its own process, including start and imports."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fills.{kind}"
        _write(path, history(count, symbols=5), kind)
        command = [sys.executable, "-m", "cli.main", "fifo", "match", str(path)]
        with (Path(folder) / "out.json").open("wb") as out:
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, stdout=out, check=True)
            clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    rate = count / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    note = f"of one core's time; by the clock {count / clock:,.0f}; floor: the aim"
    return _of_rate(f"bottrader fifo match, {count:,} fills of {kind}", rate, _LEAST_COMMAND, _LEAST_COMMAND, note)


def _write(path: Path, columns: FillColumns, kind: str) -> None:
    with path.open("w") as file:
        if kind == "csv":
            file.write("id,time,seq,symbol,side,size,price,fee,fee_currency\n")
        for number, (buy, size, price, fee) in enumerate(_fills(columns, len(columns))):
            fill = {
                "id": f"t{number}",
                "time": (_START + timedelta(seconds=number)).isoformat(),
                "seq": str(number),
                "symbol": f"C{columns.symbol[number]}-USD",
                "side": "buy" if buy else "sell",
                "size": f"{size:f}",
                "price": f"{price:f}",
                "fee": f"{fee:f}",
                "fee_currency": "quote",
            }
            file.write((",".join(fill.values()) if kind == "csv" else json.dumps(fill)) + "\n")


def rp2_python() -> Path:
    """The Python with rp2, installed the first time (which needs a network). Raises CalledProcessError if that
    fails."""
    folder = cache_dir() / "bench" / RP2.replace("==", "-")
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RP2], check=True
        )
        ready.touch()
    return python


def rp2_parts(fills: Sequence[dict[str, str]]) -> tuple[float, list[tuple[int, int, str, str, str]]]:
    """rp2's own seconds, and its parts: positions of sell and lot, size, cost and gain."""
    script = Path(__file__).with_name("rp2_rival.py")
    with tempfile.TemporaryDirectory() as folder:  # rp2 writes a log into the current folder
        done = subprocess.run(
            [rp2_python(), "-I", str(script)],
            cwd=folder,
            input=json.dumps(fills),
            capture_output=True,
            text=True,
            check=True,
        )
    answer = json.loads(done.stdout)
    return answer["seconds"], [tuple(part) for part in answer["parts"]]


def covered_fills(count: int) -> list[dict[str, str]]:
    """Fills of one asset that rp2 can match: no oversell, fees on buys only, a second apart."""
    dice = np.random.default_rng(11)
    held, fills = 0, []
    for number in range(count):
        buy = bool(dice.random() < 0.5) or not held
        size = int(dice.integers(10**4, 10**9)) if buy else int(dice.integers(1, min(held, 10**9) + 1))
        held += size if buy else -size
        fee = int(dice.integers(0, 10**9)) * buy
        fills.append(
            {
                "side": "buy" if buy else "sell",
                "size": str(decimal_of(size * 10**10)),
                "price": str(decimal_of(int(dice.integers(10**5, 10**7)) * 10**16)),
                "fee": str(decimal_of(fee * 10**10)),
                "time": (_START + timedelta(seconds=number)).isoformat(),
            }
        )
    return fills


def _rp2_row(rate: float) -> Row:
    count = 5_000
    try:
        seconds, parts = rp2_parts(covered_fills(count))
    except (subprocess.CalledProcessError, OSError) as error:
        return Row("rp2 1.7.2 on 5,000 fills", "fills/s", 0.0, note=f"it can't be installed or run here: {error}")
    assert parts
    theirs = count / seconds
    return Row(
        "FIFO from arrays, beside rp2 1.7.2",
        "fills/s",
        rate,
        floor=theirs,
        ratio=rate / theirs,
        aim=">= 100 x",
        ok=rate >= 100 * theirs,
        note=f"floor: rp2 on {count:,} covered fills",
    )
