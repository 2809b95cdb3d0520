"""The daily loss limit and the circuit breaker on the whole system: they halt, notify, and wait for a person."""

from __future__ import annotations

from decimal import Decimal

from activities.interfaces.starting import decide_order
from activities.orders.controls import halt, resume
from domain.exits import ExitReason
from domain.orders import OrderState
from tests.support.harness import Trade, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.settings.risk import RiskSettings
from workers.stack.dev_server import DevServer


def limits(**given: object) -> RiskSettings:
    """Limits of which a test sets one."""
    wide: dict[str, object] = {
        "allow_buys_on_red_day": True,
        "max_position_pct": 100,
        "daily_loss_limit": 0,
        "losing_trades_in_a_row": 0,
    }
    return RiskSettings.model_validate(wide | given)


async def stopped_out(system: TradingSystem, size: str = "0.01") -> Trade:
    """A trade that lost 6 % of its value."""
    await system.price("50000")
    trade = await system.start(market_buy(system.account, size))
    await trade.until_protected(size)
    await system.price("47000")
    await trade.closed()
    await system.price("50000")
    return trade


async def halted_by(system: TradingSystem) -> str | None:
    """Who halted entries; None if nobody did."""
    by: str | None = await system.value("SELECT changed_by FROM account_controls WHERE halted")
    return by


async def a_quiet_hour(system: TradingSystem) -> None:
    """Wait until the real day doesn't end within the next minutes, so that a test may say itself when it ends."""
    left = "SELECT date_trunc('day', now(), 'UTC') + interval '1 day' - now() > interval '5 minutes'"
    await eventually(lambda: system.value(left), within=100, what="a new day in UTC", every=1.0)


async def the_day_ends(system: TradingSystem) -> None:
    """Midnight in UTC has passed since the trades that have closed."""
    await system.rows("UPDATE trades SET closed_at = closed_at - interval '1 day' WHERE closed_at IS NOT NULL")


async def test_a_days_loss_halts_entries_until_a_person_resumes(database: str, temporal_server: DevServer) -> None:
    """The close that reaches the limit halts and notifies; exits go on; after a resume old losses don't count."""
    async with trading_system(database, temporal_server.address, risk=limits(daily_loss_limit=300)) as system:
        await a_quiet_hour(system)
        held = await system.start(market_buy(system.account, "0.5", symbol="ETH-USD"))
        await held.until_protected("0.5")
        resting = await system.start(limit_buy(system.account, "0.001", "40000"))
        await resting.exchange_id()
        await stopped_out(system, "0.05")  # loses 150 and fees
        assert await halted_by(system) is None
        await stopped_out(system, "0.05")
        assert await halted_by(system) == "daily loss limit"
        told = await system.rows("SELECT severity, sentence, resolved_at FROM incidents WHERE kind = 'TRADING_HALTED'")
        assert [(row["severity"], row["resolved_at"]) for row in told] == [("CRITICAL", None)]
        assert "by daily loss limit: today's closed trades have lost 3" in told[0]["sentence"]

        refused = await (await system.start(market_buy(system.account))).result()
        assert (refused.state, refused.gate) == (OrderState.REJECTED, "SKIP_TRADING_HALTED")
        assert "daily loss limit" in refused.sentence
        await system.price("2800", symbol="ETH-USD")
        assert (await held.closed()).exit_reason is ExitReason.HARD_STOP
        assert await halted_by(system) == "daily loss limit"

        async with system.pool.acquire() as connection:
            assert await resume(connection, system.account, "looked into it", "ada")
        passed = await system.start(market_buy(system.account))
        await passed.until_protected()
        await system.price("47000")
        await passed.closed()
        assert await halted_by(system) is None, "what was lost before the resume is settled with it"
        await stopped_out(system, "0.1")
        assert await halted_by(system) == "daily loss limit", "a new loss above the limit halts again"


