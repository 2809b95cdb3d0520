"""What the system needs from an exchange, designed for venues that differ.

Coinbase answers a repeated client order id with the first order, reports cumulative sizes, takes fees in quote and
queues cancels; Crypto.com refuses the repeated id, reports single fills, takes a buy's fee in base and acknowledges
cancels. The differences are data (`Capabilities`, `VenueOrder`), so that nothing above this port asks which venue it
is.

Two rules hold for every adapter. Every call has a timeout. And a submit or cancel ends in exactly one of three ways:
it returns (the venue has answered), it raises `NotAccepted` (the venue certainly did not take it), or it raises
`OutcomeUnknown` (it may or may not have; the caller resolves it by the venue's records before anything else is sent).

Long on purpose: an adapter's author reads all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from domain.errors import BotTraderError
from domain.market import Candle, FeeRates, Product, Quote
from domain.orders import OrderType, Side, TimeInForce, VenueStatus

__all__ = [
    "UNREADABLE",
    "Balance",
    "BalanceUpdate",
    "BookLevel",
    "BookUpdate",
    "CancelAnswer",
    "CancelVerdict",
    "Candle",
    "CandleUpdate",
    "Capabilities",
    "CommandRefused",
    "Connected",
    "Disconnected",
    "Exchange",
    "ExchangeError",
    "FeeRates",
    "Gap",
    "Heartbeat",
    "MalformedMessage",
    "NotAccepted",
    "OrderBook",
    "OrderEvent",
    "OrderRequest",
    "OutcomeUnknown",
    "Product",
    "PublicTrade",
    "Quote",
    "RepeatedId",
    "SnapshotComplete",
    "StreamEvent",
    "SubmitAnswer",
    "Ticker",
    "Unavailable",
    "VenueFill",
    "VenueOrder",
]


class ExchangeError(BotTraderError):
    """The base of an exchange's errors. `code` is for programs, the message for people."""

    code: str = "EXCHANGE_ERROR"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.retry_after = retry_after
        """Seconds the venue asked us to wait, if it did."""


class NotAccepted(ExchangeError):
    """The venue certainly did not take the command (429, connection refused, bad signature): it may be sent again."""

    code = "NOT_ACCEPTED"


class OutcomeUnknown(ExchangeError):
    """A timeout, 5xx or reset after sending: the venue may or may not have taken the command."""

    code = "OUTCOME_UNKNOWN"


class CommandRefused(ExchangeError):
    """The venue refused the command; `code` is the venue's own reason (such as INSUFFICIENT_FUND)."""

    code = "REFUSED"


UNREADABLE = "UNREADABLE_ANSWER"
"""The code for an answer that arrived but can't be parsed: other requests may well work."""


class Unavailable(ExchangeError):
    """A read failed (timeout, 5xx, 429, network): nothing is known; the read can be retried."""

    code = "UNAVAILABLE"


class RepeatedId(StrEnum):
    """What the venue does with a client order id it has seen before."""

    RETURNS_FIRST = "returns_first"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a venue differs, as data."""

    venue: str
    repeated_id: RepeatedId
    cumulative_updates: bool
    """True: updates have totals per order. False: the stream has single fills with ids; orders have totals."""
    cancel_is_queued: bool
    """True: a cancel's answer is a receipt and the order can still fill."""
    late_acceptance_seconds: int = 150
    """How long after sending a request could still be accepted, in seconds."""
    fees_by_symbol: bool = False
    """Fee rates differ by product: `fee_rates` needs the symbol."""


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of the account; `total = available + hold`."""

    currency: str
    available: Decimal
    hold: Decimal

    @property
    def total(self) -> Decimal:
        """Everything owned, held or not."""
        return self.available + self.hold


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One attempt to be sent. Exactly one of `base_size` and `quote_size` (market buys only) is given."""

    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    end_time: datetime | None = None
    post_only: bool = False


@dataclass(frozen=True, slots=True)
class SubmitAnswer:
    """The venue took the order. For a repeated id the answer may describe the first order: look it up."""

    exchange_order_id: str
    client_order_id: str
    raw: Mapping[str, Any]


