"""The venue's own JSON, oddities included, as the port's types."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from domain.orders import Side, VenueStatus
from exchange.coinbase.keys import ApiKey
from exchange.coinbase.parse import (
    candle,
    fill,
    optional_time,
    order_from_rest,
    order_from_stream,
    product,
    time_of,
    trades_from,
    wallet,
)
from exchange.keys import ApiKeyError
from exchange.reading import MessageError, number

D = Decimal
AT = datetime(2026, 8, 9, tzinfo=UTC)

STREAM_ORDER: dict[str, Any] = {
    "avg_price": "65000.5", "cancel_reason": "", "client_order_id": "c-1", "completion_percentage": "50",
    "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE", "cumulative_quantity": "0.5", "filled_value": "32500.25",
    "leaves_quantity": "0.5", "limit_price": ".19", "number_of_fills": "2", "order_id": "o-1", "order_side": "BUY",
    "order_type": "Limit", "outstanding_hold_amount": "1", "post_only": "true", "product_id": "BTC-USD",
    "product_type": "SPOT", "reject_Reason": "", "retail_portfolio_id": "p", "status": "OPEN", "stop_price": "",
    "time_in_force": "GOOD_UNTIL_CANCELLED", "total_fees": "1.25", "total_value_after_fees": "32501.5",
    "trigger_status": "INVALID_ORDER_TYPE", "creation_time": "2026-08-09T21:05:48.228568804Z",
    "end_time": "0001-01-01T00:00:00Z", "start_time": "0001-01-01T00:00:00Z",
}  # fmt: skip
REST_ORDER: dict[str, Any] = {
    "order_id": "o-1", "product_id": "BTC-USD", "side": "SELL", "client_order_id": "c-1", "status": "FILLED",
    "order_configuration": {"limit_limit_gtc": {"base_size": "1", "limit_price": "65000", "post_only": False}},
    "created_time": "2026-08-09T21:05:48Z", "filled_size": "1", "average_filled_price": "65000.5", "fee": "",
    "number_of_fills": "1", "filled_value": "65000.5", "total_fees": "2.5", "order_type": "LIMIT",
    "reject_reason": "REJECT_REASON_UNSPECIFIED", "last_fill_time": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"), [("", D(0)), (None, D(0)), (".19", D("0.19")), ("1E-8", D("1E-8")), (1.5, D("1.5")), (3, D(3))]
)
def test_numbers_as_the_venue_writes_them(text: object, value: Decimal) -> None:
    """Empty is zero, and JSON numbers are read digit by digit."""
    assert number(text, "size") == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "abc", "1,5", True, [], {}, "1E+999", "1e-400"])
def test_what_is_no_number_is_refused_with_its_name(text: object) -> None:
    """Words, infinities and absurd magnitudes don't become money."""
    with pytest.raises(MessageError, match="size"):
        number(text, "size")


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-08-09T21:05:48.228568804Z", 228568), ("2026-08-09T21:05:48Z", 0), ("2026-08-09T21:05:48.5Z", 500000),
     ("2026-08-09T23:05:48.50436+02:00", 504360)],
)  # fmt: skip
def test_times_with_none_to_nine_digits(text: str, microsecond: int) -> None:
    """Every spelling is the same moment in UTC, cut to microseconds."""
    assert time_of(text, "time") == datetime(2026, 8, 9, 21, 5, 48, microsecond, tzinfo=UTC)
    assert time_of(text, "time").tzinfo is UTC


def test_the_venues_words_for_no_time() -> None:
    """Empty, null and the year one mean no time; anything else is an error."""
    assert [optional_time(text, "t") for text in ("", None, "0001-01-01T00:00:00Z")] == [None] * 3
    with pytest.raises(MessageError):
        time_of("yesterday", "t")


def test_an_order_of_the_user_channel() -> None:
    """Totals, status and times are read; a buy's original size is not in the message and is not guessed."""
    order = order_from_stream(STREAM_ORDER, AT)
    assert (order.exchange_order_id, order.client_order_id, order.symbol, order.side) == (
        "o-1",
        "c-1",
        "BTC-USD",
        Side.BUY,
    )
    assert (order.filled_size, order.filled_value, order.quote_fees) == (D("0.5"), D("32500.25"), D("1.25"))
    assert (order.status, order.order_type, order.limit_price) == (VenueStatus.OPEN, "LIMIT", D("0.19"))
    assert (order.fill_count, order.base_size, order.updated_at) == (2, None, AT)
    assert order.created_at == datetime(2026, 8, 9, 21, 5, 48, 228568, tzinfo=UTC)


