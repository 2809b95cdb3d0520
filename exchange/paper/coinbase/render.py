"""Orders, fills, accounts and books as JSON: the venue's field names and quirks, nothing else."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

import orjson

from exchange.paper.currencies import FIAT
from exchange.paper.errors import ApiError, Refusal
from exchange.paper.numbers import ZERO, plain, rfc3339
from exchange.paper.orders import Order, PaperFill, PaperOrderKind, Status, TimeInForce, Trade
from exchange.paper.wallet import WalletBalance

NO_TIME = "0001-01-01T00:00:00Z"
USER_ID = "8c0a1d52-5d1e-4c0e-9f55-6f2b6b1f2a10"
_QUOTED = Decimal("1e-16")
_RATIO = Context(prec=16, rounding=ROUND_HALF_EVEN)


def average(order: Order) -> str:
    """Average fill price to 16 digits (the only number that can't be exact)."""
    return plain(_RATIO.divide(order.filled_value, order.filled_size)) if order.filled_size else "0"


def _trigger_status(order: Order) -> str:
    if order.terms.kind not in (PaperOrderKind.STOP_LIMIT, PaperOrderKind.BRACKET):
        return "INVALID_ORDER_TYPE"
    return "STOP_TRIGGERED" if order.triggered else "STOP_PENDING"


def rest_order(order: Order, portfolio: str) -> dict[str, object]:
    """An order as `GET /orders/historical/{id}` shows it."""
    terms = order.terms
    return {
        "order_id": order.order_id,
        "product_id": order.product_id,
        "user_id": USER_ID,
        "order_configuration": order.configuration,
        "side": order.side,
        "client_order_id": order.client_order_id,
        "status": order.status,
        "time_in_force": terms.time_in_force,
        "created_time": rfc3339(order.created),
        "completion_percentage": plain(_RATIO.plus(order.completion)),
        "filled_size": plain(order.filled_size),
        "average_filled_price": average(order),
        "fee": "",
        "number_of_fills": str(order.fills),
        "filled_value": plain(order.filled_value),
        "pending_cancel": order.status is Status.CANCEL_QUEUED,
        "size_in_quote": terms.quote_size is not None,
        "total_fees": plain(order.fees),
        "size_inclusive_of_fees": terms.quote_size is not None and terms.kind is PaperOrderKind.MARKET,
        "total_value_after_fees": plain(order.value_after_fees),
        "trigger_status": _trigger_status(order),
        "order_type": order.terms.kind,
        "reject_reason": order.reject_reason or "REJECT_REASON_UNSPECIFIED",
        "settled": order.status is Status.FILLED,
        "product_type": "SPOT",
        "reject_message": order.reject_reason,
        "cancel_message": order.cancel_reason,
        "order_placement_source": order.source,
        "outstanding_hold_amount": plain(order.hold),
        "is_liquidation": False,
        "last_fill_time": rfc3339(order.last_fill) if order.last_fill else None,
        "edit_history": order.edits,
        "leverage": "",
        "margin_type": "UNKNOWN_MARGIN_TYPE",
        "retail_portfolio_id": portfolio,
        "originating_order_id": order.parent_id,
        "attached_order_id": order.child_id,
        "attached_order_configuration": None,
        "current_pending_replace": None,
        "last_update_time": rfc3339(order.updated),
    }


def _leaves(order: Order) -> Decimal:
    if not order.live:
        return ZERO
    if order.terms.quote_size is not None:
        return max(order.terms.quote_size - order.filled_value, ZERO)
    return order.remaining


def user_order(order: Order, portfolio: str) -> dict[str, object]:
    """An order as the user channel shows it: cumulative, strings, `post_only` a string too."""
    terms = order.terms
    return {
        "avg_price": average(order),
        "cancel_reason": order.cancel_reason,
        "client_order_id": order.client_order_id,
        "completion_percentage": plain(_RATIO.plus(order.completion)),
        "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE",
        "cumulative_quantity": plain(order.filled_size),
        "filled_value": plain(order.filled_value),
        "leaves_quantity": plain(_leaves(order)),
        "limit_price": plain(order.limit_price) if order.limit_price is not None else "0",
        "number_of_fills": str(order.fills),
        "order_id": order.order_id,
        "order_side": order.side,
        "order_type": terms.kind,
        "outstanding_hold_amount": plain(order.hold),
        "post_only": "true" if terms.post_only else "false",
        "product_id": order.product_id,
        "product_type": "SPOT",
        "reject_reason": order.reject_reason,
        "retail_portfolio_id": portfolio,
        "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE",
        "status": order.status,
        "stop_price": plain(terms.stop_price) if terms.stop_price is not None else "",
        "time_in_force": terms.time_in_force,
        "total_fees": plain(order.fees),
        "total_value_after_fees": plain(order.value_after_fees),
        "trigger_status": _trigger_status(order),
        "creation_time": rfc3339(order.created),
        "end_time": rfc3339(terms.end_time) if terms.time_in_force is TimeInForce.GTD and terms.end_time else NO_TIME,
        "start_time": NO_TIME,
    }


def rest_fill(fill: PaperFill, portfolio: str, *, in_quote: bool = False) -> dict[str, object]:
    """A fill as `GET /orders/historical/fills` shows it; its size in base, or in quote with `in_quote`."""
    return {
        "entry_id": fill.entry_id,
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "trade_time": rfc3339(fill.time),
        "trade_type": "FILL",
        "price": plain(fill.price),
        "size": plain((fill.size * fill.price).quantize(_QUOTED) if in_quote else fill.size),
        "commission": plain(fill.commission),
        "product_id": fill.product_id,
        "sequence_timestamp": rfc3339(fill.time),
        "liquidity_indicator": "MAKER" if fill.maker else "TAKER",
        "size_in_quote": in_quote,
        "user_id": USER_ID,
        "side": fill.side,
        "retail_portfolio_id": portfolio,
    }


def account(balance: WalletBalance, created: datetime, portfolio: str) -> dict[str, object]:
    """A balance as `GET /accounts` shows it."""
    return {
        "uuid": balance.account_id,
        "name": f"{balance.currency} Wallet",
        "currency": balance.currency,
        "available_balance": {"value": plain(balance.available), "currency": balance.currency},
        "default": True,
        "active": True,
        "created_at": rfc3339(created),
        "updated_at": rfc3339(created),
        "deleted_at": None,
        "type": "ACCOUNT_TYPE_FIAT" if balance.currency in FIAT else "ACCOUNT_TYPE_CRYPTO",
        "ready": True,
        "hold": {"value": plain(balance.hold), "currency": balance.currency},
        "retail_portfolio_id": portfolio,
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


def public_trade(trade: Trade, name: str) -> dict[str, object]:
    """A print as the market_trades channel shows it, of the product `name`; `side` is the maker's."""
    return {
        "product_id": name,
        "trade_id": str(trade.trade_id),
        "price": plain(trade.price),
        "size": plain(trade.size),
        "time": rfc3339(trade.time),
        "side": trade.maker_side,
    }


def levels(found: Sequence[tuple[Decimal, Decimal]]) -> list[dict[str, str]]:
    """Book levels as REST shows them."""
    return [{"price": plain(price), "size": plain(size)} for price, size in found]


def refusal(error: Refusal, configuration: object) -> dict[str, object]:
    """The body of a refused order."""
    return {
        "success": False,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": "",
        "error_response": {
            "error": error.reason,
            "message": error.message,
            "error_details": error.message,
            "preview_failure_reason": error.preview,
            "new_order_failure_reason": error.reason,
        },
        "order_configuration": configuration,
    }


def nanoseconds(ns: int) -> str:
    """Unix nanoseconds as RFC 3339 with nine fraction digits, as in stream envelopes."""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = time.gmtime(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{rest:09d}Z"


def go_time(ns: int, uptime: float) -> str:
    """The Go-style time in heartbeats."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} +0000 UTC m=+{uptime:.9f}"


def cursor(*key: object) -> str:
    """An opaque page cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode()


def read_cursor(text: str) -> list[object]:
    """The key in a cursor. Raises `ApiError` if it is not one of ours."""
    try:
        key = orjson.loads(base64.urlsafe_b64decode(text))
    except (binascii.Error, orjson.JSONDecodeError, ValueError) as error:
        raise ApiError(400, "INVALID_ARGUMENT", "cursor is not valid") from error
    if not isinstance(key, list):
        raise ApiError(400, "INVALID_ARGUMENT", "cursor is not valid")
    return key


def dumps(value: Mapping[str, object] | Sequence[object]) -> bytes:
    """JSON bytes."""
    return orjson.dumps(value)
