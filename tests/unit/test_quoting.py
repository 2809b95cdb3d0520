"""Where quotes are placed, and where not: pure rules."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.market import Product
from domain.orders import Side
from domain.quoting import (
    Level,
    QuoteCode,
    QuoteFacts,
    QuoteRules,
    Resting,
    SellableLot,
    dollar_twins,
    micro_price,
    quote_plan,
    without_own,
)

D = Decimal
PRODUCT = Product(
    symbol="BTC-USD",
    base="BTC",
    quote="USD",
    base_increment=D("0.00000001"),
    quote_increment=D("0.01"),
    price_increment=D("0.01"),
    base_min=D("0.00001"),
    base_max=D(100),
    quote_min=D(1),
    quote_max=D(1_000_000),
)
RULES = QuoteRules(
    min_profit=D("0.001"),
    min_quote_volume=D(1000),
    max_inventory=D(500),
    replace_after=D("0.0005"),
    renew_seconds=D(15),
    skew=D("0.5"),
    size_quote=D(50),
)
FACTS = QuoteFacts(
    "BTC-USD",
    RULES,
    product=PRODUCT,
    bids=[Level(D(49800), D(1))],
    asks=[Level(D(50200), D(1))],
    maker=D("0.002"),
    volume=D(1_000_000),
)


def levels(price: Decimal, size: Decimal) -> list[Level]:
    """A side of one level."""
    return [Level(price, size)]


prices = st.decimals("0.5", "100000", places=2)
sizes = st.decimals("0.001", "50", places=4)


@st.composite
def markets(draw: st.DrawFn) -> QuoteFacts:
    """Any market with two sides, any limits, any inventory, with or without resting quotes."""
    bid = draw(prices)
    ask = bid * (1 + draw(st.decimals("0.0001", "0.2", places=4)))
    ask = max(ask.quantize(D("0.01")), bid + D("0.01"))
    inventory = draw(st.one_of(st.just(D(0)), sizes))
    cost = draw(st.one_of(st.none(), prices))
    resting = []
    if draw(st.booleans()):
        resting.append(Resting("b", Side.BUY, draw(prices), draw(sizes), life=draw(st.decimals("0", "60", places=1))))
    if draw(st.booleans()):
        resting.append(Resting("a", Side.SELL, draw(prices), draw(sizes), entry_key="t1", life=D(40)))
    return replace(
        FACTS,
        bids=levels(bid, draw(sizes)),
        asks=levels(ask, draw(sizes)),
        maker=draw(st.decimals("0", "0.01", places=4)),
        inventory=inventory,
        lots=[SellableLot("t1", inventory, cost)] if inventory else [],
        resting=resting,
        rules=replace(
            RULES,
            min_profit=draw(st.decimals("0.0001", "0.01", places=4)),
            max_inventory=draw(st.decimals("1", "100000", places=2)),
            skew=draw(st.decimals("0", "1", places=2)),
            size_quote=draw(st.decimals("1", "5000", places=2)),
        ),
    )


@given(markets())
def test_what_is_placed_holds_every_limit(facts: QuoteFacts) -> None:
    """No quote crosses the touch, is off the increments, earns less than fees and profit, exceeds the inventory limit,
    sells more than its lot or below its cost; and nothing is placed beside a quote that still rests.
    """
    plan = quote_plan(facts)
    bid, ask = facts.bids[0], facts.asks[0]
    mid = (bid.price + ask.price) / 2
    fair = micro_price(bid, ask)
    needed = 2 * facts.maker + facts.rules.min_profit
    if (ask.price - bid.price) / mid <= needed:
        assert plan.bid.code is plan.ask.code is QuoteCode.SPREAD_TOO_NARROW
        assert (plan.place, plan.keep) == ((), ())
    for wanted in plan.place:
        assert wanted.price % PRODUCT.price_increment == 0
        assert wanted.size % PRODUCT.base_increment == 0
        assert wanted.size > 0
        assert not [item for item in facts.resting if item.side is wanted.side]
        if wanted.side is Side.BUY:
            assert wanted.price < ask.price
            assert wanted.price <= fair * (1 - needed / 2)
            assert facts.inventory * fair + wanted.size * wanted.price <= facts.rules.max_inventory
        else:
            assert wanted.price > bid.price
            assert wanted.price >= fair * (1 + needed / 2)
            lot = next(item for item in facts.lots if item.entry_key == wanted.entry_key)
            assert wanted.size <= lot.size
            if lot.cost is not None:
                assert wanted.price * (1 - facts.maker) >= lot.cost * (1 + facts.rules.min_profit) * D("0.999999999")
    for key in plan.keep:
        kept = next(item for item in facts.resting if item.order_key == key)
        if kept.side is Side.BUY:
            assert facts.inventory * fair + kept.left * kept.price <= facts.rules.max_inventory
    # Every resting quote is either kept or cancelled.
    assert {*plan.keep, *plan.cancel} == {item.order_key for item in facts.resting}


@given(markets())
def test_a_round_trip_at_both_prices_earns_the_least_profit(facts: QuoteFacts) -> None:
    """Buying at the bid and selling at the ask earns the minimum profit after both maker fees."""
    plan = quote_plan(replace(facts, resting=[], lots=[SellableLot("t1", D(1))], inventory=D(0)))
    by_side = {wanted.side: wanted.price for wanted in plan.place}
    if len(by_side) == 2:
        bid, ask = by_side[Side.BUY], by_side[Side.SELL]
        gain = ask * (1 - facts.maker) - bid * (1 + facts.maker)
        fair = micro_price(facts.bids[0], facts.asks[0])
        assert gain >= facts.rules.min_profit * fair * D("0.999999999")


def test_both_sides_join_a_wide_market() -> None:
    """With something to sell, both sides are quoted at the touch of a profitable market."""
    plan = quote_plan(replace(FACTS, lots=[SellableLot("t1", D("0.001"), D(49000))]))
    assert [(item.side, item.price) for item in plan.place] == [(Side.BUY, D(49800)), (Side.SELL, D(50200))]
    assert plan.place[1].entry_key == "t1"
    assert plan.numbers["spread"] == D("0.008")


def test_inventory_leans_both_prices_down_and_ends_the_buying() -> None:
    """Half full: both prices are lower; full: no bid, with the numbers, and the ask is lower still."""
    empty = quote_plan(replace(FACTS, lots=[SellableLot("t", D("0.01"))]))
    half = quote_plan(replace(FACTS, lots=[SellableLot("t", D("0.01"))], inventory=D("0.005")))
    full = quote_plan(replace(FACTS, lots=[SellableLot("t", D("0.01"))], inventory=D("0.01")))
    assert half.bid.price is not None
    assert empty.bid.price is not None
    assert half.bid.price < empty.bid.price
    asks = [plan.ask.price for plan in (empty, half, full)]
    assert asks == [D(50200), D(50150), D(50125)]
    assert full.bid.code is QuoteCode.INVENTORY_FULL
    assert full.bid.sentence == "the inventory is worth 500 USD, the limit is 500"


def test_reasons_have_numbers() -> None:
    """Insufficient spread and volume are named with the measured and the required value."""
    narrow = quote_plan(replace(FACTS, asks=levels(D(49900), D(1))))
    assert narrow.ask.code is QuoteCode.SPREAD_TOO_NARROW
    assert narrow.ask.sentence == (
        "the spread is 0.2006 %, fees of both sides (0.4 %) and the minimum profit (0.1 %) need 0.5 %"
    )
    thin = quote_plan(replace(FACTS, volume=D("12.5")))
    assert (thin.bid.code, thin.bid.sentence) == (
        QuoteCode.VOLUME_TOO_LOW,
        "24 h volume is 12.5, the minimum is 1000 USD",
    )
    assert quote_plan(replace(FACTS, volume=None)).bid.code is QuoteCode.VOLUME_TOO_LOW


def test_what_stops_everything_takes_away_what_rests() -> None:
    """Each reason that needs no prices has its name, and every resting quote is cancelled for it."""
    resting = [Resting("b", Side.BUY, D(49800), D("0.001"))]
    stops = {
        QuoteCode.DISABLED: {"disabled": "switched off"},
        QuoteCode.HALTED: {"halted": "new entries are halted"},
        QuoteCode.BLACKLISTED: {"blocked": True},
        QuoteCode.HODL: {"hodl": True},
        QuoteCode.NOT_ON_LEADERBOARD: {"off_leaderboard": True},
        QuoteCode.EXIT_UNDER_WAY: {"exiting": True},
        QuoteCode.NO_MARKET_DATA: {"unread": "no answer"},
        QuoteCode.VENUE_HALTED: {"product": replace(PRODUCT, cancel_only=True)},
        QuoteCode.EMPTY_BOOK: {"bids": []},
    }
    for code, change in stops.items():
        plan = quote_plan(replace(FACTS, resting=resting, **change))  # type: ignore[arg-type]
        assert plan.bid.code is plan.ask.code is code
        assert (plan.place, list(plan.cancel)) == ((), ["b"])


def test_a_quote_stays_until_the_market_moves_or_its_life_ends() -> None:
    """Within the threshold it is kept; beyond it, or about to expire, it is cancelled and nothing is placed beside
    it."""
    near = Resting("b", Side.BUY, D("49790"), D("0.001"), life=D(30))
    assert quote_plan(replace(FACTS, resting=[near])).keep == ("b",)
    for old in (replace(near, price=D(49700)), replace(near, life=D(14))):
        plan = quote_plan(replace(FACTS, resting=[old]))
        assert plan.bid.code is QuoteCode.REPLACED
        assert list(plan.cancel) == ["b"]
        assert plan.place == ()
    assert "the market moved" in next(
        iter(quote_plan(replace(FACTS, resting=[replace(near, price=D(1))])).cancel.values())
    )


def test_the_oldest_lot_that_the_market_pays_for_is_sold_first() -> None:
    """A lot above the market waits at its own cost; a younger one that can be sold now is sold before it."""
    dear, cheap, cheaper = (
        SellableLot("dear", D("0.001"), D(52000)),
        SellableLot("cheap", D("0.001"), D(49000)),
        SellableLot("c", D(1), D(1)),
    )
    assert quote_plan(replace(FACTS, lots=[dear, cheap, cheaper])).place[1].entry_key == "cheap"
    alone = quote_plan(replace(FACTS, lots=[dear])).place[1]
    assert alone.price >= D(52000) * D("1.001") / (1 - FACTS.maker)
    # A quote that rests for another lot at the same price is kept.
    resting = Resting("a", Side.SELL, D(50200), D("0.001"), entry_key="c", life=D(30))
    assert quote_plan(replace(FACTS, lots=[cheap, cheaper], resting=[resting])).keep == ("a",)


def test_the_market_is_read_without_our_own_orders() -> None:
    """Our size is subtracted from its level, and a level that is only ours is removed."""
    own = [Resting("b", Side.BUY, D(10), D(2))]
    assert without_own([Level(D(10), D(5)), Level(D(9), D(1))], own, Side.BUY)[0] == Level(D(10), D(3))
    assert without_own([Level(D(10), D(2)), Level(D(9), D(1))], own, Side.BUY) == [Level(D(9), D(1))]
    assert without_own([Level(D(10), D(2))], own, Side.SELL) == [Level(D(10), D(2))]


def test_the_micro_price_leans_to_the_thin_side() -> None:
    """With more to buy than to sell it is nearer to the ask."""
    assert micro_price(Level(D(100), D(3)), Level(D(102), D(1))) == D("101.5")


def test_one_book_has_two_names() -> None:
    """BTC-USD and BTC-USDC are one market; products in euros or tethers are others."""
    assert (dollar_twins("BTC-USD"), dollar_twins("BTC-USDC")) == (("BTC-USDC",), ("BTC-USD",))
    assert dollar_twins("BTC-EUR") == dollar_twins("BTC-USDT") == ()
