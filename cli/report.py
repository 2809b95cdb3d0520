"""`bottrader report`: results of closed trades and their reasons, linkage, leaderboard; as tables, JSON, CSV or one
HTML file.

Results are after fees. Intervals are at 95 %. For programs, money is a decimal as text, and estimates (rates,
fractions, ratios, seconds) are numbers with at most ten decimals and twelve digits. `--since` and `--until` take a day
(2026-03-01), a time with zone, or an age such as 7d, 12h, 30min; trades are selected by closing time.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, note, print_json, print_table
from cli.report_figures import (
    bare_percent,
    duration,
    figure,
    flat,
    milliseconds,
    money_in,
    percent_range,
    print_figures,
    ratio_range,
    write_csv,
)
from cli.report_period import CsvOption, JsonOption, Since, Until, closed_trades, read_period
from cli.report_stops import beyond_stops

if TYPE_CHECKING:
    from research.analysis import Bridge, GroupResult

__all__ = ["report_app"]

report_app = typer.Typer(help="Results of trades, and their reasons.", no_args_is_help=True)

_WIDTH = Annotated[float, typer.Option("--width", min=0.001, max=1_000, help="Width of a score bucket.")]
_LEAST = Annotated[int, typer.Option("--least-trades", min=2, help="Minimum closed trades for each symbol.")]
_OUT = Annotated[Path | None, typer.Option("--out", help="File to write; default: standard output.")]

_MONEY = ("net P&L", "fees", "currency")

# --- groups of trades -------------------------------------------------------------------------------------------------


@report_app.command("summary")
def summary(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """All closed trades together, and why results differ from the configured exits; for each quote currency."""
    from research.analysis import summaries

    each = summaries(closed_trades(since, until))
    if as_json or as_csv:
        _show(each, as_json=as_json, as_csv=as_csv)
        return
    if not each[0].trades:
        typer.echo("No trades were closed in this period.")
        return
    for found in each:
        _print_summary(found)


def _print_summary(found: "GroupResult") -> None:
    def money(value: Any) -> str:
        return money_in(value, found.currency)

    rows = [
        ("trades", f"{found.trades} ({found.wins} won)"),
        ("win rate", percent_range(found.win_rate, 1)),
        (f"net P&L, {found.currency}", f"{money(found.pnl)} (fees {money(found.fees)})"),
        ("average win, loss", f"{money(found.average_win)}, {money(found.average_loss)}"),
        ("mean net result", percent_range(found.mean_fraction, 3)),
        ("profit factor", figure(found.profit_factor)),
        ("reward:risk configured", figure(found.configured)),
        ("reward:risk achieved", ratio_range(found.achieved)),
        ("slippage of exits", f"{money(found.slippage)} ({percent_range(found.slippage_fraction, 3)} of price)"),
        ("held", f"{duration(found.held_median)} median, {duration(found.held.value)} mean"),
    ]
    print_table(("", ""), rows, title="Closed trades")
    _print_bridges([found])


@report_app.command("triggers")
def triggers(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """Results by the trigger of the entry."""
    from research.analysis import by_trigger

    _show(by_trigger(closed_trades(since, until)), as_json=as_json, as_csv=as_csv)


@report_app.command("exits")
def exits(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """Results by exit reason, each from configured to achieved."""
    from research.analysis import by_exit

    found = by_exit(closed_trades(since, until))
    _show(found, as_json=as_json, as_csv=as_csv)
    if not (as_json or as_csv):
        _print_bridges(found)


@report_app.command("symbols")
def symbols(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """Results by product."""
    from research.analysis import by_symbol

    _show(by_symbol(closed_trades(since, until)), as_json=as_json, as_csv=as_csv)


@report_app.command("hours")
def hours(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """Results by hour of the day (UTC) of the entry."""
    from research.analysis import by_hour

    _show(by_hour(closed_trades(since, until)), as_json=as_json, as_csv=as_csv)


@report_app.command("days")
def days(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """Results by day (UTC) of the close."""
    from research.analysis import by_day

    _show(by_day(closed_trades(since, until)), as_json=as_json, as_csv=as_csv)


@report_app.command("scores")
def scores(
    since: Since = None,
    until: Until = None,
    width: _WIDTH = 0.5,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Results by buckets of the buy score, and whether a higher score gained more."""
    from research.analysis import by_score, score_correlation

    table = closed_trades(since, until)
    found = by_score(table, width)
    _show(found, as_json=as_json, as_csv=as_csv)
    if not (as_json or as_csv) and found:
        typer.echo(f"Correlation of score and net result, within triggers: {ratio_range(score_correlation(table))}.")


