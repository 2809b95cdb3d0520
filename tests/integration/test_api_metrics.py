"""The API's own metrics, counted over a real socket."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import APIRouter

from domain.browser import own_hosts
from web.api.app import create_api
from web.api.callers import Program, Role
from web.api.door import DoorTerms
from web.api.login import About
from web.api.sessions import Sessions
from web.metrics import ApiMetrics
from web.server import WebServer, listen


async def test_requests_are_counted_by_address_and_status() -> None:
    """Every request counts with its address as described, without its values, its method and its status; a method that
    is none and an address that is none make no new series.
    """
    router = APIRouter()

    @router.get("/api/things/{key}")
    async def thing(key: str) -> dict[str, str]:
        return {"key": key}

    metrics = ApiMetrics(lambda: 3)
    address = listen("127.0.0.1", 0)
    port = int(address.getsockname()[1])
    origins = tuple(f"http://{host}" for host in own_hosts(port, "127.0.0.1"))
    terms = DoorTerms(origins, "cookie", (), (Program("robot", Role.VIEW, b"token-of-the-robot"),), behind_proxy=False)
    about = About(account="main", mode="paper", dry_run=False, speed="1", temporal_ui="", namespace="default")
    door = create_api(terms, about, sessions=Sessions(60, 60), routers=[router])
    server = WebServer(metrics.measured(door), arrival_s=10, max_connections=10)
    serving = asyncio.create_task(server.serve(sockets=[address]))
    try:
        async with httpx.AsyncClient(base_url=origins[0], trust_env=False) as http:
            known = {"Authorization": "Bearer token-of-the-robot"}
            for key in ("a", "b"):
                assert (await http.get(f"/api/things/{key}", headers=known)).status_code == 200
            assert (await http.get("/api/things/c")).status_code == 401
            assert (await http.get("/api/nothing", headers=known)).status_code == 404
            await http.request("BREW", "/api/things/c")
    finally:
        server.stop()
        await serving
    text = metrics.text().decode()
    assert 'bottrader_api_requests_total{method="GET",route="/api/things/{key}",status="200"} 2.0' in text
    assert 'bottrader_api_requests_total{method="GET",route="none",status="401"} 1.0' in text
    assert 'bottrader_api_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert 'method="other"' in text
    assert "BREW" not in text
    assert 'bottrader_api_seconds_count{route="/api/things/{key}"} 2.0' in text
    assert "bottrader_api_streams 3.0" in text
