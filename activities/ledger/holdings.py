"""The account's holdings beyond its trades: the unowned pool, and which trades bear outflows.

The books add up to the exchange's balance: fills, and `balance_transfers` for what no fill explains. A currency's
holdings less its open trades are the unowned pool. External sells are deducted from trades that external buys opened
(`bear_sales`; each sale's part is stored in `adopted_sales`), then from the pool; withdrawals from the pool. If the
pool would become negative, open trades bear the rest (RECONCILE-5), and their exit plans shrink in the same
transaction. The exchange's own balance must confirm it, because a buy or deposit that is not booked yet looks like a
shortage too. Everything here compares balances, not events, so a repeat finds nothing left to do. `domain.pool` decides
how much a sell may take from the pool, from one read of the coin (`coins`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import domain.adoption
from activities.database import Connection, Pool, Record, Statements, lock_symbol, lock_trade
from activities.incidents import report_incident
from domain.adoption import AdoptedSale
from domain.balances import OpenQuantity, Taken, Transfer, TransferKind, shortage, take_from_trades
from domain.exits import ExitReason
from domain.ids import OUR_SHAPE
from domain.incidents import IncidentKind
from domain.money import ZERO, plain
from domain.pool import Coin

__all__ = [
    "OUTSIDE",
    "Available",
    "bear_sales",
    "book_transfers",
    "books_are_open",
    "coins",
    "cover_shortage",
    "earlier_balances",
    "expected_balances",
    "free_by_books",
    "held_currencies",
    "is_coin",
    "lock_transfers",
    "others_have",
]

OUTSIDE = "were sold or withdrawn outside"

_TRANSFER_LOCK = 74
_CRUMB = Decimal("0.01")
"""Unowned coins below this share of a trade are dust of closed trades."""

Available = Callable[[str], Awaitable[Decimal | None]]
"""A currency's available balance at the exchange now; None if it can't be read."""

_BALANCE_LAGS = (0.0, 0.5, 1.0)
"""Seconds before each read of the balance, which may lag behind a fill. After that the next reconcile reads it."""

# One row for each side of each fill: base in or out, quote out or in, and what no fill explains.
_EXPECTED = """
SELECT currency, sum(amount) AS amount FROM (
    SELECT split_part(translate(symbol, '_', '-'), '-', 1) AS currency,
           CASE side WHEN 'BUY' THEN size - base_fees ELSE -(size + base_fees) END AS amount
      FROM fills WHERE account = $1
    UNION ALL
    SELECT split_part(translate(symbol, '_', '-'), '-', 2),
           CASE side WHEN 'BUY' THEN -(value + quote_fees) ELSE value - quote_fees END
      FROM fills WHERE account = $1
    UNION ALL
    SELECT currency, amount FROM balance_transfers WHERE account = $1
) moved WHERE $2::text IS NULL OR currency = $2
GROUP BY currency
"""
_RECENT = """
SELECT split_part(translate(symbol, '_', '-'), '-', 1) AS base,
       split_part(translate(symbol, '_', '-'), '-', 2) AS quote,
       CASE side WHEN 'BUY' THEN size - base_fees ELSE -(size + base_fees) END AS bought,
       CASE side WHEN 'BUY' THEN -(value + quote_fees) ELSE value - quote_fees END AS paid
  FROM fills WHERE account = $1 AND recorded_at > now() - make_interval(secs => $2)
 ORDER BY recorded_at DESC, at DESC, id DESC
"""
_BASE = "split_part(translate(symbol, '_', '-'), '-', 1)"
# In one statement, so that fills and positions are of one moment.
_POOL = f"""
WITH expected AS ({_EXPECTED})
SELECT coalesce((SELECT amount FROM expected), 0)
     - coalesce((SELECT sum(remaining) FROM trades WHERE account = $1 AND state <> 'CLOSED' AND {_BASE} = $2), 0)
