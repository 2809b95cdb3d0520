"""Settings for commands that stop, look or tell: they work, too, when the settings in force can't be used.

Such a command needs to know where the ledger and Temporal are, and which account is meant. Where the file has a mistake
elsewhere, it still says so; where it can't be read, a running stack does, or the environment; whose ledger it is and
what its workflows' queues are called, the ledger itself has. What enters refuses instead (`cli.settings`).
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
    """The settings in force, or what is left of them, which is said on stderr. Raises ConfigError (exit code 2) when
    nothing tells where the ledger is, UserError(WHICH_MODE, WHICH_ACCOUNT) when nothing tells what is meant, and what
    asyncpg raises for a database that does not answer.
    """
    settings, instead = settings_at_hand()
    if instead:
        note(instead)
    return settings


def settings_at_hand() -> "tuple[Settings, str]":
    """The same, with the sentence that says what was used instead; empty when the settings can be used."""
    import asyncio

    from workers.settings.problems import ConfigError

    try:
        own = current_settings()
        return (own if own.database.url is not None else _of_the_live_system() or own), ""
    except ConfigError:
        for sources, whence in _left():
            settings = _built(sources)
            if settings is not None and settings.database.url is not None:
                instead = f"The settings can't be used (`bottrader config check` says why): this goes by {whence}."
                return asyncio.run(_as_the_ledger_has_it(settings)), instead
        raise


def _of_the_live_system() -> "Settings | None":
    """The settings of a live system that runs here, where ours name neither mode nor folder nor database: who is in a
    hurry stops it wherever they type. What enters wants to be told the mode.
    """
    from workers.ledger_identity import on_ledger
    from workers.settings import build, read_sources
    from workers.stack.folders import data_dir
    from workers.stack.stack_file import running_stack

    if os.environ.get("BOTTRADER_DATA") or read_sources().origin("mode") != "default":
        return None
    if (stack := running_stack(data_dir("live"))) is None:
        return None
    note("This goes by the live system that runs here.")
    return build(on_ledger(read_sources(environ={**stack["environment"], **os.environ})))


def _built(sources: "SettingSources") -> "Settings | None":
    from workers.settings import build
    from workers.settings.problems import ConfigError

    try:
        return build(sources)
    except ConfigError:
        return None


def _left() -> "Iterator[tuple[SettingSources, str]]":
    """What may still be used, the fullest first, each with where it is from."""
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
            yield given.with_file(part), "what the file says of account, database and Temporal"
        yield given, whence


def _file(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """What the settings file says, as far as it can be read."""
    from workers.settings.problems import ConfigError
    from workers.settings.sources import config_path, read_file

    with contextlib.suppress(ConfigError, OSError):
        return read_file(config_path(environ=environ))
    return {}


def _stack(mode: object) -> dict[str, Any] | None:
    """The running stack of a mode; where the mode is what can't be read, the only one that runs.

    Raises UserError(WHICH_MODE) where paper's and live's both run: real coins are not sold by a guess.
    """
    from workers.stack.folders import data_dir
    from workers.stack.stack_file import running_stack

    modes = [str(mode)] if mode in ("paper", "live") else ["paper", "live"]
    running = {folder: found for folder in map(data_dir, modes) if (found := running_stack(folder)) is not None}
    if len(running) > 1:
        raise UserError(
            "WHICH_MODE",
            "The settings can't be used, and a paper and a live system run here: say which one is meant with "
            "BOTTRADER_MODE=paper or live, or correct the settings (`bottrader config check`).",
        )
    return next(iter(running.values()), None)


def _needed_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of ours that don't say where the ledger and Temporal are."""
    ours = tuple(f"BOTTRADER_{key.upper()}" for key in _NEEDED)
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("BOTTRADER_") or name.startswith(ours) or "__" not in name
    }


async def _as_the_ledger_has_it(settings: "Settings") -> "Settings":
    """With the ledger's own mode and names in Temporal, and its account where it has one and none was named."""
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
                "The settings can't be used, and this ledger has several accounts: say which one is meant with "
                "BOTTRADER_ACCOUNT=NAME, or correct the settings (`bottrader config check`).",
            )
        update["account"] = accounts[0]
    return settings.model_copy(update=update)
