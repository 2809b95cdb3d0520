"""`bottrader halt`, `resume` and `flatten`: a person's switches.

A halt is the ledger's own: it works whether or not Temporal and the workers do, and no entry is admitted once it is
set. Exits go on. Flatten sends requests to each trade's own workflows, so nothing is sold twice even if others request
it meanwhile.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.asking import user
from cli.output import ExitCode, UserError, note, print_json, print_table
from cli.quotes import quotes_leave

if TYPE_CHECKING:
    from temporalio.client import Client

    from domain.limit_groups import GroupKind
    from domain.messages import CloseRequest
    from web.views import Row
    from workers.settings import Settings

__all__ = ["flatten", "halt", "resume"]

_BY = Annotated[str, typer.Option("--by", help="Your name, recorded as a note with this machine's user.")]
_STRATEGY = Annotated[str, typer.Option("--strategy", help="Only entries of this strategy of [risk.strategies].")]
_TRIGGER = Annotated[str, typer.Option("--trigger", help="Only entries by this trigger of [triggers].")]
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_ANSWER_SECONDS = 10.0
_LOOK_SECONDS = 0.25
_AGAIN_SECONDS = 5.0
_AT_ONCE = 20
_ASKED: dict[str, Literal["close", "cancel"]] = {"trade": "close", "entry": "cancel"}


# --- halt and resume -------------------------------------------------------------------------------------------------


def halt(
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record.")] = "",
    strategy: _STRATEGY = "",
    trigger: _TRIGGER = "",
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Refuse every new entry at once (SKIP_TRADING_HALTED), or those of one strategy or trigger, until `bottrader
    resume`. Exits go on.

    Exit code 1 when these entries were halted already.
    """
    return _turn(reason, strategy, trigger, user(by), halted=True, as_json=as_json)


