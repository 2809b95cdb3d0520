"""The daily loss limit and the circuit breaker: looked at where a trade closes, and at the gate of each entry.

Either halts the account as a person would (`activities.orders.controls`): entries stop, people are told, exits go on,
and it stays so until a person resumes. Trades that closed before that resume count no more.

Losses count in the account's own currency. What a trade in another one brought is converted at the rate of its close,
which is stored with it (`trades.quote_rate`, in `quote_rate_currency`: a changed `risk.currency` uses no rate of
before): from the price that is kept, else as the exchange tells it. Where neither is had, it is not known, and asked
for again at the next entry's gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from activities.database import Pool, Record, Statements, lock_account
from activities.orders.controls import turn_locked
from activities.policy import Policy
from activities.venue import Venue
from domain.gate_facts import AHEAD_SECONDS
from domain.limits import LimitBreach, Results, breach_of, losing_streak
from domain.rates import own_names, rate_from, rate_products

__all__ = [
    "asked_rate",
    "closed_results",
    "closed_today",
    "halt_if_lost_too_much",
    "kept_rates",
    "learn_rates",
    "of_today",
    "own_currency",
    "results_of",
]

_RATE_SECONDS = 1.0
"""So long the exchange is waited for to tell a rate."""
_QUOTE = "split_part(translate(t.symbol, '_', '-'), '-', 2)"
"""The quote currency of trades `t`."""


def _since_resume(account: str) -> str:
    return f"(SELECT CASE WHEN halted THEN NULL ELSE changed_at END FROM account_controls WHERE account = {account})"


def _of_today(account: str) -> str:
    return f"{_closed(account)} AND t.closed_at >= date_trunc('day', now(), 'UTC')"


def _of_the_day(account: str) -> str:
    """Of trades `t`: those of the account that closed today, also before its last resume."""
    return f"t.account = {account} AND t.state = 'CLOSED' AND t.closed_at >= date_trunc('day', now(), 'UTC')"


def _closed(account: str) -> str:
    after = f"t.closed_at > coalesce({_since_resume(account)}, '-infinity')"
    return f"t.account = {account} AND t.state = 'CLOSED' AND {after}"


def _is_own(own: str, ending: str) -> str:
    """Whether the quote currency of trades `t` is the account's own; parameters as in `of_today`."""
    return f"(right(t.symbol, length({ending})) = {ending} OR {_QUOTE} = ANY ({own}))"


def _has_rate(own: str) -> str:
    """Whether trades `t` have the rate that they closed at, in the account's own currency."""
    return f"coalesce(t.quote_rate_currency = ANY ({own}), false)"


def closed_results(account: str, trades: str) -> str:
    """Three columns: `day_pnl` in the account's own currency, `day_unpriced` (currencies without a rate), `last_pnls`.

    Of the account and so many trades, named by parameters; `of_today` is to be in the FROM. `last_pnls` are the newest
    first, in quote currency: only whether one lost counts; a trade that sold nothing (taken outside, written off) is no
    part of them.
    """
    return f"""
       coalesce(today.pnl, 0) AS day_pnl, coalesce(today.unpriced, '{{}}') AS day_unpriced,
       ARRAY(SELECT t.pnl FROM trades t WHERE {_closed(account)}
                AND t.sold_size > 0
              ORDER BY t.closed_at DESC, t.entry_key LIMIT {trades}) AS last_pnls
"""


def of_today(account: str, own: str, ending: str) -> str:
    """What `closed_results` reads of today's trades, all in one look, to be joined.

    `own`: the names of the account's own currency; `ending`: how most of its symbols end, which is looked at first as
    that is faster; both named by parameters (`own_currency`).
    """
    return f"""
(SELECT sum(CASE WHEN own THEN pnl ELSE pnl * quote_rate END) AS pnl,
        array_agg(split_part(translate(symbol, '_', '-'), '-', 2))
            FILTER (WHERE NOT own AND quote_rate IS NULL AND sold_size > 0) AS unpriced
   FROM (SELECT t.symbol, t.sold_size, t.pnl, {_is_own(own, ending)} AS own,
                CASE WHEN {_has_rate(own)} THEN t.quote_rate END AS quote_rate
           FROM trades t WHERE {_of_today(account)}
         OFFSET 0  -- each of them once a trade: planned as one with the sums, they would be computed in each place
        ) closed) today
"""


