"""All of the gateway's APIs and pages as one ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from hypercluster.node.gateway import openai, pages
from hypercluster.node.gateway.anthropic import events as anthropic
from hypercluster.node.gateway.anthropic import messages
from hypercluster.node.gateway.errors import ApiError, api_error_of
from hypercluster.node.gateway.live import json_response, new_request_id
from hypercluster.node.gateway.ollama import api as ollama
from hypercluster.node.gateway.openai.errors import error_document
from hypercluster.node.gateway.sse import compact
from hypercluster.node.web.health import health
from hypercluster.node.web.metrics import metrics_route
from hypercluster.node.web.static import site

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.sights import Sights

log = logging.getLogger(__name__)

DOCUMENTS: tuple[tuple[str, Callable[[ApiError], dict[str, Any]]], ...] = (
    (messages.PATH, anthropic.error_document),
    ("/api/", ollama.error_document),
    (ollama.SECRET_PATHS[0], ollama.error_document),
)
"""beginnings of paths, and how errors are written below them; everywhere else as OpenAI has them"""


def application(gateway: Gateway, sights: Sights) -> ASGIApp:
    """Everything that the gateway answers, without the guard in front of it (node.web.guard).

    Probes need no key, and metrics none from this machine.
    """
    return Starlette(
        routes=[
            *openai.routes(gateway),
            *messages.routes(gateway),
            *ollama.routes(gateway),
            *pages.routes(gateway),
            *site(),
            *health(sights.checks()),
            _metrics(gateway),
            *gateway.logins.routes(),
        ],
        exception_handlers=dict.fromkeys(
            (ApiError, NodeError, MarketError, HTTPException, Exception), _refuse
        ),
    )


def _metrics(gateway: Gateway) -> Route:
    """GET /metrics, which tell the names of keys and what was spent: from other machines with a key."""
    told = metrics_route(gateway.metrics.registry)

    async def metrics(request: Request) -> ASGIApp:
        here = request.client is not None and ip_address(request.client.host).is_loopback
        # A proxy is on this machine, too; whoever asks through it need not be.
        passed_on = any(name == "forwarded" or name.startswith("x-forwarded-") for name in request.headers)
        if passed_on or not here:
            await gateway.keyring.admit(request, "metrics", spends=False)
        return told.app

    return Route("/metrics", metrics, methods=["GET"])


async def _refuse(request: Request, error: Exception) -> Response:
    """An error that an endpoint raised, in the words of the API that was called."""
    known = _of_starlette(error) if isinstance(error, HTTPException) else api_error_of(error)
    path = request.url.path
    document = next((written for begin, written in DOCUMENTS if path.startswith(begin)), error_document)
    return json_response(compact(document(known)), known.status, new_request_id(), known.headers)


def _of_starlette(error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ApiError(
            404,
            "unknown_url",
            "Nothing is served at this path: OpenAI's API is under /v1, without embeddings, images and audio, "
            "Anthropic's is /v1/messages, Ollama's is under /api.",
        )
    if error.status_code == 405:
        return ApiError(405, "method_not_allowed", "This path does not take that method.")
    return ApiError(error.status_code, "refused", str(error.detail))
