"""How the page is served: by the digest of its content, under a strict policy, without data of the account."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.api import Api, api_on
from tests.support.page import page_of_libraries
from web.api.page import LIBRARIES, OWN_FILES, no_page_routes, page_routes, read_page
from workers.stack import page_libraries


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    """A running API with the page."""
    async with api_on(page=await page_of_libraries()) as found:
        yield found


async def test_the_page_is_served_without_a_log_in_and_says_how_to_log_in(api: Api) -> None:
    """It is cached by its ETag; its one inline script is allowed by its hash, and no other."""
    answer = await api.http.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'data-ways="link password"' in answer.text
    assert "{{" not in answer.text
    inline = re.findall(r"<script[^>]*>([^<]+)</script>", answer.text)
    assert len(inline) == 1
    digest = b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert "style=" not in answer.text
    again = await api.http.get("/", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_every_file_that_the_page_names_is_there_and_is_kept_for_good(api: Api) -> None:
    """Its modules and libraries are under one path with their digest, gzipped if the browser accepts that."""
    text = (await api.http.get("/")).text
    names = set(re.findall(r'(?:href|src)="([^"]+)"', text))
    names |= set(json.loads(re.findall(r"<script[^>]*>([^<]+)</script>", text)[0])["imports"].values())
    assert len(names) > 20
    for name in names:
        plain = await api.http.get(name, headers={"Accept-Encoding": "identity"})
        packed = await api.http.get(name, headers={"Accept-Encoding": "gzip"})
        assert plain.status_code == packed.status_code == 200, name
        assert plain.content == packed.content
        assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
        assert "immutable" in packed.headers["cache-control"]
        assert packed.headers["vary"] == "Accept-Encoding"
    base = next(name for name in names if name.endswith("/app.js")).removesuffix("app.js")
    for path in (
        "/page/0000000000000000/app.js",
        *(f"{base}{name}" for name in ("none.js", "..%2Fapp.py", "index.html")),
    ):
        assert (await api.http.get(path)).status_code == 404, path


async def test_other_pages_get_none_of_it(api: Api) -> None:
    """A page of another origin may open ours in a window, and may not load its files."""
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    path = re.findall(r'src="([^"]+)"', (await api.http.get("/")).text)[-1]
    assert (await api.http.get(path, headers=foreign)).status_code == 403
    assert (await api.http.get("/", headers={"Host": "evil.test"})).status_code == 403


async def test_without_its_libraries_the_api_says_why_there_is_no_page() -> None:
    """Everything else of the API works."""
    async with api_on(page=no_page_routes("The page is not served.")) as api:
        answer = await api.http.get("/")
        assert answer.text == "The page is not served. The API works, and is described at /api/openapi.json.\n"
        async with api.program() as trader:
            assert (await trader.get("/api/session")).status_code == 200


async def test_a_change_of_a_file_gives_new_addresses(tmp_path: Path) -> None:
    """Two versions never share an address."""
    libraries = await asyncio.to_thread(page_libraries.find)
    if libraries is None:
        await page_of_libraries()
        libraries = page_libraries.find()
    assert libraries is not None
    own = tmp_path / "page"
    for path in OWN_FILES.rglob("*"):
        if path.is_file() and "node_modules" not in path.parts:
            target = own / path.relative_to(OWN_FILES)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    before = read_page(libraries, own)
    assert before.base == read_page(libraries).base
    (own / "format.js").write_text((own / "format.js").read_text() + "\n")
    after = read_page(libraries, own)
    assert after.base != before.base
    assert page_routes(after, []).routes


def test_the_lock_has_a_digest_of_every_library_and_no_address_of_a_registry() -> None:
    """So npm takes them from this machine's usual source of packages, and accepts no others."""
    lock = json.loads((OWN_FILES / "package-lock.json").read_text())
    packages = {name: found for name, found in lock["packages"].items() if name}
    assert {name.removeprefix("node_modules/") for name in packages} >= {
        "/".join(file.split("/")[: 2 if file.startswith("@") else 1]) for file in LIBRARIES.values()
    }
    assert all(found["integrity"].startswith("sha512-") for found in packages.values())
    assert not any("resolved" in found for found in packages.values())


def test_npm_that_fails_is_told_in_one_sentence(tmp_path: Path) -> None:
    """npm's first complaint is the reason, without its codes."""
    log = tmp_path / "log"
    codes = (
        "code ENOTFOUND",
        "syscall getaddrinfo",
        "errno ENOTFOUND",
        "network request failed",
        "A complete log of …",
    )
    log.write_text("".join(f"npm error {line}\n" for line in codes))
    assert page_libraries._reason(log) == "network request failed"
    log.write_text("")
    assert page_libraries._reason(log) == "no message"
