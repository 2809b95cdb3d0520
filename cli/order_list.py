"""`bottrader orders`: the list of orders."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import print_json, print_table

if TYPE_CHECKING:
    from web.views import Row
    from workers.settings import Settings

__all__ = ["orders"]

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def orders(
    only_open: Annotated[bool, typer.Option("--open", help="Only open orders.")] = False,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this product.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number, newest first.")] = 50,
    as_json: _JSON = False,
) -> None:
    """List orders, newest first: entries, exits, and external orders."""
    import asyncio

    from cli.settings_left import settings_to_stop
    from web.views.orders import described_order

    rows = asyncio.run(_list(settings_to_stop(), only_open, symbol, limit))
    if as_json:
        print_json([described_order(row) for row in rows])
        return
    print_table(
        _COLUMNS,
        [_line(row) for row in rows],
        empty="There are no open orders." if only_open else "There are no orders.",
        narrow_without=("source", "age", "role", "fees", "average", "why", "size"),
    )


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


async def _list(settings: "Settings", only_open: bool, symbol: str | None, limit: int) -> "list[Row]":
    from cli.ledger import open_ledger
    from web.views.orders import read_orders

    async with open_ledger(settings) as ledger:
        name = symbol.strip().upper() if symbol else None
        return await read_orders(ledger, settings.account, symbol=name, only_open=only_open, limit=limit)
