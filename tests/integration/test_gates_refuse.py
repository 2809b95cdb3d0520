"""Each gate refuses once: the real admission on a real ledger, with facts read from the paper exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from activities.orders.controls import halt
from domain.messages import Admission, Linkage, OrderIntent
from domain.orders import OrderState, OrderType
from domain.outcome import trade_pnl
from tests.support.admission_desk import CATALOGUE, Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy, market_buy, sell
from tests.support.ledger_rows import open_books


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission with default limits, and 10,000 USD in the last balance."""
    async with desk_at_a_paper_exchange(database) as running:
        await running.balance("10000")
        yield running


async def refused(desk: Desk, intent: OrderIntent, gate: str, says: str) -> Admission:
    """The intent is refused by this gate, in these words, and stored: every gate up to it, no attempt."""
    admission = await desk.admit(intent)
    assert not admission.accepted
    assert (admission.gate, admission.state) == (gate, OrderState.REJECTED), admission.sentence
    assert says in admission.sentence
    rows = await desk.pool.fetch(
        "SELECT gate, passed, numbers FROM gate_results WHERE order_key = $1 ORDER BY position", intent.order_key
    )
    assert [row["passed"] for row in rows] == [True] * (len(rows) - 1) + [False]
    assert rows[-1]["gate"] == gate
    assert [(row["gate"], row["numbers"]) for row in rows] == [(item.gate, item.numbers) for item in admission.gates]
    left = await desk.pool.fetchrow(
        """SELECT reserved_quote, claimed_base, finished, gate_sentence,
                  (SELECT count(*) FROM attempts a WHERE a.order_key = o.order_key) AS attempts
           FROM orders o WHERE order_key = $1""",
        intent.order_key,
    )
    assert tuple(left) == (0, 0, True, admission.sentence, 0)
    again = await desk.admit(intent)
    assert (again.gate, again.sentence, len(again.gates)) == (gate, admission.sentence, len(rows))
    return admission


async def test_an_entry_that_nothing_stops_has_every_gates_numbers(desk: Desk) -> None:
    """Admitted or not, each gate that ran stores the numbers that it compared."""
    intent = market_buy(desk.account)
    admission = await desk.admit(intent)
    assert admission.accepted, admission.sentence
    rows = await desk.pool.fetch(
        "SELECT gate, passed, numbers FROM gate_results WHERE order_key = $1", intent.order_key
    )
    numbers = {row["gate"]: row["numbers"] for row in rows}
    assert all(row["passed"] for row in rows)
    assert numbers["SKIP_SPREAD_TOO_WIDE"]["bid"] == "50000"
    assert numbers["SKIP_POSITION_TOO_LARGE"]["worth"] == "10000"
    assert Decimal(numbers["SKIP_MARKET_DATA_STALE"]["age_s"]) < 5
    assert {"SKIP_RED_DAY", "SKIP_DAILY_LOSS_LIMIT", "SKIP_CIRCUIT_BREAKER", "INSUFFICIENT_BALANCE"} <= set(numbers)


async def test_skip_trading_halted(desk: Desk) -> None:
    """A halt refuses, with its person and reason."""
    async with desk.pool.acquire() as connection:
        await halt(connection, desk.account, "the news", "ada")
    await refused(desk, market_buy(desk.account), "SKIP_TRADING_HALTED", "ada: the news")


async def test_unknown_symbol(desk: Desk) -> None:
    """A product that the exchange doesn't list is not bought."""
    await refused(desk, market_buy(desk.account, symbol="NOPE-USD"), "UNKNOWN_SYMBOL", "NOPE-USD")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"cancel_only": True}, "cancel-only"),
        ({"status": "delisted"}, "not open for trading"),
        ({"trading_disabled": True}, "not open for trading"),
        ({"post_only": True}, "only post-only orders"),
    ],
)
async def test_venue_halted(desk: Desk, flags: dict[str, bool | str], says: str) -> None:
    """A product that is cancel-only, delisted, disabled or in post-only mode takes no market entry."""
    await desk.control.product("BTC-USD", **flags)
    await refused(desk, market_buy(desk.account), "VENUE_HALTED", says)


