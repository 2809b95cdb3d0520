"""Every answer of Crypto.com has one meaning, and an order that may exist is never called refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cryptocom.answers import (
    VenueAnswer,
    cancel_failure,
    command_failure,
    not_active,
    read_failure,
    reason_name,
)
from exchange.cryptocom.orders import submit_answer
from exchange.port import CancelVerdict, CommandRefused, ExchangeError, NotAccepted, OutcomeUnknown

PARAMS = {"client_oid": "c-1"}


def answer(status: int, code: object, message: str = "", **result: object) -> VenueAnswer:
    """An answer with this code."""
    return VenueAnswer.of(status, {"id": 1, "code": code, "message": message, "result": result})


@pytest.mark.parametrize(
    ("status", "code", "kind", "name"),
    [
        *((status, code, OutcomeUnknown, name) for status, code, name in (
            (400, 204, "DUPLICATE_CLORDID"), (408, 40801, "REQUEST_TIMEOUT"), (400, 50001, "ERR_INTERNAL"),
            (500, 50001, "ERR_INTERNAL"), (500, 120009, "ERR_INTERNAL"), (500, 9010001, "MAINTENANCE"),
            (400, 40006, "DUPLICATE_REQUEST"), (500, 43003, "FILL_OR_KILL"), (500, 43004, "IMMEDIATE_OR_CANCEL"),
            (500, 43005, "POST_ONLY_REJ"), (200, 43012, "SELF_TRADE_PREVENTION"), (500, 10001, "SYS_ERROR"))),
        *((status, code, NotAccepted, name) for status, code, name in (
            (429, 42901, "RATE_LIMITED"), (429, 10006, "RATE_LIMITED"), (400, 40102, "INVALID_NONCE"),
            (400, 10007, "INVALID_NONCE"), (401, 40101, "AUTH_FAILURE"), (401, 40103, "AUTH_FAILURE"),
            (401, 40104, "AUTH_FAILURE"), (401, 10002, "AUTH_FAILURE"), (401, 10003, "AUTH_FAILURE"))),
        *((status, code, CommandRefused, name) for status, code, name in (
            (500, 306, "INSUFFICIENT_AVAILABLE_BALANCE"), (500, 321, "EXCEEDS_MAX_AVAILABLE_BALANCE"),
            (500, 415, "BELOW_MIN_ORDER_SIZE"), (400, 213, "INVALID_ORDERQTY"), (400, 308, "INVALID_PRICE"),
            (400, 314, "EXCEEDS_MAX_ORDER_SIZE"), (400, 315, "FAR_AWAY_LIMIT_PRICE"),
            (400, 318, "EXCEEDS_MAX_ALLOWED_ORDERS"), (400, 208, "INSTRUMENT_NOT_TRADABLE"),
            (400, 209, "INVALID_INSTRUMENT"), (400, 218, "INVALID_ORDTYPE"), (500, 219, "INVALID_EXECINST"),
            (400, 220, "INVALID_SIDE"), (400, 221, "INVALID_TIF"), (400, 223, "NO_CLORDID"),
            (400, 224, "REJ_BY_MATCHING_ENGINE"), (400, 229, "INVALID_REF_PRICE"),
            (400, 230, "INVALID_TRIGGER_TYPE"), (500, 309, "MARKET_IS_NOT_OPEN"),
            (500, 312, "ORDER_PRICE_GREATER_THAN_LIMITUPPRICE"), (500, 313, "ORDER_PRICE_LESS_THAN_LIMITDOWNPRICE"),
            (500, 325, "CODE_325"), (400, 1110, "CODE_1110"), (500, 416, "CODE_416"))),
    ],
)  # fmt: skip
def test_the_answer_table(status: int, code: int, kind: type[ExchangeError], name: str) -> None:
    """Each documented answer to an order, with its code as a number and as text."""
    for written in (code, str(code)):
        problem = command_failure("the order", answer(status, written))
        assert (type(problem), problem.code) == (kind, name)
        with pytest.raises(kind):
            submit_answer(answer(status, written), PARAMS)


@pytest.mark.parametrize("status", [200, 400, 500, 502, 503, 504])
@pytest.mark.parametrize("body", ["<html>", None, [], {}, {"code": None}, {"code": "x"}, {"code": True}, {"code": 0}])
def test_an_answer_without_a_code_says_nothing(status: int, body: object) -> None:
    """A gateway's page, an empty body or an envelope without a code may come after the order was taken."""
    with pytest.raises(OutcomeUnknown):
        submit_answer(VenueAnswer.of(status, body), PARAMS)


