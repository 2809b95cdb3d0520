"""What an action is asked with, and what is answered: the bodies of the API's requests, which other ways use, too."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.limit_groups import GroupKind
from web.refusals import Refused
from web.views import Json

__all__ = [
    "ActionBody",
    "Answer",
    "Confirmed",
    "Done",
    "Flatten",
    "Halt",
    "Resume",
    "Stops",
    "group_of",
    "group_subject",
]

Note = Annotated[str, Field("", max_length=500, description="a remark for the record")]
Price = Annotated[Decimal, Field(gt=0, max_digits=30, decimal_places=16)]


class ActionBody(BaseModel):
    """An action with a remark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: Note = ""


GroupName = Annotated[str, Field(min_length=1, max_length=63)]


class Halt(ActionBody):
    """Halt all entries, or only those of one strategy or trigger."""

    strategy: GroupName | None = Field(None, description="only this strategy's entries, of [risk.strategies]")
    trigger: GroupName | None = Field(None, description="only this trigger's entries, of [triggers]")


class Confirmed(ActionBody):
    """An action that has to be confirmed by a typed word: its name, or in live mode the account's."""

    confirm: str = Field(max_length=100)


class Resume(Confirmed):
    """Resume all entries after a halt of the account, or those of one strategy or trigger after a halt of its own."""

    strategy: GroupName | None = Field(None, description="only this strategy, of [risk.strategies]")
    trigger: GroupName | None = Field(None, description="only this trigger, of [triggers]")


class Flatten(Confirmed):
    """Sell and cancel everything, or all of one product."""

    symbol: str | None = Field(None, min_length=1, max_length=40, description="a product, such as BTC-USD; null: all")
    halt: bool = Field(False, description="halt entries first, so that none follows")


class Stops(ActionBody):
    """Prices, quote per base; those that are not given stay."""

    hard_stop: Price | None = None
    soft_stop: Price | None = None
    trailing_stop: Price | None = Field(None, description="its new level; arms it if it is not armed")
    trailing_arm: Price | None = Field(None, description="the price at which trailing arms")
    take_profit: Price | Literal["off"] | None = None
    further: bool = Field(False, description="allow a stop that is further away than now")
    sell_now: bool = Field(False, description="allow a stop that the bid has passed already")


class Answer(BaseModel):
    """The result of an action."""

    model_config = ConfigDict(frozen=True)

    accepted: bool
    sentence: str = Field(description="the workflow's own, if one was asked")
    kept: bool = Field(False, description="no worker answered: it is stored, and done once one is available")
    changed: bool | None = Field(None, description="of halt, resume and resolve: whether this changed anything")
    items: list[dict[str, Any]] | None = Field(None, description="flatten: each trade and order that was asked")


@dataclass(frozen=True, slots=True)
class Done:
    """The answer of an action, as stored. `replayed`: it was done before, and this is what was answered then."""

    status: int
    answer: Json
    replayed: bool = False

    @property
    def sentence(self) -> str:
        """What was answered, in words: the workflow's own, or why it was refused."""
        return str(self.answer.get("sentence") or self.answer.get("detail") or "")


def group_of(given: Halt | Resume) -> tuple[GroupKind, str] | None:
    """The strategy or trigger that is named; None: the account is meant. Raises Refused(422)."""
    if given.strategy and given.trigger:
        what = "Give a strategy or a trigger, not both: each has a halt of its own."
        raise Refused(422, "BAD_REQUEST", what, field="trigger")
    if given.strategy:
        return GroupKind.STRATEGY, given.strategy
    return (GroupKind.TRIGGER, given.trigger) if given.trigger else None


def group_subject(group: tuple[GroupKind, str] | None) -> str:
    """How a halt or resume of it is recorded; empty for the account."""
    return "" if group is None else f"{group[0].value} {group[1]}"
