"""Limits for a day's loss and for losing trades in a row, counted over closed trades since a person last resumed.

Both halt entries until a person resumes (RISK-2). Losses before that resume don't halt a second time; exits ignore both
limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from domain.money import plain

__all__ = ["LimitBreach", "Results", "breach_of", "daily_loss_sentence", "losing_streak", "losing_streak_sentence"]


@dataclass(frozen=True, slots=True)
class Results:
    """Results of closed trades: the day's P&L in the account's own currency, as far as rates are known; the current
    losing streak; and the quote currencies of today's trades whose rate is missing.
    """

    day_pnl: Decimal = Decimal(0)
    losing_streak: int = 0
    unpriced: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LimitBreach:
    """A limit that was reached: its name, which is stored as the halt's author, and the reason in a sentence."""

    by: str
    sentence: str


def losing_streak(pnls: Sequence[Decimal]) -> int:
    """How many of the newest trades lost in a row; `pnls` newest first. A result of zero ends the streak."""
    return next((position for position, pnl in enumerate(pnls) if pnl >= 0), len(pnls))


def daily_loss_sentence(day_pnl: Decimal, limit: Decimal) -> str:
    """Why the day's loss is too large; empty if it isn't. A limit of 0 means none."""
    if limit == 0 or day_pnl > -limit:
        return ""
    return f"today's closed trades have lost {-day_pnl:.2f}, the limit of a UTC day is {plain(limit)}"


def losing_streak_sentence(streak: int, limit: int) -> str:
    """Why the losing streak is too long; empty if it isn't. A limit of 0 means none."""
    if limit == 0 or streak < limit:
        return ""
    return f"the last {streak} closed trades lost, the limit is {limit} in a row"


def breach_of(results: Results, daily_loss: Decimal, streak: int) -> LimitBreach | None:
    """The limit that was reached, if one was. Money in the account's own currency.

    A day with an unknown part reaches no limit: its entries are refused meanwhile, without a halt.
    """
    if not results.unpriced and (sentence := daily_loss_sentence(results.day_pnl, daily_loss)):
        return LimitBreach("daily loss limit", sentence)
    if sentence := losing_streak_sentence(results.losing_streak, streak):
        return LimitBreach("circuit breaker", sentence)
    return None
