"""Events a trader wants to hear of that are no problem: kinds of news, and their sentences.

News is an event that is over: an incident of severity INFO that is reported once. Each kind is on (sent at once), quiet
(sent with others, at most once an hour) or off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from domain.gate_names import GateName
from domain.incidents import IncidentKind
from domain.money import ZERO, average, plain, round_half_even
from domain.outcome import trade_pnl

__all__ = [
    "ENTRY_REFUSED",
    "INCIDENT_KINDS",
    "LIMIT_GATES",
    "TRADE_CLOSED",
    "TRADE_OPENED",
    "How",
    "closed_sentence",
    "opened_sentence",
    "refused_sentence",
]

How = Literal["on", "quiet", "off"]

TRADE_OPENED = IncidentKind.TRADE_OPENED
TRADE_CLOSED = IncidentKind.TRADE_CLOSED
ENTRY_REFUSED = IncidentKind.ENTRY_REFUSED
INCIDENT_KINDS: Mapping[str, IncidentKind] = {
    "trade_opened": TRADE_OPENED,
    "trade_closed": TRADE_CLOSED,
    "entry_refused": ENTRY_REFUSED,
    "halted": IncidentKind.TRADING_HALTED,
    "resumed": IncidentKind.TRADING_RESUMED,
}
"""The incident's kind, by the name that the settings have for it."""

LIMIT_GATES = (
    GateName.DAILY_LOSS_LIMIT,
    GateName.STRATEGY_DAILY_LOSS,
    GateName.TRIGGER_DAILY_LOSS,
    GateName.CIRCUIT_BREAKER,
    GateName.MAX_OPEN_ORDERS,
    GateName.MAX_OPEN_TRADES,
    GateName.STRATEGY_OPEN_TRADES,
    GateName.TRIGGER_OPEN_TRADES,
    GateName.STRATEGY_BUDGET,
    GateName.TRIGGER_BUDGET,
    GateName.POSITION_TOO_LARGE,
    GateName.INSUFFICIENT_BALANCE,
)
"""Gates that are the trader's own limits; the others mean that there was nothing to trade."""

_SHOWN = 5


def opened_sentence(trade: Mapping[str, Any]) -> str:
    """What was bought, the price paid and the trigger. `trade` is its row with the entry's `trigger`."""
    bought, quote = trade["bought_size"], _quote(trade["symbol"])
    part = "" if trade["entry_final"] else " so far"
    return (
        f"Bought {plain(bought)} {trade['symbol']}{part} at {_price(average(trade['bought_value'], bought))} for "
        f"{_amount(trade['bought_value'])} {quote} (fees {_amount(trade['bought_quote_fees'])}), decided by "
        f"{trade['trigger'] or 'hand'}."
    )


def closed_sentence(trade: Mapping[str, Any]) -> str:
    """Result and reason of a closed trade: net is the position book's P&L, gross is before quote fees."""
    symbol, quote, reason = trade["symbol"], _quote(trade["symbol"]), trade["exit_reason"] or "none of our exits"
    held = _span(trade["closed_at"] - trade["opened_at"])
    dust = f" {trade['dust_why']}." if trade.get("dust_why") else ""
    if trade["sold_size"] <= 0 and dust:
        return f"The trade in {symbol} ended with nothing sold, after {held}:{dust}"
    if trade["sold_size"] <= 0:
        return f"The trade in {symbol} ended without one of our sells ({reason}), after {held}."
    bought = trade["bought_size"] - trade["bought_base_fees"]
    sold = trade["sold_size"] + trade["sold_base_fees"]
    gross = trade_pnl(bought, trade["bought_value"], sold, trade["sold_value"])
    net = trade_pnl(
        bought,
        trade["bought_value"] + trade["bought_quote_fees"],
        sold,
        trade["sold_value"] - trade["sold_quote_fees"],
    )
    return (
        f"{reason}: sold {plain(trade['sold_size'])} {symbol} at "
        f"{_price(average(trade['sold_value'], trade['sold_size']))}, bought at "
        f"{_price(average(trade['bought_value'], trade['bought_size']))}. "
        f"Net {_signed(net)} {quote} (gross {_signed(gross)}, fees {_amount(gross - net)}), held {held}.{dust}"
    )


def refused_sentence(gate: str, times: int, symbols: Sequence[str], sentence: str | None) -> str:
    """Which limit refused how many entries, and the last refusal's sentence."""
    entries = "An entry" if times == 1 else f"{times} entries"
    named = ", ".join(symbols[:_SHOWN]) + (" …" if len(symbols) > _SHOWN else "")
    why = f"; the last: {sentence}" if times > 1 else f": {sentence}"
    return f"{entries} refused by {gate} ({named}){why if sentence else ''}."


def _quote(symbol: str) -> str:
    return symbol.replace("_", "-").rpartition("-")[2]


def _amount(value: Decimal) -> str:
    return plain(round_half_even(value, Decimal("0.01")))


def _signed(value: Decimal) -> str:
    text = _amount(value)
    return f"+{text}" if value > ZERO else text


def _price(value: Decimal | None) -> str:
    return "–" if value is None else plain(round_half_even(value, Decimal("1e-8")))


def _span(span: timedelta) -> str:
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
