"""Why a product was traded or not: the halt switch and the lists, the matrix, every gate and its numbers, in plain
words."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from domain.gates import never_sold
from domain.text import shown
from domain.wording import short, tidy
from web.views import Json, Ledger, Row
from web.views.limits import used_up

__all__ = ["Lists", "Switch", "newest_matrix", "newest_signals", "read_why"]

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


class Lists(Protocol):
    """The symbols' lists in force; with an empty `allowed` every product may be bought."""

    @property
    def allowed(self) -> Collection[str]: ...
    @property
    def disabled(self) -> Collection[str]: ...
    @property
    def blocked(self) -> Collection[str]: ...
    @property
    def hodl(self) -> Collection[str]: ...


class Switch(Protocol):
    """Whether entries are halted, by whom, since when (UTC) and why."""

    @property
    def halted(self) -> bool: ...
    @property
    def changed_by(self) -> str: ...
    @property
    def changed_at(self) -> datetime | None: ...
    @property
    def reason(self) -> str: ...


async def read_why(
    ledger: Ledger,
    account: str,
    symbol: str,
    last: int,
    *,
    lists: Lists,
    switch: Switch,
    not_bought: str,
    limits: Json,
) -> dict[str, Any]:
    """Why `symbol` was traded or not, as JSON: answers in plain words, and the newest `last` rows of the matrix, the
    signals and the orders behind them. `not_bought`: why the settings forbid buying it; empty if they don't. `limits`:
    as `web.views.limits` has them.
    """
    market = await ledger.fetchrow(_MARKET, account, symbol)
    matrix = [_plain(row) for row in await newest_matrix(ledger, account, symbol, last)]
    signals = [_plain(row) for row in await newest_signals(ledger, account, symbol, last)]
    orders = [_plain(row) for row in await ledger.fetch(_ORDERS, account, symbol, last)]
    quotes = await ledger.fetchrow(_QUOTES, account, symbol)
    return {
        "symbol": symbol,
        "account": account,
        "answers": _answers(symbol, lists, switch, not_bought, limits, matrix, signals, orders, quotes),
        "limits": limits,
        "switch": {
            "halted": switch.halted,
            "by": switch.changed_by,
            "reason": switch.reason,
            "since": switch.changed_at,
            "may_be_bought": not lists.allowed or symbol in lists.allowed,
            "disabled": symbol in lists.disabled,
            "blocked": symbol in lists.blocked,
            "hodl": symbol in lists.hodl,
        },
        "market": _plain(market) if market else None,
        "matrix": matrix,
        "signals": signals,
        "orders": orders,
    }


async def newest_matrix(ledger: Ledger, account: str, symbol: str, most: int) -> list[Row]:
    """The strategy's newest decisions on a product, newest first."""
    return await ledger.fetch(_MATRIX, account, symbol, most)


async def newest_signals(ledger: Ledger, account: str, symbol: str, most: int) -> list[Row]:
    """The newest signals on a product and their outcomes, newest first."""
    return await ledger.fetch(_SIGNALS, account, symbol, most)


def _plain(row: Row) -> dict[str, Any]:
    return {name: tidy(value) if isinstance(value, Decimal) else value for name, value in row.items()}


# --- in plain words --------------------------------------------------------------------------------------------------


def _answers(
    symbol: str,
    lists: Lists,
    switch: Switch,
    not_bought: str,
    limits: Json,
    matrix: list[dict[str, Any]],
    signals: list[dict[str, Any]],
    orders: list[dict[str, Any]],
    quotes: Row | None,
) -> list[str]:
    """What prevents a buy now, then the results of the last run, decision and order."""
    answers = [*_standing(symbol, lists, switch, not_bought), *used_up(limits)]
    answers.append(_run_sentence(symbol, matrix[0] if matrix else None))
    known = {order["order_key"] for order in orders}
    if signals and signals[0]["order_key"] not in known:
        answers.append(_signal_sentence(signals[0]))
    answers.append(_order_sentence(symbol, orders[0] if orders else None))
    if quotes is not None:
        answers.append(
            f"The market maker's last round, at {shown(quotes['at'])}: bid: {quotes['bid_sentence']}; "
            f"ask: {quotes['ask_sentence']}."
        )
    return answers


def _standing(symbol: str, lists: Lists, switch: Switch, not_bought: str) -> list[str]:
    found = []
    if switch.halted:
        because = f": {switch.reason}" if switch.reason else ""
        since = f" since {shown(switch.changed_at)}" if switch.changed_at else ""
        found.append(
            f"Entries are halted by {switch.changed_by or 'an unknown person'}{since}{because}. "
            "`bottrader resume` allows them again."
        )
    if not_bought:
        found.append(f"{symbol} is not bought: {not_bought}.")
    if symbol in lists.blocked:
        found.append(f"{symbol} is on the block list and is never bought (symbols.block).")
    if symbol in lists.hodl:
        found.append(f"{never_sold(symbol, listed=True).sentence} (symbols.hodl).")
    return found


def _run_sentence(symbol: str, row: dict[str, Any] | None) -> str:
    if row is None:
        return f"No strategy run has evaluated {symbol}: see `bottrader strategy show`."
    scores = f"buy score {shown(row['buy_score']) or '–'}, sell score {shown(row['sell_score']) or '–'}"
    decided = {"buy": "decided to buy", "sell": "decided to sell"}.get(row["action"], "held")
    by = f" by {row['trigger']}" if row["trigger"] else ""
    reason = f": {row['reason']}" if row["reason"] else ""
    return f"The last run, at {shown(row['at'])}, {decided}{by} ({scores}){reason}."


def _signal_sentence(row: dict[str, Any]) -> str:
    sentence = f": {row['sentence']}" if row["sentence"] else ""
    return (
        f"The last signal, at {shown(row['at'])}, was to {row['side'].lower()} by {row['trigger']} and "
        f"became {row['decision']}{sentence}."
    )


def _order_sentence(symbol: str, row: dict[str, Any] | None) -> str:
    if row is None:
        return f"There has been no order for {symbol}."
    what = f"The last order, at {shown(row['at'])}, {row['side']} by {row['trigger']} ({short(row['order_key'])}),"
    if row["gate"]:
        return f"{what} was refused by {row['gate']}: {row['sentence']}."
    refused = f" ({row['refusal']})" if row["refusal"] else ""
    sentence = f": {row['sentence']}" if row["sentence"] else ""
    filled = f", filled {shown(row['filled_size'])}" if row["filled_size"] else ""
    return f"{what} passed every gate and is {row['state']}{refused}{filled}{sentence}."
