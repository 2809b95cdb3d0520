"""Coinbase's transactions report, in each of its forms since 2018: trades in the currency that was paid.

The report values every row in the account's currency and names what was paid only in Notes. A row that was paid with a
coin is two fills: the asset's, and the other coin's, at the same moment and for the same value; so is a conversion. One
that was paid with another country's money is a fill on the product that Notes name, with the amount in Notes. Both
fills of a row are accepted, or neither.

Its prices are rounded; the subtotal is what was paid, and therefore decides. Rows that are not trades (transfers,
rewards) open no lots and are left out by name. The older forms have no ids: such a row is identified by its content,
never by its position, as the next download has other lines before it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from fifo.amounts import UNIT, divide_half_even, text_of
from fifo.conversions import Conversions
from fifo.currencies import MONIES, ONE_BOOK, RENAMED, smallest_unit
from fifo.fills import FifoError, Stated
from fifo.notes import Said, Traded, done, may_be, said, traded, unclear
from fifo.parsing import last_place, money_in, nanoseconds, shown
from fifo.sides import APART, CLOSE, Valued, check_size, fill_of, moment, near, require_at_par, rounding, sides_of

__all__ = ["Doubts", "TransactionsReport", "needed", "signed_fee"]

_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"(?:spot )?price currency", "price currency"),
    (r"(?:spot )?price at transaction", "price"),
    (r"sub ?total", "subtotal"),
    (r"(?:total|amount transacted)(?: ?\(.*\))?", "total"),
    (r"fees?(?: and/or spread|/spread)?", "fees"),
)
_IN_A_CURRENCY = re.compile(
    r"([a-z]{3,5}) (spot price at transaction|sub ?total|total(?: ?\(.*\))?|amount transacted(?: ?\(.*\))?"
    r"|fees?(?: and/or spread|/spread)?)"
)
_FIELDS = frozenset({"id", "timestamp", "transaction type", "asset", "quantity transacted", "notes"}) | {
    field for _, field in _MEANINGS
}
_A_DAY = re.compile(r"[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{1,4}")
_FLAT_FEE = 500
"""This many of the smallest units of a currency may be an unstated fee."""
_A_HUNDREDTH = UNIT // 100
"""The precision of amounts in reports, at least."""
_TRADE_WORDS = {"buy", "sell", "convert"}
_WRAPS = {"wrap asset", "unwrap asset", "wrap", "unwrap"}
"""An asset was wrapped, or unwrapped: ETH and CBETH."""
_SPENT = {"card spend", "cardspend"}
_REFUNDS = {"card buy back", "cardbuyback"}
"""Coins returned from a card: the kind's name contains a buy, but it isn't one."""
_IN_BRACKETS = re.compile(r"\s*\([^()]*\)$")

Doubts = dict[str, tuple[int, int]]
"""Lines that were accepted though something is odd or missing: a sentence, the first line, and the number of lines."""

_NO_PAIR = (
    "Notes name no pair, so it is taken as traded against the currency that it is valued in; if it was traded against "
    "another coin, that coin's side is not booked"
)
_ALONE = "it says what an asset became, and the row of its other side is missing: it is left out, and not booked"
_CAME_BACK = "a Card Spend with a Quantity above zero was refunded, and its cost is unknown: it is left out"
_NO_SUM = "Total is not Subtotal with the fees: Subtotal and Fees count"
_DUST = (
    "Price and Subtotal are both rounded to zero, and Notes are no more precise: it is booked with an amount of zero, "
    "as its worth was less than the smallest unit of its currency"
)


class TransactionsReport:
    """Reads the rows of one transactions report."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: its heading, in lower case. Raises FifoError(UNKNOWN_FORMAT) if a column is repeated."""
        self.names: list[str] = []
        """The heading with one name for columns that the forms name differently."""
        self.doubts: Doubts = {}
        currencies: set[str] = set()
        for name in names:
            prefixed = _IN_A_CURRENCY.fullmatch(name)
            if prefixed:
                currencies.add(prefixed[1].upper())
            self.names.append(_meaning(prefixed[2] if prefixed else name))
        twice = [name for name, count in Counter(self.names).items() if name in _FIELDS and count > 1]
        if twice or len(currencies) > 1:
            what = f"names {twice[0]} more than once" if twice else f"has amounts in {' and '.join(sorted(currencies))}"
            raise FifoError("UNKNOWN_FORMAT", f"its heading {what}: leave one of these columns")
        self._currency = next(iter(currencies), "")
        self.left_out: Counter[str] = Counter()
        """By kind, rows that only `finish` can tell are not trades."""
        self.conversions = Conversions(self._counted)
        self._alike: Counter[str] = Counter()

    def stated(self, row: Mapping[str, str], line: int) -> list[Stated] | str:
        """The fills of a row, to be accepted all or none, or the name of its kind if it is not a trade. Raises
        FifoError.

        There is no fill yet for a conversion whose other side has its own row.
        """
        kind = needed(row, "transaction type")
        word = _IN_BRACKETS.sub("", kind.lower()).rpartition(" ")[2]
        if word in ("buy", "sell"):
            return self._trade(row, kind, line, buy=word == "buy")
        if word == "convert" or kind.lower() in _WRAPS:
            return self._conversion(row, kind.lower(), line)
        if kind.lower() in _SPENT:
            return self._spent(row, kind, line)
        if kind.lower() not in _REFUNDS and not _TRADE_WORDS.isdisjoint(re.findall("[a-z]+", kind.lower())):
            raise FifoError("UNKNOWN_SIDE", f"Transaction Type {shown(kind)} is not known, and may be a trade")
        return kind

    def finish(self) -> list[tuple[int, FifoError]]:
        """After the last row: the lines of conversions whose other side is missing."""
        for line, kind in self.conversions.alone():
            self.left_out[kind.title()] += 1
            self._doubt(line, _ALONE)
        return self.conversions.unfinished()

    def _trade(self, row: Mapping[str, str], kind: str, line: int, *, buy: bool) -> list[Stated]:
        valued = self._valued(row, line, buy=buy)
        if buy and valued.outgoing:
            raise FifoError("SIZE_NOT_POSITIVE", "Quantity of a Buy must be above zero")
        verb = done(row.get("notes", ""))
        if verb not in (None, "Bought" if buy else "Sold"):
            raise FifoError("CONTRADICTION", f"Notes say {verb}, Transaction Type is {kind}")
        notes = said(row.get("notes", ""))
        quote, pair = notes.quote, notes.against
        if quote is None and kind.lower().startswith("adv"):
            self._doubt(line, _NO_PAIR)
        if pair and quote != pair and {quote, pair} not in ONE_BOOK:
            raise FifoError("CONTRADICTION", f"Notes name a pair with {pair} and an amount of {quote}")
        if quote is None or quote == valued.currency:
            if quote is not None:
                _check_notes(valued, notes, buy=buy)
            return [fill_of(valued, self._id(valued), valued.currency, buy, valued.value, valued.fee)]
        amount, with_fee = _of_notes(valued, traded(notes), buy=buy)
        require_at_par(valued, amount, quote, comma=notes.price is None and unclear(row["notes"], quote))
        return sides_of(valued, self._id(valued), quote, amount, buy=buy, with_fee=with_fee)

    def _conversion(self, row: Mapping[str, str], kind: str, line: int) -> list[Stated]:
        content = tuple(row.values())
        again = self.conversions.again(row.get("id", "").strip(), content)
        if again is not None:
            return again
        side, notes = self._valued(row, line, buy=None), row.get("notes", "")
        if kind in _WRAPS:
            return self.conversions.wrap(side, content, notes, kind)
        return self.conversions.convert(side, content, notes)

    def _spent(self, row: Mapping[str, str], kind: str, line: int) -> list[Stated] | str:
        """A payment with the card: coins are sold for it, money has no lots."""
        asset, currency = self._names(row, other=False)
        if asset == currency or asset in MONIES:
            return kind
        valued = self._valued(row, line, buy=None)
        if valued.id and not valued.outgoing:
            # Reports with IDs print outgoing amounts as negative: this one was returned.
            self._doubt(line, _CAME_BACK)
            return kind
        return [fill_of(valued, self._id(valued), currency, False, valued.value, valued.fee)]

    def _id(self, valued: Valued) -> str:
        return valued.id or self._counted(valued.known_as)

    def _counted(self, content: str) -> str:
        """Number rows without an id that have the same content, so that each is a fill."""
        self._alike[content] += 1
        return content if self._alike[content] == 1 else f"{content} ({self._alike[content]})"

    def _doubt(self, line: int, sentence: str) -> None:
        first, count = self.doubts.get(sentence, (line, 0))
        self.doubts[sentence] = first, count + 1

    def _names(self, row: Mapping[str, str], *, other: bool) -> tuple[str, str]:
        """The asset and the currency that it is valued in, which must differ if `other`."""
        # Assets are spelled with small letters at times (cbETH), products never (CBETH-USD).
        asset = needed(row, "asset").upper()
        currency = (row.get("price currency") or "").strip().upper() or self._currency
        for name, text in (("Asset", asset), ("Price Currency", currency)):
            if text and not (text.isalnum() and text.isascii()):
                raise FifoError("NOT_A_ROW", f"{name} {shown(text)} is not a name of letters and digits")
        if self._currency not in ("", currency):
            raise FifoError("CONTRADICTION", f"Price Currency is {currency}, and the heading names {self._currency}")
        if not currency:
            raise FifoError("MISSING_FIELD", "Price Currency is missing, and no column names a currency")
        if asset == currency and other:
            raise FifoError("CONTRADICTION", f"Asset and Price Currency are both {asset}")
        return asset, currency

    def _valued(self, row: Mapping[str, str], line: int, *, buy: bool | None) -> Valued:
        """The row's amounts; `buy` is None for a conversion, whose total may include the fee or not."""
        asset, currency = self._names(row, other=buy is not None)
        quantity = money_in("Quantity", needed(row, "quantity transacted"), asset)
        size = abs(quantity)
        price, subtotal = _amount(row, "price", currency), _amount(row, "subtotal", currency)
        total, printed = _amount(row, "total", currency), _amount(row, "fees", currency)
        if price is not None and price < 0:
            raise FifoError("PRICE_NOT_POSITIVE", "Price must not be negative")
        total = None if total is None else abs(total)
        value = None if subtotal is None else abs(subtotal)
        if value is None and total is not None:
            # The first forms only have the total.
            value = total + abs(printed or 0) if buy is False else total - abs(printed or 0)
            if value < 0:
                raise FifoError("CONTRADICTION", "Fees are more than Total")
        if value is None and not price:
            raise FifoError("MISSING_FIELD", "Price and Subtotal are missing")
        stated = None if subtotal is None else value
        if printed is None and value and total is not None:
            # Not stated, so it is the difference to the total.
            fee = value - total if buy is False else total - value if buy else abs(total - value)
        else:
            fee = signed_fee(printed or 0, value, total, adds=buy)
        if not value:
            told = _paid_by_notes(row, currency, fee, buy=buy)
            value = self._rounded_away(line, size, price, value, told, currency)
            if value is None:
                total = total or None  # a total that was rounded to zero is no information either
        elif price:
            place = last_place(row["price"], smallest_unit(currency))
            _check_price(size, price, place, value, currency, rough=subtotal is None and printed is None)
        worth = divide_half_even(size * (price or 0), UNIT) if value is None else value
        sums_up = total is not None and self._sums_up(line, worth, fee, total, currency, adds=buy)
        if abs(fee) > worth + rounding(currency) and not (sums_up and printed is not None):
            raise FifoError("CONTRADICTION", f"Fees are {text_of(fee)}, and more than {text_of(worth)} that was traded")
        time, fill_id = _time(needed(row, "timestamp")), row.get("id", "").strip()
        return Valued(
            fill_id, time, line, asset, size, quantity < 0, currency, price, value, fee, total,
            "" if fill_id else _known_as(time, asset, currency, size, stated, price, printed, buy=buy),
        )  # fmt: skip

    def _sums_up(self, line: int, value: int, fee: int, total: int, currency: str, *, adds: bool | None) -> bool:
        """Whether a total is value and fee. Raises FifoError if it differs by far."""
        if _add_up(value, fee, total, currency, adds=adds):
            return True
        if not any(near(sum_, total, currency) for sum_ in (value, value + fee, value - fee)):
            raise FifoError(
                "CONTRADICTION",
                f"{text_of(value)} was traded, Fees are {text_of(fee)} and Total is {text_of(total)}: is a comma a "
                "decimal one?",
            )
        self._doubt(line, _NO_SUM)
        return False

    def _rounded_away(
        self, line: int, size: int, price: int | None, value: int | None, told: int | None, currency: str
    ) -> int | None:
        """The value if the subtotal is missing or was rounded to zero: None means quantity times price.

        `told` is the value by Notes. Raises FifoError if the value can't be known.
        """
        if price:
            if value is None or size * price <= max(_A_HUNDREDTH, rounding(currency)) * UNIT:
                return None
            raise FifoError(
                "CONTRADICTION",
                f"Subtotal is zero and Quantity times Price is {text_of(size * price // UNIT)}: which of them is it?",
            )
        if told is not None:
            return told
        if price is None:
            raise FifoError("PRICE_NOT_POSITIVE", "Subtotal is zero, and neither Price nor Notes say what it was")
        self._doubt(line, _DUST)
        return 0


