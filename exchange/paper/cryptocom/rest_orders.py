"""Methods for orders: create, cancel, amend, and the lists of orders and executions.

A receipt of `create-order` or `cancel-order` says that the request was taken, nothing more: a cancel takes effect a
moment later and can lose to a fill. A refused order has an id of its own, also one refused for a client order id that
another order has (204): that one's id is told by `get-order-detail` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from exchange.paper.book import RestingBook
from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.answers import CODES, Answered, code_of
from exchange.paper.cryptocom.placing import Asked, read_order
from exchange.paper.cryptocom.requests import MethodCall, amount, text
from exchange.paper.errors import Refusal
from exchange.paper.numbers import rfc3339
from exchange.paper.orders import Order, PaperFill, Side, Status, read_terms
from exchange.paper.venue import PaperVenue

__all__ = ["TradingCalls", "of_list", "row_of", "trade_of"]

_MOST_ROWS = 100
_MOST_IN_LIST = 10


class TradingCalls:
    """Answers for `private/...` of ordinary orders. `taken` says whether an advanced order has a client order id."""

    def __init__(self, venue: PaperVenue, taken: Callable[[str], bool]) -> None:
        self._venue = venue
        self._engine = venue.engine
        self._taken = taken
        self.refused: dict[str, Order] = {}
        """Orders that never came to the market, by id."""
        self.rejects: list[Order] = []
        """Those that the user stream has not told yet."""
        self.origins: dict[str, object] = {}
        """The connection that an order was placed on."""

    # -- create ----------------------------------------------------------------------------------------------------

    def create(self, call: MethodCall) -> object:
        """`create-order`."""
        return self._create(call, call.params)

    def create_list(self, call: MethodCall) -> object:
        """`create-order-list`: up to ten orders, each with a code of its own; contingencies are not for this method."""
        kind, orders = call.params.get("contingency_type", "LIST"), call.params.get("order_list")
        if kind in ("OCO", "OTO", "OTOCO"):
            raise Answered(140001)
        if kind != "LIST" or not isinstance(orders, list) or not 1 <= len(orders) <= _MOST_IN_LIST:
            raise Answered(40004, f"order_list has 1 to {_MOST_IN_LIST} orders")
        rows: list[dict[str, object]] = []
        for index, params in enumerate(orders):
            row: dict[str, object] = {"index": index, "code": 0}
            try:
                receipt = self._create(call, params if isinstance(params, Mapping) else {})
            except Answered as answer:
                row |= {"code": answer.code, "message": answer.message, **(answer.result or {})}
            else:
                row |= receipt
            rows.append(row)
        return rows

    @contextmanager
    def noted(self, params: Mapping[str, object]) -> Iterator[dict[str, object]]:
        """Note a wanted order in the exchange's journal, and its refusal; the caller adds the order's id."""
        entry: dict[str, object] = {
            "time": rfc3339(self._venue.now()),
            "client_order_id": params.get("client_oid", ""),
            "product_id": params.get("instrument_name"),
            "side": params.get("side"),
            "order_configuration": params,
            "order_id": "",
            "duplicate": self.known(str(params.get("client_oid") or "")),
            "refused": "",
        }
        self._venue.journal.append(entry)
        try:
            yield entry
        except Answered as answer:
            entry["refused"] = CODES[answer.code][0]
            raise

    def _create(self, call: MethodCall, params: Mapping[str, object]) -> Mapping[str, object]:
        with self.noted(params) as entry:
            book = self._book(params)
            asked = read_order(call, params, book)
            order = self.submit(asked, book, client_oid=asked.client_oid or str(call.nonce), origin=call.origin)
            entry["order_id"] = order.order_id
        return _receipt(order)

    def _book(self, params: Mapping[str, object]) -> RestingBook:
        book = self._engine.books.get(text(params, "instrument_name") or "")
        if book is None:
            raise Answered(209)
        return book

    def known(self, client_oid: str) -> bool:
        """Whether an order, ordinary or advanced, has this client order id."""
        return bool(client_oid) and (client_oid in self._engine.by_client_id or self._taken(client_oid))

    def submit(
        self, asked: Asked, book: RestingBook, *, client_oid: str, origin: object = None, leg: bool = False
    ) -> Order:
        """Place an order. Raises `Answered` if it is refused, with the refused order's ids.

        A `leg` of an advanced order has its client order id already.
        """
        code = 204 if not leg and self.known(asked.client_oid) else asked.problem(book)
        order = None
        if not code:
            try:
                order = self._place(asked, client_oid, book)
            except Refusal as refusal:
                code = code_of(refusal)
            else:
                self.origins[order.order_id] = origin
                if order.status in (Status.CANCELLED, Status.FAILED) and not order.filled_size:
                    code = render.reason_of(order)
        if order is None:
            order = self._refuse(asked, client_oid, code)
        if code:
            raise Answered(code, result=_receipt(order))
        return order

    def _place(self, asked: Asked, client_oid: str, book: RestingBook) -> Order:
        """Place it; a buy that can't pay its commission in the named quote currency pays it in base."""
        try:
            return self._place_with(asked, client_oid, asked.fee_currency)
        except Refusal as refusal:
            if code_of(refusal) != 306 or asked.side is Side.SELL or asked.fee_currency != book.product.quote:
                raise
        return self._place_with(asked, client_oid, book.product.base)

    def _place_with(self, asked: Asked, client_oid: str, fee_currency: str) -> Order:
        return self._venue.place(
            client_oid,
            asked.instrument,
            asked.side,
            asked.configuration,
            source="API",
            fee_currency=fee_currency,
            details=asked.details,
        )

    def _refuse(self, asked: Asked, client_oid: str, code: int) -> Order:
        now = self._venue.now()
        terms = read_terms(asked.configuration)
        order = Order(
            self._engine.habits.new_id(),
            client_oid,
            asked.instrument,
            asked.side,
            terms,
            asked.configuration,
            now,
            seq=0,
            priority=0,
            status=Status.FAILED,
            limit_price=terms.limit_price,
            base_size=terms.base_size,
            updated=now,
            reject_reason=str(code),
            fee_currency=asked.fee_currency,
            details=asked.details,
        )
        if code != 204:
            self.refused[order.order_id] = order
            self.rejects.append(order)
        return order

    # -- cancel and amend --------------------------------------------------------------------------------------------

    def cancel(self, call: MethodCall) -> object:
        """`cancel-order`."""
        order = self._find(call, self._engine.orders.values())
        if order is None:
            raise Answered(212)
        if not order.live:
            raise Answered(316)
        self._venue.cancel(order.order_id)
        return _receipt(order)

    def cancel_all(self, call: MethodCall) -> object:
        """`cancel-all-orders`: of one instrument, or of all; advanced orders are not among them."""
        name = text(call.params, "instrument_name")
        if name is not None:
            self._book(call.params)
        if text(call.params, "type") not in (None, "LIMIT", "ALL"):
            raise Answered(40004, "type is LIMIT or ALL")
        for order in self.open():
            if name in (None, order.product_id):
                self._venue.cancel(order.order_id)
        return {}

    def cancel_of(self, origin: object) -> None:
        """Cancel the orders placed on a connection (None: all that a client placed): it has ended, and asked for it."""
        for order in self.open():
            if order.order_id in self.origins and origin in (None, self.origins[order.order_id]):
                self._venue.cancel(order.order_id)

    def amend(self, call: MethodCall) -> object:
        """`amend-order`: needs both the new price and the new quantity."""
        price, quantity = amount(call.params, "new_price"), amount(call.params, "new_quantity")
        if price is None or quantity is None:
            raise Answered(40004, "new_price and new_quantity are required")
        order = self._find(call, self._engine.orders.values())
        if order is None:
            raise Answered(212)
        try:
            self._engine.edit(order.order_id, price, quantity)
        except Refusal as refusal:
            raise Answered(code_of(refusal), result=_receipt(order)) from refusal
        return _receipt(order)

    # -- lists ---------------------------------------------------------------------------------------------------------

    def open(self) -> list[Order]:
        """The open ordinary orders."""
        return [order for order in self._engine.live.values() if not of_list(order)]

    def open_orders(self, call: MethodCall) -> object:
        """`get-open-orders`: all of them, whatever page is asked for."""
        name = text(call.params, "instrument_name")
        rows = [
            order
            for order in self._venue.account(call.lag).orders.values()
            if order.live and not of_list(order) and name in (None, order.product_id)
        ]
        return {"data": [row_of(self._venue, order) for order in rows]}

    def detail(self, call: MethodCall) -> object:
        """`get-order-detail`, by `order_id` or `client_oid`."""
        orders = self._venue.account(call.lag).orders
        order = self._find(call, [*orders.values(), *self.refused.values()])
        if order is None:
            raise Answered(40401)
        return row_of(self._venue, order)

    def history(self, call: MethodCall) -> object:
        """`get-order-history`: ended orders that were created in the range, the newest end first."""
        name, count = text(call.params, "instrument_name"), call.limit(_MOST_ROWS, _MOST_ROWS)
        start, end = call.span(self._venue.now_ns())
        ended = [
            order
            for order in [*self._venue.account(call.lag).orders.values(), *self.refused.values()]
            if not order.live
            and not of_list(order)
            and name in (None, order.product_id)
            and start <= render.nanoseconds(order.created, order.seq) < end
        ]
        ended.sort(key=lambda order: (order.updated, order.seq), reverse=True)
        return {"data": [row_of(self._venue, order) for order in ended[:count]]}

    def trades(self, call: MethodCall) -> object:
        """`get-trades`: executions in the range, newest first."""
        name, count = text(call.params, "instrument_name"), call.limit(_MOST_ROWS, _MOST_ROWS)
        start, end = call.span(self._venue.now_ns())
        rows = []
        for fill in reversed(self._venue.account(call.lag).fills):
            if name in (None, fill.product_id) and start <= render.nanoseconds(fill.time, fill.seq) < end:
                rows.append(trade_of(self._venue, fill))
            if len(rows) == count:
                break
        return {"data": rows}

    @staticmethod
    def _find(call: MethodCall, orders: Iterable[Order]) -> Order | None:
        """The order with the asked id; by client order id the first one. Raises `Answered` if there is neither."""
        order_id, client_oid = text(call.params, "order_id"), text(call.params, "client_oid")
        if order_id is None and client_oid is None:
            raise Answered(40004, "order_id or client_oid is required")
        if order_id is not None:
            return next((order for order in orders if order.order_id == order_id), None)
        return next((order for order in orders if order.client_order_id == client_oid), None)


def of_list(order: Order) -> bool:
    """Whether an order at the engine is an advanced order's."""
    return "advanced_id" in order.details


def row_of(venue: PaperVenue, order: Order) -> dict[str, object]:
    """An order as REST shows it."""
    book = venue.engine.books[order.product_id]
    return render.order_row(order, book.product, book.last, venue.portfolio_id)


def trade_of(venue: PaperVenue, fill: PaperFill) -> dict[str, object]:
    """An execution as REST and the user stream show it."""
    return render.user_trade(fill, venue.engine.books[fill.product_id].product, venue.portfolio_id)


def _receipt(order: Order) -> dict[str, object]:
    return {"client_oid": order.client_order_id, "order_id": order.order_id}
