"""Chat completions over a real market, as OpenAI's SDKs read them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.node.helpers.gateways import MODEL, FrontDoor

HI = [{"role": "user", "content": "hi"}]


def ask(door: FrontDoor, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": HI, "max_tokens": 6, "temperature": 0} | fields
    return door.http().post("/chat/completions", json=body)


def streamed(door: FrontDoor, path: str = "/chat/completions", **fields: Any) -> list[Any]:
    """The events of a stream: documents, comments as texts, and "[DONE]"."""
    said = {} if "prompt" in fields else {"messages": HI}
    body = {"model": MODEL, "max_tokens": 6, "temperature": 0, "stream": True} | said | fields
    answer = door.http().post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events: list[Any] = []
    for line in answer.text.split("\n"):
        if line.startswith("data: "):
            told = line.removeprefix("data: ")
            events.append(told if told == "[DONE]" else json.loads(told))
        elif line.startswith(":"):
            events.append(line)
    return events


def test_an_answer_is_whole_paid_and_priced(front_door: FrontDoor) -> None:
    answer = ask(front_door)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["object"] == "chat.completion"
    assert document["model"] == MODEL
    (choice,) = document["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    usage = document["usage"]
    assert usage["completion_tokens"] <= 6
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    cost = int(usage["cost_wei"])
    assert usage["cost"] == pytest.approx(cost / 10**18)
    facts = document["hypercluster"]
    assert answer.headers["x-request-id"] == facts["request_id"]
    assert document["id"] == f"chatcmpl-{facts['request_id']}"
    assert [hop["layers"] for hop in facts["path"]] == [[0, 2], [2, 4]]
    assert sum(int(hop["cost_wei"]) for hop in facts["path"]) == cost > 0


def test_a_stream_says_the_role_first_then_text_then_the_reason_then_the_usage(front_door: FrontDoor) -> None:
    events = streamed(front_door, stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    documents = [event for event in events if isinstance(event, dict)]
    assert documents[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {document["id"] for document in documents} == {documents[0]["id"]}
    *middle, ended, usage = documents[1:]
    assert all(document["choices"][0]["finish_reason"] is None for document in middle)
    assert ended["choices"][0]["finish_reason"] in ("stop", "length")
    assert ended["choices"][0]["delta"] == {}
    assert usage["choices"] == []
    assert all(document["usage"] is None for document in documents[:-1])
    text = "".join(document["choices"][0]["delta"]["content"] for document in middle)
    whole = ask(front_door).json()
    assert text == whole["choices"][0]["message"]["content"]
    assert usage["usage"]["cost_wei"] == whole["usage"]["cost_wei"]
    assert any(isinstance(event, str) and event.startswith(":") for event in events)
