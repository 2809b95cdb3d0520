"""Wording about orders in the options and units that a person types.

A gate's sentence shows the values it compared; this adds what holds the coins that can't be sold, and how to sell them
anyway.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from domain.messages import OrderIntent
    from web.views import Row

__all__ = ["differences", "what_holds"]

_RULE_OPTIONS = {
    "hard_stop": "--hard-stop",
    "soft_stop": "--soft-stop",
    "trailing_arm": "--trailing-arm",
    "take_profit": "--take-profit",
}


def differences(stored: "OrderIntent", intent: "OrderIntent") -> str:
    """The differences between two similar orders, each as `option: old value, new value`."""
    return "; ".join(_differences(stored, intent))


def _differences(stored: "OrderIntent", intent: "OrderIntent") -> Iterator[str]:
    from domain.intents import MEASURED_RULES

    pairs: dict[str, tuple[object, object]] = {
        "--tif": (stored.time_in_force.value, intent.time_in_force.value),
        "--post-only": (_given(stored.post_only), _given(intent.post_only)),
        "--expires": (_seconds(stored.expires_after), _seconds(intent.expires_after)),
        "--dry-run": (_given(stored.dry_run), _given(intent.dry_run)),
        "--trigger": (stored.linkage.trigger, intent.linkage.trigger),
        "--trade": (stored.entry_key or "not given", intent.entry_key or "not given"),
    }
    for option, (then, now) in pairs.items():
        if then != now:
            yield f"{option}: {then} then, {now} now"
    theirs, ours = stored.rules, intent.rules
    for name, option in _RULE_OPTIONS.items():
        old, new = getattr(theirs, name), getattr(ours, name)
        if old != new:
            yield f"{option}: {_percent(old)} then, {_percent(new)} now"
    if theirs.signal_exit != ours.signal_exit:
        words = {True: "--signal-exit", False: "--no-signal-exit"}
        yield f"{words[theirs.signal_exit]} then, {words[ours.signal_exit]} now"
    others = [
        name.replace("_", " ")
        for name in type(theirs).model_fields
        if name not in {*_RULE_OPTIONS, "signal_exit", *MEASURED_RULES} and getattr(theirs, name) != getattr(ours, name)
    ]
    if others:
        yield f"the settings of its exits have changed since ({', '.join(others)})"


def _given(flag: bool) -> str:
    return "given" if flag else "not given"


def _seconds(value: "Decimal | None") -> str:
    from domain.money import plain

    return "not given" if value is None else f"{plain(value)} s"


def _percent(fraction: "Decimal | None") -> str:
    from domain.money import plain

    return "off" if fraction is None else f"{plain(fraction * 100)} %"


# --- what can't be sold ----------------------------------------------------------------------------------------------

_SHOWN = 3


async def what_holds(ledger: Any, intent: "OrderIntent") -> str:
    """What holds the coins this sell was refused for, and how to sell them; empty if the ledger shows nothing.

    A sell of a trade is blocked by the trade's resting orders; one from the pool by trades in any product of the coin.
    Raises the database's errors.
    """
    from domain.wording import short
    from web.views.orders import sells_at_work, trades_owning

    sells = await sells_at_work(ledger, intent)
    base = intent.symbol.partition("-")[0]
    told = [_of_sell(row, base) for row in sells if row["size"] > 0 and (intent.entry_key or not row["entry_key"])]
    if intent.entry_key is None:
        protected = {row["entry_key"] for row in sells if row["protection_role"] is not None}
        for row in await trades_owning(ledger, intent.account, intent.symbol):
            key = short(row["entry_key"])
            # What rests at the exchange for it holds every part of it, too.
            part = "" if row["entry_key"] in protected else f", `bottrader order sell --trade {key}` a part of it"
            told.append(
                f"Trade {key} owns {_amount(row['remaining'], base)}: `bottrader trade close {key}` sells it{part}."
            )
    more = len(told) - _SHOWN
    return " ".join(
        [*told[:_SHOWN], *([f"{more} more trades hold some: see `bottrader trades --open`."] if more > 0 else [])]
    )


def _of_sell(row: "Row", base: str) -> str:
    from domain.wording import short

    held = _amount(row["size"], base)
    if row["entry_key"] is None:
        key = short(row["order_key"])
        return f"The open sell {key} holds {held}: cancel it with `bottrader order cancel {key}`."
    key = short(row["entry_key"])
    if row["protection_role"] is not None:
        return (
            f"The protection of trade {key}, which rests at the exchange, holds {held}: `bottrader trade close "
            f"{key}` cancels it and sells."
        )
    return f"Trade {key} is being sold already ({row['exit_reason']}, {held}): see `bottrader trade show {key}`."


def _amount(size: "Decimal", base: str) -> str:
    from domain.wording import tidy

    return f"{tidy(size):f} {base}"
