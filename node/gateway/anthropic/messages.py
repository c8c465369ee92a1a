"""/v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from hypercluster.node.gateway.anthropic.asking import read_asked, read_chat, shows_thought
from hypercluster.node.gateway.anthropic.events import Blocks, error_document, reason_of, usage_of
from hypercluster.node.gateway.chunks import Chunk, Done, Ended, Reasoning, Text, ToolCall, Waiting
from hypercluster.node.gateway.live import Live, json_response, new_request_id
from hypercluster.node.gateway.reading import read_body
from hypercluster.node.gateway.sse import MEDIA_TYPE, comment, compact, event
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from hypercluster.node.gateway.errors import ApiError
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.whole import Choice, Whole
    from hypercluster.node.traffic.entries import ModelEntry

PATH = "/v1/messages"


class Messages:
    """A message as it is written: see `live.Flavour`.

    Args:
        thought: whether what the model thinks is shown.
    """

    media_type = MEDIA_TYPE

    def __init__(self, thought: bool = False) -> None:
        self._blocks = Blocks(thought)
        self._thought = thought
        self._message: dict[str, Any] = {}
        self._prompt = 0
        self._begun = False
        self._ended = Ended(0, "stop")
        self._request_id: str | None = None

    def begin(self, request_id: str, entry: ModelEntry, choices: int) -> bytes:
        """Nothing yet: the first event tells how many tokens the prompt has."""
        self._request_id = request_id
        self._message = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": entry.name,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return b""

    def write(self, chunk: Chunk) -> bytes:
        """The events of a chunk."""
        if isinstance(chunk, Waiting):
            self._prompt = chunk.prompt or self._prompt
            return b""
        if isinstance(chunk, Done):
            return self._last(chunk)
        if isinstance(chunk, Ended):
            self._ended = chunk
        begun = self._begin() if isinstance(chunk, Text | Reasoning | ToolCall | Ended) else b""
        return begun + b"".join(self._blocks.write(chunk))

    def wait(self, comment_: str) -> bytes:
        """A ping, or before the message has begun a comment."""
        return event({"type": "ping"}, "ping") if self._begun else comment(comment_)

    def fail(self, error: ApiError) -> bytes:
        """An error inside the stream."""
        return event(error_document(error, self._request_id), "error")

    def whole(self, whole: Whole) -> bytes:
        """The message."""
        choice = whole.choices[0]
        ended = Ended(0, choice.reason, choice.stop)
        return compact(
            {
                **self._message,
                "content": _content(choice, self._thought),
                "stop_reason": reason_of(ended),
                "stop_sequence": choice.stop,
                "usage": usage_of(whole.usage),
                "hypercluster": whole.facts,
            }
        )

    def refuse(self, error: ApiError) -> bytes:
        """An error instead of a message."""
        return compact(error_document(error, self._request_id))

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        self._message["usage"]["input_tokens"] = self._prompt
        return event({"type": "message_start", "message": self._message}, "message_start") + event(
            {"type": "ping"}, "ping"
        )

    def _last(self, done: Done) -> bytes:
        delta = {"stop_reason": reason_of(self._ended), "stop_sequence": self._ended.stop}
        told = {
            "type": "message_delta",
            "delta": delta,
            "usage": usage_of(done.usage),
            "hypercluster": done.facts,
        }
        stop = event({"type": "message_stop"}, "message_stop")
        return self._begin() + b"".join(self._blocks.close()) + event(told, "message_delta") + stop


def _content(choice: Choice, thought: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if choice.reasoning and thought:
        found.append({"type": "thinking", "thinking": choice.reasoning, "signature": ""})
    if choice.text:
        found.append({"type": "text", "text": choice.text})
    for call in choice.calls:
        try:
            given = json.loads(call.arguments)
        except (ValueError, RecursionError):
            given = {}  # cut in the middle, or nested beyond measure
        found.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return found


def routes(gateway: Gateway) -> list[Route]:
    """Of this API."""

    async def messages(request: Request) -> Response | Live:
        visit = await gateway.keyring.admit(request, "messages")
        body = read_body(await request.body())
        return Live(gateway, visit, read_asked(body), Messages(shows_thought(body)))

    async def count(request: Request) -> Response:
        visit = await gateway.keyring.admit(request, "messages")
        body = read_body(await request.body())
        entry = gateway.market.model(body.text("model") or body.missing("model"))
        visit.check(entry)
        chat, _ = read_chat(body)
        model = gateway.market.client(entry.model_id).model
        tokens = await Threads(1)(model.encode, chat)
        return json_response(compact({"input_tokens": len(tokens)}), 200, new_request_id())

    return [
        Route(PATH, messages, methods=["POST"]),
        Route(f"{PATH}/count_tokens", count, methods=["POST"]),
    ]
