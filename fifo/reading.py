"""Fills from a file: JSON Lines, CSV, or one of Coinbase's own exports; the format is found by looking.

Each line is judged by itself, so that one that can't be read takes no other with it. A fill id that comes again with
the same content counts once.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import orjson

from fifo import coinbase
from fifo.fills import FifoError, entry_from_units
from fifo.line import Entry, Line
from fifo.parsing import Inexact, nanoseconds, number, shown

__all__ = ["BadLine", "Reading", "read_fills"]

_NEEDED = frozenset({"id", "time", "symbol", "side", "size", "price"})
_FIELDS = ("id", "time", "seq", "symbol", "side", "size", "price", "fee", "fee_currency", "fee_rate")
_ABSENT = ("", None)
_PREAMBLE_AT_MOST = 40
_LONGEST_SEQ = 18
_SIDES = {"buy": True, "sell": False, "BUY": True, "SELL": False, "Buy": True, "Sell": False}
_CURRENCIES = frozenset({"quote", "base", "other"})


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that can't be a fill, and why."""

    number: int
    code: str
    sentence: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.sentence}"


@dataclass(slots=True)
class Reading:
    """What a file holds: its fills by symbol, each once, the lines that are none, and rows of a report that aren't
    trades, by kind.
    """

    fills: dict[str, list[Entry]] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)
    repeated: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return sum(map(len, self.fills.values()))

    def lines(self) -> dict[str, Line]:
        """The fills matched, by symbol."""
        lines = {symbol: Line() for symbol in self.fills}
        for symbol, line in lines.items():
            line.extend(self.fills[symbol])
        return lines


@dataclass(frozen=True, slots=True)
class _Format:
    entry: Callable[[bytes, int], Entry | str]
    """The fill of a line and its number, or the name of its kind if it is no trade. Raises FifoError."""
    in_file_order: bool = False
    """Whether fills of the same time are ordered by their lines, newest or oldest first as the file is."""


def read_fills(lines: Iterable[bytes]) -> Reading:
    """All fills of a file. Raises FifoError(UNKNOWN_FORMAT); what is wrong with single lines is in `bad`."""
    numbered = enumerate(lines, 1)
    first = [(number, line) for number, line in islice(numbered, _PREAMBLE_AT_MOST) if not line.isspace()]
    if not first:
        first = list(islice(((number, line) for number, line in numbered if not line.isspace()), 1))
    if not first:
        return Reading()
    form, skipped = _recognise(first)
    reading = Reading()
    known: dict[str, Entry] = {}
    fills, of_line, admit = reading.fills, form.entry, known.setdefault
    for line_number, line in chain(first[skipped:], numbered):
        try:
            entry = of_line(line, line_number)
            if type(entry) is not Entry:
                reading.left_out[str(entry)] += 1
                continue
            before = admit(entry.tie, entry)
            if before is entry:
                try:
                    fills[entry.symbol].append(entry)
                except KeyError:
                    fills[entry.symbol] = [entry]
                continue
            if (before._replace(seq=entry.seq) if form.in_file_order else before) != entry:
                raise FifoError("DUPLICATE_ID", f"the fill id {shown(entry.id)} was seen before with other content")
            reading.repeated += 1
        except FifoError as error:
            if not line.isspace():
                reading.bad.append(BadLine(line_number, error.code, error.sentence))
    if form.in_file_order and known and _newest_first(known.values()):
        for symbol, entries in fills.items():
            fills[symbol] = [entry._replace(seq=-entry.seq) for entry in entries]
    return reading


def _newest_first(entries: Iterable[Entry]) -> bool:
    ordered = list(entries)
    return ordered[0].time > ordered[-1].time


