"""GET /v1/models and /v1/models/{model}: what can be asked for, with prices, context and coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from hypercluster.market.money.units import format_hct, unit
from hypercluster.node.gateway.asking import DEFAULT
from hypercluster.node.gateway.errors import api_error_of
from hypercluster.node.gateway.live import json_response, new_request_id
from hypercluster.node.gateway.sse import compact
from hypercluster.node.traffic.entries import UnknownModel

if TYPE_CHECKING:
    from starlette.responses import Response

    from hypercluster.node.client.request import Sampling
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.traffic.entries import ModelEntry

PARAMETERS = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_tokens", "max_completion_tokens", "n"),
    *(
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
    ),
    *(
        "response_format",
        "structured_outputs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
    ),
)


def routes(gateway: Gateway) -> list[Route]:
    """The two endpoints."""

    async def models(request: Request) -> Response:
        visit = await gateway.keyring.admit(request, "models", spends=False)
        entries = [entry for entry in gateway.market.models() if visit.allows(entry)]
        document = {"object": "list", "data": [model_document(entry, gateway.started) for entry in entries]}
        return json_response(compact(document), 200, new_request_id())

    async def model(request: Request) -> Response:
        visit = await gateway.keyring.admit(request, "models", spends=False)
        try:
            entry = gateway.market.model(request.path_params["model"])
        except UnknownModel as error:
            raise api_error_of(error) from None
        visit.check(entry)
        return json_response(compact(model_document(entry, gateway.started)), 200, new_request_id())

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{model:path}", model, methods=["GET"]),
    ]


def model_document(entry: ModelEntry, created: float) -> dict[str, Any]:
    """A model as OpenAI lists it, with what OpenRouter adds; "pricing" is HCT per token, over the cheapest path."""
    return {
        "id": entry.name,
        "object": "model",
        "created": int(created),
        "owned_by": "hypercluster",
        "name": entry.name,
        "aliases": list(entry.aliases),
        "context_length": entry.context,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "instruct_type": "template" if entry.has_template else None,
        },
        "pricing": {
            "prompt": _price(entry.prompt_price_wei),
            "completion": _price(entry.price_wei),
            "request": "0",
            "currency": unit().symbol,
            "prompt_wei": _wei(entry.prompt_price_wei),
            "completion_wei": _wei(entry.price_wei),
        },
        "top_provider": {
            "context_length": entry.context,
            "max_completion_tokens": entry.context,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": list(PARAMETERS),
        "default_parameters": _drawn(entry.sampling or DEFAULT),
        "hypercluster": {
            "model_id": entry.model_id,
            "layers": entry.layers,
            "coverage": round(entry.coverage, 4),
            "sessions": entry.sessions,
        },
    }


def _drawn(sampling: Sampling) -> dict[str, float]:
    return {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p")}


def _price(wei: int | None) -> str | None:
    return None if wei is None else format_hct(wei)


def _wei(wei: int | None) -> str | None:
    return None if wei is None else str(wei)
