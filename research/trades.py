"""Closed trades as columns, read once: what every report is made of.

What is owed (profit and loss, fees) stays a Decimal; everything else is float64. All fractions are of the entry price,
of a trade with several exits by size. With c what the trade's rules were set to (its reward if it won, minus its risk
if it lost), t what the rule that closed it aims for, d the price that made it due, g what was achieved before fees and
n after fees, each trade's result is c + (t - c) + (d - t) + (g - d) + (n - g): the way out that it took, the distance
of the market from the rule's level when it was noticed, slippage, and fees. The parts add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.exits import ExitRules
from domain.outcome import trade_pnl

__all__ = ["Floats", "TradeTable", "read_trades"]

Floats = NDArray[np.float64]

_DEFAULT = ExitRules()
# As one text each: a list a trade takes longer to read than everything else together.
_BETWEEN = "\x1f"
_INDICATORS = """, array_to_string(o.indicators_fired, chr(31)) AS fired,
       array_to_string(ARRAY(SELECT jsonb_object_keys(o.indicator_breakdown)), chr(31)) AS known"""
_STATEMENT = """
WITH legs AS (
    SELECT entry_key, size::float8 AS size, coalesce(trigger_price, average_price)::float8 AS due,
           target_fraction::float8 AS aimed, slippage::float8 AS slippage, path, attempts
      FROM trade_exits WHERE size > 0),
left_by AS (
    SELECT entry_key, sum(size) AS size, sum(size * due) AS due, coalesce(sum(size * aimed), 0) AS aimed,
           coalesce(sum(size) FILTER (WHERE aimed IS NULL), 0) AS free_size,
           coalesce(sum(size * due) FILTER (WHERE aimed IS NULL), 0) AS free_due,
           coalesce(sum(slippage * size), 0) AS slippage, min(path) AS path, sum(attempts)::int AS attempts
      FROM legs GROUP BY 1)
SELECT t.entry_key, t.symbol, o.trigger, o.source, coalesce(t.exit_reason, 'NONE') AS reason,
       coalesce(x.path, 'none') AS path, coalesce(x.attempts, 0) AS attempts,
       extract(epoch FROM t.opened_at)::float8 AS opened, extract(epoch FROM t.closed_at)::float8 AS closed,
       CASE WHEN t.sold_size + t.sold_base_fees >= t.bought_size - t.bought_base_fees
            THEN t.sold_value - t.sold_quote_fees - t.bought_value - t.bought_quote_fees END AS pnl,
       CASE WHEN t.sold_size + t.sold_base_fees >= t.bought_size - t.bought_base_fees THEN NULL
            ELSE ARRAY[t.bought_size - t.bought_base_fees, t.bought_value + t.bought_quote_fees,
                       t.sold_size + t.sold_base_fees, t.sold_value - t.sold_quote_fees] END AS parts,
       t.bought_quote_fees + t.sold_quote_fees AS fees,
       (t.bought_value + t.bought_quote_fees)::float8 AS cost,
       t.bought_value::float8 / t.bought_size::float8 AS entry_price,
       t.sold_value::float8 / t.sold_size::float8 AS exit_price,
       least(1, (t.sold_size + t.sold_base_fees) / (t.bought_size - t.bought_base_fees))::float8 AS sold_share,
       x.size, x.due, x.aimed, x.free_size, x.free_due, x.slippage,
       (t.rules ->> 'soft_stop')::float8 AS soft_stop, (t.rules ->> 'take_profit')::float8 AS take_profit,
       (t.rules ->> 'trailing_arm')::float8 AS trailing_arm, o.buy_score::float8 AS score{indicators}
  FROM trades t JOIN orders o ON o.order_key = t.entry_key LEFT JOIN left_by x ON x.entry_key = t.entry_key
 WHERE t.account = $1 AND t.state = 'CLOSED' AND t.sold_size > 0 AND t.bought_size > t.bought_base_fees
   AND ($2::timestamptz IS NULL OR t.closed_at >= $2) AND ($3::timestamptz IS NULL OR t.closed_at < $3)
 ORDER BY t.closed_at, t.entry_key
