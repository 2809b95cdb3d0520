"""The account as it was some seconds ago, for lists that lag."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from exchange.paper.engine import Engine
from exchange.paper.orders import Order, PaperFill
from exchange.paper.wallet import WalletBalance

__all__ = ["Past", "PastAccount"]


@dataclass(frozen=True, slots=True)
class PastAccount:
    """Orders by id, executions in order, balances."""

    orders: Mapping[str, Order]
    fills: Sequence[PaperFill]
    balances: Sequence[WalletBalance]


class Past:
    """The account's changes since this object was made, by monotonic time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed: dict[str, Order] = dict(engine.orders)
        self._orders: dict[str, list[tuple[float, Order]]] = {}
        self._fills: list[tuple[float, int]] = []
        self._balances: list[tuple[float, list[WalletBalance]]] = []
        self.note()

    def changed(self, order: Order) -> None:
        """Mark this order as changed, for the next `note`."""
        self._changed[order.order_id] = order

    def note(self) -> None:
        """Record the changes as of now."""
        now = time.monotonic()
        for identity, order in self._changed.items():
            self._orders.setdefault(identity, []).append((now, replace(order)))
        self._changed.clear()
        if not self._fills or self._fills[-1][1] != len(self._engine.fills):
            self._fills.append((now, len(self._engine.fills)))
        balances = [replace(row) for row in self._engine.wallet.all()]
        if not self._balances or self._balances[-1][1] != balances:
            self._balances.append((now, balances))

    def account(self, lag: float) -> PastAccount:
        """The account `lag` seconds ago, or as of this object's creation, if that is later."""
        at = max(time.monotonic() - lag, self._fills[0][0])
        orders = {
            identity: versions[number - 1][1]
            for identity, versions in self._orders.items()
            if (number := bisect_right(versions, at, key=lambda version: version[0]))
        }
        count = self._fills[bisect_right(self._fills, at, key=lambda row: row[0]) - 1][1]
        balances = self._balances[bisect_right(self._balances, at, key=lambda row: row[0]) - 1][1]
        return PastAccount(orders, self._engine.fills[:count], balances)
