"""Commands by Telegram on the real system: who may, how old, how often; done by the API's own actions and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from activities.telegram.bot_api import BotApi
from activities.telegram.updates import InboxTimes
from cli.telegram import TelegramParts, telegram_parts
from tests.support.harness import Trade, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.telegram import BOT, TOKEN, FakeTelegram, SentMessage, fake_telegram
from tests.support.waiting import eventually
from web.api.action_bodies import ActionBody, Halt, Resume
from web.api.action_log import ActionLog
from workers.settings.changes import set_override
from workers.settings.sources import SettingSources
from workers.settings.telegram import TelegramSettings, TelegramUserSettings
from workers.stack.dev_server import DevServer

ANN, VERA, STRANGER, GROUP, OTHER_GROUP = 501, 502, 999, -1005, -1006
ANNS = "ann (Telegram)"
TIMES = InboxTimes(poll=2, look=0.1, retry_first=0.05, retry_longest=0.2, refused=0.1, conflict=0.1)


@dataclass
class Phone:
    """A system with a bot, and the people around it: ann may trade, vera may look."""

    system: TradingSystem
    telegram: FakeTelegram
    parts: Callable[[], contextlib.AbstractAsyncContextManager[TelegramParts]]
    _bot: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start(self) -> None:
        """Start the bot's process, as far as it is one."""
        await self._bot.enter_async_context(self.parts())

    async def stop(self) -> None:
        """Stop it."""
        await self._bot.aclose()

    async def until(self, so: Callable[[], bool], what: str) -> None:
        """Wait for something at Telegram."""

        async def found() -> bool:
            return so()

        await eventually(found, what=what)

    async def answered(self, number: int) -> Any:
        """The row of an update, once it is done."""

        async def so() -> Any:
            rows = await self.system.rows(
                "SELECT * FROM telegram_updates WHERE update_id = $1 AND done_at IS NOT NULL", number
            )
            return rows[0] if rows else None

        return await eventually(so, what=f"update {number} is done")

    async def asks(self, user: int, text: str, **more: Any) -> str:
        """A command and its answer: what was sent to the chat because of it."""
        before = len(self.telegram.sent)
        row = await self.answered(self.telegram.says(user, text, **more))
        return "\n".join(m.text for m in self.telegram.sent[before:] if m.chat == row["chat_id"])

    async def button(self, user: int, text: str, **more: Any) -> SentMessage:
        """A command that asks back: the message with the button."""
        await self.asks(user, text, **more)
        return next(message for message in reversed(self.telegram.sent) if message.buttons)

    async def halted(self) -> bool:
        """Whether entries are halted."""
        return bool(await self.system.value("SELECT coalesce(bool_or(halted), false) FROM account_controls"))

    async def actions(self) -> list[tuple[Any, ...]]:
        """The recorded actions: who, what, on what, the answer's status."""
        rows = await self.system.rows("SELECT given_by, kind, subject, status FROM api_actions ORDER BY at")
        return [tuple(row.values()) for row in rows]

    async def stored(
        self, number: int, command: str, *, argument: str = "", ago: float = 0.0, press: bool = False
    ) -> None:
        """A command or press of ann's, for message 50, that an earlier process received and did not finish."""
        await self.system.rows(
            "INSERT INTO telegram_updates (bot, update_id, account, user_id, chat_id, message_id, sent_at, "
            "received_at, command, argument, press) VALUES ($1, $2, $3, $4, $4, 50, now() - make_interval(secs => $5), "
            "now() - make_interval(secs => $5), $6, $7, $8) RETURNING 1",
            BOT,
            number,
            self.system.account,
            ANN,
            ago,
            command,
            argument,
            f"press-{number}" if press else None,
        )

    async def shown(self, number: int, key: str, *, pressed_by: int | None) -> None:
        """That command asks back by a button, whose time is over."""
        await self.system.rows(
            "UPDATE telegram_updates SET done_at = now(), key_digest = $2, button_message = 50, pressed_by = $3, "
            "valid_until = now() - interval '1 s' WHERE update_id = $1 RETURNING 1",
            number,
            digest(key),
            pressed_by,
        )

    async def begun(self, number: int, kind: str, subject: str, body: ActionBody) -> None:
        """That action was begun, and its process ended."""
        log = ActionLog(self.system.pool, self.system.account)
        await log.begin(ANNS, f"telegram-{BOT}-{number}", kind, subject, body.model_dump(mode="json"))

    async def trade(self) -> Trade:
        """An open trade."""
        trade = await self.system.start(market_buy(self.system.account))
        await trade.until_protected()
        return trade


