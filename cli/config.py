"""`bottrader config`: show, check, write and change the settings."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, note, print_json, print_table
from cli.settings import current_settings, current_sources, settings_in_force
from cli.settings_file import sample, toml_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from domain.round_trip import RoundTrip
    from workers.settings import Settings
    from workers.settings.changes import Change, Edit
    from workers.settings.sources import Override, SettingSources

__all__ = ["config_app"]

config_app = typer.Typer(help="Show, check, write or change the settings.", no_args_is_help=True)

_KEY = typer.Argument(help="Setting, such as symbols.block; `bottrader config show` lists them.")
_BY = typer.Option("--by", help="Your name, recorded as a note with this machine's user.")
_WHY = typer.Option("--why", help="Reason, recorded with the change.")
_JSON = typer.Option("--json", help="Print JSON, for programs.")
_NAMED = 20
"""How many products a message lists."""
_ALIVE_SECONDS = 3.0
_AS_BY_DEFAULT = " (default)"


async def _overrides(settings: "Settings") -> "Mapping[str, Override]":
    from cli.ledger import open_ledger
    from workers.settings.changes import read_overrides

    async with open_ledger(settings) as ledger:
        return await read_overrides(ledger, settings.account)


async def _costs(settings: "Settings") -> "RoundTrip":
    from cli.cautions import known_costs
    from cli.ledger import open_ledger

    async with open_ledger(settings) as ledger:
        return await known_costs(ledger, settings)


def _costs_if_known(settings: "Settings") -> "RoundTrip":
    """The cost of a round trip at the account's own fee rates, or at assumed ones if no database answers."""
    import asyncio
    from contextlib import suppress

    from workers.settings.near_costs import assumed_round_trip

    if settings.database.url is not None:
        with suppress(*_no_ledger()):  # that it doesn't answer has been said beside the overrides
            return asyncio.run(asyncio.wait_for(_costs(settings), _ALIVE_SECONDS))
    return assumed_round_trip(settings)


def _no_ledger() -> tuple[type[Exception], ...]:
    """The exceptions raised if the ledger is unreachable, belongs to another account or lacks a table; not internal
    errors."""
    import asyncpg

    return UserError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError


def _overrides_if_any(settings: "Settings") -> "Mapping[str, Override]":
    """The settings set by command, or none with a warning if no database answers."""
    import asyncio

    from cli.errors import as_user_error

    if settings.database.url is None:
        return {}
    try:
        return asyncio.run(asyncio.wait_for(_overrides(settings), _ALIVE_SECONDS))
    except Exception as error:  # noqa: BLE001 - whatever the database's trouble is, the rest can be shown
        note(f"The settings changed with `bottrader config set` are not known: {as_user_error(error).sentence}")
        return {}