async def test_decision_expired(desk: Desk) -> None:
    """A decision that is too old is not sent."""
    old = datetime.now(UTC) - timedelta(seconds=1)
    await refused(desk, market_buy(desk.account, valid_until=old), "DECISION_EXPIRED", "valid until")


async def test_skip_disabled_trade(desk: Desk) -> None:
    """A symbol disabled by a person is not bought, nor one that isn't on the list, by hand or not."""
    desk.policy = replace(desk.policy, disabled=frozenset({"BTC-USD"}))
    await refused(desk, market_buy(desk.account), "SKIP_DISABLED_TRADE", "switched off")
    desk.policy = replace(desk.policy, disabled=frozenset(), allowed=frozenset({"ETH-USD"}))
    by_hand = market_buy(desk.account, entry_point="manual")
    await refused(desk, by_hand, "SKIP_DISABLED_TRADE", "symbols.allow")


async def test_skip_invalid_trade_amount(desk: Desk) -> None:
    """No size, or a non-positive one, is not a trade."""
    await refused(desk, market_buy(desk.account, "0"), "SKIP_INVALID_TRADE_AMOUNT", "positive")
    await refused(desk, market_buy(desk.account, base_size=None), "SKIP_INVALID_TRADE_AMOUNT", "neither")


async def test_skip_no_signal(desk: Desk) -> None:
    """A decision of the system's own without score and fired indicator is refused."""
    bare = Linkage(trigger="rsi_oversold")
    await refused(desk, market_buy(desk.account, linkage=bare), "SKIP_NO_SIGNAL", "rsi_oversold has neither")


async def test_skip_blacklisted(desk: Desk) -> None:
    """A symbol on the block list is never bought."""
    desk.policy = replace(desk.policy, blocked=frozenset({"BTC-USD"}))
    await refused(desk, market_buy(desk.account), "SKIP_BLACKLISTED", "block list")


async def test_invalid_price_and_size(desk: Desk) -> None:
    """A person's number is used as typed or refused with the nearest valid one."""
    price = limit_buy(desk.account, "0.01", "49000.005", entry_point="manual")
    await refused(desk, price, "INVALID_PRICE", "49000 and 49000.01")
    size = limit_buy(desk.account, "0.010000001", "49000", entry_point="manual")
    await refused(desk, size, "INVALID_SIZE", "0.01 and 0.01000001")
    amount = market_buy(desk.account, base_size=None, quote_size=Decimal("100.001"), entry_point="manual")
    await refused(desk, amount, "INVALID_SIZE", "the nearest are 100 and 100.01")


async def test_an_amount_is_rounded_down_to_what_the_exchange_takes(desk: Desk) -> None:
    """The system's own decisions may have any amount of quote currency: the order has the greatest valid size below
    it."""
    admitted = await desk.admit(market_buy(desk.account, base_size=None, quote_size=Decimal("10.009")))
    assert admitted.plan is not None, admitted.sentence
    assert admitted.plan.body["order_configuration"]["market_market_ioc"]["quote_size"] == "10"


async def test_skip_no_price(desk: Desk) -> None:
    """A stop order as an entry has no price to be sized by."""
    intent = market_buy(desk.account, order_type=OrderType.STOP_LIMIT)
    await refused(desk, intent, "SKIP_NO_PRICE", "no price is known")


async def test_skip_market_data_stale(desk: Desk) -> None:
    """With old prices and no answer of the exchange the system buys nothing; a fresh answer is used instead."""
    desk.policy = replace(desk.policy, max_position=Decimal(1))
    await desk.market(bid="49999", ask="50000", at=datetime.now(UTC) - timedelta(seconds=300))
    first = await desk.admit(limit_buy(desk.account, "0.01", "49000"))
    assert first.accepted, first.sentence
    fault = await desk.control.fault("server_error", "GET /product_book", count=1000)
    await refused(desk, limit_buy(desk.account, "0.01", "49000"), "SKIP_MARKET_DATA_STALE", "s old, the limit is 120 s")
    by_hand = await desk.admit(limit_buy(desk.account, "0.01", "49000", entry_point="manual"))
    assert by_hand.accepted, by_hand.sentence
    await desk.market(bid="49999", ask="50000")
    kept = await desk.admit(limit_buy(desk.account, "0.001", "49000"))
    assert kept.accepted, "a fresh price that is kept needs no answer of the exchange"
    await desk.control.clear_faults(fault)


