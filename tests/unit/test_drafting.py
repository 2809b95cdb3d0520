"""Prices and sizes of an intent's attempts: on the tick, on the step, and never more than requested."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.drafting import (
    Draft,
    as_asked,
    at_bid,
    at_touch,
    claimable,
    limit_exit,
    market_exit,
    needs_touch,
    protecting,
    remainder,
    rests_again,
    selling,
)
from domain.exits import ExitReason, ExitRules
from domain.market import Product, Quote
from domain.messages import OrderIntent
from domain.orders import OrderRole, OrderType, Side, TimeInForce
from domain.protection import ProtectionRole
from domain.sizing import size_problem
from tests.support.intents import limit_buy, market_buy, sell

AT = datetime(2026, 3, 1, tzinfo=UTC)
BTC = Product(
    symbol="BTC-USD",
    base="BTC",
    quote="USD",
    base_increment=Decimal("0.0001"),
    quote_increment=Decimal("0.01"),
    price_increment=Decimal("0.05"),
    base_min=Decimal("0.001"),
    base_max=Decimal(3400),
    quote_min=Decimal(1),
    quote_max=Decimal(150_000_000),
)
LIMIT_ONLY = replace(BTC, limit_only=True)
TOUCH = Quote("BTC-USD", Decimal("49999.95"), Decimal(50000), AT)
COLLAR = Decimal("0.01")
MARKET = Draft(OrderType.MARKET, None, None, None, TimeInForce.IOC)

sizes = st.decimals(min_value=0, max_value=1000, places=9, allow_nan=False, allow_infinity=False)
prices = st.decimals(min_value=1, max_value=10**6, places=6, allow_nan=False, allow_infinity=False)
amounts = st.decimals(min_value=1, max_value=10**7, places=6, allow_nan=False, allow_infinity=False)
collars = st.decimals(min_value=0, max_value="0.5", places=4, allow_nan=False, allow_infinity=False)
ways = st.sampled_from(["strategy", "webhook", "manual"])
products = st.sampled_from([BTC, LIMIT_ONLY])


@st.composite
def touches(draw: st.DrawFn) -> Quote:
    """A bid on the tick, and an ask at least one tick above it."""
    ticks = draw(st.integers(min_value=20, max_value=10**7))
    spread = draw(st.integers(min_value=1, max_value=1000))
    tick = BTC.price_increment
    return Quote(BTC.symbol, ticks * tick, (ticks + spread) * tick, AT)


@st.composite
def intents(draw: st.DrawFn) -> OrderIntent:
    """Any entry, and any sell from the pool."""
    fields: dict[str, Any] = {"entry_point": draw(ways), "post_only": draw(st.booleans())}
    fields["time_in_force"] = draw(st.sampled_from(TimeInForce))
    by_amount = draw(st.booleans())
    side = draw(st.sampled_from(Side))
    fields["order_type"] = draw(st.sampled_from([OrderType.MARKET, OrderType.LIMIT]))
    fields["limit_price"] = draw(st.one_of(st.none(), prices)) if fields["order_type"] is OrderType.LIMIT else None
    fields["base_size"] = None if by_amount else draw(sizes)
    fields["quote_size"] = draw(amounts) if by_amount else None
    make = market_buy if side is Side.BUY else sell
    return make("main", "1", **fields)


def on(value: Decimal, increment: Decimal) -> bool:
    """Whether it is a multiple."""
    return value % increment == 0


def drafted(intent: OrderIntent, product: Product, touch: Quote, collar: Decimal) -> tuple[Draft, Decimal | None]:
    """The first attempt, by the touch if needed."""
    return at_touch(intent, product, touch, collar) if needs_touch(intent, product) else as_asked(intent, product)


@given(intents(), products, touches(), collars)
def test_sizes_are_on_the_step_and_never_more_than_asked(
    intent: OrderIntent, product: Product, touch: Quote, collar: Decimal
) -> None:
    """A base size is rounded down by less than a step; a quote amount costs no more at the attempt's own price."""
    draft, _ = drafted(intent, product, touch, collar)
    assert (draft.base_size is None) != (draft.quote_size is None)
    if draft.quote_size is not None and intent.quote_size is not None:
        assert intent.quote_size - BTC.quote_increment < draft.quote_size <= intent.quote_size
        assert intent.entry_point == "manual" or on(draft.quote_size, product.quote_increment)
    if draft.base_size is not None:
        assert on(draft.base_size, product.base_increment)
        if intent.base_size is not None:
            assert intent.base_size - product.base_increment < draft.base_size <= intent.base_size
        if intent.quote_size is not None:
            assert draft.limit_price is not None
            assert draft.base_size * draft.limit_price <= intent.quote_size


