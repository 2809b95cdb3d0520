"""`bottrader order buy|sell|cancel` and `orders`: an intent from a person, its answer, and the list of orders.

What can be found wrong without asking anybody is exit code 2 and stores nothing. What a gate or the exchange refuses
is exit code 1, stored with its reason. An order is named by what was asked for (`--request-id`): the same request
again shows the same order, and never places a second one.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli.asking import user
from cli.output import ExitCode, UnreachableError, UserError, note, print_json, print_table
from cli.tickets import Ticket, amount, buy_intent, exit_rules_of, percent, sell_intent

if TYPE_CHECKING:
    from temporalio.client import Client

    from cli.ledger import Row
    from domain.messages import OrderIntent
    from workers.settings import Settings

__all__ = ["ORDER", "amount", "buy", "cancel", "described", "order_app", "orders", "sell"]

order_app = typer.Typer(help="Place and cancel orders.", no_args_is_help=True)

_OPEN_GRACE_SECONDS = 1.0

_JSON = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
_WAIT = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the decision and what the exchange makes of it.")
]
_TIMEOUT = Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Wall seconds to wait at most.")]
_BY = Annotated[str, typer.Option("--by", help="For whom, kept as a note beside this machine's user.")]
_REQUEST = Annotated[
    str | None, typer.Option("--request-id", help="Your own name of this request: the same id again is the same order.")
]
_DRY = Annotated[bool, typer.Option("--dry-run", help="Run every gate and stop there.")]


# --- buy -------------------------------------------------------------------------------------------------------------


@order_app.command("buy")
def buy(
    symbol: Annotated[str, typer.Argument(help="Product, such as BTC-USD.")],
    size: Annotated[str | None, typer.Option("--size", help="Amount to buy, in base currency (BTC).")] = None,
    quote: Annotated[str | None, typer.Option("--quote", help="Amount to spend, in quote currency (USD).")] = None,
    limit: Annotated[str | None, typer.Option("--limit", help="Limit price; without one it is a MARKET order.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Only ever as maker; needs --limit.")] = False,
    tif: Annotated[str | None, typer.Option("--tif", help="Time in force of a limit order: GTC, IOC or FOK.")] = None,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires", min=0.1, max=31_536_000, help="Market seconds after which what is unfilled is cancelled."
        ),
    ] = None,
    trigger: Annotated[str, typer.Option("--trigger", help="Trigger whose exit rules the trade gets.")] = "manual",
    hard_stop: Annotated[str | None, typer.Option("--hard-stop", help="Loss in percent that sells at MARKET.")] = None,
    soft_stop: Annotated[str | None, typer.Option("--soft-stop", help="Loss in percent that sells by LIMIT.")] = None,
    trailing_arm: Annotated[
        str | None, typer.Option("--trailing-arm", help="Gain in percent that arms the trailing stop.")
    ] = None,
    take_profit: Annotated[
        str | None, typer.Option("--take-profit", help="Gain in percent that sells by LIMIT; switches it on.")
    ] = None,
    signal_exit: Annotated[
        bool | None,
        typer.Option(
            "--signal-exit/--no-signal-exit",
            help="Whether a sell signal may close the trade; exits.signal_exit_by_hand says it otherwise.",
        ),
    ] = None,
    request_id: _REQUEST = None,
    dry_run: _DRY = False,
    wait: _WAIT = True,
    timeout: _TIMEOUT = 5.0,
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Buy: enters a trade, which is protected by its exit rules from its first fill until it is closed.

    Exit code 1 when a gate or the exchange refuses, 2 for bad input, 3 when nobody answers.
    """
    import asyncio
    from decimal import Decimal

    from cli.settings import settings_in_force

    overrides = {
        "hard_stop_pct": percent("--hard-stop", hard_stop),
        "soft_stop_pct": percent("--soft-stop", soft_stop),
        "trailing_arm_pct": percent("--trailing-arm", trailing_arm),
        "take_profit_pct": percent("--take-profit", take_profit),
        "take_profit_enabled": True if take_profit is not None else None,
        "signal_exit_enabled": signal_exit,
        "signal_exit_by_hand": signal_exit,
    }
    ticket = Ticket(
        symbol=symbol,
        base_size=amount("--size", size),
        quote_size=amount("--quote", quote),
        limit_price=amount("--limit", limit),
        post_only=post_only,
        time_in_force=tif,
        expires_after=None if expires is None else Decimal(str(expires)),
        trigger=trigger,
        request_id=request_id,
        dry_run=dry_run,
        by=user(by),
    )
    if (ticket.base_size is None) == (ticket.quote_size is None):
        raise UserError("BAD_SIZE", "Give exactly one of --size (base currency) and --quote (quote currency).")
    settings = settings_in_force()
    intent = buy_intent(ticket, settings, exit_rules_of(settings, trigger, overrides))
    named = request_id is not None
    return asyncio.run(_submit(settings, intent, named=named, wait=wait, timeout=timeout, as_json=as_json))


