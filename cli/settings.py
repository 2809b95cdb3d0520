"""How every command gets its settings: those of file and environment, or those that the account's workers have."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.settings import Settings
    from workers.settings.sources import SettingSources

__all__ = ["current_settings", "current_sources", "environment", "in_force", "settings_in_force"]


def current_sources() -> "SettingSources":
    """What file and environment say, with the addresses of the local stack that runs on the user's data folder where
    none are given, and what the ledger is stamped with.

    Raises ConfigError, and UserError for another's ledger (exit code 2).
    """
    from workers.ledger_identity import on_ledger
    from workers.settings import read_sources

    return on_ledger(read_sources(environ=environment()))


def current_settings() -> "Settings":
    """The settings of file and environment. Raises ConfigError (exit code 2)."""
    from workers.settings import build

    return build(current_sources())


def settings_in_force() -> "Settings":
    """The settings as the account's workers have them, whatever folder and shell this is typed in: for whoever decides
    by them.

    Where no database is configured the own ones count. Raises ConfigError (exit code 2), and what asyncpg raises for a
    database that does not answer.
    """
    import asyncio

    return asyncio.run(in_force(current_sources()))


async def in_force(sources: "SettingSources") -> "Settings":
    """The settings as the workers have them, of the account and ledger that `sources` say; raises the same."""
    from cli.ledger import open_ledger
    from workers.settings import build
    from workers.settings.changes import sources_in_force

    settings = build(sources)
    if settings.database.url is None:
        return settings
    async with open_ledger(settings) as ledger:
        return build(await sources_in_force(ledger, sources, settings.account))


def environment() -> dict[str, str]:
    """Our environment on top of what a running local stack offers: the one of our mode, or, where our settings say no
    mode, the one on the folder that BOTTRADER_DATA names.
    """
    from workers.settings import build, read_sources
    from workers.stack.folders import data_dir
    from workers.stack.stack_file import running_stack

    sources = read_sources()
    mode = build(sources).mode
    stack = running_stack(data_dir(mode))
    if stack is None:
        return dict(os.environ)
    chosen = sources.origin("mode") == "default" and os.environ.get("BOTTRADER_DATA")
    if stack.get("mode", mode) != mode and not chosen:
        return dict(os.environ)
    return {**stack["environment"], **os.environ}
