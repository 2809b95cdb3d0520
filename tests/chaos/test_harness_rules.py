"""The chaos harness itself: a repeatable schedule, seconds that add up, and an audit that finds errors."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.messages import Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side
from domain.protection import Protection, ProtectionKind
from tests.chaos.audit import audit, merged
from tests.chaos.harness_evidence import Evidence, RunningWorkflow
from tests.chaos.harness_points import CRASH_POINTS
from tests.chaos.harness_protection import PlanNote, Position, gaps_between, length, percentile, spans_of, stretches
from tests.chaos.harness_protection import split_by_outages as split
from tests.chaos.harness_recorder import PriceNote, true_time
from tests.chaos.schedule import (
    SHIELDS,
    ChaosTerms,
    Cut,
    Enter,
    Fault,
    Names,
    Outage,
    Price,
    Sell,
    Signal,
    Skew,
    Terminate,
    plan_run,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "0" * 32
TERMS = ChaosTerms(trades=50, crash_points=CRASH_POINTS)
STOP = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.3"))


def second(number: float) -> datetime:
    """This many seconds after the beginning."""
    return AT + timedelta(seconds=number)


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_same_seed_is_the_same_run() -> None:
    """A seed that failed can be run again: its actions are the same at the same beats, another seed's differ."""
    assert plan_run(7, TERMS) == plan_run(7, TERMS)
    assert plan_run(7, TERMS) != plan_run(8, TERMS)


def test_twenty_seeds_have_every_kind_of_trouble() -> None:
    """A thousand entries, every fault of the list, and every process killed, stopped or crashed."""
    actions = [action for seed in range(1, 21) for beat in plan_run(seed, TERMS) for action in beat.actions]
    entries = [action for action in actions if isinstance(action, Enter)]
    assert len(entries) >= 1000
    assert {entry.style for entry in entries} == {"market", "quote", "taker", "rest", "maker"}
    assert {entry.shield for entry in entries} == set(SHIELDS)
    assert {type(action) for action in actions} >= {Names, Sell, Signal, Terminate}
    assert {action.seconds for action in actions if isinstance(action, Skew)} >= {-120.0, -20.0, 60.0}
    outages = {(action.target, action.how) for action in actions if isinstance(action, Outage)}
    assert {target for target, how in outages if how == "kill"} >= {"worker-a", "worker-b", "temporal", "postgres"}
    assert {how for _, how in outages} == {"kill", "stop", "crash"}
    faults = {action.kind for action in actions if isinstance(action, Fault)}
    assert {"accepted_cut", "accepted_silent", "accepted_late", "not_accepted_cut", "rate_limited"} <= faults
    assert {"duplicate", "late", "reordered", "missing", "malformed", "half_open", "frozen"} <= faults
    assert {"thin_book", "ahead", "behind", "no_price", "unknown_side", "null_list", "strange_rows"} <= faults
    reads = {(action.kind, action.delay) for action in actions if isinstance(action, Fault) and action.scope == "GET *"}
    assert reads >= {("server_error", 0), ("slow", 30), ("slow", 2), ("rate_limited", 45)}


def test_numbers_of_entries_do_not_change_the_market_of_a_seed_before_them() -> None:
    """The first beats of a longer run of a seed equal those of a shorter one: it can be cut down to the failure."""
    short, long = plan_run(3, ChaosTerms(trades=10)), plan_run(3, ChaosTerms(trades=20))
    prices = [[action for action in beat.actions if isinstance(action, Price)] for beat in (short[0], long[0])]
    assert prices[0] == prices[1]
    assert short[:5] == long[:5]


def test_a_power_cut_changes_nothing_else_of_a_seed() -> None:
    """A seed with a cut is the seed without it, plus one action in the middle."""
    plain, cut = plan_run(4, TERMS), plan_run(4, replace(TERMS, power_cut=True))
    assert [[each for each in beat.actions if not isinstance(each, Cut)] for beat in cut] == [
        list(beat.actions) for beat in plain
    ]
    (place,) = (beat.number for beat in cut if any(isinstance(each, Cut) for each in beat.actions))
    assert 10 < place < len(plain) - 10


