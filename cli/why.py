"""`bottrader why SYMBOL`: why did it not trade, or why did it?

Everything is read from the ledger: the switch and the lists, what is known of the market, the newest rows of the matrix
with every indicator's contribution, and the decisions on the symbol with every gate that ran and what it compared.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import UserError, print_json, print_table, shown

if TYPE_CHECKING:
    from datetime import datetime

    from activities.orders.controls import Control
    from activities.policy import Policy
    from cli.ledger import Row
    from workers.settings import Settings

__all__ = ["why"]

_MATRIX = """
SELECT snapshot_id, at, price, action, trigger, buy_score, sell_score, reason, indicators_fired, indicator_breakdown
  FROM market_snapshots WHERE account = $1 AND symbol = $2 ORDER BY at DESC LIMIT $3
"""
_SIGNALS = """
SELECT at, side, source, trigger, decision, coalesce(details ->> 'sentence', '') AS sentence, snapshot_id, order_key
  FROM trade_signals WHERE account = $1 AND symbol = $2 ORDER BY at DESC, id DESC LIMIT $3
"""
_ORDERS = """
SELECT o.order_key, o.received_at AS at, o.side, o.role, o.source, o.trigger, o.snapshot_id, o.state, o.gate,
       o.gate_sentence AS sentence, o.refusal, o.base_size, o.quote_size, o.limit_price, o.filled_size,
       coalesce((SELECT jsonb_agg(jsonb_build_object('attempt', 1 + (g.position - 1) / 100, 'gate', g.gate,
                                                     'passed', g.passed, 'numbers', g.numbers)
                                  ORDER BY g.position, g.id)
                   FROM gate_results g WHERE g.order_key = o.order_key), '[]') AS gates
  FROM orders o WHERE o.account = $1 AND o.symbol = $2 AND o.role <> 'EXTERNAL'
 ORDER BY o.received_at DESC LIMIT $3
"""
_MARKET = """
SELECT price, bid, ask, change_24h, quote_volume_24h, at FROM market_prices WHERE account = $1 AND symbol = $2
"""
_QUOTES = """
SELECT at, bid_code, bid_sentence, ask_code, ask_sentence FROM quote_rounds
 WHERE account = $1 AND symbol = $2 ORDER BY at DESC LIMIT 1
"""


def why(
    symbol: Annotated[str, typer.Argument(help="A product, such as BTC-USD.")],
    last: Annotated[int, typer.Option("--last", min=1, max=1000, help="So many runs and decisions, newest first.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Tell why a product was traded or not: the switch, the matrix with its indicators, every gate with its numbers."""
    import asyncio

    from cli.settings import settings_in_force

    product = symbol.strip().upper()
    found = asyncio.run(_look(settings_in_force(), product, last))
    if "-" not in product and not any(found[what] for what in ("matrix", "signals", "orders")):
        what = f"{product!r} is no product, and nothing is stored of it: write it like BTC-USD."
        raise UserError("BAD_PRODUCT", what)
    if as_json:
        print_json(found)
    else:
        _print(found)


async def _look(settings: "Settings", symbol: str, last: int) -> dict[str, Any]:
    from activities.orders.controls import trading_control
    from cli.ledger import open_ledger
    from workers.settings.values import policy_of

    policy = policy_of(settings)
    async with open_ledger(settings) as ledger:
        control = await trading_control(ledger, settings.account)
        market = await ledger.fetchrow(_MARKET, settings.account, symbol)
        matrix = [_plain(row) for row in await ledger.fetch(_MATRIX, settings.account, symbol, last)]
        signals = [_plain(row) for row in await ledger.fetch(_SIGNALS, settings.account, symbol, last)]
        orders = [_plain(row) for row in await ledger.fetch(_ORDERS, settings.account, symbol, last)]
        quotes = await ledger.fetchrow(_QUOTES, settings.account, symbol)
    return {
        "symbol": symbol,
        "account": settings.account,
        "answers": _answers(symbol, policy, control, matrix, signals, orders, quotes),
        "switch": {
            "halted": control.halted,
            "by": control.changed_by,
            "reason": control.reason,
            "since": control.changed_at,
            **_lists(symbol, policy),
        },
        "market": _plain(market) if market else None,
        "matrix": matrix,
        "signals": signals,
        "orders": orders,
    }


