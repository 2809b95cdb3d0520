"""A client of Crypto.com Exchange v1 for tests of the paper exchange: it signs by the document and adds nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from exchange.paper import PaperExchange

__all__ = ["SignedSession", "SigningClient", "signed", "written"]

Body = dict[str, Any]


def written(value: Any) -> str:
    """Parameters as they are signed: keys in order, each before its value; lists one after the other."""
    if isinstance(value, Mapping):
        return "".join(key + written(value[key]) for key in sorted(value))
    if isinstance(value, list):
        return "".join(written(item) for item in value)
    return "null" if value is None else str(value)


def signed(method: str, request_id: Any, params: Any, nonce: Any, key: Mapping[str, str]) -> str:
    """The signature of a request with an API key of `api_key` and `secret_key`."""
    payload = f"{method}{request_id}{key['api_key']}{written(params)}{nonce}"
    return hmac.new(key["secret_key"].encode(), payload.encode(), hashlib.sha256).hexdigest()


class SigningClient:
    """REST of a paper exchange. `call` gives status and body of a private method, `read` those of a public one."""

    def __init__(self, paper: PaperExchange) -> None:
        self._url = f"https://{paper.rest_address}/exchange/v1/"
        self.key: dict[str, str] = json.loads(paper.key_file.read_text(encoding="utf-8"))
        self._ids = itertools.count(1)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def envelope(self, method: str, params: Any, **changed: Any) -> Body:
        """A signed envelope; `changed` fields are signed as they are, None leaves one out."""
        body: Body = {
            "id": next(self._ids),
            "method": method,
            "params": {} if params is None else params,
            "api_key": self.key["api_key"],
            "nonce": time.time_ns() // 10**6,
        }
        body.update(changed)
        body.setdefault("sig", signed(method, body["id"], body["params"], body["nonce"], self.key))
        return {name: value for name, value in body.items() if value is not None}

    async def call(self, method: str, params: Any = None, **changed: Any) -> tuple[int, Body]:
        """HTTP status and body of a private method."""
        return await self.send(method, self.envelope(method, params, **changed))

    async def send(self, method: str, body: Any) -> tuple[int, Body]:
        """HTTP status and body after posting `body` as it is."""
        async with self._session.post(self._url + method, json=body) as response:
            return response.status, json.loads(await response.text())

    async def raw(self, verb: str, method: str, body: Any = None) -> tuple[int, str, str]:
        """HTTP status, content type and text of any request."""
        async with self._session.request(verb, self._url + method, json=body) as response:
            return response.status, response.content_type, await response.text()

    async def read(self, method: str, **query: Any) -> tuple[int, Body]:
        """HTTP status and body of a public method."""
        async with self._session.get(self._url + method, params=query) as response:
            return response.status, json.loads(await response.text())

    async def result(self, method: str, params: Any = None) -> Any:
        """The result of a private method that succeeds."""
        status, body = await self.call(method, params)
        assert (status, body["code"]) == (200, 0), (method, status, body)
        return body.get("result")


class SignedSession:
    """One stream connection. `messages` are all that came, heartbeats excepted, which it answers while `lives`."""

    def __init__(self, url: str, key: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._key = key
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.messages: list[Body] = []
        self.heartbeats: list[int] = []
        self.lives = True
        self.broken = 0
        """Frames that were not JSON."""
        self.close_code: int | None = None
        self.closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        self.socket = await self._session.ws_connect(self._url, max_msg_size=1 << 26)
        self._reader = asyncio.create_task(self._read())
        if self._key is not None:
            assert (await self.ask("public/auth"))["code"] == 0
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
                body = json.loads(message.data)
            except json.JSONDecodeError:
                self.broken += 1
                continue
            if body.get("method") == "public/heartbeat":
                self.heartbeats.append(body["id"])
                if self.lives:
                    await self.socket.send_json({"id": body["id"], "method": "public/respond-heartbeat"})
            else:
                self.messages.append(body)
            self._news.set()

    async def ask(self, method: str, params: Any = None, **changed: Any) -> Body:
        """The reply to a request (the first one, where a subscription has several)."""
        body: Body = {"id": next(self._ids), "method": method, "nonce": time.time_ns() // 10**6}
        if params is not None:
            body["params"] = params
        if method == "public/auth" and self._key is not None:
            body["api_key"] = self._key["api_key"]
            body["sig"] = signed(method, body["id"], {}, body["nonce"], self._key)
        body.update(changed)
        await self.socket.send_json({name: value for name, value in body.items() if value is not None})
        return await self.until(lambda one: one["id"] == body["id"])

    async def subscribe(self, *channels: str, **params: Any) -> Body:
        """The first reply to a subscription."""
        return await self.ask("subscribe", {"channels": list(channels), **params})

    async def until(self, wanted: Callable[[Body], bool], seconds: float = 40) -> Body:
        """The first message, also an earlier one, for which `wanted` is true. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while True:
                found = next((one for one in self.messages if wanted(one)), None)
                if found is not None:
                    return found
                self._news.clear()
                await self._news.wait()

    def rows(self, channel: str) -> list[Body]:
        """All rows of a subscription after its first reply, oldest first."""
        return [
            row
            for one in self.messages
            if one["id"] == -1 and one.get("result", {}).get("subscription") == channel
            for row in one["result"]["data"]
        ]

    async def row(self, channel: str, wanted: Callable[[Body], bool], seconds: float = 40) -> Body:
        """The first row of a subscription for which `wanted` is true. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while True:
                found = next((row for row in self.rows(channel) if wanted(row)), None)
                if found is not None:
                    return found
                self._news.clear()
                await self._news.wait()
