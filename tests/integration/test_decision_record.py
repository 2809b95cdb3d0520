"""A decision is stored as it was made: one record, without losing a field or a digit."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from activities.orders.decisions import RECORD, Turn, store, store_entries
from domain.drafting import Draft
from domain.exits import ExitReason
from domain.gate_facts import GateResult
from domain.gate_names import GateName
from domain.messages import OrderIntent
from domain.orders import OrderRole, OrderType, TimeInForce
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy, sell

TINY = Decimal("0.000000000000000001")
HUGE = Decimal("123456789012.000000000000000001")
DRAFT = Draft(OrderType.LIMIT, TINY, None, HUGE, TimeInForce.GTC)
PASSED = GateResult(GateName.INSUFFICIENT_BALANCE, True, "", {"needed": "1e-18"})
REFUSED = GateResult(GateName.DRY_RUN, False, 'not "now" \\ never', {})


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Admission alone."""
    async with desk_at_a_paper_exchange(database) as running:
        yield running


async def columns_of(desk: Desk, order_key: str) -> dict[str, object]:
    """The stored order, with the columns of the record."""
    row = await desk.pool.fetchrow("SELECT * FROM orders WHERE order_key = $1", order_key)
    return {name: row[name] for name in RECORD if name in row}


async def test_an_admitted_entry_is_stored_to_the_last_digit(desk: Desk) -> None:
    """Every column of the order has the record's value; gates, attempt and turn are written with it."""
    intent = limit_buy(desk.account, "1", "1", source="täst")
    turn = Turn(0, datetime.now(UTC))
    decided = desk.admissions.decisions.decided(intent, DRAFT, [PASSED, PASSED], reserved=HUGE, turn=turn)
    assert set(decided.record) == set(RECORD)
    await store_entries(desk.pool, [decided])
    stored = await columns_of(desk, intent.order_key)
    assert len(stored) > 25
    assert stored == {name: decided.record[name] for name in stored}
    assert (stored["base_size"], stored["limit_price"], stored["reserved_quote"]) == (TINY, HUGE, HUGE)
    assert OrderIntent.model_validate(stored["intent"]) == intent
    gates = await desk.pool.fetch("SELECT position, gate, passed, numbers FROM gate_results ORDER BY position")
    assert [tuple(row) for row in gates] == [(at, "INSUFFICIENT_BALANCE", True, {"needed": "1e-18"}) for at in (1, 2)]
    attempt = await desk.pool.fetchrow("SELECT * FROM attempts WHERE order_key = $1", intent.order_key)
    assert decided.answer.plan is not None
    assert (attempt["body"], attempt["size"], attempt["limit_price"]) == (decided.answer.plan.body, TINY, HUGE)
    assert await desk.value("SELECT taken FROM admission_turns WHERE account = $1", desk.account) == 1


async def test_a_refused_entry_has_no_attempt_and_takes_no_turn(desk: Desk) -> None:
    """The gate and its sentence are stored; nothing is reserved."""
    intent = limit_buy(desk.account, "1", "1")
    turn = Turn(0, datetime.now(UTC))
    decided = desk.admissions.decisions.decided(intent, DRAFT, [PASSED, REFUSED], reserved=HUGE, turn=turn)
    await store_entries(desk.pool, [decided])
    stored = await columns_of(desk, intent.order_key)
    assert (stored["gate"], stored["gate_sentence"], stored["finished"]) == (REFUSED.gate, REFUSED.sentence, True)
    assert stored["reserved_quote"] == 0
    assert await desk.value("SELECT count(*) FROM attempts") == 0
    assert await desk.value("SELECT count(*) FROM admission_turns") == 0