"""
# Everything that a pool is made of, by coin, in one statement, so that all of it is of one moment. What a sell pays in
# base is claimed with it. Orders that were placed after the exchange was asked ($3) are not in what it said.
_COINS = f"""
WITH expected AS ({_EXPECTED}), open_orders AS (
    SELECT o.side, o.entry_key,
           split_part(translate(o.symbol, '_', '-'), '-', CASE o.side WHEN 'SELL' THEN 1 ELSE 2 END) AS coin,
           CASE o.side WHEN 'SELL' THEN o.open_claim
                ELSE greatest(o.reserved_quote - o.filled_value - o.quote_fees, 0) END AS rest,
           coalesce(o.placed_at >= $3, true) AS later
      FROM orders o WHERE o.account = $1 AND NOT o.finished
    UNION ALL
    -- of somebody else's order, which reserves nothing with us, what is left counts; the exchange knew it when asked
    SELECT right(a.whose, -8), NULL,
           split_part(translate(a.symbol, '_', '-'), '-', CASE a.whose WHEN 'EXTERNALSELL' THEN 1 ELSE 2 END),
           greatest(a.size - a.filled_size, 0) * CASE a.whose WHEN 'EXTERNALSELL' THEN 1 ELSE a.limit_price END, false
      FROM (SELECT n.*, (SELECT o.role || o.side FROM orders o WHERE o.order_key = n.order_key) AS whose
              FROM attempts n
             WHERE n.account = $1 AND n.status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED') AND NOT n.live) a
     WHERE a.whose IN ('EXTERNALSELL', 'EXTERNALBUY')
), moving AS (
    SELECT coin,
           sum(rest) FILTER (WHERE side = 'SELL' AND entry_key IS NULL) AS claimed,
           sum(rest) FILTER (WHERE side = 'SELL' AND entry_key IS NULL AND later) AS claimed_since,
           sum(rest) FILTER (WHERE side = 'BUY') AS reserved,
           sum(rest) FILTER (WHERE side = 'BUY' AND later) AS reserved_since,
           sum(rest) FILTER (WHERE side = 'SELL' AND entry_key IS NOT NULL AND NOT later) AS owned_resting
      FROM open_orders WHERE $2::text IS NULL OR coin = $2 GROUP BY coin
), owned AS (
    SELECT {_BASE} AS coin, sum(remaining) AS size FROM trades
     WHERE account = $1 AND state <> 'CLOSED' AND ($2::text IS NULL OR {_BASE} = $2) GROUP BY 1
)
SELECT coin, coalesce(expected.amount, 0) AS books, coalesce(owned.size, 0) AS owned,
       coalesce(claimed, 0) AS claimed, coalesce(claimed_since, 0) AS claimed_since, coalesce(reserved, 0) AS reserved,
       coalesce(reserved_since, 0) AS reserved_since, coalesce(owned_resting, 0) AS owned_resting,
       EXISTS (SELECT 1 FROM balance_transfers WHERE account = $1 AND kind = 'opening') AS opened
  FROM (SELECT $2::text AS coin UNION SELECT currency FROM expected UNION SELECT coin FROM owned
        UNION SELECT coin FROM moving) names
  LEFT JOIN expected ON expected.currency = names.coin
  LEFT JOIN owned USING (coin) LEFT JOIN moving USING (coin)
 WHERE coin IS NOT NULL
"""
# What open orders hold of a coin is not free: sells of ours and of others, and buys that pay with it.
_FREE = f"""
WITH expected AS ({_EXPECTED})
SELECT coalesce((SELECT amount FROM expected), 0)
     - coalesce((SELECT sum(CASE o.side WHEN 'SELL' THEN o.open_claim
                                 ELSE greatest(o.reserved_quote - o.filled_value - o.quote_fees, 0) END)
                   FROM orders o
                  WHERE o.account = $1 AND NOT o.finished AND o.order_key <> $3
                    AND split_part(translate(o.symbol, '_', '-'), '-', CASE o.side WHEN 'SELL' THEN 1 ELSE 2 END) = $2
                ), 0)
     - coalesce((SELECT sum(greatest(a.size - a.filled_size, 0) * CASE o.side WHEN 'SELL' THEN 1 ELSE a.limit_price END)
                   FROM attempts a JOIN orders o USING (order_key)
                  WHERE a.account = $1 AND a.status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED') AND NOT a.live
                    AND o.role = 'EXTERNAL'
                    AND split_part(translate(o.symbol, '_', '-'), '-', CASE o.side WHEN 'SELL' THEN 1 ELSE 2 END) = $2
                ), 0)
"""
# By what is kept of the account's market, or open: an old ledger has too many orders to look through.
_TRADED = """
SELECT EXISTS (SELECT 1 FROM market_prices WHERE account = $1 AND split_part(translate(symbol, '_', '-'), '-', 1) = $2)
    OR EXISTS (SELECT 1 FROM trades WHERE account = $1 AND state <> 'CLOSED'
                  AND split_part(translate(symbol, '_', '-'), '-', 1) = $2)
    OR EXISTS (SELECT 1 FROM orders WHERE account = $1 AND NOT finished
                  AND split_part(translate(symbol, '_', '-'), '-', 1) = $2)
"""
# Cheap, and the usual answer is no: nobody has any of it.
_CONCERNS = f"""
SELECT EXISTS (SELECT 1 FROM trades WHERE account = $1 AND state <> 'CLOSED' AND {_BASE} = $2)
   AND EXISTS (SELECT 1 FROM balance_transfers WHERE account = $1 AND kind = 'opening')
"""
# The trade whose exit an order of the exchange's is, by our id until the exchange's is in the journal; an entry at work
# on the coin may have bought what isn't recorded.
_SELLER = f"""
SELECT t.remaining, {_BASE.replace("symbol", "t.symbol")} AS base,
       (SELECT b.available + b.hold FROM balances b
         WHERE b.account = $1 AND b.currency = {_BASE.replace("symbol", "t.symbol")}) - t.bought_size AS beyond,
       EXISTS (SELECT 1 FROM orders b WHERE b.account = $1 AND b.side = 'BUY' AND NOT b.finished
                  AND b.order_key <> t.entry_key AND {_BASE.replace("symbol", "b.symbol")} =
                      {_BASE.replace("symbol", "t.symbol")}) AS buying
  FROM attempts a JOIN orders o USING (order_key) LEFT JOIN trades t ON t.entry_key = o.entry_key AND o.side = 'SELL'
 WHERE a.account = $1 AND (a.exchange_order_id = $2 OR (a.client_order_id = $3 AND a.exchange_order_id IS NULL))
 ORDER BY a.client_order_id = $3 DESC LIMIT 1
"""
_OPEN = f"""
SELECT t.entry_key, t.opened_at, t.remaining, entry.role = 'EXTERNAL' AS adopted,
       (SELECT min(f.at) FROM fills f WHERE f.order_key = t.entry_key) AS bought_at,
       ARRAY(SELECT f.at FROM fills f WHERE f.order_key = t.entry_key ORDER BY f.at, f.id) AS bought_when,
       ARRAY(SELECT f.size - f.base_fees FROM fills f WHERE f.order_key = t.entry_key ORDER BY f.at, f.id) AS bought,
       coalesce((SELECT sum(o.open_claim) FROM orders o
                 WHERE o.entry_key = t.entry_key AND o.side = 'SELL' AND NOT o.finished), 0) AS claimed
  FROM trades t JOIN orders entry ON entry.order_key = t.entry_key
 WHERE t.account = $1 AND t.state <> 'CLOSED' AND {_BASE.replace("symbol", "t.symbol")} = $2
"""
_ADOPTED = f"""
SELECT EXISTS (SELECT 1 FROM trades t JOIN orders o ON o.order_key = t.entry_key
                WHERE t.account = $1 AND t.state <> 'CLOSED' AND o.role = 'EXTERNAL'
                  AND {_BASE.replace("symbol", "t.symbol")} = $2)
"""
# A buy spends its quote currency, which may be another trade's base. Another instance of ours sells what is its own.
_SALES = """
SELECT o.order_key, max(f.at) AS at,
       sum(CASE o.side WHEN 'SELL' THEN f.size + f.base_fees ELSE f.value + f.quote_fees END)
     - coalesce((SELECT sum(s.size) FROM adopted_sales s WHERE s.sale_key = o.order_key), 0) AS size
  FROM orders o JOIN fills f ON f.order_key = o.order_key
 WHERE o.account = $1 AND o.role = 'EXTERNAL' AND f.at >= $3
   AND split_part(translate(o.symbol, '_', '-'), '-', CASE o.side WHEN 'SELL' THEN 1 ELSE 2 END) = $2
   AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.order_key = o.order_key AND a.client_order_id ~ $4)
 GROUP BY o.order_key
