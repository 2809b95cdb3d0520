"""No secret of the settings is in any answer of the API, nor in its log (SAFE-5): the real process, every address."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
import trustme
from pydantic import BaseModel

from activities.database import create_pool
from tests.support.api import PASSWORD, digest
from tests.support.ledger_rows import add_trade
from tests.support.live_stack import ROOT
from tests.support.waiting import SLACK, eventually
from web.api.passwords import digest_of
from workers.settings import build
from workers.settings.keys import constraints, holds_secret, leaves
from workers.settings.sources import SettingSources
from workers.settings.types import FileUse
from workers.stack.processes import Child, Command, free_port, python_environment, python_module

WORD = "Sw0rd-f1sh9c41e7ab02d4"
TOKEN = f"{WORD}-of-a-program"


@dataclass
class Served:
    """The API as a process, whose settings have a secret wherever possible."""

    http: httpx.AsyncClient
    child: Child
    key: str
    secrets: frozenset[str]
    texts: list[str]

    async def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer of a request, kept with its headers."""
        answer = await self.http.request(method, path, **given)
        self.texts.append(f"{answer.headers}\n{answer.text}")
        return answer

    def seen(self) -> set[str]:
        """Secrets that are in an answer or in the log."""
        everything = "\n".join([*self.texts, self.child.command.log.read_text()])
        return {secret for secret in self.secrets if secret in everything}


def _settings(folder: Path, database: str) -> dict[str, Any]:
    def file(name: str, text: str) -> str:
        path = folder / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    authority = trustme.CA()
    client = authority.issue_cert("client")
    return {
        "account": "main",
        "database": {"url": database, "password_file": file("password", f"{WORD}-of-the-database")},
        "temporal": {
            "address": "127.0.0.1:1",
            "api_key": f"{WORD}-of-temporal",
            "connect_timeout_s": "0.5",
            "tls_ca_file": file("ca.pem", authority.cert_pem.bytes().decode()),
            "tls_client_cert_file": file("client.pem", client.cert_chain_pems[0].bytes().decode()),
            "tls_client_key_file": file("client.key", client.private_key_pem.bytes().decode()),
        },
        "exchange": {
            "rest": "127.0.0.1:1",
            "stream": "wss://127.0.0.1:1",
            "user_stream": "wss://127.0.0.1:1",
            "key_file": file("key.json", json.dumps({"name": f"{WORD}/key", "privateKey": f"{WORD}-of-it"})),
        },
        "notices": {"urls": [f"json://{WORD}-notices@127.0.0.1:1/"]},
        "webhook": {
            "senders": {
                "mine": {"token": f"{WORD}-of-a-sender", "secret": f"{WORD}-for-signatures"},
                "theirs": {
                    "token_file": file("token", f"{WORD}-in-a-file-1"),
                    "secret_file": file("secret", f"{WORD}-in-a-file-2"),
                },
            }
        },
        "api": {
            "users": {
                "ana": {"role": "trade", "password_digest": digest()},
                "vera": {"password_digest_file": file("digest", digest_of(f"{WORD}-password"))},
            },
            "programs": {
                "robot": {"role": "trade", "token": TOKEN},
                "other": {"token_file": file("other", f"{WORD}-in-a-file-3")},
            },
        },
    }


def _secrets(settings: BaseModel) -> Iterator[str]:
    """All of them, also those in files. Raises AssertionError for a secret setting that has none here."""
    names: dict[str, bool] = {}
    for leaf in leaves(settings):
        of_file = FileUse.SECRET in constraints(leaf.field)
        if not (of_file or holds_secret(leaf.field.annotation)):
            continue
        name = leaf.key.rpartition(".")[2]
        names[name] = names.get(name, False) or bool(leaf.value)
        for value in leaf.value if isinstance(leaf.value, tuple) else (leaf.value,):
            if value is None or name == "url":
                continue
            text = value.read_text() if isinstance(value, Path) else value.get_secret_value()
            yield from (line for line in text.strip().splitlines() if not line.startswith("-----"))
    unset = {name for name, given in names.items() if not given}
    assert not unset, f"give these settings a secret here: {unset}"
    yield from (WORD, PASSWORD)


