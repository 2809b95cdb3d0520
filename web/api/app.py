"""The application of the API: its addresses, behind the access control (`door`)."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from web.api.door import CSRF_HEADER, Door, DoorTerms
from web.api.encoding import EncodedAnswers
from web.api.login import About, login_routes
from web.api.page import no_page_routes
from web.api.problems import Problem, problem
from web.api.sessions import OneTimeLink, Sessions
from web.refusals import Refused
from web.strangers import Tally

__all__ = ["create_api"]


def create_api(
    terms: DoorTerms,
    about: About,
    *,
    sessions: Sessions,
    link: OneTimeLink | None = None,
    routers: Sequence[APIRouter] = (),
    page: APIRouter | None = None,
) -> Door:
    """The application: the log-in's addresses, the page (`web.api.page`), and `routers`, whose addresses need a log-in.

    `link` logs in the owner of this machine; None: there is none.
    """
    # The documentation pages of FastAPI load their scripts from the network.
    app = FastAPI(title="BotTrader API", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    door = Door(EncodedAnswers(app), terms, sessions, link)
    faults = Tally("api_fault")
    described: list[bytes] = []

    @app.get("/health", include_in_schema=False)
    async def health() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/api/openapi.json", include_in_schema=False)
    async def schema() -> Response:
        if not described:
            # In a thread, once: it takes long enough to delay the events of every stream.
            described.append(await asyncio.to_thread(lambda: orjson.dumps(app.openapi())))
        return Response(described[0], media_type="application/json")

    app.include_router(page or no_page_routes("There is no page here."))
    app.include_router(login_routes(door, about))
    for router in routers:
        app.include_router(router)
    _with_problems(app, faults)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return door


_NO_TEXT = Refused(422, "BAD_TEXT", "A text contains characters that can't be stored: leave them out.")


def _with_problems(app: FastAPI, faults: Tally) -> None:
    """All errors have one form."""

    def say(kind: type[Exception], answer: Callable[[Any], Response]) -> None:
        async def handle(_: Request, error: Exception) -> Response:
            return answer(error)

        app.add_exception_handler(kind, handle)

    def fault(error: Exception) -> Response:
        # Only the place: the message may contain what was sent.
        faults.add(f"{type(error).__name__} at {_where(error)}")
        return problem(Refused(500, "FAULT", "An internal error; the log says where."))

    say(Refused, problem)
    say(RequestValidationError, lambda error: problem(_wrong(error)))
    say(HTTPException, lambda error: problem(_http(error)))
    say(OSError, _away)
    say(asyncpg.InterfaceError, _away)
    say(asyncpg.PostgresError, lambda error: _away(error) if _is_away(error) else fault(error))
    # A zero byte or half a character: PostgreSQL can store neither.
    say(UnicodeEncodeError, lambda _: problem(_NO_TEXT))
    say(asyncpg.CharacterNotInRepertoireError, lambda _: problem(_NO_TEXT))
    say(asyncpg.UntranslatableCharacterError, lambda _: problem(_NO_TEXT))
    say(Exception, fault)


def _is_away(error: asyncpg.PostgresError) -> bool:
    """Whether the database was not available (SQLSTATE classes 08, 53 and 57: connection, resources, shutdown)."""
    return str(error.sqlstate or "").startswith(("08", "53", "57"))


def _away(error: Exception) -> Response:
    return problem(
        Refused(
            503,
            "NO_DATABASE",
            f"The ledger does not answer ({type(error).__name__}): try again.",
            retry_after=5,
        )
    )


def _wrong(error: RequestValidationError) -> Refused:
    """The first invalid parameter: its name and the rule that it breaks, never its value."""
    found = error.errors()[0]
    name = ".".join(str(part) for part in found["loc"][1:]) or "body"
    return Refused(422, "BAD_REQUEST", f"{name}: {found['msg']}.", field=name[:100])


def _http(error: HTTPException) -> Refused:
    if error.status_code == 404:
        return Refused(404, "NOT_FOUND", "There is nothing at this address; /api/openapi.json lists what there is.")
    return Refused(error.status_code, str(error.detail).upper().replace(" ", "_"), f"{error.detail}.")


def _where(error: Exception) -> str:
    places = traceback.extract_tb(error.__traceback__)[-3:]
    return " > ".join(f"{Path(place.filename).name}:{place.lineno} {place.name}" for place in places)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description="What the page shows and does. Money and sizes are strings, times are UTC.",
            routes=app.routes,
        )
        parts = found.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        parts["securitySchemes"] = {
            "session": {"type": "apiKey", "in": "cookie", "name": "__Host-bottrader-<port>"},
            "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        found["security"] = [{"session": []}, {"session": [], "csrf": []}, {"bearer": []}]
        app.openapi_schema = found
    return app.openapi_schema
