"""A Telegram of the tests' own: the Bot API over real sockets, with its limits, and a person who sends commands.

It answers form fields and JSON, as the real one does: `{"ok": true, "result": …}`, or `{"ok": false, "error_code": …,
"description": …, "parameters": …}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

__all__ = ["BOT", "TOKEN", "FakeTelegram", "SentMessage", "fake_telegram"]

BOT = 123456
TOKEN = f"{BOT}:AAtests-own-token_0123456789abcdef"
_LONGEST = 4096
_TAGS = re.compile(r"</?(?:b|i|code)>")


@dataclass
class SentMessage:
    """A message that the bot sent. `at` is monotonic, when it arrived."""

    number: int
    chat: int
    text: str
    silent: bool
    buttons: list[tuple[str, str]]
    at: float

    @property
    def key(self) -> str:
        """What its only button sends when it is pressed."""
        assert len(self.buttons) == 1, self.text
        return self.buttons[0][1]


@dataclass
class FakeTelegram:
    """The server. `away`: it answers nothing that makes sense; `strict`: more than a message a second in a chat, or
    twenty a minute in a group, is refused with 429.
    """

    port: int = 0
    away: bool = False
    strict: bool = False
    webhook: str = ""
    name: str = "tests_own_bot"
    other_poller: bool = False
    """Another program asks for updates: each request of ours ends with 409."""
    refuse_next: deque[tuple[int, str, dict[str, Any]]] = field(default_factory=deque)
    """The next messages are refused so: code, description, parameters."""
    stuck: Callable[[str, dict[str, Any]], bool] = field(default=lambda _method, _given: False)
    """Which requests, of a method with what is given, get no answer before `go_on`."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[SentMessage] = field(default_factory=list)
    edge: list[str] = field(default_factory=list)
    """What was shown at the edge of the phone after a button was pressed."""
    refused: int = 0
    asked: list[str] = field(default_factory=list)
    """Methods that were asked for, in order."""
    confirmed: int = 0
    """Updates below this number are forgotten, as the bot asked for later ones."""
    doubled: list[dict[str, Any]] = field(default_factory=list)
    """Updates that are to be delivered once more."""
    _updates: list[dict[str, Any]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _update_numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(9000))
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        """For the setting telegram.server."""
        return f"http://127.0.0.1:{self.port}"

    def to(self, chat: int) -> list[str]:
        """The texts sent to a chat."""
        return [message.text for message in self.sent if message.chat == chat]

    # --- what people do -----------------------------------------------------------------------------------------------

    def says(self, user: int, text: str, *, chat: int | None = None, ago: float = 0.0, **more: Any) -> int:
        """A user sends a message, `ago` seconds before now; returns the update's number."""
        message = {
            "message_id": next(self._numbers),
            "from": {"id": user, "is_bot": False, "first_name": "Ann"},
            "chat": {"id": user if chat is None else chat, "type": "private" if chat is None else "group"},
            "date": int(time.time() - ago),
            "text": text,
            **more,
        }
        return self.update(message=message)

    def presses(self, user: int, message: SentMessage, *, key: str | None = None, number: int | None = None) -> int:
        """A user presses a message's button; returns the update's number."""
        shown = {"message_id": number or message.number, "chat": {"id": message.chat}, "date": int(time.time())}
        return self.update(
            callback_query={
                "id": f"press-{next(self._numbers)}",
                "from": {"id": user, "is_bot": False},
                "message": shown,
                "data": message.key if key is None else key,
            }
        )

    def update(self, **what: Any) -> int:
        """An update for the bot; returns its number."""
        number = next(self._update_numbers)
        self._updates.append({"update_id": number, **what})
        self._news.set()
        return number

    def again(self, number: int) -> None:
        """Telegram delivers an update once more, although later ones were asked for."""
        self.doubled += [update for update in self._updates if update["update_id"] == number]
        self._news.set()

    # --- the server ---------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        """One request."""
        method = request.match_info["method"]
        if self.away:
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        if request.match_info["token"] != TOKEN:
            return _no(401, "Unauthorized")
        raw = await request.read()
        if request.content_type == "application/json":
            given = json.loads(raw or b"{}")
        else:
            given = {name: _from_field(value) for name, value in (await request.post()).items()}
        self.asked.append(method)
        action = getattr(self, f"_{method}", None)
        if action is None:
            return _no(404, "Not Found: method not found")
        if self.stuck(method, given):
            await self.go_on.wait()
        answer: web.Response = await action(given)
        return answer

    async def _getMe(self, _given: dict[str, Any]) -> web.Response:  # noqa: N802 - the method's name
        return _yes({"id": BOT, "is_bot": True, "username": self.name})

    async def _deleteWebhook(self, given: dict[str, Any]) -> web.Response:  # noqa: N802
        assert given["drop_pending_updates"] is False
        self.webhook = ""
        return _yes(True)

    async def _getUpdates(self, given: dict[str, Any]) -> web.Response:  # noqa: N802
        if self.webhook:
            return _no(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook first")
        if self.other_poller:
            return _no(409, "Conflict: terminated by other getUpdates request; make sure that only one bot is running")
        if "offset" in given:
            self.confirmed = max(self.confirmed, int(given["offset"]))
        deadline = time.monotonic() + float(given.get("timeout", 0))
        while True:
            self._news.clear()
            found = [update for update in self._updates if update["update_id"] >= self.confirmed][:100]
            found, self.doubled = [*self.doubled, *found], []
            left = deadline - time.monotonic()
            if found or left <= 0 or self.away:
                return _yes(found)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, 0.2))

    async def _sendMessage(self, given: dict[str, Any]) -> web.Response:  # noqa: N802
        chat, text = int(given["chat_id"]), str(given["text"])
        if self.refuse_next:
            self.refused += 1
            code, description, parameters = self.refuse_next.popleft()
            return _no(code, description, parameters)
        if self.strict and (wait := self._too_fast(chat)):
            self.refused += 1
            return _no(429, f"Too Many Requests: retry after {wait}", {"retry_after": wait})
        if len(text.encode("utf-16-le")) // 2 > _LONGEST:
            return _no(400, "Bad Request: message is too long")
        if given.get("parse_mode") == "HTML" and re.search(r"<|&(?!(?:lt|gt|amp|quot);)", _TAGS.sub("", text)):
            return _no(400, "Bad Request: can't parse entities")
        keyboard = (given.get("reply_markup") or {}).get("inline_keyboard", [])
        buttons = [(button["text"], button["callback_data"]) for row in keyboard for button in row]
        assert all(len(key.encode()) <= 64 for _, key in buttons)
        number = next(self._numbers)
        silent = bool(given.get("disable_notification"))
        self.sent.append(SentMessage(number, chat, text, silent, buttons, time.monotonic()))
        return _yes({"message_id": number, "chat": {"id": chat}, "date": int(time.time()), "text": text})

    def _too_fast(self, chat: int) -> int:
        now = time.monotonic()
        times = [message.at for message in self.sent if message.chat == chat]
        if times and now - times[-1] < 1.0:
            return 1
        if chat < 0 and len(times) >= 20 and now - times[-20] < 60.0:
            return int(60.0 - (now - times[-20])) + 1
        return 0

    async def _editMessageReplyMarkup(self, given: dict[str, Any]) -> web.Response:  # noqa: N802
        for message in self.sent:
            if (message.chat, message.number) == (given["chat_id"], given["message_id"]):
                message.buttons = []
                return _yes(True)
        return _no(400, "Bad Request: message to edit not found")

    async def _answerCallbackQuery(self, given: dict[str, Any]) -> web.Response:  # noqa: N802
        self.edge.append(given["text"])
        return _yes(True)


def _from_field(value: object) -> Any:
    """A form's field as JSON has it, where it is JSON."""
    try:
        return json.loads(str(value))
    except json.JSONDecodeError:
        return value


def _yes(result: Any) -> web.Response:
    return web.json_response({"ok": True, "result": result})


def _no(code: int, description: str, parameters: dict[str, Any] | None = None) -> web.Response:
    body = {"ok": False, "error_code": code, "description": description}
    return web.json_response(body | ({"parameters": parameters} if parameters else {}), status=code)


@contextlib.asynccontextmanager
async def fake_telegram(port: int = 0) -> AsyncIterator[FakeTelegram]:
    """A listening server."""
    found = FakeTelegram()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()
