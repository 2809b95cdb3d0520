"""Coinbase's own exports: the fills report of Pro and Advanced Trade here, the app's in `fifo.transactions`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fifo.amounts import UNIT, divide_half_even, text_of
from fifo.currencies import smallest_unit
from fifo.fills import FifoError, Stated
from fifo.parsing import last_place, money_in, nanoseconds, shown
from fifo.transactions import needed, signed_fee

__all__ = ["fill", "is_account_statement", "is_fills", "is_transactions"]

_FILLS = frozenset({"trade id", "product", "side", "created at", "size", "price", "fee"})
_TRANSACTIONS = frozenset({"timestamp", "transaction type", "asset", "quantity transacted"})
_STATEMENT = frozenset({"type", "time", "amount", "balance", "amount/balance unit"})


def is_fills(names: Collection[str]) -> bool:
    """Whether a heading (lower case) is the fills report's."""
    return _FILLS.issubset(names)


def is_transactions(names: Collection[str]) -> bool:
    """Whether a heading (lower case) is the transactions report's."""
    return _TRANSACTIONS.issubset(names)


def is_account_statement(names: Collection[str]) -> bool:
    """Whether a heading (lower case) is that of Pro's account statement, which has no prices."""
    return _STATEMENT.issubset(names)


def fill(row: Mapping[str, str], line_number: int) -> Stated:
    """A row of the fills report. Its trade ids are unique per product only, so the fill id is product/trade id.

    Raises FifoError.
    """
    product = needed(row, "product").upper()
    base, _, quote = product.partition("-")
    for name, expected in (("size unit", base), ("price/fee/total unit", quote)):
        unit = (row.get(name) or expected).strip()
        if unit.upper() != expected:
            raise FifoError("NOT_A_ROW", f"{name} is {shown(unit)} and not {expected}")
    side = needed(row, "side").lower()
    if side not in ("buy", "sell"):
        raise FifoError("UNKNOWN_SIDE", f"side is neither buy nor sell: {shown(side)}")
    size, price = money_in("size", needed(row, "size"), base), money_in("price", needed(row, "price"), quote)
    printed, total = (_optional(name, row.get(name), quote) for name in ("fee", "total"))
    value = divide_half_even(size * price, UNIT)
    paid = signed_fee(printed or 0, value, None if total is None else abs(total), adds=side == "buy")
    if total is not None:
        net = value + paid if side == "buy" else value - paid
        if abs(abs(total) - abs(net)) > abs(value) // 100 + last_place(row["total"], smallest_unit(quote)):
            raise FifoError(
                "CONTRADICTION",
                f"size times price is {text_of(value)}, fee {text_of(paid)} and total {text_of(total)}: they don't add "
                "up (is a comma a decimal one?)",
            )
    return Stated(
        f"{product}/{needed(row, 'trade id')}",
        product,
        nanoseconds(needed(row, "created at")),
        line_number,
        side == "buy",
        size,
        price,
        paid,
        "quote",
        None,
    )


def _optional(name: str, text: str | None, currency: str) -> int | None:
    return money_in(name, text, currency) if text and text.strip() else None
