"""The tradable products and their increments.

The bundled set has the increments that Coinbase published for these products in August 2026; any other set is read
from a file in the shape of `GET /products` (`{"products": [...]}`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from exchange.paper.errors import PaperError
from exchange.paper.numbers import parse, plain

__all__ = ["STATUS_FLAGS", "PaperProduct", "bundled", "choose", "describe", "leads", "load", "read_file", "with_twins"]


@dataclass(frozen=True, slots=True)
class PaperProduct:
    """One spot product, named as its venue does (BTC-USD, BTC_USD).

    Sizes and increments in base or quote currency as named; `price` is a reference, in quote.
    """

    product_id: str
    price: Decimal
    base_increment: Decimal
    quote_increment: Decimal
    price_increment: Decimal
    base_min_size: Decimal
    base_max_size: Decimal
    quote_min_size: Decimal
    quote_max_size: Decimal
    base_name: str = ""
    quote_name: str = "US Dollar"
    status: str = "online"
    is_disabled: bool = False
    trading_disabled: bool = False
    cancel_only: bool = False
    limit_only: bool = False
    post_only: bool = False
    auction_mode: bool = False
    view_only: bool = False
    alias: str = ""
    alias_to: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """Base currency, such as BTC."""
        return self.product_id.replace("_", "-").split("-")[0]

    @property
    def market(self) -> str:
        """The name under which the venue reports this product's prices, trades, candles and book: its twin's, if
        any."""
        return self.alias or self.product_id

    @property
    def quote(self) -> str:
        """Quote currency, such as USD."""
        return self.product_id.replace("_", "-").split("-")[1]

    def with_status(self, **flags: object) -> PaperProduct:
        """This product with other trading flags or status.

        Raises `PaperError` for a name that is not a trading flag or a value of the wrong kind.
        """
        for name, value in flags.items():
            if name not in STATUS_FLAGS or not isinstance(value, str if name == "status" else bool):
                raise PaperError("BAD_PRODUCT_STATUS", f"{name}={value!r} is not a product status; use {STATUS_FLAGS}.")
        return replace(self, **flags)  # type: ignore[arg-type]


STATUS_FLAGS = (
    "status",
    "is_disabled",
    "trading_disabled",
    "cancel_only",
    "limit_only",
    "post_only",
    "auction_mode",
    "view_only",
)

# product, base name, reference price, base increment, price (= quote) increment, largest base size, largest quote size
_BUNDLED = """
BTC-USD   Bitcoin    65086.18    0.00000001  0.01        3400       150000000
ETH-USD   Ethereum   1919.41     0.00000001  0.01        42000      150000000
SOL-USD   Solana     77.12       0.00000001  0.01        1274000    25000000
XRP-USD   XRP        1.0411      0.000001    0.0001      11996772   10000000
ADA-USD   Cardano    0.19782     0.00000001  0.00001     30176000   10000000
XLM-USD   Stellar    0.163834    0.00000001  0.000001    116945400  10000000
LINK-USD  Chainlink  8.326       0.01        0.001       1503100    10000000
LTC-USD   Litecoin   46.09       0.00000001  0.01        122300     10000000
DOGE-USD  Dogecoin   0.0704      0.1         0.00001     141834300  10000000
AVAX-USD  Avalanche  6.552       0.00000001  0.001       631600     10000000
DOT-USD   Polkadot   0.808       0.00000001  0.0001      1732900    10000000
PEPE-USD  Pepe       0.00000293  1           0.00000001  539937939102  10000000
"""


def bundled() -> dict[str, PaperProduct]:
    """The products that are bundled with the paper exchange."""
    found = {}
    for line in _BUNDLED.split("\n"):
        if line:
            product_id, name, price, base, tick, base_max, quote_max = line.split()
            found[product_id] = PaperProduct(
                product_id=product_id,
                base_name=name,
                price=Decimal(price),
                base_increment=Decimal(base),
                quote_increment=Decimal(tick),
                price_increment=Decimal(tick),
                base_min_size=Decimal(base),
                base_max_size=Decimal(base_max),
                quote_min_size=Decimal(1),
                quote_max_size=Decimal(quote_max),
            )
    return found


def load(path: Path) -> dict[str, PaperProduct]:
    """Products from a file in the shape of `GET /products`. Raises `PaperError`, which says what is wrong and where."""

    def spot(row: Mapping[str, object]) -> PaperProduct | None:
        return _from_row(row) if row.get("product_type", "SPOT") == "SPOT" else None

    return read_file(path, "a list of products as GET /products has it", ("products",), spot)


def read_file(
    path: Path, form: str, inner: Sequence[str], read: Callable[[Mapping[str, object]], PaperProduct | None]
) -> dict[str, PaperProduct]:
    """The products in a file of JSON, which should be `form`: a list of rows, or an object that has it at `inner`.

    `read` makes a product of a row, or None if the row is none of ours. Raises `PaperError`.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(rows, dict):
            for name in inner:
                rows = rows[name]
        return {product.product_id: product for product in map(read, rows) if product is not None}
    except OSError as error:
        raise PaperError("PRODUCTS_UNREADABLE", f"Cannot read the products file {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PaperError("PRODUCTS_MALFORMED", f"{path} is not {form}: {error}.") from error


def _from_row(row: Mapping[str, object]) -> PaperProduct:
    def number(name: str) -> Decimal:
        value = parse(row[name])
        if value is None:
            raise ValueError(f"{row.get('product_id')}: {name} is {row[name]!r}")
        return value

    flags = {name: row[name] for name in STATUS_FLAGS if name in row}
    aliases = row.get("alias_to")
    product_id = str(row["product_id"])
    return PaperProduct(
        product_id=product_id,
        base_name=str(row.get("base_name", "")),
        quote_name=str(row.get("quote_name", "")),
        price=number("price"),
        base_increment=number("base_increment"),
        quote_increment=number("quote_increment"),
        price_increment=number("price_increment"),
        base_min_size=number("base_min_size"),
        base_max_size=number("base_max_size"),
        quote_min_size=number("quote_min_size"),
        quote_max_size=number("quote_max_size"),
        alias=str(row["alias"] if "alias" in row else _twin(product_id)),
        alias_to=tuple(map(str, aliases)) if isinstance(aliases, list) else (),
        **flags,  # type: ignore[arg-type]
    )


def choose(products: Mapping[str, PaperProduct], wanted: Iterable[str] | None) -> dict[str, PaperProduct]:
    """The wanted ones of `products` (all if None). Raises `PaperError` for an unknown name."""
    if wanted is None:
        return dict(products)
    chosen = {}
    for product_id in wanted:
        if product_id not in products:
            raise PaperError("UNKNOWN_PRODUCT", f"Unknown product {product_id}; known are {', '.join(products)}.")
        chosen[product_id] = products[product_id]
    if not chosen:
        raise PaperError("NO_PRODUCT", "No product was named; name at least one, such as BTC-USD.")
    return chosen


def _twin(product_id: str) -> str:
    """The -USD twin of a -USDC product, "" for others: the default for lists of products without twins."""
    base, _, quote = product_id.rpartition("-")
    return f"{base}-USD" if quote == "USDC" else ""


def with_twins(products: Mapping[str, PaperProduct]) -> dict[str, PaperProduct]:
    """`products` with the names of their twins, if those are among them and the list has no twins."""
    twins: dict[str, list[str]] = {}
    for row in products.values():
        if row.alias:
            twins.setdefault(row.alias, []).append(row.product_id)
    return {
        name: row if row.alias_to or name not in twins else replace(row, alias_to=tuple(twins[name]))
        for name, row in products.items()
    }


def leads(products: Mapping[str, PaperProduct]) -> dict[str, str]:
    """The product whose book and trades represent each market, by product and by the market's own name.

    A -USDC product and its -USD twin have one market at the venue.
    """
    found: dict[str, str] = {}
    for name, row in products.items():
        lead = row.market if row.market in products else found.get(row.market, name)
        found[name] = lead
        found.setdefault(row.market, lead)
    return found


def describe(
    product: PaperProduct,
    *,
    price: str,
    change_24h: str,
    volume_24h: str,
    high_24h: str,
    low_24h: str,
    mid: str,
    bid: str,
    ask: str,
) -> dict[str, object]:
    """`product` with its live figures as `GET /products/{id}` shows it."""
    quote_volume = Decimal(volume_24h) * Decimal(price)
    return {
        "product_id": product.product_id,
        "price": price,
        "price_percentage_change_24h": change_24h,
        "volume_24h": volume_24h,
        "volume_percentage_change_24h": "0",
        "base_increment": plain(product.base_increment),
        "quote_increment": plain(product.quote_increment),
        "quote_min_size": plain(product.quote_min_size),
        "quote_max_size": plain(product.quote_max_size),
        "base_min_size": plain(product.base_min_size),
        "base_max_size": plain(product.base_max_size),
        "base_name": product.base_name,
        "quote_name": product.quote_name,
        "watched": False,
        "is_disabled": product.is_disabled,
        "new": False,
        "status": product.status,
        "cancel_only": product.cancel_only,
        "limit_only": product.limit_only,
        "post_only": product.post_only,
        "trading_disabled": product.trading_disabled,
        "auction_mode": product.auction_mode,
        "product_type": "SPOT",
        "quote_currency_id": product.quote,
        "base_currency_id": product.base,
        "fcm_trading_session_details": None,
        "mid_market_price": mid,
        "alias": product.alias,
        "alias_to": list(product.alias_to),
        "base_display_symbol": product.base,
        "quote_display_symbol": product.quote,
        "view_only": product.view_only,
        "price_increment": plain(product.price_increment),
        "display_name": product.product_id,
        "product_venue": "CBE",
        "approximate_quote_24h_volume": plain(round(quote_volume, 2)),
        "new_at": "2023-01-01T00:00:00Z",
        "market_cap": "",
        "base_cbrn": "",
        "quote_cbrn": "",
        "product_cbrn": "",
        "icon_color": "",
        "icon_url": "",
        "display_name_overwrite": "",
        "is_alpha_testing": False,
        "about_description": "",
        "best_bid_price": bid,
        "best_ask_price": ask,
        "high_24h": high_24h,
        "low_24h": low_24h,
    }