def digest(key: str) -> str:
    """A button's key, as it is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


@pytest_asyncio.fixture
async def phone(database: str, temporal_server: DevServer) -> AsyncIterator[Phone]:
    """A phone on its own system."""
    async with fake_telegram() as telegram:
        settings = TelegramSettings(
            token=SecretStr(TOKEN),
            server=telegram.address,
            chats=(GROUP,),
            users={
                "ann": TelegramUserSettings(id=ANN, role="trade"),
                "vera": TelegramUserSettings(id=VERA),
            },
        )
        async with trading_system(database, temporal_server.address, others={"telegram": settings}) as system:

            @contextlib.asynccontextmanager
            async def parts() -> AsyncIterator[TelegramParts]:
                async with BotApi(TOKEN, telegram.address) as bot:
                    found = telegram_parts(system.settings, system.parts.live, system.pool, bot, times=TIMES)
                    task = asyncio.create_task(found.run())
                    try:
                        yield found
                    finally:
                        task.cancel()
                        await asyncio.gather(task, return_exceptions=True)

            made = Phone(system, telegram, parts)
            await made.start()
            try:
                yield made
            finally:
                await made.stop()


async def test_each_reading_command_answers_as_the_terminal_does(phone: Phone) -> None:
    """Status, trades, orders, pnl, why, health, incidents and help show the account's numbers, to a viewer too."""
    trade = await phone.trade()
    order = await phone.system.start(limit_buy(phone.system.account, "0.002", "40000"))
    await order.until_state("OPEN")
    status = await phone.asks(VERA, "/status")
    assert f"account {phone.system.account}: entries are allowed." in status
    assert "\nopen trades: 1\nopen orders: 1\n" in status
    trades = await phone.asks(VERA, "/trades")
    assert f"<code>{trade.key[:12]}</code> <b>BTC-USD</b> PROTECTED: 0.01 bought at 50001" in trades
    orders = await phone.asks(VERA, "/orders@tests_own_bot", chat=GROUP)
    assert f"<code>{order.key[:12]}</code> <b>BUY 0.002 BTC-USD</b> LIMIT at 40000" in orders
    assert "Net P&amp;L today (UTC): 0.00 USD" in await phone.asks(VERA, "/pnl")
    why = await phone.asks(VERA, f"/why {trade.key[:8]}")
    assert f"BUY BTC-USD {trade.key[:12]}: PROTECTED" in why
    assert "rsi_oversold (sighook) decided to buy" in why
    assert "hard stop" in why
    assert "BTC-USD" in await phone.asks(VERA, "/why BTC-USD")
    assert "There is no order whose key begins with abcdef" in await phone.asks(VERA, "/why abcdef")
    assert "Give the order's key" in await phone.asks(VERA, "/why")
    assert "checks are ok" in await phone.asks(VERA, "/health")
    assert "There are no open incidents." in await phone.asks(VERA, "/incidents")
    guide = await phone.asks(VERA, "hello?")
    assert "/status – " in guide
    assert "/halt" not in guide
    assert "/halt – " in await phone.asks(ANN, "/help")