# --- seconds ----------------------------------------------------------------------------------------------------------


def test_gaps_and_lengths() -> None:
    """The time without a lease, and the length of overlapping spans."""
    held = [(second(0), second(6)), (second(2), second(8)), (second(10), second(16))]
    assert gaps_between(held, second(0), second(20)) == [(second(8), second(10)), (second(16), second(20))]
    assert length([(second(0), second(2)), (second(1), second(3)), (second(5), second(6))]) == 4
    assert stretches([(second(5), second(6)), (second(0), second(2)), (second(2), second(3))]) == [
        (second(0), second(3)),
        (second(5), second(6)),
    ]
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2
    assert percentile(list(map(float, range(1, 101))), 99) == 99


def test_time_of_an_exchange_whose_clock_is_off() -> None:
    """A stamp is corrected by the clock's offset when it was made."""
    skews = [(second(10), 20.0), (second(20), 0.0)]
    assert true_time(second(5), skews) == second(5)
    assert true_time(second(32), skews) == second(12)
    assert true_time(second(25), skews) == second(25)


def test_spans_of_a_position() -> None:
    """Unprotected: until the fill is in the plan, without a watcher, and while a stop is due without an order."""
    position = Position(KEY, "CHA-USD", Decimal("0.1"))
    position.bought = [(second(1), Decimal(1)), (second(4), Decimal(2))]
    position.booked = [(second(2), Decimal(1)), (second(7), Decimal(2))]
    position.plan = [PlanNote(second(2), "ARMED", Decimal(1), Decimal(100))]
    position.plan.append(PlanNote(second(32), "EXITING", Decimal(2), Decimal(100)))
    position.exits = [(second(31), second(33))]
    position.end = second(33)
    prices = [
        (second(0), Decimal(100)),
        (second(20), Decimal(90)),
        (second(22), Decimal(95)),
        (second(30), Decimal(89)),
    ]
    spans = spans_of(position, [(second(10), second(12)), (second(40), second(50))], prices, second(60))
    assert spans["fill not in a plan yet"] == [(second(1), second(2)), (second(4), second(7))]
    assert spans["nobody watched the price"] == [(second(10), second(12))]
    assert spans["stop due, no exit order"] == [(second(20), second(22)), (second(30), second(31))]


def test_a_single_outage_is_told_from_several() -> None:
    """Several: two processes down, or just back, in the same span."""
    outages = [(second(0), second(2)), (second(5), second(6)), (second(60), second(61))]
    spans = [(second(1), second(3)), (second(5), second(9)), (second(60), second(70))]
    assert split(spans, outages) == ([spans[0], spans[2]], [spans[1]])


# --- the audit --------------------------------------------------------------------------------------------------------