async def test_a_day_that_ends_takes_its_losses_with_it_and_leaves_the_halt(
    database: str, temporal_server: DevServer
) -> None:
    """On a running system: what was lost yesterday does not add to today's loss, which halts at its own limit; that
    halt is still there tomorrow, until a person resumes.
    """
    async with trading_system(database, temporal_server.address, risk=limits(daily_loss_limit=300)) as system:
        await a_quiet_hour(system)
        await stopped_out(system, "0.05")  # loses 150 and fees
        await the_day_ends(system)
        await stopped_out(system, "0.05")
        assert await halted_by(system) is None, "of 300 and more, half was lost yesterday"
        await stopped_out(system, "0.05")
        assert await halted_by(system) == "daily loss limit"
        await the_day_ends(system)
        refused = await (await system.start(market_buy(system.account))).result()
        assert (refused.state, refused.gate) == (OrderState.REJECTED, "SKIP_TRADING_HALTED")
        async with system.pool.acquire() as connection:
            assert await resume(connection, system.account, "another day", "ada")
        await stopped_out(system, "0.05")
        assert await halted_by(system) is None


async def test_losing_trades_in_a_row_halt_entries(database: str, temporal_server: DevServer) -> None:
    """The second of two losing trades in a row trips the breaker with a limit of two; a gain in between prevents it."""
    async with trading_system(database, temporal_server.address, risk=limits(losing_trades_in_a_row=2)) as system:
        await stopped_out(system)
        gained = await system.start(market_buy(system.account, "0.01"))
        await gained.until_protected("0.01")
        await system.price("53000")
        await gained.handle.signal("close")
        assert (await gained.closed()).pnl > 0
        await stopped_out(system)
        assert await halted_by(system) is None
        await stopped_out(system)
        assert await halted_by(system) == "circuit breaker"


async def test_a_halt_ends_a_post_only_entry_before_its_next_attempt(database: str, temporal_server: DevServer) -> None:
    """An attempt that the exchange ended is not followed by another while entries are halted; its fills stay."""
    async with trading_system(database, temporal_server.address) as system:
        trade = await system.start(limit_buy(system.account, "0.1", "49999", post_only=True))
        exchange_id = await trade.exchange_id()
        await system.control.fill(exchange_id, "0.03")
        await trade.until_protected("0.03")
        async with system.pool.acquire() as connection:
            await halt(connection, system.account, "the news", "ada")
        await system.control.cancel(exchange_id, "Order would have traded with one of its own")
        view = await trade.until_state("CANCELLED")
        assert (view.filled_size, view.attempts) == (Decimal("0.03"), 1)
        assert "ada: the news" in view.sentence
        row = (await system.rows("SELECT * FROM orders WHERE order_key = $1", trade.key))[0]
        assert (row["state"], row["refusal"], row["reserved_quote"]) == ("CANCELLED", "SKIP_TRADING_HALTED", 0)
        assert "the news" in row["gate_sentence"]
        assert row["gate"] is None, "it had been admitted"
        assert await system.value("SELECT count(*) FROM attempts WHERE order_key = $1", trade.key) == 1
        gates = await system.rows(
            "SELECT gate, passed FROM gate_results WHERE order_key = $1 AND position > 100", trade.key
        )
        assert [(row["gate"], row["passed"]) for row in gates] == [("SKIP_TRADING_HALTED", False)]
        await system.price("47000")
        assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP

        fresh = await trade.system.start(limit_buy(system.account, "0.1", "46000", post_only=True))
        assert (await fresh.result()).gate == "SKIP_TRADING_HALTED"


async def test_a_refused_order_shows_its_gates_to_a_person(database: str, temporal_server: DevServer) -> None:
    """The details in the Web UI and the answer to the caller have the gate and the numbers of every gate that ran."""
    async with trading_system(database, temporal_server.address) as system:
        intent = market_buy(system.account, "5000")
        decision = await decide_order(system.client, intent, task_queue=system.settings.temporal.orders_queue)
        assert decision.gate == "ABOVE_MAXIMUM_SIZE"
        assert decision.numbers["size"] == "5000"
        refused = system.client.get_workflow_handle(decision.workflow_id)
        await refused.result()

        async def details() -> str | None:
            found = await refused.query("__temporal_workflow_metadata")
            return str(found.current_details) or None

        shown = await eventually(details, what="the details of the workflow")
        assert "| **refused** | ABOVE_MAXIMUM_SIZE | size 5000" in shown
        assert "| passed | SKIP_SPREAD_TOO_WIDE | bid 50000, ask 50001" in shown
