"""Conversions of the transactions report, each once, however many rows describe it.

One row may have both sides in its Notes; each side may have a row with the same Notes; or a row has its own side only:
such rows are paired by their common ID or, for a Wrap, by kind and second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fifo.amounts import text_of
from fifo.fills import FifoError, Stated
from fifo.notes import Converted, converted, unclear
from fifo.sides import Valued, check_size, conversion_of, moment, near, require_at_par

__all__ = ["Content", "Conversions"]

Content = tuple[str, ...]
"""All fields of a row: the same ID with the same content is the same row again."""


class _Waiting(NamedTuple):
    """One side of a conversion, until the row of the other side is read."""

    row: Valued
    content: Content
    kind: str


class _Noted(NamedTuple):
    """A conversion that a row's Notes describe: the IDs of its rows, by asset, and its fills."""

    rows: dict[str, str]
    legs: list[Stated]


class Conversions:
    """The conversions of one report."""

    def __init__(self, counted: Callable[[str], str]) -> None:
        """`counted` makes an id from the content of a row without one."""
        self.other_rows: dict[str, str] = {}
        """If each side has a row with its own ID: the ID of one by that of the other, both ways."""
        self._counted = counted
        self._waiting: dict[str, _Waiting] = {}
        self._wraps: dict[tuple[str, int], list[_Waiting]] = {}
        self._known: dict[str, tuple[set[Content], list[Stated]]] = {}
        self._noted: dict[tuple[int, Converted], list[_Noted]] = {}

    def again(self, fill_id: str, content: Content) -> list[Stated] | None:
        """The fills of a conversion of which this row is a repeat; None if it isn't one."""
        contents, legs = self._known.get(fill_id, ((), []))
        return legs if content in contents else None

    def convert(self, side: Valued, content: Content, text: str) -> list[Stated]:
        """The fills of a Convert with `text` in its Notes; none yet if the other side has a row that follows.

        Raises FifoError.
        """
        notes = converted(text)
        if notes is not None:
            return self._by_notes(side, content, notes, text)
        if not side.id:
            raise _no_other_side()
        other = self._waiting.pop(side.id, None)
        if other is None or other.content == content:
            self._waiting[side.id] = other or _Waiting(side, content, "")
            return []
        if not _opposite(side, other.row) or side.time != other.row.time:
            self._waiting[side.id] = other
            raise FifoError(
                "CONTRADICTION", f"it and line {other.row.line} have one ID and are not the two sides of a conversion"
            )
        given, received = (side, other.row) if side.outgoing else (other.row, side)
        legs = conversion_of(received._replace(line=side.line), _told(given, received), side.id)
        return self._keep({side.id}, {content, other.content}, legs)

    def wrap(self, side: Valued, content: Content, text: str, kind: str) -> list[Stated]:
        """The same for a Wrap or Unwrap, whose two rows have an ID each and don't refer to each other.

        Raises FifoError also if two rows could be the other side.
        """
        notes = converted(text)
        if notes is not None:
            return self._by_notes(side, content, notes, text)
        waiting = self._wraps.setdefault((kind, side.time), [])
        if side.id and any(other.content == content for other in waiting):
            return []
        possible = [other for other in waiting if _opposite(side, other.row)]
        if not possible:
            waiting.append(_Waiting(side, content, kind))
            return []
        other = possible[0]
        if any(more.content != other.content for more in possible):
            lines = " and ".join(str(more.row.line) for more in possible[:2])
            raise FifoError("CONTRADICTION", f"the {kind} of line {lines} could each be its other side")
        given, received = (side, other.row) if side.outgoing else (other.row, side)
        worth = given.worth(), received.worth()
        if all(worth) and not near(*worth, side.currency):
            raise FifoError(
                "CONTRADICTION",
                f"{text_of(worth[0])} was given and {text_of(worth[1])} received, if line {other.row.line} is its "
                "other side",
            )
        waiting.remove(other)
        told = _told(given, received)
        valued = (received if worth[1] else given)._replace(line=side.line)
        legs = conversion_of(valued, told, given.id or received.id or self._said(received, told))
        self._are_one(given.id, received.id)
        return self._keep({given.id, received.id}, {content, other.content}, legs)

    def unfinished(self) -> list[tuple[int, FifoError]]:
        """Lines of conversions whose other side is missing."""
        return [(side.row.line, _no_other_side()) for side in self._waiting.values()]

    def alone(self) -> list[tuple[int, str]]:
        """Line and kind of each Wrap whose other side is missing."""
        return sorted((side.row.line, side.kind) for waiting in self._wraps.values() for side in waiting)

    def _by_notes(self, side: Valued, content: Content, notes: Converted, text: str) -> list[Stated]:
        _check_side(side, notes, text)
        if side.id in self._known:
            # Both sides have a row, and each row's Notes have both sides.
            self._known[side.id][0].add(content)
            return self._known[side.id][1]
        self._waiting.pop(side.id, None)
        return self._keep({side.id}, {content}, self._noted_legs(side, notes))

    def _noted_legs(self, side: Valued, notes: Converted) -> list[Stated]:
        """The fills that a row's Notes describe, whichever side's row is first.

        If both sides have a row, both have the same moment and Notes, and no ID or one each.
        """
        alike = self._noted.setdefault((side.time, notes), [])
        other = next((noted for noted in alike if side.asset not in noted.rows), None)
        if other is None:
            other = _Noted({}, conversion_of(side, notes, side.id or self._said(side, notes)))
            alike.append(other)
        for fill_id in other.rows.values():
            self._are_one(fill_id, side.id)
        other.rows[side.asset] = side.id
        return other.legs

    def _are_one(self, one: str, other: str) -> None:
        if one and other and one != other:
            self.other_rows |= {one: other, other: one}

    def _keep(self, ids: set[str], contents: set[Content], legs: list[Stated]) -> list[Stated]:
        for fill_id in ids - {""}:
            self._known[fill_id] = contents, legs
        return legs

    def _said(self, side: Valued, notes: Converted) -> str:
        return self._counted(
            f"{moment(side.time)} convert {text_of(notes.given_size)} {notes.given} to "
            f"{text_of(notes.received_size)} {notes.received} for {text_of(side.worth())} {side.currency}"
        )


def _told(given: Valued, received: Valued) -> Converted:
    return Converted(given.size, given.asset, received.size, received.asset)


def _opposite(one: Valued, other: Valued) -> bool:
    """Whether one was given and the other received."""
    return one.outgoing != other.outgoing and one.asset != other.asset and one.currency == other.currency


def _check_side(side: Valued, notes: Converted, text: str) -> None:
    sizes = {notes.given: notes.given_size, notes.received: notes.received_size}
    if side.asset not in sizes or notes.given == notes.received:
        raise FifoError("CONTRADICTION", f"Notes convert {notes.given} to {notes.received}, Asset is {side.asset}")
    check_size(side, sizes[side.asset])
    other = notes.received if side.asset == notes.given else notes.given
    require_at_par(side, sizes[other], other, comma=unclear(text, other))


def _no_other_side() -> FifoError:
    return FifoError(
        "OTHER_SIDE_MISSING", "Notes do not say what was converted to what, and no other row of its ID does"
    )
