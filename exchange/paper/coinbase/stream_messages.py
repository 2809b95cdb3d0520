"""The events in stream messages: snapshots, orders, levels and candles."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

import orjson

from exchange.paper.candles import PaperCandle
from exchange.paper.coinbase import render
from exchange.paper.faults import FaultKind
from exchange.paper.numbers import ZERO, plain, rfc3339
from exchange.paper.orders import Side, Status
from exchange.paper.venue import PaperVenue

__all__ = ["StreamMessages", "candle_of", "level_of"]

_SNAPSHOT_BATCH = 50
_SNAPSHOT_TRADES = 100
_SNAPSHOT_CANDLES = 100


class StreamMessages:
    """Makes events of the venue's present state; for a deep book it remembers what subscribers have received."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._depth: dict[str, dict[tuple[str, Decimal], Decimal]] = {}

    def snapshot(self, channel: str, products: list[str]) -> Iterable[tuple[str, bytes]]:
        """The present state of `products`, as messages of a channel: its name in messages, and the events."""
        venue = self._venue
        if channel == "user":
            yield from self._user_snapshot(products)
        elif channel == "status":
            yield channel, orjson.dumps([{"type": "snapshot", "products": [self.status(name) for name in products]}])
        elif channel in ("ticker", "ticker_batch"):
            for name in products:
                yield channel, orjson.dumps([{"type": "snapshot", "tickers": [self.ticker(name)]}])
        elif channel == "market_trades":
            for name in products:
                recent = list(venue.recent[name])[-_SNAPSHOT_TRADES:]
                trades = [render.public_trade(trade, venue.wire_name(name)) for trade in reversed(recent)]
                yield channel, orjson.dumps([{"type": "snapshot", "trades": trades}])
        elif channel == "candles":
            for name in products:
                end = venue.market_time()
                bars = venue.candles[name].bars(300, end - (_SNAPSHOT_CANDLES - 1) * 300)
                yield (
                    channel,
                    orjson.dumps(
                        [{"type": "snapshot", "candles": [candle_of(bar, venue.wire_name(name)) for bar in bars]}]
                    ),
                )
        elif channel == "level2":
            for name in products:
                at = rfc3339(venue.now())
                updates = [level_of(side, at, price, size) for (side, price), size in self._depth[name].items()]
                yield (
                    "l2_data",
                    orjson.dumps([{"type": "snapshot", "product_id": venue.wire_name(name), "updates": updates}]),
                )

    def _user_snapshot(self, products: list[str]) -> Iterable[tuple[str, bytes]]:
        orders = [
            render.user_order(order, self._venue.portfolio_id)
            for order in self._venue.engine.live.values()
            if order.status in (Status.OPEN, Status.CANCEL_QUEUED) and order.product_id in products
        ]
        for start in range(0, len(orders) + 1, _SNAPSHOT_BATCH):
            yield (
                "user",
                orjson.dumps(
                    [
                        {
                            "type": "snapshot",
                            "orders": orders[start : start + _SNAPSHOT_BATCH],
                            "positions": {"perpetual_futures_positions": [], "expiring_futures_positions": []},
                        }
                    ]
                ),
            )

    def ticker(self, lead: str) -> dict[str, object]:
        """A product's ticker under its name in messages."""
        return {**self._venue.ticker(lead), "product_id": self._venue.wire_name(lead)}

    def status(self, lead: str) -> dict[str, str]:
        """A product's row of the `status` channel."""
        product, name = self._venue.engine.books[lead].product, self._venue.wire_name(lead)
        return {
            "product_type": "SPOT",
            "id": name,
            "base_currency": product.base,
            "quote_currency": name.rpartition("-")[2],
            "base_increment": plain(product.base_increment),
            "quote_increment": plain(product.quote_increment),
            "display_name": name.replace("-", "/"),
            "status": product.status,
            "status_message": "",
            "min_market_funds": plain(product.quote_min_size),
        }

    def lists_with(self, order: dict[str, object]) -> list[list[dict[str, object]] | None]:
        """The lists of orders that contain this order: one, unless a fault adds others."""
        may = {FaultKind.USER_UNKNOWN_SIDE, FaultKind.USER_NULL_ORDERS}
        if order["cumulative_quantity"] != "0":
            may |= {FaultKind.USER_NO_PRICE}
            if order["status"] == Status.CANCELLED:
                may |= {FaultKind.USER_STALE_CANCELLED}
        fault = self._venue.faults.strike(frozenset(may), "user", time.monotonic())
        if fault is None:
            return [[order]]
        if fault.kind is FaultKind.USER_NULL_ORDERS:
            return [None, [order]]
        if fault.kind is FaultKind.USER_NO_PRICE:
            return [[{**order, "avg_price": "0", "filled_value": "", "total_value_after_fees": ""}]]
        if fault.kind is FaultKind.USER_UNKNOWN_SIDE:
            return [[{**order, "order_side": "UNKNOWN_ORDER_SIDE"}]]
        known = self._venue.engine.orders[str(order["order_id"])]
        last = next(fill for fill in reversed(self._venue.engine.fills) if fill.order_id == known.order_id)
        value = last.size * last.price
        before = replace(
            known,
            filled_size=known.filled_size - last.size,
            filled_value=known.filled_value - value,
            fees=known.fees - last.commission,
            fills=known.fills - 1,
        )
        return [[render.user_order(before, self._venue.portfolio_id)]]

    def depth_changes(self, product_id: str) -> list[tuple[str, Decimal, Decimal]]:
        """Levels of a book that changed since the last call; zero for removed ones."""
        book = self._venue.engine.books[product_id]
        known = self._depth.get(product_id, {})
        current: dict[tuple[str, Decimal], Decimal] = {}
        for name, side in (("bid", Side.BUY), ("offer", Side.SELL)):
            current.update({(name, price): size for price, size in book.levels(side)})
        gone = [(side, price, ZERO) for side, price in known if (side, price) not in current]
        self._depth[product_id] = current
        return gone + [
            (side, price, size) for (side, price), size in current.items() if known.get((side, price)) != size
        ]


def candle_of(bar: PaperCandle, product_id: str) -> dict[str, str]:
    """A candle as in the `candles` channel."""
    return {
        "start": str(bar.start),
        "high": plain(bar.high),
        "low": plain(bar.low),
        "open": plain(bar.open),
        "close": plain(bar.close),
        "volume": plain(bar.volume),
        "product_id": product_id,
    }


def level_of(side: str, at: str, price: Decimal, size: Decimal) -> dict[str, str]:
    """A level of a book as in the `level2` channel; a size of zero removes it."""
    return {"side": side, "event_time": at, "price_level": plain(price), "new_quantity": plain(size)}
