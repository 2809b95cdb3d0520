"""The control interface: plain HTTP with JSON on loopback, for tests, demonstrations and audits that hold its token.

It moves the market, acts as the exchange's app (orders, deposits), changes products, injects faults and shows the
exchange's own records. It answers after every consequence has been written to the streams.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal

import orjson
from aiohttp import web

from exchange.paper.control_access import guard
from exchange.paper.errors import ApiError, PaperError, Refusal
from exchange.paper.faults import FaultKind, read_fault
from exchange.paper.market import Market
from exchange.paper.numbers import on_grid, parse, plain, rfc3339
from exchange.paper.orders import Side, Status
from exchange.paper.venue import PaperVenue
from exchange.paper.wire import Wire

__all__ = ["ControlServer"]

Body = Mapping[str, object]

_YEAR = 366 * 86_400.0
_LARGEST_SKEW = _LONGEST_STEP = _YEAR
_LONGEST_STEPPED = 100 * _YEAR
_LONGEST_LATENCY = 86_400.0
"""Bounds in seconds."""


class ControlServer:
    """Routes of the control interface; `application` is the aiohttp application."""

    def __init__(self, venue: PaperVenue, market: Market, wire: Wire, *, token: str) -> None:
        self._venue = venue
        self._engine = venue.engine
        self._market = market
        self._wire = wire
        self._streams = wire.streams
        posts: dict[str, Callable[[Body], object]] = {
            "/price": self._price,
            "/trade": self._trade,
            "/step": self._step,
            "/pause": self._pause,
            "/advance": self._advance,
            "/fill": self._fill,
            "/order": self._order,
            "/cancel": self._cancel,
            "/deposit": self._deposit,
            "/withdraw": self._withdraw,
            "/product": self._product,
            "/latency": self._latency,
            "/accept": self._accept,
            "/finish_cancel": self._finish_cancel,
            "/skew": self._skew,
            "/faults": self._add_fault,
            "/sockets": self._sockets,
            **wire.controls(),
        }
        gets: dict[str, Callable[[], object]] = {
            "/state": self._state,
            "/orders": self._orders,
            "/fills": self._fills,
            "/balances": self._balances,
            "/journal": lambda: {"journal": self._venue.journal},
            "/cancels": lambda: {"cancels": self._venue.cancels},
            "/faults": lambda: {"faults": self._venue.faults.listed()},
            "/sockets": lambda: {"sockets": self._streams.listed()},
        }
        self.application = web.Application(middlewares=[guard(token)])
        for path, action in posts.items():
            self.application.router.add_post(path, self._posting(action))
        for path, view in gets.items():
            self.application.router.add_get(path, self._getting(view))
        self.application.router.add_delete("/faults", self._posting(self._clear_faults))

    def _posting(self, action: Callable[[Body], object]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                raw = await request.read()
                body = orjson.loads(raw) if raw else {}
                if not isinstance(body, dict):
                    raise ApiError(400, "BAD_REQUEST", "the body must be a JSON object")
                answer = action(body)
            except orjson.JSONDecodeError:
                return _answer({"error": "BAD_REQUEST", "message": "the body is not JSON"}, 400)
            except ApiError as error:
                return _answer({"error": error.error, "message": error.details}, error.status)
            except PaperError as error:
                return _answer({"error": error.code, "message": error.message}, 400)
            except Refusal as error:
                return _answer({"error": error.reason, "message": error.message}, 422)
            finally:
                self._venue.publish()
            await self._streams.drained()
            return _answer(answer)

        return handle

    @staticmethod
    def _getting(view: Callable[[], object]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(_: web.Request) -> web.Response:
            return _answer(view())

        return handle

    # -- the market --------------------------------------------------------------------------------------------

    def _price(self, body: Body) -> object:
        product_id, bid, ask = _product_id(body), _number(body, "bid"), _number(body, "ask")
        size = _number(body, "size") if body.get("size") is not None else None
        self._on_tick(product_id, bid, ask)
        if bid >= ask:
            raise ApiError(400, "BAD_PRICE", "bid must be below ask")
        self._engine.quote(product_id, bid, ask, size)
        return self._quote(product_id)

    def _trade(self, body: Body) -> object:
        product_id, price, size = _product_id(body), _number(body, "price"), _positive(body, "size")
        self._on_tick(product_id, price)
        side = body.get("side") or ("BUY" if price >= self._engine.books[product_id].ask else "SELL")
        if side not in ("BUY", "SELL"):
            raise ApiError(400, "BAD_SIDE", "side is the aggressor's: BUY or SELL")
        self._engine.trade(product_id, price, size, Side(str(side)))
        return self._quote(product_id)

    def _step(self, body: Body) -> object:
        count = body.get("ticks", 1)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= 1_000_000:
            raise ApiError(400, "BAD_STEP", "ticks must be a whole number from 1 to 1,000,000")
        return {"applied": self._market.step(count), "exhausted": self._market.exhausted}

    def _advance(self, body: Body) -> object:
        """Move market time (candles) forward without a trade."""
        seconds = _seconds(body, "seconds", "BAD_STEP", _LONGEST_STEP)
        if seconds <= 0 or self._venue.stepped + seconds > _LONGEST_STEPPED:
            raise ApiError(400, "BAD_STEP", "seconds must be above 0, and all steps together at most a hundred years")
        self._venue.stepped += seconds
        return {"market_time": self._venue.market_time()}

    def _pause(self, body: Body) -> object:
        paused = body.get("paused", True)
        if not isinstance(paused, bool):
            raise ApiError(400, "BAD_PAUSE", "paused must be true or false")
        self._market.paused = paused
        return {"paused": self._market.paused}

    def _on_tick(self, product_id: str, *prices: Decimal) -> None:
        book = self._engine.books.get(product_id)
        if book is None:
            raise ApiError(404, "UNKNOWN_PRODUCT", f"unknown product {product_id}")
        for price in prices:
            if price <= 0 or not on_grid(price, book.product.price_increment):
                raise ApiError(400, "BAD_PRICE", f"{price} is not a multiple of {book.product.price_increment}")

    def _quote(self, product_id: str) -> dict[str, object]:
        ticker = self._venue.ticker(product_id)
        return {name: ticker[name] for name in ("product_id", "price", "best_bid", "best_ask")}

    # -- orders and money --------------------------------------------------------------------------------------

    def _fill(self, body: Body) -> object:
        price = _number(body, "price") if body.get("price") is not None else None
        order_id = str(body.get("order_id"))
        self._engine.force_fill(order_id, _number(body, "size"), price)
        return self._shown(order_id)

    def _shown(self, order_id: str) -> object:
        return {"order": self._wire.order(self._engine.orders[order_id])}

    def _order(self, body: Body) -> object:
        """A manual order, as from the exchange's own app: no client order id of the system's."""
        configuration, side = body.get("order_configuration"), body.get("side")
        if side not in ("BUY", "SELL") or not isinstance(configuration, Mapping):
            raise ApiError(400, "BAD_ORDER", "side and order_configuration are required")
        order = self._venue.place(
            str(body.get("client_order_id") or ""),
            _product_id(body),
            Side(str(side)),
            configuration,
            source="RETAIL_SIMPLE",
        )
        return self._shown(order.order_id)

    def _cancel(self, body: Body) -> object:
        """A person's cancel in the exchange's own app, not a client's. With a `reason` it is the exchange's own."""
        if body.get("reason"):
            reason = self._venue.end(str(body.get("order_id")), str(body["reason"]))
            return {"success": not reason, "failure_reason": reason}
        reason = self._venue.cancel(str(body.get("order_id")), by="app")
        return {"success": not reason, "failure_reason": reason}

    def _deposit(self, body: Body) -> object:
        self._engine.wallet.deposit(_currency(body), _positive(body, "amount"))
        return self._balances()

    def _withdraw(self, body: Body) -> object:
        self._engine.wallet.deposit(_currency(body), -_positive(body, "amount"))
        return self._balances()

    def _product(self, body: Body) -> object:
        product_id = _product_id(body)
        product = self._engine.set_product(product_id, {k: v for k, v in body.items() if k != "product_id"})
        if self._venue.store is not None:
            self._venue.store.save_product(product)
        self._streams.product_changed(product_id)
        return {
            "product_id": product_id,
            "status": product.status,
            "cancel_only": product.cancel_only,
            "limit_only": product.limit_only,
            "post_only": product.post_only,
            "trading_disabled": product.trading_disabled,
        }

    # -- latencies, clock, faults ------------------------------------------------------------------------------

    def _latency(self, body: Body) -> object:
        held: dict[str, float | None] = {}
        for name in ("accept", "cancel"):
            if name in body:
                held[name] = None if body[name] is None else _seconds(body, name, "BAD_LATENCY", _LONGEST_LATENCY)
                if (held[name] or 0) < 0:
                    raise ApiError(400, "BAD_LATENCY", f"{name} is in seconds of at least 0, or null to hold")
        if "status" in body and body["status"] not in (Status.PENDING, Status.QUEUED):
            raise ApiError(400, "BAD_LATENCY", "status of waiting orders is PENDING or QUEUED")
        # All values are valid: from here on nothing can be refused, so the change is complete or not made at all.
        for name, seconds in held.items():
            setattr(self._venue, f"{name}_latency", seconds)
        if "status" in body:
            self._venue.waiting_status = Status(str(body["status"]))
        return {"accept": self._venue.accept_latency, "cancel": self._venue.cancel_latency}

    def _accept(self, body: Body) -> object:
        order_id = self._known(body)
        self._engine.activate(order_id)
        return self._shown(order_id)

    def _finish_cancel(self, body: Body) -> object:
        order_id = self._known(body)
        self._engine.finish_cancel(order_id)
        return self._shown(order_id)

    def _known(self, body: Body) -> str:
        order_id = str(body.get("order_id"))
        if order_id not in self._engine.orders:
            raise ApiError(404, "UNKNOWN_ORDER", f"no order {order_id}")
        return order_id

    def _skew(self, body: Body) -> object:
        self._venue.skew = _seconds(body, "seconds", "BAD_SKEW", _LARGEST_SKEW)
        return {"skew": self._venue.skew}

    def _add_fault(self, body: Body) -> object:
        fault = read_fault(body)
        self._wire.require_reachable(fault, self._engine.books)
        if fault.kind is FaultKind.REST_LAGGING:
            self._venue.lag()
        return {"fault_id": self._venue.faults.add(fault, time.monotonic()).fault_id}

    def _clear_faults(self, body: Body) -> object:
        fault_id = body.get("fault_id")
        return {"cleared": self._venue.faults.clear(fault_id if isinstance(fault_id, int) else None)}

    def _sockets(self, body: Body) -> object:
        action, path, code = body.get("action"), body.get("path", "*"), body.get("code", 1000)
        if (
            action not in ("drop", "close", "half_open")
            or path not in ("*", "market", "user")
            or not isinstance(code, int)
        ):
            raise ApiError(400, "BAD_SOCKETS", "action is drop, close or half_open; path is market, user or *")
        return {"sockets": self._streams.sockets(str(action), str(path), code)}

    # -- the exchange's own records ------------------------------------------------------------------------------

    def _state(self) -> object:
        return {
            "time": rfc3339(self._venue.now()),
            "market_time": self._venue.market_time(),
            "speed": self._venue.config.speed,
            "step": self._venue.config.step,
            "paused": self._market.paused,
            "exhausted": self._market.exhausted,
            "quotes": {name: self._quote(name) for name in self._engine.books},
        }

    def _orders(self) -> object:
        return {"orders": [self._wire.order(order) for order in self._engine.orders.values()]}

    def _fills(self) -> object:
        return {"fills": [self._wire.fill(fill) for fill in self._engine.fills]}

    def _balances(self) -> object:
        return {
            "balances": {
                b.currency: {
                    "total": plain(b.total),
                    "hold": plain(b.hold),
                    "available": plain(b.available),
                    "deposited": plain(b.deposited),
                }
                for b in self._engine.wallet.all()
            }
        }


def _product_id(body: Body) -> str:
    return str(body.get("product_id"))


def _currency(body: Body) -> str:
    currency = body.get("currency")
    if not isinstance(currency, str) or not currency.isalnum():
        raise ApiError(400, "BAD_CURRENCY", "currency must be a name such as USD")
    return currency


def _seconds(body: Body, name: str, code: str, most: float) -> float:
    """A number of seconds, at most `most` in either direction: beyond that, times could not be represented."""
    seconds = body.get(name)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) <= most:
        raise ApiError(400, code, f"{name} must be a number of seconds, at most {most:,.0f}")
    return float(seconds)


def _number(body: Body, name: str) -> Decimal:
    number = parse(body.get(name))
    if number is None:
        raise ApiError(400, "BAD_NUMBER", f"{name} must be a decimal number in a string")
    return number


def _positive(body: Body, name: str) -> Decimal:
    number = _number(body, name)
    if number <= 0:
        raise ApiError(400, "BAD_NUMBER", f"{name} must be above 0")
    return number


def _answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
