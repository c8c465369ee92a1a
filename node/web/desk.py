"""The listener of a node: pages and JSON for whoever opened its link, health and metrics for probes."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hypercluster.market.errors import MarketError
from hypercluster.node.web.answers import problem
from hypercluster.node.web.guard import guarded
from hypercluster.node.web.health import Check, found_by, health
from hypercluster.node.web.login import Logins
from hypercluster.node.web.metrics import ProcessMetrics, metrics_route
from hypercluster.node.web.serving import host_and_port, serve
from hypercluster.node.web.static import site

log = logging.getLogger(__name__)

Ask = Callable[[Request], Awaitable[Mapping[str, Any]]]
"""makes the JSON of one path; raises BadQuery for what a query may not say"""


class BadQuery(Exception):
    """What a query asks for is not served; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a node shows, and to whom.

    Attributes:
        documents: JSON by path; only for who is logged in.
        checks: what must be there for the node to be of use.
        hosts: names that it goes by beside localhost and addresses.
        link_file: where the secret of its links is kept for a command beside it.
    """

    documents: Mapping[str, Ask]
    checks: Sequence[Check]
    registry: CollectorRegistry
    hosts: Sequence[str] = ()
    link_file: Path | None = None


@asynccontextmanager
async def open_desk(desk: Desk, binds: Sequence[str]) -> AsyncIterator[str]:
    """Serve it at every HOST:PORT of `binds` until the end of the block; yields a one-time link to its pages.

    Raises:
        CannotServe: an address is taken or none. PageMissing: the installation has no pages.
    """
    logins = Logins(keep=desk.link_file)
    routes = [
        *site(),
        *logins.routes(),
        *health(desk.checks),
        metrics_route(desk.registry),
        *(Route(path, _behind(logins, ask), methods=["GET"]) for path, ask in desk.documents.items()),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unknown})
    try:
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(partial(serve, guarded(app, hosts=desk.hosts), binds))
            logins.opened_at(urls[0])
            yield logins.one_time_link()
            nursery.cancel_scope.cancel()
    finally:
        logins.close()


async def first_look(
    look: Callable[[], Awaitable[None]], checks: Sequence[Check], metrics: ProcessMetrics
) -> Callable[[], Awaitable[None]]:
    """Have the figures of a node read, and whether it is ready; returns what does it again, every now and then.

    A chain or a ledger that fails at first is logged.
    """

    async def again() -> None:
        await look()
        metrics.ready.set(not any((await found_by(checks)).values()))

    try:
        await again()
    except MarketError as error:
        log.warning("the figures for the pages cannot be read yet: %s", error)
    return again


def is_loopback(bind: str) -> bool:
    """Whether only this machine reaches HOST:PORT. Raises CannotServe."""
    host, _ = host_and_port(bind)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises BadQuery."""
    text = request.query_params.get(name, str(default))
    plain = text.isascii() and text.isdigit() and len(text) < 20
    if not plain or not least <= int(text) <= most:
        raise BadQuery(f"{name} is no whole number from {least} to {most}.")
    return int(text)


def _behind(logins: Logins, ask: Ask) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if not logins.logged_in(request.scope):
            return problem(
                401, "login_required", "Open the link that the program printed, or ask it for another."
            )
        try:
            return JSONResponse(await ask(request))
        except BadQuery as error:
            return problem(400, "bad_query", str(error))

    return answer


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem(
        status, "not_found" if status == 404 else "refused", "Nothing is served at this path so.", headers
    )
