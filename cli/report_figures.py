"""Figures of reports: formatted for people, and rounded for programs (JSON and CSV)."""

import csv
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cli.output import print_json

if TYPE_CHECKING:
    from domain.statistics import Interval

__all__ = [
    "bare_percent",
    "duration",
    "figure",
    "flat",
    "milliseconds",
    "money_in",
    "percent_range",
    "print_figures",
    "ratio_range",
    "write_csv",
]

_FINEST = Decimal("1e-18")


def write_csv(rows: Any) -> None:
    """Rows with the same keys as CSV on stdout."""
    listed = list(rows)
    if not listed:
        return
    writer = csv.DictWriter(sys.stdout, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in listed)


def print_figures(value: object) -> None:
    """One JSON document on stdout, with figures rounded for programs."""
    print_json(_figures(value))


def _figures(value: Any) -> Any:
    """A value with its figures rounded for programs."""
    from domain.money import plain, round_half_even

    if isinstance(value, Decimal):
        return plain(round_half_even(value, _FINEST))
    if isinstance(value, float):
        # Adding nothing makes a zero of a zero below zero.
        return round(float(f"{value:.12g}"), 10) + 0.0
    if is_dataclass(value) and not isinstance(value, type):
        return _figures(asdict(value))
    if isinstance(value, Mapping):
        return {name: _figures(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_figures(part) for part in value]
    return value


def _cell(value: Any) -> Any:
    """The same for a cell of a CSV file: no exponents, and no text that a spreadsheet would read as a formula."""
    from domain.money import plain
    from domain.text import spreadsheet_text

    if isinstance(value, str):
        return spreadsheet_text(value)
    figure = _figures(value)
    return plain(Decimal(str(figure))) if isinstance(figure, float) else figure


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parts as columns: an interval is its value, then `_low` and `_high`."""
    found: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, Mapping) and set(part) == {"value", "low", "high"}:
            found |= {f"{prefix}{name}": part["value"], f"{prefix}{name}_low": part["low"]}
            found[f"{prefix}{name}_high"] = part["high"]
        elif name in ("won", "lost") and prefix == "":
            steps = ("trades", "configured", "exit_path", "distance", "slippage", "fees", "achieved")
            found |= {f"{name}_{step}": None if part is None else part[step] for step in steps}
        else:
            found[f"{prefix}{name}"] = part
    return found


def percent_range(found: "Interval", places: int) -> str:
    """A fraction in percent, with its interval."""
    if found.value is None:
        return "–"
    around = (
        ""
        if found.low is None or found.high is None
        else f" ({found.low * 100:.{places}f} to {found.high * 100:.{places}f})"
    )
    return f"{found.value * 100:.{places}f} %{around}"


def bare_percent(found: "Interval") -> str:
    """A fraction in percent, without its interval."""
    return "–" if found.value is None else f"{found.value * 100:.3f} %"


def ratio_range(found: "Interval") -> str:
    """A ratio, with its interval."""
    if found.value is None:
        return "–"
    around = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{around}"


def figure(value: float | None) -> str:
    """A figure to two places; a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def money_in(value: Any, currency: str = "") -> str:
    """An amount formatted for its currency; a dash for none."""
    from domain.money import amount

    return "–" if value is None else amount(value, currency)


def milliseconds(value: float | None) -> str:
    """Whole milliseconds; nothing for none."""
    return "" if value is None else f"{value:,.0f} ms"


def duration(value: float | None) -> str:
    """Seconds in the largest suitable unit; a dash for none."""
    if value is None:
        return "–"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s"
