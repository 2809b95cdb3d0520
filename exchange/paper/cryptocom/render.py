"""Orders, executions, balances and books as JSON: the venue's field names and quirks, nothing else.

Prices and sizes have the places of their tick ("0.03710"). A MARKET buy by notional that could not spend all of it ends
CANCELED, though it has bought. `cumulative_fee` adds up amounts without their currency; only an execution's `fees` and
`fee_instrument_name` are to be believed. An open order has no fee rates yet, an ended one "0".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal

from exchange.paper.numbers import ZERO, floor_to, plain
from exchange.paper.orders import Order, PaperFill, PaperOrderKind, Side, Status, TimeInForce, Trade
from exchange.paper.products import PaperProduct
from exchange.paper.wallet import WalletBalance

__all__ = [
    "USER_ID", "average", "balance", "fee_currency", "levels", "milliseconds", "nanoseconds", "order_row",
    "placed", "public_trade", "reason_of", "status_of", "time_in_force", "user_trade",
]  # fmt: skip

USER_ID = "a5f8b80d-3a59-5d0a-b6e6-8450c8ce1c13"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RATIO = Context(prec=16, rounding=ROUND_HALF_EVEN)
_STATUS = {
    Status.PENDING: "NEW",
    Status.QUEUED: "PENDING",
    Status.OPEN: "ACTIVE",
    Status.CANCEL_QUEUED: "ACTIVE",
    Status.EDIT_QUEUED: "ACTIVE",
    Status.FILLED: "FILLED",
    Status.CANCELLED: "CANCELED",
    Status.EXPIRED: "EXPIRED",
    Status.FAILED: "REJECTED",
}
_TIMES_IN_FORCE = {TimeInForce.IOC: "IMMEDIATE_OR_CANCEL", TimeInForce.FOK: "FILL_OR_KILL"}
_LIMIT_UP = Decimal("1.07")
"""The `quantity` of a MARKET buy by notional is what it buys at so many times the price: less than it really buys."""
_REASONS = {
    "INVALID_LIMIT_PRICE_POST_ONLY": 43005,
    "Self trade prevention": 43012,
    "Fill-or-kill could not be filled at once": 43003,
    "No liquidity left within the order's price": 43004,
    "No liquidity left": 43004,
}
_CENT = Decimal("0.00000001")


def placed(number: Decimal, step: Decimal) -> str:
    """A price or size with as many places as its tick has."""
    exponent = min(int(step.normalize().as_tuple().exponent), 0)
    return format(number.quantize(Decimal(1).scaleb(exponent)), "f")


def average(order: Order) -> str:
    """The average fill price to 16 digits."""
    return plain(_RATIO.divide(order.filled_value, order.filled_size)) if order.filled_size else "0"


def milliseconds(moment: datetime) -> int:
    """Unix time in ms."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def nanoseconds(moment: datetime, seq: int) -> int:
    """Unix time in ns; `seq` makes different those of one microsecond."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000 + seq % 1000


def status_of(order: Order) -> str:
    """The order's status in the venue's words."""
    if order.status is Status.FILLED and order.terms.quote_size is not None and order.side is Side.BUY:
        return "FILLED" if order.value_after_fees == order.quote_size else "CANCELED"
    return _STATUS[order.status]


def reason_of(order: Order) -> int:
    """Why the order ended without a fill, as a code of the venue; 0 without a reason."""
    if order.reject_reason.isdecimal():
        return int(order.reject_reason)
    if order.reject_reason:
        return _REASONS.get(order.reject_reason, 224)
    return (
        0
        if order.filled_size and order.terms.kind is not PaperOrderKind.LIMIT
        else _REASONS.get(order.cancel_reason, 0)
    )


def time_in_force(order: Order) -> str:
    """In the venue's words; a MARKET order says GOOD_TILL_CANCEL."""
    if order.terms.kind is PaperOrderKind.MARKET and order.terms.time_in_force is TimeInForce.IOC:
        return "GOOD_TILL_CANCEL"
    return _TIMES_IN_FORCE.get(order.terms.time_in_force, "GOOD_TILL_CANCEL")


def fee_currency(order: Order, product: PaperProduct) -> str:
    """The currency that the order's commissions are to be taken in."""
    return order.fee_currency or product.quote


