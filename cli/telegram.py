"""`bottrader telegram`: the process that sends notices to Telegram and answers commands (docs/telegram.md)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from cli.output import UserError, note

if TYPE_CHECKING:
    from activities.database import Pool
    from activities.telegram.bot_api import BotApi
    from activities.telegram.notices import TelegramNotices
    from activities.telegram.updates import Inbox, InboxTimes
    from domain.telegram import TelegramUser
    from workers.settings import Settings
    from workers.settings.live import LiveSettings
    from workers.settings.sources import SettingSources

__all__ = [
    "TelegramParts",
    "telegram_app",
    "telegram_lease",
    "telegram_parts",
    "token_of",
    "users_of_bot",
]

telegram_app = typer.Typer(help="The Telegram bot: serve it.", no_args_is_help=True)


@telegram_app.command("serve")
def serve() -> None:
    """Send notices to Telegram and answer commands until Ctrl-C. One process of an account does; others wait.

    Exit code 2 without a token, or without a chat and a user.
    """
    import uvloop

    from cli.settings import current_sources
    from workers.settings import build
    from workers.settings.secret_files import require_files

    sources = current_sources()
    settings = build(sources)
    require_files(settings)
    uvloop.run(_serve(settings, sources, token_of(settings)))


@telegram_app.command("health")
def health() -> int:
    """Check that a process serves the account's bot: exit code 0, else 1."""
    import asyncio

    from cli.settings import settings_in_force

    settings = settings_in_force()
    if asyncio.run(_served(settings)):
        note(f"The Telegram bot of account {settings.account} is served.")
        return 0
    note(f"No process serves the Telegram bot of account {settings.account}: start `bottrader telegram serve`.")
    return 1


async def _served(settings: "Settings") -> bool:
    from cli.ledger import open_ledger
    from workers.readiness import leases_held

    async with open_ledger(settings) as ledger:
        return await leases_held(ledger, [telegram_lease(settings.account)])


def token_of(settings: "Settings") -> str:
    """The bot's token, if there is somebody to send to or to hear. Raises UserError: NO_TOKEN, NO_CHATS, BAD_SECRET."""
    from cli.api import secret_from_file
    from workers.settings.telegram import TelegramSettings

    asked = settings.telegram
    if not asked.wanted:
        raise UserError(
            "NO_TOKEN",
            "There is no Telegram bot: @BotFather makes one; put its token into a file and set telegram.token_file.",
        )
    if not asked.chats and not asked.users:
        raise UserError(
            "NO_CHATS",
            "Nobody would hear of anything: set telegram.chats, the chats that get notices, and [telegram.users], who "
            "may send commands; docs/telegram.md says how to find their numbers.",
        )
    found = asked.token or secret_from_file("telegram.token_file", asked.token_file, TelegramSettings, "telegram.token")
    return str(found.get_secret_value())


def telegram_lease(account: str) -> str:
    """The name of the lease for an account's bot."""
    return f"telegram/{account}"


def users_of_bot(settings: "Settings") -> "Mapping[int, TelegramUser]":
    """Who may send commands, by their Telegram ids."""
    from domain.telegram import TelegramUser

    return {user.id: TelegramUser(name, user.role == "trade") for name, user in settings.telegram.users.items()}


async def _serve(settings: "Settings", sources: "SettingSources", token: str) -> None:
    """Serve until SIGINT or SIGTERM."""
    import asyncio
    import contextlib
    import logging
    import signal

    import structlog

    from activities.database import create_pool
    from activities.telegram.bot_api import BotApi
    from workers.background import FaultIncidents, watch_background
    from workers.ledger_identity import require_own
    from workers.log_lines import logs_without_secrets, one_line_for_servers_away
    from workers.settings.live import LiveSettings

    logs_without_secrets()
    one_line_for_servers_away()
    for name in ("aiohttp", "httpx", "httpcore"):  # their lines may hold addresses, and the bot's holds its token
        logging.getLogger(name).setLevel(logging.WARNING)
    background = watch_background()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool = await create_pool(
        settings.database.dsn,
        size=settings.database.pool_size,
        statement_seconds=float(settings.database.statement_timeout_s),
    )
    try:
        await require_own(pool, settings)
        background.tell.append(FaultIncidents(pool, settings.account, "Telegram"))
        live = LiveSettings(settings, pool, sources)
        async with live.following(), BotApi(token, settings.telegram.server) as bot:
            parts = telegram_parts(settings, live, pool, bot)
            serving = asyncio.create_task(parts.run())
            told = asyncio.create_task(stop.wait())
            note(f"The Telegram bot of account {settings.account} is served.")
            structlog.get_logger().info("telegram_ready", account=settings.account)
            try:
                await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    serving.result()
            finally:
                serving.cancel()
                told.cancel()
                await asyncio.gather(serving, told, return_exceptions=True)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await pool.close()


