"""`bottrader up --live-prices`, the step before real money, as a person uses it: another paper exchange is the feed."""

import asyncio
import json
import os
from pathlib import Path

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from tests.support.live_stack import ROOT, Outcome, run_command
from tests.support.waiting import SLACK, eventually
from workers.settings.risk import WITHOUT_LIMITS
from workers.stack.processes import Child, Command, python_environment, python_module

BTC = "BTC-USD"
FEED = PaperConfig(step=True, products=[BTC], connection_rate=0)
WITHOUT_WEB = ("--no-web", "--no-api", "--temporal-port=0", "--ui-port=0")


async def test_a_trade_on_live_prices_from_buy_to_stop(servers_folder: Path, tmp_path: Path) -> None:
    """`up` prints its price source, its fill rules and products missing in the feed; a buy fills at the feed's price,
    follows it, and the hard stop sells when the feed falls.
    """
    data = servers_folder / "live-prices"
    async with PaperExchange(FEED) as exchange, PaperControl(exchange.addresses()) as feed:
        await feed.set_price(BTC, "50000.00", "50000.01")
        argv = python_module(
            "cli.main", "up", "--live-prices", "--live-url", exchange.stream_url, "--data", str(data), *WITHOUT_WEB,
            "--json",
        )  # fmt: skip
        environment = python_environment(WITHOUT_LIMITS)
        up = await Child.start(
            Command(
                name="up",
                argv=argv,
                log=tmp_path / "up.log",
                env=environment,
                cwd=tmp_path,
                pipe_stdout=True,
                grace_s=60,
            )
        )
        try:
            assert up.process.stdout is not None
            async with asyncio.timeout(SLACK * 90):
                ready = json.loads(await up.process.stdout.readline())
            said = up.log_tail(20)
            assert f"Paper money on live prices of {exchange.stream_url}. Fills, base: resting orders" in said
            assert "not traded, because the live prices lack them:" in said
            assert "ETH-USD" in said
            commands = {**os.environ, **ready["environment"], "BOTTRADER_DATA": str(data), "PYTHONPATH": str(ROOT)}

            async def command(*arguments: str) -> Outcome:
                return await run_command(python_module("cli.main", *arguments, "--json"), commands, 90)

            bought = await command("order", "buy", BTC, "--size", "0.01")
            assert bought.code == 0, bought.err
            # The ask plus 1 bp, in whole cents.
            trade = (await command("trades", "--open")).json[0]
            assert (trade["state"], trade["entry_price"]) == ("PROTECTED", "50005.02")
            await feed.set_price(BTC, "47000.00", "47000.01")

            async def sold() -> str | None:
                rows = (await command("trades")).json
                return str(rows[0]["exit_reason"]) if rows[0]["state"] == "CLOSED" else None

            assert await eventually(sold, what="the hard stop has sold", within=90) == "HARD_STOP"
        finally:
            await up.stop()
