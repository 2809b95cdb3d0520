"""Prices from the venue's real public stream, for paper trading on the live market.

Quotes are the real ones, and resting orders fill by the real trades (`fills` says how). While the feed is unavailable,
so is the paper exchange: a market order at an old price would make money that nobody could make. A product that the
feed doesn't have is not traded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import aiohttp
import orjson

from domain.errors import InternalSignal
from exchange.paper.candles import MINUTE, Pace, PaperCandle
from exchange.paper.config import Live
from exchange.paper.errors import PaperError
from exchange.paper.market import Market, Tick
from exchange.paper.orders import Side
from exchange.paper.products import PaperProduct

__all__ = ["LiveTicks"]

_CONNECT_SECONDS = 8.0
_IDLE_SECONDS = 15.0
"""The feed sends a heartbeat each second: after this many seconds of silence the connection is dead."""
_LONGEST_PAUSE = 30.0
_CHANNELS = ("ticker", "market_trades", "heartbeats")
_HISTORY_SECONDS = 300
_HISTORY_CANDLES = 350
_HISTORY_PAUSE = 0.15  # the venue's public limit is 10 requests a second
_HISTORY_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class LiveQuote:
    """The real touch: prices in quote, sizes in base currency. `last` trade only if trades may have been missed."""

    product_id: str
    bid: Decimal
    ask: Decimal
    sizes: tuple[Decimal, Decimal]
    last: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Print:
    """A real trade: the taker bought (or sold) `size` base at `price`."""

    product_id: str
    price: Decimal
    size: Decimal
    aggressor: Side


class _Refused(InternalSignal):
    """The feed's first message was an error."""


