"""Closed trades as columns, read once: the input of every report.

Amounts (profit and loss, fees) stay Decimals; everything else is float64. All fractions are of the entry price, for a
trade with several exits weighted by size. With c the configured result (the rules' reward if the trade won, minus their
risk if it lost), t the target of the rule that closed it, d the price that made it due, g the result before fees and n
after fees, each trade's result is c + (t - c) + (d - t) + (g - d) + (n - g): exit rule, distance of the market from the
rule's level when the exit became due, slippage, and fees. The parts add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.exits import ExitRules

__all__ = ["Floats", "TradeTable", "quote_of", "read_trades", "table_of"]

Floats = NDArray[np.float64]

_DEFAULT = ExitRules()
_TEXTS = ("entry_key", "symbol", "trigger", "reason")
_DECIMALS = ("pnl", "fees")
_FLOATS = (
    "opened", "closed", "cost", "bought_value", "bought_size", "sold_value", "sold_size", "sold_share", "soft_stop",
    "hard_stop", "take_profit", "trailing_arm", "score",
)  # fmt: skip
_SELL_SCORE = {"sell_score": "(SELECT l.sell_score FROM trade_strategy_link l WHERE l.order_key = t.entry_key)::float8"}
"""The matrix's at the last exit, which completes the entry's linkage."""
_LEG_FLOATS = ("size", "due", "aimed", "slippage")
_BETWEEN = "\x1f"
# As one text each: a list per trade takes longer to read than everything else together.
_SETS = {
    "fired": "array_to_string(o.indicators_fired, chr(31))",
    # Names first, then each one's contribution: a row for each contribution takes twice as long.
    "quiet": """array_to_string(ARRAY(
        SELECT name FROM (SELECT jsonb_object_keys(o.indicator_breakdown) AS name OFFSET 0) names
         WHERE o.indicator_breakdown -> name ->> 'fired' IS DISTINCT FROM 'true'
           AND o.indicator_breakdown -> name ->> 'value' IS NOT NULL), chr(31))""",
}
# A result row for each trade takes longer to send and to read than everything else together, so each column is one
# value: floats as their eight bytes end to end, the rest as arrays. Each aggregate has the same order of rows.
_CLOSED = """
WITH closed AS (
    SELECT *, sold_size + sold_base_fees AS units_sold, bought_size - bought_base_fees AS units_bought,
           bought_value + bought_quote_fees AS outlay
      FROM trades
     WHERE account = $1 AND state = 'CLOSED' AND sold_size > 0 AND bought_size > bought_base_fees
       AND ($2::timestamptz IS NULL OR closed_at >= $2) AND ($3::timestamptz IS NULL OR closed_at < $3))"""
_TRADES = """{closed},
told AS (
    SELECT t.entry_key, t.symbol, o.trigger, coalesce(t.exit_reason, 'NONE') AS reason,
           t.pnl, t.bought_quote_fees + t.sold_quote_fees AS fees,
           CASE WHEN t.units_sold >= t.units_bought THEN 1 ELSE (t.units_sold / t.units_bought)::float8 END
               AS sold_share,
           date_part('epoch', t.opened_at) AS opened, date_part('epoch', t.closed_at) AS closed,
           t.outlay::float8 AS cost, t.bought_value::float8, t.bought_size::float8, t.sold_value::float8,
           t.sold_size::float8, (t.rules ->> 'soft_stop')::float8 AS soft_stop,
           (t.rules ->> 'hard_stop')::float8 AS hard_stop,
           coalesce((t.rules ->> 'take_profit_atr')::float8 * (t.rules ->> 'target_atr')::float8
                    / nullif(t.bought_value / nullif(t.bought_size, 0), 0)::float8,
                    (t.rules ->> 'take_profit')::float8) AS take_profit,
           (t.rules ->> 'trailing_arm')::float8 AS trailing_arm,
           o.buy_score::float8 AS score{sets}
      FROM closed t JOIN orders o ON o.order_key = t.entry_key)
SELECT {columns} FROM told
"""
_LEGS = """{closed},
told AS (
    SELECT entry_key, e.size::float8, coalesce(e.trigger_price, e.average_price)::float8 AS due,
           e.target_fraction::float8 AS aimed, coalesce(e.slippage, 0)::float8 AS slippage
      FROM trade_exits e JOIN closed USING (entry_key) WHERE e.size > 0)
