"""News of trades: sentences with numbers that add up, and quiet delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain.news import closed_sentence, opened_sentence, refused_sentence
from domain.notices import Incident, Phase, as_messages, due_notices, loud_and_quiet

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def trade(**changes: Any) -> dict[str, Any]:
    """0.01 BTC bought at 50,000 with 3 of fees and sold at 48,500 with 2.91, within two hours and five minutes."""
    given: dict[str, Any] = {
        "symbol": "BTC-USD",
        "trigger": "rsi_oversold",
        "entry_final": True,
        "bought_size": Decimal("0.01"),
        "bought_value": Decimal(500),
        "bought_quote_fees": Decimal(3),
        "bought_base_fees": Decimal(0),
        "sold_size": Decimal("0.01"),
        "sold_value": Decimal(485),
        "sold_quote_fees": Decimal("2.91"),
        "sold_base_fees": Decimal(0),
        "exit_reason": "HARD_STOP",
        "opened_at": NOW,
        "closed_at": NOW + timedelta(hours=2, minutes=5),
    }
    return given | changes


def test_a_closed_trade_is_told_with_net_gross_and_fees() -> None:
    """Net is gross less the fees of both sides; a trade that was only sold outside says so."""
    assert closed_sentence(trade()) == (
        "HARD_STOP: sold 0.01 BTC-USD at 48500, bought at 50000. Net -20.91 USD (gross -15, fees 5.91), held 2 h 5 min."
    )
    assert "gross +15" in closed_sentence(trade(sold_value=Decimal(515)))
    assert "without one of our sells" in closed_sentence(trade(sold_size=Decimal(0), sold_value=Decimal(0)))


def test_an_opened_trade_is_told_with_its_cost() -> None:
    """Size, price, value, fees and trigger; an entry that may fill further says so."""
    assert opened_sentence(trade()) == ("Bought 0.01 BTC-USD at 50000 for 500 USD (fees 3), decided by rsi_oversold.")
    assert "so far" in opened_sentence(trade(entry_final=False))


def test_refusals_of_one_limit_are_one_sentence() -> None:
    """Their number, their symbols, and the reason of the last one."""
    text = refused_sentence("SKIP_DAILY_LOSS_LIMIT", 3, ["BTC-USD", "ETH-USD"], "40 lost today, the limit is 30")
    assert text == (
        "3 entries refused by SKIP_DAILY_LOSS_LIMIT (BTC-USD, ETH-USD); the last: 40 lost today, the limit is 30."
    )


def news(number: int, kind: str, *, ago: timedelta) -> Incident:
    """News as stored: over when it happened."""
    at = NOW - ago
    return Incident(number, kind, "INFO", f"key-{number}", f"{kind} {number}", at, resolved_at=at)


def test_news_is_told_once_as_it_is() -> None:
    """It has no end to report, and its title needs no key."""
    (item,) = due_notices([news(1, "trade_closed", ago=timedelta(seconds=3))], NOW, repeat=HOUR)
    assert (item.phase, item.level, item.over) == (Phase.NEWS, "INFO", (1,))
    (message,) = as_messages("main", [item])
    assert message.title == "BotTrader main: trade closed"
    assert "over" not in message.body


def test_what_is_quiet_waits_and_comes_in_one_message() -> None:
    """Other kinds are sent at once; quiet ones together, when the oldest is an hour old."""
    found = [news(1, "trade_opened", ago=timedelta(minutes=5)), news(2, "trade_closed", ago=timedelta(minutes=5))]
    due = due_notices(found, NOW, repeat=HOUR)
    loud, hushed = loud_and_quiet(due, {"trade_opened"}, NOW, wait=HOUR)
    assert ([item.kind for item in loud], hushed) == (["trade_closed"], [])
    found.append(news(3, "trade_opened", ago=HOUR))
    loud, hushed = loud_and_quiet(due_notices(found, NOW, repeat=HOUR), {"trade_opened"}, NOW, wait=HOUR)
    assert [item.kind for item in hushed] == ["trade_opened", "trade_opened"]
    (message,) = as_messages("main", hushed, together=True)
    assert "trade_opened 1" in message.body
    assert "trade_opened 3" in message.body