class LiveTicks:
    """A connection to the public feed that feeds its quotes and trades to a `Market`, and reconnects by itself.

    `left_out` are products without a price in the feed.
    """

    def __init__(self, products: Mapping[str, PaperProduct], settings: Live) -> None:
        self._products = dict(products)
        self._settings = settings
        self._quotes: dict[str, LiveQuote] = {}
        self._history: dict[str, list[PaperCandle]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self.left_out: tuple[str, ...] = ()

    async def connect(self) -> None:
        """Connect and wait for the first quotes and the earlier candles.

        Raises `PaperError` if no product has a price.
        """
        why = "there may be no network"
        try:
            await self._open()
        except _Refused as refusal:
            why = f"it refuses ({refusal})"
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        if not self._quotes:
            await self.stop()
            raise PaperError(
                "LIVE_UNREACHABLE",
                f"No live prices from {self._settings.url}: {why}. "
                "Without --live (of up: --live-prices) prices are generated.",
            )
        self.left_out = tuple(sorted(set(self._products) - set(self._quotes)))
        self._products = {name: row for name, row in self._products.items() if name in self._quotes}
        await self._read_history()

    def first_prices(self) -> Mapping[str, Decimal]:
        """The first live price of each product that the feed has."""
        return {name: quote.last or quote.bid for name, quote in self._quotes.items()}

    def history(self) -> Mapping[str, list[PaperCandle]]:
        """Earlier five-minute candles, their times relative to now; empty if they can't be fetched, never generated."""
        return {name: self._history.get(name, []) for name in self._products}

    def pace(self, product_id: str, most: float) -> Pace:
        """Unknown in advance, and no history is generated from it."""
        return Pace(MINUTE, most)

    def ticks(self) -> Iterator[Tick]:
        """None in advance: they are pushed as they arrive."""
        return iter(())

    def start(self, market: Market, away: Callable[[bool], None]) -> None:
        """Feed `market` until stopped; `away` is called when the feed is lost and when it is back."""
        for quote in self._quotes.values():
            _apply(market, quote)
        self._task = asyncio.create_task(self._run(market, away))

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # -- the connection ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Connect, subscribe, and read until every product has a quote of this connection.

        A product that the feed refuses by name is not subscribed to again. Raises `TimeoutError` if some have no quote
        in time; those received are recorded.
        """
        wanted = dict(self._products)
        self._quotes = {}
        async with asyncio.timeout(_CONNECT_SECONDS):
            while wanted:
                try:
                    return await self._subscribe(wanted)
                except _Refused as refusal:
                    named = [name for name in wanted if name in str(refusal)]
                    if not named:
                        raise
                    for name in named:
                        del wanted[name]
            raise _Refused("it has none of the products")

    async def _subscribe(self, wanted: Mapping[str, PaperProduct]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        if self._socket is not None:
            await self._socket.close()
        self._socket = await self._session.ws_connect(self._settings.url, max_msg_size=1 << 26)
        for channel in _CHANNELS:
            await self._socket.send_json({"type": "subscribe", "product_ids": list(wanted), "channel": channel})
        while not set(wanted) <= set(self._quotes):
            for item in await self._receive():
                if isinstance(item, LiveQuote):
                    self._quotes[item.product_id] = item

    async def _receive(self) -> list[LiveQuote | Print]:
        if self._socket is None:
            raise ConnectionError("not connected")
        message = await self._socket.receive(timeout=_IDLE_SECONDS)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError("the feed closed the connection")
        try:
            body = orjson.loads(message.data)
            if body.get("type") == "error":
                raise _Refused(str(body.get("message")))
            return [item for item in _parse(body) if item.product_id in self._products]
        except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
            return []

    async def _run(self, market: Market, away: Callable[[bool], None]) -> None:
        failures = 0
        dice = random.Random()
        while True:
            try:
                for item in await self._receive():
                    _apply(market, item)
                market.publish()
                failures = 0
            except (aiohttp.ClientError, OSError, TimeoutError, _Refused):
                away(True)
                await self._reopen(dice.uniform(0, min(2.0**failures, _LONGEST_PAUSE)))
                failures += 1
                if self._quotes:
                    for quote in self._quotes.values():
                        _apply(market, quote)
                    away(False)

    async def _reopen(self, pause: float) -> None:
        await asyncio.sleep(pause)
        with suppress(aiohttp.ClientError, OSError, TimeoutError, _Refused):
            await self._open()

    # -- earlier candles ---------------------------------------------------------------------------------

    async def _read_history(self) -> None:
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(_HISTORY_PATIENCE):
                for name in self._products:
                    self._history[name] = await self._candles(name)
                    await asyncio.sleep(_HISTORY_PAUSE)

    async def _candles(self, name: str) -> list[PaperCandle]:
        if self._session is None or self._settings.rest is None:
            return []
        now = time.time()
        query = {
            "granularity": "FIVE_MINUTE",
            "start": str(int(now) - _HISTORY_CANDLES * _HISTORY_SECONDS + _HISTORY_SECONDS),
            "end": str(int(now)),
        }
        url = f"{self._settings.rest}/market/products/{name}/candles"
        async with self._session.get(url, params=query) as answer:
            if answer.status != 200:
                return []
            rows = (await answer.json(content_type=None)).get("candles", [])
        try:
            return sorted((_candle(row, now) for row in rows), key=lambda bar: bar.start)
        except (ValueError, KeyError, TypeError, InvalidOperation):
            return []


def _candle(row: Mapping[str, str], now: float) -> PaperCandle:
    prices = (Decimal(row[name]) for name in ("open", "high", "low", "close", "volume"))
    return PaperCandle(int(row["start"]) - int(now), *prices)


def _parse(message: Mapping[str, Any]) -> Iterator[LiveQuote | Print]:
    for event in message.get("events", ()):
        snapshot = event.get("type") == "snapshot"
        for item in event.get("tickers", ()):
            if item["best_bid"] and item["best_ask"]:
                yield LiveQuote(
                    item["product_id"],
                    Decimal(item["best_bid"]),
                    Decimal(item["best_ask"]),
                    (Decimal(item["best_bid_quantity"]), Decimal(item["best_ask_quantity"])),
                    Decimal(item["price"]) if snapshot else None,
                )
        if not snapshot:
            for item in reversed(event.get("trades", ())):
                maker = Side(item["side"])
                yield Print(item["product_id"], Decimal(item["price"]), Decimal(item["size"]), maker.opposite)


def _apply(market: Market, item: LiveQuote | Print) -> None:
    if isinstance(item, LiveQuote):
        market.quote(item.product_id, item.bid, item.ask, item.sizes, item.last)
    else:
        market.trade(item.product_id, item.price, item.size, item.aggressor)
