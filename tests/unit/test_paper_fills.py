"""How orders fill on the paper exchange, by the named sets: the effect of a market trade on a resting order, a taker's
price, and that money adds up under each.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from exchange.paper.config import Generated, Live, PaperConfig
from exchange.paper.engine import Engine, Liquidity
from exchange.paper.errors import PaperError
from exchange.paper.fills import BASE, OPTIMISTIC, PESSIMISTIC, FillRule, fill_rule
from exchange.paper.orders import Order, Side, Status, Trade
from exchange.paper.products import bundled

PRODUCT = "LTC-USD"
RULES = (PESSIMISTIC, BASE, OPTIMISTIC)


class Deaf:
    """A listener that ignores everything."""

    def order_changed(self, order: Order) -> None:
        """Ignored."""

    def traded(self, trade: Trade) -> None:
        """Ignored."""

    def book_changed(self, product_id: str) -> None:
        """Ignored."""


def engine(rule: FillRule) -> Engine:
    """LTC at 46.00 / 46.10, 5 LTC at each, ticks of 0.01."""
    found = Engine(
        {PRODUCT: bundled()[PRODUCT]},
        {"USD": Decimal(10_000), "LTC": Decimal(100)},
        Deaf(),
        lambda: datetime(2026, 8, 9, tzinfo=UTC),
        liquidity=Liquidity(5, Decimal(500), Decimal(1)),
        rule=rule,
    )
    found.show(PRODUCT, Decimal("46.00"), Decimal("46.10"), (Decimal(5), Decimal(5)), Decimal("46.05"))
    return found


def limit(price: str, size: str) -> dict[str, object]:
    """A post-only limit order."""
    return {"limit_limit_gtc": {"base_size": size, "limit_price": price, "post_only": True}}


@pytest.mark.parametrize(
    ("rule", "at_its_price", "one_tick_through"),
    [(PESSIMISTIC, "0", "1"), (BASE, "0", "2"), (OPTIMISTIC, "2", "2")],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("side", Side)
def test_a_resting_order_fills_by_how_far_and_how_much_the_market_trades(
    side: Side, rule: FillRule, at_its_price: str, one_tick_through: str
) -> None:
    """Ten LTC traded at the price, then one tick through, fill as much of an order of two as the set defines."""
    found = engine(rule)
    price, further = ("46.00", "45.99") if side is Side.BUY else ("46.10", "46.11")
    order = found.place("1", PRODUCT, side, limit(price, "2"))
    found.trade(PRODUCT, Decimal(price), Decimal(10), side.opposite)
    assert order.filled_size == Decimal(at_its_price)
    found.trade(PRODUCT, Decimal(further), Decimal(10), side.opposite)
    assert order.filled_size == Decimal(one_tick_through)
    assert all(fill.price == Decimal(price) for fill in found.fills)


def test_a_pessimistic_order_is_full_when_ten_times_its_size_has_traded_through_it() -> None:
    """It is full exactly then, not a trade earlier."""
    found = engine(PESSIMISTIC)
    order = found.place("1", PRODUCT, Side.BUY, limit("46.00", "2"))
    for _ in range(19):
        found.trade(PRODUCT, Decimal("45.99"), Decimal(1), Side.SELL)
    assert order.filled_size == Decimal("1.9")
    found.trade(PRODUCT, Decimal("45.99"), Decimal(1), Side.SELL)
    assert order.filled_size == 2


@pytest.mark.parametrize(
    ("rule", "buy", "sell"),
    [(PESSIMISTIC, "46.16", "45.94"), (BASE, "46.11", "45.99"), (OPTIMISTIC, "46.10", "46.00")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_taker_pays_what_the_set_says_beyond_the_touch(rule: FillRule, buy: str, sell: str) -> None:
    """Half the spread (0.05) and 2 bp, 1 bp, or nothing, in whole ticks; a limit is never exceeded."""
    for side, paid in ((Side.BUY, buy), (Side.SELL, sell)):
        order = engine(rule).place("1", PRODUCT, side, {"market_market_ioc": {"base_size": "2"}})
        assert (order.status, order.filled_value / order.filled_size) == (Status.FILLED, Decimal(paid))
        touch = "46.10" if side is Side.BUY else "46.00"
        held = engine(rule).place(
            "2", PRODUCT, side, {"limit_limit_gtc": {"base_size": "2", "limit_price": touch, "post_only": False}}
        )
        assert held.filled_value / held.filled_size == Decimal(touch)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_money_adds_up_under_each_set(rule: FillRule) -> None:
    """A market order never pays more than its hold, and holds end with their orders."""
    found = engine(rule)
    for number, configuration in enumerate(({"quote_size": "600"}, {"base_size": "9"}, {"quote_size": "1"})):
        for side in Side:
            before = found.wallet["USD"].total
            order = found.place(f"{number} {side}", PRODUCT, side, {"market_market_ioc": configuration})
            gain = order.filled_value - order.fees if side is Side.SELL else -(order.filled_value + order.fees)
            assert found.wallet["USD"].total == before + gain
            if side is Side.BUY and "quote_size" in configuration:
                assert order.value_after_fees <= Decimal(configuration["quote_size"])
            found.show(PRODUCT, Decimal("46.00"), Decimal("46.10"), (Decimal(5), Decimal(5)))
    assert all(row.hold == 0 for row in found.wallet.all())


def test_after_a_gap_orders_and_stops_see_where_the_market_is() -> None:
    """A quote beyond a resting order fills a part of the offered size; the last reported price triggers a stop."""
    found = engine(BASE)
    order = found.place("1", PRODUCT, Side.BUY, limit("46.00", "2"))
    stop = found.place(
        "2",
        PRODUCT,
        Side.SELL,
        {
            "stop_limit_stop_limit_gtc": {
                "base_size": "1",
                "limit_price": "44.00",
                "stop_price": "45.00",
                "stop_direction": "STOP_DIRECTION_STOP_DOWN",
            }
        },
    )
    found.show(PRODUCT, Decimal("44.50"), Decimal("44.60"), (Decimal(5), Decimal(5)))
    assert (order.filled_size, stop.filled_size) == (Decimal("1.25"), Decimal(0))
    found.show(PRODUCT, Decimal("44.50"), Decimal("44.60"), (Decimal(5), Decimal(5)), Decimal("44.55"))
    assert (stop.status, stop.filled_value) == (Status.FILLED, Decimal("44.49"))


def test_what_is_traded_on_and_how_it_fills_is_a_line() -> None:
    """Base is the default on live prices, elsewhere optimistic; an unknown set is named."""
    assert PaperConfig(source=Live()).rule is BASE
    assert PaperConfig(source=Generated()).rule is OPTIMISTIC
    line = PaperConfig(source=Live("wss://feed"), fills=PESSIMISTIC).about()
    assert line.startswith("Paper money on live prices of wss://feed. Fills, pessimistic: resting orders fill when")
    with pytest.raises(PaperError, match="one of pessimistic, base, optimistic"):
        fill_rule("hopeful")
