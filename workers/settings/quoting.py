"""Passive market making: products, spread and sizes (MM). Sizes and expiry are those of `triggers.passive_mm`."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from workers.settings.types import AT_START, Percent, Products, Seconds, Section, Size

__all__ = ["QuotingSettings"]


class QuotingSettings(Section):
    """The market maker."""

    enabled: bool = Field(False, description="whether quotes are placed; when switched off, resting ones are cancelled")
    interval_s: Annotated[Seconds, AT_START] = Field(Decimal(30), description="market seconds between rounds of quotes")
    symbols: Products = Field((), description="quoted products; none: those in symbols.allow")
    min_profit_pct: Percent = Field(
        Decimal("0.1"), description="minimum gain of a round trip after both maker fees, percent of the price"
    )
    min_quote_volume: Annotated[Decimal, Field(ge=0, le=10**12)] = Field(
        Decimal(1_000_000), description="minimum 24 h volume of a quoted product, in quote currency"
    )
    max_inventory_quote: Size = Field(
        Decimal(500), description="maximum value of a product held and bid for, in quote currency"
    )
    replace_after_pct: Percent = Field(
        Decimal("0.05"),
        description="a quote further than this from its target price is replaced, percent of the price",
    )
    lean_pct: Annotated[Decimal, Field(ge=0, le=100)] = Field(
        Decimal(50),
        description="with a full inventory both prices are lowered by this part of half the spread, percent",
    )
    leaderboard_only: bool = Field(False, description="whether only products on the leaderboard are quoted")
    leaderboard_places: int = Field(10, ge=1, le=1000, description="places of the leaderboard that count")
    use_unowned: bool = Field(
        False, description="whether asks may also sell coins that no trade owns, which then count as inventory"
    )
    keep_rounds_days: int = Field(
        30, ge=1, le=3650, description="reasons of rounds older than this are deleted; wall days"
    )
