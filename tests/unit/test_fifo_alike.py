"""The same fill under two ids: found once, by what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fifo.alike import Seen, Twins

AT = datetime(2022, 1, 1, 10, tzinfo=UTC)
_FILLS = st.lists(
    st.tuples(st.sampled_from(["BTC", "ETH"]), st.booleans(), st.integers(1, 3), st.integers(0, 2_000)), max_size=30
)


def seen(fill_id: str = "a", symbol: str = "BTC-USD", size: str = "1", net: str = "100", after: int = 0) -> Seen:
    """A buy, so many microseconds after ten o'clock."""
    return Seen(fill_id, symbol, True, Decimal(size), Decimal(net), AT + timedelta(microseconds=after))


@given(_FILLS, st.randoms(use_true_random=False), st.integers(0, 30))
def test_each_fill_of_another_form_is_found_once(
    fills: list[tuple[str, bool, int, int]], order: object, more: int
) -> None:
    """Times in milliseconds and in seconds, in any order: as many twins as there are fills, however many are alike,
    and none for what is one more.
    """
    fine = [
        Seen(f"f{number}", f"{asset}-USD", buy, Decimal(size), Decimal(size), AT + timedelta(milliseconds=after))
        for number, (asset, buy, size, after) in enumerate(fills)
    ]
    coarse = [item._replace(id=f"c{item.id}", at=item.at.replace(microsecond=0)) for item in fine]
    order.shuffle(coarse)  # type: ignore[attr-defined]
    twins = Twins()
    twins.put(fine)
    twins.put(fine[:more])
    found = [twins.take(item) for item in coarse]
    assert sorted(twin.id for twin in found if twin) == sorted(item.id for item in fine)
    assert all(twin and (twin.symbol, twin.buy, twin.size) == tuple(item[1:4]) for twin, item in zip(found, coarse))  # noqa: B905
    assert [twins.take(item) for item in coarse] == [None] * len(coarse)


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
        (seen(), seen("b")._replace(buy=False), False),
    ],
)
def test_what_is_the_same(there: Seen, new: Seen, same: bool) -> None:
    """As exactly as the coarser of two moments and sizes; the pair may be named in another currency."""
    for one, other in ((there, new), (new, there)):
        twins = Twins()
        twins.put([one])
        assert twins.take(other) == (one if same else None)


def test_of_more_the_one_of_its_symbol_and_cost_is_taken() -> None:
    """Two of one size and second are told apart by what they cost, where they can be."""
    twins = Twins()
    twins.put([seen("a", net="100"), seen("b", symbol="BTC-EUR", net="105"), seen("c", net="105")])
    assert [getattr(twins.take(seen("x", net="105")), "id", None) for _ in range(4)] == ["c", "a", "b", None]


def test_what_costs_the_same() -> None:
    """Within what reports round; amounts in different currencies are not compared."""
    assert seen().costs_the_same(seen(net="101"))
    assert not seen().costs_the_same(seen(net="103"))
    assert seen(net="0").costs_the_same(seen(net="0.05"))
    assert seen().costs_the_same(seen(symbol="BTC-EUR", net="90000"))
