"""Crypto.com's JSON as the port's types. Pure functions; where they disagree, recorded messages win over documentation.

Rules: amounts are strings, and `null` or missing where nothing is known; times are milliseconds (`…_ns`: nanoseconds)
since 1970, as numbers or text. An order's totals are `cumulative_quantity` and `cumulative_value`; its `cumulative_fee`
is not read, as its sign and currency vary: fees come from executions alone, each in its own currency. An execution's
`fees` are negative when they were charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from domain.market import currencies
from domain.money import EXACT, ZERO
from domain.orders import Side, VenueStatus
from exchange.cryptocom.answers import reason_name
from exchange.port import Balance, BookLevel, Candle, FeeRates, OrderBook, Product, VenueFill, VenueOrder
from exchange.reading import (
    MessageError,
    not_negative,
    number,
    number_or_none,
    optional_number,
    positive,
    side_of,
    text_of,
)

__all__ = [
    "Row",
    "balances_from",
    "book_from",
    "candle",
    "executed",
    "fill",
    "instrument_rates",
    "known_status",
    "levels",
    "minima_from",
    "moment",
    "moment_in_nanoseconds",
    "order_from_row",
    "product",
    "row_of",
    "rows_of",
    "size_for_sure",
    "tier_rates",
]

Row = Mapping[str, object]
"""A JSON object of the venue, before it is understood."""

_STATUS: Mapping[str, VenueStatus] = {
    "NEW": VenueStatus.PENDING,
    "PENDING": VenueStatus.PENDING,
    "ACTIVE": VenueStatus.OPEN,
    "FILLED": VenueStatus.FILLED,
    "CANCELED": VenueStatus.CANCELLED,
    "CANCELLED": VenueStatus.CANCELLED,
    "REJECTED": VenueStatus.FAILED,
    "EXPIRED": VenueStatus.EXPIRED,
}
_ENDED = frozenset({VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.FAILED})
_DOLLARS = frozenset({"USD", "USDT", "USDC"})
_NO_MAXIMUM = Decimal(10) ** 15
"""Where the venue gives no maximum: its own refusal stands."""
_BASIS_POINTS = Decimal("0.0001")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def row_of(value: object, what: str) -> Row:
    """A JSON object. Raises MessageError for anything else."""
    if not isinstance(value, Mapping):
        raise MessageError(f"{what} is not an object")
    return value


def rows_of(result: Row, what: str) -> Sequence[object]:
    """The list `data` of a result; empty where the venue leaves it out. Raises MessageError."""
    data = result.get("data")
    if data is None:
        return ()
    if not isinstance(data, list):
        raise MessageError(f"{what}: data is not a list")
    return data


def moment(value: object, name: str) -> datetime:
    """Milliseconds since 1970 as UTC. Raises MessageError for no such time."""
    milliseconds = positive(value, name)
    try:
        return _BEGINNING + timedelta(milliseconds=int(milliseconds))
    except OverflowError:
        raise MessageError(f"{name} is not a time: {value!r}") from None


def moment_in_nanoseconds(row: Row, *names: str) -> datetime:
    """The first of these times that is there: nanoseconds, or milliseconds by a name without `_ns`. Cut to
    microseconds. Raises MessageError if there is none."""
    for name in names:
        value = row.get(name)
        if value in (None, "", 0, "0"):
            continue
        if not name.endswith("_ns"):
            return moment(value, name)
        try:
            return _BEGINNING + timedelta(microseconds=int(positive(value, name)) // 1000)
        except OverflowError:
            raise MessageError(f"{name} is not a time: {value!r}") from None
    raise MessageError(f"{names[0]} is missing")


def _optional_moment(row: Row, *names: str) -> datetime | None:
    if all(row.get(name) in (None, "", 0, "0") for name in names):
        return None
    return moment_in_nanoseconds(row, *names)


# --- orders and executions ---------------------------------------------------------------------------------------


def known_status(text: object) -> bool:
    """Whether the venue's status is known; any other counts as pending, so that its fills are not lost."""
    return isinstance(text, str) and text in _STATUS


def size_for_sure(raw: object) -> tuple[Decimal | None, bool]:
    """The filled size, and whether it ended, of an order's row that can't be parsed as a whole."""
    told = raw.get("cumulative_quantity") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or told in (None, ""):
        return None, False
    try:
        size = not_negative(told, "cumulative_quantity")
    except MessageError:
        return None, False
    return size, _STATUS.get(str(raw.get("status"))) in _ENDED


