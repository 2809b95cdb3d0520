"""Results of groups of closed trades, with confidence intervals, and why they differ from the configured ones.

Rates have Wilson's interval, means Student's, ratios the delta method's (`domain.statistics` names the sources). A
group of a few trades has wide ones, as it should. Among many groups some differ by chance: at 95 %, about one in
twenty.

Amounts of different currencies are never added (LEDGER-5): with trades priced in several, each group is one per
currency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.money import ZERO, divide, round_half_even
from domain.statistics import (
    Interval,
    Sample,
    difference_interval,
    mean_interval,
    pooled_correlation,
    ratio_interval,
    wilson_interval,
)
from research.trades import Floats, TradeTable

__all__ = [
    "GROUPINGS",
    "Bridge",
    "GroupResult",
    "IndicatorResult",
    "by_day",
    "by_exit",
    "by_hour",
    "by_score",
    "by_sell_score",
    "by_symbol",
    "by_trigger",
    "group_by",
    "indicators",
    "score_correlation",
    "sell_score_correlation",
    "summaries",
    "summary",
]

_PLACES = Decimal("1e-8")
_SCORE_PLACES = Decimal("1e-9")
"""Scores are stored with this many places."""
_EXACT_FLOATS = 2.0**53

Rows = NDArray[np.int64]
"""A selection of a table's trades."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """From the configured to the achieved result: means over trades, fractions of the entry price.

    `achieved` = `configured` + `exit_path` + `distance` + `slippage` + `fees`: closes by another rule than the
    configured one, the market's distance from the rule's level when the exit became due, the exit's price compared with
    that, and fees.
    """

    trades: int
    configured: float
    exit_path: float
    distance: float
    slippage: float
    fees: float
    achieved: float


@dataclass(frozen=True, slots=True)
class GroupResult:
    """A group of trades in one currency. `pnl`, `fees`, `average_*` in `currency`, `*_fraction` of the entry price,
    `held` in wall seconds. `slippage` in `currency`: exit proceeds beyond the price that made the exits due (negative:
    a loss). `average_*` and `slippage` are rounded to eight places.
    """

    group: str
    trades: int
    wins: int
    win_rate: Interval
    pnl: Decimal
    fees: Decimal
    average_win: Decimal | None
    average_loss: Decimal | None
    win_fraction: Interval
    loss_fraction: Interval
    mean_fraction: Interval
    profit_factor: float | None
    configured: float | None
    """Configured reward:risk, the mean over trades with a profit rule."""
    achieved: Interval
    """Average win divided by average loss, after fees."""
    slippage: Decimal
    slippage_fraction: Interval
    held: Interval
    held_median: float | None
    won: Bridge | None
    lost: Bridge | None
    currency: str = ""
    """The currency that its trades are priced in; empty without trades."""

    def as_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class IndicatorResult:
    """Trades for which an indicator fired, compared with those for which it was computed and did not.

    One that fired for the other side, or for a strategy that did not decide, is in neither group.
    """

    indicator: str
    fired: GroupResult
    quiet: GroupResult
    difference: Interval
    """Mean net fraction when it fired, minus that when it did not."""


def summary(table: TradeTable) -> GroupResult:
    """All trades together. Raises ValueError if they are priced in several currencies: see `summaries`."""
    found = table.currencies
    if len(found) > 1:
        raise ValueError(f"trades in {', '.join(found)} have no sum: there is one a currency")
    return _result("all", table, np.arange(len(table)), *found)


def summaries(table: TradeTable) -> list[GroupResult]:
    """All trades of each currency together; one empty result without trades."""
    return [_result("all", table, rows, currency) for currency, rows in _by_currency(table)]


def _by_currency(table: TradeTable) -> list[tuple[str, Rows]]:
    found = table.currencies
    if len(found) <= 1:
        return [("".join(found), np.arange(len(table)))]
    return [(currency, table.in_currency(currency)) for currency in found]


def group_by(table: TradeTable, labels: Sequence[str | None]) -> list[GroupResult]:
    """One result per label and currency, sorted by name; trades with the label None are in no group."""
    names = sorted({label for label in labels if label is not None})
    number = {name: position for position, name in enumerate(names)}
    codes = np.array([-1 if label is None else number[label] for label in labels], np.int64)
    found = []
    for currency, rows in _by_currency(table):
        order = rows[np.argsort(codes[rows], kind="stable")]
        starts = np.searchsorted(codes[order], np.arange(len(names) + 1)).tolist()
        parts = ((name, order[starts[place] : starts[place + 1]]) for place, name in enumerate(names))
        found += [_result(name, table, part, currency) for name, part in parts if len(part)]
    return sorted(found, key=lambda item: number[item.group])


def by_trigger(table: TradeTable) -> list[GroupResult]:
    """By the entry's trigger."""
    return group_by(table, table.trigger)


