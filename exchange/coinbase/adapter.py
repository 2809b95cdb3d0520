"""Coinbase Advanced Trade behind the port.

Paper and live are the same adapter: only addresses, trust root and keys differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from exchange.coinbase.cancels import CancelBatch
from exchange.coinbase.config import CoinbaseConfig
from exchange.coinbase.messages import CHANNELS
from exchange.coinbase.orders import order_body, submit_answer
from exchange.coinbase.parse import (
    book_from,
    candle,
    fee_rates_from,
    fill,
    moment_of,
    order_from_rest,
    product,
    trades_from,
    wallet,
)
from exchange.coinbase.rest import RestCaller
from exchange.coinbase.streams import CoinbaseSession
from exchange.coinbase.twins import Twins
from exchange.port import (
    UNREADABLE,
    Balance,
    CancelAnswer,
    Candle,
    Capabilities,
    FeeRates,
    MalformedMessage,
    OrderBook,
    OrderRequest,
    Product,
    Quote,
    RepeatedId,
    SubmitAnswer,
    Unavailable,
    VenueFill,
    VenueOrder,
)
from exchange.rate_limit import RateLimiter
from exchange.reading import MessageError, each_row, reading
from exchange.streams import FrameTap, ReconnectingStream, StreamStats

__all__ = ["CoinbaseExchange"]

_log = structlog.get_logger(__name__)


GRANULARITY: Mapping[int, str] = {
    60: "ONE_MINUTE",
    300: "FIVE_MINUTE",
    900: "FIFTEEN_MINUTE",
    1800: "THIRTY_MINUTE",
    3600: "ONE_HOUR",
    7200: "TWO_HOUR",
    21600: "SIX_HOUR",
    86400: "ONE_DAY",
}
_CANDLES_A_CALL = 300
_MOST_NAMED_PRODUCTS = 50
_TWINS_SECONDS = 2.0
"""Longest wait of a market stream for its products' market names, in seconds."""
_CLOCK_MARGIN = timedelta(minutes=5)
"""An order is searched for from this long before it was sent, as the venue's clock may be behind ours."""


