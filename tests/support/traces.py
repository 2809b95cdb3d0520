"""Spans as they were exported: read from a file of `telemetry.traces`, and shown as a tree.

`python -m tests.support.traces FILE` prints the longest trace of a file.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Span", "longest", "read_spans", "tree"]

_SHOWN = ("symbol", "attempt", "source", "outcome")


@dataclass(frozen=True)
class Span:
    """One span; times in nanoseconds since 1970."""

    trace: str
    identity: str
    parent: str | None
    name: str
    began: int
    ended: int
    attributes: dict[str, str]
    links: tuple[str, ...]


def read_spans(path: Path) -> list[Span]:
    """All spans of a file, by their beginning."""
    found = [
        _span(each)
        for line in path.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for each in scope["spans"]
    ]
    return sorted(found, key=lambda span: span.began)


def _span(given: dict[str, Any]) -> Span:
    return Span(
        trace=given["traceId"],
        identity=given["spanId"],
        parent=given.get("parentSpanId"),
        name=given["name"],
        began=int(given["startTimeUnixNano"]),
        ended=int(given["endTimeUnixNano"]),
        attributes={item["key"]: str(next(iter(item["value"].values()))) for item in given["attributes"]},
        links=tuple(link["traceId"] for link in given["links"]),
    )


def longest(spans: Sequence[Span]) -> list[Span]:
    """The spans of the trace that has the most."""
    trace, _ = Counter(span.trace for span in spans).most_common(1)[0]
    return [span for span in spans if span.trace == trace]


def tree(spans: Sequence[Span]) -> Iterator[str]:
    """Lines: milliseconds since the first span, duration, name and what it says; what it caused is indented."""
    below = defaultdict(list)
    known = {span.identity for span in spans}
    for span in spans:
        below[span.parent if span.parent in known else None].append(span)
    first = min(span.began for span in spans)

    def lines(parent: str | None, depth: int) -> Iterator[str]:
        for span in below[parent]:
            told = [span.attributes[f"bottrader.{name}"] for name in _SHOWN if f"bottrader.{name}" in span.attributes]
            took = (span.ended - span.began) / 1e6
            duration = f"{took:8.1f}" if took else " " * 8
            yield f"{(span.began - first) / 1e6:9.1f} {duration}  {'  ' * depth}{span.name}  {' '.join(told)}".rstrip()
            yield from lines(span.identity, depth + 1)

    return lines(None, 0)


if __name__ == "__main__":
    sys.stdout.write("\n".join(tree(longest(read_spans(Path(sys.argv[1]))))) + "\n")
