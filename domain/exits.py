"""How a position is exited (EXIT): which rule is due on a tick, and how the trailing stop moves.

Priority: hard stop, soft stop, trailing stop, take profit, signal exit. While trailing is armed, signals and take
profit are ignored. No rule fires on a stale price. The trailing stop is never lowered by anyone.

Fractions are of the entry price, the size-weighted average of the trade's own entry fills before fees; profit or loss
on a tick is (best bid - entry price) / entry price. A signal exit alone counts fees (`signal_floor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.money import EXACT, ZERO, divide, round_up

__all__ = [
    "ExitReason",
    "ExitRules",
    "Position",
    "QuietBand",
    "SellSignal",
    "Trailing",
    "Verdict",
    "advance_trailing",
    "atr_reading",
    "atr_window",
    "average_true_range",
    "due_exit",
    "exit_limit_price",
    "loss_at_stop",
    "nearest_stop",
    "outranks",
    "price_stop",
    "quiet_band",
    "replaces",
    "signal_exit_unknown",
    "signal_floor",
    "target_price",
    "wants_atr",
]


class ExitReason(StrEnum):
    """Why a position was exited; the order is the priority of the price rules, of which MANUAL is not one."""

    HARD_STOP = "HARD_STOP"
    SOFT_STOP = "SOFT_STOP"
    TRAILING_STOP = "TRAILING_STOP"
    TP = "TP"
    SIGNAL_EXIT = "SIGNAL_EXIT"
    MANUAL = "MANUAL"


# A person's close comes first: like the hard stop it sells everything at MARKET, and unlike it no HODL list stops it.
_PRIORITY: tuple[ExitReason, ...] = (
    ExitReason.MANUAL,
    ExitReason.HARD_STOP,
    ExitReason.SOFT_STOP,
    ExitReason.TRAILING_STOP,
    ExitReason.TP,
    ExitReason.SIGNAL_EXIT,
)
_QUANTUM = Decimal("1e-18")
_AT_MARKET = frozenset({ExitReason.MANUAL, ExitReason.HARD_STOP})


def outranks(reason: ExitReason, other: ExitReason | None) -> bool:
    """Whether `reason` has priority over `other`."""
    return other is None or _PRIORITY.index(reason) < _PRIORITY.index(other)


def replaces(reason: ExitReason, working: ExitReason) -> bool:
    """Whether a working exit order is cancelled in favour of `reason`; one that sells at MARKET never is."""
    return outranks(reason, working) and working not in _AT_MARKET


def price_stop(reason: ExitReason) -> bool:
    """Whether the reason stays due once it is due (and ends with a MARKET order if limit orders don't fill)."""
    return reason in (ExitReason.HARD_STOP, ExitReason.SOFT_STOP, ExitReason.TRAILING_STOP, ExitReason.MANUAL)


class ExitRules(BaseModel):
    """The thresholds of one trade. Fractions: 0.05 is 5 %. Durations in market seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hard_stop: Decimal = Field(default=Decimal("0.05"), gt=0, lt=1, description="loss that sells at MARKET, fraction")
    soft_stop: Decimal = Field(default=Decimal("0.025"), gt=0, lt=1, description="loss that sells by LIMIT, fraction")
    trailing_arm: Decimal | None = Field(
        default=Decimal("0.035"), gt=0, description="gain that arms trailing, fraction"
    )
    trailing_atr_multiple: Decimal = Field(default=Decimal(2), gt=0, description="distance in ATRs")
    trailing_min_distance: Decimal = Field(default=Decimal("0.01"), gt=0, lt=1, description="fraction of price")
    trailing_max_distance: Decimal = Field(default=Decimal("0.02"), gt=0, lt=1, description="fraction of price")
    trailing_step_atr: Decimal = Field(default=Decimal("0.5"), gt=0, description="the stop rises in steps of, ATRs")
    take_profit: Decimal | None = Field(default=None, gt=0, description="gain that sells by LIMIT, fraction; None: off")
    take_profit_atr: Decimal | None = Field(
        default=None, gt=0, description="that gain in ATRs once target_atr is known; take_profit holds until then"
    )
    target_atr: Decimal | None = Field(
        default=None, gt=0, description="the ATR of take_profit_atr, quote per base; fixed in the plan"
    )
    signal_exit: bool = Field(default=True, description="exit when the matrix says sell and the gain is sufficient")
    signal_exit_net: bool = Field(
        default=False, description="that gain is after the fees of both sides; False: before fees"
    )
    signal_exit_gain: Decimal = Field(default=ZERO, ge=0, description="least gain of a signal exit, fraction")
    taker_rate: Decimal | None = Field(
        default=None, ge=0, lt=1, description="the account's taker fee rate when the entry was decided; None: not known"
    )
    protection_stop: Decimal | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="a person's stop for the protective order at the exchange; None: the trigger's",
    )
    protection_target: Decimal | None = Field(default=None, gt=0, description="the same for a bracket's target")
    protection_alone: bool = Field(
        default=False, description="a person has removed the target: a stop order rests instead of a bracket"
    )
    limit_offset: Decimal = Field(default=Decimal("1.0001"), gt=0, description="exit limit price = best bid times this")
    reprice_seconds: Decimal = Field(default=Decimal(5), gt=0, description="an exit limit order is re-priced after")
    max_reprices: int = Field(default=5, ge=0, le=50, description="then MARKET (stops) or back to monitoring (profit)")
    stale_seconds: Decimal = Field(default=Decimal(120), gt=0, description="no decision from an older price, wall time")
    retry_max_seconds: Decimal = Field(default=Decimal(60), gt=0, description="longest pause after a refused exit")

    @model_validator(mode="after")
    def _ordered(self) -> ExitRules:
        if self.soft_stop >= self.hard_stop:
            raise ValueError(f"soft_stop ({self.soft_stop}) must be less than hard_stop ({self.hard_stop})")
        if self.trailing_min_distance > self.trailing_max_distance:
            raise ValueError("trailing_min_distance must not be more than trailing_max_distance")
        return self


@dataclass(frozen=True, slots=True)
class Trailing:
    """An armed trailing stop: the highest bid seen since arming, and where it sells. Prices in quote per base.

    `distance` and `atr` are fixed when it arms, so that a restart continues the same stop.
    """

    peak: Decimal
    stop: Decimal
    distance: Decimal
    atr: Decimal
    steps: int = 0


@dataclass(frozen=True, slots=True)
class SellSignal:
    """The newest row of a symbol in the matrix."""

    says_sell: bool
    at: datetime
    sell_score: Decimal | None = None
    snapshot_id: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The input of the rules: a trade's own entry price and its trailing state."""

    entry_price: Decimal
    rules: ExitRules
    trailing: Trailing | None = None
    since: datetime | None = None
    """When it was first protected (UTC): earlier sell signals are no reason to exit it. None: not known."""
    cost: Decimal | None = None
    """The cost of a base unit including the entry's fees, quote per base. None: not known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a tick: the first rule that is due, if any, and the trailing state after it."""

    due: ExitReason | None
    trailing: Trailing | None
    stale: bool = False


@dataclass(frozen=True, slots=True)
class QuietBand:
    """The open interval of bids in which nothing is due and trailing stays as it is. Prices in quote per base."""

    low: Decimal
    high: Decimal


def exit_limit_price(best_bid: Decimal, rules: ExitRules, tick: Decimal) -> Decimal:
    """Best bid times the offset, rounded up to the tick (EXIT-4)."""
    return round_up(EXACT.multiply(best_bid, rules.limit_offset), tick)


def target_price(rules: ExitRules, entry_price: Decimal) -> Decimal | None:
    """The take-profit price, quote per base; None: there is none.

    A target in ATRs applies once the plan has its ATR; until then the one in percent applies, if it is set.
    """
    if rules.take_profit_atr is not None and rules.target_atr is not None:
        return entry_price + rules.take_profit_atr * rules.target_atr
    return None if rules.take_profit is None else entry_price * (1 + rules.take_profit)


def nearest_stop(rules: ExitRules, entry_price: Decimal, trailing_stop: Decimal | None = None) -> Decimal:
    """The highest bid at which a stop is due, quote per base: the one that a falling price meets first.

    It is never the hard stop, as the soft one is above it. `trailing_stop`: where the armed trailing stop sells; None:
    it is not armed.
    """
    soft = entry_price * (1 - rules.soft_stop)
    return soft if trailing_stop is None else max(soft, trailing_stop)


def loss_at_stop(stop: Decimal, bid: Decimal, size: Decimal) -> Decimal:
    """What is lost from the bid if `size` (base) sells at the stop: quote currency, before fees.

    Zero if the bid has passed the stop: what is due sells at the bid.
    """
    return max(bid - stop, ZERO) * size


def wants_atr(rules: ExitRules) -> bool:
    """Whether the target waits for the ATR that it is measured in."""
    return rules.take_profit_atr is not None and rules.target_atr is None


def signal_floor(position: Position) -> Decimal | None:
    """The lowest bid at which a sell signal may close the position (EXIT-12), quote per base; None: at none.

    After fees: the bid less the taker fee is at least the unit's cost with fees plus the minimum gain. Rounded up, so
    that it never means a loss. Without the fee rate or the cost it can't be computed, so nothing is sold.
    """
    rules = position.rules
    if not rules.signal_exit_net:
        return position.entry_price * (1 + rules.signal_exit_gain)
    if rules.taker_rate is None or position.cost is None:
        return None
    return round_up(divide(position.cost * (1 + rules.signal_exit_gain), 1 - rules.taker_rate), _QUANTUM)


def signal_exit_unknown(position: Position) -> bool:
    """Whether a signal exit is due but impossible, because its gain can't be computed."""
    return position.rules.signal_exit and signal_floor(position) is None


def average_true_range(candles: list[tuple[Decimal, Decimal, Decimal]], period: int = 14) -> Decimal | None:
    """Wilder's average true range over (high, low, close), oldest first; None with fewer than `period` + 1 candles.

    Source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978): the first value is the mean of the
    first `period` true ranges, each later one (previous x (period - 1) + true range) / period.
    """
    if len(candles) < period + 1:
        return None
    ranges = [max(high, previous[2]) - min(low, previous[2]) for previous, (high, low, _) in pairwise(candles)]
    value = divide(sum(ranges[:period], ZERO), Decimal(period))
    for item in ranges[period:]:
        value = divide(EXACT.add(EXACT.multiply(value, Decimal(period - 1)), item), Decimal(period))
    return value


def atr_window(period: int) -> int:
    """How many closed candles an ATR of `period` uses: earlier ones would change it by less than 1 %."""
    return 6 * period


def atr_reading(closed: Sequence[tuple[Decimal, Decimal, Decimal]], period: int = 14) -> Decimal | None:
    """ATR of the newest `atr_window` closed candles (high, low, close), oldest first; None with fewer.

    Wilder's smoothing has infinite memory, so the count is fixed: every process gets the same value, whenever it
    started.
    """
    window = atr_window(period)
    return average_true_range(list(closed[-window:]), period) if len(closed) >= window else None


def _arm(bid: Decimal, atr: Decimal | None, rules: ExitRules) -> Trailing:
    smallest, largest = bid * rules.trailing_min_distance, bid * rules.trailing_max_distance
    if atr is None or atr <= 0:
        # Without ATR the stop is as wide as it may be, and the steps keep the proportion they would have had.
        distance = largest
        atr = divide(distance, rules.trailing_atr_multiple)
    else:
        distance = min(max(atr * rules.trailing_atr_multiple, smallest), largest)
    return Trailing(peak=bid, stop=bid - distance, distance=distance, atr=atr)


def advance_trailing(
    trailing: Trailing | None, position: Position, bid: Decimal, atr: Decimal | None
) -> Trailing | None:
    """The trailing state after a bid: armed once the gain is reached, raised in whole steps, never lowered."""
    rules = position.rules
    if trailing is None:
        if rules.trailing_arm is None or bid < position.entry_price * (1 + rules.trailing_arm):
            return None
        return _arm(bid, atr, rules)
    if bid <= trailing.peak:
        return trailing
    step = trailing.atr * rules.trailing_step_atr
    room = bid - trailing.distance - trailing.stop
    steps = int(divide(room, step).to_integral_value(rounding=ROUND_FLOOR)) if room > 0 else 0
    return replace(trailing, peak=bid, stop=trailing.stop + steps * step, steps=trailing.steps + steps)


def due_exit(
    position: Position,
    bid: Decimal,
    bid_at: datetime,
    now: datetime,
    *,
    atr: Decimal | None = None,
    signal: SellSignal | None = None,
    signal_max_age: timedelta = timedelta(minutes=10),
) -> Verdict:
    """Which exit is due on a bid seen at `bid_at`.

    A price older than the rules' `stale_seconds` triggers nothing and moves nothing.
    """
    rules, entry = position.rules, position.entry_price
    if (now - bid_at).total_seconds() > rules.stale_seconds or bid <= 0 or entry <= 0:
        return Verdict(None, position.trailing, stale=True)
    trailing = advance_trailing(position.trailing, position, bid, atr)
    if bid <= entry * (1 - rules.hard_stop):
        return Verdict(ExitReason.HARD_STOP, trailing)
    if bid <= entry * (1 - rules.soft_stop):
        return Verdict(ExitReason.SOFT_STOP, trailing)
    if trailing is not None:
        return Verdict(ExitReason.TRAILING_STOP if bid <= trailing.stop else None, trailing)
    target = target_price(rules, entry)
    if target is not None and bid >= target:
        return Verdict(ExitReason.TP, trailing)
    if (
        rules.signal_exit
        and signal is not None
        and signal.says_sell
        and now - signal.at <= signal_max_age
        and (position.since is None or signal.at >= position.since)
        and (floor := signal_floor(position)) is not None
        and bid >= floor
    ):
        return Verdict(ExitReason.SIGNAL_EXIT, trailing)
    return Verdict(None, trailing)


_INFINITE = Decimal("Infinity")


def quiet_band(position: Position, signal: SellSignal | None = None) -> QuietBand:
    """The bids for which `due_exit` has nothing to do: for each fresh bid with low < bid < high no exit is due and no
    stop moves.

    The answer holds until the position or the signal changes; outside the band call `due_exit`, which alone decides.
    The bounds are the same expressions that it compares with. An expiring signal only makes the band too narrow.
    """
    rules, entry, trailing = position.rules, position.entry_price, position.trailing
    if entry <= 0:
        return QuietBand(-_INFINITE, _INFINITE)
    low = nearest_stop(rules, entry, None if trailing is None else trailing.stop)
    if trailing is not None:
        return QuietBand(low, trailing.peak)
    highs = [_INFINITE]
    if rules.trailing_arm is not None:
        highs.append(entry * (1 + rules.trailing_arm))
    target, floor = target_price(rules, entry), signal_floor(position)
    if target is not None:
        highs.append(target)
    if rules.signal_exit and signal is not None and signal.says_sell and floor is not None:
        highs.append(floor)
    return QuietBand(low, min(highs))
