"""Stops, targets and limits that may be mistakes: a sentence for each, and none for valid ones."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.main import run
from domain.exits import ExitRules
from domain.orders import Side
from domain.round_trip import RoundTrip, far_limit, near_levels, near_stops
from workers.settings import Settings
from workers.settings.near_costs import assumed_round_trip, near_costs

D = Decimal
TRIP = RoundTrip(D("0.006"), D("0.0002"), known=True)


def test_a_stop_of_a_twentieth_of_a_percent_is_asked_about() -> None:
    """0.05 was typed for 5: the sentence has the distance, the cost of a round trip, and the likely meaning."""
    found = near_levels(ExitRules(hard_stop=D("0.0005"), soft_stop=D("0.0003")), TRIP)
    assert found["hard_stop"] == (
        "the hard stop at 0.05 % is within the cost of a round trip: 1.22 % (2 × 0.6 % taker fee, spread 0.02 %); "
        "did you mean 5 %?"
    )
    assert set(found) == {"hard_stop", "soft_stop"}


@given(st.decimals(D("0.0001"), D("0.09"), places=6), st.decimals(0, D("0.02"), places=6))
def test_only_what_is_nearer_than_the_costs_is_told(distance: Decimal, taker: Decimal) -> None:
    """Every level nearer than the costs is reported by the same rule, none at or beyond them; a target of zero is
    off."""
    trip = RoundTrip(taker)
    rules = ExitRules(hard_stop=distance * 2, soft_stop=distance, trailing_arm=distance, take_profit=distance)
    near = distance < 2 * taker
    found = near_levels(rules, trip)
    assert ("soft_stop" in found, "trailing_arm" in found, "take_profit" in found) == (near, near, near)
    assert ("hard_stop" in found) == (distance < taker)
    assert "take_profit" not in near_levels(rules.model_copy(update={"take_profit": None}), trip)


def test_a_moved_stop_that_secures_a_gain_is_no_mistake() -> None:
    """Half a percent below the entry price is reported while the market is there, not when it is 20 % above."""
    levels = {"hard_stop": D("99.5"), "take_profit": D("100.5"), "soft_stop": None}
    assert len(list(near_stops(D(100), D(100), levels, TRIP))) == 2
    assert [line.partition(" at ")[0] for line in near_stops(D(100), D(120), levels, TRIP)] == ["the target"]


@pytest.mark.parametrize(
    ("side", "limit", "words"),
    [
        (Side.BUY, "4000", "92 % below the market (50001): it rests"),
        (Side.BUY, "500000", "above the market (50001): it fills at any price"),
        (Side.SELL, "4000", "92 % below the market (50000): it fills"),
        (Side.SELL, "500000", "900 % above the market (50000): it rests"),
        (Side.BUY, "46000", ""),
        (Side.SELL, "54999", ""),
    ],
)
def test_a_limit_far_from_the_market_is_told(side: Side, limit: str, words: str) -> None:
    """More than a tenth away on either side, with the order's effect; nearer, or without a market, nothing."""
    found = far_limit(side, D(limit), D(50000), D(50001))
    assert words in found
    assert bool(found) == bool(words)
    assert not far_limit(side, D(limit), None, None)


def test_settings_are_told_by_their_keys_once() -> None:
    """The defaults have no warning; a value that a trigger inherits from [exits] is reported there only."""
    shipped = Settings()
    assert list(near_costs(shipped, assumed_round_trip(shipped))) == []
    given = Settings.model_validate(
        {
            "exits": {"hard_stop_pct": "3", "soft_stop_pct": "0.3"},
            "triggers": {
                "roc_momo": {"exits": {"take_profit_pct": "0.5"}},
                "manual": {"protection": {"kind": "stop_limit", "stop_pct": "0.7"}},
            },
        }
    )
    keys = [line.partition(":")[0] for line in near_costs(given, assumed_round_trip(given))]
    assert keys == [
        "exits.soft_stop_pct",
        "triggers.roc_momo.exits.take_profit_pct",
        "triggers.manual.protection.stop_pct",
    ]
    cheap = Settings.model_validate({**given.model_dump(), "paper": {"taker_fee_pct": "0.02"}})
    assert list(near_costs(cheap, assumed_round_trip(cheap))) == []


def test_config_check_warns_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stop of 0.05 % is accepted: exit code 0, and a warning on stderr that asks whether 5 was meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path / "none"))
    (tmp_path / "bottrader.toml").write_text("[exits]\nhard_stop_pct = 0.05\nsoft_stop_pct = 0.03\n")
    assert run(["config", "check"]) == 0
    told = capsys.readouterr()
    assert "warning: exits.hard_stop_pct: the hard stop at 0.05 %" in told.err
    assert "did you mean 5 %?" in told.err
    assert "all settings are valid" in told.out
