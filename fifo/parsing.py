"""Texts of files as whole numbers: sizes and prices in units of 1e-18, times in nanoseconds. Exact, or an error."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from domain.errors import InternalSignal
from fifo.amounts import PLACES
from fifo.fills import FifoError, units_exactly

__all__ = [
    "SIDES",
    "Inexact",
    "fee",
    "fee_currency",
    "last_place",
    "money",
    "money_in",
    "nanoseconds",
    "number",
    "sequence",
    "shown",
]

SIDES = {"buy": True, "sell": False, "BUY": True, "SELL": False, "Buy": True, "Sell": False}
"""Whether a side, as spelled in files, is a buy."""

_SCALES: tuple[int, ...] = tuple(10 ** (PLACES - places) for places in range(PLACES + 1))
_MOST_DIGITS = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400
_FINER_THAN_MICROSECONDS = re.compile(r"[.,][0-9]{6}([^Z+-]+)")
# Other forms that Python accepts are refused: 1_000, digits of other scripts, currency signs.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:NaN|Inf(?:inity)?)", re.IGNORECASE)
_SEQUENCE = re.compile(r"[+-]?[0-9]+")
_MONEY = re.compile(
    r"(-?)\s*(?:[$\u00a2-\u00a5\u0e3f\u20a0-\u20cf]|[A-Za-z\u00c0-\u024f]){0,3}\s*(-?)"
    r"((?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?)"
)
_NO_SIGN = str.maketrans("", "", "0123456789.,+- \t\xa0")
_CURRENCIES_OF_SIGN = {
    "$": "USD AUD BBD BMD BSD CAD CLP COP HKD JMD KYD MXN NZD SGD TTD TWD UYU ARS DAI",
    "€": "EUR EURC", "£": "GBP EGP GIP", "¥": "JPY CNY", "￥": "JPY CNY", "₿": "BTC", "฿": "THB BTC", "₡": "CRC",
    "₦": "NGN", "₩": "KRW", "₪": "ILS", "₫": "VND", "₭": "LAK", "₮": "MNT", "₱": "PHP", "₲": "PYG", "₴": "UAH",
    "₵": "GHS", "₸": "KZT", "₹": "INR", "₺": "TRY", "₼": "AZN", "₽": "RUB", "₾": "GEL", "Fr": "CHF",
    "Ft": "HUF", "Kč": "CZK", "kr": "DKK ISK NOK SEK", "lei": "RON", "zł": "PLN", "R": "ZAR", "RM": "MYR", "Rp": "IDR",
    "A$": "AUD", "AU$": "AUD", "AR$": "ARS", "C$": "CAD", "CA$": "CAD", "HK$": "HKD", "MX$": "MXN", "NT$": "TWD",
    "NZ$": "NZD", "R$": "BRL", "S$": "SGD", "SG$": "SGD", "US$": "USD", "CN¥": "CNY", "JP¥": "JPY", "S/": "PEN",
    "Ksh": "KES", "GH₵": "GHS",
}  # fmt: skip
_SHOWN = 40
_BLANKS = " \t"
"""Characters allowed around a number in a column; no other space is."""
_ABSENT = ("", None)
_NO_NUMBERS = (bool, list, dict)
_LONGEST_SEQ = 18
_CURRENCIES = frozenset({"quote", "base", "other"})


class Inexact(InternalSignal):
    """A JSON number that a float may not hold exactly: the line must be read again, exactly."""


def shown(value: object) -> str:
    """A value in a sentence, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def number(name: str, value: object) -> int:
    """A decimal number in units of 1e-18. Raises FifoError: NOT_A_NUMBER, TOO_LARGE, TOO_FINE."""
    if type(value) is str:
        whole, _, places = value.partition(".")
        digits = whole + places
        # The plain case first: digits, perhaps with a point among them.
        if digits.isdecimal() and digits.isascii() and len(digits) <= _MOST_DIGITS and len(places) <= PLACES:
            return int(digits) * _SCALES[len(places)]
        text = value.strip(_BLANKS)
        try:
            if _NUMBER.fullmatch(text):
                return units_exactly(name, Decimal(text))
        except InvalidOperation:
            pass  # an exponent too large for a Decimal
        raise FifoError("NOT_A_NUMBER", f"{name} is not a number: {shown(value)}")
    if type(value) is int:
        return units_exactly(name, Decimal(value))
    if type(value) is Decimal:
        return units_exactly(name, value)
    if type(value) is float:
        raise Inexact
    raise FifoError("NOT_A_NUMBER", f"{name} is not a number: {shown(value)}")


def fee(value: object) -> int:
    """A fee in units of 1e-18, 0 if there is none. Raises like `number`."""
    return number("fee", value) if value or type(value) in _NO_NUMBERS else 0


