"""A strategy run's records: the matrix, the run, and a row for each decision with its outcome.

All of it is written in one statement before anything is started, so a retried run finds its decisions and only
continues: the same decisions, the same orders.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from activities.database import Pool, Statements, decisions_transaction
from domain.entries import AccountWorth
from domain.intents import intent_digest
from domain.messages import OrderIntent
from domain.scoring import Action, Decision, score_decimal

__all__ = ["Signal", "StrategyStore", "deciding"]

_STORE = """
WITH run AS (
    INSERT INTO strategy_runs (snapshot_id, account, at, symbols, buys, sells, details)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (snapshot_id) DO NOTHING RETURNING snapshot_id
), matrix AS (
    INSERT INTO market_snapshots (account, snapshot_id, symbol, at, price, buy_score, sell_score, action, trigger,
                                  indicator_breakdown, indicators_fired, reason)
    SELECT $2, run.snapshot_id, n.symbol, $3, n.price, n.buy_score, n.sell_score, n.action, n.trigger, n.breakdown,
           string_to_array(n.fired, ','), n.reason
      FROM unnest($8::text[], $9::numeric[], $10::numeric[], $11::numeric[], $12::text[], $13::text[], $14::jsonb[],
                  $15::text[], $16::text[])
           AS n (symbol, price, buy_score, sell_score, action, trigger, breakdown, fired, reason), run
), signal AS (
    INSERT INTO trade_signals (account, symbol, side, source, trigger, snapshot_id, order_key, decision, details, at)
    SELECT $2, n.symbol, n.side, n.source, n.trigger, run.snapshot_id, n.order_key, n.decision, n.details, $3
      FROM unnest($17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::jsonb[])
           AS n (symbol, side, source, trigger, order_key, decision, details), run
), command AS (
    INSERT INTO commands (id, account, kind, subject, given_by)
    SELECT n.id, $2, 'order', n.subject, n.given_by
      FROM unnest($24::text[], $25::text[], $26::text[]) AS n (id, subject, given_by), run
    ON CONFLICT (id) DO NOTHING
)
SELECT count(*) AS stored, pg_notify('matrix', $1::text) FROM run
"""
_BUSY = """
SELECT o.symbol, o.trigger FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key
 WHERE o.account = $1 AND o.symbol = ANY($2) AND o.role = 'ENTRY'
   AND (NOT o.finished OR (t.entry_key IS NOT NULL AND t.state <> 'CLOSED'))
"""
_DECIDED = """
SELECT DISTINCT symbol FROM trade_signals
 WHERE account = $1 AND symbol = ANY($2) AND at > $3 AND details ->> 'candle' = $4
   AND decision IN ('starting', 'started')
