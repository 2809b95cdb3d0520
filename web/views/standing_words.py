"""An account's standing in words: the same lines for `bottrader status` and Telegram's /status."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from domain.money import amount
from domain.text import shown
from domain.wording import age
from web.views import Row

__all__ = ["limit_lines", "standing_head", "standing_lines"]


def standing_head(found: Row) -> str:
    """The first line: mode, account, and whether entries are allowed."""
    mode = "LIVE" if found["mode"] == "live" else f"PAPER ×{found['speed']:g}"
    if found["mode"] == "live" and not found["armed"]:
        mode += ", not armed"
    if found["dry_run"]:
        mode += ", DRY RUN"
    switch = found["switch"]
    if not switch["halted"]:
        return f"{mode}, account {found['account']}: entries are allowed."
    since = f" since {shown(switch['since'])}" if switch["since"] else ""
    why = f": {shown(switch['reason'])}" if switch["reason"] else ""
    return f"{mode}, account {found['account']}: HALTED by {shown(switch['by']) or 'an unknown person'}{since}{why}."


def standing_lines(found: Row) -> list[tuple[str, str]]:
    """The lines below the first one: what, and its value in words."""
    today, counts, oldest = found["today"], found["counts"], found["oldest"]
    currency = today["currency"]
    limit = today["loss_limit"]
    row_limit = today["losses_in_a_row_limit"]
    pnl = "not known" if today["pnl"] is None else f"{amount(today['pnl'], currency)} {currency}"
    if today["unpriced"]:
        pnl += f" (no rate for {', '.join(today['unpriced'])})"
    unprotected = found["unprotected"]
    return [
        ("net P&L today (UTC)", f"{pnl}, " + (f"limit -{amount(limit, currency)} {currency}" if limit else "no limit")),
        ("at risk", _sums(found["risks"], "at_risk")),
        ("exposure", _sums(found["risks"], "exposure")),
        ("losses in a row", f"{today['losses_in_a_row']}" + (f"/{row_limit}" if row_limit else ", no limit")),
        ("unprotected", "0" if not unprotected else f"{unprotected} of {counts['open_trades']} open trades"),
        ("oldest data", "none yet" if oldest is None else f"{age(oldest['at'], found['at'])} ({oldest['what']})"),
        ("open trades", str(counts["open_trades"]) + _of_limit(found["limits"])),
        ("open orders", f"{counts['open_orders']}" + _some(counts["unknown_orders"], "with an unknown outcome")),
        ("open incidents", f"{counts['open_incidents']}" + _some(counts["critical_incidents"], "critical")),
    ]


def limit_lines(limits: Row) -> list[tuple[str, str, str, str, str]]:
    """A line for each strategy and trigger that has limits or is halted: what it uses beside its limit."""
    currency = limits["currency"]

    def of(used: Decimal | None, limit: Decimal | None, sign: str = "") -> str:
        if limit is None:
            return "no limit"
        return f"{'not known' if used is None else amount(used, currency)} of {sign}{amount(limit, currency)}"

    return [
        (
            f"{row['kind']} {row['name']}",
            of(row["open_money"], row["budget"]),
            "no limit" if row["open_trades_limit"] is None else f"{row['open_trades']} of {row['open_trades_limit']}",
            of(row["pnl_today"], row["loss_limit"], "-"),
            f"HALTED by {row['halted_by']}" if row["halted"] else "",
        )
        for row in limits["groups"]
    ]


def _of_limit(limits: Row) -> str:
    most = limits["open_trades_limit"]
    return "" if most is None else f" ({limits['open_trades']} of {most} with open entries)"


def _some(count: int, what: str) -> str:
    return f", {count} {what}" if count else ""


def _sums(risks: Sequence[Row], name: str) -> str:
    """An amount for each currency, and how many trades have no price and are not in it."""
    parts = [
        f"{amount(item[name], item['currency'])} {item['currency']}"
        + (f" (without {item['unpriced']} of {item['trades']} trades, which have no price)" if item["unpriced"] else "")
        for item in risks
    ]
    return ", ".join(parts) or "0"
