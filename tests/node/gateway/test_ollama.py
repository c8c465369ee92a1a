"""Ollama's API: bodies as its clients send them, and lines of JSON as they wait for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    sampling = asked.sampling
    assert (sampling.temperature, sampling.seed, sampling.top_k, sampling.top_p) == (0, 1, 7, 0.5)
    assert (sampling.repetition_penalty, sampling.penalty_last_n) == (1.1, 8)


@pytest.mark.parametrize("unlimited", [-1, -2, 0])
def test_no_bound_of_tokens_has_several_names(unlimited: int) -> None:
    assert chat(options={"num_predict": unlimited}).tokens is None


def test_a_seed_below_zero_is_one_that_is_drawn() -> None:
    assert chat(options={"seed": -1}).sampling.seed is None


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
