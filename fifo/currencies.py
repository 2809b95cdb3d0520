"""Currencies in Coinbase's reports: which are fiat money, which are the same, and their smallest units."""

from __future__ import annotations

from fifo.amounts import UNIT

__all__ = ["AT_PAR", "MONIES", "ONE_BOOK", "RENAMED", "smallest_unit"]

MONIES = frozenset(
    "AED ARS AUD BGN BRL CAD CHF CLP COP CZK DKK EUR GBP GEL GHS HKD HUF IDR ILS INR ISK JPY KES KRW KZT MXN MYR "  # noqa: SIM905 - codes are most readable as one text
    "NGN NOK NZD PEN PHP PLN QAR RON SAR SEK SGD THB TRY TWD UAH USD UYU VND ZAR".split()
)
"""Fiat money. Anything else that a row was paid with is a coin, and has lots."""

ONE_BOOK = ({"USD", "USDC"}, {"EUR", "EURC"})
"""Currencies that Coinbase trades in one order book: a pair may name one of them if the other was paid."""

AT_PAR = {"USDC": "USD", "USDT": "USD", "DAI": "USD", "PYUSD": "USD", "GUSD": "USD", "EURC": "EUR"}
"""Coins that are worth one unit of a currency, within the quarter by which fields may differ."""

RENAMED = (
    {"MATIC", "POL"},
    {"CGLD", "CELO"},
    {"RNDR", "RENDER"},
    {"ETH2", "ETH"},
    {"GNT", "GLM"},
    {"FTM", "S"},
    {"EOS", "A"},
)
"""Two names of one asset; Notes use the older."""

_WITHOUT_CENTS = frozenset({"CLP", "ISK", "JPY", "KRW", "VND"})
_CENT, _SATOSHI = UNIT // 100, UNIT // 10**8


def smallest_unit(currency: str) -> int:
    """The rounding of amounts in a currency (in capitals), in units of 1e-18: a cent, a yen, 1e-8 of a coin."""
    if currency in _WITHOUT_CENTS:
        return UNIT
    return _CENT if currency in MONIES or currency in AT_PAR else _SATOSHI
