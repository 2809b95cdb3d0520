"""The market channels: ticker, trade, book, candlestick, mark."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable, Mapping
from decimal import Decimal

from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.connection import ChannelSubscription, PaperSession
from exchange.paper.cryptocom.methods import Methods
from exchange.paper.cryptocom.rest_market import timeframe_seconds
from exchange.paper.numbers import ZERO, plain
from exchange.paper.orders import Side

__all__ = ["MARKET_BASES", "MarketChannels"]

MARKET_BASES = ("ticker", "trade", "book", "candlestick", "mark")
_DEPTHS = ("10", "50")
_SNAPSHOT_TRADES = 50
_SNAPSHOT_CANDLES = 300
_SNAPSHOT_MS = 500
_UPDATE_MS = (10, 100, 500)


class MarketChannels:
    """Reads subscriptions, begins them with the present state, and sends what changed."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._venue = methods.venue
        self._sequence = itertools.count(int(time.time() * 1000))

    def read(self, name: str, params: Mapping[str, object]) -> ChannelSubscription:
        """A subscription by its channel's name. Raises `Answered`."""
        base, _, rest = name.partition(".")
        subscription = ChannelSubscription(name, base, rest)
        if base == "book":
            instrument, _, depth = rest.rpartition(".")
            if depth not in _DEPTHS:
                raise Answered(40003, f"Unknown channel {name}")
            subscription.instrument, subscription.depth = instrument, int(depth)
            self._read_book(subscription, params)
        elif base == "candlestick":
            timeframe, _, subscription.instrument = rest.partition(".")
            subscription.seconds = timeframe_seconds(timeframe)
        if base not in MARKET_BASES or subscription.instrument not in self._venue.engine.books:
            raise Answered(40003, f"Unknown channel {name}")
        return subscription

    @staticmethod
    def _read_book(subscription: ChannelSubscription, params: Mapping[str, object]) -> None:
        kind = params.get("book_subscription_type", "SNAPSHOT")
        if kind not in ("SNAPSHOT", "SNAPSHOT_AND_UPDATE"):
            raise Answered(40004, "book_subscription_type is SNAPSHOT or SNAPSHOT_AND_UPDATE")
        subscription.updates = kind == "SNAPSHOT_AND_UPDATE"
        allowed = _UPDATE_MS if subscription.updates else (_SNAPSHOT_MS,)
        frequency = params.get("book_update_frequency", allowed[0])
        if frequency not in allowed or isinstance(frequency, bool) or not isinstance(frequency, int):
            raise Answered(40004, f"book_update_frequency is one of {', '.join(map(str, allowed))}")
        subscription.every = frequency / 1000

    def begin(self, connection: PaperSession, subscription: ChannelSubscription, request_id: int) -> None:
        """The first reply to a subscription."""
        name, market = subscription.instrument, self._methods.market
        product = self._venue.engine.books[name].product
        if subscription.base == "ticker":
            connection.push(subscription, [market.ticker(name, streamed=True)], request_id=request_id)
        elif subscription.base == "trade":
            recent = list(self._venue.recent[self._venue.lead(name)])[-_SNAPSHOT_TRADES:]
            rows = [render.public_trade(trade, product, streamed=True) for trade in reversed(recent)]
            connection.push(subscription, rows, request_id=request_id)
        elif subscription.base == "candlestick":
            at = self._venue.market_time()
            rows = market.candles(name, subscription.seconds, at - _SNAPSHOT_CANDLES * subscription.seconds, at)
            self._candles(connection, subscription, rows[-_SNAPSHOT_CANDLES:], request_id)
        elif subscription.base == "mark":
            self._mark(connection, subscription, request_id)
        else:
            self._snapshot(connection, subscription, request_id)

    def publish(self, connections: Iterable[PaperSession]) -> None:
        """Send what the last event changed, books excepted."""
        venue = self._venue
        trades, venue.new_trades = venue.new_trades, {}
        printed, venue.printed = venue.printed, set()
        changed, venue.changed_books = venue.changed_books | printed, set()
        for connection in list(connections):
            for subscription in list(connection.channels.values()):
                name = subscription.instrument
                if subscription.base == "trade" and name in trades:
                    product = venue.engine.books[name].product
                    rows = [render.public_trade(one, product, streamed=True) for one in reversed(trades[name])]
                    connection.push(subscription, rows)
                elif subscription.base == "ticker" and name in changed:
                    connection.push(subscription, [self._methods.market.ticker(name, streamed=True)])
                elif subscription.base == "candlestick" and name in printed:
                    at, seconds = venue.market_time(), subscription.seconds
                    rows = self._methods.market.candles(name, seconds, at // seconds * seconds, at + 1)
                    self._candles(connection, subscription, rows[-1:], -1)
                elif subscription.base == "mark" and subscription.mark != self._mark_of(name):
                    self._mark(connection, subscription, -1)
                elif subscription.base == "book" and name in changed:
                    subscription.stale = True

    def _mark_of(self, name: str) -> Decimal | None:
        return self._methods.marks.price(self._venue.engine.books[name])

    def send_books(self, connections: Iterable[PaperSession], *, at_once: bool) -> None:
        """Send the books that have changed and are due."""
        now = time.monotonic()
        for connection in list(connections):
            for subscription in list(connection.channels.values()):
                if subscription.stale and (at_once or now >= subscription.due):
                    subscription.stale, subscription.due = False, now + subscription.every
                    if subscription.updates:
                        self._update(connection, subscription)
                    else:
                        self._snapshot(connection, subscription, -1)

    def _snapshot(self, connection: PaperSession, subscription: ChannelSubscription, request_id: int) -> None:
        book = self._venue.engine.books[subscription.instrument]
        subscription.known = self._levels(subscription)
        subscription.sequence = next(self._sequence)
        row = {**self._methods.market.depth(book, subscription.depth), **self._stamp(subscription)}
        connection.push(subscription, [row], request_id=request_id, depth=subscription.depth)

    def _update(self, connection: PaperSession, subscription: ChannelSubscription) -> None:
        """The levels that changed since the last message; a size of 0 removes one."""
        product = self._venue.engine.books[subscription.instrument].product
        before, subscription.known = subscription.known, self._levels(subscription)
        gone = {key: ZERO for key in before if key not in subscription.known}
        changed = gone | {key: size for key, size in subscription.known.items() if before.get(key) != size}
        if not changed:
            return
        previous, subscription.sequence = subscription.sequence, next(self._sequence)
        sides: dict[str, list[list[str]]] = {"asks": [], "bids": []}
        for (side, price), size in changed.items():
            shown = "0" if not size else render.placed(size, product.base_increment)
            sides[side].append([render.placed(price, product.price_increment), shown, "1" if size else "0"])
        row = {"update": sides, **self._stamp(subscription), "pu": previous}
        connection.push(subscription, [row], channel="book.update", depth=subscription.depth)

    def _levels(self, subscription: ChannelSubscription) -> dict[tuple[str, Decimal], Decimal]:
        book = self._venue.engine.books[subscription.instrument]
        return {
            (name, price): size
            for name, side in (("asks", Side.SELL), ("bids", Side.BUY))
            for price, size in book.levels(side, subscription.depth)
        }

    def _stamp(self, subscription: ChannelSubscription) -> dict[str, object]:
        at = render.milliseconds(self._venue.now())
        known = repr(sorted(subscription.known.items())).encode()
        checksum = (zlib.crc32(known) + 2**31) % 2**32 - 2**31
        return {"t": at, "tt": at, "u": subscription.sequence, "cs": checksum}

    def _candles(
        self,
        connection: PaperSession,
        subscription: ChannelSubscription,
        rows: list[dict[str, object]],
        request_id: int,
    ) -> None:
        at = render.milliseconds(self._venue.now())
        interval = subscription.name.split(".")[1]
        connection.push(subscription, [{**row, "ut": at} for row in rows], request_id=request_id, interval=interval)

    def _mark(self, connection: PaperSession, subscription: ChannelSubscription, request_id: int) -> None:
        price = subscription.mark = self._mark_of(subscription.instrument)
        rows = [] if price is None else [{"v": plain(price), "t": render.milliseconds(self._venue.now())}]
        connection.push(subscription, rows, request_id=request_id)
