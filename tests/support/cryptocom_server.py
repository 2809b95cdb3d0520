"""A small server that speaks Crypto.com's frames as its documents have them, scripted by a test.

It holds no market: each method answers with what the test set. Signatures, ids, nonces and the split of GET and POST
are checked as the venue does, so that a client that signs wrongly gets no answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

__all__ = ["KEY", "SECRET", "CryptocomServer", "Reply", "Socket", "serving"]

KEY, SECRET = "test-key", "test-secret"


def _written(value: Any) -> str:
    """A value as the documents' code writes it into the signed text."""
    if isinstance(value, dict):
        return "".join(name + _written(value[name]) for name in sorted(value))
    if isinstance(value, list):
        return "".join(_written(item) for item in value)
    return "null" if value is None else str(value)


def signature(message: dict[str, Any]) -> str:
    """What a request has to be signed with."""
    text = f"{message['method']}{message['id']}{KEY}{_written(message.get('params', {}))}{message['nonce']}"
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Reply:
    """An answer: a result, or a code that says no; or a body that is neither."""

    result: Any = None
    code: int = 0
    status: int = 200
    message: str = ""
    body: str | None = None
    cut: bool = False
    """The connection is cut instead of an answer."""
    wait: asyncio.Event | None = None
    """The answer comes only after this."""


Script = Reply | Callable[[dict[str, Any]], Reply]


class Socket:
    """One WebSocket connection: what was received, and sending."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.received: list[dict[str, Any]] = []

    async def send(self, **message: Any) -> None:
        """A frame."""
        await self.socket.send_str(json.dumps(message))

    async def push(self, channel: str, *data: Any, **more: Any) -> None:
        """What a channel has to tell, without an id of a request."""
        result = {"subscription": channel, "channel": channel, "data": list(data), **more}
        await self.send(id=-1, method="subscribe", code=0, result=result)


@dataclass
class CryptocomServer:
    """All state is public, for tests to set and read."""

    ahead: float = 0.0
    """Seconds by which the server's clock is ahead of ours."""
    scripts: dict[str, Script] = field(default_factory=dict)
    requests: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    sockets: list[Socket] = field(default_factory=list)
    snapshots: dict[str, list[Any]] = field(default_factory=dict)
    """What a channel answers a subscription with; without one it is only confirmed."""
    refused: dict[str, int] = field(default_factory=dict)
    """Channels, or public/auth, that are refused with this code."""
    url: str = ""

    def params(self, method: str) -> list[dict[str, Any]]:
        """The parameters of a method's requests, in order."""
        return [request["params"] for request in self.requests[method]]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A request over HTTP."""
        method = request.match_info["method"]
        if method.startswith("public/"):
            message: dict[str, Any] = {"id": -1, "method": method, "params": dict(request.query)}
            wrong = None if request.method == "GET" else Reply(code=50001, status=400)
        else:
            message = await request.json() if request.method == "POST" else {}
            wrong = self._wrong(message, method)
        self.requests[method].append(message)
        reply = wrong or self.scripts.get(method, Reply(code=40002, status=400, message="METHOD_NOT_FOUND"))
        if callable(reply):
            reply = reply(message["params"])
        return await self._answer(request, message, reply)

    def _wrong(self, message: dict[str, Any], method: str) -> Reply | None:
        if not message:
            return Reply(code=40003, status=400)
        if type(message.get("id")) is not int or message.get("method") != method or "params" not in message:
            return Reply(code=40001, status=400, message="BAD_REQUEST")
        if message.get("api_key") != KEY or message.get("sig") != signature(message):
            return Reply(code=40101, status=401, message="UNAUTHORIZED")
        if abs(message["nonce"] / 1000 - time.time() - self.ahead) > 60:
            return Reply(code=40102, status=400, message="INVALID_NONCE")
        return None

    async def _answer(self, request: web.Request, message: dict[str, Any], reply: Reply) -> web.StreamResponse:
        if reply.wait is not None:
            await reply.wait.wait()
        if reply.cut:
            assert request.transport is not None
            request.transport.abort()
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + self.ahead))
        if reply.body is not None:
            return web.Response(status=reply.status, text=reply.body, headers={"Date": date})
        body = {"id": message.get("id", -1), "method": message.get("method"), "code": reply.code}
        body |= {"message": reply.message} if reply.code else {"result": reply.result or {}}
        return web.json_response(body, status=reply.status, headers={"Date": date})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """A WebSocket connection: log-in and subscriptions are answered, everything else is kept."""
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        side = Socket(socket)
        self.sockets.append(side)
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                break
            message = json.loads(frame.data)
            side.received.append(message)
            await self._reply(side, message)
        return socket

    async def _reply(self, side: Socket, message: dict[str, Any]) -> None:
        method, identity = message["method"], message["id"]
        if method == "public/auth":
            code = self.refused.get(method, 0 if message["sig"] == signature(message) else 40101)
            await side.send(id=identity, method=method, code=code)
        elif method == "subscribe":
            for channel in message["params"]["channels"]:
                if channel in self.refused:
                    await side.send(id=identity, method=method, code=self.refused[channel], message="NO_CHANNEL")
                elif channel in self.snapshots:
                    result = {"subscription": channel, "channel": channel, "data": self.snapshots[channel]}
                    await side.send(id=identity, method=method, code=0, result=result)
                else:
                    await side.send(id=identity, method=method, code=0)


@asynccontextmanager
async def serving(server: CryptocomServer) -> AsyncIterator[CryptocomServer]:
    """The server on a free port of this machine."""
    application = web.Application()
    application.router.add_get("/stream/{kind}", server.stream)
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]] = server.handle
    application.router.add_route("*", "/exchange/v1/{method:.+}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
