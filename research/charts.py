"""Small charts as inline SVG: lines, bars, points. No script, no network; each mark is explained by its title.

Colours come from the page's style sheet by class, so that a chart is readable on light and on dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from domain.text import html_text as escape
from research.trades import Floats

__all__ = ["Bar", "Whisker", "bars", "line", "points", "thin"]

_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 14, 34
_MOST_POINTS = 900

Label = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `good` and `bad` parts are stacked away from zero, a single value is one of them."""

    label: str
    good: float = 0.0
    bad: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Whisker:
    """A mean at `x` with its interval."""

    x: float
    mean: float
    low: float
    high: float
    note: str


def thin(x: Floats, y: Floats, most: int = _MOST_POINTS) -> tuple[Floats, Floats]:
    """At most about `most` points that keep all extremes: the lowest and highest of each stretch, and both ends."""
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, end in pairwise(edges.tolist()):
        if end > start:
            kept |= {int(start + np.argmin(y[start:end])), int(start + np.argmax(y[start:end]))}
    rows = np.array(sorted(kept))
    return x[rows], y[rows]


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`."""
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


class _Frame:
    """The mapping of values to positions."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: int = _HEIGHT) -> None:
        self.height = height
        self.x0, self.x1 = x if x[1] > x[0] else (x[0] - 1, x[0] + 1)
        if y[0] == y[1]:
            y = y[0] - 1, y[1] + 1
        margin = (y[1] - y[0]) * 0.05
        self.y0, self.y1 = y[0] - (margin if y[0] else 0), y[1] + (margin if y[1] else 0)

    def left(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)

    def top(self, value: float) -> float:
        return _TOP + (self.y1 - value) / (self.y1 - self.y0) * (self.height - _TOP - _BOTTOM)

    def grid(self, label: Label, x_ticks: Sequence[tuple[float, str]]) -> list[str]:
        found = []
        for value in _ticks(self.y0, self.y1):
            y = self.top(value)
            kind = "zero" if abs(value) < 1e-12 else "grid"
            found.append(f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            found.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>')
        for value, text in x_ticks:
            x = self.left(value)
            found.append(f'<text class="tick" x="{x:.1f}" y="{self.height - 12}" text-anchor="middle">{text}</text>')
        return found


def _svg(parts: Sequence[str], title: str, height: int = _HEIGHT) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _times(first: float, last: float) -> list[tuple[float, str]]:
    span = last - first
    form = "%H:%M:%S" if span < 600 else "%H:%M" if span < 86_400 else "%m-%d %H:%M" if span < 864_000 else "%Y-%m-%d"
    places = [first + span * share for share in (0.06, 0.28, 0.5, 0.72, 0.94)]
    return [(place, f"{datetime.fromtimestamp(place, UTC):{form}}") for place in places]


def line(x: Floats, y: Floats, *, title: str, unit: str, kind: str = "good") -> str:
    """A curve over time (seconds since 1970, UTC), filled to zero."""
    x, y = thin(x, y)
    if not len(x):
        return ""
    frame = _Frame((float(x[0]), float(x[-1])), (min(0.0, float(y.min())), max(0.0, float(y.max()))))
    spots = [f"{frame.left(a):.1f},{frame.top(b):.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    zero = frame.top(0.0)
    area = f"{frame.left(float(x[0])):.1f},{zero:.1f} {' '.join(spots)} {frame.left(float(x[-1])):.1f},{zero:.1f}"
    parts = frame.grid(lambda value: f"{_number(value)}", _times(float(x[0]), float(x[-1])))
    parts += [f'<polygon class="area {kind}" points="{area}"/>', f'<polyline class="curve {kind}" points="']
    parts[-1] += (
        " ".join(spots) + f'"><title>{escape(title)}: {_number(float(y[-1]))} {unit} at the end</title></polyline>'
    )
    return _svg(parts, title)


def bars(items: Sequence[Bar], *, title: str, unit: str) -> str:
    """Horizontal bars around zero; `good` to the right, and `bad` too unless it is below zero."""
    if not items:
        return ""
    row, thick = (26, 18) if len(items) <= 12 else (17, 13)
    left, height = 150, _TOP + row * len(items) + 26
    low = min(0.0, *(min(item.bad, item.good) for item in items))
    high = max(1e-9, *(max(item.good, 0.0) + max(item.bad, 0.0) for item in items))
    scale = (_WIDTH - left - 130) / (high - low)
    zero = left - low * scale
    parts = []
    for number, item in enumerate(items):
        top = _TOP + number * row
        base, name = top + thick - 4, escape(item.label)
        note = escape(item.note or f"{_number(item.good + item.bad)} {unit}")
        parts.append(f'<text class="label" x="{left - 8}" y="{base}" text-anchor="end">{name}</text>')
        end = zero
        for value, kind in ((item.good, "good"), (item.bad, "bad")):
            width = abs(value) * scale
            start = end if value >= 0 else zero - width
            end = start + width if value >= 0 else end
            parts.append(
                f'<rect class="{kind}" x="{start:.1f}" y="{top}" width="{width:.1f}" height="{thick}" rx="2">'
                f"<title>{name}: {note}</title></rect>"
            )
        parts.append(f'<text class="tick" x="{max(end, zero) + 6:.1f}" y="{base}">{note}</text>')
    parts.append(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{_TOP - 4}" y2="{height - 26}"/>')
    parts.append(f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{height - 8}" text-anchor="end">{escape(unit)}</text>')
    return _svg(parts, title, height)


def points(x: Floats, y: Floats, means: Sequence[Whisker], *, title: str, x_name: str, unit: str) -> str:
    """One dot per trade, and the mean of each bucket with its interval; for many trades an even sample is drawn."""
    if not len(x):
        return ""
    step = max(1, len(x) // _MOST_POINTS)
    drawn_x, drawn_y = x[::step], y[::step]
    # A few extremes would flatten everything else: values outside the range are drawn at the edge.
    low, high = (float(value) for value in np.quantile(y, (0.005, 0.995)))
    low = min(low, 0.0, *(item.low for item in means)) if means else min(low, 0.0)
    high = max(high, 0.0, *(item.high for item in means)) if means else max(high, 0.0)
    frame = _Frame((float(x.min()), float(x.max())), (low, high))
    ticks = [(value, _number(value)) for value in _ticks(frame.x0, frame.x1, 6)]
    parts = frame.grid(_number, ticks)
    for a, b in zip(drawn_x.tolist(), np.clip(drawn_y, frame.y0, frame.y1).tolist(), strict=True):
        kind = "good" if b > 0 else "bad"
        parts.append(f'<circle class="dot {kind}" cx="{frame.left(a):.1f}" cy="{frame.top(b):.1f}" r="2.4"/>')
    for item in means:
        at = frame.left(item.x)
        parts.append(
            f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top(item.low):.1f}" '
            f'y2="{frame.top(item.high):.1f}"/><circle class="mean" cx="{at:.1f}" cy="{frame.top(item.mean):.1f}" '
            f'r="4.5"><title>{escape(item.note)}</title></circle>'
        )
    parts.append(
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_TOP + 2}" text-anchor="end">x: {escape(x_name)}</text>'
    )
    parts.append(f'<text class="tick" x="6" y="{_TOP}">{escape(unit)}</text>')
    return _svg(parts, title)