async def test_skip_spread_too_wide(desk: Desk) -> None:
    """With a spread above the limit the system doesn't buy; a person may."""
    await desk.control.set_price("BTC-USD", "50000", "51000")
    await refused(desk, market_buy(desk.account), "SKIP_SPREAD_TOO_WIDE", "1.98 % (50000 to 51000)")
    assert (await desk.admit(market_buy(desk.account, entry_point="manual"))).accepted


async def test_skip_red_day(desk: Desk) -> None:
    """A product that fell over 24 hours is not bought unless that is allowed, or a person orders it."""
    await desk.market(change_24h="-0.042")
    desk.policy = replace(desk.policy, buy_on_red_day=False, max_position=Decimal(1))
    await refused(desk, market_buy(desk.account), "SKIP_RED_DAY", "fell by 4.20 %")
    assert (await desk.admit(market_buy(desk.account, entry_point="manual"))).accepted
    await desk.market(change_24h="0.001")
    assert (await desk.admit(market_buy(desk.account))).accepted


async def test_below_and_above_the_exchanges_sizes(desk: Desk) -> None:
    """Sizes that the exchange would refuse are not sent."""
    await refused(desk, market_buy(desk.account, "0.00000002"), "BELOW_MINIMUM_SIZE", "less than the minimum")
    await refused(desk, market_buy(desk.account, "4000"), "ABOVE_MAXIMUM_SIZE", "3400")


async def test_skip_max_open_orders(desk: Desk) -> None:
    """The fourth open buy of a symbol is one too many."""
    for _ in range(3):
        assert (await desk.admit(limit_buy(desk.account, "0.001", "49000"))).accepted
    await refused(desk, limit_buy(desk.account, "0.001", "49000"), "SKIP_MAX_OPEN_ORDERS", "3 open buys")


async def test_skip_position_too_large(desk: Desk) -> None:
    """Held size, open buys and this one stay below a tenth of quote currency and open trades at the last price."""
    await desk.trade(symbol="BTC-USD", size="0.01", price="40000")  # 500 at the last price
    await desk.trade(symbol="ETH-USD", size="1", price="2000")
    await desk.market("ETH-USD", price="3000")
    assert (await desk.admit(limit_buy(desk.account, "0.01", "49000"))).accepted  # 490 and its fee
    # A tenth of 10,000 + 500 + 3,000 is 1,350; 490 + 492.94 are used.
    await refused(desk, limit_buy(desk.account, "0.009", "49000"), "SKIP_POSITION_TOO_LARGE", "limit is 1350.00")
    assert (await desk.admit(limit_buy(desk.account, "0.007", "49000"))).accepted


async def test_insufficient_balance_counts_own_and_others_orders_once(desk: Desk) -> None:
    """The remaining need of own and external open buys is not available for another order, and counts once."""
    desk.policy = replace(desk.policy, max_position=Decimal(1), max_open_buys=100)
    await desk.balance("900", hold="100")
    await desk.pool.execute(
        """
        WITH o AS (INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point,
                               trigger, intent, intent_digest, state, finished)
                   VALUES (repeat('e',32),$1,'ETH-USD','BUY','EXTERNAL','LIMIT','websocket','external','manual','{}',
                           '','OPEN',true))
        INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, live, size,
                              limit_price, filled_size)
        VALUES ('theirs', repeat('e',32), 1, $1, 'ETH-USD', '{}', 'OPEN', false, 0.2, 1000, 0.1)
        """,
        desk.account,
    )  # of 1,000, 100 and its fee are reserved
    fees = await desk.venue.fee_rates("BTC-USD")
    own = await desk.admit(limit_buy(desk.account, "0.01", "49000"))
    assert own.accepted
    left = 1000 - 100 * (1 + fees.taker) - 490 * (1 + fees.taker)
    answer = await refused(desk, limit_buy(desk.account, "0.009", "49000"), "INSUFFICIENT_BALANCE", "are available")
    assert Decimal(answer.gates[-1].numbers["available"]) == left
    await desk.pool.execute("UPDATE attempts SET status = 'CANCELLED' WHERE client_order_id = 'theirs'")
    assert (await desk.admit(limit_buy(desk.account, "0.009", "49000"))).accepted