@given(intents(), products, touches(), collars)
def test_prices_are_on_the_tick_and_no_worse_than_asked(
    intent: OrderIntent, product: Product, touch: Quote, collar: Decimal
) -> None:
    """A requested limit price is never made worse; a person's own is unchanged."""
    draft, worth = drafted(intent, product, touch, collar)
    price = draft.limit_price
    if price is None:
        assert draft.order_type is OrderType.MARKET
        return
    assert worth == price
    own = intent.entry_point == "manual" and intent.limit_price is not None and not intent.post_only
    assert price == intent.limit_price if own else on(price, product.price_increment)
    if intent.limit_price is not None:
        assert price <= intent.limit_price if intent.side is Side.BUY else price >= intent.limit_price


@given(intents(), products, touches(), collars)
def test_what_is_post_only_never_crosses(intent: OrderIntent, product: Product, touch: Quote, collar: Decimal) -> None:
    """A post-only order is priced off the other side's touch, so that the exchange has no reason to refuse it."""
    draft, _ = drafted(intent, product, touch, collar)
    if draft.post_only and draft.limit_price is not None:
        assert draft.limit_price < touch.ask if intent.side is Side.BUY else draft.limit_price > touch.bid


@given(products, touches(), collars, st.sampled_from(Side), st.booleans())
def test_what_is_to_trade_now_goes_no_further_than_the_collar(
    product: Product, touch: Quote, collar: Decimal, side: Side, by_amount: bool
) -> None:
    """MARKET if the product allows it; else a limit IOC that reaches the touch, within the collar rounded to a tick."""
    make = market_buy if side is Side.BUY else sell
    given_: dict[str, Any] = {"base_size": None, "quote_size": Decimal(100)} if by_amount else {}
    draft, worth = at_touch(make("main", "1", **given_), product, touch, collar)
    assert draft.time_in_force is TimeInForce.IOC
    if not product.limit_only:
        assert (draft.order_type, worth) == (OrderType.MARKET, touch.ask if side is Side.BUY else touch.bid)
        return
    assert draft.limit_price is not None
    tick = product.price_increment
    if side is Side.BUY:
        assert touch.ask <= draft.limit_price < touch.ask * (1 + collar) + tick
    else:
        assert touch.bid * (1 - collar) - tick < draft.limit_price <= touch.bid


@pytest.mark.parametrize(
    ("intent", "product", "expected"),
    [
        (market_buy("main"), BTC, True),
        (market_buy("main", base_size=None, quote_size=Decimal(100)), BTC, False),
        (market_buy("main", base_size=None, quote_size=Decimal(100)), LIMIT_ONLY, True),
        (limit_buy("main", "1", "49000"), BTC, False),
        (limit_buy("main", "1", "49000", post_only=True), BTC, True),
        (limit_buy("main", "1", "49000", limit_price=None), BTC, True),
        (limit_buy("main", "1", "49000", base_size=None, quote_size=Decimal(100)), BTC, True),
    ],
    ids=[
        "by size",
        "by amount",
        "by amount, limit only",
        "limit",
        "post-only",
        "limit at the touch",
        "limit by amount",
    ],
)
def test_the_touch_is_read_only_where_price_or_size_follow_from_it(
    intent: OrderIntent, product: Product, expected: bool
) -> None:
    """A complete request needs no book."""
    assert needs_touch(intent, product) is expected


