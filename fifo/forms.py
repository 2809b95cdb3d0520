"""The formats of a file of fills, recognised by content: JSON Lines, CSV with our columns, and the exports of
Coinbase."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any

import orjson

from fifo import coinbase
from fifo.fills import FifoError, Stated
from fifo.parsing import SIDES, Inexact, fee_currency, nanoseconds, number, sequence, shown
from fifo.parsing import fee as parsed_fee
from fifo.transactions import TransactionsReport

__all__ = ["Form", "recognise"]

_NEEDED = frozenset({"id", "time", "symbol", "side", "size", "price"})
_FIELDS = ("id", "time", "seq", "symbol", "side", "size", "price", "fee", "fee_currency", "fee_rate")
_ABSENT = ("", None)
_PREAMBLE_AT_MOST = 40
_END_OF_NAME = b'":'
_BLANK_BEHIND_NAME = b'" :'
_IN_A_HEADING = (b"timestamp", b"created at", b"symbol")
"""Each accepted heading has one of these."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Form:
    """The reading of one format's lines."""

    stated: Callable[[bytes, int], Stated | list[Stated] | str]
    """The fills in a line (with its number), or the name of its kind if it is not a trade. Raises FifoError.

    A list is accepted as a whole or not at all; it may be empty.
    """
    columns: Callable[[Sequence[bytes]], Mapping[str, Sequence[Any]] | None] | None = None
    """Many lines as columns by name; None if they must be read one by one."""
    in_file_order: bool = False
    """Whether fills of the same time are ordered by line, newest or oldest first like the file."""
    report: TransactionsReport | None = None
    """The report that finally knows which lines are unfinished or doubtful."""


class _Headings:
    """Detects repeated headings in a file that was joined from several."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the first one."""
        self._names = list(names)
        self.other: int | None = None
        """The line of the last heading, if it has other columns than the first: the rows below can't be read."""

    def again(self, line: bytes, number: int) -> bool:
        """Whether a line repeats the first heading.

        Raises FifoError(OTHER_HEADING) for a heading with other columns, and for each row below it.
        """
        if any(map(line.lower().__contains__, _IN_A_HEADING)):
            names = _names(_columns(_text(line).lstrip("\ufeff")) or ())
            if names == self._names:
                self.other = None
                return True
            if _is_heading(names):
                self.other = number
                raise FifoError(
                    "OTHER_HEADING", "it is a heading with other columns than the first: give its rows as another file"
                )
        if self.other is not None:
            raise FifoError("OTHER_HEADING", f"it is below another heading, that of line {self.other}")
        return False


def recognise(source: Iterator[bytes]) -> tuple[Form, list[tuple[int, bytes]], int] | None:
    """The format, the lines after its heading that were read to find it, and the number of the last line read.

    None for an empty file. Raises FifoError(UNKNOWN_FORMAT).
    """
    numbered = enumerate(source, 1)
    first = [(number, line) for number, line in islice(numbered, _PREAMBLE_AT_MOST) if not line.isspace()]
    if not first:
        first = list(islice(((number, line) for number, line in numbered if not line.isspace()), 1))
    if not first:
        return None
    form, skipped = _form(first)
    return form, first[skipped:], max(first[-1][0], _PREAMBLE_AT_MOST)