_LOOK = f"""
SELECT coalesce((SELECT halted FROM account_controls WHERE account = $1), false) AS halted,
{closed_results("$1", "$2::int")}
  FROM {of_today("$1", "$3::text[]", "$4::text")}
"""
_MISSING = f"""
SELECT DISTINCT {_QUOTE} FROM trades t
 WHERE {_of_the_day("$1")} AND NOT {_has_rate("$2::text[]")} AND t.sold_size > 0 AND {_QUOTE} <> ALL ($2::text[])
"""
_KEPT = """
SELECT symbol, coalesce(price, (bid + ask) / 2) AS price FROM market_prices
 WHERE account = $4 AND symbol = ANY ($1::text[]) AND at BETWEEN now() - $2::float8 * interval '1 second'
                                           AND now() + $3::float8 * interval '1 second'
"""
_STORE = f"""
UPDATE trades t SET quote_rate = r.rate, quote_rate_currency = $5
  FROM unnest($2::text[], $3::numeric[]) AS r (currency, rate)
 WHERE {_of_the_day("$1")} AND NOT {_has_rate("$4::text[]")} AND {_QUOTE} = r.currency
"""


def own_currency(policy: Policy) -> tuple[list[str], str]:
    """The last two parameters of `of_today`."""
    return list(own_names(policy.currency)), f"-{policy.currency}"


def results_of(row: Record) -> Results:
    """The three columns as `domain` wants them."""
    return Results(row["day_pnl"], losing_streak(row["last_pnls"]), tuple(sorted(set(row["day_unpriced"]))))


async def closed_today(connection: Statements, policy: Policy) -> Results:
    """What the limits look at, as it stands: the day's result and the losses in a row. Raises the database's errors."""
    return results_of(await _look(connection, policy))


async def learn_rates(pool: Pool, policy: Policy, venue: Venue | None = None) -> None:
    """Store the rates of today's closed trades that are missing, as far as they can be had.

    The price that is kept counts while it is fresh; else the exchange is asked, if `venue` is given. Raises the
    database's errors.
    """
    missing = [row[0] for row in await pool.fetch(_MISSING, policy.account, list(own_names(policy.currency)))]
    if not missing:
        return
    rates = await kept_rates(pool, policy, missing)
    if venue is not None:
        asked = [currency for currency in missing if currency not in rates]
        found = await asyncio.gather(*(asked_rate(venue, currency, policy.currency) for currency in asked))
        rates |= {currency: rate for currency, rate in zip(asked, found, strict=True) if rate is not None}
    if rates:
        own = list(own_names(policy.currency))
        await pool.execute(_STORE, policy.account, list(rates), list(rates.values()), own, policy.currency)


async def kept_rates(pool: Statements, policy: Policy, missing: Iterable[str]) -> dict[str, Decimal]:
    """The rates of these currencies in the account's own that follow from fresh prices that are kept. Raises the
    database's errors.
    """
    products = {currency: list(rate_products(currency, policy.currency)) for currency in missing}
    symbols = [symbol for named in products.values() for symbol, _ in named]
    rows = await pool.fetch(_KEPT, symbols, float(policy.market_stale_seconds), float(AHEAD_SECONDS), policy.account)
    prices: Mapping[str, Decimal | None] = {row["symbol"]: row["price"] for row in rows}
    rates: dict[str, Decimal] = {}
    for currency, named in products.items():
        told = (rate_from(prices.get(symbol), reciprocal=reciprocal) for symbol, reciprocal in named)
        if (rate := next((rate for rate in told if rate is not None), None)) is not None:
            rates[currency] = rate
    return rates


async def asked_rate(venue: Venue, currency: str, own: str) -> Decimal | None:
    """The same as the exchange tells it now; None: not within its time, or it has no product of the two."""
    named = list(rate_products(currency, own))
    quotes = await asyncio.gather(*(venue.touch(symbol, within=_RATE_SECONDS) for symbol, _ in named))
    for (_, reciprocal), quote in zip(named, quotes, strict=True):
        middle = None if quote is None or quote.bid > quote.ask else (quote.bid + quote.ask) / 2
        if (rate := rate_from(middle, reciprocal=reciprocal)) is not None:
            return rate
    return None


async def halt_if_lost_too_much(pool: Pool, policy: Policy, venue: Venue | None = None) -> bool:
    """Halt entries if closed trades have lost more than the limits allow; whether that was news.

    Rates that are missing are learnt first; with `venue`, from the exchange where no fresh price is kept. Raises the
    database's errors.
    """
    row = await _look(pool, policy)
    if row["day_unpriced"] and not row["halted"]:
        await learn_rates(pool, policy, venue)
        row = await _look(pool, policy)
    if _breach(row, policy) is None:
        return False
    async with pool.acquire() as connection, connection.transaction():
        # Looked at again with the lock: a person may have resumed meanwhile, and that settles what was lost before.
        await lock_account(connection, policy.account)
        breach = _breach(await _look(connection, policy), policy)
        return breach is not None and await turn_locked(
            connection, policy.account, breach.sentence, breach.by, halted=True
        )


async def _look(connection: Statements, policy: Policy) -> Any:
    return await connection.fetchrow(_LOOK, policy.account, policy.losing_streak, *own_currency(policy))


def _breach(row: Record, policy: Policy) -> LimitBreach | None:
    return None if row["halted"] else breach_of(results_of(row), policy.daily_loss_limit, policy.losing_streak)
