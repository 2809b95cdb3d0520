"""`bottrader trades`, `trade show`, `trade stops`, `trade close`: trades, one's whole story, moving its stops, selling.

A trade is its entry and everything that closes it, named by the entry's key. Profit and loss are the position book's:
net proceeds of what was sold less its share of the cost, both with fees.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import user
from cli.output import ExitCode, UnreachableError, UserError, note, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from decimal import Decimal

    from cli.ledger import Row
    from workers.settings import Settings

__all__ = ["PROMISES", "TRADE", "close", "described", "show", "stops", "trade_app", "trades"]

trade_app = typer.Typer(help="Look into a trade, and close one.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
_KEY = Annotated[str, typer.Argument(help="The trade's key, or its first six or more characters.")]

TRADE = """
SELECT t.*, o.trigger, o.source, o.snapshot_id, o.buy_score, o.state AS entry_state,
       p.state AS plan_state, p.peak, p.stop, p.distance, p.atr, p.steps,
       (SELECT count(*) FROM trade_exits e WHERE e.entry_key = t.entry_key)::int AS exits
FROM trades t JOIN orders o ON o.order_key = t.entry_key LEFT JOIN exit_plans p ON p.entry_key = t.entry_key
"""


# --- the list --------------------------------------------------------------------------------------------------------


def trades(
    only_open: Annotated[bool, typer.Option("--open", help="Only trades with a position.")] = False,
    only_closed: Annotated[bool, typer.Option("--closed", help="Only closed trades.")] = False,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this product.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, newest first.")] = 50,
    bids: Annotated[
        bool, typer.Option("--bids", help="Ask the exchange for the best bids, and show what open trades would gain.")
    ] = False,
    as_json: _JSON = False,
) -> None:
    """List trades, newest first: what was bought, where its stops are, how it ended and what it gained."""
    import asyncio

    from cli.settings_left import settings_to_stop

    if only_open and only_closed:
        raise UserError("BAD_OPTION", "Give --open or --closed, not both.")
    state = "open" if only_open else "closed" if only_closed else "all"
    settings = settings_to_stop()
    found, quotes, alone = asyncio.run(_list(settings, state, symbol, limit, bids=bids))
    rows = [described(row, quotes.get(row["symbol"]), alone) for row in found]
    if as_json:
        print_json(rows)
        return
    words = {"open": "There are no open trades.", "closed": "There are no closed trades."}
    print_table(
        _columns(bids=bids),
        [_line(row, bids=bids) for row in rows],
        empty=words.get(state, "There are no trades."),
        narrow_without=("exit", "trigger", "age", *_left_out(state, bids=bids)),
    )


async def _list(
    settings: "Settings", state: str, symbol: str | None, limit: int, *, bids: bool
) -> "tuple[list[Row], dict[str, Decimal], set[str]]":
    """The rows, the best bids that were asked for, and the symbols whose price nobody watches now."""
    from cli.ledger import open_ledger
    from workers.readiness import unwatched

    async with open_ledger(settings) as ledger:
        rows = await ledger.fetch(
            TRADE
            + """WHERE t.account = $4 AND ($1 = 'all' OR ($1 = 'closed') = (t.state = 'CLOSED'))
                   AND ($2::text IS NULL OR t.symbol = $2)
                 ORDER BY t.opened_at DESC LIMIT $3""",
            state,
            symbol.strip().upper() if symbol else None,
            limit,
            settings.account,
        )
        is_open = {row["symbol"] for row in rows if row["state"] != "CLOSED"}
        alone = await unwatched(ledger, settings.account, is_open, settings.watcher.shards)
    return rows, await _bids(settings, sorted(is_open) if bids else ()), alone


async def _bids(settings: "Settings", symbols: "Iterable[str]") -> "dict[str, Decimal]":
    """The best bid by symbol, without those that the exchange does not tell in time."""
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
        note(f"The exchange did not tell every bid: {problem or 'no answer within 5 s'}")
    return {quote.symbol: quote.bid for quote in known}


def described(row: "Row", bid: "Decimal | None" = None, alone: "Collection[str] | None" = None) -> "dict[str, Any]":
    """A trade as JSON: sizes in base, prices in quote per base, P&L and fees in quote currency, times in UTC.

    `alone`: the symbols whose price nobody watches now; None if nobody asked.
    """
    from domain.exits import ExitRules, target_price
    from domain.ids import exit_workflow_id, order_workflow_id
    from domain.money import average
    from domain.wording import tidy

    rules = ExitRules.model_validate(row["rules"])
    entry = average(row["bought_value"], row["bought_size"])
    cost = row["bought_value"] + row["bought_quote_fees"]
    bought = row["bought_size"] - row["bought_base_fees"]
    closed = row["state"] == "CLOSED"
    unrealised = None
    if bid is not None and not closed and bought > 0:
        unrealised = row["remaining"] * bid - cost * row["remaining"] / bought
    return {
        "entry_key": row["entry_key"],
        "workflow_id": order_workflow_id(row["entry_key"]),
        "exit_workflow_id": exit_workflow_id(row["entry_key"]),
        "symbol": row["symbol"],
        "state": row["state"],
        "watched": None if alone is None or closed else row["symbol"] not in alone,
        "entry_final": row["entry_final"],
        "entry_size": row["bought_size"],
        "entry_price": tidy(entry),
        "remaining": row["remaining"],
        "hard_stop": None if entry is None else tidy(entry * (1 - rules.hard_stop)),
        "soft_stop": None if entry is None else tidy(entry * (1 - rules.soft_stop)),
        "trailing_arms_at": None
        if entry is None or rules.trailing_arm is None
        else tidy(entry * (1 + rules.trailing_arm)),
        "trailing_stop": tidy(row["stop"]),
        "trailing_peak": tidy(row["peak"]),
        "take_profit": None if entry is None else tidy(target_price(rules, entry)),
        "bid": bid,
        "unrealised_pnl": tidy(unrealised),
        "exit_size": row["sold_size"],
        "exit_price": tidy(average(row["sold_value"], row["sold_size"])),
        "exit_reason": row["exit_reason"],
        "exits": row["exits"],
        "pnl": tidy(row["pnl"]) if row["sold_size"] > 0 else None,
        "fees": row["bought_quote_fees"] + row["sold_quote_fees"],
        "dust_size": row["dust_size"],
        "dust_why": row["dust_why"],
        "external_size": row["external_size"],
        "trigger": row["trigger"],
        "source": row["source"],
        "snapshot_id": row["snapshot_id"],
        "opened_at": row["opened_at"],
        "closed_at": row["closed_at"],
    }


def _left_out(state: str, *, bids: bool) -> list[str]:
    """What a narrow list goes without: open trades have stops and a gain to come, closed ones a reason and a result."""
    others = {"open": ["reason", "P&L"], "closed": ["stops"], "all": ["size"]}[state]
    return [*others, "size", "reason"] if bids else others


def _columns(*, bids: bool) -> list[str]:
    live = ["bid", "would gain"] if bids else []
    return ["key", "symbol", "state", "size", "entry", *live, "stops", "exit", "reason", "P&L", "trigger", "age"]


def _line(row: "Mapping[str, Any]", *, bids: bool) -> list[object]:
    from decimal import Decimal

    from cli.ledger import ago
    from domain.money import round_half_even
    from domain.wording import rounded, short

    def cents(value: "Decimal | None") -> "Decimal | None":
        return None if value is None else Decimal(round_half_even(value))

    closed = row["state"] == "CLOSED"
    live = [row["bid"], cents(row["unrealised_pnl"])] if bids else []
    return [
        short(row["entry_key"]),
        row["symbol"],
        _state(row),
        row["entry_size"] if closed else row["remaining"],
        rounded(row["entry_price"]),
        *live,
        "" if closed else _stops(row),
        rounded(row["exit_price"]),
        # A part that a person sold leaves the rest protected, and not left.
        row["exit_reason"] if row["state"] != "PROTECTED" else None,
        cents(row["pnl"]),
        row["trigger"],
        ago(row["opened_at"], row["closed_at"]),
    ]


def _state(row: "Mapping[str, Any]") -> str:
    """The trade's state, and whether what it says is so: nothing is protected by stops that nobody watches."""
    return f"{row['state']} (not watched)" if row["watched"] is False else str(row["state"])


