"""The ledger check as a workflow: started by a schedule or by a person."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.ledger import LedgerReport, ValidateActivity, ValidateInput

__all__ = ["LedgerCheckWorkflow", "ledger_check_id"]

_SHOWN = 20


def ledger_check_id(account: str) -> str:
    """The id of the account's ledger check schedule, and the prefix of its workflows' ids."""
    return f"ledger-check-{account}"


@workflow.defn(name="LedgerCheckWorkflow")
class LedgerCheckWorkflow:
    """One check of the ledger: both books against each other and the exchange. It changes no book."""

    @workflow.run
    async def run(self, request: ValidateInput) -> LedgerReport:
        """Check, with retries and backoff while the database is unreachable. The result lists violations, if any."""
        report = await workflow.execute_activity_method(
            ValidateActivity.validate_ledger,
            request,
            start_to_close_timeout=timedelta(minutes=10),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=2), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=1)
            ),
            summary=f"ledger of {request.account} ({request.why})",
        )
        workflow.set_current_details(_details(report))
        return report


def _details(report: LedgerReport) -> str:
    """The check in Markdown, for the Web UI."""
    verdict = "no violations" if report.ok else "VIOLATIONS FOUND"
    counts = f"{report.fills} fills, {report.allocations} allocations, {report.trades} trades"
    head = f"**{verdict}**: {counts} in {report.seconds:.1f} s; {report.compared}"
    return "\n".join([head, "", *(f"* {item.check}: {item.sentence}" for item in report.violations[:_SHOWN])])