async def test_a_halt_is_at_once_and_a_resume_asks_back(phone: Phone) -> None:
    """A halt needs no button and keeps its reason; a resume happens when its button is pressed; both are recorded."""
    first = phone.telegram.says(ANN, "/halt too <wild>")
    row = await phone.answered(first)
    assert row["answer"] == "<b>/halt</b>: Entries are halted"
    assert await phone.halted()
    assert "HALTED by ann (Telegram)" in await phone.asks(VERA, "/status")
    assert await phone.system.value("SELECT reason FROM account_controls") == "too <wild>"
    message = await phone.button(ANN, "/resume")
    assert await phone.halted()
    assert message.buttons[0][0] == "Resume"
    await phone.answered(phone.telegram.presses(ANN, message))
    assert not await phone.halted()
    assert phone.telegram.to(ANN)[-1] == "<b>/resume</b>: Entries are resumed"
    assert message.buttons == []
    assert await phone.actions() == [
        ("ann (Telegram)", "halt", "", 200),
        ("ann (Telegram)", "resume", "", 200),
    ]


async def test_one_trigger_is_halted_and_resumed(phone: Phone) -> None:
    """A halt that names a trigger is that trigger's own; one that names none of ours halts nothing and says so."""
    halted = await phone.asks(ANN, "/halt trigger rsi_oversold it buys falling knives")
    assert halted == "<b>/halt</b>: Entries of trigger rsi_oversold are halted"
    assert not await phone.halted()
    assert "trigger rsi_oversold: " in await phone.asks(VERA, "/status")
    assert "There is no strategy of that name" in await phone.asks(ANN, "/halt strategy nobody")
    message = await phone.button(ANN, "/resume trigger rsi_oversold")
    assert message.text == "Allow entries of trigger rsi_oversold again?"
    await phone.answered(phone.telegram.presses(ANN, message))
    assert phone.telegram.to(ANN)[-1] == "<b>/resume</b>: Entries of trigger rsi_oversold are resumed"
    assert [row[1:] for row in await phone.actions()] == [
        ("halt", "trigger rsi_oversold", 200),
        ("halt", "strategy nobody", 404),
        ("resume", "trigger rsi_oversold", 200),
    ]


async def test_a_trade_is_closed_once_however_often_it_is_pressed(phone: Phone) -> None:
    """The button names the trade; presses and a doubled update are one close, in the user's name."""
    trade = await phone.trade()
    message = await phone.button(ANN, f"/close {trade.key[:10]}")
    assert f"Sell trade <code>{trade.key[:12]}</code> at MARKET, 0.01 BTC-USD?" in message.text
    key = message.key
    presses = [phone.telegram.presses(ANN, message, key=key) for _ in range(3)]
    for number in presses:
        await phone.answered(number)
    outcome = await trade.closed()
    assert outcome.exit_reason is not None
    phone.telegram.again(presses[0])
    await phone.until(lambda: not phone.telegram.doubled, "the press is delivered again")
    assert "is closed already" in await phone.asks(ANN, f"/close {trade.key}")
    assert await phone.actions() == [("ann (Telegram)", "close", trade.key, 200)]
    commands = await phone.system.rows("SELECT kind, subject, given_by FROM commands WHERE kind <> 'order'")
    assert [tuple(row.values()) for row in commands] == [("close", trade.key, "ann (Telegram)")]
    exits = await phone.system.rows("SELECT 1 FROM orders WHERE role = 'EXIT' AND entry_key = $1", trade.key)
    assert len(exits) == 1
    assert phone.telegram.edge.count("This button was pressed already: it works once.") == 2
    await phone.system.assert_books_agree()


async def test_a_product_is_flattened(phone: Phone) -> None:
    """Flatten says what it would sell, and then sells and cancels everything of the product."""
    trade = await phone.trade()
    order = await phone.system.start(limit_buy(phone.system.account, "0.002", "40000"))
    await order.until_state("OPEN")
    assert "Say what: /flatten SYMBOL" in await phone.asks(ANN, "/flatten")
    assert "There is nothing to close in ETH-USD." in await phone.asks(ANN, "/flatten eth-usd")
    message = await phone.button(ANN, "/flatten btc-usd")
    assert "Sell 1 open trade at MARKET and cancel 1 open entry of BTC-USD?" in message.text
    await phone.answered(phone.telegram.presses(ANN, message))
    await trade.closed()
    await order.until_state("CANCELLED")
    assert "2 of 2 are being sold or cancelled" in phone.telegram.to(ANN)[-1]
    assert (await phone.actions())[-1] == ("ann (Telegram)", "flatten", "BTC-USD", 200)


