"""Fills from a file: JSON Lines, CSV, or one of Coinbase's own exports; the format is recognised by content.

Each line is judged by itself, so that one that can't be read affects no other. A repeated fill id with the same content
counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from fifo.bulk import NotPlain, plain_entries
from fifo.fills import FifoError, Stated, entry_from_units
from fifo.forms import Form, recognise
from fifo.line import FillEntry, Line
from fifo.parsing import shown
from fifo.transactions import Doubts

__all__ = ["BadLine", "FillKeeper", "Reading", "StatedFill", "read_fills", "read_into", "read_stated"]

_LINES_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a valid fill, and why."""

    number: int
    code: str
    sentence: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.sentence}"


@dataclass(slots=True)
class Reading:
    """The contents of a file: its fills by symbol, each once, its bad lines, and a report's rows that aren't trades, by
    kind.
    """

    fills: dict[str, list[FillEntry]] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)
    repeated: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    doubts: Doubts = field(default_factory=dict)
    """Lines that were accepted though something is odd: sentence, first line, number of lines."""
    other_rows: dict[str, str] = field(default_factory=dict)
    """For conversions with a row and an id for each side: one id by the other, both ways."""

    kept: int = field(default=0, compare=False)
    """How many fills were read line by line; if another keeper was passed in, it has them."""

    def __len__(self) -> int:
        return sum(map(len, self.fills.values())) or self.kept

    def lines(self) -> dict[str, Line]:
        """The matched fills, by symbol."""
        lines = {symbol: Line() for symbol in self.fills}
        for symbol, line in lines.items():
            line.extend(self.fills[symbol])
        return lines


@dataclass(frozen=True, slots=True)
class StatedFill:
    """A fill with its line's number and statement."""

    line: int
    stated: Stated
    entry: FillEntry


def read_fills(lines: Iterable[bytes]) -> Reading:
    """All fills of a file. Raises FifoError(UNKNOWN_FORMAT); errors of single lines are in `bad`."""
    keeper = _InMemory()
    reading = _read(lines, keeper, keeper.put_plain)
    reading.fills = keeper.fills
    return reading


def read_stated(lines: Iterable[bytes]) -> tuple[Reading, list[StatedFill]]:
    """The same, and each fill as its line states it, in order, by symbol. Raises like `read_fills`."""
    keeper = _InMemory()
    reading = _read(lines, keeper)
    reading.fills = fills = keeper.fills
    return reading, [
        StatedFill(*keeper.stated[entry.tie], entry) for symbol in sorted(fills) for entry in sorted(fills[symbol])
    ]


def read_into(lines: Iterable[bytes], keeper: FillKeeper) -> Reading:
    """The same for a file of any length; `keeper` stores the fills. Raises like `read_fills`."""
    return _read(lines, keeper)


class FillKeeper(Protocol):
    """Stores the fills that were read, each once."""

    def find(self, tie: str) -> FillEntry | None:
        """The entry with this `tie`, if it is stored."""

    def put(self, line: int, stated: Sequence[Stated], entries: Sequence[FillEntry]) -> None:
        """Store a row: all of its fills or none. Raises FifoError if it can't."""

    def put_in_order(self, *, newest_first: bool) -> None:
        """After the last row: `seq` counts backwards if the file is newest first."""


class _InMemory:
    """Fills by symbol."""

    def __init__(self) -> None:
        self.fills: dict[str, list[FillEntry]] = {}
        self.stated: dict[str, tuple[int, Stated]] = {}
        self._known: dict[str, FillEntry] = {}

    def find(self, tie: str) -> FillEntry | None:
        return self._known.get(tie)

    def put(self, line: int, stated: Sequence[Stated], entries: Sequence[FillEntry]) -> None:
        for entry, fill in zip(entries, stated, strict=True):
            self._known[entry.tie] = entry
            self.stated[entry.tie] = line, fill
        self._file(entries)

    def put_plain(self, entries: Sequence[FillEntry]) -> bool:
        """Store many at once; False, and none is stored, if an id is known or repeated."""
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

    def _file(self, entries: Sequence[FillEntry]) -> None:
        fills = self.fills
        for entry in entries:
            try:
                fills[entry[4]].append(entry)
            except KeyError:
                fills[entry.symbol] = [entry]


def _read(
    lines: Iterable[bytes], keeper: FillKeeper, put_plain: Callable[[Sequence[FillEntry]], bool] | None = None
) -> Reading:
    """`put_plain` stores plain lines together, if the format has them."""
    source = iter(lines)
    found = recognise(source)
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


def _taken(form: Form, lines: Sequence[bytes], put_plain: Callable[[Sequence[FillEntry]], bool]) -> bool:
    """Store plain lines together; False, and none is stored, if they must be judged one by one."""
    columns = None if form.columns is None else form.columns(lines)
    if columns is None:
        return False
    try:
        entries = plain_entries(columns)
    except NotPlain:
        return False
    return put_plain(entries)


class _Reader:
    """Judges lines, one at a time."""

    def __init__(self, form: Form, keeper: FillKeeper) -> None:
        self.reading = Reading()
        self._form = form
        self._keeper = keeper
        self._first: int | None = None
        self._last = 0

    def judge(self, line_number: int, line: bytes) -> None:
        """Read one line: its fills are stored unless known."""
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
        """Store all fills of one row, or none: an error in one refuses the row."""
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

    def _require_same(self, before: FillEntry, entry: FillEntry) -> None:
        if (before._replace(seq=entry.seq) if self._form.in_file_order else before) != entry:
            raise _other_content(entry)

    def finish(self) -> None:
        """After the last line: report unfinished ones, and let the file's direction order fills of the same time, if
        the format is ordered by line.
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


def _other_content(entry: FillEntry) -> FifoError:
    return FifoError("DUPLICATE_ID", f"the fill id {shown(entry.id)} was seen before with other content")
