"""`bottrader notify test`, `incidents` and `incident resolve`: test notices, list incidents, mark them as resolved.

An incident stays open until its cause is over, or, if only a person can know that, until `incident resolve`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, print_json, print_table
from cli.pages import CursorOption, ListPage, place_in, print_page, tell_more
from domain.text import shown

if TYPE_CHECKING:
    from workers.settings import Settings

__all__ = ["incident_app", "incidents", "notify_app"]

notify_app = typer.Typer(help="Messages to people about incidents.", no_args_is_help=True)
incident_app = typer.Typer(help="Mark incidents as resolved.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@notify_app.command("test")
def send_test(as_json: _JSON = False) -> int:
    """Send a test message to every address in [notices] urls. Exit code 0 if all services accepted it, else 1."""
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
            "No addresses are configured: set [notices] urls (BOTTRADER_NOTICES__URLS) to Apprise URLs; "
            "docs/notices.md has examples.",
        )
    targets, problems = targets_of(settings)
    message = NoticeMessage(
        f"BotTrader {'LIVE ' if settings.mode == 'live' else ''}{settings.account}: test",
        "This is a test notice. Nothing is wrong.",
        "INFO",
    )
    answers = await asyncio.gather(*(target.send(message, timeout=30) for target in targets))
    sent = [
        {"target": target.name, "taken": answer is None, "problem": answer}
        for target, answer in zip(targets, answers, strict=True)
    ]
    return sent + [{"target": "-", "taken": False, "problem": problem} for problem in problems]


def incidents(
    everything: Annotated[bool, typer.Option("--all", help="Include resolved ones.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number, newest first.")] = 50,
    cursor: CursorOption = None,
    as_json: _JSON = False,
) -> None:
    """List incidents, newest first: open ones, or with --all also resolved ones."""
    import asyncio

    from cli.settings_left import settings_to_stop

    page = asyncio.run(_incidents(settings_to_stop(), only_open=not everything, limit=limit, cursor=cursor))
    rows = [dict(row) for row in page.rows]
    if as_json and cursor is not None:
        print_page(rows, page.next_cursor)
        return
    if as_json:
        print_json(rows)
    else:
        none = "There are no incidents." if everything else "There are no open incidents."
        print_table(
            ["id", "at", "severity", "kind", "subject", "what", "over", "messages"],
            [[shown(row["id"]), *(list(row.values())[1:])] for row in rows],
            empty="There are no further ones." if cursor else none,
        )
    tell_more(page.next_cursor)


async def _incidents(settings: "Settings", *, only_open: bool, limit: int, cursor: str | None) -> ListPage:
    from cli.ledger import open_ledger
    from web.api.cursors import cursor_of
    from web.views.incidents import read_incidents

    filters = {"list": "events", "only_open": only_open}
    place = place_in(cursor, filters, int)
    async with open_ledger(settings) as ledger:
        rows = await read_incidents(
            ledger, settings.account, only_open=only_open, limit=limit + 1, before=place[0] if place else None
        )
    following = cursor_of(filters, rows[limit - 1]["id"]) if len(rows) > limit else None
    return ListPage(rows[:limit], following)


@incident_app.command("resolve")
def resolve(
    ids: Annotated[list[int], typer.Argument(help="Ids as `bottrader incidents` shows them.")],
    as_json: _JSON = False,
) -> int:
    """Mark incidents as resolved, so that they are not reported again. Exit code 1 if one was not open."""
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