def order_from_row(row: Row, identity: str, fills: Iterable[VenueFill]) -> VenueOrder:
    """An order by its newest row and its executions, as the port's order `identity`.

    Executions that reach the row's size, or more, give size, value and fees. Fewer give the fees that are known so far.

    Raises:
        MessageError: it has no product or side, a number can't be parsed, or it has filled at no price.
    """
    symbol = text_of(row, "instrument_name")
    size, value = _totals(row)
    known = executed(fills, symbol)
    if known.filled_size >= size:
        size, value = known.filled_size, known.filled_value
    quantity = optional_number(row.get("quantity"), "quantity")
    status = _status(row, size, quantity)
    reason = reason_name(row.get("reason")) or reason_name(row.get("reject_reason"))
    return VenueOrder(
        exchange_order_id=identity,
        client_order_id=str(row.get("client_oid") or ""),
        symbol=symbol,
        side=side_of(row, "side"),
        status=status,
        filled_size=size,
        filled_value=value,
        quote_fees=known.quote_fees,
        base_fees=known.base_fees,
        other_fees=known.other_fees,
        fill_count=known.fill_count,
        order_type=str(row.get("order_type") or row.get("type") or "").upper(),
        base_size=quantity,
        limit_price=optional_number(row.get("limit_price") or row.get("price"), "limit_price"),
        created_at=_optional_moment(row, "create_time_ns", "create_time"),
        updated_at=_optional_moment(row, "transaction_time_ns", "update_time"),
        reason=reason,
        on_request=status is VenueStatus.CANCELLED and not reason and _ends_on_request_only(row),
        raw=row,
    )


def _status(row: Row, size: Decimal, quantity: Decimal | None) -> VenueStatus:
    status = _STATUS.get(str(row.get("status")), VenueStatus.PENDING)
    # A market buy by an amount of money ends CANCELED when it has bought what the money is enough for.
    if status is VenueStatus.CANCELLED and quantity is not None and size >= quantity:
        return VenueStatus.FILLED
    return status


def _ends_on_request_only(row: Row) -> bool:
    """Nothing but a request cancels a resting order; the venue doesn't say whose it was."""
    return (
        row.get("time_in_force") in ("GOOD_TILL_CANCEL", None, "")
        and row.get("order_type") != "MARKET"
        and not row.get("contingency_type")
    )


def _totals(row: Row) -> tuple[Decimal, Decimal]:
    size = not_negative(row.get("cumulative_quantity"), "cumulative_quantity")
    value = not_negative(row.get("cumulative_value"), "cumulative_value")
    if size and not value:
        average = not_negative(row.get("avg_price"), "avg_price")
        if not average:
            # Booked like this, the fill would have a price of zero.
            raise MessageError(f"cumulative_quantity is {size} without a price, so its value is not known")
        value = EXACT.multiply(average, size)
    return size, value


def fill(row: Row, identity: str) -> VenueFill:
    """One execution of the port's order `identity`; its fee in the currency that the venue took.

    Raises:
        MessageError: an id, the side, the price, the size, the time or the fee's currency is missing or wrong.
    """
    symbol = text_of(row, "instrument_name")
    fee = -number(row.get("fees"), "fees")
    currency = str(row.get("fee_instrument_name") or "")
    if fee and not currency:
        raise MessageError("fee_instrument_name is missing, so the currency of the fee is not known")
    known = currencies(symbol)
    liquidity = row.get("taker_side")
    return VenueFill(
        trade_id=text_of(row, "trade_id"),
        exchange_order_id=identity,
        symbol=symbol,
        side=side_of(row, "side"),
        size=positive(row.get("traded_quantity"), "traded_quantity"),
        price=positive(row.get("traded_price"), "traded_price"),
        fee=fee,
        fee_currency=currency or (known[1] if known else ""),
        liquidity=str(liquidity) if liquidity in ("MAKER", "TAKER") else "UNKNOWN",
        at=moment_in_nanoseconds(row, "create_time_ns", "transact_time_ns", "transaction_time_ns", "create_time"),
        raw=row,
    )


def executed(fills: Iterable[VenueFill], symbol: str) -> VenueOrder:
    """What executions of one order add up to, as an order that is open: no more is known of it than they say."""
    base, quote = currencies(symbol) or (symbol, "")
    size = value = ZERO
    by_currency: dict[str, Decimal] = {}
    count, first, last = 0, None, None
    for item in fills:
        count += 1
        first, last = first or item, item
        size += item.size
        value += item.size * item.price
        by_currency[item.fee_currency] = by_currency.get(item.fee_currency, ZERO) + item.fee
    return VenueOrder(
        exchange_order_id=first.exchange_order_id if first else "",
        client_order_id=str(first.raw.get("client_oid") or "") if first else "",
        symbol=symbol,
        side=first.side if first else Side.BUY,
        status=VenueStatus.OPEN,
        filled_size=size,
        filled_value=value,
        quote_fees=by_currency.pop(quote, ZERO),
        base_fees=by_currency.pop(base, ZERO),
        other_fees={name: fee for name, fee in by_currency.items() if fee},
        fill_count=count,
        updated_at=last.at if last else None,
        raw=last.raw if last else {},
    )


# --- the account -------------------------------------------------------------------------------------------------


