"""`bottrader order buy|sell|cancel`: a person's order and the answer to it.

Bad input gives exit code 2 and stores nothing. A refusal by a gate or the exchange gives exit code 1 and is stored with
its reason. An order is identified by its request (`--request-id`): the same request again shows the same order and
never places a second one.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import user
from cli.output import ExitCode, UnreachableError, UserError, print_json
from cli.placing import sentence_of, submit
from cli.tickets import Ticket, amount, buy_intent, exit_rules_of, percent, sell_intent

if TYPE_CHECKING:
    from decimal import Decimal

    from web.views import Row
    from workers.settings import Settings

__all__ = ["buy", "cancel", "order_app", "sell"]

order_app = typer.Typer(help="Place and cancel orders.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_WAIT = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the decision and the exchange's answer.")]
_TIMEOUT = Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Maximum wall seconds to wait.")]
_BY = Annotated[str, typer.Option("--by", help="Your name, recorded as a note with this machine's user.")]
_REQUEST = Annotated[
    str | None, typer.Option("--request-id", help="Your own id for this request; the same id again is the same order.")
]
_DRY = Annotated[bool, typer.Option("--dry-run", help="Run every gate, but send nothing.")]


# --- buy -------------------------------------------------------------------------------------------------------------


@order_app.command("buy")
def buy(
    symbol: Annotated[str, typer.Argument(help="Product, such as BTC-USD.")],
    size: Annotated[str | None, typer.Option("--size", help="Amount to buy, in base currency (BTC).")] = None,
    quote: Annotated[str | None, typer.Option("--quote", help="Amount to spend, in quote currency (USD).")] = None,
    limit: Annotated[str | None, typer.Option("--limit", help="Limit price; without one it is a MARKET order.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Trade only as maker; needs --limit.")] = False,
    tif: Annotated[str | None, typer.Option("--tif", help="Time in force of a limit order: GTC, IOC or FOK.")] = None,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires", min=0.1, max=31_536_000, help="Market seconds after which the unfilled rest is cancelled."
        ),
    ] = None,
    trigger: Annotated[str, typer.Option("--trigger", help="Trigger whose exit rules the trade gets.")] = "manual",
    hard_stop: Annotated[str | None, typer.Option("--hard-stop", help="Loss in percent that sells at MARKET.")] = None,
    soft_stop: Annotated[str | None, typer.Option("--soft-stop", help="Loss in percent that sells by LIMIT.")] = None,
    trailing_arm: Annotated[
        str | None, typer.Option("--trailing-arm", help="Gain in percent that arms the trailing stop.")
    ] = None,
    take_profit: Annotated[
        str | None, typer.Option("--take-profit", help="Take profit: gain in percent that sells by LIMIT.")
    ] = None,
    signal_exit: Annotated[
        bool | None,
        typer.Option(
            "--signal-exit/--no-signal-exit",
            help="Whether a sell signal may close the trade; default: exits.signal_exit_by_hand.",
        ),
    ] = None,
    request_id: _REQUEST = None,
    dry_run: _DRY = False,
    wait: _WAIT = True,
    timeout: _TIMEOUT = 5.0,
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Buy: opens a trade, which its exit rules protect from the first fill until it is closed.

    Exit code 1 when a gate or the exchange refuses, 2 for bad input, 3 when a service does not answer.
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
    return asyncio.run(submit(settings, intent, named=named, wait=wait, timeout=timeout, as_json=as_json))


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
            help="Key of the trade to sell from; default: holdings that no trade owns. To sell all of a trade, use "
            "`bottrader trade close`.",
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

    Nothing is sold twice, and no short position is opened. The sell is carried out exactly as given, or refused.

    Exit code 1 when a gate or the exchange refuses, 2 for bad input, 3 when a service does not answer.
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
            "BAD_ORDER",
            "--tif GTC and --trade: a resting sell would hold the coins that the trade's own stops must sell.",
        )
    sold = _sell(settings_in_force(), ticket, ticket.base_size, trade, wait=wait, timeout=timeout, as_json=as_json)
    return asyncio.run(sold)


async def _sell(
    settings: "Settings",
    ticket: Ticket,
    size: "Decimal",
    trade: str | None,
    *,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    from cli.ledger import open_ledger, resolve_key
    from web.views.orders import read_order

    entry_key: str | None = None
    if trade is not None:
        async with open_ledger(settings) as ledger:
            entry_key = await resolve_key(ledger, settings.account, trade, trade=True)
            owner = (await read_order(ledger, entry_key))["symbol"]
        if owner != ticket.product:
            raise UserError("WRONG_TRADE", f"Trade {entry_key} is in {owner}, not in {ticket.product}.")
    intent = sell_intent(ticket, settings, size, entry_key)
    named = ticket.request_id is not None
    return await submit(settings, intent, named=named, wait=wait, timeout=timeout, as_json=as_json)


# --- cancel ----------------------------------------------------------------------------------------------------------


@order_app.command("cancel")
def cancel(
    key: Annotated[str, typer.Argument(help="The order's key, or its first six or more characters.")],
    wait: _WAIT = True,
    timeout: _TIMEOUT = 10.0,
    by: _BY = "",
    as_json: _JSON = False,
) -> int:
    """Cancel an order at the exchange. What has filled stays protected by its exit rules; `trade close` sells it.

    Exit code 1 if the order has already ended, or fills before it can be cancelled.
    """
    import asyncio

    from cli.settings_left import settings_to_stop

    return asyncio.run(_cancel(settings_to_stop(), key, wait=wait, timeout=timeout, by=user(by), as_json=as_json))


async def _cancel(settings: "Settings", given: str, *, wait: bool, timeout: float, by: str, as_json: bool) -> int:
    from cli.asking import commanded, end_or_keep, patience, until
    from cli.ledger import open_ledger, resolve_key
    from web.views.orders import described_order, read_order
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given)
        row = await read_order(ledger, key)
        if row["finished"]:
            raise UserError("ORDER_ENDED", f"There is nothing to cancel: the order is {row['state']}.", ExitCode.NO)
        client = await connect(settings)
        with patience(f"Cancelling {row['side']} {row['symbol']}"):
            asked = (await commanded(ledger, settings.account, "cancel", [key], by))[key]
            answer = await end_or_keep(ledger, client, settings.account, "cancel", key, asked, timeout)

            async def look() -> "Row | None":
                found = await read_order(ledger, key)
                return found if found["finished"] else None

            done = await until(look, timeout) if wait else None
        row = done or await read_order(ledger, key)
        if as_json:
            print_json({**described_order(row), "answer": answer})
        else:
            typer.echo(sentence_of(row) if done is not None else f"Requested: {answer}.")
    if done is not None and done["state"] != "CANCELLED":
        raise UserError("ORDER_ENDED", f"The cancel came too late: the order is {done['state']}.", ExitCode.NO)
    if wait and done is None:
        raise UnreachableError(
            "NOT_CONFIRMED",
            f"The exchange has not confirmed the cancel within {timeout:g} s; it is repeated until confirmed. "
            f"`bottrader orders --open` shows the state.",
        )
    return int(ExitCode.OK)
