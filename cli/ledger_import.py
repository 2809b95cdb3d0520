"""`bottrader ledger import FILE`: imports older fills into the ledger, each once, and recomputes the FIFO book.

Reads the formats of `bottrader fifo match`: CSV, JSON Lines, Coinbase exports. Nothing is written if a line is bad.
"""

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from activities.ledger.importing import ImportPlan, SymbolImport
    from activities.ledger.old_fills import OldFills
    from fifo.reading import Reading
    from workers.settings import Settings

__all__ = ["import_fills", "import_lines"]

_SHOWN_LINES = 5


def import_fills(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON Lines, CSV or a Coinbase export; - for standard input.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip lines that can't be imported, and report how many.")
    ] = False,
    keep_alike: Annotated[
        bool, typer.Option("--keep-alike", help="Import fills that look like existing ones with other ids.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Import fills from before the ledger began; importing the same again, in any format, adds nothing.

    Fields as for `bottrader fifo match`; symbols are products such as BTC-USD.
    """
    from cli.fifo import counted, opened
    from cli.settings import current_settings

    settings = current_settings()
    with opened(file) as lines:
        import_lines(
            "standard input" if file == "-" else file,
            counted(lines),
            settings,
            dry_run=dry_run,
            skip_bad=skip_bad,
            keep_alike=keep_alike,
            as_json=as_json,
        )


def import_lines(
    name: str,
    lines: "Iterable[bytes]",
    settings: "Settings",
    *,
    dry_run: bool,
    skip_bad: bool,
    keep_alike: bool = False,
    as_json: bool,
) -> "ImportPlan":
    """Import fills from the lines of a file `name`, and report the result. Raises UserError(BAD_FILLS)."""
    import asyncio

    from activities.ledger.old_fills import OldFills
    from cli.fifo import say
    from fifo.fills import FifoError
    from fifo.reading import read_into
    from workers.errors import UserError

    with closing(OldFills()) as fills:
        try:
            reading = read_into(lines, fills)
        except FifoError as error:
            raise UserError(error.code, f"{name}: {error.sentence}.") from error
        plan, done, beyond = asyncio.run(
            _import(settings, name, reading, fills, dry_run=dry_run, skip_bad=skip_bad, keep_alike=keep_alike)
        )
    say(reading, "read")
    _tell_alike(plan)
    _show(plan, done, beyond, dry_run=dry_run, as_json=as_json)
    _warn(done, beyond, dry_run=dry_run)
    return plan


async def _import(
    settings: "Settings",
    name: str,
    reading: "Reading",
    fills: "OldFills",
    *,
    dry_run: bool,
    skip_bad: bool,
    keep_alike: bool,
) -> "tuple[ImportPlan, list[SymbolImport], Mapping[str, Decimal] | None]":
    from activities.database import create_pool
    from activities.ledger.importing import own_records_since, plan_import
    from cli.fifo import refusal
    from fifo.reading import BadLine
    from workers.ledger_identity import require_own

    pool = await create_pool(settings.database.dsn, size=2, statement_seconds=300.0)
    try:
        await require_own(pool, settings)
        look_back = timedelta(days=settings.reconcile.first_look_back_days)
        until = await own_records_since(pool, settings.account, look_back)
        plan = await plan_import(
            pool, settings.account, fills, until, keep_alike=keep_alike, other_rows=reading.other_rows, say=note
        )
        reading.bad += [BadLine(line, "CHANGED_FILL", sentence) for line, sentence in plan.changed]
        reading.bad.sort(key=lambda bad: bad.number)
        if reading.bad and not skip_bad:
            raise refusal(name, reading.bad, "Nothing was imported")
        done = await (plan.preview(pool, say=note) if dry_run else plan.write(pool, say=note))
        return plan, done, await plan.beyond(pool, done, written=not dry_run)
    finally:
        await pool.close()


def _warn(done: "list[SymbolImport]", beyond: "Mapping[str, Decimal] | None", *, dry_run: bool) -> None:
    """Warns about lots that the account can't have, because later sells would take their cost from them."""
    from domain.money import plain

    if beyond is None:
        if any(item.open_after for item in done):
            note(
                "It is not known yet whether the account holds these lots: no opening balances are booked. After the "
                "first reconcile `bottrader ledger verify` shows it."
            )
        return
    for currency, size in beyond.items():
        note(
            f"warning: lots {'would hold' if dry_run else 'hold'} {plain(size)} {currency} more than the account, "
            "and the account did not hold them when its books were opened. Sells may be missing from the file, coins "
            "may have "
            "been withdrawn before, or the file may be of another account."
        )


def _tell_alike(plan: "ImportPlan") -> None:
    """Reports lines whose fills already exist under other ids, as in another format of the same report."""
    if plan.unnamed:
        note(
            f"{len(plan.unnamed)} lines without an ID equal lines of an earlier import, and count once "
            f"({_some([f'line {line}' for line in sorted(plan.unnamed)])}); if they are trades of another portfolio "
            f"or different trades in the same second, import a format with IDs"
        )
    if plan.alike:
        note(
            f"{len(plan.alike)} lines equal existing fills with other ids in time, asset, side and size, and count "
            f"once ({_which(plan.alike, 'is')}); if they are different trades, import with --keep-alike"
        )
    if plan.doubted:
        note(
            f"warning: {len(plan.doubted)} lines are imported although fills of the same time, asset, side, size and "
            f"cost exist under other ids ({_which(plan.doubted, 'is like')}): if they are the same trades, they are "
            f"booked twice; a dry run shows them beforehand"
        )


def _which(lines: "Mapping[int, str]", verb: str) -> str:
    return _some([f"line {line} {verb} {lines[line]}" for line in sorted(lines)])


def _some(texts: "Sequence[str]") -> str:
    more = f"; and {len(texts) - _SHOWN_LINES} more" if len(texts) > _SHOWN_LINES else ""
    return "; ".join(texts[:_SHOWN_LINES]) + more


def _show(
    plan: "ImportPlan",
    done: "list[SymbolImport]",
    beyond: "Mapping[str, Decimal] | None",
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    later = sum(item.later for item in done)
    if as_json:
        changed = not dry_run and any(item.changed for item in done)
        print_json(
            {
                "changed": changed,
                "account": plan.account,
                "until": plan.until,
                "symbols": done,
                "lots_beyond_holdings": beyond,
            }
        )
        return
    from domain.wording import tidy

    print_table(
        (
            "symbol",
            "new",
            "known",
            "there under other ids",
            "recorded already",
            "left to reconcile",
            "P&L",
            "open size",
        ),
        [
            (
                item.symbol,
                item.new,
                item.known,
                item.alike,
                item.own,
                item.later,
                f"{tidy(item.pnl_before)} → {tidy(item.pnl_after)}",
                f"{tidy(item.open_before)} → {tidy(item.open_after)}",
            )
            for item in done
        ],
        title=f"{'Would be imported' if dry_run else 'Imported'} for {plan.account}: the FIFO book before → after",
        empty="The file has no fills.",
    )
    if later:
        note(
            f"{later} fills from {plan.until:%Y-%m-%d %H:%M} UTC on are left to reconcile, which gets them from the "
            f"exchange itself."
        )
