"""What the reading commands show, as blocks of Telegram's HTML: the sentences of the page and the command line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from domain.errors import InternalSignal
from domain.money import amount
from domain.telegram import TelegramCommand, TelegramRequest, escaped
from domain.text import shown
from domain.wording import about, age, money, percent, short
from web.api.sources import Sources
from web.views import Json, Row
from web.views.incidents import read_incidents
from web.views.lists import described_order_line, described_trade_line, open_orders, trades_of
from web.views.orders import keys_beginning
from web.views.reasons import read_reasons, trade_sections
from web.views.standing_words import limit_lines, standing_head, standing_lines
from web.views.trade_words import state_words, stops_words
from web.views.trades import read_story

__all__ = ["Answers", "NotFound", "ReadSources"]

_MOST_ROWS = 25
_SHORTEST_KEY = 6
_DAYS = 7
_HELP = {
    TelegramCommand.STATUS: "mode, halt, today's result, risk and age of the data",
    TelegramCommand.TRADES: "open trades with their stops",
    TelegramCommand.ORDERS: "open orders",
    TelegramCommand.PNL: "today's result and that of each of the last days",
    TelegramCommand.WHY: "KEY or SYMBOL: why an order or trade came about and how it went; why a product isn't bought",
    TelegramCommand.HEALTH: "what `bottrader doctor` finds",
    TelegramCommand.INCIDENTS: "open incidents",
    TelegramCommand.HALT: "[strategy NAME or trigger NAME] REASON: refuse new entries at once; exits go on",
    TelegramCommand.RESUME: "[strategy NAME or trigger NAME]: allow entries again (a button asks back)",
    TelegramCommand.CLOSE: "KEY: sell a trade at MARKET (a button asks back)",
    TelegramCommand.FLATTEN: "SYMBOL or ALL: sell and cancel everything of it (a button asks back)",
}


@dataclass(frozen=True, slots=True)
class ReadSources:
    """Where the answers come from: the API's sources, and the account's standing with its mode."""

    api: Sources
    standing: Callable[[], Awaitable[Json]]


class NotFound(InternalSignal):
    """A key names no order of the account, or several; the text says which."""


class Answers:
    """The reading commands. All raise the database's errors."""

    def __init__(self, sources: ReadSources) -> None:
        self._sources = sources
        self._ledger, self._account = sources.api.ledger, sources.api.account

    async def answer(self, asked: TelegramRequest) -> Sequence[str]:
        """The blocks of an answer."""
        answers = {
            TelegramCommand.STATUS: self._status,
            TelegramCommand.TRADES: self._trades,
            TelegramCommand.ORDERS: self._orders,
            TelegramCommand.PNL: self._pnl,
            TelegramCommand.HEALTH: self._health,
            TelegramCommand.INCIDENTS: self._incidents,
        }
        if asked.command is TelegramCommand.WHY:
            return await self._why(asked.argument)
        if asked.command in answers:
            return await answers[asked.command]()
        return [
            f"/{command} – {escaped(what)}"
            for command, what in _HELP.items()
            if asked.user.may_trade or not command.acts
        ]

    async def _status(self) -> list[str]:
        found = await self._sources.standing()
        return [
            f"<b>{escaped(standing_head(found))}</b>",
            *(f"{escaped(what)}: {escaped(value)}" for what, value in standing_lines(found)),
            *(_limit_line(*line) for line in limit_lines(found["limits"])),
        ]

    async def _trades(self) -> list[str]:
        rows = await trades_of(self._ledger, self._account, closed=False, limit=_MOST_ROWS + 1)
        alone = await self._sources.api.unwatched({row["symbol"] for row in rows})
        found = [_trade_line(described_trade_line(row, alone)) for row in rows[:_MOST_ROWS]]
        return [*(found or ["There are no open trades."]), *_more(rows)]

    async def _orders(self) -> list[str]:
        rows = await open_orders(self._ledger, self._account, limit=_MOST_ROWS + 1)
        now = datetime.now(UTC)
        found = [_order_line(described_order_line(row), now) for row in rows[:_MOST_ROWS]]
        return [*(found or ["There are no open orders."]), *_more(rows)]

    async def _pnl(self) -> list[str]:
        today = await self._sources.api.today()
        currency = today["currency"]
        first = "not known" if today["pnl"] is None else f"{amount(today['pnl'], currency)} {currency}"
        limit = today["loss_limit"]
        limited = f", limit -{amount(limit, currency)} {currency}" if limit else ""
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        days = await self._sources.api.groups("day", midnight - timedelta(days=_DAYS - 1), None)
        lines = [
            f"{escaped(str(day['group']))}: {amount(day['pnl'], day['currency'])} {escaped(day['currency'])}, "
            f"{day['wins']} of {day['trades']} won, fees {amount(day['fees'], day['currency'])}"
            for day in reversed(days)
        ]
        head = f"<b>Net P&amp;L today (UTC): {escaped(first)}</b>{escaped(limited)}"
        return [head, *(lines or [f"No trade closed in the last {_DAYS} days."])]

    async def _health(self) -> list[str]:
        found = await self._sources.api.health()
        bad = [item for item in found["findings"] if item["verdict"] != "ok"]
        lines = [
            f"<b>{escaped(item['verdict'].upper())}</b> {escaped(item['check'])}: {escaped(item['finding'], 600)}"
            + (f" – {escaped(item['advice'], 400)}" if item["advice"] else "")
            for item in bad
        ]
        good = len(found["findings"]) - len(bad)
        return [*lines, f"{good} of {len(found['findings'])} checks are ok, at {escaped(shown(found['at']))}."]

    async def _incidents(self) -> list[str]:
        rows = await read_incidents(self._ledger, self._account, only_open=True, limit=_MOST_ROWS + 1)
        found = [
            f"{row['at']:%m-%d %H:%M:%S} <b>{row['severity']} {escaped(row['kind'])}</b> "
            f"{escaped(row['subject'] or '', 100)}: {escaped(row['sentence'], 1000)}"
            for row in rows[:_MOST_ROWS]
        ]
        return [*(found or ["There are no open incidents."]), *_more(rows)]

    async def _why(self, given: str) -> list[str]:
        if "-" in given.removeprefix("order-").removeprefix("exit-"):
            product = await self._sources.api.why(given.strip().upper()[:40], 5)
            return [escaped(str(sentence), 1500) for sentence in product["answers"]]
        try:
            key = await self.key_of(given)
        except NotFound as problem:
            return [escaped(str(problem))]
        story = await read_story(self._ledger, key)
        reasons = await read_reasons(self._ledger, story)
        sections = trade_sections(story, reasons)
        entry, state = story.entry, (story.trade or story.entry)["state"]
        head = f"{entry['side']} {entry['symbol']} {short(story.key)}: {state}"
        blocks = [f"<b>{escaped(head)}</b>"]
        for section in sections:
            blocks.append(f"<b>{escaped(section['title'])}</b>")
            blocks += [escaped(sentence, 1500) for sentence in section["sentences"]]
        return blocks

    async def key_of(self, given: str, *, of_trades: bool = False) -> str:
        """The key of the account's order that `given` begins. Raises NotFound."""
        prefix = given.strip().lower().removeprefix("order-").removeprefix("exit-").partition("-")[0]
        what = "trade" if of_trades else "order"
        if not set(prefix) <= set("0123456789abcdef") or not _SHORTEST_KEY <= len(prefix) <= 32:
            raise NotFound(
                f"Give the {what}'s key, or its first {_SHORTEST_KEY} or more characters: /{what}s lists them."
            )
        rows = await keys_beginning(self._ledger, self._account, prefix, of_trades=of_trades, most=4)
        if not rows:
            raise NotFound(f"There is no {what} whose key begins with {prefix}: /{what}s lists them.")
        if len(rows) > 1:
            listed = ", ".join(f"{row['order_key'][:16]} ({row['side']} {row['symbol']})" for row in rows[:3])
            raise NotFound(f"{prefix} is ambiguous: {listed}; give more characters.")
        return str(rows[0]["order_key"])


