"""Ollama's API: bodies as its clients send them, and lines of JSON as they wait for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.node.engine.chat import Chat, Message, Tool, ToolCall
from hypercluster.node.engine.grammar import JsonObject, JsonSchema, ToolUse
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
from hypercluster.node.gateway.ollama.api import Told
from hypercluster.node.gateway.ollama.asking import read_chat, read_prompt
from hypercluster.node.gateway.ollama.lines import Lines
from hypercluster.node.gateway.reading import Fields
from hypercluster.node.gateway.whole import Call as WholeCall
from hypercluster.node.gateway.whole import Choice, Whole
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway

USAGE = Usage(prompt=7, cached=0, generated=3, thought=0, cost_wei=123)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}},
}


def chat(content: str = "hi", **body: Any) -> Any:
    return read_chat(
        Fields({"model": "tiny:latest", "messages": [{"role": "user", "content": content}], **body})
    )


def lines(*chunks: Chunk, generate: bool = False, thought: bool = True) -> list[dict[str, Any]]:
    flavour = Told(Lines("tiny", generate=generate, thought=thought))
    return [json.loads(line) for line in b"".join(map(flavour.write, chunks)).splitlines()]


def test_a_chat_streams_unless_it_is_told_not_to_and_its_name_has_a_tag() -> None:
    assert (chat().stream, chat(stream=False).stream) == (True, False)
    assert chat().model == "tiny"
    assert chat().prompts == (Chat((Message("user", "hi"),)),)


def test_options_are_read_and_those_of_loading_are_not_ours() -> None:
    options = {
        "temperature": 0, "seed": 1, "num_ctx": 4096, "num_predict": 5, "stop": ["X", ""], "top_k": 7, "top_p": 0.5,
        "repeat_penalty": 1.1, "repeat_last_n": 8, "num_gpu": 1, "mirostat": 0,
    }  # fmt: skip
    asked = chat(options=options, keep_alive="5m", tools=[], format="")
    assert (asked.tokens, asked.stop, asked.format) == (5, ("X",), None)
    assert asked.sampling == {
        "temperature": 0, "seed": 1, "top_k": 7, "top_p": 0.5, "repetition_penalty": 1.1, "penalty_last_n": 8,
    }  # fmt: skip


@pytest.mark.parametrize("unlimited", [-1, -2, 0])
def test_no_bound_of_tokens_has_several_names(unlimited: int) -> None:
    assert chat(options={"num_predict": unlimited}).tokens is None


def test_a_seed_below_zero_is_one_that_is_drawn() -> None:
    assert "seed" not in chat(options={"seed": -1}).sampling


def test_format_is_json_or_a_schema() -> None:
    assert chat(format="json").format == JsonObject()
    assert chat(format={"type": "object"}).format == JsonSchema({"type": "object"}, strict=False)
    with pytest.raises(ApiError, match="schema"):
        chat(format="yaml")


def test_tools_and_what_they_said() -> None:
    asked = read_chat(
        Fields(
            {
                "model": "tiny",
                "messages": [
                    {"role": "user", "content": "weather?", "images": []},
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}],
                    },
                    {"role": "tool", "tool_name": "weather", "content": "sunny"},
                ],
                "tools": [WEATHER],
                "think": "high",
            }
        )
    )
    tool = Tool("weather", "d", {"type": "object"})
    call = ToolCall("call_0_0", "weather", '{"city": "Paris"}')
    assert asked.format == ToolUse((tool,))
    assert asked.prompts == (
        Chat(
            (
                Message("user", "weather?"),
                Message("assistant", "", (call,)),
                Message("tool", "sunny", tool_call_id="call_0_0", name="weather"),
            ),
            (tool,),
            reasoning=True,
        ),
    )


def test_a_prompt_is_a_turn_or_a_text_as_it_is() -> None:
    body = Fields({"model": "tiny", "prompt": "p", "system": "s"})
    assert read_prompt(body, True).prompts == (Chat((Message("system", "s"), Message("user", "p"))),)
    assert read_prompt(body, False).prompts == ("s\np",)
    assert read_prompt(Fields({"model": "tiny", "prompt": "p", "raw": True}), True).prompts == ("p",)


@pytest.mark.parametrize("field", ["suffix", "template", "context", "images"])
def test_what_a_prompt_cannot_have_is_named(field: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_prompt(Fields({"model": "tiny", "prompt": "p", field: ["x"]}), True)
    assert refused.value.param == field


def test_the_lines_of_a_chat() -> None:
    told = lines(Waiting("queued"), Text(0, "Par"), Text(0, "is"), Ended(0, "stop"), Done(USAGE, {"seed": 1}))
    assert [each["message"]["content"] for each in told] == ["Par", "is", ""]
    assert [each["done"] for each in told] == [False, False, True]
    last = told[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 7, 3)
    assert last["total_duration"] >= last["prompt_eval_duration"] + last["eval_duration"] - 2
    assert (last["cost_wei"], last["hypercluster"]) == ("123", {"seed": 1})
    assert all(each["model"] == "tiny" and each["created_at"].endswith("Z") for each in told)


def test_the_lines_of_a_prompt() -> None:
    told = lines(Text(0, "x"), Ended(0, "length"), Done(USAGE), generate=True)
    assert [each["response"] for each in told] == ["x", ""]
    assert told[-1]["done_reason"] == "length"


def test_a_call_is_told_when_it_is_whole() -> None:
    told = lines(
        Call(0, 0, "a", "weather", '{"city":'),
        Call(0, 0, "", "", '"Paris"}'),
        Call(0, 1, "b", "time", "{}"),
        Ended(0, "tool_calls"),
        Done(USAGE),
    )
    calls = [call["function"] for each in told for call in each["message"].get("tool_calls", ())]
    assert [(call["name"], call["arguments"]) for call in calls] == [
        ("weather", {"city": "Paris"}),
        ("time", {}),
    ]
    assert [each["done"] for each in told] == [False, False, True]
    assert told[-1]["done_reason"] == "stop"


def test_thought_is_told_apart_and_not_at_all_where_it_is_not_wanted() -> None:
    chunks = (Reasoning(0, "hm"), Text(0, "x"), Ended(0, "stop"), Done(USAGE))
    assert lines(*chunks)[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert "hm" not in json.dumps(lines(*chunks, thought=False))


def test_all_in_one_object() -> None:
    flavour = Told(Lines("tiny", generate=False, thought=True))
    choice = Choice("I look.", "hm", [WholeCall("a", "weather", '{"city": "Paris"}')], [], "tool_calls")
    told = json.loads(flavour.whole(Whole([choice], USAGE)))
    assert told["message"] == {
        "role": "assistant",
        "content": "I look.",
        "thinking": "hm",
        "tool_calls": [{"function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}}],
    }
    assert (told["done"], told["done_reason"], told["eval_count"]) == (True, "stop", 3)


def test_an_error_is_a_line_of_its_own() -> None:
    flavour = Told()
    assert json.loads(flavour.fail(ApiError(502, "upstream_failed", "Gone.")))["error"] == "Gone."
    assert json.loads(flavour.refuse(ApiError(404, "model_not_found", "None."))) == {
        "error": "None.",
        "code": "model_not_found",
    }


# --- over a market ------------------------------------------------------------------------------------------------

QUIET = {"temperature": 0, "num_predict": 6}
HI: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "options": QUIET}


@pytest.fixture
def keyed(front_door: FrontDoor) -> Iterator[httpx.Client]:
    """As Ollama's clients call: no header, the key in the path."""
    with httpx.Client(base_url=f"{front_door.url}/k/{front_door.key}/api", timeout=600) as http:
        yield http


