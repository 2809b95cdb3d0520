"""The text of a settings file with every setting explained: meaning, unit, allowed values, and default."""

import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

__all__ = ["sample", "toml_value"]

_WIDTH = 110


def sample() -> str:
    """The text of a settings file with all defaults commented out; it is valid as it is."""
    from workers.settings import Settings

    lines = [
        "# BotTrader's settings. Each line shows a key with its default; remove the # to change it.",
        "# Percentages are percent (2.5 is 2.5 %), losses are positive; durations are seconds of the market, which",
        "# are wall seconds divided by `speed`, unless they say wall seconds.",
        "# The environment (BOTTRADER_EXITS__HARD_STOP_PCT=4) overrides this file; `bottrader config set`, both.",
        '# A section marked "dynamic" applies within seconds of saving the file; the others from the next start.',
        "",
    ]
    lines += _section(Settings(), "", live=False)
    return "\n".join(lines).rstrip("\n") + "\n"


def toml_value(value: object) -> str:
    """A value as a settings file has it."""
    from workers.settings.keys import as_json

    plain = as_json(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, list):
        return "[" + ", ".join(toml_value(item) for item in plain) + "]"
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{name} = {toml_value(item)}" for name, item in plain.items()) + "}"
    if isinstance(plain, str) and not hasattr(value, "as_tuple"):
        return json.dumps(plain, ensure_ascii=False)
    return str(plain)


def _section(section: "BaseModel", name: str, *, live: bool) -> Iterator[str]:
    """Its own keys first, because keys after a heading belong to that heading."""
    from pydantic import BaseModel

    from workers.settings.keys import applies_live

    below: list[tuple[str, Any, FieldInfo, bool]] = []
    for key, field in type(section).model_fields.items():
        value, applies = getattr(section, key), applies_live(field, above=live)
        if isinstance(value, BaseModel | dict):
            below.append((f"{name}.{key}" if name else key, value, field, applies))
            continue
        yield from _explained(field, live=live and not applies)
        yield f"#{key} = {toml_value(value)}" if value is not None else f"#{key} ="
    yield ""
    for full, value, field, applies in below:
        if isinstance(value, BaseModel):
            yield from _heading(type(value), applies and not live)
            yield f"[{full}]"
            yield from _section(value, full, live=applies)
        else:
            yield from _table(full, value, field, applies)


def _table(name: str, entries: dict[str, Any], field: "FieldInfo", live: bool) -> Iterator[str]:
    """A table with user-defined names: sections by name, or plain values."""
    from pydantic import BaseModel

    kind = get_args(field.annotation)[1]
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        yield from _explained(field, live=False)
        yield f"[{name}]"
        yield from (f"#{_name(key)} = {toml_value(value)}" for key, value in entries.items())
        yield ""
        return
    yield from _comment(field.description or "")
    yield from _heading(kind, live)
    yield f"# One section each, [{name}.<name>]: it adds an entry, or changes keys of an existing one."
    yield from _keys_of(kind, "")
    yield "#"
    for entry, value in entries.items():
        yield from _entry(f"{name}.{_name(entry)}", value)
        yield ""
    if not entries:
        yield ""


def _keys_of(kind: type["BaseModel"], prefix: str) -> Iterator[str]:
    from pydantic import BaseModel

    for key, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _comment(f"[….{prefix}{key}] {_doc(inner)}", "#   ")
            yield from _keys_of(inner, f"{prefix}{key}.")
            continue
        given = field.get_default(call_default_factory=True, validated_data={})
        default = f"; default {toml_value(given)}" if not field.is_required() and given is not None else ""
        yield from _comment(f"{prefix}{key}: {_explanation(field)}{default}", "#   ")


def _entry(name: str, entry: "BaseModel") -> Iterator[str]:
    """One entry with its defaults, all its keys commented out; unset keys are left out."""
    from pydantic import BaseModel

    yield f"#[{name}]"
    for key in type(entry).model_fields:
        value = getattr(entry, key)
        if value is not None and not isinstance(value, BaseModel):
            yield f"#{key} = {toml_value(value)}"
    for key, field in type(entry).model_fields.items():
        inner = getattr(entry, key)
        if isinstance(inner, BaseModel) and inner != field.default:
            yield from _entry(f"{name}.{key}", inner)


def _heading(kind: type["BaseModel"], live: bool) -> Iterator[str]:
    yield from _comment(_doc(kind) + (" (dynamic)" if live else ""))


def _doc(kind: type["BaseModel"]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _explained(field: "FieldInfo", *, live: bool) -> Iterator[str]:
    yield from _comment(_explanation(field) + ("; from the next start" if live else ""))


def _explanation(field: "FieldInfo") -> str:
    """Meaning and, in brackets, unit and allowed values, unless the meaning already gives the unit."""
    from workers.settings.problems import range_of, unit_of

    meaning, unit = field.description or "", unit_of(field)
    allowed = ", ".join(part for part in (unit if unit not in meaning else "", range_of(field)) if part)
    return f"{meaning} [{allowed}]" if allowed else meaning


def _comment(text: str, prefix: str = "# ") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix + ("  " if len(prefix) > 2 else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _name(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
