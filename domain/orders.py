"""The life of an order: its states, its attempts, and how the exchange's cumulative reports fold into them.

Reports are cumulative per attempt and arrive late, twice or out of order, so they are merged, not applied: `merge` is
commutative, associative and idempotent (the greatest report wins, field by field in one total order), hence any order
with any repeats gives the same attempt. An order's filled size is the sum over its attempts (LIFE-5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from domain.errors import BotTraderError
from domain.money import ZERO, divide

__all__ = [
    "FINAL_ORDER_STATES",
    "TAKES_NO_MARKET",
    "AttemptStatus",
    "EntryPoint",
    "FillStep",
    "IllegalMove",
    "OrderRole",
    "OrderState",
    "OrderType",
    "Report",
    "Side",
    "TimeInForce",
    "Totals",
    "TradeState",
    "VenueStatus",
    "end_state",
    "fill_between",
    "merge",
    "move_order",
    "move_trade",
    "order_state",
    "public_state",
    "rounding",
    "shows_end",
    "total",
]


class Side(StrEnum):
    """Which way."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """Kinds of order we send."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_LIMIT = "STOP_LIMIT"
    BRACKET = "BRACKET"


class TimeInForce(StrEnum):
    """How long an order stays at the exchange."""

    GTC = "GTC"
    GTD = "GTD"
    IOC = "IOC"
    FOK = "FOK"


class OrderRole(StrEnum):
    """An order's purpose."""

    ENTRY = "ENTRY"
    EXIT = "EXIT"
    EXTERNAL = "EXTERNAL"
    """Not placed by the system, but recorded."""


class EntryPoint(StrEnum):
    """Which part of the system submitted an order, as the ledger stores it; other programs use their own names.

    It is part of the order's key, so a name never changes.
    """

    MANUAL = "manual"
    """A person, with a command of their own."""
    WEBHOOK = "webhook"
    """An alert."""
    STRATEGY = "strategy"
    MARKET_MAKER = "passive_mm"
    EXIT = "exit"
    """A trade's exit monitor."""
    PROTECTION = "protection"
    """A protective order that rests at the exchange for a trade."""
    DEMO = "demo"
    EXTERNAL = "external"
    """Not submitted by us: seen at the exchange."""


class VenueStatus(StrEnum):
    """An order's status as any venue reports it, normalised."""

    PENDING = "PENDING"
    """Accepted, not yet on the book (Coinbase PENDING, QUEUED)."""
    OPEN = "OPEN"
    CANCELLING = "CANCELLING"
    """A cancel is queued; it can still fill."""
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


class AttemptStatus(StrEnum):
    """An attempt as we know it. ABSENT and the last four are final."""

    SUBMITTING = "SUBMITTING"
    UNKNOWN = "UNKNOWN"
    ABSENT = "ABSENT"
    """Proven never to have reached the exchange; if it appears there after all, the exchange's report counts."""
    OPEN = "OPEN"
    CANCELLING = "CANCELLING"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        """Nothing more can happen to it at the exchange."""
        return self in _FINAL_ATTEMPT


_FINAL_ATTEMPT = frozenset(
    {
        AttemptStatus.ABSENT,
        AttemptStatus.FILLED,
        AttemptStatus.CANCELLED,
        AttemptStatus.EXPIRED,
        AttemptStatus.FAILED,
    }
)

# Higher wins when two reports of an attempt disagree. A fill outranks every other end, because it is money; any end
# that the exchange reports outranks any life, because an ended order does not come back (it fails after it was taken
# where it would have crossed as post-only). ABSENT is our own conclusion and outranks nothing that the exchange says,
# so that an order we took for absent comes to life when it is shown all the same (LIFE-3).
_RANK: Mapping[AttemptStatus, int] = {
    AttemptStatus.SUBMITTING: 0,
    AttemptStatus.UNKNOWN: 1,
    AttemptStatus.ABSENT: 2,
    AttemptStatus.OPEN: 3,
    AttemptStatus.CANCELLING: 4,
    AttemptStatus.FAILED: 5,
    AttemptStatus.EXPIRED: 6,
    AttemptStatus.CANCELLED: 7,
    AttemptStatus.FILLED: 8,
}

_OF_VENUE: Mapping[VenueStatus, AttemptStatus] = {
    VenueStatus.PENDING: AttemptStatus.OPEN,
    VenueStatus.OPEN: AttemptStatus.OPEN,
    VenueStatus.CANCELLING: AttemptStatus.CANCELLING,
    VenueStatus.FILLED: AttemptStatus.FILLED,
    VenueStatus.CANCELLED: AttemptStatus.CANCELLED,
    VenueStatus.EXPIRED: AttemptStatus.EXPIRED,
    VenueStatus.FAILED: AttemptStatus.FAILED,
}


