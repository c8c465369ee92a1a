"""An answer as Anthropic's API writes it: one message in blocks, or the events that build it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypercluster.node.gateway.chunks import Ended, Reasoning, Text, ToolCall
from hypercluster.node.gateway.openai.usage import cost
from hypercluster.node.gateway.sse import event

if TYPE_CHECKING:
    from hypercluster.node.gateway.chunks import Chunk, Usage
    from hypercluster.node.gateway.errors import ApiError

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
REASONS = {"length": "max_tokens", "tool_calls": "tool_use"}


def error_document(error: ApiError, request_id: str | None = None) -> dict[str, Any]:
    """An error in the API's form; its code, which Anthropic does not have, stands beside the message."""
    kind = TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    told = {"type": kind, "message": str(error), "code": error.code}
    return {"type": "error", "error": told, "request_id": request_id}


def reason_of(ended: Ended) -> str:
    """Why a message ended."""
    if ended.reason == "stop":
        return "end_turn" if ended.stop is None else "stop_sequence"
    return REASONS[ended.reason]


def usage_of(usage: Usage) -> dict[str, Any]:
    """What it took; tokens that a session held already are counted apart, as Anthropic does. Costs are in HCT."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.generated,
        **cost(usage),
    }


class Blocks:
    """The blocks of a message while it comes, with the events that tell of them.

    Args:
        thought: whether what the model thinks is shown.
    """

    def __init__(self, thought: bool) -> None:
        self._thought = thought
        self._index = -1
        self._open = ""
        self._call = -1

    def write(self, chunk: Chunk) -> list[bytes]:
        """The events of one more chunk."""
        match chunk:
            case Text(text=text) if text:
                return [
                    *self._in("text", {"type": "text", "text": ""}),
                    self._delta({"type": "text_delta", "text": text}),
                ]
            case Reasoning(text=text) if text and self._thought:
                block = {"type": "thinking", "thinking": "", "signature": ""}
                return [
                    *self._in("thinking", block),
                    self._delta({"type": "thinking_delta", "thinking": text}),
                ]
            case ToolCall():
                return self._tool(chunk)
            case Ended():
                return self.close()
        return []

    def close(self) -> list[bytes]:
        """End the block that is open."""
        if not self._open:
            return []
        events = []
        if self._open == "thinking":
            events.append(self._delta({"type": "signature_delta", "signature": ""}))
        self._open, self._call = "", -1
        return [*events, event({"type": "content_block_stop", "index": self._index}, "content_block_stop")]

    def _tool(self, chunk: ToolCall) -> list[bytes]:
        events = []
        if chunk.call != self._call:
            events = self.close()
            block = {"type": "tool_use", "id": chunk.id, "name": chunk.name, "input": {}}
            events += self._in("tool_use", block)
            self._call = chunk.call
        if chunk.arguments:
            events.append(self._delta({"type": "input_json_delta", "partial_json": chunk.arguments}))
        return events

    def _in(self, kind: str, block: dict[str, Any]) -> list[bytes]:
        """Be in a block of this kind, with a new one unless that is open."""
        if self._open == kind and kind != "tool_use":
            return []
        events = self.close()
        self._index += 1
        self._open = kind
        told = {"type": "content_block_start", "index": self._index, "content_block": block}
        return [*events, event(told, "content_block_start")]

    def _delta(self, delta: dict[str, str]) -> bytes:
        told = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return event(told, "content_block_delta")