def test_a_buy_without_a_price_rests_at_the_bid() -> None:
    """A limit buy without a price is at the touch's own side; one to trade at once is within the collar."""
    rests = limit_buy("main", "1", "1", limit_price=None)
    assert at_touch(rests, BTC, TOUCH, COLLAR) == (
        Draft(OrderType.LIMIT, Decimal(1), None, TOUCH.bid, TimeInForce.GTC),
        TOUCH.bid,
    )
    at_once = limit_buy("main", "1", "1", limit_price=None, time_in_force=TimeInForce.FOK)
    assert at_touch(at_once, BTC, TOUCH, COLLAR)[0] == Draft(
        OrderType.LIMIT, Decimal(1), None, Decimal(50500), TimeInForce.FOK
    )


def test_without_a_product_nothing_is_rounded() -> None:
    """Intents that the gates refuse are stored as requested."""
    intent = limit_buy("main", "0.00001234", "49000.01")
    assert as_asked(intent, None)[0] == Draft(
        OrderType.LIMIT, Decimal("0.00001234"), None, Decimal("49000.01"), TimeInForce.GTC
    )


@given(prices, prices, touches(), st.sampled_from(Side), st.booleans())
def test_a_further_attempt_is_no_worse_than_the_first(
    asked: Decimal, first: Decimal, touch: Quote, side: Side, post_only: bool
) -> None:
    """On the tick, no worse than requested, a buy's not above the reserved price, post-only without crossing."""
    make = limit_buy if side is Side.BUY else sell
    fields: dict[str, Any] = {"order_type": OrderType.LIMIT, "limit_price": asked, "post_only": post_only}
    intent = make("main", "1", "1", **fields) if make is limit_buy else sell("main", "1", **fields)
    price = rests_again(intent, first, touch if post_only else None, BTC).limit_price
    assert price is not None
    assert on(price, BTC.price_increment)
    if side is Side.BUY:
        assert price <= min(asked, first)
        assert not post_only or price < touch.ask
    else:
        assert price >= asked
        assert not post_only or price > touch.bid


def test_what_has_no_price_to_rest_at_is_an_error() -> None:
    """Without an own price or a first attempt's, or post-only without a touch: nothing is guessed."""
    with pytest.raises(ValueError, match="no limit price"):
        rests_again(market_buy("main"), None, None, BTC)
    with pytest.raises(ValueError, match="post-only"):
        rests_again(limit_buy("main", "1", "49000", post_only=True), None, None, BTC)


@given(sizes, prices, st.one_of(st.none(), st.just(BTC)))
def test_the_rest_is_never_above_what_is_left(left: Decimal, price: Decimal, product: Product | None) -> None:
    """On the step and at most the remaining size, or nothing if the exchange would not accept so little."""
    draft = Draft(OrderType.LIMIT, None, Decimal(5), price, TimeInForce.GTC, post_only=True)
    rest = remainder(draft, left, product)
    if rest is None:
        small = left if product is None else left - left % product.base_increment
        assert small <= 0 or (product is not None and size_problem(small, price, product) is not None)
        return
    assert rest.base_size is not None
    assert 0 < rest.base_size <= left
    assert product is None or (on(rest.base_size, product.base_increment) and left - rest.base_size < Decimal("0.0001"))
    assert rest == replace(draft, base_size=rest.base_size, quote_size=None)


# --- exits -----------------------------------------------------------------------------------------------------------

LIMIT_EXIT: dict[str, Any] = {
    "order_type": OrderType.LIMIT,
    "entry_key": "a" * 32,
    "entry_point": "exit",
    "base_size": None,
    "exit_reason": ExitReason.TP,
}


@given(touches())
def test_an_exit_rests_at_the_offset_from_the_bid_on_the_tick(touch: Quote) -> None:
    """EXIT-4: best bid times the offset, rounded up to the tick."""
    draft = at_bid(touch, ExitRules(), BTC)
    assert draft.limit_price is not None
    wanted = touch.bid * ExitRules().limit_offset
    assert on(draft.limit_price, BTC.price_increment)
    assert wanted <= draft.limit_price < wanted + BTC.price_increment
    assert (draft.order_type, draft.time_in_force) == (OrderType.LIMIT, TimeInForce.GTC)