def by_exit(table: TradeTable) -> list[GroupResult]:
    """By exit reason."""
    return group_by(table, table.reason)


def by_symbol(table: TradeTable) -> list[GroupResult]:
    """By product."""
    return group_by(table, table.symbol)


def by_hour(table: TradeTable) -> list[GroupResult]:
    """By the hour of the day (UTC) in which the trade was opened."""
    names = [f"{hour:02}" for hour in range(24)]
    return group_by(table, [names[hour] for hour in (table.opened // 3600 % 24).astype(int).tolist()])


def by_day(table: TradeTable) -> list[GroupResult]:
    """By the day (UTC) on which the trade was closed."""
    days = table.closed // 86_400
    return group_by(table, np.datetime_as_string(days.astype("datetime64[D]")).tolist() if len(table) else [])


def by_score(table: TradeTable, width: float = 0.5) -> list[GroupResult]:
    """By buckets of the buy score, `width` each (to nine places): lower edge included, upper one excluded.

    Trades without a score are in none.
    """
    return _by_buckets(table, table.score, width)


def by_sell_score(table: TradeTable, width: float = 0.5) -> list[GroupResult]:
    """By buckets of the sell score at the last exit, like `by_score`; for tables read with sell scores."""
    return _by_buckets(table, table.sell_score, width)


def _by_buckets(table: TradeTable, score: Floats, width: float) -> list[GroupResult]:
    step = round_half_even(Decimal(str(width)), _SCORE_PLACES)
    buckets = _buckets(score, step)
    places = max(0, -int(step.normalize().as_tuple().exponent))
    names: dict[float, str] = {}
    for bucket in sorted({value for value in buckets.tolist() if not math.isnan(value)}):
        names[bucket] = f"{int(bucket) * step:.{places}f} to {(int(bucket) + 1) * step:.{places}f}"
    found = group_by(table, [names.get(value) for value in buckets.tolist()])
    order = {name: bucket for bucket, name in names.items()}
    return sorted(found, key=lambda item: order[item.group])


def _buckets(score: Floats, step: Decimal) -> Floats:
    """Each score's bucket; NaN without a score. Scores are stored to nine places, so edges are exact."""
    units = float(step / _SCORE_PLACES)
    scaled = score * 1e9
    # Where a float can't hold nine places, the plain division is the best available.
    return np.floor(np.where(np.abs(scaled) < _EXACT_FLOATS, np.rint(scaled), scaled) / units)


def indicators(table: TradeTable) -> list[IndicatorResult]:
    """Each indicator: trades for which it fired, compared with those for which it was computed and did not."""
    if len(table.currencies) > 1:
        each = [item for _, rows in _by_currency(table) for item in indicators(table.part(rows))]
        return sorted(each, key=lambda item: item.indicator)
    found, currency = [], "".join(table.currencies)
    sets = {*table.quiet, *table.fired}
    for name in sorted({name for group in sets for name in group}):
        has = {group: name in group for group in sets}
        fired = np.array([has[group] for group in table.fired], np.bool_)
        quiet = np.array([has[group] for group in table.quiet], np.bool_) & ~fired
        found.append(
            IndicatorResult(
                name,
                _result("fired", table, np.flatnonzero(fired), currency),
                _result("not fired", table, np.flatnonzero(quiet), currency),
                difference_interval(_sample(table.net[fired]), _sample(table.net[quiet])),
            )
        )
    return found


def score_correlation(table: TradeTable) -> Interval:
    """Correlation of buy score and net result, within triggers: +1 if a higher score always meant more, 0 if unrelated.

    Scores of different triggers have different scales (weights, percent of a rise), so that over all trades they would
    correlate by which trigger earned more.
    """
    return _correlation(table.score, table.net, table.trigger)


def sell_score_correlation(table: TradeTable) -> Interval:
    """Correlation of the sell score at the last exit and the net result, within exit reasons: a stop loses at any
    score."""
    return _correlation(table.sell_score, table.net, table.reason)


def _correlation(scores: Floats, nets: Floats, labels: Sequence[str | None]) -> Interval:
    given = ~np.isnan(scores)
    number = {name: place for place, name in enumerate(sorted({name or "" for name in labels}))}
    group = np.array([number[name or ""] for name in labels], np.int64)
    groups = []
    for place in range(len(number)):
        rows = given & (group == place)
        score, net = scores[rows], nets[rows]
        if len(score) >= 4 and score.std() > 0 and net.std() > 0:
            groups.append((float(np.corrcoef(score, net)[0, 1]), len(score)))
    return pooled_correlation(groups)


def _sample(values: Floats) -> Sample:
    count = len(values)
    if count == 0:
        return Sample(0)
    return Sample(count, float(values.mean()), float(values.var(ddof=1)) if count > 1 else 0.0)


def _result(name: str, table: TradeTable, rows: Rows, currency: str = "") -> GroupResult:
    won, lost = rows[table.won[rows]], rows[~table.won[rows]]
    count, wins, places = len(rows), len(won), rows.tolist()
    pnl, fees = table.pnl, table.fees
    gained = sum((pnl[place] for place in won.tolist()), ZERO)
    given_back = -sum((pnl[place] for place in lost.tolist()), ZERO)
    winners, losers = _sample(table.net[won]), _sample(-table.net[lost])
    with_rule = rows[~np.isnan(table.reward[rows])]
    held = table.held[rows]
    return GroupResult(
        group=name,
        trades=count,
        wins=wins,
        win_rate=wilson_interval(wins, count),
        pnl=gained - given_back,
        fees=sum((fees[place] for place in places), ZERO),
        average_win=_money(divide(gained, Decimal(wins))) if wins else None,
        average_loss=_money(divide(-given_back, Decimal(count - wins))) if count > wins else None,
        win_fraction=mean_interval(winners),
        loss_fraction=mean_interval(_sample(table.net[lost])),
        mean_fraction=mean_interval(_sample(table.net[rows])),
        profit_factor=float(gained / given_back) if given_back else None,
        configured=float((table.reward[with_rule] / table.risk[with_rule]).mean()) if len(with_rule) else None,
        achieved=ratio_interval(winners, losers),
        slippage=_money(Decimal(str(float(table.slippage[rows].sum())))),
        slippage_fraction=mean_interval(_sample((table.gross - table.due)[rows])),
        held=mean_interval(_sample(held)),
        held_median=float(np.median(held)) if count else None,
        won=_bridge(table, won[~np.isnan(table.reward[won])]),
        lost=_bridge(table, lost),
        currency=currency,
    )


def _money(value: Decimal) -> Decimal:
    """A mean, or a sum of measured values, in quote currency: eight places, half-even."""
    return round_half_even(value, _PLACES)


def _bridge(table: TradeTable, rows: Rows) -> Bridge | None:
    count = len(rows)
    if not count:
        return None
    steps: Mapping[str, float] = {
        name: float(getattr(table, name)[rows].mean()) for name in ("configured", "aimed", "due", "gross", "net")
    }
    return Bridge(
        trades=count,
        configured=steps["configured"],
        exit_path=steps["aimed"] - steps["configured"],
        distance=steps["due"] - steps["aimed"],
        slippage=steps["gross"] - steps["due"],
        fees=steps["net"] - steps["gross"],
        achieved=steps["net"],
    )


GROUPINGS: Mapping[str, Callable[[TradeTable], list[GroupResult]]] = {
    "triggers": by_trigger,
    "exits": by_exit,
    "symbols": by_symbol,
    "hours": by_hour,
    "days": by_day,
    "scores": by_score,
}
"""The groupings by their names on the command line."""