# --- sell ------------------------------------------------------------------------------------------------------------


@order_app.command("sell")
def sell(
    symbol: Annotated[str, typer.Argument(help="Product, such as BTC-USD.")],
    size: Annotated[str | None, typer.Option("--size", help="Amount to sell, in base currency (BTC).")] = None,
    limit: Annotated[str | None, typer.Option("--limit", help="Limit price; without one it is a MARKET order.")] = None,
    tif: Annotated[
        str | None,
        typer.Option(
            "--tif", help="Time in force of a limit order: IOC (unless given), FOK; GTC only without --trade."
        ),
    ] = None,
    trade: Annotated[
        str | None,
        typer.Option(
            "--trade",
            help="Key of the trade to sell from; else what no trade owns. To sell all of a trade, "
            "`bottrader trade close` is simpler.",
        ),
    ] = None,
    request_id: _REQUEST = None,
    dry_run: _DRY = False,
    wait: _WAIT = True,
    timeout: _TIMEOUT = 5.0,
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Sell a part of a trade, or holdings that no trade owns, at market or at a price.

    Nothing is sold twice and nothing goes short; a sell that a person names is done as it is or refused.

    Exit code 1 when a gate or the exchange refuses, 2 for bad input, 3 when nobody answers.
    """
    import asyncio

    from cli.settings import settings_in_force

    ticket = Ticket(
        symbol=symbol,
        base_size=amount("--size", size),
        limit_price=amount("--limit", limit),
        time_in_force=tif or "IOC",
        request_id=request_id,
        dry_run=dry_run,
        by=user(by),
    )
    if ticket.base_size is None:
        raise UserError("BAD_SIZE", "Give --size, the amount to sell in base currency.")
    if trade is not None and ticket.time_in_force == "GTC":
        raise UserError(
            "BAD_ORDER", "--tif GTC and --trade: a sell that rests would hold what the trade's own stops must sell."
        )
    return asyncio.run(_sell(settings_in_force(), ticket, trade, wait=wait, timeout=timeout, as_json=as_json))


async def _sell(
    settings: "Settings", ticket: Ticket, trade: str | None, *, wait: bool, timeout: float, as_json: bool
) -> int:
    from cli.ledger import open_ledger, resolve_key

    entry_key: str | None = None
    if trade is not None:
        async with open_ledger(settings) as ledger:
            entry_key = await resolve_key(ledger, settings.account, trade, trade=True)
            owner = await ledger.fetchval("SELECT symbol FROM orders WHERE order_key = $1", entry_key)
        if owner != ticket.product:
            raise UserError("WRONG_TRADE", f"Trade {entry_key} is in {owner}, not in {ticket.product}.")
    intent = sell_intent(ticket, settings, entry_key)
    named = ticket.request_id is not None
    return await _submit(settings, intent, named=named, wait=wait, timeout=timeout, as_json=as_json)


# --- sending it and telling what came of it --------------------------------------------------------------------------


async def _submit(
    settings: "Settings", intent: "OrderIntent", *, named: bool, wait: bool, timeout: float, as_json: bool
) -> int:
    from temporalio.exceptions import WorkflowAlreadyStartedError

    from activities.commands import note_order
    from activities.interfaces.starting import start_order
    from cli.asking import patience, require_worker, until
    from cli.cautions import of_order, warn
    from cli.ledger import open_ledger
    from cli.order_words import what_holds
    from workers.readiness import unwatched
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        before = await ledger.fetchrow(ORDER, intent.order_key)
        if before is not None:
            _require_same(before, intent)
        elif named and (other := await ledger.fetchrow(_SAME_REQUEST, intent.account, intent.request_id)) is not None:
            raise _conflict(other, intent)
        client = await connect(settings)
        if before is None:
            await require_worker(client, settings, "the order was not placed")
            warn(await of_order(ledger, settings, intent))
        with _asked_for(intent):
            await note_order(ledger, intent)
            with contextlib.suppress(WorkflowAlreadyStartedError):  # it has ended; the ledger says how
                await start_order(client, intent, task_queue=settings.temporal.orders_queue, eager=False)
            row = before
            if wait:

                async def look() -> "Row | None":
                    found = await ledger.fetchrow(ORDER, intent.order_key)
                    return found if found is not None and _decided(found) else None

                with patience(f"Waiting for {intent.side} {intent.symbol}"):
                    row = await until(look, timeout)
                    if row is not None and intent.limit_price is not None and row["state"] == "OPEN" and before is None:
                        # A limit order that takes what is there fills right after it was taken.
                        row = await until(_filled(ledger, intent.order_key), min(_OPEN_GRACE_SECONDS, timeout)) or row
                    row = row or await ledger.fetchrow(ORDER, intent.order_key)
        if row is not None:
            _require_same(row, intent)
        if row is None and wait:
            await _nobody_answered(client, settings, intent, timeout)
        held = row is not None and row["gate"] == "INSUFFICIENT_BALANCE" and row["side"] == "SELL"
        advice = await what_holds(ledger, intent) if held else ""
        told = _tell(intent, row, repeated=before is not None, as_json=as_json, advice=advice)
        said = row is not None and row["trade_state"] == "PROTECTED"
        if said and await unwatched(ledger, settings.account, [intent.symbol], settings.watcher.shards):
            note(f"Nobody watches {intent.symbol} now, so no stop of it is sold: `bottrader doctor` says more.")
        if wait and row is not None and not _decided(row):
            raise _not_known(row, timeout)
        return told


@contextlib.contextmanager
def _asked_for(intent: "OrderIntent") -> Iterator[None]:
    """Whoever loses a server on the way from asking to the answer is told what may have been asked for."""
    try:
        yield
    except Exception as error:
        from cli.errors import as_user_error
        from domain.wording import short

        found = as_user_error(error)
        if not isinstance(found, UnreachableError):
            raise
        raise UnreachableError(
            found.code,
            f"{found.sentence} The order {short(intent.order_key)} was asked for; `bottrader orders` tells what became "
            f"of it, and the same command with `--request-id {intent.request_id}` never places a second one.",
        ) from error


def _not_known(row: "Row", timeout: float) -> UnreachableError:
    """The sentence about an order that was sent and whose end nobody has told yet."""
    from domain.wording import short

    return UnreachableError(
        "NOT_CONFIRMED",
        f"What the exchange makes of the order is not known after {timeout:g} s ({row['state']}); it goes on being "
        f"followed: `bottrader trade show {short(row['order_key'])}` tells.",
    )


def _filled(ledger: Any, key: str) -> Any:
    async def look() -> "Row | None":
        found = await ledger.fetchrow(ORDER, key)
        return found if found["finished"] or found["filled_size"] > 0 else None

    return look


def _decided(row: "Row") -> bool:
    """Whether there is something to tell: refused, at the exchange to stay, or done."""
    if row["finished"] or row["state"] == "REJECTED":
        return True
    at_once = row["order_type"] == "MARKET" or row["time_in_force"] in ("IOC", "FOK")
    return not at_once and row["state"] in ("OPEN", "PARTIALLY_FILLED", "CANCELLING")


def _require_same(row: "Row", intent: "OrderIntent") -> None:
    """The same request id with another content is refused, also while the first one is running (LIFE-2)."""
    from domain.intents import same_intent
    from domain.messages import OrderIntent

    if not same_intent(OrderIntent.model_validate(row["intent"]), intent):
        raise _conflict(row, intent)


# The key is made of the symbol and the side, too, so a request id on another one is another key: a person who repeats
# an id with either changed has mistyped something, and is asked.
_SAME_REQUEST = """
SELECT intent FROM orders WHERE account = $1 AND entry_point = 'manual' AND intent->>'request_id' = $2
 ORDER BY received_at LIMIT 1
"""


def _conflict(row: "Row", intent: "OrderIntent") -> UserError:
    """The request id is taken: by what, and what to do."""
    from cli.order_words import differences
    from domain.messages import OrderIntent
    from domain.wording import order_summary

    stored = OrderIntent.model_validate(row["intent"])
    other = order_summary(stored)
    if other == order_summary(intent):
        other += f"; what differs is {differences(stored, intent)}"
    return UserError(
        "INTENT_CONFLICT",
        f"The request id {intent.request_id} was used for another order ({other}): "
        "nothing was placed; use a new --request-id.",
    )


async def _nobody_answered(client: "Client", settings: "Settings", intent: "OrderIntent", timeout: float) -> NoReturn:
    """Raises UnreachableError(NO_WORKER, NO_ANSWER): the order waits in Temporal without a decision."""
    from cli.asking import worker_missing
    from domain.ids import order_workflow_id
    from domain.wording import short

    until_when = (
        "" if intent.valid_until is None else f" It is dropped if it can't be sent by {intent.valid_until:%H:%M:%S}Z."
    )
    if await worker_missing(client, settings):
        raise UnreachableError(
            "NO_WORKER",
            f"No worker took the order within {timeout:g} s; it waits as {order_workflow_id(intent.order_key)}."
            f"{until_when} Start a worker with `bottrader worker`.",
        )
    raise UnreachableError(
        "NO_ANSWER",
        f"The order was not decided within {timeout:g} s; it waits as {order_workflow_id(intent.order_key)}."
        f"{until_when} `bottrader doctor` says what does not answer, `bottrader order cancel "
        f"{short(intent.order_key)}` withdraws it.",
    )


ORDER = """
SELECT o.*, o.intent->>'time_in_force' AS time_in_force, o.intent->>'post_only' AS post_only,
       t.state AS trade_state,
       (SELECT a.refusal_text FROM attempts a WHERE a.order_key = o.order_key ORDER BY a.number DESC LIMIT 1)
           AS refusal_text,
       (SELECT count(*) FROM attempts a WHERE a.order_key = o.order_key)::int AS attempts
FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key WHERE o.order_key = $1
"""


def described(row: "Row") -> dict[str, object]:
    """An order as JSON: sizes in base, prices in quote per base, fees in quote currency."""
    from domain.ids import order_workflow_id
    from domain.money import average
    from domain.orders import OrderState, public_state
    from domain.wording import tidy

    return {
        "order_key": row["order_key"],
        "workflow_id": order_workflow_id(row["order_key"]),
        "symbol": row["symbol"],
        "side": row["side"],
        "role": row["role"],
        "order_type": row["order_type"],
        "post_only": row["post_only"] == "true",
        "time_in_force": row["time_in_force"],
        "state": row["state"],
        "public_state": public_state(OrderState(row["state"]), row["filled_size"]),
        "gate": row["gate"],
        "sentence": row["gate_sentence"],
        "refusal": row["refusal"],
        "base_size": row["base_size"],
        "quote_size": row["quote_size"],
        "limit_price": row["limit_price"],
        "filled_size": row["filled_size"],
        "average_price": tidy(average(row["filled_value"], row["filled_size"])),
        "fees": row["quote_fees"],
        "trigger": row["trigger"],
        "source": row["source"],
        "exit_reason": row["exit_reason"],
        "entry_key": row["entry_key"],
        "snapshot_id": row["snapshot_id"],
        "attempts": row["attempts"],
        "trade_state": row["trade_state"],
        "received_at": row["received_at"],
        "finished_at": row["finished_at"],
    }


def _tell(intent: "OrderIntent", row: "Row | None", *, repeated: bool, as_json: bool, advice: str = "") -> int:
    """Print the order; raises UserError with exit code 1 where it was refused, with `advice` after the reason."""
    from domain.ids import order_workflow_id

    if row is None:
        if as_json:
            identity = {"order_key": intent.order_key, "workflow_id": order_workflow_id(intent.order_key)}
            print_json({**identity, "request_id": intent.request_id, "state": "RECEIVED", "repeated": repeated})
        else:
            typer.echo(f"{intent.side} {intent.symbol} was handed over as {order_workflow_id(intent.order_key)}.")
        return int(ExitCode.OK)
    if as_json:
        print_json({**described(row), "request_id": intent.request_id, "repeated": repeated})
    else:
        if repeated:
            note(f"This request was made before ({row['received_at']:%Y-%m-%d %H:%M:%S}Z): nothing new was placed.")
        typer.echo(_sentence(row))
    if row["gate"] == "DRY_RUN":
        return int(ExitCode.OK)
    if row["gate"] is not None:
        raise UserError(row["gate"], f"Refused: {row['gate_sentence']}. {advice}".rstrip(), ExitCode.NO)
    if row["state"] == "FAILED":
        why = row["gate_sentence"] or row["refusal_text"] or "it gave no reason"
        raise UserError(row["refusal"] or "FAILED", f"The exchange refused the order: {why}.", ExitCode.NO)
    return int(ExitCode.OK)


def _sentence(row: "Row") -> str:
    """What became of an order, for a person."""
    from domain.money import plain
    from domain.wording import about, book_price, money, short

    # What was asked for, not what was left of it after rounding.
    size, quote, limit = (row["intent"].get(name) for name in ("base_size", "quote_size", "limit_price"))
    asked = f"{size} {row['symbol']}" if size else f"{row['symbol']} for {quote}" if quote else row["symbol"]
    text = f"{row['side']} {asked} {row['order_type']}{f' at {limit}' if limit else ''}: {row['state']}"
    if row["gate"] == "DRY_RUN":
        text = text.removesuffix("REJECTED") + "DRY RUN, every gate passed, nothing was sent"
    if row["filled_size"] > 0:
        text += (
            f", filled {plain(row['filled_size'])} at {about(book_price(row['filled_value'], row['filled_size']))}, "
            f"fees {money(row['quote_fees'])}"
        )
    text += f"  [{short(row['order_key'])}]"
    if row["trade_state"] in ("PROTECTED", "CLOSING", "CLOSED"):
        text += f"\nThe trade is {row['trade_state']}: `bottrader trade show {short(row['order_key'])}` tells it all."
    return text


# --- cancel ----------------------------------------------------------------------------------------------------------


@order_app.command("cancel")
def cancel(
    key: Annotated[str, typer.Argument(help="The order's key, or its first six or more characters.")],
    wait: _WAIT = True,
    timeout: _TIMEOUT = 10.0,
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Cancel an order at the exchange. What was filled stays, protected by its exit rules; `trade close` sells it.

    Exit code 1 when the order has ended already, or fills before it can be cancelled.
    """
    import asyncio

    from cli.settings_left import settings_to_stop

    return asyncio.run(_cancel(settings_to_stop(), key, wait=wait, timeout=timeout, by=user(by), as_json=as_json))


async def _cancel(settings: "Settings", given: str, *, wait: bool, timeout: float, by: str, as_json: bool) -> int:
    from cli.asking import commanded, end_or_keep, patience, until
    from cli.ledger import open_ledger, resolve_key
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given)
        row = await ledger.fetchrow(ORDER, key)
        if row["finished"]:
            raise UserError("ORDER_ENDED", f"There is nothing to cancel: the order is {row['state']}.", ExitCode.NO)
        client = await connect(settings)
        with patience(f"Cancelling {row['side']} {row['symbol']}"):
            asked = (await commanded(ledger, settings.account, "cancel", [key], by))[key]
            answer = await end_or_keep(ledger, client, settings.account, "cancel", key, asked, timeout)

            async def look() -> "Row | None":
                found = await ledger.fetchrow(ORDER, key)
                return found if found["finished"] else None

            done = await until(look, timeout) if wait else None
        row = done or await ledger.fetchrow(ORDER, key)
        if as_json:
            print_json({**described(row), "answer": answer})
        else:
            typer.echo(_sentence(row) if done is not None else f"Asked for: {answer}.")
    if done is not None and done["state"] != "CANCELLED":
        raise UserError("ORDER_ENDED", f"The cancel came too late: the order is {done['state']}.", ExitCode.NO)
    if wait and done is None:
        raise UnreachableError(
            "NOT_CONFIRMED",
            f"The exchange has not confirmed the cancel within {timeout:g} s; it goes on being asked. "
            "`bottrader orders --open` shows where it stands.",
        )
    return int(ExitCode.OK)


