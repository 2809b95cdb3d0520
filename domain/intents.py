"""Intents to sell, when two intents are the same, and which of them must not be delayed.

Intents to buy are made in `domain.entries`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from decimal import Decimal

from domain.exits import ExitReason, ExitRules, price_stop
from domain.ids import intent_key
from domain.messages import CloseRequest, ExitDue, Linkage, MonitorStart, OrderIntent
from domain.money import plain
from domain.orders import EntryPoint, OrderRole, OrderType, Side, TimeInForce
from domain.protection import ProtectionRole

__all__ = [
    "MEASURED_RULES",
    "as_entered",
    "intent_digest",
    "monitor_exit",
    "must_leave",
    "protective_exit",
    "quote_ask",
    "same_intent",
    "sell_key",
    "sell_of_size",
]

_DECISIVE = frozenset(
    {
        "account",
        "symbol",
        "side",
        "role",
        "order_type",
        "base_size",
        "quote_size",
        "limit_price",
        "time_in_force",
        "post_only",
        "expires_after",
        "entry_key",
        "exit_reason",
        "source",
        "dry_run",
    }
)

MEASURED_RULES = frozenset({"taker_rate", "target_atr"})
"""Facts recorded with an entry's exit rules that are not part of the request."""


def as_entered(intent: OrderIntent) -> OrderIntent:
    """An entry with the rules its trade gets: a person's entry has no signal exit unless requested (EXIT-12)."""
    by_hand = intent.role is OrderRole.ENTRY and intent.by_hand
    if not by_hand or intent.signal_exit or not intent.rules.signal_exit:
        return intent
    return intent.model_copy(update={"rules": intent.rules.model_copy(update={"signal_exit": False})})