def needed(row: Mapping[str, str], name: str) -> str:
    """A field's text. Raises FifoError(MISSING_FIELD)."""
    value = row.get(name, "").strip()
    if not value:
        raise FifoError("MISSING_FIELD", f"{name} is missing")
    return value


def signed_fee(printed: int, value: int | None, total: int | None, *, adds: bool | None) -> int:
    """The fee of a row, in its units: some reports print payments as negative, so its sign means nothing.

    Only if the total then fits better (`adds`: a buy's total includes the fee, a sell's doesn't; None: either) is a
    negative fee a rebate.
    """
    fee = abs(printed)
    if printed >= 0 or value is None or total is None or adds is None:
        return fee
    paid, rebated = (value + fee, value - fee) if adds else (value - fee, value + fee)
    return -fee if abs(rebated - total) < abs(paid - total) else fee


def _add_up(value: int, fee: int, total: int, currency: str, *, adds: bool | None) -> bool:
    most = rounding(currency) + value // CLOSE
    more, less = abs(total - value - fee) <= most, abs(total - value + fee) <= most
    return more or less if adds is None else more if adds else less


def _meaning(name: str) -> str:
    return next((field for pattern, field in _MEANINGS if re.fullmatch(pattern, name)), name)


def _amount(row: Mapping[str, str], name: str, currency: str) -> int | None:
    text = row.get(name, "")
    if not text or text.isspace():
        return None
    return money_in(name.capitalize(), text, currency)


