"""Reconcile's decisions as a table: the journal, the exchange, and the action."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.differences import Difference, Execution, Finding, Journal, Known, Records, Remedy, Seen
from domain.messages import StatusSource
from domain.orders import AttemptStatus, Report, Side, Totals, merge
from domain.reconcile import compare, resolve

NOW = datetime(2026, 8, 9, 12, 0, tzinfo=UTC)
BEFORE = NOW - timedelta(minutes=10)
KEY = "a" * 32


def report(status: str, size: str = "0", price: str = "100") -> Report:
    """A status with its filled size."""
    return Report(AttemptStatus(status), Totals(Decimal(size), Decimal(size) * Decimal(price)))


def known(status: str, size: str = "0", **changes: object) -> Known:
    """Our attempt x-1 of a BTC-USD buy."""
    base = Known(KEY, 1, f"{KEY}-1", "x-1", "BTC-USD", Side.BUY, report(status, size), acknowledged_at=BEFORE)
    return replace(base, **changes)  # type: ignore[arg-type]


def seen(status: str, size: str = "0", **changes: object) -> Seen:
    """The exchange's order x-1."""
    source = StatusSource.OPEN_ORDERS if status == "OPEN" else StatusSource.ORDER_HISTORY
    base = Seen("x-1", f"{KEY}-1", "BTC-USD", Side.BUY, report(status, size), source, at=BEFORE)
    return replace(base, **changes)  # type: ignore[arg-type]


def execution(size: str, trade_id: str = "t-1", **changes: object) -> Execution:
    """An execution of x-1."""
    base = Execution(trade_id, "x-1", "BTC-USD", Side.BUY, Decimal(size), Decimal(100), "USD", BEFORE)
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    name: str
    ours: tuple[Known, ...] = ()
    theirs: tuple[Seen, ...] = ()
    executions: tuple[Execution, ...] = ()
    expected: tuple[tuple[Difference, Remedy], ...] = ()
    derived: frozenset[str] = frozenset()
    booked: frozenset[tuple[str, str]] = frozenset()
    products: frozenset[str] | None = frozenset({"BTC-USD", "ETH-USD"})
    source: StatusSource | None = field(default=None)

    def findings(self) -> list[Finding]:
        """The result of `compare`."""
        return compare(
            Journal(self.ours, self.booked, self.derived), Records(NOW, self.theirs, self.executions, self.products)
        )


