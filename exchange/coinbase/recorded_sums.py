"""Sums of a recording's trades and orders, as the report writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from domain.money import EXACT, ZERO, plain
from exchange.coinbase.parse import time_of
from exchange.coinbase.recorded import EPOCH, RecordedOrder
from exchange.port import PublicTrade
from exchange.reading import MessageError

__all__ = ["candles", "iso", "order_report", "plain_or_none", "ratio", "stamp_of", "sum_of"]

_RATIO = Context(prec=28, rounding=ROUND_HALF_EVEN)
_CANDLE = timedelta(minutes=5)


def ratio(numerator: Decimal, denominator: Decimal) -> str | None:
    """A quotient rounded half-even to 28 digits; None if the denominator is zero."""
    return plain(_RATIO.divide(numerator, denominator)) if denominator else None


def plain_or_none(price: Decimal | None) -> str | None:
    """A price as text, if there is one."""
    return None if price is None else plain(price)


def order_report(order: RecordedOrder) -> dict[str, Any]:
    """An order as the report shows it."""
    totals = order.report.totals
    return {
        "client_order_id": order.client_order_id,
        "product_id": order.symbol,
        "side": order.side.value,
        "status": order.status,
        "filled_size": plain(totals.size),
        "average_price": ratio(totals.value, totals.size),
        "filled_value": plain(totals.value),
        "fees": plain(totals.quote_fees),
        "updates": order.updates,
        "fills": order.fills,
    }


def candles(trades: Mapping[str, PublicTrade]) -> list[dict[str, Any]]:
    """Five-minute candles of the trades, oldest first; periods without trades have none."""
    periods: dict[int, list[PublicTrade]] = {}
    for trade in sorted(trades.values(), key=trade_order):
        periods.setdefault((trade.at - EPOCH) // _CANDLE, []).append(trade)
    return [
        {
            "start": iso(EPOCH + period * _CANDLE),
            "open": plain(items[0].price),
            "high": plain(max(item.price for item in items)),
            "low": plain(min(item.price for item in items)),
            "close": plain(items[-1].price),
            "volume": plain(sum_of(item.size for item in items)),
            "trades": len(items),
        }
        for period, items in sorted(periods.items())
    ]


def trade_order(trade: PublicTrade) -> tuple[datetime, int, str]:
    """A sort key: trades in the order in which they happened."""
    return trade.at, int(trade.trade_id) if trade.trade_id.isdigit() else 0, trade.trade_id


def sum_of(values: Any) -> Decimal:
    """The exact sum."""
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total


def stamp_of(message: Mapping[str, Any]) -> datetime:
    """The sending time that a message states; 1970 if it has none that can be parsed."""
    try:
        return time_of(message.get("timestamp"), "timestamp")
    except MessageError:
        return EPOCH


def iso(moment: datetime) -> str:
    """A moment (UTC) as the report writes it."""
    return moment.isoformat().replace("+00:00", "Z")