class TelegramParts:
    """The work of the process: under its lease notices, news and commands; beside it the look-out for the database."""

    def __init__(
        self, settings: "Settings", pool: "Pool", notices: "TelegramNotices", inbox: "Inbox", *, news_poll: float
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._notices = notices
        self._inbox = inbox
        self._news_poll = news_poll

    async def run(self) -> None:
        """Until cancelled."""
        from activities.long_running import together
        from activities.notices.outages import DATABASE, OutageOptions, Outages, takes_writes

        notices = self._settings.notices
        outages = Outages(
            self._pool,
            self._settings.account,
            {DATABASE: lambda: takes_writes(self._pool)},
            self._notices,
            OutageOptions(after_seconds=float(notices.outage_after_s), repeat_seconds=float(notices.repeat_s)),
            where="the Telegram bot",
            stores=False,  # workers with the role streams do
        )
        await together(self._hold(), outages.run())

    async def _hold(self) -> None:
        import asyncio

        import structlog

        from activities.leases import DATABASE_TROUBLE, LeaseLostError, LeaseTerms, hold
        from activities.long_running import holder_name, together
        from activities.notices.news import News, gather_news
        from domain.news import INCIDENT_KINDS

        account, terms = self._settings.account, LeaseTerms(wait_seconds=1.0)
        while True:
            news = News(
                self._pool,
                account,
                list(INCIDENT_KINDS.values()),  # which of them are sent may change while it runs
                repeat_seconds=float(self._settings.telegram.repeat_s),
                look_back_seconds=86_400.0,
            )
            try:
                async with hold(self._pool, telegram_lease(account), holder_name(), terms) as lease:
                    await together(
                        self._notices.run(lease),
                        self._inbox.run(lease),
                        gather_news(news, self._pool, account, terms, self._news_poll),
                    )
            except (LeaseLostError, *DATABASE_TROUBLE) as problem:
                structlog.get_logger().warning("telegram waits", problem=repr(problem))
            await asyncio.sleep(1.0)


def telegram_parts(
    settings: "Settings",
    live: "LiveSettings",
    pool: "Pool",
    bot: "BotApi",
    *,
    times: "InboxTimes | None" = None,
    poll_seconds: float = 0.5,
    retry_longest: float = 30.0,
) -> TelegramParts:
    """The work of one bot, not yet running. `poll_seconds`: between looks for events, wall."""
    from activities.telegram.notices import NoticeTerms, TelegramNotices, chat_target
    from activities.telegram.sending import ChatSender
    from activities.telegram.updates import Inbox
    from cli.api_hands import hands_of
    from cli.api_sources import sources_of, standing_of
    from web.telegram.answers import ReadSources
    from web.telegram.desk import CommandDesk
    from web.views import Json

    async def standing() -> "Json":
        async with pool.acquire() as connection:
            return await standing_of(live.current, connection, live.policy)

    def terms() -> NoticeTerms:
        asked = live.current.telegram
        return NoticeTerms(
            manners=asked.kinds.model_dump(),
            repeat_seconds=float(asked.repeat_s),
            poll_seconds=poll_seconds,
            retry_longest_seconds=retry_longest,
        )

    sender = ChatSender(bot)
    sources = ReadSources(sources_of(settings, pool, lambda: live.policy, lambda: live.current), standing)
    chats = settings.telegram.chats
    targets = {chat: chat_target(bot.bot, chat) for chat in chats}
    notices = TelegramNotices(pool, settings.account, sender, targets, terms, live=settings.mode == "live")
    users = users_of_bot(settings)
    inbox = Inbox(
        pool,
        settings.account,
        bot,
        sender,
        CommandDesk(sources, hands_of(settings, pool, lambda: live.policy)),
        users=lambda: users,
        chats=chats,
        times=times,
    )
    return TelegramParts(settings, pool, notices, inbox, news_poll=poll_seconds)
