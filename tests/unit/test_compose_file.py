"""The compose file: valid by the Compose Specification's schema, and by the rules of this project."""

import json
import subprocess
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.compose import ROOT, load
from workers.settings import load_settings
from workers.stack.temporal_tuning import DYNAMIC_CONFIG, as_yaml

JOBS = {"temporal-schema", "temporal-namespace", "migrate"}
WORKERS = {"worker-orders", "worker-streams", "worker-watchers", "worker-strategy"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file without any variable set."""
    return load()


def test_the_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    """Docker Compose would accept every key and value."""
    schema = json.loads((ROOT / "tests/data/compose-spec/compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(compose)


def test_every_port_is_on_loopback(compose: dict[str, Any]) -> None:
    """Nothing is reachable from another machine."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_workers_can_be_scaled(compose: dict[str, Any]) -> None:
    """Neither a fixed name nor a host port keeps a second copy of a worker from starting."""
    for name in WORKERS:
        service = compose["services"][name]
        assert "container_name" not in service
        assert "ports" not in service


def test_every_image_is_pinned(compose: dict[str, Any]) -> None:
    """No image changes under a tag such as latest."""
    for name, service in compose["services"].items():
        _, _, tag = service["image"].rpartition(":")
        assert tag.removeprefix("v")[0].isdigit(), name
        assert "." in tag, name


def test_everything_that_stays_has_a_health_check(compose: dict[str, Any]) -> None:
    """Only jobs, which end, have no health check."""
    for name, service in compose["services"].items():
        assert ("healthcheck" in service) == (name not in JOBS), name


def test_secrets_come_from_files(compose: dict[str, Any]) -> None:
    """No password is written in the file or put into a container's environment."""
    assert all("file" in secret for secret in compose["secrets"].values())
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert value.startswith("/run/secrets"), name


def test_who_waits_for_a_job_waits_for_its_success(compose: dict[str, Any]) -> None:
    """A worker never starts on a database without tables or a namespace without search attributes."""
    for service in compose["services"].values():
        for dependency, how in service.get("depends_on", {}).items():
            assert dependency in compose["services"]
            expected = "service_completed_successfully" if dependency in JOBS else "service_healthy"
            assert how["condition"] == expected


def test_paper_exchange_is_a_profile(compose: dict[str, Any]) -> None:
    """Without the profile nothing needs the paper exchange."""
    assert compose["services"]["paper"]["profiles"] == ["paper"]
    for name in WORKERS:
        assert compose["services"][name]["depends_on"]["paper"]["required"] is False


def test_settings_of_the_workers_can_be_used(compose: dict[str, Any]) -> None:
    """The workers' environment is valid, on paper and live."""
    paper = load_settings(environ=compose["services"]["worker-orders"]["environment"])
    assert paper.mode == "paper"
    assert paper.rest_address == "paper:8443"
    variables = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/live.env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    live = load_settings(environ=load(variables)["services"]["worker-orders"]["environment"])
    assert live.mode == "live"
    assert live.rest_address == "api.coinbase.com"


def test_dynamic_configuration_is_the_one_of_the_dev_server() -> None:
    """The server in containers has the same rates as the one used for measurements."""
    file = ROOT / "deploy/temporal/config/dynamicconfig/bottrader.yaml"
    assert file.read_text() == as_yaml()
    assert {key: entries[0]["value"] for key, entries in yaml.safe_load(file.read_text()).items()} == dict(
        DYNAMIC_CONFIG
    )


@pytest.mark.parametrize("script", ["setup-schema.sh", "start-server.sh"])
def test_scripts_are_valid_shell(script: str) -> None:
    """The containers' shell can read the scripts."""
    done = subprocess.run(["sh", "-n", ROOT / "deploy/temporal" / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_image_contains_every_room_that_ships() -> None:
    """The Dockerfile copies each package that setuptools is told to install."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")}
    assert packages <= copied
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in packages} <= set(ignored)