class CancelVerdict(StrEnum):
    """The venue's verdict on a cancel."""

    ACCEPTED = "accepted"
    ALREADY_DONE = "already_done"
    """Filled, cancelled or being cancelled: the order's own state says which."""
    UNKNOWN_ORDER = "unknown_order"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """The venue's answer to a cancel, with its own reason."""

    verdict: CancelVerdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order as the venue reports it, by stream or REST: totals so far.

    `filled_size` in base, `filled_value` in quote (before fees). `quote_fees`/`base_fees` are what was charged in
    either currency (a rebate is negative). `other_fees` holds fees in third currencies by currency.
    """

    exchange_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    status: VenueStatus
    filled_size: Decimal
    filled_value: Decimal
    quote_fees: Decimal = Decimal(0)
    base_fees: Decimal = Decimal(0)
    other_fees: Mapping[str, Decimal] = field(default_factory=dict)
    fill_count: int = 0
    order_type: str = ""
    base_size: Decimal | None = None
    limit_price: Decimal | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    reason: str = ""
    on_request: bool = False
    """Somebody requested the cancel: we, or a person in the venue's app. The venue doesn't say who."""
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One execution with the venue's own id. `size` in base, `price` in quote per base."""

    trade_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    size: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: str
    """MAKER, TAKER or UNKNOWN."""
    at: datetime
    raw: Mapping[str, Any] = field(default_factory=dict)


# --- stream events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is up and subscribed. `attempt` counts connections since the stream was opened, from 1."""

    attempt: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone; the stream reconnects by itself after `retry_in` seconds.

    `failures` counts consecutive attempts that ended before they were subscribed.
    """

    reason: str
    failures: int
    retry_in: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages were missed (a jump in sequence numbers): catch up by REST."""

    expected: int
    received: int
    at: datetime


@dataclass(frozen=True, slots=True)
class SnapshotComplete:
    """The user channel's list of open orders is complete; `orders` is how many it had."""

    orders: int


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order of the account, from a snapshot or an update."""

    order: VenueOrder
    snapshot: bool
    sequence: int
    at: datetime


@dataclass(frozen=True, slots=True)
class BalanceUpdate:
    """The account's balances have changed, for whatever reason; where the venue's user stream tells it. `at` as in
    `Heartbeat`."""

    balances: Mapping[str, Balance]
    at: datetime


@dataclass(frozen=True, slots=True)
class Ticker:
    """Last price and touch of a symbol; an empty side of the book has no price. `at` as in `Heartbeat`."""

    symbol: str
    price: Decimal
    bid: Decimal | None
    ask: Decimal | None
    at: datetime
    change_24h: Decimal | None = None
    """A fraction: -0.05 is a drop of 5 %."""
    volume_24h: Decimal | None = None
    """In base currency."""


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """A trade on the public tape; `maker_side` is the side of the resting order."""

    symbol: str
    trade_id: str
    price: Decimal
    size: Decimal
    maker_side: Side
    at: datetime


@dataclass(frozen=True, slots=True)
class CandleUpdate:
    """The candle's newest values; the last one of a symbol is still open."""

    candle: Candle
    snapshot: bool


@dataclass(frozen=True, slots=True)
class BookLevel:
    """`size` is absolute; zero removes the level."""

    side: Side
    price: Decimal
    size: Decimal


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The top of a book, best first on both sides; a side may be empty. `at` is the time of the book, by the venue or
    by us (UTC)."""

    symbol: str
    bids: Sequence[BookLevel]
    asks: Sequence[BookLevel]
    at: datetime


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """Level-2 changes; a snapshot replaces everything known of the symbol."""

    symbol: str
    snapshot: bool
    levels: Sequence[BookLevel]
    at: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The feed is alive, which says nothing about its prices.

    `at` is the venue's time, or ours (corrected by the known difference of the two clocks) if that is earlier.
    """

    counter: int
    at: datetime


@dataclass(frozen=True, slots=True)
class MalformedMessage:
    """A message that could not be parsed: it is counted and kept, and never stops a stream.

    For an order, what is certain all the same: the base size filled so far, and whether the order has `ended`.
    """

    raw: str
    reason: str
    at: datetime
    filled_size: Decimal | None = None
    ended: bool = False


