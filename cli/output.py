"""What every command has in common: tables for people, `--json` for programs, errors in a sentence, exit codes.

Answers go to stdout; progress, notes and errors go to stderr, so that `bottrader … --json | jq` always works.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from domain.text import shown
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
    "wants_json",
    "working",
]

_WIDE = 120
_NEVER_BROKEN = frozenset({"key", "symbol", "side", "state", "size", "filled", "entry", "reason", "P&L", "setting"})


def print_json(value: object, *, indent: bool = True) -> None:
    """One JSON document on stdout. Decimals are strings (exact), times ISO 8601 in UTC."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    sys.stdout.write(orjson.dumps(value, default=_as_json, option=options).decode() + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    empty: str = "Nothing to show.",
    narrow_without: Collection[str] = (),
) -> None:
    """A table on stdout; numbers are right-aligned. Without rows, the sentence `empty`.

      On a terminal of less than 120 columns the columns `narrow_without` and the rules between columns are left out;
    names of rows, sizes and results are never broken. A pipe gets everything.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    console = Console(soft_wrap=False)
    if not listed:
        console.print(empty, markup=False)
        return
    narrow = console.is_terminal and console.width < _WIDE
    table = Table(title=title, title_justify="left", header_style="bold")
    if narrow:
        table.box, table.padding, table.show_edge = box.SIMPLE_HEAD, 0, False
    kept = [position for position, column in enumerate(columns) if not (narrow and column in narrow_without)]
    for position in kept:
        column = columns[position]
        values = [row[position] for row in listed if row[position] is not None]
        numeric = bool(values) and all(isinstance(value, int | float | Decimal) for value in values)
        table.add_column(
            column, justify="right" if numeric else "left", overflow="fold", no_wrap=column in _NEVER_BROKEN
        )
    for row in listed:
        table.add_row(*(Text(shown(row[position])) for position in kept))
    if not console.is_terminal:
        # A pipe has no width: lines are as long as they need to be.
        console = Console(width=max(80, Console(width=10_000).measure(table).maximum))
    console.print(table)


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
    """A line on stderr: what is going on."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on stderr what takes its time: a spinner on a terminal, one line otherwise."""
    if not sys.stderr.isatty():
        note(f"{what} …")
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …"):
        yield


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, so that errors are JSON, too."""
    return "--json" in argv


def print_error(error: UserError, *, as_json: bool) -> None:
    """The error on stderr: the sentence, or with `--json` an object with code and message."""
    if as_json:
        import orjson

        note(orjson.dumps({"error": {"code": error.code, "message": error.sentence}}).decode())
    else:
        note("\n".join(_wrapped(f"error: {line}") for line in error.sentence.splitlines()))


def _wrapped(line: str) -> str:
    """Broken between words on a terminal; a pipe gets the line whole."""
    import shutil
    import textwrap

    if not sys.stderr.isatty():
        return line
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


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
