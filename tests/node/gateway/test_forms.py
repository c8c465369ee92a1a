"""Answers that have a form: JSON by schema and calls of tools, from a model that knows nothing of either."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.node.gateway.test_chat import ask, streamed
from tests.node.gateway.test_responses import events, respond
from tests.node.helpers.gateways import FrontDoor

SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}},
    "required": ["sure", "kind"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "pick", "description": "Picks.", "parameters": SCHEMA},
}
OTHER = {"type": "function", "function": {"name": "drop", "parameters": SCHEMA}}
FORMED = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
}


def check(text: str) -> None:
    document = json.loads(text)
    assert set(document) == {"sure", "kind"}
    assert document["kind"] in ("a", "b")


def test_a_schema_is_kept(front_door: FrontDoor) -> None:
    (choice,) = ask(front_door, max_tokens=400, **FORMED).json()["choices"]
    assert choice["finish_reason"] == "stop"
    check(choice["message"]["content"])
    document = respond(
        front_door,
        "hi",
        max_output_tokens=400,
        text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    ).json()
    assert document["status"] == "completed"
    check(document["output"][0]["content"][0]["text"])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "pick"}}], ids=str)
def test_a_tool_that_must_be_called_is_called_with_arguments_by_its_schema(
    front_door: FrontDoor, choice: Any
) -> None:
    fields = {"tools": [TOOL, OTHER], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 400}
    (answer,) = ask(front_door, **fields).json()["choices"]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["content"] is None
    (call,) = answer["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] in ("pick", "drop") if choice == "required" else ("pick",)
    check(call["function"]["arguments"])
    told = [event["choices"][0] for event in streamed(front_door, **fields) if isinstance(event, dict)]
    pieces = [piece for each in told for piece in each["delta"].get("tool_calls", ())]
    assert pieces[0]["function"]["name"] == call["function"]["name"]
    assert pieces[0]["id"]
    assert all("id" not in piece for piece in pieces[1:])
    assert "".join(piece["function"]["arguments"] for piece in pieces) == call["function"]["arguments"]
    assert told[-1]["finish_reason"] == "tool_calls"


def test_calls_and_their_results_go_back_as_turns(front_door: FrontDoor) -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "pick", "arguments": '{"sure": true}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "done"}]},
    ]
    answer = ask(front_door, messages=turns, tools=[TOOL])
    assert answer.status_code == 200, answer.text


def test_events_of_a_called_tool_come_in_order(front_door: FrontDoor) -> None:
    flat = {"type": "function", **TOOL["function"]}
    fields = {"tools": [flat], "tool_choice": {"type": "function", "name": "pick"}, "max_output_tokens": 400}
    told = events(respond(front_door, "hi", stream=True, **fields))
    kinds = [event["type"] for event in told]
    deltas = [event["delta"] for event in told if event["type"] == "response.function_call_arguments.delta"]
    assert kinds[2] == "response.output_item.added"
    assert told[2]["item"]["type"] == "function_call"
    assert kinds[-3:] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    (item,) = told[-1]["response"]["output"]
    assert item["arguments"] == "".join(deltas)
    assert item["call_id"]
    check(item["arguments"])


def test_a_schema_that_cannot_be_kept_is_refused_by_what_is_in_it(front_door: FrontDoor) -> None:
    unkept = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": unkept, "strict": True}}
    answer = ask(front_door, response_format=form)
    assert answer.status_code == 400
    assert "not" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "response_format"
    tool = {"name": "f", "parameters": unkept, "strict": True}
    answer = ask(front_door, tools=[{"type": "function", "function": tool}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[0].function.parameters"
