"""As much as a crowd sends at once, over a path with four sessions: all is answered, and nobody is blamed."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.ledger.requests import Which
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.books import assert_books_agree
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway

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
    standings = door.market.ledger.trust.reputations(datetime.now(UTC))
    assert {each.reputation.bad for each in standings.values()} <= {0}


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
