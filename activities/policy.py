"""What the activities need of the settings, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and patience of one account. Durations in wall seconds, fractions as fractions."""

    account: str = "main"
    speed: Decimal = Decimal(1)
    blocked: frozenset[str] = frozenset()
    hodl: frozenset[str] = frozenset()
    max_open_buys: int = 3
    market_collar: Decimal = Decimal("0.01")
    post_only_attempts: int = 3
    late_acceptance_seconds: int = 150
    market_buffer: Decimal = Decimal("0.01")
    """How much more a market buy by base size reserves than the touch says."""