@pytest.fixture
def right() -> Evidence:
    """One trade that is open and guarded, and correct in every book."""
    intent = OrderIntent(
        order_key=KEY,
        account="main",
        symbol="CHA-USD",
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.MARKET,
        base_size=Decimal(1),
        source="sighook",
        entry_point="sighook",
        request_id="1",
        linkage=Linkage(trigger="rsi_oversold", snapshot_id="s-1", buy_score=Decimal("0.7")),
    )
    name = f"{KEY}-1"
    totals = {"filled_size": Decimal(1), "filled_value": Decimal(100), "quote_fees": Decimal("0.6")}
    body = {"market_market_ioc": {"base_size": "1"}}
    return Evidence(
        exchange_orders=[
            {
                "order_id": "x-1",
                "client_order_id": name,
                "side": "BUY",
                "filled_size": "1",
                "created_time": AT.isoformat(),
                "status": "FILLED",
            }
        ],
        exchange_fills=[
            {
                "order_id": "x-1",
                "trade_id": "7",
                "product_id": "CHA-USD",
                "side": "BUY",
                "size": "1",
                "price": "100",
                "commission": "0.6",
                "trade_time": AT.isoformat(),
            }
        ],
        balances={
            "USD": {"total": Decimal("899.4"), "hold": Decimal(0), "deposited": Decimal(1000)},
            "CHA": {"total": Decimal(1), "hold": Decimal(0), "deposited": Decimal(0)},
        },
        journal=[
            {
                "client_order_id": name,
                "product_id": "CHA-USD",
                "side": "BUY",
                "order_configuration": body,
                "time": AT.isoformat(),
            }
        ],
        orders=[
            {
                "order_key": KEY,
                "role": "ENTRY",
                "protection_role": None,
                "entry_key": KEY,
                "state": "FILLED",
                "finished": True,
                "gate": None,
                "exit_reason": None,
                **totals,
            }
        ],
        attempts=[
            {
                "client_order_id": name,
                "order_key": KEY,
                "exchange_order_id": "x-1",
                "sends": 1,
                "final_at": second(1),
                **totals,
            }
        ],
        fills=[
            {
                "id": 1,
                "order_key": KEY,
                "exchange_order_id": "x-1",
                "trade_id": "7",
                "symbol": "CHA-USD",
                "side": "BUY",
                "origin": "exchange",
                "size": Decimal(1),
                "price": Decimal(100),
                "value": Decimal(100),
                "quote_fees": Decimal("0.6"),
                "base_fees": Decimal(0),
                "lot_remaining": Decimal(1),
                "at": AT,
            }
        ],
        trades=[
            {
                "entry_key": KEY,
                "symbol": "CHA-USD",
                "state": "PROTECTED",
                "remaining": Decimal(1),
                "bought_size": Decimal(1),
                "bought_value": Decimal(100),
                "sold_size": Decimal(0),
                "sold_value": Decimal(0),
                "external_size": Decimal(0),
                "dust_size": Decimal(0),
                "exit_reason": None,
            }
        ],
        plans=[{"entry_key": KEY, "state": "ARMED", "quantity": Decimal(1)}],
        links=[
            {
                "order_key": KEY,
                "snapshot_id": "s-1",
                "entry_key": KEY,
                "trigger_type": "rsi_oversold",
                "buy_score": Decimal("0.7"),
                "exit_reason": None,
            }
        ],
        workflows=[
            RunningWorkflow(f"order-{KEY}", "OrderWorkflow", "RUNNING"),
            RunningWorkflow(f"exit-{KEY}", "ExitMonitorWorkflow", "RUNNING"),
        ],
        running=[
            RunningWorkflow(f"order-{KEY}", "OrderWorkflow", "RUNNING"),
            RunningWorkflow(f"exit-{KEY}", "ExitMonitorWorkflow", "RUNNING"),
            RunningWorkflow("user-stream-main", "UserStreamWorkflow", "RUNNING"),
        ],
        fill_notes=[{"order_key": KEY, "exchange_order_id": "x-1", "size": Decimal(1), "at": second(1)}],
        plan_notes=[
            {"entry_key": KEY, "state": "ARMED", "quantity": Decimal(1), "entry_price": Decimal(100), "at": second(1)}
        ],
        lease_notes=[{"name": "price-watcher/main/0", "expires_at": second(100), "at": AT}],
        intents=[intent],
        at=second(50),
    )


def test_right_books_pass(right: Evidence) -> None:
    """Nothing is found in correct books, in one run and in a table over two."""
    found = audit(right)
    assert found.violations == [], found.text()
    assert merged([found, found]).violations == []


def _row(evidence: Evidence, table: str, **changes: Any) -> None:
    getattr(evidence, table)[0].update(changes)


