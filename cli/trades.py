"""`bottrader trades`, `trade stops`, `trade close`: the list of trades, moving a trade's stops, selling it.

A trade is its entry and everything that closes it, named by the entry's key. Profit and loss are the position book's:
net proceeds of the sold size less its share of the cost, both with fees.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import user
from cli.output import ExitCode, UnreachableError, UserError, note, print_json, print_table
from cli.pages import CursorOption, ListPage, print_page, read_page, tell_more
from cli.trade_story import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from web.views import Row
    from web.views.lists import Place
    from workers.settings import Settings

__all__ = ["close", "stops", "trade_app", "trades"]

trade_app = typer.Typer(help="Show, change and close a trade.", no_args_is_help=True)
trade_app.command("show")(show)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_KEY = Annotated[str, typer.Argument(help="The trade's key, or its first six or more characters.")]

# --- the list --------------------------------------------------------------------------------------------------------


def trades(
    only_open: Annotated[bool, typer.Option("--open", help="Only trades with a position.")] = False,
    only_closed: Annotated[bool, typer.Option("--closed", help="Only closed trades.")] = False,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this product.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number, newest first.")] = 50,
    bids: Annotated[
        bool,
        typer.Option("--bids", help="Read the best bids from the exchange, and show open trades' unrealised gain."),
    ] = False,
    cursor: CursorOption = None,
    as_json: _JSON = False,
) -> None:
    """List trades, newest first: what was bought, the stops, the exit and the gain. With --closed, the last to close
    comes first."""
    import asyncio

    from cli.settings_left import settings_to_stop
    from web.views.lists import described_trade_line
    from web.views.trades import described_trade

    if only_open and only_closed:
        raise UserError("BAD_OPTION", "Give --open or --closed, not both.")
    state = "open" if only_open else "closed" if only_closed else "all"
    settings = settings_to_stop()
    page, quotes, alone = asyncio.run(_list(settings, state, symbol, limit, cursor, bids=bids))
    if as_json and cursor is not None:
        print_page([described_trade_line(row, alone) for row in page.rows], page.next_cursor)
        return
    rows = [described_trade(row, quotes.get(row["symbol"]), alone) for row in page.rows]
    if as_json:
        print_json(rows)
    else:
        words = {"open": "There are no open trades.", "closed": "There are no closed trades."}
        print_table(
            _columns(bids=bids),
            [_line(row, bids=bids) for row in rows],
            empty="There are no further ones." if cursor else words.get(state, "There are no trades."),
            narrow_without=("exit", "age", "trigger", *_left_out(state, bids=bids)),
        )
    tell_more(page.next_cursor)


async def _list(
    settings: "Settings", state: str, symbol: str | None, limit: int, cursor: str | None, *, bids: bool
) -> "tuple[ListPage, dict[str, Decimal], set[str]]":
    """A page, the requested best bids, and the symbols whose price is not watched now."""
    from cli.ledger import open_ledger
    from web.views.lists import trades_of
    from workers.readiness import unwatched

    name = symbol.strip().upper() if symbol else None
    closed = {"open": False, "closed": True}.get(state)
    async with open_ledger(settings) as ledger:

        async def after(place: "Place | None", most: int) -> "list[Row]":
            return await trades_of(ledger, settings.account, closed=closed, symbol=name, after=place, limit=most)

        filters = {"list": f"{state}-trades", "symbol": name}
        by = "closed_at" if closed else "opened_at"
        page = await read_page(after, filters, cursor, limit, (by, "entry_key"))
        is_open = {row["symbol"] for row in page.rows if row["state"] != "CLOSED"}
        alone = await unwatched(ledger, settings.account, is_open, settings.watcher.shards)
    return page, await _bids(settings, sorted(is_open) if bids else ()), alone


async def _bids(settings: "Settings", symbols: "Iterable[str]") -> "dict[str, Decimal]":
    """The best bid by symbol, without those that the exchange does not return in time."""
    import asyncio

    from exchange.port import ExchangeError
    from workers.settings.values import exchange_of

    symbols = list(symbols)
    if not symbols:
        return {}
    exchange = exchange_of(settings)
    try:
        async with asyncio.timeout(5):
            quotes = await asyncio.gather(*(exchange.quote(name) for name in symbols), return_exceptions=True)
    except TimeoutError:
        quotes = []
    finally:
        await exchange.close()
    known = [quote for quote in quotes if not isinstance(quote, BaseException)]
    problem = next((quote for quote in quotes if isinstance(quote, ExchangeError)), None)
    if len(known) < len(symbols):
        note(f"The exchange did not return every bid: {problem or 'no answer within 5 s'}")
    return {quote.symbol: quote.bid for quote in known}


def _left_out(state: str, *, bids: bool) -> list[str]:
    """The columns left out of a narrow list: open trades have no exit reason and result, closed ones no stops and
    unrealised gain."""
    others = {"open": ["reason", "P&L"], "closed": ["stops"], "all": ["size"]}[state]
    return [*others, "size", "reason"] if bids else others


def _columns(*, bids: bool) -> list[str]:
    live = ["bid", "would gain"] if bids else []
    return ["key", "symbol", "state", "size", "entry", *live, "stops", "exit", "reason", "P&L", "trigger", "age"]


def _line(row: "Mapping[str, Any]", *, bids: bool) -> list[object]:
    from decimal import Decimal

    from cli.ledger import ago
    from domain.money import round_half_even
    from domain.wording import rounded, short, tidy
    from web.views.trade_words import state_words, stops_words

    def cents(value: "Decimal | None") -> "Decimal | None":
        return None if value is None else Decimal(round_half_even(value))

    closed = row["state"] == "CLOSED"
    live = [row["bid"], cents(row["unrealised_pnl"])] if bids else []
    return [
        short(row["entry_key"]),
        row["symbol"],
        state_words(row),
        tidy(row["entry_size"] if closed else row["remaining"]),
        rounded(row["entry_price"]),
        *live,
        "" if closed else stops_words(row),
        rounded(row["exit_price"]),
        # A part that a person sold leaves the rest protected, and not left.
        row["exit_reason"] if row["state"] != "PROTECTED" else None,
        cents(row["pnl"]),
        row["trigger"],
        ago(row["opened_at"], row["closed_at"]),
    ]


# --- close -----------------------------------------------------------------------------------------------------------


@trade_app.command("close")
def close(
    key: _KEY,
    by: Annotated[str, typer.Option("--by", help="Your name, recorded as a note with this machine's user.")] = "",
    why: Annotated[str, typer.Option("--note", help="A note for the record.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is sold.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Wall seconds to wait.")] = 30.0,
    as_json: _JSON = False,
) -> int:
    """Sell a trade's position at MARKET, regardless of its rules; the rest of its entry is cancelled first.

    Exit code 1 if the trade is already closed.
    """
    import asyncio

    from cli.settings_left import settings_to_stop

    return asyncio.run(
        _close(settings_to_stop(), key, by=user(by), why=why, wait=wait, timeout=timeout, as_json=as_json)
    )


@trade_app.command("stops")
def stops(
    key: _KEY,
    hard: Annotated[str | None, typer.Option("--hard", help="Hard stop: a price, or a loss such as 4%.")] = None,
    soft: Annotated[str | None, typer.Option("--soft", help="Soft stop: a price, or a loss such as 2%.")] = None,
    trailing: Annotated[
        str | None, typer.Option("--trailing", help="Trailing stop: raised to this price, or armed there now.")
    ] = None,
    trailing_arm: Annotated[
        str | None, typer.Option("--trailing-arm", help="Where trailing arms: a price, or a gain such as 3%.")
    ] = None,
    take_profit: Annotated[
        str | None, typer.Option("--take-profit", help="Target: a price, a gain such as 5%, or off.")
    ] = None,
    further: Annotated[
        bool, typer.Option("--further", help="Allow stops further away from the price than now.")
    ] = False,
    sell_now: Annotated[
        bool, typer.Option("--sell-now", help="Allow prices the bid has already passed, which sells now.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Your name, recorded as a note with this machine's user.")] = "",
    why: Annotated[str, typer.Option("--note", help="A note for the record.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Wall seconds to wait.")] = 10.0,
    as_json: _JSON = False,
) -> int:
    """Move an open trade's stops or its target; the others stay. Percentages are of the entry price.

    A trailing stop is never lowered. Exit code 1 if the change is refused, with the reason.
    """
    import asyncio

    from cli.settings_left import settings_to_stop

    off = take_profit is not None and take_profit.strip().lower() == "off"
    levels = {
        "hard_stop": _level("--hard", hard, gain=False),
        "soft_stop": _level("--soft", soft, gain=False),
        "trailing_stop": _level("--trailing", trailing, gain=None),
        "trailing_arm": _level("--trailing-arm", trailing_arm, gain=True),
        "take_profit": None if off else _level("--take-profit", take_profit, gain=True),
    }
    if not off and all(level is None for level in levels.values()):
        raise UserError(
            "BAD_OPTION", "Name the stops to move: --hard, --soft, --trailing, --trailing-arm or --take-profit."
        )
    flags = {"no_take_profit": off, "further": further, "sell_now": sell_now}
    return asyncio.run(
        _move_stops(settings_to_stop(), key, levels, flags, by=user(by), why=why, timeout=timeout, as_json=as_json)
    )


def _level(option: str, text: str | None, *, gain: bool | None) -> "tuple[Decimal, Decimal] | None":
    """The typed value as `price = share × entry price + amount`: the share and the amount. `gain` of None: only a price
    is allowed.

    Raises UserError(BAD_NUMBER).
    """
    from decimal import Decimal

    from cli.tickets import amount

    if text is None:
        return None
    typed = text.strip()
    if not typed.endswith("%"):
        price = amount(option, typed)
        return None if price is None else (Decimal(0), price)
    if gain is None:
        raise UserError("BAD_NUMBER", f"{option} {typed}: give a price here, not a percentage.")
    percent = amount(option, typed.removesuffix("%")) or Decimal(0)
    if not gain and percent >= 100:
        raise UserError("BAD_NUMBER", f"{option} {typed}: a loss is less than 100%.")
    return 1 + (percent if gain else -percent) / 100, Decimal(0)


async def _move_stops(
    settings: "Settings",
    given: str,
    levels: "Mapping[str, tuple[Decimal, Decimal] | None]",
    flags: "Mapping[str, bool]",
    *,
    by: str,
    why: str,
    timeout: float,
    as_json: bool,
) -> int:
    from cli.asking import ask, commanded
    from cli.cautions import market_costs, warn
    from cli.ledger import open_ledger, resolve_key
    from domain.ids import exit_workflow_id
    from domain.messages import StopsRequest
    from domain.money import average
    from domain.round_trip import near_stops
    from web.views.trades import described_trade, find_trade, read_trade
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given, trade=True)
        row = await find_trade(ledger, key)
        entry = None if row is None else average(row["bought_value"], row["bought_size"])
        if row is None or entry is None:
            raise UserError("NO_POSITION", f"Trade {given} has no fills, so it has no stops yet.", ExitCode.NO)
        if row["state"] == "CLOSED":
            raise UserError("TRADE_CLOSED", f"The trade is already closed ({row['exit_reason']}).", ExitCode.NO)
        client = await connect(settings)
        prices = {name: None if level is None else entry * level[0] + level[1] for name, level in levels.items()}
        trip, bid, _ = await market_costs(ledger, settings, row["symbol"])
        warn(near_stops(entry, bid, prices, trip))
        asked = (await commanded(ledger, settings.account, "stops", [key], by, why))[key]
        request = StopsRequest(**(asked.model_dump() | prices | dict(flags)))
        try:
            answer = await ask(client, exit_workflow_id(key), "stops", request, timeout, as_signal=False)
        except LookupError:
            raise _no_workflow() from None
        row = await read_trade(ledger, key)
    if as_json:
        print_json({**described_trade(row), "answer": answer})
    else:
        typer.echo(f"{answer[:1].upper()}{answer[1:]}.")
    return int(ExitCode.OK)


async def _close(
    settings: "Settings", given: str, *, by: str, why: str, wait: bool, timeout: float, as_json: bool
) -> int:
    from cli.asking import commanded, end_or_keep, patience, until
    from cli.ledger import ago, open_ledger, resolve_key
    from domain.wording import money
    from web.views.trades import described_trade, find_trade, read_trade
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given, trade=True)
        row = await find_trade(ledger, key)
        if row is None:
            raise UserError(
                "NO_POSITION",
                f"Trade {given} has no fills: cancel its entry with `bottrader order cancel {given}`.",
                ExitCode.NO,
            )
        if row["state"] == "CLOSED":
            why = row["exit_reason"] or row["dust_why"] or "without one of our exits"
            raise UserError("TRADE_CLOSED", f"The trade is already closed ({why}).", ExitCode.NO)
        client = await connect(settings)
        with patience(f"Selling {row['symbol']}"):
            request = (await commanded(ledger, settings.account, "close", [key], by, why))[key]
            answer = await end_or_keep(ledger, client, settings.account, "close", key, request, min(timeout, 10.0))

            async def look() -> "Row | None":
                found = await read_trade(ledger, key)
                return found if found["state"] == "CLOSED" else None

            done = await until(look, timeout) if wait else None
        row = done or await read_trade(ledger, key)
    told = described_trade(row)
    if as_json:
        print_json({**told, "answer": answer})
    elif done is None:
        typer.echo(f"Requested: {answer}.")
    else:
        dust = f" {told['dust_why']}." if told["dust_why"] else ""
        if told["exit_size"] == 0 and dust:
            typer.echo(f"Closed, nothing was sold:{dust}")
            return int(ExitCode.OK)
        typer.echo(
            f"Closed: sold {money(told['exit_size'])} {told['symbol']} at {money(told['exit_price'])}, "
            f"P&L {money(told['pnl'])} after {money(told['fees'])} fees, {told['exit_reason']}, "
            f"open for {ago(told['opened_at'], told['closed_at'])}.{dust}"
        )
    if wait and done is None:
        raise UnreachableError(
            "NOT_CONFIRMED",
            f"The trade is not closed after {timeout:g} s and is still being sold: see `bottrader trade show "
            f"{key[:12]}`.",
        )
    return int(ExitCode.OK)


def _no_workflow() -> UserError:
    return UserError(
        "NO_WORKFLOW",
        "The trade has a position but no running workflow; the sweep starts one within minutes, then repeat this "
        "command. `bottrader doctor` shows whether its worker is running.",
        ExitCode.NO,
    )