async def test_a_stranger_is_not_heard(phone: Phone) -> None:
    """Neither alone with the bot nor in the bot's own group; nor is a user in another group, or a message in a group's
    name. Nothing is answered or stored, and nothing keeps the next command waiting.
    """
    phone.telegram.says(STRANGER, "/halt")
    phone.telegram.says(STRANGER, "/halt", chat=GROUP)
    phone.telegram.says(ANN, "/halt", chat=OTHER_GROUP)
    phone.telegram.says(ANN, "/halt", chat=GROUP, sender_chat={"id": GROUP})
    phone.telegram.update(message={"message_id": 1, "chat": {"id": GROUP}, "date": 0})
    phone.telegram.update(poll={"id": "1"})
    assert "entries are allowed" in await phone.asks(ANN, "/status")
    assert not await phone.halted()
    assert await phone.system.value("SELECT count(*) FROM telegram_updates") == 1
    assert {message.chat for message in phone.telegram.sent} == {ANN}


async def test_who_may_only_look_moves_nothing(phone: Phone) -> None:
    """With the role view every action is refused, in a group with traders too."""
    for text in ("/halt", "/resume", "/close abcdef", "/flatten ALL"):
        assert await phone.asks(VERA, text, chat=GROUP) == "vera has the role view, which can only read."
    assert await phone.actions() == []
    assert not await phone.halted()


async def test_an_old_command_is_refused(phone: Phone) -> None:
    """A day-old /flatten, delivered after an outage, sells nothing, asks nothing back, and says so."""
    trade = await phone.trade()
    for text, ago in (("/flatten ALL", 86_400.0), ("/halt", 90.0), ("/status", 120.0), ("/halt", -90.0)):
        answer = await phone.asks(ANN, text, ago=ago)
        assert f"{text.split()[0]} was sent at " in answer
        assert "nothing was done" in answer
    assert all(not message.buttons for message in phone.telegram.sent)
    assert await phone.actions() == []
    assert (await trade.view()).exit_monitor


async def test_a_button_is_its_users_and_its_messages(phone: Phone) -> None:
    """Pressed by another user, below another message, or with a made-up key, it does nothing and stays valid for its
    own user; a minute later it is too late for that one, too.
    """
    await phone.asks(ANN, "/halt")
    message = await phone.button(ANN, "/resume", chat=GROUP)
    await phone.answered(phone.telegram.presses(VERA, message))
    await phone.answered(phone.telegram.presses(ANN, message, number=message.number + 1000))
    await phone.answered(phone.telegram.presses(ANN, message, key="made-up"))
    assert phone.telegram.edge == [
        "This button is not yours: send the command yourself.",
        "This button does not work: send the command again.",
        "This button does not work: send the command again.",
    ]
    await phone.system.rows("UPDATE telegram_updates SET valid_until = now() - interval '1 s' "
                            "WHERE key_digest IS NOT NULL RETURNING 1")  # fmt: skip
    await phone.answered(phone.telegram.presses(ANN, message))
    assert phone.telegram.edge[-1] == "Too late: a button works for 60 s. Send the command again."
    assert await phone.halted()
    again = await phone.button(ANN, "/resume", chat=GROUP)
    await phone.answered(phone.telegram.presses(ANN, again))
    assert not await phone.halted()


