"""Who may ask: a page of somebody else must neither read what is here nor spend from it, even under our address.

Browsers let any page send requests to any address, and add the reader's cookies. So a request is refused unless its
Host is a name of ours (a name that was pointed here by DNS rebinding is not), its Origin, where it has one, is our
own, and a body calls itself JSON, which no form can. Bodies are bounded in size and time and read before the
application sees them.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hypercluster.node.web.answers import problem

log = logging.getLogger(__name__)

MOST_BODY = 8 * 2**20
BODIES_AT_ONCE = 64 * 2**20
"""bytes of all bodies that are being read"""
BODY_SECONDS = 30.0
DRAIN_SECONDS = 3.0
"""a refused body is thrown away for so long, so that its sender reads the refusal"""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WITH_BODY = ("POST", "PUT", "PATCH")
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""on every answer that does not say otherwise itself"""


def guarded(
    app: ASGIApp,
    *,
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
    secret_paths: Iterable[str] = (),
    most_body: int = MOST_BODY,
    body_seconds: float = BODY_SECONDS,
) -> ASGIApp:
    """`app` behind the checks; what they refuse never reaches it.

    Args:
        hosts: names that this server goes by beside localhost and addresses in digits, which no DNS can point here.
        origins: of pages elsewhere that may use it with an API key of their own, such as https://chat.example.
        secret_paths: beginnings of paths that go on with a secret; a page that does not know it sends nothing there,
            so bodies need not call themselves JSON.
        most_body: bytes of a request's body.
        body_seconds: until all of a body must be here.
    """
    return Guard(
        app,
        frozenset(each.lower().rstrip(".") for each in hosts),
        frozenset(each.lower() for each in origins),
        tuple(secret_paths),
        most_body=most_body,
        body_seconds=body_seconds,
    )


def own_origin(scope: Scope) -> bool:
    """Whether a request that the guard let through comes from a page of this server, or from no page at all.

    Only then does a cookie count: the pages of `origins` have keys.
    """
    headers = Headers(scope=scope)
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    return (origin is None or _is_own(origin, headers.get("host", ""))) and site in (
        None,
        "same-origin",
        "none",
    )


@dataclass
class _Refusal(Exception):
    status: int
    code: str
    message: str


