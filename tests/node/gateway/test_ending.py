"""Calls that end before their time: a client that leaves, a gateway that is told to end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.node.shards.store import StoredModel
from tests.node.gateway.test_chat import HI
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway

LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": HI,
    "max_tokens": 900,
    "temperature": 0,
    "logit_bias": {"319": -100},
}
"""without the token that would end it"""


def wait_until_free(door: FrontDoor) -> None:
    deadline = time.monotonic() + 300
    while any(each.open_sessions for each in door.providers):
        assert time.monotonic() < deadline, "a session is still open"
        time.sleep(0.02)


@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_its_stream_ends_all_choices(front_door: FrontDoor, n: int) -> None:
    body = {**LONG, "stream": True, "n": n}
    with front_door.http().stream("POST", "/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        next(answer.iter_lines())
        assert any(each.open_sessions for each in front_door.providers)
    wait_until_free(front_door)


def test_a_client_that_does_not_wait_for_the_whole_answer_ends_it(front_door: FrontDoor) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{front_door.base_url}/chat/completions",
            json=LONG,
            headers={"authorization": f"Bearer {front_door.key}"},
            timeout=httpx.Timeout(10, read=0.7),
        )
    wait_until_free(front_door)


def test_a_gateway_that_ends_answers_with_what_was_paid_for(
    front_door: FrontDoor, chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    with running_gateway(chain, stored_chatty, tmp_path, providers=front_door.providers) as door:
        body = {**LONG, "stream": True, "stream_options": {"include_usage": True}}
        with door.http().stream("POST", "/chat/completions", json=body) as answer:
            lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
            next(lines), next(lines)
            door.token.run_sync_soon(door.stop.cancel)
            told = list(lines)
        assert told[-1] == "[DONE]"
        ended, usage = json.loads(told[-3]), json.loads(told[-2])
        assert ended["choices"][0]["finish_reason"] == "length"
        assert usage["hypercluster"]["finish"] == "shutdown"
        assert 0 < usage["usage"]["completion_tokens"] < 900
        assert int(usage["usage"]["cost_wei"]) > 0
    wait_until_free(front_door)