def _rest(evidence: Evidence, size: str, *, closed: bool = False) -> None:
    """A stop for `size` of the trade, open or closed, rests at the exchange, in both sides' books."""
    key, name = "2" * 32, f"{'2' * 32}-1"
    stop = {"stop_limit_stop_limit_gtc": {"base_size": size, "limit_price": "70", "stop_price": "71"}}
    row = {"client_order_id": name, "order_id": "x-9", "product_id": "CHA-USD", "side": "SELL"}
    evidence.exchange_orders.append(
        {**evidence.exchange_orders[0], **row, "order_configuration": stop, "status": "OPEN", "filled_size": "0"}
    )
    evidence.journal.append({**row, "order_configuration": stop})
    zero = {"filled_size": Decimal(0), "filled_value": Decimal(0), "quote_fees": Decimal(0)}
    evidence.orders.append(
        {**evidence.orders[0], **zero, "order_key": key, "role": "EXIT", "protection_role": "STOP_LOSS",
         "finished": False, "state": "OPEN"}
    )  # fmt: skip
    evidence.attempts.append(
        {**evidence.attempts[0], **zero, "order_key": key, "client_order_id": name, "exchange_order_id": "x-9",
         "final_at": None}
    )  # fmt: skip
    workflow = RunningWorkflow(f"order-{key}", "OrderWorkflow", "RUNNING")
    evidence.workflows.append(workflow)
    evidence.running.append(workflow)
    evidence.balances["CHA"]["hold"] = Decimal(size)
    evidence.intents.append(evidence.intents.pop().model_copy(update={"protection": STOP}))
    if closed:
        _row(evidence, "trades", state="CLOSED")
        _row(evidence, "plans", state="DISARMED")


def test_a_trade_that_is_protected_at_the_exchange_passes(right: Evidence) -> None:
    """A stop for all of it, its hold on the balance and its workflow are right, and no watcher is needed."""
    _rest(right, "1")
    right.lease_notes[0]["expires_at"] = second(1)
    found = audit(right)
    assert found.violations == [], found.text()
    assert found.time.single == [1.0]
    assert f"1.0 s of {KEY} (CHA-USD), 0" in found.text()
    assert "fill not in a plan yet 1.0 s" in found.text()


WRONG: dict[str, Callable[[Evidence], object]] = {
    "a fill is lost": lambda e: e.fills.clear(),
    "a fill is recorded twice": lambda e: e.fills.append({**e.fills[0], "id": 2}),
    "a fill has another price": lambda e: _row(e, "fills", price=Decimal(101)),
    "a fill is made up": lambda e: e.exchange_fills.clear(),
    "a fill is still derived": lambda e: _row(e, "fills", trade_id=None),
    "the attempt has another total": lambda e: _row(e, "attempts", filled_size=Decimal(2)),
    "two orders for one id": lambda e: e.exchange_orders.append({**e.exchange_orders[0], "order_id": "x-2"}),
    "two bodies for one id": lambda e: e.journal.append({**e.journal[0], "side": "SELL"}),
    "more arrived than was sent": lambda e: e.journal.append(dict(e.journal[0])),
    "sent without a journal row": lambda e: e.journal.append({**e.journal[0], "client_order_id": "stranger"}),
    "bought more than was wanted": lambda e: _row(e, "exchange_orders", filled_size="3"),
    "sold more than was bought": lambda e: _row(e, "trades", sold_size=Decimal(2)),
    "open without a plan": lambda e: e.plans.clear(),
    "open with a disarmed plan": lambda e: _row(e, "plans", state="DISARMED"),
    "the plan guards less": lambda e: _row(e, "plans", quantity=Decimal("0.5")),
    "closed with something left": lambda e: _row(e, "trades", state="CLOSED"),
    "open without a monitor": lambda e: e.workflows.pop(),
    "filled and no trade": lambda e: e.trades.clear(),
    "no link": lambda e: e.links.clear(),
    "linked to another run": lambda e: _row(e, "links", snapshot_id="s-2"),
    "linked to another trade": lambda e: _row(e, "links", entry_key="1" * 32),
    "another balance": lambda e: e.balances["USD"].update(total=Decimal(900)),
    "money still on hold": lambda e: e.balances["USD"].update(hold=Decimal(1)),
    "a lot that is gone": lambda e: _row(e, "fills", lot_remaining=Decimal(0)),
    "a trade that holds too much": lambda e: _row(e, "trades", remaining=Decimal(2)),
    "an intent without a row": lambda e: e.intents.append(e.intents[0].model_copy(update={"order_key": "1" * 32})),
    "an order without an end": lambda e: _row(e, "orders", finished=False, state="OPEN"),
    "a workflow that failed": lambda e: e.workflows.append(RunningWorkflow("order-1", "OrderWorkflow", "FAILED")),
    "a workflow that is stuck": lambda e: e.workflows.append(
        RunningWorkflow(f"order-{KEY}", "OrderWorkflow", "RUNNING", stuck_task=9)
    ),
    "a monitor of nothing": lambda e: e.workflows.append(RunningWorkflow("exit-1", "ExitMonitorWorkflow", "RUNNING")),
    "an orphan of a closed trade": lambda e: e.running.append(
        RunningWorkflow("exit-1", "ExitMonitorWorkflow", "RUNNING")
    ),
    "an orphan of no order": lambda e: e.running.append(RunningWorkflow("order-1", "OrderWorkflow", "RUNNING")),
    "no protection where it is wanted": lambda e: e.intents.append(
        e.intents.pop().model_copy(update={"protection": STOP})
    ),
    "protection for a part only": lambda e: _rest(e, "0.5"),
    "protection of a closed trade": lambda e: _rest(e, "1", closed=True),
    "a sell by hand without a row": lambda e: e.sells.append(e.intents[0].model_copy(update={"order_key": "1" * 32})),
    "the run broke off": lambda e: e.problems.append("not still"),
    "unprotected for too long": lambda e: e.fill_notes.clear(),
}


