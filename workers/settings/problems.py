"""Problems of a configuration as sentences: the key as the user wrote it, and what is allowed.

Values and lines of the file are never shown, because text in the wrong place may be a secret (SAFE-5). A key is shown
if it has the form of a setting's name.
"""

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from workers.errors import UserError
from workers.private_files import settings_file_problem
from workers.settings.keys import constraints, find, leaves
from workers.settings.types import PaperOnly, Unit

__all__ = [
    "ENV_DELIMITER",
    "ENV_PREFIX",
    "ConfigError",
    "Problem",
    "allowed",
    "crash_points_are_for_tests",
    "describe",
    "environment_name",
    "is_plain_name",
    "paper_only_problems",
    "raise_all",
    "range_of",
    "read_toml",
    "shown_key",
    "shown_path",
    "unit_of",
    "unknown_environment",
]

ENV_PREFIX = "BOTTRADER_"
ENV_DELIMITER = "__"
_CRASH_AT = "BOTTRADER_CRASH_AT"
# Names that start like settings and are none: where files are, not what is traded.
_OTHER_NAMES = frozenset({"BOTTRADER_CONFIG", "BOTTRADER_CACHE", _CRASH_AT, "BOTTRADER_DATA"})
_OWN_NAMES: Mapping[tuple[str, ...], str] = {
    ("database", "url"): "DATABASE_URL",
    ("temporal", "address"): "TEMPORAL_ADDRESS",
}

_WORD = r"(?:[A-Z]?[a-z]{1,16}|[A-Z]{1,16})[0-9]{0,3}"
_PLAIN_NAME = re.compile(rf"(?=.{{1,40}}$){_WORD}(?:[_-]+{_WORD})*")
_DIGITS_OF_AN_INDEX = 4
_NOT_SHOWN = "(a name that is not shown)"

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOML_WORDS = (
    ("Expected", None),
    ("Unclosed", None),
    ("Unterminated", None),
    ("Unescaped", None),
    ("Invalid value", "invalid value: text stands in quotes"),
    ("Invalid", None),
    ("Escaped", None),
    ("Cannot declare", "a key or section occurs twice"),
    ("Cannot overwrite", "a key occurs twice"),
    ("Cannot redefine", "a key or section occurs twice"),
    ("Cannot mutate", "a closed section is extended"),
    ("Duplicate", "a key occurs twice"),
    ("Found invalid", "a character is not allowed there"),
    ("Illegal", "a character is not allowed there"),
)
"""Beginnings of tomllib's messages, with replacements for those that quote the file (None: they don't)."""

_OPERATORS = (
    (annotated_types.Gt, "gt", "above"),
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Lt, "lt", "below"),
    (annotated_types.Le, "le", "at most"),
)


