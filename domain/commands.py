"""Who gave a command: decided by the channel it arrived through, never by what its message says.

Our own processes (command line, webhook, strategy) record a command in the ledger before they send it through Temporal,
and stored names are read from that record (`activities.commands`). A command without such a row came directly through
Temporal: its own name is kept, marked as a claim.
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
    raise ValueError(f"no running workflow handles commands of the kind {kind}")


def through_temporal(says: str) -> str:
    """The author of a command sent directly through Temporal: `temporal`, with the name given in the message."""
    name = "".join(letter for letter in says if letter.isprintable()).strip()[:_LONGEST]
    return f"temporal (says {name})" if name else "temporal"


def command_of(intent: OrderIntent) -> tuple[str, CommandKind, str] | None:
    """The command that an order carries out: its id, its kind, and what it is about.

    A requested order is its own command, for exactly this intent; the exit of a close refers to its trade. None for
    orders that a rule decides (stops and targets, the market maker, protection at the exchange): no person gave them.
    """
    if intent.protection_role is not None or intent.by_market_maker:
        return None
    if intent.by_monitor:
        if intent.exit_reason is not ExitReason.MANUAL:
            return None
        return intent.command, CommandKind.CLOSE, intent.entry_key or ""
    return intent.order_key, CommandKind.ORDER, intent_digest(intent)


def asked_by(intent: OrderIntent, given_by: str | None) -> str:
    """The name stored as an order's requester; `given_by` is the ledger's author of its command, if any."""
    if given_by:
        return given_by
    by_rule = command_of(intent) is None
    return "" if by_rule and not intent.asked_by else through_temporal(intent.asked_by)


def noted(note: str) -> str:
    """A note as it is recorded: one line of limited length."""
    return "".join(letter for letter in note if letter.isprintable())[:_LONGEST_NOTE]


class Wish(BaseModel):
    """A request to close, cancel or move stops as a workflow sees it: the message's content, not yet verified.

    Kept in separate parts, so that text in one can't pass for another. `rest` follows the name.
    """

    model_config = ConfigDict(frozen=True)

    kind: CommandKind
    verb: str
    by: str = ""
    command: str = ""
    rest: str = ""

    @classmethod
    def of(cls, kind: CommandKind, verb: str, request: CloseRequest | None, rest: str = "") -> Wish:
        """The request of a message; None for an empty one."""
        asked = request or CloseRequest()
        said = f": {noted(asked.note)}" if asked.note else ""
        if asked.not_understood:
            # A signal can't be refused: what it says of itself in vain is told.
            said += f" ({not_understood(asked)}, and ignored)"
        return cls(kind=kind, verb=verb, by=asked.by, command=asked.command, rest=said + rest)

    @property
    def in_words(self) -> str:
        """As the workflow shows it: a name with a command is the command's author, one without comes from Temporal."""
        if self.command:
            name = noted(self.by)[:_LONGEST] or "an unknown person"
            return f"{self.verb} in the name of {name} (command {noted(self.command)[:_SHOWN]}){self.rest}"
        return f"{self.verb} by {through_temporal(self.by)}{self.rest}"

    def checked(self, commands: Mapping[tuple[str, str], str]) -> str:
        """With the ledger's name in place of the message's.

        Args:
            commands: who gave each command about this trade, by its kind and id.
        """
        return f"{self.verb} by {commands.get((self.kind, self.command)) or through_temporal(self.by)}{self.rest}"


class TimelineEntry(BaseModel):
    """A line of a workflow's timeline: the time (UTC), and the event or request."""

    model_config = ConfigDict(frozen=True)

    at: str
    sentence: str
    wish: Wish | None = None

    def checked(self, commands: Mapping[tuple[str, str], str]) -> str:
        """With the author's name from the ledger; see `Wish.checked`."""
        return f"{self.at} {self.wish.checked(commands) if self.wish else self.sentence}"


def not_understood(request: CloseRequest) -> str | None:
    """The unknown fields of a request, in words; None if there are none."""
    unknown = request.not_understood
    names = [f"`{noted(name)[:_LONGEST]}`" for name in unknown[:_NAMED]]
    if len(unknown) > _NAMED:
        names.append(f"{len(unknown) - _NAMED} more")
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not understood" if names else None


def cancelled_unsent(verb: str, request: CloseRequest, given_by: str | None) -> str:
    """Why an order ended before it was sent, with the known name of who requested it."""
    note = f": {noted(request.note)}" if request.note else ""
    return f"{verb} by {given_by or through_temporal(request.by)}{note} before it was sent"