"""


@dataclass(frozen=True, slots=True)
class TradeTable:
    """Closed trades, in the order in which they closed; every column has one element a trade.

    `pnl` and `fees` in quote currency, exact; `won` where there was a gain after fees. Seconds since 1970 (UTC) for
    `opened` and `closed`; wall time. Fractions of the entry price: `configured`, `aimed`, `due`, `gross`, `net` (see
    the module), `reward` and `risk` of the rules. `slippage` in quote currency: what exits brought beyond the price
    that made them due. `score` NaN: none was given. `fired` and `known`: indicators by name, where they were asked for.
    """

    key: Sequence[str]
    symbol: Sequence[str]
    trigger: Sequence[str]
    source: Sequence[str]
    reason: Sequence[str]
    path: Sequence[str]
    fired: Sequence[frozenset[str]]
    known: Sequence[frozenset[str]]
    pnl: Sequence[Decimal]
    fees: Sequence[Decimal]
    won: NDArray[np.bool_]
    opened: Floats
    closed: Floats
    cost: Floats
    score: Floats
    slippage: Floats
    attempts: Floats
    reward: Floats
    risk: Floats
    configured: Floats
    aimed: Floats
    due: Floats
    gross: Floats
    net: Floats

    def __len__(self) -> int:
        return len(self.key)

    @property
    def held(self) -> Floats:
        """Wall seconds from the first fill to the close."""
        return self.closed - self.opened


async def read_trades(
    connection: Any,
    account: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    indicators: bool = False,
) -> TradeTable:
    """The trades that closed from `since` until before `until`. Raises the database's errors.

    With `indicators` also which were known and which fired: half of what is read, and one report's only.

    What was taken outside or written off whole brought no sale of ours: such trades are in no report.
    """
    async with connection.transaction(readonly=True):
        # Many narrow rows: sorted and joined in memory, whatever the server's default.
        await connection.execute("SET LOCAL work_mem = '128MB'")
        statement = _STATEMENT.replace("{indicators}", _INDICATORS if indicators else "")
        rows = await connection.fetch(statement, account, since, until, timeout=120)
    return table_of(rows)


def table_of(rows: Sequence[Mapping[str, Any]]) -> TradeTable:
    """Rows of the statement above as columns."""
    column = dict(zip(rows[0].keys(), zip(*(row.values() for row in rows), strict=True), strict=True)) if rows else {}

    def floats(name: str, missing: float = math.nan) -> Floats:
        return np.array([missing if value is None else value for value in column.get(name, ())], np.float64)

    def texts(name: str) -> Sequence[str]:
        return column.get(name, ())

    pnl = [
        value if value is not None else trade_pnl(*parts)
        for value, parts in zip(column.get("pnl", ()), column.get("parts", ()), strict=True)
    ]
    entry, cost = floats("entry_price"), floats("cost")
    gain = np.array([float(value) for value in pnl], np.float64)
    # Of what was sold: dust and what was taken outside are no part of the result.
    sold = floats("sold_share", 0.0)
    net = np.divide(gain, cost * sold, out=np.zeros_like(gain), where=cost * sold > 0)
    gross = floats("exit_price") / entry - 1
    reward, risk = _configured(floats("take_profit"), floats("trailing_arm"), floats("soft_stop"))
    size = floats("size", 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        due = np.where(size > 0, floats("due") / size / entry - 1, gross)
        free = np.where(floats("free_size", 0.0) > 0, floats("free_due") / entry - floats("free_size"), 0.0)
        aimed = np.where(size > 0, (floats("aimed") + free) / size, due)
    return TradeTable(
        key=texts("entry_key"),
        symbol=texts("symbol"),
        trigger=texts("trigger"),
        source=texts("source"),
        reason=texts("reason"),
        path=texts("path"),
        fired=_sets(column.get("fired") or [""] * len(rows)),
        known=_sets(column.get("known") or [""] * len(rows)),
        pnl=pnl,
        fees=list(column.get("fees", ())),
        won=np.fromiter((value > 0 for value in pnl), np.bool_, len(pnl)),
        opened=floats("opened"),
        closed=floats("closed"),
        cost=cost,
        score=floats("score"),
        slippage=floats("slippage", 0.0),
        attempts=floats("attempts", 0.0),
        reward=reward,
        risk=risk,
        configured=np.where(gain > 0, reward, -risk),
        aimed=aimed,
        due=due,
        gross=gross,
        net=net,
    )


def _configured(take_profit: Floats, trailing_arm: Floats, soft_stop: Floats) -> tuple[Floats, Floats]:
    """The nearest profit rule and the nearest stop; where a trade has no profit rule, none was configured (NaN)."""
    risk = np.where(np.isnan(soft_stop), float(_DEFAULT.soft_stop), soft_stop)
    return np.fmin(take_profit, trailing_arm), risk


def _sets(values: Sequence[str]) -> Sequence[frozenset[str]]:
    """The same set for the same names: there are few combinations and many trades."""
    seen = {value: frozenset(value.split(_BETWEEN)) - {""} for value in set(values)}
    return [seen[value] for value in values]
