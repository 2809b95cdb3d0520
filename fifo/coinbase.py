"""Coinbase's own exports: the transactions report of the app, and the fills report of Advanced Trade.

The transactions report rounds its prices; what was paid is its subtotal, which therefore counts. Rows that are no
trades (transfers, rewards, conversions) open no lots and are left out by name. Its older forms have no ids: a row is
then known by what it says, never by where it stands, for the next download has other lines before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

from fifo.amounts import UNIT, text_of
from fifo.fills import FifoError, Stated
from fifo.parsing import money, nanoseconds, shown

__all__ = ["fill", "is_fills", "is_transactions", "transactions"]

_FILLS = frozenset({"trade id", "product", "side", "created at", "size", "price", "fee"})
_TRANSACTIONS = frozenset({"timestamp", "transaction type", "asset", "quantity transacted"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_fills(names: Collection[str]) -> bool:
    """Whether a heading (lower case) is the fills report's."""
    return _FILLS.issubset(names)


def is_transactions(names: Collection[str]) -> bool:
    """Whether a heading (lower case) is the transactions report's."""
    return _TRANSACTIONS.issubset(names)


def fill(row: Mapping[str, str], line_number: int) -> Stated:
    """A row of the fills report. Trade ids count by product there, so the fill id is product/trade id."""
    product = _needed(row, "product")
    base = product.partition("-")[0]
    unit = row.get("size unit") or base
    if unit.strip().upper() != base.upper():
        raise FifoError("NOT_A_ROW", f"size unit is {shown(unit)} and not {base}")
    side = _needed(row, "side").lower()
    if side not in ("buy", "sell"):
        raise FifoError("UNKNOWN_SIDE", f"side is neither buy nor sell: {shown(side)}")
    return Stated(
        f"{product}/{_needed(row, 'trade id')}",
        product,
        nanoseconds(_needed(row, "created at")),
        line_number,
        side == "buy",
        money("size", _needed(row, "size")),
        money("price", _needed(row, "price")),
        _optional("fee", row.get("fee")) or 0,
        "quote",
        None,
    )


def transactions() -> Callable[[Mapping[str, str], int], Stated | str]:
    """What reads the rows of one transactions report: a row's trade, or the name of its kind if it is none.

    Rows without an id that say the same are counted, so each is a fill.
    """
    alike: Counter[str] = Counter()

    def stated(row: Mapping[str, str], line_number: int) -> Stated | str:
        found = _transaction(row, line_number)
        if isinstance(found, str) or found.id:
            return found
        content = _content(found)
        alike[content] += 1
        return found._replace(id=content if alike[content] == 1 else f"{content} ({alike[content]})")

    return stated


def _content(found: Stated) -> str:
    at = _EPOCH + timedelta(microseconds=found.time // 1_000)
    side, size = "buy" if found.buy else "sell", text_of(found.size)
    value = f"at {text_of(found.price)}" if found.value is None else f"for {text_of(found.value)}"
    return f"{at.isoformat()} {side} {size} {found.symbol} {value}, fee {text_of(found.fee)}"


def _transaction(row: Mapping[str, str], line_number: int) -> Stated | str:
    kind = _needed(row, "transaction type")
    word = kind.lower().rpartition(" ")[2]
    if word not in ("buy", "sell"):
        return kind
    currency = row.get("price currency") or row.get("spot price currency") or "USD"
    value = _optional("subtotal", row.get("subtotal"))
    price = _optional("price", row.get("price at transaction") or row.get("spot price at transaction"))
    if price is None and value is None:
        raise FifoError("MISSING_FIELD", "price and subtotal are missing")
    if value is not None and not value:
        raise FifoError("PRICE_NOT_POSITIVE", "subtotal must not be zero")
    fee = _optional("fees", row.get("fees and/or spread") or row.get("fees"))
    return Stated(
        (row.get("id") or "").strip(),
        # Assets are spelt as people know them (cbETH), products never are (CBETH-USD).
        f"{_needed(row, 'asset')}-{currency.strip()}".upper(),
        nanoseconds(_needed(row, "timestamp")),
        line_number,
        word == "buy",
        # Newer reports print what left the account as negative; the kind says it already.
        abs(money("quantity", _needed(row, "quantity transacted"))),
        price or UNIT if value is not None else price or 0,
        fee or 0,
        "quote",
        None,
        None if value is None else abs(value),
    )


def _needed(row: Mapping[str, str], name: str) -> str:
    value = row.get(name, "").strip()
    if not value:
        raise FifoError("MISSING_FIELD", f"{name} is missing")
    return value


def _optional(name: str, text: str | None) -> int | None:
    return money(name, text) if text and text.strip() else None