def money(name: str, text: str) -> int:
    """The same for a number as printed in reports: a currency sign before it, commas between thousands only.

    No thousands begin with a zero: `0,500` is half a coin with a decimal comma, and is not accepted.
    """
    text = text.strip()
    whole, _, places = text.removeprefix("$").partition(".")
    digits = whole + places
    # The plain case first, without a call: digits, perhaps with a point among them.
    if digits.isdecimal() and digits.isascii() and len(digits) <= _MOST_DIGITS and len(places) <= PLACES:
        return int(digits) * _SCALES[len(places)]
    match = _MONEY.fullmatch(text)
    if match is None or not match[3].strip(".,"):
        return number(name, text)
    units = number(name, match[3].replace(",", "").rstrip(".").rjust(1, "0"))
    return -units if match[1] or match[2] else units


def money_in(name: str, text: str, currency: str) -> int:
    """The same for an amount in `currency` (in capitals): its sign, or letters, must be that currency's.

    Raises FifoError also CONTRADICTION.
    """
    sign = text.translate(_NO_SIGN)
    if sign and not _is_sign(sign, currency):
        money(name, text)  # first report text that is not a number at all
        raise FifoError("CONTRADICTION", f"{name} {shown(text)} is not in {currency}")
    return money(name, text)


@lru_cache(1_000)
def _is_sign(sign: str, currency: str) -> bool:
    if sign in "eE" or sign.upper() == currency:
        return True  # the e is an exponent's, or the text is not a number
    # A dollar coin may have the dollar sign.
    return currency in _CURRENCIES_OF_SIGN.get(sign, "").split() or (sign == "$" and "USD" in currency)


def last_place(text: str, most: int) -> int:
    """One unit in the last place of a number, in units of 1e-18; at most `most`, as zeros may be cut off."""
    return min(_SCALES[min(len(text.strip().partition(".")[2]), PLACES)], most)


def nanoseconds(value: object) -> int:
    """An ISO 8601 time with zone, as nanoseconds since 1970 UTC. Raises FifoError: NOT_A_TIME, TIME_WITHOUT_ZONE."""
    if type(value) is not str:
        raise FifoError("NOT_A_TIME", f"time is not a text like 2026-01-31T12:00:00Z: {shown(value)}")
    try:
        since: timedelta | None = datetime.fromisoformat(value) - _EPOCH
    except TypeError:
        since = None
    except (ValueError, OverflowError):
        if value.endswith(" UTC"):
            return nanoseconds(value[:-4].strip() + "Z")
        raise _not_a_time(value) from None
    if since is None:
        if value.endswith(" UTC"):
            return nanoseconds(value[:-4].strip() + "Z")
        raise FifoError("TIME_WITHOUT_ZONE", f"time has no zone (write 2026-01-31T12:00:00Z): {shown(value)}")
    whole = ((since.days * _SECONDS_A_DAY + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    if len(value) > len("20260131T120000.123456Z"):
        finer = _FINER_THAN_MICROSECONDS.search(value)
        if finer is not None:
            # Python ignores any characters here, digits or not.
            if not (finer[1].isascii() and finer[1].isdecimal()):
                raise _not_a_time(value)
            whole += int(finer[1][:3].ljust(3, "0"))
    return whole


def _not_a_time(value: str) -> FifoError:
    return FifoError("NOT_A_TIME", f"time is not a time like 2026-01-31T12:00:00Z: {shown(value)}")


def fee_currency(given: object, symbol: str) -> str:
    """`quote`, `base` or `other`, also from a currency's name: USD is the quote currency of BTC-USD.

    Raises FifoError(MISSING_FIELD) if it is not a text.
    """
    if given in _ABSENT:
        return "quote"
    if type(given) is not str:
        raise FifoError("MISSING_FIELD", f"fee_currency is not a text: {shown(given)}")
    name = given.strip().lower()
    if name in _CURRENCIES:
        return name
    base, _, quote = symbol.lower().replace("/", "-").replace("_", "-").partition("-")
    return "quote" if name == quote else "base" if name == base else "other"


def sequence(value: object) -> int:
    """A whole number, 0 if there is none. Raises FifoError(NOT_A_NUMBER)."""
    if type(value) is int:
        return value
    if type(value) is str and value.isdecimal() and value.isascii() and len(value) <= _LONGEST_SEQ:
        return int(value)
    if value in _ABSENT:
        return 0
    text = str(value).strip(_BLANKS)
    try:
        if _SEQUENCE.fullmatch(text):
            return int(text)
    except ValueError:
        pass  # longer than Python accepts
    raise FifoError("NOT_A_NUMBER", f"seq is not a whole number: {shown(value)}")
