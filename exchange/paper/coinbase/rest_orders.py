"""REST calls for orders: create, cancel, edit, preview, and the lists of orders and fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from exchange.paper.coinbase import render
from exchange.paper.coinbase.requests import Call, read_cursor, read_moment, spot
from exchange.paper.errors import ApiError, Refusal
from exchange.paper.numbers import ZERO, floor_to, parse, plain, rfc3339
from exchange.paper.orders import Order, Side, Status
from exchange.paper.venue import PaperVenue

__all__ = ["OrderCalls"]

_MOST_ORDERS = 1000
Rank = tuple[float, int]


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """The filters of a list of orders; an empty one passes everything."""

    statuses: frozenset[str]
    ids: frozenset[str]
    products: frozenset[str]
    kinds: frozenset[str]
    times_in_force: frozenset[str]
    side: str | None
    start: datetime | None
    end: datetime | None

    @classmethod
    def of(cls, call: Call, statuses: set[str]) -> OrderFilter:
        """The filters in a request. Raises `ApiError` for an invalid date."""
        side = call.one("order_side")
        return cls(
            statuses=frozenset(statuses),
            ids=frozenset(call.many("order_ids")),
            products=frozenset(call.many("product_ids")),
            kinds=frozenset(call.many("order_types")),
            times_in_force=frozenset(call.many("time_in_forces")),
            side=None if side == "UNKNOWN_ORDER_SIDE" else side,
            start=read_moment(call.one("start_date")),
            end=read_moment(call.one("end_date")),
        )

    def takes(self, order: Order) -> bool:
        """True if the order passes every filter; dates do not apply to open orders."""
        for allowed, value in (
            (self.statuses, order.status),
            (self.ids, order.order_id),
            (self.products, order.product_id),
            (self.kinds, order.terms.kind),
            (self.times_in_force, order.terms.time_in_force),
        ):
            if allowed and value not in allowed:
                return False
        if self.side is not None and order.side != self.side:
            return False
        if order.status is Status.OPEN:
            return True
        return (self.start is None or order.created >= self.start) and (self.end is None or order.created < self.end)


class OrderCalls:
    """Answers for order paths; each method is one path."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._engine = venue.engine

    def create(self, call: Call) -> object:
        """`POST /orders`."""
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

    def close_position(self, call: Call) -> object:
        """Sell the available amount of the product's base currency, or `size` of it, with a market order."""
        product_id = call.text("product_id")
        book = self._engine.books.get(product_id)
        size = call.body.get("size")
        if size is None and book is not None:
            size = plain(floor_to(self._engine.wallet[book.product.base].available, book.product.base_increment))
        return self._submit(
            call.text("client_order_id"), product_id, "SELL", {"market_market_ioc": {"base_size": size}}
        )

    def cancel(self, call: Call) -> object:
        """`POST /orders/batch_cancel`."""
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

    def edit(self, call: Call) -> object:
        """`POST /orders/edit`."""
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

    def edit_preview(self, call: Call) -> object:
        """`POST /orders/edit_preview`."""
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

    def preview(self, call: Call) -> object:
        """`POST /orders/preview`."""
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

    def order(self, call: Call) -> object:
        """`GET /orders/historical/{id}`."""
        order = self._venue.account(call.lag).orders.get(call.variables[0])
        if order is None:
            raise ApiError(404, "unknown", "order with this orderID was not found")
        return {"order": render.rest_order(order, self._venue.portfolio_id)}

    def list_orders(self, call: Call) -> object:
        """`GET /orders/historical/batch`."""
        statuses = set(call.many("order_status"))
        if statuses - set(Status):
            raise ApiError(400, "INVALID_ARGUMENT", f"unknown order_status {min(statuses - set(Status))}")
        if "OPEN" in statuses and len(statuses) > 1:
            raise ApiError(400, "INVALID_ARGUMENT", "OPEN cannot be paired with other statuses")
        wanted = OrderFilter.of(call, statuses)
        chosen = [order for order in self._candidates(call, statuses) if wanted.takes(order)]
        ranked = sorted(((_rank(order, call.one("sort_by")), order) for order in chosen), reverse=True, key=_first)
        if statuses == {"OPEN"}:
            del ranked[_MOST_ORDERS:]  # the venue lists no more open orders than that, over all pages
        at = call.one("cursor")
        if at:
            after = tuple(read_cursor(at, 2))
            ranked = [pair for pair in ranked if pair[0] < after]
        limit = call.limit(_MOST_ORDERS, _MOST_ORDERS)
        page, more = ranked[:limit], len(ranked) > limit
        return {
            "orders": [render.rest_order(order, self._venue.portfolio_id) for _, order in page],
            "sequence": "0",
            "has_next": more,
            "cursor": render.cursor(*page[-1][0]) if more else "",
        }

    def _candidates(self, call: Call, statuses: set[str]) -> Sequence[Order]:
        if not spot(call):
            return []
        if statuses == {"OPEN"} and not call.lag:
            return list(self._engine.live.values())
        return list(self._venue.account(call.lag).orders.values())

    def list_fills(self, call: Call) -> object:
        """`GET /orders/historical/fills`."""
        ids, trades = set(call.many("order_ids")), set(call.many("trade_ids"))
        products = set(call.many("product_ids"))
        ids |= set(call.many("order_id"))
        products |= set(call.many("product_id"))
        start, end = read_moment(call.one("start_sequence_timestamp")), read_moment(call.one("end_sequence_timestamp"))
        at = call.one("cursor")
        known = self._venue.account(call.lag).fills
        before = int(read_cursor(at, 1)[0]) if at else len(known) + 1
        limit = call.limit(100, 1000)
        page: list[dict[str, object]] = []
        last = 0
        for fill in reversed(known[: before - 1]):
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
            quoted = self._engine.orders[fill.order_id].terms.quote_size is not None
            in_quote = quoted and self._venue.config.fills_in_quote
            page.append(render.rest_fill(fill, self._venue.portfolio_id, in_quote=in_quote))
            last = fill.seq
        return {"fills": page, "cursor": ""}


def _rank(order: Order, sort_by: str | None) -> Rank:
    if sort_by == "LAST_FILL_TIME":
        return (order.last_fill.timestamp() if order.last_fill else 0.0, order.seq)
    if sort_by == "LIMIT_PRICE":
        return (float(order.limit_price or 0), order.seq)
    return (order.seq, order.seq)


def _first(pair: tuple[Rank, Order]) -> Rank:
    return pair[0]


def _text(price: Decimal | None) -> str:
    return "" if price is None else plain(price)
