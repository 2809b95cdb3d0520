"""The generated history of the paper exchange, and where it meets trading after the start."""

import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from domain.indicators import Block, scan
from domain.strategies import WeightedRules
from exchange.paper.candles import CandleStore, Pace, PaperCandle
from exchange.paper.config import Generated, PaperConfig, PriceFile
from exchange.paper.files import FileTicks
from exchange.paper.market import GeneratedTicks, Market, TickSource
from exchange.paper.products import PaperProduct, bundled, choose
from exchange.paper.venue import PaperVenue

PRODUCTS = choose(bundled(), ["BTC-USD", "XRP-USD", "DOGE-USD", "PEPE-USD"])
HOUR = 3600.0


def traded(source: TickSource, config: PaperConfig, seconds: float) -> PaperVenue:
    """A venue on which `source` has traded for this many market seconds since its start."""
    venue = PaperVenue(config, PRODUCTS, source.pace)
    market = Market(venue, source)
    while venue.stepped < seconds:
        market.step(100)
    return venue


def volume_readings(bars: dict[str, list[PaperCandle]]) -> list[float]:
    """The indicator's reading of each symbol's newest candle: a multiple of the usual volume."""

    def column(name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array([[float(getattr(bar, name)) for bar in found] for found in bars.values()])

    block = Block(tuple(bars), column("open"), column("high"), column("low"), column("close"), column("volume"))
    return [float(value) for value in scan(block).values["volume"]]


@pytest.mark.parametrize("seconds", [60, 300])
@pytest.mark.parametrize(("seed", "speed"), [(1, 1), (2, 4)])
def test_volume_is_unremarkable_where_history_and_market_meet(seed: int, speed: int, seconds: int) -> None:
    """From the first candle after a new start to the 25th no symbol has a volume spike."""
    config = PaperConfig(seed=seed, step=True)
    venue = traded(GeneratedTicks(PRODUCTS, Generated(interval=2), seed, speed), config, 25 * seconds)
    now = venue.market_time()
    found = {name: store.bars(seconds, now - 130 * seconds, now - seconds) for name, store in venue.candles.items()}
    readings = [
        reading
        for end in range(80, min(len(bars) for bars in found.values()) + 1)
        for reading in volume_readings({name: bars[end - 80 : end] for name, bars in found.items()})
    ]
    assert len(readings) > 100
    assert max(readings) < WeightedRules().volume_multiple
    assert 0.8 < sum(readings) / len(readings) < 1.2


def test_old_and_recent_history_are_of_one_kind() -> None:
    """Where generated minutes end and generated five minutes begin, five-minute candles look the same."""
    store = CandleStore(
        PRODUCTS["BTC-USD"], 1_800_000_123.0, seed=1, volatility=0.0006, pace=lambda: Pace(0.25, 25_000)
    )
    bars = store.bars(300)
    assert [bar.start for bar in bars] == list(range(bars[0].start, bars[0].start + 300 * len(bars), 300))
    values = [float(bar.volume * bar.close) for bar in bars]
    assert 0.9 < sum(values[-50:-1]) / sum(values[-200:-151]) < 1.1
    spans = [float((bar.high - bar.low) / bar.close) for bar in bars]
    assert 0.5 < sum(spans[-50:-1]) / sum(spans[-200:-151]) < 2


@pytest.mark.parametrize("sized", [False, True])
def test_volume_of_a_file_meets_its_history(tmp_path: Path, sized: bool) -> None:
    """A file's ticks set the volume of the history before them, by their frequency and size."""
    dice = random.Random(5)
    rows = [f"{1_600_000_000 + 2 * at},100{f',{dice.uniform(0.5, 1.5):.3f}' if sized else ''}" for at in range(2000)]
    path = tmp_path / "ticks.csv"
    path.write_text("\n".join([f"time,price{',size' if sized else ''}", *rows]), encoding="utf-8")
    config = PaperConfig(step=True, tick_value=Decimal(25_000))
    venue = traded(FileTicks(PRODUCTS, PriceFile(path)), config, 0.8 * HOUR)
    bars = venue.candles["BTC-USD"].bars(60)
    before, after = bars[-90:-60], bars[-30:-1]
    assert 0.7 < float(volume(after) / volume(before)) < 1.4


def volume(bars: Sequence[PaperCandle]) -> Decimal:
    """The volume traded in all of them, in base."""
    return sum((bar.volume for bar in bars), Decimal(0))


def test_bars_are_on_the_products_grid_and_the_seeds_own() -> None:
    """Prices and volumes are whole increments, highs and lows are correct, and the same seed makes the same history."""
    for product in PRODUCTS.values():

        def store(seed: int, product: PaperProduct = product) -> CandleStore:
            return CandleStore(product, 1_800_000_000.0, seed=seed, volatility=0.01, pace=lambda: Pace(15, 25_000))

        bars = store(1).bars(60)
        assert bars == store(1).bars(60) != store(2).bars(60)
        for bar in bars:
            assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            assert all(price % product.price_increment == 0 for price in (bar.open, bar.high, bar.low, bar.close))
            assert bar.volume % product.base_increment == 0


def test_a_range_has_the_bars_that_begin_within_it() -> None:
    """A requested range is a part of the whole, and the day's values equal those of its candles."""
    now = 1_800_000_000.0
    store = CandleStore(PRODUCTS["BTC-USD"], now, seed=1, volatility=0.001, pace=lambda: Pace(1, 25_000))
    for at in range(600):
        store.add(now + at, Decimal(65_000 + at), Decimal("0.1"))
    whole = store.bars(300)
    for start, end in ((now - 7_000, now + 300), (now - 6_900, now), (now, now + 299.5)):
        assert store.bars(300, start, end) == [bar for bar in whole if start <= bar.start <= end]
    day = store.day(now + 600)
    bars = [bar for bar in store.bars(60) if bar.start > now + 600 - 86_400]
    assert (day.low, day.high) == (min(bar.low for bar in bars), max(bar.high for bar in bars))
    assert day.volume == volume(bars)
