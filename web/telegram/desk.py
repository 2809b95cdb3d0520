"""Commands of people, answered and done: by the API's own actions, under its record, with the update as the key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from domain.errors import InternalSignal
from domain.telegram import Question, TelegramCommand, TelegramRequest, escaped
from domain.wording import about, money, percent, short
from web.api.action_bodies import ActionBody, Answer, Done, Flatten, Halt, Resume, group_of, group_subject
from web.api.action_log import Begun
from web.api.actions import Actions, Hands
from web.refusals import Refused
from web.telegram.answers import Answers, NotFound, ReadSources
from web.views.lists import described_trade_line, trade_line
from web.views.trades import what_is_open

__all__ = ["CommandDesk"]

_UNKNOWN = "The outcome of this is not known, as the process ended in between: look at /status, then send it again."
_EVERYTHING = "ALL"


class NotUnderstood(InternalSignal):
    """A halt or resume does not say of what; the text says how to write it."""


class CommandDesk:
    """Answers commands for one account. All raise the database's errors."""

    def __init__(self, sources: ReadSources, hands: Hands) -> None:
        self._answers = Answers(sources)
        self._unwatched = sources.api.unwatched
        self._actions = Actions(hands)
        self._hands = hands

    async def answer(self, asked: TelegramRequest) -> Sequence[str]:
        """What a reading command shows."""
        return await self._answers.answer(asked)

    # --- asking back --------------------------------------------------------------------------------------------------

    async def question(self, asked: TelegramRequest) -> Question | Sequence[str]:
        """What pressing the button would do, with the current numbers; or why there is nothing to confirm."""
        if asked.command is TelegramCommand.RESUME:
            try:
                return _about_resume(asked.argument)
            except NotUnderstood as problem:
                return [escaped(str(problem))]
        if asked.command is TelegramCommand.FLATTEN:
            return await self._about_flatten(asked.argument)
        try:
            key = await self._answers.key_of(asked.argument, of_trades=True)
        except NotFound as problem:
            return [escaped(str(problem))]
        row = await trade_line(self._hands.ledger, self._hands.account, key)
        if row is None:
            return [f"{short(key)} has no position: nothing of it has filled."]
        trade = described_trade_line(row, await self._unwatched([row["symbol"]]))
        if trade["state"] == "CLOSED":
            return [f"The trade {short(key)} is closed already."]
        gain = ""
        if trade["unrealised_pnl"] is not None:
            gain = f" The bid is {about(trade['bid'])}: that would be {percent(trade['would_gain_fraction'])}."
        return Question(
            f"{self._live}Sell trade <code>{short(key)}</code> at MARKET, {money(trade['remaining'])} "
            f"{escaped(trade['symbol'])}?{gain}",
            f"Close {trade['symbol']}",
        )

    async def _about_flatten(self, argument: str) -> Question | Sequence[str]:
        symbol = _symbol(argument)
        if not argument:
            return [f"Say what: /flatten SYMBOL, such as /flatten BTC-USD, or /flatten {_EVERYTHING}."]
        rows = await what_is_open(self._hands.ledger, self._hands.account, symbol)
        name = escaped(symbol or "every product", 100)
        if not rows:
            return [f"There is nothing to close in {name}."]
        trades = sum(row["what"] == "trade" for row in rows)
        return Question(
            f"{self._live}Sell {_count(trades, 'open trade', 'open trades')} at MARKET and cancel "
            f"{_count(len(rows) - trades, 'open entry', 'open entries')} of {name}? "
            "Entries are still allowed afterwards, unless they are halted.",
            f"Flatten {symbol or 'everything'}"[:60],
        )

    @property
    def _live(self) -> str:
        return f"<b>LIVE {escaped(self._hands.account)}: real money.</b> " if self._hands.live else ""

    # --- doing --------------------------------------------------------------------------------------------------------

    async def act(self, asked: TelegramRequest) -> Sequence[str]:
        """Do it, once for each key, and say what came of it."""
        try:
            return _words(asked, await self._do(asked))
        except (NotFound, NotUnderstood) as problem:
            return [escaped(str(problem))]
        except Refused as refused:
            return [_UNKNOWN if refused.code == "OUTCOME_UNKNOWN" else escaped(refused.sentence)]

    async def outcome(self, asked: TelegramRequest) -> Sequence[str] | None:
        """What came of an action that was begun before: nothing, if it was not answered; None if none was begun."""
        found = await self._actions.outcome(asked.user.by, asked.key)
        if found is None:
            return None
        return _words(asked, found) if found.status else []

    async def _do(self, asked: TelegramRequest) -> Done:
        actions, note = self._actions, "by Telegram"
        match asked.command:
            case TelegramCommand.HALT:
                named, reason = _group_and_rest(asked.argument)
                halt = Halt(**named, note=reason or note)
                own = group_of(halt)
                return await self._once(
                    asked, group_subject(own), halt, lambda begun: actions.turn(begun, own, halt.note, halted=True)
                )
            case TelegramCommand.RESUME:
                named = _resumed(asked.argument)
                resume = Resume(**named, confirm="resume", note=note)
                own = group_of(resume)
                # Done again, it could end a halt that came in between.
                return await self._once(
                    asked,
                    group_subject(own),
                    resume,
                    lambda begun: actions.turn(begun, own, note, halted=False),
                    again=False,
                )
            case TelegramCommand.CLOSE:
                key = await self._answers.key_of(asked.argument, of_trades=True)
                close = ActionBody(note=note)
                return await self._once(asked, key, close, lambda begun: actions.close(begun, key, note))
            case TelegramCommand.FLATTEN:
                flatten = Flatten(confirm="flatten", symbol=_symbol(asked.argument), note=note)
                subject = flatten.symbol or ""
                return await self._once(asked, subject, flatten, lambda begun: actions.flatten(begun, flatten))
            case _:
                raise ValueError(f"{asked.command} does nothing")

    async def _once(
        self,
        asked: TelegramRequest,
        subject: str,
        body: ActionBody,
        act: Callable[[Begun], Awaitable[Answer]],
        *,
        again: bool = True,
    ) -> Done:
        return await self._actions.do(asked.user.by, asked.key, asked.command.value, subject, body, act, again=again)


