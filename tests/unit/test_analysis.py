"""Reports of hand-made trades whose results can be calculated on paper."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.statistics import wilson_interval
from research.analysis import (
    GROUPINGS,
    by_day,
    by_exit,
    by_hour,
    by_score,
    by_sell_score,
    by_trigger,
    group_by,
    indicators,
    score_correlation,
    sell_score_correlation,
    summaries,
    summary,
)
from research.charts import Bar, bars, line, points, thin
from research.html import ReportHead, html_report
from research.linkage import LinkageReport, SourceLinkage
from research.stops import losses_beyond_stops
from research.trades import TradeTable, table_of

DAY = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


def row(number: int, **given: Any) -> dict[str, Any]:
    """A trade of 1 at 100 that took profit at 104 as configured, with 0.2 of slippage and 1 of fees."""
    usual: dict[str, Any] = {
        "entry_key": f"{number:032x}", "symbol": "BTC-USD", "trigger": "rsi_oversold",
        "reason": "TP", "opened": DAY + 60 * number,
        "closed": DAY + 60 * number + 30,
        "pnl": Decimal("2.8"), "fees": Decimal(1), "cost": 100.5, "bought_value": 100.0,
        "bought_size": 1.0, "sold_value": 103.8, "sold_size": 1.0, "sold_share": 1.0,
        "size": 1.0, "due": 104.0, "aimed": 0.04, "free_size": 0.0,
        "free_due": 0.0, "slippage": -0.2, "soft_stop": 0.02, "take_profit": 0.04, "trailing_arm": None, "score": 1.2,
        "fired": "rsi", "quiet": "macd",
    }  # fmt: skip
    return usual | given


LOSS: dict[str, Any] = {
    "reason": "SOFT_STOP", "pnl": Decimal("-3.5"), "sold_value": 97.5, "due": 97.9, "aimed": -0.02, "slippage": -0.4,
    "trigger": "macd_cross", "score": 0.3, "fired": "macd", "quiet": "rsi",
}  # fmt: skip


def table(*rows: dict[str, Any]) -> TradeTable:
    """Trades as columns."""
    columns: dict[str, list[Any]] = {name: [item[name] for item in rows] for name in (rows[0] if rows else ())}
    return table_of(columns)


def test_a_summary_is_what_one_would_work_out() -> None:
    """Three winners and one loser: rate, sums, averages, and configured 2.0 compared with the achieved ratio."""
    found = summary(table(row(0), row(1), row(2), row(3, **LOSS)))
    assert (found.trades, found.wins, found.pnl, found.fees) == (4, 3, Decimal("4.9"), Decimal(4))
    assert found.win_rate == wilson_interval(3, 4)
    assert (found.average_win, found.average_loss) == (Decimal("2.8"), Decimal("-3.5"))
    assert found.configured == pytest.approx(2.0)
    assert found.achieved.value == pytest.approx(2.8 / 3.5)
    assert found.profit_factor == pytest.approx(8.4 / 3.5)
    assert found.slippage == Decimal(-1)
    assert found.held_median == 30


def test_losses_beyond_a_stop_are_told_with_their_cause() -> None:
    """Each step from a stop to a larger loss, calculated on paper; the largest is the cause, they add up, and a loss
    within the stop is not included.
    """
    hard = {"reason": "HARD_STOP", "aimed": -0.05, "due": 95.0}
    rows = [
        row(0),
        # 0.5 of fees in the entry's cost of 100.5 and 0.5 of the exit's: the stop itself was exact.
        row(1, **LOSS | {"due": 98.0, "sold_value": 98.0, "pnl": Decimal("-3.0")}),
        row(2, **LOSS | {"due": 96.0, "sold_value": 95.9, "pnl": Decimal("-5.1")}),  # due 2 below its level
        row(3, **LOSS | {"due": 98.0, "sold_value": 96.2, "pnl": Decimal("-4.8")}),  # sold 1.8 below the bid
        row(4, **LOSS | hard | {"sold_value": 95.0, "pnl": Decimal("-6.0")}),  # closed by the hard stop
        row(5, **LOSS | {"due": 99.5, "sold_value": 99.5, "aimed": -0.005, "pnl": Decimal("-1.5")}),  # a person's
    ]
    soft, deep = losses_beyond_stops(table(*rows))
    assert (soft.stop, soft.level, soft.losses, soft.beyond) == ("soft stop", 0.02, 5, 4)
    assert soft.share == wilson_interval(4, 5)
    assert soft.share_before_fees == wilson_interval(3, 5)
    assert soft.causes == {"other path": 1, "gap": 1, "slippage": 1, "fees": 1}
    by_key = {trade.entry_key: trade for trade in soft.trades}
    causes = {number: by_key[f"{number:032x}"].cause for number in (1, 2, 3, 4)}
    assert causes == {1: "fees", 2: "gap", 3: "slippage", 4: "other path"}
    for trade in soft.trades:
        assert trade.path + trade.gap + trade.slippage + trade.fees == pytest.approx(-trade.beyond)
        assert trade.lost == pytest.approx(trade.stop + trade.beyond)
    assert [trade.beyond for trade in soft.trades] == sorted((trade.beyond for trade in soft.trades), reverse=True)
    assert (deep.stop, deep.level, deep.losses) == ("hard stop", 0.05, 5)
    assert {trade.entry_key: trade.cause for trade in deep.trades} == {f"{2:032x}": "gap", f"{4:032x}": "fees"}
    assert losses_beyond_stops(table(row(0))) == []
    assert losses_beyond_stops(table_of({})) == []


def test_sell_scores_are_compared_with_what_came_of_them() -> None:
    """Trades are in the bucket of the sell score at their last exit; the correlation is within exit reasons."""
    rows = [row(number, sell_score=0.2 * number, pnl=Decimal(number)) for number in range(6)]
    rows += [row(9, sell_score=None), *(row(10 + n, **LOSS, sell_score=0.9 - 0.1 * n) for n in range(2))]
    found = by_sell_score(table(*rows), 0.5)
    assert [(item.group, item.trades) for item in found] == [("0.0 to 0.5", 3), ("0.5 to 1.0", 4), ("1.0 to 1.5", 1)]
    assert sell_score_correlation(table(*rows)).value == pytest.approx(1, abs=0.001)
    assert by_sell_score(table(row(0)), 0.5) == []


PRICED = {"USD": "BTC-USD", "BTC": "ETH-BTC", "EUR": "BTC_EUR"}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(PRICED)), st.sampled_from(["a", "b"]), st.decimals(-500, 500, places=8)),
        max_size=12,
    )
)
def test_amounts_of_different_currencies_are_never_added(trades: list[tuple[str, str, Decimal]]) -> None:
    """Each sum of each grouping is that of one currency's trades, to the last digit, and no trade is left out."""
    rows = [
        row(number, symbol=PRICED[currency], trigger=trigger, pnl=pnl, fees=abs(pnl) / 4)
        for number, (currency, trigger, pnl) in enumerate(trades)
    ]
    made = table(*rows) if rows else table_of({})
    sums: dict[tuple[str, str], Decimal] = {}
    for currency, trigger, pnl in trades:
        sums[trigger, currency] = sums.get((trigger, currency), Decimal(0)) + pnl
    assert {(item.group, item.currency): item.pnl for item in by_trigger(made)} == sums
    for grouping in GROUPINGS.values():
        found = grouping(made)
        assert sum(item.trades for item in found) == len(trades)
        for currency in PRICED:
            own = [pnl for each, _, pnl in trades if each == currency]
            assert sum((item.pnl for item in found if item.currency == currency), Decimal(0)) == sum(own, Decimal(0))
    totals = {item.currency: (item.trades, item.pnl, item.fees) for item in summaries(made) if item.trades}
    for currency, total in totals.items():
        own = [pnl for each, _, pnl in trades if each == currency]
        assert total == (len(own), sum(own, Decimal(0)), sum((abs(pnl) / 4 for pnl in own), Decimal(0)))
    assert set(totals) == {currency for currency, _, _ in trades}
    if len(totals) > 1:
        with pytest.raises(ValueError, match="have no sum"):
            summary(made)


