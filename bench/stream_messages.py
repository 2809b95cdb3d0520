"""Rate of parsed and routed stream messages, compared with a raw `websockets` + `json` loop over a loopback socket.

A server in its own process sends prepared messages as fast as the reader accepts them. The floor receives each frame
and calls `json.loads`; ours is the production stream: reconnecting connection, sequence check, parser, typed events,
each passed to a consumer that looks it up by symbol. Rounds alternate, so that both run under the same load.

Aim: at least 0.5 × the floor's rate.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from exchange.coinbase.streams import CoinbaseSession
from exchange.port import Disconnected, Gap, MalformedMessage, OrderEvent, Ticker
from exchange.streams import ReconnectingStream, ReconnectSettings, StreamStats

__all__ = ["run"]

MESSAGES = 20_000
ROUNDS = 5
STAMP = "2026-08-09T21:05:48.298032046Z"


def ticker(sequence: int) -> str:
    """A ticker message of the shape and size of a recorded one."""
    row = {
        "type": "ticker", "product_id": ("BTC-USD", "ETH-USD")[sequence % 2], "price": "65086.18",
        "volume_24_h": "2867.54532609", "low_24_h": "64675.22", "high_24_h": "65252.99", "low_52_w": "57717.55",
        "high_52_w": "126296", "price_percent_chg_24_h": "0.09601107287722", "best_bid": "65083.66",
        "best_ask": "65083.67", "best_bid_quantity": "0.20371215", "best_ask_quantity": "0.24290402",
    }  # fmt: skip
    return _message("ticker", sequence, {"type": "update", "tickers": [row]})


def user(sequence: int) -> str:
    """An update of one order, with all the fields of the user channel."""
    row = {
        "avg_price": "65083.66", "cancel_reason": "", "client_order_id": f"{sequence:032x}-1",
        "completion_percentage": "42.5", "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE",
        "cumulative_quantity": "0.0425", "filled_value": "2766.05555", "leaves_quantity": "0.0575",
        "limit_price": "65083.66", "number_of_fills": "3", "order_id": "6f1f3c52-0f2b-5b0a-9a3e-6c1f8f6f0b7a",
        "order_side": "BUY", "order_type": "LIMIT", "outstanding_hold_amount": "3750.21", "post_only": "true",
        "product_id": "BTC-USD", "product_type": "SPOT", "reject_Reason": "",
        "retail_portfolio_id": "4f0c7e0a-2c7b-4f0e-8f0b-1d6f0f6d9a21",
        "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE", "status": "OPEN", "stop_price": "",
        "time_in_force": "GOOD_UNTIL_CANCELLED", "total_fees": "11.0642222",
        "total_value_after_fees": "2777.1197722", "trigger_status": "INVALID_ORDER_TYPE", "creation_time": STAMP,
        "end_time": "0001-01-01T00:00:00Z", "start_time": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    return _message("user", sequence, {"type": "update", "orders": [row]})


def _message(channel: str, sequence: int, event: dict[str, Any]) -> str:
    return json.dumps({"channel": channel, "timestamp": STAMP, "sequence_num": sequence, "events": [event]})


def _serve(pipe: Connection, count: int) -> None:
    """The sending process: all messages of the kind named in the path, after the client's first message."""
    prepared = {"/ticker": [ticker(number) for number in range(count)], "/user": [user(n) for n in range(count)]}

    async def send(connection: ServerConnection) -> None:
        await connection.recv()
        assert connection.request is not None
        for text in prepared[connection.request.path]:
            await connection.send(text)
        await connection.wait_closed()

    async def main() -> None:
        async with serve(send, "127.0.0.1", 0, compression=None) as server:
            pipe.send(next(iter(server.sockets)).getsockname()[1])
            await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


async def _floor(url: str, count: int) -> float:
    """Messages a second of the raw loop."""
    async with connect(url, compression=None, max_queue=1024) as connection:
        await connection.send("go")
        json.loads(await connection.recv())
        began = time.perf_counter()
        for _ in range(count - 1):
            json.loads(await connection.recv())
        return (count - 1) / (time.perf_counter() - began)


async def _ours(url: str, count: int) -> float:
    """Messages a second of the production stream, each event routed."""
    stats = StreamStats()
    channel = url.rpartition("/")[2]
    stream = ReconnectingStream(
        url,
        lambda: CoinbaseSession([channel], ["BTC-USD", "ETH-USD"], None, stats),
        settings=ReconnectSettings(),
        stats=stats,
    )
    routes: dict[str, int] = {"BTC-USD": 0, "ETH-USD": 0}
    await anext(stream)  # Connected
    await anext(stream)
    began, routed = time.perf_counter(), 1
    async for event in stream:
        match event:
            case Ticker(symbol=symbol):
                routes[symbol] += 1
            case OrderEvent(order=order):
                routes[order.symbol] += 1
            case Gap() | MalformedMessage() | Disconnected():
                raise AssertionError(f"the benchmark's own stream is broken: {event}")
            case _:
                continue
        routed += 1
        if routed == count:
            break
    took = time.perf_counter() - began
    await stream.aclose()
    assert sum(routes.values()) == count - 1
    return (count - 1) / took


async def run(messages: int = MESSAGES, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Rates in messages a second: one row per kind of message, medians over the rounds, with the ratio to the floor."""
    ours_end, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, messages), daemon=True)
    process.start()
    try:
        port = await asyncio.to_thread(ours_end.recv)
        rows = []
        for kind in ("ticker", "user"):
            url = f"ws://127.0.0.1:{port}/{kind}"
            floors, rates = [], []
            for _ in range(rounds):
                floors.append(await _floor(url, messages))
                rates.append(await _ours(url, messages))
            floor, rate = statistics.median(floors), statistics.median(rates)
            ratio = statistics.median(rate / floor for rate, floor in zip(rates, floors, strict=True))
            rows.append(
                {
                    "what": f"stream message → parsed and routed ({kind})",
                    "unit": "messages/s",
                    "floor": round(floor),
                    "ours": round(rate),
                    "ratio": round(ratio, 2),
                    "aim": ">= 0.5",
                    "ok": ratio >= 0.5,
                }
            )
        return rows
    finally:
        ours_end.send("done")
        await asyncio.to_thread(process.join, 5)
        if process.is_alive():
            process.terminate()


def main() -> None:
    """Print the rows."""
    for row in asyncio.run(run()):
        print(
            f"{row['what']}: floor {row['floor']:,} {row['unit']}, ours {row['ours']:,}, "
            f"ratio {row['ratio']} (aim {row['aim']})"
        )


if __name__ == "__main__":
    main()
