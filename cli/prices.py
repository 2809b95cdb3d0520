"""What the paper exchange of `up` and `demo` trades on, looked at before anything is started."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.output import UserError

__all__ = ["PaperMarket", "paper_market", "require_prices"]


@dataclass(frozen=True)
class PaperMarket:
    """`arguments` are the paper exchange's; `about` says in a line what is traded on, and how it fills."""

    arguments: tuple[str, ...]
    about: str


def paper_market(
    prices: Path | None, *, live: bool, live_url: str | None, fills: str | None, speed: float, paper: bool
) -> PaperMarket:
    """The market that these options of `up` mean; `paper` says whether there is a paper exchange at all.

    Raises UserError (exit code 2) where they can't be meant.
    """
    from exchange.paper.config import LIVE_URL, Generated, Live, PaperConfig, PriceFile
    from exchange.paper.errors import PaperError
    from exchange.paper.fills import fill_rule

    if prices is not None and live:
        raise UserError("TWO_SOURCES", "Give --prices or --live-prices, not both.")
    if live_url is not None and not live:
        raise UserError("BAD_OPTION", "--live-url is for --live-prices: give both, or neither.")
    if (live or fills is not None) and not paper:
        raise UserError(
            "NO_PAPER",
            "--live-prices and --fills are for the paper exchange, which isn't started: the settings say mode = live "
            "or exchange.rest, or --no-paper was given. For paper money leave those out.",
        )
    if live and speed != 1:
        raise UserError("BAD_SPEED", "--live-prices needs --speed 1: real markets can't be hurried.")
    arguments = ["--speed", f"{speed:g}"]
    source: Generated | PriceFile | Live = Generated()
    if prices is not None:
        require_prices(prices)
        source = PriceFile(prices)
        arguments += ["--prices", str(prices.absolute())]
    if live:
        source = Live(live_url or LIVE_URL)
        arguments += ["--live", "--live-url", source.url]
    try:
        rule = None if fills is None else fill_rule(fills)
    except PaperError as error:
        raise UserError(error.code, error.message) from None
    if fills is not None:
        arguments += ["--fills", fills]
    return PaperMarket(tuple(arguments), PaperConfig(source=source, fills=rule).about())


def require_prices(prices: Path, products: Sequence[str] | None = None) -> None:
    """Raises UserError (exit code 2) with what is wrong with the file, and in which line."""
    if not prices.is_file():
        raise UserError("NO_FILE", f"--prices {prices}: there is no such file.")
    from exchange.paper.config import PriceFile
    from exchange.paper.errors import PaperError
    from exchange.paper.files import FileTicks, symbols_of
    from exchange.paper.products import bundled, choose

    try:
        FileTicks(choose(bundled(), products), PriceFile(prices, symbols_of(products or [])))
    except PaperError as error:
        raise UserError(error.code, f"--prices: {error.message}") from None
