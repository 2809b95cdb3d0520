"""Order bodies are those of the official client, and every answer to a command has one meaning."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from coinbase.rest import RESTClient

from domain.orders import OrderType, Side, TimeInForce
from exchange.coinbase.orders import cancel_answers, order_body, submit_answer
from exchange.port import CancelVerdict, CommandRefused, OrderRequest, OutcomeUnknown

D = Decimal
END = datetime(2026, 8, 9, 12, 0, 0, 250000, tzinfo=UTC)


class RecordingClient(RESTClient):  # type: ignore[misc]
    """The official client, without sending: it keeps the body."""

    def __init__(self) -> None:
        super().__init__(api_key=None, api_secret=None)
        self.body: dict[str, Any] = {}

    def post(self, url_path: str, params: Any = None, data: Any = None, **_: Any) -> dict[str, Any]:
        """Keep the body as the client would send it."""
        assert url_path == "/api/v3/brokerage/orders"
        self.body = {name: value for name, value in data.items() if value is not None}
        return {"success": True, "success_response": {}}


def request(kind: OrderType, side: Side, **fields: Any) -> OrderRequest:
    """An order for BTC-USD with the id "id"."""
    return OrderRequest("id", "BTC-USD", side, kind, **fields)


BASE = {"base_size": D("0.10"), "limit_price": D("65000.00")}
SDK = {"client_order_id": "id", "product_id": "BTC-USD"}
SIZED = {**SDK, "base_size": "0.1"}
PRICED = {**SIZED, "limit_price": "65000"}
STOP = {"stop_price": D(64000)}
TEXT_END = "2026-08-09T12:00:00.250000Z"


@pytest.mark.parametrize(
    ("ours", "method", "arguments"),
    [
        (request(OrderType.MARKET, Side.BUY, quote_size=D(10)), "market_order_buy", {**SDK, "quote_size": "10"}),
        (request(OrderType.MARKET, Side.BUY, base_size=D("1E-7")), "market_order_buy",
         {**SDK, "base_size": "0.0000001"}),
        (request(OrderType.MARKET, Side.SELL, base_size=D("0.10")), "market_order_sell", SIZED),
        (request(OrderType.LIMIT, Side.BUY, post_only=True, **BASE), "limit_order_gtc_buy",
         {**PRICED, "post_only": True}),
        (request(OrderType.LIMIT, Side.SELL, **BASE), "limit_order_gtc_sell", PRICED),
        (request(OrderType.LIMIT, Side.SELL, time_in_force=TimeInForce.GTD, end_time=END, **BASE),
         "limit_order_gtd_sell", {**PRICED, "end_time": TEXT_END}),
        (request(OrderType.LIMIT, Side.SELL, time_in_force=TimeInForce.IOC, **BASE), "limit_order_ioc_sell", PRICED),
        (request(OrderType.LIMIT, Side.BUY, time_in_force=TimeInForce.FOK, **BASE), "limit_order_fok_buy", PRICED),
        (request(OrderType.STOP_LIMIT, Side.SELL, **BASE, **STOP), "stop_limit_order_gtc_sell",
         {**PRICED, "stop_price": "64000", "stop_direction": "STOP_DIRECTION_STOP_DOWN"}),
        (request(OrderType.STOP_LIMIT, Side.BUY, time_in_force=TimeInForce.GTD, end_time=END, **BASE, **STOP),
         "stop_limit_order_gtd_buy",
         {**PRICED, "stop_price": "64000", "stop_direction": "STOP_DIRECTION_STOP_UP", "end_time": TEXT_END}),
        (request(OrderType.BRACKET, Side.SELL, **BASE, **STOP), "trigger_bracket_order_gtc_sell",
         {**PRICED, "stop_trigger_price": "64000"}),
        (request(OrderType.BRACKET, Side.SELL, time_in_force=TimeInForce.GTD, end_time=END, **BASE, **STOP),
         "trigger_bracket_order_gtd_sell", {**PRICED, "stop_trigger_price": "64000", "end_time": TEXT_END}),
    ],
)  # fmt: skip
def test_bodies_are_the_official_clients(ours: OrderRequest, method: str, arguments: dict[str, Any]) -> None:
    """Each kind of order has the same body as from the official client's own method."""
    client = RecordingClient()
    getattr(client, method)(**arguments)
    assert order_body(ours) == client.body


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (request(OrderType.MARKET, Side.BUY), "either a base size or a quote size"),
        (request(OrderType.MARKET, Side.BUY, base_size=D(1), quote_size=D(1)), "either a base size or a quote size"),
        (request(OrderType.MARKET, Side.SELL, quote_size=D(1)), "only a market buy"),
        (request(OrderType.LIMIT, Side.BUY, quote_size=D(1), limit_price=D(1)), "only a market buy"),
        (request(OrderType.LIMIT, Side.BUY, base_size=D(1)), "limit price must be above zero"),
        (request(OrderType.LIMIT, Side.BUY, base_size=D(0), limit_price=D(1)), "size must be above zero"),
        (request(OrderType.LIMIT, Side.BUY, base_size=D("NaN"), limit_price=D(1)), "size must be above zero"),
        (request(OrderType.MARKET, Side.BUY, base_size=D(1), limit_price=D(1)), "has no price"),
        (request(OrderType.LIMIT, Side.BUY, time_in_force=TimeInForce.IOC, post_only=True, **BASE), "post-only"),
        (request(OrderType.LIMIT, Side.BUY, time_in_force=TimeInForce.GTD, **BASE), "end time"),
        (request(OrderType.STOP_LIMIT, Side.SELL, **BASE), "stop price must be above zero"),
        (request(OrderType.BRACKET, Side.SELL, time_in_force=TimeInForce.IOC, **BASE, **STOP), "GTC or GTD"),
        (OrderRequest("", "BTC-USD", Side.BUY, OrderType.MARKET, base_size=D(1)), "client order id"),
    ],
)
def test_an_order_that_contradicts_itself_is_no_body(ours: OrderRequest, words: str) -> None:
    """An order that the venue doesn't have is refused before anything is committed, with the reason."""
    with pytest.raises(ValueError, match=words):
        order_body(ours)