def intent_digest(intent: OrderIntent) -> str:
    """SHA-256 over everything that determines what would be traded; times and the requester are not included."""
    parts = intent.model_dump(mode="json", include=set(_DECISIVE))
    parts["trigger"] = intent.linkage.trigger
    if intent.role is OrderRole.ENTRY:
        # An exit sells by the rules that its trade has; an entry's decide how it will be left. What has its default is
        # left out, so that a rule that is added later leaves the digests of stored intents as they are.
        rules = intent.rules.model_dump(exclude_defaults=True, exclude=set(MEASURED_RULES))
        parts["rules"] = {name: plain(value) if isinstance(value, Decimal) else value for name, value in rules.items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def same_intent(one: OrderIntent, other: OrderIntent) -> bool:
    """Whether both would trade the same thing under the same key."""
    return one.order_key == other.order_key and intent_digest(one) == intent_digest(other)


def must_leave(intent: OrderIntent) -> bool:
    """Whether it is the exit of a due price stop or a person's close: no step that may fail comes before it (EXIT-10).

    Resting orders (protection, the market maker's ask) and profit exits are not.
    """
    return (
        intent.role is OrderRole.EXIT
        and intent.entry_key is not None
        and intent.protection_role is None
        and not intent.by_market_maker
        and price_stop(intent.exit_reason or ExitReason.MANUAL)
    )


def sell_of_size(
    *,
    entry_point: EntryPoint,
    account: str,
    request_id: str,
    symbol: str,
    entry_key: str | None,
    size: Decimal,
    limit_price: Decimal | None,
    time_in_force: TimeInForce,
    source: str,
    valid_until: datetime,
    linkage: Linkage | None = None,
    dry_run: bool = False,
    asked_by: str = "",
) -> OrderIntent:
    """A sell of `size` (base) requested by a person or an alert: of the trade `entry_key`, else of the pool.

    At MARKET without a limit price (quote per base). Without a linkage its decision is the person's own.
    """
    return OrderIntent(
        order_key=sell_key(entry_point, account, request_id, symbol, entry_key),
        account=account,
        symbol=symbol,
        side=Side.SELL,
        role=OrderRole.EXIT,
        order_type=OrderType.MARKET if limit_price is None else OrderType.LIMIT,
        base_size=size,
        limit_price=limit_price,
        time_in_force=time_in_force,
        source=source,
        entry_point=entry_point,
        request_id=request_id,
        linkage=linkage or Linkage(trigger=ExitReason.MANUAL.value),
        entry_key=entry_key,
        exit_reason=ExitReason.MANUAL,
        valid_until=valid_until,
        dry_run=dry_run,
        asked_by=asked_by,
    )


def sell_key(entry_point: EntryPoint, account: str, request_id: str, symbol: str, entry_key: str | None) -> str:
    """The order key of a sell: one request sells once from each trade, and once from the pool."""
    return intent_key(entry_point, request_id, account, symbol, Side.SELL, entry_key or "0")


def quote_ask(
    *,
    account: str,
    request_id: str,
    symbol: str,
    entry_key: str | None,
    size: Decimal,
    price: Decimal,
    expires_after: Decimal,
    valid_until: datetime,
    linkage: Linkage,
) -> OrderIntent:
    """The market maker's ask for `size` (base) of one of its trades, or of the pool: post-only, with an expiry at the
    exchange after `expires_after` (market seconds).
    """
    return OrderIntent(
        order_key=sell_key(EntryPoint.MARKET_MAKER, account, request_id, symbol, entry_key),
        account=account,
        symbol=symbol,
        side=Side.SELL,
        role=OrderRole.EXIT,
        order_type=OrderType.LIMIT,
        base_size=size,
        limit_price=price,
        time_in_force=TimeInForce.GTD,
        post_only=True,
        expires_after=expires_after,
        valid_until=valid_until,
        source="sighook",
        entry_point=EntryPoint.MARKET_MAKER,
        request_id=request_id,
        linkage=linkage,
        entry_key=entry_key,
        exit_reason=ExitReason.TP,
        trigger_price=price,
    )


def monitor_exit(
    start: MonitorStart,
    reason: ExitReason,
    number: int,
    *,
    due: ExitDue | None,
    close: CloseRequest | None,
    market: bool = False,
) -> OrderIntent:
    """Exit `number` (from 1) of a trade by its monitor; it sells the trade's remainder at admission.

    `due` is what made it due, if a price did; `close` what a person said, which only an exit by hand carries. `market`
    where it sells at MARKET for a reason that begins with limits.
    """
    market = market or reason in (ExitReason.HARD_STOP, ExitReason.MANUAL)
    by_person = close if reason is ExitReason.MANUAL else None
    return OrderIntent(
        order_key=intent_key(EntryPoint.EXIT, start.entry_key, start.account, start.symbol, Side.SELL, str(number)),
        account=start.account,
        symbol=start.symbol,
        side=Side.SELL,
        role=OrderRole.EXIT,
        order_type=OrderType.MARKET if market else OrderType.LIMIT,
        source="webhook",
        entry_point=EntryPoint.EXIT,
        request_id=start.entry_key,
        linkage=Linkage(trigger=reason.value, snapshot_id=start.snapshot_id),
        rules=start.rules,
        entry_key=start.entry_key,
        exit_reason=reason,
        trigger_price=due.price if due else None,
        due_at=due.at if due else None,
        trailing=due.trailing if due else None,
        leg=number,
        asked_by=by_person.by if by_person else "",
        command=by_person.command if by_person else "",
    )


def protective_exit(
    start: MonitorStart,
    number: int,
    *,
    bracket: bool,
    stop_price: Decimal | None,
    limit_price: Decimal | None,
    rules: ExitRules,
) -> OrderIntent:
    """Order `number` (from 1) that rests at the exchange for a trade: a stop-limit, or a bracket whose limit is its
    target. Prices in quote per base.
    """
    return OrderIntent(
        order_key=intent_key(
            EntryPoint.PROTECTION, start.entry_key, start.account, start.symbol, Side.SELL, str(number)
        ),
        account=start.account,
        symbol=start.symbol,
        side=Side.SELL,
        role=OrderRole.EXIT,
        order_type=OrderType.BRACKET if bracket else OrderType.STOP_LIMIT,
        limit_price=limit_price,
        stop_price=stop_price,
        source="webhook",
        entry_point=EntryPoint.PROTECTION,
        request_id=start.entry_key,
        linkage=Linkage(trigger=ExitReason.HARD_STOP.value, snapshot_id=start.snapshot_id),
        rules=rules,
        entry_key=start.entry_key,
        exit_reason=ExitReason.HARD_STOP,
        trigger_price=stop_price,
        protection_role=ProtectionRole.OCO if bracket else ProtectionRole.STOP_LOSS,
    )
