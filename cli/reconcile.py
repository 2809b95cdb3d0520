"""`bottrader reconcile`: compare the books with the exchange's records now, and correct differences or only show
them."""

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ExitCode, UnreachableError, print_json, print_table

if TYPE_CHECKING:
    from activities.interfaces.reconcile import ReconcileReport
    from workers.settings import Settings

__all__ = ["reconcile"]


def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    look_back: Annotated[
        float | None,
        typer.Option("--look-back", min=0.01, max=24 * 365, help="Check at least this many past hours (wall time)."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, max=3_600, help="Wall seconds to wait.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Compare orders, fills and balances with the exchange's own records, and correct the differences.

    Exit code 1 when a difference needs a person's decision.
    """
    import asyncio

    from cli.settings import current_settings

    report = asyncio.run(_run(current_settings(), dry_run=dry_run, look_back=look_back, timeout=timeout))
    if as_json:
        print_json(report)
    else:
        _print(report)
    undecided = any(row.action == "INCIDENT" for row in report.findings) or report.unreadable > 0
    return int(ExitCode.NO if undecided else ExitCode.OK)


async def _run(settings: "Settings", *, dry_run: bool, look_back: float | None, timeout: float) -> "ReconcileReport":
    import asyncio
    import time

    from activities.interfaces.reconcile import ReconcileInput
    from cli.asking import patience
    from workers.polling import FRESH_S, polled_since
    from workers.temporal_connection import connect
    from workflows.reconcile import ReconcileWorkflow, reconcile_id

    client, queue = await connect(settings), settings.temporal.streams_queue
    if not await polled_since(client, queue, time.time() - FRESH_S):
        raise UnreachableError(
            "NO_WORKER",
            "No worker polls the task queue for streams, which reconcile needs: start one with `bottrader worker`, "
            "or the whole system with `bottrader up`.",
        )
    workflow_id = f"{reconcile_id(settings.account)}-asked-{uuid.uuid4().hex[:12]}"
    request = ReconcileInput(
        account=settings.account,
        dry_run=dry_run,
        why="asked for",
        look_back_seconds=None if look_back is None else look_back * 3600,
    )
    with patience("Comparing with the exchange"):
        handle = await client.start_workflow(
            ReconcileWorkflow.run,
            request,
            id=workflow_id,
            task_queue=queue,
            static_summary=f"The books of {settings.account} against the exchange's records, asked for",
        )
        try:
            async with asyncio.timeout(timeout):
                return await handle.result()
        except TimeoutError:
            raise UnreachableError(
                "NOT_CONFIRMED",
                f"It has not finished after {timeout:g} s and continues: its result will be in the workflow "
                f"{workflow_id}.",
            ) from None


def _print(report: "ReconcileReport") -> None:
    from domain.wording import short, tidy

    done = "would be done" if report.dry_run else "was done"
    print_table(
        ("difference", "action", "order", "symbol", "key", "why"),
        [
            (row.difference, row.action, row.subject, row.symbol, short(row.order_key), row.sentence)
            for row in report.findings
        ],
        title=f"Differences, and what {done}",
        empty="Journal and exchange agree.",
    )
    if report.transfers or report.taken:
        print_table(
            ("what", "of", "amount"),
            [
                *((row.kind, row.currency, tidy(row.amount)) for row in report.transfers),
                *(("sold outside", f"trade {short(row.entry_key)}", tidy(row.size)) for row in report.taken),
            ],
            title="Balances",
        )
    shown = sum(report.counts.values()) - len(report.findings)
    more = f" {shown} more differences are not shown." if shown > 0 else ""
    typer.echo(
        f"{report.orders} orders ({report.open_orders} open) and {report.executions} executions since "
        f"{report.since:%Y-%m-%d %H:%M:%S}Z in {report.seconds:.1f} s; {report.recorded} recorded, "
        f"{report.settled} settled.{more}"
    )
    if report.balances:
        typer.echo(f"{report.balances[0].upper()}{report.balances[1:]}.")
