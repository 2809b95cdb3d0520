"""Orders for Crypto.com, and what its rows and executions say of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import AttemptStatus, OrderType, Report, Side, TimeInForce, Totals, VenueStatus, merge
from exchange.cryptocom.known_orders import KnownOrders
from exchange.cryptocom.orders import CREATE, CREATE_TRIGGER, order_body, parts_of
from exchange.cryptocom.parse import known_status, size_for_sure
from exchange.port import OrderRequest, VenueOrder
from exchange.reading import MessageError

D = Decimal
CRO = "CRO_USD"


def request(kind: OrderType, side: Side = Side.BUY, **fields: object) -> OrderRequest:
    """An order for CRO_USD with the id "c-1"."""
    return OrderRequest("c-1", CRO, side, kind, **fields)  # type: ignore[arg-type]


COMMON = {"instrument_name": CRO, "client_oid": "c-1", "fee_instrument_name": "USD"}
PRICED = {"quantity": "17", "price": "0.0609"}


@pytest.mark.parametrize(
    ("ours", "method", "params"),
    [
        (request(OrderType.MARKET, quote_size=D("1.64160")), CREATE,
         {"side": "BUY", "type": "MARKET", "notional": "1.6416", "spot_margin": "SPOT"}),
        (request(OrderType.MARKET, Side.SELL, base_size=D("20.0")), CREATE,
         {"side": "SELL", "type": "MARKET", "quantity": "20", "spot_margin": "SPOT"}),
        (request(OrderType.MARKET, base_size=D("1E-7"), time_in_force=TimeInForce.FOK), CREATE,
         {"side": "BUY", "type": "MARKET", "quantity": "0.0000001", "spot_margin": "SPOT",
          "time_in_force": "FILL_OR_KILL"}),
        (request(OrderType.LIMIT, base_size=D(17), limit_price=D("0.06090"), post_only=True), CREATE,
         {"side": "BUY", "type": "LIMIT", **PRICED, "time_in_force": "GOOD_TILL_CANCEL", "exec_inst": ["POST_ONLY"],
          "spot_margin": "SPOT"}),
        (request(OrderType.LIMIT, base_size=D(17), limit_price=D("0.0609"), time_in_force=TimeInForce.IOC), CREATE,
         {"side": "BUY", "type": "LIMIT", **PRICED, "time_in_force": "IMMEDIATE_OR_CANCEL", "spot_margin": "SPOT"}),
        (request(OrderType.STOP_LIMIT, Side.SELL, base_size=D(17), limit_price=D("0.0609"), stop_price=D("0.061")),
         CREATE_TRIGGER, {"side": "SELL", "type": "STOP_LIMIT", **PRICED, "ref_price": "0.061",
                          "ref_price_type": "MARK_PRICE"}),
    ],
)  # fmt: skip
def test_bodies(ours: OrderRequest, method: str, params: dict[str, object]) -> None:
    """Amounts are text, the fee's currency is asked for, the account never borrows, and triggers have their method."""
    assert order_body(ours) == {"method": method, "params": {**COMMON, **params}}
    assert parts_of(order_body(ours)) == (method, {**COMMON, **params})


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (request(OrderType.LIMIT, base_size=D(1), limit_price=D(1), time_in_force=TimeInForce.GTD), "no GTD"),
        (request(OrderType.BRACKET, base_size=D(1), limit_price=D(2), stop_price=D(1)), "no BRACKET"),
        (request(OrderType.MARKET, Side.SELL, quote_size=D(1)), "only a market buy"),
        (request(OrderType.MARKET, base_size=D(1), limit_price=D(1)), "has no price"),
        (request(OrderType.MARKET, base_size=D(1), quote_size=D(1)), "either a base size or a quote size"),
        (request(OrderType.LIMIT, quote_size=D(1), limit_price=D(1)), "only a market buy"),
        (request(OrderType.LIMIT, base_size=D(1), limit_price=D(0)), "above zero"),
        (request(OrderType.LIMIT, base_size=D("NaN"), limit_price=D(1)), "above zero"),
        (request(OrderType.LIMIT, base_size=D(1), limit_price=D(1), post_only=True, time_in_force=TimeInForce.IOC),
         "that rests"),
        (OrderRequest("x" * 37, CRO, Side.BUY, OrderType.MARKET, base_size=D(1)), "at most 36"),
        (OrderRequest("c", "CRO", Side.BUY, OrderType.MARKET, base_size=D(1)), "base and a quote"),
    ],
)  # fmt: skip
def test_what_the_venue_does_not_have(ours: OrderRequest, words: str) -> None:
    """A contradiction, or an order that the venue doesn't have, is one sentence before anything is sent."""
    with pytest.raises(ValueError, match=words):
        order_body(ours)


