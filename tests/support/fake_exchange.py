"""A scripted exchange in memory: the complete port, with streams that the test feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from domain.market import FeeRates, Product, Quote
from domain.orders import Side, VenueStatus
from exchange.port import (
    UNREADABLE,
    Balance,
    BookLevel,
    CancelAnswer,
    CancelVerdict,
    Candle,
    Capabilities,
    Connected,
    MalformedMessage,
    OrderBook,
    OrderEvent,
    OrderRequest,
    RepeatedId,
    StreamEvent,
    SubmitAnswer,
    Ticker,
    Unavailable,
    VenueFill,
    VenueOrder,
)

__all__ = ["FakeExchange", "FakeStream", "order", "ticker"]


def order(
    exchange_order_id: str,
    client_order_id: str,
    *,
    symbol: str = "BTC-USD",
    side: Side = Side.BUY,
    status: VenueStatus = VenueStatus.OPEN,
    size: str = "0",
    price: str = "100",
    fees: str = "0",
    at: datetime | None = None,
) -> VenueOrder:
    """An order that has traded `size` at `price` so far."""
    at = at or datetime.now(UTC)
    filled = Decimal(size)
    return VenueOrder(
        exchange_order_id=exchange_order_id,
        client_order_id=client_order_id,
        symbol=symbol,
        side=side,
        status=status,
        filled_size=filled,
        filled_value=filled * Decimal(price),
        quote_fees=Decimal(fees),
        order_type="LIMIT",
        limit_price=Decimal(price),
        created_at=at,
        updated_at=at,
        raw={"order_id": exchange_order_id},
    )


def ticker(symbol: str, bid: str | Decimal, at: datetime | None = None) -> Ticker:
    """A ticker whose ask is a cent above its bid."""
    bid = Decimal(bid)
    return Ticker(symbol, bid, bid, bid + Decimal("0.01"), at or datetime.now(UTC))


class FakeStream:
    """One subscription: `push` adds events, the reader takes them; it begins with `Connected`."""

    def __init__(self, symbols: Sequence[str] = ()) -> None:
        self.symbols = frozenset(symbols)
        self.closed = False
        self._events: asyncio.Queue[StreamEvent] = asyncio.Queue()
        self.push(Connected(1, datetime.now(UTC)))

    def push(self, event: StreamEvent) -> None:
        """Add an event."""
        self._events.put_nowait(event)

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        return await self._events.get()

    async def aclose(self) -> None:
        """Whether the reader has closed it."""
        self.closed = True


@dataclass
class FakeExchange:
    """All state is public, for tests to set and read. `unavailable` makes every read fail."""

    history: dict[str, VenueOrder] = field(default_factory=dict)
    quotes: dict[str, Decimal] = field(default_factory=dict)
    candle_list: list[Candle] = field(default_factory=list)
    product_list: list[Product] = field(default_factory=list)
    money: dict[str, Balance] = field(default_factory=dict)
    rates: FeeRates = field(default_factory=lambda: FeeRates(Decimal("0.004"), Decimal("0.006")))
    portfolio: str = "fake-portfolio"
    key_mark: str = "fake-key"
    key_may_trade: bool = True
    unavailable: bool = False
    unreadable_orders: set[str] = field(default_factory=set)
    """Orders whose answer can't be parsed when requested by id."""
    no_asks: bool = False
    """Every book has no asks."""
    calls: list[str] = field(default_factory=list)
    user_streams: list[FakeStream] = field(default_factory=list)
    market_streams: list[FakeStream] = field(default_factory=list)

    # --- what a test calls -----------------------------------------------------------------------------------------

    def push_order(self, item: VenueOrder, *, snapshot: bool = False) -> None:
        """Set an order's state at the exchange, and send it to open user streams."""
        self.history[item.exchange_order_id] = item
        for stream in self.user_streams:
            if not stream.closed:
                stream.push(OrderEvent(item, snapshot, 0, datetime.now(UTC)))

    def push_market(self, event: StreamEvent, symbol: str) -> None:
        """Send the event to every open market stream of the symbol."""
        for stream in self.market_streams:
            if not stream.closed and symbol in stream.symbols:
                stream.push(event)

    def tick(self, symbol: str, bid: str | Decimal) -> None:
        """Send a new best bid."""
        self.push_market(ticker(symbol, bid), symbol)

    def watched(self) -> frozenset[str]:
        """Symbols with an open market stream."""
        return frozenset[str]().union(*(stream.symbols for stream in self.market_streams if not stream.closed))

    # --- the port -------------------------------------------------------------------------------------------------

    def _read(self, call: str) -> None:
        self.calls.append(call)
        if self.unavailable:
            raise Unavailable("the exchange does not answer")

    @property
    def capabilities(self) -> Capabilities:
        """Like Coinbase."""
        return Capabilities("fake", RepeatedId.RETURNS_FIRST, cumulative_updates=True, cancel_is_queued=True)

    async def account_id(self) -> str:
        """`portfolio`."""
        self._read("account_id")
        return self.portfolio

    async def may_trade(self) -> bool:
        """`key_may_trade`."""
        self._read("may_trade")
        return self.key_may_trade

    async def server_time(self) -> datetime:
        """Ours."""
        self._read("server_time")
        return datetime.now(UTC)

    async def products(self, symbols: Sequence[str] | None = None) -> Sequence[Product]:
        """The test's products; usually none, as streams need no product rules."""
        self._read("products")
        return list(self.product_list)

    async def quote(self, symbol: str) -> Quote:
        """The bid that the test set."""
        self._read(f"quote {symbol}")
        if symbol not in self.quotes:
            raise Unavailable(f"no quote of {symbol}")
        if self.no_asks:
            raise Unavailable(f"{symbol} has no asks now", code="EMPTY_BOOK")
        bid = self.quotes[symbol]
        return Quote(symbol, bid, bid + Decimal("0.01"), datetime.now(UTC))

    async def book(self, symbol: str, depth: int) -> OrderBook:
        """One unit on each side of the bid that the test set."""
        self._read(f"book {symbol}")
        if symbol not in self.quotes:
            raise Unavailable(f"no quote of {symbol}")
        bid = BookLevel(Side.BUY, self.quotes[symbol], Decimal(1))
        ask = BookLevel(Side.SELL, bid.price + Decimal("0.01"), Decimal(1))
        return OrderBook(symbol, [bid][:depth], [] if self.no_asks else [ask][:depth], datetime.now(UTC))

    async def candles(self, symbol: str, granularity_seconds: int, start: datetime, end: datetime) -> Sequence[Candle]:
        """The test's candles within the requested time."""
        self._read(f"candles {symbol} {granularity_seconds}")
        return [item for item in self.candle_list if item.symbol == symbol and start <= item.start < end]

    async def balances(self) -> Mapping[str, Balance]:
        """The test's balances."""
        self._read("balances")
        return dict(self.money)

    async def fee_rates(self, symbol: str | None = None) -> FeeRates:
        """The test's rates."""
        self._read("fee_rates")
        return self.rates

    def order_body(self, request: OrderRequest) -> Mapping[str, Any]:
        """The request's fields."""
        return {key: str(value) for key, value in asdict(request).items() if value is not None}

    async def submit(self, body: Mapping[str, Any], *, urgent: bool = False) -> SubmitAnswer:
        """Accepted, and open."""
        self.calls.append("submit")
        number = f"x-{len(self.history) + 1}"
        self.push_order(order(number, body["client_order_id"], symbol=body["symbol"], side=Side(body["side"])))
        return SubmitAnswer(number, body["client_order_id"], {})

    async def cancel(self, exchange_order_id: str, *, urgent: bool = False) -> CancelAnswer:
        """Taken, if the order is known."""
        self.calls.append("cancel")
        known = exchange_order_id in self.history
        return CancelAnswer(CancelVerdict.ACCEPTED if known else CancelVerdict.UNKNOWN_ORDER)

    async def order(self, exchange_order_id: str) -> VenueOrder | None:
        """From the history."""
        self._read(f"order {exchange_order_id}")
        if exchange_order_id in self.unreadable_orders:
            raise Unavailable("the order can't be understood", code=UNREADABLE)
        return self.history.get(exchange_order_id)

    async def find_order(self, client_order_id: str, symbol: str, since: datetime) -> VenueOrder | None:
        """From the history, by our id."""
        self._read("find_order")
        return next((item for item in self.history.values() if item.client_order_id == client_order_id), None)

    async def orders(
        self,
        since: datetime,
        symbols: Sequence[str] | None = None,
        *,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueOrder]:
        """All created since."""
        self._read("orders")
        return [item for item in self.history.values() if item.created_at is None or item.created_at >= since]

    async def open_orders(self, *, unreadable: list[MalformedMessage] | None = None) -> Sequence[VenueOrder]:
        """All that are open."""
        self._read("open_orders")
        return [item for item in self.history.values() if item.status is VenueStatus.OPEN]

    async def fills(
        self,
        *,
        exchange_order_id: str | None = None,
        since: datetime | None = None,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueFill]:
        """None."""
        self._read("fills")
        return []

    def user_stream(self) -> AsyncIterator[StreamEvent]:
        """A subscription that the test feeds."""
        stream = FakeStream()
        self.user_streams.append(stream)
        return stream

    def market_stream(self, symbols: Sequence[str], channels: Sequence[str]) -> AsyncIterator[StreamEvent]:
        """A subscription that the test feeds."""
        stream = FakeStream(symbols)
        self.market_streams.append(stream)
        return stream

    async def close(self) -> None:
        """Nothing to release."""
