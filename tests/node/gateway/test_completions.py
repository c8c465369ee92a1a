"""Completions of texts and token ids, and the list of models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from hypercluster.node.client.request import Sampling
from hypercluster.node.gateway.asking import DEFAULT
from hypercluster.node.gateway.openai.completions import read_completion
from hypercluster.node.gateway.reading import Fields
from tests.node.gateway.test_chat import streamed
from tests.node.helpers.gateways import ALIAS, MODEL, FrontDoor


def complete(door: FrontDoor, prompt: Any, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 4, "temperature": 0} | fields
    return door.http().post("/completions", json=body)


def test_a_text_and_its_token_ids_are_continued_alike(front_door: FrontDoor) -> None:
    by_text, by_ids = complete(front_door, "Hell"), complete(front_door, [72, 101, 108, 108])
    assert by_text.status_code == by_ids.status_code == 200, by_text.text
    (first,), (second,) = by_text.json()["choices"], by_ids.json()["choices"]
    assert first["text"] == second["text"]
    assert by_text.json()["object"] == "text_completion"
    assert by_text.json()["usage"]["prompt_tokens"] == 4


def test_several_prompts_have_several_answers_each_in_its_place(front_door: FrontDoor) -> None:
    document = complete(front_door, ["Hell", "the"], n=2, seed=3, temperature=1, echo=True).json()
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2, 3]
    assert [choice["text"][:2] for choice in document["choices"]] == ["He", "He", "th", "th"]
    again = complete(front_door, ["Hell", "the"], n=2, seed=3, temperature=1, echo=True).json()
    assert [choice["text"] for choice in again["choices"]] == [
        choice["text"] for choice in document["choices"]
    ]


def test_no_prompt_of_several_is_paid_before_all_are_known_to_fit(front_door: FrontDoor) -> None:
    """B1: limits are known before anything opens."""
    spent = front_door.market.spent_wei
    for stream in (False, True):
        answer = complete(front_door, ["Hell", "long " * 1000], stream=stream)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt[1]")
    answer = complete(front_door, "long " * 1000)
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert front_door.market.spent_wei == spent


def test_a_choice_that_fails_takes_none_away_that_was_paid_for(front_door: FrontDoor) -> None:
    """E1: what came and what it cost, though the limit of all choices is used up by some of them."""
    one = int(complete(front_door, "Hell", max_tokens=6).json()["usage"]["cost_wei"])
    answer = complete(front_door, "Hell", max_tokens=6, n=4, seed=1, max_cost_wei=str(one))
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert len(document["choices"]) == 4
    assert any(choice["text"] for choice in document["choices"])
    assert {choice["finish_reason"] for choice in document["choices"]} <= {"length", "stop"}
    assert 0 < int(document["usage"]["cost_wei"]) <= one
    finishes = [choice["finish"] for choice in document["hypercluster"]["choices"]]
    assert {"cost", "failed"} & set(finishes)
    assert all(
        "limit" in each["error"] for each in document["hypercluster"]["choices"] if each["finish"] == "failed"
    )


def test_a_stream_of_a_completion_ends_with_its_usage(front_door: FrontDoor) -> None:
    events = streamed(front_door, "/completions", prompt="Hell", stream_options={"include_usage": True})
    documents = [event for event in events if isinstance(event, dict)]
    assert all(document["object"] == "text_completion" for document in documents)
    assert documents[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    assert documents[-1]["choices"] == []
    assert documents[-1]["usage"]["prompt_tokens"] == 4
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [5000]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": ["a"] * 40}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"echo": True, "prompt": [1, 2]}, "echo"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_name(front_door: FrontDoor, fields: dict[str, Any], param: str) -> None:
    answer = complete(front_door, "a", **fields) if "prompt" not in fields else complete(front_door, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_models_are_listed_with_prices_context_and_coverage(front_door: FrontDoor) -> None:
    http = front_door.http()
    (model,) = http.get("/models").json()["data"]
    assert model["id"] == MODEL
    assert model["context_length"] == 1024
    assert model["pricing"]["completion_wei"] == "2000"
    assert model["pricing"]["prompt"] == "0.0000000000000005"
    assert model["hypercluster"]["coverage"] == 1.0
    assert "tools" in model["supported_parameters"]
    assert model["default_parameters"]["temperature"] == 0.8
    assert http.get(f"/models/{ALIAS}").json() == model
    assert http.get(f"/models/{model['hypercluster']['model_id']}").json() == model
    missing = http.get("/models/gpt-5")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


def test_a_model_s_own_way_of_drawing_counts_where_the_caller_says_nothing(front_door: FrontDoor) -> None:
    entry = front_door.market.model()
    asked = read_completion(Fields({"model": MODEL, "prompt": "a", "top_p": 0.5}))
    calm = replace(entry, sampling=Sampling(temperature=0.2, top_p=0.9))
    assert asked.drawn(calm) == Sampling(temperature=0.2, top_p=0.5)
    assert asked.drawn(entry) == replace(DEFAULT, top_p=0.5)
