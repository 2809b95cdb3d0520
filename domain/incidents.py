"""Kinds of incidents: events that a person should know of, and states that last until a person has dealt with them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["IncidentKind"]


class IncidentKind(StrEnum):
    """Stored with each incident and used in people's notice rules, so a name never changes.

    Differences found by a reconcile are incidents under their own names (`domain.differences.Difference`).
    """

    TRADING_HALTED = "TRADING_HALTED"
    TRADING_RESUMED = "TRADING_RESUMED"
    LIVE_ARMED = "LIVE_ARMED"
    LIVE_DISARMED = "LIVE_DISARMED"
    KEY_MAY_NOT_TRADE = "KEY_MAY_NOT_TRADE"
    ENTRIES_REFUSED = "ENTRIES_REFUSED"
    DRY_RUN_IN_ARMED_LEDGER = "DRY_RUN_IN_ARMED_LEDGER"
    EXIT_REFUSED = "EXIT_REFUSED"
    SIGNAL_EXIT_UNKNOWN = "SIGNAL_EXIT_UNKNOWN"
    PROTECTION_FAILED = "PROTECTION_FAILED"
    CHANGED_SIDE = "CHANGED_SIDE"
    CORRECTED_TOTALS = "CORRECTED_TOTALS"
    OVERSOLD = "OVERSOLD"
    FILLS_NOT_SETTLED = "FILLS_NOT_SETTLED"
    FILLS_DONT_ADD_UP = "FILLS_DONT_ADD_UP"
    DUST_LEFT = "DUST_LEFT"
    LEDGER_VIOLATION = "LEDGER_VIOLATION"
    LINKAGE_ZERO = "LINKAGE_ZERO"
    BALANCE_DEPOSIT = "BALANCE_DEPOSIT"
    BALANCE_WITHDRAWAL = "BALANCE_WITHDRAWAL"
    SOLD_OUTSIDE = "SOLD_OUTSIDE"
    UNREADABLE_ROW = "UNREADABLE_ROW"
    RECONCILE_FAILING = "RECONCILE_FAILING"
    ANOTHER_INSTANCE = "ANOTHER_INSTANCE"
    SETTINGS_UNUSABLE = "SETTINGS_UNUSABLE"
    SETTINGS_NEED_RESTART = "SETTINGS_NEED_RESTART"
    POSITION_UNPROTECTED = "position_unprotected"
    MARKET_STREAM_DOWN = "market_stream_down"
    STALE_PRICE = "stale_price"
    PRODUCT_REFUSED = "product_refused"
    EXIT_NOT_ACKNOWLEDGED = "exit_not_acknowledged"
    EXIT_PLAN_UNREADABLE = "exit_plan_unreadable"
    MISSED_PEAK_UNKNOWN = "missed_peak_unknown"
    USER_STREAM_DOWN = "user_stream_down"
    CATCH_UP_FAILING = "catch_up_failing"
    ORDER_UNCLEAR = "order_unclear"
    FACT_NOT_RECORDED = "fact_not_recorded"
    ORDER_NOT_RESUMABLE = "order_not_resumable"
    MARKET_DATA_DOWN = "market_data_down"
    STRATEGY_UNUSABLE = "strategy_unusable"
    ENDED_BY_SOMEBODY = "ended_by_somebody"
    ROLE_MISSING = "role_missing"
    BACKGROUND_ERROR = "background_error"
    NOTICE_URL_UNUSABLE = "notice_url_unusable"
    TELEGRAM_UNUSABLE = "telegram_unusable"
    ALERT_REFUSED = "alert_refused"
    TRADE_OPENED = "trade_opened"
    TRADE_CLOSED = "trade_closed"
    ENTRY_REFUSED = "entry_refused"
    DATABASE_AWAY = "database_away"
    TEMPORAL_AWAY = "temporal_away"
    WATCHERS_AWAY = "watchers_away"
    EXCHANGE_AWAY = "exchange_away"
