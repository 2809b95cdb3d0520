"""Settings that change while workers run: stored as overrides, each change recorded with who, when and why.

Changes of one account are serial (an advisory lock), and each is checked as a whole with all that is in force before it
is stored; so two concurrent changes can't combine into contradictory settings. The values from file, environment and
defaults are stored too, so that their changes are also recorded, once, even if made while no worker ran.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel

from activities.database import Connection, Statements
from domain.block_list import BENEATH
from workers.errors import UserError
from workers.settings import Settings, build
from workers.settings.keys import as_json, find, holds_secret, leaves, live_values
from workers.settings.problems import ConfigError, shown_key
from workers.settings.sources import SIZES, Override, SettingSources

__all__ = [
    "CHANNEL",
    "Change",
    "Edit",
    "propose",
    "read_overrides",
    "recent_changes",
    "record_base",
    "require_setting",
    "set_override",
    "sources_in_force",
    "unset_override",
]

CHANNEL = "settings"
"""The channel on which changes are notified, with the account's name."""

_LOCK = 75

Edit = Literal["set", "add", "remove"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change as it is recorded: values in force before and after, None where there was none."""

    key: str
    old: Any
    new: Any
    by: str
    why: str
    at: datetime


async def read_overrides(connection: Statements, account: str) -> dict[str, Override]:
    """The settings set by command, by key. Raises the database's errors."""
    rows = await connection.fetch(
        "SELECT key, value, changed_by, changed_at FROM setting_overrides WHERE account = $1 ORDER BY key", account
    )
    return {row["key"]: Override(row["value"], row["changed_by"], row["changed_at"]) for row in rows}


async def sources_in_force(connection: Statements, sources: SettingSources, account: str) -> SettingSources:
    """The sources as the account's workers have them: their file, environment and defaults, and settings set by
    command. If no worker ever ran, the local ones are used below those. Raises the database's errors.
    """
    said: Mapping[str, Any] | None = await connection.fetchval(
        "SELECT said FROM setting_bases WHERE account = $1", account
    )
    base = sources if said is None else sources.on(said, lambda key: find(Settings, key).live)
    return base.under(await read_overrides(connection, account))


async def recent_changes(
    connection: Statements, account: str, *, limit: int = 50, key: str | None = None
) -> list[Change]:
    """Changes, newest first; of one key, or of all below it. Raises the database's errors."""
    rows = await connection.fetch(
        "SELECT * FROM setting_changes WHERE account = $1 "
        "AND ($2::text IS NULL OR key = $2 OR starts_with(key, $2 || '.')) ORDER BY id DESC LIMIT $3",
        account,
        key,
        limit,
    )
    return [_change(row) for row in rows]


async def set_override(
    connection: Connection,
    sources: SettingSources,
    key: str,
    values: Sequence[str],
    *,
    by: str,
    why: str = "",
    edit: Edit = "set",
) -> list[Change]:
    """Set `key` to `values` (one, or the items of a list), and record it; returns the changes.

    `add` and `remove` change a list by items; if all added items exist already, nothing is stored and no change is
    returned. Nothing is stored if the settings would become invalid.

    Raises ConfigError with the same sentences as for a file, UserError(NOT_LIVE, NOT_A_KEY, NOT_A_LIST) for a key that
    can't be set by command, and the database's errors.
    """
    account = build(sources.under({})).account
    async with connection.transaction():
        await _lock(connection, account)
        overrides = await read_overrides(connection, account)
        proposed = propose(sources.under(overrides), key, values, edit)
        if edit == "add" and proposed.value == _value(proposed.before, key):
            return []
        await connection.execute(
            "INSERT INTO setting_overrides (account, key, value, changed_by) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (account, key) DO UPDATE SET value = $3, changed_by = $4, changed_at = now()",
            account,
            key,
            proposed.value,
            by,
        )
        if replaced := [key for key in proposed.replaces if key in overrides]:
            await connection.execute(
                "DELETE FROM setting_overrides WHERE account = $1 AND key = ANY ($2::text[])", account, replaced
            )
        differences = _differences(proposed.before, proposed.after) or {key: (proposed.value, proposed.value)}
        return await _record(connection, account, differences, by, why)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A possible change: `value` as stored, and the settings before and after.

    `replaces` are keys whose values it removes.
    """

    value: Any
    before: Settings
    after: Settings
    replaces: tuple[str, ...] = ()


def propose(sources: SettingSources, key: str, values: Sequence[str], edit: Edit = "set") -> Proposal:
    """The result of setting `key`, on top of `sources` with all existing overrides.

    Raises ConfigError and UserError as `set_override` does.
    """
    _require_live(key)
    before, replaces = build(sources), _other_sizes(key)
    overrides = {name: item for name, item in sources.overrides.items() if name not in replaces}
    overrides[key] = Override(_edited(before, key, values, edit), "", None)
    after = build(sources.under(overrides))
    value = _value(after, key)
    if value is None:
        raise UserError("NOT_A_KEY", f"{key} is not a single setting: name a key below it.")
    if key == "symbols.allow" and edit == "remove" and not after.symbols.allow:
        # An empty list allows everything: who takes the last product off means the opposite.
        raise UserError(
            "LAST_ALLOWED",
            "These are the last products in symbols.allow, and with an empty list every product may be bought. To "
            "buy nothing use `bottrader halt`; to allow everything `bottrader config set symbols.allow []`.",
        )
    return Proposal(value, before, after, replaces)


async def unset_override(
    connection: Connection, sources: SettingSources, key: str, *, by: str, why: str = ""
) -> list[Change]:
    """Remove a setting set by command, so that file, environment or default apply again; returns the changes.

    Also works if the stored value is no longer valid. Raises ConfigError if the remaining settings would be invalid,
    UserError(NOT_SET) when nothing was set, and the database's errors.
    """
    account = build(sources.under({})).account
    async with connection.transaction():
        await _lock(connection, account)
        overrides = await read_overrides(connection, account)
        if key not in overrides:
            names = ", ".join(sorted(overrides))
            raise UserError(
                "NOT_SET",
                f"{shown_key(key.split('.'))} was not set by `bottrader config set`; "
                + (f"set are {names}." if names else "nothing is set so."),
            )
        left = {name: item for name, item in overrides.items() if name != key}
        try:
            before: Settings | None = build(sources.under(overrides))
        except ConfigError:
            before = None
        differences: Mapping[str, tuple[Any, Any]]
        try:
            new = build(sources.under(left))
        except ConfigError:
            if before is not None:
                raise
            # One of several that can't be used goes; the others have to go, too.
            differences = {key: (overrides[key].value, None)}
        else:
            own = {key: (overrides[key].value, _value(new, key))}
            differences = own if before is None else _differences(before, new) or own
        await connection.execute("DELETE FROM setting_overrides WHERE account = $1 AND key = $2", account, key)
        return await _record(connection, account, differences, by, why)


async def record_base(connection: Connection, sources: SettingSources, *, starting: bool) -> list[Change]:
    """Record differences in file, environment and defaults since a worker of the account last read them.

    Raises ConfigError and the database's errors.
    """
    settings = build(sources.under({}))
    said = live_values(settings)
    account = settings.account
    async with connection.transaction():
        await _lock(connection, account)
        last: Mapping[str, Any] | None = await connection.fetchval(
            "SELECT said FROM setting_bases WHERE account = $1", account
        )
        if last == said:
            return []
        await connection.execute(
            "INSERT INTO setting_bases (account, said) VALUES ($1, $2) "
            "ON CONFLICT (account) DO UPDATE SET said = $2",  # since when changes are recorded stays
            account,
            said,
        )
        if last is None:
            return []
        overrides = await read_overrides(connection, account)
        owner = sources.file_owner()
        changes: list[Change] = []
        for key in [*said, *(gone for gone in last if gone not in said)]:
            old, new = last.get(key), said.get(key)
            if old == new:
                continue
            origin = sources.origin(key)
            by = origin if origin == "environment" or sources.file is None else owner
            why = f"{sources.file or origin}" + (", found when a worker started" if starting else " was changed")
            if key in overrides:
                why += f"; {BENEATH}"
            changes += await _record(connection, account, {key: (old, new)}, by, why)
        return changes


def require_setting(key: str) -> None:
    """Raises UserError(NOT_A_KEY) for a key that is neither a setting nor a section."""
    parts = key.split(".")
    found = find(Settings, parts)
    table = found.owner is not None and parts[-1] in found.owner.model_fields
    if found.field is None and found.section is None and not table:
        raise UserError("NOT_A_KEY", f"There is no setting {shown_key(parts)}; `bottrader config show` lists them all.")


def _require_live(key: str) -> None:
    found = find(Settings, key.split("."))
    if found.field is None and found.section is None:
        return  # not a setting: the check of the whole says so, and what may have been meant
    if found.section is not None:
        names = ", ".join(f"{key}.{name}" for name in list(found.section.model_fields)[:3])
        raise UserError("NOT_A_KEY", f"{key} is a section of settings: name one of its keys, such as {names}.")
    if found.field is not None and holds_secret(found.field.annotation):
        raise UserError("NOT_LIVE", f"{key} is a secret: set it in the environment or in a file.")
    if not found.live:
        raise UserError(
            "NOT_LIVE",
            f"{key} can't be changed while workers run: set it in the settings file or the environment and restart "
            "the workers.",
        )


def _edited(settings: Settings, key: str, values: Sequence[str], edit: Edit) -> Any:
    held = _value(settings, key)
    if edit != "set":
        if not isinstance(held, list):
            shown = shown_key(key.split("."))
            raise UserError("NOT_A_LIST", f"{shown} is not a list: use `bottrader config set {shown} VALUE`.")
        items = [item.strip() for value in values for item in value.split(",") if item.strip()]
        known = {str(item).casefold() for item in held}
        if edit == "add":
            return [*held, *(item for item in dict.fromkeys(items) if item.casefold() not in known)]
        absent = [item for item in items if item.casefold() not in known]
        if absent:
            which = "has no such item" if len(items) == 1 else f"has not {len(absent)} of these {len(items)} items"
            raise UserError("NOT_IN_LIST", f"{key} {which}: `bottrader config show {key}` lists its items.")
        gone = {item.casefold() for item in items}
        return [item for item in held if str(item).casefold() not in gone]
    text = ",".join(value.strip() for value in values)
    if text[:1] in {"[", "{", '"', "'"}:
        try:
            return tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
        except tomllib.TOMLDecodeError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(held, list) else text


def _value(settings: BaseModel, key: str) -> Any:
    """A key's value in its stored form; None if there is no such key."""
    return next((as_json(leaf.value) for leaf in leaves(settings) if leaf.key == key), None)


def _other_sizes(key: str) -> tuple[str, ...]:
    """The keys of a trigger's other kinds of size, which this size replaces; empty if it is none."""
    above, _, last = key.rpartition(".")
    if not above.startswith("triggers.") or last not in SIZES:
        return ()
    return tuple(f"{above}.{size}" for size in SIZES if size != last)


def _differences(before: BaseModel, after: BaseModel) -> dict[str, tuple[Any, Any]]:
    old, new = live_values(before), live_values(after)
    keys = [*new, *(key for key in old if key not in new)]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


async def _record(
    connection: Connection, account: str, differences: Mapping[str, tuple[Any, Any]], by: str, why: str
) -> list[Change]:
    changes = []
    for key, (old, new) in differences.items():
        row = await connection.fetchrow(
            "INSERT INTO setting_changes (account, key, old, new, changed_by, why) VALUES ($1, $2, $3, $4, $5, $6) "
            "RETURNING *",
            account,
            key,
            old,
            new,
            by,
            why,
        )
        changes.append(_change(row))
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, account)
    return changes


def _change(row: Any) -> Change:
    return Change(row["key"], row["old"], row["new"], row["changed_by"], row["why"], row["at"].astimezone(UTC))


async def _lock(connection: Connection, account: str) -> None:
    """Serialise changes of one account's settings until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, account)