_PLACE = Decimal("1e-16")


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals traded by an attempt (or an order) so far.

    Sizes and base fees in base currency, value and quote fees in quote currency; a rebate is a negative fee.
    """

    size: Decimal = ZERO
    value: Decimal = ZERO
    quote_fees: Decimal = ZERO
    base_fees: Decimal = ZERO

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.size + other.size,
            self.value + other.value,
            self.quote_fees + other.quote_fees,
            self.base_fees + other.base_fees,
        )

    def __sub__(self, other: Totals) -> Totals:
        return Totals(
            self.size - other.size,
            self.value - other.value,
            self.quote_fees - other.quote_fees,
            self.base_fees - other.base_fees,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Everything known about one attempt: its status and its totals."""

    status: AttemptStatus
    totals: Totals = Totals()

    @staticmethod
    def of_venue(status: VenueStatus, totals: Totals) -> Report:
        """A venue's report in our terms."""
        return Report(_OF_VENUE[status], totals)

    @property
    def final(self) -> bool:
        """Nothing more can happen to the attempt."""
        return self.status.final


def merge(known: Report, news: Report, *, settled: Decimal = ZERO) -> Report:
    """Merge a report into the known state; any order and any repeats of the same reports give the same result.

    Totals go together: the report with the greater filled size brings its value and fees. With equal sizes the greater
    value, then the greater fees win, so that a correction is taken once and for all. What is known up to the size
    `settled` (base) comes from the exchange's own executions, and no report of totals changes it again.
    """
    known_totals, news_totals = known.totals, news.totals
    if 0 < settled >= news_totals.size:
        news_totals = known_totals
    totals = max(known_totals, news_totals, key=lambda item: (item.size, item.value, item.quote_fees, item.base_fees))
    status = known.status if _RANK[known.status] >= _RANK[news.status] else news.status
    return Report(status, totals)


def shows_end(seen: Report, told: Decimal) -> bool:
    """Whether a look-up of an order reported as ended with `told` filled (base) shows its end.

    An answer in which it is open or has filled less is older than that report and is ignored.
    """
    return seen.final and seen.totals.size >= told


@dataclass(frozen=True, slots=True)
class FillStep:
    """What one report adds to the known totals: price and fees are derived.

    `size` in base, `value` in quote before fees; `price` is `value / size`.
    """

    size: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal


def fill_between(before: Totals, after: Totals) -> FillStep | None:
    """The fill that leads from `before` to `after`, or None if nothing was traded.

    A change of fees or value alone (a correction) is a fill of size zero: money is never dropped.
    """
    delta = after - before
    if delta == Totals():
        return None
    return FillStep(delta.size, delta.value, delta.quote_fees, delta.base_fees)


def rounding(prices: Iterable[Decimal]) -> Totals:
    """How far the sum of executions at these prices may differ from their order's totals.

    Venues report sizes and values to 16 places only, and the size of an execution reported in quote is a quotient.
    """
    rest = Totals()
    for price in prices:
        rest += Totals(_PLACE + divide(_PLACE, price), 10 * _PLACE + _PLACE * price, 10 * _PLACE, _PLACE)
    return rest


def total(attempts: Iterable[Totals]) -> Totals:
    """The sum over an order's attempts."""
    result = Totals()
    for item in attempts:
        result = result + item
    return result


class OrderState(StrEnum):
    """States of an order (LIFE-4)."""

    RECEIVED = "RECEIVED"
    ADMITTED = "ADMITTED"
    REJECTED = "REJECTED"
    SUBMITTING = "SUBMITTING"
    UNKNOWN = "UNKNOWN"
    OPEN = "OPEN"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    CANCELLING = "CANCELLING"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        """The order has ended."""
        return self in FINAL_ORDER_STATES


FINAL_ORDER_STATES = frozenset(
    {OrderState.REJECTED, OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.FAILED}
)


class TradeState(StrEnum):
    """States of a trade (LIFE-4)."""

    OPENING = "OPENING"
    PROTECTED = "PROTECTED"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"


class IllegalMove(BotTraderError, ValueError):
    """A state was asked to become one that it can't become."""

    code = "ILLEGAL_MOVE"


TAKES_NO_MARKET = frozenset({"UNSUPPORTED_ORDER_CONFIGURATION", "PREVIEW_INVALID_ORDER_TYPE_FOR_PRODUCT"})
"""Refusals of a MARKET order that say that its product takes only others now, whatever its rules said before."""

