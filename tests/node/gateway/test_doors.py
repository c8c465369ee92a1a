"""Who gets through the door: pages of this gateway with their cookie, and nobody else's pages."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.node.shards.store import StoredModel
from tests.node.gateway.test_ending import LONG
from tests.node.gateway.test_keys import BODY, refusal
from tests.node.gateway.test_metrics import samples
from tests.node.helpers.gateways import TERMS, FrontDoor, running_gateway
from tests.node.helpers.providers import running_provider


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:11535"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
    ids=str,
)
def test_other_pages_get_nowhere_even_with_a_key(
    front_door: FrontDoor, headers: dict[str, str], status: int
) -> None:
    for path in ("chat/completions", "completions", "responses", "messages"):
        answer = front_door.http().post(
            path, content=json.dumps(BODY), headers={"content-type": "application/json"} | headers
        )
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_spends_with_its_cookie_and_only_from_this_origin(front_door: FrontDoor) -> None:
    with httpx.Client(base_url=front_door.url, follow_redirects=False, timeout=600) as browser:
        assert refusal(browser.post("/v1/chat/completions", json=BODY)) == (401, "invalid_api_key")
        link = front_door.gateway.logins.one_time_link()
        assert browser.get(link).status_code == 303
        own = {"origin": front_door.url, "sec-fetch-site": "same-origin"}
        answer = browser.post("/v1/chat/completions", json=BODY, headers=own)
        assert answer.status_code == 200, answer.text
        row = front_door.row(answer.headers["x-request-id"]).row
        assert (row.key_id, row.endpoint, row.app) == (None, "page", "page")
        other = {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"}
        assert browser.post("/v1/chat/completions", json=BODY, headers=other).status_code == 403
        assert browser.get(link).status_code == 401


def test_a_provider_that_fails_after_it_was_paid_is_no_reason_to_pay_again(
    chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    with (
        running_provider(chain, stored_chatty, tmp_path / "lone", (0, 4), **TERMS) as lone,
        running_gateway(chain, stored_chatty, tmp_path / "gateway", providers=[lone], patience=1.0) as door,
    ):
        with door.http().stream("POST", "/chat/completions", json=LONG | {"stream": True}) as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: "))
            next(lines), next(lines)
            lone.token.run_sync_soon(lone.scope.cancel)
            told: list[Any] = list(lines)
        error = json.loads(told[-2].removeprefix("data: "))["error"]
        assert error["code"] == "upstream_failed"
        assert told[-1] == "data: [DONE]"
        row = door.row(stream.headers["x-request-id"]).row
        assert row.outcome == "failed"
        assert row.cost > 0
        answer = door.http().post("/chat/completions", json=BODY)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0


def test_a_whole_answer_that_fails_after_it_was_paid_tells_sdks_not_to_buy_it_again(
    chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    """The header is what keeps OpenAI's and Anthropic's SDKs from their own retry at 502."""
    with (
        running_provider(chain, stored_chatty, tmp_path / "lone", (0, 4), **TERMS) as lone,
        running_gateway(chain, stored_chatty, tmp_path / "gateway", providers=[lone], patience=1.0) as door,
        ThreadPoolExecutor(1) as beside,
    ):
        asked = beside.submit(door.http().post, "/chat/completions", json=LONG)
        deadline = time.monotonic() + 300
        while not any(row.best for row in lone.ledger.payee.channels()):
            assert time.monotonic() < deadline, "nothing was paid"
            time.sleep(0.01)
        lone.token.run_sync_soon(lone.scope.cancel)
        answer = asked.result()
        assert refusal(answer) == (502, "upstream_failed")
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        failures = [name for name in samples(door) if name[0] == "hypercluster_hop_failures_total"]
        assert failures
        assert all({"code", "blame"} == set(dict(labels)) for _, labels in failures)
        answer = door.http().post("/chat/completions", json=BODY)  # nothing was spent on this one
        assert answer.status_code == 503
        assert "x-should-retry" not in answer.headers
