"""The REST interface: Coinbase Advanced Trade's paths, tokens, errors and rate limits over one account.

In addition, the older paths under /v2 that ccxt calls.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from exchange.paper.coinbase import rest_v2
from exchange.paper.coinbase.auth import Keyring, Unauthorized
from exchange.paper.coinbase.requests import Call, read_body
from exchange.paper.coinbase.rest_market import MarketViews
from exchange.paper.coinbase.rest_orders import OrderCalls
from exchange.paper.errors import ApiError
from exchange.paper.faults import Fault, FaultKind
from exchange.paper.rest_server import RestServer
from exchange.paper.venue import PaperVenue

__all__ = ["PREFIX", "Rest"]

PREFIX = "/api/v3/brokerage"


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


class Rest(RestServer):
    """Answers requests with Coinbase's paths and errors."""

    def __init__(self, venue: PaperVenue, keyring: Keyring) -> None:
        super().__init__(venue)
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

    def path(self, request: web.Request) -> str:
        """The path below the API's prefix; an older one as it is."""
        return request.path.removeprefix(PREFIX)

    def rate_limited(self, seconds: float = 0.0) -> web.Response:
        """A 429, with the wait in its header."""
        return _rate_limited({"x-ratelimit-reset": f"{seconds:g}"} if seconds else {})

    def error_page(self, status: int) -> web.Response:
        """A few words of plain text."""
        return web.Response(status=status, text="Bad Gateway" if status == 502 else "Service Unavailable")

    def spoilt(self, fault: Fault, request: web.Request, body: bytes) -> web.Response | None:
        """Answers with rows that lack a field, or with null for an empty list."""
        spoil = _SPOILT.get(fault.kind)
        return None if spoil is None else web.Response(body=spoil(body), content_type="application/json")

    def answer(self, request: web.Request, raw: bytes, lag: float = 0.0) -> web.Response:
        """The answer to one request, and its effect."""
        headers: dict[str, str] = {}
        path = self.path(request)
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
    FaultKind.REST_STRANGE: _strange,
    FaultKind.REST_NULL_LIST: _null_list,
}
