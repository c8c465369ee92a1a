"""A response of /v1/responses, whole or as the events that its helpers put together again, in their order."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypercluster.node.gateway import sse
from hypercluster.node.gateway.chunks import Chunk, Done, Ended, Reasoning, Text, ToolCall
from hypercluster.node.gateway.openai.errors import error_document
from hypercluster.node.gateway.openai.items import tool_document
from hypercluster.node.gateway.openai.probabilities import chat_logprobs
from hypercluster.node.gateway.openai.response_items import Item
from hypercluster.node.gateway.openai.usage import cost

if TYPE_CHECKING:
    from hypercluster.node.client.events import Token
    from hypercluster.node.gateway.asking import Asked
    from hypercluster.node.gateway.chunks import Usage
    from hypercluster.node.gateway.errors import ApiError
    from hypercluster.node.gateway.reading import Fields
    from hypercluster.node.gateway.whole import Whole
    from hypercluster.node.traffic.entries import ModelEntry

Keep = Callable[[str, str], None]


class ResponseFlavour:
    """Writes one response; `keep` is told what its messages said, by their ids."""

    media_type = sse.MEDIA_TYPE

    def __init__(self, asked: Asked, body: Fields, keep: Keep) -> None:
        self._asked, self._body, self._keep = asked, body, keep
        self._frame: dict[str, Any] = {}
        self._done: list[dict[str, Any]] = []
        self._open: Item | None = None
        self._number = 0
        self._cut = False
        self._id = ""

    def begin(self, request_id: str, entry: ModelEntry, choices: int) -> bytes:
        """The response as it begins, twice, as OpenAI has it."""
        self._id = request_id
        self._frame = self._echoed(entry)
        begun = self._response("in_progress")
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def write(self, chunk: Chunk) -> bytes:
        """The events that a chunk makes."""
        match chunk:
            case Text() if chunk.text or chunk.tokens:
                return self._turn_to("message") + self._grow(chunk.text, chunk.tokens)
            case Reasoning() if chunk.text:
                return self._turn_to("reasoning") + self._grow(chunk.text)
            case ToolCall():
                return self._turn_to("function_call", chunk) + self._grow(chunk.arguments)
            case Ended():
                self._cut = chunk.reason == "length"
                return self._close(self._status())
            case Done():
                done = self._response(self._status(), chunk.usage, chunk.facts)
                return self._event(f"response.{self._status()}", response=done)
        return b""

    def wait(self, comment: str) -> bytes:
        """A comment."""
        return sse.comment(comment)

    def fail(self, error: ApiError) -> bytes:
        """The response as failed, then the error in the form in which every SDK raises it."""
        failed = self._response("failed") | {"error": {"code": error.code, "message": str(error)}}
        told = error_document(error)
        flat = {"code": error.code, "message": str(error), "param": error.param}
        return self._event("response.failed", response=failed) + self._event("error", **told, **flat)

    def whole(self, whole: Whole) -> bytes:
        """The response."""
        (choice,) = whole.choices
        self._cut = choice.reason == "length"
        if choice.reasoning:
            self._done.append(Item("reasoning", self._item_id("rs"), text=choice.reasoning).document(""))
        if choice.text or not choice.calls:
            logprobs = self._logprobs(tuple(choice.tokens))
            message = Item("message", self._item_id("msg"), text=choice.text, logprobs=logprobs)
            self._keep(message.id, message.text)
            self._done.append(message.document(self._status()))
        for call in choice.calls:
            item = Item("function_call", self._item_id("fc"), -1, call.id, call.name, call.arguments)
            self._done.append(item.document("completed"))
        return sse.compact(self._response(self._status(), whole.usage, whole.facts))

    def refuse(self, error: ApiError) -> bytes:
        """The error."""
        return sse.compact(error_document(error))

    # --- items ----------------------------------------------------------------------------------------------------

    def _turn_to(self, kind: str, chunk: ToolCall | None = None) -> bytes:
        """Have an item of a kind open: the one that is, or a new one after it."""
        call = -1 if chunk is None else chunk.call
        if self._open is not None and (self._open.kind, self._open.call) == (kind, call):
            return b""
        told = self._close("completed")
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        self._open = item = Item(kind, self._item_id(prefix), call)
        if chunk is not None:
            item.call_id, item.name = chunk.id, chunk.name
        told += self._event("response.output_item.added", **self._at(), item=item.document("in_progress"))
        if kind == "message":
            told += self._event(
                "response.content_part.added", **self._at(item), content_index=0, part=item.part()
            )
        elif kind == "reasoning":
            told += self._event(
                "response.reasoning_summary_part.added", **self._at(item), summary_index=0, part=item.part()
            )
        return told

    def _grow(self, text: str, tokens: tuple[Token, ...] = ()) -> bytes:
        item = self._open
        assert item is not None
        item.text += text
        if item.kind == "function_call":
            if not text:
                return b""
            return self._event("response.function_call_arguments.delta", **self._at(item), delta=text)
        if item.kind == "reasoning":
            return self._event(
                "response.reasoning_summary_text.delta", **self._at(item), summary_index=0, delta=text
            )
        logprobs = self._logprobs(tokens)
        item.logprobs += logprobs
        return self._event(
            "response.output_text.delta", **self._at(item), content_index=0, delta=text, logprobs=logprobs
        )

    def _close(self, status: str) -> bytes:
        item = self._open
        if item is None:
            return b""
        told = b""
        if item.kind == "function_call":
            told += self._event(
                "response.function_call_arguments.done", **self._at(item), name=item.name, arguments=item.text
            )
        elif item.kind == "reasoning":
            told += self._event(
                "response.reasoning_summary_text.done", **self._at(item), summary_index=0, text=item.text
            )
            told += self._event(
                "response.reasoning_summary_part.done", **self._at(item), summary_index=0, part=item.part()
            )
        else:
            self._keep(item.id, item.text)
            told += self._event(
                "response.output_text.done",
                **self._at(item),
                content_index=0,
                text=item.text,
                logprobs=item.logprobs,
            )
            told += self._event(
                "response.content_part.done", **self._at(item), content_index=0, part=item.part()
            )
        whole = item.document(status)
        told += self._event("response.output_item.done", **self._at(), item=whole)
        self._done.append(whole)
        self._open = None
        return told

    def _at(self, item: Item | None = None) -> dict[str, Any]:
        at: dict[str, Any] = {"output_index": len(self._done)}
        return at if item is None else {"item_id": item.id, **at}

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._id}_{len(self._done)}"

    # --- the response ---------------------------------------------------------------------------------------------

    def _status(self) -> str:
        return "incomplete" if self._cut else "completed"

    def _logprobs(self, tokens: tuple[Token, ...]) -> list[dict[str, Any]]:
        if self._asked.logprobs is None:
            return []
        found: list[dict[str, Any]] = chat_logprobs(tokens)["content"]
        return found

    def _event(self, kind: str, **fields: Any) -> bytes:
        told = sse.event({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return told

    def _echoed(self, entry: ModelEntry) -> dict[str, Any]:
        """What of the call a response tells again."""
        body, prompt, drawn = self._body, self._asked.prompts[0], self._asked.drawn(entry)
        tools = getattr(prompt, "tools", ())
        reasoning = body.get("reasoning") or {}
        text = body.get("text") or {}
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": int(time.time()),
            "model": entry.name,
            "instructions": body.get("instructions"),
            "max_output_tokens": self._asked.tokens,
            "metadata": body.get("metadata") or {},
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": None,
            "reasoning": {"effort": reasoning.get("effort"), "summary": None},
            "store": False,
            "background": False,
            "temperature": drawn.temperature,
            "top_p": drawn.top_p,
            "text": {"format": text.get("format") or {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": [tool_document(tool) for tool in tools],
            "top_logprobs": self._asked.logprobs or 0,
            "truncation": "disabled",
            "user": body.get("user"),
        }

    def _response(
        self, status: str, usage: Usage | None = None, facts: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        more: dict[str, Any] = {} if facts is None else {"hypercluster": facts}
        if status in ("completed", "incomplete"):
            more["completed_at"] = int(time.time())
        return {
            **self._frame,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": list(self._done),
            "usage": None if usage is None else _usage(usage),
            **more,
        }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.generated,
        "output_tokens_details": {"reasoning_tokens": usage.thought},
        "total_tokens": usage.prompt + usage.generated,
        **cost(usage),
    }
