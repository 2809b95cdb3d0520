"""`bottrader stream` as a process: recordings from a paper exchange, and their checks."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from tests.support.waiting import SLACK

D = Decimal
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def paper() -> AsyncIterator[PaperExchange]:
    """A paper exchange with a market that moves by itself."""
    config = PaperConfig(
        products=["BTC-USD", "ETH-USD"],
        balances={"USD": D(1_000_000)},
        private_rate=0,
        connection_rate=0,
        message_rate=0,
    )
    async with PaperExchange(config) as paper:
        yield paper


async def start(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """`bottrader stream …` in its own process."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "stream", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **options,
    )  # fmt: skip


async def run(*arguments: str, given: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `bottrader stream …`."""
    process = await start(*arguments, stdin=asyncio.subprocess.PIPE)
    out, error = await asyncio.wait_for(process.communicate(given), SLACK * 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, with a deadline."""
    async with asyncio.timeout(SLACK * 20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


def content(file: Path) -> bytes:
    """The file's content so far."""
    return file.read_bytes() if file.exists() else b""


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The lines of a recording."""
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_a_market_recording_is_as_it_came_and_checks_out(paper: PaperExchange, tmp_path: Path) -> None:
    """Subscriptions first, then every frame in order; check finds no gap and both products' books."""
    out = tmp_path / "market.jsonl"
    code, _, error = await run(
        "record", "--channel", "ticker,trades,candles", "--channel", "level2", "--symbols", "BTC-USD,ETH-USD",
        "--url", paper.stream_url, "--out", str(out), "--messages", "40",
    )  # fmt: skip
    assert code == 0, error
    lines = lines_of(out)
    assert [line["sent"]["channel"] for line in lines[:5]] == [
        "ticker",
        "market_trades",
        "candles",
        "level2",
        "heartbeats",
    ]
    assert [line["received"]["sequence_num"] for line in lines[5:]] == list(range(40))
    code, report, error = await run("check", str(out), "--json")
    assert code == 0, error
    found = json.loads(report)
    assert found["messages"] == 40
    assert set(found["counts"].values()) == {0}
    for symbol in ("BTC-USD", "ETH-USD"):
        item = found["products"][symbol]
        assert item["book_complete"]
        assert D(item["best_bid"]) < D(item["best_ask"])
    code, text, _ = await run("check", str(out))
    assert code == 0
    assert "BTC-USD" in text
    assert "0 gaps" in text


async def test_a_user_recording_masks_its_token_and_shows_the_fills(paper: PaperExchange, tmp_path: Path) -> None:
    """Ctrl-C ends a recording properly; the token is not in it, and the fills are those of the exchange."""
    out = tmp_path / "user.jsonl"
    async with PaperControl(paper.addresses()) as control:
        recording = await start(
            "record", "--channel", "user", "--url", paper.user_stream_url, "--key-file", str(paper.key_file),
            "--out", str(out),
        )  # fmt: skip
        await until(lambda: b'"snapshot"' in content(out))
        await control.set_price("BTC-USD", "50000", "50010")
        order = await control.order(
            "BTC-USD", "BUY", {"limit_limit_gtc": {"base_size": "0.3", "limit_price": "40000", "post_only": False}}
        )
        await control.fill(order["order_id"], "0.1")
        await control.fill(order["order_id"], "0.2", "39000")
        await until(lambda: b"FILLED" in content(out))
        recording.send_signal(signal.SIGINT)
        _, error = await asyncio.wait_for(recording.communicate(), SLACK * 20)
    assert recording.returncode == 0, error
    assert b'"jwt":"***"' in out.read_bytes()
    code, report, _ = await run("check", str(out), "--json")
    assert code == 0
    found = json.loads(report)
    assert found["snapshot"]["complete"]
    fills = found["orders"][order["order_id"]]["fills"]
    assert [(fill["size"], fill["price"]) for fill in fills] == [("0.1", "40000"), ("0.2", "39000")]
    assert found["orders"][order["order_id"]]["status"] == "FILLED"


async def test_a_recording_goes_on_after_a_lost_connection(paper: PaperExchange, tmp_path: Path) -> None:
    """Two connections in one file: the check distinguishes them and finds nothing missing."""
    out = tmp_path / "market.jsonl"
    async with PaperControl(paper.addresses()) as control:
        recording = await start(
            "record", "--channel", "ticker", "--symbols", "BTC-USD", "--url", paper.stream_url, "--out", str(out)
        )
        ticker = b'"channel":"ticker","timestamp"'
        await until(lambda: content(out).count(ticker) >= 2)
        await control.sockets("drop", "market")
        await until(lambda: ticker in content(out).partition(b"disconnected")[2])
        recording.send_signal(signal.SIGTERM)
        _, error = await asyncio.wait_for(recording.communicate(), SLACK * 20)
    assert recording.returncode == 0, error
    assert b"disconnected" in error
    _, report, _ = await run("check", str(out), "--json")
    found = json.loads(report)
    assert found["connections"] == 2
    assert found["counts"]["gaps"] == 0


async def test_broken_frames_are_kept_and_counted(paper: PaperExchange, tmp_path: Path) -> None:
    """A truncated frame is in the recording as text, and the check names its line."""
    out = tmp_path / "market.jsonl"
    async with PaperControl(paper.addresses()) as control:
        await control.fault("malformed", "ticker", count=1, skip=1)
        code, _, error = await run(
            "record", "--channel", "ticker", "--symbols", "BTC-USD", "--url", paper.stream_url, "--out", str(out),
            "--messages", "20",
        )  # fmt: skip
    assert code == 0, error
    (broken,) = [number for number, line in enumerate(lines_of(out), 1) if isinstance(line.get("received"), str)]
    _, report, _ = await run("check", "-", "--json", given=out.read_bytes())
    found = json.loads(report)
    assert [item["line"] for item in found["malformed"]] == [broken]


async def test_a_cut_last_line_is_malformed(tmp_path: Path) -> None:
    """A recording whose writer was killed is read up to its end."""
    good = {"received": {"channel": "status", "timestamp": "2026-08-09T21:05:48Z", "sequence_num": 0, "events": []}}
    text = (json.dumps(good) + "\n").encode()
    code, report, _ = await run("check", "-", "--json", given=text + text[:40])
    assert code == 0
    found = json.loads(report)
    assert (found["messages"], found["counts"]["malformed"], found["malformed"][0]["line"]) == (1, 1, 2)


@pytest.mark.parametrize("symbols", ["NOPE-USD", "BTC-USD,NOPE-USD"])
async def test_an_unknown_product_ends_the_recording(paper: PaperExchange, tmp_path: Path, symbols: str) -> None:
    """The exchange's own message and what to do, at once, and no file without a message in it."""
    out = tmp_path / "nope.jsonl"
    code, _, error = await run(
        "record", "--channel", "ticker,book", "--symbols", symbols, "--url", paper.stream_url, "--out", str(out),
        "--seconds", "50",
    )  # fmt: skip
    assert (code, out.exists()) == (2, False)
    assert error.splitlines()[-1] == "error: The exchange says: NOPE-USD is not a valid product; check --symbols."


async def test_a_recording_that_is_only_refused_gives_up(paper: PaperExchange, tmp_path: Path) -> None:
    """A key that the exchange does not know is tried five times, and its message is the reason."""
    out = tmp_path / "user.jsonl"
    async with PaperExchange(PaperConfig(products=["BTC-USD"])) as other:
        code, _, error = await run(
            "record", "--channel", "user", "--url", paper.user_stream_url, "--key-file", str(other.key_file),
            "--out", str(out), "--seconds", "50",
        )  # fmt: skip
    assert (code, out.exists()) == (3, False)
    assert "No message was received after 5 tries: the venue refused the subscription: authentication failure." in error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "no-such-file.jsonl"], 2, "no-such-file.jsonl can't be read: No such file or directory"),
        (["check", "."], 2, "can't be read"),
        (["record", "--channel", "level3", "--out", "x"], 2, "There is no channel level3"),
        (["record", "--channel", "ticker", "--out", "x"], 2, "--symbols"),
        (["record", "--channel", "user,ticker", "--out", "x"], 2, "its own connection"),
        (["record", "--channel", "ticker", "--symbols", "A-B", "--out", "pyproject.toml"], 2, "--force"),
        (["record", "--channel", "ticker", "--symbols", "A-B", "--out", "no/such/folder/x", "--url", "ws://127.0.0.1:9"],
         2, "can't be written"),
        (["record", "--channel", "ticker", "--symbols", "A-B", "--out", "-", "--url", "http://127.0.0.1:9"], 2, "wss://"),
        (["record", "--channel", "user", "--out", "-", "--url", "ws://127.0.0.1:9"], 2, "API key"),
        (["record", "--channel", "user", "--out", "-", "--url", "ws://127.0.0.1:9", "--key-file", "no.json"], 2,
         "can't be read"),
        (["record", "--channel", "ticker", "--symbols", "A-B", "--out", "-", "--url", "ws://127.0.0.1:9"], 3,
         "No message was received after 5 tries"),
    ],
)  # fmt: skip
async def test_bad_input_is_a_sentence(arguments: list[str], code: int, words: str) -> None:
    """The error and what to do, an exit code by its kind, and no traceback."""
    found, _, error = await run(*arguments)
    assert (found, "Traceback" in error) == (code, False)
    assert words in error
    assert error.strip().splitlines()[-1].startswith("error: ")
