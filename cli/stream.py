"""`bottrader stream`: record the exchange's streams, and check a recording."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from cli.output import UserError, note, print_json, print_table

if TYPE_CHECKING:
    from exchange.coinbase import CoinbaseConfig

__all__ = ["stream_app"]

stream_app = typer.Typer(help="Record the exchange's streams and check recordings.", no_args_is_help=True)

CHANNELS = ("ticker", "trades", "candles", "book", "user")
_VENUE_NAMES = {"market_trades": "trades", "level2": "book", "l2_data": "book"}
"""The exchange's own channel names are accepted too."""
_PATIENCE = 2.0
"""Seconds between two lines of progress."""


@stream_app.command("record")
def record(
    channel: Annotated[list[str], typer.Option("--channel", help=f"{', '.join(CHANNELS)}; repeatable, or a,b.")],
    out: Annotated[Path, typer.Option("--out", help="JSON Lines file to write; - for stdout.")],
    symbols: Annotated[str, typer.Option("--symbols", help="Products, such as BTC-USD,ETH-USD.")] = "",
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="Stop after this time.")] = None,
    messages: Annotated[int | None, typer.Option("--messages", min=1, help="Stop after this many messages.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Stream address; default: from the settings.")] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="PEM file to trust; default: from the settings.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="API key file; default: from the settings.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Record a stream to a file until Ctrl-C, --seconds or --messages: every frame unchanged, tokens masked."""
    import asyncio

    from cli.stream_recorder import Recorder, record_stream
    from exchange.coinbase import ApiKeyError, CoinbaseExchange

    given = [name.strip() for item in channel for name in item.split(",") if name.strip()]
    names = [_VENUE_NAMES.get(name, name) for name in given]
    products = [name.strip().upper() for name in symbols.split(",") if name.strip()]
    _check_request(names, products)
    if str(out) != "-" and out.exists() and not force:
        raise UserError("FILE_EXISTS", f"{out} is there already: name another file, or replace it with --force.")
    user = "user" in names
    try:
        exchange = CoinbaseExchange(_config(user, url, ca_file, key_file))
    except ApiKeyError as problem:
        raise UserError("BAD_API_KEY", f"{str(problem)[:1].upper()}{str(problem)[1:]}.") from None
    except ValueError as problem:
        raise UserError("BAD_SETTING", f"{problem}.") from None
    with _opened(out) as file:
        recorder = Recorder(file, messages, products)
        try:
            stream = (
                exchange.user_stream(tap=recorder) if user else exchange.market_stream(products, names, tap=recorder)
            )
        except ValueError as problem:
            raise UserError("BAD_REQUEST", f"{problem}.") from None
        try:
            asyncio.run(record_stream(stream, recorder, seconds))
            recorder.require_products()
        except UserError:
            if recorder.errors == recorder.count and out.is_file():
                out.unlink()  # nothing in it that anybody would look at, and in the way of the next try
            raise
    note(f"{recorder.count} messages in {out}" if str(out) != "-" else f"{recorder.count} messages")


def _check_request(names: list[str], products: list[str]) -> None:
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise UserError(
            "UNKNOWN_CHANNEL", f"There is no channel {', '.join(unknown) or '(none given)'}: use {', '.join(CHANNELS)}."
        )
    if "user" in names and len(names) > 1:
        raise UserError("TWO_STREAMS", "The user channel has its own connection: record it into a separate file.")
    if "user" not in names and not products:
        raise UserError("NO_SYMBOLS", "Name the products to record: --symbols BTC-USD,ETH-USD.")


def _config(user: bool, url: str | None, ca_file: Path | None, key_file: Path | None) -> "CoinbaseConfig":
    """Addresses, trust root and key from the options, else from the settings."""
    from cli.settings import current_settings
    from exchange.coinbase import CoinbaseConfig

    settings = current_settings()
    if url is None:
        # Only with the address come the trust root and the key that belong to it.
        url = settings.user_stream_address if user else settings.stream_address
        ca_file = ca_file or settings.exchange.ca_file
        key_file = key_file or settings.exchange.key_file
    return CoinbaseConfig(stream_url=url, user_stream_url=url, ca_file=ca_file, key_file=key_file if user else None)


@contextlib.contextmanager
def _opened(out: Path) -> Iterator[IO[bytes]]:
    if str(out) == "-":
        yield sys.stdout.buffer
        return
    try:
        with out.open("wb") as file:
            yield file
    except OSError as problem:
        raise UserError("CANNOT_WRITE", f"{out} can't be written ({problem.strerror or problem}).") from None


@stream_app.command("check")
def check(
    file: Annotated[str, typer.Argument(help="A recording in JSON Lines; - for stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Run a recording through the production parsers and report its contents.

    Exit code 0 if it could be read, whatever its contents; 2 if not.
    """
    from exchange.coinbase.recording import RecordingCheck

    found = RecordingCheck()
    progress, size, done = time.monotonic(), 0, 0
    try:
        if file != "-":
            size = Path(file).stat().st_size
        with contextlib.nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as lines:
            for line in lines:
                found.feed(line)
                done += len(line)
                if time.monotonic() - progress >= _PATIENCE:
                    progress = time.monotonic()
                    note(f"{found.lines} lines read" + (f" ({100 * done // size} %)" if size else ""))
    except OSError as problem:
        raise UserError("CANNOT_READ", f"{file} can't be read: {problem.strerror or problem}.") from None
    report = found.report()
    if as_json:
        print_json(report)
    else:
        _print_report(report)


