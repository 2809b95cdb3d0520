"""Sequence numbers of a stream: gaps, late messages and repeats."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Arrival", "SequenceTracker"]

_MOST_MISSING = 100_000
"""Missing numbers remembered one by one; beyond that they are only counted."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The place of a numbered message: `in_order`, after a gap (`missed` > 0), `late` (it fills a gap) or a repeat."""

    missed: int = 0
    late: bool = False
    repeat: bool = False


_AFTER = Arrival()
_LATE = Arrival(late=True)
_REPEAT = Arrival(repeat=True)


class SequenceTracker:
    """Classifies the numbers of one connection: each is new once, and missing ones are remembered."""

    __slots__ = ("expected", "missing", "overflow")

    def __init__(self, first: int = 0) -> None:
        self.expected = first
        self.missing: set[int] = set()
        self.overflow = 0

    @property
    def missed(self) -> int:
        """How many numbers below `expected` never arrived."""
        return len(self.missing) + self.overflow

    def place(self, number: int) -> Arrival:
        """Record a number and return its place."""
        expected = self.expected
        if number == expected:
            self.expected = expected + 1
            return _AFTER
        if number > expected:
            missed = number - expected
            remembered = min(missed, max(0, _MOST_MISSING - len(self.missing)))
            self.missing.update(range(number - remembered, number))
            self.overflow += missed - remembered
            self.expected = number + 1
            return Arrival(missed=missed)
        if number in self.missing:
            self.missing.discard(number)
            return _LATE
        return _REPEAT
