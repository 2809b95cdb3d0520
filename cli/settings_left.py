"""Settings for commands that stop or show things: they also work when the settings in force are invalid.

Such a command needs the addresses of ledger and Temporal, and the account. A file with a mistake elsewhere still gives
them; if it can't be read, a running stack or the environment does; the ledger itself has its account and its task
queues. Commands that open trades refuse instead (`cli.settings`).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cli.output import UserError, note
from cli.settings import current_settings

if TYPE_CHECKING:
    from workers.settings import Settings
    from workers.settings.sources import SettingSources

__all__ = ["settings_at_hand", "settings_to_stop"]

_NEEDED = ("account", "database", "temporal")
_USEFUL = (*_NEEDED, "mode", "exchange", "speed")
_ACCOUNTS = "SELECT account FROM setting_bases UNION SELECT account FROM account_identities ORDER BY 1 LIMIT 2"


def settings_to_stop() -> "Settings":
    """The settings in force, or the usable part of them with a note on stderr. Raises ConfigError (exit code 2) if the
    ledger's address is not known, UserError(WHICH_MODE, WHICH_ACCOUNT) if the choice is ambiguous, and asyncpg's errors
    if the database does not answer.
    """
    settings, instead = settings_at_hand()
    if instead:
        note(instead)
    return settings


def settings_at_hand() -> "tuple[Settings, str]":
    """The same, with a sentence that says what was used instead; empty if the settings are valid."""
    import asyncio

    from workers.settings.problems import ConfigError

    try:
        own = current_settings()
        return (own if own.database.url is not None else _of_the_live_system() or own), ""
    except ConfigError:
        for sources, whence in _left():
            settings = _built(sources)
            if settings is not None and settings.database.url is not None:
                instead = f"The settings are invalid (`bottrader config check` shows why): using {whence} instead."
                return asyncio.run(_as_the_ledger_has_it(settings)), instead
        raise


def _of_the_live_system() -> "Settings | None":
    """The settings of a live system running on this machine, if ours name neither mode nor folder nor database: in an
    emergency it can be stopped from any shell. Commands that open trades require the mode.
    """
    from workers.ledger_identity import on_ledger
    from workers.settings import build, read_sources
    from workers.stack.folders import data_dir
    from workers.stack.stack_file import running_stack

    if os.environ.get("BOTTRADER_DATA") or read_sources().origin("mode") != "default":
        return None
    if (stack := running_stack(data_dir("live"))) is None:
        return None
    note("Using the settings of the live system that runs on this machine.")
    return build(on_ledger(read_sources(environ={**stack["environment"], **os.environ})))


def _built(sources: "SettingSources") -> "Settings | None":
    from workers.settings import build
    from workers.settings.problems import ConfigError

    try:
        return build(sources)
    except ConfigError:
        return None


def _left() -> "Iterator[tuple[SettingSources, str]]":
    """Usable sources of settings, the most complete first, each with its origin."""
    from workers.settings import Settings
    from workers.settings.problems import ConfigError
    from workers.settings.sources import SettingSources

    stack = _stack(os.environ.get("BOTTRADER_MODE") or _file(os.environ).get("mode"))
    environ = {**(stack["environment"] if stack else {}), **os.environ}
    whence = "the running stack's own settings" if stack else "the environment"
    file = _file(environ)
    for variables in (environ, _needed_of(environ)):
        try:
            given = SettingSources.of_environment(Settings, variables)
        except ConfigError:
            continue
        for keys in (_USEFUL, _NEEDED) if file else ():
            part = {key: file[key] for key in keys if key in file}
            yield given.with_file(part), "the file's account, database and Temporal settings"
        yield given, whence


def _file(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """The readable part of the settings file."""
    from workers.settings.problems import ConfigError
    from workers.settings.sources import config_path, read_file

    with contextlib.suppress(ConfigError, OSError):
        return read_file(config_path(environ=environ))
    return {}


def _stack(mode: object) -> dict[str, Any] | None:
    """The running stack of a mode; if the mode can't be read, the only one that is running.

    Raises UserError(WHICH_MODE) if a paper and a live stack are both running: real coins are never sold on a guess.
    """
    from workers.stack.folders import data_dir
    from workers.stack.stack_file import running_stack

    modes = [str(mode)] if mode in ("paper", "live") else ["paper", "live"]
    running = {folder: found for folder in map(data_dir, modes) if (found := running_stack(folder)) is not None}
    if len(running) > 1:
        raise UserError(
            "WHICH_MODE",
            "The settings are invalid, and a paper and a live system run here: choose one with BOTTRADER_MODE=paper "
            "or BOTTRADER_MODE=live, or correct the settings (`bottrader config check`).",
        )
    return next(iter(running.values()), None)


def _needed_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with only those of our settings that locate the ledger and Temporal."""
    ours = tuple(f"BOTTRADER_{key.upper()}" for key in _NEEDED)
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("BOTTRADER_") or name.startswith(ours) or "__" not in name
    }


async def _as_the_ledger_has_it(settings: "Settings") -> "Settings":
    """Adds the ledger's own mode and names in Temporal, and its account if it has only one and none was given."""
    from dataclasses import asdict

    import asyncpg

    from activities.identity import read_ledger
    from cli.ledger import open_ledger

    update: dict[str, Any] = {}
    async with open_ledger(settings, whosever=True) as ledger:
        stamp = await read_ledger(ledger)
        accounts: list[str] = []
        with contextlib.suppress(asyncpg.UndefinedTableError):  # of a version before there were such tables
            accounts = [row["account"] for row in await ledger.fetch(_ACCOUNTS)]
    if stamp is not None:
        temporal = settings.temporal.model_copy(update=asdict(stamp.names))
        update = {"mode": stamp.mode, "temporal": temporal}
    if "account" not in settings.model_fields_set and accounts:
        if len(accounts) > 1:
            raise UserError(
                "WHICH_ACCOUNT",
                "The settings are invalid, and this ledger has several accounts: choose one with "
                "BOTTRADER_ACCOUNT=NAME, or correct the settings (`bottrader config check`).",
            )
        update["account"] = accounts[0]
    return settings.model_copy(update=update)
