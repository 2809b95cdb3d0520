"""Common parts of every command: tables for people, `--json` for programs, errors in one sentence, exit codes.

Answers go to stdout; progress, notes and errors go to stderr, so that `bottrader … --json | jq` always works.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from cli.tables import print_table
from workers.errors import ExitCode, UnreachableError, UserError

__all__ = [
    "ExitCode",
    "UnreachableError",
    "UserError",
    "emit",
    "note",
    "print_error",
    "print_json",
    "print_table",
    "tell",
    "wants_json",
    "working",
]


def print_json(value: object, *, indent: bool = True) -> None:
    """One JSON document on stdout. Decimals are strings (exact), times ISO 8601 in UTC."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    sys.stdout.write(orjson.dumps(value, default=_as_json, option=options).decode() + "\n")
    sys.stdout.flush()


def emit(
    rows: Sequence[Mapping[str, object]], *, as_json: bool, title: str | None = None, empty: str = "Nothing to show."
) -> None:
    """Rows with the same keys, as a JSON list or as a table whose headings are the keys."""
    if as_json:
        print_json(list(rows))
        return
    columns = list(rows[0]) if rows else []
    print_table(columns, ([row[name] for name in columns] for row in rows), title=title, empty=empty)


def note(line: str) -> None:
    """Lines on stderr: what is going on. A terminal gets them broken between words, but for an indented one, which may
    be a command to copy.
    """
    whole = not sys.stderr.isatty()
    lines = [part if whole or part.startswith("  ") else _wrapped(part) for part in line.split("\n")]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def tell(text: str) -> None:
    """Sentences on stdout; a terminal gets them broken between words, below their own indentation."""
    whole = not sys.stdout.isatty()
    lines = [line if whole else _wrapped(line) for line in text.split("\n")]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr what takes time: a spinner on a terminal, one line otherwise."""
    if not sys.stderr.isatty():
        note(f"{what} …")
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …"):
        yield


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the command line has --json, so that errors are JSON too."""
    return "--json" in argv


def print_error(error: UserError, *, as_json: bool) -> None:
    """The error on stderr: the sentence, or with `--json` an object with code and message."""
    if as_json:
        import orjson

        note(orjson.dumps({"error": {"code": error.code, "message": error.sentence}}).decode())
    else:
        note("\n".join(f"error: {line}" for line in error.sentence.splitlines()))


def _wrapped(line: str) -> str:
    """Broken between words at the terminal's width; further lines are indented below the first."""
    import shutil
    import textwrap

    width = max(40, shutil.get_terminal_size().columns)
    further = line[: len(line) - len(line.lstrip())] + "  "
    return textwrap.fill(line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def _as_json(value: object) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")