def _stops(row: "Mapping[str, Any]") -> str:
    """Where it would be sold: soft and hard stop, or the trailing stop once that is armed, and the profit target."""
    from domain.wording import about

    if row["trailing_stop"] is not None:
        return f"trailing {about(row['trailing_stop'])}"
    text = f"{about(row['soft_stop'])} / {about(row['hard_stop'])}"
    return text + (f", profit {about(row['take_profit'])}" if row["take_profit"] is not None else "")


# --- the whole story -------------------------------------------------------------------------------------------------


@trade_app.command("show")
def show(
    key: _KEY,
    as_json: _JSON = False,
) -> None:
    """Tell a trade's whole story: why it was entered, what was sent, what filled, how it is or was left."""
    import asyncio

    from cli.settings_left import settings_to_stop

    story = asyncio.run(_story(settings_to_stop(), key))
    if as_json:
        print_json(story)
    else:
        _print_story(story)


async def _story(settings: "Settings", given: str) -> dict[str, Any]:
    """Everything that the ledger has on a trade, and what its workflows tell of themselves."""
    import asyncio

    from cli.asking import query
    from cli.ledger import open_ledger, resolve_key
    from cli.orders import ORDER
    from cli.orders import described as described_order
    from domain.commands import checked
    from domain.ids import exit_workflow_id, order_workflow_id
    from workers.errors import UnreachableError
    from workers.readiness import unwatched
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given)
        entry_key = await ledger.fetchval("SELECT coalesce(entry_key, order_key) FROM orders WHERE order_key = $1", key)
        trade = await ledger.fetchrow(TRADE + "WHERE t.entry_key = $1", entry_key)
        parts = {name: await ledger.fetch(statement, entry_key) for name, statement in _PARTS.items()}
        entry = await ledger.fetchrow(ORDER, entry_key)
        placed = [await ledger.fetchrow(ORDER, row["order_key"]) for row in parts.pop("sells")]
        alone = await unwatched(ledger, settings.account, [entry["symbol"]], settings.watcher.shards)
        commands = dict(await ledger.fetch("SELECT id, given_by FROM commands WHERE subject = $1", entry_key))
    timelines: dict[str, Any] = {}
    try:
        client = await connect(settings)
    except UnreachableError as error:
        note(f"Without the workflows' own words: {error.sentence}")
    else:
        ids = (order_workflow_id(entry_key), exit_workflow_id(entry_key))
        answers = await asyncio.gather(*(query(client, name, "timeline") for name in ids))
        timelines = {
            name: [checked(line, commands) for line in answer]
            for name, answer in zip(ids, answers, strict=True)
            if answer is not None
        }
    return {
        "trade": None if trade is None else described(trade, alone=alone),
        "entry": described_order(entry),
        "decision": {
            "buy_score": entry["buy_score"],
            "sell_score": entry["sell_score"],
            "indicators_fired": entry["indicators_fired"],
            "indicator_breakdown": entry["indicator_breakdown"],
            "asked_by": entry["intent"].get("asked_by", ""),
            "request_id": entry["intent"].get("request_id", ""),
        },
        "exit_orders": [described_order(row) for row in placed],
        **{name: [dict(row) for row in rows] for name, rows in parts.items()},
        "timelines": timelines,
    }