"""


@dataclass(frozen=True, slots=True)
class Signal:
    """A decision to buy or sell with its outcome; `intent` for a buy that has to be started."""

    symbol: str
    side: str
    source: str
    trigger: str
    decision: str
    sentence: str = ""
    intent: OrderIntent | None = None

    @property
    def order_key(self) -> str | None:
        """The key of the order that it starts."""
        return self.intent.order_key if self.intent else None


@contextlib.asynccontextmanager
async def deciding(pool: Pool, account: str) -> AsyncIterator[StrategyStore]:
    """A store in a transaction: the decisions it reads do not change until its own are stored, even with other runs."""
    async with decisions_transaction(pool, account) as connection:
        yield StrategyStore(connection)


class StrategyStore:
    """Reads and writes of runs, by a pool or on one connection. Every method raises the database's errors."""

    def __init__(self, pool: Statements) -> None:
        self._pool = pool

    async def worth(self, account: str, quote: str, balance_seconds: float, price_seconds: float) -> AccountWorth:
        """What the account is worth in a quote currency, by a balance and prices of at most these ages (wall)."""
        row = await self._pool.fetchrow(
            "SELECT worth, why FROM account_worth($1, $2, $3, $4)", account, quote, balance_seconds, price_seconds
        )
        return AccountWorth(row["worth"], row["why"] or "")

    async def run(self, snapshot_id: str) -> Any:
        """The run's row; None if it is not stored."""
        return await self._pool.fetchrow("SELECT * FROM strategy_runs WHERE snapshot_id = $1", snapshot_id)

    async def store(
        self,
        *,
        account: str,
        snapshot_id: str,
        at: datetime,
        decisions: Sequence[Decision],
        prices: Mapping[str, Decimal | None],
        signals: Sequence[Signal],
        candle: str,
        details: Mapping[str, Any],
    ) -> bool:
        """Store the whole run; False, writing nothing, if it was stored before."""
        intents = [item.intent for item in signals if item.intent is not None]
        row = await self._pool.fetchrow(
            _STORE,
            snapshot_id,
            account,
            at,
            len(decisions),
            sum(item.action is Action.BUY for item in decisions),
            sum(item.action is Action.SELL for item in decisions),
            dict(details),
            [item.symbol for item in decisions],
            [prices.get(item.symbol) for item in decisions],
            [score_decimal(item.buy_score) for item in decisions],
            [score_decimal(item.sell_score) for item in decisions],
            [item.action.value for item in decisions],
            [item.trigger for item in decisions],
            [{name: part.document() for name, part in item.parts.items()} for item in decisions],
            [",".join(item.fired) for item in decisions],
            [item.reason for item in decisions],
            [item.symbol for item in signals],
            [item.side for item in signals],
            [item.source for item in signals],
            [item.trigger for item in signals],
            [item.order_key for item in signals],
            [item.decision for item in signals],
            [
                {
                    "account": account,
                    "sentence": item.sentence,
                    "candle": candle,
                    **({"intent": item.intent.model_dump(mode="json")} if item.intent else {}),
                }
                for item in signals
            ],
            [intent.order_key for intent in intents],
            [intent_digest(intent) for intent in intents],
            [intent.asked_by for intent in intents],
        )
        return bool(row["stored"])

    async def to_start(self, snapshot_id: str) -> list[OrderIntent]:
        """The buys of a run that have not been started."""
        rows = await self._pool.fetch(
            """SELECT details -> 'intent' AS intent FROM trade_signals
               WHERE snapshot_id = $1 AND decision = 'starting' ORDER BY id""",
            snapshot_id,
        )
        return [OrderIntent.model_validate(row["intent"]) for row in rows]

    async def became(self, snapshot_id: str, order_key: str, decision: str, sentence: str = "") -> None:
        """Store a buy's outcome; from now on its intent is stored with the order."""
        await self._pool.execute(
            """UPDATE trade_signals SET decision = $3,
                      details = (details - 'intent') || jsonb_build_object('sentence', $4::text)
               WHERE snapshot_id = $1 AND order_key = $2 AND decision = 'starting'""",
            snapshot_id,
            order_key,
            decision,
            sentence,
        )

    async def known(self, order_key: str) -> bool:
        """Whether the journal has the order."""
        return bool(await self._pool.fetchval("SELECT true FROM orders WHERE order_key = $1", order_key))

    async def outcomes(self, snapshot_id: str) -> dict[str, Any]:
        """The outcomes of a run's decisions, by symbol."""
        rows = await self._pool.fetch(
            """SELECT symbol, decision, order_key, details ->> 'sentence' AS sentence FROM trade_signals
               WHERE snapshot_id = $1""",
            snapshot_id,
        )
        return {row["symbol"]: row for row in rows}

    async def shown(self, snapshot_id: str, most: int) -> list[Any]:
        """The matrix's buys and sells, then the rows with the highest scores; at most `most`."""
        return list(
            await self._pool.fetch(
                """SELECT symbol, action, trigger, buy_score, sell_score, indicators_fired, reason FROM market_snapshots
                   WHERE snapshot_id = $1
                   ORDER BY (action = 'hold'), GREATEST(buy_score, sell_score) DESC, symbol LIMIT $2""",
                snapshot_id,
                most,
            )
        )

    async def finish(self, snapshot_id: str, report: Mapping[str, Any]) -> None:
        """The run has ended; its report is kept."""
        await self._pool.execute(
            """UPDATE strategy_runs SET finished_at = now(),
                      details = details || jsonb_build_object('report', $2::jsonb)
               WHERE snapshot_id = $1 AND finished_at IS NULL""",
            snapshot_id,
            dict(report),
        )

    async def in_trade(self, account: str, symbols: Sequence[str]) -> set[tuple[str, str]]:
        """Symbol and trigger of entries that are open or whose trade is."""
        rows = await self._pool.fetch(_BUSY, account, list(symbols))
        return {(row["symbol"], row["trigger"]) for row in rows}

    async def decided(self, account: str, symbols: Sequence[str], candle: str, now: datetime) -> set[str]:
        """Symbols that an earlier run bought on this same candle, by any trigger: a candle's last trades may arrive
        after a run and change the trigger."""
        rows = await self._pool.fetch(_DECIDED, account, list(symbols), now - timedelta(days=1), candle)
        return {row["symbol"] for row in rows}

    async def held(self, account: str) -> set[str]:
        """Symbols with an open trade."""
        rows = await self._pool.fetch(
            "SELECT DISTINCT symbol FROM trades WHERE account = $1 AND state <> 'CLOSED'", account
        )
        return {row["symbol"] for row in rows}

    async def most_traded(
        self,
        account: str,
        top: int,
        fresh_after: datetime,
        *,
        quotes: Sequence[str],
        least: Decimal,
        without: Sequence[str] = (),
    ) -> list[str]:
        """Symbols with stored prices for the account, by volume, as `activities.market.universe` chooses them: held
        symbols have stored prices too, but are not bought for that reason."""
        rows = await self._pool.fetch(
            """SELECT symbol FROM market_prices
                WHERE account = $6 AND at > $2 AND split_part(symbol, '-', 2) = ANY($3)
                  AND coalesce(quote_volume_24h, 0) >= $4 AND symbol <> ALL($5)
               ORDER BY quote_volume_24h DESC NULLS LAST, symbol LIMIT $1""",
            top,
            fresh_after,
            list(quotes),
            least,
            list(without),
            account,
        )
        return [row["symbol"] for row in rows]
