"""The strategy run: which markets it looks at, what it computes, and when it buys or sells (ENTRY)."""

from decimal import Decimal

from pydantic import Field

from workers.settings_types import Seconds, Section

__all__ = ["MarketDataSettings", "RocSettings", "StrategySettings"]


class MarketDataSettings(Section):
    """Candles and prices that are kept for all decisions."""

    enabled: bool = Field(True, description="whether workers of the role strategy keep candles and prices")


class StrategySettings(Section):
    """The scheduled strategy run."""

    enabled: bool = Field(False, description="whether the schedule trades; the matrix is written all the same")
    interval_s: Seconds = Field(Decimal(300), description="market seconds between runs")


class RocSettings(Section):
    """Momentum by rate of change, decided in the same run."""

    enabled: bool = Field(True, description="whether the strategy run looks for momentum, too")