def test_the_page_has_a_part_for_each_currency() -> None:
    """Tiles, curves and tables of one currency are of its trades only; hundredths of a coin are shown."""
    made = table(row(0), row(1, symbol="ETH-BTC", pnl=Decimal("-0.00041"), fees=Decimal("0.0001")))
    nothing = LinkageReport((), 0, 0, 0, 0, 0, 0, ())
    page = html_report(ReportHead("main", datetime(2026, 3, 2, tzinfo=UTC)), made, nothing)
    assert page.index("Priced in BTC") < page.index("Priced in USD")
    assert ">-0.00041<" in page
    assert "net P&amp;L, BTC" in page
    assert "2.79" not in page, "2.80 less 0.00041 is no amount of anything"


def test_money_is_a_decimal_to_eight_places() -> None:
    """An average with endless digits is rounded half-even, and a sum of floats shows no rounding noise."""
    third = [row(number, pnl=Decimal(gain), slippage=-0.1) for number, gain in enumerate((1, 2, 2))]
    found = summary(table(*third, row(3, **LOSS, fees=Decimal(1)) | {"slippage": 0.0}))
    assert (found.average_win, found.average_loss) == (Decimal("1.66666667"), Decimal("-3.5"))
    assert found.slippage == Decimal("-0.3")


