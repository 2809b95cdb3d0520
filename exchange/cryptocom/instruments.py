"""The venue's products, put together from three lists: rules, minima, and last prices.

The venue gives all or none, so an answer is used again for a few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog

from exchange.cryptocom.parse import Row, minima_from, product, row_of, rows_of
from exchange.cryptocom.rest import CryptocomCaller
from exchange.port import UNREADABLE, Product, Unavailable
from exchange.reading import MessageError, reading

__all__ = ["Instruments"]

_log = structlog.get_logger(__name__)


class Instruments:
    """The products of one venue.

    Args:
        seconds: how long an answer is used.
    """

    def __init__(self, rest: CryptocomCaller, seconds: float) -> None:
        self._rest = rest
        self._seconds = seconds
        self._read_at = float("-inf")
        self._found: list[Product] = []
        self._unreadable: dict[str, str] = {}
        """Products that can't be parsed, and why."""
        self._reading = asyncio.Lock()

    async def products(self, symbols: Sequence[str] | None) -> list[Product]:
        """All spot products, or those named that can be parsed. A single one that can't raises Unavailable."""
        if symbols is not None and not symbols:
            return []
        async with self._reading:  # callers at the same time share one read
            if time.monotonic() - self._read_at >= self._seconds:
                await self._read()
        if symbols is None:
            return list(self._found)
        problem = self._unreadable.get(symbols[0]) if len(symbols) == 1 else None
        if problem is not None:
            raise Unavailable(f"{symbols[0]} can't be understood: {problem}", code=UNREADABLE)
        wanted = set(symbols)
        return [item for item in self._found if item.symbol in wanted]

    async def _read(self) -> None:
        instruments, risks, tickers = await asyncio.gather(
            self._rest.public("public/get-instruments", {}),
            self._rest.public("public/get-risk-parameters", {}),
            self._rest.public("public/get-tickers", {}),
        )
        found: list[Product] = []
        unreadable: dict[str, str] = {}
        with reading("the list of products"):
            minima = minima_from(risks)
            last: dict[str, Row] = {
                str(row.get("i")): row for row in rows_of(tickers, "the tickers") if isinstance(row, Mapping)
            }
            for raw in rows_of(instruments, "the products"):
                row = row_of(raw, "a product")
                symbol = str(row.get("symbol") or "")
                try:
                    item = product(row, minima, last.get(symbol, {}))
                except MessageError as problem:
                    unreadable[symbol] = str(problem)
                    _log.warning("a product can't be understood", row=str(row)[:500], problem=str(problem))
                else:
                    found += [item] if item is not None else []
        self._found, self._unreadable, self._read_at = found, unreadable, time.monotonic()
