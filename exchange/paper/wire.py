"""A venue's protocol over the matching engine, as the server and the control interface see it.

Each folder beside this module is one venue's: `coinbase/`, `cryptocom/`. Matching, books, money, faults and control are
the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from aiohttp import web

from exchange.paper.config import PaperConfig
from exchange.paper.faults import Fault, FaultKind, require_possible, require_reachable
from exchange.paper.orders import Order, PaperFill
from exchange.paper.products import PaperProduct
from exchange.paper.rest_server import RestServer
from exchange.paper.rules import Habits
from exchange.paper.venue import PaperVenue

__all__ = ["StreamServer", "Wire"]


class StreamServer(Protocol):
    """The streams of a protocol (`sockets.SocketServer`)."""

    def start(self) -> None:
        """Start what is sent by the clock."""

    async def stop(self) -> None:
        """Close every connection."""

    async def drained(self) -> None:
        """Wait until all is written."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket."""

    def publish(self) -> None:
        """Send the changes of the last event."""

    def product_changed(self, product_id: str) -> None:
        """A product has another trading status."""

    def sockets(self, action: str, path: str, code: int) -> int:
        """Drop, close or make half-open connections. Returns their number."""

    def listed(self) -> list[dict[str, object]]:
        """The open connections."""


class Wire(ABC):
    """One venue's protocol. `folder` keeps its keys."""

    stream_prefix: str
    """What comes before `market` and `user` in the streams' paths."""
    channels: Sequence[str]
    """The streams' channels as they are sent."""
    impossible: frozenset[FaultKind]
    """Faults of other protocols."""
    request_advice: str
    """How a person names a request in a fault's scope."""
    rest: RestServer
    streams: StreamServer
    key_file: Path

    @abstractmethod
    def __init__(self, venue: PaperVenue, folder: Path) -> None:
        """Raises `PaperError` if the keys in `folder` can't be used."""

    @staticmethod
    @abstractmethod
    def habits(config: PaperConfig) -> Habits:
        """How the venue matches."""

    @staticmethod
    @abstractmethod
    def products(config: PaperConfig) -> Mapping[str, PaperProduct]:
        """The venue's products, or those of the configured file. Raises `PaperError`."""

    @abstractmethod
    def order(self, order: Order) -> Mapping[str, object]:
        """An order as the venue's REST interface shows it."""

    @abstractmethod
    def fill(self, fill: PaperFill) -> Mapping[str, object]:
        """An execution as the venue's REST interface shows it, with its client order id."""

    @abstractmethod
    def resume(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Restore what the protocol has stored (`PaperVenue.unkept_rows`)."""

    @abstractmethod
    def settle(self) -> None:
        """Let what follows from the last event happen, before anybody hears of it."""

    def controls(self) -> Mapping[str, Callable[[Mapping[str, object]], object]]:
        """Commands of the control interface that only this venue has, by path."""
        return {}

    def require_reachable(self, fault: Fault, products: Iterable[str]) -> None:
        """Raise `PaperError` if this protocol can't have the fault, or nothing that it serves matches the scope."""
        require_possible(fault, self.impossible)
        require_reachable(
            fault, self.rest.requests(), self.channels, ("market", "user"), products, advice=self.request_advice
        )
