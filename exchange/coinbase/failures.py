"""Failed requests to Coinbase as the port's errors: whether the venue took the request, and its own message."""

from __future__ import annotations

import time
from datetime import datetime

import orjson
import requests

from exchange.clock import http_date
from exchange.port import CommandRefused, ExchangeError, NotAccepted, OutcomeUnknown, Unavailable

__all__ = ["AUTH_FAILURE", "command_failure", "date_of", "read_failure", "response_of"]

AUTH_FAILURE = "AUTH_FAILURE"
_RATE_LIMITED = "RATE_LIMITED"


def read_failure(what: str, problem: BaseException, begun: bool) -> ExchangeError:
    """The error for a failed read: Unavailable, with the venue's code if it gave one."""
    response = response_of(problem)
    if response is None:
        return Unavailable(f"{what} failed: {_said(problem)}")
    status = response.status_code
    code = {401: AUTH_FAILURE, 403: AUTH_FAILURE, 429: _RATE_LIMITED}.get(status)
    venue_code, text = venue_error(response)
    if code is None and venue_code is not None and 400 <= status < 500:
        # Only the venue's own message means "not found", not a gateway's empty 404.
        code = "NOT_FOUND" if status == 404 or "not found" in text else venue_code
    return Unavailable(f"{what}: {text}", code=code, retry_after=_retry_after(response))


def command_failure(what: str, problem: BaseException, begun: bool) -> ExchangeError:
    """The error for a failed command; `begun`: part of the request may have reached the venue."""
    response = response_of(problem)
    if response is None:
        if begun:
            return OutcomeUnknown(f"{what}: sent, but without a readable answer: {_said(problem)}")
        return NotAccepted(f"{what} was not sent: {_said(problem)}")
    status = response.status_code
    code, text = venue_error(response)
    if status == 429:
        return NotAccepted(f"{what}: {text}", code=_RATE_LIMITED, retry_after=_retry_after(response))
    if status in (401, 403):
        return NotAccepted(
            f"{what}: {text}; check the API key, its permissions and this machine's clock", code=AUTH_FAILURE
        )
    if 400 <= status < 500 and status != 408:
        return CommandRefused(f"{what}: {text}", code=code or f"HTTP_{status}")
    return OutcomeUnknown(f"{what}: {text}", retry_after=_retry_after(response))


def response_of(problem: BaseException) -> requests.Response | None:
    """The venue's answer behind an error status; a redirect is no answer."""
    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return problem.response
    return None


def date_of(response: requests.Response) -> datetime | None:
    """When the answer was given, by its Date header; None if it can't be read."""
    return http_date(response.headers.get("Date"))


def venue_error(response: requests.Response) -> tuple[str | None, str]:
    """The venue's own code, and its message after the status."""
    try:
        body = response.json()
    except ValueError:
        body = None
    code, words = None, response.content[:200].decode("utf-8", "replace").strip()
    if isinstance(body, dict):
        errors = body.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            body = {"error": errors[0].get("id"), **errors[0]}
        code = body.get("error") if isinstance(body.get("error"), str) else None
        words = str(body.get("error_details") or body.get("message") or code or words)
    return code, f"the venue answered {response.status_code}: {words or response.reason}"


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait, from Retry-After or x-ratelimit-reset (seconds, or a Unix time)."""
    for name in ("retry-after", "x-ratelimit-reset"):
        try:
            seconds = float(response.headers[name])
        except (KeyError, ValueError):
            continue
        if seconds > 1e8:
            seconds -= time.time()
        if 0 <= seconds <= 3600:
            return seconds
    return None


def _said(problem: BaseException) -> str:
    """A short reason without object addresses."""
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, requests.Timeout):
        return "timed out"
    cause: BaseException = problem
    while True:
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else None
        inner = getattr(cause, "reason", None) if isinstance(getattr(cause, "reason", None), BaseException) else inner
        if inner is None:
            break
        cause = inner
    if isinstance(cause, orjson.JSONDecodeError):
        return "the body is not JSON"
    text = str(cause)
    text = text.partition(": ")[2] if text.startswith("<") or "object at 0x" in text.partition(": ")[0] else text
    return text or type(cause).__name__
