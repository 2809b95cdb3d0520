"""Reconcile as a workflow: a schedule runs it, a stream's gap asks for it, and people start it themselves."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.reconcile import ReconcileActivity, ReconcileInput, ReconcileReport

__all__ = ["ReconcileWorkflow", "reconcile_id"]

_SHOWN = 20


def reconcile_id(account: str) -> str:
    """The id of the account's reconcile schedule, and the beginning of its workflows' ids."""
    return f"reconcile-{account}"


@workflow.defn(name="ReconcileWorkflow")
class ReconcileWorkflow:
    """One run: the journal and the exchange's records, brought level. Its result says what differed."""

    @workflow.run
    async def run(self, request: ReconcileInput) -> ReconcileReport:
        """Run it, again with growing pauses while the exchange or the database is away."""
        report = await workflow.execute_activity_method(
            ReconcileActivity.reconcile,
            request,
            start_to_close_timeout=timedelta(minutes=4),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
            ),
            summary=f"{'dry run' if request.dry_run else 'reconcile'} of {request.account} ({request.why})",
        )
        workflow.set_current_details(_details(report))
        return report


def _details(report: ReconcileReport) -> str:
    """The run in Markdown, for the Web UI."""
    head = (
        f"**{report.orders} orders, {report.open_orders} open, {report.executions} executions** since "
        f"{report.since:%Y-%m-%d %H:%M:%S}Z, in {report.seconds:.1f} s ({report.why})"
    )
    counts = [f"* {name}: {count}" for name, count in report.counts.items()] or ["* no difference"]
    lines = [f"* {row.action} {row.sentence}" for row in report.findings[:_SHOWN]]
    return "\n".join([head, "", *counts, "", *lines, "", report.balances])
