"""Prices from files: candle CSV, tick CSV (both plain or gzip) and recorded streams (JSON Lines).

The whole file is read and checked before anything starts, so that a truncated or damaged file is reported in one
sentence.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from exchange.paper.candles import MEAN_SHARE, MINUTE, Pace, PaperCandle
from exchange.paper.config import PriceFile
from exchange.paper.errors import PaperError
from exchange.paper.market import Tick
from exchange.paper.numbers import parse, parse_time
from exchange.paper.products import PaperProduct

__all__ = ["FileTicks", "symbols_of"]

_CANDLE_COLUMNS = ("open", "high", "low", "close")
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Bar:
    at: float
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class FileTicks:
    """Ticks from a file for one or several products; see `PriceFile`. The constructor raises `PaperError`."""

    def __init__(self, products: Mapping[str, PaperProduct], settings: PriceFile) -> None:
        self._path = settings.path
        self._products = products
        text = _read(settings.path)
        self._bars: list[_Bar] = []
        self._recorded: list[Tick] = []
        if _is_stream(text):
            self._recorded = _recorded_ticks(settings.path, text, products)
        else:
            rows, columns = _rows(settings.path, text)
            if set(_CANDLE_COLUMNS) <= columns:
                self._bars = _bars(settings.path, rows)
            elif "price" in columns:
                self._recorded = self._tick_rows(rows, columns)
            else:
                missing = next(name for name in _CANDLE_COLUMNS if name not in columns)
                raise PaperError(
                    "PRICE_FILE_COLUMN",
                    f"{settings.path} has no column {missing}; candles need "
                    "time,open,high,low,close and ticks need time,price.",
                )
        self._history_rows = settings.history_rows
        if self._bars and not 0 <= settings.history_rows < len(self._bars):
            raise PaperError(
                "PRICE_FILE_HISTORY", f"{settings.path} has {len(self._bars)} rows; history_rows must be below that."
            )
        self._scales = self._choose(settings)

    def _choose(self, settings: PriceFile) -> dict[str, Decimal]:
        """Scale by fed product."""
        unknown = [name for name in settings.symbols if name not in self._products]
        if unknown:
            raise PaperError("UNKNOWN_PRODUCT", f"Unknown product {unknown[0]}; known are {', '.join(self._products)}.")
        named = {tick.product_id for tick in self._recorded if tick.product_id}
        if named:
            return dict.fromkeys(settings.symbols or named, Decimal(1))
        wanted = settings.symbols or {name: None if at else Decimal(1) for at, name in enumerate(self._products)}
        first = self._bars[self._history_rows].open if self._bars else self._recorded[0].price
        return {
            name: scale if scale is not None else self._products[name].price / first for name, scale in wanted.items()
        }

    def first_prices(self) -> Mapping[str, Decimal]:
        """The price each fed product starts at."""
        if self._bars:
            opened = self._bars[self._history_rows].open
            return {name: opened * scale for name, scale in self._scales.items()}
        first: dict[str, Decimal] = {}
        for tick in self._recorded:
            for name in (tick.product_id,) if tick.product_id else self._scales:
                if name in self._scales:
                    first.setdefault(name, tick.price * self._scales[name])
        return first

    def history(self) -> Mapping[str, list[PaperCandle]]:
        """The candles at the file's head, their starts relative to the first tick."""
        if not self._history_rows:
            return {}
        start = self._bars[self._history_rows].at
        return {
            name: [
                PaperCandle(
                    int(bar.at - start),
                    bar.open * scale,
                    bar.high * scale,
                    bar.low * scale,
                    bar.close * scale,
                    bar.volume,
                )
                for bar in self._bars[: self._history_rows]
            ]
            for name, scale in self._scales.items()
        }

    def pace(self, product_id: str, most: float) -> Pace:
        """The file's own pace: how often ticks are, and their size if it states one."""
        if self._bars:
            return Pace(self._width() / 4, most)
        ticks = [tick for tick in self._recorded if tick.product_id in ("", product_id)]
        seconds = (ticks[-1].at - ticks[0].at) / max(len(ticks) - 1, 1) if ticks else 0.0
        scale = self._scales.get(product_id, Decimal(1))
        values = [min(float(tick.size * tick.price * scale), most) for tick in ticks if tick.size is not None]
        return Pace(seconds or MINUTE, sum(values) / len(values) / MEAN_SHARE if values else most)

    def ticks(self) -> Iterator[Tick]:
        """All ticks of all fed products, in order."""
        return self._candle_ticks() if self._bars else self._recorded_scaled()

    def _candle_ticks(self) -> Iterator[Tick]:
        """Four ticks a candle: open, then the extreme on the way (low first in a rising bar), the other, close."""
        bars = self._bars[self._history_rows :]
        start = bars[0].at
        width = self._width()
        for bar in bars:
            path = (
                (bar.open, bar.low, bar.high, bar.close)
                if bar.close >= bar.open
                else (bar.open, bar.high, bar.low, bar.close)
            )
            for quarter, price in enumerate(path):
                at = bar.at - start + width * quarter / 4
                for name, scale in self._scales.items():
                    yield Tick(at, name, price * scale)

    def _width(self) -> float:
        """Seconds from a candle to the next if none is missing."""
        bars = self._bars[self._history_rows :]
        return min((b.at - a.at for a, b in pairwise(bars)), default=float(MINUTE))

    def _recorded_scaled(self) -> Iterator[Tick]:
        for tick in self._recorded:
            for name in (tick.product_id,) if tick.product_id else self._scales:
                if name in self._scales:
                    yield Tick(tick.at, name, tick.price * self._scales[name], tick.size)

    def _tick_rows(self, rows: Iterator[tuple[int, Row]], columns: set[str]) -> list[Tick]:
        ticks: list[Tick] = []
        start = 0.0
        for line, row in rows:
            at = _time(self._path, line, row)
            if not ticks:
                start = at
            elif at - start < ticks[-1].at:
                raise PaperError("PRICE_FILE_ORDER", f"{self._path}, line {line}: times must not go back.")
            name = row["symbol"] if "symbol" in columns else ""
            if name and name not in self._products:
                raise PaperError(
                    "UNKNOWN_PRODUCT",
                    f"{self._path}, line {line}: unknown product {name}; known are {', '.join(self._products)}.",
                )
            size = _positive(self._path, line, row, "size") if "size" in columns and row["size"] else None
            ticks.append(Tick(at - start, name, _positive(self._path, line, row, "price"), size))
        if not ticks:
            raise PaperError("PRICE_FILE_EMPTY", f"{self._path} has no rows.")
        return ticks


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PaperError("PRICE_FILE_DAMAGED", f"{path} is truncated or damaged: fetch it again.") from error
    except UnicodeDecodeError as error:
        raise PaperError(
            "PRICE_FILE_DAMAGED", f"{path} is not text: give a CSV, a gzip of one, or JSON Lines."
        ) from error
    except OSError as error:
        raise PaperError("PRICE_FILE_UNREADABLE", f"Cannot read {path}: {error.strerror}.") from error


