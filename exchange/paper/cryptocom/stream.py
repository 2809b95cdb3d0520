"""The user stream and the market stream: requests, subscriptions, heartbeats, and what is published.

User channels have no sequence numbers: whoever was away has to ask REST. The first reply to a subscription has the
request's id and the present state, later messages the id -1. A heartbeat that is not answered in time ends the
connection with 1000.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.connection import ChannelSubscription, PaperSession
from exchange.paper.cryptocom.market_channels import MARKET_BASES, MarketChannels
from exchange.paper.cryptocom.methods import Methods
from exchange.paper.cryptocom.requests import MethodCall
from exchange.paper.cryptocom.rest_orders import of_list, row_of, trade_of
from exchange.paper.cryptocom.signing import PaperSecret
from exchange.paper.faults import FaultKind
from exchange.paper.orders import Order
from exchange.paper.sockets import SocketServer

__all__ = ["SENT_BASES", "SessionServer"]

_ADVANCED = ("user.advance.order", "user.advanced.order")
"""The venue's documents spell it in two ways: both are taken."""
USER_BASES = ("user.order", "user.trade", "user.balance", *_ADVANCED)
SENT_BASES = (*USER_BASES, *MARKET_BASES)
_MOST_CHANNELS = 400
_RATES = {"user": 150, "market": 100}
_SCOPES = ("ACCOUNT", "CONNECTION")
_BOOK_CHECK = 0.01
_EXPIRY_CHECK = 0.05
_REPLAYED = 50


