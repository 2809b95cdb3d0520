"""Prices from the venue's real public stream, for paper trading on the live market."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

import aiohttp
import orjson

from exchange.paper.candles import Candle
from exchange.paper.config import Live
from exchange.paper.errors import PaperError
from exchange.paper.market import Market, Tick
from exchange.paper.products import Product

_CONNECT_SECONDS = 8.0
_IDLE_SECONDS = 90.0
_LONGEST_PAUSE = 30.0


class LiveTicks:
    """A connection to the public feed that feeds its tickers and trades to a `Market`, and reconnects by itself."""

    def __init__(self, products: Mapping[str, Product], settings: Live) -> None:
        self._products = products
        self._url = settings.url
        self._prices: dict[str, Decimal] = {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect and wait for the first price of every product. Raises `PaperError` where that fails."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._open()
                while set(self._prices) != set(self._products):
                    for tick in await self._receive():
                        self._prices.setdefault(tick.product_id, tick.price)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await self.stop()
            missing = sorted(set(self._products) - set(self._prices))
            why = f"no price of {missing[0]} came" if self._prices else "there may be no network"
            raise PaperError(
                "LIVE_UNREACHABLE",
                f"No live prices from {self._url}: {why}. Use generated prices or a price file instead.",
            ) from error

    def first_prices(self) -> Mapping[str, Decimal]:
        """The first live price of each product."""
        return self._prices

    def history(self) -> Mapping[str, list[Candle]]:
        """None: it is generated backwards from the live price."""
        return {}

    def ticks(self) -> Iterator[Tick]:
        """None in advance: they are pushed as they come in."""
        return iter(())

    def start(self, market: Market) -> None:
        """Feed `market` until stopped."""
        self._task = asyncio.create_task(self._run(market))

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(self._url, max_msg_size=1 << 26)
        for channel in ("ticker", "market_trades", "heartbeats"):
            await self._socket.send_json({"type": "subscribe", "product_ids": list(self._products), "channel": channel})

    async def _receive(self) -> list[Tick]:
        if self._socket is None:
            raise ConnectionError("not connected")
        message = await self._socket.receive(timeout=_IDLE_SECONDS)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError("the feed closed the connection")
        try:
            return list(self._parse(orjson.loads(message.data)))
        except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
            return []

    def _parse(self, message: Mapping[str, list[dict[str, list[dict[str, str]]]]]) -> Iterator[Tick]:
        at = time.time()
        for event in message.get("events", ()):
            for item in event.get("tickers", ()):
                if item["product_id"] not in self._prices:
                    yield Tick(at, item["product_id"], Decimal(item["price"]))
            if event.get("type") == "update":  # type: ignore[comparison-overlap]
                for item in reversed(event.get("trades", ())):
                    yield Tick(at, item["product_id"], Decimal(item["price"]), Decimal(item["size"]))

    async def _run(self, market: Market) -> None:
        failures = 0
        dice = random.Random()
        while True:
            try:
                for tick in await self._receive():
                    if tick.product_id in self._products:
                        market.live(tick)
                failures = 0
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(dice.uniform(0, min(2.0**failures, _LONGEST_PAUSE)))
                failures += 1
                try:
                    async with asyncio.timeout(_CONNECT_SECONDS):
                        await self._open()
                except (aiohttp.ClientError, OSError, TimeoutError):
                    continue
