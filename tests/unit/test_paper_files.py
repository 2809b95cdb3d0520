"""Price files: their ticks, and one clear sentence for each kind of error."""

import gzip
import itertools
import json
from decimal import Decimal
from pathlib import Path

import pytest

from exchange.paper.config import Generated, PriceFile
from exchange.paper.errors import PaperError
from exchange.paper.files import FileTicks, symbols_of
from exchange.paper.market import GeneratedTicks
from exchange.paper.products import bundled, choose, load

PRODUCTS = choose(bundled(), ["BTC-USD", "ETH-USD"])
CANDLES = """time,open,high,low,close,volume
2022-01-01T00:00:00Z,100,110,90,105,5
2022-01-01T00:01:00Z,105,106,95,96,5
2022-01-01T00:02:00Z,96,97,95,97,5
"""


def write(folder: Path, text: str, name: str = "prices.csv") -> Path:
    """A file with `text`, gzipped if its name says so."""
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def feed(path: Path, *symbols: str, history_rows: int = 0) -> FileTicks:
    """Ticks of a file for the named products."""
    return FileTicks(PRODUCTS, PriceFile(path, symbols_of(symbols), history_rows))


@pytest.mark.parametrize("name", ["prices.csv", "prices.csv.gz"])
def test_candles_become_their_path(tmp_path: Path, name: str) -> None:
    """A rising candle becomes open, low, high, close, a falling one open, high, low, close, in quarters of its time."""
    ticks = list(feed(write(tmp_path, CANDLES, name), "BTC-USD").ticks())
    assert [int(tick.price) for tick in ticks] == [100, 90, 110, 105, 105, 106, 95, 96, 96, 95, 97, 97]
    assert [tick.at for tick in ticks[:6]] == [0, 15, 30, 45, 60, 75]


def test_one_file_feeds_several_products(tmp_path: Path) -> None:
    """The first product has the file's prices, others start at their reference price or with their own scale."""
    source = feed(write(tmp_path, CANDLES), "BTC-USD", "ETH-USD")
    assert source.first_prices() == {"BTC-USD": Decimal(100), "ETH-USD": PRODUCTS["ETH-USD"].price}
    scaled = feed(write(tmp_path, CANDLES), "BTC-USD", "ETH-USD=0.5")
    assert scaled.first_prices()["ETH-USD"] == 50
    assert [(t.product_id, t.price) for t in itertools.islice(scaled.ticks(), 2)] == [
        ("BTC-USD", Decimal(100)),
        ("ETH-USD", Decimal("50.0")),
    ]


def test_head_of_the_file_as_history(tmp_path: Path) -> None:
    """History rows become candles before the start, and the ticks start after them."""
    source = feed(write(tmp_path, CANDLES), "BTC-USD", history_rows=2)
    assert [(bar.start, bar.close) for bar in source.history()["BTC-USD"]] == [(-120, Decimal(105)), (-60, Decimal(96))]
    assert next(source.ticks()).price == 96


def test_ticks_with_symbols_and_sizes(tmp_path: Path) -> None:
    """A tick file may name its products and sizes; Unix seconds and RFC 3339 are both accepted as times."""
    text = "time,price,size,symbol\n1640995200,100,2,BTC-USD\n2022-01-01T00:00:01Z,50,,ETH-USD\n"
    ticks = list(feed(write(tmp_path, text)).ticks())
    assert [(t.at, t.product_id, t.price, t.size) for t in ticks] == [
        (0.0, "BTC-USD", Decimal(100), Decimal(2)),
        (1.0, "ETH-USD", Decimal(50), None),
    ]