def _group_and_rest(argument: str) -> tuple[dict[str, str], str]:
    """The strategy or trigger that a halt or resume names (`strategy NAME`, `trigger NAME`), and what follows it.

    Raises NotUnderstood where the name is missing.
    """
    kind, _, rest = argument.partition(" ")
    name, _, reason = rest.partition(" ")
    if kind.lower() not in ("strategy", "trigger"):
        return {}, argument
    if not name:
        raise NotUnderstood(
            f"Nothing was done: say which {kind.lower()}, such as /halt {kind.lower()} NAME or /resume {kind.lower()} "
            "NAME. Without either word the whole account is meant."
        )
    return {kind.lower(): name[:63]}, reason


def _resumed(argument: str) -> dict[str, str]:
    """What a resume names; nothing: the account. Raises NotUnderstood for anything else that follows."""
    named, rest = _group_and_rest(argument)
    if rest:
        raise NotUnderstood(
            "Nothing was done: write /resume for the whole account, /resume strategy NAME or /resume trigger NAME, "
            "and nothing after it."
        )
    return named


def _about_resume(argument: str) -> Question:
    """Raises NotUnderstood."""
    named = _resumed(argument)
    if not named:
        return Question("Allow entries of the whole account again, whoever or whatever halted them?", "Resume")
    ((kind, name),) = named.items()
    return Question(f"Allow entries of {kind} {escaped(name)} again?", f"Resume {kind} {name}"[:60])


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _symbol(argument: str) -> str | None:
    """The product of a flatten; None for all."""
    name = argument.strip().upper()
    return None if name == _EVERYTHING else name[:40]


def _words(asked: TelegramRequest, done: Done) -> list[str]:
    """What was answered, in the words of the API: the workflow's own."""
    sentence = done.sentence
    head = f"<b>/{asked.command}</b>: {escaped(sentence[:1].upper() + sentence[1:], 1500)}"
    items = done.answer.get("items") or []
    return [
        head,
        *(
            f"<code>{short(str(item['key']))}</code> {escaped(str(item['symbol']))}: "
            + escaped(str(item["sentence"]), 300)
            for item in items
        ),
    ]
