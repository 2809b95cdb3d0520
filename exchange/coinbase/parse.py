"""Coinbase's JSON as the port's types. Pure functions; where they disagree, recorded messages win over documentation.

Rules: numbers are strings, `""`, `null` and `".19"` included; times have zero to nine fraction digits (cut to
microseconds); totals of an order are `filled_size`/`cumulative_quantity`, `filled_value` (or average price × size if
it is missing) and `total_fees`; an unknown status is not the end of an order. Whatever can't be parsed raises
`MessageError` with a reason that a person can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from domain.money import EXACT, divide
from domain.orders import Side, VenueStatus
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
    "book_from",
    "candle",
    "fee_rates_from",
    "fill",
    "fraction_of_percent",
    "known_status",
    "moment_of",
    "optional_time",
    "order_from_rest",
    "order_from_stream",
    "product",
    "size_for_sure",
    "time_of",
    "trades_from",
    "wallet",
]

_ASKED_FOR = "user requested"
_STATUS: Mapping[str, VenueStatus] = {
    "UNKNOWN_ORDER_STATUS": VenueStatus.PENDING,
    "PENDING": VenueStatus.PENDING,
    "QUEUED": VenueStatus.PENDING,
    "OPEN": VenueStatus.OPEN,
    "EDIT_QUEUED": VenueStatus.OPEN,
    "CANCEL_QUEUED": VenueStatus.CANCELLING,
    "FILLED": VenueStatus.FILLED,
    "CANCELLED": VenueStatus.CANCELLED,
    "CANCELED": VenueStatus.CANCELLED,
    "EXPIRED": VenueStatus.EXPIRED,
    "FAILED": VenueStatus.FAILED,
}
_ENDED = frozenset({VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.FAILED})
_NO_TIME_BEFORE = datetime(1970, 1, 1, tzinfo=UTC)
_EIGHTEEN_PLACES = Decimal("1e-18")


def time_of(value: object, name: str) -> datetime:
    """An RFC 3339 time as UTC; digits beyond microseconds are cut off.

    Raises:
        MessageError: it is not such a time.
    """
    try:
        result = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise MessageError(f"{name} is not a time: {value!r}") from None
    zone = result.tzinfo
    if zone is UTC:
        return result
    return result.replace(tzinfo=UTC) if zone is None else result.astimezone(UTC)


def optional_time(value: object, name: str) -> datetime | None:
    """A time, or None for `""`, `null` and the venue's "0001-01-01T00:00:00Z"."""
    if value is None or value == "":
        return None
    result = time_of(value, name)
    return result if result >= _NO_TIME_BEFORE else None


def moment_of(answer: Mapping[str, Any]) -> datetime:
    """The moment (UTC) in an answer of the time endpoint. Raises MessageError if there is none."""
    milliseconds = number(answer.get("epochMillis"), "epochMillis")
    if milliseconds:
        try:
            return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
        except (OverflowError, OSError, ValueError) as problem:
            raise MessageError(f"epochMillis is not a time: {problem}") from None
    moment = optional_time(answer.get("iso"), "iso")
    if moment is None:
        raise MessageError("epochMillis and iso are both missing")
    return moment


def known_status(text: object) -> bool:
    """Whether the venue's status is known; any other counts as pending, so that its fills are not lost."""
    return isinstance(text, str) and text in _STATUS


def size_for_sure(raw: object) -> tuple[Decimal | None, bool]:
    """The filled size, and whether it ended, of a user channel's order that can't be parsed as a whole."""
    told = raw.get("cumulative_quantity") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(told, str) or not told:
        return None, False
    try:
        size = not_negative(told, "cumulative_quantity")
    except MessageError:
        return None, False
    return size, _STATUS.get(str(raw.get("status"))) in _ENDED


def _totals(raw: Mapping[str, Any], size_name: str, average_name: str) -> tuple[Decimal, Decimal, Decimal]:
    size = not_negative(raw.get(size_name), size_name)
    value = not_negative(raw.get("filled_value"), "filled_value")
    if size and not value:
        average = not_negative(raw.get(average_name), average_name)
        if not average:
            # Booked like this, the fill would have a price of zero.
            raise MessageError(f"{size_name} is {size} without a price, so its value is not known")
        value = EXACT.multiply(average, size)
    fees = raw.get("total_fees")
    return size, value, number(raw.get("fee") if fees is None or fees == "" else fees, "total_fees")


def _count(value: object) -> int:
    count = number(value, "number_of_fills")
    return int(count)