def test_recorded_stream(tmp_path: Path) -> None:
    """A recording is replayed by its trades; a product without trades in it by its tickers."""

    def message(second: int, channel: str, items: str, **item: str) -> str:
        event = {"type": "update", items: [item]}
        stamp = f"2026-08-09T21:05:{second:02d}.000000001Z"
        return json.dumps({"received": {"channel": channel, "timestamp": stamp, "sequence_num": 0, "events": [event]}})

    lines = [
        json.dumps({"sent": {"type": "subscribe"}}),
        message(48, "market_trades", "trades", product_id="BTC-USD", price="65083.67", size="0.01"),
        message(49, "ticker", "tickers", product_id="BTC-USD", price="1"),
        message(50, "ticker", "tickers", product_id="ETH-USD", price="1919.41"),
    ]
    ticks = list(feed(write(tmp_path, "\n".join(lines), "stream.jsonl")).ticks())
    assert [(t.at, t.product_id, t.price, t.size) for t in ticks] == [
        (0, "BTC-USD", Decimal("65083.67"), Decimal("0.01")),
        (2, "ETH-USD", Decimal("1919.41"), None),
    ]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "PRICE_FILE_EMPTY", "is empty"),
        ("time,open,high,low,close\n", "PRICE_FILE_EMPTY", "has no rows"),
        ("open,high,low,close\n1,1,1,1\n", "PRICE_FILE_COLUMN", "no column time"),
        ("time,open,high,close\n1,1,1,1\n", "PRICE_FILE_COLUMN", "no column low"),
        (CANDLES[:-12], "PRICE_FILE_ROW", "line 4: .* fields instead of 6"),
        (CANDLES.replace(",96,97,", ",x,97,"), "PRICE_FILE_ROW", "line 4: open 'x' is not a positive number"),
        (CANDLES.replace("105,106", "105,104"), "PRICE_FILE_ROW", "line 3: open and close must lie within"),
        (CANDLES.replace("00:02", "00:01"), "PRICE_FILE_ORDER", "line 4: candle times must rise"),
        (CANDLES.replace("2022-01-01T00:02:00Z", "later"), "PRICE_FILE_ROW", "line 4: 'later' is not a time"),
        ("time,price\n1," + "9" * 200_000 + "\n", "PRICE_FILE_ROW", "line 2: not CSV"),
        ("time,price\n1,-5\n", "PRICE_FILE_ROW", "line 2: price '-5' is not a positive number"),
        ("time,price\n2,5\n1,5\n", "PRICE_FILE_ORDER", "line 3: times must not go back"),
        ("time,price,symbol\n1,5,NO-NO\n", "UNKNOWN_PRODUCT", "line 2: unknown product NO-NO"),
        ('{"received":{"channel":"ticker"\n', "PRICE_FILE_ROW", "line 1: not a stream message"),
        ('{"channel":"heartbeats"}\n', "PRICE_FILE_EMPTY", "no ticker or trade"),
    ],
)
def test_wrong_files_are_one_sentence(tmp_path: Path, text: str, code: str, words: str) -> None:
    """The message has the error and its line."""
    with pytest.raises(PaperError, match=words) as wrong:
        feed(write(tmp_path, text))
    assert wrong.value.code == code


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    """A truncated gzip, a binary and a missing file are distinguished."""
    whole = write(tmp_path, CANDLES, "whole.csv.gz").read_bytes()
    for cut in (whole[:-9], whole[:30], whole[:40] + b"\x00" * 8 + whole[48:]):
        (tmp_path / "cut.csv.gz").write_bytes(cut)
        with pytest.raises(PaperError, match=r"cut\.csv\.gz is truncated or damaged"):
            feed(tmp_path / "cut.csv.gz")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PaperError, match="is not text"):
        feed(tmp_path / "binary.csv")
    with pytest.raises(PaperError, match=r"Cannot read .*none\.csv: No such file"):
        feed(tmp_path / "none.csv")


def test_wrong_choices(tmp_path: Path) -> None:
    """Unknown products, wrong scales and too much history are refused."""
    path = write(tmp_path, CANDLES)
    with pytest.raises(PaperError, match="Unknown product NO-NO"):
        feed(path, "NO-NO")
    with pytest.raises(PaperError, match="scale must be a positive number"):
        symbols_of(["BTC-USD=-1"])
    with pytest.raises(PaperError, match="has 3 rows"):
        feed(path, history_rows=3)


def test_generated_market_is_its_seed() -> None:
    """The same seed gives the same ticks, another one different ticks; volatility is per product."""

    def prices(seed: int, settings: Generated) -> list[Decimal]:
        source = GeneratedTicks(PRODUCTS, settings, seed, speed=60)
        return [tick.price for tick in itertools.islice(source.ticks(), 200)]

    calm = Generated(volatility={"BTC-USD": 0.0, "ETH-USD": 0.01}, jumps_per_hour=0)
    assert prices(1, calm) == prices(1, calm) != prices(2, calm)
    assert len(set(prices(1, calm)[::2])) == 1
    assert len(set(prices(1, calm)[1::2])) > 50


def test_products_from_a_file(tmp_path: Path) -> None:
    """A products file in the venue's format is read with its flags; a wrong one is named."""
    row = {
        "product_id": "USDT-USDC", "price": "0.9993", "base_increment": "0.01", "quote_increment": "0.0001",
        "price_increment": "0.0001", "base_min_size": "0.01", "base_max_size": "10000550.03", "quote_min_size": "1",
        "quote_max_size": "10000000", "limit_only": True, "status": "online", "alias_to": [],
    }  # fmt: skip
    path = tmp_path / "products.json"
    path.write_text(json.dumps({"products": [row]}), encoding="utf-8")
    assert load(path)["USDT-USDC"].limit_only
    path.write_text(json.dumps({"products": [{**row, "price": "cheap"}]}), encoding="utf-8")
    with pytest.raises(PaperError, match="price is 'cheap'"):
        load(path)
    with pytest.raises(PaperError, match="Cannot read"):
        load(tmp_path / "none.json")
    with pytest.raises(PaperError, match="Unknown product NO-NO"):
        choose(bundled(), ["NO-NO"])