def test_a_body_of_another_venue_is_not_sent() -> None:
    """A stored body without a method of this venue is refused."""
    with pytest.raises(ValueError, match="not the body"):
        parts_of({"client_order_id": "c-1", "product_id": "BTC-USD"})


# --- rows and executions -----------------------------------------------------------------------------------------


def row(status: str = "ACTIVE", filled: str = "0", value: str = "0", **more: object) -> dict[str, object]:
    """An order of 20 CRO as rows have it: the integers are integers."""
    return {
        "account_id": "0075170f", "order_id": "77", "client_oid": "c-1", "order_type": "LIMIT", "side": "SELL",
        "time_in_force": "GOOD_TILL_CANCEL", "exec_inst": [], "quantity": "20", "limit_price": "0.06092",
        "avg_price": "0.06092" if filled != "0" else "0", "cumulative_quantity": filled, "cumulative_value": value,
        "cumulative_fee": "0.0060920", "status": status, "instrument_name": CRO, "fee_instrument_name": "USD",
        "create_time": 1783118633544, "create_time_ns": "1783118633544546144", "update_time": 1783118633545,
    } | more  # fmt: skip


def trade(trade_id: str, size: str, price: str = "0.06092", **more: object) -> dict[str, object]:
    """An execution of it, that cost a thousandth of a dollar."""
    return {
        "account_id": "0075170f", "trade_id": trade_id, "trade_match_id": "9", "order_id": "77", "client_oid": "c-1",
        "traded_quantity": size, "traded_price": price, "fees": "-0.001", "fee_instrument_name": "USD",
        "taker_side": "TAKER", "side": "SELL", "instrument_name": CRO, "create_time": 1783118633545,
        "create_time_ns": "1783118633545000999",
    } | more  # fmt: skip


def test_an_order_is_its_row_and_its_executions() -> None:
    """Size and value by the row at once, fees by executions as they come, each once however often it is told."""
    known = KnownOrders()
    first = known.order(row(filled="20", value="1.2184", status="FILLED"))
    assert (first.filled_size, first.filled_value, first.quote_fees) == (D(20), D("1.2184"), D(0))
    assert not known.complete(first)
    for one in (trade("1", "12"), trade("2", "8"), trade("1", "12")):
        known.fill(one)
    filled = known.filled("77")
    assert filled is not None
    assert (filled.filled_size, filled.filled_value, filled.quote_fees) == (D(20), D("1.2184"), D("0.002"))
    assert (filled.status, filled.fill_count, filled.base_size) == (VenueStatus.FILLED, 2, D(20))
    assert filled.created_at == datetime(2026, 7, 3, 22, 43, 53, 544546, UTC)
    assert known.complete(filled)


def test_an_execution_can_come_before_its_order() -> None:
    """It is told at once as an open order that has filled so much; the row then says how it stands."""
    known = KnownOrders()
    item = known.fill(trade("1", "12"))
    assert (item.fee, item.fee_currency, item.liquidity) == (D("0.001"), "USD", "TAKER")
    assert item.at == datetime(2026, 7, 3, 22, 43, 53, 545000, UTC)
    early = known.filled("77")
    assert early is not None
    assert (early.status, early.filled_size, early.client_order_id) == (VenueStatus.OPEN, D(12), "c-1")
    order = known.order(row("CANCELED", filled="12", value="0.73104"))
    assert (order.status, order.quote_fees, order.on_request) == (VenueStatus.CANCELLED, D("0.001"), True)


def test_fees_are_counted_in_the_currency_that_was_taken() -> None:
    """Quote, base, and any other, whatever was asked for; a positive figure is a rebate."""
    known = KnownOrders()
    for number, (fees, currency) in enumerate((("-0.1", "CRO"), ("-0.01", "USD"), ("0.002", "USD"), ("-0.3", "USDT"))):
        known.fill(trade(str(number), "5", fees=fees, fee_instrument_name=currency))
    order = known.order(row("FILLED", filled="20", value="1.2184"))
    assert (order.base_fees, order.quote_fees, order.other_fees) == (D("0.1"), D("0.008"), {"USDT": D("0.3")})