async def test_a_doubled_update_is_done_once(phone: Phone) -> None:
    """An update that Telegram delivers again, also to the next process, is neither done nor answered again."""
    number = phone.telegram.says(ANN, "/halt")
    await phone.answered(number)
    await phone.system.rows("UPDATE account_controls SET halted = false RETURNING 1")
    phone.telegram.again(number)
    await phone.until(lambda: not phone.telegram.doubled, "it is delivered again")
    assert "entries are allowed" in await phone.asks(VERA, "/status")
    await phone.stop()
    phone.telegram.again(number)
    await phone.start()
    await phone.until(lambda: not phone.telegram.doubled, "it is delivered again")
    assert "entries are allowed" in await phone.asks(VERA, "/status")
    assert not await phone.halted()
    assert len([text for text in phone.telegram.to(ANN) if "/halt" in text]) == 1


async def test_a_command_survives_the_process_that_received_it(phone: Phone) -> None:
    """Stored and not answered, it is continued by the next process: a fresh one is done, a begun one is not repeated
    and its outcome is told, an old one is refused.
    """
    await phone.stop()
    statement = (
        "INSERT INTO telegram_updates (bot, update_id, account, user_id, chat_id, message_id, sent_at, command, "
        "argument) VALUES ($1, $2, $3, $4, $4, 1, now() - $5::int * interval '1 s', $6, '') RETURNING 1"
    )
    account = phone.system.account
    await phone.system.rows(statement, BOT, 1, account, ANN, 600, "halt")
    await phone.system.rows(statement, BOT, 2, account, ANN, 600, "halt")
    await phone.system.rows(
        "INSERT INTO api_actions (account, given_by, key, kind, subject, digest, body, status, answer) VALUES "
        "($1, 'ann (Telegram)', $2, 'halt', '', '', '{}', 200, '{\"sentence\": \"entries are halted\"}') RETURNING 1",
        account,
        f"telegram-{BOT}-2",
    )
    await phone.system.rows(statement, BOT, 3, account, ANN, 5, "status")
    await phone.start()
    assert "nothing was done" in (await phone.answered(1))["answer"]
    assert (await phone.answered(2))["answer"] == "<b>/halt</b>: Entries are halted"
    assert "entries are allowed" in (await phone.answered(3))["answer"]
    assert not await phone.halted()


async def test_a_halt_after_a_resume_is_the_last_word(phone: Phone) -> None:
    """Halts and presses are done in the order of their updates, while an earlier one can't go on, too; readers and what
    decorates the message don't keep them waiting.
    """
    await phone.asks(ANN, "/halt")
    message = await phone.button(ANN, "/resume")
    phone.telegram.stuck = lambda method, _given: method == "answerCallbackQuery"
    async with phone.system.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM telegram_updates WHERE key_digest = $1 FOR UPDATE", digest(message.key))
        phone.telegram.presses(ANN, message)
        halt = phone.telegram.says(ANN, "/halt again")
        assert "HALTED" in await phone.asks(VERA, "/status")
        assert await phone.system.value("SELECT done_at IS NULL FROM telegram_updates WHERE update_id = $1", halt)
    row = await phone.answered(halt)
    assert row["answer"] == "<b>/halt</b>: Entries are halted"
    assert await phone.halted()
    phone.telegram.go_on.set()
    await phone.until(lambda: "The answer is below." in phone.telegram.edge, "the press is answered")
    assert [kind for _, kind, _, _ in await phone.actions()] == ["halt", "resume", "halt"]
    assert await phone.halted()


async def test_a_halt_waits_for_no_answer_to_others(phone: Phone) -> None:
    """While a chat takes no messages, with more questions there than are answered at once, a halt is done."""
    phone.telegram.stuck = lambda method, given: method == "sendMessage" and given["chat_id"] == GROUP
    for _ in range(20):
        phone.telegram.says(VERA, "/incidents", chat=GROUP)
    assert await phone.asks(ANN, "/halt") == "<b>/halt</b>: Entries are halted"
    assert await phone.halted()
    assert "There are no open trades." in await phone.asks(ANN, "/trades")


