"""Losses larger than their configured stop: how many, which, and why.

A trade's loss after fees is split at each of its stops (soft and hard) by the steps of `research.trades`: with s the
stop, t the target of the rule that closed it, d the price that made it due, g and n the result before and after fees,
n + s = (t + s) + (d - t) + (g - d) + (n - g). The largest step below zero is the cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from domain.statistics import Interval, Sample, mean_interval, wilson_interval
from research.trades import Floats, TradeTable, quote_of

__all__ = ["CAUSES", "BeyondStop", "LossBeyond", "losses_beyond_stops"]

CAUSES = ("other path", "gap", "slippage", "fees")
"""The steps from a stop to a loss: closed by another rule than this stop; the market was already past the rule's level
when the exit became due; the exit's price compared with the bid that made it due; fees of entry and exit."""

_HAIR = 1e-9
"""The tolerance for rounding of floats: a loss of exactly the stop is not beyond it."""


@dataclass(frozen=True, slots=True)
class LossBeyond:
    """A trade that lost more than a stop allowed. Fractions of the entry price; `pnl` in `currency`. `path`, `gap`,
    `slippage` and `fees` add up to -`beyond`.
    """

    entry_key: str
    symbol: str
    reason: str
    closed: float
    """Seconds since 1970 (UTC)."""
    stop: float
    lost: float
    beyond: float
    cause: str
    path: float
    gap: float
    slippage: float
    fees: float
    pnl: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class BeyondStop:
    """The losses under one configured stop, in all currencies. Fractions of the entry price."""

    stop: str
    """soft stop or hard stop"""
    level: float
    losses: int
    beyond: int
    share: Interval
    """The losses that are beyond the stop after fees."""
    share_before_fees: Interval
    mean_beyond: Interval
    """The mean distance beyond the stop over these."""
    causes: Mapping[str, int]
    """The number of trades beyond it by cause."""
    trades: Sequence[LossBeyond]
    """The trades beyond it, the largest loss first."""


def losses_beyond_stops(table: TradeTable, most: int | None = None) -> list[BeyondStop]:
    """One result for each stop and level (to a hundredth of a percent): soft stops first, each by its level. Stops
    that a person moved count as they were at the close. Each lists at most `most` trades; None: all.
    """
    lost = np.flatnonzero(~table.won)
    found = []
    for name, stops in (("soft stop", table.risk), ("hard stop", table.hard_stop)):
        levels = np.rint(stops * 10_000)
        for level in np.unique(levels[lost]).tolist():
            rows = lost[levels[lost] == level]
            found.append(_of_stop(table, name, level / 10_000, stops, rows, most))
    return found


def _of_stop(
    table: TradeTable, name: str, level: float, stops: Floats, losses: NDArray[np.int64], most: int | None
) -> BeyondStop:
    rows = losses[table.net[losses] < -stops[losses] - _HAIR]
    before = int((table.gross[losses] < -stops[losses] - _HAIR).sum())
    far = -table.net[rows] - stops[rows]
    steps = np.stack(
        [
            table.aimed[rows] + stops[rows],
            table.due[rows] - table.aimed[rows],
            table.gross[rows] - table.due[rows],
            table.net[rows] - table.gross[rows],
        ],
        axis=1,
    )
    causes = steps.argmin(axis=1)
    counted = np.bincount(causes, minlength=len(CAUSES)).tolist()
    variance = float(far.var(ddof=1)) if len(far) > 1 else 0.0
    furthest = np.argsort(-far, kind="stable")[:most].tolist()
    return BeyondStop(
        stop=name,
        level=level,
        losses=len(losses),
        beyond=len(rows),
        share=wilson_interval(len(rows), len(losses)),
        share_before_fees=wilson_interval(before, len(losses)),
        mean_beyond=mean_interval(Sample(len(far), float(far.mean()), variance) if len(far) else Sample(0)),
        causes=dict(zip(CAUSES, counted, strict=True)),
        trades=[
            _beyond(table, int(rows[place]), float(stops[rows[place]]), CAUSES[causes[place]], steps[place].tolist())
            for place in furthest
        ],
    )


def _beyond(table: TradeTable, row: int, stop: float, cause: str, steps: Sequence[float]) -> LossBeyond:
    path, gap, slippage, fees = steps
    return LossBeyond(
        entry_key=table.key[row],
        symbol=table.symbol[row],
        reason=table.reason[row],
        closed=float(table.closed[row]),
        stop=stop,
        lost=-float(table.net[row]),
        beyond=-float(table.net[row]) - stop,
        cause=cause,
        path=path,
        gap=gap,
        slippage=slippage,
        fees=fees,
        pnl=table.pnl[row],
        currency=quote_of(table.symbol[row]),
    )