StreamEvent = (
    Connected
    | Disconnected
    | Gap
    | SnapshotComplete
    | OrderEvent
    | BalanceUpdate
    | Ticker
    | PublicTrade
    | CandleUpdate
    | BookUpdate
    | Heartbeat
    | MalformedMessage
)


class Exchange(Protocol):
    """One account at one venue."""

    @property
    def capabilities(self) -> Capabilities:
        """This venue's differences from others."""
        ...

    async def server_time(self) -> datetime:
        """The venue's clock (UTC)."""
        ...

    @property
    def key_mark(self) -> str:
        """A mark that identifies the key without being secret; empty without a key."""
        ...

    async def account_id(self) -> str:
        """The venue's own id of the account: the same for all its keys, and no other account's. Raises Unavailable."""
        ...

    async def may_trade(self) -> bool:
        """Whether the key may place orders and cancel them. Raises Unavailable."""
        ...

    async def products(self, symbols: Sequence[str] | None = None) -> Sequence[Product]:
        """All products, or those named (unknown ones are left out)."""
        ...

    async def quote(self, symbol: str) -> Quote:
        """The touch, now, by REST."""
        ...

    async def book(self, symbol: str, depth: int) -> OrderBook:
        """The best `depth` levels of both sides, now, by REST. Raises Unavailable."""
        ...

    async def candles(self, symbol: str, granularity_seconds: int, start: datetime, end: datetime) -> Sequence[Candle]:
        """Candles with `start <= candle.start < end`, oldest first."""
        ...

    async def balances(self) -> Mapping[str, Balance]:
        """All currencies of the account that orders may use, so without vaults."""
        ...

    async def fee_rates(self, symbol: str | None = None) -> FeeRates:
        """The account's own rates; those of `symbol` where the venue has rates by product. Raises Unavailable."""
        ...

    def order_body(self, request: OrderRequest) -> Mapping[str, Any]:
        """The exact body that `submit` will send: pure, so that the body can be committed before it is sent."""
        ...

    async def submit(self, body: Mapping[str, Any], *, urgent: bool = False) -> SubmitAnswer:
        """Send one order body once. `urgent` (exits) goes before others in the rate limiter.

        Raises:
            CommandRefused: the venue refused the order; `code` is its own.
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it.
        """
        ...

    async def cancel(self, exchange_order_id: str, *, urgent: bool = False) -> CancelAnswer:
        """Request a cancel.

        Raises:
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it.
        """
        ...

    async def order(self, exchange_order_id: str) -> VenueOrder | None:
        """One order by the venue's id; None if the venue does not know it. Raises Unavailable."""
        ...

    async def find_order(self, client_order_id: str, symbol: str, since: datetime) -> VenueOrder | None:
        """The order with our client order id among all orders of `symbol` created since, of any status.

        None means only that it is not listed (yet). Raises Unavailable.
        """
        ...

    async def orders(
        self,
        since: datetime,
        symbols: Sequence[str] | None = None,
        *,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueOrder]:
        """All orders created since, of any status, oldest first.

        Rows that can't be parsed are added to `unreadable`; without it, one such row makes the whole list Unavailable,
        as does a list that can't be read.
        """
        ...

    async def open_orders(self, *, unreadable: list[MalformedMessage] | None = None) -> Sequence[VenueOrder]:
        """All open orders; `unreadable` as in `orders`. Raises Unavailable."""
        ...

    async def fills(
        self,
        *,
        exchange_order_id: str | None = None,
        since: datetime | None = None,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueFill]:
        """The venue's own executions, oldest first; `unreadable` as in `orders`. Raises Unavailable."""
        ...

    def user_stream(self) -> AsyncIterator[StreamEvent]:
        """The account's order events, without end: reconnects by itself and reports it in events. Closing the iterator
        ends it."""
        ...

    def market_stream(self, symbols: Sequence[str], channels: Sequence[str]) -> AsyncIterator[StreamEvent]:
        """Public events of `symbols`; channels: ticker, trades, candles, book. Without end, like `user_stream`."""
        ...

    async def close(self) -> None:
        """Release sessions and sockets."""
        ...