def balances_from(result: Row) -> dict[str, Balance]:
    """The account's currencies. Its margin figures are left out: they are not money that an order may use.

    Raises:
        MessageError: a row has no currency, or a number can't be parsed.
    """
    found: dict[str, Balance] = {}
    for wallet in rows_of(result, "the balances"):
        positions = row_of(wallet, "a wallet").get("position_balances") or []
        if not isinstance(positions, list):
            raise MessageError("position_balances is not a list")
        for item in positions:
            row = row_of(item, "a balance")
            currency = text_of(row, "instrument_name")
            total = number(row.get("quantity"), "quantity")
            hold = number(row.get("reserved_qty"), "reserved_qty")
            known = found.get(currency)
            if known is not None:
                total, hold = total + known.total, hold + known.hold
            found[currency] = Balance(currency, total - hold, hold)
    return found


def _rate(row: Row, name: str) -> Decimal:
    value = row.get(name)
    if value is None or value == "":
        raise MessageError(f"{name} is missing")
    return number(value, name) * _BASIS_POINTS


def instrument_rates(result: Row) -> FeeRates:
    """What is charged for an instrument, from basis points; a missing one is unknown, not zero. Raises MessageError."""
    return FeeRates(_rate(result, "effective_maker_rate_bps"), _rate(result, "effective_taker_rate_bps"))


def tier_rates(result: Row) -> FeeRates:
    """The rates of the account's tier; an instrument may have others. Raises MessageError as above."""
    return FeeRates(_rate(result, "effective_spot_maker_rate_bps"), _rate(result, "effective_spot_taker_rate_bps"))


# --- the market --------------------------------------------------------------------------------------------------


def minima_from(result: Row) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    """By base currency the least and the greatest value of an order in dollars; None where the venue says nothing.

    Raises:
        MessageError: the list is missing, or a number can't be parsed.
    """
    rows = result.get("base_currency_config")
    if not isinstance(rows, list):
        raise MessageError("base_currency_config is not a list")
    found = {}
    for item in rows:
        row = row_of(item, "a currency")
        found[text_of(row, "instrument_name")] = (
            optional_number(row.get("min_order_notional_usd"), "min_order_notional_usd"),
            optional_number(row.get("max_order_notional_usd"), "max_order_notional_usd"),
        )
    return found


def product(row: Row, minima: Mapping[str, tuple[Decimal | None, Decimal | None]], ticker: Row) -> Product | None:
    """The rules of a spot product; None for derivatives, and for other venues' books under a longer name.

    Sizes and prices go by ticks: the decimals that the venue gives beside them can be finer. Its minimum is an amount
    of dollars, so where the quote currency is none, only the venue itself can say what is too small.

    Raises:
        MessageError: a currency or a tick is missing.
    """
    symbol = text_of(row, "symbol")
    base, quote = str(row.get("base_ccy") or ""), str(row.get("quote_ccy") or "")
    if row.get("inst_type") != "CCY_PAIR" or symbol != f"{base}_{quote}":
        return None
    size_tick = positive(row.get("qty_tick_size"), "qty_tick_size")
    price_tick = positive(row.get("price_tick_size"), "price_tick_size")
    decimals = int(not_negative(row.get("quote_decimals"), "quote_decimals"))
    least, most = minima.get(base, (None, None)) if quote in _DOLLARS else (None, None)
    price = number_or_none(ticker.get("a"))
    return Product(
        symbol=symbol,
        base=base,
        quote=quote,
        base_increment=size_tick,
        quote_increment=Decimal(1).scaleb(-min(decimals, 18)),
        price_increment=price_tick,
        base_min=size_tick,
        base_max=_NO_MAXIMUM,
        quote_min=least or ZERO,
        quote_max=most or _NO_MAXIMUM,
        halted=row.get("tradable") is not True,
        price=price or None,
        change_24h=number_or_none(ticker.get("c")),
        quote_volume_24h=number_or_none(ticker.get("vv")) if quote in _DOLLARS else None,
    )


def candle(row: Row, symbol: str) -> Candle:
    """A candle; `t` is its opening time. Raises MessageError."""
    return Candle(
        symbol,
        moment(row.get("t"), "t"),
        positive(row.get("o"), "o"),
        positive(row.get("h"), "h"),
        positive(row.get("l"), "l"),
        positive(row.get("c"), "c"),
        not_negative(row.get("v"), "v"),
    )


def levels(rows: object, side: Side) -> list[BookLevel]:
    """Levels `[price, size, number of orders]` in the venue's order. Raises MessageError."""
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise MessageError("bids and asks should be lists")
    found = []
    for level in rows:
        if not isinstance(level, list) or len(level) < 2:
            raise MessageError(f"a level is not a pair of price and size: {level!r}")
        found.append(BookLevel(side, positive(level[0], "price"), not_negative(level[1], "size")))
    return found


def book_from(result: Row, symbol: str, depth: int, latest: datetime) -> OrderBook:
    """The best `depth` levels of both sides, with a time of at most `latest`. Raises MessageError."""
    rows = rows_of(result, "the book")
    if not rows:
        raise MessageError("data is empty")
    book = row_of(rows[0], "the book")
    at = min(_optional_moment(book, "t") or latest, latest)
    bids = levels(book.get("bids"), Side.BUY)[:depth]
    return OrderBook(symbol, bids, levels(book.get("asks"), Side.SELL)[:depth], at)
