"""Intents as an entry point would make them, with defaults for everything a test doesn't care about."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from domain.exits import ExitRules
from domain.ids import intent_key
from domain.messages import IndicatorPart, Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side

__all__ = ["limit_buy", "linkage", "market_buy", "sell"]


def linkage(trigger: str = "rsi_oversold", *, buy_score: str = "0.7") -> Linkage:
    """A decision with its own snapshot."""
    return Linkage(
        trigger=trigger,
        snapshot_id=str(uuid.uuid4()),
        buy_score=Decimal(buy_score),
        sell_score=Decimal("0.1"),
        indicator_breakdown={
            "rsi": IndicatorPart(value=Decimal("24.5"), fired=True, weight=Decimal(2), contribution=Decimal("1.4"))
        },
        indicators_fired=("rsi",),
    )


def _intent(account: str, symbol: str, side: Side, request_id: str | None, fields: dict[str, Any]) -> OrderIntent:
    request_id = request_id or uuid.uuid4().hex
    given: dict[str, Any] = {
        "order_key": intent_key("strategy", request_id, account, symbol, side),
        "account": account,
        "symbol": symbol,
        "side": side,
        "role": OrderRole.ENTRY,
        "source": "sighook",
        "entry_point": "strategy",
        "request_id": request_id,
        "linkage": linkage(),
        "rules": ExitRules(),
    }
    return OrderIntent(**(given | fields))


def market_buy(
    account: str, size: str = "0.01", *, symbol: str = "BTC-USD", request_id: str | None = None, **fields: Any
) -> OrderIntent:
    """A market entry for a base size."""
    given: dict[str, Any] = {"order_type": OrderType.MARKET, "base_size": Decimal(size)}
    return _intent(account, symbol, Side.BUY, request_id, given | fields)


def limit_buy(
    account: str,
    size: str,
    price: str,
    *,
    symbol: str = "BTC-USD",
    request_id: str | None = None,
    **fields: Any,
) -> OrderIntent:
    """A limit entry that rests until the market reaches it."""
    given: dict[str, Any] = {
        "order_type": OrderType.LIMIT,
        "base_size": Decimal(size),
        "limit_price": Decimal(price),
    }
    return _intent(account, symbol, Side.BUY, request_id, given | fields)


def sell(
    account: str, size: str, *, symbol: str = "BTC-USD", request_id: str | None = None, **fields: Any
) -> OrderIntent:
    """A market sell, of a named trade (`entry_key`) or of the unowned pool."""
    given: dict[str, Any] = {"order_type": OrderType.MARKET, "base_size": Decimal(size), "role": OrderRole.EXIT}
    return _intent(account, symbol, Side.SELL, request_id, given | fields)
