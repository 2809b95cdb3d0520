"""`--prices` of `up` and `demo`: the file is read as the paper exchange will read it, before anything is started."""

from collections.abc import Sequence
from pathlib import Path

from cli.output import UserError

__all__ = ["require_prices"]


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
