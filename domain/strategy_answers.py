"""What a strategy answers, looked at before it is stored or acted on: strategies are also code of the user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from domain.errors import BotTraderError
from domain.scoring import Action, Decision, Part

__all__ = ["MalformedError", "checked", "one_line"]

_MOST: Final = 1e15
"""Scores and readings above this are treated as errors; nine decimals of anything below fit every table."""
_NAME_LENGTH: Final = 63
_A_NAME: Final = f"1 to {_NAME_LENGTH} printable characters"
_REASON_LENGTH: Final = 300


class MalformedError(BotTraderError):
    """An answer that can't be stored or acted on; the text says what it was."""

    code = "BAD_ANSWER"


def checked(answer: object, symbol: str) -> Decision:
    """The answer about a symbol, with plain numbers. Raises MalformedError, as no tables or orders would take it."""
    if not isinstance(answer, Decision):
        raise MalformedError(f"{answer!r}, which is not a Decision")
    given: Any = answer  # what its types promise is what is looked at here
    if given.symbol != symbol:
        raise MalformedError(f"for {given.symbol}, but was asked about {symbol}")
    if not isinstance(given.action, Action):
        raise MalformedError(f"the action {given.action!r}, which is not Action.BUY, Action.SELL or Action.HOLD")
    if given.action is not Action.HOLD and not given.trigger:
        raise MalformedError(f"{given.action} without naming a trigger")
    if given.trigger is not None and not _is_name(given.trigger):
        raise MalformedError(f"a trigger that is not {_A_NAME}")
    buy, sell = _number(given.buy_score, "a score"), _number(given.sell_score, "a score")
    if min(buy, sell) < 0:
        raise MalformedError("a score below 0; both sides' scores are positive")
    if not isinstance(given.parts, Mapping) or not all(isinstance(part, Part) for part in given.parts.values()):
        raise MalformedError("parts that are not a dictionary of name and Part")
    if isinstance(given.fired, str) or not isinstance(given.fired, Sequence):
        raise MalformedError("`fired` that is not a tuple of names")
    if not all(_is_name(name) for name in (*given.parts, *given.fired)):
        raise MalformedError(f"the name of an indicator that is not {_A_NAME}")
    parts = {name: _checked_part(name, part) for name, part in given.parts.items()}
    fired = tuple(dict.fromkeys(given.fired))
    reason = one_line(str(given.reason))
    decision = Decision(symbol, given.action, given.trigger, buy, sell, parts, fired, reason)
    _check_agreement(decision)
    return decision


def _check_agreement(decision: Decision) -> None:
    """Raises MalformedError where what is stored would contradict itself: reports and people go by all of it."""
    parts, action = decision.parts, decision.action
    silent = next((name for name in decision.fired if parts and not (name in parts and parts[name].fired)), None)
    if silent is not None:
        raise MalformedError(f"`fired` with {silent}, which did not fire by its parts")
    idle = next((name for name, part in parts.items() if part.contribution and not part.fired), None)
    if idle is not None:
        raise MalformedError(f"a contribution of {idle}, which did not fire")
    if action is not Action.HOLD:
        score, other = (
            (decision.buy_score, decision.sell_score)
            if action is Action.BUY
            else (decision.sell_score, decision.buy_score)
        )
        if not score and other:
            raise MalformedError(f"{action} with no score for it and {other:g} against it")
    if not any(part.contribution for part in parts.values()):
        return  # it weighs nothing: its scores stand by themselves
    for side, score, sign in (("buying", decision.buy_score, 1), ("selling", decision.sell_score, -1)):
        total = math.fsum(max(sign * part.contribution, 0.0) for part in parts.values())
        if not math.isclose(total, score, rel_tol=1e-6, abs_tol=1e-9):
            raise MalformedError(f"a score of {score:g} for {side}, where its parts come to {total:g}")


def _checked_part(name: str, part: Part) -> Part:
    weight = _number(part.weight, f"a weight of {name}")
    contribution = _number(part.contribution, f"a contribution of {name}")
    value = None if part.value is None else _number(part.value, f"a value of {name}")
    return Part(value, bool(part.fired), weight, contribution, one_line(str(part.why)))


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise MalformedError(f"{what} that is not a number")
    if abs(number) > _MOST:
        raise MalformedError(f"{what} above {_MOST:,.0f}")
    return number


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH and value.isprintable()


def one_line(text: str) -> str:
    """Text from a strategy as the matrix keeps it: one printable line of limited length."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _REASON_LENGTH else f"{line[: _REASON_LENGTH - 1]}…"
