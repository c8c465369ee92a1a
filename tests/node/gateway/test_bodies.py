"""Bodies of every wrong kind: each gets an error that names what is wrong, and the gateway lives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.openai.chat import read_chat
from hypercluster.node.gateway.openai.completions import read_completion
from hypercluster.node.gateway.openai.items import Remembered
from hypercluster.node.gateway.openai.responses import read_response
from hypercluster.node.gateway.reading import Fields, read_body
from tests.node.gateway.test_chat import HI
from tests.node.helpers.gateways import MODEL, FrontDoor

DEEP = "[" * 100_000
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def post(door: FrontDoor, content: bytes, path: str = "/chat/completions") -> httpx.Response:
    return door.http().post(path, content=content, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"12",
        b"\xff\xfe{}",
        b"{} {}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"model": "a", "model": "b"}',
        b'{"a": ' + b"9" * 6000 + b"}",
        ('{"a": ' + DEEP).encode(),
        ('{"a": ' + "[" * 500 + "]" * 500 + "}").encode(),
        b"{'model': 'a'}",
        b"model=a&prompt=b",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_json_object_is_refused_as_that(front_door: FrontDoor, content: bytes) -> None:
    for path in ("/chat/completions", "/completions", "/responses"):
        answer = post(front_door, content, path)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "invalid_json"
        assert error["message"].endswith(".")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": "hi", "tool_calls": [{}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": 10**40}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 1}, "min_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": {}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {str(token): 1 for token in range(2000)}}, "logit_bias"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
            "response_format.json_schema.schema",
        ),
        ({"tools": [{}]}, "tools[0].function"),
        ({"tools": [{"type": "browser"}]}, "tools[0].type"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always", "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"max_cost_wei": "1.5"}, "max_cost_wei"),
        ({"provider": []}, "provider"),
        ({"provider": {"only": []}}, "provider.only"),
        ({"provider": {"only": ["short"]}}, "provider.only[0]"),
        ({"provider": {"only": ["16Uiu2HAmNobody"]}}, "provider.only[0]"),
        ({"provider": {"sort": "luck"}}, "provider.sort"),
        ({"provider": {"max_price": {"prompt": "much"}}}, "provider.max_price.prompt"),
        ({"provider": {"max_price": {"image": 1}}}, "provider.max_price.image"),
        ({"provider": {"quantizations": ["fp8"]}}, "provider.quantizations"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_wrong_field_is_refused_by_its_name(
    front_door: FrontDoor, fields: dict[str, Any], param: str
) -> None:
    body = {"model": MODEL, "messages": HI, "max_tokens": 1} | fields
    answer = post(front_door, json.dumps(body).encode())
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param, error
    assert error["type"] == "invalid_request_error"


def test_a_body_that_is_not_called_json_or_too_long_never_reaches_a_reader(front_door: FrontDoor) -> None:
    http = front_door.http()
    plain = http.post("/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    assert http.post("/chat/completions", json={"a": "x" * 9_000_000}).status_code == 413
    assert http.get("/chat/completions").status_code == 405
    assert http.post("/embeddings", json={}).status_code == 404
    assert http.get("/models").status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = (
    *(
        "model",
        "messages",
        "prompt",
        "input",
        "instructions",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
    ),
    *("stop", "n", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens"),
    *(
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
    ),
    *(
        "response_format",
        "text",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "reasoning_effort",
    ),
    *(
        "provider",
        "include",
        "echo",
        "suffix",
        "best_of",
        "max_cost_wei",
        "chat_template_kwargs",
        "modalities",
    ),
    *(
        "role",
        "content",
        "type",
        "name",
        "function",
        "parameters",
        "arguments",
        "tool_calls",
        "format",
        "schema",
    ),
)
OBJECTS = st.recursive(
    JSON
    | st.sampled_from([MODEL, "user", "assistant", "function", "message", "text", "json_schema", "auto"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


def refused(read: Callable[[], object]) -> ApiError | None:
    """What a reader refused a body with; whatever else it raises is a bug."""
    try:
        read()
    except ApiError as error:
        return error
    return None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), OBJECTS, max_size=10))
def test_no_body_breaks_a_reader(body: dict[str, Any]) -> None:
    fields = Fields({"model": MODEL, **read_body(json.dumps(body).encode()).values})
    for error in (
        refused(lambda: read_chat(fields)),
        refused(lambda: read_completion(fields)),
        refused(lambda: read_response(fields, Remembered(), None)),
    ):
        assert error is None or (error.status == 400 and str(error).endswith("."))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_break_the_reader_of_bodies(raw: bytes) -> None:
    error = refused(lambda: read_body(raw))
    assert error is None or error.code == "invalid_json"
