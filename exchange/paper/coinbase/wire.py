"""Coinbase Advanced Trade's protocol, put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from exchange.paper.coinbase import render
from exchange.paper.coinbase.auth import Keyring
from exchange.paper.coinbase.rest import PREFIX, Rest
from exchange.paper.coinbase.stream import SENT_CHANNELS, PaperStreams
from exchange.paper.config import PaperConfig
from exchange.paper.faults import ANSWER_FAULTS
from exchange.paper.orders import Order, PaperFill
from exchange.paper.products import PaperProduct, bundled, load
from exchange.paper.rules import Habits
from exchange.paper.venue import PaperVenue
from exchange.paper.wire import Wire

__all__ = ["CoinbaseWire"]


class CoinbaseWire(Wire):
    """REST with tokens, streams with sequence numbers."""

    stream_prefix = "/"
    channels = SENT_CHANNELS
    impossible = ANSWER_FAULTS
    request_advice = f"use METHOD /path below {PREFIX}, such as POST /orders, or a pattern such as GET *"

    def __init__(self, venue: PaperVenue, folder: Path) -> None:
        self.keyring = Keyring(folder)
        self.key_file = self.keyring.key_file
        self.rest = Rest(venue, self.keyring)
        self.streams = PaperStreams(venue, self.keyring)
        self._venue = venue

    @staticmethod
    def habits(config: PaperConfig) -> Habits:
        """Commissions in quote; a buy sized in quote is spent to the end."""
        return Habits(fractional=config.fractional)

    @staticmethod
    def products(config: PaperConfig) -> Mapping[str, PaperProduct]:
        """The bundled ones, or those of a file in the shape of `GET /products`."""
        return load(config.products_file) if config.products_file else bundled()

    def resume(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Nothing: all is in the engine's orders."""

    def settle(self) -> None:
        """Nothing: stops and brackets are the engine's own."""

    def order(self, order: Order) -> Mapping[str, object]:
        """As `GET /orders/historical/{id}`."""
        return render.rest_order(order, self._venue.portfolio_id)

    def fill(self, fill: PaperFill) -> Mapping[str, object]:
        """As `GET /orders/historical/fills`."""
        return {**render.rest_fill(fill, self._venue.portfolio_id), "client_order_id": fill.client_order_id}
