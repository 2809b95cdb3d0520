"""Access to the API over a real socket: who is admitted, what an action requires, and what is never allowed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import structlog
from fastapi import APIRouter
from starlette.responses import Response

from tests.support.api import PASSWORD, TRADER, VIEWER, Api, api_on
from web.api.sessions import Sessions

acted: list[str] = []


def ipv6() -> bool:
    """Whether this machine has IPv6 on its loopback."""
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


router = APIRouter()


@router.get("/api/probe")
async def probe(number: int = 0) -> dict[str, int]:
    """A read."""
    if number == 500:
        raise RuntimeError("a fault with Sw0rd-f1sh in it")
    return {"number": number}


@router.post("/api/probe")
async def act() -> dict[str, bool]:
    """An action."""
    acted.append("done")
    return {"done": True}


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    """A running API with a read and an action."""
    acted.clear()
    async with api_on(routers=[router]) as found:
        yield found


@pytest.mark.parametrize(
    "path", ["/api/session", "/api/session/check", "/api/probe", "/api/openapi.json", "/api/none", "/docs"]
)
async def test_nothing_is_read_without_a_log_in(api: Api, path: str) -> None:
    """Every address but the page's own answers 401 in one form, whether it exists or not."""
    answer = await api.http.get(path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "NOT_LOGGED_IN"
    assert answer.json()["status"] == 401


async def test_a_link_logs_in_once(api: Api) -> None:
    """The link opens a session with the role trade; used again it opens none, and the next link does."""
    token = api.link.token
    first = await api.http.get("/login", params={"token": token})
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"]
    assert cookie.startswith(f"__Host-bottrader-{api.port}=")
    assert all(part in cookie for part in ("; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"))
    again = await api.http.get("/login", params={"token": token})
    assert (again.status_code, again.json()["code"], "set-cookie" in again.headers) == (401, "BAD_LINK", False)
    async with api.page() as page:
        session = (await page.http.get("/api/session")).json()
    assert (session["name"], session["role"], session["about"]["account"]) == ("owner", "trade", "main")


async def test_a_link_logs_in_however_many_wrong_ones_were_opened(api: Api) -> None:
    """Wrong links have to wait after some, which any page can bring about; the owner's own link works meanwhile."""
    wrong = [(await api.http.get("/login", params={"token": "wrong"})).status_code for _ in range(8)]
    assert (wrong[0], wrong[-1]) == (401, 429)
    async with api.page() as page:
        assert (await page.http.get("/api/session")).status_code == 200


@pytest.mark.parametrize("host", ["x/health?", "x/page/?", "{own}/health?", "{own}/health#", "{own}/page/x?"])
async def test_a_path_in_the_host_opens_nothing(api: Api, host: str) -> None:
    """What needs no log-in is decided by the address that is answered, not by what the Host header makes of it."""
    own = api.origin.partition("://")[2]
    answer = await api.http.get("/api/probe", headers={"Host": host.format(own=own)})
    assert (answer.status_code, answer.json()["code"]) == (403, "FOREIGN_REQUEST")


async def test_readers_that_do_not_read_lock_nobody_out() -> None:
    """Clients without a log-in that ask for the page's files and never read them take every connection, and yet the
    next request is answered: they are closed for it.
    """
    files = APIRouter()

    @files.get("/page/x/large.js")
    async def large() -> Response:
        return Response(b"x" * 200_000)

    async with api_on(page=files) as api, contextlib.AsyncExitStack() as closing:
        request = f"GET /page/x/large.js HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n\r\n".encode()
        loop = asyncio.get_running_loop()
        for _ in range(100):
            client = closing.enter_context(contextlib.closing(socket.socket()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", api.port))
            await loop.sock_sendall(client, request * 60)
            # Its first bytes have come: what follows is on its way, and more of it than is kept between the two.
            assert await loop.sock_recv(client, 1)
        for _ in range(3):
            async with api.client() as http:
                assert (await http.get("/health")).status_code == 200


async def test_an_action_needs_origin_json_and_csrf(api: Api) -> None:
    """Without the exact origin, as another content type, or without the session's own X-CSRF, nothing is done."""
    async with api.page() as page, api.page() as other:
        assert (await page.post("/api/probe", Origin="http://127.0.0.1:9")).json()["code"] == "FOREIGN_REQUEST"
        assert (await page.post("/api/probe", Origin="null")).status_code == 403
        bare = await page.http.post("/api/probe", json={}, headers={"X-CSRF": page.csrf})
        assert bare.json()["code"] == "FOREIGN_REQUEST"
        crossed = await page.post("/api/probe", **{"Sec-Fetch-Site": "same-site"})
        assert crossed.json()["code"] == "FOREIGN_REQUEST"
        text = await page.post("/api/probe", **{"Content-Type": "text/plain"})
        assert (text.status_code, text.json()["code"]) == (415, "NOT_JSON")
        for csrf in ("", "x", other.csrf):
            assert (await page.post("/api/probe", **{"X-CSRF": csrf})).json()["code"] == "NO_CSRF"
        assert acted == []
        assert (await page.post("/api/probe")).json() == {"done": True}
    assert acted == ["done"]


async def test_a_rebound_name_gets_nothing(api: Api) -> None:
    """A page under another name that points here is refused, logged in or not."""
    async with api.page() as page:
        for host in ("evil.test", f"evil.test:{api.port}", f"127.0.0.1:{api.port + 1}"):
            answer = await page.http.get("/api/session", headers={"Host": host})
            assert (answer.status_code, answer.json()["code"]) == (403, "FOREIGN_REQUEST")
    answer = await api.http.get("/login", params={"token": api.link.token}, headers={"Host": "evil.test"})
    assert answer.status_code == 403


async def test_the_role_view_does_nothing(api: Api) -> None:
    """A program with the role view can read and is refused every action; one with the role trade may act."""
    async with api.program(VIEWER) as viewer, api.program(TRADER) as trader:
        assert (await viewer.get("/api/probe")).status_code == 200
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            refused = await viewer.request(method, "/api/probe", json={})
            assert (refused.status_code, refused.json()["code"]) == (403, "ROLE_MAY_NOT")
        assert acted == []
        assert (await trader.post("/api/probe", json={})).json() == {"done": True}
        session = (await trader.get("/api/session")).json()
    assert (session["name"], session["role"], session["csrf"]) == ("trader", "trade", None)


async def test_a_token_is_refused_from_a_foreign_page(api: Api) -> None:
    """A program need not send its origin; a page with another origin is refused even with a good token."""
    async with api.program() as trader:
        refused = await trader.post("/api/probe", json={}, headers={"Origin": "http://evil.test"})
        assert refused.json()["code"] == "FOREIGN_REQUEST"
    async with api.program("token-of-nobody-at-all") as nobody:
        assert (await nobody.get("/api/probe")).json()["code"] == "BAD_TOKEN"


async def test_a_bad_token_opens_nothing_beside_a_good_session(api: Api) -> None:
    """A request with a token is judged by the token alone, so a made-up one doesn't avoid a session's X-CSRF."""
    async with api.page() as page:
        answer = await page.http.post("/api/probe", json={}, headers={"Authorization": "Bearer made-up-token-1"})
    assert (answer.json()["code"], acted) == ("BAD_TOKEN", [])


async def test_passwords_log_in_and_failures_wait(api: Api) -> None:
    """The right password opens a session; after five wrong ones at once even the right one is delayed, for everybody
    from that address; existing sessions continue.
    """
    headers = {"Origin": api.origin}
    good = {"user": "ana", "password": PASSWORD}
    answer = await api.http.post("/api/login", json=good, headers=headers)
    assert (answer.status_code, answer.json()["name"], answer.json()["role"]) == (200, "ana", "trade")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    tries = [
        {"user": name, "password": "wrong"} for name in ("ana", "ana", "ana", "nobody", "ana", "ana", "ana", "ana")
    ]
    async with api.client(**headers) as http:
        answers = await asyncio.gather(*(http.post("/api/login", json=given) for given in tries))
        codes = sorted(item.json()["code"] for item in answers)
        assert codes == ["BAD_LOGIN"] * 5 + ["TOO_MANY_FAILURES"] * 3
        put_off = await http.post("/api/login", json=good)
    assert (put_off.status_code, put_off.json()["code"]) == (429, "TOO_MANY_FAILURES")
    assert int(put_off.headers["retry-after"]) > 0
    assert (await api.http.get("/api/session", headers={"Cookie": cookie})).status_code == 200
    elsewhere = await api.http.post("/api/login", json=good, headers={"Origin": "http://127.0.0.1:9"})
    assert elsewhere.status_code == 403


async def test_a_session_ends(api: Api) -> None:
    """After a log-out, after its time, and after a time without a request its cookie opens nothing."""
    async with api.page() as page:
        assert (await page.post("/api/logout")).status_code == 204
        assert (await page.http.get("/api/session")).status_code == 401
    now = 0.0
    sessions = Sessions(100, 10, clock=lambda: now)
    async with api_on(sessions=sessions, routers=[router]) as timed, timed.page() as page:
        for now in (9.0, 18.0, 27.0):  # noqa: B007 - the clock reads it
            assert (await page.http.get("/api/session")).status_code == 200
        now = 38.0
        late = await page.post("/api/probe")
        assert (late.status_code, late.json()["code"], acted) == (401, "NOT_LOGGED_IN", [])
        assert (await page.http.get("/api/session")).status_code == 401
        async with timed.page() as fresh:
            for now in range(40, 138, 9):  # noqa: B007
                assert (await fresh.http.get("/api/session")).status_code == 200
            now = 138.5
            assert (await fresh.http.get("/api/session")).status_code == 401


async def test_every_answer_forbids_what_a_page_could_be_made_to_do(api: Api) -> None:
    """Answers of all kinds have the policy without `unsafe`, and the API's are not cached; none allows an origin."""
    async with api.program() as trader:
        answers = [
            await trader.get("/api/probe"),
            await trader.get("/api/none"),
            await trader.get("/api/probe", params={"number": "x"}),
            await trader.get("/api/probe", params={"number": 500}),
            await trader.options("/api/probe", headers={"Origin": "http://evil.test"}),
            await api.http.get("/"),
            await api.http.get("/health"),
        ]
    assert [answer.status_code for answer in answers] == [200, 404, 422, 500, 403, 200, 200]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    assert all(answer.headers["cache-control"] == "no-store" for answer in answers[:5])
    assert all(answer.json()["code"] for answer in answers[1:5])
    assert "Sw0rd" not in answers[3].text


async def test_a_large_or_broken_body_is_refused(api: Api) -> None:
    """Bodies are bounded, and invalid JSON or an unknown field is reported by name, never by value."""
    headers = {"Origin": api.origin, "Content-Type": "application/json"}
    large = await api.http.post("/api/login", content=b"x" * 20_000, headers=headers)
    assert (large.status_code, large.json()["code"]) == (413, "BODY_TOO_LARGE")
    broken = await api.http.post("/api/login", content=b'{"user": "Sw0rd', headers=headers)
    assert (broken.status_code, broken.json()["code"]) == (422, "BAD_REQUEST")
    unknown = await api.http.post("/api/login", json={"user": "a", "password": "b", "Sw0rd": 1}, headers=headers)
    assert unknown.status_code == 422
    assert "Sw0rd" not in broken.text


async def test_the_schema_says_what_there_is(api: Api) -> None:
    """OpenAPI 3.1, for logged-in users: operations, problems and authentication."""
    async with api.program(VIEWER) as viewer:
        schema = (await viewer.get("/api/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    assert {"/api/login", "/api/logout", "/api/session"} <= set(schema["paths"])
    assert "Problem" in schema["components"]["schemas"]
    assert set(schema["components"]["securitySchemes"]) == {"session", "csrf", "bearer"}


async def test_a_proxy_in_front_of_another_page_asks_who_is_logged_in(api: Api) -> None:
    """Asked as a reverse proxy asks (docs/api.md), with the caller's cookie or token and without its Origin: 204 for
    who is logged in and has the role, else 401 or 403, whatever page the request was meant for.
    """
    forwarded = {"X-Forwarded-Method": "POST", "X-Forwarded-Uri": "/api/v1/namespaces", "Sec-Fetch-Site": "same-origin"}
    async with api.page() as page, api.program(VIEWER) as viewer:
        for role in ("view", "trade"):
            told = await page.http.get("/api/session/check", params={"role": role}, headers=forwarded)
            assert (told.status_code, told.content) == (204, b"")
            assert (told.headers["x-user"], told.headers["x-role"]) == ("owner", "trade")
        assert (await viewer.get("/api/session/check", headers=forwarded)).status_code == 204
        refused = await viewer.get("/api/session/check", params={"role": "trade"}, headers=forwarded)
        assert (refused.status_code, refused.json()["code"]) == (403, "ROLE_MAY_NOT")
        assert (await viewer.get("/api/session/check", params={"role": "root"})).status_code == 422
        assert (await api.http.get("/api/session/check", headers=forwarded)).status_code == 401
        # Were its Origin not taken out, only this page's own would pass.
        foreign = await page.http.get("/api/session/check", headers={"Origin": "https://bot.example:8443"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "FOREIGN_REQUEST")
        await page.post("/api/logout")
        assert (await page.http.get("/api/session/check", headers=forwarded)).status_code == 401


async def test_log_ins_are_in_the_log_without_what_was_typed(api: Api) -> None:
    """Log-ins, log-outs and failures are lines with user, way and address; a password or an unknown name is in none."""
    with structlog.testing.capture_logs() as lines:
        async with api.page() as page:
            await page.post("/api/logout")
        for user, password in (("ana", PASSWORD), ("ana", "typed-W0rd"), ("typed-N4me", "typed-W0rd")):
            given = {"user": user, "password": password}
            await api.http.post("/api/login", json=given, headers={"Origin": api.origin})
        await api.http.get("/login", params={"token": "typed-T0ken"})
    told = [(line["event"], line.get("user"), line.get("way"), line.get("address")) for line in lines]
    assert [line for line in told if line[0] != "api_log_in_failed"] == [
        ("api_logged_in", "owner", "link", "127.0.0.1"),
        ("api_logged_out", "owner", None, "127.0.0.1"),
        ("api_logged_in", "ana", "password", "127.0.0.1"),
        ("api_log_in_refused", "ana", "password", "127.0.0.1"),
        *[line for line in told if line[0] == "api_turned_away"],
    ]
    assert any(line[0] == "api_log_in_failed" for line in told)
    assert not any(word in str(lines) for word in ("typed-", PASSWORD))


async def test_a_restart_logs_everybody_out(api: Api) -> None:
    """A session of another process opens nothing: sessions are stored nowhere. A program's token goes on."""
    async with api.page() as page:
        cookie = page.http.headers["cookie"]
    async with api_on(routers=[router]) as restarted:
        name, _, value = cookie.partition("=")
        assert name == f"__Host-bottrader-{api.port}"
        moved = {"Cookie": f"__Host-bottrader-{restarted.port}={value}"}
        assert (await restarted.http.get("/api/probe", headers=moved)).status_code == 401
        async with restarted.program(VIEWER) as viewer:
            assert (await viewer.get("/api/probe")).status_code == 200


@pytest.mark.skipif(not ipv6(), reason="this machine has no IPv6 on its loopback")
async def test_it_is_reached_by_ipv6_loopback() -> None:
    """On ::1 the page is served at http://[::1]:<port>, whose link logs in and whose own requests act."""
    async with api_on(routers=[router], host="::1") as six:
        assert six.origin == f"http://[::1]:{six.port}"
        async with six.page() as page:
            assert (await page.post("/api/probe")).json() == {"done": True}
            other = await page.http.get("/api/session", headers={"Host": f"127.0.0.1:{six.port}"})
            assert other.status_code == 403
