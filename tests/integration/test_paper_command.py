"""The command that runs a paper exchange, as a process: addresses, clean stop, and bad input."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from coinbase.rest import RESTClient

from cli.prices import PaperOptions, paper_market
from exchange.paper import PaperControl
from exchange.paper.testing import StreamClient
from tests.support.cryptocom_client import SignedSession
from tests.support.waiting import SLACK
from workers.settings.paper import PaperSettings

ROOT = Path(__file__).parents[2]
CANDLES = """time,open,high,low,close,volume
2022-01-01T00:00:00Z,100,110,90,105,5
2022-01-01T00:01:00Z,105,106,95,96,5
"""


async def start(*arguments: str) -> Process:
    """The command as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exchange.paper", *arguments, stdout=PIPE, stderr=PIPE, env=environment, cwd=ROOT
    )


async def addresses(process: Process) -> dict[str, str]:
    """The line of JSON that reports it as ready."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), SLACK * 20)
    found: dict[str, str] = json.loads(line)
    return found


async def end(process: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    """Stop it. Returns exit code and stderr."""
    process.send_signal(number)
    _, errors = await asyncio.wait_for(process.communicate(), SLACK * 10)
    return process.returncode or 0, errors.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_prints_its_addresses_serves_and_stops_cleanly(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of JSON, an official client that works with only that, and a silent stop."""
    prices = tmp_path / "candles.csv"
    prices.write_text(CANDLES, encoding="utf-8")
    process = await start("--json", "--step", "--prices", str(prices), "--product", "BTC-USD", "--balance", "USD=500")
    found = await addresses(process)
    assert set(found) == {"rest", "stream", "user_stream", "ca_file", "key_file", "control", "control_token_file"}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", found["ca_file"])
    client = RESTClient(key_file=found["key_file"], base_url=found["rest"], timeout=10)
    accounts = await asyncio.to_thread(client.get_accounts)
    assert accounts.accounts[0].available_balance["value"] == "500"
    async with StreamClient(found["user_stream"], Path(found["key_file"])) as stream:
        await stream.subscribe("user")
        await stream.until(lambda seen: len(seen) == 2)
        async with PaperControl(found) as control:
            assert await control.step(100) == 8
            assert (await control.state())["exhausted"]
        assert await end(process, number) == (0, "")
        await asyncio.wait_for(stream.closed.wait(), SLACK * 5)
    assert not await asyncio.to_thread(Path(found["ca_file"]).exists)


async def test_another_venue_is_an_option() -> None:
    """With --venue cryptocom the addresses are that venue's, and the account answers to its signatures."""
    process = await start("--json", "--step", "--venue", "cryptocom", "--balance", "USD=500", "--product", "CRO_USD")
    found = await addresses(process)
    assert found["user_stream"].endswith("/exchange/v1/user")
    key = json.loads(await asyncio.to_thread(Path(found["key_file"]).read_text, encoding="utf-8"))
    async with SignedSession(found["user_stream"], key) as session:
        (balance,) = (await session.subscribe("user.balance"))["result"]["data"]
        assert [row["quantity"] for row in balance["position_balances"]] == ["500"]
    assert await end(process) == (0, "")