def resume(
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record.")] = "",
    strategy: _STRATEGY = "",
    trigger: _TRIGGER = "",
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Allow entries again after any halt of the account, by a person or a limit, or those of one strategy or trigger
    after a halt of its own.

    Exit code 1 when nothing was halted.
    """
    return _turn(reason, strategy, trigger, user(by), halted=False, as_json=as_json)


def _turn(reason: str, strategy: str, trigger: str, by: str, *, halted: bool, as_json: bool) -> int:
    import asyncio

    from cli.groups import which_group
    from cli.settings import current_settings, settings_in_force
    from cli.settings_left import settings_to_stop

    group = which_group(strategy, trigger)
    if group is not None:
        # Which strategies there are, only valid settings say; the account can be halted without them.
        found = _store_group(settings_in_force(), group, reason, by, halted=halted, as_json=as_json)
        return asyncio.run(found)
    settings = settings_to_stop() if halted else current_settings()
    return asyncio.run(_store(settings, reason, by, halted=halted, as_json=as_json))


async def _store_group(
    settings: "Settings", group: "tuple[GroupKind, str]", reason: str, by: str, *, halted: bool, as_json: bool
) -> int:
    import structlog

    from cli.groups import group_sentence, has_quotes, require_group, turn_group
    from cli.ledger import open_ledger
    from workers.settings.values import policy_of

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    async with open_ledger(settings) as ledger:
        policy = policy_of(settings)
        await require_group(ledger, policy, *group)
        changed = await turn_group(ledger, settings.account, group, reason, by, halted=halted)
        if halted and has_quotes(policy, group):
            await quotes_leave(ledger, settings, by)
    kind, name = group
    if as_json:
        print_json({"account": settings.account, "changed": changed, "halted": halted, "kind": kind, "name": name})
    else:
        typer.echo(f"{group_sentence(group, changed=changed, halted=halted)} (account {settings.account}).")
    return int(ExitCode.OK if changed else ExitCode.NO)


async def _store(settings: "Settings", reason: str, by: str, *, halted: bool, as_json: bool) -> int:
    import structlog

    from activities.orders import controls
    from cli.ledger import open_ledger

    # Runs without log lines: the command prints its own messages, and standard output is for its answer.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    turn = controls.halt if halted else controls.resume
    async with open_ledger(settings) as ledger:
        changed = await turn(ledger, settings.account, reason, by)
        now = await controls.trading_control(ledger, settings.account)
        if halted:
            await quotes_leave(ledger, settings, by)
    if as_json:
        print_json({"account": settings.account, "changed": changed, **_described(now)})
    else:
        word = "halted" if halted else "resumed"
        when = "" if changed else " already" if halted else "; nothing was halted"
        typer.echo(f"Entries of {settings.account} are {word}{when}.")
        if halted and now.changed_at is not None:
            why = f": {now.reason}" if now.reason else ""
            typer.echo(f"By {now.changed_by or 'an unknown person'} at {now.changed_at:%Y-%m-%d %H:%M:%S}Z{why}.")
    return int(ExitCode.OK if changed else ExitCode.NO)


def _described(now: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(now)


# --- flatten ---------------------------------------------------------------------------------------------------------


def flatten(
    symbol: Annotated[str | None, typer.Argument(help="Only this product; default: all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is sold.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=86_400, help="Wall seconds to wait.")] = 120.0,
    first_halt: Annotated[bool, typer.Option("--halt", help="Halt entries first, so that no new trade opens.")] = False,
    by: _BY = "",
    why: Annotated[str, typer.Option("--note", help="A note for the record.")] = "",
    as_json: _JSON = False,
) -> int:
    """Sell every open trade at MARKET and cancel every open entry, of one product or of all; show how each ended, or
    why it has not.

    Exit code 1 when something is still open.
    """
    import asyncio

    from cli.settings_left import settings_to_stop

    settings = settings_to_stop()
    return asyncio.run(
        _flatten(
            settings,
            _product(symbol),
            user(by),
            why,
            yes=yes,
            wait=wait,
            timeout=timeout,
            first_halt=first_halt,
            as_json=as_json,
        )
    )


def _product(symbol: str | None) -> str | None:
    """The product as the ledger writes it. Raises UserError(BAD_PRODUCT): a mistyped one must not look sold."""
    if symbol is None:
        return None
    found = symbol.strip().upper()
    base, dash, quote = found.partition("-")
    if not (base and dash and quote):
        raise UserError("BAD_PRODUCT", f"{symbol!r} is not a product: write it like BTC-USD.")
    return found


@dataclass
class _Wish:
    """A trade or entry to close, and the result of the request."""

    key: str
    symbol: str
    what: str
    size: Any
    answer: str | None = None
    problem: str = ""
    asked_at: float = field(default=0.0)
    heard: bool = False
    kept: bool = False
    """No workflow was running for it: the request is stored in the ledger for the one that the sweep starts or
    finds."""


async def _flatten(
    settings: "Settings",
    symbol: str | None,
    by: str,
    why: str,
    *,
    yes: bool,
    wait: bool,
    timeout: float,
    first_halt: bool,
    as_json: bool,
) -> int:
    import structlog

    from activities.orders import controls
    from cli.ledger import open_ledger
    from web.views.trades import how_they_ended, what_is_open
    from workers.temporal_connection import connect

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    async with open_ledger(settings) as ledger:
        listed = await what_is_open(ledger, settings.account, symbol)
        if listed and not yes:
            _confirm(listed, symbol)
        if first_halt:
            await controls.halt(ledger, settings.account, why or "flatten", by)
        if not (await controls.trading_control(ledger, settings.account)).halted:
            note(
                "Entries are not halted: decisions in the meantime may open new trades (add `--halt` to prevent that)."
            )
        await quotes_leave(ledger, settings, by, symbol=symbol)
        wishes: dict[str, _Wish] = {}
        if listed:
            client = await connect(settings)
            await _until_flat(ledger, client, settings.account, symbol, wishes, by, why, wait=wait, timeout=timeout)
        left = {row["key"] for row in await what_is_open(ledger, settings.account, symbol)}
        ends = await how_they_ended(ledger, {*wishes, *left})
    rows = [_end(wish, ends.get(wish.key), left=wish.key in left) for wish in wishes.values()]
    _print(rows, left, symbol, as_json=as_json)
    return int(ExitCode.NO if left else ExitCode.OK)


def _confirm(listed: "list[Row]", symbol: str | None) -> None:
    import sys

    trades = sum(row["what"] == "trade" for row in listed)
    of = f" in {symbol}" if symbol else ""
    question = f"Sell {trades} open trades at MARKET and cancel {len(listed) - trades} open entries{of}?"
    if not sys.stdin.isatty():
        raise UserError("NOT_CONFIRMED", f"{question} Confirm with --yes.")
    typer.confirm(question, abort=True, err=True)


async def _until_flat(
    ledger: Any,
    client: "Client",
    account: str,
    symbol: str | None,
    wishes: dict[str, _Wish],
    by: str,
    why: str,
    *,
    wait: bool,
    timeout: float,
) -> None:
    """Send requests for everything open, including new trades, until nothing is left or the time is over."""
    import asyncio
    import time

    from cli.asking import commanded, keep_until_started
    from web.views.trades import what_is_open

    deadline, told = time.monotonic() + timeout, -1
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(wish: _Wish, request: "CloseRequest") -> None:
        async with slots:
            wish.heard = await _ask(client, wish, request, min(_ANSWER_SECONDS, max(deadline - time.monotonic(), 0.5)))
            wish.asked_at = time.monotonic()

    while rows := await what_is_open(ledger, account, symbol):
        for row in rows:
            known = wishes.setdefault(row["key"], _Wish(row["key"], row["symbol"], row["what"], row["size"]))
            if known.what != row["what"]:
                # A cancelled entry had filled after all: now its trade is to be closed.
                known.what, known.answer, known.asked_at, known.kept = row["what"], None, 0.0, False
        again = time.monotonic() - _AGAIN_SECONDS
        due = [item for item in wishes.values() if item.answer is None and item.asked_at <= again]
        is_open = {row["key"] for row in rows}
        due = [item for item in due if item.key in is_open]
        requests: dict[str, CloseRequest] = {}
        for what, kind in _ASKED.items():
            keys = [item.key for item in due if item.what == what]
            requests |= await commanded(ledger, account, kind, keys, by, why) if keys else {}
        await asyncio.gather(*(one(item, requests[item.key]) for item in due))
        for item in due:
            if not item.heard and not item.kept:
                kind = _ASKED[item.what]
                item.problem = await keep_until_started(ledger, account, kind, item.key, requests[item.key])
                item.kept = True
        if told != len(rows):
            told = len(rows)
            note(f"{told} of {len(wishes)} are still open")
        if time.monotonic() >= deadline or (not wait and all(item.asked_at for item in wishes.values())):
            return
        await asyncio.sleep(_LOOK_SECONDS)
    note("Nothing is open any more")


async def _ask(client: "Client", wish: _Wish, request: "CloseRequest", seconds: float) -> bool:
    """Request the close of a trade or the cancel of an entry; a refusal because it is already under way also counts as
    an answer.

    Returns False if no workflow is running for it.
    """
    from cli.asking import no_answer
    from domain.commands import CommandKind
    from workflows.asking import NoAnswerError, ask_to_end

    kind = _ASKED[wish.what]
    try:
        reply = await ask_to_end(client, CommandKind(kind), wish.key, request, seconds)
    except LookupError:
        return False
    except NoAnswerError as silent:
        wish.problem = no_answer(silent.workflow_id, kind, seconds).sentence
        return True
    if reply.accepted or reply.settled:
        wish.answer = reply.sentence
    else:
        wish.problem = f"{reply.sentence[:1].upper()}{reply.sentence[1:]}."
    return True


def _end(wish: _Wish, row: "Row | None", *, left: bool) -> dict[str, Any]:
    """How it ended, or why it has not."""
    from domain.wording import tidy

    pnl = None
    if row is None:
        state, told = "UNKNOWN", "it is not in the ledger"
    elif left:
        state = row["trade_state"] or row["state"]
        told = row["refusal"] or (wish.problem if wish.answer is None else "it is still being sold")
    elif row["trade_state"] is None:
        state, told = row["state"], "cancelled with nothing filled" if row["filled_size"] == 0 else "ended"
    else:
        state, told = row["trade_state"], row["exit_reason"] or ""
        pnl = row["pnl"]
    return {
        "key": wish.key,
        "symbol": wish.symbol,
        "what": wish.what,
        "size": tidy(wish.size),
        "state": state,
        "closed": not left,
        "pnl": tidy(pnl),
        "told": told,
    }


def _print(rows: list[dict[str, Any]], left: set[str], symbol: str | None, *, as_json: bool) -> None:
    from domain.wording import short

    if as_json:
        print_json({"flat": not left, "left": len(left), "items": rows})
        return
    print_table(
        ("key", "what", "symbol", "size", "state", "P&L", ""),
        [
            (short(row["key"]), row["what"], row["symbol"], row["size"], row["state"], row["pnl"], row["told"])
            for row in rows
        ],
        empty=f"There was nothing to close{f' in {symbol}' if symbol else ''}.",
    )
    if left:
        typer.echo(f"{len(left)} are still open.")
