"""What reconcile compares (the journal, the exchange's records) and what it finds: differences, and what is done about
each. `domain.reconcile` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.messages import StatusSource
from domain.money import ZERO
from domain.orders import Report, Side

__all__ = ["Difference", "Execution", "Finding", "Journal", "Known", "Records", "Remedy", "Seen"]


class Difference(StrEnum):
    """What a difference is called."""

    UNKNOWN_TO_US = "UNKNOWN_TO_US"
    """The exchange has an order that the journal has not: somebody else placed it."""
    UNKNOWN_TO_EXCHANGE = "UNKNOWN_TO_EXCHANGE"
    """The journal has the exchange's own id of an order, and the exchange says that there is none."""
    BEHIND = "BEHIND"
    """The exchange knows more of an order than we do."""
    AHEAD = "AHEAD"
    """We know more than the list, which was made a moment earlier."""
    OVERBOOKED = "OVERBOOKED"
    """The order has ended at the exchange with less than we have booked."""
    VANISHED = "VANISHED"
    """Not among the open orders and not in the list: what became of it must be looked up."""
    STILL_OPEN = "STILL_OPEN"
    """Looked up: it lives (lists of open orders leave out what is not on the book yet)."""
    ENDED = "ENDED"
    """Its end stands in the order history and the trade history adds up to it."""
    UNCONFIRMED = "UNCONFIRMED"
    """Its end stands in the order history, but the trade history does not add up to it (yet)."""
    LATE_APPEARANCE = "LATE_APPEARANCE"
    """An attempt that was taken for absent is there all the same."""
    IN_FLIGHT = "IN_FLIGHT"
    """Sent and not listed, or only just acknowledged: its workflow finds out."""
    CHANGED_SIDE = "CHANGED_SIDE"
    CHANGED_SYMBOL = "CHANGED_SYMBOL"
    FILL_WITHOUT_ORDER = "FILL_WITHOUT_ORDER"
    """An execution of an order that neither the journal nor the list has."""
    FILLS_TO_SETTLE = "FILLS_TO_SETTLE"
    """The exchange's own executions are to take the place of the derived ones."""
    BAD_FILL = "BAD_FILL"
    UNKNOWN_PRODUCT = "UNKNOWN_PRODUCT"
    FEE_IN_OTHER_CURRENCY = "FEE_IN_OTHER_CURRENCY"


class Remedy(StrEnum):
    """What is done about a difference."""

    NONE = "NONE"
    RECORD = "RECORD"
    """The report goes the way of a live update: stored, then routed to its workflow or the ledger."""
    ADOPT = "ADOPT"
    """Recorded as an order that we did not place."""
    LOOK_UP = "LOOK_UP"
    """The order is asked for by its id, then `resolve` decides."""
    SETTLE = "SETTLE"
    WAIT = "WAIT"
    """Nothing yet; the next run looks again."""
    INCIDENT = "INCIDENT"


@dataclass(frozen=True, slots=True)
class Known:
    """An attempt of the journal. `acknowledged_at` is when the exchange's answer came, in our time."""

    order_key: str
    number: int
    client_order_id: str
    exchange_order_id: str | None
    symbol: str
    side: Side
    report: Report
    external: bool = False
    sent: bool = True
    acknowledged_at: datetime | None = None
    settled: Decimal = ZERO
    """Up to this size (base) the ledger has the exchange's own executions."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An order in the exchange's records. Fees in third currencies by currency."""

    exchange_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    report: Report
    source: StatusSource
    other_fees: Mapping[str, Decimal] = field(default_factory=dict)
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution in the exchange's records; `size` in base, `price` in quote per base."""

    trade_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    size: Decimal
    price: Decimal
    fee_currency: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Journal:
    """What we know: attempts that have not ended and those that the lists name, and the executions that are booked.

    `booked` are pairs of the exchange's order id and trade id; `derived` are orders with fills that were computed from
    totals.
    """

    attempts: Sequence[Known] = ()
    booked: Collection[tuple[str, str]] = frozenset()
    derived: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Records:
    """What the exchange shows, read before the journal was. `asked_at` is our time just before the first question."""

    asked_at: datetime
    orders: Sequence[Seen] = ()
    executions: Sequence[Execution] = ()
    products: Collection[str] | None = None
    """Products that the exchange has; None where that could not be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference, what is done about it, and why, in a sentence."""

    difference: Difference
    action: Remedy
    subject: str
    """The exchange's order id, or ours where it has none."""
    symbol: str
    sentence: str
    seen: Seen | None = None
    known: Known | None = None
    critical: bool = False
    trade_ids: tuple[str, ...] = ()
