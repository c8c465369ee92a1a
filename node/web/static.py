"""Pages and what they load, from package data, read once at the start: no path of a request reaches the disk."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hypercluster.node.errors import NodeError
from hypercluster.node.web.answers import problem

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
    ".license": "text/plain; charset=utf-8",
}
FOLDERS = ("pages", "vendor")


class PageMissing(NodeError):
    """The installation lacks a page."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    body: bytes
    type: str
    etag: str


def site() -> list[Route]:
    """Routes of the pages: the shell, pages/index.html, at /, and what it loads at /pages/... and /vendor/...

    All of it is public: the shell holds nothing, it asks. Its views are in the fragment of the address, and which of
    them it shows is told by GET /hc/me.

    Raises:
        PageMissing: the installation lacks the shell.
    """
    found = assets()
    shell = found.get("/pages/index.html")
    if shell is None:
        raise PageMissing("The pages are not in this installation: install it again.")

    async def page(request: Request) -> Response:
        return _answer(request, shell)

    async def asset(request: Request) -> Response:
        file = found.get(request.scope["path"])
        return _answer(request, file) if file else problem(404, "not_found", "No such file.")

    return [
        Route("/", page, methods=["GET"]),
        *(Route(f"/{folder}/{{path:path}}", asset, methods=["GET"]) for folder in FOLDERS),
    ]


def assets() -> dict[str, File]:
    """Every file of pages/ and vendor/ by its path in a URL, such as /vendor/preact/preact.mjs."""
    root = files("hypercluster.node.web")
    return {
        path: File(body, _type(path), f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        for folder in FOLDERS
        for path, body in _walk(root / folder, f"/{folder}")
    }


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        return
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            yield from _walk(each, f"{path}/{each.name}")
        elif not each.name.endswith((".py", ".pyc")):
            yield f"{path}/{each.name}", each.read_bytes()


def _type(path: str) -> str:
    suffix = "." + path.rpartition(".")[2]
    return TYPES.get(suffix.lower()) or mimetypes.guess_type(path)[0] or "application/octet-stream"


def _answer(request: Request, file: File) -> Response:
    headers = {"etag": file.etag, "cache-control": "no-cache", "content-security-policy": CSP}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.type, headers=headers)
