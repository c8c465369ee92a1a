"""POST /v1/responses, without any memory of earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route

from hypercluster.node.client.request import MOST_LOGPROBS
from hypercluster.node.engine.chat import Chat, Tool
from hypercluster.node.gateway.asking import Asked
from hypercluster.node.gateway.live import Live
from hypercluster.node.gateway.openai.items import Remembered, read_input, refuse_state
from hypercluster.node.gateway.openai.messages import MOST_TOOLS, read_function
from hypercluster.node.gateway.openai.options import (
    MOST,
    read_choice,
    read_cost,
    read_form,
    read_model,
    read_sampling,
    read_stops,
)
from hypercluster.node.gateway.openai.response_events import ResponseFlavour
from hypercluster.node.gateway.preferences import read_preferences
from hypercluster.node.gateway.reading import Fields, read_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hypercluster.node.gateway.gateway import Gateway


def routes(gateway: Gateway) -> list[Route]:
    """The endpoint."""
    remembered = Remembered()

    async def respond(request: Request) -> ASGIApp:
        visit = await gateway.keyring.admit(request, "responses")
        body = read_body(await request.body())
        asked = read_response(body, remembered, visit.caller.key_id)
        flavour = ResponseFlavour(
            asked, body, lambda item, text: remembered.keep(visit.caller.key_id, item, text)
        )
        return Live(gateway, visit, asked, flavour)

    return [Route("/v1/responses", respond, methods=["POST"])]


def read_response(body: Fields, remembered: Remembered, key_id: str | None) -> Asked:
    """What a body asks for; fields that are not known are ignored. Raises ApiError."""
    refuse_state(body)
    messages = read_input(body, remembered, key_id)
    tools, use = read_choice(body, _tools(body))
    text = body.fields("text")
    form = None if text is None else read_form(text.fields("format"))
    if use is not None and form is not None:
        if use.choice != "auto":
            body.refuse("text", "A tool must be called, so the answer has no other form.")
        use = None
    return Asked(
        model=read_model(body),
        prompts=(Chat(messages, tools, _reasoning(body)),),
        prompt_field="input",
        tokens=body.whole("max_output_tokens", 1, MOST),
        cost_wei=read_cost(body),
        sampling=read_sampling(body),
        stop=read_stops(body),
        logprobs=_logprobs(body),
        format=use or form,
        preferences=read_preferences(body),
        stream=body.flag("stream") is True,
    )


def _tools(body: Fields) -> tuple[Tool, ...]:
    found = []
    for each in body.each("tools", MOST_TOOLS):
        if (kind := each.text("type")) != "function":
            each.refuse(
                "type",
                f"{each.name('type')} is {(kind or 'missing')[:40]!r}: only functions can be called here.",
            )
        found.append(read_function(each))
    if len({tool.name for tool in found}) < len(found):
        body.refuse("tools", "Two tools have one name.")
    return tuple(found)


def _reasoning(body: Fields) -> bool | None:
    reasoning = body.fields("reasoning")
    effort = None if reasoning is None else reasoning.text("effort")
    return None if effort is None else effort not in ("none", "minimal")


def _logprobs(body: Fields) -> int | None:
    top = body.whole("top_logprobs", 0, MOST_LOGPROBS)
    wanted = "message.output_text.logprobs" in body.texts("include", 64)
    return (top or 0) if wanted or top else None