def _is_stream(text: str) -> bool:
    return text.lstrip()[:1] == "{"


def _csv_lines(path: Path, text: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text))
    try:
        yield from reader
    except csv.Error as error:
        raise PaperError("PRICE_FILE_ROW", f"{path}, line {reader.line_num}: not CSV ({error}).") from error


def _rows(path: Path, text: str) -> tuple[Iterator[tuple[int, Row]], set[str]]:
    lines = _csv_lines(path, text)
    header = [name.strip().lower() for name in next(lines, [])]
    if not header:
        raise PaperError("PRICE_FILE_EMPTY", f"{path} is empty.")
    if "time" not in header:
        raise PaperError(
            "PRICE_FILE_COLUMN",
            f"{path} has no column time; candles need time,open,high,low,close and ticks need time,price.",
        )

    def rows() -> Iterator[tuple[int, Row]]:
        for line, values in enumerate(lines, start=2):
            if not values:
                continue
            if len(values) != len(header):
                raise PaperError(
                    "PRICE_FILE_ROW",
                    f"{path}, line {line}: {len(values)} fields instead of {len(header)}; the file may be truncated.",
                )
            yield line, dict(zip(header, values, strict=True))

    return rows(), set(header)


def _bars(path: Path, rows: Iterator[tuple[int, Row]]) -> list[_Bar]:
    bars: list[_Bar] = []
    for line, row in rows:
        at = _time(path, line, row)
        if bars and at <= bars[-1].at:
            raise PaperError("PRICE_FILE_ORDER", f"{path}, line {line}: candle times must rise.")
        o, high, low, c = (_positive(path, line, row, name) for name in _CANDLE_COLUMNS)
        if not low <= min(o, c) <= max(o, c) <= high:
            raise PaperError("PRICE_FILE_ROW", f"{path}, line {line}: open and close must lie within low and high.")
        bars.append(_Bar(at, o, high, low, c, parse(row.get("volume", "0")) or Decimal(0)))
    if not bars:
        raise PaperError("PRICE_FILE_EMPTY", f"{path} has no rows.")
    return bars


