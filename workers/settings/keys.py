"""Settings by name: `exits.hard_stop_pct`, `triggers.roc_momo.size_quote`; the value of each, and when a change
applies.

A key is live when a section above it or its own field is marked LIVE and nothing nearer is marked AT_START.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from workers.settings.types import AT_START, LIVE

__all__ = [
    "Found",
    "Leaf",
    "applies_live",
    "as_json",
    "constraints",
    "find",
    "holds_secret",
    "leaves",
    "live_values",
    "secrets_in",
]


_LOGIN = re.compile(r"(?:[^:/@\s]*://)?(?P<login>[^/@\s]+)@")
"""The part of an address before the @."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting with its value."""

    key: str
    value: Any
    field: FieldInfo
    live: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The place of a key: its section (None: none) and its field (None: the section has no such key).

    `section` is the model that the key itself stands for, if it stands for one.
    """

    owner: type[BaseModel] | None
    field: FieldInfo | None
    live: bool
    section: type[BaseModel] | None = None


def leaves(section: BaseModel, prefix: str = "", *, live: bool = False) -> Iterator[Leaf]:
    """Every setting in and below `section`, in the order of the model; an unset key of a list by name is left out."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        yield from _below(f"{prefix}{name}", value, field, applies_live(field, above=live))


def _below(key: str, value: Any, field: FieldInfo, live: bool) -> Iterator[Leaf]:
    if isinstance(value, BaseModel):
        yield from leaves(value, f"{key}.", live=live)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _below(f"{key}.{name}", item, field, live)
    else:
        yield Leaf(key, value, field, live)


def live_values(settings: BaseModel) -> dict[str, Any]:
    """Dynamic settings that have a value, in the form in which changes are stored."""
    return {leaf.key: as_json(leaf.value) for leaf in leaves(settings) if leaf.live and leaf.value is not None}


def find(settings: type[BaseModel], location: Sequence[str]) -> Found:
    """The place of a key; names of a table by name (triggers) may be any."""
    model: type[BaseModel] | None = settings
    field: FieldInfo | None = None
    live, parts = False, list(location)
    while parts:
        part = parts.pop(0)
        if model is None:
            # Within a value: an item of a list.
            return Found(None, field, live)
        owner, field = model, model.model_fields.get(part)
        if field is None:
            return Found(owner, None, live)
        live = applies_live(field, above=live)
        annotation: Any = field.annotation
        if get_origin(annotation) in {dict, Mapping}:
            annotation = get_args(annotation)[1]
            named = bool(parts)
            if named:
                parts.pop(0)
            model = _model(annotation)
            if not parts:
                # The table itself, or one entry of it: a section unless its entries are plain values.
                whole = model is not None or not named
                return Found(owner, None if whole else field, live, model if named else None)
            continue
        model = _model(annotation)
        if not parts:
            return Found(owner, field, live, model)
    return Found(model, None, live)


def as_json(value: Any) -> Any:
    """A value as it is stored and shown: numbers exact and without exponents, secrets as ***."""
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, BaseModel):
        return {name: as_json(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [as_json(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def constraints(field: FieldInfo) -> list[object]:
    """What is noted beside a field's type: bounds, unit, when it applies."""
    found: list[object] = []
    for item in field.metadata:
        found.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    if get_origin(field.annotation) is Union or type(field.annotation).__name__ == "UnionType":
        # `Percent | None` keeps what is noted of Percent inside.
        for part in get_args(field.annotation):
            for item in getattr(part, "__metadata__", ()):
                found.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return found


def holds_secret(annotation: object) -> bool:
    """Whether values of this type are secrets."""
    return annotation is SecretStr or any(holds_secret(part) for part in get_args(annotation))


def secrets_in(settings: BaseModel) -> Iterator[str]:
    """Values that must not appear in any output: secrets, and logins in addresses.

    Text that is not an address and can't contain a secret is not searched.
    """
    for leaf in leaves(settings):
        secret = holds_secret(leaf.field.annotation)
        for value in leaf.value if isinstance(leaf.value, tuple) else (leaf.value,):
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if not isinstance(text, str):
                continue
            if secret:
                yield text
            if (login := _LOGIN.match(text)) is not None:
                yield login["login"]
                yield from login["login"].split(":", 1)[1:]


def applies_live(field: FieldInfo, *, above: bool) -> bool:
    """Whether a change of this field applies while workers run, in a section that is dynamic or not (`above`)."""
    noted = field.metadata
    if AT_START in noted or holds_secret(field.annotation):
        return False
    return above or LIVE in noted


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
