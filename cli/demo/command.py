"""`bottrader demo`: the whole system on a throw-away stack, shown at work within three minutes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, note, print_json, print_table, tell
from cli.prices import require_prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.demo.audit import Outcome
    from cli.demo.run import DemoTerms, Result
    from workers.stack.local_stack import LocalStack, LocalStackConfig

__all__ = ["demo"]

_CANDLES_A_SECOND = 2
_MINUTE = 60.0
_FEES = ("--maker-fee", "0.0001", "--taker-fee", "0.0002")
"""Far below a beginner's: trades of seconds win a tenth of a percent at most, and winners are to be seen, too."""
_ABOUT = """\
This trades play money on a paper exchange of its own. Its prices are {prices} and pass {speed} times as fast.
Trades are entered for many reasons on {symbols}; each is left by the rule that it was given. Stops and targets are \
a tenth of a percent away, so that trades win or lose within seconds; fees are far below a beginner's, so that not \
every gain is lost to them. At the end the books of both sides are compared."""
_MEANING = {
    "HARD_STOP": "the loss that ends a trade in any case: sold at market",
    "SOFT_STOP": "a smaller loss: sold by limit orders that follow the price",
    "TRAILING_STOP": "it had gained, then the price fell back: what is left is taken",
    "TP": "the target was reached: sold by a limit order",
    "SIGNAL_EXIT": "the strategy said sell, and the trade was not losing",
    "MANUAL": "closed by hand at market, wherever the price was",
}
"""What each exit reason means, for somebody who sees the words for the first time."""


