"""Rows as admission and the ledger would leave them, for tests that begin in the middle of an order's life."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

from activities.database import Pool
from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id, intent_key
from domain.messages import Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side

__all__ = ["ACCOUNT", "add_order", "add_trade", "cut_connections", "intent", "open_books", "until"]

ACCOUNT = "main"
T = TypeVar("T")


async def cut_connections(pool: Pool) -> None:
    """End every other connection to the database, as a restart of PostgreSQL would."""
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def until(condition: Callable[[], Awaitable[T]], *, seconds: float = 30.0) -> T:
    """The first truthy answer of `condition`, polled; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


async def open_books(pool: Pool, account: str, **held: str) -> None:
    """Open the books as the first reconcile does: with the account's holdings of each currency before any fill."""
    await pool.executemany(
        """INSERT INTO balance_transfers (account, currency, kind, amount, expected, found)
           VALUES ($1, $2, 'opening', $3, 0, $3)""",
        [(account, currency, Decimal(size)) for currency, size in held.items()],
    )


def intent(
    request_id: str,
    *,
    symbol: str = "BTC-USD",
    side: Side = Side.BUY,
    role: OrderRole = OrderRole.ENTRY,
    entry_key: str | None = None,
    rules: ExitRules | None = None,
) -> OrderIntent:
    """A new intent to trade 1 at 100: each is unique, as tests share a Temporal server."""
    request_id = f"{request_id}-{uuid.uuid4().hex}"
    return OrderIntent(
        order_key=intent_key("test", request_id, ACCOUNT, symbol, side),
        account=ACCOUNT,
        symbol=symbol,
        side=side,
        role=role,
        order_type=OrderType.LIMIT,
        base_size=Decimal(1),
        limit_price=Decimal(100),
        source="manual",
        entry_point="test",
        request_id=request_id,
        linkage=Linkage(trigger="manual"),
        rules=rules or ExitRules(),
        entry_key=entry_key,
        exit_reason=ExitReason.MANUAL if role is OrderRole.EXIT else None,
    )


async def add_order(pool: Pool, wanted: OrderIntent, *, exchange_order_id: str | None = None, attempt: int = 1) -> str:
    """The order's row and its first attempt, marked as sent. Returns the client order id."""
    await pool.execute(
        """
        INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point, trigger,
                            exit_reason, intent, intent_digest, state, base_size, limit_price)
        VALUES ($1,$2,$3,$4,$5,$6,$7,'manual','test','manual',$8,$9,'','OPEN',1,100) ON CONFLICT DO NOTHING
        """,
        wanted.order_key,
        wanted.account,
        wanted.symbol,
        wanted.side.value,
        wanted.role.value,
        wanted.entry_key or (wanted.order_key if wanted.role is OrderRole.ENTRY else None),
        wanted.order_type.value,
        wanted.exit_reason.value if wanted.exit_reason else None,
        wanted.model_dump(mode="json"),
    )
    name = client_order_id(wanted.order_key, attempt)
    await pool.execute(
        """
        INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, exchange_order_id,
                              size, limit_price, sends)
        VALUES ($1,$2,$3,$4,$5,'{}',$6,$7,1,100,1)
        """,
        name,
        wanted.order_key,
        attempt,
        wanted.account,
        wanted.symbol,
        "OPEN" if exchange_order_id else "SUBMITTING",
        exchange_order_id,
    )
    return name


async def add_trade(
    pool: Pool,
    request_id: str,
    *,
    symbol: str = "BTC-USD",
    entry_price: str = "100",
    rules: ExitRules | None = None,
    notify: bool = True,
    protected_for: float = 0.0,
) -> str:
    """A filled entry, its open trade of size 1, its exit plan armed `protected_for` seconds ago. Returns the entry's
    key."""
    wanted = intent(request_id, symbol=symbol, rules=rules)
    key, price = wanted.order_key, Decimal(entry_price)
    await add_order(pool, wanted, exchange_order_id=f"x-{request_id}")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE attempts SET status = 'FILLED', live = false, filled_size = 1, filled_value = $2 "
            "WHERE order_key = $1",
            key,
            price,
        )
        await connection.execute(
            "UPDATE orders SET state = 'FILLED', finished = true, filled_size = 1, filled_value = $2 "
            "WHERE order_key = $1",
            key,
            price,
        )
        await connection.execute(
            """
            INSERT INTO trades (entry_key, account, symbol, state, bought_size, bought_value, entry_final, rules,
                                protected_at)
            VALUES ($1,$2,$3,'PROTECTED',1,$4,true,$5,now() - make_interval(secs => $6))
            """,
            key,
            ACCOUNT,
            symbol,
            price,
            wanted.rules.model_dump(mode="json"),
            protected_for,
        )
        await connection.execute(
            """
            INSERT INTO exit_plans (entry_key, account, symbol, state, rules, entry_price, quantity)
            VALUES ($1,$2,$3,'ARMED',$4,$5,1)
            """,
            key,
            ACCOUNT,
            symbol,
            wanted.rules.model_dump(mode="json"),
            price,
        )
        if notify:
            await connection.execute("SELECT pg_notify('exit_plan', $1)", key)
    return key