def _time(path: Path, line: int, row: Row) -> float:
    text = row["time"]
    number = parse(text)
    if number is not None:
        return float(number) / (1000 if number > 10**11 else 1)
    moment = parse_time(text)
    if moment is None:
        raise PaperError("PRICE_FILE_ROW", f"{path}, line {line}: {text!r} is not a time.")
    return moment.timestamp()


def _positive(path: Path, line: int, row: Row, name: str) -> Decimal:
    number = parse(row[name])
    if number is None or number <= 0:
        raise PaperError("PRICE_FILE_ROW", f"{path}, line {line}: {name} {row[name]!r} is not a positive number.")
    return number


def _recorded_ticks(path: Path, text: str, products: Mapping[str, PaperProduct]) -> list[Tick]:
    """Prices of a recorded public stream: its trades, and its tickers for products without trades in it."""
    trades: list[Tick] = []
    tickers: list[Tick] = []
    start: float | None = None
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            message = json.loads(raw)
            message = message.get("received", message)
            if message.get("channel") not in ("ticker", "market_trades"):
                continue
            moment = parse_time(message["timestamp"])
            at = (moment or datetime.now(UTC)).timestamp()
            start = at if start is None else start
            for event in message["events"]:
                if event["type"] != "update" and message["channel"] == "market_trades":
                    continue
                for item in reversed(event.get("trades", ())):
                    _keep(trades, products, item, at - start, Decimal(item["size"]))
                for item in event.get("tickers", ()):
                    _keep(tickers, products, item, at - start, None)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise PaperError(
                "PRICE_FILE_ROW", f"{path}, line {line}: not a stream message; the file may be cut."
            ) from error
    traded = {tick.product_id for tick in trades}
    ticks = trades + [tick for tick in tickers if tick.product_id not in traded]
    if not ticks:
        raise PaperError("PRICE_FILE_EMPTY", f"{path} has no ticker or trade of the chosen products.")
    return sorted(ticks, key=lambda tick: tick.at)


def _keep(
    ticks: list[Tick], products: Mapping[str, PaperProduct], item: Mapping[str, str], at: float, size: Decimal | None
) -> None:
    if item["product_id"] in products:
        ticks.append(Tick(at, item["product_id"], Decimal(item["price"]), size))


def symbols_of(names: Sequence[str]) -> dict[str, Decimal | None]:
    """Products to feed from one file: `BTC-USD` unscaled first, others at their reference price, `NAME=SCALE` exact.

    Raises `PaperError` for a scale that is not a positive number.
    """
    chosen: dict[str, Decimal | None] = {}
    for name in names:
        symbol, _, scale = name.partition("=")
        if scale:
            number = parse(scale)
            if number is None or number <= 0:
                raise PaperError("BAD_SCALE", f"{name}: the scale must be a positive number.")
            chosen[symbol] = number
        else:
            chosen[symbol] = None if chosen else Decimal(1)
    return chosen