@report_app.command("sell-scores")
def sell_scores(
    since: Since = None,
    until: Until = None,
    width: _WIDTH = 0.5,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Results by buckets of the sell score at the exit, and whether a higher one meant a better result."""
    from research.analysis import by_sell_score, sell_score_correlation

    table = closed_trades(since, until, sell_scores=True)
    found = by_sell_score(table, width)
    if not found and len(table) and not (as_json or as_csv):
        typer.echo("None of the trades of this period had a sell score at its exit.")
        return
    _show(found, as_json=as_json, as_csv=as_csv)
    if not (as_json or as_csv) and found:
        told = ratio_range(sell_score_correlation(table))
        typer.echo(f"Correlation of sell score and net result, within exit reasons: {told}.")


report_app.command("beyond-stops")(beyond_stops)


@report_app.command("indicators")
def indicators(
    since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False
) -> None:
    """Results by indicator: entries where it fired against entries where it did not."""
    from research.analysis import indicators as of

    found = of(closed_trades(since, until, indicators=True))
    if as_json:
        print_figures(found)
        return
    if as_csv:
        write_csv(
            {"indicator": item.indicator, **flat(asdict(group)), "difference": item.difference.value}
            for item in found
            for group in (item.fired, item.quiet)
        )
        return
    print_table(
        ("indicator", "fired", "won", "mean result", "not fired", "won", "mean result", "difference"),
        [
            (
                item.indicator,
                item.fired.trades,
                percent_range(item.fired.win_rate, 1),
                percent_range(item.fired.mean_fraction, 3),
                item.quiet.trades,
                percent_range(item.quiet.win_rate, 1),
                percent_range(item.quiet.mean_fraction, 3),
                percent_range(item.difference, 3),
            )
            for item in found
        ],
        empty="No closed trade has indicators.",
    )


def _show(found: "Sequence[GroupResult]", *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        print_figures([item.as_dict() for item in found])
        return
    if as_csv:
        write_csv(flat(item.as_dict()) for item in found)
        return
    print_table(
        ("group", "trades", "won", *_MONEY, "mean result", "win", "loss", "reward:risk", "slippage", "held"),
        [
            (
                item.group,
                item.trades,
                percent_range(item.win_rate, 1),
                money_in(item.pnl, item.currency),
                money_in(item.fees, item.currency),
                item.currency,
                percent_range(item.mean_fraction, 3),
                bare_percent(item.win_fraction),
                bare_percent(item.loss_fraction),
                f"{figure(item.configured)} → {figure(item.achieved.value)}",
                bare_percent(item.slippage_fraction),
                duration(item.held_median),
            )
            for item in found
        ],
        empty="No trades were closed in this period.",
    )


def _print_bridges(found: "Sequence[GroupResult]") -> None:
    currencies = {item.currency for item in found}
    bridges = [
        (f"{item.group}, {name}" if len(currencies) == 1 else f"{item.group} in {item.currency}, {name}", bridge)
        for item in found
        for name, bridge in (("won", item.won), ("lost", item.lost))
        if bridge is not None
    ]
    print_table(
        ("%", "trades", "configured", "other way out", "distance", "slippage", "fees", "achieved"),
        [(name, bridge.trades, *_steps(bridge)) for name, bridge in bridges],
        title="From configured to achieved, percent of the entry price",
    )


def _steps(bridge: "Bridge") -> tuple[str, ...]:
    names = ("configured", "exit_path", "distance", "slippage", "fees", "achieved")
    return tuple(f"{getattr(bridge, name) * 100:+.3f}" for name in names)


# --- linkage, leaderboard ---------------------------------------------------------------------------------------------


@report_app.command("linkage")
def linkage(since: Since = None, until: Until = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> int:
    """How many filled orders have a linkage, by source. Exit code 1 if one that needs it has none."""
    from research.linkage import read_linkage

    found = read_period(read_linkage, since, until)
    code = int(ExitCode.NO if found.alarming else ExitCode.OK)
    if as_json:
        print_figures({**asdict(found), "percent": found.percent, "alarming": found.alarming})
        return code
    if as_csv:
        write_csv({**asdict(item), "percent": item.percent} for item in found.sources)
        return code
    print_table(
        ("source", "filled", "linked", "rate", "with snapshot", "placement → fill", "mean"),
        [
            (
                item.source,
                item.filled,
                item.linked,
                f"{item.percent:.1f} %",
                item.with_snapshot,
                milliseconds(item.median_ms),
                milliseconds(item.mean_ms),
            )
            for item in found.sources
        ],
        empty="None of our orders has filled in this period.",
    )
    typer.echo(
        f"Of {found.fills} fills, {found.without_order} have no order, {found.without_metadata} an order without "
        f"metadata, {found.outside} an external order; {found.by_rest} came by REST, {found.imported} from an import."
    )
    for key in found.unlinked:
        typer.echo(f"  without linkage: {key}")
    if found.alarming:
        note("error: no sighook order of this period has a linkage.")
    return code


@report_app.command("leaderboard")
def leaderboard(
    since: Since = None, least_trades: _LEAST = 5, as_json: JsonOption = False, as_csv: CsvOption = False
) -> None:
    """Symbols by the least a trade in them is likely to gain: the lower end of the mean's interval."""
    from activities.ledger.leaderboard import leaderboard as of
    from research.trades import quote_of

    async def read(ledger: Any, account: str, start: datetime | None, _: datetime | None) -> Any:
        return await of(ledger, account, since=start, least_trades=least_trades)

    found = read_period(read, since, None)
    if as_json:
        print_figures(found)
    elif as_csv:
        write_csv(flat(asdict(item)) for item in found)
    else:
        print_table(
            ("place", "symbol", "trades", "won", "net P&L", "mean result", "gain shown at 95 %"),
            [
                (
                    "–" if item.place is None else item.place,
                    item.symbol,
                    item.trades,
                    item.wins,
                    money_in(item.pnl, quote_of(item.symbol)),
                    percent_range(item.mean, 3),
                    "yes" if item.profitable else "not shown",
                )
                for item in found
            ],
            empty=f"No symbol has {least_trades} closed trades in this period.",
        )


# --- files ------------------------------------------------------------------------------------------------------------


@report_app.command("html")
def html(
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("report.html"),
    since: Since = None,
    until: Until = None,
    width: _WIDTH = 0.5,
    as_json: JsonOption = False,
) -> None:
    """All reports on one HTML page with plots; the file needs no network."""
    from activities.ledger.leaderboard import leaderboard as standings_of
    from cli.settings import current_settings, page_address
    from research.html import ReportHead, html_report
    from research.linkage import read_linkage
    from research.trades import read_trades

    address = page_address(current_settings())

    async def read(ledger: Any, account: str, start: datetime | None, end: datetime | None) -> str:
        table = await read_trades(ledger, account, start, end, indicators=True)
        linked = await read_linkage(ledger, account, start, end)
        standings = await standings_of(ledger, account, since=start)
        quotes = {symbol.replace("_", "-").partition("-")[2] for symbol in set(table.symbol)}
        currencies = " and ".join(sorted(quotes)) or "USD"
        head = ReportHead(account, datetime.now(UTC), currencies, page=address)
        return html_report(head, table, linked, standings, width)

    page = read_period(read, since, until)
    _write(out, page)
    if as_json:
        print_json({"file": out.absolute(), "bytes": len(page.encode())})
    else:
        typer.echo(f"Written: {out} ({len(page.encode()) / 1024:.0f} KiB)")


@report_app.command("tax")
def tax(out: _OUT = None, since: Since = None, until: Until = None) -> None:
    """Realised lots as CSV: one line for each matched part of a sell in the FIFO book, by time of sale."""
    import io

    from research.tax import write_realised_lots

    text = io.StringIO()

    async def read(ledger: Any, account: str, start: datetime | None, end: datetime | None) -> int:
        return await write_realised_lots(ledger, account, text, start, end)

    count = read_period(read, since, until)
    if out is None:
        sys.stdout.write(text.getvalue())
    else:
        _write(out, text.getvalue())
        note(f"Written: {out} ({count} lots)")


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError("NO_FILE", f"{out} can't be written ({error.strerror}).") from None
