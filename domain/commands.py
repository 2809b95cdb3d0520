"""Who gave a command: what its way proves, never what a message says of itself.

Our own processes (command line, webhook, strategy) write a command down in the ledger before they ask for it through
Temporal, and whoever stores a name takes it from there (`activities.commands`). What has no such row came straight
through Temporal: it keeps what it says of itself, as a claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from domain.exits import ExitReason
from domain.ids import exit_workflow_id, order_workflow_id
from domain.intents import intent_digest
from domain.messages import CloseRequest, OrderIntent

__all__ = [
    "CommandKind",
    "TimelineEntry",
    "Wish",
    "asked_by",
    "cancelled_unsent",
    "command_of",
    "heard_by",
    "not_understood",
    "noted",
    "through_temporal",
]

_LONGEST = 100
_LONGEST_NOTE = 500
_SHOWN = 12
_NAMED = 5


class CommandKind(StrEnum):
    """What a command asks for."""

    ORDER = "order"
    CLOSE = "close"
    CANCEL = "cancel"
    STOPS = "stops"


def heard_by(kind: CommandKind, key: str) -> tuple[str, ...]:
    """The ids of the workflows that can close this trade or cancel this order, in the order in which they are asked.

    A trade's exit monitor sells it, its entry as long as there is no monitor. Raises ValueError for other kinds.
    """
    if kind is CommandKind.CLOSE:
        return exit_workflow_id(key), order_workflow_id(key)
    if kind is CommandKind.CANCEL:
        return (order_workflow_id(key),)
    raise ValueError(f"no running workflow is asked for a command of the kind {kind}")


def through_temporal(says: str) -> str:
    """Who gave what came straight through Temporal: `temporal`, with the name that it gives itself."""
    name = "".join(letter for letter in says if letter.isprintable()).strip()[:_LONGEST]
    return f"temporal (says {name})" if name else "temporal"


def command_of(intent: OrderIntent) -> tuple[str, CommandKind, str] | None:
    """The command that an order carries out: its id, its kind, and what it is about.

    An order that was asked for is its own command, about exactly this intent; the exit of a close is about its trade.
    None for what a rule decides (stops and targets, the market maker, protection at the exchange): it names nobody.
    """
    if intent.protection_role is not None or intent.by_market_maker:
        return None
    if intent.by_monitor:
        if intent.exit_reason is not ExitReason.MANUAL:
            return None
        return intent.command, CommandKind.CLOSE, intent.entry_key or ""
    return intent.order_key, CommandKind.ORDER, intent_digest(intent)


def asked_by(intent: OrderIntent, given_by: str | None) -> str:
    """Who is stored as having asked for an order; `given_by` is whom the ledger has for its command, if anybody."""
    if given_by:
        return given_by
    by_rule = command_of(intent) is None
    return "" if by_rule and not intent.asked_by else through_temporal(intent.asked_by)


def noted(note: str) -> str:
    """A note as the record keeps it: one line, and not a book."""
    return "".join(letter for letter in note if letter.isprintable())[:_LONGEST_NOTE]


class Wish(BaseModel):
    """Somebody's close, cancel or move of stops as a workflow knows it: what the message says, not whether it is true.

    In parts, so that nothing that is said in one can be taken for another. `rest` follows behind who it was.
    """

    model_config = ConfigDict(frozen=True)

    kind: CommandKind
    verb: str
    by: str = ""
    command: str = ""
    rest: str = ""

    @classmethod
    def of(cls, kind: CommandKind, verb: str, request: CloseRequest | None, rest: str = "") -> Wish:
        """The wish of a message; None stands for one that says nothing."""
        asked = request or CloseRequest()
        said = f": {noted(asked.note)}" if asked.note else ""
        if asked.not_understood:
            # A signal can't be refused: what it says of itself in vain is told.
            said += f" ({not_understood(asked)}, and left out)"
        return cls(kind=kind, verb=verb, by=asked.by, command=asked.command, rest=said + rest)

    @property
    def in_words(self) -> str:
        """As the workflow tells it: a name with a command is the command's, one without is Temporal's."""
        if self.command:
            name = noted(self.by)[:_LONGEST] or "somebody"
            return f"{self.verb} in the name of {name} (command {noted(self.command)[:_SHOWN]}){self.rest}"
        return f"{self.verb} by {through_temporal(self.by)}{self.rest}"

    def checked(self, commands: Mapping[tuple[str, str], str]) -> str:
        """With the ledger's word in place of the message's.

        Args:
            commands: who gave each command about this trade, by its kind and id.
        """
        return f"{self.verb} by {commands.get((self.kind, self.command)) or through_temporal(self.by)}{self.rest}"


class TimelineEntry(BaseModel):
    """A line of a workflow's timeline: when (UTC), and what happened, or whose wish came."""

    model_config = ConfigDict(frozen=True)

    at: str
    sentence: str
    wish: Wish | None = None

    def checked(self, commands: Mapping[tuple[str, str], str]) -> str:
        """With the ledger's word for who it was; see `Wish.checked`."""
        return f"{self.at} {self.wish.checked(commands) if self.wish else self.sentence}"


def not_understood(request: CloseRequest) -> str | None:
    """The fields of a wish that nobody here knows, in words; None if there are none."""
    unknown = request.not_understood
    names = [f"`{noted(name)[:_LONGEST]}`" for name in unknown[:_NAMED]]
    if len(unknown) > _NAMED:
        names.append(f"{len(unknown) - _NAMED} more")
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not understood" if names else None


def cancelled_unsent(verb: str, request: CloseRequest, given_by: str | None) -> str:
    """Why an order ended before it was sent, with who is known to have asked for it."""
    note = f": {noted(request.note)}" if request.note else ""
    return f"{verb} by {given_by or through_temporal(request.by)}{note} before it was sent"
