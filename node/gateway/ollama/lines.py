"""An answer as Ollama writes it: a line of JSON for each piece, and a last one that counts; or all in one object."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypercluster.node.gateway.chunks import Done, Ended, Reasoning, Text, ToolCall
from hypercluster.node.gateway.openai.usage import cost
from hypercluster.node.gateway.sse import compact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypercluster.node.gateway.chunks import Chunk
    from hypercluster.node.gateway.whole import Whole

MEDIA_TYPE = "application/x-ndjson"
NS = 10**9


class Lines:
    """One answer.

    Args:
        model: as the caller called it.
        generate: an answer of /api/generate, not of /api/chat.
        thought: whether what the model thinks is told.
    """

    def __init__(self, model: str, *, generate: bool, thought: bool) -> None:
        self._model, self._generate, self._thought = model, generate, thought
        self._began = time.monotonic()
        self._first: float | None = None
        self._call: tuple[int, str] | None = None
        self._arguments = ""
        self._reason = "stop"

    def write(self, chunk: Chunk) -> list[dict[str, Any]]:
        """The objects of one more chunk."""
        if self._first is None and isinstance(chunk, Text | Reasoning | ToolCall | Ended):
            self._first = time.monotonic()
        match chunk:
            case Text(text=text) if text:
                return [*self._called(), self._piece("content", text)]
            case Reasoning(text=text) if text and self._thought:
                return [self._piece("thinking", text)]
            case ToolCall():
                told = self._called() if self._call is None or self._call[0] != chunk.call else []
                self._call = self._call or (chunk.call, chunk.name)
                self._arguments += chunk.arguments
                return told
            case Ended():
                self._reason = "length" if chunk.reason == "length" else "stop"
                return self._called()
            case Done():
                return [self._last(chunk)]
        return []

    def whole(self, whole: Whole) -> dict[str, Any]:
        """All of it in one object."""
        choice = whole.choices[0]
        self._first = whole.first
        self._reason = "length" if choice.reason == "length" else "stop"
        calls = [_call(index, call.name, call.arguments) for index, call in enumerate(choice.calls)]
        said = {"content": choice.text, **({"thinking": choice.reasoning} if self._thought else {})}
        return {**self._last(Done(whole.usage, whole.facts)), **self._message(said, calls)}

    def loaded(self, reason: str) -> dict[str, Any]:
        """The answer to a call that says nothing, with which Ollama's clients load a model, or unload it."""
        return {**self._head(), **self._message({"content": ""}), "done": True, "done_reason": reason}

    def _head(self) -> dict[str, Any]:
        return {"model": self._model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}

    def _message(self, said: Mapping[str, str], calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        thinking = {"thinking": said["thinking"]} if said.get("thinking") else {}
        if self._generate:
            return {"response": said.get("content", ""), **thinking}
        message: dict[str, Any] = {"role": "assistant", "content": said.get("content", ""), **thinking}
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _piece(self, name: str, text: str) -> dict[str, Any]:
        return {**self._head(), **self._message({name: text}), "done": False}

    def _called(self) -> list[dict[str, Any]]:
        """The call that is whole now: this API has no half ones."""
        if self._call is None:
            return []
        call = _call(*self._call, self._arguments)
        self._call, self._arguments = None, ""
        return [{**self._head(), **self._message({"content": ""}, [call]), "done": False}]

    def _last(self, done: Done) -> dict[str, Any]:
        now = time.monotonic()
        first = self._first or now
        usage = done.usage
        return {
            **self._head(),
            **self._message({"content": ""}),
            "done": True,
            "done_reason": self._reason,
            "total_duration": int((now - self._began) * NS),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt,
            "prompt_eval_duration": int((first - self._began) * NS),
            "eval_count": usage.generated,
            "eval_duration": int((now - first) * NS),
            **cost(usage),
            "hypercluster": done.facts,
        }


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        given = {}  # cut in the middle, or nested beyond measure
    return {"function": {"index": index, "name": name, "arguments": given}}


def line(document: Mapping[str, Any]) -> bytes:
    """One line of a stream."""
    return compact(document) + b"\n"