def _limit_line(name: str, money_used: str, trades: str, result: str, halted: str) -> str:
    ending = f"; <b>{escaped(halted)}</b>" if halted else ""
    return (
        f"{escaped(name)}: open money {escaped(money_used)}, trades {escaped(trades)}, today {escaped(result)}{ending}"
    )


def _trade_line(row: Json) -> str:
    currency = escaped(row["currency"])
    gain = ""
    if row["unrealised_pnl"] is not None:
        gain = (
            f", bid {about(row['bid'])}, would gain {amount(row['unrealised_pnl'], row['currency'])} {currency} "
            f"({percent(row['would_gain_fraction'])})"
        )
    return (
        f"<code>{short(row['entry_key'])}</code> <b>{escaped(row['symbol'])}</b> {escaped(state_words(row))}: "
        f"{money(row['remaining'])} bought at {about(row['entry_price'])}{gain}; stops {escaped(stops_words(row))}; "
        f"{escaped(row['trigger'] or 'by hand')}"
    )


def _order_line(row: Json, now: datetime) -> str:
    size = f"{money(row['base_size'])} " if row["base_size"] is not None else ""
    price = f" at {about(row['limit_price'])}" if row["limit_price"] is not None else ""
    return (
        f"<code>{short(row['order_key'])}</code> <b>{escaped(row['side'])} {size}{escaped(row['symbol'])}</b> "
        f"{escaped(row['order_type'])}{price}, {escaped(row['public_state'])}, filled {money(row['filled_size'])}; "
        f"{escaped(row['kind'])}, {escaped(row['exit_reason'] or row['trigger'] or 'by hand')}, "
        f"{age(row['received_at'], now)} ago"
    )


def _more(rows: Sequence[Row]) -> list[str]:
    return [f"There are more: these are the newest {_MOST_ROWS}."] if len(rows) > _MOST_ROWS else []
