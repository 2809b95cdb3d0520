"""Orders of somebody else: whose they are, and what of them concerns our trades (SAFE-10, RECONCILE-5). Pure.

History before the first start is nobody's trade. What somebody sells by hand, they sell of what they bought by hand
first; only then of what no trade owns, and last of our trades (`domain.balances.take_from_trades`).
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
    """An order of somebody else's that sold (or spent) `size` base which no adopted trade has borne yet.

    `at` is when the last of it was sold.
    """

    order_key: str
    at: datetime
    size: Decimal


@dataclass(frozen=True, slots=True)
class Borne:
    """A trade that an adopted buy opened loses what this sale sold of it."""

    sale_key: str
    taken: Taken


def bought_after(first_start: datetime | None, created_at: datetime | None, filled: Decimal) -> bool:
    """Whether everything that an order buys is bought after the account's first start.

    `filled` (base) is its total when we first see it. One from before that had bought something by then is history as
    a whole: its totals don't say what was bought when. What isn't known is history.
    """
    if first_start is None:
        return False
    return filled == ZERO or (created_at is not None and created_at >= first_start)


def has_our_shape(client_order_id: str) -> bool:
    """Whether an order's client id is one that a BotTrader gives."""
    return parse_client_order_id(client_order_id) is not None


def is_news(first_start: datetime | None, created_at: datetime | None, *, open_still: bool) -> bool:
    """Whether another instance's order says that it trades now, and not that one did before the first start."""
    return open_still or first_start is None or created_at is None or created_at >= first_start


def bear_sales(sales: Iterable[AdoptedSale], trades: Sequence[OpenQuantity]) -> list[Borne]:
    """Which adopted trades bear which sales: oldest sale first, of each the oldest trade that was bought before it.

    `trades` are those that somebody else's buys opened; what an exit order of ours has claimed can't have been sold.
    What a buy gets after a sale bears nothing of it. What no trade bears came out of the pool.
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