_S = OrderState
_LIVE = frozenset({_S.SUBMITTING, _S.UNKNOWN, _S.OPEN, _S.PARTIALLY_FILLED, _S.CANCELLING})
_ENDS = frozenset({_S.FILLED, _S.CANCELLED, _S.EXPIRED, _S.FAILED})
_ORDER_MOVES: Mapping[OrderState, frozenset[OrderState]] = {
    _S.RECEIVED: frozenset({_S.ADMITTED, _S.REJECTED}),
    # An admitted order may end without being sent: its decision grew too old, or it was cancelled first.
    _S.ADMITTED: frozenset({_S.SUBMITTING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
    _S.REJECTED: frozenset(),
    _S.SUBMITTING: _LIVE | _ENDS,
    _S.UNKNOWN: _LIVE | _ENDS,
    _S.OPEN: _LIVE | _ENDS,
    # A second attempt of a partly filled order is sent while its state stays PARTIALLY_FILLED.
    _S.PARTIALLY_FILLED: (_LIVE | _ENDS) - {_S.OPEN},
    _S.CANCELLING: _LIVE | _ENDS,
    # What the exchange says late is never refused: a fill after a cancel makes the order longer, not illegal.
    _S.CANCELLED: frozenset({_S.FILLED, _S.CANCELLING}),
    _S.EXPIRED: frozenset({_S.FILLED, _S.CANCELLING}),
    _S.FAILED: frozenset({_S.FILLED, _S.CANCELLED, _S.CANCELLING, _S.EXPIRED}),
    _S.FILLED: frozenset(),
}

_T = TradeState
_TRADE_MOVES: Mapping[TradeState, frozenset[TradeState]] = {
    _T.OPENING: frozenset({_T.PROTECTED, _T.CLOSED}),
    _T.PROTECTED: frozenset({_T.CLOSING, _T.CLOSED}),
    _T.CLOSING: frozenset({_T.PROTECTED, _T.CLOSED}),
    # A late fill opens it again: the position exists, so it must be protected.
    _T.CLOSED: frozenset({_T.PROTECTED}),
}


def move_order(now: OrderState, to: OrderState) -> OrderState:
    """`to`, if an order in state `now` may become it (staying is always allowed).

    Raises:
        IllegalMove: it may not.
    """
    if to is not now and to not in _ORDER_MOVES[now]:
        raise IllegalMove(f"an order that is {now} can't become {to}")
    return to


def move_trade(now: TradeState, to: TradeState) -> TradeState:
    """`to`, if a trade in state `now` may become it (staying is always allowed).

    Raises:
        IllegalMove: it may not.
    """
    if to is not now and to not in _TRADE_MOVES[now]:
        raise IllegalMove(f"a trade that is {now} can't become {to}")
    return to


def order_state(attempts: Iterable[Report], *, finished: bool, now: OrderState = OrderState.RECEIVED) -> OrderState:
    """The state of an admitted order, from its attempts in order of their numbers.

    `finished` means that no further attempt will be sent; then the last attempt's final status is the order's, even
    after partial fills (the filled size says how much). A final state (`now`) stays, unless the order may move to the
    other: an expired order's attempt is a cancelled one, as a repeated report says.
    """
    reports = list(attempts)
    if not reports:
        return OrderState.ADMITTED
    last = reports[-1]
    if last.status is AttemptStatus.FILLED:
        return OrderState.FILLED
    live = next((item for item in reversed(reports) if not item.final), None)
    if live is not None:
        if live.status in (AttemptStatus.CANCELLING, AttemptStatus.UNKNOWN):
            return OrderState(live.status.value)
        if any(item.totals.size > 0 for item in reports):
            return OrderState.PARTIALLY_FILLED
        return OrderState(live.status.value)
    if finished:
        end = end_state(last.status)
        return now if now.final and end not in _ORDER_MOVES[now] else end
    return OrderState.PARTIALLY_FILLED if any(r.totals.size > 0 for r in reports) else OrderState.SUBMITTING


def end_state(status: AttemptStatus) -> OrderState:
    """The state of an order that ends as its last attempt did (`status` is final)."""
    return OrderState.FAILED if status is AttemptStatus.ABSENT else OrderState(status.value)


def public_state(state: OrderState, filled: Decimal) -> str:
    """The API's name for a state: NEW (not yet at the exchange), ACTIVE (working), or the state itself."""
    if state in (OrderState.RECEIVED, OrderState.ADMITTED, OrderState.SUBMITTING, OrderState.UNKNOWN):
        return "NEW"
    if state in (OrderState.OPEN, OrderState.CANCELLING):
        return "PARTIALLY_FILLED" if filled > 0 else "ACTIVE"
    return state.value


def with_status(report: Report, status: AttemptStatus) -> Report:
    """The same totals under another status."""
    return replace(report, status=status)
