"""Passive market making: where, how wide, how much, how long (MM)."""

from decimal import Decimal

from pydantic import Field

from workers.settings_types import Seconds, Section

__all__ = ["QuotingSettings"]


class QuotingSettings(Section):
    """The market maker."""

    enabled: bool = Field(False, description="whether quotes are placed")
    interval_s: Seconds = Field(Decimal(30), description="market seconds between looks at the quotes")
