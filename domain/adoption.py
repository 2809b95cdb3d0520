"""External orders: who placed them, and how they affect our trades (SAFE-10, RECONCILE-5). Pure.

Orders from before the first start belong to no trade. An external sell is taken first from coins that external orders
bought, then from the pool, and last from our own trades (`domain.balances.take_from_trades`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from domain.balances import OpenQuantity, Taken
from domain.ids import parse_client_order_id
from domain.money import ZERO

__all__ = ["AdoptedSale", "Borne", "bear_sales", "bought_after", "has_our_shape", "is_news"]


@dataclass(frozen=True, slots=True)
class AdoptedSale:
    """An external order that sold (or spent) `size` base not yet deducted from any adopted trade.

    `at` is the time of its last fill.
    """

    order_key: str
    at: datetime
    size: Decimal


@dataclass(frozen=True, slots=True)
class Borne:
    """The part of a sale that is deducted from a trade opened by an adopted buy."""

    sale_key: str
    taken: Taken


def bought_after(first_start: datetime | None, created_at: datetime | None, filled: Decimal) -> bool:
    """Whether all of an order's fills come after the account's first start.

    `filled` (base) is its total when it is first seen. An order placed before the start that already had fills counts
    as history as a whole, because its totals don't say when each part was bought. If it isn't known, the order counts
    as history.
    """
    if first_start is None:
        return False
    return filled == ZERO or (created_at is not None and created_at >= first_start)


def has_our_shape(client_order_id: str) -> bool:
    """Whether an order's client order id has the format that BotTrader uses."""
    return parse_client_order_id(client_order_id) is not None


def is_news(first_start: datetime | None, created_at: datetime | None, *, open_still: bool) -> bool:
    """Whether an order of another instance shows that it is trading now, not merely that it traded before the first
    start."""
    return open_still or first_start is None or created_at is None or created_at >= first_start


def bear_sales(sales: Iterable[AdoptedSale], trades: Sequence[OpenQuantity]) -> list[Borne]:
    """Assigns sales to adopted trades: the oldest sale first, and for each the oldest trade bought before it.

    `trades` are those opened by external buys. Size that one of our exit orders has claimed can't have been sold. Fills
    after a sale bear no part of it. Whatever no trade bears came from the pool.
    """
    left = {item.entry_key: max(item.remaining - item.claimed, ZERO) for item in trades}
    remaining = {item.entry_key: item.remaining for item in trades}
    oldest_first = sorted(trades, key=lambda item: (item.opened_at, item.entry_key))
    borne = []
    for sale in sorted(sales, key=lambda item: (item.at, item.order_key)):
        wanted = sale.size
        for trade in oldest_first:
            held = remaining[trade.entry_key] - trade.bought_after(sale.at)
            size = min(left[trade.entry_key], held, wanted)
            if size > ZERO and trade.opened_at <= sale.at:
                wanted -= size
                left[trade.entry_key] -= size
                remaining[trade.entry_key] -= size
                borne.append(Borne(sale.order_key, Taken(trade.entry_key, size, remaining[trade.entry_key])))
    return borne
