"""How a person may change an open trade's stops and target (EXIT-14), and the resulting rules.

Nearer to the price at any time; further away only with an explicit option; a trailing stop is never lowered. A plan's
stops are fractions of the entry price: a given price is converted to a fraction, rounded so that a bid at exactly that
price triggers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pydantic import ValidationError

from domain.errors import BotTraderError
from domain.exits import ExitRules, Position, Trailing, target_price
from domain.messages import StopsRequest
from domain.money import ZERO, divide, plain, round_down, round_half_even
from domain.protection import Protection, ProtectionKind, as_moved

__all__ = ["LEVELS", "Moved", "StopsRefusedError", "moved_stops", "same_levels"]

_QUANTUM = Decimal("1e-18")
LEVELS = frozenset({"hard_stop", "soft_stop", "trailing_stop", "trailing_arm", "take_profit", "no_take_profit"})
"""The levels a request can change; its other fields give the requester and what is allowed."""


class StopsRefusedError(BotTraderError, ValueError):
    """The stops stay as they are; `code` says why for programs, the message for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Moved:
    """A trade's rules and trailing stop after a change, and the change in words."""

    rules: ExitRules
    trailing: Trailing | None
    sentence: str


@dataclass(frozen=True, slots=True)
class _Level:
    """A price that sells: the current and the new one, and whether that is further from the market. None: not set."""

    name: str
    now: Decimal | None
    wanted: Decimal | None
    further: bool


def moved_stops(
    position: Position, bid: Decimal | None, request: StopsRequest, protection: Protection | None = None
) -> Moved:
    """A trade's stops as a person requests them. Prices in quote per base; `bid` is None if it is not known now.

    `protection` is the trade's configured protection at the exchange: a bracket's target also sells.

    Raises StopsRefusedError with the code NOTHING_TO_CHANGE, BAD_STOP, FURTHER_AWAY, TRAILING_NEVER_LOWERED,
    WOULD_SELL_NOW or BID_UNKNOWN.
    """
    entry = position.entry_price
    _check_signs(entry, request)
    levels = [level for level in _levels(position, request, protection) if level.now != level.wanted]
    if not levels:
        raise StopsRefusedError("NOTHING_TO_CHANGE", "the trade already has these stops")
    trailing = _trailing(position, bid, request)
    rules = _rules(position, request)
    _check_order(position, rules, trailing, request)
    further = [level.name for level in levels if level.further]
    if further and not request.further:
        raise StopsRefusedError(
            "FURTHER_AWAY",
            f"that puts the {' and the '.join(further)} further away than now: this needs `further` in the request",
        )
    _check_bid(bid, request, {level.name for level in levels})
    words = "; ".join(f"{level.name} {_at(level.now)} → {_at(level.wanted)}" for level in levels)
    return Moved(rules, trailing, words)


def same_levels(one: StopsRequest, other: StopsRequest) -> bool:
    """Whether two requests have the same stops and target."""
    return all(getattr(one, name) == getattr(other, name) for name in LEVELS)


def _at(price: Decimal | None) -> str:
    """To eight places, or to six significant digits for a very low price."""
    if price is None:
        return "none"
    return plain(round_half_even(price, Decimal(1).scaleb(-max(8, 5 - price.adjusted()))))


def _target(position: Position, protection: Protection | None) -> Decimal | None:
    """The lowest target price: the plan's, or a bracket's at the exchange."""
    entry = position.entry_price
    found = [target_price(position.rules, entry)]
    if protection is not None:
        resting = as_moved(protection, position.rules)
        if resting.kind is ProtectionKind.BRACKET and resting.take_profit is not None:
            found.append(entry * (1 + resting.take_profit))
    return min((price for price in found if price is not None), default=None)


def _share(entry: Decimal, price: Decimal, sign: int) -> Decimal:
    """How far a price is below (-1) or above (1) the entry price, as a plan keeps it."""
    return round_down(divide(sign * (price - entry), entry), _QUANTUM)


def _levels(position: Position, request: StopsRequest, protection: Protection | None) -> list[_Level]:
    rules, entry = position.rules, position.entry_price
    hard, soft = entry * (1 - rules.hard_stop), entry * (1 - rules.soft_stop)
    arm = None if rules.trailing_arm is None else entry * (1 + rules.trailing_arm)
    target = _target(position, protection)
    stop = None if position.trailing is None else position.trailing.stop
    found: list[_Level] = []

    def same(now: Decimal | None, wanted: Decimal) -> bool:
        # A plan keeps shares, so the price that was asked for comes back a hair from where it was.
        return now is not None and abs(now - wanted) <= entry * 10 * _QUANTUM

    for name, now, wanted in (("hard stop", hard, request.hard_stop), ("soft stop", soft, request.soft_stop)):
        if wanted is not None and not same(now, wanted):
            found.append(_Level(name, now, wanted, wanted < now))
    if request.trailing_stop is not None:
        found.append(_Level("trailing stop", stop, request.trailing_stop, further=False))
    if request.trailing_arm is not None and not same(arm, request.trailing_arm):
        further = arm is not None and request.trailing_arm > arm
        found.append(_Level("price that arms trailing", arm, request.trailing_arm, further))
    if request.no_take_profit:
        found.append(_Level("take profit", target, None, target is not None))
    elif request.take_profit is not None and not same(target, request.take_profit):
        further = target is not None and request.take_profit > target
        found.append(_Level("take profit", target, request.take_profit, further))
    return found