@pytest_asyncio.fixture
async def served(database: str, tmp_path: Path) -> AsyncIterator[Served]:
    """One on a ledger with an open trade."""
    pool = await create_pool(database)
    key = await add_trade(pool, "open")
    await pool.close()
    given, port = _settings(tmp_path, database), free_port()
    file = tmp_path / "bottrader.toml"
    file.write_text(_toml(given))
    file.chmod(0o600)
    settings = build(SettingSources(from_file=tomllib.loads(file.read_text())))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOTTRADER_")}
    child = await Child.start(
        Command(
            name="the API",
            argv=python_module("cli.main", "api", "serve", "--port", str(port)),
            log=tmp_path / "api.log",
            env=python_environment({"BOTTRADER_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}, environment),
            cwd=tmp_path,
        )
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30 * SLACK, trust_env=False) as http:

            async def ready() -> bool:
                assert child.running, child.log_tail()
                try:
                    return (await http.get("/health")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, what="the API serves")
            yield Served(http, child, key, frozenset(_secrets(settings)), [])
    finally:
        await child.stop()


def _toml(given: dict[str, Any], prefix: str = "") -> str:
    plain = [f"{name} = {json.dumps(value)}" for name, value in given.items() if not isinstance(value, dict)]
    tables = [_toml(value, f"{prefix}{name}.") for name, value in given.items() if isinstance(value, dict)]
    head = [f"[{prefix[:-1]}]"] if prefix and plain else []
    return "\n".join([*head, *plain, *tables])


async def test_no_answer_and_no_line_of_the_log_has_a_secret(served: Served) -> None:
    """Every address of the schema, with and without a log-in, with valid and invalid input, while Temporal is
    unreachable; log-ins, right and wrong; and the stream.
    """
    robot = {"Authorization": f"Bearer {TOKEN}"}
    schema = (await served.ask("GET", "/api/openapi.json", headers=robot)).json()
    statuses: dict[int, int] = {}
    for path, operations in schema["paths"].items():
        if path == "/api/stream":
            continue
        for method in operations:
            for key in (served.key, "0" * 32, "1"):
                where = path.replace("{key}", key).replace("{number}", "1").replace("{symbol}", "BTC-USD")
                for headers in (robot, {}, {"Authorization": "Bearer wrong-token-of-nobody"}):
                    for body in ({}, {"confirm": path.rpartition("/")[2]}, {"hard_stop": "90"}, {WORD[:5]: 1}):
                        more = {"Idempotency-Key": f"{len(served.texts):08}"} | headers
                        given = {} if method == "get" else {"json": body}
                        answer = await served.ask(method.upper(), where, headers=more, **given)
                        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                        if method == "get":
                            break
                if path == where:
                    break
    assert {200, 401, 404, 422} <= set(statuses), statuses
    assert statuses.get(500, 0) == 0
    origin = {"Origin": str(served.http.base_url).rstrip("/")}
    for user, password in (("ana", PASSWORD), ("ana", "wrong"), ("vera", f"{WORD}-passwor"), ("nobody", "wrong")):
        await served.ask("POST", "/api/login", json={"user": user, "password": password}, headers=origin)
    await served.ask("GET", "/login", params={"token": "wrong"})
    await served.ask("GET", "/", headers=robot)
    text = ""
    async with asyncio.timeout(30 * SLACK), served.http.stream("GET", "/api/stream", headers=robot) as stream:
        async for piece in stream.aiter_text():
            text += piece
            if "event: tick" in text:
                break
    served.texts.append(text)
    assert "api_logged_in" in served.child.command.log.read_text()
    assert len(served.secrets) > 15
    assert served.seen() == set()
