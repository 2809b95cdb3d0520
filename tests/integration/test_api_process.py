"""`bottrader api serve` as a process: on the local stack, and on addresses where it must not listen."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import httpx

from tests.support.live_stack import ROOT, run_command
from workers.stack import page_libraries
from workers.stack.local_stack import LocalStack, LocalStackConfig

API = (sys.executable, "-m", "cli.main", "api", "serve")


async def test_the_stack_serves_it_and_its_link_logs_in() -> None:
    """The stack's link is readable by its owner only and logs in once; the next one is in its file; a stop removes
    it."""
    async with LocalStack(LocalStackConfig(ui=False, paper=False, worker=False, api=True)) as stack:
        file = stack.data / "page_link"
        assert file.stat().st_mode & 0o777 == 0o600
        link = stack.page_link
        assert link is not None
        assert link.startswith(f"{stack.api_url}/login?token=")
        assert json.loads((stack.data / "stack.json").read_text())["api"] == stack.api_url
        async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
            assert (await http.get(f"{stack.api_url}/health")).json() == {"ok": True}
            assert (await http.get(link)).status_code == 303
            assert (await http.get(link)).status_code == 401
            fresh = stack.page_link
            assert fresh is not None
            assert fresh != link
            assert (await http.get(fresh)).status_code == 303
            front = (await http.get(str(stack.api_url))).text
            if page_libraries.find() is not None:
                assert '<html lang="en" data-ways="link">' in front
            else:
                assert "The API works" in front
        log = (stack.data / "logs" / "api.log").read_text()
        assert "token=" not in log
    assert not file.exists()


async def test_its_log_in_opens_temporals_web_ui() -> None:
    """On a stack with both, the Web UI wants the page's log-in, and its own log-out ends that at once."""
    config = LocalStackConfig(paper=False, worker=False, api=True)
    async with LocalStack(config) as stack, httpx.AsyncClient(trust_env=False, timeout=120) as http:
        address = f"{stack.ui_url}/api/v1/namespaces"
        assert (await http.get(address)).status_code == 401
        assert stack.page_link is not None
        cookie = (await http.get(stack.page_link)).headers["set-cookie"].partition(";")[0]
        assert (await http.get(address, headers={"Cookie": cookie})).status_code == 200
        session = (await http.get(f"{stack.api_url}/api/session", headers={"Cookie": cookie})).json()
        assert session["about"]["temporal_ui"] == stack.ui_url
        headers = {"Cookie": cookie, "Origin": str(stack.api_url), "X-CSRF": session["csrf"]}
        assert (await http.post(f"{stack.api_url}/api/logout", json={}, headers=headers)).status_code == 204
        assert (await http.get(address, headers={"Cookie": cookie})).status_code == 401


async def test_it_does_not_listen_where_others_reach_it_without_a_log_in(tmp_path: Path) -> None:
    """Beyond loopback it requires TLS in front, the address shown by the browser, and a user who may log in."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": "postgresql:///nowhere?host=/nowhere",
        "BOTTRADER_DATA": str(tmp_path / "data"),
        "BOTTRADER_API__HOST": "0.0.0.0",  # noqa: S104 - it is refused
        "BOTTRADER_API__PORT": "0",
    }
    more = {"BOTTRADER_API__BEHIND_PROXY": "true", "BOTTRADER_API__ORIGIN": "https://bot.example"}
    for given in ({}, more):
        done = await run_command(API, environment | given, cwd=tmp_path)
        assert done.code == 2, done.err
        assert "without TLS or without a log-in" in done.err
