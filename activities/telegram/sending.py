"""Sending to chats at the pace that Telegram allows, answers to people first; a wait that it asks for is kept."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import structlog

from activities.telegram.bot_api import BotApi, Button, TelegramRefused
from domain.telegram import ChatPace

__all__ = ["ChatSender"]

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.05
_LONGEST_ASKED = 3600.0
"""Wall seconds; a longer wait than that is asked for again."""


class ChatSender:
    """All messages of one bot. One message to a chat is on its way at a time."""

    def __init__(self, bot: BotApi, pace: ChatPace | None = None) -> None:
        self._bot = bot
        self._pace = pace or ChatPace()
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._answers: Counter[int] = Counter()
        """Answers that wait for their turn, by chat: notices let them go first."""

    async def notice(self, chat: int, html: str, *, silent: bool, allowed: Callable[[], None]) -> None:
        """Send a notice in its turn, if it is still `allowed` by then (which raises, if not).

        Raises TelegramAway, and TelegramRefused, also for a chat that must wait.
        """
        while True:
            allowed()
            if not self._answers[chat]:
                async with self._locks[chat]:
                    wait = self._wait(chat)
                    if wait <= 0 and not self._answers[chat]:
                        await self._send(chat, html, silent=silent)
                        return
                await asyncio.sleep(max(wait, _LOOK_SECONDS))
            else:
                await asyncio.sleep(_LOOK_SECONDS)

    async def answer(self, chat: int, html: str, buttons: Sequence[Button] = ()) -> int:
        """Answer a person, before any notice; returns the message's number. Waits as long as Telegram asks for.

        Raises TelegramAway and TelegramRefused.
        """
        self._answers[chat] += 1
        try:
            async with self._locks[chat]:
                while True:
                    if (wait := self._wait(chat)) > 0:
                        await asyncio.sleep(wait)
                        continue
                    try:
                        return await self._send(chat, html, buttons=buttons)
                    except TelegramRefused as refused:
                        if refused.retry_after is None:
                            raise
        finally:
            self._answers[chat] -= 1

    def _wait(self, chat: int) -> float:
        return self._pace.wait(chat, time.monotonic())

    async def _send(self, chat: int, html: str, *, silent: bool = False, buttons: Sequence[Button] = ()) -> int:
        self._pace.begun(chat, time.monotonic())
        try:
            return await self._bot.send(chat, html, silent=silent, buttons=buttons)
        except TelegramRefused as refused:
            if refused.retry_after is not None:
                log.warning("telegram asks to wait", seconds=refused.retry_after)
                self._pace.hold(chat, time.monotonic() + min(refused.retry_after, _LONGEST_ASKED))
            raise
        finally:
            self._pace.ended(chat, time.monotonic())