def test_a_persons_exit_price_is_never_changed() -> None:
    """It is sent unchanged, off the tick too, which a gate refuses; the touch doesn't matter."""
    intent = sell("main", "1", **LIMIT_EXIT | {"limit_price": Decimal("51000.01")})
    for product in (None, BTC):
        draft = limit_exit(intent, product, TOUCH)
        assert draft is not None
        assert draft.limit_price == Decimal("51000.01")


def test_an_exit_without_a_known_price_goes_market() -> None:
    """If the touch or the rules are unknown an exit doesn't wait: it goes MARKET, and the exchange may refuse it."""
    intent = sell("main", "1", **LIMIT_EXIT)
    assert limit_exit(intent, BTC, None) is limit_exit(intent, None, TOUCH) is None
    assert limit_exit(intent, BTC, TOUCH) == at_bid(TOUCH, intent.rules, BTC)
    for product, touch in ((None, None), (None, TOUCH), (BTC, None), (BTC, TOUCH), (LIMIT_ONLY, None)):
        assert market_exit(product, touch, COLLAR) == MARKET
    assert market_exit(LIMIT_ONLY, TOUCH, COLLAR) == Draft(
        OrderType.LIMIT, None, None, Decimal("49499.95"), TimeInForce.IOC
    )


def test_protection_rests_as_it_was_asked_for() -> None:
    """Its trigger and limit prices are the plan's, rounded when the plan was made."""
    intent = sell(
        "main",
        "1",
        entry_key="a" * 32,
        order_type=OrderType.STOP_LIMIT,
        stop_price=Decimal(48000),
        limit_price=Decimal(47500),
        protection_role=ProtectionRole.PRIMARY,
    )
    assert protecting(intent) == Draft(
        OrderType.STOP_LIMIT, None, None, Decimal(47500), TimeInForce.GTC, stop_price=Decimal(48000)
    )


@given(sizes, st.one_of(st.none(), sizes), st.sampled_from(ExitReason), st.sampled_from([None, BTC]))
def test_a_sell_claims_no_more_than_its_trade_has(
    held: Decimal, free: Decimal | None, reason: ExitReason, product: Product | None
) -> None:
    """At most the available size, too; but a due stop claims its trade's size if a late balance shows nothing."""
    intent = sell("main", "1", entry_key="a" * 32, entry_point="exit", base_size=None, exit_reason=reason)
    size = claimable(intent, held, free, product)
    assert size <= held
    profit = reason in (ExitReason.TP, ExitReason.SIGNAL_EXIT)
    if free is not None and (profit or free >= BTC.base_increment):
        assert size <= free
    if not profit and held >= BTC.base_increment:
        assert size > 0
    if free is None:
        assert size == held


@given(sizes, st.one_of(st.none(), sizes), st.one_of(st.none(), sizes))
def test_a_sell_is_of_what_it_may_claim_or_exactly_what_was_named(
    available: Decimal, named: Decimal | None, unknown: Decimal | None
) -> None:
    """On the step and never above the claimable size, unless a size was named, which a gate may refuse."""
    intent = sell("main", "1", entry_key="a" * 32, entry_point="exit", base_size=named)
    draft = selling(intent, MARKET, available if unknown is None else None, BTC)
    assert draft.base_size is not None
    assert on(draft.base_size, BTC.base_increment)
    limit = named if named is not None else available if unknown is None else Decimal(0)
    assert limit - BTC.base_increment < draft.base_size <= limit
    assert replace(draft, base_size=None) == MARKET


def test_a_sell_of_an_unknown_product_is_as_asked() -> None:
    """The gates refuse it with the named size; no rules are assumed."""
    intent = sell("main", "0.00001", order_type=OrderType.LIMIT, limit_price=Decimal(3))
    assert selling(intent, None, None, None) == Draft(
        OrderType.LIMIT, Decimal("0.00001"), None, Decimal(3), TimeInForce.GTC
    )
    assert intent.role is OrderRole.EXIT
