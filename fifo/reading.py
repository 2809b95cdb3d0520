"""Fills from a file: JSON Lines, CSV, or one of Coinbase's own exports; the format is found by looking.

Each line is judged by itself, so that one that can't be read takes no other with it. A fill id that comes again with
the same content counts once.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any, Protocol

import orjson

from fifo import coinbase
from fifo.bulk import NotPlain, plain_entries
from fifo.fills import FifoError, Stated, entry_from_units
from fifo.line import Entry, Line
from fifo.parsing import SIDES, Inexact, fee_currency, nanoseconds, number, sequence, shown
from fifo.parsing import fee as parsed_fee
from fifo.transactions import Doubts, TransactionsReport

__all__ = ["BadLine", "Keeper", "Reading", "StatedFill", "read_fills", "read_into", "read_stated"]

_NEEDED = frozenset({"id", "time", "symbol", "side", "size", "price"})
_FIELDS = ("id", "time", "seq", "symbol", "side", "size", "price", "fee", "fee_currency", "fee_rate")
_ABSENT = ("", None)
_PREAMBLE_AT_MOST = 40
_LINES_AT_ONCE = 4_000
_END_OF_NAME = b'":'
_BLANK_BEHIND_NAME = b'" :'
_IN_A_HEADING = (b"timestamp", b"created at", b"symbol")
"""Of which each heading that is understood has one."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


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
    doubts: Doubts = field(default_factory=dict)
    """What was taken as it stands though something is odd: sentence, first line, how many lines."""
    other_rows: dict[str, str] = field(default_factory=dict)
    """Of a conversion with a row and an id for each side: the one id by the other, both ways."""

    kept: int = field(default=0, compare=False)
    """How many fills were read line by line; a keeper of one's own has them."""

    def __len__(self) -> int:
        return sum(map(len, self.fills.values())) or self.kept

    def lines(self) -> dict[str, Line]:
        """The fills matched, by symbol."""
        lines = {symbol: Line() for symbol in self.fills}
        for symbol, line in lines.items():
            line.extend(self.fills[symbol])
        return lines


@dataclass(frozen=True, slots=True)
class StatedFill:
    """A fill with the number of its line and what that states."""

    line: int
    stated: Stated
    entry: Entry


@dataclass(frozen=True, slots=True)
class _Format:
    stated: Callable[[bytes, int], Stated | list[Stated] | str]
    """What a line and its number state, or the name of its kind if it is no trade. Raises FifoError.

    A list is taken whole or not at all; it may be empty.
    """
    columns: Callable[[Sequence[bytes]], Mapping[str, Sequence[Any]] | None] | None = None
    """Many lines as columns by name; None if they have to be read one by one."""
    in_file_order: bool = False
    """Whether fills of the same time are ordered by their lines, newest or oldest first as the file is."""
    report: TransactionsReport | None = None
    """What knows at the end which lines are unfinished or doubtful."""


def read_fills(lines: Iterable[bytes]) -> Reading:
    """All fills of a file. Raises FifoError(UNKNOWN_FORMAT); what is wrong with single lines is in `bad`."""
    keeper = _InMemory()
    reading = _read(lines, keeper, keeper.put_plain)
    reading.fills = keeper.fills
    return reading


def read_stated(lines: Iterable[bytes]) -> tuple[Reading, list[StatedFill]]:
    """The same, and each fill as its line states it, in their order by symbol. Raises as `read_fills`."""
    keeper = _InMemory()
    reading = _read(lines, keeper)
    reading.fills = fills = keeper.fills
    return reading, [
        StatedFill(*keeper.stated[entry.tie], entry) for symbol in sorted(fills) for entry in sorted(fills[symbol])
    ]


def read_into(lines: Iterable[bytes], keeper: Keeper) -> Reading:
    """The same of a file of any length, whose fills `keeper` has. Raises as `read_fills`."""
    return _read(lines, keeper)


class Keeper(Protocol):
    """Has the fills that were read, each once."""

    def find(self, tie: str) -> Entry | None:
        """The one with an Entry's `tie`, if it is there."""

    def put(self, line: int, stated: Sequence[Stated], entries: Sequence[Entry]) -> None:
        """One more row: all of its fills, or none, and FifoError says why not."""

    def put_in_order(self, *, newest_first: bool) -> None:
        """After the last: their `seq` counts the other way if the file is the newest first."""


