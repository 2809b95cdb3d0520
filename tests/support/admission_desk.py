"""Admission alone, on a real ledger and against a paper exchange over real sockets, without workflows.

`desk.policy` is the policy in force: a test may replace it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from activities.database import Pool, create_pool
from activities.identity import Brought, stamp_empty
from activities.orders.admission import Admissions
from activities.policy import Policy
from activities.venue import Venue
from domain.messages import Admission, OrderIntent
from exchange.paper.control_client import PaperControl
from exchange.paper.server import PaperExchange
from tests.support.harness import step_market
from workers.settings import ExchangeSettings, Settings
from workers.settings.values import exchange_of

__all__ = ["CATALOGUE", "Desk", "desk_at_a_paper_exchange"]

CATALOGUE = Path(__file__).parents[1] / "data" / "products.json"
"""Products in the shape of the exchange's own list: one quoted in BTC, and one that takes limit orders only."""


@dataclass
class Desk:
    """See the module."""

    pool: Pool
    venue: Venue
    control: PaperControl
    policy: Policy
    admissions: Admissions = field(init=False)

    def __post_init__(self) -> None:
        self.admissions = Admissions(self.pool, self.venue, lambda: self.policy)

    @property
    def account(self) -> str:
        """The account of the policy."""
        return self.policy.account

    def another_account(self) -> str:
        """Switch the desk to a new account in the same ledger."""
        self.policy = replace(self.policy, account=f"a{uuid.uuid4().hex[:10]}")
        return self.account

    async def admit(self, intent: OrderIntent) -> Admission:
        """The decision on an intent."""
        return await self.admissions.admit(intent)

    async def balance(self, quote: str, *, hold: str = "0", currency: str = "USD") -> None:
        """The last balances that were stored."""
        await self.pool.execute(
            """INSERT INTO balances (account, currency, available, hold, asked_at, answered_at)
               VALUES ($1,$2,$3,$4,now(),now()) ON CONFLICT (account, currency)
               DO UPDATE SET available = $3, hold = $4, asked_at = now(), answered_at = now()""",
            self.account,
            currency,
            Decimal(quote),
            Decimal(hold),
        )

    async def market(self, symbol: str = "BTC-USD", **facts: Any) -> None:
        """The cached market data for all decisions of the account."""
        given: dict[str, Any] = {"price": None, "bid": None, "ask": None, "change_24h": None, "at": datetime.now(UTC)}
        given |= {name: Decimal(value) if isinstance(value, str) else value for name, value in facts.items()}
        await self.pool.execute(
            """INSERT INTO market_prices (account, symbol, price, bid, ask, change_24h, at)
               VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (account, symbol)
               DO UPDATE SET price = $3, bid = $4, ask = $5, change_24h = $6, at = $7""",
            self.account,
            symbol,
            *given.values(),
        )

    async def trade(
        self,
        pnl: str | None = None,
        *,
        symbol: str = "BTC-USD",
        size: str = "1",
        price: str = "100",
        ago: float = 1.0,
        trigger: str = "manual",
    ) -> str:
        """A trade's row: open without a `pnl`, else closed with it `ago` seconds before now. Returns its entry's
        key."""
        key, bought = uuid.uuid4().hex, Decimal(size)
        sold = Decimal(0) if pnl is None else bought
        value = bought * Decimal(price)
        await self.pool.execute(
            """
            WITH entry AS (
                INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point,
                                    trigger, intent, intent_digest, state, finished)
                VALUES ($1,$2,$3,'BUY','ENTRY',$1,'MARKET','sighook','test',$10,'{}','','FILLED',true))
            INSERT INTO trades (entry_key, account, symbol, state, bought_size, bought_value, sold_size, sold_value,
                                entry_final, closed_at, entry_trigger)
            VALUES ($1,$2,$3,$4,$5,$6,$7,$8,true,$9,$10)
            """,
            key,
            self.account,
            symbol,
            "PROTECTED" if pnl is None else "CLOSED",
            bought,
            value,
            sold,
            Decimal(0) if pnl is None else value + Decimal(pnl),
            None if pnl is None else datetime.now(UTC) - timedelta(seconds=ago),
            trigger,
        )
        return key

    async def value(self, sql: str, *values: object) -> Any:
        """One value of the ledger."""
        return await self.pool.fetchval(sql, *values)


@contextlib.asynccontextmanager
async def desk_at_a_paper_exchange(
    database: str, *, products: Sequence[str] = ("BTC-USD", "ETH-USD", "SOL-USD"), products_file: Path | None = None
) -> AsyncIterator[Desk]:
    """A desk during the block, with BTC-USD at 50,000/50,001 and ETH-USD at 3,000/3,001, and default limits."""
    market = step_market(products=list(products), products_file=products_file)
    async with PaperExchange(market) as paper, PaperControl(paper.addresses()) as control:
        await control.set_price("BTC-USD", "50000", "50001")
        await control.set_price("ETH-USD", "3000", "3001")
        settings = Settings(
            exchange=ExchangeSettings(
                rest=paper.rest_address,
                stream=paper.stream_url,
                user_stream=paper.user_stream_url,
                ca_file=paper.ca_file,
                key_file=paper.key_file,
                private_requests_per_s=1000,
                timeout_s=Decimal(3),
            )
        )
        exchange = exchange_of(settings)
        pool = await create_pool(database, size=20)
        try:
            await stamp_empty(pool, Brought("paper", "main", "coinbase"))
            yield Desk(pool, Venue(exchange), control, Policy(account="main", buy_on_red_day=True))
        finally:
            await pool.close()
            await exchange.close()