def _print_report(report: dict[str, Any]) -> None:
    counts = report["counts"]
    typer.echo(
        f"{report['lines']} lines: {report['messages']} messages on {report['connections']} connection(s), "
        f"{report['sent']} sent"
    )
    typer.echo(
        f"{counts['gaps']} gaps ({counts['missed']} messages missing), {counts['late']} late, "
        f"{counts['repeats']} repeats, {counts['unknown']} unknown, {counts['malformed']} malformed, "
        f"{counts['errors']} errors of the venue"
    )
    print_table(["channel", "messages"], list(report["channels"].items()), empty="No messages.")
    if report["gaps"]:
        rows = [(gap["line"], gap["connection"], gap["expected"], gap["received"]) for gap in report["gaps"]]
        print_table(["line", "connection", "expected", "received"], rows, title="Sequence gaps")
    for title, key in (("Unknown", "unknown"), ("Malformed", "malformed")):
        if report[key]:
            print_table(["line", "reason"], [(item["line"], item["reason"]) for item in report[key]], title=title)
    if report["errors"]:
        print_table(
            ["line", "the venue's message"], [tuple(item.values()) for item in report["errors"]], title="Errors"
        )
    if report["products"]:
        _print_products(report["products"])
    if report["snapshot"] is not None:
        word = "complete" if report["snapshot"]["complete"] else "NOT complete"
        typer.echo(f"Snapshot of open orders: {word}, {report['snapshot']['orders']} orders")
    if report["orders"]:
        _print_orders(report["orders"])


def _print_products(products: dict[str, Any]) -> None:
    rows = []
    for symbol, item in products.items():
        depth = item["depth"]
        rows.append(
            (
                symbol,
                item["best_bid"],
                item["best_ask"],
                f"{depth['bids']['levels']} / {depth['asks']['levels']}" if depth else None,
                f"{depth['bids']['size']} / {depth['asks']['size']}" if depth else None,
                item["book_complete"],
                item["trades"]["count"],
                item["trades"]["size"],
            )
        )
    columns = ["product", "best bid", "best ask", "levels", "size", "book complete", "trades", "traded"]
    print_table(columns, rows, title="Products")
    candles = [(symbol, *candle.values()) for symbol, item in products.items() for candle in item["candles"]]
    if candles:
        columns = ["product", "start", "open", "high", "low", "close", "volume", "trades"]
        print_table(columns, candles, title="5-minute candles from trades")


def _print_orders(orders: dict[str, Any]) -> None:
    rows = [
        (order_id, item["product_id"], item["side"], item["status"], item["filled_size"], item["average_price"],
         item["fees"], len(item["fills"]))
        for order_id, item in orders.items()
    ]  # fmt: skip
    columns = ["order", "product", "side", "status", "filled", "average price", "fees", "fills"]
    print_table(columns, rows, title="Orders")
    fills = [
        (order_id, fill["size"], fill["price"], fill["fee"], fill["line"])
        for order_id, item in orders.items()
        for fill in item["fills"]
    ]
    if fills:
        print_table(["order", "size", "price", "fee", "line"], fills, title="Fills that would be booked")
