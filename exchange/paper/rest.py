"""The REST interface: Coinbase Advanced Trade's paths, bodies, errors and rate limits over one account."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal

import orjson
from aiohttp import web

from exchange.paper import render
from exchange.paper.auth import Keyring, Unauthorized
from exchange.paper.candles import GRANULARITIES
from exchange.paper.errors import ApiError, Refusal
from exchange.paper.faults import REST_FAULTS, Fault, FaultKind
from exchange.paper.numbers import ZERO, floor_to, parse, parse_time, plain, rfc3339
from exchange.paper.orders import Order, Side, Status
from exchange.paper.products import describe
from exchange.paper.venue import Venue

PREFIX = "/api/v3/brokerage"
_MAX_CANDLES = 350
_SILENT_SECONDS = 3600.0
_NOW_SECONDS = 5.0  # a range that ends within this of the clock ends "now"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its path's variables, query (repeated names kept) and JSON body."""

    variables: tuple[str, ...]
    query: Mapping[str, list[str]]
    body: Mapping[str, object]

    def one(self, name: str) -> str | None:
        """A query argument, or None where it is absent or empty."""
        values = self.query.get(name)
        return values[0] if values and values[0] != "" else None

    def many(self, name: str) -> list[str]:
        """A repeated query argument (comma-separated is accepted too)."""
        return [part for value in self.query.get(name, ()) for part in value.split(",") if part]

    def limit(self, default: int, most: int) -> int:
        """The `limit` argument. Raises `ApiError` where it is not a number."""
        text = self.one("limit")
        if text is None:
            return default
        if not text.isdigit():
            raise ApiError(400, "INVALID_ARGUMENT", "limit must be a whole number")
        return min(int(text) or default, most)

    def text(self, name: str) -> str:
        """A required string of the body. Raises `ApiError` where it is missing."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise ApiError(400, "INVALID_ARGUMENT", f"{name} is required")
        return value


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

    def __init__(self, venue: Venue, keyring: Keyring) -> None:
        self._venue = venue
        self._engine = venue.engine
        self._keyring = keyring
        self._private = Rate(venue.config.private_rate)
        self._public = Rate(venue.config.public_rate)
        self._exact: dict[tuple[str, str], Callable[[Call], object]] = {
            ("GET", "/accounts"): self._accounts,
            ("GET", "/products"): self._products,
            ("GET", "/product_book"): self._product_book,
            ("GET", "/best_bid_ask"): self._best_bid_ask,
            ("GET", "/transaction_summary"): self._transaction_summary,
            ("GET", "/time"): self._time,
            ("GET", "/key_permissions"): lambda call: {},
            ("POST", "/orders"): self._create,
            ("POST", "/orders/batch_cancel"): self._cancel,
            ("POST", "/orders/edit"): self._edit,
            ("POST", "/orders/edit_preview"): self._edit_preview,
            ("POST", "/orders/preview"): self._preview,
            ("POST", "/orders/close_position"): self._close_position,
            ("GET", "/orders/historical/batch"): self._list_orders,
            ("GET", "/orders/historical/fills"): self._list_fills,
        }
        self._patterns: list[tuple[str, re.Pattern[str], Callable[[Call], object]]] = [
            ("GET", re.compile(r"/orders/historical/([^/]+)"), self._order),
            ("GET", re.compile(r"/products/([^/]+)/candles"), self._candles),
            ("GET", re.compile(r"/products/([^/]+)/ticker"), self._market_trades),
            ("GET", re.compile(r"/products/([^/]+)"), self._product),
            ("GET", re.compile(r"/accounts/([^/]+)"), self._account),
        ]

    # -- a request ---------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, with the faults that are on."""
        raw = await request.read()
        path = request.path.removeprefix(PREFIX)
        fault = None
        if self._venue.faults:
            fault = self._venue.faults.strike(REST_FAULTS, f"{request.method} {path}", time.monotonic())
        if fault is None:
            return self._answer(request, raw, path)
        return await self._faulty(fault, request, raw, path)

    async def _faulty(self, fault: Fault, request: web.Request, raw: bytes, path: str) -> web.StreamResponse:
        kind = fault.kind
        if kind is FaultKind.REST_RATE_LIMITED:
            return _rate_limited({})
        if kind is FaultKind.REST_SERVER_ERROR:
            return web.Response(status=fault.status or 503, text="Service Unavailable")
        if kind is FaultKind.REST_NOT_ACCEPTED_CUT:
            return _cut(request)
        if kind is FaultKind.REST_ACCEPTED_LATE:
            await asyncio.sleep(fault.delay)
        response = self._answer(request, raw, path)
        if kind is FaultKind.REST_ACCEPTED_SERVER_ERROR:
            return web.Response(status=fault.status or 502, text="Bad Gateway")
        if kind is FaultKind.REST_ACCEPTED_CUT:
            return _cut(request)
        if kind is FaultKind.REST_ACCEPTED_SILENT:
            await asyncio.sleep(fault.delay or _SILENT_SECONDS)
            return _cut(request)
        if kind is FaultKind.REST_SLOW:
            await asyncio.sleep(fault.delay)
        elif kind is FaultKind.REST_MALFORMED and isinstance(response.body, bytes):
            return web.Response(body=response.body[: len(response.body) // 2], content_type="application/json")
        return response

    def _answer(self, request: web.Request, raw: bytes, path: str) -> web.Response:
        headers: dict[str, str] = {}
        try:
            if not request.path.startswith(PREFIX):
                raise ApiError(404, "NOT_FOUND", "no such path")
            public = path.startswith("/market/") or path == "/time"
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
                        "portfolio_uuid": render.PORTFOLIO_ID,
                        "portfolio_type": "DEFAULT",
                    },
                    200,
                    headers,
                )
            query: dict[str, list[str]] = {}
            for name, value in request.query.items():
                query.setdefault(name, []).append(value)
            answer = handler(Call(variables, query, _body(raw)))
        except Unauthorized:
            return web.Response(status=401, text="Unauthorized", headers=headers)
        except ApiError as error:
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

    # -- account -----------------------------------------------------------------------------------------------

    def _accounts(self, call: Call) -> object:
        balances = self._engine.wallet.all()
        limit = call.limit(49, 250)
        at = call.one("cursor")
        start = _position(render.read_cursor(at)) if at else 0
        page = balances[start : start + limit]
        more = start + limit < len(balances)
        return {
            "accounts": [render.account(balance, self._venue.created) for balance in page],
            "has_next": more,
            "cursor": render.cursor(start + limit) if more else "",
            "size": len(page),
        }

    def _account(self, call: Call) -> object:
        for balance in self._engine.wallet.all():
            if balance.account_id == call.variables[0]:
                return {"account": render.account(balance, self._venue.created)}
        raise ApiError(404, "NOT_FOUND", "account not found")

    def _transaction_summary(self, call: Call) -> object:
        fees = self._engine.fees
        volume = sum((fill.price * fill.size for fill in self._engine.fills), ZERO)
        paid = sum((fill.commission for fill in self._engine.fills), ZERO)
        return {
            "total_volume": float(volume),
            "total_fees": float(paid),
            "fee_tier": {
                "pricing_tier": "Advanced 1",
                "usd_from": "0",
                "usd_to": "1000",
                "taker_fee_rate": plain(fees.taker),
                "maker_fee_rate": plain(fees.maker),
                "aop_from": "",
                "aop_to": "",
                "volume_types_and_range": [],
            },
            "margin_rate": None,
            "goods_and_services_tax": None,
            "advanced_trade_only_volume": float(volume),
            "advanced_trade_only_fees": float(paid),
            "coinbase_pro_volume": 0,
            "coinbase_pro_fees": 0,
            "total_balance": "",
            "volume_breakdown": [],
            "has_promo_fee": False,
            "has_cost_plus_commission": False,
        }

    def _time(self, call: Call) -> object:
        now = self._venue.now()
        millis = int(now.timestamp() * 1000)
        return {"iso": rfc3339(now), "epochSeconds": str(millis // 1000), "epochMillis": str(millis)}

    # -- market ------------------------------------------------------------------------------------------------

    def _known(self, product_id: str) -> str:
        if product_id not in self._engine.books:
            raise ApiError(404, "NOT_FOUND", f'ProductID "{product_id}" could not be found.')
        return product_id

    def _describe(self, product_id: str) -> dict[str, object]:
        book = self._engine.books[product_id]
        day = self._venue.candles[product_id].day(self._venue.market_time())
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        mid = plain((bid + ask) / 2) if bid is not None and ask is not None else ""
        return describe(
            book.product,
            price=plain(book.last),
            change_24h=plain(round(day.change, 14)),
            volume_24h=plain(day.volume),
            high_24h=plain(day.high),
            low_24h=plain(day.low),
            mid=mid,
            bid=plain(bid) if bid is not None else "",
            ask=plain(ask) if ask is not None else "",
        )

    def _products(self, call: Call) -> object:
        wanted = call.many("product_ids")
        names = [name for name in self._engine.books if not wanted or name in wanted]
        offset = call.one("offset") or "0"
        first = int(offset) if offset.isdigit() else 0
        page = names[first : first + call.limit(len(names) or 1, 1000)]
        return {"products": [self._describe(name) for name in page], "num_products": len(page)}

    def _product(self, call: Call) -> object:
        return self._describe(self._known(call.variables[0]))

    def _pricebook(self, product_id: str, limit: int | None) -> dict[str, object]:
        book = self._engine.books[product_id]
        return {
            "product_id": product_id,
            "bids": render.levels(book.levels(Side.BUY, limit)),
            "asks": render.levels(book.levels(Side.SELL, limit)),
            "time": rfc3339(self._venue.now()),
        }

    def _product_book(self, call: Call) -> object:
        product_id = self._known(call.one("product_id") or "")
        book = self._engine.books[product_id]
        limit = call.limit(0, 100_000) or None
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        figures = {"last": plain(book.last), "mid_market": "", "spread_bps": "", "spread_absolute": ""}
        if bid is not None and ask is not None:
            mid = (bid + ask) / 2
            figures.update(
                mid_market=plain(mid),
                spread_absolute=plain(ask - bid),
                spread_bps=plain(((ask - bid) / mid * 10_000).quantize(Decimal("1e-12"), ROUND_DOWN)),
            )
        return {"pricebook": self._pricebook(product_id, limit), **figures}

    def _best_bid_ask(self, call: Call) -> object:
        names = call.many("product_ids") or list(self._engine.books)
        return {"pricebooks": [self._pricebook(self._known(name), 1) for name in names]}

    def _candles(self, call: Call) -> object:
        """Newest first.

        Candles are in market time. A range that ends at the wall clock's now means market time's now, so that a client
        that asks for the last n candles gets them at any speed; without `start` and `end` it gets the newest ones.
        """
        product_id = self._known(call.variables[0])
        granularity = call.one("granularity") or ""
        if granularity not in GRANULARITIES:
            raise ApiError(400, "INVALID_ARGUMENT", f"granularity must be one of {', '.join(GRANULARITIES)}")
        seconds = GRANULARITIES[granularity]
        limit = call.limit(_MAX_CANDLES, _MAX_CANDLES)
        start, end = _seconds(call.one("start")), _seconds(call.one("end"))
        if start is None or end is None:
            end = int(self._venue.market_time())
            start = end - (limit - 1) * seconds
        elif end < start or (end - start) // seconds > _MAX_CANDLES:
            raise ApiError(
                400,
                "INVALID_ARGUMENT",
                f"start and end argument is invalid - number of candles requested should be less than {_MAX_CANDLES}",
            )
        now = self._venue.now().timestamp()
        if abs(end - now) <= _NOW_SECONDS:
            ahead = int(self._venue.market_time() - now)
            start, end = start + ahead, end + ahead
        bars = self._venue.candles[product_id].bars(seconds, start, end)
        return {"candles": [bar.shown() for bar in reversed(bars[-limit:])]}

    def _market_trades(self, call: Call) -> object:
        product_id = self._known(call.variables[0])
        book = self._engine.books[product_id]
        start, end = _seconds(call.one("start")), _seconds(call.one("end"))
        trades = [
            trade
            for trade in reversed(self._venue.recent[product_id])
            if (start is None or trade.time.timestamp() >= start) and (end is None or trade.time.timestamp() < end + 1)
        ][: call.limit(100, 1000)]
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        return {
            "trades": [
                {**render.public_trade(trade), "bid": "", "ask": "", "exchange": "COINBASE"} for trade in trades
            ],
            "best_bid": plain(bid) if bid is not None else "",
            "best_ask": plain(ask) if ask is not None else "",
        }

    # -- orders ------------------------------------------------------------------------------------------------

    def _create(self, call: Call) -> object:
        client_order_id, product_id = call.text("client_order_id"), call.text("product_id")
        configuration = call.body.get("order_configuration")
        attached = call.body.get("attached_order_configuration")
        return self._submit(client_order_id, product_id, call.text("side"), configuration, attached)

    def _submit(
        self, client_order_id: str, product_id: str, side: str, configuration: object, attached: object = None
    ) -> object:
        first = self._engine.by_client_id.get(client_order_id)
        entry: dict[str, object] = {
            "time": rfc3339(self._venue.now()),
            "client_order_id": client_order_id,
            "product_id": product_id,
            "side": side,
            "order_configuration": configuration,
            "order_id": "",
            "duplicate": first is not None,
            "refused": "",
        }
        self._venue.journal.append(entry)
        if first is None:
            try:
                if side not in ("BUY", "SELL"):
                    raise Refusal("INVALID_SIDE", "side must be BUY or SELL.")
                if not isinstance(configuration, Mapping):
                    raise Refusal("UNSUPPORTED_ORDER_CONFIGURATION", "order_configuration is required.")
                first = self._venue.place(
                    client_order_id,
                    product_id,
                    Side(side),
                    configuration,
                    attached if isinstance(attached, Mapping) else None,
                )
            except Refusal as error:
                entry["refused"] = error.reason
                return render.refusal(error, configuration)
        entry["order_id"] = first.order_id
        success = {
            "order_id": first.order_id,
            "product_id": product_id,
            "side": side,
            "client_order_id": client_order_id,
            "attached_order_id": first.child_id,
        }
        return {
            "success": True,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "order_id": first.order_id,
            "success_response": success,
            "order_configuration": configuration,
        }

    def _close_position(self, call: Call) -> object:
        """Sells what is available of the product's base currency, or `size` of it, at the market."""
        product_id = call.text("product_id")
        book = self._engine.books.get(product_id)
        size = call.body.get("size")
        if size is None and book is not None:
            size = plain(floor_to(self._engine.wallet[book.product.base].available, book.product.base_increment))
        return self._submit(
            call.text("client_order_id"), product_id, "SELL", {"market_market_ioc": {"base_size": size}}
        )

    def _cancel(self, call: Call) -> object:
        ids = call.body.get("order_ids")
        if not isinstance(ids, list) or not ids:
            raise ApiError(400, "INVALID_ARGUMENT", "order_ids is required")
        results = []
        for order_id in ids:
            reason = self._venue.cancel(str(order_id))
            results.append(
                {
                    "success": not reason,
                    "failure_reason": reason or "UNKNOWN_CANCEL_FAILURE_REASON",
                    "order_id": order_id,
                }
            )
        return {"results": results}

    def _edit(self, call: Call) -> object:
        order_id = call.text("order_id")
        price, size = parse(call.body.get("price")) or ZERO, parse(call.body.get("size")) or ZERO
        try:
            self._engine.edit(order_id, price, size)
        except Refusal as error:
            return {
                "success": False,
                "errors": [
                    {"edit_failure_reason": error.reason, "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON"}
                ],
            }
        return {"success": True, "success_response": {"order_id": order_id}, "errors": []}

    def _edit_preview(self, call: Call) -> object:
        order = self._engine.orders.get(call.text("order_id"))
        price, size = parse(call.body.get("price")) or ZERO, parse(call.body.get("size")) or ZERO
        reason = "ORDER_NOT_FOUND" if order is None else self._engine.why_not_edit(order, price, size)
        errors = [{"edit_failure_reason": reason}] if reason else []
        value = price * size
        product_id = order.product_id if order is not None else next(iter(self._engine.books))
        commission = value * self._engine.fees.taker
        return {
            "errors": errors,
            "slippage": "0",
            "order_total": plain(value + commission),
            "commission_total": plain(commission),
            "quote_size": plain(value),
            "base_size": plain(size),
            "best_bid": _text(self._engine.books[product_id].best(Side.BUY)),
            "best_ask": _text(self._engine.books[product_id].best(Side.SELL)),
            "average_filled_price": plain(price),
        }

    def _preview(self, call: Call) -> object:
        product_id, side = call.text("product_id"), call.text("side")
        configuration = call.body.get("order_configuration")
        book = self._engine.books.get(product_id)
        bid = _text(book.best(Side.BUY)) if book else ""
        ask = _text(book.best(Side.SELL)) if book else ""
        shown = {
            "order_total": "0",
            "commission_total": "0",
            "errs": [],
            "warning": [],
            "quote_size": "0",
            "base_size": "0",
            "best_bid": bid,
            "best_ask": ask,
            "is_max": False,
            "order_margin_total": "0",
            "leverage": "",
            "long_leverage": "",
            "short_leverage": "",
            "slippage": "0",
            "preview_id": "",
            "average_filled_price": "0",
        }
        try:
            if side not in ("BUY", "SELL") or not isinstance(configuration, Mapping):
                raise Refusal(
                    "INVALID_REQUEST", "side and order_configuration are required.", "PREVIEW_INVALID_ORDER_CONFIG"
                )
            found = self._engine.preview(product_id, Side(side), configuration)
        except Refusal as error:
            return {**shown, "errs": [error.preview]}
        total = found.value + found.commission if side == "BUY" else found.value - found.commission
        return {
            **shown,
            "order_total": plain(total),
            "commission_total": plain(found.commission),
            "quote_size": plain(found.value),
            "base_size": plain(found.base_size),
            "average_filled_price": plain(found.average_price),
        }

    def _order(self, call: Call) -> object:
        order = self._engine.orders.get(call.variables[0])
        if order is None:
            raise ApiError(404, "unknown", "order with this orderID was not found")
        return {"order": render.rest_order(order)}

    def _list_orders(self, call: Call) -> object:
        statuses = set(call.many("order_status"))
        if statuses - set(Status):
            raise ApiError(400, "INVALID_ARGUMENT", f"unknown order_status {min(statuses - set(Status))}")
        if "OPEN" in statuses and len(statuses) > 1:
            raise ApiError(400, "INVALID_ARGUMENT", "OPEN cannot be paired with other statuses")
        chosen = [order for order in self._candidates(statuses) if self._matches(order, call, statuses)]
        by_fill_time, by_price = call.one("sort_by") == "LAST_FILL_TIME", call.one("sort_by") == "LIMIT_PRICE"

        def rank(order: Order) -> list[object]:
            if by_fill_time:
                return [order.last_fill.timestamp() if order.last_fill else 0.0, order.seq]
            if by_price:
                return [float(order.limit_price or 0), order.seq]
            return [order.seq]

        ranked = sorted(((rank(order), order) for order in chosen), key=lambda pair: pair[0], reverse=True)
        return self._page(ranked, call, 1000, "orders", render.rest_order)

    @staticmethod
    def _page(
        ranked: Sequence[tuple[list[object], Order]],
        call: Call,
        most: int,
        name: str,
        shown: Callable[[Order], dict[str, object]],
    ) -> object:
        at = call.one("cursor")
        if at:
            after = render.read_cursor(at)
            try:
                ranked = [pair for pair in ranked if pair[0] < after]
            except TypeError as error:
                raise ApiError(400, "INVALID_ARGUMENT", "cursor is not valid for this sort") from error
        limit = call.limit(most, most)
        page, more = ranked[:limit], len(ranked) > limit
        return {
            name: [shown(order) for _, order in page],
            "sequence": "0",
            "has_next": more,
            "cursor": render.cursor(*page[-1][0]) if more else "",
        }

    def _candidates(self, statuses: set[str]) -> Sequence[Order]:
        return list(self._engine.live.values()) if statuses == {"OPEN"} else list(self._engine.orders.values())

    @staticmethod
    def _matches(order: Order, call: Call, statuses: set[str]) -> bool:
        if statuses and order.status not in statuses:
            return False
        ids, products = call.many("order_ids"), call.many("product_ids")
        kinds, frames = call.many("order_types"), call.many("time_in_forces")
        side = call.one("order_side")
        if (ids and order.order_id not in ids) or (products and order.product_id not in products):
            return False
        if (kinds and order.terms.kind not in kinds) or (frames and order.terms.time_in_force not in frames):
            return False
        if side and side != "UNKNOWN_ORDER_SIDE" and order.side != side:
            return False
        if order.status is Status.OPEN:
            return True
        start, end = _moment(call.one("start_date")), _moment(call.one("end_date"))
        return (start is None or order.created >= start) and (end is None or order.created < end)

    def _list_fills(self, call: Call) -> object:
        ids, trades = set(call.many("order_ids")), set(call.many("trade_ids"))
        products = set(call.many("product_ids"))
        ids |= set(call.many("order_id"))
        products |= set(call.many("product_id"))
        start, end = _moment(call.one("start_sequence_timestamp")), _moment(call.one("end_sequence_timestamp"))
        at = call.one("cursor")
        before = _position(render.read_cursor(at)) if at else len(self._engine.fills) + 1
        limit = call.limit(100, 1000)
        page: list[dict[str, object]] = []
        last = 0
        for fill in reversed(self._engine.fills[: before - 1]):
            if (
                (ids and fill.order_id not in ids)
                or (trades and fill.trade_id not in trades)
                or (products and fill.product_id not in products)
                or (start and fill.time < start)
                or (end and fill.time >= end)
            ):
                continue
            if len(page) == limit:
                return {"fills": page, "cursor": render.cursor(last)}
            page.append(render.rest_fill(fill))
            last = fill.seq
        return {"fills": page, "cursor": ""}


def _json(value: object, status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


def _rate_limited(headers: Mapping[str, str]) -> web.Response:
    return _json({"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, 429, headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _body(raw: bytes) -> Mapping[str, object]:
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "INVALID_ARGUMENT", "the body is not JSON") from error
    if not isinstance(body, dict):
        raise ApiError(400, "INVALID_ARGUMENT", "the body must be a JSON object")
    return body


def _position(key: list[object]) -> int:
    if len(key) != 1 or not isinstance(key[0], int) or key[0] < 0:
        raise ApiError(400, "INVALID_ARGUMENT", "cursor is not valid")
    return key[0]


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isdigit():
        return int(text)
    moment = parse_time(text)
    if moment is None:
        raise ApiError(400, "INVALID_ARGUMENT", "start and end must be unix seconds")
    return int(moment.timestamp())


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = parse_time(text)
    if moment is None:
        raise ApiError(400, "INVALID_ARGUMENT", f"{text} is not an RFC 3339 time")
    return moment.astimezone(UTC)


def _text(price: Decimal | None) -> str:
    return "" if price is None else plain(price)


__all__ = ["PREFIX", "Rest"]
