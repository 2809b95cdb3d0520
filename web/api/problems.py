"""Errors of the API by RFC 9457: `application/problem+json` with our code, and one sentence as its detail."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from web.refusals import Refused

__all__ = ["RESPONSES", "Problem", "described", "problem"]


class Problem(BaseModel):
    """Why a request was refused. Nothing was done."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str = Field(description="the name of the status")
    status: int
    code: str = Field(description="for programs; stays the same between releases")
    detail: str = Field(description="what is wrong and what to do, in one sentence")
    field: str | None = Field(None, description="the parameter or field that is wrong")


def problem(refused: Refused) -> JSONResponse:
    """The answer to a request that is refused."""
    body = Problem(
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        code=refused.code,
        detail=refused.sentence,
        field=refused.field,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), refused.status, refused.headers, media_type="application/problem+json"
    )


def described(text: str) -> dict[str, Any]:
    """A problem in the schema of the API, with what it means."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


RESPONSES: dict[int | str, dict[str, Any]] = {
    401: described("not logged in, or the token is not valid"),
    403: described("not a request of this page itself, without the session's X-CSRF, or the role may not do it"),
    422: described("a parameter is unknown or wrong; `field` names it"),
    429: described("too many failures; see Retry-After"),
    503: described("the ledger or Temporal does not answer; the same request may be sent again"),
}
"""Answers that any endpoint may give beside its own."""
