"""The venue's instruments: the bundled ones, and those of a file in the shape of `public/get-instruments`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from exchange.paper.numbers import parse, plain
from exchange.paper.products import PaperProduct, read_file

__all__ = ["bundled_instruments", "described", "load_instruments"]

_SMALLEST = Decimal("0.00000001")
_LARGEST_BASE = Decimal(10) ** 9
_LARGEST_VALUE = Decimal(10) ** 7
_LEAST_VALUE = Decimal(1)
"""`min_order_notional_usd` of most currencies."""

# instrument, reference price, price tick, quantity tick
_BUNDLED = """
BTC_USD    65086.18    0.01        0.00001
BTC_USDT   65086.18    0.01        0.00001
ETH_USD    1919.41     0.01        0.0001
ETH_USDT   1919.41     0.01        0.0001
CRO_USD    0.04874     0.00001     1
SOL_USD    77.12       0.01        0.001
XRP_USD    1.0411      0.0001      0.1
ADA_USD    0.19782     0.00001     1
AAVE_USD   118.204     0.001       0.001
DOGE_USD   0.0704      0.00001     1
A2Z_USD    0.0008211   0.0000001   1000
"""


def bundled_instruments() -> dict[str, PaperProduct]:
    """The instruments that are bundled with the paper exchange."""
    rows = (line.split() for line in _BUNDLED.strip().splitlines())
    return {name: _product(name, Decimal(price), Decimal(tick), Decimal(step)) for name, price, tick, step in rows}


def load_instruments(path: Path) -> dict[str, PaperProduct]:
    """The spot instruments of a file in the shape of `public/get-instruments`, each row with a `price` to start from.

    Raises `PaperError`, which says what is wrong.
    """
    return read_file(path, "a list of instruments as get-instruments has it", ("result", "data"), _from_row)


def _from_row(row: Mapping[str, object]) -> PaperProduct | None:
    """A row's instrument; None for a derivative."""
    if row.get("inst_type", "CCY_PAIR") != "CCY_PAIR":
        return None
    price, tick, step = (parse(row[name]) for name in ("price", "price_tick_size", "qty_tick_size"))
    if price is None or tick is None or step is None:
        raise ValueError(f"{row.get('symbol')} has a price or tick that is no number")
    product = _product(str(row["symbol"]), price, tick, step)
    return product if row.get("tradable", True) is True else product.with_status(trading_disabled=True)


def _product(name: str, price: Decimal, tick: Decimal, step: Decimal) -> PaperProduct:
    return PaperProduct(
        product_id=name,
        price=price,
        base_increment=step,
        quote_increment=_SMALLEST,
        price_increment=tick,
        base_min_size=step,
        base_max_size=max(_LARGEST_BASE, step),
        quote_min_size=_LEAST_VALUE,
        quote_max_size=_LARGEST_VALUE,
    )


def described(product: PaperProduct) -> dict[str, object]:
    """An instrument's row of `public/get-instruments`.

    `quantity_decimals` counts the places of the tick, so it is 0 also where the tick is 1000.
    """
    return {
        "symbol": product.product_id,
        "inst_type": "CCY_PAIR",
        "display_name": product.product_id.replace("_", "/"),
        "base_ccy": product.base,
        "quote_ccy": product.quote,
        "quote_decimals": _places(product.price_increment),
        "quantity_decimals": _places(product.base_increment),
        "price_tick_size": plain(product.price_increment),
        "qty_tick_size": plain(product.base_increment),
        "max_leverage": "50",
        "tradable": not (product.trading_disabled or product.is_disabled or product.status == "delisted"),
        "expiry_timestamp_ms": 0,
        "beta_product": False,
        "margin_buy_enabled": False,
        "margin_sell_enabled": False,
        "product_type": "SPOT",
    }


def _places(step: Decimal) -> int:
    return max(-int(step.normalize().as_tuple().exponent), 0)
