"""The contents of a recording of streams: connections, products with their books, orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from domain.money import ZERO
from domain.orders import Report, Side
from exchange.coinbase.streams import SnapshotProgress
from exchange.port import BookLevel, BookUpdate, PublicTrade, Ticker
from exchange.sequence import Arrival, SequenceTracker

__all__ = ["EPOCH", "RecordedBook", "RecordedConnection", "RecordedOrder", "RecordedProduct"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_MISSING = 100_000
"""Missing numbers remembered one by one below a recording's first; more are only counted."""


class RecordedBook:
    """One product's book. While an earlier message is missing, each level keeps the number of the message that set
    it."""

    __slots__ = ("_newest", "_since", "connection", "sides")

    def __init__(self) -> None:
        self.sides: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        self.connection = 0
        self._since: int | None = None
        self._newest: dict[tuple[Side, Decimal], int] = {}

    def apply(self, update: BookUpdate, connection: RecordedConnection, sequence: int) -> None:
        """Apply an update at its place in the sequence, even if it arrives late."""
        if connection.number != self.connection:
            self.sides = {Side.BUY: {}, Side.SELL: {}}
            self._since, self.connection = None, connection.number
            self._newest.clear()
        late = connection.late
        keep = late or connection.cut or bool(connection.tracker.missing)
        if not keep:
            self._newest.clear()
        if self._since is not None and sequence < self._since:
            return
        if update.snapshot:
            self._replace(update, sequence)
            return
        newest, sides = self._newest, self.sides
        for level in update.levels:
            key = (level.side, level.price)
            if late and newest.get(key, -1) > sequence:
                continue
            if keep:
                newest[key] = sequence
            _set(sides[level.side], level)

    def _replace(self, update: BookUpdate, sequence: int) -> None:
        # If the snapshot is late, levels set by later messages stay.
        later = {key: number for key, number in self._newest.items() if number > sequence}
        kept = [BookLevel(side, price, self.sides[side].get(price, ZERO)) for side, price in later]
        self.sides = {Side.BUY: {}, Side.SELL: {}}
        for level in (*update.levels, *kept):
            _set(self.sides[level.side], level)
        self._since, self._newest = sequence, later

    def complete(self, connection: RecordedConnection) -> bool:
        """Whether it began with a snapshot on this connection and no message has been missed since."""
        since, tracker = self._since, connection.tracker
        return (
            since is not None
            and self.connection == connection.number
            and not tracker.overflow
            and not any(number > since for number in tracker.missing)
        )


def _set(side: dict[Decimal, Decimal], level: BookLevel) -> None:
    if level.size:
        side[level.price] = level.size
    else:
        side.pop(level.price, None)


@dataclass(slots=True)
class RecordedProduct:
    """A product of a recording."""

    book: RecordedBook | None = None
    trades: dict[str, PublicTrade] = field(default_factory=dict)
    ticker: Ticker | None = None
    ticker_place: tuple[int, int] = (0, -1)


@dataclass(slots=True)
class RecordedOrder:
    """An order of a recording, as its messages reported it."""

    symbol: str
    side: Side
    client_order_id: str
    report: Report
    status: str
    status_place: tuple[int, int] = (0, -1)
    fills: list[dict[str, Any]] = field(default_factory=list)
    updates: int = 0


@dataclass(slots=True)
class RecordedConnection:
    """A connection of a recording."""

    number: int
    line: int
    tracker: SequenceTracker
    lowest: int
    """The lowest number seen, or the first expected one."""
    cut: bool
    """The recording begins in its middle: numbers below the lowest may still follow."""
    newest: datetime = EPOCH
    """The newest message time."""
    first: bytes = b""
    late: bool = False
    """The current message is late."""
    user_messages: list[tuple[int, tuple[int, bool, bool]]] = field(default_factory=list)
    """Number and content (orders, in a snapshot, in an update) of the user channel's messages."""

    def reach_back(self, sequence: int) -> Arrival:
        """Accept a number below the lowest; those in between are missing."""
        first = max(sequence + 1, self.lowest - _MOST_MISSING)
        self.tracker.missing.update(range(first, self.lowest))
        self.tracker.overflow += first - sequence - 1
        self.lowest, self.cut = sequence, sequence > 0
        return Arrival(late=True)

    def snapshot(self) -> SnapshotProgress:
        """The progress of the list of open orders, its messages taken in order."""
        progress = SnapshotProgress()
        for sequence, content in sorted(self.user_messages):
            progress.note(*content, sequence, self.tracker)
        return progress
