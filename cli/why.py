"""`bottrader why SYMBOL` and `why KEY`: why a product was traded or not, and why one order or trade was.

Everything is read from the ledger. Of a product: the switch and the lists, what is known of the market, the newest rows
of the matrix with every indicator's contribution, and the decisions on it with every gate that ran and compared values.
Of an order or trade: `cli.why_key`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import UserError, print_json, print_table, tell
from cli.why_key import is_key, look_at_key, print_reasons
from domain.text import shown

if TYPE_CHECKING:
    from workers.settings import Settings

__all__ = ["why"]


def why(
    subject: Annotated[
        str,
        typer.Argument(metavar="SYMBOL|KEY", help="A product, such as BTC-USD, or the key of an order or trade."),
    ],
    last: Annotated[
        int, typer.Option("--last", min=1, max=1000, help="Of a product: number of runs and decisions, newest first.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show why a product was traded or not, or why one order or trade was: the halt switch, the matrix with its
    indicators, every gate with its numbers; of a trade also why it sold, lot by lot where the result comes from, and
    what happened when."""
    import asyncio

    from cli.settings import settings_in_force
    from cli.settings_left import settings_to_stop

    if is_key(subject):
        reasons = asyncio.run(look_at_key(settings_to_stop(), subject))
        if as_json:
            print_json(reasons)
        else:
            print_reasons(reasons)
        return
    product = subject.strip().upper()
    found = asyncio.run(_look(settings_in_force(), product, last))
    if "-" not in product and not any(found[what] for what in ("matrix", "signals", "orders")):
        what = f"{product!r} is not a product, and nothing is stored for it: write it like BTC-USD."
        raise UserError("BAD_PRODUCT", what)
    if as_json:
        print_json(found)
    else:
        _print(found)


async def _look(settings: "Settings", symbol: str, last: int) -> dict[str, Any]:
    from activities.orders.controls import trading_control
    from activities.orders.entry_facts import disabled_why
    from cli.groups import limits_now
    from cli.ledger import open_ledger
    from web.views.why import read_why
    from workers.settings.values import policy_of

    policy, account = policy_of(settings), settings.account
    not_bought = disabled_why(symbol, policy)
    async with open_ledger(settings) as ledger:
        switch = await trading_control(ledger, account)
        limits = await limits_now(ledger, policy)
        return await read_why(
            ledger, account, symbol, last, lists=policy, switch=switch, not_bought=not_bought, limits=limits
        )


# --- what is printed -------------------------------------------------------------------------------------------------


def _print(found: dict[str, Any]) -> None:
    for answer in found["answers"]:
        tell(answer)
    market = found["market"]
    if market is not None:
        known = [f"{name} {shown(market[name])}" for name in ("bid", "ask", "price") if market[name] is not None]
        if market["change_24h"] is not None:
            known.append(f"24 h {100 * market['change_24h']:+.2f} %")
        tell(f"Market at {shown(market['at'])}: {', '.join(known)}.")
    _print_matrix(found["matrix"])
    if found["signals"]:
        print_table(
            ("at", "side", "trigger", "became", "", "order"),
            [
                (row["at"], row["side"], row["trigger"], row["decision"], row["sentence"], row["order_key"])
                for row in found["signals"]
            ],
            title="Signals",
            narrow_without=("order",),
        )
    for order in found["orders"]:
        _print_order(order)


def _print_matrix(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    print_table(
        ("at", "action", "trigger", "buy score", "sell score", "price", "why"),
        [
            (row["at"], row["action"], row["trigger"], row["buy_score"], row["sell_score"], row["price"], row["reason"])
            for row in rows
        ],
        title="Matrix",
        narrow_without=("price",),
    )
    for row in rows:
        if row["indicator_breakdown"]:
            print_table(
                ("indicator", "value", "fired", "weight", "contribution", "why"),
                [
                    (
                        name,
                        part.get("value"),
                        bool(part.get("fired")),
                        part.get("weight"),
                        part.get("contribution"),
                        part.get("why"),
                    )
                    for name, part in row["indicator_breakdown"].items()
                ],
                title=f"Indicators of the run at {shown(row['at'])}",
            )


def _print_order(order: dict[str, Any]) -> None:
    from domain.wording import compared, short

    how = f"refused by {order['gate']}" if order["gate"] else order["state"]
    print_table(
        ("", "gate", "compared values"),
        [
            (
                "passed" if gate["passed"] else "REFUSED",
                gate["gate"] + (f" (attempt {gate['attempt']})" if gate["attempt"] > 1 else ""),
                compared(gate["numbers"]),
            )
            for gate in order["gates"]
        ],
        title=f"Gates of {order['side']} {short(order['order_key'])} at {shown(order['at'])}: {how}",
        empty="No gate ran.",
    )
