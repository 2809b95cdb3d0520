"""Sources of settings, later ones override: defaults, one TOML file, the environment, changes by command.

The environment's BOTTRADER_EXITS__HARD_STOP_PCT is `hard_stop_pct` of `[exits]`; DATABASE_URL, TEMPORAL_ADDRESS and the
other usual names of Temporal's tools need no prefix. Overrides are stored in the database, see `setting_changes`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource

from activities.secret_values import hide
from workers.settings.keys import secrets_in
from workers.settings.problems import (
    ENV_DELIMITER,
    ENV_PREFIX,
    ConfigError,
    crash_points_are_for_tests,
    describe,
    environment_name,
    read_toml,
    shown_key,
    shown_path,
    unknown_environment,
)

__all__ = [
    "CONFIG_FILE",
    "CONFIG_FOLDER",
    "SIZES",
    "Origin",
    "Override",
    "SettingSources",
    "config_path",
    "file_stamp",
    "merge",
    "read_file",
    "usual_path",
]

CONFIG_FILE = "bottrader.toml"
CONFIG_FOLDER = "BOTTRADER_CONFIG_FOLDER"
SIZES = ("size_quote", "size_base", "size_pct")
"""The kinds of a trigger's size, of which it has one."""
"""Environment variable: the folder of the default settings file; else the working folder."""

Origin = Literal["default", "file", "environment", "override"]


@dataclass(frozen=True, slots=True)
class Override:
    """A value set by command, in its stored form."""

    value: Any
    by: str
    at: datetime | None
    """None: not stored, only tried."""