def test_a_chat_is_paid_by_the_key_in_its_path(front_door: FrontDoor, keyed: httpx.Client) -> None:
    whole = keyed.post("/chat", json={**HI, "stream": False}).json()
    row = front_door.row(whole["hypercluster"]["request_id"]).row
    assert (row.endpoint, str(row.cost + row.risked)) == ("ollama", whole["cost_wei"])
    assert 0 < whole["eval_count"] <= 6
    stream = keyed.post("/chat", json=HI)
    assert stream.headers["content-type"] == "application/x-ndjson"
    told = [json.loads(line) for line in stream.text.splitlines()]
    assert "".join(each["message"]["content"] for each in told) == whole["message"]["content"]
    assert [each["done"] for each in told] == [False] * (len(told) - 1) + [True]


def test_a_prompt_as_it_is_and_as_a_turn(keyed: httpx.Client) -> None:
    asked = {"model": f"{MODEL}:latest", "prompt": "hi", "stream": False, "options": QUIET}
    turn, raw = (keyed.post("/generate", json={**asked, **more}).json() for more in ({}, {"raw": True}))
    assert turn["prompt_eval_count"] > raw["prompt_eval_count"] > 0
    assert turn["model"] == f"{MODEL}:latest"
    chat = keyed.post("/chat", json={**HI, "stream": False}).json()
    assert turn["response"] == chat["message"]["content"]