async def test_what_was_received_in_time_is_done_however_late_its_turn_comes(phone: Phone) -> None:
    """A halt that a process received and never began is done by the next one; a sale, after so long, is not."""
    await phone.stop()
    await phone.stored(1, "halt", ago=600.0)
    await phone.stored(2, "flatten", argument="ALL", ago=600.0)
    await phone.stored(3, "press", argument=digest("key"), ago=600.0, press=True)
    await phone.shown(2, "key", pressed_by=3)
    await phone.start()
    assert (await phone.answered(1))["answer"] == "<b>/halt</b>: Entries are halted"
    assert await phone.halted()
    assert (await phone.answered(3))["answer"].startswith("Too late")
    await phone.until(lambda: "Too late" in phone.telegram.to(ANN)[-1], "it is said in the chat")
    assert [kind for _, kind, _, _ in await phone.actions()] == ["halt"]


async def test_what_was_begun_and_not_done_is_done(phone: Phone) -> None:
    """A halt and a close that were recorded and not done go on as the same actions; a resume is not repeated, as a halt
    may have come in between.
    """
    trade = await phone.trade()
    await phone.stop()
    await phone.stored(1, "halt", ago=600.0)
    await phone.begun(1, "halt", "", Halt(note="by Telegram"))
    await phone.stored(2, "resume", ago=600.0)
    await phone.stored(3, "press", argument=digest("resume"), ago=600.0, press=True)
    await phone.shown(2, "resume", pressed_by=3)
    await phone.begun(3, "resume", "", Resume(confirm="resume", note="by Telegram"))
    await phone.stored(4, "close", argument=trade.key[:12], ago=600.0)
    await phone.stored(5, "press", argument=digest("close"), ago=600.0, press=True)
    await phone.shown(4, "close", pressed_by=5)
    await phone.begun(5, "close", trade.key, ActionBody(note="by Telegram"))
    await phone.start()
    assert (await phone.answered(1))["answer"] == "<b>/halt</b>: Entries are halted"
    assert (await phone.answered(3))["answer"].startswith("The outcome of this is not known")
    assert (await phone.answered(5))["answer"].startswith("<b>/close</b>: ")
    await trade.closed()
    assert await phone.halted()
    assert await phone.actions() == [
        (ANNS, "halt", "", 200),
        (ANNS, "resume", "", None),
        (ANNS, "close", trade.key, 200),
    ]


