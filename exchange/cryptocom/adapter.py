"""Crypto.com Exchange behind the port.

Paper and live are the same adapter: only addresses, trust root and keys differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from domain.errors import BotTraderError
from exchange.cryptocom.answers import AUTH_FAILURE, cancel_failure, not_active
from exchange.cryptocom.config import CryptocomConfig
from exchange.cryptocom.instruments import Instruments
from exchange.cryptocom.known_orders import KnownOrders
from exchange.cryptocom.limits import MethodLimits
from exchange.cryptocom.messages import CHANNELS
from exchange.cryptocom.order_reads import OrderReads
from exchange.cryptocom.orders import CREATE_TRIGGER, order_body, parts_of, submit_answer
from exchange.cryptocom.parse import (
    balances_from,
    book_from,
    candle,
    instrument_rates,
    row_of,
    rows_of,
    tier_rates,
)
from exchange.cryptocom.rest import CryptocomCaller
from exchange.cryptocom.streams import MOST_CHANNELS, CryptocomMarketSession, CryptocomUserSession
from exchange.joined_streams import JoinedStreams
from exchange.port import (
    UNREADABLE,
    Balance,
    CancelAnswer,
    CancelVerdict,
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
from exchange.reading import reading
from exchange.streams import FrameSession, FrameTap, ReconnectingStream, StreamStats

__all__ = ["CryptocomExchange"]

TIMEFRAMES: Mapping[int, str] = {
    60: "1m",
    300: "5m",
    900: "15m",
    1800: "30m",
    3600: "1h",
    7200: "2h",
    14400: "4h",
    43200: "12h",
    86400: "1D",
}
_CANDLES_A_CALL = 300
_DEEPEST = 50
_ACCOUNT_SECONDS = 20.0
"""Longest wait for the user stream to tell the account's id."""
_HEARTBEAT_SECONDS = 75.0
"""Shortest time without a heartbeat after which a connection counts as dead: two of them have not come."""
_PROBE = "bottrader-probe-of-permission"
"""A client order id that no order has."""


