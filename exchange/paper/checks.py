"""The venue's checks of an order before prices and balances. Each raises `Refusal`."""

from __future__ import annotations

from decimal import Decimal

from exchange.paper.errors import Refusal
from exchange.paper.numbers import on_grid
from exchange.paper.orders import OrderTerms, PaperOrderKind, Side
from exchange.paper.products import PaperProduct

__all__ = ["check_edited", "check_prices", "check_size", "check_stop", "check_tradable"]

_PRICE_LIMIT = Decimal(10) ** 12


def check_tradable(product: PaperProduct, terms: OrderTerms) -> None:
    """The product's status allows such an order."""
    name = product.product_id
    if product.trading_disabled or product.is_disabled or product.status == "delisted" or product.view_only:
        raise Refusal("ORDER_ENTRY_DISABLED", f"Trading of {name} is disabled.", "PREVIEW_ORDER_ENTRY_DISABLED")
    if product.cancel_only:
        raise Refusal("ORDER_ENTRY_DISABLED", f"{name} takes cancels only.", "PREVIEW_ORDER_ENTRY_DISABLED")
    if product.limit_only and terms.kind is PaperOrderKind.MARKET:
        raise Refusal(
            "UNSUPPORTED_ORDER_CONFIGURATION",
            f"{name} takes limit orders only.",
            "PREVIEW_INVALID_ORDER_TYPE_FOR_PRODUCT",
        )
    if product.post_only and not terms.post_only:
        raise Refusal(
            "UNSUPPORTED_ORDER_CONFIGURATION",
            f"{name} takes post-only orders only.",
            "PREVIEW_INVALID_ORDER_TYPE_FOR_PRODUCT",
        )


def check_prices(product: PaperProduct, side: Side, terms: OrderTerms) -> None:
    """Prices are on the grid, and a stop is on the right side of its limit."""
    for price in (terms.limit_price, terms.stop_price):
        if price is not None and (price > _PRICE_LIMIT or not on_grid(price, product.price_increment)):
            raise Refusal(
                "INVALID_PRICE_PRECISION",
                f"Price must be a multiple of {product.price_increment}.",
                "PREVIEW_INVALID_PRICE_PRECISION",
            )
    if terms.limit_price is None or terms.stop_price is None:
        return
    if terms.kind is PaperOrderKind.STOP_LIMIT:
        if side is Side.BUY and terms.stop_price > terms.limit_price:
            raise Refusal(
                "INVALID_STOP_PRICE",
                "A buy's stop price must not be above its limit price.",
                "PREVIEW_STOP_PRICE_ABOVE_LIMIT_PRICE",
            )
        if side is Side.SELL and terms.stop_price < terms.limit_price:
            raise Refusal(
                "INVALID_STOP_PRICE",
                "A sell's stop price must not be below its limit price.",
                "PREVIEW_STOP_PRICE_BELOW_LIMIT_PRICE",
            )
    elif (terms.stop_price >= terms.limit_price) is (side is Side.SELL):
        raise Refusal(
            "INVALID_STOP_PRICE",
            "A bracket's stop must be on the losing side of its limit price.",
            "PREVIEW_INVALID_BRACKET_PRICES",
        )


def check_stop(side: Side, terms: OrderTerms, last: Decimal) -> None:
    """A stop waits for the market: if the last trade is already beyond it, it is refused, not triggered."""
    if terms.stop_price is None or not last:
        return
    up = terms.stop_up if terms.kind is PaperOrderKind.STOP_LIMIT else side is Side.BUY
    if up and terms.stop_price < last:
        raise Refusal(
            "UNKNOWN_FAILURE_REASON",
            "Stop price is below the last trade price.",
            "PREVIEW_STOP_PRICE_BELOW_LAST_TRADE_PRICE",
        )
    if not up and terms.stop_price > last:
        raise Refusal(
            "UNKNOWN_FAILURE_REASON",
            "Stop price is above the last trade price.",
            "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE",
        )


def check_size(product: PaperProduct, terms: OrderTerms) -> None:
    """The size is within the product's limits and on its grid."""
    for size, low, high, step, name in (
        (terms.base_size, product.base_min_size, product.base_max_size, product.base_increment, "BASE"),
        (terms.quote_size, product.quote_min_size, product.quote_max_size, product.quote_increment, "QUOTE"),
    ):
        if size is None:
            continue
        if size > high:
            preview = f"PREVIEW_INVALID_{name}_SIZE_TOO_LARGE"
            raise Refusal("UNKNOWN_FAILURE_REASON", f"Size is above the maximum of {high}.", preview)
        if size < low or size <= 0:
            preview = f"PREVIEW_INVALID_{name}_SIZE_TOO_SMALL"
            raise Refusal("UNKNOWN_FAILURE_REASON", f"Size is below the minimum of {low}.", preview)
        if not on_grid(size, step):
            raise Refusal(
                "INVALID_SIZE_PRECISION", f"Size must be a multiple of {step}.", "PREVIEW_INVALID_SIZE_PRECISION"
            )


def check_edited(product: PaperProduct, price: Decimal, size: Decimal) -> None:
    """The new price and size of an edited order are valid."""
    if not 0 < price <= _PRICE_LIMIT or not on_grid(price, product.price_increment):
        raise Refusal("INVALID_EDITED_PRICE", f"Price must be a multiple of {product.price_increment}.")
    if not product.base_min_size <= size <= product.base_max_size or not on_grid(size, product.base_increment):
        raise Refusal("INVALID_EDITED_SIZE", f"Size must be a multiple of {product.base_increment} within limits.")
