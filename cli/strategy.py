"""`bottrader strategy run|show`: run the strategy now, and show the newest matrix with every indicator's part."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UnreachableError, UserError, note, print_json, print_table

if TYPE_CHECKING:
    from decimal import Decimal

    from temporalio.client import Client

    from activities.interfaces.strategy import StrategyReport
    from workers.settings import Settings

__all__ = ["strategy_app", "why_it_failed"]

strategy_app = typer.Typer(help="Run the strategy now, and show its decisions.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@strategy_app.command("run")
def run(
    timeout: Annotated[float, typer.Option("--timeout", min=1, max=600, help="Maximum wall seconds to wait.")] = 60.0,
    as_json: _JSON = False,
) -> int:
    """Run the strategy now, as its schedule does: store the matrix, and buy if strategy.enabled is set.

    Exit code 3 if no worker with the role strategy does it in time.
    """
    import asyncio

    from cli.settings import current_settings

    return asyncio.run(_run(current_settings(), timeout, as_json=as_json))


async def _run(settings: "Settings", timeout: float, *, as_json: bool) -> int:
    from workers.temporal_connection import connect

    client = await connect(settings)
    report = await _triggered(client, settings, timeout)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return int(ExitCode.OK)
    print_table(
        ["symbol", "action", "trigger", "buy", "sell", "fired", "what became of it", "order"],
        (
            [
                row.symbol,
                row.action,
                row.trigger,
                _score(row.buy_score),
                _score(row.sell_score),
                ", ".join(row.fired),
                ": ".join(part for part in (row.outcome, row.sentence) if part),
                row.order_key,
            ]
            for row in report.rows
        ),
        title=f"Run {report.snapshot_id}",
        empty="No symbol was evaluated.",
        narrow_without=("order", "fired"),
    )
    note(
        f"{report.symbols} symbols, {report.buys} buys, {report.sells} sells, {report.started} orders started"
        f"{'. ' + report.sentence if report.sentence else '.'}"
    )
    return int(ExitCode.OK)


async def _triggered(client: "Client", settings: "Settings", timeout: float) -> "StrategyReport":
    import asyncio

    from temporalio.client import WorkflowFailureError, WorkflowHandle
    from temporalio.service import RPCError, RPCStatusCode

    from activities.interfaces.strategy import StrategyReport
    from cli.asking import until
    from cli.output import working
    from workflows.strategy import strategy_schedule_id

    schedule = client.get_schedule_handle(strategy_schedule_id(settings.account))
    try:
        before = (await schedule.describe()).info.num_actions
        await schedule.trigger()
    except RPCError as problem:
        if problem.status is RPCStatusCode.NOT_FOUND:
            raise UnreachableError(
                "NO_STRATEGY_WORKER",
                "The strategy's schedule does not exist yet: start a worker with the role strategy "
                "(`bottrader worker --role strategy`, or `bottrader up`).",
            ) from None
        raise

    async def begun() -> Any:
        info = (await schedule.describe()).info
        return info.recent_actions[-1].action if info.num_actions > before and info.recent_actions else None

    with working("Running the strategy"):
        try:
            async with asyncio.timeout(timeout):
                action = await until(begun, timeout)
                if action is None:
                    raise TimeoutError
                handle: WorkflowHandle[Any, StrategyReport] = client.get_workflow_handle(
                    action.workflow_id, run_id=action.first_execution_run_id, result_type=StrategyReport
                )
                return await handle.result()
        except TimeoutError:
            raise UnreachableError(
                "NO_STRATEGY_WORKER",
                f"The strategy did not run within {timeout:g} s: check with `bottrader doctor` that a worker with "
                f"the role strategy is running.",
            ) from None
        except WorkflowFailureError as failure:
            raise UserError("STRATEGY_FAILED", f"The run failed: {why_it_failed(failure)}.", ExitCode.NO) from None


def why_it_failed(failure: BaseException) -> str:
    """Why a run failed: the sentence about the user's own strategy if that was the cause, else the root cause."""
    from temporalio.exceptions import ApplicationError

    cause: BaseException = failure
    while cause.__cause__ is not None:
        cause = cause.__cause__
        if isinstance(cause, ApplicationError) and cause.type == "BAD_STRATEGY":
            return cause.message
    return str(cause)


