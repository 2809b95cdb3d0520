"""Keys derived from intents, and the one way to make decimals."""

from __future__ import annotations

import decimal
import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import (
    MAX_ATTEMPTS,
    client_order_id,
    exit_workflow_id,
    intent_key,
    order_workflow_id,
    parse_client_order_id,
)
from domain.money import EXACT, average, decimal_from, divide, plain, round_down, round_half_even, round_up, to_read

parts = st.tuples(*[st.text(max_size=12)] * 6)
numbers = st.decimals(min_value=-(10**9), max_value=10**9, places=12, allow_nan=False, allow_infinity=False)
increments = st.sampled_from([Decimal("0.01"), Decimal("0.00000001"), Decimal("0.05"), Decimal(1), Decimal(25)])


@given(parts, parts)
def test_keys_are_deterministic_and_differ_for_different_intents(a: tuple[str, ...], b: tuple[str, ...]) -> None:
    """The same intent always has the same key, another intent another one, wherever its parts begin and end."""
    assert intent_key(*a) == intent_key(*a)
    assert (intent_key(*a) == intent_key(*b)) is (a == b)


def test_a_key_is_known_for_ever() -> None:
    """The derivation is fixed: a change could send an old intent a second time."""
    assert intent_key("manual", "r1", "main", "BTC-USD", "BUY") == "7578fd14ccb052e6b1818ccdb9304cdf"


@given(parts, st.integers(min_value=1, max_value=MAX_ATTEMPTS))
def test_attempt_ids_fit_the_venues_and_lead_back(intent: tuple[str, ...], attempt: int) -> None:
    """A client order id has at most 36 characters and gives back key and attempt."""
    key = intent_key(*intent)
    identity = client_order_id(key, attempt)
    assert len(identity) <= 36
    assert parse_client_order_id(identity) == (key, attempt)


@pytest.mark.parametrize("attempt", [0, -1, MAX_ATTEMPTS + 1])
def test_attempt_numbers_out_of_range_are_refused(attempt: int) -> None:
    """An id that would not fit 36 characters is never made."""
    with pytest.raises(ValueError, match="attempt must be 1 to 999"):
        client_order_id("0" * 32, attempt)


@pytest.mark.parametrize(
    "foreign", ["", "abc", "0" * 32, f"{'0' * 32}-0", f"{'0' * 32}-01", f"{'0' * 32}-1000", f"{'G' * 32}-1"]
)
def test_foreign_ids_are_not_ours(foreign: str) -> None:
    """An id of another form belongs to no attempt."""
    assert parse_client_order_id(foreign) is None


def test_workflow_ids_contain_the_key() -> None:
    """A stream event is routed to its workflow without a look-up."""
    assert order_workflow_id("k") == "order-k"
    assert exit_workflow_id("k") == "exit-k"


@given(numbers, increments)
def test_rounding_goes_where_it_says(value: Decimal, increment: Decimal) -> None:
    """Rounding down is not above, up is not below, both within one increment and on it."""
    down, up, near = round_down(value, increment), round_up(value, increment), round_half_even(value, increment)
    assert down <= value <= up
    assert up - down in (0, increment)
    assert near in (down, up)
    assert abs(near - value) * 2 <= increment


@given(numbers)
def test_plain_text_is_the_same_number(value: Decimal) -> None:
    """Text for venues has no exponent and loses no digit."""
    text = plain(value)
    assert "E" not in text
    assert Decimal(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("", "0"), (None, "0"), (".19", "0.19"), (0.1, "0.1"), ("1e3", "1000"), (7, "7")]
)
def test_a_venues_numbers_are_read_exactly(text: object, value: str) -> None:
    """Numbers as venues send them become exact decimals; a float by its shortest text."""
    assert decimal_from(text) == Decimal(value)


@pytest.mark.parametrize("text", ["abc", "NaN", "Infinity", "1,5"])
def test_what_is_not_a_number_is_refused(text: str) -> None:
    """Nothing that isn't a finite number becomes money."""
    with pytest.raises(ValueError, match="not a"):
        decimal_from(text)


def test_division_does_not_depend_on_the_threads_context() -> None:
    """Workflow tasks run on threads with their own contexts: the result is the same on each."""
    results: list[Decimal] = []

    def compute() -> None:
        decimal.setcontext(decimal.Context(prec=5))
        results.append(divide(Decimal(2), Decimal(3)))

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert results == [divide(Decimal(2), Decimal(3))]


def test_a_new_thread_multiplies_exactly() -> None:
    """A size times a price is never rounded, on any thread without a context of its own."""
    results: list[Decimal] = []
    size, price = Decimal("123456789012.123456789012345678"), Decimal("98765.432109876543210987")
    thread = threading.Thread(target=lambda: results.append(size * price))
    thread.start()
    thread.join()
    assert results == [EXACT.multiply(size, price)]


def test_an_average_of_nothing_is_nothing() -> None:
    """No size, no price."""
    assert average(Decimal(5), Decimal(0)) is None
    assert average(Decimal(10), Decimal(3)) == Decimal("3.333333333333333333")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.0015330235327632", "0.00153302"),
        ("0.0000000035327632", "0.0000000035"),
        ("-0.0000000061128835", "-0.0000000061"),
        ("65100.370000000001", "65100.37"),
        ("0E-18", "0"),
    ],
)
def test_what_is_there_is_not_read_as_nothing(value: str, text: str) -> None:
    """Amounts are shown to eight places, and smaller ones with two digits."""
    assert plain(to_read(Decimal(value))) == text