def test_a_placed_order_gives_its_id() -> None:
    """Both the present and the older form of answer have the order's id."""
    body = {"client_order_id": "id"}
    new = {"success": True, "success_response": {"order_id": "o", "client_order_id": "id"}}
    old = {"success": True, "failure_reason": "UNKNOWN_FAILURE_REASON", "order_id": "o"}
    assert submit_answer(new, body).exchange_order_id == submit_answer(old, body).exchange_order_id == "o"
    assert submit_answer(old, body).client_order_id == "id"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error_response": {"error": "INSUFFICIENT_FUND", "message": "m"}}, "INSUFFICIENT_FUND"),
        ({"error_response": {"error": "UNKNOWN_FAILURE_REASON", "preview_failure_reason": "PREVIEW_INVALID_SIZE",
                             "new_order_failure_reason": ""}}, "PREVIEW_INVALID_SIZE"),
        ({"failure_reason": "INVALID_PRICE"}, "INVALID_PRICE"),
        ({"error_response": None}, "UNKNOWN_FAILURE_REASON"),
    ],
)  # fmt: skip
def test_a_refusal_has_the_most_specific_reason(answer: dict[str, Any], code: str) -> None:
    """The first meaningful reason is the code."""
    with pytest.raises(CommandRefused) as caught:
        submit_answer({"success": False, **answer}, {})
    assert caught.value.code == code


@pytest.mark.parametrize("answer", [{}, {"success": True}, {"success": None}, {"success": "true", "order_id": "o"}])
def test_neither_yes_nor_no_is_unknown(answer: dict[str, Any]) -> None:
    """An answer without a clear yes or no is an unknown outcome."""
    with pytest.raises(OutcomeUnknown):
        submit_answer(answer, {})


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON"}, CancelVerdict.ACCEPTED),
        ({"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER"}, CancelVerdict.UNKNOWN_ORDER),
        ({"success": False, "failure_reason": "DUPLICATE_CANCEL_REQUEST"}, CancelVerdict.ALREADY_DONE),
        ({"success": False, "failure_reason": "INVALID_CANCEL_REQUEST"}, CancelVerdict.ALREADY_DONE),
        ({"success": False, "failure_reason": "COMMANDER_REJECTED_CANCEL_ORDER"}, CancelVerdict.REFUSED),
        ({}, CancelVerdict.REFUSED),
    ],
)
def test_each_answer_to_a_cancel_has_a_verdict(row: dict[str, Any], verdict: CancelVerdict) -> None:
    """The venue's reasons are mapped to four verdicts; anything that is not a result is left out."""
    answers = cancel_answers({"results": [{"order_id": "o", **row}, "noise", {"success": True}]})
    assert {order: answer.verdict for order, answer in answers.items()} == {"o": verdict}