"""


async def expected_balances(pool: Statements, account: str) -> dict[str, Decimal]:
    """The books' totals by currency. Raises the database's errors."""
    rows = await pool.fetch(_EXPECTED, account, None)
    return {row["currency"]: row["amount"] for row in rows if row["currency"]}


async def earlier_balances(pool: Statements, account: str, seconds: float) -> dict[str, set[Decimal]]:
    """The books' totals before each fill recorded in the last seconds, by currency.

    A balance read now may still be one of these. Raises the database's errors.
    """
    now = await expected_balances(pool, account)
    found: dict[str, set[Decimal]] = {}
    for row in await pool.fetch(_RECENT, account, seconds):
        for currency, amount in ((row["base"], row["bought"]), (row["quote"], row["paid"])):
            now[currency] = now.get(currency, ZERO) - amount
            found.setdefault(currency, set()).add(now[currency])
    return found


async def books_are_open(pool: Statements, account: str) -> bool:
    """Whether opening balances are booked; before that the pool is not known. Raises the database's errors."""
    return bool(
        await pool.fetchval(
            "SELECT true FROM balance_transfers WHERE account = $1 AND kind = 'opening' LIMIT 1", account
        )
    )


async def coins(pool: Statements, account: str, asked: datetime, coin: str | None = None) -> dict[str, Coin]:
    """The books' view of each coin, or of one, at one moment; `asked` is when the exchange's balance was requested.
    Raises the database's errors.
    """
    return {
        row["coin"]: Coin(
            books=row["books"] if row["opened"] else None,
            owned=row["owned"],
            claimed=row["claimed"],
            reserved=row["reserved"],
            owned_resting=row["owned_resting"],
            claimed_since=row["claimed_since"],
            reserved_since=row["reserved_since"],
        )
        for row in await pool.fetch(_COINS, account, coin, asked)
    }