SELECT array_agg(entry_key) AS entry_key, {columns} FROM told
"""


def _bytes(names: Sequence[str]) -> str:
    return ", ".join(f"string_agg(float8send(coalesce({name}, 'NaN')), '') AS {name}" for name in names)


def _trades_statement(*, indicators: bool, sell_scores: bool) -> str:
    sets, scores = _SETS if indicators else {}, _SELL_SCORE if sell_scores else {}
    columns = [
        *(f"array_agg({name}) AS {name}" for name in (*_TEXTS, *_DECIMALS, *sets)),
        _bytes((*_FLOATS, *scores)),
    ]
    told = "".join(f",\n           {expression} AS {name}" for name, expression in (sets | scores).items())
    return _TRADES.replace("{closed}", _CLOSED).replace("{sets}", told).replace("{columns}", ", ".join(columns))


_LEGS_STATEMENT = _LEGS.replace("{closed}", _CLOSED).replace("{columns}", _bytes(_LEG_FLOATS))


@dataclass(frozen=True, slots=True)
class TradeTable:
    """Closed trades, in the order in which they closed; every column has one element per trade.

    `pnl` and `fees` in quote currency, exact; `won`: there was a gain after fees. `opened` and `closed` in seconds
    since 1970 (UTC), wall time. Fractions of the entry price: `configured`, `aimed`, `due`, `gross`, `net` (see the
    module), `reward`, `risk` and `hard_stop` of the rules. `slippage` in quote currency: exit proceeds beyond the price
    that made the exits due. `score` NaN: there was none. `sell_score`: the matrix's at the last exit; NaN: none, or not
    requested. If requested, `fired`: indicators behind the decision, by name, and `quiet`: those that were computed and
    did not fire, for either side.
    """

    key: Sequence[str]
    symbol: Sequence[str]
    trigger: Sequence[str]
    reason: Sequence[str]
    fired: Sequence[frozenset[str]]
    quiet: Sequence[frozenset[str]]
    pnl: Sequence[Decimal]
    fees: Sequence[Decimal]
    won: NDArray[np.bool_]
    opened: Floats
    closed: Floats
    cost: Floats
    score: Floats
    slippage: Floats
    sell_score: Floats
    reward: Floats
    risk: Floats
    hard_stop: Floats
    configured: Floats
    aimed: Floats
    due: Floats
    gross: Floats
    net: Floats

    def __len__(self) -> int:
        return len(self.key)

    @property
    def currencies(self) -> Sequence[str]:
        """The quote currencies of its trades, sorted: amounts of different ones are never added."""
        return sorted({quote_of(symbol) for symbol in set(self.symbol)})

    def in_currency(self, currency: str) -> NDArray[np.int64]:
        """The rows of trades priced in this currency."""
        priced = {symbol for symbol in set(self.symbol) if quote_of(symbol) == currency}
        return np.flatnonzero(np.fromiter((symbol in priced for symbol in self.symbol), np.bool_, len(self)))

    def part(self, rows: NDArray[np.int64]) -> TradeTable:
        """The table of these trades only."""
        places = rows.tolist()

        def of(column: Any) -> Any:
            return column[rows] if isinstance(column, np.ndarray) else [column[place] for place in places]

        return TradeTable(**{column.name: of(getattr(self, column.name)) for column in fields(self)})

    @property
    def held(self) -> Floats:
        """Wall seconds from the first fill to the close."""
        return self.closed - self.opened


def quote_of(symbol: str) -> str:
    """A product's quote currency: EUR of BTC-EUR."""
    return symbol.replace("_", "-").partition("-")[2]


async def read_trades(
    connection: Any,
    account: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    indicators: bool = False,
    sell_scores: bool = False,
) -> TradeTable:
    """The trades that closed from `since` until before `until`. Raises the database's errors.

    With `indicators` also those that fired and those that were computed and did not: half of the data, for one report
    only. With `sell_scores` also the sell score of each last exit.

    Trades that were sold outside or written off completely have no sale of ours and are in no report.
    """
    asked = account, since, until
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # Many narrow rows: joined in memory, whatever the server's default. Passing half-made columns on costs parallel
        # workers more than making them, and the trading system needs the other cores.
        await connection.execute("SET LOCAL work_mem = '128MB'; SET LOCAL max_parallel_workers_per_gather = 0")
        statement = _trades_statement(indicators=indicators, sell_scores=sell_scores)
        trades = await connection.fetchrow(statement, *asked, timeout=120)
        legs = await connection.fetchrow(_LEGS_STATEMENT, *asked, timeout=120)
    columns = _columns(trades, (*_FLOATS, *_SELL_SCORE))
    return table_of(columns | _left_by(columns.get("entry_key", ()), _columns(legs, _LEG_FLOATS)))


def _columns(row: Mapping[str, Any], floats: Sequence[str]) -> dict[str, Any]:
    """The columns of a result that are present, with floats decoded."""
    found = {name: value for name, value in row.items() if value is not None}
    return found | {name: np.frombuffer(found[name], ">f8").astype(np.float64) for name in floats if name in found}


