"""From a decision to the order that carries it out: one way for every entry point that decides by itself.

The trigger table (`[triggers.<name>]`) says how much, how, for how long, by which exits and with what protection. A
decision is too old after `valid_s` of wall time, however fast the market runs, as staleness is (PAPER); its expiry is
in the market's time. A trigger without settings is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from domain.ids import intent_key
from domain.messages import Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side, TimeInForce
from workers.errors import UserError
from workers.settings import Settings
from workers.settings.values import exit_rules, protection_for

__all__ = ["entry_intent"]

_STYLES: Mapping[str, tuple[OrderType, TimeInForce, bool]] = {
    # order type of the settings → order type, time in force, post-only
    "MARKET": (OrderType.MARKET, TimeInForce.IOC, False),
    "LIMIT": (OrderType.LIMIT, TimeInForce.GTC, False),
    "LIMIT_IOC": (OrderType.LIMIT, TimeInForce.IOC, False),
    "LIMIT_POST_ONLY": (OrderType.LIMIT, TimeInForce.GTC, True),
}


def entry_intent(
    settings: Settings,
    *,
    entry_point: str,
    request_id: str,
    symbol: str,
    linkage: Linkage,
    now: datetime,
    asked_by: str = "",
    size_quote: Decimal | None = None,
    size_base: Decimal | None = None,
    limit_price: Decimal | None = None,
    order_type: str | None = None,
    expires_after: Decimal | None = None,
    source: str | None = None,
    dry_run: bool = False,
) -> OrderIntent:
    """The buy that `linkage.trigger` asks for, as the trigger table has it, with what is given in place of it.

    Args:
        entry_point: which part of the system decides; with `request_id` and `symbol` it makes the order key, so the
            same request is the same order.
        now: when it was decided (zoned).
        size_quote: amount to spend, quote currency; else of the trigger.
        size_base: amount to buy, base currency; else of the trigger.
        limit_price: quote per base; LIMIT orders need one, MARKET orders ignore it.
        order_type: as in the settings (MARKET, LIMIT, LIMIT_IOC, LIMIT_POST_ONLY); else of the trigger.
        expires_after: market seconds; else the trigger's `expiry_s`. An order that can't rest has none.
        source: else of the trigger.

    Raises UserError: UNKNOWN_TRIGGER (no settings for it), BAD_SIZE (both sizes given), BAD_ORDER_TYPE.
    """
    trigger = settings.triggers.get(linkage.trigger)
    if trigger is None:
        raise UserError(
            "UNKNOWN_TRIGGER",
            f"There are no settings for the trigger {linkage.trigger}: known are "
            f"{', '.join(sorted(settings.triggers))}; [triggers.{linkage.trigger}] adds it.",
        )
    if size_quote is not None and size_base is not None:
        raise UserError("BAD_SIZE", "Give a size in quote or in base currency, not both.")
    if size_quote is None and size_base is None:
        size_quote, size_base = trigger.size_quote, trigger.size_base
    style = _STYLES.get(order_type or trigger.order_type)
    if style is None:
        raise UserError("BAD_ORDER_TYPE", f"{order_type} is not an order type: known are {', '.join(_STYLES)}.")
    kind, in_force, post_only = style
    rests = in_force is TimeInForce.GTC
    return OrderIntent(
        order_key=intent_key(entry_point, request_id, settings.account, symbol, Side.BUY),
        account=settings.account,
        symbol=symbol,
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=kind,
        base_size=size_base,
        quote_size=size_quote,
        limit_price=None if kind is OrderType.MARKET else limit_price,
        time_in_force=in_force,
        post_only=post_only,
        expires_after=(expires_after or trigger.expiry_s) if rests else None,
        valid_until=now + timedelta(seconds=float(trigger.valid_s)),
        source=source or trigger.source,
        entry_point=entry_point,
        request_id=request_id,
        linkage=linkage,
        rules=exit_rules(settings.exits_for(linkage.trigger)),
        protection=protection_for(settings, linkage.trigger),
        dry_run=dry_run,
        asked_by=asked_by,
    )