@dataclass(frozen=True, slots=True)
class SettingSources:
    """The content of each source; `settings` merges and checks them.

    `environ` is the environment that was read, kept to read everything again.
    """

    file: Path | None = None
    from_file: Mapping[str, Any] = field(default_factory=dict)
    from_environment: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    awaited: Path | None = None
    """Without a file: the one that is loaded when it appears."""
    stamp: tuple[int, int, int] | None = None
    """The file's stamp (changes with its content), taken before it was read."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    from_ledger: Mapping[str, Any] = field(default_factory=dict)
    """The ledger's stamp, in place of defaults: file and environment override it."""

    @classmethod
    def read(
        cls, settings: type[BaseSettings], path: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> SettingSources:
        """Read file and environment. Raises ConfigError if something can't be read at all."""
        environ = os.environ if environ is None else environ
        file = config_path(path, environ)
        awaited = usual_path(environ) if file is None else None
        stamp = file_stamp(file)
        from_file = read_file(file)
        given = cls.of_environment(settings, environ)
        return replace(given, file=file, from_file=from_file, awaited=awaited, stamp=stamp)

    @classmethod
    def of_environment(cls, settings: type[BaseSettings], environ: Mapping[str, str]) -> SettingSources:
        """The environment's settings, without any file. Raises ConfigError if something can't be read at all."""
        known = {name: value for name, value in environ.items() if name != CONFIG_FOLDER}
        return cls(
            from_environment=_from_environment(settings, environ),
            problems=tuple(unknown_environment(settings, known)),
            environ=dict(environ),
        )

    def with_file(self, from_file: Mapping[str, Any]) -> SettingSources:
        """These sources with this in place of the file's content."""
        return replace(self, from_file=from_file)

    def again(self) -> SettingSources:
        """The same file read again, or one that has appeared, below the same overrides. Raises ConfigError."""
        stamp = file_stamp(self.watched)
        file = self.file or (self.awaited if stamp is not None else None)
        return replace(self, file=file, from_file=read_file(file), stamp=stamp)

    @property
    def watched(self) -> Path | None:
        """The file to watch: the one that was read, or the one that may appear."""
        return self.file or self.awaited

    def under(self, overrides: Mapping[str, Override]) -> SettingSources:
        """These sources with other overrides on top."""
        return replace(self, overrides=dict(overrides))

    def on(self, said: Mapping[str, Any], live: Callable[[Sequence[str]], bool]) -> SettingSources:
        """These sources with the account's workers' dynamic settings (`said`, by key) in place of the local ones;
        `live` says which keys those are.
        """
        known = {key: Override(value, "", None) for key, value in said.items() if live(key.split("."))}
        kept = [_without(tree, live) for tree in (self.from_file, self.from_environment)]
        return replace(self, from_file=merge(kept[0], _nested(known)), from_environment=kept[1])

    def tree(self) -> dict[str, Any]:
        """All given values, merged."""
        merged: dict[str, Any] = {}
        for layer in (self.from_ledger, self.from_file, self.from_environment, _nested(self.overrides)):
            merged = merge(merged, layer)
        return merged

    def build(self, settings: type[BaseSettings]) -> Any:
        """The settings. Raises ConfigError with one sentence for each problem."""
        problems = list(self.problems)
        try:
            built = settings(**self.tree())
        except ValidationError as error:
            raise ConfigError(problems + describe(error, settings, self.where)) from None
        hide(secrets_in(built))
        problems += crash_points_are_for_tests(built, self.environ)
        if problems:
            raise ConfigError(problems)
        return built

    def origin(self, key: str) -> Origin:
        """The source of a key's value."""
        if key in self.overrides:
            return "override"
        parts = key.split(".")
        if _given(self.from_environment, parts):
            return "environment"
        return "file" if _given(self.from_file, parts) else "default"

    def where(self, location: tuple[str, ...]) -> str:
        """The key as written in its source."""
        dotted, shown = ".".join(location), shown_key(location)
        if (given := self._override(location)) is not None:
            if given.at is None:
                return shown
            return f"{shown} (set by {given.by} on {given.at.astimezone(UTC):%Y-%m-%d %H:%M}Z)"
        if any(tried.at is None and key.startswith(f"{dotted}.") for key, tried in self.overrides.items()):
            return shown
        if location and _given(self.from_environment, location):
            return f"{environment_name(location)} (environment)"
        return (
            f"{shown_path(self.file)}: {shown}" if self.file is not None and _given(self.from_file, location) else shown
        )

    def _override(self, location: tuple[str, ...]) -> Override | None:
        """The override that gives a key, or a list that the location is an item of."""
        for length in range(len(location), 0, -1):
            if (found := self.overrides.get(".".join(location[:length]))) is not None:
                return found
        return None

    def file_owner(self) -> str:
        """The name recorded for a change of the file: its owner, as far as the system knows."""
        try:
            owner = 0 if self.file is None else self.file.stat().st_uid
            return pwd.getpwuid(owner).pw_name
        except (OSError, KeyError):
            return "file"


def config_path(given: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file: `given`, BOTTRADER_CONFIG, `bottrader.toml` here, or none."""
    if given is not None:
        return given
    if named := environ.get("BOTTRADER_CONFIG"):
        return Path(named).expanduser()
    usual = usual_path(environ)
    return usual if usual.exists() else None


def usual_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The default settings file, existing or not: in the working folder, unless another folder is configured."""
    folder = environ.get(CONFIG_FOLDER)
    return Path(folder) / CONFIG_FILE if folder else Path(CONFIG_FILE)


def read_file(file: Path | None) -> Mapping[str, Any]:
    """A trusted settings file's content; empty without a file. Raises ConfigError."""
    if file is None:
        return {}
    return read_toml(file)


def file_stamp(file: Path | None) -> tuple[int, int, int] | None:
    """Time of the last change, size and inode of a file; None if it doesn't exist."""
    try:
        status = None if file is None else file.stat()
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)


def merge(under: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """`over` on top of `under`, section by section; a trigger's size of one kind replaces that of another."""
    merged = dict(under)
    if path[:1] == ("triggers",) and any(over.get(size) is not None for size in SIZES):
        merged = {key: value for key, value in merged.items() if key not in SIZES}
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value, (*path, key)) if both else value  # type: ignore[arg-type]  # both are
    return merged


def _nested(overrides: Mapping[str, Override]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, override in sorted(overrides.items()):
        *above, last = key.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = override.value
    return tree


def _without(
    tree: Mapping[str, Any], gone: Callable[[Sequence[str]], bool], above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The tree without the keys for which `gone` is true; empty sections are left out."""
    left: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            below = _without(value, gone, (*above, key))
            if below or not value:
                left[key] = below
        elif not gone((*above, key)):
            left[key] = value
    return left


def _given(tree: Mapping[str, Any], parts: tuple[str, ...] | list[str]) -> bool:
    node: Any = tree
    for part in parts:
        if isinstance(node, list | tuple | str):
            # An item of a list that was given as a whole.
            return True
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return node is not None


def _from_environment(settings: type[BaseSettings], environ: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(
        settings, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER, env_ignore_empty=True
    )
    source.config["enable_decoding"] = False  # lists are written a,b,c, not as JSON
    # An empty variable is as if it were not set: compose files pass on what the user left out.
    source.env_vars = {name.lower(): value for name, value in environ.items() if value}
    found: dict[str, Any] = source()
    temporal = {key: environ.get(f"TEMPORAL_{key.upper()}") for key in ("profile", "address", "namespace", "api_key")}
    usual = {
        "database": {"url": environ.get("DATABASE_URL")},
        "temporal": {**_of_profile(environ), **_filled(temporal)},
    }
    return merge(found, {section: _filled(keys) for section, keys in usual.items() if _filled(keys)})


def _filled(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value}


def _of_profile(environ: Mapping[str, str]) -> dict[str, str]:
    """Address and namespace of TEMPORAL_PROFILE; `workers.temporal_connection` takes TLS and login from it, too."""
    profile = environ.get("TEMPORAL_PROFILE")
    if not profile:
        return {}
    from temporalio.envconfig import ClientConfigProfile  # noqa: PLC0415 - for the few who have a profile

    try:
        found = ClientConfigProfile.load(profile, disable_env=True, override_env_vars=dict(environ))
    except RuntimeError:
        sentence = (
            "TEMPORAL_PROFILE (environment): the temporal command's own configuration has no such profile, or can't "
            "be read; `temporal config list` shows the profiles."
        )
        raise ConfigError([sentence]) from None
    return _filled({"address": found.address, "namespace": found.namespace})