class CryptocomExchange:
    """One account at Crypto.com (or at a paper exchange that speaks its protocol).

    Raises:
        ApiKeyError: the API key can't be used.
        ValueError: a share or timeout makes no sense, or the CA file is missing.
    """

    def __init__(self, config: CryptocomConfig) -> None:
        if config.ca_file is not None and not config.ca_file.is_file():
            raise ValueError("exchange.ca_file: there is no such file")
        self._config = config
        self._key = config.key()
        self._rest = CryptocomCaller(
            config.rest_url,
            self._key,
            ca_file=config.ca_file,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            connections=config.connections,
            limits=MethodLimits(config.share),
        )
        self._known = KnownOrders()
        self._orders = OrderReads(self._rest, self._known)
        self._instruments = Instruments(self._rest, config.products_seconds)
        self._account: str | None = None
        self._looking: set[asyncio.Task[None]] = set()
        self._capabilities = Capabilities(
            venue="cryptocom",
            repeated_id=RepeatedId.REFUSED,
            cumulative_updates=True,
            cancel_is_queued=True,
            late_acceptance_seconds=config.late_acceptance_seconds,
            fees_by_symbol=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """This venue's differences from others."""
        return self._capabilities

    @property
    def key_mark(self) -> str:
        """A digest of the API key, which the venue gives to one account only; empty without a key."""
        return hashlib.sha256(self._key.name.encode()).hexdigest() if self._key else ""

    # --- reads ---------------------------------------------------------------------------------------------------

    async def server_time(self) -> datetime:
        """The venue's clock (UTC), to the second below. Raises Unavailable."""
        return await self._rest.server_time()

    async def account_id(self) -> str:
        """The venue's own id of the account, as its orders and its stream have it. Raises Unavailable.

        The venue has no answer to this question alone: an account without orders in the last week learns it from its
        user stream.
        """
        if self._account is None:
            self._note_account(await self._orders.account())
        if self._account is None:
            await self._account_by_stream()
        if self._account is None:
            raise Unavailable("the venue did not tell the account's id", code=UNREADABLE)
        return self._account

    def _note_account(self, told: str) -> None:
        if told:
            self._account = told

    async def _account_by_stream(self) -> None:
        stream = self.user_stream()
        try:
            async with asyncio.timeout(_ACCOUNT_SECONDS):
                async for _ in stream:
                    if self._account is not None:
                        return
        except TimeoutError:
            return
        finally:
            await stream.aclose()

    async def may_trade(self) -> bool:
        """Whether the key may cancel, and so trade, by the answer to a cancel of no order. Raises Unavailable."""
        await self._rest.private("private/user-balance", {})  # the key is right, whatever it may do
        try:
            answer = await self._rest.command("private/cancel-order", {"client_oid": _PROBE})
        except BotTraderError as problem:
            raise Unavailable(f"the key's permission could not be tried: {problem}") from problem
        if answer.fine or not_active(answer):
            return True
        if answer.name == AUTH_FAILURE:
            return False
        raise Unavailable(answer.said("the key's permission could not be tried"), code=answer.name)

    async def products(self, symbols: Sequence[str] | None = None) -> Sequence[Product]:
        """All spot products, or those named (unknown ones are left out). Raises Unavailable.

        In a longer list, a product that can't be parsed is left out, too.
        """
        return await self._instruments.products(symbols)

    async def quote(self, symbol: str) -> Quote:
        """The touch, now, by REST. Raises Unavailable, also where a side of the book is empty."""
        book = await self.book(symbol, 1)
        if not book.bids or not book.asks:
            raise Unavailable(f"{symbol} has no {'bids' if not book.bids else 'asks'} now", code="EMPTY_BOOK")
        return Quote(symbol, book.bids[0].price, book.asks[0].price, book.at)

    async def book(self, symbol: str, depth: int) -> OrderBook:
        """The best `depth` levels of both sides (50 at most), now, by REST. Raises Unavailable."""
        params = {"instrument_name": symbol, "depth": str(min(max(depth, 1), _DEEPEST))}
        answer = await self._rest.public("public/get-book", params)
        with reading(f"the book of {symbol}"):
            return book_from(answer, symbol, depth, datetime.fromtimestamp(self._rest.clock.now(), UTC))

    async def candles(self, symbol: str, granularity_seconds: int, start: datetime, end: datetime) -> Sequence[Candle]:
        """Candles with `start <= candle.start < end`, oldest first.

        Raises:
            ValueError: the venue has no candles of this length.
            Unavailable: the read failed.
        """
        name = TIMEFRAMES.get(granularity_seconds)
        if name is None:
            lengths = ", ".join(str(seconds) for seconds in TIMEFRAMES)
            raise ValueError(f"Crypto.com has no candles of {granularity_seconds} s; it has {lengths}")
        found: dict[datetime, Candle] = {}
        first, last = int(start.timestamp()), int(end.timestamp())
        step = granularity_seconds * _CANDLES_A_CALL
        for begin in range(first - first % granularity_seconds, last, step):
            params: dict[str, str | int] = {
                "instrument_name": symbol,
                "timeframe": name,
                "count": _CANDLES_A_CALL,
                "start_ts": begin * 1000,
                "end_ts": min(begin + step, last) * 1000,
            }
            answer = await self._rest.public("public/get-candlestick", params)
            with reading(f"the candles of {symbol}"):
                for raw in rows_of(answer, "the candles"):
                    item = candle(row_of(raw, "a candle"), symbol)
                    if start <= item.start < end:
                        found[item.start] = item
        return [found[moment] for moment in sorted(found)]

    async def balances(self) -> Mapping[str, Balance]:
        """All currencies of the account. Raises Unavailable."""
        answer = await self._rest.private("private/user-balance", {})
        with reading("the balances"):
            return balances_from(answer)

    async def fee_rates(self, symbol: str | None = None) -> FeeRates:
        """What the account is charged for a symbol; without one the rates of its tier. Raises Unavailable."""
        if symbol is None:
            answer = await self._rest.private("private/get-fee-rate", {})
            with reading("the fee rates"):
                return tier_rates(answer)
        answer = await self._rest.private("private/get-instrument-fee-rate", {"instrument_name": symbol})
        with reading(f"the fee rates of {symbol}"):
            return instrument_rates(answer)

    # --- orders --------------------------------------------------------------------------------------------------

    async def order(self, exchange_order_id: str) -> VenueOrder | None:
        """One order by the venue's id; None if the venue does not know it. Raises Unavailable."""
        return await self._orders.order(exchange_order_id)

    async def find_order(self, client_order_id: str, symbol: str, since: datetime) -> VenueOrder | None:
        """The order with our client order id, of any status; None means only that it is not listed (yet).

        Its detail is asked for by that id, then the lists of the past of `symbol`. Raises Unavailable, also if it is
        listed but can't be parsed; other rows that can't be parsed don't matter.
        """
        return await self._orders.find(client_order_id, symbol, since)

    async def orders(
        self,
        since: datetime,
        symbols: Sequence[str] | None = None,
        *,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueOrder]:
        """All orders created since, of any status, oldest first; see the port for `unreadable`. Raises Unavailable."""
        return await self._orders.since(since, symbols, unreadable)

    async def open_orders(self, *, unreadable: list[MalformedMessage] | None = None) -> Sequence[VenueOrder]:
        """All open orders, ordinary and advanced; see the port for `unreadable`. Raises Unavailable."""
        return await self._orders.open(unreadable)

    async def fills(
        self,
        *,
        exchange_order_id: str | None = None,
        since: datetime | None = None,
        unreadable: list[MalformedMessage] | None = None,
    ) -> Sequence[VenueFill]:
        """The venue's own executions, oldest first, of the last week without `since`; see the port for `unreadable`.

        Raises Unavailable.
        """
        return await self._orders.fills(exchange_order_id, since, unreadable)

    # --- commands ------------------------------------------------------------------------------------------------

    def order_body(self, request: OrderRequest) -> Mapping[str, object]:
        """The exact body that `submit` will send. Raises ValueError for an order that the venue doesn't have."""
        return order_body(request)

    async def submit(self, body: Mapping[str, object], *, urgent: bool = False) -> SubmitAnswer:
        """Send one order body once, unchanged.

        Cancelling the awaiting task does not recall a request that was sent: shield it and await the answer.

        Raises:
            CommandRefused: the venue refused the order; `code` is its own.
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it, or an order with this id exists.
            ValueError: this is the body of another venue's order.
        """
        method, params = parts_of(body)
        answer = submit_answer(await self._rest.command(method, params, urgent=urgent), params)
        self._known.submitted(answer.exchange_order_id, answer.client_order_id, advanced=method == CREATE_TRIGGER)
        return answer

    async def cancel(self, exchange_order_id: str, *, urgent: bool = False) -> CancelAnswer:
        """Request a cancel; its answer is a receipt, and the order can still fill.

        Raises:
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it.
        """
        methods = ["private/cancel-order", "private/advanced/cancel-order"]
        if self._known.is_advanced(exchange_order_id):
            methods.reverse()
        verdicts: list[CancelAnswer] = []
        for method in methods:
            answer = await self._rest.command(method, {"order_id": exchange_order_id}, urgent=urgent)
            if answer.fine:
                return CancelAnswer(CancelVerdict.ACCEPTED)
            verdicts.append(cancel_failure("the cancel", answer))
            if not not_active(answer):
                break
        # Where only one of the two places knows the order, that one's word counts.
        return next((item for item in verdicts if item.verdict is not CancelVerdict.UNKNOWN_ORDER), verdicts[0])

    # --- streams -------------------------------------------------------------------------------------------------

    def user_stream(self, *, tap: FrameTap | None = None) -> ReconnectingStream:
        """The account's order events, without end; `stats` counts messages, `aclose` ends the stream.

        Fees follow a fill as its execution's own message: the order is told again with them.

        Raises:
            ValueError: there is no API key.
        """
        key = self._key
        if key is None:
            raise ValueError("the user stream needs an API key: set exchange.key_file")
        stats, rest = StreamStats(), self._rest
        return self._stream(
            self._config.user_stream_url,
            lambda: CryptocomUserSession(
                key,
                self._known,
                rest.ids,
                stats,
                venue_time=rest.clock.now,
                refused=self._look_at_the_clock,
                account=self._note_account,
            ),
            stats,
            tap,
        )

    def market_stream(
        self, symbols: Sequence[str], channels: Sequence[str], *, tap: FrameTap | None = None
    ) -> ReconnectingStream | JoinedStreams:
        """Public events of `symbols`; channels: ticker, trades, candles (of five minutes), book (50 levels).

        A new connection begins with snapshots, so past trades are repeated, with their own times. More subscriptions
        than one connection takes are shared among several, which are read as one stream.

        Raises:
            ValueError: no symbol, no channel, or an unknown one.
        """
        unknown = [name for name in channels if name not in CHANNELS]
        if unknown or not channels:
            raise ValueError(f"unknown channel {', '.join(unknown) or '(none)'}: choose from {', '.join(CHANNELS)}")
        if not symbols:
            raise ValueError("a market stream needs at least one symbol")
        # A symbol's channels stay on one connection, in the order of its messages.
        wanted, kinds = list(dict.fromkeys(symbols)), list(dict.fromkeys(channels))
        share = MOST_CHANNELS // len(kinds)
        streams = [
            self._market_stream([CHANNELS[kind].format(symbol) for kind in kinds for symbol in part], tap)
            for part in (wanted[first : first + share] for first in range(0, len(wanted), share))
        ]
        return streams[0] if len(streams) == 1 else JoinedStreams(streams)

    def _market_stream(self, names: Sequence[str], tap: FrameTap | None) -> ReconnectingStream:
        stats, rest = StreamStats(), self._rest
        return self._stream(
            self._config.market_stream_url,
            lambda: CryptocomMarketSession(names, rest.ids, stats, venue_time=rest.clock.now),
            stats,
            tap,
        )

    def _stream(
        self,
        url: str,
        session: Callable[[], FrameSession],
        stats: StreamStats,
        tap: FrameTap | None,
    ) -> ReconnectingStream:
        settings = self._config.streams
        if settings.heartbeat:
            # The venue's come every half minute: a shorter patience would lose every connection.
            settings = replace(settings, heartbeat=max(settings.heartbeat, _HEARTBEAT_SECONDS))
        return ReconnectingStream(url, session, settings=settings, stats=stats, ca_file=self._config.ca_file, tap=tap)

    def _look_at_the_clock(self) -> None:
        """Learn the venue's time in the background: it refused the one that we logged in with."""

        async def look() -> None:
            with contextlib.suppress(Unavailable):
                await self._rest.server_time()

        task = asyncio.get_running_loop().create_task(look())
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def close(self) -> None:
        """Release sessions, after calls in flight have ended. Streams are ended by their own `aclose`."""
        await self._rest.close()