def demo(
    prices: Annotated[
        Path | None,
        typer.Option("--prices", help="Recorded prices for all three symbols (CSV, .gz); default: generated prices."),
    ] = None,
    trades: Annotated[int, typer.Option("--trades", min=8, max=500, help="Minimum number of closed trades.")] = 20,
    seconds: Annotated[
        float, typer.Option("--seconds", min=10, max=3_600, help="Maximum wall seconds of trading.")
    ] = 75.0,
    speed: Annotated[
        float | None,
        typer.Option("--speed", min=1, max=10_000, help="Market seconds per wall second; default: two candles."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the generated market.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Trade on the paper exchange and show what happened, on a stack of its own that is removed at the end.

    Entries by several strategies on three symbols, with every kind of exit, then the audit: linkage, duplicates, and
    our books against the exchange's to the cent. Exit code 1 if any of these checks fails.
    """
    import asyncio
    from decimal import Decimal

    from cli.demo.plan import SYMBOLS
    from cli.demo.run import DemoTerms

    if prices is not None:
        require_prices(prices, SYMBOLS)
    rate = speed if speed is not None else _CANDLES_A_SECOND * (_candle_seconds(prices) if prices else _MINUTE)
    terms = DemoTerms(trades=trades, seconds=seconds, speed=Decimal(f"{rate:g}"))
    _forget_settings()
    config = _stack(prices, terms, seed)
    return asyncio.run(_run_until_told(config, terms, as_json=as_json))


def _candle_seconds(prices: Path) -> float:
    """Market seconds between the first two rows of a price file; 60 if it doesn't start like a file of candles.

    The exchange checks the whole file; this only sets the pace.
    """
    import csv
    import gzip
    import itertools
    import zlib

    opened = gzip.open if prices.read_bytes()[:2] == b"\x1f\x8b" else open
    try:
        with opened(prices, "rt", encoding="utf-8") as file:
            first, second = (_at(row["time"]) for row in itertools.islice(csv.DictReader(file), 2))
    except (OSError, EOFError, zlib.error, ValueError, KeyError):
        return _MINUTE
    return second - first if _MINUTE / 2 <= second - first <= 60 * _MINUTE else _MINUTE


def _at(text: str) -> float:
    """Seconds since 1970 of a time in a price file: RFC 3339, seconds or milliseconds. Raises ValueError."""
    from exchange.paper.numbers import parse_time

    moment = parse_time(text)
    if moment is not None and not text.strip().isdigit():
        return moment.timestamp()
    number = float(text)
    return number / 1000 if number > 1e11 else number


def _forget_settings() -> None:
    """Remove settings of the shell and of a local file, which are meant for other stacks; child processes inherit this
    environment."""
    import os

    for name in list(os.environ):
        if name in {"DATABASE_URL", "TEMPORAL_ADDRESS"} or (
            name.startswith("BOTTRADER_") and name != "BOTTRADER_CACHE"
        ):
            del os.environ[name]
    os.environ["BOTTRADER_CONFIG"] = os.devnull


def _stack(prices: Path | None, terms: "DemoTerms", seed: int) -> "LocalStackConfig":
    """A throw-away stack with its own data and settings."""
    from cli.demo.plan import KINDS, SYMBOLS
    from workers.settings.risk import WITHOUT_LIMITS
    from workers.stack.local_stack import LocalStackConfig

    market = ["--seed", str(seed)] if prices is None else ["--prices", str(prices.absolute())]
    products = [part for symbol in SYMBOLS for part in ("--product", symbol)]
    return LocalStackConfig(
        paper_arguments=[*market, *products, *_FEES, "--speed", str(terms.speed)],
        env={
            **WITHOUT_LIMITS,
            "BOTTRADER_SPEED": str(terms.speed),
            "BOTTRADER_SYMBOLS__ALLOW": ",".join(SYMBOLS),
            "BOTTRADER_SYMBOLS__MAX_OPEN_BUYS": str(len(KINDS)),
            # The demonstration writes a matrix of its own; one of the real strategy's would take its place.
            "BOTTRADER_STRATEGY__INTERVAL_S": "86400",
            # A strategy that is switched off sells nothing by its matrix; this one never buys.
            "BOTTRADER_STRATEGY__ENABLED": "true",
            "BOTTRADER_STRATEGY__BUY_SCORE": "1000",
            "BOTTRADER_ROC__ENABLED": "false",
        },
        say=lambda line: note(f"  {line}"),
    )


async def _run_until_told(config: "LocalStackConfig", terms: "DemoTerms", *, as_json: bool) -> int:
    """Run it until done; Ctrl-C and SIGTERM stop everything that was started."""
    import asyncio
    import signal

    task = asyncio.ensure_future(_run(config, terms, as_json=as_json))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        note("Stopped, with everything that was started.")
        return 130


async def _run(config: "LocalStackConfig", terms: "DemoTerms", *, as_json: bool) -> int:
    import time

    from workers.stack.local_stack import LocalStack

    began = time.monotonic()
    _say_what_comes(config, terms)
    async with LocalStack(config) as stack:
        ready = time.monotonic() - began
        note(f"Ready after {ready:.1f} s. Watch the trades as they live: {stack.ui_views['Open trades']}")
        result = await _demonstrate(stack, terms)
        note("Stopping, and removing its data")
    took = time.monotonic() - began
    if as_json:
        print_json({**_as_json(result), "ready_s": round(ready, 1), "seconds": round(took, 1)})
    else:
        _print(result, took)
    if result.problems:
        raise UserError("DEMO_FAILED", "The demonstration failed: " + "; ".join(result.problems) + ".", ExitCode.NO)
    return int(ExitCode.OK)


def _say_what_comes(config: "LocalStackConfig", terms: "DemoTerms") -> None:
    from cli.demo.plan import SYMBOLS

    prices = "those of the file" if "--prices" in config.paper_arguments else "made up"
    note(_ABOUT.format(prices=prices, speed=f"{terms.speed:f}", symbols=", ".join(SYMBOLS)))
    note("Starting the stack")


async def _demonstrate(stack: "LocalStack", terms: "DemoTerms") -> "Result":
    import asyncpg
    from temporalio.client import Client
    from temporalio.contrib.pydantic import pydantic_data_converter

    from cli.demo.run import Demonstration
    from cli.ledger import with_codecs
    from exchange.paper import PaperControl

    client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
    ledger = await asyncpg.create_pool(stack.dsn, min_size=1, max_size=4, init=with_codecs, command_timeout=20)
    try:
        async with PaperControl(stack.paper) as control:
            return await Demonstration(ledger, client, control, terms, note).run()
    finally:
        await ledger.close()


def _as_json(result: "Result") -> dict[str, Any]:
    from cli.demo.audit import won_and_lost

    account = result.account
    won, lost = won_and_lost(result.trades)
    return {
        "ok": not result.problems,
        "problems": result.problems,
        "entries": result.entries,
        "refused": dict(result.refused),
        "fees": result.fees,
        "snapshots": result.snapshots,
        "closed": sum(result.reasons.values()),
        "reasons": dict(result.reasons),
        **{
            name: {
                "count": some.count,
                "gross": some.gross,
                "fees": some.fees,
                "net": some.net,
                "reasons": dict(some.reasons),
                "gained_less_than_fees": some.eaten,
            }
            for name, some in (("winners", won), ("losers", lost))
        },
        "linkage": {
            "filled": result.linkage.filled,
            "linked": result.linkage.linked,
            "percent": result.linkage.percent,
        },
        "duplicates": result.duplicates,
        "placement_to_fill_ms": result.placement_to_fill_ms,
        "account": None
        if account is None
        else {
            "start": account.start,
            "realised": account.realised,
            "open_value": account.open_value,
            "open_gain": account.open_gain,
            "ours": account.ours,
            "exchange": account.exchange,
            "equal": account.equal,
            "marks": account.marks,
        },
        "trades": result.trades,
    }


def _print(result: "Result", took: float) -> None:
    from cli.demo.audit import outcomes, won_and_lost
    from domain.money import round_half_even
    from domain.wording import about

    print_table(
        ("symbol", "entry", "exit", "gross", "fees", "net", "why", "trigger", "source", "seconds"),
        [
            (
                trade["symbol"],
                about(trade["entry_price"]),
                "" if trade["exit_price"] is None else about(trade["exit_price"]),
                *(
                    None if trade[name] is None or trade["pnl"] is None else round_half_even(trade[name])
                    for name in ("gross", "fees", "pnl")
                ),
                _why(trade),
                trade["trigger"],
                trade["source"],
                trade["seconds"],
            )
            for trade in result.trades
        ],
        title="Trades, in USD: net is gross (what the price moved) less fees",
        narrow_without=("seconds", "source", "trigger"),
    )
    by_reason = outcomes(result.trades)
    print_table(
        ("exit", "trades", "gross", "fees", "net", "which means"),
        [
            (
                reason,
                some.count,
                *(round_half_even(amount) for amount in (some.gross, some.fees, some.net)),
                _MEANING.get(reason, ""),
            )
            for reason, some in by_reason.items()
        ],
        title="How they were left",
    )
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(result.reasons.items()))
    sent = result.duplicates
    rows: list[tuple[str, str]] = [
        ("closed trades", f"{sum(result.reasons.values())} ({reasons})"),
        *(
            (name, _came_to(some))
            for name, some in zip(("winners", "losers"), won_and_lost(result.trades), strict=True)
        ),
        ("entries", f"{result.entries} out of {result.snapshots} strategy runs" + _refused(result)),
        ("linkage", f"{result.linkage.linked} of {result.linkage.filled} filled orders ({result.linkage.percent:f} %)"),
        ("duplicates", f"{sent.total} ({sent.requests} requests for {sent.attempts} attempts)"),
        ("placement to fill", f"{result.placement_to_fill_ms} ms on average (market orders)"),
    ]
    if result.account is not None:
        account = result.account
        parts = f"{_usd(account.start)} + {_usd(account.realised)} realised + {_usd(account.open_gain)} open"
        verdict = "equal" if account.equal else "NOT EQUAL"
        rows += [
            ("our books", f"{parts} = {_usd(account.ours)} USD ({_usd(result.fees)} of it fees)"),
            ("the exchange's", f"{_usd(account.exchange)} USD, {verdict} to the cent"),
        ]
    print_table(("", ""), rows, title=f"After {took:.0f} s")
    tell("Next: `bottrader up` keeps such a stack running; `bottrader order buy BTC-USD --quote 100` trades on it.")


def _why(trade: "Mapping[str, Any]") -> str:
    """How a trade was left, and whether that was worth its fees."""
    if trade["reason"] is None:
        return f"({trade['state'].lower()})"
    eaten = trade["pnl"] is not None and trade["gross"] > 0 >= trade["pnl"]
    return f"{trade['reason']}, fees ate the gain" if eaten else str(trade["reason"])


def _came_to(some: "Outcome") -> str:
    """The sum of some trades, and why."""
    if not some.count:
        return "none"
    money = f"{_usd(some.gross)} gross less {_usd(some.fees)} of fees = {_usd(some.net)} USD"
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(some.reasons.items()))
    return f"{some.count}: {money} ({why}" + (f"; {some.eaten} gained less than their fees)" if some.eaten else ")")


def _refused(result: "Result") -> str:
    if not result.refused:
        return ""
    return ", refused: " + ", ".join(f"{count} {gate}" for gate, count in sorted(result.refused.items()))


def _usd(amount: Any) -> str:
    from domain.money import round_half_even

    return f"{round_half_even(amount):,f}"
