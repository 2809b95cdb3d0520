"""Loads the settings of commands: from file and environment, or as the account's workers have them."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.settings import Settings
    from workers.settings.sources import SettingSources

__all__ = ["current_settings", "current_sources", "environment", "in_force", "page_address", "settings_in_force"]


def current_sources() -> "SettingSources":
    """Settings from file and environment; missing addresses are those of the local stack running on the user's data
    folder, and the ledger's stamp is added.

    Raises ConfigError, and UserError for another account's ledger (exit code 2).
    """
    from workers.ledger_identity import on_ledger
    from workers.settings import read_sources

    return on_ledger(read_sources(environ=environment()))


def current_settings() -> "Settings":
    """The settings of file and environment. Raises ConfigError (exit code 2)."""
    from workers.settings import build

    return build(current_sources())


def settings_in_force() -> "Settings":
    """The settings as the account's workers have them, independent of the current folder and shell: for commands that
    decide by them.

    If no database is configured, the local settings apply. Raises ConfigError (exit code 2), and what asyncpg raises
    for a database that does not answer.
    """
    import asyncio

    return asyncio.run(in_force(current_sources()))


async def in_force(sources: "SettingSources") -> "Settings":
    """The workers' settings for the account and ledger of `sources`; raises the same."""
    from cli.ledger import open_ledger
    from workers.settings import build
    from workers.settings.changes import sources_in_force

    settings = build(sources)
    if settings.database.url is None:
        return settings
    async with open_ledger(settings) as ledger:
        return build(await sources_in_force(ledger, sources, settings.account))


def page_address(settings: "Settings") -> str | None:
    """Where the page is: `api.origin`, else that of a running local stack of our mode; None if neither is known."""
    from workers.stack.folders import data_dir
    from workers.stack.stack_file import running_stack

    stack = running_stack(data_dir(settings.mode)) or {}
    found: str | None = settings.api.origin or stack.get("api")
    return found


def environment() -> dict[str, str]:
    """The environment, completed by a running local stack: the one of our mode, or, if our settings have no mode, the
    one on the folder BOTTRADER_DATA.
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
