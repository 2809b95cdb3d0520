"""Orders as the venue knows them: the request (`OrderTerms`) and its state (`Order`, `PaperFill`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from exchange.paper.errors import Refusal
from exchange.paper.numbers import ZERO, parse, parse_time

__all__ = [
    "TERMINAL",
    "Order",
    "OrderTerms",
    "PaperFill",
    "PaperOrderKind",
    "Side",
    "Status",
    "TimeInForce",
    "Trade",
    "read_terms",
]


class Side(StrEnum):
    """Side of an order or of a maker."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class Status(StrEnum):
    """Order status, by the venue's names."""

    PENDING = "PENDING"
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    QUEUED = "QUEUED"
    CANCEL_QUEUED = "CANCEL_QUEUED"
    EDIT_QUEUED = "EDIT_QUEUED"


TERMINAL = frozenset({Status.FILLED, Status.CANCELLED, Status.EXPIRED, Status.FAILED})


class PaperOrderKind(StrEnum):
    """Order type, by the venue's names."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_LIMIT = "STOP_LIMIT"
    BRACKET = "BRACKET"


class TimeInForce(StrEnum):
    """How long an order stays, by the venue's names."""

    GTC = "GOOD_UNTIL_CANCELLED"
    GTD = "GOOD_UNTIL_DATE_TIME"
    IOC = "IMMEDIATE_OR_CANCEL"
    FOK = "FILL_OR_KILL"


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """A requested order. Exactly one of `base_size` and `quote_size` is set (neither on an attached bracket)."""

    kind: PaperOrderKind
    time_in_force: TimeInForce
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    stop_up: bool = False
    end_time: datetime | None = None
    post_only: bool = False


_CONFIGURATIONS: dict[str, tuple[PaperOrderKind, TimeInForce]] = {
    "market_market_ioc": (PaperOrderKind.MARKET, TimeInForce.IOC),
    "market_market_fok": (PaperOrderKind.MARKET, TimeInForce.FOK),
    "sor_limit_ioc": (PaperOrderKind.LIMIT, TimeInForce.IOC),
    "limit_limit_gtc": (PaperOrderKind.LIMIT, TimeInForce.GTC),
    "limit_limit_gtd": (PaperOrderKind.LIMIT, TimeInForce.GTD),
    "limit_limit_fok": (PaperOrderKind.LIMIT, TimeInForce.FOK),
    "stop_limit_stop_limit_gtc": (PaperOrderKind.STOP_LIMIT, TimeInForce.GTC),
    "stop_limit_stop_limit_gtd": (PaperOrderKind.STOP_LIMIT, TimeInForce.GTD),
    "trigger_bracket_gtc": (PaperOrderKind.BRACKET, TimeInForce.GTC),
    "trigger_bracket_gtd": (PaperOrderKind.BRACKET, TimeInForce.GTD),
}


def read_terms(configuration: object, *, attached: bool = False) -> OrderTerms:
    """The terms in an `order_configuration`. Raises `Refusal` if it is unknown, incomplete or not a number.

    An attached configuration must be a `trigger_bracket_gtc` without a size: the child takes its parent's filled size.
    """
    if not isinstance(configuration, Mapping) or len(configuration) != 1:
        raise Refusal("UNSUPPORTED_ORDER_CONFIGURATION", "order_configuration must hold exactly one configuration.")
    name, values = next(iter(configuration.items()))
    if name not in _CONFIGURATIONS or not isinstance(values, Mapping) or (attached and name != "trigger_bracket_gtc"):
        raise Refusal("UNSUPPORTED_ORDER_CONFIGURATION", f"Order configuration {name} is not supported here.")
    kind, time_in_force = _CONFIGURATIONS[name]
    base, quote = _number(values, "base_size"), _number(values, "quote_size")
    if attached:
        if base is not None or quote is not None:
            raise Refusal("UNSUPPORTED_ORDER_CONFIGURATION", "An attached order takes no size of its own.")
    elif (base is None) == (quote is None):
        raise Refusal("INVALID_REQUEST", "Give either base_size or quote_size.", "PREVIEW_INVALID_ORDER_CONFIG")
    elif quote is not None and kind not in (PaperOrderKind.MARKET, PaperOrderKind.LIMIT):
        raise Refusal("UNSUPPORTED_ORDER_CONFIGURATION", f"{name} takes base_size, not quote_size.")
    limit = None if kind is PaperOrderKind.MARKET else _required(values, "limit_price", "INVALID_LIMIT_PRICE")
    stop = None
    if kind is PaperOrderKind.STOP_LIMIT:
        stop = _required(values, "stop_price", "INVALID_STOP_PRICE")
    elif kind is PaperOrderKind.BRACKET:
        stop = _required(values, "stop_trigger_price", "INVALID_STOP_PRICE")
    stop_direction = values.get("stop_direction")
    if kind is PaperOrderKind.STOP_LIMIT and stop_direction not in (
        "STOP_DIRECTION_STOP_UP",
        "STOP_DIRECTION_STOP_DOWN",
    ):
        raise Refusal("INVALID_REQUEST", "stop_direction must be STOP_DIRECTION_STOP_UP or STOP_DIRECTION_STOP_DOWN.")
    end_time = None
    if time_in_force is TimeInForce.GTD:
        end_time = parse_time(values.get("end_time"))
        if end_time is None:
            raise Refusal("INVALID_REQUEST", "end_time must be an RFC 3339 time.", "PREVIEW_INVALID_END_TIME")
    return OrderTerms(
        kind=kind,
        time_in_force=time_in_force,
        base_size=base,
        quote_size=quote,
        limit_price=limit,
        stop_price=stop,
        stop_up=stop_direction == "STOP_DIRECTION_STOP_UP",
        end_time=end_time,
        post_only=values.get("post_only") is True,
    )