def test_from_configured_to_achieved_every_step_is_named() -> None:
    """The steps of winners and losers are those of the trades, and add up to the achieved result."""
    found = summary(table(row(0), row(1, **LOSS)))
    assert found.won is not None
    assert found.lost is not None
    assert found.won.configured == pytest.approx(0.04)
    assert found.won.exit_path == pytest.approx(0)
    assert found.won.slippage == pytest.approx(-0.002)
    assert found.won.fees == pytest.approx(2.8 / 100.5 - 0.038)
    assert found.lost.distance == pytest.approx(-0.001)
    for step in (found.won, found.lost):
        parts = step.configured + step.exit_path + step.distance + step.slippage + step.fees
        assert parts == pytest.approx(step.achieved)


def test_another_way_out_is_its_own_step() -> None:
    """The cost of closing a trade by hand below its target is not slippage."""
    by_hand = row(0, reason="MANUAL", aimed=0.0, free_size=1.0, free_due=102.0, due=102.0, sold_value=101.9)
    found = summary(table(by_hand)).won
    assert found is not None
    assert found.exit_path == pytest.approx(-0.02)
    assert found.distance == pytest.approx(0)
    assert found.slippage == pytest.approx(-0.001)


def test_groups_hold_every_trade_once() -> None:
    """By trigger, exit, hour and day: counts and sums are those of all trades together."""
    found = table(row(0), row(61), row(1_500, **LOSS))
    for groups in (by_trigger(found), by_exit(found), by_hour(found), by_day(found)):
        assert sum(item.trades for item in groups) == 3
        assert sum(item.pnl for item in groups) == Decimal("2.1")
    assert [item.group for item in by_hour(found)] == ["00", "01"]
    assert [item.group for item in by_day(found)] == ["2026-03-01", "2026-03-02"]


def test_score_buckets_are_in_order_and_leave_out_who_has_none() -> None:
    """Buckets are in ascending order, below zero too; a trade without a score is in none."""
    found = table(row(0), row(1, score=None), row(2, score=-0.2), row(3, score=11.0))
    assert [item.group for item in by_score(found, 0.5)] == ["-0.5 to 0.0", "1.0 to 1.5", "11.0 to 11.5"]
    assert [item.group for item in by_score(found, 10)] == ["-10 to 0", "0 to 10", "10 to 20"]


