"""Saved histories of every workflow replay on today's code: workflows that run for weeks survive an upgrade
(LIFE-10)."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import NondeterminismError

import workflows
from tests.support.save_histories import FOLDER


def every_workflow() -> list[type]:
    """All workflows that the package defines."""
    modules = [importlib.import_module(f"workflows.{found.name}") for found in pkgutil.iter_modules(workflows.__path__)]
    classes = {item for module in modules for item in vars(module).values() if isinstance(item, type)}
    return sorted(
        (item for item in classes if hasattr(item, "__temporal_workflow_definition")), key=lambda item: item.__name__
    )


WORKFLOWS = every_workflow()
SAVED = sorted(FOLDER.glob("*/*.json"))


def replayer() -> Replayer:
    """A replayer with the workers' own converter; the sandbox, which workers don't use, detects clocks and
    randomness."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        "activities", "domain", "pydantic", "pydantic_core", "annotated_types", "structlog"
    )
    return Replayer(
        workflows=WORKFLOWS,
        data_converter=pydantic_data_converter,
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
    )


def saved(path: Path, change: tuple[str, str] | None = None) -> WorkflowHistory:
    """A saved history; `change` replaces one text by another."""
    text = path.read_text(encoding="utf-8")
    if change is not None:
        assert change[0] in text
        text = text.replace(*change)
    return WorkflowHistory.from_json(json.loads(text)["workflow_id"], text)


@pytest.mark.parametrize("path", SAVED, ids=[f"{path.parent.name}-{path.stem}" for path in SAVED])
async def test_a_saved_history_replays(path: Path) -> None:
    """The workflow's present code issues the same commands as when the history was made."""
    await replayer().replay_workflow(saved(path))


def test_every_workflow_has_a_saved_history() -> None:
    """No workflow is left out of the replay."""
    names = set()
    for path in SAVED:
        first = json.loads(path.read_text(encoding="utf-8"))["events"][0]
        names.add(first["workflowExecutionStartedEventAttributes"]["workflowType"]["name"])
    assert names == {item.__name__ for item in WORKFLOWS}


async def test_a_history_that_does_not_fit_is_noticed() -> None:
    """The check itself works: with another activity's name in it, a history is refused as non-deterministic."""
    path = next(path for path in SAVED if path.stem == "hard_stop.entry")
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(saved(path, ('"name":"place"', '"name":"elsewhere"')))