@pytest.mark.parametrize(
    ("side", "leaves", "hold", "size"),
    [("SELL", "0.004", "0.004", "0.504"), ("SELL", "200", "0.004", None), ("SELL", "0", "0", None),
     ("BUY", "0.004", "0.004", None), ("SELL", "many", "many", None), ("SELL", None, None, None)],
)  # fmt: skip
def test_the_size_of_a_sell_is_known_where_it_holds_what_it_leaves(
    side: str, leaves: object, hold: object, size: str | None
) -> None:
    """A sell holds base currency: if the hold equals the leaves quantity, its size is filled plus leaves; no other's
    is."""
    told = {"order_side": side, "leaves_quantity": leaves, "outstanding_hold_amount": hold}
    assert order_from_stream({**STREAM_ORDER, **told}, AT).base_size == (None if size is None else D(size))


def test_an_order_of_the_rest_api() -> None:
    """The fee is in total_fees, and size and price are in the order's configuration."""
    order = order_from_rest(REST_ORDER)
    assert (order.filled_size, order.filled_value, order.quote_fees) == (D(1), D("65000.5"), D("2.5"))
    assert (order.status, order.side, order.base_size, order.limit_price) == (
        VenueStatus.FILLED,
        Side.SELL,
        D(1),
        D(65000),
    )
    assert (order.updated_at, order.reason) == (None, "")


@pytest.mark.parametrize("given", ["", None, "0"])
def test_a_missing_value_is_average_times_size(given: object) -> None:
    """A missing filled_value is replaced by average price × size, exactly."""
    assert order_from_stream({**STREAM_ORDER, "filled_value": given}, AT).filled_value == D("32500.25")
    assert order_from_rest({**REST_ORDER, "filled_value": given}).filled_value == D("65000.5")


@pytest.mark.parametrize(
    ("word", "status"),
    [("PENDING", VenueStatus.PENDING), ("QUEUED", VenueStatus.PENDING), ("OPEN", VenueStatus.OPEN),
     ("EDIT_QUEUED", VenueStatus.OPEN), ("CANCEL_QUEUED", VenueStatus.CANCELLING), ("FILLED", VenueStatus.FILLED),
     ("CANCELLED", VenueStatus.CANCELLED), ("EXPIRED", VenueStatus.EXPIRED), ("FAILED", VenueStatus.FAILED),
     ("UNKNOWN_ORDER_STATUS", VenueStatus.PENDING), ("A_NEW_ONE", VenueStatus.PENDING)],
)  # fmt: skip
def test_every_status_has_its_meaning(word: str, status: VenueStatus) -> None:
    """An unknown status ends nothing, so that no fill is lost."""
    assert order_from_stream({**STREAM_ORDER, "status": word}, AT).status is status


def test_an_open_order_with_a_pending_cancel_is_cancelling() -> None:
    """REST reports OPEN with pending_cancel; the order is cancelling."""
    assert order_from_rest({**REST_ORDER, "status": "OPEN", "pending_cancel": True}).status is VenueStatus.CANCELLING


@pytest.mark.parametrize("change", [{"order_id": ""}, {"product_id": None}, {"order_side": "LONG"},
                                    {"cumulative_quantity": "-1"}, {"total_fees": "x"}])  # fmt: skip
def test_an_order_without_identity_or_with_nonsense_is_refused(change: dict[str, Any]) -> None:
    """An order that can't be booked correctly is not booked at all."""
    with pytest.raises(MessageError):
        order_from_stream({**STREAM_ORDER, **change}, AT)


FILL: dict[str, Any] = {
    "entry_id": "e", "trade_id": "t", "order_id": "o", "trade_time": "2026-08-09T21:05:48Z", "trade_type": "FILL",
    "price": "50000", "size": "0.2", "commission": "6", "product_id": "BTC-USDC", "liquidity_indicator": "MAKER",
    "size_in_quote": False, "side": "BUY",
}  # fmt: skip


def test_a_fill() -> None:
    """The commission is in the product's quote currency."""
    item = fill(FILL)
    assert (item.size, item.price, item.fee, item.fee_currency, item.liquidity) == (
        D("0.2"),
        D(50000),
        D(6),
        "USDC",
        "MAKER",
    )


def test_a_fill_sized_in_quote_is_turned_into_base() -> None:
    """Base is size ÷ price, rounded half-even to 18 places."""
    assert fill({**FILL, "size": "100", "size_in_quote": True}).size == D("0.002")
    assert fill({**FILL, "size": "1", "price": "3", "size_in_quote": True}).size == D("0.333333333333333333")


