"""What a day may lose and how many trades in a row may lose: counted from closed trades, since a person last resumed.

Both halt entries until a person resumes (RISK-2). What was lost before that resume is settled with it and halts no
second time; exits never look at either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from domain.money import plain

__all__ = ["LimitBreach", "Results", "breach_of", "daily_loss_sentence", "losing_streak", "losing_streak_sentence"]


@dataclass(frozen=True, slots=True)
class Results:
    """What closed trades brought: the day's P&L in the account's own currency, as far as rates are known; how many of
    the last lost one after the other; and the quote currencies of today's trades whose rate is missing.
    """

    day_pnl: Decimal = Decimal(0)
    losing_streak: int = 0
    unpriced: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LimitBreach:
    """A limit that was reached: who halts by its name, and why in a sentence."""

    by: str
    sentence: str


def losing_streak(pnls: Sequence[Decimal]) -> int:
    """How many of the newest trades lost, one after the other; `pnls` newest first. One that made nothing ends it."""
    return next((position for position, pnl in enumerate(pnls) if pnl >= 0), len(pnls))


def daily_loss_sentence(day_pnl: Decimal, limit: Decimal) -> str:
    """Why the day's loss is too much; empty if it isn't. A limit of 0 is none."""
    if limit == 0 or day_pnl > -limit:
        return ""
    return f"today's closed trades have lost {-day_pnl:.2f}, the limit of a UTC day is {plain(limit)}"


def losing_streak_sentence(streak: int, limit: int) -> str:
    """Why so many losing trades in a row are too many; empty if they aren't. A limit of 0 is none."""
    if limit == 0 or streak < limit:
        return ""
    return f"the last {streak} closed trades lost, the limit is {limit} in a row"


def breach_of(results: Results, daily_loss: Decimal, streak: int) -> LimitBreach | None:
    """The limit that was reached, if one was. Money in the account's own currency.

    A day of which a part is not known reaches none: it refuses entries as long as that is so, and halts nobody.
    """
    if not results.unpriced and (sentence := daily_loss_sentence(results.day_pnl, daily_loss)):
        return LimitBreach("daily loss limit", sentence)
    if sentence := losing_streak_sentence(results.losing_streak, streak):
        return LimitBreach("circuit breaker", sentence)
    return None
