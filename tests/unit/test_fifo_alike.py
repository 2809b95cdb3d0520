"""The same fill under two ids: paired once, by its content, only between formats."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fifo.alike import AlikeFills, SeenFill

AT = datetime(2022, 1, 1, 10, tzinfo=UTC)
_FILLS = st.lists(
    st.tuples(st.sampled_from(["BTC", "ETH"]), st.booleans(), st.integers(1, 3), st.integers(0, 2_000)), max_size=30
)
_FORMS: dict[str, Callable[[str, str], str]] = {
    "fills": lambda symbol, name: f"{symbol}/{name}",
    "given": lambda symbol, name: name,
    "for": lambda symbol, name: f"2022-01-01T10:00:00+00:00 buy 1 {symbol} for 100, fee {name}",
    "at": lambda symbol, name: f"2022-01-01T10:00:00+00:00 buy 1 {symbol} at 100, fee {name}",
}
HEX, UUID = "67645f1f8e8ebf2624a29d83", "57FFB4AE-0c59-5430-bcd3-3f98f797a66c"
SAYS = "2022-01-01T10:00:00+00:00 buy 1 ETH-USD for 100, fee 0"
CONVERT = "2022-01-01T10:00:00+00:00 convert 1 BTC to 2 ETH for"


def seen(
    fill_id: str = "BTC-USD/1", symbol: str = "BTC-USD", size: str = "1", net: str = "100", after: int = 0
) -> SeenFill:
    """A buy, this many microseconds after ten o'clock."""
    return SeenFill(fill_id, symbol, True, Decimal(size), Decimal(net), AT + timedelta(microseconds=after))


def paid(row: str, asset: str = "ETH", coin: str = "USDC", *, conversion: bool = False) -> list[SeenFill]:
    """Two units of an asset, bought with 100 of a coin."""
    return [
        seen(f"{row}/{asset}" if conversion else row, f"{asset}-USD", "2"),
        seen(f"{row}/{coin}", f"{coin}-USD", "100")._replace(buy=False),
    ]


def pairs(there: list[SeenFill], *rows: list[SeenFill], other_rows: dict[str, str] | None = None) -> list[str | None]:
    """For each row the id of the first fill that it is paired with."""
    twins = AlikeFills()
    twins.put(there)
    found = twins.pair(rows, other_rows or {})
    return [found[place][0][1].id if place in found else None for place in range(len(rows))]


@given(_FILLS, st.randoms(use_true_random=False), st.sampled_from(list(_FORMS)), st.sampled_from(list(_FORMS)))
def test_fills_of_another_form_are_found_once_and_of_the_same_never(
    fills: list[tuple[str, bool, int, int]], order: object, first: str, second: str
) -> None:
    """With times in milliseconds and in seconds, in any order: as many pairs as there are fills, however many are
    alike, between two formats; none within one format, whose ids differ.
    """
    fine = [
        SeenFill(_FORMS[first](f"{asset}-USD", f"9{number}"), f"{asset}-USD", buy, Decimal(size), Decimal(size),
             AT + timedelta(milliseconds=after))
        for number, (asset, buy, size, after) in enumerate(fills)
    ]  # fmt: skip
    coarse = [
        item._replace(id=_FORMS[second](item.symbol, f"8{number}"), at=item.at.replace(microsecond=0))
        for number, item in enumerate(fine)
    ]
    order.shuffle(coarse)  # type: ignore[attr-defined]
    twins = AlikeFills()
    twins.put(fine)
    twins.put(fine[:7])
    found = twins.pair([[item] for item in coarse])
    taken = [other for ((_, other),) in found.values()]
    assert sorted(taken) == (sorted(fine) if first != second else [])
    assert all(one[1:4] == other[1:4] for ((one, other),) in found.values())


@pytest.mark.parametrize(
    ("there", "new", "same"),
    [
        (seen(), seen("b"), True),
        (seen(), seen("b", after=999_999), True),
        (seen(), seen("b", after=1_000_000), False),
        (seen(after=123_000), seen("b", after=123_456), True),
        (seen(after=123_000), seen("b", after=124_000), False),
        (seen(after=123_456), seen("b", after=123_457), False),
        (seen(size="0.123456789012"), seen("b", size="0.12345679"), True),
        (seen(size="0.12345678"), seen("b", size="0.12345679"), False),
        (seen(), seen("b", symbol="ETH-USD"), False),
        (seen(), seen("b", symbol="BTC-USDC"), True),
        (seen(), seen("b", symbol="BTC-EUR"), False),
        (seen("MATIC-USD/1", "MATIC-USD"), seen("b", symbol="POL-USD"), True),
        (seen(SAYS.replace("ETH", "MATIC"), "MATIC-USD"), seen(SAYS.replace("ETH", "POL"), "POL-USD"), True),
        (seen(), seen("b")._replace(buy=False), False),
        (seen("a"), seen("b"), False),
        (seen(HEX), seen("own-1"), True),
        (seen(UUID), seen("own-1", after=123_456), True),
        (seen(UUID), seen(HEX), False),
        (seen(HEX), seen(HEX.replace("f", "e")), False),
    ],
)
def test_what_is_the_same(there: SeenFill, new: SeenFill, same: bool) -> None:
    """Moments and sizes are compared at the coarser precision; USD and USDC are one book, other currencies are not, an
    asset may have been renamed, and ids assigned by Coinbase are another format than others.
    """
    for one, other in ((there, new), (new, there)):
        assert pairs([one], [other]) == [one.id if same else None]


