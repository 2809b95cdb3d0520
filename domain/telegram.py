"""Telegram's limits and the commands that people send: the pace of messages, their length and text, who may ask what.

A message has at most 4096 characters and is HTML, so every text from elsewhere is escaped. Telegram doesn't publish its
limits exactly; kept to are about one message a second in a chat, twenty a minute in a group, thirty a second in all.
"""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from domain.news import INCIDENT_KINDS
from domain.notices import Notice, Phase
from domain.text import visible

__all__ = [
    "KINDS",
    "MOST_CHARACTERS",
    "OLDEST",
    "ChatPace",
    "Manner",
    "Question",
    "TelegramCommand",
    "TelegramMessage",
    "TelegramRequest",
    "TelegramUser",
    "as_bundles",
    "command_in",
    "escaped",
    "manner_of",
    "pages",
    "telegram_length",
    "too_old",
]

MOST_CHARACTERS = 4096
OLDEST = timedelta(seconds=60)
"""A command that is older when it arrives is not obeyed, and a button can't be pressed for longer."""

Manner = Literal["on", "silent", "off"]
"""How a kind of event is sent: with the phone's sound, without, or not at all."""

KINDS: Sequence[str] = (*INCIDENT_KINDS, "warning", "critical")
"""What the settings tell apart: the kinds of news, and all other incidents by their severity."""

_SINGLE_MESSAGES = 3
"""Up to so many events are messages of their own."""


# --- text ------------------------------------------------------------------------------------------------------------


def telegram_length(text: str) -> int:
    """The length of a text as Telegram counts it: in units of UTF-16, so that an emoji is two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def escaped(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text as Telegram's HTML, without invisible characters: at most `most` characters, with an ellipsis for the
    rest."""
    found = _as_html(text)
    if telegram_length(found) <= most:
        return found
    # An escaped character takes up to five, so the text itself is cut, never an entity.
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if telegram_length(_as_html(text[:middle]) + " …") <= most else (low, middle - 1)
    return _as_html(text[:low]) + " …"


def _as_html(text: str) -> str:
    return html.escape(visible(text), quote=False)


def pages(blocks: Iterable[str], *, between: str = "\n") -> list[list[str]]:
    """Blocks of HTML in as few messages as they fit in, in their order. None is longer than a message."""
    found: list[list[str]] = []
    size = 0
    for block in blocks:
        length = telegram_length(block)
        if found and size + telegram_length(between) + length <= MOST_CHARACTERS:
            found[-1].append(block)
            size += telegram_length(between) + length
        else:
            found.append([block])
            size = length
    return found


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TelegramMessage:
    """A message of one or more events. `html` is its text; `silent`: the phone makes no sound."""

    html: str
    silent: bool
    notices: tuple[Notice, ...]


def manner_of(kind: str, severity: str, manners: Mapping[str, Manner]) -> Manner:
    """How an event is sent, by its kind if it is news, else by its severity; INFO that is no news is not sent."""
    for name, own in INCIDENT_KINDS.items():
        if kind == own:
            return manners[name]
    return manners.get(severity.lower(), "off")


def as_bundles(account: str, notices: Sequence[Notice], manners: Mapping[str, Manner]) -> list[TelegramMessage]:
    """The messages for these events, in the order of the events' times: one each while there are few, else as many
    events in a message as fit. A message is silent if all its events are.
    """
    ordered = sorted(notices, key=lambda item: (item.since, item.reported))
    if len(ordered) <= _SINGLE_MESSAGES:
        return [_message([_alone(account, item)], [item], manners) for item in ordered]
    head = f"<b>BotTrader {escaped(account, 200)}</b>: {len(ordered)} events, in the order of their times (UTC)"
    found: list[TelegramMessage] = []
    place = 0
    for part in pages([head, *(_line(item) for item in ordered)]):
        count = len(part) - (not found)
        found.append(_message(part, ordered[place : place + count], manners))
        place += count
    return found


def _message(blocks: Sequence[str], notices: Sequence[Notice], manners: Mapping[str, Manner]) -> TelegramMessage:
    silent = all(manner_of(item.kind, item.severity, manners) == "silent" for item in notices)
    return TelegramMessage("\n".join(blocks), silent, tuple(notices))


def _alone(account: str, item: Notice) -> str:
    sentence, _, times = item.line.rpartition("\n")
    title = escaped(f"BotTrader {account}: {item.title}", 400)
    return f"<b>{title}</b>\n{escaped(sentence, 3200)}\n<i>{escaped(times, 200)}</i>"


def _line(item: Notice) -> str:
    """An event in one line, with its own time first; its phase and number where these say something."""
    more = [] if item.phase in (Phase.NEWS, Phase.NEW) else [item.phase.value]
    more += [f"until {item.until:%m-%d %H:%M:%S}"] if item.until is not None else []
    more += [f"{item.times} times"] if item.times > 1 else []
    ending = f" ({', '.join(more)})" if more else ""
    level = "" if item.phase is Phase.NEWS else f"<b>{escaped(item.title, 200)}</b>: "
    return f"{item.since:%m-%d %H:%M:%S} {level}{escaped(item.sentence, 1500)}{ending}"


