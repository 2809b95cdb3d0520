"""How soon an event is at Telegram, and what becomes of a burst: `bottrader telegram serve` and the tests' Bot API.

An event is a row: an incident, or a trade whose first fill is recorded. The time is from its commit to the arrival of
the message. The Bot API refuses, with 429, more than one message a second in a chat.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from activities.database import create_pool
from activities.incidents import report_incident
from bench.rows import Row
from domain.incidents import IncidentKind
from tests.support.ledger_rows import ACCOUNT, add_trade
from tests.support.telegram import TOKEN, FakeTelegram, fake_telegram
from tests.support.waiting import eventually
from workers.stack.local_stack import LocalStack, LocalStackConfig

__all__ = ["telegram"]

_CHAT = 77
_BURST = """
INSERT INTO incidents (account, kind, severity, subject, sentence, resolved_at)
SELECT $1, 'trade_opened', 'INFO', 'burst-' || n, 'Bought 0.01 BTC-USD at 50001 for 500.01 USD (fees 3.00), decided by '
       'rsi_oversold. ' || n || ';', now() FROM generate_series(1, $2::int) n
"""


async def telegram(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Latency of single events, and a burst."""
    samples = 8 if quick else 40
    seeded = random.Random(7)
    with tempfile.TemporaryDirectory(prefix="bt-telegram-") as folder:
        file = Path(folder) / "token"
        file.touch(mode=0o600)
        file.write_text(TOKEN)
        async with fake_telegram() as server:
            server.strict = True
            settings = {
                "BOTTRADER_TELEGRAM__TOKEN_FILE": str(file),
                "BOTTRADER_TELEGRAM__SERVER": server.address,
                "BOTTRADER_TELEGRAM__CHATS": str(_CHAT),
            }
            config = LocalStackConfig(ui=False, paper=False, worker=False, telegram=True, env=settings)
            async with LocalStack(config) as stack:
                pool = await create_pool(stack.dsn)
                try:

                    async def incident(number: int) -> None:
                        await report_incident(
                            pool, ACCOUNT, IncidentKind.STALE_PRICE, "WARNING", f"event-{number}", "The price is old"
                        )

                    async def opened(number: int) -> None:
                        await add_trade(pool, f"bench-{number}")

                    say(f"{samples} incidents and {samples} trades to Telegram, one at a time")
                    await incident(-1)
                    await _arrived(server, 1)
                    latencies = {
                        "an incident": await _latencies(server, incident, samples, seeded),
                        "a trade's first fill": await _latencies(server, opened, samples, seeded),
                    }
                    burst = 100 if quick else 500
                    say(f"a burst of {burst} events")
                    before, began = len(server.sent), time.monotonic()
                    await pool.execute(_BURST, ACCOUNT, burst)

                    async def told() -> bool:
                        return "".join(message.text for message in server.sent[before:]).count(";") == burst

                    await eventually(told, within=120, what="the burst is told")
                    seconds, messages = time.monotonic() - began, len(server.sent) - before
                finally:
                    await pool.close()
    rows = [
        Row(f"Telegram: {what} to its message", "s", found[len(found) // 2], found[-1], aim="≤ 2 s", ok=found[-1] <= 2)
        for what, found in latencies.items()
    ]
    note = f"{messages} messages, {server.refused} refused with 429"
    ok = server.refused == 0 and messages * 25 <= burst
    rows.append(
        Row(f"Telegram: a burst of {burst} events told", "s", seconds, aim="no 429, 25 a message", ok=ok, note=note)
    )
    return rows


async def _latencies(
    server: FakeTelegram, event: Callable[[int], Awaitable[None]], samples: int, seeded: random.Random
) -> list[float]:
    """Seconds from an event to its message, sorted; the chat is quiet by the time of each."""
    found = []
    for number in range(samples):
        await asyncio.sleep(1.1 + seeded.random())
        count = len(server.sent)
        await event(number)
        began = time.monotonic()
        await _arrived(server, count + 1)
        found.append(server.sent[count].at - began)
    return sorted(found)


async def _arrived(server: FakeTelegram, count: int) -> None:
    async def so() -> bool:
        return len(server.sent) >= count

    await eventually(so, every=0.005, what=f"{count} messages")
