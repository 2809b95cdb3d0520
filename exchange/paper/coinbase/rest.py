"""The REST interface: Coinbase Advanced Trade's paths, tokens, errors and rate limits over one account.

In addition, the older paths under /v2 that ccxt calls.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from email.utils import format_datetime

import orjson
from aiohttp import web

from exchange.paper.coinbase import rest_v2
from exchange.paper.coinbase.auth import Keyring, Unauthorized
from exchange.paper.coinbase.requests import Call, read_body
from exchange.paper.coinbase.rest_market import MarketViews
from exchange.paper.coinbase.rest_orders import OrderCalls
from exchange.paper.errors import ApiError
from exchange.paper.faults import REST_FAULTS, Fault, FaultKind
from exchange.paper.venue import PaperVenue

__all__ = ["PREFIX", "Rest"]

PREFIX = "/api/v3/brokerage"
_SILENT_SECONDS = 3600.0


class Rate:
    """Requests per calendar second, as the venue's headers report them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._used = 0

    def admit(self, now: float) -> tuple[bool, dict[str, str]]:
        """Whether one more request is within the limit, and the headers to answer with."""
        if not self._limit:
            return True, {}
        if int(now) != self._second:
            self._second, self._used = int(now), 0
        self._used += 1
        left = max(self._limit - self._used, 0)
        headers = {"x-ratelimit-limit": str(self._limit), "x-ratelimit-remaining": str(left), "x-ratelimit-reset": "1"}
        return self._used <= self._limit, headers


