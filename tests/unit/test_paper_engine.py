"""The paper exchange's matching engine: rules one by one, and what must be true after any sequence of events."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exchange.paper.engine import Engine, Fees, Habits, Liquidity
from exchange.paper.errors import ApiError, Refusal
from exchange.paper.orders import TERMINAL, Order, Side, Status, Trade
from exchange.paper.products import bundled

PRODUCT = "LTC-USD"


class Heard:
    """Records the engine's events."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, Status, Decimal]] = []
        self.trades: list[Trade] = []

    def order_changed(self, order: Order) -> None:
        """Record the state at that moment."""
        self.orders.append((order.order_id, order.status, order.filled_size))

    def traded(self, trade: Trade) -> None:
        """Record the trade."""
        self.trades.append(trade)

    def book_changed(self, product_id: str) -> None:
        """Ignored."""


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 8, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def make(
    *,
    usd: str = "10000",
    ltc: str = "100",
    depth: int = 5,
    level: str = "500",
    habits: Habits | None = None,
    product_fees: Fees | None = None,
) -> tuple[Engine, Heard, Clock]:
    """An engine with LTC at 46.00 / 46.01, five levels a side of about 10.86 LTC each."""
    heard, clock = Heard(), Clock()
    engine = Engine(
        {PRODUCT: bundled()[PRODUCT]},
        {"USD": Decimal(usd), "LTC": Decimal(ltc)},
        heard,
        clock,
        fees=Fees(),
        liquidity=Liquidity(depth, Decimal(level), Decimal(1)),
        habits=habits,
        product_fees={PRODUCT: product_fees} if product_fees else None,
    )
    engine.quote(PRODUCT, Decimal("46.00"), Decimal("46.01"))
    return engine, heard, clock


def limit(price: str, size: str, **more: object) -> dict[str, object]:
    """A GTC limit configuration."""
    return {"limit_limit_gtc": {"base_size": size, "limit_price": price, **more}}


def test_a_buys_commission_in_base_comes_off_what_it_buys() -> None:
    """Where commissions are in base, a buy holds and pays its value alone, and gets its size less the commission."""
    engine, _, _ = make(habits=Habits(fee_in_base=True))
    resting = engine.place("a", PRODUCT, Side.BUY, limit("45.00", "2"))
    assert resting.hold == 90
    engine.trade(PRODUCT, Decimal("45.00"), Decimal(2), Side.SELL)
    assert resting.status is Status.FILLED
    (fill,) = engine.fills
    assert (fill.fee_currency, fill.commission) == ("LTC", Decimal("0.008"))
    assert engine.wallet["USD"].total == 10_000 - 90
    assert engine.wallet["LTC"].total == 102 - Decimal("0.008")
    assert resting.value_after_fees == 90
    sold = engine.place("b", PRODUCT, Side.SELL, {"market_market_ioc": {"base_size": "1"}})
    assert engine.fills[-1].fee_currency == ""
    assert engine.wallet["USD"].total == 10_000 - 90 + sold.filled_value - sold.fees
    assert engine.wallet["USD"].hold == engine.wallet["LTC"].hold == 0


def test_an_order_names_the_currency_of_its_commission() -> None:
    """A named currency pays the commission while the account has it; then it comes off what the order gets."""
    engine, _, _ = make(habits=Habits(fee_in_base=True))
    engine.wallet.deposit("USDT", Decimal("0.5"))
    in_quote = engine.place("a", PRODUCT, Side.BUY, limit("45.00", "2"), fee_currency="USD")
    assert in_quote.hold == 90 * Decimal("1.006")
    third = engine.place("b", PRODUCT, Side.SELL, {"market_market_ioc": {"base_size": "1"}}, fee_currency="USDT")
    assert [(fill.fee_currency, fill.commission) for fill in engine.fills] == [
        ("USDT", third.filled_value * Decimal("0.006"))
    ]
    engine.place("c", PRODUCT, Side.SELL, {"market_market_ioc": {"base_size": "1"}}, fee_currency="USDT")
    assert engine.fills[-1].fee_currency == ""
    engine.place("d", PRODUCT, Side.BUY, {"market_market_ioc": {"base_size": "1"}}, fee_currency="USDT")
    assert engine.fills[-1].fee_currency == "LTC"
    assert engine.wallet["USDT"].total == Decimal("0.5") - third.fees


