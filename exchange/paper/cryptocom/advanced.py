"""Advanced orders: triggers, alone or as one leg of an OCO beside a limit order.

- The venue keeps them apart from the orders at the market: an advanced order has an id of its own, and gets an
  `exchange_order_id` once the market has taken it.
- A trigger goes by the mark price, reserves nothing, and may be refused when it triggers.
- Legs are made a moment after the receipt. If one is refused, the other is cancelled; the receipt said nothing of it.
- The limit leg's first execution, also a partial one, cancels the trigger. A trigger cancels the limit leg.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal

from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.marks import PaperMarks
from exchange.paper.cryptocom.placing import Asked
from exchange.paper.errors import PaperError
from exchange.paper.numbers import ZERO, plain, rfc3339
from exchange.paper.orders import Order, Side, Status
from exchange.paper.venue import PaperVenue

__all__ = ["AdvancedBook", "AdvancedOrder"]

_WAITING, _ACTIVE = "PENDING", "ACTIVE"
_ENDED = frozenset({"FILLED", "CANCELED", "REJECTED", "EXPIRED"})
_LOSS = frozenset({"STOP_LOSS", "STOP_LIMIT"})

Submit = Callable[[Asked, str], Order]
"""Brings an order to the market under a client order id. Raises `Answered`."""


@dataclass(slots=True)
class AdvancedOrder:
    """One advanced order. `asked` is what goes to the market: at once for a limit leg, at the trigger for others."""

    order_id: str
    client_oid: str
    kind: str
    asked: Asked
    created: datetime
    updated: datetime
    quantity: Decimal
    seq: int = 0
    ref_price: Decimal | None = None
    list_id: str = ""
    leg: int = 0
    status: str = "NEW"
    exchange_order_id: str = ""
    reject_reason: int = 0
    cancelling: bool = False
    """A cancel was received, and has not taken effect yet."""

    @property
    def ended(self) -> bool:
        """Whether nothing follows any more."""
        return self.status in _ENDED

    def above(self) -> bool:
        """Whether it triggers at or above its reference price (else at or below it)."""
        return (self.asked.side is Side.BUY) is (self.kind in _LOSS)


class AdvancedBook:
    """The account's advanced orders, and what the market does to them."""

    def __init__(self, venue: PaperVenue, marks: PaperMarks, submit: Submit) -> None:
        self._venue = venue
        self._marks = marks
        self._submit = submit
        self._list_ids = itertools.count(6_498_090_546_073_120_000 + render.milliseconds(venue.created) % 10**12)
        self._seq = itertools.count(1)
        self.orders: dict[str, AdvancedOrder] = {}
        self._of_exchange: dict[str, AdvancedOrder] = {}
        self._open: dict[str, AdvancedOrder] = {}
        self.updates: list[AdvancedOrder] = []
        """Changes that the user stream has not told yet, as they were."""

    # -- what clients ask ------------------------------------------------------------------------------------------

    def taken(self, client_oid: str) -> bool:
        """Whether an advanced order has this client order id."""
        return any(order.client_oid == client_oid for order in self.orders.values())

    def create(self, orders: Iterable[AdvancedOrder], *, oco: bool) -> str:
        """Take one trigger, or both legs of an OCO. Returns the id of the OCO's list, "" for a trigger alone."""
        legs = list(orders)
        list_id = str(next(self._list_ids)) if oco else ""
        for number, order in enumerate(legs, 1):
            order.seq, order.list_id, order.leg = next(self._seq), list_id, number if oco else 0
            self.orders[order.order_id] = self._open[order.order_id] = order
            self._keep(order)
        latency = self._venue.accept_latency
        self._venue.later(latency or 0.0, lambda: self._start(legs))
        return list_id

    def cancel(self, orders: Iterable[AdvancedOrder]) -> None:
        """Cancel orders, a moment later."""
        chosen = [order for order in orders if not order.ended]
        for order in chosen:
            order.cancelling = True
            self._keep(order)
            self._venue.cancels.append(
                {"time": rfc3339(self._venue.now()), "order_id": order.order_id, "by": "API", "refused": ""}
            )
        latency = self._venue.cancel_latency

        def cancel() -> None:
            for order in chosen:
                self._end(order, "CANCELED")

        self._venue.later(latency or 0.0, cancel)

    def of_list(self, list_id: str) -> list[AdvancedOrder]:
        """The legs of a list, in their order."""
        return [order for order in self.orders.values() if list_id and order.list_id == list_id]

    def open(self) -> list[AdvancedOrder]:
        """The orders that have not ended."""
        return list(self._open.values())

    # -- what happens to them ----------------------------------------------------------------------------------------

    def _start(self, legs: list[AdvancedOrder]) -> None:
        for order in legs:
            code = 0 if order.ended else self._obstacle(order)
            if order.ended or code:
                self._refuse(order, code)
                return
        for order in legs:
            if order.ref_price is not None:
                self._change(order, _WAITING)
        for order in legs:
            if order.ref_price is None and not order.ended:
                self._to_market(order)

    def _obstacle(self, order: AdvancedOrder) -> int:
        """The code that refuses a leg: its price is already passed, or there is no mark price; 0 if none does."""
        book = self._venue.engine.books[order.asked.instrument]
        if order.ref_price is None:
            touch = book.best(order.asked.side.opposite)
            price = order.asked.price
            passed = (
                touch is not None
                and price is not None
                and (price <= touch if order.asked.side is Side.SELL else price >= touch)
            )
            return 224 if passed else 0
        mark = self._marks.price(book)
        if mark is None:
            return 207
        if self._marks.stale(order.asked.instrument):
            return 222
        return 229 if _reached(order, mark) else 0

    def _to_market(self, order: AdvancedOrder) -> None:
        order.asked.details["advanced_id"] = order.order_id
        try:
            placed = self._submit(order.asked, order.client_oid)
        except Answered as answer:
            self._refuse(order, answer.code)
            return
        order.exchange_order_id = placed.order_id
        self._of_exchange[placed.order_id] = order
        self._change(order, _ACTIVE)
        self.follow(placed)

    def _refuse(self, order: AdvancedOrder, code: int) -> None:
        if not order.ended:
            order.reject_reason = code
            self._end(order, "REJECTED")
        for other in self.of_list(order.list_id):
            self._end(other, "CANCELED")

    def _end(self, order: AdvancedOrder, status: str) -> None:
        """End an order, and with one leg of an OCO its other; what rests at the market is cancelled there."""
        if order.ended:
            return
        if order.exchange_order_id and status == "CANCELED":
            self._venue.end(order.exchange_order_id, "Advanced order canceled")
            if order.order_id not in self._open:
                return  # ended by what the market said of it
        self._change(order, status)
        for other in self.of_list(order.list_id):
            if not other.ended:
                self._end(other, "CANCELED")

    def follow(self, placed: Order) -> None:
        """Let an advanced order follow the order at the market that it has become."""
        order = self._of_exchange.get(placed.order_id)
        if order is None or order.ended:
            return
        status = render.status_of(placed)
        if placed.filled_size:
            for other in self.of_list(order.list_id):
                if other is not order and not other.ended:
                    self._change(other, "CANCELED")
        if status in _ENDED:
            if placed.status is Status.FAILED:
                order.reject_reason = render.reason_of(placed)
            self._end(order, status)
        else:
            self._change(order, _ACTIVE)

    def trigger(self) -> bool:
        """Trigger what the mark prices have reached. Returns whether anything was."""
        due = [order for order in self._open.values() if order.status == _WAITING and self._due(order)]
        for order in due:
            if order.status != _WAITING:
                continue  # ended by another one of this round
            for other in self.of_list(order.list_id):
                if other is not order:
                    self._withdraw(other)
            self._to_market(order)
        return bool(due)

    def _withdraw(self, order: AdvancedOrder) -> None:
        """Cancel the limit leg of a list whose trigger has been reached."""
        if order.ended:
            return
        self._change(order, "CANCELED")
        if order.exchange_order_id:
            self._venue.end(order.exchange_order_id, "The other order of the list was triggered")

    def _due(self, order: AdvancedOrder) -> bool:
        mark = self._marks.price(self._venue.engine.books[order.asked.instrument])
        return mark is not None and not self._marks.stale(order.asked.instrument) and _reached(order, mark)

    def _change(self, order: AdvancedOrder, status: str) -> None:
        order.status, order.updated = status, self._venue.now()
        if order.ended:
            self._open.pop(order.order_id, None)
        self.updates.append(replace(order))
        self._keep(order)

    # -- over a restart ----------------------------------------------------------------------------------------------

    def _keep(self, order: AdvancedOrder) -> None:
        if self._venue.store is not None:
            self._venue.unkept_rows[order.order_id] = asdict(order)

    def resume(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Restore stored orders: those that waited for their start or their cancel get it now."""
        for order in sorted(map(_restored, rows), key=lambda order: order.seq):
            self.orders[order.order_id] = order
            self._seq = itertools.count(order.seq + 1)
            if order.exchange_order_id:
                self._of_exchange[order.exchange_order_id] = order
            if not order.ended:
                self._open[order.order_id] = order
        waiting: dict[str, list[AdvancedOrder]] = {}
        for order in self.open():
            placed = self._venue.engine.orders.get(order.exchange_order_id)
            if placed is not None and render.status_of(placed) != order.status:
                self.follow(placed)
            if order.cancelling:
                self._end(order, "CANCELED")
            elif order.status == "NEW":
                waiting.setdefault(order.list_id or order.order_id, []).append(order)
        for legs in waiting.values():
            self._start(legs)

    # -- how they are shown --------------------------------------------------------------------------------------------

    def row(self, order: AdvancedOrder) -> dict[str, object]:
        """An advanced order as the venue shows it."""
        book = self._venue.engine.books[order.asked.instrument]
        product, placed = book.product, self._venue.engine.orders.get(order.exchange_order_id)
        price = order.asked.price
        value = order.quantity * (price or order.ref_price or ZERO)
        return {
            "account_id": self._venue.portfolio_id,
            "order_id": order.order_id,
            "client_oid": order.client_oid,
            "order_type": order.kind,
            "time_in_force": "GOOD_TILL_CANCEL",
            "side": order.asked.side,
            "exec_inst": [],
            "quantity": render.placed(order.quantity, product.base_increment),
            "limit_price": render.placed(price or ZERO, product.price_increment),
            "order_value": plain(value),
            "avg_price": render.average(placed) if placed else "0",
            "cumulative_quantity": plain(placed.filled_size if placed else ZERO),
            "cumulative_value": plain(placed.filled_value if placed else ZERO),
            "cumulative_fee": plain(placed.fees if placed else ZERO),
            "status": order.status,
            "update_user_id": render.USER_ID,
            "order_date": order.created.date().isoformat(),
            "instrument_name": order.asked.instrument,
            "fee_instrument_name": order.asked.fee_currency,
            **({} if not order.list_id else self._of_a_list(order)),
            **(
                {}
                if order.ref_price is None
                else {
                    "ref_price": render.placed(order.ref_price, product.price_increment),
                    "ref_price_type": "MARK_PRICE",
                }
            ),
            **({"exchange_order_id": order.exchange_order_id} if order.exchange_order_id else {}),
            **({"reject_reason": str(order.reject_reason)} if order.reject_reason else {}),
            "create_time": render.milliseconds(order.created),
            "create_time_ns": str(render.nanoseconds(order.created, order.seq)),
            "update_time": render.milliseconds(order.updated),
        }

    @staticmethod
    def _of_a_list(order: AdvancedOrder) -> Mapping[str, object]:
        return {"list_id": order.list_id, "contingency_type": "OCO", "leg_id": str(order.leg)}


_READERS: Mapping[str, Callable[[str], object]] = {
    "side": Side,
    **dict.fromkeys(("created", "updated"), datetime.fromisoformat),
    **dict.fromkeys(("value", "price", "quantity", "ref_price"), Decimal),
}


def _restored(row: Mapping[str, object]) -> AdvancedOrder:
    """A stored order. Raises `PaperError` if it can't be read."""
    try:
        values = _read(row)
        asked = values.pop("asked")
        if not isinstance(asked, Mapping):
            raise TypeError(type(asked))
        return AdvancedOrder(asked=Asked(**_read(asked)), **values)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise PaperError(
            "STATE_BROKEN", "A stored advanced order can't be read: delete the state file to start afresh."
        ) from error


def _read(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _READERS[name](str(value)) if name in _READERS and value is not None else value
        for name, value in row.items()
    }


def _reached(order: AdvancedOrder, mark: Decimal) -> bool:
    if order.ref_price is None:
        return False
    return mark >= order.ref_price if order.above() else mark <= order.ref_price
