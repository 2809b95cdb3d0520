"""The bytes of the API's answers, over a real socket: gzip, ETag, and what is never compressed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter
from starlette.responses import StreamingResponse

from tests.support.api import PASSWORD, VIEWER, Api, api_on
from web.api.encoding import quality
from web.refusals import Refused

LARGE = 200_000
router = APIRouter()


@router.get("/api/rows")
async def rows(count: int = 0) -> list[dict[str, Any]]:
    """As many rows as requested."""
    return [{"number": number, "symbol": "BTC-USD"} for number in range(count)]


@router.get("/api/pieces")
async def pieces() -> StreamingResponse:
    """A table in pieces."""

    async def table() -> AsyncIterator[bytes]:
        for number in range(500):
            yield f"{number},BTC-USD\r\n".encode()

    return StreamingResponse(table(), media_type="text/csv; charset=utf-8", headers={"Content-Length": "1"})


@router.get("/api/events")
async def events() -> StreamingResponse:
    """Events."""

    async def told() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"event: tick\ndata: {}\n\n"

    return StreamingResponse(told(), media_type="text/event-stream")


@router.get("/api/refused")
async def refused() -> None:
    """Always refused."""
    raise Refused(422, "NO", "x" * 5000)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    """A running API, with an account name so long that every answer with it would be worth compressing."""
    async with api_on(routers=[router], account="a" * 5000) as found:
        yield found


async def raw(http: httpx.AsyncClient, path: str, accepted: str) -> tuple[httpx.Response, bytes]:
    """An answer with its bytes as sent."""
    async with http.stream("GET", path, headers={"Accept-Encoding": accepted}) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


async def test_large_answers_are_gzipped_for_who_accepts_it(api: Api) -> None:
    """The same JSON in fewer bytes, small and large; unchanged without gzip in Accept-Encoding, or with q=0."""
    async with api.program(VIEWER) as http:
        for count in (100, LARGE // 40, LARGE // 4):
            plain, body = await raw(http, f"/api/rows?count={count}", "identity")
            assert "content-encoding" not in plain.headers
            for accepted in ("gzip", "br, gzip;q=0.5", "*"):
                answer, packed = await raw(http, f"/api/rows?count={count}", accepted)
                assert answer.headers["content-encoding"] == "gzip"
                assert int(answer.headers["content-length"]) == len(packed) < len(body) / 3
                assert gzip.decompress(packed) == body
                assert "Accept-Encoding" in answer.headers["vary"]
            for accepted in ("gzip;q=0, *", "br", "", "gzip;q=x"):
                answer, same = await raw(http, f"/api/rows?count={count}", accepted)
                assert ("content-encoding" in answer.headers, same == body) == (False, True), accepted
        small, body = await raw(http, "/api/rows?count=1", "gzip")
        assert ("content-encoding" in small.headers, json.loads(body)[0]["number"]) == (False, 0)


async def test_a_table_in_pieces_is_gzipped_as_it_comes(api: Api) -> None:
    """Every piece can be unpacked when it arrives, and the length, which would be wrong, isn't sent."""
    async with (
        api.program(VIEWER) as http,
        http.stream("GET", "/api/pieces", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers["content-encoding"] == "gzip"
        assert "content-length" not in answer.headers
        assert "etag" not in answer.headers
        unpacker, text = zlib.decompressobj(16 + zlib.MAX_WBITS), b""
        async for piece in answer.aiter_raw():
            text += unpacker.decompress(piece)
            assert text.endswith(b"\r\n")
    assert text.count(b"\r\n") == 500
    assert unpacker.eof


async def test_answers_with_a_secret_and_events_are_never_compressed(api: Api) -> None:
    """Answers with a session's X-CSRF, refusals that repeat text, and the stream of events are not compressed."""
    async with api.page() as page:
        session, body = await raw(page.http, "/api/session", "gzip")
        assert page.csrf.encode() in body
        assert len(body) > 5000
        error, _ = await raw(page.http, "/api/refused", "gzip")
        told, _ = await raw(page.http, "/api/events", "gzip")
    given = {"user": "ana", "password": PASSWORD}
    login = await api.http.post("/api/login", json=given, headers={"Origin": api.origin, "Accept-Encoding": "gzip"})
    assert [answer.status_code for answer in (session, error, told, login)] == [200, 422, 200, 200]
    for answer in (session, error, told, login):
        assert "content-encoding" not in answer.headers
        assert "etag" not in answer.headers


async def test_who_has_the_newest_answer_gets_304(api: Api) -> None:
    """An answer's ETag in If-None-Match gets 304 without a body while the answer is the same, gzipped or not, and the
    whole answer once it has changed. The security headers are on a 304, too.
    """
    async with api.program(VIEWER) as http:
        first = await http.get("/api/rows", params={"count": 100})
        tag = first.headers["etag"]
        assert tag.startswith('W/"')
        assert (await http.get("/api/rows?count=100", headers={"Accept-Encoding": "identity"})).headers["etag"] == tag
        for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = await http.get("/api/rows", params={"count": 100}, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), known
            assert again.headers["cache-control"] == "no-store"
            assert "default-src 'none'" in again.headers["content-security-policy"]
        changed = await http.get("/api/rows", params={"count": 101}, headers={"If-None-Match": tag})
        assert (changed.status_code, len(changed.json())) == (200, 101)
        assert changed.headers["etag"] != tag
        wrong = await http.get("/api/refused", headers={"If-None-Match": "*"})
        assert wrong.status_code == 422


@pytest.mark.parametrize(
    ("header", "names", "wanted"),
    [
        ("", ("gzip", "*"), 0.0),
        ("gzip", ("gzip", "*"), 1.0),
        ("GZIP ; q=0.25", ("gzip", "*"), 0.25),
        ("*", ("gzip", "*"), 1.0),
        ("gzip;q=0, *;q=1", ("gzip", "*"), 0.0),
        ("text/html, text/csv;q=0.9", ("text/csv",), 0.9),
        ("text/csv;q=nine", ("text/csv",), 0.0),
        ("text/csv;header=absent;q=0.5", ("text/csv",), 0.5),
        ("gzip;q=7", ("gzip",), 1.0),
    ],
)
def test_what_a_header_accepts(header: str, names: tuple[str, ...], wanted: float) -> None:
    """A q is read as in RFC 9110, and an unreadable one counts as not accepted."""
    assert quality(header, *names) == wanted
