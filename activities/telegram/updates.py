"""What people send to the bot: received by one process of an account, stored, done once, and answered.

A command is stored with its update's number in one transaction before Telegram is told, by the next offset, that it may
forget it; so a crash loses none, and a doubled one is done once. What has not been answered is continued by the next
holder of the lease. Nothing is obeyed that is older than a minute when it is received: after an outage Telegram
delivers yesterday's.

Halts and presses, which do something, are done one after the other in the order of their updates' numbers, so that the
last word of a person is the last one done. They wait neither for answers to others nor for Telegram.

Only the settings' users are heard, and only in the settings' chats or alone with the bot. A group's members command
nothing by being in it.

Long on purpose: the states of an update's row, from received to done and said, are changed here and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import asyncpg
import structlog

from activities.database import Pool, Record
from activities.incidents import report_once, resolve_incidents
from activities.leases import DATABASE_TROUBLE, HELD, Lease, LeaseLostError
from activities.long_running import BackgroundTasks, together
from activities.telegram.bot_api import BotApi, TelegramAway, TelegramRefused, Update
from activities.telegram.sending import ChatSender
from domain.incidents import IncidentKind
from domain.telegram import (
    OLDEST,
    Question,
    TelegramCommand,
    TelegramRequest,
    TelegramUser,
    command_in,
    escaped,
    pages,
    too_old,
)

__all__ = ["Desk", "Inbox", "InboxTimes"]

log = structlog.get_logger(__name__)

_STORE = """
INSERT INTO telegram_updates (bot, update_id, account, user_id, chat_id, message_id, sent_at, command, argument, press)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""
_WAITING = """
SELECT update_id, user_id, chat_id, message_id, sent_at, received_at, command, argument, press FROM telegram_updates
 WHERE bot = $1 AND account = $2 AND done_at IS NULL ORDER BY update_id
"""
_DONE = "UPDATE telegram_updates SET done_at = now(), answer = $4 WHERE bot = $1 AND account = $2 AND update_id = $3"
_KEY = """
UPDATE telegram_updates SET key_digest = $4, valid_until = $5, button_message = NULL
 WHERE bot = $1 AND account = $2 AND update_id = $3
"""
_SHOWN = "UPDATE telegram_updates SET button_message = $4 WHERE bot = $1 AND account = $2 AND update_id = $3"
_BUTTON = """
SELECT update_id, user_id, chat_id, command, argument, button_message, valid_until, pressed_by FROM telegram_updates
 WHERE bot = $1 AND account = $2 AND key_digest = $3
"""
_PRESSED = """
UPDATE telegram_updates SET pressed_by = $4
 WHERE bot = $1 AND account = $2 AND update_id = $3 AND coalesce(pressed_by, $4) = $4 RETURNING true
"""
_FORGET = """
DELETE FROM telegram_updates WHERE account = $1 AND done_at IS NOT NULL AND received_at < now() - interval '30 days'
"""

_FOR_EVER = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.SyntaxOrAccessError)
"""Errors of the database that come again however often a statement is tried."""
_CONTROL = {place: None for place in (*range(32), *range(127, 160)) if not chr(place).isspace()}
"""Characters that have no place in a command; the database stores no U+0000."""

_KIND = IncidentKind.TELEGRAM_UNUSABLE
_TOKEN, _CONFLICT = "token", "commands"
_LONGEST_ARGUMENT = 200
_AT_ONCE = 8
_MOST_MESSAGES = 4
"""Of one answer; what is longer is cut."""


Answered = TypeVar("Answered")


class InboxTimes:
    """Wall seconds."""

    def __init__(
        self,
        *,
        poll: int = 25,
        look: float = 1.0,
        retry_first: float = 1.0,
        retry_longest: float = 30.0,
        refused: float = 60.0,
        conflict: float = 5.0,
    ) -> None:
        self.poll = poll
        """One request for updates is open for so long."""
        self.look = look
        """Between looks at what has not been answered."""
        self.retry_first = retry_first
        self.retry_longest = retry_longest
        self.refused = refused
        """Between tries with a token that Telegram refuses."""
        self.conflict = conflict
        """Between tries while another program receives the bot's updates."""