PROMISES = """
SELECT c.kind, c.given_by, c.note, c.accepted_at,
       CASE WHEN c.kind = 'close' THEN coalesce(t.state = 'CLOSED', o.finished) ELSE o.finished END AS done
  FROM commands c JOIN orders o ON o.order_key = c.subject LEFT JOIN trades t ON t.entry_key = o.order_key
 WHERE c.subject = $1 AND c.accepted_at IS NOT NULL ORDER BY c.accepted_at
"""
"""Closes and cancels of an entry's trade that were accepted, and whether they are done."""

_OF_TRADE = "IN (SELECT order_key FROM orders WHERE order_key = $1 OR entry_key = $1)"
_PARTS = {
    "sells": """SELECT order_key FROM orders WHERE entry_key = $1 AND order_key <> $1 ORDER BY received_at""",
    "gates": f"""SELECT g.order_key, o.role, g.position, g.gate, g.passed, g.numbers, g.at
                 FROM gate_results g JOIN orders o USING (order_key) WHERE g.order_key {_OF_TRADE}
                 ORDER BY o.received_at, g.position""",  # noqa: S608 - our own text, the key is a parameter
    "attempts": f"""SELECT order_key, number, client_order_id, exchange_order_id, status, size, limit_price,
                           filled_size, filled_value, quote_fees, status_source, refusal, refusal_text, sends,
                           prepared_at, acknowledged_at, final_at
                    FROM attempts WHERE order_key {_OF_TRADE} ORDER BY prepared_at, number""",  # noqa: S608 - as above
    "fills": f"""SELECT order_key, side, size, price, value, quote_fees, base_fees, liquidity, origin, ingest_via,
                        exchange_order_id, trade_id, at
                 FROM fills WHERE order_key {_OF_TRADE} ORDER BY at, id""",  # noqa: S608 - as above
    "linkage": f"""SELECT order_key, order_id, client_order_id, snapshot_id, buy_score, sell_score, trigger_type,
                          sell_trigger, exit_reason, linked_at, completed_at
                   FROM trade_strategy_link WHERE order_key {_OF_TRADE} ORDER BY linked_at""",  # noqa: S608 - as above
    "stop_changes": """SELECT at, given_by, note, sentence, bid FROM stop_changes WHERE entry_key = $1 ORDER BY at""",
    "exits": """SELECT order_key, reason, target_fraction, trigger_price, size, average_price, achieved_gross,
                       achieved_net, slippage, fees, path, attempts, trailing_state, due_at, at
                FROM trade_exits WHERE entry_key = $1 ORDER BY at""",
    "promises": PROMISES,
    "incidents": f"""SELECT kind, severity, sentence, at FROM incidents
                     WHERE subject {_OF_TRADE} ORDER BY at""",  # noqa: S608 - as above
}