def test_a_reversal_counts_against_what_it_reverses() -> None:
    """Size and fee of a reversal are negative, so that sums are right."""
    item = fill({**FILL, "trade_type": "REVERSAL"})
    assert (item.size, item.fee) == (D("-0.2"), D(-6))


def test_every_real_product_is_read() -> None:
    """Products as recorded from the venue, odd ones included."""
    row: dict[str, Any] = {
        "product_id": "BTC-USD", "price": "65086.18", "base_increment": "0.00000001", "quote_increment": "0.01",
        "quote_min_size": "1", "quote_max_size": "150000000", "base_min_size": "0.00000001", "base_max_size": "3400",
        "is_disabled": False, "status": "online", "cancel_only": False, "limit_only": False, "post_only": False,
        "trading_disabled": False, "auction_mode": False, "quote_currency_id": "USD", "base_currency_id": "BTC",
        "view_only": False, "price_increment": "0.01",
    }  # fmt: skip
    item = product(row)
    assert (item.base, item.quote, item.price_increment, item.halted, item.price) == (
        "BTC",
        "USD",
        D("0.01"),
        False,
        D("65086.18"),
    )
    assert product({**row, "status": "delisted", "trading_disabled": True, "price": ""}).halted
    assert product({**row, "status": "delisted", "price": ""}).price is None
    assert product({**row, "auction_mode": True}).halted
    assert product({**row, "limit_only": True}).limit_only
    del row["price_increment"]
    assert product(row).price_increment == D("0.01")


def test_candles_and_wallets() -> None:
    """A candle's start is seconds in a text; a wallet's balances are nested."""
    row = {"start": "1786279500", "high": "3", "low": "1", "open": "2", "close": "2.5", "volume": "7"}
    assert candle(row, "X-USD").start == datetime(2026, 8, 9, 12, 45, tzinfo=UTC)
    with pytest.raises(MessageError):
        candle({**row, "low": "0"}, "X-USD")
    assert wallet({"currency": "USD", "available_balance": {"value": "1.5"}, "hold": {"value": ""}}).total == D("1.5")


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"type": "ACCOUNT_TYPE_CRYPTO", "active": True, "ready": True, "deleted_at": None}, True),
        ({"type": "ACCOUNT_TYPE_VAULT", "active": True, "ready": True}, False),
        ({"type": "ACCOUNT_TYPE_PERP_FUTURES"}, False),
        ({"type": "ACCOUNT_TYPE_FIAT", "platform": "ACCOUNT_PLATFORM_CONSUMER"}, True),
        ({"type": "ACCOUNT_TYPE_FIAT", "platform": "ACCOUNT_PLATFORM_CFM_CONSUMER"}, False),
        ({"active": False}, False),
        ({"ready": False}, False),
        ({"deleted_at": "2026-01-01T00:00:00Z"}, False),
    ],
)
def test_only_wallets_that_orders_take_from_are_balances(fields: dict[str, Any], counts: bool) -> None:
    """Coins in a vault, with futures, or in a closed wallet can't be sold."""
    assert trades_from({"currency": "BTC", **fields}) is counts


def pem(key: Any, form: serialization.PrivateFormat) -> str:
    """The key as PEM."""
    text: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return text.decode()


def test_keys_of_every_kind_sign(tmp_path: Path) -> None:
    """ES256 as SEC1 or PKCS 8 and Ed25519 as PEM or base64, newlines escaped or not, from parts or a file."""
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    sec1 = pem(curve, serialization.PrivateFormat.TraditionalOpenSSL)
    raw = edwards.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    import base64

    for secret in (
        sec1,
        sec1.replace("\n", "\\n"),
        pem(curve, serialization.PrivateFormat.PKCS8),
        pem(edwards, serialization.PrivateFormat.PKCS8),
        base64.b64encode(raw).decode(),
    ):
        assert ApiKey.of("name", secret).token(0.0).count(".") == 2
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"name": "organizations/x", "privateKey": sec1}))
    key = ApiKey.from_file(file)
    assert key.name == "organizations/x"
    assert "BEGIN" not in repr(key)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "can't be read"), ("{", "not JSON"), ("[]", "not a JSON object"), ("{}", "lacks"),
     ('{"name": "n", "privateKey": "-----BEGIN EC PRIVATE KEY-----\\nAAAA\\n"}', "can't sign"),
     ('{"name": "n", "privateKey": ""}', "both a name and a private key")],
)  # fmt: skip
def test_a_key_file_that_is_wrong_says_what_to_do(tmp_path: Path, content: str | None, words: str) -> None:
    """Every kind of wrong key file gives a sentence without the secret."""
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ApiKeyError, match=words) as caught:
        ApiKey.from_file(file)
    assert "AAAA" not in str(caught.value)