class Guard:
    """The checks as ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        origins: frozenset[str],
        secret_paths: tuple[str, ...],
        *,
        most_body: int,
        body_seconds: float,
    ) -> None:
        self._app, self._hosts, self._origins, self._secret = app, hosts, origins, secret_paths
        self._most_body, self._body_seconds = most_body, body_seconds
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        listed = origin is not None and origin.lower() in self._origins
        send = partial(_send_safely, send, origin if listed else None)
        try:
            self._check(scope, headers, listed)
            if scope["method"] == "OPTIONS" and listed:
                await _preflight(headers)(scope, receive, send)
                return
            if scope["method"] in WITH_BODY or _has_body(headers):
                receive = await self._body(headers, receive)
        except _Refusal as refusal:
            log.info("%s %s refused: %s", scope["method"], self._shown(scope["path"]), refusal.message)
            answer = problem(refusal.status, refusal.code, refusal.message, {"connection": "close"})
            coming = _has_body(headers) and refusal.status != 408
            await answer(scope, receive, partial(_send_then_drain, send, receive, coming))
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers, listed: bool) -> None:
        if not scope["http_version"].startswith("1."):
            raise _Refusal(505, "http_version", "Only HTTP/1.1 is spoken here.")
        if scope["method"] not in METHODS:
            raise _Refusal(405, "method_not_allowed", "No such method is served here.")
        if not scope["path"].startswith("/") or any(
            ord(each) < 32 or each == "\x7f" for each in scope["path"]
        ):
            raise _Refusal(400, "bad_path", "The path is none.")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(hosts[0]):
            raise _Refusal(
                421,
                "host_not_allowed",
                "This server does not go by the name that was asked for: use its address or localhost, "
                "or name the host with --allow-host.",
            )
        if len(headers.getlist("origin")) > 1:
            raise _Refusal(400, "bad_origin", "There is more than one Origin.")
        own = _is_own(headers["origin"], hosts[0]) if "origin" in headers else _no_page(scope, headers)
        if not (own or listed):
            raise _Refusal(
                403,
                "origin_not_allowed",
                "Pages of other sites may not use this server: name the page's origin with --allow-origin.",
            )
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        typed = kind == "application/json" or scope["path"].startswith(self._secret)
        if scope["method"] in WITH_BODY and not typed:
            raise _Refusal(
                415, "json_required", "A body is JSON here: send it with Content-Type: application/json."
            )
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _Refusal(415, "encoding_not_supported", "A body is not compressed here.")

    def _shown(self, path: str) -> str:
        """A path as a log has it: in one line, and without its secret."""
        return repr(next((each + "..." for each in self._secret if path.startswith(each)), path))

    def _known(self, host: str) -> bool:
        name = _name(host)
        if name is None:
            return False
        if name == "localhost" or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    async def _body(self, headers: Headers, receive: Receive) -> Receive:
        told = headers.get("content-length", "0")
        if int(told) > self._most_body:  # digits: h11 has seen to it
            raise self._too_long()
        parts: list[bytes] = []
        held = 0
        try:
            with trio.fail_after(self._body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return partial(_replay, [message], receive)
                    part = message.get("body", b"")
                    held += len(part)
                    self._reading += len(part)
                    if held > self._most_body:
                        raise self._too_long()
                    if self._reading > BODIES_AT_ONCE:
                        raise _Refusal(503, "busy", "Too much is being sent at once: try again.")
                    parts.append(part)
                    more = message.get("more_body", False)
        except trio.TooSlowError:
            raise _Refusal(
                408, "body_too_slow", f"The body was not all here after {self._body_seconds:g} seconds."
            ) from None
        finally:
            self._reading -= held
        whole: Message = {"type": "http.request", "body": b"".join(parts), "more_body": False}
        return partial(_replay, [whole], receive)

    def _too_long(self) -> _Refusal:
        return _Refusal(413, "body_too_long", f"A body has at most {self._most_body} bytes here.")


def _name(host: str) -> str | None:
    """The name in a Host header, lower case, without port and brackets; None if it is none."""
    name, port = host.strip().lower(), ""
    if name.startswith("["):
        name, bracket, rest = name[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in name:
            return None
        port = rest[1:]
    elif ":" in name:
        name, _, port = name.partition(":")
    if not name or (port and not (port.isascii() and port.isdigit())):
        return None
    return name.rstrip(".")


def _is_own(origin: str, host: str) -> bool:
    """Whether a page is of this server; behind a proxy that adds TLS its scheme is https."""
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _no_page(scope: Scope, headers: Headers) -> bool:
    """A request without Origin: not made by a page of another site, except by following a link to a page of ours."""
    if headers.get("sec-fetch-site") in (None, "same-origin", "none"):
        return True
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return followed and scope["method"] in ("GET", "HEAD")


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _replay(first: list[Message], rest: Receive) -> Message:
    return first.pop() if first else await rest()


def _preflight(headers: Headers) -> Response:
    answer = Response(status_code=204)
    answer.headers["access-control-allow-methods"] = ", ".join(METHODS)
    answer.headers["access-control-allow-headers"] = headers.get("access-control-request-headers", "")
    answer.headers["access-control-max-age"] = "600"
    if "access-control-request-private-network" in headers:
        answer.headers["access-control-allow-private-network"] = "true"
    return answer


async def _send_safely(send: Send, origin: str | None, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = MutableHeaders(raw=message.setdefault("headers", []))
        for name, value in SAFE_HEADERS.items():
            headers.setdefault(name, value)
        headers.add_vary_header("Origin")
        if origin is not None:
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = "x-request-id, retry-after"
    await send(message)


async def _send_then_drain(send: Send, receive: Receive, body: bool, message: Message) -> None:
    if message["type"] == "http.response.body" and body:
        await send({**message, "more_body": True})
        with trio.move_on_after(DRAIN_SECONDS):
            while _more(await receive()):
                pass
        message = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(message)


def _more(message: dict[str, Any] | Message) -> bool:
    return message["type"] == "http.request" and bool(message.get("more_body", False))
