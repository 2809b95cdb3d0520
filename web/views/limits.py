"""What strategies and triggers use of their limits, for `bottrader status`, the API and the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from domain.limit_groups import GroupUse
from domain.wording import tidy
from web.views import Json

__all__ = ["described_group", "described_limits", "used_up"]


def described_group(use: GroupUse, changed_at: datetime | None, until: datetime | None) -> Json:
    """One strategy or trigger: each figure beside its limit (None: no limit). Money in the account's own currency, and
    None while it isn't known, with the currencies `without_rate`. `since`, `until`: of a halt; `until` None: a resume.
    """
    group, limits, results = use.group, use.group.limits, use.results
    unpriced = results.unpriced if limits.daily_loss else ()
    return {
        "kind": group.kind.value,
        "name": group.name,
        "triggers": sorted(group.triggers),
        "open_money": tidy(use.open_money) if limits.budget and not use.without_rate else None,
        "budget": tidy(limits.budget) if limits.budget else None,
        "open_trades": use.open_trades if limits.budget or limits.open_trades else None,
        "open_trades_limit": limits.open_trades or None,
        "pnl_today": tidy(results.day_pnl) if limits.daily_loss and not unpriced else None,
        "loss_limit": tidy(limits.daily_loss) if limits.daily_loss else None,
        "without_rate": sorted({*use.without_rate, *unpriced}),
        "halted": use.halted,
        "halted_by": use.halted_by if use.halted else "",
        "since": changed_at if use.halted else None,
        "until": until if use.halted else None,
    }


def described_limits(currency: str, open_trades: int, open_trades_limit: int, groups: Sequence[Json]) -> Json:
    """The account's open trades and entries beside their limit (None: no limit), and each `described_group`."""
    return {
        "currency": currency,
        "open_trades": open_trades,
        "open_trades_limit": open_trades_limit or None,
        "groups": list(groups),
    }


def used_up(limits: Json) -> list[str]:
    """A sentence for each limit that lets no entry pass now: halts, numbers of open trades, budgets that are full,
    losses of the day; and for each of which that isn't known without asking the exchange.
    """
    found = []
    most = limits["open_trades_limit"]
    if most is not None and limits["open_trades"] >= most:
        found.append(f"The account has {limits['open_trades']} open trades and entries, the limit is {most}.")
    return [*found, *filter(None, (_stops(row, limits["currency"]) for row in limits["groups"]))]


def _stops(row: Json, currency: str) -> str:
    """Why a group's entries are refused now, or why that isn't known, as a sentence; empty if they aren't."""
    name = f"{row['kind']} {row['name']}"
    if why := _why_refused(row, currency):
        return f"No entry of {name} passes: {why}."
    if row["without_rate"]:
        return (
            f"Whether an entry of {name} passes is not known: no rate of {', '.join(row['without_rate'])} is stored; "
            f"its next entry asks the exchange, and is refused without an answer."
        )
    return ""


def _why_refused(row: Json, currency: str) -> str:
    """Why a group's entries are all refused now by what is known, as a clause; empty if they aren't."""
    if row["halted"]:
        again = f"`bottrader resume --{row['kind']} {row['name']}` allows them again"
        return f"halted by {row['halted_by']}; {again}"
    if row["pnl_today"] is not None and row["pnl_today"] <= -row["loss_limit"]:
        return f"it has lost {-row['pnl_today']:.2f} {currency} today, the limit is {row['loss_limit']:.2f}"
    if row["open_trades_limit"] is not None and row["open_trades"] >= row["open_trades_limit"]:
        return f"it has {row['open_trades']} open trades and entries, the limit is {row['open_trades_limit']}"
    if row["open_money"] is not None and row["open_money"] >= row["budget"]:
        return f"it has {row['open_money']:.2f} of its {row['budget']:.2f} {currency} open"
    return ""
