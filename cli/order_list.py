"""`bottrader orders`: the list of orders."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import UserError, print_json, print_table
from cli.pages import CursorOption, ListPage, print_page, read_page, tell_more

if TYPE_CHECKING:
    from web.views import Row
    from web.views.lists import Place
    from workers.settings import Settings

__all__ = ["orders"]

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def orders(
    only_open: Annotated[bool, typer.Option("--open", help="Only open orders.")] = False,
    only_ended: Annotated[
        bool, typer.Option("--ended", help="Only orders that have ended, the last to end first.")
    ] = False,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this product.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number, newest first.")] = 50,
    cursor: CursorOption = None,
    as_json: _JSON = False,
) -> None:
    """List orders, newest first: entries, exits, and external orders."""
    import asyncio

    from cli.settings_left import settings_to_stop
    from web.views.lists import described_order_line
    from web.views.orders import described_order

    if only_open and only_ended:
        raise UserError("BAD_OPTION", "Give --open or --ended, not both.")
    which = "open" if only_open else "executed" if only_ended else "orders"
    page = asyncio.run(_list(settings_to_stop(), which, symbol, limit, cursor))
    if as_json and cursor is not None:
        print_page([described_order_line(row) for row in page.rows], page.next_cursor)
        return
    if as_json:
        print_json([described_order(row) for row in page.rows])
    else:
        words = {"open": "There are no open orders.", "executed": "No order has ended."}
        print_table(
            _COLUMNS,
            [_line(row) for row in page.rows],
            empty="There are no further ones." if cursor else words.get(which, "There are no orders."),
            narrow_without=("source", "age", "role", "fees", "average", "why", "size"),
        )
    tell_more(page.next_cursor)


_COLUMNS = (
    "key",
    "symbol",
    "side",
    "role",
    "type",
    "state",
    "size",
    "filled",
    "average",
    "fees",
    "why",
    "source",
    "age",
)


def _line(row: "Row") -> list[object]:
    from cli.ledger import ago
    from domain.wording import book_price, rounded, short, tidy

    kind = row["order_type"]
    if row["limit_price"] is not None:
        kind += f" {row['limit_price'].normalize():f}"
    return [
        short(row["order_key"]),
        row["symbol"],
        row["side"],
        row["role"],
        kind,
        row["gate"] or row["state"],
        tidy(row["base_size"])
        if row["base_size"] is not None
        else f"{row['quote_size']:f} quote"
        if row["quote_size"]
        else None,
        tidy(row["filled_size"]),
        rounded(book_price(row["filled_value"], row["filled_size"])),
        tidy(row["quote_fees"]),
        row["exit_reason"] or row["trigger"],
        row["source"],
        ago(row["received_at"]),
    ]


async def _list(settings: "Settings", which: str, symbol: str | None, limit: int, cursor: str | None) -> ListPage:
    """A page of orders. `which` is the API's name of the list, or orders: all of them."""
    from cli.ledger import open_ledger
    from web.views import lists

    account, name = settings.account, symbol.strip().upper() if symbol else None
    async with open_ledger(settings) as ledger:

        async def after(place: "Place | None", most: int) -> "list[Row]":
            if which == "open":
                return await lists.open_orders(ledger, account, symbol=name, after=place, limit=most)
            if which == "executed":
                return await lists.ended_orders(ledger, account, symbol=name, after=place, limit=most)
            return await lists.every_order(ledger, account, symbol=name, after=place, limit=most)

        # Named as the API names its lists: a cursor is of one list and its filters.
        filters = {"list": {"open": "open-orders", "executed": "executed-orders"}.get(which, which), "symbol": name}
        by = "ended_at" if which == "executed" else "received_at"
        return await read_page(after, filters, cursor, limit, (by, "order_key"))