def order_from_rest(raw: Mapping[str, Any]) -> VenueOrder:
    """An order of the REST API (list or single).

    Raises:
        MessageError: it has no id, product or side, a number can't be parsed, or it has filled at no price.
    """
    size, value, fees = _totals(raw, "filled_size", "average_filled_price")
    status = _STATUS.get(str(raw.get("status")), VenueStatus.PENDING)
    if status is VenueStatus.OPEN and raw.get("pending_cancel") is True:
        status = VenueStatus.CANCELLING
    configuration = raw.get("order_configuration")
    inner: Mapping[str, Any] = {}
    if isinstance(configuration, Mapping):
        inner = next((item for item in configuration.values() if isinstance(item, Mapping)), {})
    return VenueOrder(
        exchange_order_id=text_of(raw, "order_id"),
        client_order_id=str(raw.get("client_order_id") or ""),
        symbol=text_of(raw, "product_id"),
        side=side_of(raw, "side"),
        status=status,
        filled_size=size,
        filled_value=value,
        quote_fees=fees,
        fill_count=_count(raw.get("number_of_fills")),
        order_type=str(raw.get("order_type") or "").upper(),
        base_size=optional_number(inner.get("base_size"), "base_size"),
        limit_price=optional_number(inner.get("limit_price"), "limit_price"),
        created_at=optional_time(raw.get("created_time"), "created_time"),
        updated_at=optional_time(raw.get("last_update_time") or raw.get("last_fill_time"), "last_fill_time"),
        reason=_reason(raw, "reject_message", "cancel_message", "reject_reason"),
        on_request=_on_request(status, raw.get("cancel_message")),
        raw=raw,
    )


def order_from_stream(raw: Mapping[str, Any], at: datetime) -> VenueOrder:
    """An order of the user channel; `at` is the message's time.

    `leaves_quantity` is in the currency in which the order was sized, which the message doesn't say. `base_size` is
    known only for a sell whose hold equals it, as a sell's hold is in base.

    Raises:
        MessageError: it has no id, product or side, a number can't be parsed, or it has filled at no price.
    """
    size, value, fees = _totals(raw, "cumulative_quantity", "avg_price")
    side, leaves = side_of(raw, "order_side"), number_or_none(raw.get("leaves_quantity"))
    in_base = side is Side.SELL and leaves == number_or_none(raw.get("outstanding_hold_amount"))
    status = _STATUS.get(str(raw.get("status")), VenueStatus.PENDING)
    return VenueOrder(
        exchange_order_id=text_of(raw, "order_id"),
        client_order_id=str(raw.get("client_order_id") or ""),
        symbol=text_of(raw, "product_id"),
        side=side,
        status=status,
        filled_size=size,
        filled_value=value,
        quote_fees=fees,
        fill_count=_count(raw.get("number_of_fills")),
        order_type=str(raw.get("order_type") or "").upper(),
        base_size=size + leaves if in_base and leaves else None,
        limit_price=optional_number(raw.get("limit_price"), "limit_price"),
        created_at=optional_time(raw.get("creation_time"), "creation_time"),
        updated_at=at,
        reason=_reason(raw, "reject_reason", "reject_Reason", "cancel_reason"),
        on_request=_on_request(status, raw.get("cancel_reason")),
        raw=raw,
    )


def _on_request(status: VenueStatus, said: object) -> bool:
    """Whether an order was cancelled because somebody requested it: "User requested cancel"."""
    return status is VenueStatus.CANCELLED and isinstance(said, str) and _ASKED_FOR in said.casefold()


