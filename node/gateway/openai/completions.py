"""POST /v1/completions: a text, or several, continued as they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from hypercluster.node.client.request import MOST_LOGPROBS
from hypercluster.node.gateway import sse
from hypercluster.node.gateway.asking import MOST_CHOICES, Asked
from hypercluster.node.gateway.chunks import Chunk, Done, Ended, Reasoning, Text
from hypercluster.node.gateway.errors import ApiError, bad
from hypercluster.node.gateway.live import Live
from hypercluster.node.gateway.openai.errors import error_document
from hypercluster.node.gateway.openai.options import (
    read_cost,
    read_form,
    read_model,
    read_sampling,
    read_stops,
    read_stream,
    read_tokens,
)
from hypercluster.node.gateway.openai.probabilities import completion_logprobs
from hypercluster.node.gateway.openai.usage import usage_document
from hypercluster.node.gateway.preferences import read_preferences
from hypercluster.node.gateway.reading import Fields, checked_text, kind_of, read_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hypercluster.node.client.events import Token
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.whole import Whole
    from hypercluster.node.traffic.entries import ModelEntry

TOKENS = 16
"""where a body does not say how many, as OpenAI has it for this endpoint"""


def routes(gateway: Gateway) -> list[Route]:
    """The endpoint."""

    async def complete(request: Request) -> ASGIApp:
        visit = await gateway.keyring.admit(request, "completions")
        body = read_body(await request.body())
        asked = read_completion(body)
        return Live(gateway, visit, asked, CompletionFlavour(asked, echo=body.flag("echo") is True))

    return [Route("/v1/completions", complete, methods=["POST"])]


def read_completion(body: Fields) -> Asked:
    """What a body asks for; fields that are not known are ignored. Raises ApiError."""
    n = body.whole("n", 1, MOST_CHOICES) or 1
    best_of = body.whole("best_of", 1, MOST_CHOICES)
    if best_of is not None and best_of != n:
        body.refuse("best_of", "best_of is not offered: all that is generated is paid for, so ask for n.")
    if body.text("suffix"):
        body.refuse("suffix", "suffix is not offered: models here continue a text and do not fill gaps.")
    prompts = _prompts(body)
    if len(prompts) * n > MOST_CHOICES:
        body.refuse(
            "prompt", f"{len(prompts)} prompts with {n} answers each are more than {MOST_CHOICES} answers."
        )
    logprobs = _logprobs(body)
    if body.flag("echo"):
        if logprobs is not None:
            body.refuse("logprobs", "logprobs of an echoed prompt are not offered.")
        if any(not isinstance(prompt, str) for prompt in prompts):
            body.refuse("echo", "echo needs prompts that are texts, not ids of tokens.")
    stream, usage = read_stream(body)
    tokens = read_tokens(body)
    return Asked(
        model=read_model(body),
        prompts=prompts,
        prompt_field="prompt",
        tokens=TOKENS if tokens is None else tokens,
        cost_wei=read_cost(body),
        sampling=read_sampling(body),
        stop=read_stops(body),
        n=n,
        logprobs=logprobs,
        format=read_form(body.fields("response_format")),
        preferences=read_preferences(body),
        stream=stream,
        usage=usage,
    )


def _logprobs(body: Fields) -> int | None:
    """A number of alternatives; some clients send what chats take, true or false."""
    if isinstance(body.get("logprobs"), bool):
        return 0 if body.get("logprobs") else None
    return body.whole("logprobs", 0, MOST_LOGPROBS)


def _prompts(body: Fields) -> tuple[str | tuple[int, ...], ...]:
    """A text, a list of texts, a list of token ids, or a list of such lists."""
    given = body.get("prompt")
    if given is None:
        body.missing("prompt")
    if isinstance(given, str):
        return (_text(given, "prompt"),)
    if not isinstance(given, list) or not given:
        what = "an empty list" if given == [] else kind_of(given)
        body.refuse("prompt", f"prompt is {what}: it must be a text, or a list of texts or token ids.")
    if all(_is_id(each) for each in given):
        return (tuple(given),)
    if len(given) > MOST_CHOICES:
        body.refuse("prompt", f"There are {len(given)} prompts; {MOST_CHOICES} are the most.")
    found: list[str | tuple[int, ...]] = []
    for index, each in enumerate(given):
        where = f"prompt[{index}]"
        if isinstance(each, str):
            found.append(_text(each, where))
        elif isinstance(each, list) and each and all(_is_id(one) for one in each):
            found.append(tuple(each))
        else:
            raise bad(where, f"{where} is neither a text nor a list of ids of tokens.")
    return tuple(found)


def _text(text: str, where: str) -> str:
    if not text:
        raise bad(where, f"{where} is empty: give at least one character.")
    return checked_text(text, where)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


class CompletionFlavour:
    """Everything as text_completion, whole or in pieces."""

    media_type = sse.MEDIA_TYPE

    def __init__(self, asked: Asked, *, echo: bool = False) -> None:
        self._asked, self._echo = asked, echo
        self._common: dict[str, Any] = {}
        self._lengths = [0] * asked.choices

    def begin(self, request_id: str, entry: ModelEntry, choices: int) -> bytes:
        """The prompts, where they are echoed."""
        self._common = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": entry.name,
            "system_fingerprint": f"hc-{entry.model_id[:16]}",
        }
        if not self._echo:
            return b""
        return b"".join(self._piece(index, self._prompt(index)) for index in range(choices))

    def write(self, chunk: Chunk) -> bytes:
        """The chunk as a piece of text."""
        match chunk:
            case Text() | Reasoning():
                return self._piece(chunk.index, chunk.text, chunk.tokens)
            case Ended():
                return self._piece(chunk.index, "", chunk.tokens, chunk.reason)
            case Done() if self._asked.usage:
                return self._event([], usage=usage_document(chunk.usage), hypercluster=chunk.facts) + sse.DONE
            case Done():
                return sse.DONE
        return b""

    def wait(self, comment: str) -> bytes:
        """A comment."""
        return sse.comment(comment)

    def fail(self, error: ApiError) -> bytes:
        """The error as an event, which the SDKs raise."""
        return sse.event(error_document(error)) + sse.DONE

    def whole(self, whole: Whole) -> bytes:
        """A text_completion."""
        choices = [
            {
                "index": index,
                "text": self._prompt(index) * self._echo + choice.text,
                "logprobs": self._logprobs(index, "", tuple(choice.tokens)),
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(whole.choices)
        ]
        return sse.compact(
            {
                **self._common,
                "choices": choices,
                "usage": usage_document(whole.usage),
                "hypercluster": whole.facts,
            }
        )

    def refuse(self, error: ApiError) -> bytes:
        """The error."""
        return sse.compact(error_document(error))

    def _prompt(self, index: int) -> str:
        prompt = self._asked.prompts[index // self._asked.n]
        return prompt if isinstance(prompt, str) else ""

    def _piece(
        self, index: int, text: str, tokens: tuple[Token, ...] = (), reason: str | None = None
    ) -> bytes:
        choice = {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, text, tokens),
            "finish_reason": reason,
        }
        return self._event([choice])

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        if self._asked.usage and "usage" not in more:
            more["usage"] = None
        return sse.event({**self._common, "choices": choices, **more})

    def _logprobs(self, index: int, text: str, tokens: tuple[Token, ...]) -> dict[str, Any] | None:
        offset = self._lengths[index]
        self._lengths[index] += len(text)
        if self._asked.logprobs is None or not tokens:
            return None
        return completion_logprobs(tokens, offset)
