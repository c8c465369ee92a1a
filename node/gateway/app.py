"""All of the gateway's APIs and pages as one ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hypercluster.node.gateway import openai, pages
from hypercluster.node.gateway.anthropic import events as anthropic
from hypercluster.node.gateway.anthropic import messages
from hypercluster.node.gateway.errors import ApiError, api_error_of
from hypercluster.node.gateway.live import json_response, new_request_id
from hypercluster.node.gateway.ollama import api as ollama
from hypercluster.node.gateway.openai.errors import error_document
from hypercluster.node.gateway.sse import compact
from hypercluster.node.web.static import site

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hypercluster.node.gateway.gateway import Gateway

log = logging.getLogger(__name__)

DOCUMENTS: tuple[tuple[str, Callable[[ApiError], dict[str, Any]]], ...] = (
    (messages.PATH, anthropic.error_document),
    ("/api/", ollama.error_document),
    (ollama.SECRET_PATHS[0], ollama.error_document),
)
"""beginnings of paths, and how errors are written below them; everywhere else as OpenAI has them"""


def application(gateway: Gateway) -> ASGIApp:
    """Everything that the gateway answers, without the guard in front of it (node.web.guard)."""
    return Starlette(
        routes=[
            *openai.routes(gateway),
            *messages.routes(gateway),
            *ollama.routes(gateway),
            *pages.routes(gateway),
            *site(),
            *gateway.logins.routes(),
        ],
        exception_handlers={ApiError: _refuse, HTTPException: _refuse, Exception: _refuse},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    """An error that an endpoint raised, in the words of the API that was called."""
    known = _of_starlette(error) if isinstance(error, HTTPException) else api_error_of(error)
    path = request.url.path
    document = next((written for begin, written in DOCUMENTS if path.startswith(begin)), error_document)
    return json_response(compact(document(known)), known.status, new_request_id(), known.headers)


def _of_starlette(error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ApiError(
            404, "unknown_url", "Nothing is served at this path: see docs/gateway.md for what is."
        )
    if error.status_code == 405:
        return ApiError(405, "method_not_allowed", "This path does not take that method.")
    return ApiError(error.status_code, "refused", str(error.detail))
