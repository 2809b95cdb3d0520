"""`bottrader import old`: the records of an older system, from its database or from CSV exports of its tables.

Fills are imported as with `bottrader ledger import`, together with trigger, source, exit reason and linkage.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ledger_import import import_lines
from cli.output import UserError, note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from activities.ledger.importing import ImportPlan
    from activities.ledger.old_records import OldRecords
    from workers.settings import Settings

__all__ = ["import_app", "import_old"]

import_app = typer.Typer(help="Import the records of older systems.", no_args_is_help=True)

_ADDRESS = "OLD_DATABASE_URL"
_TABLES = ("trade_records", "trade_strategy_link", "fifo_allocations")
_SHOWN = 5


@import_app.callback()
def _import() -> None:
    """Import the records of older systems."""


@import_app.command("old")
def import_old(
    records: Annotated[Path | None, typer.Option("--trade-records", help="CSV export of trade_records.")] = None,
    links: Annotated[Path | None, typer.Option("--links", help="CSV export of trade_strategy_link.")] = None,
    allocations: Annotated[
        Path | None, typer.Option("--allocations", help="CSV export of fifo_allocations, for comparing results.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip rows that can't be imported, and report how many.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Import an older system's trades from before the ledger began; importing the same again adds nothing.

    Without files, reads the database at the address OLD_DATABASE_URL; nothing is written there.
    """
    import asyncio

    from activities.ledger.old_records import read_records
    from cli.settings import current_settings

    settings = current_settings()
    if records is None:
        if links is not None or allocations is not None:
            raise UserError("BAD_OPTION", "Give --trade-records too: the other files refer to its rows.")
        tables = asyncio.run(_of_database())
    else:
        tables = {
            name: [] if file is None else _of_file(file)
            for name, file in zip(_TABLES, (records, links, allocations), strict=True)
        }
    found = read_records(tables["trade_records"], tables["trade_strategy_link"])
    _tell(found)
    plan = import_lines(
        "trade_records", iter(found.lines), settings, dry_run=dry_run, skip_bad=skip_bad, as_json=as_json
    )
    if not dry_run:
        asyncio.run(_keep(settings, found, tables["fifo_allocations"], plan))


async def _keep(
    settings: "Settings", found: "OldRecords", allocations: "Sequence[Mapping[str, str | None]]", plan: "ImportPlan"
) -> None:
    """Keeps the rows' data beyond fills, and reports results that differ."""
    from activities.database import create_pool
    from activities.ledger.old_records import compare_results, keep_old_records
    from domain.money import round_half_even

    ids = list(found.order_ids)
    known_as = {ids[line - 1]: order_id for line, order_id in plan.alike.items()}
    pool = await create_pool(settings.database.dsn, size=2, statement_seconds=300.0)
    try:
        changed = await keep_old_records(pool, settings.account, found, known_as)
        note(f"Trade records that took over trigger, source, exit reason or order type: {changed}.")
        try:
            differing = await compare_results(pool, settings.account, allocations, known_as)
        except ValueError as error:
            raise UserError("BAD_ALLOCATIONS", f"fifo_allocations: {error}.") from None
    finally:
        await pool.close()
    for symbol, (count, theirs, ours) in sorted(differing.items()):
        note(
            f"{symbol}: the old FIFO result differs for {_counted(count, 'sell')}: {round_half_even(theirs):f} "
            f"there, {round_half_even(ours):f} here."
        )


def _counted(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _tell(found: "OldRecords") -> None:
    for status, count in sorted(found.left_out.items()):
        note(f"Left out with the status {status}, as only what was filled is imported: {_counted(count, 'row')}.")
    for source, count in sorted(found.sources.items()):
        note(f"The source {source} is import now: {_counted(count, 'row')}.")
    for sentence in found.bad_links[:_SHOWN]:
        note(f"{sentence}; its linkage is left out.")
    if len(found.bad_links) > _SHOWN:
        note(f"So are {len(found.bad_links) - _SHOWN} more.")


def _of_file(file: Path) -> "list[dict[str, str | None]]":
    import csv

    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "it is not CSV in UTF-8"
        raise UserError("CANNOT_READ", f"{file} can't be read ({why}).") from None


async def _of_database() -> "dict[str, list[dict[str, str | None]]]":
    """Each table's rows as text; a missing table has none, except that the records are required."""
    import asyncpg

    address = os.environ.get(_ADDRESS)
    if not address:
        raise UserError(
            "NO_RECORDS", f"Give --trade-records, or set {_ADDRESS} to the address of the old system's database."
        )
    try:
        connection = await asyncpg.connect(address, timeout=10)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as error:
        raise UserError("CANNOT_READ", f"The database of {_ADDRESS} doesn't answer ({type(error).__name__}).") from None
    try:
        found: dict[str, list[dict[str, str | None]]] = {}
        for table in _TABLES:
            there = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table)
            if not there and table == _TABLES[0]:
                raise UserError("NO_RECORDS", f"The database of {_ADDRESS} has no table trade_records.")
            rows = await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} t") if there else []  # noqa: S608 - ours
            found[table] = [_texts(row[0]) for row in rows]
        return found
    finally:
        await connection.close()


def _texts(row: str) -> "dict[str, str | None]":
    """A row's columns as text; numbers unchanged, never converted to float."""
    import json

    values: dict[str, Any] = json.loads(row, parse_float=str, parse_int=str)
    return {
        name: value if isinstance(value, str) or value is None else json.dumps(value) for name, value in values.items()
    }
