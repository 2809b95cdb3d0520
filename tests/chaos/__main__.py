"""`python -m tests.chaos`: the long run, seed after seed, and one table at the end. Exit code 1 if any row is wrong."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.chaos.audit import merged
from tests.chaos.harness import Rig, Verdict, run_seed
from tests.chaos.harness_evidence import Evidence
from tests.chaos.harness_histories import save_worst_histories
from tests.chaos.harness_points import CRASH_POINTS
from tests.chaos.schedule import ChaosTerms, describe, plan_run

__all__ = ["main"]

_CUT_EVERY = 4
"""One in this many seeds has a power cut."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from --first on (default 20)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--trades", type=int, default=50, help="entries a seed (default 50)")
    parser.add_argument("--data", type=Path, help="folder for data of failing seeds (default: a new temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the data folder of a seed that passes, too")
    parser.add_argument("--histories", type=Path, help="save the histories with the most trouble to this folder")
    parser.add_argument("--cut", action="store_true", help="a power cut in every seed (default: in every fourth)")
    parser.add_argument("--plan", action="store_true", help="print the schedule and do nothing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the requested seeds. Returns the exit code."""
    options = _arguments(argv)
    terms = ChaosTerms(trades=options.trades, crash_points=CRASH_POINTS)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    if options.plan:
        for seed in seeds:
            sys.stdout.write(describe(plan_run(seed, _with_cut(seed, terms, options))))
        return 0
    _forget_user_settings()
    folder = options.data or Path(tempfile.mkdtemp(prefix="bt-chaos-"))
    verdicts = [asyncio.run(_one(seed, _with_cut(seed, terms, options), folder, options)) for seed in seeds]
    return _report(verdicts)


def _with_cut(seed: int, terms: ChaosTerms, options: argparse.Namespace) -> ChaosTerms:
    return replace(terms, power_cut=options.cut or seed % _CUT_EVERY == 0)


def _forget_user_settings() -> None:
    """A run never uses the user's database, and is the same in every shell."""
    for name in list(os.environ):
        own = name.startswith(("BOTTRADER_", "TEMPORAL_")) and name != "BOTTRADER_CACHE"
        if own or name == "DATABASE_URL":
            del os.environ[name]


async def _one(seed: int, terms: ChaosTerms, folder: Path, options: argparse.Namespace) -> Verdict:
    def say(sentence: str) -> None:
        sys.stdout.write(f"  seed {seed}: {sentence}\n")
        sys.stdout.flush()

    async def save(rig: Rig, _: Evidence) -> None:
        if options.histories is not None:
            say(f"saved {', '.join(await save_worst_histories(rig.client, options.histories))}")

    verdict = await run_seed(seed, terms, folder, say, keep=options.keep, inspect=save)
    sys.stdout.write(f"seed {seed}: {'ok' if verdict.passed else 'FAILED'} after {verdict.seconds:.0f} s\n")
    sys.stdout.write(verdict.audit.text())
    if verdict.kept is not None:
        sys.stdout.write(f"  its data: {verdict.kept}\n  alone again: make chaos SEED={seed}\n")
    sys.stdout.write("\n")
    sys.stdout.flush()
    return verdict


def _report(verdicts: list[Verdict]) -> int:
    together = merged([verdict.audit for verdict in verdicts])
    counts = together.counts
    failed = [verdict.seed for verdict in verdicts if not verdict.passed]
    sys.stdout.write(
        f"{len(verdicts)} seeds in {sum(verdict.seconds for verdict in verdicts):.0f} s: "
        + ", ".join(f"{count} {what}" for what, count in counts.items())
        + "\n"
        + together.text()
        + (f"FAILED: seeds {failed}\n" if failed else "every seed is right\n")
    )
    return 1 if failed or together.violations else 0


if __name__ == "__main__":
    sys.exit(main())