@given(status=st.integers(200, 599), code=st.integers(-1, 10_000_000) | st.none(), order_id=st.text(max_size=3))
def test_what_may_exist_is_never_called_refused(status: int, code: int | None, order_id: str) -> None:
    """Success is only a code of zero with an order's id; a repeated id and internal errors are never refusals."""
    told = answer(status, code, "WORDS", order_id=order_id)
    if code == 0 and status < 300 and order_id:
        taken = submit_answer(told, PARAMS)
        assert (taken.exchange_order_id, taken.client_order_id) == (order_id, "c-1")
        return
    with pytest.raises(ExchangeError) as caught:
        submit_answer(told, PARAMS)
    if code in (0, 204, 40801, 50001, 40006) or (code is None and status != 429):
        assert type(caught.value) is OutcomeUnknown


def test_a_repeated_id_is_told_as_an_order_that_exists() -> None:
    """The sentence says that there is an order, and the code that it is this case."""
    problem = command_failure("the order", answer(400, 204, "DUPLICATE_CLORDID"))
    assert "an order with this id exists" in str(problem)
    assert problem.code == "DUPLICATE_CLORDID"


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (212, CancelVerdict.UNKNOWN_ORDER), (40401, CancelVerdict.UNKNOWN_ORDER), (316, CancelVerdict.ALREADY_DONE),
        (307, CancelVerdict.ALREADY_DONE), (209, CancelVerdict.REFUSED),
    ],
)  # fmt: skip
def test_verdicts_of_cancels(code: int, verdict: CancelVerdict) -> None:
    """What is not active has ended or was never there; anything else is a refusal."""
    assert cancel_failure("the cancel", answer(500, code)).verdict is verdict
    assert not_active(answer(500, code)) is (verdict is not CancelVerdict.REFUSED)


@pytest.mark.parametrize(("code", "kind"), [(42901, NotAccepted), (50001, OutcomeUnknown), (None, OutcomeUnknown)])
def test_a_cancel_without_a_verdict_is_an_error(code: int | None, kind: type[ExchangeError]) -> None:
    """A cancel that was not looked at, or may have been taken, is no verdict on the order."""
    with pytest.raises(kind):
        cancel_failure("the cancel", answer(500, code))


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (200, 40401, "NOT_FOUND"), (401, 40101, "AUTH_FAILURE"), (429, 42901, "RATE_LIMITED"),
        (401, None, "AUTH_FAILURE"), (403, None, "AUTH_FAILURE"), (429, None, "RATE_LIMITED"),
        (502, None, "UNAVAILABLE"), (200, None, "UNREADABLE_ANSWER"), (400, 40003, "INVALID_REQUEST"),
    ],
)  # fmt: skip
def test_a_failed_read_has_a_code(status: int, code: int | None, name: str) -> None:
    """Nothing is known then; the code tells programs why."""
    assert read_failure("the orders", answer(status, code, "INVALID_REQUEST" if code == 40003 else "")).code == name


def test_reasons_of_ends_are_words() -> None:
    """A row's reason is a code, words, or zero for none."""
    assert [reason_name(value) for value in (43005, "43005", 0, "0", None, "by hand", 777)] == [
        "POST_ONLY_REJ", "POST_ONLY_REJ", "", "", "", "by hand", "CODE_777",
    ]  # fmt: skip