class _InMemory:
    """Fills by symbol."""

    def __init__(self) -> None:
        self.fills: dict[str, list[Entry]] = {}
        self.stated: dict[str, tuple[int, Stated]] = {}
        self._known: dict[str, Entry] = {}

    def find(self, tie: str) -> Entry | None:
        return self._known.get(tie)

    def put(self, line: int, stated: Sequence[Stated], entries: Sequence[Entry]) -> None:
        for entry, fill in zip(entries, stated, strict=True):
            self._known[entry.tie] = entry
            self.stated[entry.tie] = line, fill
        self._file(entries)

    def put_plain(self, entries: Sequence[Entry]) -> bool:
        """Many at once; False, and none is put, if an id is there already or twice."""
        new = {entry.tie: entry for entry in entries}
        if len(new) < len(entries) or not self._known.keys().isdisjoint(new):
            return False
        self._known |= new
        self._file(entries)
        return True

    def put_in_order(self, *, newest_first: bool) -> None:
        if newest_first:
            for symbol, entries in self.fills.items():
                self.fills[symbol] = [entry._replace(seq=-entry.seq) for entry in entries]

    def _file(self, entries: Sequence[Entry]) -> None:
        fills = self.fills
        for entry in entries:
            try:
                fills[entry[4]].append(entry)
            except KeyError:
                fills[entry.symbol] = [entry]


def _read(
    lines: Iterable[bytes], keeper: Keeper, put_plain: Callable[[Sequence[Entry]], bool] | None = None
) -> Reading:
    """`put_plain` takes plain lines together, where the format has them."""
    source = iter(lines)
    found = _recognise(source)
    if found is None:
        keeper.put_in_order(newest_first=False)
        return Reading()
    form, first, number = found
    reader = _Reader(form, keeper)
    for line_number, line in first:
        reader.judge(line_number, line)
    while many := list(islice(source, _LINES_AT_ONCE)):
        if put_plain is None or not _taken(form, many, put_plain):
            for line_number, line in enumerate(many, number + 1):
                reader.judge(line_number, line)
        number += len(many)
    reader.finish()
    return reader.reading


def _taken(form: _Format, lines: Sequence[bytes], put_plain: Callable[[Sequence[Entry]], bool]) -> bool:
    """Take plain lines together; False, and none is taken, if they have to be judged one by one."""
    columns = None if form.columns is None else form.columns(lines)
    if columns is None:
        return False
    try:
        entries = plain_entries(columns)
    except NotPlain:
        return False
    return put_plain(entries)


