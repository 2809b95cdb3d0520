"""Balance changes without a fill, and the trades that bear a shortage of the account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.balances import OpenQuantity, Transfer, TransferKind, shortage, take_from_trades, transfers

NOW = datetime(2026, 8, 9, 12, 0, tzinfo=UTC)


def test_the_first_look_at_balances_opens_the_books() -> None:
    """Before the first reconcile, any balance that fills don't explain is the opening balance of its currency."""
    found = transfers({"USD": Decimal(-100)}, {"USD": Decimal(900), "BTC": Decimal(0)}, opened=False)
    assert found == [
        Transfer("BTC", TransferKind.OPENING, Decimal(0), Decimal(0), Decimal(0)),
        Transfer("USD", TransferKind.OPENING, Decimal(1000), Decimal(-100), Decimal(900)),
    ]


def test_later_differences_of_balances_have_names() -> None:
    """More is a deposit, less a withdrawal, less than a millionth a rounding; no difference makes no row."""
    expected = {"USD": Decimal(10), "BTC": Decimal(2), "ETH": Decimal(1), "SOL": Decimal(5)}
    found = {"USD": Decimal(15), "BTC": Decimal("0.5"), "ETH": Decimal("1.0000000001"), "SOL": Decimal(5)}
    assert [(item.currency, item.kind, item.amount) for item in transfers(expected, found, opened=True)] == [
        ("BTC", TransferKind.WITHDRAWAL, Decimal("-1.5")),
        ("ETH", TransferKind.ROUNDING, Decimal("1E-10")),
        ("USD", TransferKind.DEPOSIT, Decimal(5)),
    ]


def quantity(name: str, minute: int, remaining: str, claimed: str = "0") -> OpenQuantity:
    """An open trade."""
    return OpenQuantity(name, NOW + timedelta(minutes=minute), Decimal(remaining), Decimal(claimed))


SHORTAGES: list[tuple[str, list[OpenQuantity], str, str, str]] = [
    ("the pool has enough", [quantity("a", 0, "1")], "3", "4", "0"),
    ("the pool is used up to the last", [quantity("a", 0, "1")], "0", "1", "0"),
    ("sold beyond the pool", [quantity("a", 0, "1")], "-0.4", "0.6", "0.4"),
    ("a buy by hand is not booked yet", [quantity("a", 0, "1")], "-0.4", "1", "0"),
    ("a deposit is not booked yet, and covers a part", [quantity("a", 0, "1")], "-0.4", "0.9", "0.1"),
    ("an exit was filled and is not booked yet", [quantity("a", 0, "1", "1")], "-0.4", "0", "0"),
    (
        "an exit rests, another trade's coins were sold",
        [quantity("a", 0, "1", "1"), quantity("b", 1, "1")],
        "-1",
        "0",
        "1",
    ),
    ("an own buy is not booked yet", [quantity("a", 0, "1")], "0", "2", "0"),
    ("somebody's open sell holds coins of ours", [quantity("a", 0, "1")], "0", "0.2", "0"),
    ("more left than we know of", [quantity("a", 0, "1")], "-5", "0", "1"),
]


@pytest.mark.parametrize(
    ("trades", "pool", "available", "expected"), [item[1:] for item in SHORTAGES], ids=[item[0] for item in SHORTAGES]
)
def test_trades_bear_what_books_and_exchange_agree_on(
    trades: list[OpenQuantity], pool: str, available: str, expected: str
) -> None:
    """Nothing is taken from a trade unless both the books and the exchange's balance are short."""
    assert shortage(trades, Decimal(pool), Decimal(available)) == Decimal(expected)


def test_the_oldest_trades_bear_what_is_short() -> None:
    """Trades give their sizes, oldest first, and the last one only what is still needed."""
    trades = [quantity("new", 2, "1"), quantity("old", 0, "1"), quantity("mid", 1, "1")]
    taken = take_from_trades(trades, Decimal("1.25"))
    assert [(item.entry_key, item.size, item.left) for item in taken] == [
        ("old", Decimal(1), Decimal(0)),
        ("mid", Decimal("0.25"), Decimal("0.75")),
    ]


def test_what_an_exit_holds_at_the_exchange_is_not_taken() -> None:
    """A trade whose exit order rests at the exchange gives only the size that the order leaves."""
    trades = [quantity("old", 0, "1", claimed="0.75"), quantity("new", 1, "1")]
    assert [(item.entry_key, item.size) for item in take_from_trades(trades, Decimal("0.5"))] == [
        ("old", Decimal("0.25")),
        ("new", Decimal("0.25")),
    ]


@given(
    remaining=st.lists(st.decimals(min_value=0, max_value=10, places=4), max_size=6),
    pool=st.decimals(min_value=-50, max_value=5, places=4),
    available=st.decimals(min_value=0, max_value=50, places=4),
)
def test_never_more_is_taken_than_is_short_or_held(remaining: list[Decimal], pool: Decimal, available: Decimal) -> None:
    """The sizes taken add up to the shortage, and at most empty the trades."""
    trades = [OpenQuantity(str(number), NOW, size) for number, size in enumerate(remaining)]
    short = shortage(trades, pool, available)
    taken = take_from_trades(trades, short)
    assert sum((item.size for item in taken), Decimal(0)) == short <= sum(remaining, Decimal(0))
    assert all(item.left >= 0 for item in taken)


def test_what_is_short_comes_out_of_somebody_elses_buys_before_ours() -> None:
    """An adopted trade bears a shortage before an older one of ours."""
    ours = OpenQuantity("ours", NOW - timedelta(hours=2), Decimal(1))
    adopted = OpenQuantity("adopted", NOW, Decimal(1), adopted=True)
    assert [(item.entry_key, item.size) for item in take_from_trades([ours, adopted], Decimal("1.5"))] == [
        ("adopted", Decimal(1)),
        ("ours", Decimal("0.5")),
    ]