D, A = Difference, Remedy
TABLE = [
    Scenario("both agree", (known("OPEN"),), (seen("OPEN"),)),
    Scenario("both agree on a filled order", (known("FILLED", "1"),), (seen("FILLED", "1"),), (execution("1"),)),
    Scenario("unknown to us, open", (), (seen("OPEN"),), expected=((D.UNKNOWN_TO_US, A.ADOPT),)),
    Scenario("unknown to us, filled", (), (seen("FILLED", "1"),), (execution("1"),), ((D.UNKNOWN_TO_US, A.ADOPT),)),
    Scenario("unknown to us, cancelled empty", (), (seen("CANCELLED"),), expected=((D.UNKNOWN_TO_US, A.ADOPT),)),
    Scenario(
        "our id on somebody else's order",
        (known("OPEN"),),
        (seen("OPEN"), seen("OPEN", exchange_order_id="x-9")),
        expected=((D.UNKNOWN_TO_US, A.ADOPT),),
    ),
    Scenario("behind in size", (known("OPEN", "0.2"),), (seen("OPEN", "0.5"),), expected=((D.BEHIND, A.RECORD),)),
    Scenario(
        "an unknown outcome that is listed",
        (known("UNKNOWN", exchange_order_id=None),),
        (seen("OPEN"),),
        expected=((D.BEHIND, A.RECORD),),
    ),
    Scenario(
        "a submit that is under way and listed",
        (known("SUBMITTING", exchange_order_id=None),),
        (seen("OPEN", "0.1"),),
        expected=((D.BEHIND, A.RECORD),),
    ),
    Scenario("ahead of an older list", (known("OPEN", "0.5"),), (seen("OPEN", "0.2"),), expected=((D.AHEAD, A.NONE),)),
    Scenario("ahead: ended here, open there", (known("FILLED", "1"),), (seen("OPEN"),), expected=((D.AHEAD, A.NONE),)),
    Scenario(
        "more booked than an ended order has",
        (known("CANCELLED", "0.5"),),
        (seen("CANCELLED", "0.2"),),
        expected=((D.OVERBOOKED, A.LOOK_UP),),
    ),
    Scenario(
        "ended, confirmed by its executions",
        (known("OPEN"),),
        (seen("FILLED", "1"),),
        (execution("0.4"), execution("0.6", "t-2")),
        ((D.ENDED, A.RECORD),),
        source=StatusSource.TRADE_HISTORY,
    ),
    Scenario(
        "an execution listed twice counts once",
        (known("OPEN"),),
        (seen("FILLED", "1"),),
        (execution("1"), execution("1")),
        ((D.ENDED, A.RECORD),),
    ),
    Scenario(
        "cancelled with nothing traded",
        (known("OPEN"),),
        (seen("CANCELLED"),),
        expected=((D.ENDED, A.RECORD),),
        source=StatusSource.ORDER_HISTORY,
    ),
    Scenario(
        "ended, executions missing",
        (known("OPEN"),),
        (seen("FILLED", "1"),),
        (execution("0.4"),),
        ((D.UNCONFIRMED, A.LOOK_UP),),
    ),
    Scenario(
        "a late fill of an order that had ended here",
        (known("CANCELLED", "0.2"),),
        (seen("CANCELLED", "0.5"),),
        expected=((D.BEHIND, A.RECORD),),
    ),
    Scenario("vanished from everywhere", (known("OPEN"),), expected=((D.VANISHED, A.LOOK_UP),)),
    Scenario("vanished while it is cancelled", (known("CANCELLING"),), expected=((D.VANISHED, A.LOOK_UP),)),
    Scenario("acknowledged a moment ago", (known("OPEN", acknowledged_at=NOW),), expected=((D.IN_FLIGHT, A.NONE),)),
    Scenario(
        "sent and not listed",
        (known("UNKNOWN", exchange_order_id=None),),
        expected=((D.IN_FLIGHT, A.NONE),),
    ),
    Scenario(
        "prepared, not sent",
        (known("SUBMITTING", exchange_order_id=None, sent=False),),
        expected=((D.IN_FLIGHT, A.NONE),),
    ),
    Scenario("ended here and not listed any more", (known("CANCELLED"),)),
    Scenario("absent and not listed", (known("ABSENT", exchange_order_id=None),)),
    Scenario(
        "late appearance",
        (known("ABSENT", exchange_order_id=None),),
        (seen("OPEN", "0.1"),),
        expected=((D.LATE_APPEARANCE, A.RECORD),),
    ),
    Scenario(
        "changed side", (known("OPEN"),), (seen("OPEN", side=Side.SELL),), expected=((D.CHANGED_SIDE, A.INCIDENT),)
    ),
    Scenario(
        "changed product",
        (known("OPEN"),),
        (seen("OPEN", symbol="ETH-USD"),),
        expected=((D.CHANGED_SYMBOL, A.INCIDENT),),
    ),
    Scenario("unknown product", (), (seen("OPEN", symbol="MOON-USD"),), expected=((D.UNKNOWN_PRODUCT, A.INCIDENT),)),
    Scenario(
        "a future, not a pair",
        (),
        (seen("OPEN", symbol="BIT-26APR24-CDE"),),
        expected=((D.UNKNOWN_PRODUCT, A.INCIDENT),),
    ),
    Scenario(
        "our own order's product was delisted",
        (known("OPEN", "0.1"),),
        (seen("OPEN", "0.2"),),
        expected=((D.BEHIND, A.RECORD),),
        products=frozenset(),
    ),
    Scenario("products could not be read", (), (seen("OPEN"),), expected=((D.UNKNOWN_TO_US, A.ADOPT),), products=None),
    Scenario("a size below zero", (known("OPEN"),), (seen("OPEN", "-1"),), expected=((D.BAD_FILL, A.INCIDENT),)),
    Scenario(
        "a fee in a third currency",
        (known("OPEN"),),
        (seen("OPEN", "0.2", other_fees={"CRO": Decimal(3)}),),
        expected=((D.FEE_IN_OTHER_CURRENCY, A.INCIDENT), (D.BEHIND, A.RECORD)),
    ),
    Scenario(
        "fills without order", (), (), (execution("1"), execution("1", "t-2")), ((D.FILL_WITHOUT_ORDER, A.LOOK_UP),)
    ),
    Scenario(
        "fills of an order that ended long ago and is booked",
        (known("FILLED", "1"),),
        (),
        (execution("1"),),
        booked=frozenset({("x-1", "t-1")}),
    ),
    Scenario(
        "derived fills to be settled",
        (known("FILLED", "1"),),
        (),
        (execution("0.4"), execution("0.6", "t-2")),
        ((D.FILLS_TO_SETTLE, A.SETTLE),),
        derived=frozenset({"x-1"}),
    ),
    Scenario("an execution of size zero", (), (), (execution("0"),), ((D.BAD_FILL, A.INCIDENT),)),
    Scenario("a reversal", (known("FILLED", "1"),), (), (execution("-1"),), ((D.BAD_FILL, A.INCIDENT),)),
    Scenario(
        "an execution's fee in another currency",
        (known("FILLED", "1"),),
        (),
        (execution("1", fee_currency="CRO"),),
        ((D.FEE_IN_OTHER_CURRENCY, A.INCIDENT),),
    ),
    Scenario(
        "an execution of an unknown product",
        (),
        (),
        (execution("1", symbol="MOON-USD", fee_currency="USD"),),
        ((D.UNKNOWN_PRODUCT, A.INCIDENT),),
    ),
    Scenario(
        "an execution on the other side",
        (known("FILLED", "1"),),
        (),
        (execution("1", side=Side.SELL),),
        ((D.CHANGED_SIDE, A.INCIDENT),),
    ),
    Scenario(
        "an execution of another product",
        (known("FILLED", "1"),),
        (),
        (execution("1", symbol="ETH-USD"),),
        ((D.CHANGED_SYMBOL, A.INCIDENT),),
    ),
    Scenario("nothing anywhere"),
]


