"""An order as a client asks for it: read strictly, and turned into the engine's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from exchange.paper.book import RestingBook
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.requests import MethodCall, amount, text
from exchange.paper.numbers import plain
from exchange.paper.orders import Side
from exchange.paper.products import PaperProduct

__all__ = ["TRIGGERS", "Asked", "read_fee_currency", "read_order"]

TRIGGERS = ("STOP_LOSS", "STOP_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
_TIMES_IN_FORCE = ("GOOD_TILL_CANCEL", "IMMEDIATE_OR_CANCEL", "FILL_OR_KILL")
_DOLLARS = ("USD", "USDT")
_FARTHEST = 10
"""A limit price at least this many times, or at most this part of, the touch is far away."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A wanted order: `configuration` in the engine's words; `value` in quote currency as far as it is known."""

    instrument: str
    side: Side
    configuration: Mapping[str, Mapping[str, object]]
    client_oid: str
    """"" if the client gave none."""
    fee_currency: str
    value: Decimal
    price: Decimal | None = None
    details: dict[str, object] = field(default_factory=dict)

    def problem(self, book: RestingBook) -> int:
        """The code that refuses the order for its value or price; 0 if none does."""
        touch = book.best(self.side.opposite) or book.last
        if self.price is not None and touch and not touch / _FARTHEST < self.price < touch * _FARTHEST:
            return 315
        return 415 if self.value < book.product.quote_min_size else 0


def read_order(call: MethodCall, params: Mapping[str, object], book: RestingBook) -> Asked:
    """A LIMIT or MARKET order among parameters. Raises `Answered` with the venue's code."""
    product, kind, side = book.product, params.get("type"), params.get("side")
    if side not in ("BUY", "SELL"):
        raise Answered(220)
    if kind not in ("LIMIT", "MARKET"):
        raise Answered(218)
    price, quantity, notional = (amount(params, name) for name in ("price", "quantity", "notional"))
    terms = _exec_inst(params)
    times = text(params, "time_in_force") or "GOOD_TILL_CANCEL"
    if times not in _TIMES_IN_FORCE:
        raise Answered(221)
    if terms and (kind == "MARKET" or times != "GOOD_TILL_CANCEL"):
        raise Answered(43005)
    if text(params, "spot_margin") not in (None, "SPOT"):
        raise Answered(40004, "spot_margin: this account has no margin")
    if kind == "LIMIT":
        if price is None:
            raise Answered(308)
        if quantity is None:
            raise Answered(213)
        configuration, value = _limit(price, quantity, times, post_only=bool(terms)), price * quantity
    else:
        price = None  # the venue ignores it
        configuration, value = _market(side, quantity, notional, times, book)
    return Asked(
        product.product_id,
        Side(side),
        configuration,
        call.client_oid(params),
        read_fee_currency(params, product, Side(side)),
        value,
        price,
        {"exec_inst": terms},
    )


def _limit(price: Decimal, quantity: Decimal, times: str, *, post_only: bool) -> Mapping[str, Mapping[str, object]]:
    name = {"IMMEDIATE_OR_CANCEL": "sor_limit_ioc", "FILL_OR_KILL": "limit_limit_fok"}.get(times, "limit_limit_gtc")
    values: dict[str, object] = {"base_size": plain(quantity), "limit_price": plain(price)}
    return {name: {**values, "post_only": True} if post_only else values}


def _market(
    side: object, quantity: Decimal | None, notional: Decimal | None, times: str, book: RestingBook
) -> tuple[Mapping[str, Mapping[str, object]], Decimal]:
    """A buy has a quantity or a notional, and the quantity wins; a sell has a quantity."""
    name = "market_market_fok" if times == "FILL_OR_KILL" else "market_market_ioc"
    if quantity is not None:
        touch = book.best(Side(str(side)).opposite) or book.last
        return {name: {"base_size": plain(quantity)}}, quantity * touch
    if side == "SELL" or notional is None:
        raise Answered(213)
    return {name: {"quote_size": plain(notional)}}, notional


def _exec_inst(params: Mapping[str, object]) -> list[str]:
    given = params.get("exec_inst")
    if given is None:
        return []
    if not isinstance(given, list) or any(item != "POST_ONLY" for item in given):
        raise Answered(219)
    return [str(item) for item in given]


def read_fee_currency(params: Mapping[str, object], product: PaperProduct, side: Side) -> str:
    """The named currency of commissions, else the venue's default: what the order gets. Raises `Answered`."""
    default = product.base if side is Side.BUY else product.quote
    named = text(params, "fee_instrument_name")
    if named is None:
        return default
    allowed = {default, product.quote} | (set(_DOLLARS) if product.quote in _DOLLARS else set())
    if named not in allowed:
        raise Answered(215)
    return named