def _recognise(first: list[tuple[int, bytes]]) -> tuple[_Format, int]:
    for position, (_, line) in enumerate(first):
        names = [name.strip().lower() for name in _columns(_text(line).removeprefix("\ufeff")) or ()]
        if set(names) >= _NEEDED:
            return _own_csv(names), position + 1
        if coinbase.is_transactions(names):
            return _report(names, coinbase.transaction), position + 1
        if coinbase.is_fills(names):
            return _report(names, coinbase.fill), position + 1
    if any(line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") for _, line in first):
        return _Format(_json_entry), 0
    raise FifoError(
        "UNKNOWN_FORMAT",
        "this is neither JSON Lines (one object a line) nor a CSV file with the columns "
        "id, time, symbol, side, size, price nor a Coinbase export",
    )


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _columns(text: str) -> list[str] | None:
    """The fields of one CSV line; None if its quotes don't match."""
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error:
        return None


def _row(line: bytes, count: int) -> list[str]:
    values = _columns(_text(line))
    if values is None:
        raise FifoError("NOT_A_ROW", "its quotation marks don't match")
    if len(values) != count and (len(values) < count or any(values[count:])):
        raise FifoError("NOT_A_ROW", f"it has {len(values)} columns, the heading has {count}")
    return values


def _own_csv(names: list[str]) -> _Format:
    count = len(names)
    # A column that is not there is the one behind the last, which is always empty.
    pick = itemgetter(*(names.index(name) if name in names else count for name in _FIELDS))
    return _Format(lambda line, _: _checked(*pick([*_row(line, count)[:count], ""])))


def _report(names: list[str], entry: Callable[[dict[str, str], int], Entry | str]) -> _Format:
    count = len(names)
    return _Format(
        lambda line, number: entry(dict(zip(names, _row(line, count), strict=False)), number), in_file_order=True
    )


def _json_entry(line: bytes, line_number: int) -> Entry:
    try:
        return _object(orjson.loads(line))
    except (orjson.JSONDecodeError, Inexact):
        return _object(_exact_json(line.removeprefix(b"\xef\xbb\xbf") if line_number == 1 else line))


def _exact_json(line: bytes) -> Any:
    try:
        if b"\\ud" in line.lower():
            # Half of a surrogate pair is no text: it could not be printed again.
            json.dumps(json.loads(line), ensure_ascii=False).encode()
        return json.loads(line, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise FifoError("NOT_A_ROW", f"it is not a JSON object ({reason})") from None


def _object(row: Any) -> Entry:
    if type(row) is not dict:
        raise FifoError("NOT_A_ROW", "it is not a JSON object")
    get = row.get
    return _checked(
        get("id"),
        get("time"),
        get("seq"),
        get("symbol"),
        get("side"),
        get("size"),
        get("price"),
        get("fee"),
        get("fee_currency"),
        get("fee_rate"),
    )


def _checked(
    fill_id: Any, time: Any, seq: Any, symbol: Any, side: Any, size: Any, price: Any, fee: Any, currency: Any, rate: Any
) -> Entry:
    """The fill of these fields, whatever a file holds in them."""
    if type(fill_id) is str:
        fill_id = fill_id.strip()
    if fill_id in _ABSENT:
        raise FifoError("MISSING_FIELD", "id is missing")
    if type(fill_id) is not str and type(fill_id) is not int:
        raise FifoError("MISSING_FIELD", f"id is neither a text nor a whole number: {shown(fill_id)}")
    if type(symbol) is not str or not (symbol := symbol.strip()):
        raise FifoError("MISSING_FIELD", "symbol is missing")
    buy = _SIDES.get(side) if type(side) is str else None
    if buy is None:
        buy = _SIDES.get(str(side).strip().lower())
        if buy is None:
            raise FifoError("UNKNOWN_SIDE", f"side is neither buy nor sell: {shown(side)}")
    if not (time and size and price):
        for name, value in (("time", time), ("size", size), ("price", price)):
            if value in _ABSENT:
                raise FifoError("MISSING_FIELD", f"{name} is missing")
    if type(currency) is not str or currency not in _CURRENCIES:
        currency = _currency(currency, symbol)
    return entry_from_units(
        fill_id,
        symbol,
        nanoseconds(time),
        seq if type(seq) is int else _sequence(seq),
        buy,
        number("size", size),
        number("price", price),
        number("fee", fee) if fee else 0,
        currency,
        None if rate in _ABSENT else number("fee_rate", rate),
    )


def _currency(given: object, symbol: str) -> str:
    """`quote`, `base` or `other`, also of a currency's own name: USD is the quote currency of BTC-USD."""
    if given in _ABSENT:
        return "quote"
    if type(given) is not str:
        raise FifoError("MISSING_FIELD", f"fee_currency is not a text: {shown(given)}")
    name = given.strip().lower()
    if name in _CURRENCIES:
        return name
    base, _, quote = symbol.lower().replace("/", "-").replace("_", "-").partition("-")
    return "quote" if name == quote else "base" if name == base else "other"


def _sequence(value: object) -> int:
    if type(value) is int:
        return value
    if type(value) is str and value.isdecimal() and len(value) <= _LONGEST_SEQ:
        return int(value)
    if value in _ABSENT:
        return 0
    try:
        return int(str(value))
    except ValueError:
        raise FifoError("NOT_A_NUMBER", f"seq is not a whole number: {shown(value)}") from None
