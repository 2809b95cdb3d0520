"""`python -m bench [NAME …] [--quick] [--json]`: all measurements, or those named, in one table.

Exit code 0 if every aim is met, 1 if one is not. Everything runs on throw-away servers that flush to disk like those of
`bottrader up`; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

import psutil
import structlog

from bench import stream_messages, watcher
from bench.admit import admit
from bench.cryptocom_orders import cryptocom
from bench.disk import disk
from bench.failing_reads import failing_reads
from bench.fifo import fifo
from bench.idle import idle
from bench.importing import importing
from bench.ledger import ledger
from bench.page import page
from bench.reactions import decisions, exits
from bench.reconcile import reconcile
from bench.round_trips import round_trips
from bench.rows import Row, print_rows
from bench.start_up import start_up
from bench.strategy import strategy
from bench.telegram import telegram
from bench.telemetry import telemetry
from bench.web import web
from bench.webhook import webhook

Say = Callable[[str], None]
Measure = Callable[..., Coroutine[Any, Any, list[Row]]]


async def streams(say: Say, *, quick: bool) -> list[Row]:
    """Stream messages compared with the raw loop."""
    say("stream messages against a raw websockets and json loop")
    found = await stream_messages.run(*((5_000, 2) if quick else (20_000, 5)))
    return [_row(row) for row in found]


async def watching(say: Say, *, quick: bool) -> list[Row]:
    """The price watcher with 1,000 plans, on its own market."""
    say("the price watcher with 1,000 plans on 50 symbols at 500 ticks/s")
    return [_row(found) for found in await watcher.run(3.0 if quick else watcher.SECONDS)]


def _row(found: dict[str, Any]) -> Row:
    """A measurement that runs without the rig."""
    return Row(
        what=found["what"],
        unit=found["unit"],
        p50=found["p50"] if "p50" in found else found["ours"],
        p99=found.get("p99"),
        floor=found.get("floor"),
        ratio=found.get("ratio"),
        aim=found["aim"] + (" x" if "ratio" in found else ""),
        ok=found["ok"],
    )


MEASURES: dict[str, Measure] = {
    "disk": disk,
    "decisions": decisions,
    "exits": exits,
    "failing-reads": failing_reads,
    "round-trips": round_trips,
    "admit": admit,
    "idle": idle,
    "ledger": ledger,
    "import": importing,
    "watcher": watching,
    "streams": streams,
    "fifo": fifo,
    "reconcile": reconcile,
    "start-up": start_up,
    "strategy": strategy,
    "webhook": webhook,
    "telegram": telegram,
    "page": page,
    "web": web,
    "telemetry": telemetry,
    "cryptocom": cryptocom,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, each number beside its floor.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; all without any")
    parser.add_argument("--quick", action="store_true", help="few samples, in about a minute")
    parser.add_argument("--json", action="store_true", help="one JSON document for programs")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in MEASURES]
    if unknown:
        parser.error(f"no measurement is called {unknown[0]}: choose of {', '.join(MEASURES)}")
    # Errors at the end of a measurement's own servers are not reported.
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    before = os.getloadavg()[0]
    rows: list[Row] = []
    for name in asked.names or MEASURES:
        rows += asyncio.run(MEASURES[name](_say, quick=asked.quick))
    machine = {
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "load_before": round(before, 2),
        "load_after": round(os.getloadavg()[0], 2),
    }
    if asked.json:
        print(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2, ensure_ascii=False))
    else:
        print_rows(
            rows,
            f"{machine['cpus']} CPUs, {machine['memory_gib']} GiB, Python {machine['python']}; "
            f"load {machine['load_before']} before, {machine['load_after']} after",
        )
    return int(any(row.ok is False for row in rows))


def _say(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
