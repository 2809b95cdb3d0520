"""Stores the account over restarts: orders, fills, balances, last prices and product status in one SQLite file.

The changes of an event are one transaction, written before they are reported, so that a killed exchange restarts in
the state that it reported. (The file is not synced to disk: it survives the process, not the machine.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from exchange.paper.errors import PaperError
from exchange.paper.orders import Order, PaperFill, Side, Status, read_terms
from exchange.paper.products import STATUS_FLAGS, PaperProduct
from exchange.paper.wallet import WalletBalance

__all__ = ["LIVE", "MADE_UP", "Kept", "Store"]

_TABLES = ("orders", "fills", "balances", "prices", "products", "account", "wire")
_VERSION = 1
LIVE, MADE_UP = "live", "generated or recorded"
"""Kinds of prices."""
_READERS: dict[str, Callable[[Any], object]] = {
    "side": Side,
    "status": Status,
    "created": datetime.fromisoformat,
    "updated": datetime.fromisoformat,
    "last_fill": datetime.fromisoformat,
    "time": datetime.fromisoformat,
    **dict.fromkeys(
        (
            "limit_price", "base_size", "filled_size", "filled_value", "fees", "hold", "price", "size", "commission",
            "total", "deposited",
        ),
        Decimal,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """The stored account: orders by age, fills in order, balances, last price and status flags by product."""

    orders: list[Order]
    fills: list[PaperFill]
    balances: list[WalletBalance]
    prices: dict[str, Decimal]
    products: dict[str, dict[str, object]]
    wire: list[dict[str, object]]
    """What the venue's protocol keeps beside the engine."""


class Store:
    """The file. Raises `PaperError` if it is not one of ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = sqlite3.connect(path, isolation_level=None)
            version = self._file.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise self._broken()
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=OFF")
            for table in _TABLES:
                self._file.execute(f"CREATE TABLE IF NOT EXISTS {table} (id PRIMARY KEY, body BLOB) WITHOUT ROWID")
            self._file.execute(f"PRAGMA user_version={_VERSION}")
        except sqlite3.Error as error:
            raise self._broken() from error

    def _broken(self) -> PaperError:
        return PaperError(
            "STATE_BROKEN", f"{self._path} is not a state file of this version; delete it to start afresh."
        )

    def load(self) -> Kept:
        """The stored account. Raises `PaperError` if it can't be read."""
        try:
            rows = {table: self._rows(table) for table in _TABLES}
            return Kept(
                orders=sorted((_order(row) for row in rows["orders"].values()), key=lambda order: order.seq),
                fills=sorted((PaperFill(**_read(row)) for row in rows["fills"].values()), key=lambda fill: fill.seq),
                balances=[WalletBalance(**_read(row)) for row in rows["balances"].values()],
                prices={str(name): Decimal(row["last"]) for name, row in rows["prices"].items()},
                products={str(name): dict(row) for name, row in rows["products"].items()},
                wire=list(rows["wire"].values()),
            )
        except (sqlite3.Error, ValueError, TypeError, KeyError, ArithmeticError) as error:
            raise self._broken() from error

    def _rows(self, table: str) -> dict[object, dict[str, Any]]:
        found = self._file.execute(f"SELECT id, body FROM {table}").fetchall()  # noqa: S608  one of our own tables
        return {key: orjson.loads(body) for key, body in found}

    def save(
        self,
        orders: Iterable[Order],
        fills: Iterable[PaperFill],
        balances: Iterable[WalletBalance],
        prices: Mapping[str, Decimal],
        wire: Mapping[str, object],
    ) -> None:
        """Store the changes of one event; `wire` are rows of the venue's protocol by id."""
        self._file.execute("BEGIN")
        self._put("orders", ((order.order_id, _dump(order)) for order in orders))
        self._put("fills", ((fill.seq, _dump(fill)) for fill in fills))
        self._put("balances", ((balance.currency, _dump(balance)) for balance in balances))
        self._put("prices", ((name, orjson.dumps({"last": str(last)})) for name, last in prices.items()))
        self._put("wire", ((key, orjson.dumps(row, default=str)) for key, row in wire.items()))
        self._file.execute("COMMIT")

    def portfolio_id(self, fresh: str) -> str:
        """The account's stored id; if there is none, `fresh` is stored."""
        kept = self._rows("account").get("portfolio")
        if kept is None:
            self._put("account", [("portfolio", orjson.dumps({"id": fresh}))])
            return fresh
        return str(kept["id"])

    def keep_to(self, prices: str, *, traded: bool) -> None:
        """Store on which kind of prices the account trades. Raises `PaperError` if it has `traded` on the other."""
        kept = self._rows("account").get("prices")
        before = str(kept["kind"]) if kept is not None else MADE_UP
        if traded and before != prices:
            raise PaperError(
                "OTHER_PRICES",
                f"The paper account in {self._path.parent} has traded on {before} prices, and {prices} ones would "
                "settle its trades at prices that never were: choose another data folder (of up: --data).",
            )
        self._put("account", [("prices", orjson.dumps({"kind": prices}))])

    def save_product(self, product: PaperProduct) -> None:
        """Store a product's trading status."""
        flags = {name: getattr(product, name) for name in STATUS_FLAGS}
        self._put("products", [(product.product_id, orjson.dumps(flags))])

    def _put(self, table: str, rows: Iterable[tuple[object, bytes]]) -> None:
        self._file.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)  # noqa: S608  one of our own tables

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _dump(item: Order | PaperFill | WalletBalance) -> bytes:
    values = {field.name: getattr(item, field.name) for field in fields(item) if field.name != "terms"}
    return orjson.dumps(values, default=str)


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _READERS[name](value) if name in _READERS and value is not None else value for name, value in row.items()
    }


def _order(row: Mapping[str, Any]) -> Order:
    terms = read_terms(row["configuration"], attached=bool(row["parent_id"]))
    return Order(terms=terms, **_read(row))