def _print_story(story: "Mapping[str, Any]") -> None:
    from cli.ledger import ago
    from domain.wording import book_price, money, percent, short, tidy

    _print_head(story)
    print_table(
        (
            "order",
            "#",
            "client order id",
            "exchange's id",
            "status",
            "size",
            "limit",
            "filled",
            "average",
            "known from",
        ),
        [
            (
                short(row["order_key"]),
                row["number"],
                row["client_order_id"],
                row["exchange_order_id"],
                row["status"] + (f" ({row['refusal']})" if row["refusal"] else ""),
                tidy(row["size"]),
                tidy(row["limit_price"]),
                tidy(row["filled_size"]),
                book_price(row["filled_value"], row["filled_size"]),
                row["status_source"],
            )
            for row in story["attempts"]
        ],
        title="Sent to the exchange",
        empty="Nothing was sent to the exchange.",
        narrow_without=("client order id", "exchange's id", "known from"),
    )
    print_table(
        ("at", "side", "size", "price", "value", "fees", "order", "via"),
        [
            (row["at"], row["side"], tidy(row["size"]), tidy(row["price"]), tidy(row["value"]), tidy(row["quote_fees"]),
             short(row["order_key"]), row["ingest_via"])
            for row in story["fills"]
        ],
        title="Fills",
        empty="Nothing has filled.",
        narrow_without=("order", "via"),
    )  # fmt: skip
    if story["exits"]:
        print_table(
            ("reason", "target", "due at", "sold", "at price", "gross", "net", "slippage", "fees", "attempts", "took"),
            [
                (
                    row["reason"],
                    percent(row["target_fraction"]),
                    tidy(row["trigger_price"]),
                    tidy(row["size"]),
                    tidy(row["average_price"]),
                    percent(row["achieved_gross"]),
                    percent(row["achieved_net"]),
                    tidy(row["slippage"]),
                    tidy(row["fees"]),
                    row["attempts"],
                    ago(row["due_at"], row["at"]),
                )
                for row in story["exits"]
            ],
            title="How it was left",
            narrow_without=("target", "due at", "slippage", "fees", "attempts"),
        )
    print_table(
        ("order", "role", "gate", "", "what it compared"),
        [
            (short(row["order_key"]), row["role"], row["gate"], "passed" if row["passed"] else "REFUSED",
             ", ".join(f"{name} {_readable(value)}" for name, value in row["numbers"].items()))
            for row in story["gates"]
        ],
        title="Gates",
        empty="No gate ran.",
    )  # fmt: skip
    for row in story["promises"]:
        note_of = f" ({row['note']})" if row["note"] else ""
        done = "done" if row["done"] else "not done yet, and held to until it is"
        typer.echo(f"{row['kind']} by {row['given_by']}{note_of}, accepted {row['accepted_at']:%H:%M:%S}Z: {done}")
    for row in story["stop_changes"]:
        noted = f" ({row['note']})" if row["note"] else ""
        typer.echo(f"{row['at']:%H:%M:%S}Z stops moved by {row['given_by']}{noted}: {row['sentence']}")
    for row in story["incidents"]:
        typer.echo(f"{row['severity']} {row['at']:%H:%M:%S}Z {row['kind']}: {row['sentence']}")
    for workflow_id, lines in story["timelines"].items():
        typer.echo(f"\n{workflow_id}")
        for line in lines:
            typer.echo(f"  {line}")
    if not story["timelines"]:
        typer.echo("\nIts workflows' timelines are not to be had now (no worker answers, or Temporal has let them go).")
    if story["trade"] is not None and story["trade"]["pnl"] is not None:
        typer.echo(f"\nP&L {money(story['trade']['pnl'])} after {money(story['trade']['fees'])} fees.")