def _reason(raw: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = raw.get(name)
        if isinstance(value, str) and value and value != "REJECT_REASON_UNSPECIFIED":
            return value
    return ""


def fill(raw: Mapping[str, Any]) -> VenueFill:
    """One execution. A REVERSAL cancels what it reverses: its size and fee are negative.

    A size in quote currency (`size_in_quote`) is converted to base, rounded half-even to 18 places.

    Raises:
        MessageError: an id, the side, the price or the time is missing or wrong.
    """
    price = positive(raw.get("price"), "price")
    size = number(raw.get("size"), "size")
    fee = number(raw.get("commission"), "commission")
    if raw.get("size_in_quote") is True:
        size = divide(size, price).quantize(_EIGHTEEN_PLACES, context=EXACT)
    if raw.get("trade_type") == "REVERSAL":
        size, fee = -abs(size), -fee
    symbol = text_of(raw, "product_id")
    return VenueFill(
        trade_id=str(raw.get("trade_id") or raw.get("entry_id") or "") or text_of(raw, "trade_id"),
        exchange_order_id=text_of(raw, "order_id"),
        symbol=symbol,
        side=side_of(raw, "side"),
        size=size,
        price=price,
        fee=fee,
        fee_currency=symbol.rpartition("-")[2],
        liquidity=_liquidity(raw.get("liquidity_indicator")),
        at=time_of(raw.get("trade_time"), "trade_time"),
        raw=raw,
    )


def _liquidity(value: object) -> str:
    return str(value) if value in ("MAKER", "TAKER") else "UNKNOWN"


def product(raw: Mapping[str, Any]) -> Product:
    """A product's rules.

    Raises:
        MessageError: an id or an increment is missing.
    """
    symbol = text_of(raw, "product_id")
    base, _, quote = symbol.rpartition("-")
    quote_increment = positive(raw.get("quote_increment"), "quote_increment")
    return Product(
        symbol=symbol,
        base=str(raw.get("base_currency_id") or base),
        quote=str(raw.get("quote_currency_id") or quote),
        base_increment=positive(raw.get("base_increment"), "base_increment"),
        quote_increment=quote_increment,
        price_increment=optional_number(raw.get("price_increment"), "price_increment") or quote_increment,
        base_min=number(raw.get("base_min_size"), "base_min_size"),
        base_max=number(raw.get("base_max_size"), "base_max_size"),
        quote_min=number(raw.get("quote_min_size"), "quote_min_size"),
        quote_max=number(raw.get("quote_max_size"), "quote_max_size"),
        limit_only=raw.get("limit_only") is True,
        cancel_only=raw.get("cancel_only") is True,
        post_only=raw.get("post_only") is True,
        halted=any(raw.get(name) is True for name in ("is_disabled", "trading_disabled", "view_only", "auction_mode"))
        or raw.get("status") not in ("online", "", None),
        price=optional_number(raw.get("price"), "price"),
        change_24h=fraction_of_percent(raw.get("price_percentage_change_24h")),
        quote_volume_24h=number_or_none(raw.get("approximate_quote_24h_volume")),
    )


def fraction_of_percent(value: object) -> Decimal | None:
    """An optional percentage: None if it can't be parsed, so that the other rules are still read."""
    figure = number_or_none(value)
    return None if figure is None else figure / 100


def candle(raw: Mapping[str, Any], symbol: str) -> Candle:
    """A candle; `start` is seconds since 1970 as text.

    Raises:
        MessageError: a number can't be parsed.
    """
    seconds = number(raw.get("start"), "start")
    try:
        start = datetime.fromtimestamp(int(seconds), UTC)
    except (OverflowError, OSError, ValueError):
        raise MessageError(f"start is not a time: {raw.get('start')!r}") from None
    return Candle(
        symbol,
        start,
        positive(raw.get("open"), "open"),
        positive(raw.get("high"), "high"),
        positive(raw.get("low"), "low"),
        positive(raw.get("close"), "close"),
        not_negative(raw.get("volume"), "volume"),
    )


_NOT_TRADED = frozenset({"ACCOUNT_TYPE_VAULT", "ACCOUNT_TYPE_PERP_FUTURES"})
_ELSEWHERE = frozenset({"ACCOUNT_PLATFORM_CFM_CONSUMER", "ACCOUNT_PLATFORM_INTX"})


def trades_from(raw: Mapping[str, Any]) -> bool:
    """Whether spot orders can use this wallet: not a vault, a futures wallet or a closed one."""
    return not (
        raw.get("type") in _NOT_TRADED
        or raw.get("platform") in _ELSEWHERE
        or raw.get("active") is False
        or raw.get("ready") is False
        or bool(raw.get("deleted_at"))
    )


def wallet(raw: Mapping[str, Any]) -> Balance:
    """One wallet's balance.

    Raises:
        MessageError: the currency is missing or a number can't be parsed.
    """
    available, hold = raw.get("available_balance") or {}, raw.get("hold") or {}
    if not isinstance(available, Mapping) or not isinstance(hold, Mapping):
        raise MessageError("available_balance and hold should be objects")
    return Balance(
        text_of(raw, "currency"), number(available.get("value"), "available_balance"), number(hold.get("value"), "hold")
    )


def book_from(answer: Mapping[str, Any], symbol: str, depth: int, latest: datetime) -> OrderBook:
    """The best `depth` levels of both sides, with a time of at most `latest`. Raises MessageError."""
    book = answer.get("pricebook")
    if not isinstance(book, Mapping):
        raise MessageError("pricebook is missing")
    bids, asks = (
        [
            BookLevel(
                side,
                positive(level.get("price"), name),
                optional_number(level.get("size"), "size") or Decimal(0),
            )
            for level in (book.get(name + "s") or [])[:depth]
        ]
        for side, name in ((Side.BUY, "bid"), (Side.SELL, "ask"))
    )
    return OrderBook(symbol, bids, asks, min(optional_time(book.get("time"), "time") or latest, latest))


def fee_rates_from(answer: Mapping[str, Any]) -> FeeRates:
    """The rates of the account's fee tier. Raises MessageError."""
    tier = answer.get("fee_tier")
    if not isinstance(tier, Mapping) or not tier.get("maker_fee_rate") or not tier.get("taker_fee_rate"):
        raise MessageError("fee_tier lacks a rate")
    return FeeRates(number(tier["maker_fee_rate"], "maker_fee_rate"), number(tier["taker_fee_rate"], "taker_fee_rate"))
