"""The command that runs a paper exchange until Ctrl-C or SIGTERM. Heavy modules are imported when it runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from exchange.paper.config import (
    COINBASE,
    DEFAULT_VOLATILITY,
    LIVE_REST,
    LIVE_URL,
    Generated,
    Live,
    PaperConfig,
    PriceFile,
)
from exchange.paper.errors import PaperError
from exchange.paper.fills import fill_rule

__all__ = ["balances_of", "number_of", "paper"]

BAD_INPUT, UNREACHABLE = 2, 3


def paper(
    prices: Annotated[
        Path | None,
        typer.Option(
            help="Candle or tick CSV (plain or gzip) or a recorded stream (JSON Lines); else prices are generated."
        ),
    ] = None,
    live: Annotated[bool, typer.Option(help="Use the real public prices; needs a network.")] = False,
    live_url: Annotated[str, typer.Option(help="Address of the public stream for --live.")] = LIVE_URL,
    live_rest: Annotated[
        str | None,
        typer.Option(
            help="Address of the public REST interface, for the candles of before; else the venue's, and none with "
            "another --live-url."
        ),
    ] = None,
    venue: Annotated[
        str, typer.Option(help="The exchange whose protocol it speaks: coinbase or cryptocom.")
    ] = COINBASE,
    fills: Annotated[
        str | None,
        typer.Option(
            help="How orders fill: pessimistic, base or optimistic. Default: base with --live, else optimistic."
        ),
    ] = None,
    product: Annotated[
        list[str] | None,
        typer.Option(help="Product to trade, repeatable; with --prices NAME=SCALE scales the file's prices."),
    ] = None,
    products_file: Annotated[
        Path | None, typer.Option(help="Products in the shape of GET /products, instead of the bundled ones.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Market seconds per second.")] = 1.0,
    step: Annotated[bool, typer.Option(help="The market moves only on request over the control interface.")] = False,
    history_rows: Annotated[int, typer.Option(help="Candles at the file's head that become history.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of generated prices.")] = 1,
    volatility: Annotated[
        float, typer.Option(help="Standard deviation of a market minute's return, as a fraction, for generated prices.")
    ] = DEFAULT_VOLATILITY,
    interval: Annotated[
        float, typer.Option(help="Seconds between two ticks of a product, for generated prices.")
    ] = 0.25,
    spread_bps: Annotated[str, typer.Option(help="Quoted spread in basis points.")] = "2",
    depth: Annotated[int, typer.Option(help="Levels a side of the market's own book.")] = 25,
    balance: Annotated[list[str] | None, typer.Option(help="Starting balance such as USD=100000, repeatable.")] = None,
    maker_fee: Annotated[str, typer.Option(help="Maker fee as a fraction.")] = "0.004",
    taker_fee: Annotated[str, typer.Option(help="Taker fee as a fraction.")] = "0.006",
    rate_limits: Annotated[bool, typer.Option(help="Limit requests as the real exchange does.")] = True,
    data_folder: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps keys, certificate and account over restarts. Default: a temporary one."),
    ] = None,
    rest_port: Annotated[int, typer.Option(help="REST port, 0 for any.")] = 0,
    stream_port: Annotated[int, typer.Option(help="Stream port, 0 for any.")] = 0,
    control_port: Annotated[int, typer.Option(help="Control port, 0 for any.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one line of JSON.")] = False,
) -> None:
    """Run a paper exchange with play money: the protocols of Coinbase Advanced Trade, or of Crypto.com Exchange v1."""
    try:
        import uvloop  # noqa: PLC0415  only when it runs: other commands start fast

        from exchange.paper.files import symbols_of  # noqa: PLC0415  only when it runs: other commands start fast

        names = [name.partition("=")[0] for name in product] if product else None
        source: Generated | PriceFile | Live = Generated(volatility=volatility, interval=interval)
        if prices is not None and live:
            raise PaperError("TWO_SOURCES", "Give --prices or --live, not both.")
        if prices is not None:
            source = PriceFile(prices, symbols_of(product or []), history_rows)
        elif live:
            source = Live(live_url, live_rest or (LIVE_REST if live_url == LIVE_URL else None))
        config = PaperConfig(
            venue=venue,
            rest_port=rest_port,
            stream_port=stream_port,
            control_port=control_port,
            data_folder=data_folder,
            seed=seed,
            products=names,
            products_file=products_file,
            balances=balances_of(balance or ["USD=100000"]),
            maker_fee=number_of("--maker-fee", maker_fee),
            taker_fee=number_of("--taker-fee", taker_fee),
            speed=speed,
            step=step,
            source=source,
            spread_bps=number_of("--spread-bps", spread_bps),
            depth=depth,
            fills=None if fills is None else fill_rule(fills),
        )
        if not rate_limits:
            config = replace(config, private_rate=0, public_rate=0, connection_rate=0, message_rate=0)
        uvloop.run(_serve(config, as_json=as_json))
    except PaperError as error:
        typer.echo(f"paper: {error.message}", err=True)
        raise typer.Exit(UNREACHABLE if error.code == "LIVE_UNREACHABLE" else BAD_INPUT) from None


async def _serve(config: PaperConfig, *, as_json: bool) -> None:
    import asyncio  # noqa: PLC0415  only when it runs: other commands start fast

    from exchange.background import Background  # noqa: PLC0415  as above
    from exchange.paper.server import PaperExchange  # noqa: PLC0415  as above

    Background().install(asyncio.get_running_loop())
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with PaperExchange(config) as exchange:
        addresses = exchange.addresses()
        if as_json:
            typer.echo(json.dumps({**addresses, "left_out": exchange.left_out} if exchange.left_out else addresses))
        else:
            typer.echo("Paper exchange is ready. Stop it with Ctrl-C.")
            typer.echo(config.about())
            if exchange.left_out:
                typer.echo(f"Not traded, as the feed has no price of them: {', '.join(exchange.left_out)}.")
            for label, value in addresses.items():
                typer.echo(f"  {label:<12} {value}")
        await stop.wait()


def balances_of(texts: Sequence[str]) -> dict[str, Decimal]:
    """Starting balances written like USD=100000. Raises `PaperError` for one that isn't."""
    found = {}
    for text in texts:
        currency, _, amount = text.partition("=")
        if not (currency.isascii() and currency.isalnum()) or not amount:
            raise PaperError("BAD_BALANCE", f"--balance {text} must look like USD=100000.")
        found[currency.upper()] = number_of(f"--balance {currency}", amount)
    return found


def number_of(name: str, text: str) -> Decimal:
    """An option's decimal number. Raises `PaperError` if it is not one."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise PaperError("BAD_NUMBER", f"{name} must be a decimal number, not {text}.")
    return number