def _readable(number: str) -> str:
    """A gate's number without exponent and trailing zeros; anything else as it is."""
    from decimal import Decimal, InvalidOperation

    from domain.wording import money

    try:
        return money(Decimal(number))
    except InvalidOperation:
        return number


def _print_head(story: "Mapping[str, Any]") -> None:
    from domain.wording import about, money

    entry, decision, trade = story["entry"], story["decision"], story["trade"]
    asked_by = f", asked by {decision['asked_by']}" if decision["asked_by"] else ""
    rows: list[tuple[str, object]] = [
        ("trade", entry["order_key"]),
        ("entry", f"{entry['side']} {entry['symbol']} {entry['order_type']}: {entry['state']}"),
        ("decided by", f"{entry['trigger']} ({entry['source']}){asked_by}"),
        ("scores", f"buy {money(decision['buy_score'])}, sell {money(decision['sell_score'])}"),
        ("indicators", _indicators(decision)),
        ("snapshot", entry["snapshot_id"]),
        ("workflow", entry["workflow_id"]),
    ]
    if entry["gate"]:
        rows.insert(2, ("refused by", f"{entry['gate']}: {entry['sentence']}"))
    if trade is not None:
        bought = f"{money(trade['entry_size'])} bought at {about(trade['entry_price'])}"
        rows += [
            ("exit monitor", trade["exit_workflow_id"]),
            ("state", _state(trade)),
            ("position", f"{bought}, {trade['dust_why'] or money(trade['remaining']) + ' left'}"),
            ("stops", "" if trade["state"] == "CLOSED" else _stops(trade)),
            ("exit", trade["exit_reason"]),
        ]
    print_table(("", ""), rows, title="Trade")


def _indicators(decision: "Mapping[str, Any]") -> str:
    """Each indicator with its value and what it added to the score; those that fired first."""
    from decimal import Decimal

    from domain.wording import money

    parts = decision["indicator_breakdown"]
    ranked = sorted(parts.items(), key=lambda item: (not item[1].get("fired"), item[0]))
    return ", ".join(
        f"{name} {part.get('value') or '–'}{' fired' if part.get('fired') else ''} "
        f"({money(Decimal(part.get('contribution') or 0))})"
        for name, part in ranked
    )


# --- close -----------------------------------------------------------------------------------------------------------


