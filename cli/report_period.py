"""The period of a report, and reading it; the options that all reports share."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import UserError

if TYPE_CHECKING:
    from research.trades import TradeTable

__all__ = ["CsvOption", "JsonOption", "Since", "Until", "closed_trades", "moment", "read_period"]

_AGE = re.compile(r"(\d+)\s*(d|h|min|m)")
_UNITS = {"d": 86_400, "h": 3_600, "min": 60, "m": 60}

Reader = Callable[[Any, str, datetime | None, datetime | None], Any]


def _one_form(context: typer.Context, given: bool) -> bool:
    """Refuses --json together with --csv. Raises UserError(BAD_OPTION)."""
    if given and (context.params.get("as_json") or context.params.get("as_csv")):
        raise UserError("BAD_OPTION", "Give --json or --csv, not both.")
    return given


JsonOption = Annotated[bool, typer.Option("--json", callback=_one_form, help="Print JSON, for programs.")]
CsvOption = Annotated[bool, typer.Option("--csv", callback=_one_form, help="Print CSV, with every figure.")]
Since = Annotated[str | None, typer.Option("--since", help="Start: a day, time or age (2026-03-01, 7d, 12h).")]
Until = Annotated[str | None, typer.Option("--until", help="End: before this day, time or age.")]


def moment(text: str | None, now: datetime) -> datetime | None:
    """A day, a time with zone or an age as a time in UTC. Raises UserError(BAD_TIME)."""
    if text is None:
        return None
    text = text.strip()
    try:
        if age := _AGE.fullmatch(text):
            return now - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
        found = datetime.fromisoformat(text)
        if found.tzinfo is None and len(text) > 10:
            raise UserError("BAD_TIME", f"{text!r} has no zone: add Z for UTC, or an offset like +01:00.")
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UserError(
            "BAD_TIME", f"{text!r} is not a time: give a day like 2026-03-01, a time with a zone, or an age like 7d."
        ) from None


def read_period(reader: Reader, since: str | None, until: str | None) -> Any:
    """The result of `reader` for the given period. Raises UserError(BAD_TIME) and the database's errors."""
    import asyncio

    from cli.ledger import open_ledger
    from cli.settings import current_settings

    now = datetime.now(UTC)
    start, end = moment(since, now), moment(until, now)
    if start is not None and end is not None and start >= end:
        raise UserError("BAD_TIME", "--since must be before --until.")
    settings = current_settings()

    async def read() -> Any:
        async with open_ledger(settings) as ledger:
            return await reader(ledger, settings.account, start, end)

    return asyncio.run(read())


def closed_trades(
    since: str | None, until: str | None, *, indicators: bool = False, sell_scores: bool = False
) -> "TradeTable":
    """The trades that closed in the period, as `read_trades` returns them; raises as `read_period` does."""
    from functools import partial

    from research.trades import read_trades

    table: TradeTable = read_period(partial(read_trades, indicators=indicators, sell_scores=sell_scores), since, until)
    return table
