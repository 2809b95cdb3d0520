"""The report as one HTML file: figures, plots and tables; it loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from domain.leaderboard import SymbolRank
from domain.money import amount
from domain.statistics import Interval
from domain.text import html_text as escape
from research.analysis import (
    Bridge,
    GroupResult,
    by_day,
    by_exit,
    by_hour,
    by_score,
    by_symbol,
    by_trigger,
    indicators,
    score_correlation,
    summary,
)
from research.charts import Bar, Whisker, bars, line, points
from research.linkage import LinkageReport
from research.stops import CAUSES, losses_beyond_stops
from research.trades import TradeTable, quote_of

__all__ = ["ReportHead", "html_report"]

_STYLE = """
:root{--bg:#fbfbfa;--ink:#1c2024;--soft:#60646c;--rule:#e3e3df;--card:#fff;--good:#11745a;--bad:#b3412e;--mark:#3d5a98}
@media(prefers-color-scheme:dark){:root{--bg:#15171a;--ink:#e8e9ea;--soft:#9aa0a8;--rule:#2c3036;--card:#1c1f24;
--good:#43b58f;--bad:#e07a63;--mark:#8fabec}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 20px 64px}h1{font-size:26px;margin:0 0 2px}
h2{font-size:18px;margin:40px 0 6px}p{margin:4px 0 12px;color:var(--soft);max-width:75ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(260px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px}
.tile b{display:block;font-size:21px;font-variant-numeric:tabular-nums}.tile>span{color:var(--soft);font-size:13px}
.tile small{display:block;color:var(--soft);font-size:12.5px;font-weight:400}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:20px}figure{margin:0}
.single{max-width:860px}figcaption{font-weight:600;margin:8px 0 4px}svg{width:100%;height:auto;background:var(--card);
border:1px solid var(--rule);border-radius:8px}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:5px 7px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}td small{color:var(--soft)}
a{color:var(--mark)}.gain{color:var(--good)}.loss{color:var(--bad)}
svg .grid{stroke:var(--rule)}svg .zero{stroke:var(--soft)}svg text{fill:var(--ink);font-size:12px}
svg .tick{fill:var(--soft);font-size:11px}svg rect.good,svg .dot.good{fill:var(--good)}
svg rect.bad,svg .dot.bad{fill:var(--bad)}svg .curve{fill:none;stroke-width:1.6}svg .curve.good{stroke:var(--good)}
svg .curve.bad{stroke:var(--bad)}svg .area{opacity:.14}svg .area.good{fill:var(--good)}svg .area.bad{fill:var(--bad)}
svg .dot{opacity:.38}svg .whisker{stroke:var(--mark);stroke-width:2}svg .mean{fill:var(--mark)}
"""


@dataclass(frozen=True, slots=True)
class ReportHead:
    """The report's subject; `quote` is the currency of the results, `page` the address of the running page."""

    account: str
    made_at: datetime
    quote: str = "USD"
    note: str = ""
    page: str | None = None


@dataclass(frozen=True, slots=True)
class _Groups:
    """Results used by several parts of the page, computed once."""

    all: GroupResult
    trigger: Sequence[GroupResult]
    exit: Sequence[GroupResult]
    symbol: Sequence[GroupResult]
    score: Sequence[GroupResult]
    hour: Sequence[GroupResult]
    day: Sequence[GroupResult]


def html_report(
    head: ReportHead,
    table: TradeTable,
    linkage: LinkageReport,
    standings: Sequence[SymbolRank] = (),
    width: float = 0.5,
) -> str:
    """The whole page. `width` is the width of the score buckets."""
    found = table.currencies
    body = [_head(head, table)]
    if len(found) <= 1:
        body += _of_one_currency(head, table, linkage, width)
    for currency in found if len(found) > 1 else ():
        # Amounts of different currencies are never added: each currency has its own part of the page.
        body.append(f"<h1>Priced in {escape(currency)}</h1>")
        part = table.part(table.in_currency(currency))
        body += _of_one_currency(replace(head, quote=currency), part, linkage, width)
    body += [_linkage(linkage), _leaderboard(standings)]
    title = escape(f"Trades of {head.account}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _of_one_currency(head: ReportHead, table: TradeTable, linkage: LinkageReport, width: float) -> list[str]:
    groups = _Groups(
        summary(table),
        by_trigger(table),
        by_exit(table),
        by_symbol(table),
        by_score(table, width),
        by_hour(table),
        by_day(table),
    )
    return [
        _tiles(head, table, groups.all, linkage),
        _curves(head, table),
        _ways(head, groups),
        _scores(table, groups.score),
        _why(groups),
        _beyond(table),
        *(_section(title, told, found) for title, told, found in _groupings(groups)),
        _indicators(table),
    ]


def _head(head: ReportHead, table: TradeTable) -> str:
    if len(table):
        first, last = (datetime.fromtimestamp(value, UTC) for value in (table.closed[0], table.closed[-1]))
        span = f"closed from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    else:
        span = "no trades have closed in this time"
    note = f" {escape(head.note)}" if head.note else ""
    page = f' <a href="{escape(head.page)}/#/trades">Each trade on the page.</a>' if head.page else ""
    made = f"{head.made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return (
        f"<h1>Trades of {escape(head.account)}</h1><p>{len(table):,} trades, {span}; made {made}.{note} "
        f"Results are after fees. Intervals are at 95 %: Wilson's for rates, Student's for means.{page}</p>"
    )


def _tiles(head: ReportHead, table: TradeTable, total: GroupResult, linkage: LinkageReport) -> str:
    drawdown = _drawdown(_equity(table))
    percent = linkage.percent
    deepest = _money(Decimal(str(float(drawdown.min()))), total.currency) if len(table) else "–"
    tiles = [
        (_money(total.pnl, total.currency), f"net P&L, {head.quote}"),
        (_plain(total.fees, total.currency), f"fees, {head.quote}"),
        (_percent(total.win_rate, 1), "trades that won"),
        (_percent(total.mean_fraction, 3), "mean net result a trade"),
        (_ratio(total), "reward:risk, configured → achieved"),
        (deepest, f"deepest drawdown, {head.quote}"),
        (_seconds(total.held_median), "median time held"),
        ("–" if percent is None else f"{percent:.1f} %", "linkage of filled orders"),
    ]
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{escape(name)}</span></div>' for value, name in tiles)
    return f'<div class="tiles">{shown}</div>'


def _equity(table: TradeTable) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.cumsum(np.array([float(value) for value in table.pnl], np.float64))


def _drawdown(equity: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return equity - np.maximum(np.maximum.accumulate(equity), 0.0) if len(equity) else equity


def _curves(head: ReportHead, table: TradeTable) -> str:
    equity = _equity(table)
    final = float(equity[-1]) if len(equity) else 0.0
    made = line(table.closed, equity, title="Equity", unit=head.quote, kind="good" if final >= 0 else "bad")
    down = line(table.closed, _drawdown(equity), title="Drawdown", unit=head.quote, kind="bad")
    return (
        "<h2>Equity and drawdown</h2><p>Net P&amp;L added up in the order in which trades closed, and how far it was "
        f'below its highest so far, in {escape(head.quote)}.</p><div class="pair">'
        f"{_figure('Equity', made)}{_figure('Drawdown', down)}</div>"
    )


def _ways(head: ReportHead, groups: _Groups) -> str:
    triggers = [
        Bar(item.group, max(float(item.pnl), 0), min(float(item.pnl), 0), _pnl_and_count(item))
        for item in sorted(groups.trigger, key=lambda item: -item.pnl)
    ]
    exits = [
        Bar(item.group, item.wins, item.trades - item.wins, f"{item.trades} ({item.wins} won)")
        for item in sorted(groups.exit, key=lambda item: -item.trades)
    ]
    hours = [
        Bar(f"{item.group}:00", max(float(item.pnl), 0), min(float(item.pnl), 0), _pnl_and_count(item))
        for item in groups.hour
    ]
    days = [
        Bar(item.group, max(float(item.pnl), 0), min(float(item.pnl), 0), _pnl_and_count(item))
        for item in groups.day[-30:]
    ]
    money = f"net P&L, {head.quote} (trades)"
    return (
        '<h2>Ways in and ways out</h2><div class="pair">'
        + _figure("P&L by trigger", bars(triggers, title="P&L by trigger", unit=money))
        + _figure("Exits by path: won and lost", bars(exits, title="Exits by path", unit="trades"))
        + _figure("P&L by hour of entry (UTC)", bars(hours, title="P&L by hour", unit=money))
        + _figure("P&L by day of close (UTC), the last 30", bars(days, title="P&L by day", unit=money))
        + "</div>"
    )


def _pnl_and_count(item: GroupResult) -> str:
    return f"{_plain(item.pnl, item.currency)} ({item.trades})"


def _scores(table: TradeTable, buckets: Sequence[GroupResult]) -> str:
    given = ~np.isnan(table.score)
    if not given.any():
        return ""
    means = []
    for item in buckets:
        low, high = (float(text) for text in item.group.split(" to "))
        found = item.mean_fraction
        if found.value is not None and found.low is not None and found.high is not None:
            note = f"score {item.group}: {_percent(found, 3, plain=True)} over {item.trades} trades"
            means.append(Whisker((low + high) / 2, found.value * 100, found.low * 100, found.high * 100, note))
    chart = points(
        table.score[given],
        table.net[given] * 100,
        means,
        title="Score against outcome",
        x_name="buy score",
        unit="net result, %",
    )
    linked = score_correlation(table)
    said = "" if linked.value is None else f" Correlation within triggers {_interval(linked, 2)}."
    return (
        "<h2>Score against outcome</h2><p>One dot a trade; the larger marks are means of score buckets with their "
        f'intervals.{said}</p><figure class="single">{chart}</figure>'
    )


def _why(groups: _Groups) -> str:
    rows = []
    for item in [groups.all, *groups.exit]:
        for name, bridge in (("won", item.won), ("lost", item.lost)):
            if bridge is not None:
                rows.append([f"{_name(item.group)}, {name}", *_bridge(bridge)])
    head = ("", "trades", "configured", "other way out", "market's distance", "slippage", "fees", "achieved")
    return (
        "<h2>Why achieved is not what was configured</h2><p>Means in percent of the entry price, from left to right: "
        "what the rules were set to, what leaving by another rule changed, how far the market was from the rule's "
        "level when it was noticed, the price of the exit against that, and fees. They add up to what was achieved.</p>"
        + _table(head, rows)
    )


def _bridge(bridge: Bridge) -> list[str]:
    names = ("configured", "exit_path", "distance", "slippage", "fees", "achieved")
    return [str(bridge.trades), *(_signed(getattr(bridge, name) * 100, 3) for name in names)]


def _beyond(table: TradeTable) -> str:
    found = losses_beyond_stops(table, most=0)
    rows = [
        [
            f"{item.stop} {item.level * 100:.2f} %",
            f"{item.losses:,}",
            f"{item.beyond:,}",
            _percent(item.share, 1),
            _percent(item.share_before_fees, 1),
            _percent(item.mean_beyond, 3),
            *(f"{count:,}" for count in item.causes.values()),
        ]
        for item in found
    ]
    head = ("", "losses", "beyond it", "share", "share before fees", "by", *CAUSES)
    told = "Losses that were larger than the configured stop, and how many of them by each main cause."
    return f"<h2>Losses beyond their stops</h2><p>{told}</p>{_table(head, rows)}"


def _groupings(groups: _Groups) -> list[tuple[str, str, Sequence[GroupResult]]]:
    return [
        ("By trigger", "What decided the entry.", groups.trigger),
        ("By exit reason", "What closed the trade.", groups.exit),
        ("By symbol", "", groups.symbol),
        ("By score", "Buckets of the buy score.", groups.score),
        ("By hour", "Hour of the entry, UTC.", groups.hour),
    ]


_HEAD = (
    "", "trades", "won", "net P&L", "fees", "mean result", "average win", "average loss", "reward:risk", "slippage",
    "held",
)  # fmt: skip


def _section(title: str, told: str, found: Sequence[GroupResult]) -> str:
    lead = f"<p>{escape(told)}</p>" if told else ""
    return f"<h2>{escape(title)}</h2>{lead}{_table(_HEAD, [_row(item) for item in found])}"


def _row(item: GroupResult) -> list[str]:
    return [
        _name(item.group),
        f"{item.trades:,}",
        _percent(item.win_rate, 1),
        _money(item.pnl, item.currency),
        _plain(item.fees, item.currency),
        _percent(item.mean_fraction, 3),
        _percent(Interval(item.win_fraction.value), 3),
        _percent(Interval(item.loss_fraction.value), 3),
        _ratio(item),
        _percent(Interval(item.slippage_fraction.value), 3),
        _seconds(item.held_median),
    ]


def _indicators(table: TradeTable) -> str:
    rows = [
        [
            _name(item.indicator),
            f"{item.fired.trades:,}",
            _percent(item.fired.win_rate, 1),
            _percent(item.fired.mean_fraction, 3),
            f"{item.quiet.trades:,}",
            _percent(item.quiet.win_rate, 1),
            _percent(item.quiet.mean_fraction, 3),
            _percent(item.difference, 3),
        ]
        for item in indicators(table)
    ]
    head = ("", "fired", "won", "mean result", "not fired", "won", "mean result", "difference")
    told = "Entries at which the indicator fired, against entries at which it was computed and did not."
    return f"<h2>By indicator</h2><p>{told}</p>{_table(head, rows)}"


def _linkage(found: LinkageReport) -> str:
    rows = [
        [
            _name(item.source),
            f"{item.filled:,}",
            f"{item.linked:,}",
            f"{item.percent:.1f} %",
            f"{item.with_snapshot:,}",
            "–" if item.median_ms is None else f"{item.median_ms:,.0f} ms",
            "–" if item.mean_ms is None else f"{item.mean_ms:,.0f} ms",
        ]
        for item in found.sources
    ]
    head = ("source", "filled orders", "linked", "rate", "with snapshot", "placement → fill, median", "mean")
    told = (
        f"Of {found.fills:,} fills, {found.without_order:,} found no order, {found.without_metadata:,} an order "
        f"without metadata, {found.outside:,} an order that somebody else placed."
    )
    return f"<h2>Linkage</h2><p>{told}</p>{_table(head, rows)}"


def _leaderboard(standings: Sequence[SymbolRank]) -> str:
    if not standings:
        return ""
    rows = [
        [
            f"{'–' if item.place is None else f'{item.place}.'} {_name(item.symbol)}",
            f"{item.trades:,}",
            f"{item.wins:,}",
            _money(item.pnl, quote_of(item.symbol)),
            _percent(item.mean, 3),
            "yes" if item.profitable else "not shown",
        ]
        for item in standings
    ]
    told = "Ranked by the lower end of the interval of the mean result: what a trade is likely to bring at least."
    head = ("", "trades", "won", "net P&L", "mean result", "gain shown at 95 %")
    return f"<h2>Leaderboard of symbols</h2><p>{told}</p>{_table(head, rows)}"


# --- small parts ------------------------------------------------------------------------------------------------------


def _name(text: str) -> str:
    """A name in a cell: right-to-left text doesn't reorder the figures around it."""
    return f"<bdi>{escape(text)}</bdi>"


def _figure(title: str, chart: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{chart or '<p>Nothing to show.</p>'}</figure>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>Nothing to show.</p>"
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def _plain(value: Decimal, currency: str) -> str:
    return amount(value, currency)


def _money(value: Decimal, currency: str) -> str:
    kind = "gain" if value > 0 else "loss" if value < 0 else ""
    return f'<span class="{kind}">{_plain(value, currency)}</span>'


def _signed(value: float, places: int) -> str:
    # Adding 0.0 removes the minus of a rounded zero.
    return f"{round(value, places) + 0.0:+,.{places}f}"


def _percent(found: Interval, places: int, *, plain: bool = False) -> str:
    """A fraction in percent with its interval."""
    if found.value is None:
        return "–"
    told = f"{found.value * 100:.{places}f} %"
    if found.low is None or found.high is None:
        return told
    around = f"{found.low * 100:.{places}f} to {found.high * 100:.{places}f}"
    return f"{told} ({around})" if plain else f"{told} <small>{around}</small>"


def _interval(found: Interval, places: int) -> str:
    if found.value is None:
        return "–"
    around = "" if found.low is None or found.high is None else f" ({found.low:.{places}f} to {found.high:.{places}f})"
    return f"{found.value:.{places}f}{around}"


def _ratio(item: GroupResult) -> str:
    before = "–" if item.configured is None else f"{item.configured:.2f}"
    after = "–" if item.achieved.value is None else f"{item.achieved.value:.2f}"
    return f"{before} → {after}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s"