async def test_a_halt_survives_a_hiccup_of_the_database(phone: Phone) -> None:
    """Begun while the database refuses to store it, it is tried again until it is done, and told once."""
    await phone.system.rows("CREATE SEQUENCE tries")
    await phone.system.rows(
        """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"""
    )
    await phone.system.rows(
        "CREATE TRIGGER disk BEFORE INSERT OR UPDATE ON account_controls FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    number = phone.telegram.says(ANN, "/halt")

    async def tried() -> bool:
        return bool(await phone.system.value("SELECT is_called AND last_value >= 2 FROM tries"))

    await eventually(tried, what="it is tried again")
    assert phone.telegram.to(ANN) == []
    await phone.system.rows("DROP TRIGGER disk ON account_controls")
    assert (await phone.answered(number))["answer"] == "<b>/halt</b>: Entries are halted"
    assert await phone.halted()
    assert len(phone.telegram.to(ANN)) == 1


async def test_an_accepted_press_is_done(phone: Phone) -> None:
    """A press that was accepted in time is done by a later try, when the button's time is over, too; what a later try
    refuses is said in the chat, as the edge of the phone is gone by then.
    """
    await phone.asks(ANN, "/halt")
    await phone.stop()
    await phone.stored(1, "resume")
    await phone.stored(2, "press", argument=digest("key"), press=True)
    await phone.shown(1, "key", pressed_by=2)
    await phone.stored(3, "press", argument=digest("key"), press=True)
    await phone.start()
    assert (await phone.answered(2))["answer"] == "<b>/resume</b>: Entries are resumed"
    await phone.answered(3)
    assert not await phone.halted()
    assert "This button was pressed already: it works once." in phone.telegram.to(ANN)
    assert phone.telegram.edge == ["The answer is below."]


async def test_a_halt_or_resume_of_something_unclear_is_not_one_of_the_account(phone: Phone) -> None:
    """A forgotten name, or anything else that isn't understood, is answered with how to write it; nothing is done."""
    for text, said in (
        ("/resume BTC-USD", "write /resume for the whole account"),
        ("/resume trigger", "say which trigger"),
        ("/resume strategy one two", "write /resume for the whole account"),
        ("/halt strategy", "say which strategy"),
    ):
        answer = await phone.asks(ANN, text)
        assert answer.startswith("Nothing was done: ")
        assert said in answer
    assert all(not message.buttons for message in phone.telegram.sent)
    assert await phone.actions() == []
    assert "of the whole account" in (await phone.button(ANN, "/resume")).text


async def test_an_update_that_cannot_be_stored_stops_no_other(phone: Phone) -> None:
    """Control characters are left out of a command, and an update with impossible numbers or without its time is
    skipped.
    """
    phone.telegram.says(ANN, "/halt", message_id=2**70)
    phone.telegram.update(message={"message_id": 1, "from": {"id": ANN}, "chat": {"id": ANN}, "text": "/halt"})
    assert await phone.asks(ANN, "/halt bad\x00\x07 news") == "<b>/halt</b>: Entries are halted"
    assert await phone.system.value("SELECT reason FROM account_controls") == "bad news"
    assert await phone.system.value("SELECT count(*) FROM telegram_updates") == 1


async def test_another_program_on_the_bot_is_an_incident_until_it_ends(phone: Phone) -> None:
    """A webhook that somebody set is removed; a lasting 409 is told once, and resolved when commands come again."""
    phone.telegram.webhook = "https://elsewhere.example"
    assert "entries are allowed" in await phone.asks(ANN, "/status")
    assert phone.telegram.webhook == ""
    phone.telegram.other_poller = True

    async def incidents(*, over: bool) -> bool:
        rows = await phone.system.rows("SELECT sentence, resolved_at FROM incidents WHERE kind = 'telegram_unusable'")
        return [bool(row["resolved_at"]) for row in rows] == [over] and "409 Conflict" in rows[0]["sentence"]

    await eventually(lambda: incidents(over=False), what="the conflict is told")
    phone.telegram.other_poller = False
    await eventually(lambda: incidents(over=True), what="it is resolved")
    assert "telegram_unusable" in "".join(phone.telegram.to(GROUP))
    assert "entries are allowed" in await phone.asks(ANN, "/status")


async def test_a_kind_is_switched_off_while_it_runs(phone: Phone) -> None:
    """`config set` applies to the next event, without a restart of the bot."""
    system = phone.system
    sources = SettingSources(from_file=system.settings.model_dump())
    async with system.pool.acquire() as connection:
        await set_override(connection, sources, "telegram.kinds.trade_opened", ["off"], by="ann")

    async def so() -> bool:
        return system.parts.live.current.telegram.kinds.trade_opened == "off"

    await eventually(so, what="the bot knows")
    trade = await phone.trade()
    await system.price("40000")
    await trade.closed()
    await phone.until(lambda: "trade closed" in "".join(phone.telegram.to(GROUP)), "the close is told")
    assert "trade opened" not in "".join(phone.telegram.to(GROUP))


@pytest.mark.parametrize("away", ["telegram", "nobody"])
async def test_a_trade_is_told_from_the_ledger(phone: Phone, away: str) -> None:
    """What is bought and sold is told, with the result; also if Telegram was away when it happened."""
    phone.telegram.away = away == "telegram"
    trade = await phone.trade()
    await phone.system.price("40000")
    await trade.closed()
    phone.telegram.away = False

    def both() -> bool:
        text = "\n".join(phone.telegram.to(GROUP))
        return "Bought 0.01 BTC-USD" in text and "HARD_STOP: sold 0.01 BTC-USD" in text

    await phone.until(both, "opened and closed are told")
    text = "\n".join(phone.telegram.to(GROUP))
    assert text.index("Bought 0.01") < text.index("sold 0.01")
