"""OpenAI's API: models, chat completions, completions and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercluster.node.gateway.openai import chat, completions, models, responses

if TYPE_CHECKING:
    from starlette.routing import Route

    from hypercluster.node.gateway.gateway import Gateway


def routes(gateway: Gateway) -> list[Route]:
    """Everything under /v1 that OpenAI's SDKs call."""
    return [
        *models.routes(gateway),
        *chat.routes(gateway),
        *completions.routes(gateway),
        *responses.routes(gateway),
    ]
