"""Clients as their registries ship them, over paid paths: what each was told, and what the books say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.ledger.requests import Which
from hypercluster.node.shards.store import open_model
from tests.node.helpers.books import assert_books_agree
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway
from tests.sdk.environments import NODE, PYTHON, Program, facts, programs, run_text

pytestmark = pytest.mark.slow

SECONDS = 600.0
"""much more than any of them takes on a machine that has nothing else to do"""
PLENTY = 10**19
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clients() -> dict[str, Future[Program]]:
    return programs()


@pytest.fixture(scope="module")
def door(
    clients: dict[str, Future[Program]],
    chain: Chain,
    smollm2: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FrontDoor]:
    """A gateway over two providers of half of SmolLM2 each; the clients are installed while it starts."""
    home = tmp_path_factory.mktemp("market")
    stored = open_model(smollm2, home)
    terms = {"sessions": 4, "session_tokens": 2048, "refresh_seconds": 20.0}
    with running_gateway(chain, stored, home, ranges=((0, 15), (15, 30)), terms=terms) as door:
        yield door


def told(door: FrontDoor, clients: dict[str, Future[Program]], name: str) -> dict[str, Any]:
    """Run a client with keys of its own; then its rows must agree with what it was told and with the channels."""
    rich, key = door.new_key(f"{name} rich", budget=PLENTY)
    poor, poor_key = door.new_key(f"{name} poor", budget=1)
    revoked, revoked_key = door.new_key(f"{name} revoked", budget=PLENTY)
    door.market.ledger.api_keys.revoke(revoked.key_id)
    given = {
        "SDK_URL": door.url,
        "SDK_KEY": key,
        "SDK_POOR_KEY": poor_key,
        "SDK_REVOKED_KEY": revoked_key,
        "SDK_MODEL": MODEL,
    }
    said: dict[str, Any] = facts(clients[name].result(), given, SECONDS)
    raised = {fact: each for fact, each in said.items() if isinstance(each, dict) and "raised" in each}
    assert raised == {}
    assert_books_agree(door.market.ledger, door.providers)
    rows = door.market.ledger.requests.latest(Which(key_id=rich.key_id))
    assert sum(row.spent for row in rows if row.outcome == "failed") == 0  # what is too long
    rows = [row for row in rows if row.outcome != "failed"]
    assert {row.outcome for row in rows} <= {"stop", "length", "tool_calls", "cancelled"}
    if "cancel" in said:
        assert said["cancel"]["read"] >= 2
        (left,) = [row for row in rows if row.outcome == "cancelled"]
        assert 0 < left.tokens_out < 300
    for row in rows:
        assert (row.model_name, row.doubtful, bool(row.app)) == (MODEL, False, True)
        assert row.cost > 0
    for other in (poor, revoked):
        assert sum(row.spent for row in door.market.ledger.requests.latest(Which(key_id=other.key_id))) == 0
    assert set(cost_of(said)) <= {str(row.cost + row.risked) for row in rows} | {
        str(sum(row.cost for row in rows if row.seed in (7, 8)))  # the two choices of one call
    }
    return said


def cost_of(document: Any) -> Iterator[str]:
    """Every "cost_wei" beside a count of tokens that a client was told, wherever it stands."""
    if isinstance(document, dict):
        counts = {"total_tokens", "output_tokens", "eval_count"}
        if isinstance(document.get("cost_wei"), str) and counts & document.keys():
            yield document["cost_wei"]
        for each in document.values():
            yield from cost_of(each)
    elif isinstance(document, list):
        for each in document:
            yield from cost_of(each)


def town(document: Any) -> bool:
    """Whether it is what the schema of all clients allows."""
    return document["name"] in ("Paris", "Rome") and int(document["rivers"]) in (1, 2, 3)


def used(usage: dict[str, Any], prompt: str, answer: str) -> None:
    assert usage[prompt] > 5
    assert 0 < usage[answer] <= 12
    assert int(usage["cost_wei"]) > 0


def refused(fact: dict[str, Any], status: int) -> None:
    """A refusal that nobody tries again."""
    assert fact["status"] == status
    assert fact.get("tries", 1) == 1


def test_openai_for_python(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "openai")
    (model,) = [each for each in said["models"] if each["id"] == MODEL]
    assert model["context_length"] >= 2048
    assert said["model"] == MODEL
    chat = said["chat"]
    text = chat["choices"][0]["message"]["content"]
    assert "Paris" in text
    assert chat["choices"][0]["finish_reason"] in ("stop", "length")
    used(chat["usage"], "prompt_tokens", "completion_tokens")

    first, *_, last = said["stream"]
    assert first["choices"][0]["delta"]["role"] == "assistant"
    deltas = [each["choices"][0] for each in said["stream"] if each["choices"]]
    assert "".join(each["delta"]["content"] or "" for each in deltas) == text
    assert len(said["stream"]) > 4
    assert [each["finish_reason"] for each in deltas if each["finish_reason"]] == [
        chat["choices"][0]["finish_reason"]
    ]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], chat["usage"]["completion_tokens"])
    helper = said["stream_helper"]
    assert {"chunk", "content.delta", "content.done"} <= set(helper["kinds"])
    assert helper["final"]["choices"][0]["message"]["content"] == text
    assert helper["final"]["usage"]["prompt_tokens"] == chat["usage"]["prompt_tokens"]

    assert town(said["parse"])
    for turn in (said["tools"]["first"], said["tools_stream"]):
        assert turn["choices"][0]["finish_reason"] == "tool_calls"
        call, *_ = turn["choices"][0]["message"]["tool_calls"]
        assert (call["type"], call["function"]["name"]) == ("function", "weather")
        assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome")
    second = said["tools"]["second"]["choices"][0]
    assert second["message"]["content"]
    assert not second["message"]["tool_calls"]

    stop = said["stop"]["choices"][0]
    assert (stop["finish_reason"], "Paris" in stop["message"]["content"]) == ("stop", False)
    assert all(len(each["top_logprobs"]) == 2 and each["logprob"] <= 0 for each in said["logprobs"])
    assert [choice["index"] for choice in said["choices"]["choices"]] == [0, 1]
    assert said["completions"]["whole"]["choices"][0]["text"] == said["completions"]["streamed"] != ""

    assert said["responses"]["said"] == text
    used(said["responses"]["usage"], "input_tokens", "output_tokens")
    kinds = [event["type"] for event in said["responses_stream"]]
    assert (kinds[0], kinds[-1]) == ("response.created", said["responses_stream"][-1]["type"])
    assert kinds[-1] in ("response.completed", "response.incomplete")
    pieces = [
        event["delta"] for event in said["responses_stream"] if event["type"] == "response.output_text.delta"
    ]
    assert "".join(pieces) == text
    assert town(said["responses_parse"])

    refused(said["budget"], 402)
    assert (said["budget"]["code"], bool(said["budget"]["request_id"])) == ("insufficient_quota", True)
    refused(said["revoked"], 401)
    assert said["revoked"]["code"] == "invalid_api_key"
    refused(said["unknown_model"], 404)
    assert said["unknown_model"]["code"] == "model_not_found"
    refused(said["too_long"], 400)
    assert said["too_long"]["code"] == "context_length_exceeded"


def test_openai_for_npm(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "openai-node")
    assert MODEL in said["models"]
    text = said["chat"]["choices"][0]["message"]["content"]
    used(said["chat"]["usage"], "prompt_tokens", "completion_tokens")
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in said["stream"][:-1]) == text
    assert said["stream"][-1]["usage"]["completion_tokens"] == said["chat"]["usage"]["completion_tokens"]
    final = said["stream_helper"]["final"]
    assert (final["choices"][0]["message"]["content"], "".join(said["stream_helper"]["pieces"])) == (
        text,
        text,
    )
    assert town(said["parse"])
    for way in ("run_tools", "run_tools_stream"):
        assert said[way]["results"] in (["It is sunny in Paris."], ["It is sunny in Rome."])
        assert [each["role"] for each in said[way]["messages"]][-2:] == ["assistant", "tool"]
    assert "Paris" not in said["stop"]["choices"][0]["message"]["content"]
    assert said["responses"]["text"] == said["responses_stream"]["text"] == text
    assert said["responses_stream"]["kinds"][0] == "response.created"
    refused(said["budget"], 402)
    assert (said["budget"]["code"], bool(said["budget"]["request_id"])) == ("insufficient_quota", True)
    refused(said["revoked"], 401)


def test_the_ai_sdk(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "ai-node")
    for kind in ("responses", "chat", "compatible"):
        whole, stream = said[f"{kind}_text"], said[f"{kind}_stream"]
        assert "Paris" in whole["text"]
        assert whole["finishReason"] in ("stop", "length")
        assert (stream["errors"], "".join(stream["pieces"])) == ([], whole["text"])
        assert stream["finishReason"] == whole["finishReason"]
        for each in (whole["usage"], stream["usage"]):
            assert each["inputTokens"] > 5
            assert 0 < each["outputTokens"] <= 12
    for kind in ("responses", "compatible"):
        assert town(said[f"{kind}_object"])
        tools = said[f"{kind}_tools"]
        assert (tools["steps"], tools["reason"], bool(tools["text"])) == (2, "tool-calls", True)
        assert tools["calls"][0]["toolName"] == "weather"
        assert tools["results"][0]["output"] == f"It is sunny in {tools['calls'][0]['input']['city']}."
    assert said["object_stream"]["parts"] >= 1
    assert town(said["object_stream"]["object"])
    assert (said["stop"]["finishReason"], "Paris" in said["stop"]["text"]) == ("stop", False)
    for way in ("responses", "compatible"):
        refused(said["budget"][way], 402)
        refused(said["revoked"][way], 401)
        assert said["budget"][way]["retryable"] is False


def test_anthropic_for_python(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "anthropic")
    message = said["message"]
    (block,) = message["content"]
    text = block["text"]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", MODEL)
    assert message["stop_reason"] in ("end_turn", "max_tokens")
    used(message["usage"], "input_tokens", "output_tokens")
    assert said["count"] == message["usage"]["input_tokens"]

    kinds = [event["type"] for event in said["events"]]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert said["events"][0]["message"]["usage"]["input_tokens"] == said["count"]
    assert "".join(event["delta"]["text"] for event in said["events"][2:-3]) == text
    helper = said["helper"]
    assert ("".join(helper["pieces"]), helper["final"]["content"][0]["text"]) == (text, text)
    assert helper["final"]["usage"]["output_tokens"] == message["usage"]["output_tokens"]

    for turn in (said["tools"]["first"], said["tools_stream"]):
        assert turn["stop_reason"] == "tool_use"
        use, *_ = [each for each in turn["content"] if each["type"] == "tool_use"]
        assert (use["name"], use["input"]["city"] in ("Paris", "Rome")) == ("weather", True)
    assert said["tools"]["second"]["content"][0]["text"]
    stop = said["stop"]
    assert (stop["stop_reason"], stop["stop_sequence"] in ("France", "Paris")) == ("stop_sequence", True)
    assert said["clamped"]["stop_sequence"] == "Paris"

    refused(said["budget"], 402)
    assert said["budget"]["body"]["error"]["type"] == "billing_error"
    refused(said["revoked"], 401)
    assert said["revoked"]["body"]["error"]["type"] == "authentication_error"
    assert said["revoked"]["class"] == "AuthenticationError"
    refused(said["unknown_model"], 404)
    assert said["unknown_model"]["body"]["error"]["type"] == "not_found_error"
    refused(said["too_long"], 400)


def test_ollama_for_python(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "ollama")
    assert f"{MODEL}:latest" in said["tags"]
    assert f"{MODEL}:latest" in said["ps"]
    assert said["show"]["modelinfo"]["general.architecture"] == "llama"
    chat = said["chat"]
    text = chat["message"]["content"]
    assert "Paris" in text
    assert chat["done_reason"] in ("stop", "length")
    assert (chat["prompt_eval_count"] > 5, 0 < chat["eval_count"] <= 12) == (True, True)
    assert "".join(part["message"]["content"] for part in said["stream"]) == text
    assert len(said["stream"]) > 3
    last = said["stream"][-1]
    assert (last["done"], last["eval_count"], last["total_duration"] > 0) == (True, chat["eval_count"], True)
    assert said["generate"]["response"] == text
    assert "".join(part["response"] for part in said["generate_stream"])
    assert town(json.loads(said["schema"]))
    assert said["tools"]["after"]["message"]["content"] or said["tools"]["after"]["message"]["tool_calls"]
    assert (said["stop"]["done_reason"], "Paris" in said["stop"]["message"]["content"]) == ("stop", False)
    refused(said["budget"], 402)
    refused(said["revoked"], 401)
    refused(said["no_key"], 401)
    refused(said["unknown_model"], 404)
    refused(said["embed"], 404)
    assert "embeddings" in said["embed"]["error"]


def test_langchain_openai(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "langchain-openai")
    text = said["chat"]["content"]
    assert "Paris" in text
    assert said["chat"]["usage_metadata"]["output_tokens"] <= 12
    assert "".join(said["stream"]["pieces"]) == text
    assert (
        sum(each["output_tokens"] for each in said["stream"]["usage"] if each)
        == (said["chat"]["usage_metadata"]["output_tokens"])
    )
    tools = said["tools"]
    assert (tools["call"]["name"], tools["said"]) == (
        "weather",
        f"It is sunny in {tools['call']['args']['city']}.",
    )
    assert tools["after"]
    assert [call["name"] for call in said["any_tool"]][:1] == ["weather"]
    assert [town(each) for each in said["schema"].values()] == [True, True]
    assert "Paris" not in said["stop"]["content"]
    assert said["completions"]
    assert "Paris" in said["responses"]
    assert (said["budget"]["status"], said["budget"]["code"]) == (402, "insufficient_quota")
    assert said["revoked"]["status"] == 401


def test_llm(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "llm")
    for fact in ("stream", "chat", "schema", "stop", "completions"):
        assert said[fact]["code"] == 0, said[fact]
    assert "Paris" in said["stream"]["out"]
    assert "Token usage" in said["chat"]["err"]
    assert town(json.loads(said["schema"]["out"]))
    assert "Paris" not in said["stop"]["out"]
    assert said["completions"]["out"].strip()
    assert (said["budget"]["code"], "402" in said["budget"]["err"]) == (1, True)
    assert (said["revoked"]["code"], "401" in said["revoked"]["err"]) == (1, True)


def test_instructor(door: FrontDoor, clients: dict[str, Future[Program]]) -> None:
    said = told(door, clients, "instructor")
    assert [town(each) for each in said["typed"].values()] == [True, True]
    assert int(said["bill"]["cost_wei"]) > 0
    assert said["partial"]["parts"] >= 1
    assert town(said["partial"]["last"])
    assert (said["budget"]["status"], said["budget"]["code"]) == (402, "insufficient_quota")
    assert said["revoked"]["status"] == 401


SNIPPETS = re.findall(
    r"^<!-- runs: (\S+) -->\n```\w+\n(.*?)^```", (ROOT / "docs/clients.md").read_text(), re.M | re.S
)


@pytest.mark.parametrize(("name", "code"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_the_snippets_of_the_documentation_answer(
    door: FrontDoor, clients: dict[str, Future[Program]], name: str, code: str
) -> None:
    for theirs, ours in (
        ("http://127.0.0.1:11535", door.url), ("sk-hc-...", door.key), ('"smollm2"', f'"{MODEL}"')
    ):  # fmt: skip
        assert theirs in code
        code = code.replace(theirs, ours)
    assert len(run_text(clients[name].result(), code, SECONDS).strip()) > 3


def test_every_client_has_a_snippet() -> None:
    assert {name for name, _ in SNIPPETS} == {
        *(name for name in PYTHON if name != "llm"),
        *(f"{name}-node" for name in NODE),
    }
