"""The daily loss limit and the circuit breaker: looked at where a trade closes, and at the gate of each entry.

Either halts the account as a person would (`activities.controls`): entries stop, people are told, exits go on, and it
stays so until a person resumes. Trades that closed before that resume count no more.
"""

from __future__ import annotations

from typing import Any

from activities.controls import turn_locked
from activities.database import Connection, Pool, lock_account
from activities.policy import Policy
from domain.limits import Breach, Results, breach_of, losing_streak

__all__ = ["closed_results", "halt_if_lost_too_much", "results_of"]

_DOLLARS = "'USD', 'USDC', 'USDT'"
_QUOTE = "split_part(translate(t.symbol, '_', '-'), '-', 2)"
# The same as `domain.outcome.trade_pnl`, in dollars where the quote currency is another one with a known price.
_PNL = f"""
(CASE WHEN t.bought_size <= t.bought_base_fees OR t.sold_size + t.sold_base_fees <= 0 THEN 0
      WHEN t.sold_size + t.sold_base_fees >= t.bought_size - t.bought_base_fees
      THEN t.sold_value - t.sold_quote_fees - t.bought_value - t.bought_quote_fees
      ELSE t.sold_value - t.sold_quote_fees - (t.bought_value + t.bought_quote_fees)
           * (t.sold_size + t.sold_base_fees) / (t.bought_size - t.bought_base_fees) END)
* CASE WHEN right(t.symbol, 4) = '-USD' OR {_QUOTE} IN ({_DOLLARS}) THEN 1
       ELSE coalesce((SELECT m.price FROM market_prices m
                       WHERE m.account = t.account AND m.symbol = {_QUOTE} || '-USD'), 1) END
"""


def _since_resume(account: str) -> str:
    return f"(SELECT CASE WHEN halted THEN NULL ELSE changed_at END FROM account_controls WHERE account = {account})"


def closed_results(account: str, trades: str) -> str:
    """Two columns, `day_pnl` and `last_pnls` (newest first), of the account and so many trades named by parameters."""
    after = f"t.closed_at > coalesce({_since_resume(account)}, '-infinity')"
    return f"""
       (SELECT coalesce(sum({_PNL}), 0) FROM trades t
         WHERE t.account = {account} AND t.state = 'CLOSED' AND {after}
           AND t.closed_at >= date_trunc('day', now(), 'UTC')) AS day_pnl,
       ARRAY(SELECT {_PNL} FROM trades t WHERE t.account = {account} AND t.state = 'CLOSED' AND {after}
              ORDER BY t.closed_at DESC, t.entry_key LIMIT {trades}) AS last_pnls
"""


_LOOK = f"""
SELECT coalesce((SELECT halted FROM account_controls WHERE account = $1), false) AS halted,
{closed_results("$1", "$2::int")}
"""


def results_of(row: Any) -> Results:
    """The two columns as `domain` wants them."""
    return Results(row["day_pnl"], losing_streak(row["last_pnls"]))


async def halt_if_lost_too_much(pool: Pool, policy: Policy) -> bool:
    """Halt entries if closed trades have lost more than the limits allow; whether that was news.

    Raises the database's errors.
    """
    if await _breach(pool, policy) is None:
        return False
    async with pool.acquire() as connection, connection.transaction():
        # Looked at again with the lock: a person may have resumed meanwhile, and that settles what was lost before.
        await lock_account(connection, policy.account)
        breach = await _breach(connection, policy)
        return breach is not None and await turn_locked(
            connection, policy.account, breach.sentence, breach.by, halted=True
        )


async def _breach(connection: Pool | Connection, policy: Policy) -> Breach | None:
    row = await connection.fetchrow(_LOOK, policy.account, policy.losing_streak)
    return None if row["halted"] else breach_of(results_of(row), policy.daily_loss_limit, policy.losing_streak)