def test_a_product_has_fees_of_its_own() -> None:
    """A product's own rates hold and charge in place of the account's."""
    engine, _, _ = make(product_fees=Fees(Decimal(0), Decimal("0.001")))
    order = engine.place("a", PRODUCT, Side.BUY, limit("45.00", "2"))
    assert order.hold == 90 * Decimal("1.001")
    engine.trade(PRODUCT, Decimal("45.00"), Decimal(2), Side.SELL)
    assert order.fees == 0
    sold = engine.place("b", PRODUCT, Side.SELL, {"market_market_ioc": {"base_size": "1"}})
    assert sold.fees == sold.filled_value * Decimal("0.001")


def test_market_buy_walks_levels_and_spends_its_quote_size_fees_included() -> None:
    """A market buy takes level after level, one fill each, and never costs more than its size."""
    engine, _, _ = make()
    order = engine.place("a", PRODUCT, Side.BUY, {"market_market_ioc": {"quote_size": "1200"}})
    fills = engine.fills
    assert order.status is Status.FILLED
    assert order.fills == len(fills) > 1
    assert [fill.price for fill in fills] == sorted({fill.price for fill in fills})
    assert Decimal("1199.99") < order.value_after_fees <= Decimal(1200)
    assert engine.wallet["USD"].total == Decimal(10000) - order.value_after_fees
    assert engine.wallet["USD"].hold == 0


def test_market_order_beyond_the_liquidity_is_cancelled_with_what_it_filled() -> None:
    """When the book is empty the rest of an IOC is cancelled; the next quote refills the book."""
    engine, _, _ = make()
    order = engine.place("a", PRODUCT, Side.SELL, {"market_market_ioc": {"base_size": "90"}})
    assert order.status is Status.CANCELLED
    assert 0 < order.filled_size < 90
    assert engine.wallet["LTC"].hold == 0
    engine.quote(PRODUCT, Decimal("46.00"), Decimal("46.01"))
    assert engine.place("b", PRODUCT, Side.SELL, {"market_market_ioc": {"base_size": "1"}}).status is Status.FILLED


def test_resting_orders_fill_by_price_then_time_within_the_traded_size() -> None:
    """The better price fills first, then the earlier order; the traded size limits the total."""
    engine, _, _ = make()
    late = engine.place("1", PRODUCT, Side.BUY, limit("45.50", "2"))
    better = engine.place("2", PRODUCT, Side.BUY, limit("45.60", "1"))
    later = engine.place("3", PRODUCT, Side.BUY, limit("45.50", "2"))
    engine.trade(PRODUCT, Decimal("45.50"), Decimal("2.5"), Side.SELL)
    assert (better.filled_size, late.filled_size, later.filled_size) == (Decimal(1), Decimal("1.5"), Decimal(0))
    assert all(fill.maker for fill in engine.fills)
    assert engine.fills[0].commission == Decimal("45.60") * Decimal("0.004")


def test_quote_that_crosses_fills_and_one_that_touches_does_not() -> None:
    """A bid fills when the ask falls to it, not when the market's bid is at the same price."""
    engine, _, _ = make()
    order = engine.place("1", PRODUCT, Side.BUY, limit("45.50", "2"))
    engine.quote(PRODUCT, Decimal("45.50"), Decimal("45.51"))
    assert order.filled_size == 0
    engine.quote(PRODUCT, Decimal("45.49"), Decimal("45.50"))
    assert order.status is Status.FILLED
    assert order.filled_value == Decimal(91)


def test_post_only_that_would_trade_is_refused_and_changes_nothing() -> None:
    """A refused order leaves no hold and no id behind."""
    engine, _, _ = make()
    with pytest.raises(Refusal) as refused:
        engine.place("1", PRODUCT, Side.BUY, limit("46.01", "1", post_only=True))
    assert refused.value.reason == "INVALID_LIMIT_PRICE_POST_ONLY"
    assert engine.wallet["USD"].hold == 0
    assert "1" not in engine.by_client_id