def order_row(order: Order, product: PaperProduct, last: Decimal, account: str) -> dict[str, object]:
    """An order as `private/get-order-detail` shows it; `last` is the last price, `account` the account's id."""
    terms, budget = order.terms, order.terms.quote_size
    price = order.limit_price or last or product.price
    if budget is not None:
        quantity = floor_to(budget / (price * _LIMIT_UP), product.base_increment)
        value = budget
    else:
        quantity = order.base_size or ZERO
        value = quantity * price
    instructions = order.details.get("exec_inst")
    named = [*instructions] if isinstance(instructions, list) else []
    ended = {"maker_fee_rate": "0", "taker_fee_rate": "0", "ref_price_type": "NULL_VAL"} if not order.live else {}
    return {
        "account_id": account,
        "order_id": order.order_id,
        "client_oid": order.client_order_id,
        "order_type": "MARKET" if terms.kind is PaperOrderKind.MARKET else "LIMIT",
        "time_in_force": time_in_force(order),
        "side": order.side,
        "exec_inst": [*named, "NOTIONAL_ORDER"] if budget is not None else named,
        "quantity": placed(quantity, product.base_increment),
        **({} if order.limit_price is None else {"limit_price": placed(order.limit_price, product.price_increment)}),
        "order_value": plain(value),
        "avg_price": average(order),
        "ref_price": "0",
        **ended,
        "cumulative_quantity": plain(order.filled_size),
        "cumulative_value": plain(order.filled_value),
        "cumulative_fee": plain(order.fees),
        "status": status_of(order),
        "update_user_id": USER_ID,
        "order_date": order.created.date().isoformat(),
        "instrument_name": order.product_id,
        "fee_instrument_name": fee_currency(order, product),
        "reason": reason_of(order),
        "create_time": milliseconds(order.created),
        "create_time_ns": str(nanoseconds(order.created, order.seq)),
        "update_time": milliseconds(max(order.updated, order.created)),
    }


def user_trade(fill: PaperFill, product: PaperProduct, account: str) -> dict[str, object]:
    """An execution as `private/get-trades` and `user.trade` show it; `fees` are negative where they are charged."""
    stamp = str(nanoseconds(fill.time, fill.seq))
    return {
        "account_id": account,
        "event_date": fill.time.date().isoformat(),
        "journal_type": "TRADING",
        "traded_quantity": placed(fill.size, product.base_increment),
        "traded_price": placed(fill.price, product.price_increment),
        "fees": plain(-fill.commission),
        "order_id": fill.order_id,
        "trade_id": fill.entry_id,
        "trade_match_id": fill.trade_id,
        "client_oid": fill.client_order_id,
        "taker_side": "MAKER" if fill.maker else "TAKER",
        "side": fill.side,
        "instrument_name": fill.product_id,
        "fee_instrument_name": fill.fee_currency or product.quote,
        "create_time": milliseconds(fill.time),
        "create_time_ns": stamp,
        "transaction_time_ns": stamp,
        "match_count": "1",
        "match_index": "0",
    }


def public_trade(trade: Trade, product: PaperProduct, *, streamed: bool = False) -> dict[str, object]:
    """A trade of the market; `s` is the taker's side, in small letters over REST."""
    side = str(trade.maker_side.opposite)
    row: dict[str, object] = {
        "d": str(trade.trade_id),
        "t": milliseconds(trade.time),
        "p": placed(trade.price, product.price_increment),
        "q": placed(trade.size, product.base_increment),
        "s": side if streamed else side.lower(),
        "i": trade.product_id,
    }
    if not streamed:
        row |= {"tn": str(nanoseconds(trade.time, trade.trade_id)), "m": str(trade.trade_id)}
    return row


def levels(found: Iterable[tuple[Decimal, Decimal]], product: PaperProduct) -> list[list[str]]:
    """Levels of a book: price, size, number of orders."""
    return [
        [placed(price, product.price_increment), placed(size, product.base_increment), "1"] for price, size in found
    ]


def balance(rows: Iterable[WalletBalance], prices: dict[str, Decimal]) -> dict[str, object]:
    """The account as `private/user-balance` shows it; `prices` are the currencies' values in USD.

    The figures beginning with `total_` are of margin after haircuts, not cash: half of a coin's value counts.
    """
    positions: list[dict[str, object]] = []
    cash = available = ZERO
    for row in rows:
        value = row.total * prices.get(row.currency, ZERO)
        haircut = ZERO if row.currency == "USD" else Decimal("0.5")
        cash += value
        available += value * (1 - haircut)
        positions.append(
            {
                "instrument_name": row.currency,
                "quantity": plain(row.total),
                "reserved_qty": plain(row.hold),
                "market_value": _cents(value),
                "collateral_eligible": True,
                "collateral_amount": _cents(value * (1 - haircut)),
                "haircut": plain(haircut),
                "max_withdrawal_balance": plain(row.available),
                "hourly_interest_rate": "0",
            }
        )
    return {
        "instrument_name": "USD",
        "total_available_balance": _cents(available),
        "total_cash_balance": _cents(cash),
        "total_margin_balance": _cents(cash),
        "total_collateral_value": _cents(available),
        "total_haircut": _cents(cash - available),
        "total_initial_margin": "0",
        "total_maintenance_margin": "0",
        "total_position_im": "0",
        "total_position_cost": "0",
        "total_session_unrealized_pnl": "0",
        "total_session_realized_pnl": "0",
        "total_isolated_cash_balance": "0",
        "total_borrow": "0",
        "total_risk_exposure": _cents(cash),
        "total_effective_leverage": "0",
        "position_limit": "0",
        "used_position_limit": "0",
        "is_liquidating": False,
        "has_risk": False,
        "terminatable": True,
        "position_balances": positions,
        "credit_limits": [],
        "isolated_positions": [],
    }


def _cents(value: Decimal) -> str:
    return plain(value.quantize(_CENT, ROUND_DOWN))