class _Headings:
    """Sees where a file, as of several put together, has a heading once more."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the first one."""
        self._names = list(names)
        self.other: int | None = None
        """The line of one with other columns, as long as it is the last one: its rows can't be read by the first."""

    def again(self, line: bytes, number: int) -> bool:
        """Whether a line is the first heading again.

        Raises FifoError(OTHER_HEADING) for one with other columns, and for each row below it.
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
            raise FifoError("OTHER_HEADING", f"it stands below another heading, that of line {self.other}")
        return False


class _Reader:
    """Judges lines, one at a time."""

    def __init__(self, form: _Format, keeper: Keeper) -> None:
        self.reading = Reading()
        self._form = form
        self._keeper = keeper
        self._first: int | None = None
        self._last = 0

    def judge(self, line_number: int, line: bytes) -> None:
        """Take one line: its fills are kept if they were not there yet."""
        reading = self.reading
        try:
            stated = self._form.stated(line, line_number)
            if isinstance(stated, str):
                reading.left_out[stated] += 1
            else:
                self._take(line_number, stated if isinstance(stated, list) else [stated])
        except FifoError as error:
            if not line.isspace():
                reading.bad.append(BadLine(line_number, error.code, error.sentence))

    def _take(self, line_number: int, stated: list[Stated]) -> None:
        """All fills of one row, or none: whatever is wrong with one is wrong with the row."""
        entries = [entry_from_units(*fill) for fill in stated]
        known = [self._keeper.find(entry.tie) for entry in entries]
        for before, entry in zip(known, entries, strict=True):
            if before is not None:
                self._require_same(before, entry)
        if any(known):
            if not all(known):
                raise _other_content(entries[0])
            self.reading.repeated += 1
        elif entries:
            self._keeper.put(line_number, stated, entries)
            self.reading.kept += len(entries)
            self._first, self._last = entries[0].time if self._first is None else self._first, entries[-1].time

    def _require_same(self, before: Entry, entry: Entry) -> None:
        if (before._replace(seq=entry.seq) if self._form.in_file_order else before) != entry:
            raise _other_content(entry)

    def finish(self) -> None:
        """After the last line: say what is unfinished, and let the file's direction decide between fills of the same
        time, where it is that which does.
        """
        report = self._form.report
        if report is not None:
            unfinished = [BadLine(line, error.code, error.sentence) for line, error in report.finish()]
            self.reading.bad = sorted([*self.reading.bad, *unfinished], key=lambda bad: bad.number)
            self.reading.doubts = report.doubts
            self.reading.left_out += report.left_out
            self.reading.other_rows = report.conversions.other_rows
        backwards = self._first is not None and self._first > self._last
        self._keeper.put_in_order(newest_first=self._form.in_file_order and backwards)


def _other_content(entry: Entry) -> FifoError:
    return FifoError("DUPLICATE_ID", f"the fill id {shown(entry.id)} was seen before with other content")


def _recognise(source: Iterator[bytes]) -> tuple[_Format, list[tuple[int, bytes]], int] | None:
    """The format, the lines behind its heading that were read to find it, and the number of the last one read.

    None for an empty file. Raises FifoError(UNKNOWN_FORMAT).
    """
    numbered = enumerate(source, 1)
    first = [(number, line) for number, line in islice(numbered, _PREAMBLE_AT_MOST) if not line.isspace()]
    if not first:
        first = list(islice(((number, line) for number, line in numbered if not line.isspace()), 1))
    if not first:
        return None
    form, skipped = _format(first)
    return form, first[skipped:], max(first[-1][0], _PREAMBLE_AT_MOST)


def _format(first: list[tuple[int, bytes]]) -> tuple[_Format, int]:
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
        return _Format(_json_stated, _json_columns), 0
    raise _another_kind([line for _, line in first])


def _is_heading(names: Collection[str]) -> bool:
    return _NEEDED.issubset(names) or coinbase.is_transactions(names) or coinbase.is_fills(names)


def _names(columns: Iterable[str]) -> list[str]:
    return [" ".join(name.split()).lower() for name in columns]


def _another_kind(lines: Sequence[bytes]) -> FifoError:
    """What a file is that can't be read, as far as it can be seen."""
    if lines[0].startswith(_UTF_16) or any(b"\0" in line for line in lines):
        return FifoError(
            "UNKNOWN_FORMAT",
            "this is no UTF-8 but UTF-16, as its first bytes say (a byte order mark or zeros): save it as UTF-8",
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
                    f"its columns stand between {name}, as some spreadsheets save them, and its numbers may have "
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
        # What older spreadsheets write; every byte stays a character of its own, so no two ids become one.
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


def _own_csv(names: list[str]) -> _Format:
    count = len(names)
    for name in _FIELDS:
        if names.count(name) > 1:
            raise FifoError("UNKNOWN_FORMAT", f"its heading names {name} more than once: leave one of these columns")
    # A column that is not there is the one behind the last, which is always empty.
    pick = itemgetter(*(names.index(name) if name in names else count for name in _FIELDS))
    places = {name: names.index(name) for name in _FIELDS if name in names}
    headings = _Headings(names)
    return _Format(
        lambda line, number: [] if headings.again(line, number) else _checked(*pick([*_row(line, count)[:count], ""])),
        # A heading among them is never plain: its time is none.
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
) -> _Format:
    count = len(names)
    return _Format(
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
            return None  # a name may be there twice
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
    """An object's names and values, as they were written."""


def _named_once(line: bytes, row: Any) -> Any:
    """The row, if it has no name of ours twice: of two ids, sizes or prices none is the right one.

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
            # Half of a surrogate pair is no text: it could not be printed again.
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
    """The fill of these fields, whatever a file holds in them."""
    if type(fill_id) is str:
        fill_id = fill_id.strip()
    if fill_id in _ABSENT:
        raise FifoError("MISSING_FIELD", "id is missing")
    if type(fill_id) is not str:
        if type(fill_id) is float:
            raise Inexact  # it may be a whole number that is too long for a float
        if type(fill_id) is not int:
            raise FifoError("MISSING_FIELD", f"id is neither a text nor a whole number: {shown(fill_id)}")
        fill_id = str(fill_id)  # an id is a text, whatever it was written as
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
