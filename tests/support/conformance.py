"""The venues that tests/integration/test_conformance.py runs over: each with its paper exchange and its adapter."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from exchange.coinbase import CoinbaseConfig, CoinbaseExchange
from exchange.cryptocom import CryptocomConfig, CryptocomExchange
from exchange.joined_streams import JoinedStreams
from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.port import Exchange
from exchange.streams import ReconnectingStream, ReconnectSettings

__all__ = ["COINBASE", "CRYPTOCOM", "VENUES", "Streaming", "Trial", "Venue", "trial"]

_FAST = ReconnectSettings(backoff_first=0.02, backoff_cap=0.1, first_frame=4.0, open_timeout=4.0)


class Streaming(Exchange, Protocol):
    """An adapter whose streams have counters."""

    def user_stream(self) -> ReconnectingStream:
        """As the port's."""
        ...

    def market_stream(self, symbols: Any, channels: Any) -> ReconnectingStream | JoinedStreams:
        """As the port's."""
        ...


@dataclass(frozen=True)
class Venue:
    """What the list needs to know of a venue beside the port."""

    name: str
    symbol: str
    unknown: str
    order_path: str
    """The request of an order, as a fault's scope names it."""
    strange_id: str
    """An order id that no order has, in the venue's form."""
    adapter: Callable[[PaperExchange, Mapping[str, Any]], Streaming]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of its paper exchange."""


def _coinbase(paper: PaperExchange, changes: Mapping[str, Any]) -> Streaming:
    settings: dict[str, Any] = {
        "rest_address": paper.rest_address, "stream_url": paper.stream_url, "user_stream_url": paper.user_stream_url,
        "ca_file": paper.ca_file, "key_file": paper.key_file, "private_rate": 0, "streams": _FAST,
    }  # fmt: skip
    return CoinbaseExchange(CoinbaseConfig(**{**settings, **changes}))


def _cryptocom(paper: PaperExchange, changes: Mapping[str, Any]) -> Streaming:
    settings: dict[str, Any] = {
        "rest_url": f"https://{paper.rest_address}/exchange/v1", "market_stream_url": paper.stream_url,
        "user_stream_url": paper.user_stream_url, "ca_file": paper.ca_file, "key_file": paper.key_file, "share": 0,
        "products_seconds": 0, "streams": _FAST,
    }  # fmt: skip
    return CryptocomExchange(CryptocomConfig(**{**settings, **changes}))


COINBASE = Venue("coinbase", "BTC-USD", "NOPE-USD", "POST /orders", "00000000-0000-0000-0000-000000000000", _coinbase)
CRYPTOCOM = Venue(
    "cryptocom", "BTC_USD", "NOPE_USD", "POST /private/create-order", "6142909983343463179", _cryptocom,
    {"venue": "cryptocom"},
)  # fmt: skip

VENUES = [COINBASE, CRYPTOCOM]


@dataclass
class Trial:
    """One venue, running: its symbol is quoted 50,000 / 50,010, the account has a million USD and 10 BTC."""

    venue: Venue
    paper: PaperExchange
    control: PaperControl
    exchange: Streaming

    @property
    def symbol(self) -> str:
        """What is traded."""
        return self.venue.symbol

    def another(self, **changes: Any) -> Streaming:
        """Another adapter to the same account, to be closed by the test."""
        return self.venue.adapter(self.paper, changes)

    def wrong_key(self, folder: Path) -> Streaming:
        """An adapter with a key that is well-formed, and nobody's."""
        text = self.paper.key_file.read_text(encoding="utf-8")
        document = json.loads(text)
        name = "name" if "name" in document else "api_key"
        (folder / "key.json").write_text(json.dumps({**document, name: f"{document[name]}0"}), encoding="utf-8")
        return self.another(key_file=folder / "key.json")


@asynccontextmanager
async def trial(venue: Venue) -> AsyncIterator[Trial]:
    """The venue's paper exchange, whose market moves only on request, with an adapter."""
    config = PaperConfig(
        step=True,
        products=[venue.symbol],
        balances={"USD": Decimal(1_000_000), "BTC": Decimal(10)},
        private_rate=0,
        public_rate=0,
        connection_rate=0,
        message_rate=0,
        trade_batch=0,
        depth_batch=0,
        **venue.settings,
    )
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        await control.set_price(venue.symbol, "50000", "50010")
        exchange = venue.adapter(paper, {})
        try:
            yield Trial(venue, paper, control, exchange)
        finally:
            await exchange.close()
