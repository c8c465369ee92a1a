"""Log-in without a password of its own: a link that opens once, given out where the program runs.

The program keeps a secret in a file of its home that only its user reads. Whoever can read it can make links
(`new_link`), so a command of the same user prints another one when the first is used or too old. A link is good once,
for LINK_SECONDS; it leaves a cookie that lasts SESSION_SECONDS and that no script can read. Browsers send cookies to
every port of a host, so its name has the port, and a wallet asks for the key's password all the same.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import trio
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from hypercluster.node.errors import NodeError
from hypercluster.node.web.answers import problem
from hypercluster.node.web.guard import own_origin

log = logging.getLogger(__name__)

LINK_SECONDS = 15 * 60.0
SESSION_SECONDS = 7 * 24 * 3600.0
MOST_SESSIONS = 64
"""logged in at once; the oldest goes"""
WRONG_PASSWORDS = 5
"""in a row, then the wallet rests for PASSWORD_SECONDS"""
PASSWORD_SECONDS = 60.0

Password = Callable[[str], Awaitable[bool]]


class NoLink(NodeError):
    """No program that hands out links runs from a home."""


class TooManyPasswords(NodeError):
    """Too many wrong passwords in a row; `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"Too many wrong passwords: try again in {retry_after:.0f} seconds.")
        self.retry_after = retry_after


class Logins:
    """Who is logged in at one server.

    Args:
        keep: file with the secret of links, made by `opened_at` and removed by `close`; None for none.
        password: whether a password is that of the wallet; None where no wallet is.
    """

    def __init__(self, *, keep: Path | None = None, password: Password | None = None) -> None:
        self._secret = secrets.token_bytes(32)
        self._keep, self._password = keep, password
        self._used: dict[str, float] = {}
        self._sessions: dict[bytes, float] = {}
        self._wrong, self._rest_until = 0, 0.0
        self._one_at_a_time = trio.Lock()
        self._url = ""

    def opened_at(self, url: str) -> None:
        """Say where the server is, such as http://127.0.0.1:11535, and let others make links. Raises OSError."""
        self._url = url
        if self._keep:
            self._keep.parent.mkdir(parents=True, exist_ok=True)
            part = self._keep.with_suffix(".part")
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"url": url, "secret": self._secret.hex(), "pid": os.getpid()}, file)
            part.replace(self._keep)

    def close(self) -> None:
        """No more links from this file."""
        if self._keep:
            self._keep.unlink(missing_ok=True)

    def one_time_link(self) -> str:
        """A link that logs one browser in, once, within LINK_SECONDS."""
        return _link(self._url, self._secret)

    def routes(self) -> list[Route]:
        """GET /login?t=..., which sets the cookie, and POST /logout."""
        return [
            Route("/login", self._login, methods=["GET"]),
            Route("/logout", self._logout, methods=["POST"]),
        ]

    def logged_in(self, scope: Scope) -> bool:
        """Whether a request comes from a browser that is logged in, and from a page of this server."""
        digest = self._session(scope)
        return digest is not None and own_origin(scope)

    async def confirm(self, password: str) -> bool:
        """Whether a password is the wallet's. Raises TooManyPasswords."""
        if self._password is None:
            return False
        async with self._one_at_a_time:
            if (rest := self._rest_until - time.monotonic()) > 0:
                raise TooManyPasswords(rest)
            good = await self._password(password)
            self._wrong = 0 if good else self._wrong + 1
            if self._wrong >= WRONG_PASSWORDS:
                self._wrong, self._rest_until = 0, time.monotonic() + PASSWORD_SECONDS
        return good

    async def _login(self, request: Request) -> Response:
        if request.method == "HEAD":  # a preview of the link does not use it up
            return Response()
        token = request.query_params.get("t", "")
        if not self._redeem(token):
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse(
                    "/", status_code=303
                )  # the shell knows whether there is a session, and says so
            return problem(
                401,
                "link_not_valid",
                "This link was used, is too old or of an earlier run: ask the program for another.",
            )
        cookie = secrets.token_urlsafe(32)
        self._remember(cookie)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            _cookie_name(request.scope),
            cookie,
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto") == "https",  # as a proxy says that adds TLS
        )
        return answer

    async def _logout(self, request: Request) -> Response:
        digest = self._session(request.scope)
        if digest is not None and own_origin(request.scope):
            del self._sessions[digest]
        answer = Response(status_code=204)
        answer.delete_cookie(_cookie_name(request.scope), httponly=True, samesite="strict")
        return answer

    def _redeem(self, token: str) -> bool:
        now = time.time()
        self._used = {each: until for each, until in self._used.items() if until > now}
        if not _is_good(token, self._secret, now) or token in self._used:
            return False
        self._used[token] = now + LINK_SECONDS
        return True

    def _remember(self, cookie: str) -> None:
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(cookie)] = time.monotonic() + SESSION_SECONDS

    def _session(self, scope: Scope) -> bytes | None:
        cookie = Request(scope).cookies.get(_cookie_name(scope), "")
        digest = _digest(cookie)
        until = self._sessions.get(digest, 0.0)
        if until > time.monotonic():
            return digest
        self._sessions.pop(digest, None)
        return None


def new_link(keep: Path) -> str:
    """Another link to the server that keeps its secret in this file. Raises NoLink."""
    try:
        told = json.loads(keep.read_text())
        if not psutil.pid_exists(told["pid"]):
            raise ValueError("it runs no more")
        return _link(told["url"], bytes.fromhex(told["secret"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise NoLink(
            f"Nothing that has pages runs from {keep.parent}: start it, or set HC_HOME to its home."
        ) from None


def _link(url: str, secret: bytes) -> str:
    told = f"{int(time.time() + LINK_SECONDS)}.{secrets.token_urlsafe(12)}"
    return f"{URL(url)}/login?t={told}.{_sign(told, secret)}"


def _is_good(token: str, secret: bytes, now: float) -> bool:
    told, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _sign(told, secret).encode()):
        return False
    return now < int(told.partition(".")[0])


def _sign(told: str, secret: bytes) -> str:
    return hmac.new(secret, told.encode(), hashlib.sha256).hexdigest()


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()


def _cookie_name(scope: Scope) -> str:
    server = scope.get("server")
    return f"hc_{server[1] if server else 0}"