def test_what_clients_look_at_first(keyed: httpx.Client, front_door: FrontDoor) -> None:
    for path in ("/tags", "/ps"):
        (model,) = keyed.get(path).json()["models"]
        assert (model["name"], model["details"]["family"]) == (f"{MODEL}:latest", "llama")
        assert model["digest"] == front_door.market.model().model_id
    for name in ("name", "model"):
        shown = keyed.post("/show", json={name: MODEL}).json()
        assert shown["model_info"]["llama.context_length"] == 1024
    assert keyed.get("/version").json()["version"].count(".") == 2
    assert keyed.get("/../").text == "Ollama is running"
    loaded = keyed.post("/generate", json={"model": MODEL}).json()
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    unloaded = keyed.post("/chat", json={"model": MODEL, "messages": [], "keep_alive": 0}).json()
    assert unloaded["done_reason"] == "unload"


def test_a_body_need_not_say_what_it_is(keyed: httpx.Client) -> None:
    body = json.dumps({**HI, "stream": False, "messages": [{"role": "user", "content": "hi", "images": []}]})
    assert keyed.post("/chat", content=body).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/chat", {**HI, "model": "no-such-model"}, 404),
        ("POST", "/chat", {"messages": []}, 400),
        ("POST", "/chat", {**HI, "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, 400),
        ("POST", "/embed", {"model": MODEL, "input": "x"}, 404),
        ("POST", "/embeddings", {"model": MODEL, "prompt": "x"}, 404),
        ("POST", "/pull", {"model": MODEL}, 404),
        ("DELETE", "/delete", {"model": MODEL}, 404),
        ("GET", "/nothing", None, 404),
    ],
)
def test_refusals_are_sentences(keyed: httpx.Client, method: str, path: str, body: Any, status: int) -> None:
    answer = keyed.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


def test_without_a_key_nothing_is_told_or_spent(front_door: FrontDoor) -> None:
    with httpx.Client(base_url=front_door.url) as http:
        for answer in (
            http.get("/api/tags"),
            http.post("/api/chat", json=HI),
            http.post("/k/sk-hc-no/api/chat", json=HI),
            http.get("/k/sk-hc-no/api/tags"),
        ):
            assert answer.status_code == 401
            assert "key" in answer.json()["error"]
        assert http.get("/api/tags", headers={"authorization": f"Bearer {front_door.key}"}).status_code == 200


def test_a_key_for_other_models_sees_and_gets_none_of_these(front_door: FrontDoor) -> None:
    _, key = front_door.new_key("other models", models=("another",))
    with httpx.Client(base_url=f"{front_door.url}/k/{key}/api") as http:
        assert http.get("/tags").json() == {"models": []}
        assert http.post("/show", json={"model": MODEL}).status_code == 403


def test_calls_without_a_key_count_as_the_key_that_was_named_for_them(
    chain: Chain, stored_chatty: StoredModel, front_door: FrontDoor, tmp_path: Path
) -> None:
    """And pages of strangers, who find the port too, are refused before that: by Origin, Host and content type."""
    with running_gateway(
        chain,
        stored_chatty,
        tmp_path,
        providers=front_door.providers,
        ollama_open="ollama",
    ) as door:
        with httpx.Client(base_url=door.url, timeout=600) as http:
            assert http.post("/api/chat", json=HI).status_code == 401  # there is no such key yet
            row, _ = door.new_key("ollama", budget=10**18)
            answer = http.post("/api/chat", json={**HI, "stream": False})
            assert answer.status_code == 200, answer.text
            assert door.row(answer.json()["hypercluster"]["request_id"]).row.key_id == row.key_id
            body = json.dumps({**HI, "stream": False})
            typed = {"content-type": "application/json"}
            for headers, status in (
                ({"content-type": "text/plain"}, 415),
                ({}, 415),
                ({**typed, "origin": "http://evil.example"}, 403),
                ({**typed, "origin": "null"}, 403),
                ({**typed, "host": "evil.example:11535"}, 421),
            ):
                assert http.post("/api/chat", content=body, headers=headers).status_code == status
            # A key that is sent counts, even a wrong one.
            assert http.post("/api/chat", json=HI, headers={"x-api-key": "sk-hc-no"}).status_code == 401
            # The other APIs are as closed as ever.
            assert http.post("/v1/messages", json=HI).status_code == 401
        spent = door.market.ledger.requests.spent_in(row.key_id, None)
        assert spent == int(answer.json()["cost_wei"]) > 0
