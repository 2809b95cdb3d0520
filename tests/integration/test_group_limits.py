"""Limits of strategies and triggers at the real admission: each refuses by its name, and none counts another's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from activities.orders.admission import Admissions
from activities.orders.controls import HALTED, RESUMED, halt, resume
from activities.orders.group_controls import halt_group, resume_group
from activities.orders.group_limits import halt_groups_that_lost, read_groups
from domain.limit_groups import GroupKind, GroupLimits, LimitGroup
from domain.messages import Admission, OrderIntent
from domain.orders import OrderState
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.harness import trading_system
from tests.support.intents import limit_buy, linkage
from tests.support.waiting import eventually
from workers.settings.risk import RiskSettings
from workers.stack.dev_server import DevServer

STRATEGY, TRIGGER = GroupKind.STRATEGY, GroupKind.TRIGGER


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission with money, fresh prices, and no other limits."""
    async with desk_at_a_paper_exchange(database) as running:
        await ready(running)
        yield running


async def ready(desk: Desk) -> None:
    """Money, prices, and no limits of the account."""
    desk.policy = replace(
        desk.policy, max_position=Decimal(1), max_open_buys=1000, daily_loss_limit=Decimal(0), losing_streak=0
    )
    await desk.balance("100000")
    await desk.market(bid="50000", ask="50001", price="50000", change_24h="0.01")


def limited(desk: Desk, kind: GroupKind, name: str, *triggers: str, **limits: Any) -> None:
    """Give a strategy or a trigger these limits, beside those that others have."""
    group = LimitGroup(kind, name, frozenset(triggers or (name,)), GroupLimits(**limits))
    desk.policy = replace(desk.policy, groups=(*desk.policy.groups, group))


def buy(desk: Desk, trigger: str = "rsi_oversold", size: str = "0.001", **fields: Any) -> OrderIntent:
    """An entry at 50,000, which needs 50 USD and the fee."""
    return limit_buy(desk.account, size, "50000", linkage=linkage(trigger), **fields)


async def refused(desk: Desk, intent: OrderIntent, gate: str, says: str) -> Admission:
    """This gate refuses it, in these words."""
    answer = await desk.admit(intent)
    assert (answer.accepted, answer.gate) == (False, gate), answer.sentence
    assert says in answer.sentence
    return answer


async def needs(desk: Desk) -> Decimal:
    """What `buy` needs."""
    return Decimal(50) * (1 + (await desk.venue.fee_rates("BTC-USD")).taker)


@pytest.mark.parametrize(("kind", "name"), [(STRATEGY, "dip"), (TRIGGER, "rsi_oversold")])
async def test_a_budget_refuses(desk: Desk, kind: GroupKind, name: str) -> None:
    """Open trades by what remains of them, open entries by what they may still spend, and this one: all numbers are
    said."""
    limited(desk, kind, name, "rsi_oversold", budget=Decimal(500))
    await desk.trade(trigger="rsi_oversold", symbol="ETH-USD", size="2", price="240")
    await desk.pool.execute("UPDATE trades SET bought_quote_fees = 3, sold_size = 1 WHERE symbol = 'ETH-USD'")
    await desk.trade("-1000", trigger="rsi_oversold", price="3000")  # closed: it holds nothing
    assert (await desk.admit(buy(desk, size="0.004"))).accepted
    need = await needs(desk)
    is_open = Decimal("241.5") + 4 * need
    word = kind.value.upper()
    answer = await refused(
        desk,
        buy(desk, size="0.002"),
        f"SKIP_{word}_BUDGET",
        f"{kind.value} {name} has {is_open:.2f} of its 500.00 USD open, this order needs {2 * need:.2f}",
    )
    numbers = answer.gates[-1].numbers
    assert numbers[kind.value] == name
    assert [Decimal(numbers[each]) for each in ("open", "this", "budget")] == [is_open, 2 * need, 500]
    assert (await desk.admit(buy(desk, "macd_cross", size="0.002"))).accepted, "another's budget is not used"
    assert (await desk.admit(buy(desk))).accepted, "there is room for a smaller one"


