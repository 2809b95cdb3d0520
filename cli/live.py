"""`bottrader live`: arm a live account for real money, disarm it, show its state (docs/live.md)."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import user
from cli.output import ExitCode, UserError, note, print_json

if TYPE_CHECKING:
    from cli.live_overview import Overview
    from workers.settings import Settings
    from workers.settings.sources import SettingSources

__all__ = ["lines_at_start", "live_app"]

live_app = typer.Typer(help="Allow or forbid spending real money.", no_args_is_help=True)

_BY = Annotated[str, typer.Option("--by", help="Your name; default: this machine's user.")]
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_MOST_SKEW_S = 30.0


@live_app.command("arm")
def arm(
    yes_account: Annotated[
        str, typer.Option("--yes-account", help="The account's name, for scripts; without it you are asked.")
    ] = "",
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Allow entries to spend real money: shows what is at stake and asks for the account's name. Needed once per
    ledger.

    Exit code 1 if it was already armed or another name was typed.
    """
    import asyncio

    settings = _live_settings()

    def agreed() -> bool:
        if yes_account:
            return yes_account == settings.account
        try:
            return bool(typer.prompt("Type the account's name to arm it", err=True) == settings.account)
        except typer.Abort:
            raise UserError(
                "NOT_AGREED",
                "The account's name was not typed, so nothing was changed; in scripts give --yes-account NAME.",
            ) from None

    return asyncio.run(_arm(settings, agreed, user(by), as_json=as_json))


@live_app.command("disarm")
def disarm(by: _BY = "", as_json: _JSON = False) -> int:
    """Send no entries until it is armed again. Exits go on. Exit code 1 if it was not armed."""
    import asyncio

    from cli.settings_left import settings_to_stop

    return asyncio.run(_disarm(_of_live(settings_to_stop()), user(by), as_json=as_json))


@live_app.command("status")
def status(as_json: _JSON = False) -> int:
    """Show the account, its balances and limits, what can buy and what can be sold, armed or not."""
    import asyncio

    return asyncio.run(_status(_live_settings(), as_json=as_json))


def _live_settings() -> "Settings":
    from cli.settings import settings_in_force

    return _of_live(settings_in_force())


def _of_live(settings: "Settings") -> "Settings":
    if settings.mode != "live":
        raise UserError("NOT_LIVE", "mode = paper: there is nothing to arm. To arm a live ledger, set mode = live.")
    return settings


async def _arm(settings: "Settings", agreed: Any, by: str, *, as_json: bool) -> int:
    from activities import identity
    from activities.database import create_pool
    from cli.live_overview import overview
    from workers.ledger_identity import begin_on_ledger, brought_by, in_sentences
    from workers.settings.values import exchange_of

    pool = await create_pool(settings.database.dsn, size=2)
    exchange = exchange_of(settings)
    try:
        await begin_on_ledger(settings, None, pool, exchange)
        with in_sentences():
            await identity.check_venue_account(pool, exchange, brought_by(settings))
            await _require_a_right_clock(exchange)
        async with pool.acquire() as connection:
            found = await overview(connection, settings, exchange)
            _show(found)
            if found.key_may_trade is False:
                raise UserError(
                    "KEY_MAY_NOT_TRADE", "The API key may not trade: give it the permission, then arm again."
                )
            if not agreed():
                note("That is not the account's name, so nothing was changed.")
                return int(ExitCode.NO)
            changed = await _quietly(identity.arm(connection, settings.account, by))
            return await _tell(connection, settings, changed, as_json=as_json)
    finally:
        await exchange.close()
        await pool.close()


async def _require_a_right_clock(exchange: Any) -> None:
    from datetime import UTC, datetime

    skew = ((await exchange.server_time()) - datetime.now(UTC)).total_seconds()
    if abs(skew) > _MOST_SKEW_S:
        raise UserError(
            "CLOCK_OFF", f"This machine's clock is {abs(skew):.0f} s off the exchange's: set it (NTP), then arm again."
        )


async def _disarm(settings: "Settings", by: str, *, as_json: bool) -> int:
    from activities import identity
    from cli.ledger import open_ledger

    async with open_ledger(settings) as connection:
        changed = await _quietly(identity.disarm(connection, settings.account, by))
        return await _tell(connection, settings, changed, as_json=as_json)


async def _status(settings: "Settings", *, as_json: bool) -> int:
    from cli.ledger import open_ledger
    from cli.live_overview import overview
    from workers.settings.values import exchange_of

    exchange = exchange_of(settings)
    try:
        async with open_ledger(settings) as connection:
            found = await overview(connection, settings, exchange)
    finally:
        await exchange.close()
    if as_json:
        print_json(found)
    else:
        for line in found.lines:
            typer.echo(line)
    return int(ExitCode.OK)


async def lines_at_start(sources: "SettingSources") -> list[str]:
    """The lines `up` prints about whose money is traded and what may spend it, by its workers' settings; a missing
    value is reported and stops nothing.
    """
    from cli.errors import as_user_error
    from cli.ledger import open_ledger
    from cli.live_overview import DRY_RUN, overview
    from cli.settings import in_force
    from workers.ledger_identity import found_on_ledger
    from workers.settings import build
    from workers.settings.values import exchange_of

    try:
        settings = await in_force(await found_on_ledger(sources))
        if settings.mode != "live":
            return [DRY_RUN] if settings.dry_run else []
        exchange = exchange_of(settings)
        try:
            async with open_ledger(settings) as connection:
                return (await overview(connection, settings, exchange)).lines
        finally:
            await exchange.close()
    except Exception as error:  # noqa: BLE001 - it is only told; whatever is missing, the system runs
        return [f"account {build(sources).account}: not known now: {as_user_error(error).sentence}"]


async def _quietly(turning: Any) -> bool:
    """Runs without log lines: the command prints its own messages, and standard output is for its answer."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return bool(await turning)


async def _tell(connection: Any, settings: "Settings", changed: bool, *, as_json: bool) -> int:
    from activities.identity import read_account

    now = await read_account(connection, settings.account)
    armed = now is not None and now.armed
    if as_json:
        print_json({"account": settings.account, "changed": changed, "armed": armed})
    else:
        word = "armed: entries may spend real money" if armed else "not armed: no entries are sent; exits go on"
        typer.echo(f"LIVE: account {settings.account} is {word}{'' if changed else ' (unchanged)'}.")
    return int(ExitCode.OK if changed else ExitCode.NO)


def _show(found: "Overview") -> None:
    note("LIVE: real money")
    for line in found.lines:
        note(f"  {line}")