async def is_coin(pool: Statements, account: str, currency: str) -> bool:
    """Whether trades can own a currency: one of its products is watched, held or ordered.

    Raises the database's errors.
    """
    return bool(await pool.fetchval(_TRADED, account, currency))


async def others_have(pool: Pool, account: str, exchange_order_id: str, client_order_id: str) -> bool:
    """Whether the account may have coins beyond the trade that this sell belongs to: only then can that trade sell more
    than its own. True if not known (books not opened, an order that is not in the journal), False for any order that is
    not a trade's sell. `client_order_id` is ours, empty if not known. Raises the database's errors.
    """
    row = await pool.fetchrow(_SELLER, account, exchange_order_id, client_order_id)
    if row is None:
        return True
    if row["remaining"] is None:
        return False
    # A deposit may not be booked yet. The answer may be older than the trade's sells, so all that it bought is its own.
    if row["buying"] or (row["beyond"] or ZERO) > _CRUMB * row["remaining"]:
        return True
    coin = (await coins(pool, account, datetime.now(UTC), row["base"]))[row["base"]]
    if coin.books is None or coin.owned > row["remaining"]:
        return True
    return bool(coin.books - coin.owned > _CRUMB * row["remaining"])


async def free_by_books(connection: Statements, account: str, base: str, beside: str) -> Decimal:
    """What of a coin no open order holds by the books, other than the order `beside`; below zero where the books lack
    some, also as they aren't opened yet. Raises the database's errors.
    """
    return Decimal(await connection.fetchval(_FREE, account, base, beside))


async def held_currencies(pool: Statements, account: str) -> Sequence[str]:
    """Base currencies of open trades. Raises the database's errors."""
    rows = await pool.fetch(
        f"SELECT DISTINCT {_BASE} AS base FROM trades WHERE account = $1 AND state <> 'CLOSED' ORDER BY 1", account
    )
    return [row["base"] for row in rows]


