"""Reconcile as a workflow: started by a schedule, by a gap in a stream, or by a person."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.reconcile import ReconcileActivity, ReconcileInput, ReconcileReport

__all__ = ["ReconcileWorkflow", "reconcile_id"]

_SHOWN = 20


def reconcile_id(account: str) -> str:
    """The id of the account's reconcile schedule, and the prefix of its workflows' ids."""
    return f"reconcile-{account}"


@workflow.defn(name="ReconcileWorkflow")
class ReconcileWorkflow:
    """One run: corrects differences between the journal and the exchange's records. The result lists them."""

    @workflow.run
    async def run(self, request: ReconcileInput) -> ReconcileReport:
        """Run it, with retries and backoff while the exchange or the database is unreachable."""
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
    counts = [f"* {name}: {count}" for name, count in report.counts.items()] or ["* no differences"]
    lines = [f"* {row.action} {row.sentence}" for row in report.findings[:_SHOWN]]
    return "\n".join([head, "", *counts, "", *lines, "", report.balances])
