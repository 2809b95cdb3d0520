"""Notices to Telegram's chats: each event once, in the order of the events' times, many of them in one message.

What each chat was told is in the ledger, as it is for every address of notices (`activities/notices`): nothing is lost
while Telegram, we or the database are away, and afterwards it is told, with the events' own times. Only an answer of
Telegram that never arrives, or a crash before it is recorded, can repeat a message.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from activities.database import Pool
from activities.leases import DATABASE_TROUBLE, Lease
from activities.long_running import together
from activities.notices.delivery import notices_due, record_target, record_told
from activities.telegram.bot_api import TelegramAway, TelegramRefused
from activities.telegram.sending import ChatSender
from domain.news import INCIDENT_KINDS
from domain.notices import NoticeMessage
from domain.telegram import Manner, as_bundles, escaped

__all__ = ["NoticeTerms", "TelegramNotices", "chat_target"]

log = structlog.get_logger(__name__)

_SEVERITIES = ("WARNING", "CRITICAL")


def chat_target(bot: int, chat: int) -> str:
    """A chat's name in the tables and in logs: a digest, as for every address of notices."""
    return f"telegram-{hashlib.sha256(f'{bot}/{chat}'.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeTerms:
    """What is sent, and how. Wall seconds."""

    manners: Mapping[str, Manner]
    """How each of `domain.telegram.KINDS` is sent."""
    repeat_seconds: float = 600.0
    repeat_for_seconds: float = 86_400.0
    poll_seconds: float = 0.5
    """A message is to be out within two seconds of its event."""
    retry_first_seconds: float = 1.0
    retry_longest_seconds: float = 30.0
    """While Telegram is away: so late is the first message afterwards."""
    refused_longest_seconds: float = 600.0
    """While it refuses: a chat that does not exist, or that the bot was removed from."""


class TelegramNotices:
    """Delivers an account's events to its chats. `terms` is asked each time, as settings change while it runs."""

    def __init__(
        self,
        pool: Pool,
        account: str,
        sender: ChatSender,
        targets: Mapping[int, str],
        terms: Callable[[], NoticeTerms],
        *,
        live: bool = False,
    ) -> None:
        self._pool = pool
        self._account = account
        self._sender = sender
        self._targets = dict(targets)
        self._terms = terms
        self.name = f"LIVE {account}" if live else account
        """The account's name in titles."""
        self._unwritten: dict[int, tuple[list[int], list[int]]] = {}
        self._noted: dict[int, int] = {}

    async def run(self, lease: Lease) -> None:
        """Deliver to every chat until cancelled. Raises LeaseLostError."""
        if self._targets:
            await together(*(self._serve(chat, lease) for chat in self._targets))
        await asyncio.Event().wait()

    async def _serve(self, chat: int, lease: Lease) -> None:
        failures = 0
        while True:
            lease.require()
            terms = self._terms()
            pause = terms.poll_seconds
            try:
                problem, longest = await self._try(chat, lease)
                failures = failures + 1 if problem else 0
                await self._note(chat, failures, problem)
            except DATABASE_TROUBLE as trouble:
                log.warning("notices not read", problem=repr(trouble))
                problem, longest = "", 0.0
            if problem:
                log.warning("notice not delivered", target=self._targets[chat], failures=failures, problem=problem)
                pause = min(terms.retry_first_seconds * 2.0 ** min(failures - 1, 16), longest)
            await asyncio.sleep(pause)

    async def _try(self, chat: int, lease: Lease) -> tuple[str | None, float]:
        """Send what is due; returns why that failed, and the longest time until the next try."""
        terms = self._terms()
        try:
            await self.deliver(chat, lease)
        except TelegramAway as away:
            return f"no answer ({away})", terms.retry_longest_seconds
        except TelegramRefused as refused:
            if refused.retry_after is not None:
                return None, 0.0  # the sender waits
            return f"refused: {refused}", terms.refused_longest_seconds
        return None, 0.0

    async def deliver(self, chat: int, lease: Lease) -> None:
        """Send a chat its due notices.

        Raises TelegramAway, TelegramRefused, LeaseLostError and the database's errors. Deliveries that could not be
        recorded earlier are recorded first, and are not sent again.
        """
        await self._write_down(chat)
        terms = self._terms()
        off = [kind for name, kind in INCIDENT_KINDS.items() if terms.manners[name] == "off"]
        due = await notices_due(
            self._pool,
            self._account,
            self._targets[chat],
            severities=[level for level in _SEVERITIES if terms.manners[level.lower()] != "off"],
            also=[kind for kind in INCIDENT_KINDS.values() if kind not in off],
            never=off,
            now=datetime.now(UTC),
            repeat_seconds=terms.repeat_seconds,
            repeat_for_seconds=terms.repeat_for_seconds,
        )
        for message in as_bundles(self.name, due, terms.manners):
            await self._sender.notice(chat, message.html, silent=message.silent, allowed=lease.require)
            told = [item for notice in message.notices for item in notice.reported]
            over = [item for notice in message.notices for item in notice.over]
            self._unwritten[chat] = told, over
            await self._write_down(chat)

    async def _write_down(self, chat: int) -> None:
        if chat in self._unwritten:
            await record_told(self._pool, self._targets[chat], *self._unwritten[chat])
            del self._unwritten[chat]

    async def _note(self, chat: int, failures: int, problem: str | None) -> None:
        """Record a chat's state for people; written when it changes."""
        if self._noted.get(chat) != failures:
            await record_target(self._pool, self._account, self._targets[chat], failures, problem)
            self._noted[chat] = failures

    async def tell_all(self, message: NoticeMessage) -> dict[str, str | None]:
        """Send a message to every chat at once, past the tables, for times when the database is away."""

        async def tell(chat: int) -> str | None:
            try:
                await self._sender.answer(chat, f"<b>{escaped(message.title, 300)}</b>\n{escaped(message.body, 3500)}")
            except (TelegramAway, TelegramRefused) as problem:
                return str(problem)
            return None

        answers = await asyncio.gather(*(tell(chat) for chat in self._targets))
        return dict(zip(self._targets.values(), answers, strict=True))