@pytest.mark.parametrize(("kind", "name"), [(STRATEGY, "dip"), (TRIGGER, "rsi_oversold")])
async def test_a_number_of_open_trades_refuses(desk: Desk, kind: GroupKind, name: str) -> None:
    """An entry that may become a trade has its place already, and keeps just that one when it is a trade."""
    limited(desk, kind, name, "rsi_oversold", open_trades=2)
    await desk.trade(trigger="rsi_oversold")
    first = buy(desk)
    assert (await desk.admit(first)).accepted
    says = f"{kind.value} {name} has 2 open trades and entries, its limit is 2"
    await refused(desk, buy(desk), f"SKIP_{kind.value.upper()}_OPEN_TRADES", says)
    await desk.pool.execute(
        """INSERT INTO trades (entry_key, account, symbol, state, bought_size, bought_value)
           VALUES ($1, $2, 'BTC-USD', 'OPENING', 0.0005, 25)""",
        first.order_key,
        desk.account,
    )
    await refused(desk, buy(desk), f"SKIP_{kind.value.upper()}_OPEN_TRADES", says)
    assert (await desk.admit(buy(desk, "macd_cross"))).accepted


async def test_the_accounts_open_trades_have_a_limit(desk: Desk) -> None:
    """All of them, whoever decided; a person's order, too."""
    desk.policy = replace(desk.policy, max_open_trades=3)
    await desk.trade(trigger="rsi_oversold")
    await desk.trade(trigger="manual", symbol="ETH-USD")
    assert (await desk.admit(buy(desk))).accepted
    says = "the account has 3 open trades and entries, the limit is 3"
    await refused(desk, buy(desk, "macd_cross"), "SKIP_MAX_OPEN_TRADES", says)
    await refused(desk, buy(desk, "manual", entry_point="manual"), "SKIP_MAX_OPEN_TRADES", says)


@pytest.mark.parametrize(("kind", "name"), [(STRATEGY, "dip"), (TRIGGER, "rsi_oversold")])
async def test_a_days_loss_halts_until_the_day_ends(desk: Desk, kind: GroupKind, name: str) -> None:
    """The gate refuses and halts that strategy or trigger alone, and tells people once; a gain later that day changes
    nothing; with the day the halt ends by itself."""
    limited(desk, kind, name, "rsi_oversold", daily_loss=Decimal(100))
    await desk.trade("-60", trigger="rsi_oversold")
    await desk.trade("-900", trigger="macd_cross")
    assert (await desk.admit(buy(desk))).accepted
    await desk.trade("-40", trigger="rsi_oversold")
    word, what = kind.value.upper(), f"{kind.value} {name}"
    await refused(desk, buy(desk, dry_run=True), f"SKIP_{word}_DAILY_LOSS", f"{what} has lost 100.00")
    assert not await desk.value("SELECT count(*) FROM group_controls"), "a dry run changes nothing"
    await refused(desk, buy(desk), f"SKIP_{word}_DAILY_LOSS", f"{what} has lost 100.00 with today's closed trades")
    row = await desk.pool.fetchrow(
        "SELECT *, until = date_trunc('day', changed_at, 'UTC') + interval '24 hours' AS midnight FROM group_controls"
    )
    assert (row["kind"], row["name"], row["changed_by"]) == (kind.value, name, "daily loss limit")
    assert row["midnight"]
    await desk.trade("500", trigger="rsi_oversold")
    await refused(desk, buy(desk), f"SKIP_{word}_HALTED", f"{what} are halted by daily loss limit: {what} has lost")
    assert await halt_groups_that_lost(desk.pool, desk.policy) == []
    told = await desk.pool.fetch("SELECT severity, subject, sentence FROM incidents WHERE kind = 'TRADING_HALTED'")
    assert [(each["severity"], each["subject"]) for each in told] == [("WARNING", what)]
    assert "were halted until" in told[0]["sentence"]
    assert (await desk.admit(buy(desk, "macd_cross"))).accepted
    assert not await desk.value("SELECT count(*) FROM account_controls")

    await desk.pool.execute("UPDATE group_controls SET until = now()")
    await desk.pool.execute("UPDATE trades SET closed_at = closed_at - interval '1 day' WHERE closed_at IS NOT NULL")
    assert (await desk.admit(buy(desk))).accepted


async def test_a_loss_before_a_resume_is_settled_with_it(desk: Desk) -> None:
    """A person resumes before midnight: what was lost till then does not halt a second time, what is lost after does;
    the account's resume settles nothing of a strategy."""
    limited(desk, STRATEGY, "dip", "rsi_oversold", daily_loss=Decimal(100))
    await desk.trade("-100", trigger="rsi_oversold")
    assert await halt_groups_that_lost(desk.pool, desk.policy) == ["strategy dip"]
    async with desk.pool.acquire() as connection:
        assert await resume_group(connection, desk.account, STRATEGY, "dip", "looked into it", "ada")
        assert not await resume_group(connection, desk.account, STRATEGY, "dip", "", "ada")
    assert (await desk.admit(buy(desk))).accepted
    key = await desk.trade("-100", trigger="rsi_oversold")
    await desk.pool.execute("UPDATE trades SET closed_at = now() WHERE entry_key = $1", key)
    assert await halt_groups_that_lost(desk.pool, desk.policy) == ["strategy dip"]


