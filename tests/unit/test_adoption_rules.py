"""The rules of external orders alone: what is history, whose an id is, which adopted trade bears which sale."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest

from domain.adoption import AdoptedSale, bear_sales, bought_after, has_our_shape, is_news
from domain.balances import OpenQuantity
from domain.ids import client_order_id, intent_key

START = datetime(2026, 11, 1, tzinfo=UTC)
BEFORE, AFTER = START - timedelta(seconds=1), START + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("first_start", "created", "filled", "after"),
    [
        (START, AFTER, "1", True),
        (START, START, "1", True),
        (START, BEFORE, "1", False),
        (START, BEFORE, "0", True),
        (START, None, "1", False),
        (START, None, "0", True),
        (None, AFTER, "1", False),
        (None, AFTER, "0", False),
    ],
)
def test_only_what_is_bought_after_the_first_start_is_adopted(
    first_start: datetime | None, created: datetime | None, filled: str, *, after: bool
) -> None:
    """An older order counts if nothing of it was filled when it was first seen; if that is unknown, it is history."""
    assert bought_after(first_start, created, Decimal(filled)) is after


def test_an_id_as_we_give_them_is_told_from_others() -> None:
    """An id of ours is recognised by its exact form."""
    ours = client_order_id(intent_key("manual", "1", "a", "BTC-USD", "BUY"), 12)
    assert has_our_shape(ours)
    for other in ("", ours.upper(), ours + "\n", " " + ours, ours.replace("-12", "-0"), "6f1f3c52-0f2b-5b0a-9a3e"):
        assert not has_our_shape(other)


def test_an_earlier_instances_order_is_no_news_unless_it_lives() -> None:
    """A new ledger on an account that traded before raises no incident; open or later orders do."""
    assert not is_news(START, BEFORE, open_still=False)
    assert is_news(START, BEFORE, open_still=True)
    assert is_news(START, AFTER, open_still=False)
    assert is_news(START, None, open_still=False)


def trade(name: str, seconds: int, remaining: str, claimed: str = "0") -> OpenQuantity:
    """An adopted trade that was bought this many seconds after the start."""
    return OpenQuantity(name, START + timedelta(seconds=seconds), Decimal(remaining), Decimal(claimed), adopted=True)


def sale(name: str, seconds: int, size: str) -> AdoptedSale:
    """A sale this many seconds after the start."""
    return AdoptedSale(name, START + timedelta(seconds=seconds), Decimal(size))


def borne(sales: list[AdoptedSale], trades: list[OpenQuantity]) -> list[tuple[str, str, Decimal, Decimal]]:
    """Sale, trade, the size taken and the size left."""
    return [
        (item.sale_key, item.taken.entry_key, item.taken.size, item.taken.left) for item in bear_sales(sales, trades)
    ]


def test_a_sale_takes_from_the_oldest_buys_before_it_and_in_any_order_the_same() -> None:
    """A later buy bears no earlier sale, claims of exits stay, and the rest is taken from the pool."""
    trades = [trade("a", 0, "1"), trade("b", 10, "1", "0.4"), trade("c", 30, "5")]
    sales = [sale("first", 20, "1.2"), sale("second", 20, "3"), sale("early", -5, "9")]
    for some in permutations(sales):
        for others in permutations(trades):
            assert borne(list(some), list(others)) == [
                ("first", "a", Decimal(1), Decimal(0)),
                ("first", "b", Decimal("0.2"), Decimal("0.8")),
                ("second", "b", Decimal("0.4"), Decimal("0.4")),
            ]
    assert borne([], trades) == borne(sales, []) == []


def test_what_a_buy_gets_after_a_sale_bears_nothing_of_it() -> None:
    """An order that fills in two parts keeps its second part whole, though the sale in between was larger than the
    first."""
    bought = ((START, Decimal("0.3")), (START + timedelta(seconds=30), Decimal("0.2")))
    whole = OpenQuantity("a", START, Decimal("0.5"), adopted=True, bought=bought)
    sold = sale("s", 10, "0.7")
    assert borne([sold], [whole]) == [("s", "a", Decimal("0.3"), Decimal("0.2"))]
    rest = OpenQuantity("a", START, Decimal("0.2"), adopted=True, bought=bought)
    assert borne([sale("s", 10, "0.4")], [rest]) == []
    assert borne([sale("s", 30, "0.4")], [rest]) == [("s", "a", Decimal("0.2"), Decimal(0))]
