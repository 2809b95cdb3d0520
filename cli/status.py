"""`bottrader status`: the account in a few lines, the numbers of the page's top line and of `/api/monitoring/summary`.

All of it is read from the ledger: it also works while no worker runs, and then the age of the data shows that.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from typing import Any

    from web.views import Row
    from workers.settings import Settings

__all__ = ["limit_rows", "status", "status_rows"]


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the account's P&L today, risk, halt and age of data.

    The numbers are those of the page's top line.
    """
    import asyncio

    from cli.settings import settings_in_force

    found = asyncio.run(_look(settings_in_force()))
    if as_json:
        print_json(found)
        return
    tell(_head(found))
    print_table(("", ""), status_rows(found))
    if found["limits"]["groups"]:
        print_table(
            ("limits of", "open money", "open trades", "P&L today", ""),
            limit_rows(found["limits"]),
            title=f"Strategies and triggers, in {found['limits']['currency']}",
        )


async def _look(settings: "Settings") -> "dict[str, Any]":
    from collections.abc import Collection
    from datetime import UTC, datetime

    from activities.orders.controls import trading_control
    from cli.api_sources import streams_of, today_of
    from cli.groups import limits_now
    from cli.ledger import open_ledger
    from web.views.standing import read_standing
    from workers.readiness import unwatched
    from workers.settings.values import policy_of

    account = settings.account
    async with open_ledger(settings) as ledger:

        async def alone(symbols: Collection[str]) -> Collection[str]:
            return await unwatched(ledger, account, symbols, settings.watcher.shards)

        control = await trading_control(ledger, account)
        standing = await read_standing(ledger, account, streams_of(settings), alone)
        today = await today_of(ledger, policy_of(settings))
        limits = await limits_now(ledger, policy_of(settings))
    return {
        "at": datetime.now(UTC),
        "account": account,
        "mode": control.mode or settings.mode,
        "armed": control.armed,
        "dry_run": settings.dry_run,
        "speed": settings.speed,
        **standing,
        "today": today,
        "limits": limits,
    }


# --- what is printed -------------------------------------------------------------------------------------------------


def _head(found: "Row") -> str:
    from domain.text import shown

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


def status_rows(found: "Row") -> list[tuple[str, str]]:
    """The lines below the first one: what, and its value in words."""
    from cli.ledger import ago
    from domain.money import amount

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
        ("oldest data", "none yet" if oldest is None else f"{ago(oldest['at'], found['at'])} ({oldest['what']})"),
        ("open trades", str(counts["open_trades"]) + _of_limit(found["limits"])),
        ("open orders", f"{counts['open_orders']}" + _some(counts["unknown_orders"], "with an unknown outcome")),
        ("open incidents", f"{counts['open_incidents']}" + _some(counts["critical_incidents"], "critical")),
    ]


def limit_rows(limits: "Row") -> list[tuple[str, str, str, str, str]]:
    """A line for each strategy and trigger that has limits or is halted: what it uses beside its limit."""
    from domain.money import amount

    currency = limits["currency"]

    def of(used: "Any", limit: "Any", sign: str = "") -> str:
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


def _of_limit(limits: "Row") -> str:
    most = limits["open_trades_limit"]
    return "" if most is None else f" ({limits['open_trades']} of {most} with open entries)"


def _some(count: int, what: str) -> str:
    return f", {count} {what}" if count else ""


def _sums(risks: "list[Row]", name: str) -> str:
    """An amount for each currency, and how many trades have no price and are not in it."""
    from domain.money import amount

    parts = [
        f"{amount(item[name], item['currency'])} {item['currency']}"
        + (f" (without {item['unpriced']} of {item['trades']} trades, which have no price)" if item["unpriced"] else "")
        for item in risks
    ]
    return ", ".join(parts) or "0"
