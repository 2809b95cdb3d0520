"""`bottrader balance`: each currency as the exchange last reported it, beside the ledger's own books."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from domain.pool import Coin
    from web.views import Row
    from workers.settings import Settings

__all__ = ["balance", "compared"]


def balance(
    everything: Annotated[bool, typer.Option("--all", help="Include currencies of which nothing is left.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what the exchange holds and the ledger owns of each currency.

    The exchange's amounts are those that were last read from it, with their age.
    """
    import asyncio

    from cli.ledger import ago
    from cli.settings_left import settings_to_stop

    rows = asyncio.run(_look(settings_to_stop(), everything=everything))
    if as_json:
        print_json(rows)
        return
    print_table(
        ("currency", "exchange", "available", "on hold", "ledger", "difference", "in trades", "free", "age"),
        [
            (
                row["currency"],
                row["exchange"],
                row["available"],
                row["hold"],
                row["ledger"],
                row["difference"],
                row["in_trades"],
                row["free"],
                ago(row["asked_at"]),
            )
            for row in rows
        ],
        empty="Nothing is known of any currency yet: a worker of the role streams reads the balances.",
        narrow_without=("on hold", "available", "free"),
    )
    if rows and all(row["ledger"] is None for row in rows):
        tell("The ledger's books are not opened yet: the first reconcile does that.")


async def _look(settings: "Settings", *, everything: bool) -> "list[dict[str, Any]]":
    from datetime import UTC, datetime

    from activities.ledger.holdings import coins
    from cli.ledger import open_ledger
    from web.views.balances import read_balances

    # One snapshot for both: a fill in between would show as a difference.
    async with open_ledger(settings) as ledger, ledger.transaction(isolation="repeatable_read", readonly=True):
        reported = await read_balances(ledger, settings.account)
        books = await coins(ledger, settings.account, datetime.now(UTC))
    return compared(reported, books, everything=everything)


def compared(reported: "list[Row]", books: "Mapping[str, Coin]", *, everything: bool = False) -> "list[dict[str, Any]]":
    """One row a currency. Amounts in that currency; null: not known.

    `exchange`: available and on hold together. `ledger`: fills and transfers added up. `difference`: exchange less
    ledger. `in_trades`: what open trades hold. `free`: what of the ledger's amount no trade and no order takes.
    """
    from domain.money import ZERO
    from domain.wording import tidy

    said: dict[str, Row] = {row["currency"]: row for row in reported}
    found = []
    for currency in sorted({*said, *books}):
        row, coin = said.get(currency), books.get(currency)
        total = None if row is None else row["total"]
        ledger = None if coin is None else coin.books
        in_trades = ZERO if coin is None else coin.owned
        if not everything and not total and not ledger and not in_trades:
            continue
        found.append(
            {
                "currency": currency,
                "exchange": tidy(total),
                "available": None if row is None else tidy(row["available"]),
                "hold": None if row is None else tidy(row["hold"]),
                "ledger": tidy(ledger),
                "difference": None if total is None or ledger is None else tidy(total - ledger),
                "in_trades": tidy(in_trades),
                "free": None if coin is None else tidy(coin.left),
                "asked_at": None if row is None else row["asked_at"],
            }
        )
    return found
