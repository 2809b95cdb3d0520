"""The body of an order, and the meaning of the venue's answers to it. Pure.

A body is `{"method": …, "params": {…}}`, as triggers have a method of their own. The fee's currency is always asked for
(the quote), so that a buy gives whole coins; the venue may still take another one, so each execution says its own.
Unknown fields are ignored by the venue without a word: a misspelt one would do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from domain.market import currencies
from domain.money import plain
from domain.orders import OrderType, Side, TimeInForce
from exchange.cryptocom.answers import VenueAnswer, command_failure
from exchange.port import OrderRequest, OutcomeUnknown, SubmitAnswer

__all__ = ["CREATE", "CREATE_TRIGGER", "order_body", "parts_of", "submit_answer"]

CREATE = "private/create-order"
CREATE_TRIGGER = "private/advanced/create-order"
_LONGEST_ID = 36
_TIME_IN_FORCE: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "GOOD_TILL_CANCEL",
    TimeInForce.IOC: "IMMEDIATE_OR_CANCEL",
    TimeInForce.FOK: "FILL_OR_KILL",
}


def order_body(request: OrderRequest) -> dict[str, object]:
    """The body of an order: its method and parameters.

    Raises:
        ValueError: the request contradicts itself, or the venue has no such order.
    """
    if not 0 < len(request.client_order_id) <= _LONGEST_ID:
        raise ValueError("an order needs a client order id of at most 36 characters")
    if (request.base_size is None) == (request.quote_size is None):
        raise ValueError("an order needs either a base size or a quote size")
    known = currencies(request.symbol)
    if known is None:
        raise ValueError(f"{request.symbol} doesn't name a base and a quote currency")
    params: dict[str, object] = {
        "instrument_name": request.symbol,
        "side": request.side.value,
        "client_oid": request.client_order_id,
        "fee_instrument_name": known[1],
    }
    match request.order_type:
        case OrderType.MARKET:
            return {"method": CREATE, "params": params | _market(request)}
        case OrderType.LIMIT:
            return {"method": CREATE, "params": params | _limit(request)}
        case OrderType.STOP_LIMIT:
            return {"method": CREATE_TRIGGER, "params": params | _stop(request)}
    raise ValueError(f"Crypto.com has no {request.order_type} order: a target and a stop are two legs of a list there")


def _market(request: OrderRequest) -> dict[str, object]:
    if request.post_only or request.limit_price is not None or request.stop_price is not None:
        raise ValueError("a market order has no price and can't be post-only")
    fields: dict[str, object] = {"type": "MARKET", "spot_margin": "SPOT"}
    if request.quote_size is not None:
        if request.side is not Side.BUY:
            raise ValueError("only a market buy can be sized in quote currency")
        return fields | {"notional": _amount(request.quote_size, "quote size")}
    if request.time_in_force is TimeInForce.FOK:
        fields["time_in_force"] = _TIME_IN_FORCE[TimeInForce.FOK]
    return fields | {"quantity": _amount(request.base_size, "size")}


def _limit(request: OrderRequest) -> dict[str, object]:
    fields: dict[str, object] = {
        "type": "LIMIT",
        "spot_margin": "SPOT",
        "quantity": _amount(_in_base(request), "size"),
        "price": _amount(request.limit_price, "limit price"),
        "time_in_force": _life(request),
    }
    if request.post_only:
        if request.time_in_force is not TimeInForce.GTC:
            raise ValueError("only a limit order that rests (GTC) can be post-only")
        fields["exec_inst"] = ["POST_ONLY"]
    return fields


def _stop(request: OrderRequest) -> dict[str, object]:
    if request.post_only or request.time_in_force is not TimeInForce.GTC:
        raise ValueError(f"a {request.order_type} order is GTC and not post-only at Crypto.com")
    return {
        "type": "STOP_LIMIT",
        "quantity": _amount(_in_base(request), "size"),
        "price": _amount(request.limit_price, "limit price"),
        "ref_price": _amount(request.stop_price, "stop price"),
        # The one source that the venue has for every kind of trigger; a trade through the stop need not trigger it.
        "ref_price_type": "MARK_PRICE",
    }


def _in_base(request: OrderRequest) -> Decimal | None:
    if request.base_size is None:
        raise ValueError("only a market buy can be sized in quote currency")
    return request.base_size


def _life(request: OrderRequest) -> str:
    found = _TIME_IN_FORCE.get(request.time_in_force)
    if found is None:
        raise ValueError(f"Crypto.com has no {request.time_in_force} orders: it has GTC, IOC and FOK")
    return found


def _amount(value: Decimal | None, name: str) -> str:
    if value is None or not value.is_finite() or value <= 0:
        raise ValueError(f"the order's {name} must be above zero, not {value}")
    return plain(value)


def parts_of(body: Mapping[str, object]) -> tuple[str, Mapping[str, object]]:
    """Method and parameters of an order's body. Raises ValueError for a body of another venue."""
    method, params = body.get("method"), body.get("params")
    if method not in (CREATE, CREATE_TRIGGER) or not isinstance(params, Mapping):
        raise ValueError("this is not the body of an order at Crypto.com")
    return str(method), params


def submit_answer(answer: VenueAnswer, params: Mapping[str, object]) -> SubmitAnswer:
    """The meaning of an answer to an order. It is a receipt: what became of the order comes later.

    Raises:
        CommandRefused: the venue refused the order; `code` is its reason.
        NotAccepted: the venue certainly did not take it.
        OutcomeUnknown: the answer neither accepts nor refuses, or says that an order with this id exists.
    """
    if not answer.fine:
        raise command_failure("the order", answer)
    order_id = answer.result.get("order_id")
    if not isinstance(order_id, str | int) or not str(order_id):
        raise OutcomeUnknown("the exchange answered the order with neither yes nor no", code="UNREADABLE_ANSWER")
    return SubmitAnswer(str(order_id), str(params.get("client_oid") or ""), dict(answer.result))