class Desk(Protocol):
    """Who answers commands. All raise the database's errors; answers are blocks of HTML."""

    async def answer(self, asked: TelegramRequest) -> Sequence[str]:
        """What a reading command shows."""

    async def question(self, asked: TelegramRequest) -> Question | Sequence[str]:
        """What has to be confirmed; or, where there is nothing to do, why."""

    async def act(self, asked: TelegramRequest) -> Sequence[str]:
        """Do it, once for each key, and say what came of it."""

    async def outcome(self, asked: TelegramRequest) -> Sequence[str] | None:
        """What came of an action that was begun before: nothing, if it was not answered; None if none was begun."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is to be said about an update once it is done. `edge`: at the edge of the phone of whoever pressed."""

    blocks: Sequence[str] = ()
    question: Question | None = None
    edge: str = ""
    used_up: bool = False
    """The pressed button is to go."""


class Inbox:
    """The commands to one bot. `users` are those who may send any, by their Telegram id."""

    def __init__(
        self,
        pool: Pool,
        account: str,
        bot: BotApi,
        sender: ChatSender,
        desk: Desk,
        *,
        users: Callable[[], Mapping[int, TelegramUser]],
        chats: Collection[int],
        times: InboxTimes | None = None,
    ) -> None:
        self._pool = pool
        self._account = account
        self._bot = bot
        self._sender = sender
        self._desk = desk
        self._users = users
        self._chats = frozenset(chats)
        self._times = times or InboxTimes()
        self._name = ""
        self._stored = asyncio.Event()
        self._at_work: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._decided: dict[int, _Reply] = {}
        """What came of halts and presses that are done, until it is said."""
        self._turn = asyncio.Lock()
        """Of what is done in order: it is given in the order in which it is asked for."""
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._strangers = _Strangers()

    async def run(self, lease: Lease) -> None:
        """Receive and answer until cancelled. Raises LeaseLostError, and the database's errors at the beginning."""
        self._at_work.clear()
        self._not_before.clear()
        self._decided.clear()
        await self._pool.execute(_FORGET, self._account)
        tasks = BackgroundTasks()
        try:
            await together(self._receive(lease), self._work(lease, tasks))
        finally:
            await tasks.stop()

    # --- receiving ----------------------------------------------------------------------------------------------------

    async def _receive(self, lease: Lease) -> None:
        offset: int | None = None
        failures = conflicts = 0
        greeted = usable = False
        while True:
            lease.require()
            try:
                if not greeted:
                    self._name = await self._bot.name()
                    await self._bot.delete_webhook()
                    greeted = True
                updates = await self._bot.updates(offset, self._times.poll)
                failures = conflicts = 0
                if not usable:
                    await self._say_usable()
                    usable = True
                if updates:
                    await self._store(lease, updates)
                    offset = max(int(update["update_id"]) for update in updates) + 1
                continue
            except TelegramAway as away:
                pause = min(self._times.retry_first * 2.0 ** min(failures, 10), self._times.retry_longest)
                failures += 1
                log.warning("telegram does not answer", problem=str(away), failures=failures)
            except TelegramRefused as refused:
                conflicts = conflicts + 1 if refused.status == 409 else 0
                pause = await self._refused(refused, conflicts)
                # A webhook that somebody has set takes the updates: it is removed again.
                greeted, usable = False, False
            except DATABASE_TROUBLE as trouble:
                log.warning("commands not stored, asked for again", problem=repr(trouble))
                pause = self._times.retry_first
            await asyncio.sleep(pause)

    async def _refused(self, refused: TelegramRefused, conflicts: int) -> float:
        """Tell people what only they can mend; returns the seconds to wait."""
        log.warning("telegram refuses", status=refused.status, reason=refused.reason)
        if refused.retry_after is not None:
            return refused.retry_after
        if refused.token_refused:
            await self._say(
                _TOKEN,
                "Telegram knows no bot with the token in telegram.token or telegram.token_file: neither notices nor "
                "commands work. @BotFather shows a bot's token; the process is to be started again with it.",
            )
            return self._times.refused
        if refused.status == 409:
            if conflicts >= 3:  # at a hand-over from one of our processes to another it is over by then
                await self._say(
                    _CONFLICT,
                    "Another program receives the commands of this Telegram bot (409 Conflict), so some are lost to "
                    "us: stop it, or use a bot of its own. Notices are sent all the same.",
                )
            return self._times.conflict
        return self._times.retry_longest

    async def _say(self, subject: str, sentence: str) -> None:
        try:
            await report_once(self._pool, self._account, _KIND, "WARNING", subject, sentence)
        except DATABASE_TROUBLE as trouble:
            log.warning("incident not stored", problem=repr(trouble))

    async def _say_usable(self) -> None:
        for subject in (_TOKEN, _CONFLICT):
            await resolve_incidents(self._pool, self._account, _KIND, subject)

    async def _store(self, lease: Lease, updates: Sequence[Update]) -> None:
        """Store what may be obeyed, all of it or nothing; but one that can't be stored keeps no other from it.

        Raises LeaseLostError and the database's errors.
        """
        rows = [row for update in updates if (row := self._readable(update)) is not None]
        if not rows:
            return
        try:
            await self._store_rows(lease, rows)
        except asyncpg.DataError:
            for row in rows:
                try:
                    await self._store_rows(lease, [row])
                except asyncpg.DataError as problem:
                    log.error("an update can't be stored, it is left out", number=row[1], problem=repr(problem))
        self._stored.set()

    async def _store_rows(self, lease: Lease, rows: Sequence[tuple[object, ...]]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(f"SELECT {HELD}", lease.name, lease.epoch):
                raise LeaseLostError(f"the lease {lease.name} (epoch {lease.epoch}) is another holder's by now")
            await connection.executemany(_STORE, rows)

    def _readable(self, update: Update) -> tuple[object, ...] | None:
        """`_row`; None also for an update that is not as Telegram documents them."""
        try:
            return self._row(update)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as problem:
            log.error("an update can't be read, it is left out", number=update["update_id"], problem=repr(problem))
            return None

    def _row(self, update: Update) -> tuple[object, ...] | None:
        """An update as it is stored; None for one that nobody may have answered."""
        press = update.get("callback_query") or {}
        message = press.get("message") or update.get("message") or {}
        who = press.get("from") or message.get("from") or {}
        chat, user = (message.get("chat") or {}).get("id"), who.get("id")
        if not isinstance(chat, int) or not isinstance(user, int):
            return None
        # Alone with the bot the chat's id is the user's. A message in a channel's or group's name has a false sender.
        known = user in self._users() and (chat in self._chats or chat == user) and "sender_chat" not in message
        if not known:
            self._strangers.seen(user, chat)
            return None
        head = (self._bot.bot, int(update["update_id"]), self._account, user, chat, int(message.get("message_id", 0)))
        if press:
            digest = _digest(str(press.get("data", "")))
            return (*head, datetime.now(UTC), "press", digest, str(press.get("id", "")))
        text = message.get("text")
        text = text.translate(_CONTROL) if isinstance(text, str) else None
        asked = command_in(text, self._name) if text is not None else None
        if asked is None:
            if chat != user or text is None or text.strip().startswith("/"):
                return None
            asked = TelegramCommand.HELP, ""
        sent_at = datetime.fromtimestamp(int(message["date"]), UTC)
        return (*head, sent_at, asked[0].value, asked[1][:_LONGEST_ARGUMENT], None)

    # --- answering ----------------------------------------------------------------------------------------------------

    async def _work(self, lease: Lease, tasks: BackgroundTasks) -> None:
        left = True
        while True:
            lease.require()
            self._stored.clear()
            try:
                rows = await self._pool.fetch(_WAITING, self._bot.bot, self._account)
            except DATABASE_TROUBLE as trouble:
                log.warning("commands not read", problem=repr(trouble))
            else:
                self._begin(lease, tasks, rows, left=left)
                left = False
            try:
                async with asyncio.timeout(self._times.look):
                    await self._stored.wait()
            except TimeoutError:
                continue

    def _begin(self, lease: Lease, tasks: BackgroundTasks, rows: Sequence[Record], *, left: bool) -> None:
        """Take up what nobody is at. `left`: an earlier holder of the lease may have begun it."""
        held_up = False
        for row in rows:
            number = row["update_id"]
            in_turn = _acts(row) and number not in self._decided
            if number in self._at_work or (in_turn and held_up):
                continue
            if time.monotonic() < self._not_before.get(number, 0.0):
                held_up |= in_turn
                continue
            self._at_work.add(number)
            tasks.start(self._handle(lease, row, left=left))

    async def _handle(self, lease: Lease, row: Record, *, left: bool) -> None:
        """Do what one update asks for, and say so. Saying it keeps nobody else waiting."""
        number = row["update_id"]
        try:
            reply = self._decided.get(number)
            if reply is None and _acts(row):
                reply = self._decided[number] = await self._in_turn(lease, row, left=left)
            elif reply is None:
                reply = await self._read(lease, row, left=left)
            answer = await self._tell(row, reply)
            await self._pool.execute(_DONE, self._bot.bot, self._account, number, answer)
            self._not_before.pop(number, None)
            self._decided.pop(number, None)
        except (TelegramAway, LeaseLostError, *DATABASE_TROUBLE) as trouble:
            log.warning("a command waits", number=number, problem=repr(trouble))
            self._not_before[number] = time.monotonic() + self._times.retry_first
        finally:
            self._at_work.discard(number)

    async def _in_turn(self, lease: Lease, row: Record, *, left: bool) -> _Reply:
        """Do what a halt or a press asks for, once all with smaller numbers are done; tried until the database answers.

        Raises LeaseLostError.
        """
        again = left
        async with self._turn:
            while True:
                lease.require()
                try:
                    user = self._users().get(row["user_id"])
                    if user is None:  # no longer in the settings
                        return _Reply()
                    if row["press"] is None:
                        return _Reply(await self._act_at_once(row, user))
                    return await self._press(lease, row, user, left=left, again=again)
                except DATABASE_TROUBLE as trouble:
                    log.warning("a command waits", number=row["update_id"], problem=repr(trouble))
                again = True
                await asyncio.sleep(self._times.retry_first)

    async def _act_at_once(self, row: Record, user: TelegramUser) -> Sequence[str]:
        """A halt. It counts when it was received: done later than meant, it does no harm."""
        asked = self._asked(row, user, row["update_id"])
        if not user.may_trade:
            return [_may_only_read(user)]
        found = await self._desk.outcome(asked)
        if found:
            return found
        if found is None and too_old(row["sent_at"], row["received_at"]):
            return [_old(asked.command, row["sent_at"])]
        return await self._guarded(self._desk.act, asked)

    async def _read(self, lease: Lease, row: Record, *, left: bool) -> _Reply:
        """What a command shows, or asks back. Raises LeaseLostError, and the database's errors."""
        lease.require()
        user = self._users().get(row["user_id"])
        if user is None:  # no longer in the settings
            return _Reply()
        asked = self._asked(row, user, row["update_id"])
        if asked.command.acts and not user.may_trade:
            return _Reply([_may_only_read(user)])
        if too_old(row["sent_at"], datetime.now(UTC) if left else row["received_at"]):
            return _Reply([_old(asked.command, row["sent_at"])])
        if asked.command.needs_button:
            question = await self._guarded(self._desk.question, asked)
            return _Reply(question=question) if isinstance(question, Question) else _Reply(question)
        async with self._slots:
            return _Reply(await self._guarded(self._desk.answer, asked))

    async def _guarded(
        self, do: Callable[[TelegramRequest], Awaitable[Answered]], asked: TelegramRequest
    ) -> Answered | list[str]:
        """An answer, also to a command that fails for a reason nobody foresaw: it is not tried again for ever."""
        try:
            return await do(asked)
        except _FOR_EVER as fault:
            return self._failed(asked, fault)
        except DATABASE_TROUBLE:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, the next command is to be answered
            return self._failed(asked, fault)

    def _failed(self, asked: TelegramRequest, fault: Exception) -> list[str]:
        log.error("a command failed", command=asked.command, problem=repr(fault), exc_info=fault)
        return ["An internal error; the log says where. Look at /status before you send it again."]

    async def _ask_back(self, row: Record, question: Question) -> None:
        """Show a button with a key of its own. The key works once, for this user and message, for a minute."""
        key = secrets.token_urlsafe(24)
        named = (self._bot.bot, self._account, row["update_id"])
        await self._pool.execute(_KEY, *named, _digest(key), datetime.now(UTC) + OLDEST)
        try:
            message = await self._sender.answer(row["chat_id"], question.html, [(question.button, key)])
        except TelegramRefused as refused:
            log.warning("a question was refused", reason=refused.reason)
            return
        await self._pool.execute(_SHOWN, *named, message)

    async def _press(self, lease: Lease, row: Record, user: TelegramUser, *, left: bool, again: bool) -> _Reply:
        """A button was pressed: check that its key is right, unused, this user's and this message's, then act.

        `left`: an earlier holder of the lease received it. `again`: this is not the first try, so the edge of the phone
        may be lost by now, and a refusal goes to the chat. Raises LeaseLostError, and the database's errors.
        """

        def refused(text: str, *, used_up: bool = False) -> _Reply:
            return _Reply([escaped(text)], used_up=used_up) if again else _Reply(edge=text, used_up=used_up)

        button = await self._button(row)
        if button is None or (button["chat_id"], button["button_message"]) != (row["chat_id"], row["message_id"]):
            return refused("This button does not work: send the command again.")
        if button["user_id"] != row["user_id"]:
            return refused("This button is not yours: send the command yourself.")
        if not user.may_trade:
            return refused(f"{user.name} has the role view, which can only read.")
        accepted = button["pressed_by"] == row["update_id"]
        if not accepted and button["pressed_by"] is not None:
            return refused("This button was pressed already: it works once.")
        asked = self._asked(button, user, row["update_id"])
        found = await self._desk.outcome(asked) if accepted else None
        if found:
            return _pressed(found)
        # A press that was accepted in time and not begun is done, but not by whoever finds it much later.
        late = left and datetime.now(UTC) - row["sent_at"] > OLDEST
        if found is None and (late or (not accepted and row["sent_at"] > button["valid_until"])):
            return refused(f"Too late: a button works for {OLDEST.seconds} s. Send the command again.", used_up=True)
        named = (self._bot.bot, self._account, button["update_id"])
        if not await self._pool.fetchval(_PRESSED, *named, row["update_id"]):
            return refused("This button was pressed already: it works once.")
        lease.require()
        return _pressed(await self._guarded(self._desk.act, asked))

    async def _button(self, row: Record) -> Record | None:
        """The command whose button was pressed. A button can be pressed before its message's number is stored."""
        for _ in range(50):
            found: Record | None = await self._pool.fetchrow(_BUTTON, self._bot.bot, self._account, row["argument"])
            if found is None or found["button_message"] is not None:
                return found
            await asyncio.sleep(0.1)
        return None

    def _asked(self, row: Record, user: TelegramUser, number: int) -> TelegramRequest:
        return TelegramRequest(self._bot.bot, number, user, TelegramCommand(row["command"]), row["argument"])

    async def _answer(self, chat: int, blocks: Sequence[str]) -> str:
        """Send an answer, in more than one message if it is long. Returns its text. Raises TelegramAway."""
        for page in pages(blocks)[:_MOST_MESSAGES]:
            try:
                await self._sender.answer(chat, "\n".join(page))
            except TelegramRefused as refused:
                log.warning("an answer was refused", reason=refused.reason)
                break
        return "\n".join(blocks)[:4000]

    async def _tell(self, row: Record, reply: _Reply) -> str:
        """Say what came of an update; returns that. Raises TelegramAway, and the database's errors."""
        if reply.edge:
            await self._quietly(self._bot.answer_press(row["press"], reply.edge))
        if reply.used_up:
            await self._quietly(self._bot.take_buttons(row["chat_id"], row["message_id"]))
        if reply.question is not None:
            await self._ask_back(row, reply.question)
            return "asked to confirm"
        return await self._answer(row["chat_id"], reply.blocks) if reply.blocks else reply.edge

    async def _quietly(self, asking: Awaitable[None]) -> None:
        """Ask Telegram for what only decorates: nothing depends on it."""
        try:
            await asking
        except (TelegramAway, TelegramRefused) as problem:
            log.info("not decorated", problem=str(problem))


class _Strangers:
    """Those who may not send commands: one line a minute, with the ids that an owner needs for the settings."""

    def __init__(self) -> None:
        self._count = 0
        self._next = 0.0

    def seen(self, user: int, chat: int) -> None:
        """Somebody unknown has sent something."""
        self._count += 1
        if time.monotonic() >= self._next:
            log.warning("telegram_stranger", user=user, chat=chat, messages=self._count)
            self._count, self._next = 0, time.monotonic() + 60.0


def _acts(row: Record) -> bool:
    """Whether it does something by itself: a press, or a command that needs no button."""
    if row["press"] is not None:
        return True
    command = TelegramCommand(row["command"])
    return command.acts and not command.needs_button


def _pressed(blocks: Sequence[str]) -> _Reply:
    return _Reply(blocks, edge="The answer is below.", used_up=True)


def _may_only_read(user: TelegramUser) -> str:
    return f"{escaped(user.name)} has the role view, which can only read."


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _old(command: TelegramCommand, sent_at: datetime) -> str:
    return (
        f"/{command} was sent at {sent_at:%Y-%m-%d %H:%M:%S} UTC. Nothing older than {OLDEST.seconds} s is obeyed, nor "
        "what comes from the future by our clock: nothing was done. Send it again if you still want it."
    )
