"""For tests against a paper exchange: a plain stream client that keeps its messages and waits for more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from coinbase.jwt_generator import build_ws_jwt

__all__ = ["StreamClient"]

Message = dict[str, Any]


class StreamClient:
    """One stream connection. `messages` are all JSON messages so far; `broken` counts frames that were not JSON."""

    def __init__(self, url: str, key_file: Path | None = None) -> None:
        self._url = url
        self._key = json.loads(key_file.read_text(encoding="utf-8")) if key_file is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.messages: list[Message] = []
        self.broken = 0
        self.close_code: int | None = None
        self.closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        try:
            self.socket = await self._session.ws_connect(self._url, max_msg_size=1 << 26)
        except aiohttp.ClientError:
            await self._session.close()
            raise
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                self.close_code = self.socket.close_code
                self.closed.set()
                return
            try:
                self.messages.append(json.loads(message.data))
            except json.JSONDecodeError:
                self.broken += 1
            self._news.set()

    async def subscribe(self, channel: str, products: Iterable[str] = (), kind: str = "subscribe") -> None:
        """Send one subscription message, signed if this client has a key."""
        body: Message = {"type": kind, "product_ids": list(products), "channel": channel}
        if self._key is not None:
            body["jwt"] = build_ws_jwt(self._key["name"], self._key["privateKey"])
        await self.socket.send_json(body)

    async def until(self, enough: Callable[[list[Message]], bool], seconds: float = 10) -> list[Message]:
        """All messages, as soon as `enough` of them is true. Raises `TimeoutError` after `seconds`."""
        async with asyncio.timeout(seconds):
            while not enough(self.messages):
                self._news.clear()
                await self._news.wait()
        return self.messages

    def on(self, channel: str) -> list[Message]:
        """The messages of one channel."""
        return [message for message in self.messages if message.get("channel") == channel]

    def orders(self, order_id: str | None = None) -> list[Message]:
        """All order states of the user channel, oldest first."""
        return [
            order
            for message in self.on("user")
            for event in message["events"]
            for order in event["orders"]
            if order_id in (None, order["order_id"])
        ]