async def test_what_trades_own_of_the_quote_currency_is_not_spent(database: str) -> None:
    """All BTC of the account belong to an open trade: no ETH is bought with them; with more than the trade's, it is."""
    products = ("BTC-USD", "ETH-USD", "ETH-BTC")
    async with desk_at_a_paper_exchange(database, products=products, products_file=CATALOGUE) as desk:
        desk.policy = replace(desk.policy, max_position=Decimal(1))
        await desk.market("ETH-BTC", bid="0.05", ask="0.0501", price="0.05")
        await desk.balance("1", currency="BTC")
        await desk.trade(symbol="BTC-USD", size="1", price="50000")
        await open_books(desk.pool, desk.account, BTC="1")
        await refused(desk, limit_buy(desk.account, "19", "0.05", symbol="ETH-BTC"), "INSUFFICIENT_BALANCE", "0 are av")
        await desk.balance("2", currency="BTC")
        await desk.pool.execute("UPDATE balance_transfers SET amount = 2")
        assert (await desk.admit(limit_buy(desk.account, "19", "0.05", symbol="ETH-BTC"))).accepted
        # The snapshot names every currency of the account, and has no USD.
        await refused(desk, limit_buy(desk.account, "0.01", "49000"), "INSUFFICIENT_BALANCE", "0 are available")


async def test_the_quote_currency_is_a_coin_once_an_order_buys_it(database: str) -> None:
    """An order's unrecorded fill belongs to that order, also a moment after the first read."""
    products = ("BTC-USD", "ETH-USD", "ETH-BTC")
    async with desk_at_a_paper_exchange(database, products=products, products_file=CATALOGUE) as desk:
        desk.policy = replace(desk.policy, max_position=Decimal(1))
        await desk.market("ETH-BTC", bid="0.05", ask="0.0501", price="0.05")
        await desk.balance("100000")
        await desk.balance("2", currency="BTC")
        await open_books(desk.pool, desk.account, BTC="2")
        assert (await desk.admit(limit_buy(desk.account, "1", "0.05", symbol="ETH-BTC"))).accepted
        assert (await desk.admit(limit_buy(desk.account, "1", "49000"))).accepted
        await desk.balance("3", currency="BTC")  # it has filled
        buy = limit_buy(desk.account, "50", "0.05", symbol="ETH-BTC")
        await refused(desk, buy, "INSUFFICIENT_BALANCE", "are available")
        assert (await desk.admit(limit_buy(desk.account, "30", "0.05", symbol="ETH-BTC"))).accepted


async def test_a_ledger_without_its_stamp_is_nobodys(desk: Desk) -> None:
    """Whether money is real is not guessed: without the stamp entries wait for a worker that stamps it again."""
    await desk.pool.execute("DELETE FROM ledger_identity")
    await refused(desk, market_buy(desk.account), "SKIP_TRADING_HALTED", "the ledger's stamp is missing")


async def test_dry_run(desk: Desk) -> None:
    """A dry run passes everything and is not sent."""
    await refused(desk, market_buy(desk.account, dry_run=True), "DRY_RUN", "would have been sent")


async def test_skip_daily_loss_limit_halts(desk: Desk) -> None:
    """If a reached limit was not noticed before, the gate itself halts the account and notifies people."""
    await desk.trade("-300")
    await desk.trade("-200", symbol="ETH-USDC")
    await refused(desk, market_buy(desk.account, dry_run=True), "SKIP_DAILY_LOSS_LIMIT", "lost 500.00")
    assert not await desk.value("SELECT count(*) FROM account_controls"), "a dry run changes nothing"
    await refused(desk, market_buy(desk.account), "SKIP_DAILY_LOSS_LIMIT", "lost 500.00")
    assert await desk.value("SELECT changed_by FROM account_controls WHERE halted") == "daily loss limit"
    assert await desk.value("SELECT severity FROM incidents WHERE kind = 'TRADING_HALTED'") == "CRITICAL"
    await refused(desk, market_buy(desk.account), "SKIP_TRADING_HALTED", "daily loss limit")


