"""Numbers and sentences as shown to people."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from domain.messages import ExternalOrder, StatusSource
from domain.orders import AttemptStatus, OrderState, Side
from domain.wording import (
    about,
    book_price,
    cash,
    compared,
    external_summary,
    money,
    percent,
    rounded,
    short,
    tidy,
)
from workflows.timeline import Timeline


@pytest.mark.parametrize(
    ("value", "read"),
    [("0.10000000", "0.1"), ("1234.123456789", "1234.12345679"), ("0.0000000000123", "0.000000000012"), ("0", "0")],
)
def test_an_amount_has_eight_places_and_what_is_there_is_not_zero(value: str, read: str) -> None:
    """As a text and as a number in a table an amount is shown alike, and dust is never shown as zero."""
    assert money(Decimal(value)) == read
    assert f"{tidy(Decimal(value)):f}" == read


@pytest.mark.parametrize(
    ("price", "read"), [("50123.4567", "50123.46"), ("0.000123456789", "0.000123457"), ("12.3", "12.3")]
)
def test_a_computed_price_has_two_decimals_or_six_digits(price: str, read: str) -> None:
    """A stop of a cheap coin keeps its digits, and text, number and row agree."""
    assert (about(price), about(Decimal(price)), str(rounded(Decimal(price)))) == (read, read, read)


def test_what_is_not_known_is_a_dash_and_in_tables_nothing() -> None:
    """No unknown number is shown as zero."""
    assert (money(None), about(None), percent(None)) == ("–", "–", "–")
    assert (tidy(None), rounded(None), book_price(Decimal(0), Decimal(0))) == (None, None, None)


def test_profit_is_to_the_cent_and_less_than_a_cent_keeps_its_digits() -> None:
    """A fee below a cent is still a fee."""
    assert (cash(Decimal("1.005")), cash(Decimal("0.0012"))) == ("1.00", "0.0012")


def test_a_key_is_shortened_to_what_commands_take_back() -> None:
    """Twelve digits, and nothing without a key."""
    assert (short("0123456789abcdef"), short(None)) == ("0123456789ab", "")


def test_an_order_of_somebody_else_says_whose_it_is_not() -> None:
    """Side, size, product, price and how it was learnt are on one line."""
    order = ExternalOrder(
        order_key="0" * 32,
        account="main",
        exchange_order_id="x",
        symbol="BTC-USD",
        side=Side.BUY,
        order_type="LIMIT",
        base_size=Decimal("0.50"),
        limit_price=Decimal(50_000),
        source=StatusSource.WEBSOCKET,
        status=AttemptStatus.OPEN,
        state=OrderState.OPEN,
        at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    assert external_summary(order) == "BUY 0.5 BTC-USD LIMIT @ 50000 · external, by websocket"


def test_a_timeline_keeps_its_ends_and_shows_the_newest_first() -> None:
    """The beginning and the end of a long timeline are kept; the Web UI gets the last twenty lines."""
    timeline = Timeline()
    for number in range(500):
        timeline.add(f"t{number}", f"line {number}")
    assert len(timeline.lines) == 200
    assert (timeline.lines[0], timeline.lines[-1]) == ("t0 line 0", "t499 line 499")
    assert (timeline.markdown[0], len(timeline.markdown)) == ("- `t499` line 499", 20)


def test_what_a_gate_compared_is_read_and_not_computed_with() -> None:
    """Quotients have eight places, words are unchanged, and unknown values are left out."""
    numbers = {
        "limit": "9985.14076032317532099918686",
        "share": "0.100",
        "dust": "1.5E-9",
        "enabled": "True",
        "until": "2026-11-30 16:31:28+00:00",
        "rate": "NaN",
        "score": "None",
        "fired": "",
    }
    assert compared(numbers) == (
        "limit 9985.14076032, share 0.1, dust 0.0000000015, enabled True, until 2026-11-30 16:31:28+00:00, rate NaN"
    )
