"""A few seeds of the chaos run, short enough for every change; `make chaos` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import run_seed
from tests.chaos.harness_points import CRASH_POINTS
from tests.chaos.schedule import ChaosTerms

SEEDS = (101, 102, 103)
TERMS = ChaosTerms(trades=20, crash_points=CRASH_POINTS, calm_beats=2, outage_every=8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_fault_changes_an_outcome(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After any faults, both sides' books agree in the end, and every position is guarded."""
    folder = Path(tmp_path_factory.mktemp("c"))
    told: list[str] = []
    verdict = await run_seed(seed, TERMS, folder, told.append)
    assert verdict.passed, "\n".join(
        [verdict.audit.text(), *told, f"data: {verdict.kept}", f"alone again: make chaos SEED={seed} TRADES=20"]
    )
