"""Methods for advanced orders: `private/advanced/...`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.advanced import AdvancedBook, AdvancedOrder
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.marks import PaperMarks
from exchange.paper.cryptocom.placing import TRIGGERS, Asked, read_fee_currency, read_order
from exchange.paper.cryptocom.requests import MethodCall, amount, text
from exchange.paper.cryptocom.rest_orders import TradingCalls
from exchange.paper.numbers import ZERO, on_grid, plain
from exchange.paper.orders import Side
from exchange.paper.venue import PaperVenue

__all__ = ["AdvancedCalls"]

_LEGS = 2
_MOST_ROWS = 100
_MOST_LISTS = 10


class AdvancedCalls:
    """Answers for advanced orders; each method is one of the venue's."""

    def __init__(self, venue: PaperVenue, book: AdvancedBook, orders: TradingCalls, marks: PaperMarks) -> None:
        self._venue = venue
        self._book = book
        self._orders = orders
        self._marks = marks

    # -- create ----------------------------------------------------------------------------------------------------

    def create(self, call: MethodCall) -> object:
        """`advanced/create-order`: a trigger alone."""
        with self._orders.noted(call.params) as entry:
            order = self._trigger(call, call.params, default_oid=str(call.nonce))
            entry["order_id"] = order.order_id
        self._book.create([order], oco=False)
        return {"client_oid": order.client_oid, "order_id": order.order_id}

    def create_oco(self, call: MethodCall) -> object:
        """`advanced/create-oco`: a limit order and a trigger of one instrument and side; returns the list's id only."""
        legs = call.params.get("order_list")
        if not isinstance(legs, list) or len(legs) != _LEGS or not all(isinstance(leg, Mapping) for leg in legs):
            raise Answered(40004, f"order_list has exactly {_LEGS} orders")
        with self._orders.noted(legs[0]) as first_entry, self._orders.noted(legs[1]) as second_entry:
            orders = self._legs(call, legs)
            first_entry["order_id"], second_entry["order_id"] = (order.order_id for order in orders)
        return {"list_id": self._book.create(orders, oco=True)}

    def _legs(self, call: MethodCall, legs: list[Mapping[str, object]]) -> list[AdvancedOrder]:
        kinds = [leg.get("type") for leg in legs]
        if kinds.count("LIMIT") != 1 or not any(kind in TRIGGERS for kind in kinds):
            raise Answered(218, "one order is LIMIT, the other a trigger")
        orders = [
            self._limit(call, leg, f"{call.request_id}-{number}")
            if leg.get("type") == "LIMIT"
            else self._trigger(call, leg, default_oid=f"{call.request_id}-{number}")
            for number, leg in enumerate(legs, 1)
        ]
        first, second = orders
        if first.asked.instrument != second.asked.instrument or first.asked.side is not second.asked.side:
            raise Answered(40004, "both orders are of one instrument and side")
        if first.client_oid == second.client_oid:
            raise Answered(204)
        return orders

    def _limit(self, call: MethodCall, params: Mapping[str, object], default_oid: str) -> AdvancedOrder:
        book = self._venue.engine.books.get(text(params, "instrument_name") or "")
        if book is None:
            raise Answered(209)
        asked = read_order(call, params, book)
        return self._order("LIMIT", asked, amount(params, "quantity"), None, default_oid)

    def _trigger(self, call: MethodCall, params: Mapping[str, object], *, default_oid: str) -> AdvancedOrder:
        book = self._venue.engine.books.get(text(params, "instrument_name") or "")
        if book is None:
            raise Answered(209)
        kind, side = text(params, "type"), text(params, "side")
        if side not in ("BUY", "SELL"):
            raise Answered(220)
        if kind not in TRIGGERS:
            raise Answered(218)
        if text(params, "ref_price_type") not in (None, "MARK_PRICE"):
            raise Answered(230)
        product = book.product
        quantity, price, ref_price = (amount(params, name) for name in ("quantity", "price", "ref_price"))
        if ref_price is None or not on_grid(ref_price, product.price_increment):
            raise Answered(229)
        if quantity is None or not on_grid(quantity, product.base_increment):
            raise Answered(213)
        limited = kind in ("STOP_LIMIT", "TAKE_PROFIT_LIMIT")
        if limited and (price is None or not on_grid(price, product.price_increment)):
            raise Answered(308)
        if self._marks.price(book) is None:
            raise Answered(207)
        if self._marks.stale(product.product_id):
            raise Answered(222)
        size: dict[str, object] = {"base_size": plain(quantity)}
        configuration: Mapping[str, Mapping[str, object]] = {"market_market_ioc": size}
        if limited and price is not None:
            configuration = {"limit_limit_gtc": {**size, "limit_price": plain(price)}}
        asked = Asked(
            product.product_id,
            Side(side),
            configuration,
            call.client_oid(params),
            read_fee_currency(params, product, Side(side)),
            quantity * (price or ref_price),
            price if limited else None,
        )
        if asked.value < product.quote_min_size:
            raise Answered(415)
        return self._order(str(kind), asked, quantity, ref_price, default_oid)

    def _order(
        self, kind: str, asked: Asked, quantity: Decimal | None, ref_price: Decimal | None, default_oid: str
    ) -> AdvancedOrder:
        if self._orders.known(asked.client_oid):
            raise Answered(204)
        now = self._venue.now()
        return AdvancedOrder(
            self._venue.engine.habits.new_id(),
            asked.client_oid or default_oid,
            kind,
            asked,
            now,
            now,
            quantity or ZERO,
            ref_price=ref_price,
        )

    # -- cancel ----------------------------------------------------------------------------------------------------

    def cancel(self, call: MethodCall) -> object:
        """`advanced/cancel-order`: a trigger alone; the legs of an OCO are cancelled by their list only."""
        order = self._find(call)
        if order is None:
            raise Answered(212)
        if order.list_id:
            raise Answered(130008)
        if order.ended:
            raise Answered(316)
        self._book.cancel([order])
        return {"client_oid": order.client_oid, "order_id": order.order_id}

    def cancel_oco(self, call: MethodCall) -> object:
        """`advanced/cancel-oco`, by `list_id`: no result."""
        legs = self._book.of_list(call.required("list_id"))
        if not legs:
            raise Answered(40401)
        if all(leg.ended for leg in legs):
            raise Answered(316)
        self._book.cancel(legs)
        return None

    def cancel_all(self, call: MethodCall) -> object:
        """`advanced/cancel-all-orders`: of one instrument, or of all."""
        name = text(call.params, "instrument_name")
        self._book.cancel(order for order in self._book.open() if name in (None, order.asked.instrument))
        return None

    # -- lists ---------------------------------------------------------------------------------------------------------

    def open_orders(self, call: MethodCall) -> object:
        """`advanced/get-open-orders`."""
        name = text(call.params, "instrument_name")
        return {"data": [self._book.row(one) for one in self._book.open() if name in (None, one.asked.instrument)]}

    def detail(self, call: MethodCall) -> object:
        """`advanced/get-order-detail`, by `order_id` or `client_oid`."""
        order = self._find(call)
        if order is None:
            raise Answered(40401)
        return self._book.row(order)

    def list_detail(self, call: MethodCall) -> object:
        """`advanced/get-order-list-detail`: the legs of up to ten lists."""
        ids = call.params.get("list_id_list")
        if (
            not isinstance(ids, list)
            or not 1 <= len(ids) <= _MOST_LISTS
            or not all(isinstance(one, str) for one in ids)
        ):
            raise Answered(40004, f"list_id_list has 1 to {_MOST_LISTS} ids")
        return {"data": [self._book.row(order) for one in ids for order in self._book.of_list(one)]}

    def history(self, call: MethodCall) -> object:
        """`advanced/get-order-history`: ended orders that were created in the range, the newest end first."""
        name, count = text(call.params, "instrument_name"), call.limit(_MOST_ROWS, _MOST_ROWS)
        start, end = call.span(self._venue.now_ns())
        ended = [
            order
            for order in self._book.orders.values()
            if order.ended
            and name in (None, order.asked.instrument)
            and start <= render.nanoseconds(order.created, order.seq) < end
        ]
        ended.sort(key=lambda order: (order.updated, order.seq), reverse=True)
        return {"data": [self._book.row(order) for order in ended[:count]]}

    def _find(self, call: MethodCall) -> AdvancedOrder | None:
        order_id, client_oid = text(call.params, "order_id"), text(call.params, "client_oid")
        if order_id is None and client_oid is None:
            raise Answered(40004, "order_id or client_oid is required")
        if order_id is not None:
            return self._book.orders.get(order_id)
        return next((order for order in self._book.orders.values() if order.client_oid == client_oid), None)
