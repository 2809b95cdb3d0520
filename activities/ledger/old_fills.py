"""Fills of a file during an import, kept in a temporary file: a million of them don't fit in memory twice.

The temporary file has no name and disappears with the process. Fills are written as they are read, sorted once, and
then processed in chunks; each has a fate: what the ledger does with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from domain.market import currencies
from domain.money import EXACT, ZERO, divide
from domain.orders import Side
from fifo.alike import SeenFill
from fifo.amounts import decimal_of
from fifo.fills import FifoError, Stated
from fifo.line import FillEntry
from fifo.parsing import shown
from fifo.reading import StatedFill

__all__ = ["Fate", "OldFill", "OldFills", "old_fill"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_COIN = datetime(2009, 1, 3, tzinfo=UTC)
_CHUNK = 5_000
_LARGEST_SEQ = _LAST_TIME = 2**62
_SET_UP = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000; PRAGMA temp_store = FILE"

# Amounts are texts: they have more digits than SQLite's numbers.
_AS_READ = """
CREATE TABLE read (
    tie TEXT PRIMARY KEY, id TEXT, symbol TEXT, time INTEGER, seq INTEGER, buy INTEGER, entry_size TEXT, moved TEXT,
    amount TEXT, line INTEGER, size TEXT, price TEXT, value TEXT, quote_fees TEXT, base_fees TEXT
) WITHOUT ROWID
"""
_SORTED = """
CREATE TABLE sorted (
    number INTEGER PRIMARY KEY, id TEXT, symbol TEXT, time INTEGER, buy INTEGER, line INTEGER, size TEXT, price TEXT,
    value TEXT, quote_fees TEXT, base_fees TEXT, fate TEXT
);
INSERT INTO sorted (id, symbol, time, buy, line, size, price, value, quote_fees, base_fees)
SELECT id, symbol, time, buy, line, size, price, value, quote_fees, base_fees FROM read
 ORDER BY symbol, time, seq * {sign}, tie;