class CoinbaseExchange:
    """One account at Coinbase (or at a paper exchange that speaks its protocol).

    Raises:
        ApiKeyError: the API key can't be used.
        ValueError: a rate or timeout makes no sense, or the CA file is missing.
    """

    def __init__(self, config: CoinbaseConfig) -> None:
        if config.ca_file is not None and not config.ca_file.is_file():
            raise ValueError("exchange.ca_file: there is no such file")
        self._config = config
        self._key = config.key()
        self._limiter = RateLimiter(config.private_rate)
        self._rest = RestCaller(
            config.rest_address,
            self._key,
            ca_file=str(config.ca_file) if config.ca_file else None,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            threads=config.threads,
            limiter=self._limiter,
            clock_look_seconds=config.clock_look_seconds,
        )
        self._twins = Twins()
        self._cancels: dict[bool, CancelBatch] = {}
        self._capabilities = Capabilities(
            venue="coinbase",
            repeated_id=RepeatedId.RETURNS_FIRST,
            cumulative_updates=True,
            cancel_is_queued=True,
            late_acceptance_seconds=config.late_acceptance_seconds,
        )

    @property
    def capabilities(self) -> Capabilities:
        """This venue's differences from others."""
        return self._capabilities

    @property
    def key_mark(self) -> str:
        """A digest of the key's name, which Coinbase gives to one key only; empty without a key."""
        return hashlib.sha256(self._key.name.encode()).hexdigest() if self._key else ""

    # --- reads ---------------------------------------------------------------------------------------------------

    async def _market(self, private: str, public: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A market read: at the private path with a key, else at its public counterpart."""
        return await self._rest.read(private if self._key else public, params, public=self._key is None)

    async def server_time(self) -> datetime:
        """The venue's clock (UTC), used from then on for tokens and for the end times of orders. Raises Unavailable."""
        sent = time.time()
        answer = await self._rest.read("/time", public=True)
        with reading("the venue's time"):
            moment = moment_of(answer)
        self._rest.clock.heard(moment, sent)
        return moment

    async def account_id(self) -> str:
        """The id of the key's portfolio. Raises Unavailable."""
        answer = await self._rest.read("/key_permissions")
        with reading("the key's permissions"):
            found = answer.get("portfolio_uuid")
            if not isinstance(found, str) or not found:
                raise MessageError("portfolio_uuid is missing")
            return found

    async def may_trade(self) -> bool:
        """Whether the key has the permission to trade. Raises Unavailable."""
        answer = await self._rest.read("/key_permissions")
        with reading("the key's permissions"):
            found = answer.get("can_trade")
            if not isinstance(found, bool):
                raise MessageError("can_trade is missing")
            return found

    async def products(self, symbols: Sequence[str] | None = None) -> Sequence[Product]:
        """All spot products, or those named (unknown ones are left out). Raises Unavailable.

        In a longer list, a product that can't be parsed is left out, too.
        """
        params: dict[str, Any] = {"product_type": "SPOT"}
        if symbols is not None and len(symbols) <= _MOST_NAMED_PRODUCTS:
            if not symbols:
                return []
            params["product_ids"] = list(symbols)
        answer = await self._market("/products", "/market/products", params)
        rows = answer.get("products")
        wanted = None if symbols is None else set(symbols)
        with reading("the list of products"):
            if not isinstance(rows, list):
                raise MessageError("products is not a list")
            found = []
            for row in rows:
                try:
                    self._twins.learn(row)
                    if wanted is None or row.get("product_id") in wanted:
                        found.append(product(row))
                except (MessageError, AttributeError) as problem:
                    if wanted is not None and len(wanted) == 1:
                        raise  # it exists but can't be parsed
                    _log.warning("a product can't be understood", row=str(row)[:500], problem=str(problem))
            return found

    async def quote(self, symbol: str) -> Quote:
        """The touch, now, by REST. Raises Unavailable, also where a side of the book is empty."""
        book = await self.book(symbol, 1)
        if not book.bids or not book.asks:
            raise Unavailable(f"{symbol} has no {'bids' if not book.bids else 'asks'} now", code="EMPTY_BOOK")
        return Quote(symbol, book.bids[0].price, book.asks[0].price, book.at)

    async def book(self, symbol: str, depth: int) -> OrderBook:
        """The best `depth` levels of both sides, now, by REST. Raises Unavailable."""
        answer = await self._market("/product_book", "/market/product_book", {"product_id": symbol, "limit": depth})
        with reading(f"the book of {symbol}"):
            latest = datetime.fromtimestamp(self._rest.clock.now(), UTC)
            return book_from(answer, symbol, depth, latest)

    async def candles(self, symbol: str, granularity_seconds: int, start: datetime, end: datetime) -> Sequence[Candle]:
        """Candles with `start <= candle.start < end`, oldest first.

        Raises:
            ValueError: the venue has no candles of this length.
            Unavailable: the read failed.
        """
        name = GRANULARITY.get(granularity_seconds)
        if name is None:
            lengths = ", ".join(str(seconds) for seconds in GRANULARITY)
            raise ValueError(f"Coinbase has no candles of {granularity_seconds} s; it has {lengths}")
        found: dict[datetime, Candle] = {}
        first, last = int(start.timestamp()), int(end.timestamp())
        step = granularity_seconds * _CANDLES_A_CALL
        for begin in range(first - first % granularity_seconds, last, step):
            params = {"start": str(begin), "end": str(min(begin + step, last)), "granularity": name}
            path = f"/products/{symbol}/candles"
            answer = await self._market(path, f"/market{path}", params)
            with reading(f"the candles of {symbol}"):
                rows = answer.get("candles")
                if not isinstance(rows, list):
                    raise MessageError("candles is not a list")
                for row in rows:
                    item = candle(row, symbol)
                    if start <= item.start < end:
                        found[item.start] = item
        return [found[moment] for moment in sorted(found)]

    async def balances(self) -> Mapping[str, Balance]:
        """The tradable balance of each currency: its wallets' sum, without vaults and the like. Raises Unavailable."""
        found: dict[str, Balance] = {}
        async for rows in self._rest.pages("/accounts", {"limit": self._config.page_size}, "accounts"):
            with reading("the balances"):
                for row in rows:
                    if not trades_from(row):
                        continue
                    item = wallet(row)
                    known = found.get(item.currency)
                    if known is not None:
                        item = Balance(item.currency, known.available + item.available, known.hold + item.hold)
                    found[item.currency] = item
        return found

    async def fee_rates(self, symbol: str | None = None) -> FeeRates:
        """The account's own rates, which are the same for all spot products. Raises Unavailable."""
        answer = await self._rest.read("/transaction_summary", {"product_type": "SPOT"})
        with reading("the fee rates"):
            return fee_rates_from(answer)

    async def order(self, exchange_order_id: str) -> VenueOrder | None:
        """One order by the venue's id; None if the venue does not know it. Raises Unavailable."""
        try:
            answer = await self._rest.read(f"/orders/historical/{exchange_order_id}")
        except Unavailable as problem:
            if problem.code == "NOT_FOUND":
                return None
            raise
        with reading("the order"):
            raw = answer.get("order")
            if not isinstance(raw, Mapping):
                raise MessageError("order is missing")
            return order_from_rest(raw)

    async def find_order(self, client_order_id: str, symbol: str, since: datetime) -> VenueOrder | None:
        """The order with our client order id among all orders of `symbol` created since, of any status.

        None means only that it is not listed (yet). Raises Unavailable, also if it is listed but can't be parsed; other
        rows that can't be parsed don't matter.
        """
        params = {"product_ids": [symbol]}
        behind = timedelta(seconds=min(self._rest.clock.offset, 0.0))
        for query in (self._open_query(params), self._dated_query(params, since + behind - _CLOCK_MARGIN)):
            unreadable: list[MalformedMessage] = []
            async for orders in self._order_pages(query, unreadable):
                for item in orders:
                    if item.client_order_id == client_order_id:
                        return item
            for message in unreadable:
                if client_order_id in message.raw:
                    raise Unavailable(f"the order can't be understood: {message.reason}", code=UNREADABLE)
        return None

    async def orders(
        self,
        since: datetime,
        symbols: Sequence[str] | None = None,
        *,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueOrder]:
        """All orders created since, of any status, oldest first; see the port for `unreadable`. Raises Unavailable."""
        params = {"product_ids": list(symbols)} if symbols else {}
        found: dict[str, VenueOrder] = {}
        # Open ones first: an order that ends between the two reads is in the second list, and later rows are newer.
        for query in (self._open_query(params), self._dated_query(params, since)):
            async for page in self._order_pages(query, unreadable):
                found.update((item.exchange_order_id, item) for item in page)
        return sorted(
            (item for item in found.values() if item.created_at is None or item.created_at >= since), key=_age
        )

    async def open_orders(self, *, unreadable: list[MalformedMessage] | None = None) -> Sequence[VenueOrder]:
        """All open orders; see the port for `unreadable`. Raises Unavailable.

        The venue's list of OPEN orders leaves out those that are not on the book yet.
        """
        found: dict[str, VenueOrder] = {}
        async for page in self._order_pages(self._open_query({}), unreadable):
            found.update((item.exchange_order_id, item) for item in page)
        return sorted(found.values(), key=_age)

    def _open_query(self, params: Mapping[str, Any]) -> dict[str, Any]:
        # OPEN can't be paired with other statuses, and the venue ignores dates with it.
        return {**params, "order_status": ["OPEN"], "limit": self._config.page_size}

    def _dated_query(self, params: Mapping[str, Any], since: datetime) -> dict[str, Any]:
        start = since.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {**params, "start_date": start, "limit": self._config.page_size}

    async def _order_pages(
        self, query: Mapping[str, Any], unreadable: list[MalformedMessage] | None = None
    ) -> AsyncIterator[list[VenueOrder]]:
        async for rows in self._rest.pages("/orders/historical/batch", query, "orders"):
            with reading("the list of orders"):
                yield [item for _, item in each_row(rows, order_from_rest, unreadable)]

    async def fills(
        self,
        *,
        exchange_order_id: str | None = None,
        since: datetime | None = None,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueFill]:
        """The venue's own executions, oldest first; see the port for `unreadable`. Raises Unavailable."""
        params: dict[str, Any] = {"limit": self._config.page_size}
        if exchange_order_id is not None:
            params["order_ids"] = [exchange_order_id]
        if since is not None:
            params["start_sequence_timestamp"] = (
                since.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            )
        found: dict[tuple[str, str, str], VenueFill] = {}
        async for rows in self._rest.pages("/orders/historical/fills", params, "fills"):
            with reading("the fills"):
                for row, item in each_row(rows, fill, unreadable):
                    if since is None or item.at >= since:
                        # If a page boundary moves, a row is listed twice; its entry id shows that it is the same.
                        found[item.exchange_order_id, item.trade_id, str(row.get("entry_id") or "")] = item
        return sorted(found.values(), key=lambda item: (item.at, item.trade_id))

    # --- commands ------------------------------------------------------------------------------------------------

    def order_body(self, request: OrderRequest) -> Mapping[str, Any]:
        """The exact body that `submit` will send, with its end time by the venue's clock.

        Raises ValueError for an order type that the venue doesn't have.
        """
        return order_body(request, ahead=timedelta(seconds=self._rest.clock.offset))

    async def submit(self, body: Mapping[str, Any], *, urgent: bool = False) -> SubmitAnswer:
        """Send one order body once, unchanged.

        Cancelling the awaiting task does not recall a request that was sent: shield it and await the answer.

        Raises:
            CommandRefused: the venue refused the order; `code` is its own.
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it.
        """
        return submit_answer(await self._rest.command("/orders", body, urgent=urgent), body)

    async def cancel(self, exchange_order_id: str, *, urgent: bool = False) -> CancelAnswer:
        """Request a cancel; cancels that wait for the rate limit together are sent as one request.

        Raises:
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it.
        """
        batch = self._cancels.get(urgent)
        if batch is None or not batch.add(exchange_order_id):
            batch = self._cancels[urgent] = CancelBatch(self._rest, self._limiter, urgent, exchange_order_id)
        return await batch.answer(exchange_order_id)

    # --- streams -------------------------------------------------------------------------------------------------

    def user_stream(self, *, tap: FrameTap | None = None) -> ReconnectingStream:
        """The account's order events, without end; `stats` counts messages, `aclose` ends the stream.

        Raises:
            ValueError: there is no API key.
        """
        if self._key is None:
            raise ValueError("the user stream needs an API key: set exchange.key_file")
        return self._stream(self._config.user_stream_url, ("user", "heartbeats"), (), tap)

    def market_stream(
        self, symbols: Sequence[str], channels: Sequence[str], *, tap: FrameTap | None = None
    ) -> ReconnectingStream:
        """Public events of `symbols`; channels: ticker, trades, candles, book.

        A new connection begins with snapshots, so past trades are repeated, with their own times.

        Raises:
            ValueError: no symbol, no channel, or an unknown one.
        """
        unknown = [name for name in channels if name not in CHANNELS]
        if unknown or not channels:
            raise ValueError(f"unknown channel {', '.join(unknown) or '(none)'}: choose from {', '.join(CHANNELS)}")
        if not symbols:
            raise ValueError("a market stream needs at least one symbol")
        names = tuple(dict.fromkeys(CHANNELS[name] for name in channels))
        return self._stream(self._config.stream_url, (*names, "heartbeats"), symbols, tap)

    async def _learn_twins(self, symbols: Sequence[str]) -> None:
        """Look up under which names the market channels report these products, if unknown, within a short bound."""
        unknown = self._twins.unknown(symbols)
        if unknown:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_TWINS_SECONDS):
                    await self.products(unknown)

    def _stream(
        self, url: str, channels: Sequence[str], symbols: Sequence[str], tap: FrameTap | None
    ) -> ReconnectingStream:
        stats, rest = StreamStats(), self._rest
        token = rest.stream_token if self._key is not None else None
        return ReconnectingStream(
            url,
            lambda: CoinbaseSession(
                channels,
                symbols,
                token,
                stats,
                twins=self._twins,
                refused=lambda: rest.look_at_the_clock(refused=True),
                venue_time=rest.clock.now,
            ),
            prepare=lambda: self._learn_twins(symbols),
            settings=self._config.streams,
            stats=stats,
            ca_file=self._config.ca_file,
            tap=tap,
        )

    async def close(self) -> None:
        """Release sessions and threads, after calls in flight have ended. Streams are ended by their own `aclose`."""
        await self._rest.close()


def _age(item: VenueOrder) -> tuple[datetime, str]:
    return item.created_at or datetime.min.replace(tzinfo=UTC), item.exchange_order_id
