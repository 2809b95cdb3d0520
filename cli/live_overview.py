"""What a person checks before real money is spent: account, balances, limits, what can buy and what can be sold."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from activities.identity import read_account, read_ledger
from activities.venue_standing import ENTRIES_REFUSED
from domain.money import plain
from exchange.port import Exchange, ExchangeError
from web.views.incidents import newest_open_sentence
from web.views.trades import open_by_symbol
from workers.settings import Settings
from workers.settings.risk import TriggerLimitSettings

__all__ = ["DRY_RUN", "Overview", "overview"]

_CANT_TRADE = "THE API KEY MAY NOT TRADE: nothing is bought or sold, not even by a stop; give it the permission"
DRY_RUN = "dry_run is set: entries are decided but not sent"

_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Overview:
    """One account of one ledger. Times in UTC; `balances` and `key_may_trade` are None while the exchange does not
    answer.
    """

    mode: str
    account: str
    venue: str
    venue_account_id: str | None
    armed: bool
    armed_at: datetime | None
    armed_by: str | None
    disarmed_at: datetime | None
    dry_run: bool
    key_may_trade: bool | None
    balances: Mapping[str, Decimal] | None
    limits: Mapping[str, str]
    buys: tuple[str, ...]
    sells: tuple[str, ...]
    refused: str | None = None
    """Why no entries are sent now, armed or not, as reported by a worker."""

    @property
    def lines(self) -> list[str]:
        """The lines shown to a person."""
        where = f"{self.venue} account {self.venue_account_id or '(not reported by the exchange yet)'}"
        balances = "not known: the exchange does not answer"
        if self.balances is not None:
            balances = ", ".join(f"{plain(size)} {name}" for name, size in sorted(self.balances.items())) or "nothing"
        state = "armed" if self.armed else "not armed: no entries are sent until `bottrader live arm`; exits are"
        if self.armed and self.armed_at is not None:
            state += f" by {self.armed_by or 'an unknown person'} at {self.armed_at:%Y-%m-%d %H:%M:%S}Z"
        found = [
            f"account {self.account}, {where}",
            f"balances: {balances}",
            f"limits: {', '.join(f'{name} {value}' for name, value in self.limits.items())}",
            *(f"buys: {what}" for what in self.buys or ("no automatic buys",)),
            *(f"sells: {what}" for what in self.sells),
            state,
            *((f"but now {self.refused}",) if self.armed and self.refused else ()),
        ]
        found += [_CANT_TRADE] if self.key_may_trade is False else []
        return found + ([DRY_RUN] if self.dry_run else [])


async def overview(connection: Any, settings: Settings, exchange: Exchange | None) -> Overview:
    """The account's state; without `exchange` its balances are not requested. Raises the database's errors."""
    ledger = await read_ledger(connection)
    known = await read_account(connection, settings.account)
    trades = await open_by_symbol(connection, settings.account)
    return Overview(
        mode=settings.mode if ledger is None else ledger.mode,
        account=settings.account,
        venue=settings.exchange.venue if known is None else known.venue,
        venue_account_id=None if known is None else known.venue_account_id,
        armed=known is not None and known.armed,
        armed_at=None if known is None else known.armed_at,
        armed_by=None if known is None else known.armed_by,
        disarmed_at=None if known is None else known.disarmed_at,
        dry_run=settings.dry_run,
        key_may_trade=await _key_may_trade(exchange),
        balances=await _balances(exchange),
        limits=_limits(settings),
        buys=tuple(_buys(settings)),
        sells=tuple(_sells(settings, {row["symbol"]: (row["trades"], row["size"]) for row in trades})),
        refused=await newest_open_sentence(connection, settings.account, ENTRIES_REFUSED),
    )


async def _key_may_trade(exchange: Exchange | None) -> bool | None:
    if exchange is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await exchange.may_trade()
    except (ExchangeError, TimeoutError):
        return None


async def _balances(exchange: Exchange | None) -> Mapping[str, Decimal] | None:
    if exchange is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            found = await exchange.balances()
    except (ExchangeError, TimeoutError):
        return None
    return {name: balance.total for name, balance in found.items() if balance.total}


def _limits(settings: Settings) -> dict[str, str]:
    risk = settings.risk
    return {
        "risk.daily_loss_limit": plain(risk.daily_loss_limit) if risk.daily_loss_limit else "none",
        "risk.max_position_pct": f"{plain(risk.max_position_pct)} %",
        "risk.losing_trades_in_a_row": str(risk.losing_trades_in_a_row or "none"),
        "risk.max_open_trades": str(risk.max_open_trades or "none"),
        "risk.strategies": ", ".join(_budget(name, given) for name, given in risk.strategies.items()) or "none",
        "symbols.max_open_buys": str(settings.symbols.max_open_buys),
    }


def _budget(name: str, given: TriggerLimitSettings) -> str:
    return f"{name} (budget {plain(given.budget) if given.budget else 'none'})"


def _buys(settings: Settings) -> list[str]:
    """What may open trades automatically."""
    found = []
    symbols = ", ".join(settings.symbols.allow) or "any product"
    if settings.entry_points != "webhook" and settings.strategy.enabled:
        roc = " and momentum (roc)" if settings.roc.enabled else ""
        found.append(f"the strategy{roc}, on {symbols}")
    if settings.entry_points != "webhook" and settings.quoting.enabled:
        found.append(f"market making, on {', '.join(settings.quoting.symbols) or symbols}")
    if settings.entry_points != "sighook" and settings.webhook.senders:
        found.append(f"alerts of {', '.join(sorted(settings.webhook.senders))}")
    return found


def _sells(settings: Settings, trades: Mapping[str, tuple[int, Decimal]]) -> list[str]:
    """What the system sells: its own trades by their exit rules, and what the settings let it adopt."""
    found = [
        f"{plain(size)} {symbol.partition('-')[0]} of {count} open trade{'s' if count != 1 else ''}, by [exits]"
        for symbol, (count, size) in trades.items()
    ] or ["no open trades; new ones are sold by [exits]"]
    if settings.adoption.protect:
        found.append("external buys since the first start, by [exits] (adoption.protect)")
    if settings.quoting.enabled and settings.quoting.use_unowned:
        found.append("the unowned pool, by market making (quoting.use_unowned)")
    if settings.symbols.hodl:
        found.append(f"never {', '.join(settings.symbols.hodl)} (symbols.hodl)")
    return found