def _form(first: list[tuple[int, bytes]]) -> tuple[Form, int]:
    for position, (_, line) in enumerate(first):
        names = _names(_columns(_text(line).lstrip("\ufeff")) or ())
        if set(names) >= _NEEDED:
            return _own_csv(names), position + 1
        if coinbase.is_transactions(names):
            report = TransactionsReport(names)
            return _report(report.names, report.stated, _Headings(names), report), position + 1
        if coinbase.is_fills(names):
            return _report(names, coinbase.fill, _Headings(names)), position + 1
    if any(line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") for _, line in first):
        return Form(_json_stated, _json_columns), 0
    raise _another_kind([line for _, line in first])


def _is_heading(names: Collection[str]) -> bool:
    return _NEEDED.issubset(names) or coinbase.is_transactions(names) or coinbase.is_fills(names)


def _names(columns: Iterable[str]) -> list[str]:
    return [" ".join(name.split()).lower() for name in columns]


def _another_kind(lines: Sequence[bytes]) -> FifoError:
    """The error for a file that can't be read, with its kind if that can be recognised."""
    if lines[0].startswith(_UTF_16) or any(b"\0" in line for line in lines):
        return FifoError(
            "UNKNOWN_FORMAT",
            "this is UTF-16, not UTF-8, as its first bytes say (a byte order mark or zeros): save it as UTF-8",
        )
    for line in lines:
        text = _text(line).lstrip("\ufeff")
        if coinbase.is_account_statement(_names(_columns(text) or ())):
            return FifoError(
                "UNKNOWN_FORMAT",
                "this is Coinbase's account statement, which has amounts and no prices: download the fills report",
            )
        for mark, name in ((";", "semicolons"), ("\t", "tabs")):
            names = _names(text.replace('"', "").split(mark))
            if _is_heading(names):
                return FifoError(
                    "UNKNOWN_FORMAT",
                    f"its columns are separated by {name}, as some spreadsheets save them, and its numbers may have "
                    "decimal commas then: take the file as it was downloaded, or save it with commas between columns "
                    "and points in numbers",
                )
    return FifoError(
        "UNKNOWN_FORMAT",
        "this is neither JSON Lines (one object a line) nor a CSV file with the columns "
        "id, time, symbol, side, size, price nor a Coinbase export (transactions or fills)",
    )


def _text(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        # Older spreadsheets write this; each byte is its own character, so no two ids become one.
        text = line.decode("latin-1")
    return text.rstrip("\r\n")


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
        raise FifoError(
            "NOT_A_ROW",
            "its quotation marks don't match (a field, as Notes, that goes on in the next line must be in one)",
        )
    if len(values) != count and (len(values) < count or any(values[count:])):
        raise FifoError("NOT_A_ROW", f"it has {len(values)} columns, the heading has {count}")
    return values


def _own_csv(names: list[str]) -> Form:
    count = len(names)
    for name in _FIELDS:
        if names.count(name) > 1:
            raise FifoError("UNKNOWN_FORMAT", f"its heading names {name} more than once: leave one of these columns")
    # A missing column is read from behind the last one, which is always empty.
    pick = itemgetter(*(names.index(name) if name in names else count for name in _FIELDS))
    places = {name: names.index(name) for name in _FIELDS if name in names}
    headings = _Headings(names)
    return Form(
        lambda line, number: [] if headings.again(line, number) else _checked(*pick([*_row(line, count)[:count], ""])),
        # A heading among them is never plain: it has no valid time.
        lambda lines: _csv_columns(lines, places, count) if headings.other is None else None,
    )


def _csv_columns(lines: Sequence[bytes], places: Mapping[str, int], count: int) -> Mapping[str, Sequence[str]] | None:
    try:
        text = b"".join(lines).decode()
    except UnicodeDecodeError:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if '"' in text or "\r" in text:
        return None
    if {line.count(b",") for line in lines} != {count - 1}:
        return None
    values = text.removesuffix("\n").replace("\n", ",").split(",")
    if len(values) != count * len(lines):
        return None
    return {name: values[place::count] for name, place in places.items()}


def _report(
    names: list[str],
    stated: Callable[[Mapping[str, str], int], Stated | list[Stated] | str],
    headings: _Headings,
    report: TransactionsReport | None = None,
) -> Form:
    count = len(names)
    return Form(
        lambda line, number: (
            [] if headings.again(line, number) else stated(dict(zip(names, _row(line, count), strict=False)), number)
        ),
        in_file_order=True,
        report=report,
    )


def _json_columns(lines: Sequence[bytes]) -> Mapping[str, Sequence[Any]] | None:
    try:
        rows = list(map(orjson.loads, lines))
        names = list(rows[0])
        if b"".join(lines).count(_END_OF_NAME) != len(names) * len(rows):
            return None  # a name may be repeated
        if not set(names) >= _NEEDED or set(map(len, rows)) != {len(names)}:
            return None
        columns = zip(*map(itemgetter(*names), rows), strict=True)
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    return {name: column for name, column in zip(names, columns, strict=True) if name in _FIELDS}


def _json_stated(line: bytes, line_number: int) -> Stated:
    try:
        return _object(_named_once(line, orjson.loads(line)))
    except (orjson.JSONDecodeError, Inexact):
        exact = line.removeprefix(b"\xef\xbb\xbf") if line_number == 1 else line
        return _object(_named_once(exact, _exact_json(exact)))


class _Pairs(list[tuple[str, Any]]):
    """An object's names and values, in the order of the file."""


def _named_once(line: bytes, row: Any) -> Any:
    """The row, if none of our names is repeated: of two ids, sizes or prices neither is right.

    Raises FifoError(NOT_A_ROW).
    """
    if type(row) is dict and (line.count(_END_OF_NAME) != len(row) or _BLANK_BEHIND_NAME in line):
        pairs = json.loads(line, object_pairs_hook=_Pairs)
        names = Counter(name for name, _ in pairs)
        repeated = next((name for name in _FIELDS if names[name] > 1), None)
        if repeated is not None:
            raise FifoError("NOT_A_ROW", f"it names {repeated} more than once")
    return row


def _exact_json(line: bytes) -> Any:
    try:
        if b"\\ud" in line.lower():
            # Half of a surrogate pair is not text: it could not be printed.
            json.dumps(json.loads(line), ensure_ascii=False).encode()
        return json.loads(line, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise FifoError("NOT_A_ROW", f"it is not a JSON object ({reason})") from None


def _object(row: Any) -> Stated:
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
) -> Stated:
    """The fill in these fields, which may have any content. Raises FifoError."""
    if type(fill_id) is str:
        fill_id = fill_id.strip()
    if fill_id in _ABSENT:
        raise FifoError("MISSING_FIELD", "id is missing")
    if type(fill_id) is not str:
        if type(fill_id) is float:
            raise Inexact  # it may be a whole number too long for a float
        if type(fill_id) is not int:
            raise FifoError("MISSING_FIELD", f"id is neither a text nor a whole number: {shown(fill_id)}")
        fill_id = str(fill_id)  # an id is a text, of whatever type in the file
    if type(symbol) is not str or not (symbol := symbol.strip()):
        raise FifoError("MISSING_FIELD", "symbol is missing")
    buy = SIDES.get(side) if type(side) is str else None
    if buy is None:
        buy = SIDES.get(str(side).strip().lower())
        if buy is None:
            raise FifoError("UNKNOWN_SIDE", f"side is neither buy nor sell: {shown(side)}")
    if not (time and size and price):
        for name, value in (("time", time), ("size", size), ("price", price)):
            if value in _ABSENT:
                raise FifoError("MISSING_FIELD", f"{name} is missing")
    return Stated(
        fill_id,
        symbol,
        nanoseconds(time),
        sequence(seq),
        buy,
        number("size", size),
        number("price", price),
        parsed_fee(fee),
        fee_currency(currency, symbol),
        None if rate in _ABSENT else number("fee_rate", rate),
    )