class ConfigError(UserError):
    """The configuration is not valid; `problems` has one sentence for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("BAD_CONFIG", "\n".join(self.problems))


def read_toml(file: Path) -> dict[str, Any]:
    """The file as a tree, its numbers exact. Raises ConfigError if it doesn't exist, is not trusted, can't be read or
    is not TOML.
    """
    try:
        # Looked at before it is opened, too: another user's may be a pipe that nobody writes to.
        problem = settings_file_problem(file)
        text = ""
        if problem is None:
            with file.open(encoding="utf-8") as opened:
                problem = settings_file_problem(file, os.fstat(opened.fileno()))
                text = "" if problem else opened.read()
        if problem is not None:
            raise ConfigError([f"{shown_path(file)}: {problem}."])
        return tomllib.loads(text, parse_float=Decimal)
    except FileNotFoundError:
        advice = "`bottrader config init` writes one with every setting explained"
        raise ConfigError([f"{shown_path(file)}: there is no such file; {advice}."]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError([f"{shown_path(file)}: can't be read ({reason})."]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_not_toml(file, str(error))]) from None
    except ArithmeticError:
        raise ConfigError([f"{shown_path(file)}: it contains a number that can't be used."]) from None
    except RecursionError:
        raise ConfigError([f"{shown_path(file)}: this is not a settings file: it is nested too deeply."]) from None


def shown_path(file: Path) -> str:
    """A path relative to the current folder."""
    with contextlib.suppress(ValueError, OSError):
        return str(file.relative_to(Path.cwd()))
    return str(file)


def _not_toml(file: Path, message: str) -> str:
    place = _TOML_PLACE.search(message)
    what = message[: place.start()] if place else message
    begun = next(((begin, instead) for begin, instead in _TOML_WORDS if what.startswith(begin)), None)
    what = "it can't be read" if begun is None else begun[1] or f"{what[:1].lower()}{what[1:]}"
    if place is None or place[1] is None:
        return f"{shown_path(file)}: this is not valid TOML: {what} at the end of the file."
    return f"{shown_path(file)}, line {place[1]}, column {place[2]}: this is not valid TOML ({what})."


def shown_key(location: Iterable[str]) -> str:
    """A key with its sections, `risk.max_spread_pct`; parts that don't have the form of a setting's name are not
    shown."""
    parts = [part if part.isdecimal() and len(part) <= _DIGITS_OF_AN_INDEX else _shown_name(part) for part in location]
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).removeprefix(".")


def is_plain_name(text: str) -> bool:
    """Whether it has the form of a name or option, so that it is unlikely to be a secret."""
    return _PLAIN_NAME.fullmatch(text) is not None


def _shown_name(part: str) -> str:
    return part if is_plain_name(part) else _NOT_SHOWN


def unknown_environment(settings: type[BaseModel], environ: Mapping[str, str]) -> list[str]:
    """Sentences for BOTTRADER_ variables without a setting; nested ones are checked with the values."""
    problems = []
    for name in environ:
        if not name.startswith(ENV_PREFIX) or name in _OTHER_NAMES:
            continue
        top = name.removeprefix(ENV_PREFIX).split(ENV_DELIMITER)[0].lower()
        if top not in settings.model_fields:
            near = _near(name, [ENV_PREFIX + field.upper() for field in settings.model_fields] + sorted(_OTHER_NAMES))
            shown = ENV_PREFIX + _shown_name(name.removeprefix(ENV_PREFIX))
            problems.append(_sentence(f"{shown} (environment) is not a setting{near}"))
    return problems


def crash_points_are_for_tests(settings: Any, environ: Mapping[str, str]) -> list[str]:
    """A sentence if a test variable that kills workers is set with real money."""
    if settings.mode != "live" or not environ.get(_CRASH_AT):
        return []
    return [f"{_CRASH_AT} (environment) is for tests, it kills workers: it can't be used with mode = live."]


def environment_name(location: tuple[str, ...]) -> str:
    """The variable that sets a key."""
    shown = ENV_DELIMITER.join(map(_shown_name, location)).upper()
    return _OWN_NAMES.get(location[:2]) or ENV_PREFIX + shown


Problem = tuple[tuple[str, ...], object, str]
"""The place, its value, and the problem as a clause."""


def raise_all(problems: Iterable[Problem]) -> None:
    """Let pydantic report all of these, each at its own key; does nothing if there are none."""
    listed = [
        InitErrorDetails(
            type=PydanticCustomError("whole", "{clause}", {"clause": clause}),
            loc=where,
            input=value,
        )
        for where, value, clause in problems
    ]
    if listed:
        raise ValidationError.from_exception_data("Settings", listed)


def paper_only_problems(settings: BaseModel) -> Iterator[Problem]:
    """Settings that `mode = "live"` refuses: every field marked PaperOnly, in any section."""
    for leaf in leaves(settings):
        for noted in constraints(leaf.field):
            if not isinstance(noted, PaperOnly) or leaf.value == leaf.field.default:
                continue
            if noted.real is None or not noted.real(leaf.value):
                yield (
                    tuple(leaf.key.split(".")),
                    leaf.value,
                    f"can't be used with mode = live: {noted.why}; {noted.instead}",
                )


def describe(error: ValidationError, settings: type[BaseModel], where: Callable[[tuple[str, ...]], str]) -> list[str]:
    """One sentence for each of pydantic's errors. `where` returns a key as the user wrote it."""
    sentences = []
    for finding in error.errors(include_url=False, include_input=True):
        location = tuple(str(part) for part in finding["loc"] if part != "[key]")
        place = where(location)
        found = find(settings, location)
        message = _plain(str(finding["msg"]))
        if finding["type"] == "extra_forbidden":
            sentences.append(_sentence(f"{place} is not a setting{_instead(location, found.owner, settings)}"))
        elif finding["type"] in {"model_type", "model_attributes_type", "dict_type"}:
            sentences.append(f"{place} must be a section with keys.")
        elif finding["type"] == "missing":
            sentences.append(f"{place} is missing{allowed(found.field)}.")
        elif not location:
            sentences.append(f"{message}.")
        elif finding["type"] == "whole" and finding["input"] is None:
            sentences.append(f"{place} {message}{allowed(found.field)}.")
        else:
            whole = isinstance(finding["input"], dict | BaseModel)
            sentences.append(f"{place}: {message}{'' if whole else allowed(found.field)}.")
    return sentences


