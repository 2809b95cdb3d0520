"""The market and terms of the paper exchange of `up` and `demo`, checked before anything is started."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import UserError

if TYPE_CHECKING:
    from exchange.paper.config import PaperConfig
    from workers.settings.paper import PaperSettings

__all__ = ["PaperMarket", "PaperOptions", "paper_market", "require_prices"]


@dataclass(frozen=True)
class PaperMarket:
    """`arguments` are the paper exchange's; `about` describes prices and fills in one line."""

    arguments: tuple[str, ...]
    about: str


@dataclass(frozen=True)
class PaperOptions:
    """The options of `up` about the paper exchange, as typed; None (or empty) if the settings apply."""

    prices: Path | None = None
    live: bool = False
    live_url: str | None = None
    fills: str | None = None
    maker_fee: str | None = None
    taker_fee: str | None = None
    spread_bps: str | None = None
    balances: Sequence[str] = ()
    products: Sequence[str] = ()
    products_file: Path | None = None

    def given(self) -> list[str]:
        """The names of options that apply only with a paper exchange; prices are always allowed."""
        names = {
            "--live-prices": self.live,
            "--fills": self.fills,
            "--maker-fee": self.maker_fee,
            "--taker-fee": self.taker_fee,
            "--spread-bps": self.spread_bps,
            "--balance": self.balances,
            "--product": self.products,
            "--products-file": self.products_file,
        }
        return [name for name, value in names.items() if value]


def paper_market(options: PaperOptions, settings: "PaperSettings", *, speed: float, paper: bool) -> PaperMarket:
    """The market for these options of `up`; `paper` says whether there is a paper exchange at all.

    Raises UserError (exit code 2) if they contradict each other.
    """
    from exchange.paper.config import check
    from exchange.paper.errors import PaperError

    if options.prices is not None and options.live:
        raise UserError("TWO_SOURCES", "Give --prices or --live-prices, not both.")
    if options.live_url is not None and not options.live:
        raise UserError("BAD_OPTION", "--live-url is for --live-prices: give both, or neither.")
    if not paper:
        if given := options.given():
            raise UserError(
                "NO_PAPER",
                f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for the paper exchange, which isn't "
                "started: the settings say mode = live or exchange.rest, or --no-paper was given. For live trading "
                "leave those out.",
            )
        return PaperMarket((), "")
    if options.live and speed != 1:
        raise UserError("BAD_SPEED", "--live-prices needs --speed 1: real markets run at their own speed.")
    try:
        config = _config(options, settings)
        check(config)
        _require_products(config, options)
    except PaperError as error:
        raise UserError(error.code, error.message) from None
    return PaperMarket(tuple(_arguments(config, options, settings, speed)), config.about())


def _config(options: PaperOptions, settings: "PaperSettings") -> "PaperConfig":
    """The paper exchange's configuration: an option overrides its setting. Raises PaperError."""
    from exchange.paper.command import balances_of, number_of
    from exchange.paper.config import LIVE_URL, Generated, Live, PaperConfig, PriceFile
    from exchange.paper.fills import fill_rule

    source: Generated | PriceFile | Live = Generated()
    if options.prices is not None:
        source = PriceFile(options.prices)
    elif options.live:
        source = Live(options.live_url or LIVE_URL)
    fills, maker, taker, spread = options.fills, options.maker_fee, options.taker_fee, options.spread_bps
    rule = fills if fills is not None else settings.fills
    products = tuple(name.partition("=")[0] for name in options.products) or settings.products
    return PaperConfig(
        source=source,
        fills=None if rule is None else fill_rule(rule),
        maker_fee=settings.maker_fee_pct / 100 if maker is None else number_of("--maker-fee", maker),
        taker_fee=settings.taker_fee_pct / 100 if taker is None else number_of("--taker-fee", taker),
        spread_bps=settings.spread_bps if spread is None else number_of("--spread-bps", spread),
        balances=balances_of(tuple(options.balances) or settings.balances),
        products=products or None,
        products_file=options.products_file or settings.products_file,
    )


def _arguments(config: "PaperConfig", options: PaperOptions, settings: "PaperSettings", speed: float) -> list[str]:
    """`config` as arguments of `bottrader paper`."""
    from exchange.paper.config import Live

    arguments = [
        *("--speed", f"{speed:g}"),
        *("--maker-fee", f"{config.maker_fee:f}"),
        *("--taker-fee", f"{config.taker_fee:f}"),
        *("--spread-bps", f"{config.spread_bps:f}"),
    ]
    for currency, amount in config.balances.items():
        arguments += ["--balance", f"{currency}={amount:f}"]
    for name in options.products or settings.products:
        arguments += ["--product", name]
    if config.products_file is not None:
        arguments += ["--products-file", str(config.products_file.absolute())]
    if options.prices is not None:
        arguments += ["--prices", str(options.prices.absolute())]
    if isinstance(config.source, Live):
        arguments += ["--live", "--live-url", config.source.url]
    if config.fills is not None:
        arguments += ["--fills", config.fills.name]
    return arguments


def _require_products(config: "PaperConfig", options: PaperOptions) -> None:
    """Raises PaperError or UserError if products, or prices for them, are not available."""
    from exchange.paper.products import bundled, choose, load

    choose(load(config.products_file) if config.products_file else bundled(), config.products)
    if options.prices is not None:
        require_prices(options.prices, tuple(options.products) or config.products, config.products_file)


def require_prices(prices: Path, products: Sequence[str] | None = None, products_file: Path | None = None) -> None:
    """Raises UserError (exit code 2) with the problem in the file, and its line."""
    if not prices.is_file():
        raise UserError("NO_FILE", f"--prices {prices}: there is no such file.")
    from exchange.paper.config import PriceFile
    from exchange.paper.errors import PaperError
    from exchange.paper.files import FileTicks, symbols_of
    from exchange.paper.products import bundled, choose, load

    names = None if products is None else [name.partition("=")[0] for name in products]
    try:
        known = choose(load(products_file) if products_file else bundled(), names)
        FileTicks(known, PriceFile(prices, symbols_of(products or [])))
    except PaperError as error:
        raise UserError(error.code, f"--prices: {error.message}") from None
