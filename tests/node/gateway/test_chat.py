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


def test_several_choices_differ_and_come_again_with_their_seed(front_door: FrontDoor) -> None:
    fields = {"n": 3, "temperature": 1.5, "seed": 7, "max_tokens": 12, "logit_bias": {"319": -100}}
    first, again = (ask(front_door, **fields).json() for _ in range(2))
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert [choice["message"]["content"] for choice in again["choices"]] == texts
    assert [each["seed"] for each in first["hypercluster"]["choices"]] == [7, 8, 9]
    assert first["usage"]["completion_tokens"] == 36
    drawn = ask(front_door, temperature=1).json()["hypercluster"]["seed"]
    assert isinstance(drawn, int)


def test_several_choices_share_their_prompt_and_one_limit(front_door: FrontDoor) -> None:
    """A prompt is run and counted once; of the limit each choice has what the others leave."""
    fields: dict[str, Any] = {
        "temperature": 1.5,
        "seed": 5,
        "max_tokens": 12,
        "logit_bias": {"319": -100},
        "messages": [{"role": "user", "content": "Say it once, and once more, and again. " * 3}],
    }
    alone = [ask(front_door, **fields | {"seed": seed}).json() for seed in (5, 6, 7)]
    usages = [each["usage"] for each in alone]
    together = ask(front_door, n=3, **fields).json()
    usage = together["usage"]
    assert [choice["message"]["content"] for choice in together["choices"]] == [
        each["choices"][0]["message"]["content"] for each in alone
    ]
    assert usage["prompt_tokens"] == usages[0]["prompt_tokens"] > 100
    assert usage["completion_tokens"] == sum(each["completion_tokens"] for each in usages)
    assert usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    # The rows of the prompt were paid once at the most, however much of it was held before.
    cheapest = min(int(each["cost_wei"]) for each in usages)
    assert int(usage["cost_wei"]) < 3 * cheapest + int(usages[0]["cost_wei"])
    bounded = ask(front_door, n=3, max_cost_wei=2 * cheapest, **fields | {"max_tokens": 200}).json()
    assert cheapest < int(bounded["usage"]["cost_wei"]) <= 2 * cheapest
    assert {each["finish"] for each in bounded["hypercluster"]["choices"]} == {"cost"}
    assert all(choice["message"]["content"] for choice in bounded["choices"])


def test_choices_that_the_others_leave_nothing_for_are_none_that_failed(front_door: FrontDoor) -> None:
    """A limit that the prompt alone uses up ends them all as a limit does."""

    def said(word: str) -> dict[str, Any]:
        # Another prompt of the same length, that nobody holds.
        return {"messages": [{"role": "user", "content": f"Say it {word}, and once more, and again. " * 3}]}

    prompt = ask(front_door, **said("Xqzk"), max_tokens=1).json()["usage"]
    limit = int(prompt["cost_wei"]) + 1500  # a token costs more
    bounded = ask(front_door, n=3, max_cost_wei=limit, **said("Xqzj"), max_tokens=12).json()
    usage, facts = bounded["usage"], bounded["hypercluster"]
    assert (usage["prompt_tokens"], usage["cost_wei"]) == (prompt["prompt_tokens"], prompt["cost_wei"])
    assert [each["finish_reason"] for each in bounded["choices"]] == ["length"] * 3
    assert [each["finish"] for each in facts["choices"]] == ["cost"] * 3
    assert not any("error" in each for each in facts["choices"])


def test_streams_of_several_choices_carry_each_its_own_index(front_door: FrontDoor) -> None:
    events = streamed(front_door, n=2, temperature=1.5, seed=7, max_tokens=12)
    choices = [event["choices"][0] for event in events if isinstance(event, dict)]
    assert [choice["index"] for choice in choices[:2]] == [0, 1]
    assert all(choice["delta"]["role"] == "assistant" for choice in choices[:2])
    whole = ask(front_door, n=2, temperature=1.5, seed=7, max_tokens=12).json()["choices"]
    for index in (0, 1):
        mine = [choice for choice in choices[2:] if choice["index"] == index]
        assert (
            "".join(choice["delta"].get("content", "") for choice in mine)
            == whole[index]["message"]["content"]
        )
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == [
            whole[index]["finish_reason"]
        ]


def test_probabilities_come_with_their_tokens(front_door: FrontDoor) -> None:
    fields: dict[str, Any] = {
        "logprobs": True,
        "top_logprobs": 3,
        "max_tokens": 4,
        "logit_bias": {"319": -100},
    }
    (choice,) = ask(front_door, **fields).json()["choices"]
    content = choice["logprobs"]["content"]
    assert len(content) == 4
    assert (
        bytes(b for token in content for b in token["bytes"]).decode("utf-8", "replace")
        == (choice["message"]["content"])
    )
    for token in content:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] <= 0
        best = [other["logprob"] for other in token["top_logprobs"]]
        assert best == sorted(best, reverse=True)
    events = streamed(front_door, **fields)
    told = [
        token
        for event in events
        if isinstance(event, dict) and event["choices"] and event["choices"][0]["logprobs"]
        for token in event["choices"][0]["logprobs"]["content"]
    ]
    assert told == content


def test_a_text_to_stop_at_ends_an_answer_and_is_no_part_of_it(front_door: FrontDoor) -> None:
    fields = {"max_tokens": 12, "logit_bias": {"319": -100}}
    text = ask(front_door, **fields).json()["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:2]
    (choice,) = ask(front_door, **fields, stop=stop).json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == text[: text.index(stop)]


def test_a_large_bound_of_tokens_is_what_the_path_holds_and_a_prompt_beyond_it_is_too_long(
    front_door: FrontDoor,
) -> None:
    assert (
        ask(front_door, max_tokens=128_000, stop=["e", "a", "t", "o", "[", "1", "2", "3"]).status_code == 200
    )
    answer = ask(front_door, messages=[{"role": "user", "content": "word " * 2000}])
    assert answer.json()["error"]["code"] == "context_length_exceeded", answer.text
    assert answer.status_code == 400
    assert ask(front_door).status_code == 200


def test_a_bound_of_cost_ends_the_answer_with_what_was_paid_for(front_door: FrontDoor) -> None:
    whole = ask(front_door, max_tokens=12, logit_bias={"319": -100}).json()
    assert "usage" in whole, whole
    bound = int(whole["usage"]["cost_wei"]) * 3 // 4
    cut = ask(front_door, max_tokens=12, logit_bias={"319": -100}, max_cost_wei=str(bound)).json()
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["hypercluster"]["finish"] == "cost"
    assert 0 < int(cut["usage"]["cost_wei"]) <= bound
    answer = ask(front_door, max_cost_wei=5)
    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == "insufficient_quota"


def test_a_model_that_nobody_trades_in_is_not_found(front_door: FrontDoor) -> None:
    answer = ask(front_door, model="gpt-5")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": answer.json()["error"]["message"],
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