async def test_entries_decided_together_are_one_statement_that_stores_all_or_none(desk: Desk) -> None:
    """Each has its own gates, attempt and turn, including a refused one; if one can't be stored, none is."""
    now, decide = datetime.now(UTC), desk.admissions.decisions.decided
    intents = [limit_buy(desk.account, "1", "1") for _ in range(4)]
    decisions = [
        decide(intents[0], DRAFT, [PASSED], reserved=HUGE, turn=Turn(0, now)),
        decide(intents[1], DRAFT, [PASSED, REFUSED], reserved=HUGE, turn=Turn(1, now)),
        decide(intents[2], DRAFT, [PASSED, PASSED], reserved=TINY, turn=Turn(1, now)),
    ]
    late = decide(intents[3], DRAFT, [PASSED], reserved=HUGE, turn=Turn(7, now))
    with pytest.raises(asyncpg.SerializationError):
        await store_entries(desk.pool, [*decisions, late])
    for nothing in ("orders", "attempts", "gate_results", "admission_turns"):
        assert await desk.value(f"SELECT count(*) FROM {nothing}") == 0  # noqa: S608 - our own names
    await store_entries(desk.pool, decisions)
    for decided in decisions:
        stored = await columns_of(desk, decided.record["order_key"])
        assert stored == {name: decided.record[name] for name in stored}
        key = decided.record["order_key"]
        gates = await desk.pool.fetch(
            "SELECT gate, passed FROM gate_results WHERE order_key = $1 ORDER BY position", key
        )
        assert [tuple(row) for row in gates] == [(item["gate"], item["passed"]) for item in decided.record["gates"]]
        bodies = await desk.pool.fetch("SELECT body FROM attempts WHERE order_key = $1", key)
        assert [row["body"] for row in bodies] == ([decided.answer.plan.body] if decided.answer.plan else [])
    assert await desk.value("SELECT taken FROM admission_turns WHERE account = $1", desk.account) == 2


async def test_an_exit_begins_in_its_trade_and_carries_its_entrys_decision(desk: Desk) -> None:
    """A monitor's exit is written with its state and the trailing state; a later one without keeps them."""
    entry_key = await desk.trade()
    snapshot = str(uuid.uuid4())
    await desk.pool.execute(
        "UPDATE orders SET snapshot_id = $1, buy_score = 0.7 WHERE order_key = $2", snapshot, entry_key
    )
    trailing = {"stop": "1.000000000000000001", "steps": 2}
    fields: dict[str, Any] = {"entry_key": entry_key, "entry_point": "exit", "exit_reason": ExitReason.TRAILING_STOP}
    first = sell(desk.account, "1", **fields, trigger_price=TINY, trailing=trailing)
    await store(desk.pool, desk.admissions.decisions.decided(first, DRAFT, [PASSED], claimed=TINY, begins_exit=True))
    again = sell(desk.account, "1", **fields, trigger_price=HUGE)
    await store(desk.pool, desk.admissions.decisions.decided(again, DRAFT, [REFUSED], begins_exit=True))
    order = await columns_of(desk, first.order_key)
    assert (order["snapshot_id"], order["buy_score"], order["claimed_base"]) == (snapshot, Decimal("0.7"), TINY)
    trade = await desk.pool.fetchrow("SELECT * FROM trades WHERE entry_key = $1", entry_key)
    assert (trade["state"], trade["exit_reason"], trade["exit_legs"]) == ("CLOSING", "TRAILING_STOP", 1)
    assert (trade["trigger_price"], trade["trailing_state"]) == (TINY, trailing)


async def test_a_sell_beside_the_monitor_leaves_the_trade_protected(desk: Desk) -> None:
    """A person's own sell of a trade is recorded in the trade, whose state and number of exits stay."""
    entry_key = await desk.trade()
    intent = sell(desk.account, "1", entry_key=entry_key, entry_point="manual", exit_reason=ExitReason.MANUAL)
    assert intent.role is OrderRole.EXIT
    draft = replace(DRAFT, order_type=OrderType.MARKET, limit_price=None, time_in_force=TimeInForce.IOC)
    await store(desk.pool, desk.admissions.decisions.decided(intent, draft, [PASSED], claimed=TINY, begins_exit=True))
    trade = await desk.pool.fetchrow("SELECT * FROM trades WHERE entry_key = $1", entry_key)
    assert (trade["state"], trade["exit_reason"], trade["exit_legs"]) == ("PROTECTED", "MANUAL", 0)
