"""`bottrader report beyond-stops`: losses that were larger than the configured stop, with their causes."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import print_table
from cli.report_figures import money_in, percent_range, print_figures, write_csv
from cli.report_period import CsvOption, JsonOption, Since, Until, closed_trades

if TYPE_CHECKING:
    from research.stops import BeyondStop

__all__ = ["beyond_stops"]


def beyond_stops(
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Listed trades of each stop, furthest first.")] = 10,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Losses larger than the configured stop: share, trades, and cause (gap, slippage, fees, other path)."""
    from research.stops import losses_beyond_stops

    found = losses_beyond_stops(closed_trades(since, until))
    if as_json:
        print_figures(found)
    elif as_csv:
        write_csv({"configured": item.stop, **asdict(trade)} for item in found for trade in item.trades)
    else:
        _print(found, limit)


def _print(found: "Sequence[BeyondStop]", most: int) -> None:
    from domain.wording import short

    causes = list(found[0].causes) if found else []
    print_table(
        ("stop", "level", "losses", "beyond it", "share", "before fees", "by", *causes),
        [
            (
                item.stop,
                f"{item.level * 100:.2f} %",
                item.losses,
                item.beyond,
                percent_range(item.share, 1),
                percent_range(item.share_before_fees, 1),
                percent_range(item.mean_beyond, 3),
                *item.causes.values(),
            )
            for item in found
        ],
        title="Losses beyond each configured stop, and how many by each main cause",
        empty="No trade was closed with a loss in this period.",
    )
    for item in found:
        if item.trades:
            print_table(
                ("trade", "symbol", "closed", "by", "lost", "beyond", "cause", *causes, "P&L"),
                [
                    (
                        short(trade.entry_key),
                        trade.symbol,
                        datetime.fromtimestamp(trade.closed, UTC),
                        trade.reason,
                        f"{trade.lost * 100:.3f} %",
                        f"{trade.beyond * 100:.3f} %",
                        trade.cause,
                        *(f"{step * 100:+.3f}" for step in (trade.path, trade.gap, trade.slippage, trade.fees)),
                        f"{money_in(trade.pnl, trade.currency)} {trade.currency}",
                    )
                    for trade in item.trades[:most]
                ],
                title=f"Beyond the {item.stop} of {item.level * 100:.2f} %, the furthest first; steps in percent of "
                "the entry price",
                narrow_without=("closed", "lost"),
            )
        if len(item.trades) > most:
            typer.echo(f"… and {len(item.trades) - most} more: --limit, --json or --csv shows them.")
