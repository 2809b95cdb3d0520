"""Notices to Telegram, with a Bot API on a socket and a real database: paced, in order, each once, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

import pytest_asyncio

from activities.database import Pool, create_pool
from activities.incidents import report_incident, resolve_incidents
from activities.leases import LeaseTerms, hold
from activities.telegram.bot_api import BotApi
from activities.telegram.notices import NoticeTerms, TelegramNotices, chat_target
from activities.telegram.sending import ChatSender
from domain.incidents import IncidentKind
from domain.telegram import KINDS, Manner
from tests.support.telegram import BOT, TOKEN, FakeTelegram, fake_telegram
from tests.support.waiting import eventually

ACCOUNT, CHAT, GROUP = "main", 77, -1005
ON: Mapping[str, Manner] = dict.fromkeys(KINDS, "on")


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def telegram() -> AsyncIterator[FakeTelegram]:
    """A Telegram."""
    async with fake_telegram() as found:
        yield found


@contextlib.asynccontextmanager
async def delivering(
    pool: Pool, telegram: FakeTelegram, *chats: int, manners: Mapping[str, Manner] = ON
) -> AsyncIterator[TelegramNotices]:
    """A running delivery; `manners` may change meanwhile."""
    async with BotApi(TOKEN, telegram.address) as bot:
        targets = {chat: chat_target(BOT, chat) for chat in chats or (CHAT,)}

        def terms() -> NoticeTerms:
            return NoticeTerms(manners=manners, retry_first_seconds=0.05, retry_longest_seconds=0.2)

        notices = TelegramNotices(pool, ACCOUNT, ChatSender(bot), targets, terms)

        async def run() -> None:
            async with hold(pool, "telegram/main", "test", LeaseTerms(wait_seconds=0.05)) as lease:
                await notices.run(lease)

        task = asyncio.create_task(run())
        try:
            yield notices
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def news(pool: Pool, first: int, number: int, *, ago: timedelta = timedelta(0)) -> None:
    """So many trades were opened, a millisecond apart, the first one so long ago."""
    await pool.execute(
        "INSERT INTO incidents (account, kind, severity, subject, sentence, at, resolved_at) "
        "SELECT $1, 'trade_opened', 'INFO', 'trade-' || n, 'Bought <b>&' || n || '; for 500 USD.', "
        "now() - $4::interval + n * interval '1 ms', now() FROM generate_series($2::int, $2::int + $3::int - 1) n",
        ACCOUNT,
        first,
        number,
        ago,
    )


async def told(telegram: FakeTelegram, number: int, chat: int = CHAT) -> list[str]:
    """The messages to a chat once there are this many."""

    async def so() -> bool:
        return len(telegram.to(chat)) >= number

    await eventually(so, what=f"{number} messages")
    return telegram.to(chat)


async def all_told(pool: Pool, number: int, target: int = CHAT) -> None:
    """Wait until so many events are recorded as told to a chat."""

    async def so() -> bool:
        count = await pool.fetchval("SELECT count(*) FROM notices WHERE target = $1", chat_target(BOT, target))
        return bool(count >= number)

    await eventually(so, what=f"{number} events told")


def numbers(texts: list[str]) -> list[int]:
    """The numbers of the trades in these messages, in order."""
    return [int(part.partition(";")[0]) for text in texts for part in text.split("&lt;b&gt;&amp;")[1:]]


async def test_an_event_is_told_once_and_its_end(pool: Pool, telegram: FakeTelegram) -> None:
    """One message for each, over restarts of whoever sends; titles say what lasts and what is over."""
    await report_incident(pool, ACCOUNT, IncidentKind.OVERSOLD, "CRITICAL", "x", "Sold <more> & more")
    async with delivering(pool, telegram):
        first = (await told(telegram, 1))[0]
        await all_told(pool, 1)
    assert first.startswith("<b>BotTrader main: CRITICAL OVERSOLD x</b>\nSold &lt;more&gt; &amp; more\n<i>new, since ")
    async with delivering(pool, telegram), delivering(pool, telegram):
        await resolve_incidents(pool, ACCOUNT, IncidentKind.OVERSOLD, "x")
        assert "SUCCESS OVERSOLD x" in (await told(telegram, 2))[1]
    assert len(telegram.sent) == 2


async def test_a_burst_comes_bundled_without_a_refusal(pool: Pool, telegram: FakeTelegram) -> None:
    """500 events reach a chat and a group in few messages, in order and each once, at a pace that is never refused."""
    telegram.strict = True
    async with delivering(pool, telegram, CHAT, GROUP):
        await news(pool, 0, 500)
        await all_told(pool, 500)
        await all_told(pool, 500, GROUP)
    for chat in (CHAT, GROUP):
        assert numbers(telegram.to(chat)) == list(range(500))
        assert len(telegram.to(chat)) <= 12
    assert telegram.refused == 0


async def test_after_an_hour_away_everything_is_told_in_order(pool: Pool, telegram: FakeTelegram) -> None:
    """What happened while Telegram was away comes afterwards, bundled, in the order of its times, with these times;
    what is over by then is told once, with its end.
    """
    telegram.away = True
    async with delivering(pool, telegram):
        await news(pool, 0, 40, ago=timedelta(hours=1))
        await report_incident(pool, ACCOUNT, IncidentKind.STALE_PRICE, "WARNING", "BTC-USD", "The price is old")
        await pool.execute(
            "UPDATE incidents SET at = now() - interval '30 min', resolved_at = now() - interval '20 min' "
            "WHERE kind = 'stale_price'"
        )
        await news(pool, 40, 40, ago=timedelta(minutes=10))

        async def failed() -> bool:
            return bool(await pool.fetchval("SELECT failures >= 2 OR last_error IS NOT NULL FROM notice_targets"))

        await eventually(failed, what="it was tried")
        assert telegram.sent == []
        telegram.away = False
        await all_told(pool, 81)
    texts = telegram.to(CHAT)
    assert len(texts) <= 3
    assert numbers(texts) == list(range(80))
    lines = "\n".join(texts).splitlines()
    place = next(number for number, line in enumerate(lines) if "stale_price" in line)
    assert "&amp;39;" in lines[place - 1]
    assert "over already, until" in lines[place]
    first: datetime = await pool.fetchval("SELECT min(at) FROM incidents")
    assert lines[1].startswith(f"{first:%m-%d %H:%M:%S} ")


async def test_a_wait_that_is_asked_for_is_kept(pool: Pool, telegram: FakeTelegram) -> None:
    """After a 429 nothing is sent to the chat before its retry_after; then the message comes, once."""
    telegram.refuse_next.append((429, "Too Many Requests: retry after 2", {"retry_after": 2}))
    loop = asyncio.get_running_loop()
    async with delivering(pool, telegram):
        await news(pool, 0, 1)

        async def refused() -> bool:
            return telegram.refused == 1

        await eventually(refused, every=0.005)
        since = loop.time()
        await told(telegram, 1)
        assert loop.time() - since >= 1.8
        await all_told(pool, 1)
    assert (telegram.refused, len(telegram.sent)) == (1, 1)


async def test_a_chat_that_refuses_delays_no_other(pool: Pool, telegram: FakeTelegram) -> None:
    """A chat that the bot may not write to is tried again later and recorded; another one hears everything."""
    telegram.refuse_next.extend([(403, "Forbidden: bot was blocked by the user", {})])
    async with delivering(pool, telegram):
        await news(pool, 0, 1)
        await told(telegram, 1)

        async def recorded() -> bool:
            return bool(
                await pool.fetchval(
                    "SELECT last_error = 'refused: 403 Forbidden: bot was blocked by the user' AND failures = 0 "
                    "FROM notice_targets"
                )
            )

        await eventually(recorded)
    async with delivering(pool, telegram, 78):
        await told(telegram, 1, 78)


async def test_kinds_are_on_silent_or_off_as_the_settings_say_by_then(pool: Pool, telegram: FakeTelegram) -> None:
    """A change applies to the next event, without a restart."""
    manners = dict(ON) | {"warning": "off"}
    async with delivering(pool, telegram, manners=manners):
        await report_incident(pool, ACCOUNT, IncidentKind.STALE_PRICE, "WARNING", "a", "not told")
        await news(pool, 0, 1)
        await told(telegram, 1)
        manners["trade_opened"] = "silent"
        await news(pool, 1, 1)
        await told(telegram, 2)
        manners["trade_opened"] = "off"
        await news(pool, 2, 1)
        await report_incident(pool, ACCOUNT, IncidentKind.OVERSOLD, "CRITICAL", "b", "told")
        assert "told" in (await told(telegram, 3))[2]
    assert [message.silent for message in telegram.sent] == [False, True, False]
    assert "not told" not in "".join(telegram.to(CHAT))


async def test_an_answer_goes_before_notices_that_wait(telegram: FakeTelegram) -> None:
    """A person is answered next, however many notices wait for their turn in the chat."""
    telegram.strict = True
    async with BotApi(TOKEN, telegram.address) as bot:
        sender = ChatSender(bot)
        waiting = [
            asyncio.create_task(sender.notice(CHAT, f"notice {place}", silent=True, allowed=lambda: None))
            for place in range(3)
        ]
        await told(telegram, 1)
        await sender.answer(CHAT, "answer")
        await asyncio.gather(*waiting)
    # One notice may have been on its way already.
    assert telegram.to(CHAT).index("answer") in (1, 2)
    assert len(telegram.sent) == 4
    assert telegram.refused == 0