class Rest:
    """Answers requests; `handle` is the aiohttp handler for every path."""

    def __init__(self, venue: PaperVenue, keyring: Keyring) -> None:
        self._venue = venue
        market, orders, older = MarketViews(venue), OrderCalls(venue), rest_v2.OlderViews(venue)
        self._keyring = keyring
        self._private = Rate(venue.config.private_rate)
        self._public = Rate(venue.config.public_rate)
        self._exact: dict[tuple[str, str], Callable[[Call], object]] = {
            ("GET", "/accounts"): market.accounts,
            ("GET", "/products"): market.products,
            ("GET", "/product_book"): market.product_book,
            ("GET", "/best_bid_ask"): market.best_bid_ask,
            ("GET", "/transaction_summary"): market.transaction_summary,
            ("GET", "/time"): market.time,
            ("GET", "/key_permissions"): lambda call: {},
            ("GET", "/portfolios"): market.portfolios,
            ("POST", "/orders"): orders.create,
            ("POST", "/orders/batch_cancel"): orders.cancel,
            ("POST", "/orders/edit"): orders.edit,
            ("POST", "/orders/edit_preview"): orders.edit_preview,
            ("POST", "/orders/preview"): orders.preview,
            ("POST", "/orders/close_position"): orders.close_position,
            ("GET", "/orders/historical/batch"): orders.list_orders,
            ("GET", "/orders/historical/fills"): orders.list_fills,
            ("GET", "/v2/time"): older.time,
            ("GET", "/v2/currencies"): older.currencies,
            ("GET", "/v2/currencies/crypto"): older.crypto,
            ("GET", "/v2/exchange-rates"): older.exchange_rates,
            ("GET", "/v2/accounts"): older.accounts,
        }
        self._patterns: list[tuple[str, re.Pattern[str], Callable[[Call], object]]] = [
            ("GET", re.compile(r"/orders/historical/([^/]+)"), orders.order),
            ("GET", re.compile(r"/products/([^/]+)/candles"), market.candles),
            ("GET", re.compile(r"/products/([^/]+)/ticker"), market.market_trades),
            ("GET", re.compile(r"/products/([^/]+)"), market.product),
            ("GET", re.compile(r"/accounts/([^/]+)"), market.account),
        ]

    def requests(self) -> list[str]:
        """Every served request, as "METHOD /path" with ?* for variable parts."""
        paths = [
            *self._exact,
            *((verb, pattern.pattern.replace("([^/]+)", "?*")) for verb, pattern, _ in self._patterns),
        ]
        public = [(verb, f"/market{path}") for verb, path in paths if path.startswith(("/product_book", "/products"))]
        return [f"{verb} {path}" for verb, path in [*paths, *public]]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, with the active faults."""
        raw = await request.read()
        path = request.path.removeprefix(PREFIX)
        if self._venue.away:
            return web.Response(status=503, text="Service Unavailable")
        fault = None
        if self._venue.faults:
            fault = self._venue.faults.strike(REST_FAULTS, f"{request.method} {path}", time.monotonic())
        if fault is None:
            return self._answer(request, raw, path)
        return await self._faulty(fault, request, raw, path)

    async def date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add the Date header by the venue's clock."""
        response.headers["Date"] = format_datetime(self._venue.now(), usegmt=True)

    async def _faulty(self, fault: Fault, request: web.Request, raw: bytes, path: str) -> web.StreamResponse:
        kind = fault.kind
        if kind is FaultKind.REST_RATE_LIMITED:
            return _rate_limited({"x-ratelimit-reset": f"{fault.delay:g}"} if fault.delay else {})
        if kind is FaultKind.REST_SERVER_ERROR:
            return web.Response(status=fault.status or 503, text="Service Unavailable")
        if kind is FaultKind.REST_NOT_ACCEPTED_CUT:
            return _cut(request)
        if kind is FaultKind.REST_ACCEPTED_LATE:
            await asyncio.sleep(fault.delay)
        response = self._answer(request, raw, path, fault.delay if kind is FaultKind.REST_LAGGING else 0.0)
        if kind is FaultKind.REST_ACCEPTED_SERVER_ERROR:
            return web.Response(status=fault.status or 502, text="Bad Gateway")
        if kind is FaultKind.REST_ACCEPTED_CUT:
            return _cut(request)
        if kind is FaultKind.REST_ACCEPTED_SILENT:
            await asyncio.sleep(fault.delay or _SILENT_SECONDS)
            return _cut(request)
        if kind is FaultKind.REST_SLOW:
            await asyncio.sleep(fault.delay)
        elif isinstance(response.body, bytes) and kind in _SPOILT:
            return web.Response(body=_SPOILT[kind](response.body), content_type="application/json")
        return response

    def _answer(self, request: web.Request, raw: bytes, path: str, lag: float = 0.0) -> web.Response:
        headers: dict[str, str] = {}
        older = request.path.startswith(f"{rest_v2.PREFIX}/")
        try:
            if not (request.path.startswith(PREFIX) or older):
                raise ApiError(404, "NOT_FOUND", "no such path")
            public = path.startswith("/market/") or path == "/time" or (older and path not in rest_v2.PRIVATE)
            admitted, headers = (self._public if public else self._private).admit(time.time())
            if not admitted:
                return _rate_limited(headers)
            if path == "/market/product_book" or path.startswith("/market/products"):
                path = path.removeprefix("/market")
            scopes = self._authorize(request, optional=public)
            handler, variables = self._route(request.method, path)
            if request.method == "POST" and "trade" not in scopes:
                raise ApiError(403, "PERMISSION_DENIED", "Missing required scopes")
            if path == "/key_permissions":
                return _json(
                    {
                        "can_view": True,
                        "can_trade": "trade" in scopes,
                        "can_transfer": False,
                        "portfolio_uuid": self._venue.portfolio_id,
                        "portfolio_type": "DEFAULT",
                    },
                    200,
                    headers,
                )
            query: dict[str, list[str]] = {}
            for name, value in request.query.items():
                query.setdefault(name, []).append(value)
            answer = handler(Call(variables, query, read_body(raw), lag))
        except Unauthorized:
            return web.Response(status=401, text="Unauthorized", headers=headers)
        except ApiError as error:
            if older:
                body = {"errors": [{"id": error.error.lower(), "message": error.details}]}
                return _json(body, error.status, headers)
            return _json(
                {"error": error.error, "error_details": error.details, "message": error.details}, error.status, headers
            )
        finally:
            self._venue.publish()
        return _json(answer, 200, headers)

    def _authorize(self, request: web.Request, *, optional: bool) -> tuple[str, ...]:
        header = request.headers.get("Authorization", "")
        if not header and optional:
            return ()
        if not header.startswith("Bearer "):
            raise Unauthorized("no bearer token")
        uri = f"{request.method} {request.headers.get('Host', '')}{request.path}"
        key = self._keyring.verify(header[7:], now=self._venue.now().timestamp(), uri=uri)
        return key.scopes

    def _route(self, method: str, path: str) -> tuple[Callable[[Call], object], tuple[str, ...]]:
        handler = self._exact.get((method, path))
        if handler is not None:
            return handler, ()
        for verb, pattern, found in self._patterns:
            match = pattern.fullmatch(path)
            if match and verb == method:
                return found, match.groups()
        raise ApiError(404, "NOT_FOUND", f"{method} {path} is not a path of this API")


def _json(value: object, status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


def _rate_limited(headers: Mapping[str, str]) -> web.Response:
    return _json({"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, 429, headers)


def _strange(body: bytes) -> bytes:
    """An answer whose newest filled order has no price, and whose next order has no side.

    The newest of several fills has no side, the first of several products no increment.
    """
    answer = orjson.loads(body)
    for rows, name, lack in (("fills", "side", "UNKNOWN_ORDER_SIDE"), ("products", "base_increment", "")):
        if len(answer.get(rows, ())) > 1:
            answer[rows][0][name] = lack
    orders = answer.get("orders") or ([answer["order"]] if "order" in answer else [])
    filled = next((row for row in orders if row["filled_size"] != "0"), None)
    if filled is not None:
        filled.update(average_filled_price="0", filled_value="")
    for row in [row for row in orders if row is not filled][:1]:
        row["side"] = "UNKNOWN_ORDER_SIDE"
    return orjson.dumps(answer)


def _null_list(body: bytes) -> bytes:
    return orjson.dumps({name: None if value == [] else value for name, value in orjson.loads(body).items()})


_SPOILT: Mapping[FaultKind, Callable[[bytes], bytes]] = {
    FaultKind.REST_MALFORMED: lambda body: body[: len(body) // 2],
    FaultKind.REST_STRANGE: _strange,
    FaultKind.REST_NULL_LIST: _null_list,
}


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
