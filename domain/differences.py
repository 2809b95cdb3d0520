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
    """The exchange has an order that is not in the journal: an external order."""
    UNKNOWN_TO_EXCHANGE = "UNKNOWN_TO_EXCHANGE"
    """The journal has an order with an exchange id that the exchange does not know."""
    BEHIND = "BEHIND"
    """The exchange's report of an order is newer than ours."""
    AHEAD = "AHEAD"
    """Our report is newer than the list, which was read a moment earlier."""
    OVERBOOKED = "OVERBOOKED"
    """The order has ended at the exchange with less than we have booked."""
    VANISHED = "VANISHED"
    """Neither among the open orders nor in the list: its state must be looked up."""
    STILL_OPEN = "STILL_OPEN"
    """Looked up: it is open (lists of open orders omit orders that are not on the book yet)."""
    ENDED = "ENDED"
    """Its end is in the order history, and the trade history adds up to it."""
    UNCONFIRMED = "UNCONFIRMED"
    """Its end is in the order history, but the trade history does not add up to it (yet)."""
    LATE_APPEARANCE = "LATE_APPEARANCE"
    """An attempt that was recorded as absent is at the exchange after all."""
    IN_FLIGHT = "IN_FLIGHT"
    """Sent but not listed, or only just acknowledged: its workflow looks it up."""
    CHANGED_SIDE = "CHANGED_SIDE"
    CHANGED_SYMBOL = "CHANGED_SYMBOL"
    FILL_WITHOUT_ORDER = "FILL_WITHOUT_ORDER"
    """An execution of an order that neither the journal nor the list has."""
    FILLS_TO_SETTLE = "FILLS_TO_SETTLE"
    """The exchange's own executions replace the derived fills."""
    BAD_FILL = "BAD_FILL"
    UNKNOWN_PRODUCT = "UNKNOWN_PRODUCT"
    FEE_IN_OTHER_CURRENCY = "FEE_IN_OTHER_CURRENCY"


class Remedy(StrEnum):
    """What is done about a difference."""

    NONE = "NONE"
    RECORD = "RECORD"
    """The report is handled like a stream update: stored, then routed to its workflow or the ledger."""
    ADOPT = "ADOPT"
    """Recorded as an order that we did not place."""
    LOOK_UP = "LOOK_UP"
    """The order is requested by its id, then `resolve` decides."""
    SETTLE = "SETTLE"
    WAIT = "WAIT"
    """Nothing yet; the next run checks again."""
    INCIDENT = "INCIDENT"


@dataclass(frozen=True, slots=True)
class Known:
    """An attempt of the journal. `acknowledged_at` is when the exchange's answer arrived, by our clock."""

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
    """Our side: open attempts, attempts named in the lists, and booked executions.

    `booked` are pairs of the exchange's order id and trade id; `derived` are orders with fills that were computed from
    totals.
    """

    attempts: Sequence[Known] = ()
    booked: Collection[tuple[str, str]] = frozenset()
    derived: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Records:
    """The exchange's side, read before the journal. `asked_at` is our time just before the first request."""

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