@config_app.command("show")
def show(
    prefix: Annotated[str, typer.Argument(help="Only keys with this prefix, such as exits or triggers.roc_momo.")] = "",
    changed: Annotated[bool, typer.Option("--changed", help="Only values that are not the default.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show every setting in force, its origin and its meaning. Secrets are masked."""
    from workers.settings import build
    from workers.settings.keys import leaves

    sources = current_sources()
    sources = sources.under(_overrides_if_any(build(sources)))
    settings = build(sources)
    found = [
        (leaf, _origin(leaf.key, leaf.value, sources))
        for leaf in leaves(settings)
        if leaf.key.startswith(prefix) and not (".exits." in leaf.key and leaf.value is None)
    ]
    if changed:
        found = [(leaf, origin) for leaf, origin in found if origin and not origin.endswith(_AS_BY_DEFAULT)]
    if as_json:
        print_json(
            {
                "file": sources.file,
                "settings": _masked(settings.model_dump()),
                "from": {leaf.key: origin or "default" for leaf, origin in found},
            }
        )
        return
    note(f"Settings file: {sources.file or 'none (defaults and environment)'}")
    rows = [(leaf.key, _text(leaf.value), origin, leaf.field.description or "") for leaf, origin in found]
    empty = "All settings have their defaults." if changed else f"No setting begins with {prefix}."
    print_table(["setting", "value", "from", "meaning"], rows, narrow_without=("meaning",), empty=empty)


def _origin(key: str, value: object, sources: "SettingSources") -> str:
    """The origin of a value that is not the default; empty for a default."""
    from workers.settings import Settings
    from workers.settings.keys import leaves

    origin = sources.origin(key)
    if origin == "override":
        return f"set by {sources.overrides[key].by}"
    if origin == "default":
        return ""
    defaults = {leaf.key: leaf.value for leaf in leaves(Settings())}
    return origin if key not in defaults or defaults[key] != value else origin + _AS_BY_DEFAULT


@config_app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="Settings file; default: the one in force.")] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Check the settings. Exit code 0 if they are valid, 2 with one sentence for each problem.

    Stops and targets within the cost of a round trip are valid; there is a warning.
    """
    from cli.cautions import warn
    from workers.settings import build, load_settings
    from workers.settings.near_costs import assumed_round_trip, near_costs
    from workers.settings.problems import ConfigError
    from workers.settings.secret_files import file_problems
    from workers.settings.sources import config_path

    problems: list[str] = []
    warnings: list[str] = []
    try:
        settings = load_settings(file)
        problems += file_problems(settings)
        problems += _strategy_problems(settings)
        problems += _paper_problems(settings)
        if file is None:
            sources = current_sources()
            settings = build(sources.under(_overrides_if_any(build(sources))))
        warnings += near_costs(settings, _costs_if_known(settings) if file is None else assumed_round_trip(settings))
    except ConfigError as error:
        problems += error.problems
    where = str(file or config_path() or "defaults and environment")
    if as_json:
        print_json({"file": where, "ok": not problems, "problems": problems, "warnings": warnings})
        if problems:
            raise typer.Exit(int(ExitCode.BAD_INPUT))
        return
    if problems:
        raise ConfigError(problems)
    warn(warnings)
    typer.echo(f"{where}: all settings are valid.")


def _strategy_problems(settings: "Settings") -> list[str]:
    """Problems of the strategy that can be found without running its code, with a note about that."""
    from activities.strategy.loading import StrategyError, look_at_strategy

    if settings.strategy.use == "weighted":
        return []
    try:
        look_at_strategy(settings.strategy.use)
    except StrategyError as error:
        return [f"{error}."]
    note("The strategy's file was read but not loaded, because loading runs it; a worker's next run loads it.")
    return []


def _paper_problems(settings: "Settings") -> list[str]:
    """Products that the paper exchange doesn't have, which `up` would refuse; their names are not shown (SAFE-5)."""
    from exchange.paper.errors import PaperError
    from exchange.paper.products import bundled, load

    paper = settings.paper
    if settings.mode != "paper" or (paper.products_file is not None and not paper.products_file.is_file()):
        return []
    try:
        known = bundled() if paper.products_file is None else load(paper.products_file)
    except PaperError:
        return ["paper.products_file: it is not a list of products in the format of GET /products."]
    unknown = [place for place, name in enumerate(paper.products, start=1) if name not in known]
    if not unknown:
        return []
    whose = "of the paper exchange" if paper.products_file is None else "of paper.products_file"
    which = f"{' and '.join(map(str, unknown))} of {len(paper.products)}"
    named = f"{', '.join(known)}" if len(known) <= _NAMED else f"such as {next(iter(known), 'none')}"
    return [f"paper.products: number {which} is not one of the {len(known)} products {whose}: {named}."]


@config_app.command("init")
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("bottrader.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a settings file with every setting, its default, unit and allowed range, all commented out."""
    if file.exists() and not force:
        raise UserError("FILE_EXISTS", f"{file} already exists: name another file, or replace it with --force.")
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), 0o600)  # one that was there may have been open to others
            out.write(sample())
    except OSError as error:
        raise UserError("CANNOT_WRITE", f"{file} can't be written ({error.strerror}).") from None
    typer.echo(f"Wrote {file}: remove the # from the lines you change, then run `bottrader config check`.")


# --- changes while workers run ---------------------------------------------------------------------------------------


# A negative number is a value here, not an option.
@config_app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    key: Annotated[str, _KEY],
    values: Annotated[list[str], typer.Argument(help="Its new value; for a list, all items (BTC-USD ETH-USD).")],
    why: Annotated[str, _WHY] = "",
    by: Annotated[str, _BY] = "",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Change a trigger, list or limit at once, without a restart. Name, time and reason are recorded."""
    for value in values:
        if value.startswith("--"):
            raise UserError("BAD_OPTION", f"No such option: {value}; see `bottrader config set --help`.")
    _change(key, values, "set", why=why, by=by, as_json=as_json)


@config_app.command("add")
def add(
    key: Annotated[str, _KEY],
    values: Annotated[list[str], typer.Argument(help="Items to add to the list.")],
    why: Annotated[str, _WHY] = "",
    by: Annotated[str, _BY] = "",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Add items to a list, such as symbols.block, at once. The change is recorded."""
    _change(key, values, "add", why=why, by=by, as_json=as_json)