def test_post_only_that_would_trade_once_accepted_fails() -> None:
    """An order that was valid when sent but not when accepted becomes FAILED with its reason."""
    engine, _, _ = make()
    order = engine.place("1", PRODUCT, Side.BUY, limit("45.99", "1", post_only=True), activate=False)
    assert order.status is Status.PENDING
    engine.quote(PRODUCT, Decimal("45.90"), Decimal("45.99"))
    engine.activate(order.order_id)
    assert (order.status, order.reject_reason) == (Status.FAILED, "INVALID_LIMIT_PRICE_POST_ONLY")
    assert engine.wallet["USD"].hold == 0


def test_available_counts_not_total() -> None:
    """Money held for an open order can't be spent twice."""
    engine, _, _ = make(usd="100")
    engine.place("1", PRODUCT, Side.BUY, limit("45.00", "2"))
    with pytest.raises(Refusal) as refused:
        engine.place("2", PRODUCT, Side.BUY, limit("45.00", "0.3"))
    assert refused.value.reason == "INSUFFICIENT_FUND"


@pytest.mark.parametrize(
    ("configuration", "reason", "preview"),
    [
        (limit("45.001", "1"), "INVALID_PRICE_PRECISION", "PREVIEW_INVALID_PRICE_PRECISION"),
        (limit("45.00", "0.000000001"), "UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
        (limit("45.00", "1.000000001"), "INVALID_SIZE_PRECISION", "PREVIEW_INVALID_SIZE_PRECISION"),
        (limit("45.00", "122301"), "UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE"),
        (limit("45.00", "1e3"), "INVALID_REQUEST", "PREVIEW_INVALID_ORDER_CONFIG"),
        (limit("0", "1"), "INVALID_LIMIT_PRICE", "PREVIEW_INVALID_LIMIT_PRICE"),
        (
            {"market_market_ioc": {"quote_size": "0.5"}},
            "UNKNOWN_FAILURE_REASON",
            "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL",
        ),
        ({"market_market_ioc": {}}, "INVALID_REQUEST", "PREVIEW_INVALID_ORDER_CONFIG"),
        ({"twap_limit_gtd": {}}, "UNSUPPORTED_ORDER_CONFIGURATION", "UNKNOWN_PREVIEW_FAILURE_REASON"),
    ],
)
def test_refusals_carry_the_venues_reasons(configuration: dict[str, object], reason: str, preview: str) -> None:
    """Each bad parameter has its own reason, as the venue names it."""
    engine, _, _ = make()
    with pytest.raises(Refusal) as refused:
        engine.place("1", PRODUCT, Side.BUY, configuration)
    assert (refused.value.reason, refused.value.preview) == (reason, preview)


@pytest.mark.parametrize(
    ("flags", "configuration", "refused"),
    [
        ({"cancel_only": True}, limit("45", "1"), True),
        ({"limit_only": True}, {"market_market_ioc": {"quote_size": "10"}}, True),
        ({"limit_only": True}, {"sor_limit_ioc": {"base_size": "1", "limit_price": "47"}}, False),
        ({"post_only": True}, limit("45", "1"), True),
        ({"post_only": True}, limit("45", "1", post_only=True), False),
        ({"trading_disabled": True}, limit("45", "1"), True),
        ({"status": "delisted"}, limit("45", "1"), True),
    ],
)
def test_product_status_decides_what_is_taken(
    flags: dict[str, object], configuration: dict[str, object], refused: bool
) -> None:
    """Cancel-only, limit-only, post-only and disabled products refuse exactly the orders that they should."""
    engine, _, _ = make()
    engine.set_product(PRODUCT, flags)
    if refused:
        with pytest.raises(Refusal):
            engine.place("1", PRODUCT, Side.BUY, configuration)
    else:
        engine.place("1", PRODUCT, Side.BUY, configuration)


def test_fill_or_kill_fills_whole_or_not_at_all() -> None:
    """A FOK larger than the size within its price is cancelled without a fill."""
    engine, _, _ = make()
    body = {"limit_limit_fok": {"base_size": "150", "limit_price": "46.50"}}
    small = {"limit_limit_fok": {"base_size": "5", "limit_price": "46.50"}}
    assert engine.place("1", PRODUCT, Side.BUY, body).status is Status.CANCELLED
    assert engine.place("2", PRODUCT, Side.BUY, small).status is Status.FILLED


def test_gtd_expires() -> None:
    """A GTD order ends EXPIRED at its end time, and its hold is released."""
    engine, _, clock = make()
    end = (clock.now + timedelta(minutes=5)).isoformat()
    order = engine.place(
        "1", PRODUCT, Side.BUY, {"limit_limit_gtd": {"base_size": "1", "limit_price": "40", "end_time": end}}
    )
    engine.expire(clock.now + timedelta(minutes=4))
    assert order.live
    engine.expire(clock.now + timedelta(minutes=5))
    assert order.status is Status.EXPIRED
    assert engine.wallet["USD"].hold == 0


def test_stop_limit_waits_for_its_stop() -> None:
    """A stop-limit sell does nothing until the last trade reaches its stop, then trades within its limit."""
    engine, _, _ = make()
    body = {
        "stop_limit_stop_limit_gtc": {
            "base_size": "1",
            "limit_price": "44.90",
            "stop_price": "45.00",
            "stop_direction": "STOP_DIRECTION_STOP_DOWN",
        }
    }
    order = engine.place("1", PRODUCT, Side.SELL, body)
    engine.quote(PRODUCT, Decimal("45.10"), Decimal("45.11"))
    assert (order.status, order.triggered) == (Status.OPEN, False)
    engine.quote(PRODUCT, Decimal("44.98"), Decimal("44.99"))
    assert (order.status, order.triggered) == (Status.FILLED, True)
    assert order.filled_value == Decimal("44.98")


@pytest.mark.parametrize("last", ["46.00", "44.00"])
def test_a_stop_on_the_wrong_side_is_refused(last: str) -> None:
    """If the last trade is already beyond its stop price, no kind of stop is accepted."""
    engine, _, _ = make()
    engine.quote(PRODUCT, Decimal(last), Decimal(last) + Decimal("0.01"))

    def stop(side: Side, price: str, limit_price: str) -> dict[str, object]:
        direction = "STOP_DIRECTION_STOP_UP" if side is Side.BUY else "STOP_DIRECTION_STOP_DOWN"
        values = {"base_size": "1", "limit_price": limit_price, "stop_price": price, "stop_direction": direction}
        return {"stop_limit_stop_limit_gtc": values}

    bracket: dict[str, object] = {
        "trigger_bracket_gtc": {"base_size": "1", "limit_price": "48.00", "stop_trigger_price": "45.00"}
    }
    cases: dict[Side, tuple[list[dict[str, object]], str, bool]] = {
        Side.SELL: ([stop(Side.SELL, "45.00", "44.00"), bracket], "ABOVE", last == "44.00"),
        Side.BUY: ([stop(Side.BUY, "45.00", "46.00")], "BELOW", last == "46.00"),
    }
    for side, (configurations, word, wrong) in cases.items():
        for configuration in configurations:
            if wrong:
                with pytest.raises(Refusal) as refused:
                    engine.place("", PRODUCT, side, configuration)
                assert refused.value.preview == f"PREVIEW_STOP_PRICE_{word}_LAST_TRADE_PRICE"
            else:
                assert engine.place("", PRODUCT, side, configuration).status is Status.OPEN
    assert not engine.fills


def test_bracket_takes_profit_or_stops_out() -> None:
    """A bracket sells at its limit, or, once its stop is reached, at the market within five percent."""
    engine, _, _ = make()
    body = {"trigger_bracket_gtc": {"base_size": "1", "limit_price": "48.00", "stop_trigger_price": "45.00"}}
    up, down = (engine.place(name, PRODUCT, Side.SELL, body) for name in ("1", "2"))
    engine.fees = Fees(Decimal(0), Decimal(0))
    engine.trade(PRODUCT, Decimal("48.00"), Decimal(1), Side.BUY)
    assert (up.status, up.filled_value) == (Status.FILLED, Decimal(48))
    engine.quote(PRODUCT, Decimal("44.50"), Decimal("44.51"))
    assert (down.status, down.filled_value, down.triggered) == (Status.FILLED, Decimal("44.50"), True)


def test_attached_bracket_starts_with_what_its_parent_filled() -> None:
    """The child waits for its parent's end and takes the filled size, also of a cancelled parent."""
    engine, _, _ = make(ltc="0")
    child_terms = {"trigger_bracket_gtc": {"limit_price": "48.00", "stop_trigger_price": "45.00"}}
    parent = engine.place("1", PRODUCT, Side.BUY, limit("45.80", "3"), attached=child_terms)
    child = engine.orders[parent.child_id]
    assert (child.status, child.parent_id) == (Status.PENDING, parent.order_id)
    engine.trade(PRODUCT, Decimal("45.80"), Decimal(1), Side.SELL)
    assert child.status is Status.PENDING
    engine.request_cancel(parent.order_id)
    engine.finish_cancel(parent.order_id)
    assert (child.status, child.base_size) == (Status.OPEN, Decimal(1))
    assert engine.wallet["LTC"].available == 0


def test_queued_cancel_can_still_fill() -> None:
    """Between the cancel and its effect the order stays in the book; a full fill wins over the cancel."""
    engine, _, _ = make()
    order = engine.place("1", PRODUCT, Side.BUY, limit("45.50", "2"))
    assert engine.request_cancel(order.order_id) == ""
    assert engine.request_cancel(order.order_id) == "DUPLICATE_CANCEL_REQUEST"
    engine.trade(PRODUCT, Decimal("45.50"), Decimal("0.5"), Side.SELL)
    assert (order.status, order.filled_size) == (Status.CANCEL_QUEUED, Decimal("0.5"))
    engine.trade(PRODUCT, Decimal("45.50"), Decimal(5), Side.SELL)
    engine.finish_cancel(order.order_id)
    assert order.status is Status.FILLED
    assert engine.request_cancel(order.order_id) == "ORDER_IS_FULLY_FILLED"
    assert engine.request_cancel("none") == "UNKNOWN_CANCEL_ORDER"


def test_account_never_trades_with_itself() -> None:
    """A taker that would hit the account's own resting order cancels that one and trades with the market."""
    engine, _, _ = make()
    resting = engine.place("1", PRODUCT, Side.SELL, limit("46.005".rstrip("5"), "1"), activate=False)
    engine.quote(PRODUCT, Decimal("45.90"), Decimal("46.20"))
    engine.activate(resting.order_id)
    taker = engine.place("2", PRODUCT, Side.BUY, {"market_market_ioc": {"base_size": "1"}})
    assert (resting.status, resting.filled_size) == (Status.CANCELLED, Decimal(0))
    assert (taker.status, engine.fills[-1].price) == (Status.FILLED, Decimal("46.20"))


def test_edit_needs_both_figures_and_loses_its_place() -> None:
    """An edit to less than the filled size is refused; a valid one changes hold and priority."""
    engine, _, _ = make()
    first = engine.place("1", PRODUCT, Side.BUY, limit("45.50", "2"))
    second = engine.place("2", PRODUCT, Side.BUY, limit("45.60", "2"))
    with pytest.raises(Refusal) as refused:
        engine.edit(first.order_id, Decimal("45.60"), Decimal(0))
    assert refused.value.reason == "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"
    engine.edit(first.order_id, Decimal("45.60"), Decimal(1))
    engine.trade(PRODUCT, Decimal("45.60"), Decimal(2), Side.SELL)
    assert (first.filled_size, second.filled_size) == (Decimal(0), Decimal(2))
    assert engine.wallet["USD"].hold == Decimal("45.60") * Decimal("1.006")


def test_forced_fill_is_bounded_by_the_order() -> None:
    """A forced fill fills exactly its size, and never more than is left or at a worse price."""
    engine, _, _ = make()
    order = engine.place("1", PRODUCT, Side.BUY, limit("45.50", "2"))
    engine.force_fill(order.order_id, Decimal("0.6"), Decimal("45.40"))
    assert (order.filled_size, order.filled_value) == (Decimal("0.6"), Decimal("27.24"))
    for size, price in ((Decimal("1.5"), None), (Decimal(1), Decimal("45.51")), (Decimal(0), None)):
        with pytest.raises(ApiError):
            engine.force_fill(order.order_id, size, price)


def test_public_trade_has_the_makers_side_and_contiguous_ids() -> None:
    """A taker's buy prints the maker's SELL; ids of a product have no gap."""
    engine, heard, _ = make()
    engine.place("1", PRODUCT, Side.BUY, {"market_market_ioc": {"base_size": "20"}})
    taken = heard.trades[1:]
    assert {trade.maker_side for trade in taken} == {Side.SELL}
    ids = [trade.trade_id for trade in heard.trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


PRICES = st.integers(4300, 4900).map(lambda cents: Decimal(cents) / 100)
SIZES = st.integers(1, 3000).map(lambda hundredths: Decimal(hundredths) / 100)
SIDES = st.sampled_from(list(Side))


class EngineMachine(RuleBasedStateMachine):
    """Any sequence of orders, cancels, edits and market moves."""

    @initialize()
    def start(self) -> None:
        """A new engine."""
        self.engine, self.heard, self.clock = make()
        self.number = 0
        self.deposited = {"USD": Decimal(10000), "LTC": Decimal(100)}
        self.ended: dict[str, tuple[Status, Decimal, Decimal]] = {}

    def _place(self, side: Side, configuration: dict[str, object], attached: dict[str, object] | None = None) -> None:
        self.number += 1
        try:
            self.engine.place(str(self.number), PRODUCT, side, configuration, attached=attached)
        except Refusal:
            assert str(self.number) not in self.engine.by_client_id

    @rule(side=SIDES, price=PRICES, size=SIZES, post_only=st.booleans())
    def limit_order(self, side: Side, price: Decimal, size: Decimal, post_only: bool) -> None:
        """A GTC limit order."""
        self._place(side, limit(str(price), str(size), post_only=post_only))

    @rule(side=SIDES, price=PRICES, size=SIZES, name=st.sampled_from(["sor_limit_ioc", "limit_limit_fok"]))
    def immediate_order(self, side: Side, price: Decimal, size: Decimal, name: str) -> None:
        """An IOC or FOK limit order."""
        self._place(side, {name: {"base_size": str(size), "limit_price": str(price)}})

    @rule(side=SIDES, size=SIZES, quote=st.booleans())
    def market_order(self, side: Side, size: Decimal, quote: bool) -> None:
        """A market order by base or by quote."""
        self._place(side, {"market_market_ioc": {"quote_size" if quote else "base_size": str(size)}})

    @rule(side=SIDES, price=PRICES, size=SIZES, gap=st.integers(0, 200))
    def stop_order(self, side: Side, price: Decimal, size: Decimal, gap: int) -> None:
        """A stop-limit order."""
        stop = price - Decimal(gap) / 100 if side is Side.BUY else price + Decimal(gap) / 100
        up = "UP" if side is Side.BUY else "DOWN"
        values = {"base_size": str(size), "limit_price": str(price), "stop_price": str(stop)}
        self._place(side, {"stop_limit_stop_limit_gtc": {**values, "stop_direction": f"STOP_DIRECTION_STOP_{up}"}})

    @rule(side=SIDES, price=PRICES, size=SIZES, gap=st.integers(1, 200), attached=st.booleans())
    def bracket_order(self, side: Side, price: Decimal, size: Decimal, gap: int, attached: bool) -> None:
        """A bracket, alone or attached to a limit order."""
        exit_side = side.opposite if attached else side
        stop = price - Decimal(gap) / 100 if exit_side is Side.SELL else price + Decimal(gap) / 100
        values = {"limit_price": str(price), "stop_trigger_price": str(stop)}
        if attached:
            self._place(side, limit("46.00", str(size)), {"trigger_bracket_gtc": values})
        else:
            self._place(side, {"trigger_bracket_gtc": {**values, "base_size": str(size)}})

    @rule(pick=st.integers(0, 10_000), finish=st.booleans())
    def cancel(self, pick: int, finish: bool) -> None:
        """Cancel some order, at once or later."""
        ids = list(self.engine.orders)
        if ids:
            order_id = ids[pick % len(ids)]
            self.engine.request_cancel(order_id)
            if finish:
                self.engine.finish_cancel(order_id)

    @rule(pick=st.integers(0, 10_000), price=PRICES, size=SIZES)
    def edit(self, pick: int, price: Decimal, size: Decimal) -> None:
        """Edit some order."""
        ids = list(self.engine.live)
        if ids:
            try:
                self.engine.edit(ids[pick % len(ids)], price, size)
            except Refusal:
                return

    @rule(bid=PRICES, spread=st.integers(1, 50), volume=st.none() | SIZES)
    def quote(self, bid: Decimal, spread: int, volume: Decimal | None) -> None:
        """Move the quote."""
        self.engine.quote(PRODUCT, bid, bid + Decimal(spread) / 100, volume)

    @rule(price=PRICES, size=SIZES)
    def tick(self, price: Decimal, size: Decimal) -> None:
        """A source's tick."""
        self.engine.tick(PRODUCT, price, Decimal("0.01"), size)

    @rule(amount=st.integers(-500, 500), currency=st.sampled_from(["USD", "LTC"]))
    def transfer(self, amount: int, currency: str) -> None:
        """Deposit or withdraw."""
        try:
            self.engine.wallet.deposit(currency, Decimal(amount))
        except Refusal:
            return
        self.deposited[currency] += amount

    @invariant()
    def money_is_conserved(self) -> None:
        """Balances are deposits plus the fills' flows, to the last digit; nothing is overdrawn."""
        expected = dict(self.deposited)
        for fill in self.engine.fills:
            value = fill.price * fill.size
            sign = 1 if fill.side is Side.BUY else -1
            expected["LTC"] += sign * fill.size
            expected["USD"] -= sign * value + fill.commission
            assert fill.commission == value * (Decimal("0.004") if fill.maker else Decimal("0.006"))
        for currency, total in expected.items():
            balance = self.engine.wallet[currency]
            assert balance.total == total
            assert balance.hold >= 0
            assert balance.available >= 0

    @invariant()
    def holds_add_up(self) -> None:
        """Each currency's hold is the sum of its live orders' holds."""
        held: dict[str, Decimal] = defaultdict(Decimal)
        for order in self.engine.live.values():
            held["USD" if order.side is Side.BUY else "LTC"] += order.hold
        for currency in ("USD", "LTC"):
            assert self.engine.wallet[currency].hold == held[currency]

    @invariant()
    def orders_agree_with_their_fills(self) -> None:
        """No order fills beyond its size; its totals are its fills' sums; an end is final."""
        sums: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0), Decimal(0), Decimal(0)])
        for fill in self.engine.fills:
            total = sums[fill.order_id]
            total[0] += fill.size
            total[1] += fill.size * fill.price
            total[2] += fill.commission
            total[3] += 1
        for order in self.engine.orders.values():
            assert [order.filled_size, order.filled_value, order.fees, Decimal(order.fills)] == sums[order.order_id]
            assert order.base_size is None or order.filled_size <= order.base_size
            assert (order.order_id in self.engine.live) is (order.status not in TERMINAL)
            if order.status in TERMINAL:
                assert order.hold == 0
                state = (order.status, order.filled_size, order.filled_value)
                assert self.ended.setdefault(order.order_id, state) == state
            if order.status is Status.FILLED and order.base_size is not None:
                assert order.remaining == 0

    @invariant()
    def book_is_never_crossed(self) -> None:
        """The best bid shown is below the best ask shown, and only live orders rest."""
        book = self.engine.books[PRODUCT]
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        assert bid is None or ask is None or bid < ask
        for side in Side:
            resting = book.resting(side)
            assert all(order.live and order.remaining > 0 for order in resting)
            assert [level[0] for level in book.levels(side)] == sorted(
                {level[0] for level in book.levels(side)}, reverse=side is Side.BUY
            )


EngineMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEngine = EngineMachine.TestCase
