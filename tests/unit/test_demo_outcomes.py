"""Winners and losers in the demonstration."""

from decimal import Decimal
from typing import Any

from cli.demo.audit import outcomes, won_and_lost
from cli.demo.command import _MEANING
from domain.exits import ExitReason


def trade(gross: str, fees: str, reason: str, state: str = "CLOSED") -> dict[str, Any]:
    """A trade of the demonstration."""
    pnl = Decimal(gross) - Decimal(fees)
    return {"state": state, "gross": Decimal(gross), "fees": Decimal(fees), "pnl": pnl, "reason": reason}


def test_a_winner_is_what_gains_after_fees() -> None:
    """Gross less fees is net; a gain below its fees is a loss and counts as one; open trades are neither."""
    trades = [
        trade("5", "1", "TP"),
        trade("3", "1", "TRAILING_STOP"),
        trade("0.5", "1", "TP"),
        trade("-4", "1", "HARD_STOP"),
        trade("9", "1", "TP", state="PROTECTED"),
    ]
    won, lost = won_and_lost(trades)
    assert (won.count, won.eaten, lost.count, lost.eaten) == (2, 0, 2, 1)
    assert [won.gross, won.fees, won.net] == [8, 2, 6]
    assert [lost.gross, lost.fees, lost.net] == [Decimal("-3.5"), 2, Decimal("-5.5")]
    assert (won.reasons, lost.reasons) == ({"TP": 1, "TRAILING_STOP": 1}, {"TP": 1, "HARD_STOP": 1})


def test_each_way_out_has_its_sum() -> None:
    """Closed trades by exit reason, sorted by name; together they are all winners and losers."""
    trades = [
        trade("5", "1", "TP"),
        trade("-4", "1", "HARD_STOP"),
        trade("0.5", "1", "TP"),
        trade("9", "1", "TP", state="PROTECTED"),
    ]
    found = outcomes(trades)
    assert [(reason, some.count, some.net) for reason, some in found.items()] == [
        ("HARD_STOP", 1, Decimal(-5)),
        ("TP", 2, Decimal("3.5")),
    ]
    won, lost = won_and_lost(trades)
    assert sum(some.net for some in found.values()) == won.net + lost.net


def test_every_way_out_is_explained() -> None:
    """Every exit reason has an explanation for new users."""
    assert set(_MEANING) == {reason.value for reason in ExitReason}