@config_app.command("remove")
def remove(
    key: Annotated[str, _KEY],
    values: Annotated[list[str], typer.Argument(help="Items to remove from the list.")],
    why: Annotated[str, _WHY] = "",
    by: Annotated[str, _BY] = "",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Remove items from a list, such as symbols.block, at once. The change is recorded."""
    _change(key, values, "remove", why=why, by=by, as_json=as_json)


@config_app.command("unset")
def unset(
    key: Annotated[str, _KEY],
    why: Annotated[str, _WHY] = "",
    by: Annotated[str, _BY] = "",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Undo `config set`: the value from file, environment or default applies again."""
    import asyncio

    from cli.asking import user
    from cli.ledger import open_ledger
    from workers.settings import build
    from workers.settings.changes import unset_override

    sources = current_sources()

    async def go() -> "list[Change]":
        async with open_ledger(build(sources)) as ledger:
            return await unset_override(ledger, sources, key, by=user(by), why=why)

    _tell(asyncio.run(go()), as_json=as_json)


@config_app.command("changes")
def changes(
    key: Annotated[str | None, typer.Argument(help="Only this setting, or all below it.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Maximum number of changes, newest first.")
    ] = 20,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """List changes of settings, newest first: who, when, old and new value, reason."""
    import asyncio

    from cli.ledger import open_ledger
    from workers.settings.changes import recent_changes, require_setting

    settings = current_settings()
    if key is not None:
        require_setting(key)

    async def go() -> "list[Change]":
        async with open_ledger(settings) as ledger:
            return await recent_changes(ledger, settings.account, limit=limit, key=key)

    found = asyncio.run(go())
    if as_json:
        print_json(found)
        return
    rows = [(item.at, item.key, _text(item.old), _text(item.new), item.by, item.why) for item in found]
    print_table(["when", "setting", "before", "after", "by", "why"], rows, empty="No setting was changed.")


def _change(key: str, values: "Sequence[str]", edit: "Edit", *, why: str, by: str, as_json: bool) -> None:
    import asyncio

    from cli.asking import user
    from cli.ledger import open_ledger
    from workers.settings import build
    from workers.settings.changes import read_overrides, set_override

    sources = current_sources()
    section, _, name = key.partition(".")
    trigger = name.partition(".")[0] if section == "triggers" else ""

    async def go() -> "tuple[list[Change], list[str]]":
        settings = build(sources)
        async with open_ledger(settings) as ledger:
            set_already = [name.split(".") for name in await read_overrides(ledger, settings.account)]
            known = {*settings.triggers, *(parts[1] for parts in set_already if parts[0] == "triggers")}
            return await set_override(ledger, sources, key, values, by=user(by), why=why, edit=edit), sorted(known)

    found, known = asyncio.run(go())
    if key.endswith("_pct"):
        _warn_of(key)
    if not found and not as_json:
        typer.echo(f"{key} already contains {', '.join(values)}: nothing changed.")
        return
    _tell(found, as_json=as_json)
    if trigger and trigger not in known:
        note(f"{trigger} is a new trigger; known: {', '.join(known)}.")


def _warn_of(key: str) -> None:
    """Warnings about a setting that was changed just now."""
    from cli.cautions import warn
    from workers.settings.near_costs import near_costs

    settings = settings_in_force()
    warn(sentence for sentence in near_costs(settings, _costs_if_known(settings)) if sentence.startswith(f"{key}:"))


def _tell(found: "list[Change]", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for item in found:
        typer.echo(
            f"{item.key} = {_text(item.new)} (was {_text(item.old)})"
            if item.old != item.new
            else f"{item.key} = {_text(item.new)}, as it was"
        )
        if item.key == "symbols.allow" and not item.new:
            note("With an empty symbols.allow every product may be bought.")
    note("Workers apply it within a second; `bottrader config changes` shows the record.")


# --- words -----------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """A value in a table cell: lists without brackets, a missing value as a dash."""
    if isinstance(value, tuple | list):
        return ", ".join(_text(item) for item in value) or "-"
    if value is None:
        return "-"
    return value if isinstance(value, str) else toml_value(value).strip('"')


def _masked(tree: Any) -> Any:
    """The tree with secrets as ***."""
    from pydantic import SecretStr

    if isinstance(tree, dict):
        return {key: _masked(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return [_masked(value) for value in tree]
    return "***" if isinstance(tree, SecretStr) else tree
