"""What a sender is answered: the decision, with everything it needs to find the order again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AlertAnswer", "AlertProblem", "ProblemAnswer", "TradeAnswer"]


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class TradeAnswer(_Shown):
    """What a trade answered to being closed."""

    entry_key: str
    accepted: bool
    sentence: str


class AlertAnswer(_Shown):
    """The decision on an alert."""

    decision: Literal["admitted", "refused", "deciding", "closing", "nothing_to_close"] = Field(
        description="admitted: it is sent to the exchange; deciding: ask again with the same key"
    )
    sentence: str
    sender: str
    key: str = Field(description="the alert's key, or the one that was made of its content and time")
    repeated: bool = Field(description="this key was sent before: nothing new was done")
    action: str
    symbol: str
    order_key: str | None = None
    workflow_id: str | None = None
    client_order_id: str | None = Field(None, description="of the first attempt, as the exchange knows it")
    state: str | None = Field(None, description="where the order stands")
    gate: str | None = Field(None, description="the gate that refused it")
    numbers: dict[str, str] = Field(default_factory=dict, description="what that gate compared")
    warnings: tuple[str, ...] = Field(
        (), description="what of an order can be used and may not be meant: a stop nearer than the costs, a far limit"
    )
    trades: tuple[TradeAnswer, ...] = Field((), description="close: what each trade answered")


class AlertProblem(_Shown):
    """Why a request was refused."""

    code: str
    sentence: str
    field: str | None = None


class ProblemAnswer(_Shown):
    """A refused request. Nothing was traded."""

    error: AlertProblem