@given(st.integers(1, 10**9), st.integers(0, 10**12), st.integers(1, 10**9))
def test_a_score_is_in_the_bucket_whose_edges_hold_it(nanos: int, score: int, between: int) -> None:
    """A score at an edge is in the upper bucket (0.3 is in 0.3 to 0.4), and every label has its exact edges."""
    width, exact = Decimal(nanos) / 10**9, Decimal(score) / 10**9
    edge = width * (score // nanos)
    trades = table(row(0, score=float(exact)), row(1, score=float(edge)), row(2, score=float(exact + between % nanos)))
    found = by_score(trades, float(width))
    for value in (exact, edge):
        low = width * int(value / width)
        assert any(Decimal(group.group.partition(" to ")[0]) == low for group in found), (value, found)
    assert sum(group.trades for group in found) == 3
    assert len({group.group for group in found}) == len(found)


def test_buckets_of_odd_widths_are_named_by_their_edges() -> None:
    """With widths of a quarter and of one and a half each edge has as many places as the width."""
    found = table(row(0, score=0.25), row(1, score=0.3), row(2, score=1.5), row(3, score=2.9))
    assert [(item.group, item.trades) for item in by_score(found, 0.25)] == [
        ("0.25 to 0.50", 2), ("1.50 to 1.75", 1), ("2.75 to 3.00", 1),
    ]  # fmt: skip
    assert [item.group for item in by_score(found, 1.5)] == ["0.0 to 1.5", "1.5 to 3.0"]
    assert [(item.group, item.trades) for item in by_score(found, 0.1)][:2] == [("0.2 to 0.3", 1), ("0.3 to 0.4", 1)]


def test_an_indicator_that_was_not_computed_counts_for_neither() -> None:
    """Fired, computed but quiet, and unknown or fired for the other side are three different cases."""
    found = {item.indicator: item for item in indicators(table(row(0), row(1, **LOSS), row(2, fired="", quiet="")))}
    assert (found["rsi"].fired.trades, found["rsi"].quiet.trades) == (1, 1)
    assert (found["macd"].fired.trades, found["macd"].quiet.trades) == (1, 1)
    assert found["rsi"].difference.value == pytest.approx(6.3 / 100.5)


def test_the_score_that_decides_correlates() -> None:
    """Results that rise with the score have a correlation near one; a constant score has none."""
    rising = table(*(row(n, score=n / 10, pnl=Decimal(n)) for n in range(20)))
    assert score_correlation(rising).value == pytest.approx(1.0)
    assert score_correlation(table(*(row(n, score=1.0) for n in range(9)))).value is None


def test_scores_of_different_scales_are_not_one_score() -> None:
    """Two triggers with uninformative scores show no correlation together, though the one with larger scores earned
    more."""
    flat = [row(n, score=1 + n % 2, pnl=Decimal(-3 + n // 2 % 2)) for n in range(200)]
    momentum = [row(200 + n, trigger="roc_momo", score=5 + n % 2, pnl=Decimal(3 + n // 2 % 2)) for n in range(200)]
    for trades in (flat, momentum, flat + momentum):
        assert score_correlation(table(*trades)).value == pytest.approx(0, abs=1e-9)
    inner = [row(400 + n, trigger="macd_cross", score=n, pnl=Decimal(n % 100)) for n in range(100)]
    both = score_correlation(table(*flat, *inner))
    assert both.value is not None
    assert 0.2 < both.value < 1


def test_a_trade_that_kept_dust_is_measured_on_what_was_sold() -> None:
    """Only the cost of the sold part counts; the rest is not a loss."""
    found = table(row(0, pnl=Decimal(3), cost=200.0, sold_share=0.5))
    assert found.net[0] == pytest.approx(0.03)


def test_no_trades_is_an_answer() -> None:
    """Every report without trades is empty, and the page says so."""
    nothing = table()
    assert len(nothing) == 0
    assert summary(nothing).win_rate.value is None
    assert by_day(nothing) == by_score(nothing) == group_by(nothing, []) == []
    assert indicators(nothing) == []
    page = html_report(ReportHead("main", datetime.now(UTC)), nothing, LinkageReport([], 0, 0, 0, 0, 0, 0, []))
    assert "no trades have closed" in page
    assert "<a " not in page


def test_the_report_leads_to_the_running_page() -> None:
    """Where its address is known, the report has a link to the trades on it."""
    head = ReportHead("main", datetime.now(UTC), page="http://127.0.0.1:8790")
    page = html_report(head, table(), LinkageReport([], 0, 0, 0, 0, 0, 0, []))
    assert '<a href="http://127.0.0.1:8790/#/trades">' in page


def test_a_thinned_curve_keeps_its_extremes() -> None:
    """A hundred thousand points become hundreds; the lowest, the highest and both ends stay."""
    y = np.cumsum(np.random.default_rng(1).normal(size=100_000))
    x = np.arange(100_000.0)
    few_x, few_y = thin(x, y)
    assert len(few_x) < 1_000
    assert {float(y.min()), float(y.max()), float(y[0]), float(y[-1])} <= set(few_y.tolist())
    assert (np.diff(few_x) > 0).all()


def test_the_page_loads_nothing_and_escapes_what_it_shows() -> None:
    """The page is one file: no script, no address, no external style; names are escaped."""
    rows = [row(n, trigger="<script>alert(1)</script>", score=n / 7, pnl=Decimal(n - 3)) for n in range(9)]
    linked = LinkageReport([SourceLinkage("sighook", 9, 9, 9, 12.0, 11.0)], 18, 0, 0, 0, 0, 0, [])
    page = html_report(ReportHead("main", datetime.now(UTC)), table(*rows), linked)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(?:src|href)=|url\(|@import|https?://""", page)
    assert page.count("<svg") >= 6
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def test_a_name_turns_nothing_around_in_the_page() -> None:
    """Characters that change the direction of text are written out, and names in cells are isolated."""
    rows = [row(n, trigger="gain\u202e5-\u202c", score=n / 7) for n in range(4)]
    linked = LinkageReport([SourceLinkage("sighook", 4, 4, 4, 12.0, 11.0)], 8, 0, 0, 0, 0, 0, [])
    page = html_report(ReportHead("main", datetime.now(UTC)), table(*rows), linked)
    assert "<bdi>gain\\u202e5-\\u202c</bdi>" in page
    assert not set(page) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-1e-9, 1e9], [-3.0, -2.0]])
def test_charts_of_odd_values_are_drawn(values: list[float]) -> None:
    """Coordinates are finite numbers for one point, a flat line, and huge or tiny values."""
    x, y = np.arange(float(len(values))) + DAY, np.array(values)
    pictures = line(x, y, title="t", unit="USD"), points(x, y, [], title="t", x_name="x", unit="%")
    listed = bars([Bar("a", max(value, 0), min(value, 0)) for value in values], title="t", unit="USD")
    for picture in (*pictures, listed):
        assert picture.startswith("<svg")
        assert not re.search(r"nan|inf\b", picture)


def test_nan_never_is_a_profit_rule() -> None:
    """Without take profit and trailing no reward was configured, so there is no ratio."""
    found = summary(table(row(0, take_profit=None, trailing_arm=None)))
    assert found.configured is None
    assert found.won is None
    assert not math.isnan(found.mean_fraction.value or 0)
