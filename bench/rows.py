"""A measurement as a row of the table, and the table.

A row has what was measured, its median and 99th percentile (of few samples: nearly the slowest), the floor's median in
the same run, the ratio of the two, and whether the aim is met.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

__all__ = ["Row", "percentile", "print_rows", "reaction"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `ok` is None without an aim."""

    what: str
    unit: str
    p50: float
    p99: float | None = None
    floor: float | None = None
    ratio: float | None = None
    aim: str = ""
    ok: bool | None = None
    note: str = ""


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all samples do not exceed. Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def reaction(what: str, samples: Sequence[float], floors: Sequence[float], aim: float, note: str = "") -> Row:
    """A row of times (seconds given, milliseconds shown) whose median may be at most `aim` times the floor's."""
    ours, floor = statistics.median(samples), statistics.median(floors)
    ratio = ours / floor
    return Row(
        what=what,
        unit="ms",
        p50=ours * 1e3,
        p99=percentile(samples, 99) * 1e3,
        floor=floor * 1e3,
        ratio=ratio,
        aim=f"<= {aim:g} x",
        ok=ratio <= aim,
        note=note or f"{len(samples)} samples",
    )


def print_rows(rows: Sequence[Row], footer: str) -> None:
    """The table for people, on standard output."""
    table = Table(header_style="bold")
    table.add_column("what", overflow="fold")
    for name in ("p50", "p99", "unit", "floor p50", "ratio", "aim", ""):
        table.add_column(name, justify="left" if name in ("unit", "aim", "") else "right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for row in rows:
        verdict = {True: "ok", False: "over", None: ""}[row.ok]
        numbers = (_shown(row.p50), _shown(row.p99), row.unit, _shown(row.floor), _shown(row.ratio))
        table.add_row(row.what, *numbers, row.aim, verdict, row.note)
    console = Console()
    # Rows are not wrapped even if the output is not a terminal, such as a log.
    (console if console.is_terminal else Console(width=190)).print(table)
    console.print(footer, highlight=False)


def _shown(value: float | None) -> str:
    """Three significant figures, thousands separated."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