# --- the pace --------------------------------------------------------------------------------------------------------


class ChatPace:
    """When the next message may go out. Times are seconds of one monotonic clock. Chats below zero are groups."""

    def __init__(self, *, between: float = 1.05, group_a_minute: int = 19, a_second: int = 25) -> None:
        self._between = between
        self._group = group_a_minute
        self._all = a_second
        self._last: dict[int, float] = {}
        self._of_groups: dict[int, deque[float]] = {}
        self._sent: deque[float] = deque(maxlen=a_second)
        self._held: dict[int, float] = {}

    def wait(self, chat: int, now: float) -> float:
        """Seconds until a message may go to this chat; 0: it may now."""
        due = [self._held.get(chat, 0.0)]
        if chat in self._last:
            due.append(self._last[chat] + self._between)
        in_group = self._of_groups.get(chat)
        if in_group is not None and len(in_group) == self._group:
            due.append(in_group[0] + 61.0)
        if len(self._sent) == self._all:
            due.append(self._sent[0] + 1.0)
        return max(max(due) - now, 0.0)

    def begun(self, chat: int, now: float) -> None:
        """A message goes out now."""
        self._last[chat] = now
        self._sent.append(now)
        if chat < 0:
            self._of_groups.setdefault(chat, deque(maxlen=self._group)).append(now)

    def ended(self, chat: int, now: float) -> None:
        """It has arrived: the time to the next one counts from here, however long it was on its way."""
        self._last[chat] = max(self._last.get(chat, now), now)
        if chat in self._of_groups:
            self._of_groups[chat][-1] = max(self._of_groups[chat][-1], now)

    def hold(self, chat: int, until: float) -> None:
        """Telegram asked to send nothing to this chat before `until`."""
        self._held[chat] = max(self._held.get(chat, until), until)


# --- commands --------------------------------------------------------------------------------------------------------


class TelegramCommand(StrEnum):
    """What a person may send, after the slash."""

    HELP = "help"
    STATUS = "status"
    TRADES = "trades"
    ORDERS = "orders"
    PNL = "pnl"
    WHY = "why"
    HEALTH = "health"
    INCIDENTS = "incidents"
    HALT = "halt"
    RESUME = "resume"
    CLOSE = "close"
    FLATTEN = "flatten"

    @property
    def acts(self) -> bool:
        """Whether it needs the role trade."""
        return self in (TelegramCommand.HALT, TelegramCommand.RESUME, TelegramCommand.CLOSE, TelegramCommand.FLATTEN)

    @property
    def needs_button(self) -> bool:
        """Whether it is done only when a button is pressed. A halt is not: it refuses entries and sells nothing."""
        return self.acts and self is not TelegramCommand.HALT


@dataclass(frozen=True, slots=True)
class TelegramUser:
    """Somebody who may send commands. `name` is the settings' name for the user."""

    name: str
    may_trade: bool

    @property
    def by(self) -> str:
        """The name under which actions are stored."""
        return f"{self.name} (Telegram)"


@dataclass(frozen=True, slots=True)
class TelegramRequest:
    """A command as it arrived. `number` is its update's, `bot` the bot's id; `argument` is what follows the command."""

    bot: int
    number: int
    user: TelegramUser
    command: TelegramCommand
    argument: str

    @property
    def key(self) -> str:
        """Its idempotency key: the same update is the same action."""
        return f"telegram-{self.bot}-{self.number}"


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked before something is done. `html` says what that is, `button` what pressing does."""

    html: str
    button: str


_COMMAND = re.compile(r"/(?P<name>[A-Za-z_]{1,32})(?:@(?P<bot>\w{1,64}))?(?:\s+(?P<rest>.*))?", re.DOTALL)
_ALIASES = {"start": TelegramCommand.HELP}


def command_in(text: str, bot_name: str) -> tuple[TelegramCommand, str] | None:
    """The command in a message and what follows it, on one line; `/help` for one that is not known.

    None for a text that is no command, or one for another bot of the group (/status@other_bot).
    """
    found = _COMMAND.fullmatch(text.strip())
    if found is None or (found["bot"] and found["bot"].lower() != bot_name.lower()):
        return None
    name = found["name"].lower()
    rest = " ".join((found["rest"] or "").split())
    if name in _ALIASES:
        return _ALIASES[name], ""
    return (TelegramCommand(name), rest) if name in set(TelegramCommand) else (TelegramCommand.HELP, "")


def too_old(sent_at: datetime, now: datetime) -> bool:
    """Whether a command may not be obeyed any more. One that seems to come from the future, by more than clocks differ,
    may not either."""
    return not -OLDEST <= now - sent_at <= OLDEST
