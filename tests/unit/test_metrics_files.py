"""Prometheus's rules and Grafana's dashboards name only what the code measures, and have all that they have to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.compose import load
from workers.ledger_gauges import GAUGES
from workers.settings import load_settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/metrics"
_MADE = re.compile(r'(?P<kind>counter|histogram|gauge|GaugeMetricFamily)\(\s*"(?P<name>bottrader_\w+)"', re.IGNORECASE)
_NAMED = re.compile(r"\bbottrader_\w+")
PANELS = (
    "P&L today against the limit", "Open trades, and unprotected ones", "Open orders, and unknown ones", "Age of data",
    "Fill to record", "Placement to fill", "Exits by path, won and lost", "Gates", "Attempts by answer and number",
    "Linkage, violations, unrouted facts", "Temporal: schedule to start, slots, backlog",
    "Reconnects and latency of the web",
)  # fmt: skip
ALERTS = {
    "PositionUnprotected": "> 15", "DataTooOld": "> 60", "LinkageIncomplete": "< 1", "LedgerViolations": "> 0",
    "CriticalIncident": "> 0", "FillsRecordedLate": "> 5", "GaugesTooOld": "> 60", "RoleWithoutWorker": "unless",
    "NoWorker": "absent", "UnauthorizedRequests": '"401"', "TasksWaitForWorkers": "> 200",
    "TasksNotMatchedAtOnce": "< 0.95", "PollsInVain": "< 0.9", "NoFreeSlots": "== 0",
}  # fmt: skip
"""Alert and what its expression holds something against."""


def metrics() -> dict[str, str]:
    """What the code measures: each metric, as it is exposed, with its kind."""
    found = {f"bottrader_{name}": "gauge" for name in (*GAUGES, "role_running", "role_needed")}
    for file in ("workers/telemetry.py", "web/metrics.py"):
        text = (ROOT / file).read_text(encoding="utf-8")
        found |= {match["name"]: match["kind"].lower() for match in _MADE.finditer(text)}
    assert len(found) > 35
    return {f"{name}_total" if kind == "counter" else name: kind for name, kind in found.items()}


def series() -> set[str]:
    """The names of its series."""
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + part for name, kind in metrics().items() for part in parts.get(kind, ("",))}


def rules() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((FOLDER / "rules").glob("*.yml"))]
    return {rule["alert"]: rule for file in files for group in file["groups"] for rule in group["rules"]}


def dashboards() -> list[dict[str, Any]]:
    """Every dashboard."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "grafana/dashboards").glob("*.json")]
    assert found
    return found


def test_rules_and_dashboards_name_what_is_measured() -> None:
    """No alert and no panel waits for a series that no process tells."""
    texts = [rule["expr"] for rule in rules().values()]
    texts += [target["expr"] for board in dashboards() for panel in board["panels"] for target in panel["targets"]]
    named = {name for text in texts for name in _NAMED.findall(text)}
    assert named - series() == set()


def test_the_page_about_metrics_has_each() -> None:
    """docs/metrics.md lists every metric of ours and none that is not."""
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert set(_NAMED.findall(text)) == set(metrics())


def test_every_panel_is_there() -> None:
    """The dashboard has the panels that an operator needs, each with a query of the datasource that is set up."""
    (board,) = (board for board in dashboards() if board["uid"] == "bottrader")
    titles = [panel["title"] for panel in board["panels"]]
    assert titles[: len(PANELS)] == list(PANELS)
    assert len({panel["id"] for panel in board["panels"]}) == len(titles)
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    (uid,) = (each["uid"] for each in source["datasources"])
    for panel in board["panels"]:
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {uid}


def test_every_alert_is_there() -> None:
    """Each alert has its bound, a severity, and says what it is about and what to do; and has a test of its own."""
    found = rules()
    for name, bound in ALERTS.items():
        assert bound in found[name]["expr"], name
    tested = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "tests").glob("*.yml"))
    for name, rule in found.items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(rule["annotations"]) == {"summary", "description"}, name
        assert re.search(rf"alertname: {name}\n\s+exp_alerts", tested), name


def test_prometheus_scrapes_what_the_services_tell() -> None:
    """Its targets are services of the compose file, all workers among them, at the ports that these have; Prometheus
    itself is not published, and Grafana wants a password.
    """
    services = load()["services"]
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    scraped = {
        job["job_name"]: (set(names), each["port"])
        for job in config["scrape_configs"]
        for each in job["dns_sd_configs"]
        if (names := each["names"]) and each["type"] == "A"
    }
    workers = {name for name in services if name.startswith("worker-")}
    telemetry = load_settings(environ=services["api"]["environment"]).telemetry
    webhook = load_settings(environ=services["webhook"]["environment"]).webhook
    temporal = int(services["temporal"]["environment"]["METRICS_ADDRESS"].rpartition(":")[2])
    assert scraped == {
        "worker": (workers, telemetry.port),
        "temporal-sdk": (workers, telemetry.sdk_port),
        "webhook": ({"webhook"}, webhook.port),
        "api": ({"api"}, telemetry.api_port),
        "temporal": ({"temporal"}, temporal),
    }
    assert services["prometheus"]["profiles"] == services["grafana"]["profiles"] == ["metrics"]
    assert "ports" not in services["prometheus"]
    told = services["grafana"]["environment"]
    assert told["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_password"
    assert told["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert {told[name] for name in told if name.startswith("GF_ANALYTICS")} == {"false"}
