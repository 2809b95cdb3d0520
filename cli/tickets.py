"""Turns what a person typed to buy or sell into an intent; bad input is found here, before anything is sent."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.output import UserError

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from domain.exits import ExitRules
    from domain.messages import OrderIntent
    from domain.orders import TimeInForce
    from workers.settings import Settings

__all__ = ["Ticket", "amount", "buy_intent", "exit_rules_of", "percent", "sell_intent"]

_SYMBOL = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,10}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,100}")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """An order as typed. Sizes in base or quote currency, the price in quote per base."""

    symbol: str
    base_size: "Decimal | None" = None
    quote_size: "Decimal | None" = None
    limit_price: "Decimal | None" = None
    post_only: bool = False
    time_in_force: str | None = None
    expires_after: "Decimal | None" = None
    trigger: str = "manual"
    request_id: str | None = None
    dry_run: bool = False
    by: str = ""

    @property
    def product(self) -> str:
        """The symbol in the form of a product. Raises UserError(BAD_SYMBOL)."""
        name = self.symbol.strip().upper()
        if not _SYMBOL.fullmatch(name):
            raise UserError("BAD_SYMBOL", f"{self.symbol!r} is not a product: write it like BTC-USD.")
        return name

    def named(self) -> str:
        """The request id: the given one, else a new one. Raises UserError(BAD_REQUEST_ID)."""
        if self.request_id is None:
            return str(uuid.uuid4())
        if not _REQUEST_ID.fullmatch(self.request_id):
            raise UserError("BAD_REQUEST_ID", "--request-id is 1 to 100 printable ASCII characters without blanks.")
        return self.request_id


def buy_intent(ticket: Ticket, settings: "Settings", rules: "ExitRules") -> "OrderIntent":
    """The entry, with the exit rules of its trade. Raises UserError."""
    from domain.entries import buy_key, entry
    from domain.messages import Linkage
    from domain.orders import EntryPoint, OrderType
    from workers.settings.values import protection_for

    request_id = ticket.named()
    key = buy_key(EntryPoint.MANUAL, settings.account, request_id, ticket.product)
    limit = ticket.limit_price is not None
    if ticket.post_only and not limit:
        raise UserError("BAD_ORDER", "--post-only needs --limit: an order without a price trades as taker.")
    if ticket.expires_after is not None and not limit:
        raise UserError("BAD_ORDER", "--expires needs --limit: a MARKET order ends by itself.")
    return entry(
        entry_point=EntryPoint.MANUAL,
        account=settings.account,
        request_id=request_id,
        symbol=ticket.product,
        # A person's decision is its own snapshot, the same one when the request is repeated.
        linkage=Linkage(trigger=ticket.trigger, snapshot_id=str(uuid.UUID(hex=key))),
        source="manual",
        order_type=OrderType.LIMIT if limit else OrderType.MARKET,
        time_in_force=_time_in_force(ticket),
        rules=rules,
        post_only=ticket.post_only,
        base_size=ticket.base_size,
        quote_size=ticket.quote_size,
        limit_price=ticket.limit_price,
        expires_after=ticket.expires_after,
        valid_until=_valid_until(settings, ticket.trigger),
        protection=protection_for(settings, ticket.trigger),
        signal_exit=rules.signal_exit,
        dry_run=ticket.dry_run,
        asked_by=ticket.by,
    )


def sell_intent(ticket: Ticket, settings: "Settings", size: "Decimal", entry_key: str | None) -> "OrderIntent":
    """The sell of `size` (base): of the trade `entry_key`, else of the pool. Raises UserError."""
    from domain.intents import sell_of_size
    from domain.orders import EntryPoint

    return sell_of_size(
        entry_point=EntryPoint.MANUAL,
        account=settings.account,
        request_id=ticket.named(),
        symbol=ticket.product,
        entry_key=entry_key,
        size=size,
        limit_price=ticket.limit_price,
        time_in_force=_time_in_force(ticket),
        source="manual",
        valid_until=_valid_until(settings, "manual"),
        dry_run=ticket.dry_run,
        asked_by=ticket.by,
    )


def _time_in_force(ticket: Ticket) -> "TimeInForce":
    from domain.orders import TimeInForce

    market = ticket.limit_price is None
    given = ticket.time_in_force.strip().upper() if ticket.time_in_force else None
    if given is None:
        return TimeInForce.IOC if market else TimeInForce.GTC
    if given not in {"GTC", "IOC", "FOK"}:
        raise UserError("BAD_ORDER", f"--tif {ticket.time_in_force}: it is GTC, IOC or FOK.")
    if market and given != "IOC":
        raise UserError("BAD_ORDER", f"--tif {given} needs --limit: a MARKET order is always IOC.")
    if ticket.post_only and given != "GTC":
        raise UserError("BAD_ORDER", f"--post-only and --tif {given} contradict each other: leave one of them out.")
    return TimeInForce(given)


def _valid_until(settings: "Settings", trigger: str) -> "datetime":
    """An order from a person is meant now: if no worker takes it in time, it is dropped, not sent hours later."""
    from datetime import UTC, datetime, timedelta

    given = settings.triggers.get(trigger) or settings.triggers["manual"]
    return datetime.now(UTC) + timedelta(seconds=float(given.valid_s))


def exit_rules_of(settings: "Settings", trigger: str, given: Mapping[str, object]) -> "ExitRules":
    """The trigger's exit rules with the command line's options applied. Raises UserError."""
    from pydantic import ValidationError

    from workers.settings import ExitOverrides
    from workers.settings.values import exit_rules

    if trigger not in settings.triggers:
        raise UserError(
            "UNKNOWN_TRIGGER",
            f"--trigger {trigger}: there are no settings for it; there are for {', '.join(sorted(settings.triggers))}.",
        )
    try:
        overrides = ExitOverrides.model_validate({name: value for name, value in given.items() if value is not None})
        return exit_rules(settings.exits_for(trigger).with_overrides(overrides), by_hand=True)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        reason = str(problem["msg"]).removeprefix("Value error, ")
        raise UserError(
            "BAD_EXIT_RULES", f"The exit rules are not valid: {where + ': ' if where else ''}{reason}."
        ) from None


def amount(option: str, text: str | None) -> "Decimal | None":
    """A positive number as typed; None stays None. Raises UserError(BAD_NUMBER)."""
    from decimal import Decimal

    from domain.amounts import LONGEST_NUMBER, number_in, out_of_range
    from domain.money import plain

    if text is None:
        return None
    value = number_in(text)
    if value is None:
        problem: str | None = f"that is not a number of at most {LONGEST_NUMBER} characters; write it like 0.25"
    else:
        problem = "it must be more than zero" if value <= 0 else out_of_range(value)
    if value is None or problem is not None:
        shown = text if len(text) <= LONGEST_NUMBER else f"{text[:LONGEST_NUMBER]}…"
        raise UserError("BAD_NUMBER", f"{option} {shown}: {problem}.")
    # 0.10 and 0.1 are the same request.
    return Decimal(plain(value))


def percent(option: str, text: str | None) -> "Decimal | None":
    """A positive percentage, with or without its sign; None stays None. Raises UserError(BAD_NUMBER)."""
    return None if text is None else amount(option, text.strip().removesuffix("%"))
