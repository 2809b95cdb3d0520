"""`bottrader status`: the account in a few lines, the numbers of the page's top line and of `/api/monitoring/summary`.

All of it is read from the ledger: it also works while no worker runs, and then the age of the data shows that.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from typing import Any

    from workers.settings import Settings

__all__ = ["status"]


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the account's P&L today, risk, halt and age of data.

    The numbers are those of the page's top line.
    """
    import asyncio

    from cli.settings import settings_in_force
    from web.views.standing_words import limit_lines, standing_head, standing_lines

    found = asyncio.run(_look(settings_in_force()))
    if as_json:
        print_json(found)
        return
    tell(standing_head(found))
    print_table(("", ""), standing_lines(found))
    if found["limits"]["groups"]:
        print_table(
            ("limits of", "open money", "open trades", "P&L today", ""),
            limit_lines(found["limits"]),
            title=f"Strategies and triggers, in {found['limits']['currency']}",
        )


async def _look(settings: "Settings") -> "dict[str, Any]":
    from cli.api_sources import standing_of
    from cli.ledger import open_ledger
    from workers.settings.values import policy_of

    async with open_ledger(settings) as ledger:
        return await standing_of(settings, ledger, policy_of(settings))