class SessionServer(SocketServer[PaperSession]):
    """All connections, and the messages published to them."""

    def __init__(self, methods: Methods, secret: PaperSecret) -> None:
        super().__init__(methods.venue)
        self._methods = methods
        self._secret = secret
        self._market = MarketChannels(methods)
        self._beats = itertools.count(int(time.time() * 1000))
        self._told_fills = 0
        self._told_balances: list[tuple[object, ...]] = []
        self._told_rows: deque[tuple[str, str, dict[str, object]]] = deque(maxlen=_REPLAYED)
        self.show_legs = True
        """Whether the orders of advanced orders are told on user.order, too: the venue's documents don't say."""

    def start(self) -> None:
        """Start the batching channels. What was kept over a restart is not told again."""
        self._told_fills = len(self._venue.engine.fills)
        self._told_balances = self._balances()
        self.every(_EXPIRY_CHECK, self._expire)
        if not self._venue.config.step:
            self.every(_BOOK_CHECK, self._books)

    # -- a connection ------------------------------------------------------------------------------------------

    def connect(self, socket: web.WebSocketResponse, request: web.Request, path: str) -> PaperSession:
        """A connection of nobody yet."""
        return PaperSession(self._venue, socket, request, path)

    def opened(self, connection: PaperSession) -> list[asyncio.TimerHandle]:
        """Begin its heartbeats."""
        self._beat_later(connection)
        return connection.timers

    def _beat_later(self, connection: PaperSession) -> None:
        loop, config = asyncio.get_running_loop(), self._venue.config

        def later(seconds: float, action: Callable[[], None]) -> None:
            pending = [timer for timer in connection.timers if timer.when() > loop.time()]
            connection.timers[:] = [*pending, loop.call_later(seconds, action)]

        def beat() -> None:
            number = next(self._beats)
            connection.heartbeat(number)
            later(config.heartbeat_within, lambda: connection.close(1000) if number in connection.unanswered else None)
            later(config.heartbeat_every, beat)

        later(config.heartbeat_every, beat)

    def closed(self, connection: PaperSession) -> None:
        """Cancel what its end cancels."""
        self._left(connection)

    def _left(self, connection: PaperSession) -> None:
        if connection.scope:
            self._methods.orders.cancel_of(None if connection.scope == "ACCOUNT" else connection)
            self._venue.publish()

    def receive(self, connection: PaperSession, text: str) -> None:
        """A client's request."""
        try:
            asked = orjson.loads(text)
        except orjson.JSONDecodeError:
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str) or "id" not in asked:
            connection.reply(-1, "ERROR", 40001, message="BAD_REQUEST")
            return
        request_id, method = asked["id"], str(asked["method"])
        if method == "public/respond-heartbeat":
            if isinstance(request_id, int):
                connection.unanswered.discard(request_id)
            return
        try:
            if self._venue.config.message_rate and not connection.admit(_RATES[connection.path]):
                raise Answered(42901)
            if isinstance(request_id, bool) or not isinstance(request_id, int):
                raise Answered(40001, "id must be a whole number")
            self._serve(connection, request_id, method, asked)
        except Answered as answer:
            connection.reply(request_id, method, answer.code, message=answer.message, result=answer.result)
        finally:
            self._venue.publish()

    def _serve(self, connection: PaperSession, request_id: int, method: str, asked: Mapping[str, object]) -> None:
        params = asked.get("params")
        if method == "public/auth":
            self._authorize(connection, asked)
            connection.reply(request_id, method)
        elif method in ("subscribe", "unsubscribe"):
            names = params.get("channels") if isinstance(params, dict) else None
            if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                raise Answered(40004, "channels is a list of names")
            if method == "subscribe":
                self._subscribe(connection, request_id, names, params if isinstance(params, dict) else {})
            else:
                self._unsubscribe(connection, names)
                connection.reply(request_id, method)
        elif connection.path == "user" and method.startswith("private/"):
            if not connection.authorized:
                raise Answered(40101)
            if not isinstance(params, dict):
                raise Answered(10004, "params must be an object")
            result = self._private(
                connection, MethodCall(method, request_id, asked.get("nonce"), params, origin=connection)
            )
            connection.reply(request_id, method, result=result)
        else:
            raise Answered(40002)

    def _authorize(self, connection: PaperSession, asked: Mapping[str, object]) -> None:
        if connection.path != "user":
            raise Answered(40003)
        self._secret.authenticate(asked, {}, self._venue.now_ns() // 10**6)
        connection.authorized = True

    def _private(self, connection: PaperSession, call: MethodCall) -> object:
        if call.method == "private/set-cancel-on-disconnect":
            scope = call.params.get("scope")
            if scope not in _SCOPES:
                raise Answered(40004, f"scope is one of {', '.join(_SCOPES)}")
            connection.scope = str(scope)
            return {"scope": connection.scope}
        if call.method == "private/get-cancel-on-disconnect":
            return {"scope": connection.scope}
        handler = self._methods.private.get(call.method)
        if handler is None:
            raise Answered(40002)
        if not self._methods.limits.admit(call.method, time.monotonic()):
            raise Answered(42901)
        return handler(call)

    # -- subscriptions -----------------------------------------------------------------------------------------------

    def _subscribe(
        self, connection: PaperSession, request_id: int, names: list[str], params: Mapping[str, object]
    ) -> None:
        for name in names:
            try:
                if connection.path == "user":
                    self._subscribe_user(connection, request_id, name)
                else:
                    self._subscribe_market(connection, request_id, name, params)
            except Answered as answer:
                connection.reply(request_id, "subscribe", answer.code, message=answer.message)

    def _subscribe_user(self, connection: PaperSession, request_id: int, name: str) -> None:
        if not connection.authorized:
            raise Answered(40101)
        base = next((base for base in USER_BASES if name == base or name.startswith(f"{base}.")), None)
        instrument = name.removeprefix(base).removeprefix(".") if base else ""
        if base is None or (instrument and (base == "user.balance" or instrument not in self._venue.engine.books)):
            raise Answered(40003, f"Unknown channel {name}")
        subscription = connection.channels[name] = ChannelSubscription(name, base, instrument)
        present = self._present(subscription)
        if present is None:
            connection.acknowledge(request_id, name)
        else:
            connection.push(subscription, present, request_id=request_id, channel=name)
        self._replay(connection, subscription)

    def _replay(self, connection: PaperSession, subscription: ChannelSubscription) -> None:
        """Under a fault, tell a new subscriber the last rows of its channel again."""
        faults, replayed = self._venue.faults, frozenset({FaultKind.USER_REPLAY})
        if not self._told_rows or not faults or faults.strike(replayed, "user", time.monotonic()) is None:
            return
        for base, instrument, row in list(self._told_rows):
            if base == subscription.base and subscription.instrument in ("", instrument):
                connection.push(subscription, [row], account_id=self._venue.portfolio_id)

    def _present(self, subscription: ChannelSubscription) -> list[dict[str, object]] | None:
        """What a new subscriber gets first: all open orders, the balances; None where there is nothing."""
        base, chosen = subscription.base, subscription.instrument
        if base == "user.order":
            return [self._told(one) for one in self._methods.orders.open() if chosen in ("", one.product_id)]
        if base in _ADVANCED:
            book = self._methods.advanced
            return [book.row(one) for one in book.open() if chosen in ("", one.asked.instrument)]
        return [self._methods.account.balance_now()] if base == "user.balance" else None

    def _subscribe_market(
        self, connection: PaperSession, request_id: int, name: str, params: Mapping[str, object]
    ) -> None:
        if name not in connection.channels and len(connection.channels) >= _MOST_CHANNELS:
            raise Answered(40107)
        subscription = self._market.read(name, params)
        connection.channels[name] = subscription
        self._market.begin(connection, subscription, request_id)

    def _unsubscribe(self, connection: PaperSession, names: list[str]) -> None:
        for name in names:
            connection.channels.pop(name, None)
        if connection.path == "user":
            self._left(connection)  # leaving a user channel counts as leaving

    # -- publishing --------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Send subscribers the changes of the last event."""
        venue, orders, advanced = self._venue, self._methods.orders, self._methods.advanced
        changed = [order for order in venue.take_updates() if self.show_legs or not of_list(order)]
        rejected, orders.rejects = orders.rejects, []
        for order in [*rejected, *changed]:
            self._tell("user.order", order.product_id, self._told(order))
        fills, self._told_fills = venue.engine.fills[self._told_fills :], len(venue.engine.fills)
        for fill in fills:
            self._tell("user.trade", fill.product_id, trade_of(venue, fill))
        updates, advanced.updates = advanced.updates, []
        for update in updates:
            for base in _ADVANCED:
                self._tell(base, update.asked.instrument, advanced.row(update))
        balances = self._balances()
        if balances != self._told_balances:
            self._told_balances = balances
            self._tell("user.balance", "", self._methods.account.balance_now())
        self._market.publish(self._connections)
        if venue.config.step:
            self._books()

    def product_changed(self, product_id: str) -> None:
        """Nothing: instruments are read over REST."""

    def _told(self, order: Order) -> dict[str, object]:
        """An order as user.order shows it: with the rates that it pays."""
        fees = self._venue.engine.product_fees.get(order.product_id, self._venue.engine.fees)
        at = max(order.updated, order.created)
        return {
            **row_of(self._venue, order),
            "maker_fee_rate": f"{fees.maker:.6f}",
            "taker_fee_rate": f"{fees.taker:.6f}",
            "transaction_time_ns": str(render.nanoseconds(at, order.seq)),
        }

    def _tell(self, base: str, instrument: str, told: dict[str, object]) -> None:
        self._told_rows.append((base, instrument, told))
        for connection in list(self._connections):
            for name in (base, f"{base}.{instrument}"):
                subscription = connection.channels.get(name)
                if subscription is not None:
                    connection.push(subscription, [told], account_id=self._venue.portfolio_id)

    def _balances(self) -> list[tuple[object, ...]]:
        return [(row.currency, row.total, row.hold) for row in self._venue.engine.wallet.all()]

    def _books(self) -> None:
        self._market.send_books(self._connections, at_once=self._venue.config.step)

    def _expire(self) -> None:
        self._venue.engine.expire(self._venue.now())
        if self._venue.has_updates:
            self._venue.publish()
