"""`bottrader notify test`, `incidents` and `incident resolve`: who is told, what a person should know of, what is done.

An incident stays open until what caused it is over, or, where only a person can say so, until `incident resolve`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, print_json, print_table
from domain.text import shown

if TYPE_CHECKING:
    from workers.settings import Settings

__all__ = ["incident_app", "incidents", "notify_app"]

notify_app = typer.Typer(help="Messages to people about incidents.", no_args_is_help=True)
incident_app = typer.Typer(help="Say that an incident is dealt with.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


@notify_app.command("test")
def send_test(as_json: _JSON = False) -> int:
    """Send a test message to every address of [notices] urls: exit code 0 if all services took it, else 1."""
    import asyncio

    from cli.settings import current_settings

    answers = asyncio.run(_test(current_settings()))
    if as_json:
        print_json(answers)
    else:
        rows = [(item["target"], "taken" if item["taken"] else "not taken", item["problem"]) for item in answers]
        print_table(["address", "", "why"], rows)
    return int(ExitCode.OK if all(item["taken"] for item in answers) else ExitCode.NO)


async def _test(settings: "Settings") -> list[dict[str, Any]]:
    import asyncio

    from domain.notices import NoticeMessage
    from workers.roles.notices import targets_of

    if not settings.notices.urls:
        raise UserError(
            "NO_NOTICE_URLS",
            "Nobody is told of anything: set [notices] urls (BOTTRADER_NOTICES__URLS) to addresses as apprise "
            "writes them; docs/notices.md shows some.",
        )
    targets, problems = targets_of(settings)
    message = NoticeMessage(
        f"BotTrader {'LIVE ' if settings.mode == 'live' else ''}{settings.account}: test",
        "This is what a notice looks like. Nothing is wrong.",
        "INFO",
    )
    answers = await asyncio.gather(*(target.send(message, timeout=30) for target in targets))
    sent = [
        {"target": target.name, "taken": answer is None, "problem": answer}
        for target, answer in zip(targets, answers, strict=True)
    ]
    return sent + [{"target": "-", "taken": False, "problem": problem} for problem in problems]


def incidents(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, newest first.")] = 50,
    as_json: _JSON = False,
) -> None:
    """List what a person should know of, newest first: open incidents, or with --all those that are over, too."""
    import asyncio

    from cli.settings_left import settings_to_stop

    rows = asyncio.run(_incidents(settings_to_stop(), only_open=not everything, limit=limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "at", "severity", "kind", "subject", "what", "over", "messages"],
        [[shown(row["id"]), *(list(row.values())[1:])] for row in rows],
        empty="There are no incidents." if everything else "There are no open incidents.",
    )


async def _incidents(settings: "Settings", *, only_open: bool, limit: int) -> list[dict[str, Any]]:
    from cli.ledger import open_ledger
    from web.views.incidents import read_incidents

    async with open_ledger(settings) as ledger:
        rows = await read_incidents(ledger, settings.account, only_open=only_open, limit=limit)
    return [dict(row) for row in rows]


@incident_app.command("resolve")
def resolve(
    ids: Annotated[list[int], typer.Argument(help="Ids as `bottrader incidents` shows them.")],
    as_json: _JSON = False,
) -> int:
    """Mark incidents as dealt with, so that they are not told again: exit code 1 if one was not open."""
    import asyncio

    from cli.settings_left import settings_to_stop

    done = asyncio.run(_resolve(settings_to_stop(), ids))
    left = sorted(set(ids) - set(done))
    if as_json:
        print_json({"resolved": done, "not_open": left})
    else:
        typer.echo(f"{len(done)} resolved." + (f" Not open: {', '.join(map(str, left))}." if left else ""))
    return int(ExitCode.NO if left else ExitCode.OK)


async def _resolve(settings: "Settings", ids: list[int]) -> list[int]:
    from cli.ledger import open_ledger

    async with open_ledger(settings) as ledger:
        rows = await ledger.fetch(
            "UPDATE incidents SET resolved_at = now() "
            "WHERE account = $1 AND id = ANY($2::bigint[]) AND resolved_at IS NULL RETURNING id",
            settings.account,
            ids,
        )
    return sorted(row["id"] for row in rows)
