"""The same fill under two ids: Coinbase's reports name it differently in each form, and not at all in the older ones.

Known is what happened: moment, asset, side and size. A report cuts moments to the second or the millisecond, so two are
compared as exactly as the coarser of them says. Each fill is the same as one other at most: two of one moment and size
stay two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from domain.money import EXACT

__all__ = ["Seen", "Twins", "second_of"]

_PLACE = Decimal("1e-8")
"""To which reports round sizes, the finest of them at least."""
_STEPS = (1, 1_000, 1_000_000)
_ROUNDING = Decimal("0.05")
_SPREAD = Decimal("0.02")

_Key = tuple[str, bool, Decimal, datetime]


class Seen(NamedTuple):
    """A fill as it happened. `net`: with the fee for a buy, without it for a sell, in quote currency."""

    id: str
    symbol: str
    buy: bool
    size: Decimal
    net: Decimal
    at: datetime

    def costs_the_same(self, other: Seen) -> bool:
        """Whether both can be one fill by what it cost: within what reports round. Of other currencies nobody knows."""
        if self.symbol != other.symbol:
            return True
        return abs(self.net - other.net) <= _ROUNDING + _SPREAD * max(abs(self.net), abs(other.net))


class Twins:
    """Fills that are there, each to be found once by one of another id."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._there: dict[_Key, list[Seen]] = defaultdict(list)

    def put(self, there: Iterable[Seen]) -> None:
        """More of those that are there; a second time adds nothing."""
        for seen in there:
            if seen.id not in self._known:
                self._known.add(seen.id)
                self._there[_key(seen)].append(seen)

    def take(self, seen: Seen) -> Seen | None:
        """The one that is the same as `seen`, by symbol and cost if there are more; it is not found again."""
        key = _key(seen)
        found = self._there.get(key, [])
        fitting = [other for other in found if _same_moment(other.at, seen.at)]
        if not fitting:
            return None
        twin = min(fitting, key=lambda other: (other.symbol != seen.symbol, abs(other.net - seen.net)))
        found.remove(twin)
        if not found:
            del self._there[key]
        return twin


def second_of(at: datetime) -> datetime:
    """The second in which a moment lies."""
    return at.replace(microsecond=0)


def _key(seen: Seen) -> _Key:
    size = seen.size.quantize(_PLACE, ROUND_HALF_EVEN, EXACT)
    return seen.symbol.partition("-")[0], seen.buy, size, second_of(seen.at)


def _same_moment(one: datetime, other: datetime) -> bool:
    """Of moments within one second."""
    fine = one.microsecond, other.microsecond
    return any(fine[0] // step == fine[1] // step and 0 in (fine[0] % step, fine[1] % step) for step in _STEPS)