@pytest.mark.parametrize("lost", ["cuts", "database_kills"])
def test_a_cut_or_a_killed_database_may_take_the_mark_of_a_send_and_nothing_else(right: Evidence, lost: str) -> None:
    """An order sent just before may arrive again under its id; long before it may not, and no row may be lost."""
    row = {**right.journal[0], "time": second(5).isoformat()}
    right.journal.append(row)
    assert audit(deepcopy(right)).violations
    getattr(right, lost).append((second(5.5), second(15)))
    assert audit(deepcopy(right)).violations == []
    row["time"] = second(3).isoformat()
    assert audit(deepcopy(right)).violations
    row["time"] = second(5).isoformat()
    right.attempts.clear()
    assert audit(right).violations


def test_what_a_person_terminated_is_judged_by_the_sweep(right: Evidence) -> None:
    """A due stop without a monitor is not a single fault, and may last until the next sweep."""
    right.lease_notes[0]["expires_at"] = second(300)
    right.prices += [PriceNote(AT, "CHA-USD", Decimal(100)), PriceNote(second(10), "CHA-USD", Decimal(90))]
    right.at = second(60)
    assert audit(deepcopy(right)).violations
    right.terminated.append((second(9), KEY))
    found = audit(deepcopy(right))
    assert found.violations == [], found.text()
    assert (found.time.by_hand, found.time.single) == ([50.0], [1.0])
    right.at = second(100)
    assert audit(right).violations


def test_seconds_around_a_power_cut_are_a_row_of_their_own(right: Evidence) -> None:
    """Nothing of ours can act without power: such a stretch is shown, and not judged as one fault."""
    right.prices.append(PriceNote(AT, "CHA-USD", Decimal(100)))
    right.lease_notes = [
        {"name": "price-watcher/main/0", "expires_at": second(10), "at": AT},
        {"name": "price-watcher/main/0", "expires_at": second(90), "at": second(60)},
    ]
    right.at = second(65)
    assert audit(deepcopy(right)).violations
    right.cuts.append((second(9), second(57)))
    found = audit(right)
    assert found.violations == [], found.text()
    assert found.time.cut == [50.0]
    assert found.time.single == [1.0]


@pytest.mark.parametrize("what", WRONG)
def test_audit_finds(right: Evidence, what: str) -> None:
    """Each single error in otherwise correct books is found."""
    evidence = deepcopy(right)
    WRONG[what](evidence)
    assert audit(evidence).violations
