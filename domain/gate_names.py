"""The names of the gates, as the ledger and messages show which check stopped an order."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["GateName"]


class GateName(StrEnum):
    """Stored with every decision, so a name never changes. What each compares: docs/gates.md."""

    TRADING_HALTED = "SKIP_TRADING_HALTED"
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    VENUE_HALTED = "VENUE_HALTED"
    DECISION_EXPIRED = "DECISION_EXPIRED"
    DISABLED_TRADE = "SKIP_DISABLED_TRADE"
    INVALID_TRADE_AMOUNT = "SKIP_INVALID_TRADE_AMOUNT"
    NO_SIGNAL = "SKIP_NO_SIGNAL"
    BLACKLISTED = "SKIP_BLACKLISTED"
    HODL = "HODL"
    INVALID_PRICE = "INVALID_PRICE"
    NO_PRICE = "SKIP_NO_PRICE"
    MARKET_DATA_STALE = "SKIP_MARKET_DATA_STALE"
    SPREAD_TOO_WIDE = "SKIP_SPREAD_TOO_WIDE"
    RED_DAY = "SKIP_RED_DAY"
    INVALID_SIZE = "INVALID_SIZE"
    BELOW_MINIMUM_SIZE = "BELOW_MINIMUM_SIZE"
    ABOVE_MAXIMUM_SIZE = "ABOVE_MAXIMUM_SIZE"
    MAX_OPEN_ORDERS = "SKIP_MAX_OPEN_ORDERS"
    POSITION_TOO_LARGE = "SKIP_POSITION_TOO_LARGE"
    DAILY_LOSS_LIMIT = "SKIP_DAILY_LOSS_LIMIT"
    CIRCUIT_BREAKER = "SKIP_CIRCUIT_BREAKER"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    DRY_RUN = "DRY_RUN"
    NO_LONGER_DUE = "NO_LONGER_DUE"
    """Of a profit exit: its reason no longer applies or can't be checked."""
