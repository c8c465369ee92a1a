"""Turns of a chat over a gateway's own API, as any program would ask them: OpenAI's, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from hypercluster.node.cli.console import Failed
from hypercluster.node.cli.hc.door import Door

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 120.0


@dataclass(slots=True)
class Said:
    """An answer as far as it came; `cost_wei` and `tokens` are None where the end, which tells them, did not come."""

    text: str = ""
    reason: str = ""
    cost_wei: int | None = None
    tokens: int | None = None
    providers: int = 0
    stopped: bool = False

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "text": self.text,
            "finish_reason": "stopped" if self.stopped else self.reason,
            "tokens": self.tokens,
            "cost_wei": self.cost_wei,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How to ask: which model, as a chat or, where it has no template, as a text to continue; `options` go along."""

    door: Door
    model: str
    chat: bool
    options: dict[str, Any] = field(default_factory=dict)

    def answer(self, turns: list[dict[str, str]], said: Said) -> Iterator[str | tuple[str]]:
        """The pieces of the model's answer to these turns; in a tuple of its own, what is waited for.

        `said` is filled on the way. Whoever leaves before the end has the answer stopped. Raises Failed.
        """
        body = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.options,
        }
        body |= {"messages": turns} if self.chat else {"prompt": "\n".join(turn["content"] for turn in turns)}
        path = "/chat/completions" if self.chat else "/completions"
        with _clear_errors(), _client(self.door) as client, client.stream("POST", path, json=body) as answer:
            if not answer.is_success:
                answer.read()
                raise Failed(_told(answer))
            for line in answer.iter_lines():
                if line.startswith(": "):
                    yield (line[2:],)
                elif line.startswith("data: {"):
                    yield from self._piece(json.loads(line[6:]), said)

    def _piece(self, chunk: dict[str, Any], said: Said) -> Iterator[str]:
        if "error" in chunk:
            raise Failed(str(chunk["error"].get("message", "the answer failed.")))
        for choice in chunk.get("choices", ()):
            piece = choice["delta"].get("content") if self.chat else choice.get("text")
            said.reason = choice.get("finish_reason") or said.reason
            if piece:
                said.text += piece
                yield piece
        if usage := chunk.get("usage"):
            said.cost_wei, said.tokens = int(usage["cost_wei"]), usage["completion_tokens"]
            said.providers = len(chunk.get("hypercluster", {}).get("path", ()))


def model_at(door: Door, wanted: str | None) -> tuple[str, bool]:
    """The name of a model that the gateway has, the first by default, and whether it can chat. Raises Failed."""
    path = (
        "" if wanted is None else "/" + quote(wanted, safe="").replace(".", "%2E")
    )  # a dot alone is no folder here
    with _clear_errors(), _client(door) as client:
        answer = client.get(f"/models{path}")
    if not answer.is_success:
        raise Failed(_told(answer))
    document = answer.json()
    model = document["data"][0] if wanted is None else document
    return model["id"], model["architecture"]["instruct_type"] is not None


def _client(door: Door) -> httpx.Client:
    return httpx.Client(
        base_url=door.base_url,
        headers={"Authorization": f"Bearer {door.key}", "User-Agent": "hc-chat"},
        timeout=httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
        trust_env=False,  # it is on this machine, whatever proxy there is
    )


class _clear_errors:
    """Turns what httpx raises into a sentence."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx.HTTPError):
            raise Failed(
                f"the gateway does not answer any more ({str(error) or type(error).__name__})."
            ) from error


def _told(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answers {answer.status_code} {answer.reason_phrase}."