def _check_signs(entry: Decimal, request: StopsRequest) -> None:
    if request.no_take_profit and request.take_profit is not None:
        raise StopsRefusedError("BAD_STOP", "a take profit can't be set and removed in one request")
    given = {
        "hard stop": request.hard_stop,
        "soft stop": request.soft_stop,
        "trailing stop": request.trailing_stop,
        "price that arms trailing": request.trailing_arm,
        "take profit": request.take_profit,
    }
    for name, price in given.items():
        if price is not None and (not price.is_finite() or price <= ZERO):
            raise StopsRefusedError("BAD_STOP", f"the {name} must be a price above zero")
    for name in ("hard stop", "soft stop"):
        price = given[name]
        if price is not None and price >= entry:
            raise StopsRefusedError(
                "BAD_STOP",
                f"a {name} must be below the entry price of {_at(entry)}, and {_at(price)} is not: use the trailing "
                f"stop to keep a gain",
            )
    for name in ("price that arms trailing", "take profit"):
        price = given[name]
        if price is not None and price <= entry:
            raise StopsRefusedError("BAD_STOP", f"a {name} must be above the entry price of {_at(entry)}")


def _trailing(position: Position, bid: Decimal | None, request: StopsRequest) -> Trailing | None:
    """The new trailing stop: raised, or armed now at the requested price."""
    now, wanted = position.trailing, request.trailing_stop
    if now is not None and request.trailing_arm is not None:
        raise StopsRefusedError("BAD_STOP", f"trailing is already armed, with its stop at {_at(now.stop)}")
    if wanted is None or (now is not None and wanted == now.stop):
        return now
    if now is not None and wanted < now.stop:
        raise StopsRefusedError(
            "TRAILING_NEVER_LOWERED", f"a trailing stop can't be lowered, and this one is at {_at(now.stop)}"
        )
    if bid is None:
        raise StopsRefusedError("BID_UNKNOWN", "the bid is not known now, and a trailing stop needs it; try again")
    if wanted >= bid:
        raise StopsRefusedError(
            "WOULD_SELL_NOW",
            f"the bid is {_at(bid)}: a trailing stop at {_at(wanted)} would sell at once; use `close` for that",
        )
    peak = bid if now is None else max(now.peak, bid)
    steps = 0 if now is None else now.steps
    distance = peak - wanted
    if now is not None:
        # What it keeps from the peak stays, as the stop rises by steps from where it is put.
        return Trailing(peak, wanted, now.distance, now.atr, steps)
    atr = divide(distance, position.rules.trailing_atr_multiple)
    return Trailing(peak, wanted, distance, atr, steps)


def _rules(position: Position, request: StopsRequest) -> ExitRules:
    """The rules with the requested changes. Raises StopsRefusedError if they contradict each other."""
    entry = position.entry_price
    changes: dict[str, Decimal | bool | None] = {}
    if request.hard_stop is not None:
        changes["hard_stop"] = changes["protection_stop"] = _share(entry, request.hard_stop, -1)
    if request.soft_stop is not None:
        changes["soft_stop"] = _share(entry, request.soft_stop, -1)
    if request.trailing_arm is not None:
        changes["trailing_arm"] = _share(entry, request.trailing_arm, 1)
    if request.no_take_profit or request.take_profit is not None:
        changes |= {"take_profit": None, "take_profit_atr": None, "target_atr": None}
        changes["protection_alone"] = request.no_take_profit
    if request.take_profit is not None:
        changes["take_profit"] = changes["protection_target"] = _share(entry, request.take_profit, 1)
    before: Mapping[str, object] = position.rules.model_dump()
    try:
        return ExitRules.model_validate({**before, **changes})
    except ValidationError:
        rules = position.rules.model_copy(update=changes)
        raise StopsRefusedError(
            "BAD_STOP",
            f"the soft stop must be above the hard stop, so that it sells first; with this change they would be at "
            f"{_at(entry * (1 - rules.soft_stop))} and {_at(entry * (1 - rules.hard_stop))}",
        ) from None


def _check_order(position: Position, rules: ExitRules, trailing: Trailing | None, request: StopsRequest) -> None:
    soft = position.entry_price * (1 - rules.soft_stop)
    if request.trailing_stop is not None and trailing is not None and trailing.stop <= soft:
        raise StopsRefusedError(
            "BAD_STOP",
            f"a trailing stop must be above the soft stop, which is at {_at(soft)}: below, it would never act",
        )


def _check_bid(bid: Decimal | None, request: StopsRequest, moved: set[str]) -> None:
    """Refuses a stop at or above the bid and a target at or below it: they would sell at once."""
    if request.sell_now:
        return
    sells = {"hard stop": request.hard_stop, "soft stop": request.soft_stop, "take profit": request.take_profit}
    given = {name: price for name, price in sells.items() if price is not None and name in moved}
    if not given:
        return
    if bid is None:
        raise StopsRefusedError(
            "BID_UNKNOWN",
            "the bid is not known now, so that might sell at once: try again, or add `sell_now`",
        )
    for name, price in given.items():
        if (price <= bid) if name == "take profit" else (price >= bid):
            raise StopsRefusedError(
                "WOULD_SELL_NOW",
                f"the bid is {_at(bid)}: a {name} at {_at(price)} would sell at once; this needs `sell_now` in the "
                f"request",
            )
