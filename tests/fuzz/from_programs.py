"""Decoders of what programs ask the gateway, what models answer, and what chain nodes say."""

from __future__ import annotations

import json
from collections.abc import Callable

import trio
from starlette.requests import Request

from hypercluster.market.chain.header import header_in
from hypercluster.market.chain.reverts import reverted
from hypercluster.market.chain.rpc import tip_in
from hypercluster.node.engine import turns
from hypercluster.node.engine.forms import Calls, Form
from hypercluster.node.engine.replies import Reply
from hypercluster.node.gateway.anthropic import asking as anthropic
from hypercluster.node.gateway.anthropic import messages
from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.ollama import asking as ollama
from hypercluster.node.gateway.ollama import lines
from hypercluster.node.gateway.openai import chat, completions
from hypercluster.node.gateway.openai.items import Remembered
from hypercluster.node.gateway.openai.responses import read_response
from hypercluster.node.gateway.pages.asking import body_of
from hypercluster.node.gateway.reading import Fields, read_body
from hypercluster.node.gateway.whole import Call, Choice
from tests.fuzz.decoder import Decoder, from_text
from tests.fuzz.mutation import Shape

TOOLS = ("get_weather", "look_up")


def _asked(*readers: Callable[[Fields], object]) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        body = read_body(data)
        return [read(body) for read in readers]

    return decode


def _response(body: Fields) -> object:
    return read_response(body, Remembered(), "key")


def _reply(text: str) -> object:
    """An answer of a model in every form, in pieces as they come."""
    for calls in Calls:
        for sure in (False, True):
            form = Form(calls, ("<think>", "</think>"), lists_tools=True)
            reply = Reply(form, tools=TOOLS, sure=sure)
            for at in range(0, len(text), 7):
                reply.push(text[at : at + 7])
            reply.finish()
    return None


def _arguments(text: str) -> object:
    """What a model gives a tool, in a history that comes back and in the words of two APIs."""
    choice = Choice()
    choice.calls.append(Call("a", "look_up", text))
    return turns._read(text), messages._content(choice, False), lines._call(0, "look_up", text)


def _page(data: bytes) -> object:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": data, "more_body": False}

    return trio.run(body_of, Request({"type": "http", "headers": [], "method": "POST"}, receive))


def _reverted(text: str) -> object:
    raise reverted("to open a channel", text, "execution reverted")


def _block(data: bytes) -> object:
    block = json.loads(data)
    return header_in(block) if isinstance(block, dict) else None


def _tip(data: bytes) -> object:
    block = json.loads(data)
    return tip_in(block) if isinstance(block, dict) else None


BODY = "node/gateway/reading.py:read_body"
DECODERS = (
    Decoder("openai_chat", _asked(chat.read_chat), (BODY,), Shape.JSON, (ApiError,)),
    Decoder("openai_completion", _asked(completions.read_completion), (BODY,), Shape.JSON, (ApiError,)),
    Decoder("openai_response", _asked(_response), (BODY,), Shape.JSON, (ApiError,)),
    Decoder(
        "anthropic_message",
        _asked(anthropic.read_asked, anthropic.read_chat),
        (BODY,),
        Shape.JSON,
        (ApiError,),
    ),
    Decoder("ollama_chat", _asked(ollama.model_of, ollama.read_chat), (BODY,), Shape.JSON, (ApiError,)),
    Decoder(
        "ollama_generate",
        _asked(ollama.model_of, lambda body: ollama.read_prompt(body, True)),
        (BODY,),
        Shape.JSON,
        (ApiError,),
    ),
    Decoder(
        "reply",
        from_text(_reply),
        ("node/engine/calls.py:CallReader._unquoted", "node/engine/calls.py:CallReader._end"),
        Shape.TEXT,
    ),
    Decoder(
        "arguments",
        from_text(_arguments),
        (
            "node/engine/turns.py:_read",
            "node/gateway/anthropic/messages.py:_content",
            "node/gateway/ollama/lines.py:_call",
        ),
        Shape.JSON,
    ),
    Decoder("page", _page, ("node/gateway/pages/asking.py:body_of",), Shape.JSON, (ApiError,)),
    Decoder("revert", from_text(_reverted), ("market/chain/reverts.py:_raw",), Shape.TEXT),
    Decoder(
        "block",
        _block,
        ("market/chain/header.py:header_in", "market/chain/header.py:_field"),
        Shape.JSON,
        (ValueError, RecursionError),
    ),
    Decoder(
        "tip",
        _tip,
        ("market/chain/rpc.py:tip_in",),
        Shape.JSON,
        (ValueError, TypeError, LookupError, AttributeError, RecursionError),
    ),
)
