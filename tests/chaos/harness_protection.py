"""How long positions were unprotected, from a run's records. Pure. Times are zoned, spans in seconds.

A position is unprotected from a fill at the exchange until the exit plan that covers it is written, while it is armed
and nobody holds the lease to watch its price, and while a price stop is due and no exit order is at the exchange. A
protective order that rests there is such an order: it needs no watcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

__all__ = [
    "PlanNote",
    "Position",
    "Span",
    "covered",
    "gaps_between",
    "length",
    "percentile",
    "spans_of",
    "split_by_outages",
    "stretches",
]

Span = tuple[datetime, datetime]
_RECOVERY = timedelta(seconds=5)
"""An outage counts for this long after the process is started again: it must start, and take over."""


@dataclass(frozen=True, slots=True)
class PlanNote:
    """The exit plan as written at `at`."""

    at: datetime
    state: str
    quantity: Decimal
    entry_price: Decimal


@dataclass(slots=True)
class Position:
    """One trade: its fills at the exchange (time, cumulative size), when each size was in our books, its plan, its exit
    orders (from, to), the soft stop as a fraction, and the leases under which its price is watched.
    """

    entry_key: str
    symbol: str
    soft_stop: Decimal
    bought: list[tuple[datetime, Decimal]] = field(default_factory=list)
    booked: list[tuple[datetime, Decimal]] = field(default_factory=list)
    plan: list[PlanNote] = field(default_factory=list)
    exits: list[Span] = field(default_factory=list)
    end: datetime | None = None


def gaps_between(held: Iterable[Span], since: datetime, until: datetime) -> list[Span]:
    """The parts of (since, until) that no span of `held` covers."""
    found: list[Span] = []
    at = since
    for begin, end in sorted(held):
        if begin > at:
            found.append((at, min(begin, until)))
        at = max(at, end)
        if at >= until:
            break
    if at < until:
        found.append((at, until))
    return [(begin, end) for begin, end in found if begin < end]


def split_by_outages(spans: Iterable[Span], outages: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """The spans in which at most one process was down or had just come back, and those with several."""
    single: list[Span] = []
    several: list[Span] = []
    for begin, end in spans:
        near = sum(gone < end and back + _RECOVERY > begin for gone, back in outages)
        (single if near <= 1 else several).append((begin, end))
    return single, several


def covered(span: Span, by: Iterable[Span]) -> list[Span]:
    """The parts of `span` that lie in `by`."""
    found = [(max(span[0], begin), min(span[1], end)) for begin, end in by]
    return [(begin, end) for begin, end in found if begin < end]


def length(spans: Iterable[Span]) -> float:
    """Seconds that the union of the spans lasts."""
    return sum((end - begin).total_seconds() for begin, end in stretches(spans))


def stretches(spans: Iterable[Span]) -> list[Span]:
    """The spans, with touching or overlapping ones merged."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent * 100) // 10_000) - 1))]


def spans_of(
    position: Position, unwatched: Sequence[Span], prices: Sequence[tuple[datetime, Decimal]], end: datetime
) -> Mapping[str, list[Span]]:
    """The unprotected spans of a position by cause. `unwatched` are the times without a lease holder, `prices` the
    bids."""
    until = position.end or end
    if not position.bought:
        return {}
    return {
        "fill not in a plan yet": _late(position, until),
        "nobody watched the price": [
            part
            for span in _armed_spans(position, until)
            for gap in covered(span, unwatched)
            for part in gaps_between(position.exits, *gap)
        ],
        "stop due, no exit order": _overdue(position, prices, until),
    }


def _late(position: Position, until: datetime) -> list[Span]:
    found = []
    for at, size in position.bought:
        known = next((when for when, booked in position.booked if booked >= size), until)
        if known > at:
            found.append((at, known))
    return found


def _armed_spans(position: Position, until: datetime) -> list[Span]:
    found = []
    ends = [*(note.at for note in position.plan[1:]), until][: len(position.plan)]
    for note, end in zip(position.plan, ends, strict=True):
        if note.state == "ARMED" and note.at < end:
            found.append((note.at, min(end, until)))
    return found


def _overdue(position: Position, prices: Sequence[tuple[datetime, Decimal]], until: datetime) -> list[Span]:
    """From the first bid at or below the soft stop to the exit order, or to the price's recovery."""
    found: list[Span] = []
    due: datetime | None = None
    for at, level in _levels(position, prices, until):
        below = level
        if below and due is None:
            due = at
        elif not below and due is not None:
            found.append((due, at))
            due = None
    if due is not None:
        found.append((due, until))
    overdue = []
    for begin, end in found:
        if any(start <= begin < stop for start, stop in position.exits):
            continue
        first = min((start for start, _ in position.exits if start >= begin), default=end)
        overdue.append((begin, min(first, end)))
    return [(begin, end) for begin, end in overdue if begin < end]


def _levels(
    position: Position, prices: Sequence[tuple[datetime, Decimal]], until: datetime
) -> Iterable[tuple[datetime, bool]]:
    """Whether the bid is at or below the soft stop, each time the bid or the plan changes."""
    moments = sorted(
        [(at, "bid", bid) for at, bid in prices] + [(note.at, "entry", note.entry_price) for note in position.plan],
        key=lambda item: item[0],
    )
    bid: Decimal | None = None
    entry: Decimal | None = None
    for at, what, value in moments:
        if at >= until:
            return
        if what == "bid":
            bid = value
        else:
            entry = value
        if bid is not None and entry is not None:
            yield at, bid <= entry * (1 - position.soft_stop)
