"""CPU time of the client of Crypto.com per order: body, signature, request, answer; over real sockets on this machine.

The server is a process of its own and answers at once. Rounds alternate with the floor, a bare aiohttp request of the
same size, and with ccxt where it is installed (it is a tool of the tests). CPU time is the process's own, so other load
shows little.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from bench.rows import Row
from domain.orders import OrderType, Side
from exchange.cryptocom import CryptocomConfig, CryptocomExchange
from exchange.port import OrderRequest

__all__ = ["cryptocom"]

Say = Callable[[str], None]

_KEY, _SECRET = "bench-key", "bench-secret"
_MOST_MS = 0.6


async def cryptocom(say: Say, *, quick: bool) -> list[Row]:
    """The adapter's CPU time per order, beside a bare request and ccxt."""
    orders, rounds = (100, 3) if quick else (400, 9)
    say(f"Crypto.com's client: {rounds} times {orders} orders, beside a bare request and ccxt")
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    server.start()
    try:
        port = await asyncio.to_thread(here.recv)
        url = f"http://127.0.0.1:{port}/exchange/v1"
        return await _measured(url, orders, rounds)
    finally:
        server.terminate()
        server.join()


async def _measured(url: str, orders: int, rounds: int) -> list[Row]:
    exchange = CryptocomExchange(CryptocomConfig(rest_url=url, key_name=_KEY, key_secret=_SECRET, share=0))
    request = OrderRequest(
        "c" * 34,
        "CRO_USD",
        Side.BUY,
        OrderType.LIMIT,
        base_size=Decimal(20),
        limit_price=Decimal("0.06"),
        post_only=True,
    )
    bare = orjson.dumps({"id": 1, "params": dict(exchange.order_body(request)), "sig": "0" * 64})
    async with aiohttp.ClientSession() as session:

        async def floor() -> None:
            async with session.post(f"{url}/private/create-order", data=bare) as answer:
                orjson.loads(await answer.read())

        async def ours() -> None:
            await exchange.submit(exchange.order_body(request))

        ways: dict[str, Callable[[], Awaitable[None]]] = {"floor": floor, "ours": ours}
        rival = _ccxt(url) if find_spec("ccxt") is not None else None
        if rival is not None:
            ways["ccxt"] = rival[0]
        times: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            await _cpu(way, 20)
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(await _cpu(way, orders))
        if rival is not None:
            await rival[1]()
    await exchange.close()
    ours_ms, floor_ms = (statistics.median(times[name]) for name in ("ours", "floor"))
    note = f"ccxt {statistics.median(times['ccxt']):.2f} ms" if "ccxt" in times else "ccxt isn't installed"
    return [
        Row(
            what="an order at Crypto.com: the client's CPU time",
            unit="ms",
            p50=ours_ms,
            p99=max(times["ours"]),
            floor=floor_ms,
            ratio=ours_ms / floor_ms,
            aim=f"<= {_MOST_MS:g} ms",
            ok=ours_ms <= _MOST_MS,
            note=f"{note}; the floor is a bare aiohttp request",
        )
    ]


async def _cpu(way: Callable[[], Awaitable[None]], orders: int) -> float:
    """Milliseconds of this process's CPU time per order."""
    began = time.process_time()
    for _ in range(orders):
        await way()
    return (time.process_time() - began) / orders * 1e3


def _ccxt(url: str) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """An order by ccxt, and how to end it."""
    import ccxt.async_support  # noqa: PLC0415 - takes a second, and only here

    client: Any = ccxt.async_support.cryptocom({"apiKey": _KEY, "secret": _SECRET, "enableRateLimit": False})
    client.urls["api"]["v1"] = url
    client.set_markets([
        client.safe_market_structure({
            "id": "CRO_USD", "symbol": "CRO/USD", "base": "CRO", "quote": "USD", "baseId": "CRO", "quoteId": "USD",
            "type": "spot", "spot": True, "precision": {"amount": 1, "price": 0.00001},
        })
    ])  # fmt: skip
    params = {"client_oid": "c" * 34, "postOnly": True}

    async def order() -> None:
        await client.create_order("CRO/USD", "limit", "buy", 20, 0.06, params)

    return order, client.close


def _serve(there: Connection) -> None:
    """Answer every order with an id."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        body = {"id": 1, "method": "private/create-order", "code": 0, "result": {"order_id": "6142909983343463179"}}
        return web.json_response(body)

    async def run() -> None:
        application = web.Application()
        application.router.add_post("/exchange/v1/{method:.+}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        there.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())