async def test_the_terms_that_up_hands_over_are_the_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client sees the fees, spread, balances and products of `up`."""
    options = PaperOptions(
        maker_fee="0.001", taker_fee="0.002", spread_bps="50", balances=["USD=5000", "BTC=2"], products=["BTC-USD"]
    )
    terms = paper_market(options, PaperSettings(), speed=1, paper=True).arguments
    process = await start("--json", "--step", *terms)
    found = await addresses(process)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", found["ca_file"])
    client = RESTClient(key_file=found["key_file"], base_url=found["rest"], timeout=10)

    def seen() -> tuple[dict[str, str], list[str], tuple[str, str], Decimal]:
        accounts = {row.currency: row.available_balance["value"] for row in client.get_accounts().accounts}
        products = [row.product_id for row in client.get_products().products]
        tier = client.get_transaction_summary().fee_tier
        book = client.get_product_book("BTC-USD")
        return accounts, products, (tier["maker_fee_rate"], tier["taker_fee_rate"]), Decimal(book.spread_bps)

    accounts, products, fees, spread = await asyncio.to_thread(seen)
    assert (accounts, products, fees) == ({"USD": "5000", "BTC": "2"}, ["BTC-USD"], ("0.001", "0.002"))
    assert abs(spread - 50) < 1
    assert (await end(process))[0] == 0


async def test_data_folder_keeps_keys_and_certificate(tmp_path: Path) -> None:
    """A restart on the same folder and ports serves the same key and authority."""
    first = await start("--json", "--data-folder", str(tmp_path))
    before = await addresses(first)
    kept = {name: (tmp_path / name).read_bytes() for name in ("ca.pem", "api_key.json")}
    assert (await end(first))[0] == 0
    port = before["rest"].split(":")[1]
    second = await start("--json", "--data-folder", str(tmp_path), "--rest-port", port)
    after = await addresses(second)
    assert after["rest"] == before["rest"]
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert (await end(second))[0] == 0


async def test_a_killed_exchange_comes_back_with_its_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After kill -9 orders, fills, balances and holds are unchanged; a repeated id still returns its first order."""
    folder = tmp_path / "data"
    first = await start("--json", "--step", "--data-folder", str(folder))
    found = await addresses(first)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", found["ca_file"])

    def client(rest: str) -> RESTClient:
        return RESTClient(key_file=found["key_file"], base_url=rest, timeout=10)

    def trade(rest: str) -> None:
        official = client(rest)
        bought = official.market_order_buy("one", "BTC-USD", quote_size="1000")
        assert bought.success
        bracket = {"trigger_bracket_gtc": {"limit_price": "70000", "stop_trigger_price": "50000"}}
        official.limit_order_gtc_buy("two", "BTC-USD", "0.01", "60000", attached_order_configuration=bracket)
        official.trigger_bracket_order_gtc_sell("three", "BTC-USD", "0.01", "70000", "50000")
        late = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        official.limit_order_gtd_buy("four", "BTC-USD", "0.01", "60000.01", late)
        cancelled = official.limit_order_gtc_buy("five", "BTC-USD", "0.01", "59000")
        official.cancel_orders([cancelled.success_response["order_id"]])

    async def truth(
        found: dict[str, str],
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, dict[str, Decimal]]]:
        async with PaperControl(found) as control:
            return await control.orders(), await control.fills(), await control.balances()

    await asyncio.to_thread(trade, found["rest"])
    async with PaperControl(found) as control:
        await control.deposit("USD", "5")
        await control.product("ETH-USD", cancel_only=True)
    before = await truth(found)
    assert len(before[0]) == 6
    first.kill()
    await first.communicate()

    second = await start("--json", "--step", "--data-folder", str(folder), "--balance", "USD=1")
    again = await addresses(second)
    assert await truth(again) == before
    repeated = await asyncio.to_thread(client(again["rest"]).market_order_buy, "one", "BTC-USD", quote_size="1000")
    assert repeated.success_response["order_id"] == before[0][0]["order_id"]
    refused = await asyncio.to_thread(client(again["rest"]).market_order_buy, "six", "ETH-USD", quote_size="10")
    assert refused.error_response["error"] == "ORDER_ENTRY_DISABLED"
    async with PaperControl(again) as control:
        await control.set_price("BTC-USD", "59999.00", "59999.01")
        statuses = [order["status"] for order in await control.orders()]
        assert statuses == ["FILLED", "FILLED", "OPEN", "OPEN", "FILLED", "CANCELLED"]
        await control.set_price("BTC-USD", "49000.00", "49000.01")
        assert {order["status"] for order in await control.orders()} == {"FILLED", "CANCELLED"}
        assert all(row["hold"] == 0 for row in (await control.balances()).values())
    assert (await end(second))[0] == 0

    without = await start("--json", "--data-folder", str(folder), "--product", "ETH-USD")
    _, errors = await asyncio.wait_for(without.communicate(), SLACK * 20)
    assert without.returncode == 2
    assert "orders of BTC-USD" in errors.decode()
    (folder / "state.sqlite3").write_bytes(b"nothing of ours" * 100)
    broken = await start("--json", "--data-folder", str(folder))
    _, errors = await asyncio.wait_for(broken.communicate(), SLACK * 20)
    assert broken.returncode == 2
    assert "delete it to start afresh" in errors.decode()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--product", "NO-NO"], "Unknown product NO-NO"),
        (["--prices", "/none.csv"], "Cannot read /none.csv: No such file"),
        (["--products-file", "/none.json"], "Cannot read the products file"),
        (["--speed", "0"], "Speed must be above 0"),
        (["--speed", "nan"], "Speed must be above 0"),
        (["--rest-port", "99999"], "port must be from 0"),
        (["--depth", "0"], "depth is from 1"),
        (["--spread-bps", "0"], "spread is above 0"),
        (["--volatility", "nan"], "Volatility is a fraction"),
        (["--interval", "0"], "interval is from"),
        (["--balance", "USD"], "must look like USD=100000"),
        (["--balance", "USD=-1"], "must not be negative"),
        (["--balance", "USD=much"], "must be a decimal number"),
        (["--maker-fee", "2"], "fee is a fraction"),
        (["--prices", "/none.csv", "--live"], "not both"),
        (["--live", "--speed", "2"], "speed 1 only"),
        (["--fills", "hopeful"], "one of pessimistic, base, optimistic"),
        (["--data-folder", "/proc/none"], "as data folder"),
    ],
)
async def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    """No traceback, nothing on stdout, nothing half-started."""
    process = await start("--json", *arguments)
    output, errors = await asyncio.wait_for(process.communicate(), SLACK * 20)
    assert (process.returncode, output) == (2, b"")
    assert words in errors.decode()
    assert "Traceback" not in errors.decode()
    assert errors.decode().count("\n") == 1


async def test_port_in_use_is_said() -> None:
    """A port in use is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await start("--json", "--stream-port", str(port))
        output, errors = await asyncio.wait_for(process.communicate(), SLACK * 20)
    assert (process.returncode, output) == (2, b"")
    assert f"127.0.0.1:{port} for stream" in errors.decode()