def _paid_by_notes(row: Mapping[str, str], currency: str, fee: int, *, buy: bool | None) -> int | None:
    """The value by Notes, which may be more precise than Subtotal; None if they have none."""
    notes = traded(said(row.get("notes", "")))
    if buy is None or notes.quote != currency or not notes.amount:
        return None
    return max(notes.amount - fee, 0) if buy else notes.amount + fee


def _check_price(size: int, price: int, price_place: int, value: int, currency: str, *, rough: bool) -> None:
    """`price_place`: the rounding of the price. `rough`: the value may include an unstated fee."""
    expected = size * price // UNIT
    slack = size * price_place // UNIT + (
        _FLAT_FEE * smallest_unit(currency) + max(expected, value) // 2 if rough else 0
    )
    if abs(expected - value) > slack and not near(expected, value, currency):
        raise FifoError(
            "CONTRADICTION",
            f"Quantity times Price is {text_of(expected)} and Subtotal is {text_of(value)}: is a comma a decimal one?",
        )


def _check_notes(valued: Valued, text: Said, *, buy: bool) -> None:
    """Notes in the currency that the row is valued in add nothing, but must not contradict it."""
    if text.base != valued.asset and {text.base, valued.asset} not in RENAMED:
        raise FifoError("CONTRADICTION", f"Notes name {text.base}, Asset is {valued.asset}")
    size, worth = valued.size, valued.worth()
    if text.size and not may_be(text.size, size - size // CLOSE, size + size // CLOSE):
        raise FifoError("CONTRADICTION", f"Quantity is {text_of(size)}, and Notes say {shown(text.size)}")
    sums = [worth, worth + valued.fee if buy else worth - valued.fee]
    sums += [] if valued.total is None else [valued.total]
    rounded = rounding(valued.currency)
    least, most = (min(sums) - min(sums) // APART - rounded, max(sums) + max(sums) // APART + rounded)
    if text.amount and not may_be(text.amount, least, most):
        raise FifoError("CONTRADICTION", f"Subtotal is {text_of(worth)}, and Notes say {shown(text.amount)}")
    if text.price and size and not may_be(text.price, least * UNIT // size, most * UNIT // size):
        raise FifoError("CONTRADICTION", f"Price is {text_of(worth * UNIT // size)}, and Notes say {shown(text.price)}")


def _known_as(
    time: int,
    asset: str,
    currency: str,
    size: int,
    value: int | None,
    price: int | None,
    printed: int | None,
    *,
    buy: bool | None,
) -> str:
    """The identification of a row without an id: its valuation, with its fee as printed.

    It must never change, or a repeated import would book everything twice.
    """
    amount = f"at {text_of(price or 0)}" if value is None else f"for {text_of(value)}"
    side = "buy" if buy else "sell"
    return f"{moment(time)} {side} {text_of(size)} {asset}-{currency} {amount}, fee {text_of(printed or 0)}"


def _time(text: str) -> int:
    if _A_DAY.fullmatch(text):
        raise FifoError(
            "NOT_A_TIME",
            f"Timestamp is a day without hour and zone: {shown(text)} (the report as it is downloaded today has both)",
        )
    return nanoseconds(text)


def _of_notes(valued: Valued, notes: Traded, *, buy: bool) -> tuple[int, bool]:
    """The amount of the other currency that moved, and whether it includes the fee. Raises FifoError."""
    if notes.base != valued.asset:
        raise FifoError("CONTRADICTION", f"Notes name {notes.base} for {notes.quote}, Asset is {valued.asset}")
    if not notes.amount or not notes.size:
        raise FifoError(
            "OTHER_SIDE_MISSING", f"it was traded for {notes.quote}, and Notes do not say for how much (as 0.05)"
        )
    check_size(valued, notes.size)
    if not notes.price:
        # The amount in Notes is what moved, including the fee.
        return notes.amount, True
    worth = valued.worth()
    net = worth + valued.fee if buy else worth - valued.fee
    bare = divide_half_even(valued.size * notes.price, UNIT)
    off_without, off_with = abs((notes.amount - bare) * worth), abs(notes.amount * worth - bare * net)
    if min(off_without, off_with) * 20 > bare * worth:
        raise FifoError(
            "CONTRADICTION",
            f"Notes say {text_of(notes.amount)} {notes.quote} and a price that makes {text_of(bare)} of it",
        )
    return notes.amount, off_with <= off_without