def _plain(row: "Row") -> dict[str, Any]:
    from decimal import Decimal

    from domain.wording import tidy

    return {name: tidy(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _lists(symbol: str, policy: "Policy") -> dict[str, Any]:
    return {
        "may_be_bought": not policy.allowed or symbol in policy.allowed,
        "disabled": symbol in policy.disabled,
        "blocked": symbol in policy.blocked,
        "hodl": symbol in policy.hodl,
    }


# --- in plain words --------------------------------------------------------------------------------------------------


def _answers(
    symbol: str,
    policy: "Policy",
    control: "Control",
    matrix: list[dict[str, Any]],
    signals: list[dict[str, Any]],
    orders: list[dict[str, Any]],
    quotes: "Row | None",
) -> list[str]:
    """What stands in the way now, then what the last run, the last decision and the last order came to."""
    answers = _standing(symbol, policy, control)
    answers.append(_run_sentence(symbol, matrix[0] if matrix else None))
    known = {order["order_key"] for order in orders}
    if signals and signals[0]["order_key"] not in known:
        answers.append(_signal_sentence(signals[0]))
    answers.append(_order_sentence(symbol, orders[0] if orders else None))
    if quotes is not None:
        answers.append(
            f"The market maker's last round, at {_time(quotes['at'])}: bid: {quotes['bid_sentence']}; "
            f"ask: {quotes['ask_sentence']}."
        )
    return answers


def _standing(symbol: str, policy: "Policy", control: "Control") -> list[str]:
    from activities.orders.entry_facts import disabled_why

    found = []
    if control.halted:
        because = f": {control.reason}" if control.reason else ""
        since = f" since {_time(control.changed_at)}" if control.changed_at else ""
        found.append(
            f"Entries are halted by {control.changed_by or 'somebody'}{since}{because}. "
            "`bottrader resume` lets them pass."
        )
    if reason := disabled_why(symbol, policy):
        found.append(f"{symbol} is not bought: {reason}.")
    if symbol in policy.blocked:
        found.append(f"{symbol} is on the block list and is never bought (symbols.block).")
    if symbol in policy.hodl:
        found.append(f"{symbol} is on the HODL list and is never sold by the system (symbols.hodl).")
    return found


def _run_sentence(symbol: str, row: dict[str, Any] | None) -> str:
    if row is None:
        return f"No strategy run has looked at {symbol}: `bottrader strategy show` tells of the runs."
    scores = f"buy score {shown(row['buy_score']) or '–'}, sell score {shown(row['sell_score']) or '–'}"
    decided = {"buy": "decided to buy", "sell": "decided to sell"}.get(row["action"], "held")
    by = f" by {row['trigger']}" if row["trigger"] else ""
    reason = f": {row['reason']}" if row["reason"] else ""
    return f"The last run, at {_time(row['at'])}, {decided}{by} ({scores}){reason}."


def _signal_sentence(row: dict[str, Any]) -> str:
    sentence = f": {row['sentence']}" if row["sentence"] else ""
    return (
        f"The last signal, at {_time(row['at'])}, was to {row['side'].lower()} by {row['trigger']} and "
        f"became {row['decision']}{sentence}."
    )


def _order_sentence(symbol: str, row: dict[str, Any] | None) -> str:
    from domain.wording import short

    if row is None:
        return f"There has been no order for {symbol}."
    what = f"The last order, at {_time(row['at'])}, {row['side']} by {row['trigger']} ({short(row['order_key'])}),"
    if row["gate"]:
        return f"{what} was refused by {row['gate']}: {row['sentence']}."
    refused = f" ({row['refusal']})" if row["refusal"] else ""
    sentence = f": {row['sentence']}" if row["sentence"] else ""
    filled = f", filled {shown(row['filled_size'])}" if row["filled_size"] else ""
    return f"{what} passed every gate and is {row['state']}{refused}{filled}{sentence}."


def _time(at: "datetime | None") -> str:
    return shown(at)


# --- what is printed -------------------------------------------------------------------------------------------------


def _print(found: dict[str, Any]) -> None:
    for answer in found["answers"]:
        typer.echo(answer)
    market = found["market"]
    if market is not None:
        known = [f"{name} {shown(market[name])}" for name in ("bid", "ask", "price") if market[name] is not None]
        if market["change_24h"] is not None:
            known.append(f"24 h {100 * market['change_24h']:+.2f} %")
        typer.echo(f"Market at {_time(market['at'])}: {', '.join(known)}.")
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
                title=f"Indicators of the run at {_time(row['at'])}",
            )


def _print_order(order: dict[str, Any]) -> None:
    from domain.wording import short

    how = f"refused by {order['gate']}" if order["gate"] else order["state"]
    print_table(
        ("", "gate", "what it compared"),
        [
            (
                "passed" if gate["passed"] else "REFUSED",
                gate["gate"] + (f" (attempt {gate['attempt']})" if gate["attempt"] > 1 else ""),
                ", ".join(f"{name} {value}" for name, value in gate["numbers"].items() if value not in ("", "None")),
            )
            for gate in order["gates"]
        ],
        title=f"Gates of {order['side']} {short(order['order_key'])} at {_time(order['at'])}: {how}",
        empty="No gate ran.",
    )