async def lock_transfers(connection: Connection, account: str) -> None:
    """Serialise the booking of transfers until the transaction ends. Always after a symbol's lock."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _TRANSFER_LOCK, account)


async def book_transfers(pool: Pool, account: str, found: Sequence[Transfer], expected: Mapping[str, Decimal]) -> bool:
    """Book differences that no fill explains; returns False and books nothing if the books have changed since.

    `expected` are the books' totals by currency when the differences were found. Raises the database's errors.
    """
    async with pool.acquire() as connection, connection.transaction():
        await lock_transfers(connection, account)
        now = await expected_balances(connection, account)
        if any(now.get(currency, ZERO) != amount for currency, amount in expected.items()):
            return False
        await connection.executemany(
            """INSERT INTO balance_transfers (account, currency, kind, amount, expected, found)
               VALUES ($1,$2,$3,$4,$5,$6)""",
            [(account, item.currency, item.kind.value, item.amount, item.expected, item.found) for item in found],
        )
        for item in found:
            if item.kind in (TransferKind.DEPOSIT, TransferKind.WITHDRAWAL):
                await report_incident(
                    connection,
                    account,
                    IncidentKind.BALANCE_DEPOSIT
                    if item.kind is TransferKind.DEPOSIT
                    else IncidentKind.BALANCE_WITHDRAWAL,
                    "WARNING" if item.kind is TransferKind.WITHDRAWAL else "INFO",
                    item.currency,
                    f"the account holds {plain(item.found)} {item.currency}, but fills and transfers add up to "
                    f"{plain(item.expected)}: booked as a {item.kind} of {plain(abs(item.amount))}",
                )
    return True


async def bear_sales(pool: Pool, account: str, base: str) -> list[Taken]:
    """Deduct external sells of `base` from trades opened by external buys; returns what was taken from which trade.

    Exit plans are updated at once, and a trade with nothing left is closed as MANUAL at its monitor's next check.
    Raises the database's errors.
    """
    if not await pool.fetchval(_ADOPTED, account, base):
        return []
    async with pool.acquire() as connection, connection.transaction():
        await _lock_trades(connection, account, base)
        rows = [row for row in await connection.fetch(_OPEN, account, base) if row["adopted"] and row["bought_at"]]
        if not rows:
            return []
        sales = await connection.fetch(_SALES, account, base, min(row["bought_at"] for row in rows), OUR_SHAPE)
        borne = domain.adoption.bear_sales(
            [AdoptedSale(row["order_key"], row["at"], row["size"]) for row in sales if row["size"] > ZERO],
            [_open_quantity(row, row["bought_at"]) for row in rows],
        )
        for item in borne:
            await _take(connection, account, base, item.taken)
            await connection.execute(
                "INSERT INTO adopted_sales (account, sale_key, entry_key, size) VALUES ($1, $2, $3, $4)",
                account,
                item.sale_key,
                item.taken.entry_key,
                item.taken.size,
            )
    return [item.taken for item in borne]


async def cover_shortage(pool: Pool, account: str, base: str, available: Available, how: str = OUTSIDE) -> list[Taken]:
    """Deduct the account's shortage of `base` from open trades; returns what was taken from which trade. `how` says in
    words how it left.

    `available` reads the exchange's balance, which must show the shortage too; if it does not, or can't be read,
    nothing is taken. Exit plans are updated at once, and a trade with nothing left is closed as MANUAL at its monitor's
    next check. Raises the database's errors.
    """
    if not await pool.fetchval(_CONCERNS, account, base) or await pool.fetchval(_POOL, account, base) >= ZERO:
        return []
    for pause in _BALANCE_LAGS:
        await asyncio.sleep(pause)
        left = await available(base)
        taken = [] if left is None else await _take_shortage(pool, account, base, left, how)
        if taken:
            return taken
    return []


async def _take_shortage(pool: Pool, account: str, base: str, available: Decimal, how: str) -> list[Taken]:
    async with pool.acquire() as connection, connection.transaction():
        await _lock_trades(connection, account, base)
        owned = await connection.fetchval(_POOL, account, base)
        trades = [_open_quantity(row, row["opened_at"]) for row in await connection.fetch(_OPEN, account, base)]
        taken = take_from_trades(trades, shortage(trades, owned, available))
        for item in taken:
            await _take(connection, account, base, item, how)
    return taken


async def _lock_trades(connection: Connection, account: str, base: str) -> None:
    symbols = await connection.fetch(
        f"""SELECT DISTINCT symbol FROM trades WHERE account = $1 AND state <> 'CLOSED' AND {_BASE} = $2
            ORDER BY symbol""",
        account,
        base,
    )
    for row in symbols:  # always in this order, so that two of us never wait for each other
        await lock_symbol(connection, account, row["symbol"])
    # An exit that must leave claims of its trade under the trade's own rows alone: what it claims is to be seen.
    for row in await connection.fetch(
        f"SELECT entry_key FROM trades WHERE account = $1 AND state <> 'CLOSED' AND {_BASE} = $2 ORDER BY entry_key",
        account,
        base,
    ):
        await lock_trade(connection, row["entry_key"])


def _open_quantity(row: Record, opened_at: datetime) -> OpenQuantity:
    bought = tuple(zip(row["bought_when"], row["bought"], strict=True))
    return OpenQuantity(row["entry_key"], opened_at, row["remaining"], row["claimed"], row["adopted"], bought)


async def _take(connection: Connection, account: str, base: str, item: Taken, how: str = OUTSIDE) -> None:
    await connection.execute(
        """
        WITH plan AS (
            UPDATE exit_plans SET quantity = $3, updated_at = now(), revision = nextval('exit_plan_revision')
            WHERE entry_key = $1)
        UPDATE trades SET external_size = external_size + $2,
               exit_reason = CASE WHEN $3 = 0 THEN $4 ELSE exit_reason END
        WHERE entry_key = $1
        """,
        item.entry_key,
        item.size,
        item.left,
        ExitReason.MANUAL.value,
    )
    await connection.execute("SELECT pg_notify('exit_plan', $1)", item.entry_key)
    await report_incident(
        connection,
        account,
        IncidentKind.SOLD_OUTSIDE,
        "WARNING",
        item.entry_key,
        f"{plain(item.size)} {base} of trade {item.entry_key} {how}; {plain(item.left)} left",
        {"size": str(item.size), "left": str(item.left)},
    )
