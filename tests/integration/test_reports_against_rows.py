"""Every grouping of the reports compared with a query over the rows: two accounts, three currencies, unknown rates."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.database import Pool, create_pool
from research.analysis import GROUPINGS, summaries
from research.trades import read_trades

ACCOUNTS = ("main", "second")
SYMBOLS = ("BTC-USD", "ETH-USD", "ETH-BTC", "SOL-BTC", "BTC-EUR")
START = datetime(2026, 2, 27, tzinfo=UTC)
LABELS = {
    "triggers": "o.trigger",
    "exits": "coalesce(t.exit_reason, 'NONE')",
    "symbols": "t.symbol",
    "hours": "to_char(t.opened_at AT TIME ZONE 'UTC', 'HH24')",
    "days": "to_char(t.closed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "scores": "to_char(floor(o.buy_score / 0.5) * 0.5, 'FM990.0') || ' to ' || "
    "to_char((floor(o.buy_score / 0.5) + 1) * 0.5, 'FM990.0')",
}
# A trade sold in part bears that part of its cost; one that sold nothing is in no report.
ROWS = """
WITH told AS (
    SELECT split_part(t.symbol, '-', 2) AS currency, {label} AS label,
           t.bought_quote_fees + t.sold_quote_fees AS fees, t.sold_value - t.sold_quote_fees
           - (t.bought_value + t.bought_quote_fees)
             * least(1, (t.sold_size + t.sold_base_fees) / (t.bought_size - t.bought_base_fees)) AS pnl
      FROM trades t JOIN orders o ON o.order_key = t.entry_key
     WHERE t.account = $1 AND t.state = 'CLOSED' AND t.sold_size > 0
       AND t.closed_at >= $2 AND t.closed_at < $3)
SELECT label, currency, count(*) AS trades, count(*) FILTER (WHERE pnl > 0) AS wins, round(sum(pnl), 8) AS pnl,
       sum(fees) AS fees
  FROM told WHERE label IS NOT NULL GROUP BY 1, 2
"""


async def write(pool: Pool, dice: random.Random, count: int) -> None:
    """Trades of both accounts: open and closed ones, sold completely, in part and not at all, with fees of both
    kinds."""

    def some(most: int, places: int) -> Decimal:
        return Decimal(dice.randint(1, most)).scaleb(-places)

    for _ in range(count):
        key, account, symbol = uuid.UUID(int=dice.getrandbits(128)).hex, dice.choice(ACCOUNTS), dice.choice(SYMBOLS)
        closed = dice.random() < 0.9
        bought = some(10**6, 5)
        base_fees = bought / 1000 if dice.random() < 0.3 else Decimal(0)
        sold = (bought - base_fees) * dice.choice((Decimal(1), Decimal(1), Decimal("0.37"), Decimal(0)))
        opened = START + timedelta(seconds=dice.randint(0, 4 * 86_400))
        # midnight and the first of a month among them
        left = dice.choice((opened + timedelta(hours=1), datetime(2026, 3, 1, tzinfo=UTC)))
        await pool.execute(
            """INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point,
                                   trigger, buy_score, intent, intent_digest, state, finished)
               VALUES ($1,$2,$3,'BUY','ENTRY',$1,'MARKET','sighook','test',$4,$5,'{}','','FILLED',true)""",
            key,
            account,
            symbol,
            dice.choice(("rsi_oversold", "roc_momo")),
            dice.choice((None, Decimal("0.5"), Decimal(1), some(20, 1))),
        )
        await pool.execute(
            """INSERT INTO trades (entry_key, account, symbol, state, bought_size, bought_base_fees, bought_value,
                                   bought_quote_fees, sold_size, sold_value, sold_quote_fees, external_size,
                                   entry_final, exit_reason, opened_at, closed_at, quote_rate)
               VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,true,$13,$14,$15,$16)""",
            key,
            account,
            symbol,
            "CLOSED" if closed else "PROTECTED",
            bought,
            base_fees,
            some(10**8, 6),
            some(10**5, 6),
            sold,
            some(10**8, 6) if sold else Decimal(0),
            some(10**5, 6) if sold else Decimal(0),
            bought - base_fees - sold if closed else Decimal(0),
            dice.choice(("HARD_STOP", "TP", None)) if closed else None,
            opened,
            max(left, opened) if closed else None,
            dice.choice((None, Decimal("1.1"))),
        )


@pytest.mark.parametrize("seed", range(4))
async def test_every_grouping_is_a_query_over_the_rows(database: str, seed: int) -> None:
    """Counts, wins, results and fees, to the last of eight places, of each account, currency and period: with any
    unknown rates, no number includes another account or currency, and nothing is left out.
    """
    pool = await create_pool(database)
    try:
        await write(pool, random.Random(seed), 150)
        ends = (START, datetime(2026, 3, 1, tzinfo=UTC), START + timedelta(days=9))
        async with pool.acquire() as connection:
            for account in ACCOUNTS:
                for since, until in ((ends[0], ends[1]), (ends[1], ends[2]), (ends[0], ends[2])):
                    table = await read_trades(connection, account, since, until)
                    for name, label in {"all": "'all'", **LABELS}.items():
                        rows = await connection.fetch(ROWS.format(label=label), account, since, until)
                        found = summaries(table) if name == "all" else GROUPINGS[name](table)
                        assert told(found) == {tuple(row.values())[:2]: tuple(row.values())[2:] for row in rows}, name
    finally:
        await pool.close()


def told(groups: Any) -> dict[tuple[str, str], tuple[int, int, Decimal, Decimal]]:
    """A report's numbers, by group and currency."""
    return {
        (item.group, item.currency): (item.trades, item.wins, round(item.pnl, 8), item.fees)
        for item in groups
        if item.trades
    }
