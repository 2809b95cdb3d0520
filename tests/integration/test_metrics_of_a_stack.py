"""Every process of a running stack is scraped, and Prometheus's own tool checks what they tell and our rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import yaml

from tests.support.waiting import eventually
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/metrics"
PROMTOOL = shutil.which("promtool")
NEEDS_PROMTOOL = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: docs/metrics.md says how")
PROCESSES = {
    "worker": "port",
    "worker, Temporal's SDK": "sdk_port",
    "API": "api_port",
    "Temporal": "temporal_port",
    "webhook": "webhook",
}
"""Each process as the stack names it, and the setting of its port."""
LATER = {
    "approximate_backlog_count": "told by the server once a task has waited in the database",
    "poll_timeouts": "told by the server once a poll has ended in vain, after a minute",
}
"""Metrics that a stack of a few seconds need not have."""
_TEMPORALS = re.compile(r"\b(?:temporal_\w+|poll_\w+|approximate_\w+)\b(?=[{\[])")


@pytest_asyncio.fixture(scope="module")
async def expositions() -> AsyncIterator[Mapping[str, str]]:
    """What each process of a stack tells after one order, by its name."""
    names = ("port", "sdk_port", "api_port", "temporal_port")
    ports = {name: free_port() for name in names}
    env = {f"BOTTRADER_TELEMETRY__{name.upper()}": str(port) for name, port in ports.items()}
    config = LocalStackConfig(
        temporal_metrics_port=ports["temporal_port"],
        web=True,
        api=True,
        ui=False,
        env={**env, "BOTTRADER_TELEMETRY__LOOK_S": "0.2"},
    )
    async with LocalStack(config) as stack, httpx.AsyncClient(trust_env=False, timeout=60) as http:
        command = [sys.executable, "-m", "cli.main", "order", "buy", "BTC-USD", "--quote", "100"]
        environment = {**os.environ, **stack.environment, "BOTTRADER_DATA": str(stack.data)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: ASYNC221
        assert done.returncode == 0, done.stdout + done.stderr
        assert (await http.get(f"{stack.api_url}/api/orders")).status_code == 401
        assert (await http.post(str(stack.webhook_url), json={})).status_code == 401
        named = stack.metrics_urls
        assert set(named) == set(PROCESSES)
        addresses = {PROCESSES[name]: address for name, address in named.items()}

        async def told() -> dict[str, str] | None:
            found = {name: (await http.get(address)).text for name, address in addresses.items()}
            ready = 'bottrader_open_trades{state="PROTECTED"} 1.0' in found["port"]
            return found if ready and "temporal_activity_schedule_to_start" in found["sdk_port"] else None

        yield await eventually(told, within=60, what="the worker tells of the trade")


async def test_every_process_tells_its_own(expositions: Mapping[str, str]) -> None:
    """Worker, SDK, API, webhook and Temporal each answer with their own metrics."""
    assert 'bottrader_role_running{role="watchers"} 1.0' in expositions["port"]
    assert 'bottrader_fill_matches_total{by="client_id"' in expositions["port"]
    assert 'route="none",status="401"} 1.0' in expositions["api_port"]
    assert 'bottrader_webhook_requests_total{outcome="NO_PROOF"' in expositions["webhook"]
    assert 'temporal_worker_task_slots_available{namespace="default"' in expositions["sdk_port"]
    bucket = r'temporal_workflow_task_schedule_to_start_latency_bucket{.*task_queue="orders",le="200"}'
    assert re.search(bucket, expositions["sdk_port"]), "the alert's bound is a bucket's"
    assert "poll_success{" in expositions["temporal_port"]


async def test_temporals_metrics_that_we_name_are_told(expositions: Mapping[str, str]) -> None:
    """Each metric of the SDK and the server in a rule or a panel exists under this name."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (FOLDER / "rules").glob("*.yml")]
    texts = [rule["expr"] for file in files for group in file["groups"] for rule in group["rules"]]
    for path in (FOLDER / "grafana/dashboards").glob("*.json"):
        panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
        texts += [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for text in texts for name in _TEMPORALS.findall(text)}
    assert len(named) > 4
    there = {
        line.partition("{")[0] for name in ("sdk_port", "temporal_port") for line in expositions[name].splitlines()
    }
    assert named - there <= set(LATER)


@NEEDS_PROMTOOL
async def test_promtool_accepts_what_each_process_tells(expositions: Mapping[str, str]) -> None:
    """Ours follow Prometheus's conventions without a remark; Temporal's can at least be read."""
    for name, text in expositions.items():
        done = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
            [str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        remarks = 3 if name in {"sdk_port", "temporal_port"} else 0
        assert done.returncode in {0, remarks}, f"{name}: {done.stdout}{done.stderr}"


@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    "asked", [["check", "config", "prometheus.yml"], ["check", "rules", "rules"], ["test", "rules", "tests"]]
)
def test_promtool_accepts_the_configuration_and_the_rules(asked: list[str]) -> None:
    """The configuration can be loaded, the rules can be read, and each fires and keeps still on its own series."""
    *words, last = asked
    files = sorted(str(path) for path in (FOLDER / last).glob("*.yml")) or [str(FOLDER / last)]
    done = subprocess.run([str(PROMTOOL), *words, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
