"""`bottrader ledger verify` and `repair`: compare the books with each other and with the exchange; repair the FIFO
book.

Verify changes nothing and exits with 1 on a violation. Repair recomputes each symbol's FIFO book from its fills, writes
only differences, shows before and after, and asks first. The position book and the journal are never recomputed: errors
there need a person, or reconcile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ledger_import import import_fills
from cli.output import ExitCode, UserError, note, print_json, print_table

if TYPE_CHECKING:
    from activities.interfaces.ledger import LedgerReport
    from activities.ledger.recompute import BookDifference
    from workers.settings import Settings

__all__ = ["ledger_app"]

ledger_app = typer.Typer(help="Check and repair the ledger's books; import older records.", no_args_is_help=True)
ledger_app.command("import")(import_fills)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_SYMBOL = Annotated[str | None, typer.Option("--symbol", help="Only this product.")]
_ALONE_HELP = "Only compare the books with each other, without the exchange."
_SHOWN = 50


@ledger_app.command("verify")
def verify(
    alone: Annotated[bool, typer.Option("--without-exchange", help=_ALONE_HELP)] = False,
    as_json: _JSON = False,
) -> int:
    """Check every sell, lot, trade record, order, trade and balance. Changes nothing; exit code 1 on a violation."""
    import asyncio

    from cli.settings import current_settings

    report = asyncio.run(_verify(current_settings(), alone=alone))
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    return int(ExitCode.OK if report.ok else ExitCode.NO)


async def _verify(settings: "Settings", *, alone: bool) -> "LedgerReport":
    from activities.ledger.validator import check_ledger
    from workers.settings.values import exchange_of

    async with _pool(settings) as pool:
        if alone:
            return await check_ledger(pool, None, settings.account)
        exchange = exchange_of(settings)
        try:
            patience = settings.reconcile.patience_s
            return await check_ledger(pool, exchange, settings.account, patience_seconds=patience)
        finally:
            await exchange.close()


@asynccontextmanager
async def _pool(settings: "Settings") -> AsyncIterator[Any]:
    from activities.database import create_pool
    from workers.ledger_identity import require_own

    pool = await create_pool(settings.database.dsn, size=2, statement_seconds=300.0)
    try:
        await require_own(pool, settings)
        yield pool
    finally:
        await pool.close()


def _print_report(report: "LedgerReport") -> None:
    from domain.wording import tidy

    counts = (
        f"{report.fills} fills, {report.allocations} allocations, {report.trades} trades of {report.symbols} symbols"
    )
    typer.echo(f"{counts}, checked in {report.seconds:.1f} s")
    typer.echo(f"{report.compared[0].upper()}{report.compared[1:]}.")
    if report.uncovered_sells:
        typer.echo(f"{report.uncovered_sells} sells have an uncovered remainder: sold, but no buy is recorded.")
    if report.balances:
        names = ("books", "in_lots", "uncovered", "transferred", "in_trades", "unowned", "exchange", "difference")
        print_table(
            ("currency", *(name.replace("_", " ") for name in names)),
            [(row.currency, *(tidy(getattr(row, name)) for name in names)) for row in report.balances],
        )
    for sentence in report.warnings:
        typer.echo(f"To look at: {sentence}.")
    if report.ok:
        typer.echo("No violations otherwise." if report.warnings else "No violations.")
        return
    rows = [(item.check, item.symbol or "", item.sentence) for item in report.violations[:_SHOWN]]
    print_table(("check", "symbol", "violation"), rows, title=f"{sum(report.counts.values())} violations")
    typer.echo("`bottrader ledger repair` recomputes FIFO_DIFFERS, LOT_*, SELL_*, ALLOCATION_* and TRADE_RECORD.")
    typer.echo("docs/reports.md describes how to repair the others.")


@ledger_app.command("repair")
def repair(
    symbol: _SYMBOL = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: _JSON = False,
) -> int:
    """Recompute the FIFO book from the fills and write the differences. Shows before and after, and asks first."""
    import asyncio

    from cli.settings import current_settings

    settings = current_settings()
    wanted = symbol.strip().upper() if symbol else None
    found = [item for item in asyncio.run(_differences(settings, wanted)) if not item.clean]
    if not found:
        _print_differences([], as_json=as_json, written=False)
        return int(ExitCode.OK)
    if not yes:
        if as_json:
            raise UserError("NOT_CONFIRMED", "With --json there is no prompt: give --yes to write the differences.")
        _print_differences(found, as_json=False, written=False)
        if not typer.confirm("Write this?", err=True):
            note("Nothing was changed.")
            return int(ExitCode.NO)
    written = asyncio.run(_repair(settings, [item.symbol for item in found]))
    _print_differences(written, as_json=as_json, written=True)
    return int(ExitCode.OK)


async def _differences(settings: "Settings", wanted: str | None) -> "list[BookDifference]":
    import asyncio

    from activities.ledger.recompute import compare_book, read_book, stale_records, symbols_of

    found: list[BookDifference] = []
    async with _pool(settings) as pool:
        known = await symbols_of(pool, settings.account)
        if wanted is not None and wanted not in known:
            raise UserError(
                "NO_SUCH_SYMBOL", f"There are no fills of {wanted}; there are of {', '.join(known) or '–'}."
            )
        for symbol in [wanted] if wanted else known:
            async with (
                pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                book = await read_book(connection, settings.account, symbol)
                stale = await stale_records(connection, settings.account, symbol)
            found.append(await asyncio.to_thread(compare_book, book, stale))
    return found


async def _repair(settings: "Settings", symbols: list[str]) -> "list[BookDifference]":
    from activities.ledger.recompute import repair_symbols

    async with _pool(settings) as pool:
        return await repair_symbols(pool, settings.account, symbols)


def _print_differences(found: "list[BookDifference]", *, as_json: bool, written: bool) -> None:
    if as_json:
        print_json({"changed": written, "symbols": [_described(item) for item in found]})
        return
    if not found:
        typer.echo("The FIFO book agrees with its fills: nothing to repair.")
        return
    from domain.wording import tidy

    print_table(
        ("symbol", "fills", "rows", "P&L", "open size", "rows to write", "rows to remove", "lots", "records"),
        [
            (
                item.symbol,
                item.fills,
                f"{item.rows_before} → {item.rows_after}",
                f"{tidy(item.pnl_before)} → {tidy(item.pnl_after)}",
                f"{tidy(item.open_before)} → {tidy(item.open_after)}",
                len(item.missing),
                len(item.surplus),
                len(item.lots),
                len(item.stale),
            )
            for item in found
        ],
        title="Written" if written else "Differences: stored → from the fills",
    )
    if not written:
        for item in found:
            for line in item.rows:
                typer.echo(f"  {item.symbol}: {line}")


def _described(item: "BookDifference") -> dict[str, Any]:
    """One symbol's difference: sizes in base, profit in quote currency."""
    return {
        "symbol": item.symbol,
        "fills": item.fills,
        "before": {"rows": item.rows_before, "pnl": item.pnl_before, "open_size": item.open_before},
        "after": {"rows": item.rows_after, "pnl": item.pnl_after, "open_size": item.open_after},
        "rows_written": len(item.missing),
        "rows_removed": len(item.surplus),
        "lots_set": {str(fill): {"before": before, "after": after} for fill, (before, after) in item.lots.items()},
        "records_refreshed": list(item.stale),
    }
