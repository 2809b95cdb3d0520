"""Histories of workflows that met faults, kept so that `tests/workflow/test_replay.py` runs them on today's code."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from temporalio.client import Client

from tests.support.save_histories import scrubbed

__all__ = ["save_worst_histories"]

_TROUBLE = (
    "EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT",
    "EVENT_TYPE_WORKFLOW_TASK_FAILED",
    "EVENT_TYPE_ACTIVITY_TASK_FAILED",
    "EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT",
)
_MOST_EVENTS = 400


async def save_worst_histories(client: Client, folder: Path) -> list[str]:
    """Write the history with the most trouble of each kind of workflow to `folder`; the names of the files.

    A history with more than 400 events is left out: what it shows, a shorter one shows, too.
    """
    worst: dict[str, tuple[int, str, dict[str, Any]]] = {}
    async for item in client.list_workflows():
        history = (await client.get_workflow_handle(item.id, run_id=item.run_id).fetch_history()).to_json_dict()
        trouble = sum(_troubled(event) for event in history["events"])
        if trouble and len(history["events"]) <= _MOST_EVENTS:
            kind = _kind(history)
            if kind not in worst or trouble > worst[kind][0]:
                worst[kind] = (trouble, item.id, history)
    return await asyncio.to_thread(_write, folder, worst)


def _troubled(event: dict[str, Any]) -> int:
    """Whether the event is a fault, or tells of tries that failed before it."""
    started = event.get("activityTaskStartedEventAttributes", {})
    marker = event.get("markerRecordedEventAttributes", {})
    return int(
        event["eventType"] in _TROUBLE
        or int(started.get("attempt", 1)) > 1
        or bool(started.get("lastFailure"))
        or bool(marker.get("failure"))
    )


def _kind(history: dict[str, Any]) -> str:
    """The workflow's type in snake case, orders apart by role."""
    attributes = history["events"][0]["workflowExecutionStartedEventAttributes"]
    name = attributes["workflowType"]["name"].removesuffix("Workflow")
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    given = json.loads(base64.b64decode(attributes["input"]["payloads"][0]["data"]))
    return f"{snake}_{given['role'].lower()}" if name == "Order" else snake


def _write(folder: Path, worst: dict[str, tuple[int, str, dict[str, Any]]]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for kind, (_, workflow_id, history) in sorted(worst.items()):
        name = f"faults.{kind}.json"
        text = json.dumps({"workflow_id": workflow_id, **scrubbed(history)}, separators=(",", ":"))
        (folder / name).write_text(text + "\n", encoding="utf-8")
        names.append(name)
    return names
