"""The watcher's shortcut agrees with the rule itself."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.exits import ExitRules, Position, SellSignal, Trailing, advance_trailing, due_exit, quiet_band

NOW = datetime(2026, 1, 1, tzinfo=UTC)
prices = st.decimals(min_value="0.5", max_value="200000", places=6)
fractions = st.decimals(min_value="0.001", max_value="0.2", places=4)


@st.composite
def rules(draw: st.DrawFn) -> ExitRules:
    """Any rules that validate."""
    soft, hard = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    return ExitRules(
        soft_stop=soft,
        hard_stop=hard,
        trailing_arm=draw(st.none() | fractions),
        take_profit=draw(st.none() | fractions),
        take_profit_atr=draw(st.none() | st.decimals(min_value="0.5", max_value="5", places=2)),
        target_atr=draw(st.none() | st.decimals(min_value="0.0001", max_value="5000", places=4)),
        signal_exit=draw(st.booleans()),
        signal_exit_net=draw(st.booleans()),
        signal_exit_gain=draw(st.just(Decimal(0)) | fractions),
        taker_rate=draw(st.none() | st.decimals(min_value="0", max_value="0.02", places=4)),
    )


@st.composite
def positions(draw: st.DrawFn) -> Position:
    """Any position, its trailing armed or not by a few moves of the price."""
    entry, exit_rules = draw(prices), draw(rules())
    trailing: Trailing | None = None
    for move in draw(st.lists(st.decimals(min_value="0.8", max_value="1.4", places=4), max_size=4)):
        atr = draw(st.none() | st.decimals(min_value="0.0001", max_value="5000", places=4))
        trailing = advance_trailing(trailing, Position(entry, exit_rules, trailing), entry * move, atr)
    cost = draw(st.none() | st.decimals(min_value="1", max_value="1.02", places=6))
    return Position(entry, exit_rules, trailing, cost=None if cost is None else entry * cost)


@given(positions(), st.data(), st.sampled_from([None, True, False]))
def test_the_quiet_band_never_hides_anything(position: Position, data: st.DataObject, sells: bool | None) -> None:
    """A bid within the band makes nothing due and moves no trailing stop, so the watcher may skip it."""
    signal = None if sells is None else SellSignal(sells, NOW)
    band = quiet_band(position, signal)
    move = data.draw(st.decimals(min_value="0.7", max_value="1.6", places=6))
    near = data.draw(st.sampled_from([band.low, band.high, position.entry_price]))
    nudge = data.draw(st.sampled_from([Decimal(0), Decimal("1e-9"), Decimal("-1e-9")]))
    for bid in (position.entry_price * move, (near if near.is_finite() else position.entry_price) + nudge):
        if band.low < bid < band.high:
            verdict = due_exit(position, bid, NOW, NOW, atr=Decimal(1), signal=signal)
            assert verdict.due is None
            assert verdict.trailing == position.trailing


@given(positions())
def test_the_bounds_themselves_belong_to_the_rule(position: Position) -> None:
    """At the lower bound an exit is due: the band is no narrower than the rule requires."""
    low = quiet_band(position).low
    assert due_exit(position, low, NOW, NOW, atr=Decimal(1)).due is not None