# --- the list --------------------------------------------------------------------------------------------------------


def orders(
    only_open: Annotated[bool, typer.Option("--open", help="Only orders that have not ended.")] = False,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this product.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, newest first.")] = 50,
    as_json: _JSON = False,
) -> None:
    """List orders, newest first: entries, exits, and what was placed elsewhere."""
    import asyncio

    from cli.settings_left import settings_to_stop

    rows = asyncio.run(_list(settings_to_stop(), only_open, symbol, limit))
    if as_json:
        print_json([described(row) for row in rows])
        return
    print_table(
        _COLUMNS,
        [_line(row) for row in rows],
        empty="There are no open orders." if only_open else "There are no orders.",
        narrow_without=("role", "average", "fees", "why", "source", "age"),
    )


_COLUMNS = (
    "key",
    "symbol",
    "side",
    "role",
    "type",
    "state",
    "size",
    "filled",
    "average",
    "fees",
    "why",
    "source",
    "age",
)


def _line(row: "Row") -> list[object]:
    from cli.ledger import ago
    from domain.wording import book_price, rounded, short, tidy

    kind = row["order_type"]
    if row["limit_price"] is not None:
        kind += f" {row['limit_price'].normalize():f}"
    return [
        short(row["order_key"]),
        row["symbol"],
        row["side"],
        row["role"],
        kind,
        row["gate"] or row["state"],
        tidy(row["base_size"])
        if row["base_size"] is not None
        else f"{row['quote_size']:f} quote"
        if row["quote_size"]
        else None,
        tidy(row["filled_size"]),
        rounded(book_price(row["filled_value"], row["filled_size"])),
        tidy(row["quote_fees"]),
        row["exit_reason"] or row["trigger"],
        row["source"],
        ago(row["received_at"]),
    ]


async def _list(settings: "Settings", only_open: bool, symbol: str | None, limit: int) -> "list[Row]":
    from cli.ledger import open_ledger

    async with open_ledger(settings) as ledger:
        found: list[Row] = await ledger.fetch(
            ORDER.partition("WHERE o.order_key")[0]
            + """WHERE o.account = $4 AND ($1::text IS NULL OR o.symbol = $1) AND (NOT $2 OR NOT o.finished)
                 ORDER BY o.received_at DESC LIMIT $3""",
            symbol.strip().upper() if symbol else None,
            only_open,
            limit,
            settings.account,
        )
    return found