def _number(values: Mapping[str, object], name: str) -> Decimal | None:
    text = values.get(name)
    if text is None or text == "":
        return None
    number = parse(text)
    if number is None:
        raise Refusal(
            "INVALID_REQUEST", f"{name} {text!r} is not a decimal number in a string.", "PREVIEW_INVALID_ORDER_CONFIG"
        )
    return number


def _required(values: Mapping[str, object], name: str, reason: str) -> Decimal:
    number = _number(values, name)
    if number is None or number <= 0:
        raise Refusal(reason, f"{name} must be a positive number.", f"PREVIEW_{reason}")
    return number


@dataclass(slots=True)
class Order:
    """One order and its cumulative state, exact: values in quote currency, fees in the order's fee currency."""

    order_id: str
    client_order_id: str
    product_id: str
    side: Side
    terms: OrderTerms
    configuration: Mapping[str, object]
    created: datetime
    seq: int
    priority: int
    status: Status = Status.PENDING
    source: str = "RETAIL_ADVANCED"
    limit_price: Decimal | None = None
    base_size: Decimal | None = None
    filled_size: Decimal = ZERO
    filled_value: Decimal = ZERO
    fees: Decimal = ZERO
    fills: int = 0
    hold: Decimal = ZERO
    triggered: bool = False
    last_fill: datetime | None = None
    updated: datetime = datetime(1, 1, 1, tzinfo=UTC)
    cancel_reason: str = ""
    reject_reason: str = ""
    parent_id: str = ""
    child_id: str = ""
    edits: list[dict[str, str]] = field(default_factory=list)
    fee_currency: str = ""
    """The currency that commissions are taken in; "" is the quote currency."""
    details: Mapping[str, object] = field(default_factory=dict)
    """What only the venue's protocol knows of the request, as JSON has it; matching doesn't read it."""

    @property
    def price(self) -> Decimal:
        """The limit price. Raises `ValueError` on an order without one."""
        if self.limit_price is None:
            raise ValueError(f"order {self.order_id} has no limit price")
        return self.limit_price

    @property
    def quote_size(self) -> Decimal:
        """The requested quote size; zero if the order is sized in base."""
        return self.terms.quote_size or ZERO

    @property
    def live(self) -> bool:
        """True until the order is terminal."""
        return self.status not in TERMINAL

    @property
    def remaining(self) -> Decimal:
        """Base size not filled yet (zero for an order sized in quote: see `quote_left`)."""
        return ZERO if self.base_size is None else self.base_size - self.filled_size

    @property
    def average_price(self) -> Decimal:
        """Average fill price, zero without a fill."""
        return self.filled_value / self.filled_size if self.filled_size else ZERO

    @property
    def value_after_fees(self) -> Decimal:
        """A buy's cost including fees, or a sell's proceeds after fees; without fees in another currency than quote."""
        if self.fee_currency:
            return self.filled_value
        return self.filled_value + self.fees if self.side is Side.BUY else self.filled_value - self.fees

    @property
    def completion(self) -> Decimal:
        """Filled share in percent, 0 to 100."""
        if self.status is Status.FILLED:
            return Decimal(100)
        if self.terms.quote_size is not None:
            return min(Decimal(100), self.filled_value / self.terms.quote_size * 100)
        return self.filled_size / self.base_size * 100 if self.base_size else ZERO


@dataclass(frozen=True, slots=True)
class PaperFill:
    """One execution of one order: size in base, price in quote, commission in `fee_currency` ("" is quote)."""

    seq: int
    entry_id: str
    trade_id: str
    order_id: str
    client_order_id: str
    product_id: str
    side: Side
    price: Decimal
    size: Decimal
    commission: Decimal
    maker: bool
    time: datetime
    fee_currency: str = ""


@dataclass(frozen=True, slots=True)
class Trade:
    """One public print; `maker_side` is the side of the resting order, as the venue reports it."""

    product_id: str
    trade_id: int
    price: Decimal
    size: Decimal
    maker_side: Side
    time: datetime
