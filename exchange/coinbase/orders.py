"""The body of an order, and the meaning of the venue's answers to commands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from domain.money import plain
from domain.orders import OrderType, Side, TimeInForce
from exchange.port import CancelAnswer, CancelVerdict, CommandRefused, OrderRequest, OutcomeUnknown, SubmitAnswer

__all__ = ["cancel_answers", "order_body", "submit_answer"]

_LONGEST_ID = 36
_UNINFORMATIVE = {"", "UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON", "PREVIEW_REASON_UNSPECIFIED"}
# INVALID_CANCEL_REQUEST is the answer for an order that is no longer live; its own state says how it ended.
_ALREADY_DONE = {
    "INVALID_CANCEL_REQUEST",
    "ORDER_IS_FULLY_FILLED",
    "DUPLICATE_CANCEL_REQUEST",
    "ORDER_ALREADY_CANCELLED",
    "ORDER_IS_CANCELLED",
    "ORDER_IS_EXPIRED",
}


def order_body(request: OrderRequest, *, ahead: timedelta = timedelta(0)) -> dict[str, Any]:
    """The body of POST /orders, built as the official client does. `ahead`: the venue's clock minus ours.

    Raises:
        ValueError: the request contradicts itself, or the venue has no such order type.
    """
    if not 0 < len(request.client_order_id) <= _LONGEST_ID:
        raise ValueError("an order needs a client order id of at most 36 characters")
    if (request.base_size is None) == (request.quote_size is None):
        raise ValueError("an order needs either a base size or a quote size")
    return {
        "client_order_id": request.client_order_id,
        "product_id": request.symbol,
        "side": request.side.value,
        "order_configuration": _configuration(request, ahead),
    }


def _configuration(request: OrderRequest, ahead: timedelta) -> dict[str, Any]:
    if request.order_type is OrderType.MARKET:
        return _market(request)
    if request.base_size is None:
        raise ValueError("only a market buy can be sized in quote currency")
    if request.post_only and (
        request.order_type is not OrderType.LIMIT or request.time_in_force not in (TimeInForce.GTC, TimeInForce.GTD)
    ):
        raise ValueError("only a limit order that rests (GTC, GTD) can be post-only")
    fields: dict[str, Any] = {
        "base_size": _amount(request.base_size, "size"),
        "limit_price": _amount(request.limit_price, "limit price"),
    }
    if request.order_type is OrderType.LIMIT:
        return _limit(request, fields, ahead)
    name = "stop_limit_stop_limit" if request.order_type is OrderType.STOP_LIMIT else "trigger_bracket"
    stop = _amount(request.stop_price, "stop price")
    fields["stop_price" if request.order_type is OrderType.STOP_LIMIT else "stop_trigger_price"] = stop
    if request.time_in_force is TimeInForce.GTD:
        fields["end_time"] = _end_time(request, ahead)
    elif request.time_in_force is not TimeInForce.GTC:
        raise ValueError(f"a {request.order_type} order is GTC or GTD, not {request.time_in_force}")
    if request.order_type is OrderType.STOP_LIMIT:
        fields["stop_direction"] = f"STOP_DIRECTION_STOP_{'DOWN' if request.side is Side.SELL else 'UP'}"
    return {f"{name}_{request.time_in_force.value.lower()}": fields}


def _market(request: OrderRequest) -> dict[str, Any]:
    if request.post_only or request.limit_price is not None or request.stop_price is not None:
        raise ValueError("a market order has no price and can't be post-only")
    if request.quote_size is not None:
        if request.side is not Side.BUY:
            raise ValueError("only a market buy can be sized in quote currency")
        size = {"quote_size": _amount(request.quote_size, "quote size")}
    else:
        size = {"base_size": _amount(request.base_size, "size")}
    return {"market_market_fok" if request.time_in_force is TimeInForce.FOK else "market_market_ioc": size}


def _limit(request: OrderRequest, fields: dict[str, Any], ahead: timedelta) -> dict[str, Any]:
    match request.time_in_force:
        case TimeInForce.IOC:
            return {"sor_limit_ioc": fields}
        case TimeInForce.FOK:
            return {"limit_limit_fok": fields}
        case TimeInForce.GTD:
            end = _end_time(request, ahead)
            return {"limit_limit_gtd": {**fields, "end_time": end, "post_only": request.post_only}}
        case TimeInForce.GTC:
            return {"limit_limit_gtc": {**fields, "post_only": request.post_only}}


def _amount(value: Decimal | None, name: str) -> str:
    if value is None or not value.is_finite() or value <= 0:
        raise ValueError(f"the order's {name} must be above zero, not {value}")
    return plain(value)


def _end_time(request: OrderRequest, ahead: timedelta) -> str:
    if request.end_time is None or request.end_time.tzinfo is None:
        raise ValueError("a GTD order needs an end time with a zone")
    # The venue ends it by its own clock: with ours minutes behind, the order would end on arrival.
    return (request.end_time.astimezone(UTC) + ahead).isoformat(timespec="microseconds").replace("+00:00", "Z")


def submit_answer(answer: Mapping[str, Any], body: Mapping[str, Any]) -> SubmitAnswer:
    """The meaning of an answer to POST /orders.

    Raises:
        CommandRefused: the venue refused the order; `code` is its most specific reason.
        OutcomeUnknown: the answer neither accepts nor refuses.
    """
    if answer.get("success") is False:
        error = answer.get("error_response")
        error = error if isinstance(error, Mapping) else {}
        reasons = (
            error.get("error"),
            error.get("new_order_failure_reason"),
            error.get("preview_failure_reason"),
            answer.get("failure_reason"),
        )
        code = next((str(reason) for reason in reasons if reason and reason not in _UNINFORMATIVE), None)
        code = code or "UNKNOWN_FAILURE_REASON"
        words = error.get("message") or error.get("error_details") or "the venue gave no further reason"
        raise CommandRefused(f"the exchange refused the order: {words} ({code})", code=code)
    success = answer.get("success_response")
    success = success if isinstance(success, Mapping) else {}
    order_id = success.get("order_id") or answer.get("order_id")
    if answer.get("success") is not True or not isinstance(order_id, str) or not order_id:
        raise OutcomeUnknown("the exchange answered the order with neither yes nor no", code="UNREADABLE_ANSWER")
    return SubmitAnswer(order_id, str(success.get("client_order_id") or body.get("client_order_id") or ""), answer)


def cancel_answers(answer: Mapping[str, Any]) -> dict[str, CancelAnswer]:
    """The answer to POST /orders/batch_cancel by order id; without the orders that it doesn't name."""
    results = answer.get("results")
    found: dict[str, CancelAnswer] = {}
    for item in results if isinstance(results, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("order_id"), str):
            found[item["order_id"]] = _cancel_answer(item)
    return found


def _cancel_answer(item: Mapping[str, Any]) -> CancelAnswer:
    if item.get("success") is True:
        return CancelAnswer(CancelVerdict.ACCEPTED)
    reason = str(item.get("failure_reason") or "")
    if reason == "UNKNOWN_CANCEL_ORDER":
        return CancelAnswer(CancelVerdict.UNKNOWN_ORDER, reason)
    return CancelAnswer(CancelVerdict.ALREADY_DONE if reason in _ALREADY_DONE else CancelVerdict.REFUSED, reason)
