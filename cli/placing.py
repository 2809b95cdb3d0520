"""Placing an order from the command line: submit it to Temporal, wait for the outcome, and print it.

The same request again shows the same order; the same request id on another order is refused.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from cli.output import ExitCode, UnreachableError, UserError, note, print_json

if TYPE_CHECKING:
    from temporalio.client import Client

    from domain.messages import OrderIntent
    from web.views import Row
    from workers.settings import Settings

__all__ = ["sentence_of", "submit"]

_OPEN_GRACE_SECONDS = 1.0


async def submit(
    settings: "Settings", intent: "OrderIntent", *, named: bool, wait: bool, timeout: float, as_json: bool
) -> int:
    """Place the order, or find its outcome, and print it; returns the command's exit code.

    `named`: the request id is the person's own. With `wait`, waits for the outcome, at most `timeout` seconds. Raises
    UserError if it is refused or its request id is taken, UnreachableError if there is no answer.
    """
    from temporalio.exceptions import WorkflowAlreadyStartedError

    from activities.commands import note_order
    from activities.interfaces.starting import start_order
    from cli.asking import patience, require_worker, until
    from cli.cautions import of_order, warn
    from cli.ledger import open_ledger
    from cli.order_words import what_holds
    from web.views.orders import find_order, same_request
    from workers.readiness import unwatched
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        before = await find_order(ledger, intent.order_key)
        if before is not None:
            _require_same(before, intent)
        elif named and (other := await same_request(ledger, intent)) is not None:
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
                    found = await find_order(ledger, intent.order_key)
                    return found if found is not None and _decided(found) else None

                with patience(f"Waiting for {intent.side} {intent.symbol}"):
                    row = await until(look, timeout)
                    if row is not None and intent.limit_price is not None and row["state"] == "OPEN" and before is None:
                        # A limit order that takes what is there fills right after it was taken.
                        row = await until(_filled(ledger, intent.order_key), min(_OPEN_GRACE_SECONDS, timeout)) or row
                    row = row or await find_order(ledger, intent.order_key)
        if row is not None:
            _require_same(row, intent)
        if row is None and wait:
            await _nobody_answered(client, settings, intent, timeout)
        held = row is not None and row["gate"] == "INSUFFICIENT_BALANCE" and row["side"] == "SELL"
        advice = await what_holds(ledger, intent) if held else ""
        _print(intent, row, repeated=before is not None, as_json=as_json)
        if row is None:
            return int(ExitCode.OK)
        _require_taken(row, advice)
        guarded = row["trade_state"] == "PROTECTED"
        if guarded and await unwatched(ledger, settings.account, [intent.symbol], settings.watcher.shards):
            note(
                f"The price of {intent.symbol} is not being watched, so its stops are not acted on: run `bottrader "
                f"doctor`."
            )
        if wait and not _decided(row):
            raise _not_known(row, timeout)
        return int(ExitCode.OK)


@contextlib.contextmanager
def _asked_for(intent: "OrderIntent") -> Iterator[None]:
    """If a server is lost between request and answer, the error names the order that may have been submitted."""
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
            f"{found.sentence} The order {short(intent.order_key)} was submitted; `bottrader orders` shows its "
            f"state, and the same command with `--request-id {intent.request_id}` never places a second one.",
        ) from error


def _not_known(row: "Row", timeout: float) -> UnreachableError:
    """The sentence about an order that was sent and whose outcome is not known yet."""
    from domain.wording import short

    return UnreachableError(
        "NOT_CONFIRMED",
        f"The exchange's answer to the order is not known after {timeout:g} s ({row['state']}); see `bottrader trade "
        f"show {short(row['order_key'])}` later.",
    )


def _filled(ledger: Any, key: str) -> Any:
    from web.views.orders import read_order

    async def look() -> "Row | None":
        found = await read_order(ledger, key)
        return found if found["finished"] or found["filled_size"] > 0 else None

    return look


def _decided(row: "Row") -> bool:
    """Whether the outcome is known: refused, resting at the exchange, or ended."""
    if row["finished"] or row["state"] == "REJECTED":
        return True
    at_once = row["order_type"] == "MARKET" or row["time_in_force"] in ("IOC", "FOK")
    return not at_once and row["state"] in ("OPEN", "PARTIALLY_FILLED", "CANCELLING")


def _require_same(row: "Row", intent: "OrderIntent") -> None:
    """The same request id with different content is refused, also while the first order is running (LIFE-2)."""
    from domain.intents import same_intent
    from domain.messages import OrderIntent

    if not same_intent(OrderIntent.model_validate(row["intent"]), intent):
        raise _conflict(row, intent)


def _conflict(row: "Row", intent: "OrderIntent") -> UserError:
    """The error for a request id that is in use: by which order, and what to do."""
    from cli.order_words import differences
    from domain.messages import OrderIntent
    from domain.wording import order_summary

    stored = OrderIntent.model_validate(row["intent"])
    other = order_summary(stored)
    if other == order_summary(intent):
        other += f"; the differences are {differences(stored, intent)}"
    return UserError(
        "INTENT_CONFLICT",
        f"The request id {intent.request_id} was used for another order ({other}): "
        "nothing was placed; use a new --request-id.",
    )


async def _nobody_answered(client: "Client", settings: "Settings", intent: "OrderIntent", timeout: float) -> NoReturn:
    """Raises UnreachableError(NO_WORKER, NO_ANSWER): the order is waiting in Temporal without a decision."""
    from cli.asking import worker_missing
    from domain.ids import order_workflow_id
    from domain.wording import short

    until_when = (
        "" if intent.valid_until is None else f" It is dropped if it can't be sent by {intent.valid_until:%H:%M:%S}Z."
    )
    if await worker_missing(client, settings):
        raise UnreachableError(
            "NO_WORKER",
            f"No worker took the order within {timeout:g} s; it is waiting as {order_workflow_id(intent.order_key)}."
            f"{until_when} Start a worker with `bottrader worker`.",
        )
    raise UnreachableError(
        "NO_ANSWER",
        f"The order was not decided within {timeout:g} s; it is waiting as {order_workflow_id(intent.order_key)}."
        f"{until_when} `bottrader doctor` shows what does not answer; `bottrader order cancel "
        f"{short(intent.order_key)}` cancels it.",
    )


def _print(intent: "OrderIntent", row: "Row | None", *, repeated: bool, as_json: bool) -> None:
    """Print the order's outcome; without a row, that it was submitted."""
    from domain.ids import order_workflow_id
    from web.views.orders import described_order

    if row is None and as_json:
        identity = {"order_key": intent.order_key, "workflow_id": order_workflow_id(intent.order_key)}
        print_json({**identity, "request_id": intent.request_id, "state": "RECEIVED", "repeated": repeated})
    elif row is None:
        typer.echo(f"{intent.side} {intent.symbol} was submitted as {order_workflow_id(intent.order_key)}.")
    elif as_json:
        print_json({**described_order(row), "request_id": intent.request_id, "repeated": repeated})
    else:
        if repeated:
            note(f"This request was made before ({row['received_at']:%Y-%m-%d %H:%M:%S}Z): nothing new was placed.")
        typer.echo(sentence_of(row))


