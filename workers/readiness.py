"""Readiness: whether the work can be done, not only whether something answers (SAFE-8)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Iterable, Sequence

import asyncpg
from temporalio.client import Client

from activities.database import Pool, Statements
from activities.exits.price_watcher import watcher_lease
from activities.market.keeper import market_data_lease
from activities.notices.outages import takes_writes
from activities.streams.user_stream import user_stream_lease
from domain.sharding import shard_of
from workers.polling import FRESH_S, polled_since, queue_of
from workers.settings import Settings
from workers.settings.values import exchange_of
from workers.temporal_connection import connect

__all__ = ["HEARD_S", "ailments", "executing", "leases_held", "leases_of", "oldest_heard", "unwatched"]

_GRACE_S = 4.0
"""A lease that expired this recently may be about to get its next holder."""
_PATIENCE_S = 4.0
HEARD_S = 60.0
"""A stream or connection without a message for this long is unhealthy: heartbeats come each second."""


def leases_of(settings: Settings, role: str) -> list[str]:
    """The names of the leases that are held while the role's work is done."""
    account = settings.account
    found = {
        "streams": [user_stream_lease(account)],
        "watchers": [watcher_lease(account, shard) for shard in range(settings.watcher.shards)],
        "strategy": [market_data_lease(account)] if settings.market_data.enabled else [],
    }
    return found.get(role, [])


async def leases_held(pool: Pool, names: Sequence[str], *, grace_s: float = _GRACE_S) -> bool:
    """Whether each of these leases is held, or was within the last `grace_s` seconds. Raises the database's errors."""
    held: int = await pool.fetchval(
        "SELECT count(*) FROM leases WHERE name = ANY($1) AND expires_at > now() - make_interval(secs => $2)",
        list(names),
        grace_s,
        timeout=_PATIENCE_S,
    )
    return held == len(set(names))


async def oldest_heard(connection: Statements, names: Sequence[str]) -> tuple[str, float] | None:
    """The quietest of these streams, and the age of its last message in seconds; None before the first message.

    The oldest counts, because fresh prices of one stream say nothing about another. Raises the database's errors.
    """
    row = await connection.fetchrow(
        "SELECT name, greatest(extract(epoch FROM now() - last_message_at), 0)::float8 AS age FROM stream_positions "
        "WHERE name = ANY($1) AND last_message_at IS NOT NULL ORDER BY last_message_at LIMIT 1",
        list(names),
        timeout=_PATIENCE_S,
    )
    return None if row is None else (row["name"], row["age"])


async def _heard(pool: Pool, names: Sequence[str]) -> bool:
    oldest = await oldest_heard(pool, names)
    return oldest is None or oldest[1] < HEARD_S


async def unwatched(connection: Statements, account: str, symbols: Iterable[str], shards: int) -> set[str]:
    """Those of `symbols` whose price watcher holds no lease, and did not a moment ago.

    Raises the database's errors.
    """
    needed = {symbol: watcher_lease(account, shard_of(symbol, shards)) for symbol in symbols}
    rows = await connection.fetch(
        "SELECT name FROM leases WHERE name = ANY($1) AND expires_at > now() - make_interval(secs => $2)",
        list(set(needed.values())),
        _GRACE_S,
    )
    held = {row["name"] for row in rows}
    return {symbol for symbol, name in needed.items() if name not in held}


async def executing(client: Client, pool: Pool, settings: Settings) -> dict[str, bool]:
    """Whether an order accepted now is worked on, and its position watched."""

    async def taken() -> bool:
        return await polled_since(client, queue_of(settings, "orders"), time.time() - FRESH_S)

    names = leases_of(settings, "streams") + leases_of(settings, "watchers")
    order, held, heard = await asyncio.gather(
        _fine(taken()), _fine(leases_held(pool, names)), _fine(_heard(pool, names))
    )
    return {"orders": order, "watchers": held and heard}


async def _fine(asking: Awaitable[bool]) -> bool:
    """The check's result; False without an answer in time."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asking
    except Exception:  # noqa: BLE001 - whatever keeps it from answering, it is not well
        return False


async def ailments(settings: Settings, role: str) -> list[str]:
    """What keeps this machine's worker from doing the role's work, one sentence each; empty if nothing.

    Raises UnreachableError if Temporal or the database can't be reached at all.
    """
    client = await connect(settings)
    pool = await asyncpg.create_pool(settings.database.dsn, min_size=0, max_size=2, timeout=_PATIENCE_S)
    exchange = exchange_of(settings)

    async def writes() -> bool:
        await takes_writes(pool)
        return True

    async def answers() -> bool:
        await exchange.server_time()
        return True

    suffix = f"@{socket.gethostname()}"
    looks = {
        "the database accepts no writes": writes(),
        f"no worker on this machine takes {role} tasks": polled_since(
            client, queue_of(settings, role), time.time() - FRESH_S, identity_suffix=suffix
        ),
        "the exchange does not answer": answers(),
        f"the lease of {role} is not held": leases_held(pool, leases_of(settings, role)),
        f"a stream of {role} receives no messages": _heard(pool, leases_of(settings, role)),
    }
    try:
        found = await asyncio.gather(*(_fine(look) for look in looks.values()))
    finally:
        await exchange.close()
        pool.terminate()
    return [sentence for sentence, fine in zip(looks, found, strict=True) if not fine]
