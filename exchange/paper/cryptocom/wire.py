"""Crypto.com Exchange v1's protocol, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from exchange.paper.config import PaperConfig
from exchange.paper.cryptocom.instruments import bundled_instruments, load_instruments
from exchange.paper.cryptocom.methods import Methods, new_ids
from exchange.paper.cryptocom.rest import PREFIX, MethodRest
from exchange.paper.cryptocom.rest_orders import row_of, trade_of
from exchange.paper.cryptocom.signing import PaperSecret
from exchange.paper.cryptocom.stream import SENT_BASES, SessionServer
from exchange.paper.errors import ApiError
from exchange.paper.faults import USER_FAULTS, FaultKind
from exchange.paper.numbers import parse
from exchange.paper.orders import Order, PaperFill
from exchange.paper.products import PaperProduct
from exchange.paper.rules import Habits
from exchange.paper.venue import PaperVenue
from exchange.paper.wire import Wire

__all__ = ["CryptocomWire"]

_CANCEL_SECONDS = 0.02
"""A cancel takes effect later than its receipt, also where no latency is configured."""


class CryptocomWire(Wire):
    """REST with signed envelopes, streams with heartbeats, advanced orders."""

    stream_prefix = PREFIX
    channels = SENT_BASES
    impossible = (USER_FAULTS - {FaultKind.USER_REPLAY}) | {FaultKind.STREAM_AHEAD, FaultKind.STREAM_BEHIND}
    request_advice = f"use METHOD /name of a method below {PREFIX}, such as POST /private/create-order, or a pattern"

    def __init__(self, venue: PaperVenue, folder: Path) -> None:
        secret = PaperSecret(folder)
        self.key_file = secret.file
        self.methods = Methods(venue)
        self.rest = MethodRest(self.methods, secret)
        self._sessions = SessionServer(self.methods, secret)
        self.streams = self._sessions
        self._venue = venue
        if venue.cancel_latency == 0:
            venue.cancel_latency = _CANCEL_SECONDS

    @staticmethod
    def habits(config: PaperConfig) -> Habits:
        """Ids are numbers; a buy's commission comes off what it buys."""
        return Habits(new_id=new_ids(), fee_in_base=True)

    @staticmethod
    def products(config: PaperConfig) -> Mapping[str, PaperProduct]:
        """The bundled ones, or those of a file in the shape of `public/get-instruments`."""
        return load_instruments(config.products_file) if config.products_file else bundled_instruments()

    def resume(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Restore the advanced orders."""
        self.methods.advanced.resume(rows)

    def settle(self) -> None:
        """Trigger what the mark prices have reached."""
        while self.methods.advanced.trigger():
            pass

    def order(self, order: Order) -> Mapping[str, object]:
        """As `private/get-order-detail`."""
        return row_of(self._venue, order)

    def fill(self, fill: PaperFill) -> Mapping[str, object]:
        """As `private/get-trades`."""
        return trade_of(self._venue, fill)

    def controls(self) -> Mapping[str, Callable[[Mapping[str, object]], object]]:
        """`/mark` sets a mark price apart, `/advanced` shows advanced orders, `/legs` whether user.order has them."""
        return {"/mark": self._mark, "/advanced": self._advanced, "/legs": self._legs}

    def _mark(self, body: Mapping[str, object]) -> object:
        name, given = str(body.get("product_id")), body.get("price")
        if name not in self._venue.engine.books:
            raise ApiError(404, "UNKNOWN_PRODUCT", f"unknown product {name}")
        price = parse(given)
        if given is not None and not price:
            raise ApiError(400, "BAD_PRICE", "price is a positive number in a string, or null to follow the last trade")
        flags = {flag: body.get(flag, False) for flag in ("missing", "stale")}
        if not all(isinstance(value, bool) for value in flags.values()):
            raise ApiError(400, "BAD_MARK", "missing and stale are true or false")
        self.methods.marks.set(name, price, missing=bool(flags["missing"]), stale=bool(flags["stale"]))
        return {"product_id": name, "price": given}

    def _advanced(self, body: Mapping[str, object]) -> object:
        book = self.methods.advanced
        return {"orders": [book.row(order) for order in book.orders.values()]}

    def _legs(self, body: Mapping[str, object]) -> object:
        shown = body.get("on_user_order", True)
        if not isinstance(shown, bool):
            raise ApiError(400, "BAD_LEGS", "on_user_order must be true or false")
        self._sessions.show_legs = shown
        return {"on_user_order": shown}
