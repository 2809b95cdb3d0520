"""`bottrader quotes`: shows the market maker's quotes and their reasons, and withdraws them.

Stopping pauses the schedule of rounds, lets a running round end, cancels every quote and returns when the ledger has
the final size of each: nothing is left behind. Filled size stays a protected trade.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import user
from cli.output import ExitCode, note, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from temporalio.client import Client, ScheduleDescription

    from activities.interfaces.quotes import WithdrawReport
    from domain.messages import CloseRequest
    from web.views import Row
    from workers.settings import Settings

__all__ = ["quotes_app", "quotes_leave", "stop_quotes", "take_quotes_away"]

quotes_app = typer.Typer(help="The market maker's quotes: see them, stop and start them.", no_args_is_help=True)

_BY = Annotated[str, typer.Option("--by", help="Your name, recorded as a note with this machine's user.")]
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_NOTE = Annotated[str, typer.Option("--note", help="A note for the record.")]
_SLICE_SECONDS = 2.0
_LEAVE_SECONDS = 5.0
_LOOK_SECONDS = 0.2


# --- show ------------------------------------------------------------------------------------------------------------


@quotes_app.command("show")
def show(
    symbol: Annotated[str | None, typer.Argument(help="A product, such as BTC-USD; default: all.")] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=1000, help="Rounds for each product, newest first.")
    ] = 1,
    as_json: _JSON = False,
) -> int:
    """Show resting quotes, and the last rounds' decisions for each product, with reasons and numbers."""
    import asyncio

    from cli.settings_left import settings_to_stop

    return asyncio.run(_show(settings_to_stop(), symbol and symbol.strip().upper(), rounds, as_json=as_json))


async def _show(settings: "Settings", symbol: str | None, rounds: int, *, as_json: bool) -> int:
    from cli.ledger import open_ledger
    from domain.wording import short, tidy
    from web.views.quotes import described_round, read_quotes, read_rounds

    async with open_ledger(settings) as ledger:
        quotes = await read_quotes(ledger, settings.account, symbol)
        looks = await read_rounds(ledger, settings.account, symbol, rounds)
    if as_json:
        resting = [dict(row) for row in quotes]
        print_json({"account": settings.account, "quotes": resting, "rounds": [described_round(row) for row in looks]})
        return int(ExitCode.OK)
    print_table(
        ("key", "symbol", "side", "price", "size", "filled", "state", "trade"),
        [
            (
                short(row["order_key"]),
                row["symbol"],
                row["side"],
                tidy(row["price"]),
                tidy(row["size"]),
                tidy(row["filled"]),
                row["state"],
                short(row["trade"]),
            )
            for row in quotes
        ],
        empty="There are no resting quotes.",
    )
    for row in looks:
        typer.echo(f"{row['symbol']} at {row['at']:%Y-%m-%d %H:%M:%S}Z")
        for side in ("bid", "ask"):
            typer.echo(f"  {side} {_side(row, side)}")
        for key, why in row["cancelled"].items():
            typer.echo(f"  {short(key)} was cancelled: {why}")
    if not looks:
        seen, named = (f"included {symbol}", " is it quoted (quoting.symbols),") if symbol else ("been stored", "")
        typer.echo(f"No round has {seen}:{named} is quoting.enabled set, and does a worker run?")
    return int(ExitCode.OK)


def _side(row: "Row", side: str) -> str:
    """The result for one side, with the gate that refused it, if any."""
    told = f"{row[f'{side}_code']}: {row[f'{side}_sentence']}"
    gate = row[f"{side}_gate"]
    return f"{told}, refused by {gate}: {row[f'{side}_gate_sentence']}" if gate else told


# --- stop and start --------------------------------------------------------------------------------------------------


@quotes_app.command("stop")
def stop(
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=86_400, help="Wall seconds to wait.")] = 30.0,
    by: _BY = "",
    why: _NOTE = "",
    as_json: _JSON = False,
) -> int:
    """Pause the rounds, cancel every quote, and return when none rests. Exit code 1 if one may still rest."""
    import asyncio

    from cli.settings_left import settings_to_stop

    return asyncio.run(_stop(settings_to_stop(), user(by), why, timeout, as_json=as_json))


async def _stop(settings: "Settings", by: str, why: str, timeout: float, *, as_json: bool) -> int:
    from cli.ledger import open_ledger
    from workers.temporal_connection import connect

    client = await connect(settings)
    async with open_ledger(settings) as ledger:
        report = await stop_quotes(ledger, client, settings.account, by=by, why=why, seconds=timeout)
    if as_json:
        print_json({"account": settings.account, "stopped": not report.left, **report.model_dump(mode="json")})
    elif report.left:
        typer.echo(
            f"The rounds are paused, but {len(report.left)} quotes are not confirmed as ended after {timeout:g} s. "
            f"Is a worker running? They also expire at the exchange."
        )
    else:
        typer.echo(f"Quoting of {settings.account} is stopped: {len(report.ended)} quotes cancelled, none rests.")
    return int(ExitCode.NO if report.left else ExitCode.OK)


