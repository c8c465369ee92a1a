"""Anthropic's API: bodies as its SDKs send them, and events in the order in which they wait for them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from hypercluster.node.engine.chat import Message, Tool, ToolCall
from hypercluster.node.engine.grammar import JsonSchema, ToolUse
from hypercluster.node.gateway.anthropic.asking import read_asked, read_chat
from hypercluster.node.gateway.anthropic.events import error_document
from hypercluster.node.gateway.anthropic.messages import Messages
from hypercluster.node.gateway.chunks import (
    Chunk,
    Done,
    Ended,
    Reasoning,
    Text,
    Usage,
    Waiting,
)
from hypercluster.node.gateway.chunks import (
    ToolCall as Call,
)
from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.reading import Fields
from hypercluster.node.gateway.whole import Call as WholeCall
from hypercluster.node.gateway.whole import Choice, Whole
from hypercluster.node.traffic.entries import ModelEntry
from tests.node.helpers.gateways import MODEL, FrontDoor

USAGE = Usage(prompt=7, cached=2, generated=3, thought=1, cost_wei=123)
ENTRY = ModelEntry(
    name="tiny",
    aliases=(),
    model_id="00" * 32,
    layers=4,
    context=64,
    n_vocab=320,
    price_wei=1,
    prompt_price_wei=1,
    coverage=1.0,
    sessions=4,
    has_template=True,
)
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
WEATHER: dict[str, Any] = {"name": "weather", "description": "d", "input_schema": SCHEMA}


def asked(**body: Any) -> Any:
    return read_asked(Fields({"model": "tiny", "max_tokens": 16, **body}))


def ask(content: Any = "hi", **body: Any) -> Any:
    return asked(messages=[{"role": "user", "content": content}], **body)


def events(*chunks: Chunk, thought: bool = False) -> list[tuple[str, Any]]:
    """What a stream of chunks becomes, as (name, document); comments are left out."""
    flavour = Messages(thought)
    raw = flavour.begin("r1", ENTRY, 1) + b"".join(map(flavour.write, chunks))
    found = []
    for block in raw.decode().split("\n\n"):
        lines = block.splitlines()
        if lines and not lines[0].startswith(":"):
            name, data = (line.partition(": ")[2] for line in lines)
            found.append((name, json.loads(data)))
            assert found[-1][1]["type"] == name
    return found


def test_system_and_content_are_texts_or_blocks() -> None:
    blocks = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "b"},
    ]
    chat = ask("hi", system=blocks).prompts[0]
    assert chat.messages == (Message("system", ("a", "b")), Message("user", "hi"))
    assert ask(blocks, system="be brief").prompts[0].messages == (
        Message("system", "be brief"),
        Message("user", ("a", "b")),
    )


def test_what_a_tool_said_stands_where_it_was_said_with_the_call_that_it_answers() -> None:
    chat = asked(
        messages=[
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "sunny"}],
                    },
                    {"type": "text", "text": "so?"},
                ],
            },
        ],
        tools=[WEATHER],
    ).prompts[0]
    assert chat.messages == (
        Message("user", "weather?"),
        Message("assistant", "I look.", (ToolCall("t1", "weather", '{"city": "Paris"}'),), reasoning="hm"),
        Message("tool", "sunny", tool_call_id="t1", name="weather"),
        Message("user", "so?"),
    )
    assert chat.tools == (Tool("weather", "d", SCHEMA),)


@pytest.mark.parametrize(
    ("choice", "format_"),
    [
        (None, ToolUse((Tool("weather", "d", SCHEMA),))),
        ({"type": "any"}, ToolUse((Tool("weather", "d", SCHEMA),), "required")),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            ToolUse((Tool("weather", "d", SCHEMA),), "weather", parallel=False),
        ),
        ({"type": "none"}, None),
    ],
)
def test_how_tools_are_chosen(choice: Any, format_: ToolUse | None) -> None:
    call = ask(tools=[WEATHER], tool_choice=choice)
    assert call.format == format_
    assert bool(call.prompts[0].tools) == (format_ is not None)


def test_a_schema_for_the_answer() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    assert ask(output_config={"format": form}).format == JsonSchema({"type": "object"})
    assert ask(output_format=form).format == JsonSchema({"type": "object"})


def test_thought_is_paid_for_only_where_it_is_asked_for() -> None:
    assert ask().prompts[0].reasoning is False
    assert ask(thinking={"type": "disabled"}).prompts[0].reasoning is False
    assert ask(thinking={"type": "enabled", "budget_tokens": 2000}).prompts[0].reasoning is True


def test_numbers_are_taken_as_they_come_and_unknown_fields_are_ignored() -> None:
    call = ask(max_tokens=128000, temperature=1, top_k=5, metadata={"user_id": "u"}, service_tier="auto")
    assert (call.tokens, call.sampling) == (128000, {"temperature": 1, "top_k": 5})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "stop_sequences": [""]}, "stop_sequences"),
        (
            {"messages": [{"role": "user", "content": "x"}], "tool_choice": {"type": "any"}},
            "tool_choice.type",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "web_search_20250305"}]},
            "tools[0].type",
        ),
        (
            {
                "messages": [{"role": "user", "content": "x"}],
                "tools": [WEATHER],
                "tool_choice": {"type": "tool", "name": "other"},
            },
            "tool_choice.name",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(body: Any, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        asked(**body)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_counting_asks_for_no_more_than_what_is_counted() -> None:
    chat, form = read_chat(Fields({"messages": [{"role": "user", "content": "hi"}]}))
    assert (chat.messages, form) == ((Message("user", "hi"),), None)


def test_the_events_of_a_text() -> None:
    told = events(
        Waiting("queued"),
        Text(0, "Par"),
        Text(0, ""),
        Text(0, "is"),
        Ended(0, "stop"),
        Done(USAGE, {"seed": 1}),
    )
    assert [name for name, _ in told] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    documents = dict(told)
    assert documents["message_start"]["message"]["id"] == "msg_r1"
    assert documents["content_block_start"]["content_block"] == {"type": "text", "text": ""}
    assert [document["delta"]["text"] for _, document in told[3:5]] == ["Par", "is"]
    assert documents["message_delta"]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert documents["message_delta"]["usage"]["input_tokens"] == 5
    assert documents["message_delta"]["usage"]["cache_read_input_tokens"] == 2
    assert documents["message_delta"]["usage"]["cost_wei"] == "123"


def test_blocks_follow_each_other_each_with_its_index() -> None:
    told = events(
        Reasoning(0, "hm"),
        Text(0, "I look."),
        Call(0, 0, "t1", "weather", '{"city":'),
        Call(0, 0, "", "", '"Paris"}'),
        Call(0, 1, "t2", "weather", "{}"),
        Ended(0, "tool_calls"),
        Done(USAGE),
        thought=True,
    )
    starts = [
        (each["index"], each["content_block"]["type"]) for name, each in told if name == "content_block_start"
    ]
    assert starts == [(0, "thinking"), (1, "text"), (2, "tool_use"), (3, "tool_use")]
    open_: list[int] = []
    for name, each in told:
        if name == "content_block_start":
            assert not open_
            open_ = [each["index"]]
        elif name == "content_block_delta":
            assert open_ == [each["index"]]
        elif name == "content_block_stop":
            assert open_ == [each["index"]]
            open_ = []
    parts = [
        each["delta"]["partial_json"]
        for name, each in told
        if name == "content_block_delta" and each["index"] == 2
    ]
    assert json.loads("".join(parts)) == {"city": "Paris"}
    assert dict(told)["message_delta"]["delta"]["stop_reason"] == "tool_use"


def test_thought_is_left_out_where_nobody_asked_for_it() -> None:
    told = events(Reasoning(0, "hm"), Text(0, "x"), Ended(0, "stop"), Done(USAGE))
    assert "hm" not in json.dumps(told)


def test_a_message_in_which_nothing_is_said_is_whole_too() -> None:
    assert [name for name, _ in events(Ended(0, "stop"), Done(USAGE))] == [
        "message_start", "ping", "message_delta", "message_stop",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "reason", "stop"),
    [
        (Ended(0, "stop"), "end_turn", None),
        (Ended(0, "stop", "END"), "stop_sequence", "END"),
        (Ended(0, "length"), "max_tokens", None),
        (Ended(0, "tool_calls"), "tool_use", None),
    ],
)
def test_why_it_ended(ended: Ended, reason: str, stop: str | None) -> None:
    delta = dict(events(Text(0, "x"), ended, Done(USAGE)))["message_delta"]["delta"]
    assert delta == {"stop_reason": reason, "stop_sequence": stop}


def test_a_whole_message_says_what_its_events_would() -> None:
    flavour = Messages()
    flavour.begin("r1", ENTRY, 1)
    choice = Choice("I look.", "hm", [WholeCall("t1", "weather", '{"city": "Paris"}')], [], "tool_calls")
    message = json.loads(flavour.whole(Whole([choice], USAGE, {"seed": 1})))
    assert message["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}},
    ]
    assert (message["id"], message["type"], message["stop_reason"]) == ("msg_r1", "message", "tool_use")
    assert (message["usage"]["output_tokens"], message["hypercluster"]) == (3, {"seed": 1})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"),
        (403, "permission_error"), (404, "not_found_error"), (413, "request_too_large"),
        (415, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"), (502, "api_error"),
        (503, "overloaded_error"),
    ],
)  # fmt: skip
def test_errors_have_the_types_of_this_api(status: int, kind: str) -> None:
    document = error_document(ApiError(status, "code", "A sentence."))
    assert document["type"] == "error"
    assert (document["error"]["type"], document["error"]["message"]) == (kind, "A sentence.")


def test_the_first_event_counts_the_prompt() -> None:
    told = events(Waiting("read", 7), Text(0, "x"), Ended(0, "stop"), Done(USAGE))
    assert dict(told)["message_start"]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 0}


# --- over a market ------------------------------------------------------------------------------------------------

HI: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 6,
    "temperature": 0,
}


def test_a_message_is_paid_and_counts_as_its_tokens_were_counted_before(front_door: FrontDoor) -> None:
    http = front_door.http()
    counted = http.post("/messages/count_tokens", json={"model": MODEL, "messages": HI["messages"]}).json()
    answer = http.post(
        "/messages", json=HI, headers={"anthropic-version": "2026-10-21", "anthropic-beta": "x"}
    )
    message = answer.json()
    assert answer.status_code == 200, message
    assert message["usage"]["input_tokens"] == counted["input_tokens"] > 0
    row = front_door.row(message["hypercluster"]["request_id"]).row
    assert (row.endpoint, str(row.cost + row.risked)) == ("messages", message["usage"]["cost_wei"])
    assert answer.headers["x-request-id"] == row.request_id

    stream = http.post("/messages", json={**HI, "stream": True})
    assert stream.headers["content-type"].startswith("text/event-stream")
    documents = [json.loads(line[6:]) for line in stream.text.split("\n") if line.startswith("data: ")]
    assert documents[0]["message"]["usage"]["input_tokens"] == counted["input_tokens"]
    said = "".join(each["delta"]["text"] for each in documents if each["type"] == "content_block_delta")
    assert said == message["content"][0]["text"]
    assert documents[-1] == {"type": "message_stop"}


def test_either_header_holds_the_key(front_door: FrontDoor) -> None:
    with httpx.Client(base_url=front_door.base_url) as http:
        for headers, status in (
            ({"x-api-key": front_door.key}, 200),
            ({"authorization": f"Bearer {front_door.key}"}, 200),
            ({"x-api-key": "sk-hc-no"}, 401),
            ({}, 401),
        ):
            answer = http.post("/messages/count_tokens", json=HI, headers=headers)
            assert answer.status_code == status
            if status == 401:
                assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"model": "no-such-model"}, 404, "not_found_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": "long " * 3000}]}, 400, "invalid_request_error"),
    ],
)
def test_refusals_have_this_api_s_form(front_door: FrontDoor, fields: Any, status: int, kind: str) -> None:
    answer = front_door.http().post("/messages", json={**HI, **fields})
    assert (answer.status_code, answer.json()["type"], answer.json()["error"]["type"]) == (
        status,
        "error",
        kind,
    )


def test_a_budget_that_is_spent_is_402_and_no_path_is_asked_for(front_door: FrontDoor) -> None:
    _, key = front_door.new_key("poor messages", budget=1)
    answer = front_door.http(key).post("/messages", json=HI)
    assert (answer.status_code, answer.json()["error"]["type"]) == (402, "billing_error")
    assert "1" in answer.json()["error"]["message"]


def test_a_stop_sequence_is_told(front_door: FrontDoor) -> None:
    http = front_door.http()
    said = http.post("/messages", json={**HI, "max_tokens": 20}).json()["content"][0]["text"]
    stop = said[2:4]
    message = http.post(
        "/messages", json={**HI, "max_tokens": 20, "stop_sequences": ["no such", stop]}
    ).json()
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", stop)
    assert "".join(block["text"] for block in message["content"]) == said[: said.index(stop)]