@pytest.mark.parametrize(
    ("there", "new", "same"),
    [
        (paid(SAYS), paid("a"), True),
        (paid("a"), paid("b"), False),
        (paid(SAYS), paid("a", "SOL"), False),
        (paid(SAYS), paid("a", coin="DAI"), False),
        (paid("a", coin="BTC"), [seen("ETH-BTC/1", "ETH-BTC", "2")], True),
        (paid("a", coin="BTC"), [seen("ETH-EUR/1", "ETH-EUR", "2")], False),
        (paid("a"), [seen("ETH-USD/1", "ETH-USD", "2")], True),
        (paid("a"), [seen("USDC-USD/1", "USDC-USD", "100")._replace(buy=False)], False),
        (paid("a", conversion=True), [seen("ETH-USD/1", "ETH-USD", "2")], False),
        (paid("a", conversion=True), [seen(SAYS, "ETH-USD", "2")], False),
        (paid("a", conversion=True), [seen("b", "ETH-USD", "2")], False),
        (paid("a", conversion=True), paid("b", conversion=True), True),
        (paid("a", conversion=True), paid(f"{CONVERT} 100 USD", conversion=True), True),
        (paid(f"{CONVERT} 100 USD", conversion=True), paid(f"{CONVERT} 90 USD", conversion=True), True),
        (paid(f"{CONVERT} 100 USD", conversion=True), paid(SAYS), False),
    ],
)
def test_a_row_is_the_same_with_all_of_its_fills(there: list[SeenFill], new: list[SeenFill], same: bool) -> None:
    """The other coin's fill alone doesn't make two rows one; a pair's fill matches both of a row that names its
    currencies."""
    assert pairs(there, new) == [there[[leg.asset for leg in there].index(new[0].asset)].id if same else None]
    assert (pairs(new, there) != [None]) == same


def test_a_conversion_of_which_both_rows_are_there_is_no_third_one() -> None:
    """Two alike in one second in two files stay two, if rows for each side say which ids are one conversion."""
    there = paid("a", conversion=True)
    known = {"b": "c", "c": "b"}
    assert pairs(there, paid("b", conversion=True)) == ["a/ETH"]
    assert pairs(there, paid("b", conversion=True), other_rows=known) == [None]
    assert pairs(there, paid("b", conversion=True), other_rows={"b": "a", "a": "b"}) == ["a/ETH"]


@pytest.mark.parametrize(
    ("there", "new", "may_be"),
    [
        (seen("a"), seen("b"), True),
        (seen("a"), seen("b", after=1), True),
        (seen(HEX), seen(UUID), True),
        (seen("a"), seen("b", net="103"), False),
        (seen("a"), seen("b", symbol="BTC-EUR"), False),
        (seen("a"), seen("b", size="2"), False),
        (seen("BTC-USD/1"), seen("BTC-USD/2"), False),
    ],
)
def test_what_may_be_there_under_another_id(there: SeenFill, new: SeenFill, may_be: bool) -> None:
    """Fills that differ only by ids of one format; each stored one is named for one row, and none that is paired."""
    twins = AlikeFills()
    twins.put([there])
    assert twins.doubted([[new], [new]], ()) == ({0: there} if may_be else {})
    assert twins.doubted([[new]], {there.id}) == {}


def test_rows_paid_with_one_coin_are_told_apart() -> None:
    """Two with the same moment and amount of the coin, in any order: each is paired with the one of its own asset."""
    there = [*paid(SAYS.replace("ETH", "BTC"), "BTC"), *paid(SAYS)]
    assert pairs(there, paid("x"), paid("y", "BTC")) == [SAYS, SAYS.replace("ETH", "BTC")]


def test_of_more_the_one_that_costs_the_most_alike_is_taken() -> None:
    """Two with the same size and second are distinguished by cost, whichever row is first."""
    there = [seen("BTC-USD/1"), seen("BTC-USDC/2", "BTC-USDC", net="105"), seen("BTC-USD/3", net="105")]
    assert pairs(there, *[[seen(name, net="105")] for name in "wxyz"]) == ["BTC-USD/3", "BTC-USD/1", "BTC-USDC/2", None]
    assert pairs([seen(net="40400")], [seen("a", net="50400")], [seen("b", net="40400")]) == [None, "BTC-USD/1"]


def test_what_costs_the_same() -> None:
    """Costs are equal within the rounding of reports; amounts in different currencies are not compared."""
    assert seen().costs_the_same(seen(net="101"))
    assert not seen().costs_the_same(seen(net="103"))
    assert seen(net="0").costs_the_same(seen(net="0.05"))
    assert seen().costs_the_same(seen(symbol="BTC-EUR", net="90000"))
    assert not seen(symbol="ETH-BTC", net="0.03").costs_the_same(seen(symbol="ETH-BTC", net="0.05"))
    assert seen(symbol="ETH-BTC", net="0.03").costs_the_same(seen(symbol="ETH-BTC", net="0.03000005"))
    assert seen(symbol="BTC-JPY", net="3").costs_the_same(seen(symbol="BTC-JPY", net="8"))