DROP TABLE read;
CREATE INDEX by_line ON sorted (line);
CREATE INDEX by_id ON sorted (id);
"""
_COLUMNS = "line, id, symbol, buy, size, price, value, quote_fees, base_fees, time"


class Fate(StrEnum):
    """What the ledger does with a fill of a file."""

    NEW = "new"
    KNOWN = "known"
    OWN = "own"
    """The ledger recorded its order itself."""
    LATER = "later"
    """It is left to reconcile."""
    OUT = "out"
    """Refused, or existing under another id."""


@dataclass(frozen=True, slots=True)
class OldFill:
    """A fill of a file as the ledger stores it; `line` is its line number. Fees in a third currency count as quote."""

    line: int
    id: str
    symbol: str
    side: Side
    size: Decimal
    price: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal
    at: datetime

    @property
    def seen(self) -> SeenFill:
        """Its identity without its id."""
        buy = self.side is Side.BUY
        net = self.value + self.quote_fees if buy else self.value - self.quote_fees
        return SeenFill(self.id, self.symbol, buy, self.size, net, self.at)

    @property
    def content(self) -> tuple[Any, ...]:
        """The content that a repeat of the id must have."""
        return self.symbol, self.side, self.size, self.value, self.quote_fees, self.base_fees, self.at


def old_fill(given: StatedFill) -> OldFill:
    """A line's fill as the ledger stores it.

    Raises FifoError: NOT_A_PRODUCT, REBATE_IN_BASE, NOT_AN_ID, NOT_A_TIME.
    """
    stated, entry = given.stated, given.entry
    if currencies(entry.symbol) is None or entry.symbol != entry.symbol.upper() or not entry.symbol.isprintable():
        # A name in small letters would get a FIFO book of its own, beside the product's.
        raise FifoError(
            "NOT_A_PRODUCT", f"{entry.symbol!r} is not a product of a base and a quote currency like BTC-USD"
        )
    if not str(entry.id).isprintable():
        raise FifoError("NOT_AN_ID", f"id {shown(entry.id)} contains unprintable characters")
    at = _at(entry.time)
    if entry.time > _LAST_TIME:
        raise FifoError("NOT_A_TIME", f"time {at:%Y-%m-%d} is far ahead")
    if at < _FIRST_COIN:
        raise FifoError("NOT_A_TIME", f"time {at:%Y-%m-%d} is before 2009, when no coins existed")
    base_fee = entry.size - entry.moved if entry.buy else entry.moved - entry.size
    if base_fee < 0:
        raise FifoError("REBATE_IN_BASE", "a rebate in base currency can't be stored: give it in quote currency")
    size, price = decimal_of(stated.size), decimal_of(stated.price)
    value = EXACT.multiply(size, price) if stated.value is None else decimal_of(stated.value)
    fees = ZERO if base_fee else decimal_of(stated.fee)
    if stated.fee_currency == "other" and stated.fee_rate is not None:
        fees = EXACT.multiply(fees, decimal_of(stated.fee_rate))
    return OldFill(
        line=given.line,
        id=str(entry.id),
        symbol=entry.symbol,
        side=Side.BUY if entry.buy else Side.SELL,
        size=size,
        price=price if stated.value is None else divide(value, size),
        value=value,
        quote_fees=fees,
        base_fees=decimal_of(base_fee),
        at=at,
    )


class OldFills:
    """The fills of a file (a `fifo.reading.FillKeeper`): read, then `put_in_order`, then processed."""

    def __init__(self) -> None:
        # No name: a file in the folder for temporary ones, which nobody else sees.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(_SET_UP)
        self._file.execute(_AS_READ)
        self._file.execute("BEGIN")
        self._numbers: dict[str, tuple[int, int]] = {}
        """The first and last number of a symbol's fills, which are adjacent."""

    def __len__(self) -> int:
        return self._count("SELECT count(*) FROM sorted")

    def find(self, tie: str) -> FillEntry | None:
        """The fill as read, by its Entry's `tie`."""
        row = self._file.execute(
            "SELECT time, seq, tie, id, symbol, buy, entry_size, moved, amount FROM read WHERE tie = ?", (tie,)
        ).fetchone()
        return None if row is None else FillEntry._make([*row[:5], bool(row[5]), *map(int, row[6:])])

    def put(self, line: int, stated: Sequence[Stated], entries: Sequence[FillEntry]) -> None:
        """Store one row's fills, all or none. Raises FifoError, as `old_fill` or NOT_A_NUMBER."""
        rows = []
        for fill, entry in zip(stated, entries, strict=True):
            if abs(entry.seq) > _LARGEST_SEQ:
                raise FifoError("NOT_A_NUMBER", f"seq is too large: {shown(entry.seq)}")
            old = old_fill(StatedFill(line, fill, entry))
            amounts = (old.size, old.price, old.value, old.quote_fees, old.base_fees)
            rows.append(
                (
                    entry.tie, entry.id, entry.symbol, entry.time, entry.seq, entry.buy, str(entry.size),
                    str(entry.moved), str(entry.amount), line, *map(str, amounts),
                )
            )  # fmt: skip
        self._file.executemany(f"INSERT INTO read VALUES ({','.join('?' * 15)})", rows)

    def put_in_order(self, *, newest_first: bool) -> None:
        """Sort after the last: by symbol, time, sequence and id. In a file with the newest first, the sequence counts
        backwards."""
        self._file.execute("COMMIT")
        self._file.executescript(_SORTED.format(sign=-1 if newest_first else 1))
        for symbol, first, last in self._file.execute("SELECT symbol, min(number), max(number) FROM sorted GROUP BY 1"):
            self._numbers[symbol] = first, last

    def symbols(self) -> list[str]:
        """The file's symbols, by name."""
        return sorted(self._numbers)

    def count(self, symbol: str, fate: Fate) -> int:
        """How many of a symbol's fills have this fate."""
        return self._count(
            "SELECT count(*) FROM sorted WHERE number BETWEEN ? AND ? AND fate = ?", *self._numbers[symbol], fate.value
        )

    def chunks(self, symbol: str, fate: Fate | None) -> Iterator[list[OldFill]]:
        """A symbol's fills with this fate (None: undecided), in order, some thousand at a time."""
        number, last = self._numbers[symbol]
        while True:
            rows = self._file.execute(
                f"SELECT number, {_COLUMNS} FROM sorted WHERE number BETWEEN ? AND ? AND fate IS ? "
                "ORDER BY number LIMIT ?",
                (number, last, fate and fate.value, _CHUNK),
            ).fetchall()
            if not rows:
                return
            number = rows[-1][0] + 1
            yield [_old(row[1:]) for row in rows]

    def of_lines(self, lines: Iterable[int]) -> Iterator[list[OldFill]]:
        """The new fills of each of these lines."""
        for line in lines:
            found = self._file.execute(
                f"SELECT {_COLUMNS} FROM sorted WHERE line = ? AND fate = ? ORDER BY number", (line, Fate.NEW.value)
            )
            yield [_old(row) for row in found]

    def decide(self, fates: Iterable[tuple[str, Fate]]) -> None:
        """Set the fates of the fills with these ids."""
        self._file.execute("BEGIN")
        self._file.executemany("UPDATE sorted SET fate = ? WHERE id = ?", [(fate.value, name) for name, fate in fates])
        self._file.execute("COMMIT")

    def leave_out(self, lines: Collection[int]) -> None:
        """Mark the new fills of these lines as not new."""
        self._file.executemany(
            "UPDATE sorted SET fate = ? WHERE line = ? AND fate = ?",
            [(Fate.OUT.value, line, Fate.NEW.value) for line in lines],
        )

    def has(self, fill_id: str) -> bool:
        """Whether a fill with this id is in the file."""
        return bool(self._count("SELECT count(*) FROM sorted WHERE id = ?", fill_id))

    def close(self) -> None:
        """Free its disk space."""
        self._file.close()

    def _count(self, statement: str, *arguments: object) -> int:
        (found,) = self._file.execute(statement, arguments).fetchone()
        return int(found)


def _old(row: Sequence[Any]) -> OldFill:
    line, fill_id, symbol, buy, *amounts, time = row
    size, price, value, quote_fees, base_fees = map(Decimal, amounts)
    side = Side.BUY if buy else Side.SELL
    return OldFill(line, fill_id, symbol, side, size, price, value, quote_fees, base_fees, _at(time))


def _at(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time // 1_000)