def test_a_fee_without_a_currency_is_not_guessed() -> None:
    """Such an execution can't be read; one without a fee needs no currency."""
    known = KnownOrders()
    with pytest.raises(MessageError, match="currency of the fee"):
        known.fill(trade("1", "5", fee_instrument_name=""))
    assert known.fill(trade("1", "5", fees="0", fee_instrument_name="")).fee == 0


@pytest.mark.parametrize(
    ("more", "status", "on_request", "reason"),
    [
        ({"status": "NEW"}, VenueStatus.PENDING, False, ""),
        ({"status": "PENDING"}, VenueStatus.PENDING, False, ""),
        ({"status": "ACTIVE"}, VenueStatus.OPEN, False, ""),
        ({"status": "CANCELED", "reason": 0}, VenueStatus.CANCELLED, True, ""),
        ({"status": "CANCELED", "reason": 43012}, VenueStatus.CANCELLED, False, "SELF_TRADE_PREVENTION"),
        ({"status": "CANCELED", "time_in_force": "IMMEDIATE_OR_CANCEL"}, VenueStatus.CANCELLED, False, ""),
        ({"status": "CANCELED", "contingency_type": "OCO"}, VenueStatus.CANCELLED, False, ""),
        ({"status": "REJECTED", "reason": "43005"}, VenueStatus.FAILED, False, "POST_ONLY_REJ"),
        ({"status": "REJECTED", "reject_reason": "NO_MARK_PRICE"}, VenueStatus.FAILED, False, "NO_MARK_PRICE"),
        ({"status": "EXPIRED"}, VenueStatus.EXPIRED, False, ""),
        ({"status": "SOMETHING"}, VenueStatus.PENDING, False, ""),
    ],
)  # fmt: skip
def test_statuses(more: dict[str, object], status: VenueStatus, on_request: bool, reason: str) -> None:
    """Each status of the venue, and why it ended; an unknown one is no end."""
    order = KnownOrders().order(row(**more))  # type: ignore[arg-type]
    assert (order.status, order.on_request, order.reason) == (status, on_request, reason)
    assert known_status(more["status"]) is (more["status"] != "SOMETHING")


def test_a_market_buy_for_money_has_filled_when_it_ends_cancelled() -> None:
    """As recorded: bought for 1.2184 USD, 19 whole coins, the rest unspent, CANCELED. Its 19 of 19 are filled."""
    recorded = row(
        "CANCELED", "19", "1.15767", order_type="MARKET", side="BUY", exec_inst=["NOTIONAL_ORDER"], quantity="19",
        order_value="1.21840", ref_price="0", avg_price="0.06093", cumulative_fee="0.095", fee_instrument_name="CRO",
        transaction_time_ns=1783118632956192097,
    )  # fmt: skip
    order = KnownOrders().order(recorded)
    assert (order.status, order.filled_size, order.filled_value) == (VenueStatus.FILLED, D(19), D("1.15767"))
    assert order.updated_at == datetime(2026, 7, 3, 22, 43, 52, 956192, UTC)
    short = KnownOrders().order({**recorded, "cumulative_quantity": "4", "cumulative_value": "0.24372"})
    assert (short.status, short.on_request) == (VenueStatus.CANCELLED, False)


def test_a_trigger_is_one_order_under_all_its_ids() -> None:
    """The order's own id, the matching engine's and ours lead to the same order, in whatever order they are told."""
    known = KnownOrders()
    known.submitted("900", "c-1", advanced=True)
    assert known.is_advanced("900")
    trigger = row("PENDING", order_id="900", order_type="STOP_LIMIT", list_id=1, ref_price="0.061")
    assert known.order(trigger, advanced=True).exchange_order_id == "900"
    # At the matching engine it has another id, and executions may carry either.
    assert known.order(row(order_id="77", filled="12", value="0.73104")).exchange_order_id == "900"
    assert known.fill(trade("1", "12")).exchange_order_id == "900"
    assert known.fill(trade("2", "8", client_oid="")).exchange_order_id == "900"
    ended = known.order(
        {**trigger, "status": "FILLED", "exchange_order_id": "77"}
        | {"cumulative_quantity": "20", "cumulative_value": "1.2184", "update_time": 1783118633999},
        advanced=True,
    )
    assert (ended.exchange_order_id, ended.status, ended.quote_fees) == ("900", VenueStatus.FILLED, D("0.002"))
    assert not known.is_advanced("77")