async def test_skip_circuit_breaker_halts(desk: Desk) -> None:
    """Five closed trades in a row that lost halt entries; a gain among them prevents it."""
    desk.policy = replace(desk.policy, max_position=Decimal(1))
    for number, pnl in enumerate(("-1", "-1", "2", "-1", "-1", "-1", "-1")):
        await desk.trade(pnl, ago=100 - number)
    assert (await desk.admit(market_buy(desk.account))).accepted
    await desk.trade("-0.01")
    await refused(desk, market_buy(desk.account), "SKIP_CIRCUIT_BREAKER", "last 5 closed trades lost")
    assert await desk.value("SELECT changed_by FROM account_controls WHERE halted") == "circuit breaker"


async def test_hodl_and_nothing_to_sell(desk: Desk) -> None:
    """The system never sells HODL coins; and nobody sells coins that aren't there."""
    desk.policy = replace(desk.policy, hodl=frozenset({"BTC-USD"}))
    await refused(desk, sell(desk.account, "0.01"), "HODL", "HODL list")
    await refused(desk, sell(desk.account, "0.01", symbol="ETH-USD"), "INSUFFICIENT_BALANCE", "an unknown size")
    await open_books(desk.pool, desk.account, USD="10000")
    await refused(desk, sell(desk.account, "0.01", symbol="ETH-USD"), "INSUFFICIENT_BALANCE", "0 may be sold")


async def test_a_limit_only_product_is_bought_by_a_limit_that_takes_at_once(database: str) -> None:
    """If market orders aren't accepted, a collared limit IOC is sent instead."""
    symbol = "IOTX-USD"
    async with desk_at_a_paper_exchange(
        database, products=("BTC-USD", "ETH-USD", symbol), products_file=CATALOGUE
    ) as desk:
        await desk.control.set_price(symbol, "0.0200", "0.0201")
        product = await desk.venue.product(symbol)
        assert product is not None
        assert product.limit_only
        admission = await desk.admit(market_buy(desk.account, "1000", symbol=symbol))
        assert admission.accepted, admission.sentence
        assert admission.plan is not None
        assert "sor_limit_ioc" in admission.plan.body["order_configuration"]
        assert admission.plan.limit_price == Decimal("0.02031")  # 1 % above the ask, to the tick


async def test_an_urgent_limit_has_a_collar(desk: Desk) -> None:
    """A limit IOC without its own price takes the available liquidity, no further than the collar from the touch."""
    intent = market_buy(desk.account, order_type=OrderType.LIMIT, time_in_force="IOC", base_size=Decimal("0.01"))
    admission = await desk.admit(intent)
    assert admission.accepted, admission.sentence
    assert admission.plan is not None
    assert admission.plan.limit_price == Decimal("50501.01")


async def test_the_days_result_is_the_trades_own(desk: Desk) -> None:
    """The limits count each trade's P&L by the position book's rule, also if parts were sold outside."""
    expected = Decimal(0)
    for bought, value, fees, base_fees, sold, brought, sold_fees in (
        ("1", "100", "0.6", "0", "1", "90", "0.5"),
        ("2", "80", "0.3", "0.002", "1.998", "95.5", "0.4"),
        ("3", "300", "1", "0", "1", "70", "0.7"),  # the rest was sold outside
        ("1", "50", "0.1", "0", "0", "0", "0"),  # all of it was
    ):
        key = await desk.trade("0", symbol="ETH-USD")
        await desk.pool.execute(
            """UPDATE trades SET bought_size = $2, bought_value = $3, bought_quote_fees = $4, bought_base_fees = $5,
                      sold_size = $6, sold_value = $7, sold_quote_fees = $8,
                      external_size = $2::numeric - $5::numeric - $6::numeric
               WHERE entry_key = $1""",
            key,
            *(Decimal(each) for each in (bought, value, fees, base_fees, sold, brought, sold_fees)),
        )
        expected += trade_pnl(
            Decimal(bought) - Decimal(base_fees),
            Decimal(value) + Decimal(fees),
            Decimal(sold),
            Decimal(brought) - Decimal(sold_fees),
        )
    intent = market_buy(desk.account)
    assert (await desk.admit(intent)).accepted
    numbers = await desk.value(
        "SELECT numbers FROM gate_results WHERE order_key = $1 AND gate = 'SKIP_DAILY_LOSS_LIMIT'", intent.order_key
    )
    assert abs(Decimal(numbers["pnl"]) - expected) < Decimal("1e-12")