@strategy_app.command("show")
def show(
    symbol: Annotated[str | None, typer.Argument(help="Only this product, such as BTC-USD.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="Maximum number of rows.")] = 20,
    as_json: _JSON = False,
) -> int:
    """Show the newest matrix: buys and sells first, then the highest scores, with each indicator's contribution.

    Exit code 1 if there is no matrix yet, or the symbol isn't in it.
    """
    import asyncio

    from cli.settings import current_settings

    return asyncio.run(_show(current_settings(), symbol, most, as_json=as_json))


async def _show(settings: "Settings", symbol: str | None, most: int, *, as_json: bool) -> int:
    from cli.ledger import ago, open_ledger
    from web.views.strategy import newest_run, read_matrix

    name = symbol.strip().upper() if symbol else None
    async with open_ledger(settings) as ledger:
        run_row = await newest_run(ledger, settings.account)
        if run_row is None:
            raise UserError(
                "NO_MATRIX",
                "There is no matrix yet: a worker with the role strategy writes one at each run; `bottrader strategy "
                "run` starts a run now.",
                ExitCode.NO,
            )
        rows = await read_matrix(ledger, run_row["snapshot_id"], symbol=name, most=most)
    if name is not None and not rows:
        raise UserError(
            "NOT_LOOKED_AT",
            f"{name} is not in the newest matrix, which only has the symbols in symbols.allow.",
            ExitCode.NO,
        )
    if as_json:
        run_shown = {key: run_row[key] for key in ("snapshot_id", "at", "finished_at", "symbols", "buys", "sells")}
        print_json({**run_shown, "rows": [dict(row) for row in rows]})
        return int(ExitCode.OK)
    print_table(
        ["symbol", "price", "action", "trigger", "buy", "sell", "contributions", "reason"],
        (
            [
                row["symbol"],
                row["price"],
                row["action"],
                row["trigger"],
                _score(row["buy_score"]),
                _score(row["sell_score"]),
                _contributions(row["indicator_breakdown"]),
                ": ".join(part for part in (row["decision"], row["sentence"] or row["reason"]) if part),
            ]
            for row in rows
        ),
        title=f"Run {run_row['snapshot_id']}, {ago(run_row['at'])} ago",
        narrow_without=("trigger", "price") if name is None else ("trigger",),
    )
    if name is not None:
        _print_parts(rows[0]["indicator_breakdown"])
    return int(ExitCode.OK)


def _contributions(breakdown: dict[str, dict[str, Any]]) -> str:
    """The indicators that fired, with their contributions; negative means selling."""
    from decimal import Decimal

    return ", ".join(
        f"{name} {_score(Decimal(part['contribution'])):+}" for name, part in breakdown.items() if part["fired"]
    )


def _print_parts(breakdown: dict[str, dict[str, Any]]) -> None:
    """The largest contributions first; then the other weighted indicators, then those only shown."""
    from decimal import Decimal

    def rank(item: tuple[str, dict[str, Any]]) -> tuple[Decimal, Decimal, str]:
        name, part = item
        return -abs(Decimal(part["contribution"])), -Decimal(part["weight"]), name

    print_table(
        ["indicator", "value", "fired", "weight", "contribution", "why not"],
        (
            [
                name,
                None if part["value"] is None else _score(Decimal(part["value"])),
                part["fired"],
                _score(Decimal(part["weight"])),
                _score(Decimal(part["contribution"])),
                part.get("why"),
            ]
            for name, part in sorted(breakdown.items(), key=rank)
        ),
    )


def _score(value: "Decimal | None") -> "Decimal | None":
    """Rounded to three decimals for display."""
    return None if value is None else round(value, 3)