async def stop_quotes(
    ledger: Any, client: "Client", account: str, *, by: str, why: str, seconds: float
) -> "WithdrawReport":
    """Pause the schedule and cancel all quotes, including those a running round still places.

    Raises RPCError and the database's errors.
    """
    import asyncio
    import time

    from activities.interfaces.quotes import WithdrawReport

    deadline = time.monotonic() + seconds
    await _pause(client, account, f"stopped by {by or 'an unknown person'}{': ' + why if why else ''}")
    ended: dict[str, None] = {}
    while True:
        # Whatever a round has placed is in the ledger when it has ended; so what is looked for after that is all.
        busy = await _round_under_way(client, account)
        report = await take_quotes_away(ledger, client, account, by=by, seconds=_SLICE_SECONDS)
        ended.update(dict.fromkeys(report.ended))
        if (not busy and not report.left) or time.monotonic() >= deadline:
            return WithdrawReport(ended=tuple(ended), left=report.left)
        await asyncio.sleep(_LOOK_SECONDS)


async def take_quotes_away(
    ledger: Any, client: "Client", account: str, *, by: str, seconds: float, symbol: str | None = None
) -> "WithdrawReport":
    """Cancel every quote, or those of one product, and wait for confirmation. Raises RPCError and the database's
    errors."""
    from activities.interfaces.quotes import WithdrawQuotes
    from activities.quotes.withdrawal import withdraw
    from cli.asking import commanded

    async def requests(keys: "Sequence[str]") -> "Mapping[str, CloseRequest]":
        return await commanded(ledger, account, "cancel", keys, by)

    asked = WithdrawQuotes(account=account, symbol=symbol, seconds=seconds, by=by)
    return await withdraw(ledger, client, asked, requests=requests)


async def quotes_leave(ledger: Any, settings: "Settings", by: str, *, symbol: str | None = None) -> None:
    """Cancel resting quotes, of one product or all, as far as possible now, before or after a step during which nothing
    may be quoted.

    The result is printed on stderr, if there were any. Raises the database's errors.
    """
    from temporalio.service import RPCError

    from activities.quotes.withdrawal import resting_quotes
    from cli.output import UnreachableError
    from workers.temporal_connection import connect

    if not await resting_quotes(ledger, settings.account, symbol=symbol):
        return
    try:
        client = await connect(settings)
        report = await take_quotes_away(ledger, client, settings.account, by=by, seconds=_LEAVE_SECONDS, symbol=symbol)
    except (UnreachableError, RPCError) as problem:
        note(f"The market maker's quotes could not be cancelled ({problem}): they expire by themselves.")
        return
    if report.ended:
        note(f"{len(report.ended)} of the market maker's quotes cancelled")
    if report.left:
        note(f"{len(report.left)} quotes are not confirmed as ended yet: the next round checks again")


async def _pause(client: "Client", account: str, words: str) -> None:
    from temporalio.service import RPCError, RPCStatusCode

    from workflows.quoting import quotes_id

    try:
        await client.get_schedule_handle(quotes_id(account)).pause(note=words)
    except RPCError as problem:
        if problem.status is not RPCStatusCode.NOT_FOUND:
            raise


async def _described(client: "Client", account: str) -> "ScheduleDescription | None":
    """The schedule of rounds; None: no worker has created it."""
    from temporalio.service import RPCError, RPCStatusCode

    from workflows.quoting import quotes_id

    try:
        return await client.get_schedule_handle(quotes_id(account)).describe()
    except RPCError as problem:
        if problem.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _round_under_way(client: "Client", account: str) -> bool:
    """Whether a round may still place quotes: one is running, or the pause is not in effect yet."""
    schedule = await _described(client, account)
    if schedule is None:
        return False
    return bool(schedule.info.running_actions) or not schedule.schedule.state.paused


@quotes_app.command("start")
def start(by: _BY = "", why: _NOTE = "", as_json: _JSON = False) -> int:
    """Resume the rounds after a stop. Exit code 1 if quoting is disabled in the settings."""
    import asyncio

    from cli.settings import settings_in_force

    return asyncio.run(_start(settings_in_force(), user(by), why, as_json=as_json))


async def _start(settings: "Settings", by: str, why: str, *, as_json: bool) -> int:
    from cli.output import UnreachableError
    from workers.temporal_connection import connect
    from workflows.quoting import quotes_id

    client = await connect(settings)
    before = await _described(client, settings.account)
    if before is None:
        raise UnreachableError(
            "NO_SCHEDULE", "There is no schedule of quotes yet: a worker creates it when it starts (`bottrader up`)."
        )
    schedule = client.get_schedule_handle(quotes_id(settings.account))
    await schedule.unpause(note=f"started by {by or 'an unknown person'}{': ' + why if why else ''}")
    await schedule.trigger()
    enabled = settings.quoting.enabled
    if as_json:
        print_json({"account": settings.account, "was_paused": before.schedule.state.paused, "enabled": enabled})
    else:
        typer.echo(f"Quoting of {settings.account} is started." if enabled else "The rounds run again.")
    if not enabled:
        note("quoting.enabled is false in these settings: nothing is quoted unless the workers' settings differ.")
    return int(ExitCode.OK if enabled else ExitCode.NO)