@pytest.mark.parametrize("scenario", TABLE, ids=[item.name for item in TABLE])
def test_each_scenario_is_decided_as_the_table_says(scenario: Scenario) -> None:
    """Each pair of views leads to exactly the named differences and actions."""
    findings = scenario.findings()
    assert tuple((item.difference, item.action) for item in findings) == scenario.expected
    for item in findings:
        assert item.sentence
        assert item.subject
    if scenario.source is not None:
        assert findings[0].seen is not None
        assert findings[0].seen.report == scenario.theirs[0].report
        assert findings[0].seen.source is scenario.source


VANISHED = Finding(D.VANISHED, A.LOOK_UP, "x-1", "BTC-USD", "…", None, known("OPEN", "0.2"))
OVERBOOKED = Finding(D.OVERBOOKED, A.LOOK_UP, "x-1", "BTC-USD", "…", None, known("CANCELLED", "0.5"))
ORPHAN = Finding(D.FILL_WITHOUT_ORDER, A.LOOK_UP, "x-1", "BTC-USD", "…")
LOOK_UPS: list[tuple[str, Finding, Seen | None, tuple[Execution, ...], Difference, Remedy]] = [
    ("vanished: filled", VANISHED, seen("FILLED", "1"), (execution("1"),), D.ENDED, A.RECORD),
    ("vanished: cancelled after a part", VANISHED, seen("CANCELLED", "0.2"), (execution("0.2"),), D.ENDED, A.RECORD),
    ("vanished: it lives, as known", VANISHED, seen("OPEN", "0.2"), (), D.STILL_OPEN, A.NONE),
    ("vanished: it lives and traded", VANISHED, seen("OPEN", "0.3"), (), D.STILL_OPEN, A.RECORD),
    ("vanished: nobody knows it", VANISHED, None, (), D.UNKNOWN_TO_EXCHANGE, A.INCIDENT),
    (
        "vanished: executions lag",
        VANISHED,
        seen("CANCELLED", "0.5", at=NOW - timedelta(seconds=20)),
        (execution("0.2"),),
        D.UNCONFIRMED,
        A.WAIT,
    ),
    ("vanished: executions never come", VANISHED, seen("CANCELLED", "0.5"), (), D.UNCONFIRMED, A.RECORD),
    ("vanished: it changed its side", VANISHED, seen("FILLED", "1", side=Side.SELL), (), D.CHANGED_SIDE, A.INCIDENT),
    ("overbooked: still", OVERBOOKED, seen("CANCELLED", "0.2"), (execution("0.2"),), D.OVERBOOKED, A.INCIDENT),
    ("overbooked: the list was old", OVERBOOKED, seen("CANCELLED", "0.5"), (execution("0.5"),), D.STILL_OPEN, A.NONE),
    ("fills without order: found", ORPHAN, seen("FILLED", "1"), (execution("1"),), D.UNKNOWN_TO_US, A.ADOPT),
    ("fills without order: nobody knows it", ORPHAN, None, (), D.UNKNOWN_TO_EXCHANGE, A.INCIDENT),
]


@pytest.mark.parametrize(
    ("finding", "order", "executions", "difference", "action"),
    [item[1:] for item in LOOK_UPS],
    ids=[item[0] for item in LOOK_UPS],
)
def test_each_look_up_is_decided_as_the_table_says(
    finding: Finding, order: Seen | None, executions: tuple[Execution, ...], difference: Difference, action: Remedy
) -> None:
    """An end counts when the trade history adds up to it; absence is never an end; no look-up leads to another."""
    answer = resolve(finding, order, executions, NOW)
    assert (answer.difference, answer.action) == (difference, action)


_reports = st.builds(
    report, st.sampled_from(["OPEN", "CANCELLING", "FILLED", "CANCELLED", "EXPIRED", "FAILED"]), st.sampled_from("0123")
)


@given(ours=_reports, theirs=_reports)
def test_recording_what_was_found_leaves_nothing_to_record(ours: Report, theirs: Report) -> None:
    """Once a report is merged, the same comparison finds the journal equal or ahead."""
    scenario = Scenario(
        "any",
        (known("OPEN", report=ours),),
        (seen("OPEN", report=theirs),),
        (execution(str(theirs.totals.size)),) if theirs.totals.size else (),
    )
    for item in scenario.findings():
        if item.action is A.RECORD:
            again = replace(scenario, ours=(known("OPEN", report=merge(ours, theirs)),))
            assert all(finding.action is not A.RECORD for finding in again.findings())
