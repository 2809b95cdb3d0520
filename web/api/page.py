"""The page's files: its own (web/page) and its libraries', read once at start and served from this address only.

All of them are under one path with the digest of their content in it, so a browser keeps them for good and never mixes
two versions. They hold nothing of the account, so they are served without a log-in; what they show is behind it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from domain.text import html_text
from web.api.door import PAGE_FILES, policy_with
from web.refusals import Refused

__all__ = ["OWN_FILES", "PageFiles", "no_page_routes", "page_routes", "read_page"]

OWN_FILES = Path(__file__).parents[1] / "page"
LIBRARIES = {
    "preact": "preact/dist/preact.mjs",
    "preact/hooks": "preact/hooks/dist/hooks.mjs",
    "htm": "htm/dist/htm.mjs",
    "htm/preact": "htm/preact/index.mjs",
    "@preact/signals": "@preact/signals/dist/signals.mjs",
    "@preact/signals-core": "@preact/signals-core/dist/signals-core.mjs",
    "lightweight-charts": "lightweight-charts/dist/lightweight-charts.standalone.production.mjs",
}
"""Name in an import → file in the folder of libraries."""
_LICENCES = ("preact", "htm", "@preact/signals", "@preact/signals-core", "lightweight-charts", "fancy-canvas")
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FIRST, _FIRST_STYLE = "app.js", "style.css"
_IMPORT = re.compile(r'\bfrom\s*"([^"]+)"')
_KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    body: bytes
    packed: bytes


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The served files. `index` has the placeholder `{{ways}}` left; `script_hash` is that of its inline import map."""

    base: str
    index: str
    script_hash: str
    files: Mapping[str, _File]


def read_page(libraries: Path, own: Path = OWN_FILES) -> PageFiles:
    """Read everything. Raises OSError if a file of the page or of a library is missing."""
    bodies = {path.relative_to(own).as_posix(): path.read_bytes() for path in _own(own)}
    bodies |= {f"libraries/{file}": (libraries / file).read_bytes() for file in LIBRARIES.values()}
    bodies["licences.txt"] = "\n\n".join(_licences(libraries)).encode()
    index = (own / "index.html").read_text(encoding="utf-8")
    digest = hashlib.sha256(index.encode())
    for name, body in sorted(bodies.items()):
        digest.update(b"%s %d " % (name.encode(), len(body)) + body)
    base = f"{PAGE_FILES}{digest.hexdigest()[:16]}"
    imports = json.dumps({"imports": {name: f"{base}/libraries/{file}" for name, file in LIBRARIES.items()}})
    first = [name for name in _needed(bodies) if name != _FIRST]
    preloads = "\n".join(f'    <link rel="modulepreload" href="{base}/{name}" />' for name in first)
    sheets = sorted((name for name in bodies if name.endswith(".css")), key=lambda name: (name != _FIRST_STYLE, name))
    styles = "\n".join(f'    <link rel="stylesheet" href="{base}/{name}" />' for name in sheets)
    for mark, text in (("base", base), ("imports", imports), ("styles", styles), ("preloads", preloads)):
        index = index.replace(f"{{{{{mark}}}}}", text)
    return PageFiles(
        base=base,
        index=index,
        script_hash=b64encode(hashlib.sha256(imports.encode()).digest()).decode(),
        files={
            # mtime: the same bytes each time, so that nothing differs between two starts.
            name: _File(_TYPES[Path(name).suffix], body, gzip.compress(body, 6, mtime=0))
            for name, body in bodies.items()
        },
    )


def _own(own: Path) -> Iterator[Path]:
    for folder in (own, own / "tabs", own / "drawer"):
        yield from (path for path in sorted(folder.glob("*")) if path.suffix in {".js", ".css", ".svg"})


def _licences(libraries: Path) -> Iterator[str]:
    for name in _LICENCES:
        found = sorted((libraries / name).glob("LICENSE*"))
        text = found[0].read_text(encoding="utf-8") if found else "see the package's own page"
        yield f"{name}\n{'=' * len(name)}\n{text.strip()}"


def _needed(bodies: Mapping[str, bytes]) -> list[str]:
    """The modules of the first view, so that a browser requests all of them at once."""
    found, waits = dict.fromkeys([_FIRST]), [_FIRST]
    while waits:
        name = waits.pop()
        for wanted in _IMPORT.findall(bodies[name].decode()):
            own = posixpath.normpath(posixpath.join(posixpath.dirname(name), wanted))
            target = f"libraries/{LIBRARIES[wanted]}" if wanted in LIBRARIES else own
            if target in bodies and target not in found:
                found[target] = None
                waits.append(target)
    return list(found)


def page_routes(page: PageFiles, ways: Collection[str]) -> APIRouter:
    """The page at `/` and its files. `ways`: the possible log-ins here, of link and password."""
    router = APIRouter(include_in_schema=False)
    body = page.index.replace("{{ways}}", html_text(" ".join(sorted(ways)))).encode()
    packed = gzip.compress(body, 6, mtime=0)
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    policy = policy_with(page.script_hash)

    @router.get("/")
    async def index(request: Request) -> Response:
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": policy}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return _answer(request, "text/html; charset=utf-8", body, packed, headers)

    @router.get(f"{PAGE_FILES}{{digest}}/{{name:path}}")
    async def file(request: Request, digest: str, name: str) -> Response:
        found = page.files.get(name)
        if found is None or f"{PAGE_FILES}{digest}" != page.base:
            raise Refused(404, "NOT_FOUND", "This version of the page has no such file: reload the page.")
        return _answer(request, found.kind, found.body, found.packed, {"Cache-Control": _KEPT})

    return router


def no_page_routes(why: str) -> APIRouter:
    """The answer at `/` if the page can't be served."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index() -> Response:
        return PlainTextResponse(f"{why} The API works, and is described at /api/openapi.json.\n")

    return router


def _answer(request: Request, kind: str, body: bytes, packed: bytes, headers: Mapping[str, str]) -> Response:
    """`packed` is `body` gzipped. It has nothing of the request in it, so its length reveals nothing."""
    given = {**headers, "Content-Type": kind, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, headers={**given, "Content-Encoding": "gzip"})
    return Response(body, headers=given)
