"""Telegram's limits: messages that fit, escaped, in order, at a pace; and what counts as a command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.incidents import IncidentKind
from domain.notices import Incident, Notice, due_notices
from domain.telegram import (
    KINDS,
    MOST_CHARACTERS,
    ChatPace,
    Manner,
    TelegramCommand,
    as_bundles,
    command_in,
    escaped,
    pages,
    telegram_length,
    too_old,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ON: dict[str, Manner] = dict.fromkeys(KINDS, "on")


def events(number: int, sentence: str = "Bought 0.01 BTC-USD at 50000") -> list[Notice]:
    """News of so many trades, a second apart, as they are read after an outage."""
    found = [
        Incident(
            id=place,
            kind=IncidentKind.TRADE_OPENED,
            severity="INFO",
            subject=f"trade-{place}",
            sentence=f"{sentence} ({place})",
            at=NOON + timedelta(seconds=place),
            resolved_at=NOON + timedelta(seconds=place),
        )
        for place in range(number)
    ]
    return due_notices(reversed(found), NOON + timedelta(hours=1), repeat=timedelta(minutes=10))


def test_five_hundred_events_are_few_messages_in_order() -> None:
    """Every event is in one of them, with its own time, in the order of these times; none exceeds Telegram's length."""
    found = as_bundles("main", events(500), ON)
    assert len(found) <= 12
    assert all(telegram_length(message.html) <= MOST_CHARACTERS for message in found)
    told = [item for message in found for notice in message.notices for item in notice.reported]
    assert told == list(range(500))
    lines = "\n".join(message.html for message in found).splitlines()
    assert lines[0] == "<b>BotTrader main</b>: 500 events, in the order of their times (UTC)"
    assert [line[:14] for line in lines[1:3]] == ["03-01 12:00:00", "03-01 12:00:01"]
    assert lines[500].endswith("(499)")


def test_few_events_are_messages_of_their_own() -> None:
    """Up to three are told one by one, with title, sentence and time."""
    first, second = as_bundles("main", events(2), ON)
    assert first.html.splitlines() == [
        "<b>BotTrader main: trade opened</b>",
        "Bought 0.01 BTC-USD at 50000 (0)",
        "<i>2026-03-01 12:00:00 UTC</i>",
    ]
    assert second.notices[0].reported == (1,)


@given(st.lists(st.text(max_size=6000), min_size=1, max_size=8))
def test_any_text_is_escaped_and_fits(sentences: list[str]) -> None:
    """Whatever a sentence holds, each message is valid HTML of at most 4096 characters."""
    notices = [event for place, text in enumerate(sentences) for event in events(1, f"{place}{text}")]
    for message in as_bundles("a<b>&", notices, ON):
        assert telegram_length(message.html) <= MOST_CHARACTERS
        bare = message.html
        for tag in ("<b>", "</b>", "<i>", "</i>"):
            bare = bare.replace(tag, "")
        assert "<" not in bare
        assert ">" not in bare


@given(st.text(), st.integers(10, 200))
def test_a_text_is_cut_between_characters(text: str, most: int) -> None:
    """A cut text has no half of an entity, and is a beginning of the whole one."""
    found = escaped(text, most)
    assert telegram_length(found) <= max(most, 2)
    if found != escaped(text):
        assert found.endswith(" …")
        assert unescape(escaped(text)).startswith(unescape(found[:-2]))


@given(st.lists(st.text("ab🙂", min_size=1, max_size=4000).filter(lambda text: telegram_length(text) <= 4096)))
def test_pages_lose_nothing(blocks: list[str]) -> None:
    """All blocks come, in their order, and each page fits into a message."""
    found = pages(blocks)
    assert [block for page in found for block in page] == blocks
    assert all(telegram_length("\n".join(page)) <= MOST_CHARACTERS for page in found)


def test_a_message_is_silent_if_all_its_events_are() -> None:
    """One loud event makes a bundle loud."""
    silent: dict[str, Manner] = ON | {"trade_opened": "silent"}
    quiet = events(5)
    loud = [Incident(99, "oversold", "CRITICAL", "x", "Oversold", NOON)]
    both = quiet + due_notices(loud, NOON, repeat=timedelta(minutes=10))
    assert [message.silent for message in as_bundles("main", quiet, silent)] == [True]
    assert [message.silent for message in as_bundles("main", both, silent)] == [False]


def test_the_pace_of_a_chat_a_group_and_all() -> None:
    """In a simulated hour no second has two messages of a chat, no minute twenty-one of a group, no second thirty."""
    pace, now = ChatPace(), 0.0
    sent: list[tuple[float, int]] = []
    chats = [*range(1, 60), -1, -2]
    while now < 300:
        for chat in chats:
            if pace.wait(chat, now) == 0:
                pace.begun(chat, now)
                pace.ended(chat, now + 0.01)
                sent.append((now, chat))
        now += 0.02
    for chat in chats:
        times = [at for at, to in sent if to == chat]
        assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))
        if chat < 0:
            assert all(later - earlier > 60.0 for earlier, later in zip(times, times[20:], strict=False))
    times = [at for at, _ in sent]
    assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in zip(times, times[30:], strict=False))
    assert len(sent) > 5000


def test_a_wait_that_telegram_asks_for_is_kept() -> None:
    """Nothing goes to that chat before; others are not delayed."""
    pace = ChatPace()
    pace.hold(1, 30.0)
    assert pace.wait(1, 10.0) == 20.0
    assert pace.wait(2, 10.0) == 0.0
    assert pace.wait(1, 30.0) == 0.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/status", (TelegramCommand.STATUS, "")),
        ("  /WHY   ab12cd \n x ", (TelegramCommand.WHY, "ab12cd x")),
        ("/halt@Our_Bot news", (TelegramCommand.HALT, "news")),
        ("/halt@another_bot", None),
        ("/start", (TelegramCommand.HELP, "")),
        ("/sell everything", (TelegramCommand.HELP, "")),
        ("halt", None),
        ("/halt; /flatten ALL", None),
        ("", None),
    ],
)
def test_what_is_a_command(text: str, found: object) -> None:
    """A known word after a slash, for us; an unknown one asks for help, anything else is none."""
    assert command_in(text, "our_bot") == found


def test_what_is_too_old() -> None:
    """A minute is the limit, in both directions."""
    assert not too_old(NOON, NOON + timedelta(seconds=60))
    assert too_old(NOON, NOON + timedelta(seconds=61))
    assert too_old(NOON, NOON + timedelta(days=1))
    assert too_old(NOON, NOON - timedelta(seconds=61))