def _instead(location: tuple[str, ...], owner: type[BaseModel] | None, settings: type[BaseModel]) -> str:
    """What the user may have meant: a similar name in the section, its right section, or all allowed names."""
    names = list(owner.model_fields) if owner is not None else []
    for section, field in settings.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and location[-1] in inner.model_fields:
            return f"; did you mean {location[-1]} in [{section}]?"
    if near := _near(location[-1], names):
        return near
    return f"; allowed here: {', '.join(names)}" if names else ""


def _plain(message: str) -> str:
    """Pydantic's message in this module's wording."""
    if message.startswith("String should match pattern"):
        return "has the wrong format"
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    message = message.replace("String should have", "must have").replace("Decimal input should have", "must have")
    message = message.replace(", unable to parse string as a number", "").replace("a valid decimal", "a number")
    message = message.replace("a valid integer, unable to parse string as an integer", "a whole number")
    message = message.replace("a valid integer, got a number with a fractional part", "a whole number")
    message = message.replace("a valid boolean, unable to interpret input", "true or false")
    message = message.replace("a valid boolean", "true or false").replace("a valid integer", "a whole number")
    message = message.replace("a valid string", "text in quotes").replace("a valid tuple", "a list like ['BTC-USD']")
    return message.replace("greater than or equal to", "at least")


def allowed(field: FieldInfo | None) -> str:
    """A setting's allowed values and meaning, in brackets; empty if not known."""
    if field is None:
        return ""
    parts = [part for part in (_bounds(field), field.description) if part]
    return f" ({'allowed: ' if _bounds(field) else ''}{'; '.join(parts)})" if parts else ""


def range_of(field: FieldInfo) -> str:
    """A setting's allowed values, in words; empty if its type is the only limit."""
    if bounds := _bounds(field):
        return bounds
    options = [str(option) for option in _options(field.annotation)]
    if len(options) <= 1:
        return "".join(f"only {option}" for option in options)
    return f"{', '.join(options[:-1])} or {options[-1]}"


def unit_of(field: FieldInfo) -> str:
    """A setting's unit; empty if it has none, or if its description names it."""
    return next((noted.name for noted in constraints(field) if isinstance(noted, Unit)), "")


def _bounds(field: FieldInfo) -> str:
    words = [
        f"{word} {_number(getattr(constraint, attribute))}"
        for constraint in constraints(field)
        for kind, attribute, word in _OPERATORS
        if isinstance(constraint, kind)
    ]
    return " and ".join(words)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= 10**6 else str(value)


def _options(annotation: object) -> tuple[object, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if annotation is bool:
        return ("true", "false")
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return next((found for part in get_args(annotation) if (found := _options(part))), ())
    return ()


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _near(name: str, names: Iterable[str]) -> str:
    listed = list(names)
    begun = [known for known in listed if known.startswith(name)]
    close = begun[:1] or difflib.get_close_matches(name, listed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