def _left_by(keys: Sequence[str], legs: Mapping[str, Any]) -> dict[str, Floats]:
    """The exits of each trade together: sums over its legs, with separate sums for legs without a target."""
    if not legs:
        return {}
    place = {key: number for number, key in enumerate(keys)}
    owner = np.array([place[key] for key in legs["entry_key"]], np.int64)
    size, due, aimed = legs["size"], np.nan_to_num(legs["due"]), legs["aimed"]
    free = np.isnan(aimed)
    weights = {
        "size": size,
        "due": size * due,
        "aimed": np.where(free, 0.0, size * aimed),
        "free_size": np.where(free, size, 0.0),
        "free_due": np.where(free, size * due, 0.0),
        "slippage": size * legs["slippage"],
    }
    return {name: np.bincount(owner, weight, len(keys)).astype(np.float64) for name, weight in weights.items()}


def table_of(columns: Mapping[str, Any]) -> TradeTable:
    """The table of the statement's columns, whose rows may be in any order. Missing floats are NaN."""
    keys = columns.get("entry_key", ())
    order = _order(np.asarray(columns.get("closed", ()), np.float64), keys)
    places = order.tolist()

    def floats(name: str, missing: float = math.nan) -> Floats:
        # If no trade has a value, the result has no such column.
        found = np.asarray(columns.get(name, [math.nan] * len(keys)), np.float64)[order]
        return found if math.isnan(missing) else np.where(np.isnan(found), missing, found)

    def listed(values: Sequence[Any]) -> Sequence[Any]:
        return [values[place] for place in places]

    def texts(name: str) -> Sequence[str]:
        return listed(columns.get(name, ()))

    pnl = listed(columns.get("pnl", ()))
    entry, cost = floats("bought_value") / floats("bought_size"), floats("cost")
    gain = np.array([float(value) for value in pnl], np.float64)
    # Only of the sold part: dust and sizes sold outside are not part of the result.
    sold = floats("sold_share", 0.0)
    net = np.divide(gain, cost * sold, out=np.zeros_like(gain), where=cost * sold > 0)
    gross = floats("sold_value") / floats("sold_size") / entry - 1
    reward, risk = _configured(floats("take_profit"), floats("trailing_arm"), floats("soft_stop"))
    hard_stop = floats("hard_stop", float(_DEFAULT.hard_stop))
    size = floats("size", 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        due = np.where(size > 0, floats("due") / size / entry - 1, gross)
        free = np.where(floats("free_size", 0.0) > 0, floats("free_due") / entry - floats("free_size"), 0.0)
        aimed = np.where(size > 0, (floats("aimed") + free) / size, due)
    return TradeTable(
        key=texts("entry_key"),
        symbol=texts("symbol"),
        trigger=texts("trigger"),
        reason=texts("reason"),
        fired=_sets(listed(columns.get("fired", [""] * len(keys)))),
        quiet=_sets(listed(columns.get("quiet", [""] * len(keys)))),
        pnl=pnl,
        fees=listed(columns.get("fees", ())),
        won=np.array([value > 0 for value in pnl], np.bool_),
        opened=floats("opened"),
        closed=floats("closed"),
        cost=cost,
        score=floats("score"),
        slippage=floats("slippage", 0.0),
        sell_score=floats("sell_score"),
        reward=reward,
        risk=risk,
        hard_stop=hard_stop,
        configured=np.where(gain > 0, reward, -risk),
        aimed=aimed,
        due=due,
        gross=gross,
        net=net,
    )


def _order(closed: Floats, keys: Sequence[str]) -> NDArray[np.int64]:
    """The order of closing times, then of keys."""
    order = np.argsort(closed, kind="stable")
    ordered = closed[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    # Runs of the same time, which are few and short.
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else ():
        start, end = int(run[0]), int(run[-1]) + 2
        order[start:end] = sorted(order[start:end].tolist(), key=keys.__getitem__)
    return order


def _configured(take_profit: Floats, trailing_arm: Floats, soft_stop: Floats) -> tuple[Floats, Floats]:
    """The nearest profit rule and the nearest stop; NaN for a trade without a profit rule."""
    risk = np.where(np.isnan(soft_stop), float(_DEFAULT.soft_stop), soft_stop)
    return np.fmin(take_profit, trailing_arm), risk


def _sets(values: Sequence[str]) -> Sequence[frozenset[str]]:
    """One shared set for equal names: there are few combinations and many trades."""
    seen = {value: frozenset(value.split(_BETWEEN)) - {""} for value in set(values)}
    return [seen[value] for value in values]
