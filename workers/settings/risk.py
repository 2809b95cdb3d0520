"""Limits for entries (RISK): of the account, the market and the day. May be changed while workers run."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from workers.settings.types import Percent, Seconds, Section

__all__ = ["WITHOUT_LIMITS", "RiskSettings"]


class RiskSettings(Section):
    """Limits that the gates apply to every entry (docs/gates.md)."""

    currency: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,12}$")] = Field(
        "USD", description="the account's own currency, in which losses count"
    )
    max_spread_pct: Percent = Field(Decimal(1), description="no buys at a wider spread (percent of mid)")
    allow_buys_on_red_day: bool = Field(False, description="whether a symbol that fell over 24 hours may be bought")
    max_position_pct: Annotated[Decimal, Field(gt=0, le=100)] = Field(
        Decimal(10), description="maximum share of the account's value in one symbol, percent; 100: no limit"
    )
    daily_loss_limit: Annotated[Decimal, Field(ge=0)] = Field(
        Decimal(500), description="realised loss of a UTC day that halts entries, in risk.currency; 0: no limit"
    )
    losing_trades_in_a_row: int = Field(
        5, ge=0, le=1000, description="number of losing trades in a row that halts entries; 0: no limit"
    )
    market_stale_after_s: Seconds = Field(
        Decimal(120), description="wall seconds after which market data is too old to buy by"
    )
    balance_stale_after_s: Seconds = Field(
        Decimal(120), description="wall seconds after which a balance is too old to buy by"
    )


WITHOUT_LIMITS: Mapping[str, str] = {
    "BOTTRADER_RISK__ALLOW_BUYS_ON_RED_DAY": "true",
    "BOTTRADER_RISK__MAX_POSITION_PCT": "100",
    "BOTTRADER_RISK__DAILY_LOSS_LIMIT": "0",
    "BOTTRADER_RISK__LOSING_TRADES_IN_A_ROW": "0",
}
"""The environment of throw-away stacks without limits: demonstrations, measurements, chaos tests."""
