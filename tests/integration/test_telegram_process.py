"""`bottrader telegram serve` as a process: on the local stack, with a wrong token, and without one."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.support.live_stack import ROOT, run_command
from tests.support.telegram import TOKEN, FakeTelegram, fake_telegram
from tests.support.waiting import eventually
from workers.stack.local_stack import LocalStack, LocalStackConfig

SERVE = (sys.executable, "-m", "cli.main", "telegram", "serve")
ANN, CHAT = 501, -1005


@pytest_asyncio.fixture
async def telegram() -> AsyncIterator[FakeTelegram]:
    """A Telegram."""
    async with fake_telegram() as found:
        yield found


def settings(telegram: FakeTelegram, token: Path) -> dict[str, str]:
    """The bot's settings, as the environment has them."""
    return {
        "BOTTRADER_TELEGRAM__TOKEN_FILE": str(token),
        "BOTTRADER_TELEGRAM__SERVER": telegram.address,
        "BOTTRADER_TELEGRAM__CHATS": str(CHAT),
        "BOTTRADER_TELEGRAM__USERS__ANN__ID": str(ANN),
    }


def token_file(folder: Path, token: str) -> Path:
    """A file with a token, as it has to be."""
    found = folder / "telegram_token"
    found.touch(mode=0o600)
    found.write_text(token + "\n")
    return found


async def everything_in(dsn: str) -> str:
    """All rows of the tables that the bot writes, or that people are told of it by."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = ("incidents", "notices", "notice_targets", "telegram_updates", "leases", "setting_bases")
        return "\n".join([str(row) for table in tables for row in await connection.fetch("TABLE " + table)])
    finally:
        await connection.close()


async def test_the_stack_runs_the_bot_and_its_token_is_in_no_log(telegram: FakeTelegram, tmp_path: Path) -> None:
    """With a token in the settings the stack's bot answers; through failures of the network and of Telegram the token
    gets into no log, no row and no message; when it is served, `telegram health` says so.
    """
    config = LocalStackConfig(
        ui=False, paper=False, worker=False, telegram=True, env=settings(telegram, token_file(tmp_path, TOKEN))
    )
    async with LocalStack(config) as stack:
        environment = {**os.environ, **stack.environment, "PYTHONPATH": str(ROOT)}
        telegram.says(ANN, "/status", chat=CHAT)

        async def answered(number: int = 1) -> bool:
            return len([text for text in telegram.to(CHAT) if "entries are allowed" in text]) >= number

        await eventually(answered, what="the bot answers")
        health = await run_command((*SERVE[:3], "telegram", "health"), environment)
        assert health.code == 0, health.err
        telegram.away = True
        telegram.says(ANN, "/status", chat=CHAT)

        async def noticed() -> bool:
            return "telegram does not answer" in (stack.data / "logs" / "telegram.log").read_text()

        await eventually(noticed, what="it notices that Telegram is away")
        telegram.away = False
        telegram.says(ANN, "/status", chat=CHAT)
        await eventually(lambda: answered(2), what="it answers again")
        written = await everything_in(stack.dsn)
        logs = "".join(path.read_text() for path in (stack.data / "logs").iterdir())
    assert "telegram_ready" in logs
    for text in (logs, written, *telegram.to(CHAT), health.out + health.err):
        assert TOKEN not in text
        assert TOKEN.partition(":")[2] not in text


async def test_it_tells_that_the_database_is_away(telegram: FakeTelegram, tmp_path: Path) -> None:
    """Nobody can read incidents then, so the bot tells the chats itself; afterwards it answers again."""
    env = settings(telegram, token_file(tmp_path, TOKEN)) | {"BOTTRADER_NOTICES__OUTAGE_AFTER_S": "1"}
    config = LocalStackConfig(ui=False, paper=False, worker=False, telegram=True, env=env)

    def to_chat(words: str) -> Callable[[], Awaitable[bool]]:
        async def so() -> bool:
            return any(words in text for text in telegram.to(CHAT))

        return so

    async with LocalStack(config) as stack:
        telegram.says(ANN, "/trades", chat=CHAT)
        await eventually(to_chat("There are no open trades."), what="the bot answers")
        await stack.kill_postgres()
        await eventually(to_chat("CRITICAL database_away</b>\nsince "), what="the outage is told")
        await stack.restart_postgres()

        async def answers() -> bool:
            telegram.says(ANN, "/orders", chat=CHAT)  # what is sent before the bot is back may be too old by then
            return await to_chat("There are no open orders.")()

        await eventually(answers, every=0.5, what="the bot answers again")


async def test_a_wrong_token_is_an_incident_that_does_not_repeat_it(telegram: FakeTelegram, tmp_path: Path) -> None:
    """The process goes on, people are told what to do, and the token is nowhere."""
    wrong = "99887766:AAa-wrong-token-of-nobody_0123456789"
    config = LocalStackConfig(
        ui=False, paper=False, worker=False, telegram=True, env=settings(telegram, token_file(tmp_path, wrong))
    )
    async with LocalStack(config) as stack:

        async def reported() -> str:
            found = await everything_in(stack.dsn)
            return found if "telegram_unusable" in found else ""

        written = await eventually(reported, what="the incident")
        assert "Telegram knows no bot with the token in telegram.token or telegram.token_file" in written
        logs = "".join(path.read_text() for path in (stack.data / "logs").iterdir())
    assert "status=401" in logs
    for text in (logs, written):
        assert wrong not in text
        assert wrong.partition(":")[2] not in text


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "There is no Telegram bot"),
        ({"BOTTRADER_TELEGRAM__TOKEN": TOKEN}, "Nobody would hear of anything"),
        (
            {"BOTTRADER_TELEGRAM__TOKEN": "12:secret-but-short"},
            "BOTTRADER_TELEGRAM__TOKEN (environment): is what @BotFather gives",
        ),
        ({"BOTTRADER_TELEGRAM__USERS__ANN__ID": "5"}, "users need the bot's token or token_file"),
        ({"BOTTRADER_TELEGRAM__CHATS": "5,main-group"}, "must be a whole number"),
        ({"BOTTRADER_TELEGRAM__SERVER": "http://api.example"}, "needs https, but on this machine"),
    ],
)
async def test_what_is_wrong_with_its_settings_is_one_sentence(
    given: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    """Without a token, chats and users, or with ones that can't be, it does not start; no value is repeated."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": "postgresql:///nowhere?host=/nowhere",
        "BOTTRADER_DATA": str(tmp_path / "data"),
    }
    done = await run_command(SERVE, environment | given, cwd=tmp_path)
    assert done.code == 2, done.err
    assert sentence in " ".join(done.err.split()), done.err
    assert "secret-but-short" not in done.err
    assert "main-group" not in done.err
