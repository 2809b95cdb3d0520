"""The decision for a symbol: buy, sell or hold, with every indicator's part in it.

A fired indicator contributes its weight, and up to the same again the further it is past its threshold: contribution =
weight × (1 + excess), excess in 0…1. Contributions are positive for buying and negative for selling; a buy score is the
sum of the positive ones, a sell score the sum of the negative ones without the sign. Scores and readings are floats:
they only rank, no money is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from domain.messages import IndicatorPart, Linkage

__all__ = ["MULTI_SIGNAL", "MULTI_SIGNAL_DOWN", "Action", "Decision", "Part", "hold", "linkage_of", "score_decimal"]

MULTI_SIGNAL = "multi_signal"
MULTI_SIGNAL_DOWN = "multi_signal_down"


class Action(StrEnum):
    """What is decided."""

    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


class Part(NamedTuple):
    """One indicator's part in a score; `value` None where it has none, and `why` then says why."""

    value: float | None
    fired: bool
    weight: float
    contribution: float
    why: str = ""

    def document(self) -> dict[str, Any]:
        """As stored in the matrix: numbers as exact text."""
        shown: dict[str, Any] = {
            "value": None if self.value is None else str(score_decimal(self.value)),
            "fired": self.fired,
            "weight": str(score_decimal(self.weight)),
            "contribution": str(score_decimal(self.contribution)),
        }
        return shown | {"why": self.why} if self.why else shown


class Decision(NamedTuple):
    """A symbol's row of the matrix. `fired` are the indicators behind the action (all that fired, for a hold)."""

    symbol: str
    action: Action
    trigger: str | None
    buy_score: float
    sell_score: float
    parts: Mapping[str, Part] = MappingProxyType({})
    fired: tuple[str, ...] = ()
    reason: str = ""


def hold(symbol: str, reason: str) -> Decision:
    """A decision to hold, with the reason."""
    return Decision(symbol, Action.HOLD, None, 0.0, 0.0, reason=reason)


def score_decimal(value: float) -> Decimal:
    """A finite score or reading as the tables keep it: nine places, without trailing zeros."""
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return Decimal("0" if text == "-0" else text)


def linkage_of(decision: Decision, snapshot_id: str) -> Linkage:
    """The record that ties an order to the decision behind it (LINK-2). Raises ValueError for a decision to hold."""
    if decision.trigger is None:
        raise ValueError(f"{decision.symbol} is held: there is no order to link")
    return Linkage(
        trigger=decision.trigger,
        snapshot_id=snapshot_id,
        buy_score=score_decimal(decision.buy_score),
        sell_score=score_decimal(decision.sell_score),
        indicator_breakdown={
            name: IndicatorPart(
                value=None if part.value is None else score_decimal(part.value),
                fired=part.fired,
                weight=score_decimal(part.weight),
                contribution=score_decimal(part.contribution),
            )
            for name, part in decision.parts.items()
        },
        indicators_fired=decision.fired,
    )
