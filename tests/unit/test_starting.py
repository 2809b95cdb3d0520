"""How workflows of orders and trades are started: the same for every caller."""

from __future__ import annotations

from decimal import Decimal

import pytest
from temporalio.common import WorkflowIDReusePolicy

from activities.interfaces.starting import (
    EXIT_MONITOR_WORKFLOW,
    EXTERNAL_WORKFLOW,
    ORDER_WORKFLOW,
    REUSE,
    TASK_TIMEOUT,
    Start,
    WorkflowKind,
    monitor_start,
    order_start,
)
from domain.exits import ExitRules
from domain.messages import MonitorStart
from domain.orders import OrderRole, Side
from tests.support.ledger_rows import ACCOUNT, intent
from workflows.exit_monitor import ExitMonitorWorkflow
from workflows.external import ExternalOrderWorkflow
from workflows.order import OrderWorkflow

ENTRY = intent("entry")
EXIT = intent("exit", side=Side.SELL, role=OrderRole.EXIT, entry_key=ENTRY.order_key)
GUARD = MonitorStart(
    entry_key=ENTRY.order_key,
    account=ACCOUNT,
    symbol="BTC-USD",
    rules=ExitRules(),
    size=Decimal("0.5"),
    entry_price=Decimal(100),
    entry_final=True,
)


@pytest.mark.parametrize(
    ("start", "policy"),
    [
        (order_start(ENTRY), WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY),
        (order_start(EXIT), WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY),
        (order_start(ENTRY, known=True), WorkflowIDReusePolicy.ALLOW_DUPLICATE),
        (monitor_start(GUARD), WorkflowIDReusePolicy.ALLOW_DUPLICATE),
    ],
    ids=["a decided entry", "a decided exit", "an order of the ledger", "a monitor"],
)
def test_a_decision_that_has_completed_is_not_run_again(start: Start, policy: WorkflowIDReusePolicy) -> None:
    """A decided order runs again only after a failure; one that is open in the ledger always may."""
    assert start.options["id_reuse_policy"] is policy
    assert start.options["task_timeout"] == TASK_TIMEOUT


def test_every_kind_has_a_policy_and_running_workflows_are_never_ended() -> None:
    """No kind of start uses a default policy, and none ends a running workflow."""
    assert set(REUSE) == set(WorkflowKind)
    assert WorkflowIDReusePolicy.TERMINATE_IF_RUNNING not in REUSE.values()
    assert REUSE[WorkflowKind.EXTERNAL] is WorkflowIDReusePolicy.REJECT_DUPLICATE


def test_workflows_are_started_under_the_names_that_they_have() -> None:
    """The names used for starting are those of the workflows, and their ids have the known prefixes."""
    defined = {
        vars(workflow)["__temporal_workflow_definition"].name
        for workflow in (OrderWorkflow, ExitMonitorWorkflow, ExternalOrderWorkflow)
    }
    assert {ORDER_WORKFLOW, EXIT_MONITOR_WORKFLOW, EXTERNAL_WORKFLOW} == defined
    assert order_start(ENTRY).workflow_id == f"order-{ENTRY.order_key}"
    assert monitor_start(GUARD).workflow_id == f"exit-{ENTRY.order_key}"


def test_only_what_opens_a_trade_tells_of_exits() -> None:
    """An entry's details have its exit levels, an exit has none; a monitor has what it guards."""
    entry, leave, guard = order_start(ENTRY), order_start(EXIT), monitor_start(GUARD)
    assert (entry.details or "").startswith("hard stop 95 (-5 %)")
    assert leave.details is None
    assert guard.summary == "guards 0.5 BTC-USD bought at 100"