def _require_taken(row: "Row", advice: str) -> None:
    """Raises UserError (exit code 1) if a gate or the exchange refused the order; `advice` follows a gate's reason."""
    if row["gate"] == "DRY_RUN":
        return
    if row["gate"] is not None:
        raise UserError(row["gate"], f"Refused: {row['gate_sentence']}. {advice}".rstrip(), ExitCode.NO)
    if row["state"] == "FAILED":
        why = row["gate_sentence"] or row["refusal_text"] or "it gave no reason"
        raise UserError(row["refusal"] or "FAILED", f"The exchange refused the order: {why}.", ExitCode.NO)


def sentence_of(row: "Row") -> str:
    """An order's outcome, for a person."""
    from domain.wording import about, book_price, money, short

    # What was asked for, not what was left of it after rounding.
    size, quote, limit = (row["intent"].get(name) for name in ("base_size", "quote_size", "limit_price"))
    asked = f"{size} {row['symbol']}" if size else f"{row['symbol']} for {quote}" if quote else row["symbol"]
    text = f"{row['side']} {asked} {row['order_type']}{f' at {limit}' if limit else ''}: {row['state']}"
    if row["gate"] == "DRY_RUN":
        text = text.removesuffix("REJECTED") + "DRY RUN: every gate passed, nothing was sent"
    if row["filled_size"] > 0:
        text += (
            f", filled {money(row['filled_size'])} at {about(book_price(row['filled_value'], row['filled_size']))}, "
            f"fees {money(row['quote_fees'])}"
        )
    text += f"  [{short(row['order_key'])}]"
    if row["trade_state"] in ("PROTECTED", "CLOSING", "CLOSED"):
        text += (
            f"\nThe trade is {row['trade_state']}: `bottrader trade show {short(row['order_key'])}` shows all of it."
        )
    return text
