"""As much as agents and crowds send at once: all is answered or told why not, and nobody is blamed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.ledger.requests import Which
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.shards.writing import Value
from tests.node.helpers.books import assert_books_agree
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

pytestmark = pytest.mark.slow


def stream(door: FrontDoor, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """One request over a connection of its own: its status, and its last document or its headers."""
    with httpx.Client(timeout=600) as http:
        headers = {"authorization": f"Bearer {key}"}
        asked = {"model": MODEL, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        with http.stream(
            "POST", f"{door.base_url}/chat/completions", json=asked | body, headers=headers
        ) as answer:
            if answer.status_code != 200:
                return answer.status_code, dict(answer.headers)
            told = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert told[-1] == "[DONE]"
    documents = [json.loads(each) for each in told[:-1]]
    assert [each["error"] for each in documents if "error" in each] == []
    return 200, {**documents[-1], "finish": documents[-2]["choices"][0]["finish_reason"]}


def assert_nobody_is_blamed(door: FrontDoor) -> None:
    """No refusal or loss stands against a provider; how fast it was under load is another matter."""
    kinds = {event.kind for event in door.market.ledger.trust.events(limit=None)}
    assert kinds <= {Evidence.SERVED, Evidence.AUDIT_PASSED, Evidence.LATENCY_LIE}


def test_fifty_streams_at_once_end_well_or_are_told_when_to_come_again(
    chain: Chain, stored_chatty: StoredModel, front_door: FrontDoor, tmp_path: Path
) -> None:
    """Of two keys, one of which may ask thirty times a minute."""
    with running_gateway(chain, stored_chatty, tmp_path, providers=front_door.providers) as door:
        row, free = door.new_key("crowd")
        bounded, few = door.new_key("few", rpm=15)
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6}
        with ThreadPoolExecutor(50) as pool:
            ended = list(pool.map(lambda index: stream(door, few if index % 2 else free, body), range(50)))
        statuses = Counter(status for status, _ in ended)
        assert statuses.keys() <= {200, 429, 503}
        assert statuses[200] >= 25
        assert statuses[429] >= 1  # of the second key
        assert all(int(told["retry-after"]) >= 1 for status, told in ended if status != 200)
        costs = Counter(told["usage"]["cost_wei"] for status, told in ended if status == 200)
        rows = [
            each
            for key in (row, bounded)
            for each in door.market.ledger.requests.latest(Which(key_id=key.key_id))
        ]
        assert_books_agree(door.market.ledger, door.providers)
        assert Counter(str(each.cost + each.risked) for each in rows if each.cost) == costs
        assert_nobody_is_blamed(door)


@pytest.fixture(scope="module")
def agents_door(chain: Chain, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    """SmolLM2's tokens and chat template over small random weights, and a context as long as an agent needs."""
    home = tmp_path_factory.mktemp("agents")
    shape = Shape(
        layers=2, n_embd=32, heads=2, kv_heads=1, n_vocab=49_152, context=8192, vocabulary=False, tied=True
    )
    plain, told = write_random_model(home / "plain.gguf", shape), read_container(smollm2)
    kept: dict[str, Value | None] = {
        key: Value(field.type, told.raw(key))
        for key, field in told.fields.items()
        if key.startswith("tokenizer.")
    }
    path = rewritten(plain, home / "agents.gguf", metadata=kept | {"llama.vocab_size": None})
    terms = {"sessions": 2, "session_tokens": 8192, "step_tokens": 512}
    with running_gateway(chain, open_model(path, home), home, ranges=((0, 1), (1, 2)), terms=terms) as door:
        yield door


def tool(index: int) -> dict[str, Any]:
    """One of an agent's tools; what it says of itself has the length that theirs have."""
    about = "Use it to read, write or search files of the project, as the user asks. " * 16
    arguments = {
        name: {"type": "string", "description": "A path or a text. " * 6} for name in ("path", "text")
    }
    return {
        "type": "function",
        "function": {
            "name": f"tool_{index}",
            "description": f"Tool {index}. {about}",
            "parameters": {"type": "object", "properties": arguments, "required": ["path"]},
        },
    }


def agents_turn(told: int = 285) -> dict[str, Any]:
    """What opencode asks in a turn: ten tools, 31 KB, and 32,000 tokens of answer if they may."""
    system = {"role": "system", "content": "You are an agent that works on the files of a project. " * told}
    return {
        "messages": [system, {"role": "user", "content": "Say hello."}],
        "tools": [tool(index) for index in range(10)],
        "tool_choice": "auto",
        "max_tokens": 32_000,
    }


def test_an_agent_s_two_requests_at_once_are_answered(agents_door: FrontDoor) -> None:
    """A title and a turn, as opencode sends them."""
    door = agents_door
    row, key = door.new_key("agent", budget=10**18)
    turn = agents_turn()
    assert 28_000 < len(json.dumps(turn)) < 36_000
    title = {
        "messages": [
            {"role": "system", "content": "Give a title."},
            {"role": "user", "content": "Say hello."},
        ],
        "max_tokens": 32_000,
        "temperature": 1,
        "stop": ["e", "a", "i", "o"],
    }
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda body: stream(door, key, body), (turn, title)))
    assert [status for status, _ in ended] == [200, 200]
    assert [told["finish"] for _, told in ended] == ["length", "stop"]
    used = ended[0][1]["usage"]
    assert used["prompt_tokens"] > 5000
    assert used["prompt_tokens"] + used["completion_tokens"] == 8192  # as many as the context holds
    assert_books_agree(door.market.ledger, door.providers)
    rows = door.market.ledger.requests.latest(Which(key_id=row.key_id))
    assert sum(each.cost + each.risked for each in rows) == sum(
        int(told["usage"]["cost_wei"]) for _, told in ended
    )
    assert_nobody_is_blamed(door)


def test_an_agent_that_says_more_than_the_context_holds_is_told_and_pays_nothing(
    front_door: FrontDoor,
) -> None:
    """The same turn to a model with a short context; nobody is to blame."""
    row, key = front_door.new_key("agent of many words", budget=10**18)
    body = {"model": MODEL, "stream": True} | agents_turn()
    answer = front_door.http(key).post("/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    rows = front_door.market.ledger.requests.latest(Which(key_id=row.key_id))
    assert [each.cost + each.risked for each in rows] in ([], [0])
    assert_books_agree(front_door.market.ledger, front_door.providers)
    assert_nobody_is_blamed(front_door)
