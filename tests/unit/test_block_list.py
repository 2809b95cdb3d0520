"""Buys of symbols that were on the block list at that time, by the list's recorded history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.block_list import HEARD_WITHIN, BlockList, Bought

START = datetime(2026, 3, 1, tzinfo=UTC)
BTC, ETH = "BTC-USD", "ETH-USD"


def at(seconds: float) -> datetime:
    """This many seconds after the history begins."""
    return START + timedelta(seconds=seconds)


def test_an_entry_of_a_blocked_symbol_is_found_with_both_times() -> None:
    """No entry before the block, after it, or in another symbol is found; one that is sent again during it is."""
    history = BlockList(START, frozenset({ETH}), [(at(100), frozenset({BTC, ETH})), (at(200), frozenset({ETH}))])
    bought = [
        Bought("before", BTC, at(99)),
        Bought("while", BTC, at(150)),
        Bought("again", BTC, at(90)),
        Bought("again", BTC, at(160)),
        Bought("after", BTC, at(200)),
        Bought("always", ETH, at(300)),
        Bought("unknown", ETH, at(-1)),
    ]
    found = {item.bought.order_key: (item.bought.at, item.since, item.early) for item in history.breaches(bought)}
    assert found == {
        "while": (at(150), at(100), False),
        "again": (at(160), at(100), False),
        "always": (at(300), START, False),
    }
    assert not history.knows(at(-1))


def test_an_entry_of_the_very_moment_is_early() -> None:
    """Not every worker knows a change at once; a block from the beginning was known to all."""
    history = BlockList(START, frozenset({ETH}), [(at(100), frozenset({BTC, ETH}))])
    moment = 100 + HEARD_WITHIN.total_seconds()
    found = history.breaches(
        [Bought("soon", BTC, at(moment - 1)), Bought("later", BTC, at(moment)), Bought("first", ETH, START)]
    )
    assert {item.bought.order_key: item.early for item in found} == {"soon": True, "later": False, "first": False}
    both = history.breaches([Bought("x", BTC, at(101)), Bought("x", BTC, at(150))])
    assert [(item.bought.at, item.early) for item in both] == [(at(150), False)]


def test_nothing_is_known_without_a_history() -> None:
    """No list is assumed: such entries are returned as unknown."""
    history = BlockList(None, frozenset({BTC}))
    assert not history.knows(START)
    assert history.breaches([Bought("x", BTC, START)]) == []


@given(
    st.lists(st.frozensets(st.sampled_from("abc")), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 90)), max_size=20),
)
def test_what_is_found_is_what_the_list_of_its_moment_says(
    lists: list[frozenset[str]], bought: list[tuple[str, int]]
) -> None:
    """For any changes, an entry is found exactly if the list at that moment had its symbol."""
    history = BlockList(START, lists[0], [(at(10 * number), names) for number, names in enumerate(lists) if number])
    entries = [Bought(str(number), symbol, at(second)) for number, (symbol, second) in enumerate(bought)]
    wrong = {
        str(number)
        for number, (symbol, second) in enumerate(bought)
        if second >= 0 and symbol in lists[min(second // 10, len(lists) - 1)]
    }
    assert {item.bought.order_key for item in history.breaches(entries)} == wrong
