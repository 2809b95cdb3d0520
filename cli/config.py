"""`bottrader config`: show, check, and write the settings; and how every other command gets them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, note, print_json, print_table

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from workers.settings import Settings

config_app = typer.Typer(help="Show, check or write the settings.", no_args_is_help=True)


def current_settings() -> "Settings":
    """The settings, with the addresses of the local stack that runs on the user's data folder where none are given.

    Raises ConfigError (exit code 2).
    """
    from workers.settings import load_settings

    return load_settings(environ=environment())


def environment() -> dict[str, str]:
    """Our environment on top of what a running local stack offers; live settings take nothing from a stack."""
    from workers.folders import data_dir
    from workers.settings import load_settings
    from workers.stack_file import running_stack

    stack = running_stack(data_dir())
    if stack is None or load_settings().mode == "live":
        return dict(os.environ)
    return {**stack["environment"], **os.environ}


@config_app.command("show")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Show every setting that is in force, where it comes from, and what it means. Secrets are masked."""
    from workers.settings import DEFAULT_TRIGGERS, Settings, TriggerSettings
    from workers.settings_sources import config_path

    settings = current_settings()
    if as_json:
        print_json(_masked(settings.model_dump()))
        return
    file = config_path()
    note(f"Settings file: {file or 'none (defaults and environment)'}")
    triggers = {name: TriggerSettings.model_validate(given) for name, given in DEFAULT_TRIGGERS.items()}
    defaults = dict(_leaves(Settings.model_construct(triggers=triggers)))
    rows = [
        (key, _text(value), "" if key in defaults and defaults[key][0] == value else "changed", info.description or "")
        for key, (value, info) in _leaves(settings)
    ]
    print_table(["setting", "value", "", "meaning"], rows, narrow_without=("meaning",))


@config_app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="Settings file; else the one in force.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Check the settings: exit code 0 when they can be used, 2 with one sentence a problem."""
    from workers.exchange_keys import key_file_problems
    from workers.settings import load_settings
    from workers.settings_problems import ConfigError
    from workers.settings_sources import config_path

    problems: list[str] = []
    try:
        settings = load_settings(file)
        for name in ("ca_file", "key_file"):
            path = getattr(settings.exchange, name)
            if path is not None and not path.is_file():
                problems.append(f"exchange.{name} = {str(path)!r}: there is no such file.")
            elif path is not None and name == "key_file":
                problems += [f"exchange.key_file: {problem}" for problem in key_file_problems(path)]
    except ConfigError as error:
        problems += error.problems
    where = str(file or config_path() or "defaults and environment")
    if as_json:
        print_json({"file": where, "ok": not problems, "problems": problems})
        if problems:
            raise typer.Exit(int(ExitCode.BAD_INPUT))
        return
    if problems:
        raise ConfigError(problems)
    typer.echo(f"{where}: every setting can be used.")


@config_app.command("init")
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("bottrader.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a settings file with every setting, its default, unit and allowed range, all commented out."""
    if file.exists() and not force:
        raise UserError("FILE_EXISTS", f"{file} is there already: name another file, or replace it with --force.")
    try:
        file.write_text(sample(), encoding="utf-8")
    except OSError as error:
        raise UserError("CANNOT_WRITE", f"{file} can't be written ({error.strerror}).") from None
    typer.echo(f"Wrote {file}: take the # from what you change, then run `bottrader config check`.")


def sample() -> str:
    """The text of a settings file with all defaults commented out."""
    from workers.settings import DEFAULT_TRIGGERS, Settings

    lines = [
        "# BotTrader's settings. Everything here has its default; take the # from a line to change it.",
        "# Percentages are percent (2.5 is 2.5 %); durations are seconds.",
        "",
    ]
    lines += _sample_of(Settings(), "", DEFAULT_TRIGGERS)
    return "\n".join(lines) + "\n"


def _sample_of(section: "BaseModel", name: str, triggers: Any) -> Iterator[str]:
    from pydantic import BaseModel

    subsections: list[tuple[str, BaseModel]] = []
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            subsections.append((key, value))
        elif isinstance(value, dict):
            continue
        else:
            described = _description(info)
            if described:
                yield f"# {described}"
            yield f"#{key} = {_toml(value)}" if value is not None else f"#{key} ="
    yield ""
    for key, value in subsections:
        full = f"{name}.{key}" if name else key
        yield "# " + " ".join((type(value).__doc__ or "").split())
        yield f"[{full}]"
        yield from _sample_of(value, full, triggers)
    if not name:
        yield "# Entries by trigger: [triggers.<name>] changes or adds one, [triggers.<name>.exits] its own exit rules,"
        yield "# [triggers.<name>.protection] what rests at the exchange for them (kind = none, stop_limit, bracket)."
        for trigger, given in triggers.items():
            yield f"#[triggers.{trigger}]"
            yield from (f"#{key} = {_toml(value)}" for key, value in given.items() if not isinstance(value, dict))
            if isinstance(given.get("exits"), dict):
                yield f"#[triggers.{trigger}.exits]"
                yield from (f"#{key} = {_toml(value)}" for key, value in given["exits"].items())
            yield ""


def _description(info: "FieldInfo") -> str:
    from workers.settings_problems import allowed

    return allowed(info).removeprefix(" (").removesuffix(")")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return value if value.replace(".", "", 1).isdigit() else f'"{value}"'
    return f"{value:f}" if hasattr(value, "as_tuple") else str(value)


def _leaves(section: "BaseModel", prefix: str = "") -> Iterator[tuple[str, tuple[object, "FieldInfo"]]]:
    from pydantic import BaseModel

    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, dict):
            for name, item in value.items():
                yield from _leaves(item, f"{prefix}{key}.{name}.")
        elif not (prefix.endswith((".exits.", ".protection.")) and value is None):
            yield f"{prefix}{key}", (value, info)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "-"
    return _toml(value).strip('"')


def _masked(tree: Any) -> Any:
    """The tree with secrets as ***."""
    from pydantic import SecretStr

    if isinstance(tree, dict):
        return {key: _masked(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return [_masked(value) for value in tree]
    return "***" if isinstance(tree, SecretStr) else tree
