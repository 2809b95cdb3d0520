"""What is wrong with a configuration, in sentences: the key as the user wrote it, the value, and what is allowed."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from workers.errors import UserError

ENV_PREFIX = "BOTTRADER_"
ENV_DELIMITER = "__"
# Names that start like settings and are none: where files are, not what is traded.
_OTHER_NAMES = frozenset({"BOTTRADER_CONFIG", "BOTTRADER_CACHE", "BOTTRADER_CRASH_AT", "BOTTRADER_DATA"})
_OWN_NAMES: Mapping[tuple[str, ...], str] = {
    ("database", "url"): "DATABASE_URL",
    ("temporal", "address"): "TEMPORAL_ADDRESS",
}

_SECRET_NAME = re.compile("key|secret|pass|token|url", re.IGNORECASE)

_OPERATORS = (
    (annotated_types.Gt, "gt", "above"),
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Lt, "lt", "below"),
    (annotated_types.Le, "le", "at most"),
)


class ConfigError(UserError):
    """The configuration can't be used; `problems` has one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("BAD_CONFIG", "\n".join(self.problems))


def read_toml(file: Path) -> dict[str, Any]:
    """The file as a tree. Raises ConfigError when it is not there, can't be read or is not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            [f"{file}: there is no such file; `bottrader config init` writes one with every setting explained."]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read ({error})."]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file}: this is not valid TOML: {error}."]) from None


def unknown_environment(settings: type[BaseModel], environ: Mapping[str, str]) -> list[str]:
    """Sentences for BOTTRADER_ variables that no setting answers to; what is nested is checked with the values."""
    problems = []
    for name in environ:
        if not name.startswith(ENV_PREFIX) or name in _OTHER_NAMES:
            continue
        top = name.removeprefix(ENV_PREFIX).split(ENV_DELIMITER)[0].lower()
        if top not in settings.model_fields:
            near = _near(name, [ENV_PREFIX + field.upper() for field in settings.model_fields] + sorted(_OTHER_NAMES))
            problems.append(_sentence(f"{name} (environment) is not a setting{near}"))
    return problems


def describe(
    error: ValidationError, settings: type[BaseModel], environment: Mapping[str, Any], file: Path | None
) -> list[str]:
    """One sentence for each of pydantic's findings."""
    sentences = []
    for finding in error.errors():
        location = tuple(str(part) for part in finding["loc"])
        where = _where(location, environment, file)
        owner, field = _resolve(settings, location)
        message = _plain(str(finding["msg"]))
        if finding["type"] == "extra_forbidden":
            names = list(owner.model_fields) if owner is not None else []
            near = _near(location[-1], names) or f"; allowed here: {', '.join(names)}"
            hidden = isinstance(finding["input"], dict) or _SECRET_NAME.search(location[-1])
            value = "" if hidden else f" (= {finding['input']!r})"
            sentences.append(_sentence(f"{where}{value} is not a setting{near}"))
        elif finding["type"] in {"model_type", "model_attributes_type", "dict_type"}:
            sentences.append(f"{where} must be a section with keys, not {finding['input']!r}.")
        elif finding["type"] == "missing":
            sentences.append(f"{where} is missing{allowed(field)}.")
        elif field is None or isinstance(finding["input"], dict | BaseModel):
            sentences.append(f"{where}: {message}." if location else f"{message}.")
        else:
            sentences.append(f"{where} = {_shown(finding['input'], field)}: {message}{allowed(field)}.")
    return sentences


def _plain(message: str) -> str:
    """Pydantic's message in the words of this module."""
    if message.startswith("String should match pattern"):
        return "is not written as it must be"
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return message.replace("a valid decimal", "a number").replace("greater than or equal to", "at least")


def _where(location: tuple[str, ...], environment: Mapping[str, Any], file: Path | None) -> str:
    node: Any = environment
    for part in location:
        node = node.get(part) if isinstance(node, Mapping) else None
    if location and node is not None:
        usual = _OWN_NAMES.get(location[:2])
        name = usual or ENV_PREFIX + ENV_DELIMITER.join(location).upper()
        return f"{name} (environment)"
    dotted = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(location))
    return f"{file}: {dotted}" if file is not None else dotted


def _resolve(settings: type[BaseModel], location: tuple[str, ...]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The section that the last part of `location` is written in, and its field if there is one."""
    model: type[BaseModel] | None = settings
    field: FieldInfo | None = None
    parts = list(location)
    while parts:
        part = parts.pop(0)
        if model is None:
            return None, field
        owner, field = model, model.model_fields.get(part)
        if field is None:
            return owner, None
        annotation = field.annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            if parts:
                parts.pop(0)
                field = None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
        if not parts:
            return owner, field
    return model, None


def allowed(field: FieldInfo | None) -> str:
    """What a setting may be and what it means, in brackets; empty when nothing is known."""
    if field is None:
        return ""
    bounds = [
        f"{word} {getattr(constraint, attribute)}"
        for constraint in _constraints(field)
        for kind, attribute, word in _OPERATORS
        if isinstance(constraint, kind)
    ]
    parts = [part for part in (" and ".join(bounds), field.description) if part]
    return f" (allowed: {'; '.join(parts)})" if bounds else f" ({field.description})" if field.description else ""


def _constraints(field: FieldInfo) -> list[object]:
    found: list[object] = []
    for item in field.metadata:
        found.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return found


def _shown(value: object, field: FieldInfo) -> str:
    return "***" if _holds_secret(field.annotation) else repr(value)


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _near(name: str, names: Iterable[str]) -> str:
    listed = list(names)
    begun = [known for known in listed if known.startswith(name)]
    close = begun[:1] or difflib.get_close_matches(name, listed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
