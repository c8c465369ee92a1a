"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from hypercluster.node.engine.chat import Chat
from hypercluster.node.gateway import sse
from hypercluster.node.gateway.asking import MOST_CHOICES, Asked
from hypercluster.node.gateway.chunks import Chunk, Done, Ended, PathKnown, Reasoning, Text, ToolCall
from hypercluster.node.gateway.live import Live
from hypercluster.node.gateway.openai.errors import error_document
from hypercluster.node.gateway.openai.messages import read_messages, read_tools
from hypercluster.node.gateway.openai.options import (
    read_choice,
    read_cost,
    read_form,
    read_logprobs,
    read_model,
    read_reasoning,
    read_sampling,
    read_stops,
    read_stream,
    read_tokens,
)
from hypercluster.node.gateway.openai.probabilities import chat_logprobs
from hypercluster.node.gateway.openai.usage import usage_document
from hypercluster.node.gateway.preferences import read_preferences
from hypercluster.node.gateway.reading import Fields, read_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hypercluster.node.client.events import Token
    from hypercluster.node.gateway.errors import ApiError
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.whole import Choice, Whole
    from hypercluster.node.traffic.entries import ModelEntry


def routes(gateway: Gateway) -> list[Route]:
    """The endpoint."""

    async def chat(request: Request) -> ASGIApp:
        visit = await gateway.keyring.admit(request, "chat")
        asked = read_chat(read_body(await request.body()))
        return Live(gateway, visit, asked, ChatFlavour(asked))

    return [Route("/v1/chat/completions", chat, methods=["POST"])]


def read_chat(body: Fields) -> Asked:
    """What a body asks for; fields that are not known are ignored. Raises ApiError."""
    for name in ("functions", "function_call"):
        if body.has(name):
            body.refuse(name, f"{name} is the old way to send tools: send tools and tool_choice.")
    if body.has("audio") or "audio" in body.texts("modalities", 8):
        body.refuse("modalities", "Models here write text only.")
    messages = read_messages(body)
    tools, use = read_choice(body, read_tools(body))
    form = read_form(body.fields("response_format"))
    if use is not None and form is not None:
        if use.choice != "auto":
            body.refuse("response_format", "A tool must be called, so the answer has no other form.")
        use = None  # the form decides; tools stay known to the model
    stream, usage = read_stream(body)
    return Asked(
        model=read_model(body),
        prompts=(Chat(messages, tools, read_reasoning(body)),),
        tokens=read_tokens(body),
        cost_wei=read_cost(body),
        sampling=read_sampling(body),
        stop=read_stops(body),
        n=body.whole("n", 1, MOST_CHOICES) or 1,
        logprobs=read_logprobs(body),
        format=use or form,
        preferences=read_preferences(body),
        stream=stream,
        usage=usage,
    )


class ChatFlavour:
    """Chunks as chat.completion.chunk, and the whole as chat.completion."""

    media_type = sse.MEDIA_TYPE

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._common: dict[str, Any] = {}
        self._path: list[dict[str, Any]] | None = None
        self._ended: list[list[dict[str, Any]]] = []
        """last deltas, held back until it is known whether the facts go with one of them"""

    def begin(self, request_id: str, entry: ModelEntry, choices: int) -> bytes:
        """The role of each choice, without which OpenAI's npm package throws."""
        self._common = {
            "id": f"chatcmpl-{request_id}",
            "created": int(time.time()),
            "model": entry.name,
            "system_fingerprint": f"hc-{entry.model_id[:16]}",
        }
        return b"".join(self._delta(index, {"role": "assistant", "content": ""}) for index in range(choices))

    def write(self, chunk: Chunk) -> bytes:
        """The chunk as a delta."""
        match chunk:
            case PathKnown():
                self._path = chunk.path
            case Text():
                return self._delta(chunk.index, {"content": chunk.text}, tokens=chunk.tokens)
            case Reasoning():
                return self._delta(chunk.index, {"reasoning_content": chunk.text}, tokens=chunk.tokens)
            case ToolCall():
                return self._delta(chunk.index, {"tool_calls": [_piece(chunk)]}, tokens=chunk.tokens)
            case Ended():
                self._ended.append([self._choice_delta(chunk.index, {}, chunk.reason, chunk.tokens)])
            case Done():
                usage = {"usage": usage_document(chunk.usage)} if self._asked.usage else {}
                choices = [] if self._asked.usage else self._ended.pop()
                return self._flush() + self._event(choices, **usage, hypercluster=chunk.facts) + sse.DONE
        return b""

    def wait(self, comment: str) -> bytes:
        """A comment."""
        return sse.comment(comment)

    def fail(self, error: ApiError) -> bytes:
        """The error as an event, which the SDKs raise."""
        return self._flush() + sse.event(error_document(error)) + sse.DONE

    def whole(self, whole: Whole) -> bytes:
        """A chat.completion."""
        return sse.compact(
            {
                **self._common,
                "object": "chat.completion",
                "choices": [self._choice(index, choice) for index, choice in enumerate(whole.choices)],
                "usage": usage_document(whole.usage),
                "hypercluster": whole.facts,
            }
        )

    def refuse(self, error: ApiError) -> bytes:
        """The error."""
        return sse.compact(error_document(error))

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": choice.text if choice.text or not choice.calls else None,
            "refusal": None,
        }
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.calls
            ]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(tuple(choice.tokens)),
            "finish_reason": choice.reason,
        }

    def _flush(self) -> bytes:
        ended, self._ended = self._ended, []
        return b"".join(self._event(choices) for choices in ended)

    def _delta(self, index: int, delta: dict[str, Any], tokens: tuple[Token, ...] = ()) -> bytes:
        return self._event([self._choice_delta(index, delta, None, tokens)])

    def _choice_delta(
        self, index: int, delta: dict[str, Any], reason: str | None, tokens: tuple[Token, ...]
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": self._logprobs(tokens), "finish_reason": reason}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        if self._path is not None and not more:
            more, self._path = {"hypercluster": {"path": self._path}}, None
        if self._asked.usage and "usage" not in more:
            more["usage"] = None
        return sse.event({**self._common, "object": "chat.completion.chunk", "choices": choices, **more})

    def _logprobs(self, tokens: tuple[Token, ...]) -> dict[str, Any] | None:
        if self._asked.logprobs is None or not tokens:
            return None
        return chat_logprobs(tokens)


def _piece(chunk: ToolCall) -> dict[str, Any]:
    piece: dict[str, Any] = {"index": chunk.call, "function": {"arguments": chunk.arguments}}
    if chunk.id:
        piece |= {"id": chunk.id, "type": "function"}
        piece["function"] = {"name": chunk.name, "arguments": chunk.arguments}
    return piece
