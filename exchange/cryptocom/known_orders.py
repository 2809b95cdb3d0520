"""What is known of the account's orders, from streams and REST together: rows, executions, and which ids are one order.

The venue reports an order in two places: rows with sizes, and executions with fees. And an advanced order (a trigger)
has an id of its own, another one at the matching engine once it is triggered, and our client order id on both; which of
them an execution carries is not documented. So here every id leads to one order, and each report of it is made of the
newest row and all executions. Executions are kept by their own ids, so repeats change nothing.

The memory is bounded: the orders that were heard of least recently are forgotten, and read again if needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from domain.money import ZERO
from exchange.cryptocom.parse import Row, executed, fill, order_from_row
from exchange.port import VenueFill, VenueOrder
from exchange.reading import text_of

__all__ = ["KnownOrders"]

_MOST_ORDERS = 20_000


@dataclass(slots=True)
class _Known:
    """One order: its newest row, if any, its executions by their ids, and its other ids."""

    row: Row | None = None
    fills: dict[str, VenueFill] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    client_order_id: str = ""


class KnownOrders:
    """The orders of one account.

    Args:
        most: orders kept.
    """

    def __init__(self, most: int = _MOST_ORDERS) -> None:
        self._most = most
        self._orders: OrderedDict[str, _Known] = OrderedDict()
        self._same: dict[str, str] = {}
        """The matching engine's id of an advanced order → the order's own id."""
        self._advanced: dict[str, str] = {}
        """Our client order id of an advanced order → the order's own id."""

    def identity(self, order_id: str, client_order_id: str = "") -> str:
        """The id under which the port knows the order with this id, or with this client order id."""
        return self._same.get(order_id) or self._advanced.get(client_order_id) or order_id

    def is_advanced(self, identity: str) -> bool:
        """Whether the order is known to be an advanced one."""
        known = self._orders.get(identity)
        return known is not None and self._advanced.get(known.client_order_id) == identity

    def submitted(self, order_id: str, client_order_id: str, *, advanced: bool) -> None:
        """An order was taken under this id."""
        known = self._at(order_id)
        known.client_order_id = client_order_id
        if advanced and client_order_id:
            self._advanced[client_order_id] = order_id

    def order(self, row: Row, *, advanced: bool = False) -> VenueOrder:
        """Note an order's row; the order by all that is known of it. Raises MessageError if it can't be parsed."""
        order_id, ours = text_of(row, "order_id"), str(row.get("client_oid") or "")
        if advanced:
            self.submitted(order_id, ours, advanced=True)
            engines = str(row.get("exchange_order_id") or "")
            if engines not in ("", "0", order_id):
                self._join(order_id, engines)
        identity = order_id if advanced else self.identity(order_id, ours)
        if identity != order_id:
            self._join(identity, order_id)
        known = self._at(identity)
        known.client_order_id = known.client_order_id or ours
        found = order_from_row(row, identity, known.fills.values())
        if known.row is None or not _older(row, known.row):
            known.row = row
        return found

    def fill(self, row: Row) -> VenueFill:
        """Note an execution. Raises MessageError if it can't be parsed."""
        order_id, ours = text_of(row, "order_id"), str(row.get("client_oid") or "")
        identity = self.identity(order_id, ours)
        item = fill(row, identity)
        if identity != order_id:
            self._join(identity, order_id)
        known = self._at(identity)
        known.client_order_id = known.client_order_id or ours
        known.fills[item.trade_id] = item
        return item

    def filled(self, identity: str) -> VenueOrder | None:
        """The order by all that is known of it, after an execution of it. None if nothing is known."""
        known = self._orders.get(identity)
        if known is None:
            return None
        if known.row is not None:
            return order_from_row(known.row, identity, known.fills.values())
        first = next(iter(known.fills.values()), None)
        return executed(known.fills.values(), first.symbol) if first is not None else None

    def fills(self, identity: str) -> Iterable[VenueFill]:
        """The executions that are known of the order."""
        known = self._orders.get(identity)
        return list(known.fills.values()) if known is not None else []

    def complete(self, order: VenueOrder) -> bool:
        """Whether the known executions add up to what the order has filled, so that its fees are known."""
        return sum((item.size for item in self.fills(order.exchange_order_id)), ZERO) >= order.filled_size

    def _join(self, identity: str, engines: str) -> None:
        """The matching engine's id is the same order's: what was noted under it belongs there."""
        self._same[engines] = identity
        known, other = self._at(identity), self._orders.pop(engines, None)
        known.aliases.add(engines)
        if other is not None:
            known.fills |= {name: replace(item, exchange_order_id=identity) for name, item in other.fills.items()}

    def _at(self, identity: str) -> _Known:
        known = self._orders.get(identity)
        if known is None:
            known = self._orders[identity] = _Known()
            while len(self._orders) > self._most:
                _, oldest = self._orders.popitem(last=False)
                self._advanced.pop(oldest.client_order_id, None)
                for alias in oldest.aliases:
                    self._same.pop(alias, None)
        else:
            self._orders.move_to_end(identity)
        return known


def _older(row: Row, than: Row) -> bool:
    """Whether a row is certainly the older one of two of the same order."""
    first, second = row.get("update_time"), than.get("update_time")
    return isinstance(first, int) and isinstance(second, int) and first < second
