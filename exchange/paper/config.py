"""The configuration of a paper exchange. Everything has a default; durations are in seconds of wall time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from exchange.paper.errors import PaperError
from exchange.paper.faults import Fault
from exchange.paper.fills import BASE, OPTIMISTIC, FillRule
from exchange.paper.numbers import plain

__all__ = [
    "COINBASE",
    "CRYPTOCOM",
    "DEFAULT_VOLATILITY",
    "LIVE_REST",
    "LIVE_URL",
    "VENUES",
    "Generated",
    "Live",
    "PaperConfig",
    "PriceFile",
    "check",
]

COINBASE, CRYPTOCOM = "coinbase", "cryptocom"
VENUES = (COINBASE, CRYPTOCOM)

DEFAULT_VOLATILITY = 0.0006
LIVE_URL = "wss://advanced-trade-ws.coinbase.com"
LIVE_REST = "https://api.coinbase.com/api/v3/brokerage"
_LAST_PORT = 65_535
_DEEPEST = 100_000
_WIDEST_BPS = 2_000
_SHORTEST_INTERVAL = 0.001
_LONGEST_INTERVAL = 3_600.0


@dataclass(frozen=True, slots=True)
class Generated:
    """A seeded market: a geometric random walk with jumps.

    `volatility` is the standard deviation of a market minute's return (a fraction), one for all or by product;
    `jumps_per_hour` jumps of standard deviation `jump_size` are added; `interval` is the time between a product's
    ticks.
    """

    volatility: float | Mapping[str, float] = DEFAULT_VOLATILITY
    drift_per_hour: float = 0.0
    jumps_per_hour: float = 1.0
    jump_size: float = 0.01
    interval: float = 0.25


@dataclass(frozen=True, slots=True)
class PriceFile:
    """Prices from a file: candles, ticks or a recorded stream, recognised by their content.

    `symbols` names the products that the file feeds, each with a scale (None: so that the product starts at its
    reference price); empty means every product, the first unscaled (or, with a `symbol` column, those it names).
    `history_rows` candles at the file's head become candle history instead of ticks.
    """

    path: Path
    symbols: Mapping[str, Decimal | None] = field(default_factory=dict)
    history_rows: int = 0


@dataclass(frozen=True, slots=True)
class Live:
    """The venue's real public prices over its public stream; needs a network, and speed 1.

    `rest` is the source of earlier candles; None: there are none, and indicators wait for new ones.
    """

    url: str = LIVE_URL
    rest: str | None = LIVE_REST


Source = Generated | PriceFile | Live


@dataclass(frozen=True, slots=True)
class PaperConfig:
    """Settings of one paper exchange.

    Ports: 0 takes a free one. With a `data_folder` keys, certificate authority and certificate are kept and reused, and
    so is the account: orders, fills, balances, last prices (`state.sqlite3`; delete it to start afresh); `balances`
    then applies to a new account only. `speed` is market seconds per wall second. `step` stops the market until it is
    told to move. `host` is for REST and streams; the control interface stays on loopback. Rates are requests per
    second, 0 for no limit. `spread_bps` is the quoted spread; `tick_value` the largest quote value that trades in one
    tick of a source. `accept_latency` and `cancel_latency` delay the effect of an order and of a cancel; None holds it
    until released over the control interface. `merge_updates` sends one user message for all changes that one event
    made to an order (as the venue often does); off, each fill has its own. `fills` is how orders fill; None: base on
    live prices, else optimistic. `fills_in_quote` reports the fills of orders sized in quote over REST as the venue
    sometimes does: `size_in_quote` true and the size in quote currency, to 16 places. `fractional` spends a buy sized
    in quote completely, in a last fill below the base increment, as the venue does. `trade_batch` and `depth_batch` are
    the shortest times between two messages of a product on market_trades and level2 (0: at once).
    """

    venue: str = COINBASE
    """The exchange whose protocol it speaks."""
    host: str = "127.0.0.1"
    rest_port: int = 0
    stream_port: int = 0
    control_port: int = 0
    data_folder: Path | None = None
    seed: int = 1
    products: Sequence[str] | None = None
    products_file: Path | None = None
    balances: Mapping[str, Decimal] = field(default_factory=lambda: {"USD": Decimal(100_000)})
    maker_fee: Decimal = Decimal("0.004")
    taker_fee: Decimal = Decimal("0.006")
    product_fees: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """Maker and taker rates of products that have their own, as fractions."""
    private_rate: int = 30
    public_rate: int = 10
    connection_rate: int = 8
    message_rate: int = 8
    speed: float = 1.0
    step: bool = False
    source: Source = field(default_factory=Generated)
    spread_bps: Decimal = Decimal(2)
    depth: int = 25
    level_value: Decimal = Decimal(20_000)
    gap_bps: Decimal = Decimal(1)
    tick_value: Decimal = Decimal(25_000)
    accept_latency: float | None = 0.0
    cancel_latency: float | None = 0.0
    waiting_status: str = "PENDING"
    merge_updates: bool = True
    fills: FillRule | None = None
    fills_in_quote: bool = False
    fractional: bool = True
    trade_batch: float = 0.25
    depth_batch: float = 0.05
    subscribe_within: float = 5.0
    idle_close: float = 90.0
    heartbeat_every: float = 30.0
    """Seconds between two heartbeats on a stream, where the client has to answer them."""
    heartbeat_within: float = 5.0
    """Seconds in which a client answers a heartbeat; else its connection is closed."""
    faults: Sequence[Fault] = ()

    @property
    def rule(self) -> FillRule:
        """How orders fill."""
        return self.fills or (BASE if isinstance(self.source, Live) else OPTIMISTIC)

    def about(self) -> str:
        """The source of prices, the fill rule and the fees, in a line for people (PAPER-4)."""
        match self.source:
            case Live(url=url):
                prices = f"live prices of {url}"
            case PriceFile(path=path):
                prices = f"recorded prices of {path.name}"
            case _:
                prices = "generated prices"
        fees = f"{plain(self.maker_fee * 100)} % as maker, {plain(self.taker_fee * 100)} % as taker"
        return f"Paper money on {prices}. Fills, {self.rule.name}: {self.rule.sentence}. Fees: {fees}."


def check(config: PaperConfig) -> None:
    """Raises `PaperError` for the first invalid setting."""
    _check_venue(config)
    if not 0 < config.speed <= 100_000:
        raise PaperError("BAD_SPEED", f"Speed must be above 0 and at most 100000, not {config.speed}.")
    for name, rate in (("maker", config.maker_fee), ("taker", config.taker_fee)):
        if not 0 <= rate < 1:
            raise PaperError("BAD_FEE", f"The {name} fee is a fraction of at least 0 and below 1, not {rate}.")
    for name, port in (("REST", config.rest_port), ("stream", config.stream_port), ("control", config.control_port)):
        if not 0 <= port <= _LAST_PORT:
            raise PaperError("BAD_PORT", f"The {name} port must be from 0 (any) to {_LAST_PORT}, not {port}.")
    if not 1 <= config.depth <= _DEEPEST:
        raise PaperError("BAD_DEPTH", f"The book's depth is from 1 to {_DEEPEST} levels a side, not {config.depth}.")
    if not 0 < config.spread_bps <= _WIDEST_BPS:
        raise PaperError("BAD_SPREAD", f"The spread is above 0 and at most {_WIDEST_BPS} bp, not {config.spread_bps}.")
    if isinstance(config.source, Generated):
        _check_generated(config.source)
    if isinstance(config.source, Live) and config.speed != 1:
        raise PaperError("LIVE_SPEED", "Live prices run at speed 1 only.")
    if any(amount < 0 for amount in config.balances.values()):
        raise PaperError("BAD_BALANCE", "A starting balance must not be negative.")


def _check_venue(config: PaperConfig) -> None:
    if config.venue not in VENUES:
        raise PaperError("BAD_VENUE", f"The venue is one of {', '.join(VENUES)}, not {config.venue}.")
    if isinstance(config.source, Live) and config.venue != COINBASE:
        raise PaperError("LIVE_VENUE", "Live prices are Coinbase's: a paper exchange of another venue can't have them.")


def _check_generated(source: Generated) -> None:
    volatility = source.volatility
    values = [volatility] if isinstance(volatility, float | int) else list(volatility.values())
    if not all(0 <= value < 1 for value in values):
        raise PaperError("BAD_VOLATILITY", "Volatility is a fraction of at least 0 and below 1.")
    if not _SHORTEST_INTERVAL <= source.interval <= _LONGEST_INTERVAL:
        raise PaperError(
            "BAD_INTERVAL",
            f"The interval is from {_SHORTEST_INTERVAL} to {_LONGEST_INTERVAL} s, not {source.interval}.",
        )
