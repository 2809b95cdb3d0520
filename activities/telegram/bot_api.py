"""The few methods of Telegram's Bot API that we use. The address of each holds the bot's token, so no error has it.

Whatever a library raises is replaced by an error of ours without its text: aiohttp's messages may contain the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from activities.secret_values import hide, without_secrets
from domain.errors import InternalSignal

__all__ = ["BotApi", "Button", "TelegramAway", "TelegramRefused", "Update"]

Update = dict[str, Any]
"""A message or a pressed button, as Telegram sends it."""

Button = tuple[str, str]
"""A button below a message: its text, and the key that comes back when it is pressed (at most 64 bytes)."""

_SECONDS = 15.0
_LONGEST_REASON = 200


class TelegramAway(InternalSignal):
    """No answer of Telegram: whether a request was taken is not known."""


class TelegramRefused(InternalSignal):
    """Telegram's answer is no. `retry_after`: seconds to wait, if it said so."""

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def token_refused(self) -> bool:
        """Whether Telegram knows no bot with this token: 404 is its answer to one that can't be any bot's."""
        return self.status in (401, 404)


class BotApi:
    """One bot. Every method raises TelegramAway and TelegramRefused; use it as an async context manager.

    Args:
        token: the bot's; it is removed from all logs of this process from now on.
        address: of the Bot API, such as https://api.telegram.org.
    """

    def __init__(self, token: str, address: str) -> None:
        hide([token, token.partition(":")[2]])
        self._address = f"{address.rstrip('/')}/bot{token}/"
        self._session: aiohttp.ClientSession | None = None
        self.bot = int(token.partition(":")[0])
        """The bot's own id, which is no secret."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def name(self) -> str:
        """The bot's user name, by which a group addresses it (/status@name)."""
        return str((await self._ask("getMe"))["username"])

    async def delete_webhook(self) -> None:
        """Have updates kept for `updates`: while an address for them is set, Telegram sends them there. Loses none."""
        await self._ask("deleteWebhook", drop_pending_updates=False)

    async def updates(self, offset: int | None, wait_seconds: int) -> list[Update]:
        """The messages and pressed buttons from number `offset` on; those before it are forgotten by Telegram.

        Waits up to `wait_seconds` for the first one.
        """
        found: list[Update] = await self._ask(
            "getUpdates",
            seconds=wait_seconds + _SECONDS,
            timeout=wait_seconds,
            allowed_updates=["message", "callback_query"],
            offset=offset,
        )
        return found

    async def send(self, chat: int, html: str, *, silent: bool = False, buttons: Sequence[Button] = ()) -> int:
        """Send a message; returns its number in the chat."""
        found = await self._ask(
            "sendMessage",
            chat_id=chat,
            text=html,
            parse_mode="HTML",
            disable_notification=silent,
            link_preview_options={"is_disabled": True},
            reply_markup=_keyboard(buttons) if buttons else None,
        )
        return int(found["message_id"])

    async def take_buttons(self, chat: int, message: int) -> None:
        """Remove the buttons below a message."""
        await self._ask("editMessageReplyMarkup", chat_id=chat, message_id=message, reply_markup=_keyboard(()))

    async def answer_press(self, press: str, text: str) -> None:
        """Tell whoever pressed a button, on the phone's edge; `press` is the id of the press."""
        await self._ask("answerCallbackQuery", callback_query_id=press, text=text[:200])

    async def _ask(self, method: str, *, seconds: float = _SECONDS, **given: object) -> Any:
        """The result of a method, asked with those of the parameters that are not None."""
        if self._session is None:
            raise RuntimeError("the bot is used outside of its context")
        known = {name: value for name, value in given.items() if value is not None}
        try:
            async with self._session.post(
                self._address + method, json=known, timeout=aiohttp.ClientTimeout(total=seconds), allow_redirects=False
            ) as answer:
                status, raw = answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise TelegramAway(type(error).__name__) from None
        return _result(status, raw)


def _result(status: int, raw: bytes) -> object:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise TelegramAway(f"an answer that is not JSON, status {status}") from None
    if not isinstance(found, Mapping):
        raise TelegramAway(f"an answer that is no object, status {status}")
    if found.get("ok") is True and "result" in found:
        return found["result"]
    code = int(found.get("error_code", status))
    if code >= 500:
        raise TelegramAway(f"status {code}")
    parameters = found.get("parameters") or {}
    after = parameters.get("retry_after") if isinstance(parameters, Mapping) else None
    reason = without_secrets(str(found.get("description", "no reason given")))[:_LONGEST_REASON]
    raise TelegramRefused(code, reason, None if after is None else float(after))


def _keyboard(buttons: Sequence[Button]) -> dict[str, object]:
    """One button a row."""
    return {"inline_keyboard": [[{"text": text, "callback_data": key}] for text, key in buttons]}