def test_executions_under_the_engines_id_come_along() -> None:
    """What was noted before anybody said that two ids are one order is the order's all the same."""
    known = KnownOrders()
    known.fill(trade("1", "20", client_oid=""))
    order = known.order(row("FILLED", "20", "1.2184", order_id="900", exchange_order_id="77"), advanced=True)
    assert (order.exchange_order_id, order.quote_fees) == ("900", D("0.001"))
    assert [item.exchange_order_id for item in known.fills("900")] == ["900"]


def test_the_memory_is_bounded() -> None:
    """The orders that were heard of least recently are forgotten with all their ids."""
    known = KnownOrders(most=2)
    known.order(row(order_id="1", client_oid="c-1", exchange_order_id="10"), advanced=True)
    for number in ("2", "3"):
        known.order(row(order_id=number, client_oid=f"c-{number}"))
    assert known.filled("1") is None
    assert known.identity("10") == "10"
    assert known.identity("x", "c-1") == "x"


def test_an_older_row_does_not_replace_a_newer_one() -> None:
    """After it an execution is still told with the newer state."""
    known = KnownOrders()
    known.order(row("FILLED", "20", "1.2184", update_time=1783118633999))
    known.order(row("ACTIVE", "12", "0.73104", update_time=1783118633000))
    known.fill(trade("1", "12"))
    filled = known.filled("77")
    assert filled is not None
    assert filled.status is VenueStatus.FILLED


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (row(order_id=""), "order_id"), (row(instrument_name=None), "instrument_name"), (row(side="BOTH"), "side"),
        (row(filled="5", avg_price="0"), "without a price"), (row(filled="-1"), "negative"),
        (row(filled="x"), "not a number"), (row(create_time_ns="x"), "create_time_ns"),
    ],
)  # fmt: skip
def test_a_row_that_can_not_be_read_says_why(broken: dict[str, object], words: str) -> None:
    """A row without ids, or with a fill at no price, is an error with a reason, never a guess."""
    with pytest.raises(MessageError, match=words):
        KnownOrders().order(broken)


def test_what_is_certain_of_an_unreadable_row() -> None:
    """The filled size and the end are used also where the rest can't be read."""
    assert size_for_sure(row("CANCELED", filled="5", side="?")) == (D(5), True)
    assert size_for_sure(row("ACTIVE", filled="5")) == (D(5), False)
    assert size_for_sure({"cumulative_quantity": "x"}) == (None, False)
    assert size_for_sure("text") == (None, False)


def _report(order: VenueOrder) -> Report:
    totals = Totals(order.filled_size, order.filled_value, order.quote_fees, order.base_fees)
    return Report.of_venue(order.status, totals)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_whatever_the_order_of_arrival_the_totals_end_the_same(sizes: list[int], data: st.DataObject) -> None:
    """Rows after each execution, and executions, told in any order and repeated, merge into one truth with all fees."""
    told: list[tuple[str, dict[str, object]]] = []
    total, value = 0, D(0)
    for number, size in enumerate(sizes):
        price = D(10 + number)
        total, value = total + size, value + size * price
        status = "FILLED" if number == len(sizes) - 1 else "ACTIVE"
        stamp = 1783118633545 + number
        told.append(("row", row(status, str(total), str(value), quantity=str(sum(sizes)), update_time=stamp)))
        told.append(("trade", trade(str(number), str(size), str(price), fees="-0.5")))
    told += data.draw(st.lists(st.sampled_from(told), max_size=4))
    known, seen = KnownOrders(), Report(AttemptStatus.SUBMITTING)
    for kind, item in data.draw(st.permutations(told)):
        if kind == "row":
            order: VenueOrder | None = known.order(item)
        else:
            known.fill(item)
            order = known.filled("77")
        assert order is not None
        seen = merge(seen, _report(order))
    assert seen == Report(AttemptStatus.FILLED, Totals(D(total), value, D(len(sizes)) / 2))
