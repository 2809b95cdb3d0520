"""The answer to a sender: the decision, with everything needed to find the order again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AlertAnswer", "AlertProblem", "ProblemAnswer", "TradeAnswer"]


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class TradeAnswer(_Shown):
    """A trade's answer to the close."""

    entry_key: str
    accepted: bool
    sentence: str


class AlertAnswer(_Shown):
    """The decision on an alert."""

    decision: Literal["admitted", "refused", "deciding", "closing", "nothing_to_close"] = Field(
        description="admitted: it is sent to the exchange; deciding: repeat the alert with the same key"
    )
    sentence: str
    sender: str
    key: str = Field(description="the alert's key, or one derived from its content and time")
    repeated: bool = Field(description="this key was sent before: nothing was done again")
    action: str
    symbol: str
    order_key: str | None = None
    workflow_id: str | None = None
    client_order_id: str | None = Field(None, description="of the first attempt, as sent to the exchange")
    state: str | None = Field(None, description="the order's state")
    gate: str | None = Field(None, description="the gate that refused it")
    numbers: dict[str, str] = Field(default_factory=dict, description="the values that gate compared")
    warnings: tuple[str, ...] = Field(
        (), description="warnings about possible mistakes: a stop nearer than the costs, a far limit"
    )
    trades: tuple[TradeAnswer, ...] = Field((), description="close: the answer for each trade")


class AlertProblem(_Shown):
    """Why a request was refused."""

    code: str
    sentence: str
    field: str | None = None


class ProblemAnswer(_Shown):
    """A refused request. Nothing was traded."""

    error: AlertProblem
