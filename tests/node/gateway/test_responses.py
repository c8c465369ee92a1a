"""Responses over a real market: the events in the order in which helpers put them together, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.node.helpers.gateways import MODEL, FrontDoor


def respond(door: FrontDoor, given: Any, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "input": given, "max_output_tokens": 5, "temperature": 0} | fields
    return door.http().post("/responses", json=body)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    lines = answer.text.split("\n")
    found = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert kinds == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_a_response_is_a_message_with_its_usage(front_door: FrontDoor) -> None:
    document = respond(front_door, "hi", instructions="be brief").json()
    assert document["object"] == "response"
    assert document["status"] in ("completed", "incomplete")
    (message,) = document["output"]
    assert message["role"] == "assistant"
    assert message["content"][0]["type"] == "output_text"
    assert document["usage"]["output_tokens"] <= 5
    assert int(document["usage"]["cost_wei"]) > 0
    assert document["store"] is False


def test_the_events_of_a_stream_come_in_order_and_say_what_the_whole_says(front_door: FrontDoor) -> None:
    told = events(respond(front_door, [{"role": "user", "content": "hi"}], stream=True))
    kinds = [event["type"] for event in told]
    deltas = [event for event in told if event["type"] == "response.output_text.delta"]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4 : 4 + len(deltas)]) == {"response.output_text.delta"}
    assert kinds[4 + len(deltas) :][:3] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    last = told[-1]
    assert last["type"] == f"response.{last['response']['status']}"
    text = "".join(event["delta"] for event in deltas)
    assert last["response"]["output"][0]["content"][0]["text"] == text
    whole = respond(front_door, "hi").json()
    assert whole["output"][0]["content"][0]["text"] == text
    assert {event["item_id"] for event in deltas} == {last["response"]["output"][0]["id"]}


def test_items_of_a_conversation_go_in_as_turns_and_what_was_said_may_be_referred_to(
    front_door: FrontDoor,
) -> None:
    first = respond(front_door, "hi").json()
    said = first["output"][0]
    question = [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    again = [{"type": "message", "role": "user", "content": "and?"}]
    whole = respond(front_door, [*question, said, *again]).json()
    referred = respond(front_door, [*question, {"type": "item_reference", "id": said["id"]}, *again]).json()
    assert (
        whole["usage"]["input_tokens"] == referred["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    )
    stranger = front_door.new_key("stranger")[1]
    answer = front_door.http(stranger).post(
        "/responses",
        json={"model": MODEL, "input": [*question, {"type": "item_reference", "id": said["id"]}]},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[1].id"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_name(front_door: FrontDoor, fields: dict[str, Any], param: str) -> None:
    answer = (
        respond(front_door, **({"given": "hi"} | fields))
        if "input" not in fields
        else respond(front_door, "", **fields)
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
