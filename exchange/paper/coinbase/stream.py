"""The public WebSocket stream and the user stream.

One sequence counter per connection over all channels; snapshots before the subscriptions answer; heartbeats each
second; a connection that does not subscribe within five seconds, or receives nothing for 90, is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import orjson
from aiohttp import WSCloseCode, web

from exchange.paper.coinbase import render
from exchange.paper.coinbase.auth import Keyring, Unauthorized
from exchange.paper.coinbase.connection import StreamConnection
from exchange.paper.coinbase.stream_messages import StreamMessages, candle_of, level_of
from exchange.paper.faults import FaultKind
from exchange.paper.numbers import rfc3339
from exchange.paper.sockets import SocketServer, admit
from exchange.paper.venue import PaperVenue

__all__ = ["SENT_CHANNELS", "PaperStreams"]

MARKET_CHANNELS = ("heartbeats", "candles", "status", "ticker", "ticker_batch", "level2", "market_trades")
USER_CHANNELS = ("heartbeats", "user", "futures_balance_summary")
_REPLAYED = 50
_EXPIRY_CHECK = 0.05
_DEPTH_SHARE = 10  # a deep book is compared again after this many times the duration of the last comparison
_WIRE_NAME = {"level2": "l2_data"}
SENT_CHANNELS = sorted({_WIRE_NAME.get(name, name) for name in (*MARKET_CHANNELS, *USER_CHANNELS)} | {"subscriptions"})


class PaperStreams(SocketServer[StreamConnection]):
    """All connections, and the messages published to them."""

    def __init__(self, venue: PaperVenue, keyring: Keyring) -> None:
        super().__init__(venue)
        self._keyring = keyring
        self._started = time.monotonic()
        self._messages = StreamMessages(venue)
        self._shown: dict[str, dict[str, object]] = {}
        self._stale_depth: set[str] = set()
        self._depth_due: dict[str, float] = {}
        self._candles_due: set[str] = set()
        self._candles_at: dict[str, float] = {}
        self._batch_due: set[str] = set()
        self._user_updates: deque[tuple[str, bytes]] = deque(maxlen=_REPLAYED)

    def start(self) -> None:
        """Start heartbeats and the batching channels."""
        config = self._venue.config
        self.every(_EXPIRY_CHECK, self._expire)
        self.every(1.0, self._second)
        self.every(5.0, self._five_seconds)
        if not config.step:
            if config.trade_batch:
                self.every(config.trade_batch, self._publish_trades)
            if config.depth_batch:
                self.every(config.depth_batch, self._publish_depth)

    # -- a connection ------------------------------------------------------------------------------------------

    def connect(self, socket: web.WebSocketResponse, request: web.Request, path: str) -> StreamConnection:
        """A connection without subscriptions."""
        return StreamConnection(self._venue, socket, request, path)

    def opened(self, connection: StreamConnection) -> list[asyncio.TimerHandle]:
        """Close a connection that doesn't subscribe in time."""
        silence = asyncio.get_running_loop().call_later(
            self._venue.config.subscribe_within,
            lambda: None if connection.subscriptions else connection.close(1008),
        )
        return [silence]

    def receive(self, connection: StreamConnection, text: str) -> None:
        """A subscription, within the rate of messages without a token."""
        rate = self._venue.config.message_rate
        if rate and '"jwt"' not in text and not admit(connection.unauthenticated, time.monotonic(), rate):
            connection.error("rate limit exceeded")
        else:
            self._receive(connection, text)

    def _receive(self, connection: StreamConnection, text: str) -> None:
        try:
            asked = orjson.loads(text)
        except orjson.JSONDecodeError:
            connection.error("malformed message: not JSON")
            return
        if not isinstance(asked, dict) or asked.get("type") not in ("subscribe", "unsubscribe"):
            connection.error("type must be subscribe or unsubscribe")
            return
        channel, products = asked.get("channel"), asked.get("product_ids") or []
        allowed = USER_CHANNELS if connection.path == "user" else (*MARKET_CHANNELS, "user", "futures_balance_summary")
        if not isinstance(channel, str) or channel not in allowed:
            connection.error(f"channel {channel} is not supported here")
            return
        if not isinstance(products, list) or not all(isinstance(name, str) for name in products):
            connection.error("product_ids must be a list of product ids")
            return
        known = self._venue.engine.books if channel in USER_CHANNELS else self._venue.engine.leads
        unknown = [name for name in products if name not in known]
        if unknown and channel != "heartbeats":
            connection.error(f"{unknown[0]} is not a valid product")
            return
        if channel not in USER_CHANNELS:
            products = list(dict.fromkeys(self._venue.lead(name) for name in products))
        if not self._may(asked.get("jwt"), private=channel in ("user", "futures_balance_summary")):
            connection.error("authentication failure")
            return
        if asked["type"] == "subscribe":
            self._subscribe(connection, channel, products)
        else:
            self._unsubscribe(connection, channel, products)

    def _may(self, token: object, *, private: bool) -> bool:
        if not token and not private:
            return True
        try:
            self._keyring.verify(str(token), now=self._venue.now().timestamp(), uri=None)
        except Unauthorized:
            return False
        return True

    def _subscribe(self, connection: StreamConnection, channel: str, products: list[str]) -> None:
        known = connection.subscriptions.setdefault(channel, {})
        fresh = [name for name in (products or self._every_product(channel)) if name not in known]
        if products and channel != "heartbeats":
            known.update(dict.fromkeys(products))
        if channel == "level2":
            for product_id in fresh:
                self._messages.depth_changes(product_id)
        for name, events in self._messages.snapshot(channel, fresh):
            connection.send(name, events)
        self._acknowledge(connection)
        strikes = channel == "user" and bool(self._venue.faults)
        if strikes and self._venue.faults.strike(frozenset({FaultKind.USER_REPLAY}), "user", time.monotonic()):
            for product_id, events in self._user_updates:
                if connection.wants("user", product_id):
                    connection.send("user", events)

    def _every_product(self, channel: str) -> list[str]:
        """The meaning of an empty list of products: every product's orders, or every market."""
        engine = self._venue.engine
        return list(engine.books) if channel in USER_CHANNELS else list(dict.fromkeys(engine.leads.values()))

    def _unsubscribe(self, connection: StreamConnection, channel: str, products: list[str]) -> None:
        known = connection.subscriptions.get(channel)
        if known is not None:
            for name in products:
                known.pop(name, None)
            if not known or not products:
                del connection.subscriptions[channel]
        self._acknowledge(connection)

    def _acknowledge(self, connection: StreamConnection) -> None:
        shown = {}
        for channel, products in connection.subscriptions.items():
            if channel == "heartbeats":
                shown[channel] = ["heartbeats"]
            elif channel in ("user", "futures_balance_summary"):
                shown[channel] = [render.USER_ID]
            else:
                shown[channel] = [self._venue.wire_name(name) for name in products or self._every_product(channel)]
        connection.send("subscriptions", orjson.dumps([{"subscriptions": shown}]))

    # -- publishing --------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Send subscribers the changes of the last event."""
        venue = self._venue
        for changed_order in venue.take_updates():
            product_id, order = changed_order.product_id, render.user_order(changed_order, venue.portfolio_id)
            for orders in self._messages.lists_with(order) if venue.faults else ([order],):
                events = orjson.dumps([{"type": "update", "orders": orders}])
                self._user_updates.append((product_id, events))
                self._broadcast("user", product_id, lambda events=events: events)  # type: ignore[misc]
        changed, venue.changed_books = venue.changed_books, set()
        printed, venue.printed = venue.printed, set()
        changed |= printed
        self._stale_depth |= changed
        self._candles_due |= printed
        self._batch_due |= changed
        at_once = venue.config.step
        if at_once or not venue.config.trade_batch:
            self._publish_trades()
        for product_id in changed:
            self._publish_ticker(product_id, printed=product_id in printed)
        if at_once or not venue.config.depth_batch:
            self._publish_depth()
        if at_once:
            self._publish_candles()
            self._five_seconds()

    def product_changed(self, product_id: str) -> None:
        """Send a product's new status on the status channel, under its market's name."""
        product_id = self._venue.lead(product_id)
        self._broadcast(
            "status",
            product_id,
            lambda: orjson.dumps([{"type": "update", "products": [self._messages.status(product_id)]}]),
        )

    def _broadcast(self, channel: str, product_id: str, events: Callable[[], bytes]) -> None:
        body = None
        for connection in list(self._connections):
            if connection.wants(channel, product_id):
                body = body or events()
                connection.send(_WIRE_NAME.get(channel, channel), body)

    def _publish_trades(self) -> None:
        batches, self._venue.new_trades = self._venue.new_trades, {}
        for product_id, trades in batches.items():
            name = self._venue.wire_name(product_id)
            self._broadcast(
                "market_trades",
                product_id,
                lambda trades=trades, name=name: orjson.dumps(  # type: ignore[misc]
                    [{"type": "update", "trades": [render.public_trade(trade, name) for trade in reversed(trades)]}]
                ),
            )

    def _publish_ticker(self, product_id: str, *, printed: bool) -> None:
        """One ticker for each trade, and one if the touch changed without a trade."""
        listening = [connection for connection in self._connections if connection.wants("ticker", product_id)]
        if not listening:
            return
        ticker = self._messages.ticker(product_id)
        if not printed and self._shown.get(product_id) == ticker:
            return
        self._shown[product_id] = ticker
        events = orjson.dumps([{"type": "update", "tickers": [ticker]}])
        for connection in listening:
            connection.send("ticker", events)

    def _publish_depth(self) -> None:
        stale, self._stale_depth = self._stale_depth, set()
        for product_id in stale:
            if not self._venue.config.step and time.monotonic() < self._depth_due.get(product_id, 0.0):
                self._stale_depth.add(product_id)
                continue
            if not any(connection.wants("level2", product_id) for connection in self._connections):
                continue
            started = time.monotonic()
            at = rfc3339(self._venue.now())
            updates = [
                level_of(side, at, price, size) for side, price, size in self._messages.depth_changes(product_id)
            ]
            self._depth_due[product_id] = started + _DEPTH_SHARE * (time.monotonic() - started)
            if updates:
                name = self._venue.wire_name(product_id)
                self._broadcast(
                    "level2",
                    product_id,
                    lambda name=name, found=updates: (  # type: ignore[misc]
                        orjson.dumps([{"type": "update", "product_id": name, "updates": found}])
                    ),
                )

    def _publish_candles(self) -> None:
        """Every bar that changed since the last message, so that the final state of each bar is sent."""
        due, self._candles_due = self._candles_due, set()
        at = self._venue.market_time()
        for product_id in due:
            since, self._candles_at[product_id] = self._candles_at.get(product_id, at), at
            self._broadcast(
                "candles",
                product_id,
                lambda name=product_id, since=since: orjson.dumps(  # type: ignore[misc]
                    [
                        {
                            "type": "update",
                            "candles": [
                                candle_of(bar, self._venue.wire_name(name))
                                for bar in self._venue.candles[name].bars(300, since // 300 * 300)
                            ],
                        }
                    ]
                ),
            )

    def _expire(self) -> None:
        self._venue.engine.expire(self._venue.now())
        if self._venue.has_updates:
            self._venue.publish()

    def _second(self) -> None:
        uptime = time.monotonic() - self._started
        events = orjson.dumps(
            [{"current_time": render.go_time(self._venue.now_ns(), uptime), "heartbeat_counter": int(uptime)}]
        )
        for connection in list(self._connections):
            if "heartbeats" in connection.subscriptions:
                connection.send("heartbeats", events)
            elif not connection.half_open and time.monotonic() - connection.last_sent > self._venue.config.idle_close:
                connection.close(WSCloseCode.GOING_AWAY)
        self._publish_candles()

    def _five_seconds(self) -> None:
        due, self._batch_due = self._batch_due, set()
        for product_id in due:
            self._broadcast(
                "ticker_batch",
                product_id,
                lambda name=product_id: orjson.dumps(  # type: ignore[misc]
                    [{"type": "update", "tickers": [self._messages.ticker(name)]}]
                ),
            )
