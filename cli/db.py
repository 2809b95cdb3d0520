"""`bottrader db`: the ledger's schema."""

from typing import Annotated

import typer

from cli.output import print_json

db_app = typer.Typer(help="The ledger's database.", no_args_is_help=True)


@db_app.command("upgrade")
def upgrade(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Upgrade the database to the newest schema. Safe to repeat, and to run twice at the same time."""
    import asyncio

    from cli.output import working
    from cli.settings import current_settings
    from schema import migrate
    from workers.ledger_identity import refuse_other_mode

    settings = current_settings()
    dsn = settings.database.dsn
    with working("Upgrading the database"):
        asyncio.run(refuse_other_mode(dsn, settings.mode))
        before = asyncio.run(migrate.current_revision(dsn))
        after = asyncio.run(migrate.upgrade(dsn))
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        typer.echo(f"The database is already at the newest version ({after}).")
    else:
        typer.echo(f"The database was upgraded from {before or 'empty'} to {after}.")
