"""Limits for entries (RISK): of the account, the market and the day. May be changed while workers run."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

from workers.settings.exits import TriggerSettings
from workers.settings.problems import Problem, shown_key
from workers.settings.types import Name, Percent, Seconds, Section, split_commas

__all__ = ["WITHOUT_LIMITS", "RiskSettings", "StrategyLimitSettings", "TriggerLimitSettings", "limit_problems"]

Money = Annotated[Decimal, Field(ge=0, le=10**12, decimal_places=12)]


class TriggerLimitSettings(Section):
    """Limits of one trigger's entries, beside the account's: `[risk.triggers.<trigger>]`."""

    budget: Money = Field(
        Decimal(0),
        description="most money in its open trades and entries at once, with fees, in risk.currency; 0: no limit",
    )
    max_open_trades: int = Field(
        0, ge=0, le=100_000, description="maximum number of its open trades and entries; 0: no limit"
    )
    daily_loss_limit: Money = Field(
        Decimal(0),
        description="its realised loss of a UTC day that halts its entries until the day ends, in risk.currency; "
        "0: no limit",
    )


class StrategyLimitSettings(TriggerLimitSettings):
    """Limits that some triggers share, under a strategy's name: `[risk.strategies.<name>]`."""

    triggers: Annotated[tuple[Name, ...], BeforeValidator(split_commas), Field(min_length=1)] = Field(
        description="the triggers that the strategy buys by; each belongs to one strategy at most"
    )


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
    max_open_trades: int = Field(
        0,
        ge=0,
        le=100_000,
        description="maximum number of the account's open trades, and entries that may become one; 0: no limit",
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
    strategies: dict[Name, StrategyLimitSettings] = Field(
        default_factory=dict, description="limits that the triggers of one strategy share, by the strategy's name"
    )
    triggers: dict[Name, TriggerLimitSettings] = Field(
        default_factory=dict, description="limits of one trigger's entries, by its name in [triggers]"
    )


def limit_problems(risk: RiskSettings, triggers: Mapping[str, TriggerSettings]) -> Iterator[Problem]:
    """Limits of strategies and triggers that limit nothing, share a trigger, or leave no room for one order."""
    holders: dict[str, str] = {}
    for name, given in risk.strategies.items():
        key = ("risk", "strategies", name)
        for place, trigger in enumerate(given.triggers):
            other = holders.setdefault(trigger, name)
            if trigger not in triggers:
                yield (*key, "triggers", str(place)), None, "needs a row in [triggers]: nothing buys by it"
            elif other != name:
                twice = f"is a trigger of {shown_key(('risk', 'strategies', other))}, too: leave it to one strategy"
                yield (*key, "triggers", str(place)), None, twice
        yield from _budget_problems((*key, "budget"), given.budget, given.triggers, triggers)
    for name, limits in risk.triggers.items():
        key = ("risk", "triggers", name)
        if name not in triggers:
            yield key, None, "needs a row in [triggers]: nothing buys by it"
        yield from _budget_problems((*key, "budget"), limits.budget, (name,), triggers)


def _budget_problems(
    key: tuple[str, ...], budget: Decimal, named: Iterable[str], triggers: Mapping[str, TriggerSettings]
) -> Iterator[Problem]:
    """At most one: that of the largest order."""
    sizes = {name: size for name in named if name in triggers and (size := triggers[name].size_quote) is not None}
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    if budget and largest is not None and budget <= sizes[largest]:
        needed = shown_key(("triggers", largest, "size_quote"))
        yield key, None, f"must be more than {needed}: it has no room for one such order and its fee"


WITHOUT_LIMITS: Mapping[str, str] = {
    "BOTTRADER_RISK__ALLOW_BUYS_ON_RED_DAY": "true",
    "BOTTRADER_RISK__MAX_POSITION_PCT": "100",
    "BOTTRADER_RISK__DAILY_LOSS_LIMIT": "0",
    "BOTTRADER_RISK__LOSING_TRADES_IN_A_ROW": "0",
}
"""The environment of throw-away stacks without limits: demonstrations, measurements, chaos tests."""
