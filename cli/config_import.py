"""`bottrader config import .env`: converts the settings of an older system to a settings file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import UserError, note, print_json, print_table

if TYPE_CHECKING:
    from workers.settings.old_env import OldSettings, TakenSettings

__all__ = ["import_env"]

_HIDDEN = "***"


def import_env(
    env: Annotated[Path, typer.Argument(metavar="ENV", help="The old system's .env file.")],
    file: Annotated[Path, typer.Option("--to", help="Where to write the settings.")] = Path("bottrader.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Write a settings file from an older system's .env: stops, take profit, HODL, dry run, Telegram.

    Values that have no counterpart or can't be read are listed and left out.
    """
    from workers.settings import Settings
    from workers.settings.old_env import read_old
    from workers.settings.sources import SettingSources

    try:
        found = read_old(env.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError("CANNOT_READ", f"{env} can't be read ({why}).") from None
    if found.taken:
        SettingSources(from_file=found.tree).build(Settings)
        if not dry_run:
            _write(file, env, found, force=force)
    _tell(file, found, written=bool(found.taken) and not dry_run, as_json=as_json)


def _write(file: Path, env: Path, found: "OldSettings", *, force: bool) -> None:
    """Write the file readable by its owner only, because it may hold a bot's token."""
    from cli.settings_file import toml_value
    from workers.settings.old_env import sections_of

    if file.exists() and not force:
        raise UserError("FILE_EXISTS", f"{file} already exists: name another file, or replace it with --force.")
    lines = [f"# From {env.name} by `bottrader config import`; `bottrader config init` explains every setting."]
    for name, values in sections_of(found.tree):
        lines += ["", f"[{name}]"] if name else []
        lines += [f"{key} = {toml_value(value)}" for key, value in values.items()]
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), 0o600)  # one that was there may have been open to others
            out.write("\n".join(lines) + "\n")
    except OSError as error:
        raise UserError("CANNOT_WRITE", f"{file} can't be written ({error.strerror}).") from None


def _tell(file: Path, found: "OldSettings", *, written: bool, as_json: bool) -> None:
    if as_json:
        taken = [{"name": item.name, "settings": _shown(item), "note": item.note} for item in found.taken]
        print_json({"file": file if written else None, "taken": taken, "left": found.left})
        return
    rows = [(item.name, key, value, item.note) for item in found.taken for key, value in _shown(item).items()]
    print_table(["old name", "setting", "value", "note"], rows, empty="Nothing in it has a counterpart here.")
    for name, why in found.left.items():
        note(f"{name} is left out: {why}.")
    if written:
        typer.echo(f"Wrote {file}: review it, then run `bottrader config check`.")


def _shown(item: "TakenSettings") -> "dict[str, str]":
    from cli.settings_file import toml_value

    return {key: _HIDDEN if item.secret else toml_value(value).strip('"') for key, value in item.values.items()}
