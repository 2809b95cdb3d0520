"""The settings that activities need, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from domain.entries import Triggers
from domain.limit_groups import LimitGroup

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and patience of one account. Durations in wall seconds, fractions as fractions, money in quote."""

    account: str = "main"
    currency: str = "USD"
    """The account's own: limits on losses count in it."""
    speed: Decimal = Decimal(1)
    dry_run: bool = False
    """Only orders that close open trades are sent."""
    allowed: frozenset[str] = frozenset()
    """Products that may be bought; empty: all."""
    disabled: frozenset[str] = frozenset()
    """Products that a person has disabled for buying."""
    blocked: frozenset[str] = frozenset()
    hodl: frozenset[str] = frozenset()
    signals_sell: bool = True
    """Whether the strategy's sell signals may close trades: not while it is switched off."""
    max_open_buys: int = 3
    max_open_trades: int = 0
    """Of the whole account; 0: no limit."""
    groups: tuple[LimitGroup, ...] = ()
    """Strategies and triggers that have limits of their own."""
    max_spread: Decimal = Decimal("0.01")
    buy_on_red_day: bool = False
    max_position: Decimal = Decimal("0.1")
    """Share of the account's value; 1 or more: no limit."""
    daily_loss_limit: Decimal = Decimal(500)
    """0: no limit."""
    losing_streak: int = 5
    """Losing trades in a row that halt entries; 0: no limit."""
    market_stale_seconds: Decimal = Decimal(120)
    balance_stale_seconds: Decimal = Decimal(120)
    atr_period: int = 14
    atr_candle_seconds: int = 300
    market_collar: Decimal = Decimal("0.01")
    post_only_attempts: int = 3
    post_only_backoff: Decimal = Decimal("0.2")
    late_acceptance_seconds: int = 150
    market_buffer: Decimal = Decimal("0.01")
    """The margin above the touch that a market buy by base size reserves."""
    triggers: Triggers = field(default_factory=dict)
    """The rules of each trigger's entries."""