async def test_a_resume_restarts_the_count_also_where_nothing_is_halted(desk: Desk) -> None:
    """Entries that are refused because the day's result isn't known pass after a person's resume, of the account for
    the account's result and of the strategy for the strategy's; losses before a resume are settled by it. The resume
    says that it ended no halt.
    """
    limited(desk, STRATEGY, "dip", "rsi_oversold", daily_loss=Decimal(100))
    desk.policy = replace(desk.policy, daily_loss_limit=Decimal(100))

    async def resumed() -> list[bool]:
        async with desk.pool.acquire() as connection:
            return [
                await resume(connection, desk.account, "looked into it", "ada"),
                await resume_group(connection, desk.account, STRATEGY, "dip", "looked into it", "ada"),
            ]

    await desk.trade("-10", trigger="rsi_oversold", symbol="BTC-EUR")
    await refused(desk, buy(desk), "SKIP_DAILY_LOSS_LIMIT", "a resume restarts the day's count")
    async with desk.pool.acquire() as connection:
        assert not await resume(connection, desk.account, "", "ada")
    await refused(desk, buy(desk), "SKIP_STRATEGY_DAILY_LOSS", "a resume restarts its count")
    assert await resumed() == [False, False]
    assert (await desk.admit(buy(desk))).accepted
    for _ in range(2):
        key = await desk.trade("-60", trigger="rsi_oversold")
        await desk.pool.execute("UPDATE trades SET closed_at = now() WHERE entry_key = $1", key)
        assert (await desk.admit(buy(desk))).accepted
        assert await resumed() == [False, False]
    assert await desk.value("SELECT count(*) FROM incidents WHERE kind = ANY($1)", [HALTED, RESUMED]) == 0


async def test_a_person_halts_one_strategy(desk: Desk) -> None:
    """Its entries are refused at the first gates, with person and reason, until a person resumes; a halt that would
    end with the day becomes one that doesn't; other strategies go on."""
    limited(desk, STRATEGY, "dip", "rsi_oversold", "bb_squeeze", daily_loss=Decimal(100))
    await desk.trade("-100", trigger="bb_squeeze")
    assert await halt_groups_that_lost(desk.pool, desk.policy) == ["strategy dip"]
    async with desk.pool.acquire() as connection:
        assert await halt_group(connection, desk.account, STRATEGY, "dip", "too risky", "ada")
        assert not await halt_group(connection, desk.account, STRATEGY, "dip", "again", "bob")
    assert await desk.value("SELECT until IS NULL FROM group_controls")
    answer = await refused(desk, buy(desk), "SKIP_STRATEGY_HALTED", "strategy dip are halted by ada: too risky")
    assert [each.gate for each in answer.gates] == ["SKIP_TRADING_HALTED", "SKIP_STRATEGY_HALTED"]
    await refused(desk, buy(desk, "bb_squeeze"), "SKIP_STRATEGY_HALTED", "too risky")
    assert (await desk.admit(buy(desk, "macd_cross"))).accepted
    # A trigger without any limit can be halted, too; the account's halt comes first.
    async with desk.pool.acquire() as connection:
        await halt_group(connection, desk.account, TRIGGER, "macd_cross", "", "ada")
    await refused(desk, buy(desk, "macd_cross"), "SKIP_TRIGGER_HALTED", "trigger macd_cross are halted by ada")
    async with desk.pool.acquire() as connection:
        await halt(connection, desk.account, "the news", "ada")
    await refused(desk, buy(desk), "SKIP_TRADING_HALTED", "the news")
    still_open = "SELECT array_agg(subject ORDER BY subject) FROM incidents WHERE resolved_at IS NULL"
    assert await desk.value(still_open) == sorted([desk.account, "strategy dip", "trigger macd_cross"])


async def test_another_accounts_trades_and_halts_are_not_looked_at(desk: Desk) -> None:
    """The same names in another account of the ledger share nothing."""
    limited(desk, STRATEGY, "dip", "rsi_oversold", budget=Decimal(60), daily_loss=Decimal(10), open_trades=1)
    await desk.trade(trigger="rsi_oversold")
    await desk.trade("-10", trigger="rsi_oversold")
    async with desk.pool.acquire() as connection:
        await halt_group(connection, desk.account, STRATEGY, "dip", "", "ada")
    desk.another_account()
    await ready(desk)
    assert (await desk.admit(buy(desk))).accepted


