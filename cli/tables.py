"""Tables that fit the terminal: what doesn't fit is left out or shown line by line, and no number is ever folded.

From the widest form to the narrowest: with rules between the columns; without them; without the columns that a command
can do without, one after the other; with sentences broken between any two words; each row as lines `heading  value`.
"""

import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from domain.text import shown

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_table"]

_SENTENCE = 34
"""Characters: what is longer is a sentence, and may be broken between words before a column is left out for it."""
_NEVER_BROKEN = frozenset({"key", "symbol", "side", "state", "size", "filled", "entry", "reason", "P&L", "setting"})
_RULED, _PLAIN = 3, 2
"""Characters that a column takes beside its own width: with a rule between columns, and without."""


@dataclass(slots=True)
class _Column:
    """A column as it is written. Widths in characters."""

    name: str
    cells: list[str]
    numeric: bool

    @property
    def natural(self) -> int:
        """Nothing is broken."""
        return self._widest((self.name, *self.cells))

    @property
    def tight(self) -> int:
        """No word is broken, so that no number is."""
        heading = max((_wide(word) for word in self.name.split()), default=0)
        if self.name in _NEVER_BROKEN or self.numeric:
            return max(heading, self._widest(self.cells))
        return max(heading, self._widest(word for text in self.cells for word in text.split()))

    @property
    def easy(self) -> int:
        """Only headings and sentences are broken."""
        return max(self.tight, min(self._widest(self.cells), _SENTENCE))

    @staticmethod
    def _widest(texts: Iterable[str]) -> int:
        return max((_wide(line) for text in texts for line in text.splitlines()), default=0)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    empty: str = "Nothing to show.",
    narrow_without: Sequence[str] = (),
) -> None:
    """A table on stdout; numbers are right-aligned. Without rows, the sentence `empty`.

    A terminal that is too narrow goes without the columns `narrow_without`, the first of them first, as far as it has
    to, and no terminal shows one of them that is empty. A pipe has no width: it gets everything, in lines as long as
    they need to be.
    """
    from rich.console import Console
    from rich.text import Text

    listed = [list(row) for row in rows]
    console = Console(soft_wrap=False)
    if not listed:
        console.print(empty, markup=False)
        return
    if title is not None:
        if console.is_terminal:
            console.print()
        console.print(Text(title, style="table.title"), soft_wrap=not console.is_terminal)
    found = [_column(name, [row[position] for row in listed]) for position, name in enumerate(columns)]
    if not console.is_terminal:
        widths = [column.natural for column in found]
        console = Console(width=max(80, sum(widths) + _RULED * len(widths) + 1))
        console.print(_table(found, widths, ruled=True))
        return
    found = [column for column in found if column.name not in narrow_without or any(column.cells)]
    for kept, ruled, least in _forms(found, narrow_without):
        room = console.width - (_RULED * len(kept) + 1 if ruled else _PLAIN * (len(kept) - 1))
        if sum(least) <= room:
            console.print(_table(kept, _widths(kept, least, room), ruled=ruled))
            return
    _print_rows(found, console.width)


def _wide(text: str) -> int:
    """Characters that it takes on a terminal."""
    from rich.cells import cell_len

    return cell_len(text)


def _column(name: str, values: Sequence[object]) -> _Column:
    known = [value for value in values if value is not None]
    numeric = bool(known) and all(isinstance(value, int | float | Decimal) for value in known)
    return _Column(name, [shown(value) for value in values], numeric)


def _forms(found: list[_Column], narrow_without: Sequence[str]) -> "Iterable[tuple[list[_Column], bool, list[int]]]":
    """Every form that may fit, the best first: its columns, whether it has rules, the least width of each column."""
    yield found, True, [column.easy for column in found]
    kept = found
    yield kept, False, [column.easy for column in kept]
    for name in narrow_without:
        kept = [column for column in kept if column.name != name]
        yield kept, False, [column.easy for column in kept]
    yield kept, False, [column.tight for column in kept]


def _widths(columns: list[_Column], least: list[int], room: int) -> list[int]:
    """The least widths, and what room is left shared among the columns that would be wider, by how much they would."""
    wanted = [column.natural - width for column, width in zip(columns, least, strict=True)]
    share = min(1.0, (room - sum(least)) / (sum(wanted) or 1))
    return [width + int(more * share) for width, more in zip(least, wanted, strict=True)]


def _table(columns: list[_Column], widths: list[int], *, ruled: bool) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = any(column.name for column in columns)
    table = Table(header_style="bold", show_header=named)
    if not ruled:
        table.box, table.padding, table.pad_edge, table.show_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False, False
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column.name, justify="right" if column.numeric else "left", overflow="fold", width=width)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _print_rows(columns: list[_Column], width: int) -> None:
    """Each row as lines: a heading and its value. A table of two columns is that already."""
    pairs = len(columns) == 2
    for number, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        lines = [cells] if pairs else [(column.name, cell) for column, cell in zip(columns, cells, strict=True) if cell]
        if number and not pairs:
            sys.stdout.write("\n")
        margin = columns[0].natural if pairs else max(_wide(column.name) for column in columns)
        for heading, value in lines:
            sys.stdout.write(_line(heading, value, margin + _PLAIN, width) + "\n")


def _line(heading: str, value: str, margin: int, width: int) -> str:
    """A sentence is broken between words. An address is left to the terminal, so that it is copied whole."""
    head = heading + " " * (margin - _wide(heading))
    parts = textwrap.wrap(value, max(20, width - margin), break_long_words=False, break_on_hyphens=False) or [""]
    return head + f"\n{' ' * margin}".join(parts)