@trade_app.command("close")
def close(
    key: _KEY,
    by: Annotated[str, typer.Option("--by", help="For whom, kept as a note beside this machine's user.")] = "",
    why: Annotated[str, typer.Option("--note", help="A word for the record.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is sold.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Wall seconds to wait.")] = 30.0,
    as_json: _JSON = False,
) -> int:
    """Sell a trade's position at MARKET, whatever its rules say; what remains of its entry is cancelled first.

    Exit code 1 when the trade is closed already.
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
    further: Annotated[bool, typer.Option("--further", help="Also further away from the price than now.")] = False,
    sell_now: Annotated[bool, typer.Option("--sell-now", help="Also where the bid is past it already.")] = False,
    by: Annotated[str, typer.Option("--by", help="For whom, kept as a note beside this machine's user.")] = "",
    why: Annotated[str, typer.Option("--note", help="A word for the record.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Wall seconds to wait.")] = 10.0,
    as_json: _JSON = False,
) -> int:
    """Move an open trade's stops or its target; what is not named stays. Percentages are of the entry price.

    A trailing stop is never lowered. Exit code 1 when it is refused: the sentence says why.
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
        raise UserError("BAD_OPTION", "Say what to move: --hard, --soft, --trailing, --trailing-arm or --take-profit.")
    flags = {"no_take_profit": off, "further": further, "sell_now": sell_now}
    return asyncio.run(
        _move_stops(settings_to_stop(), key, levels, flags, by=user(by), why=why, timeout=timeout, as_json=as_json)
    )


def _level(option: str, text: str | None, *, gain: bool | None) -> "tuple[Decimal, Decimal] | None":
    """What was typed as `price = share × entry price + amount`: the share and the amount. `gain` of None: only a price.

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
        raise UserError("BAD_NUMBER", f"{option} {typed}: it is a price, as it doesn't go by the entry price.")
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
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given, trade=True)
        row = await ledger.fetchrow(TRADE + "WHERE t.entry_key = $1", key)
        entry = None if row is None else average(row["bought_value"], row["bought_size"])
        if row is None or entry is None:
            raise UserError("NO_POSITION", f"Nothing of {given} has filled, so it has no stops yet.", ExitCode.NO)
        if row["state"] == "CLOSED":
            raise UserError("TRADE_CLOSED", f"The trade is closed already ({row['exit_reason']}).", ExitCode.NO)
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
        row = await ledger.fetchrow(TRADE + "WHERE t.entry_key = $1", key)
    if as_json:
        print_json({**described(row), "answer": answer})
    else:
        typer.echo(f"{answer[:1].upper()}{answer[1:]}.")
    return int(ExitCode.OK)


async def _close(
    settings: "Settings", given: str, *, by: str, why: str, wait: bool, timeout: float, as_json: bool
) -> int:
    from cli.asking import commanded, end_or_keep, patience, until
    from cli.ledger import ago, open_ledger, resolve_key
    from domain.wording import money
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        key = await resolve_key(ledger, settings.account, given, trade=True)
        row = await ledger.fetchrow(TRADE + "WHERE t.entry_key = $1", key)
        if row is None:
            raise UserError(
                "NO_POSITION",
                f"Nothing of {given} has filled: `bottrader order cancel {given}` withdraws the order.",
                ExitCode.NO,
            )
        if row["state"] == "CLOSED":
            why = row["exit_reason"] or row["dust_why"] or "without an exit of ours"
            raise UserError("TRADE_CLOSED", f"The trade is closed already ({why}).", ExitCode.NO)
        client = await connect(settings)
        with patience(f"Selling {row['symbol']}"):
            request = (await commanded(ledger, settings.account, "close", [key], by, why))[key]
            answer = await end_or_keep(ledger, client, settings.account, "close", key, request, min(timeout, 10.0))

            async def look() -> "Row | None":
                found = await ledger.fetchrow(TRADE + "WHERE t.entry_key = $1", key)
                return found if found["state"] == "CLOSED" else None

            done = await until(look, timeout) if wait else None
        row = done or await ledger.fetchrow(TRADE + "WHERE t.entry_key = $1", key)
    told = described(row)
    if as_json:
        print_json({**told, "answer": answer})
    elif done is None:
        typer.echo(f"Asked for: {answer}.")
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
            f"The trade is not closed after {timeout:g} s, selling goes on: see `bottrader trade show {key[:12]}`.",
        )
    return int(ExitCode.OK)


def _no_workflow() -> UserError:
    return UserError(
        "NO_WORKFLOW",
        "The trade has a position but no running workflow; the sweep starts one within minutes, then repeat this. "
        "`bottrader doctor` says whether its worker runs.",
        ExitCode.NO,
    )