async def test_fifty_at_once_never_pass_a_budget_together(desk: Desk) -> None:
    """In one process by one read, and in two by turns: as many are admitted as fit, and no more."""
    limited(desk, STRATEGY, "dip", "rsi_oversold", "bb_squeeze", budget=Decimal(500))
    limited(desk, TRIGGER, "macd_cross", open_trades=7)
    other = Admissions(desk.pool, desk.venue, lambda: desk.policy)
    intents = [buy(desk, ("rsi_oversold", "bb_squeeze", "macd_cross")[number % 3]) for number in range(50)]
    answers = await asyncio.gather(
        *((desk.admissions if number % 2 else other).admit(intent) for number, intent in enumerate(intents))
    )
    admitted: dict[str, int] = {"dip": 0, "macd_cross": 0}
    for intent, answer in zip(intents, answers, strict=True):
        name = "macd_cross" if intent.linkage.trigger == "macd_cross" else "dip"
        admitted[name] += answer.accepted
        assert answer.accepted or answer.gate in ("SKIP_STRATEGY_BUDGET", "SKIP_TRIGGER_OPEN_TRADES"), answer.sentence
    assert admitted == {"dip": 500 // await needs(desk), "macd_cross": 7}


async def test_budgets_of_two_strategies_never_mix(desk: Desk) -> None:
    """Entries, fills and closes of two strategies and of neither, in any order: each is admitted exactly if a count of
    that strategy's own orders says so."""
    chance = random.Random(11)
    owner = {"rsi_oversold": "dip", "bb_squeeze": "dip", "macd_cross": "trend", "roc_momo": ""}
    budgets = {"dip": Decimal(400), "trend": Decimal(250)}
    limited(desk, STRATEGY, "dip", "rsi_oversold", "bb_squeeze", budget=budgets["dip"])
    limited(desk, STRATEGY, "trend", "macd_cross", budget=budgets["trend"])
    need = await needs(desk)
    is_open: dict[str, tuple[str, Decimal]] = {}
    for _ in range(60):
        trigger = chance.choice(sorted(owner))
        if chance.random() < 0.4 and is_open:
            key = chance.choice(sorted(is_open))
            if chance.random() < 0.5:
                await desk.pool.execute(
                    "UPDATE orders SET finished = true, state = 'CANCELLED' WHERE order_key = $1", key
                )
                await desk.pool.execute(
                    "UPDATE trades SET state = 'CLOSED', closed_at = now() WHERE entry_key = $1", key
                )
                del is_open[key]
            continue
        units = chance.randint(1, 3)
        intent = buy(desk, trigger, size=str(Decimal(units) / 1000))
        name = owner[trigger]
        used = sum((money for of, money in is_open.values() if of == name), Decimal(0))
        answer = await desk.admit(intent)
        assert answer.accepted == (not name or used + units * need <= budgets[name]), answer.sentence
        if not answer.accepted:
            assert answer.gate == "SKIP_STRATEGY_BUDGET"
            continue
        is_open[intent.order_key] = (name, units * need)
        if chance.random() < 0.5:  # it fills at once, at its price and with the whole fee
            await desk.pool.execute(
                """WITH o AS (UPDATE orders SET finished = true, state = 'FILLED', filled_size = base_size,
                                     filled_value = base_size * limit_price WHERE order_key = $1 RETURNING *)
                   INSERT INTO trades (entry_key, account, symbol, state, bought_size, bought_value, bought_quote_fees,
                                       entry_final)
                   SELECT order_key, account, symbol, 'PROTECTED', base_size, filled_value,
                          reserved_quote - filled_value, true FROM o""",
                intent.order_key,
            )
    found = await read_groups(desk.pool, desk.policy, desk.policy.groups, count_all=True)
    assert found.open_trades == len(is_open)
    for state in found.states:
        own = [money for name, money in is_open.values() if name == state.group.name]
        assert (state.open_trades, state.money.get("USD", 0)) == (len(own), sum(own))


async def test_a_budget_in_another_currency_is_not_known_without_a_rate(desk: Desk) -> None:
    """An open trade in EUR, of which no rate is known: refused, never counted as zero or as USD; with a rate it
    counts by it."""
    limited(desk, STRATEGY, "dip", "rsi_oversold", budget=Decimal(300))
    await desk.trade(trigger="rsi_oversold", symbol="BTC-EUR", size="1", price="200")
    says = "not known how much of its budget strategy dip has open: the exchange gives no rate for EUR"
    answer = await refused(desk, buy(desk), "SKIP_STRATEGY_BUDGET", says)
    assert answer.gates[-1].numbers["open"] == "not known"
    assert (await desk.admit(buy(desk, "macd_cross"))).accepted, "nobody else needs that rate"
    await desk.market("EUR-USD", price="1.1")
    assert (await desk.admit(buy(desk))).accepted
    await refused(desk, buy(desk), "SKIP_STRATEGY_BUDGET", "has 270.")


async def test_a_rate_that_is_not_kept_is_asked_for(desk: Desk) -> None:
    """The exchange has a product of the two: its price counts, before anything is refused."""
    limited(desk, STRATEGY, "dip", "rsi_oversold", budget=Decimal(20_000))
    await desk.pool.execute("DELETE FROM market_prices")
    await desk.trade(trigger="rsi_oversold", symbol="ETH-BTC", size="1", price="0.2")  # 10,000 USD
    assert (await desk.admit(buy(desk, size="0.1"))).accepted
    await refused(desk, buy(desk, size="0.1"), "SKIP_STRATEGY_BUDGET", "of its 20000.00 USD open")


async def test_what_an_account_is_worth_is_what_its_gates_say(desk: Desk) -> None:
    """Entries that are sized by a share of it, and the limit of a position, count the same: quote currency, later
    fills, open trades at fresh prices; what isn't known is not known to both."""
    desk.policy = replace(desk.policy, max_position=Decimal("0.0001"))
    await desk.balance("10000", hold="500")
    await desk.trade(symbol="ETH-USD", size="2", price="1000")
    await desk.trade(symbol="BTC-EUR", size="1", price="1000")  # in another currency
    ask = "SELECT worth, why FROM account_worth($1, 'USD', 120, 120)"
    row = await desk.pool.fetchrow(ask, desk.account)
    assert tuple(row) == (None, "no fresh price of ETH-USD is known")
    await desk.market("ETH-USD", price="1500")
    await desk.pool.execute(
        """INSERT INTO fills (fill_key, account, symbol, side, order_key, exchange_order_id, origin, ingest_via, size,
                              price, value, quote_fees, at)
           SELECT 'f', $1, 'ETH-USD', 'BUY', order_key, 'x', 'derived', 'websocket', 1, 100, 100, 1, now() FROM orders
            WHERE symbol = 'ETH-USD'""",
        desk.account,
    )
    row = await desk.pool.fetchrow(ask, desk.account)
    assert tuple(row) == (10_500 - 101 + 2 * 1500, None)
    answer = await refused(desk, buy(desk), "SKIP_POSITION_TOO_LARGE", "of the account's value of 13399.00")
    assert Decimal(answer.gates[-1].numbers["worth"]) == row["worth"]
    await desk.pool.execute("UPDATE balances SET asked_at = asked_at - interval '1 hour'")
    assert tuple(await desk.pool.fetchrow(ask, desk.account)) == (None, "no fresh balance of USD is known")
    desk.another_account()
    assert tuple(await desk.pool.fetchrow(ask, desk.account)) == (None, "no fresh balance of USD is known")


async def test_a_halted_strategys_entry_is_not_sent_again(database: str, temporal_server: DevServer) -> None:
    """An attempt that the exchange ended is not followed by another while its strategy is halted, and a close that
    loses too much halts the strategy, on the whole system; its open trade is still sold by its stop."""
    risk = RiskSettings.model_validate(
        {
            "allow_buys_on_red_day": True,
            "max_position_pct": 100,
            "daily_loss_limit": 0,
            "losing_trades_in_a_row": 0,
            "strategies": {"dip": {"triggers": ["rsi_oversold"], "daily_loss_limit": 100}},
        }
    )
    async with trading_system(database, temporal_server.address, risk=risk) as system:
        trade = await system.start(limit_buy(system.account, "0.1", "49999", post_only=True))
        exchange_id = await trade.exchange_id()
        await system.control.fill(exchange_id, "0.05")
        await trade.until_protected("0.05")
        async with system.pool.acquire() as connection:
            await halt_group(connection, system.account, STRATEGY, "dip", "the news", "ada")
        await system.control.cancel(exchange_id, "Order would have traded with one of its own")
        view = await trade.until_state("CANCELLED")
        assert "strategy dip are halted by ada: the news" in view.sentence
        async with system.pool.acquire() as connection:
            await resume_group(connection, system.account, STRATEGY, "dip", "", "ada")
        await system.price("47000")  # it loses 150
        await trade.closed()

        async def halted() -> bool:
            return bool(await system.value("SELECT halted FROM group_controls"))

        await eventually(halted, what="the halt of the strategy")
        await system.price("50000")
        again = await (await system.start(limit_buy(system.account, "0.001", "49000"))).result()
        assert (again.state, again.gate) == (OrderState.REJECTED, "SKIP_STRATEGY_HALTED")
