"""Histories of workflows with faults, kept for `tests/workflow/test_replay.py` to replay on today's code."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio.client import Client

from tests.support.save_histories import scrubbed

__all__ = ["most_tries", "outlines", "save_worst_histories"]

_TROUBLE = (
    "EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT",
    "EVENT_TYPE_WORKFLOW_TASK_FAILED",
    "EVENT_TYPE_ACTIVITY_TASK_FAILED",
    "EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT",
)
_MOST_EVENTS = 400
_EVER = datetime.min.replace(tzinfo=UTC)


async def outlines(client: Client) -> str:
    """Every order's and monitor's history, a line per event: when, what, by whom and at which attempt."""
    lines: list[str] = []
    for name, events in (await _of_trades(client)).items():
        lines += [name, *(_outline(event) for event in events)]
    return "\n".join(lines)


async def most_tries(client: Client, since: datetime) -> int:
    """The highest attempt of a workflow task or activity, in any order or monitor started since."""
    found = 0
    for events in (await _of_trades(client, since)).values():
        found = max(found, *(int(_attributes(event).get("attempt", 1)) for event in events))
    return found


async def _of_trades(client: Client, since: datetime = _EVER) -> dict[str, list[dict[str, Any]]]:
    """Workflow id → events, of every order and monitor."""
    found = {}
    async for item in client.list_workflows("WorkflowType IN ('OrderWorkflow', 'ExitMonitorWorkflow')"):
        if item.start_time < since:
            continue
        history = await client.get_workflow_handle(item.id, run_id=item.run_id).fetch_history()
        found[item.id] = history.to_json_dict()["events"]
    return found


def _attributes(event: dict[str, Any]) -> dict[str, Any]:
    return next((value for key, value in event.items() if key.endswith("EventAttributes")), {})


def _outline(event: dict[str, Any]) -> str:
    kind = event["eventType"].removeprefix("EVENT_TYPE_").lower()
    attributes = _attributes(event)
    summary = event.get("userMetadata", {}).get("summary", {}).get("data", "")
    parts = [
        attributes.get("activityType", {}).get("name", ""),
        base64.b64decode(summary).decode(),
        attributes.get("signalName", ""),
        attributes.get("taskQueue", {}).get("kind", ""),
        attributes.get("timeoutType", ""),
        attributes.get("identity", ""),
        f"try {attributes['attempt']}" if int(attributes.get("attempt", 1)) > 1 else "",
        (attributes.get("lastFailure") or attributes.get("failure") or {}).get("message", ""),
    ]
    return f"  {event['eventTime'][11:23]} {kind} {' · '.join(part for part in parts if part)}"


async def save_worst_histories(client: Client, folder: Path) -> list[str]:
    """Write the history with the most faults of each kind of workflow to `folder`. Returns the names of the files.

    A history with more than 400 events is left out: a shorter one has the same faults.
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
    """Whether the event is a fault, or has failed attempts before it."""
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
