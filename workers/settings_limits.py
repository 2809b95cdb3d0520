"""What stops an entry (RISK): limits on the account, the market and the day. May be changed while workers run."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from workers.settings_types import Percent, Seconds, Section

__all__ = ["RiskSettings"]


class RiskSettings(Section):
    """Limits that the gates hold every entry to."""

    max_spread_pct: Percent = Field(Decimal(1), description="a wider spread (percent of mid) is not bought")
    allow_buys_on_red_day: bool = Field(False, description="whether a symbol that fell over 24 hours may be bought")
    max_position_pct: Annotated[Decimal, Field(gt=0, le=100)] = Field(
        Decimal(10), description="most of the account's worth that one symbol may hold, percent"
    )
    daily_loss_limit: Annotated[Decimal, Field(ge=0)] = Field(
        Decimal(500), description="realised loss of a UTC day that halts entries, in quote currency (USD)"
    )
    losing_trades_in_a_row: int = Field(5, ge=1, le=1000, description="so many losing trades in a row halt entries")
    market_stale_after_s: Seconds = Field(
        Decimal(120), description="wall seconds after which market data is too old to buy by"
    )
