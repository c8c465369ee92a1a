"""Who may ask, for what, how often, and for how long: keys at a gateway that runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.node.home.policy import load_policy, save_policy
from hypercluster.node.shards.store import StoredModel
from tests.node.gateway.test_chat import HI
from tests.node.helpers.gateways import ALIAS, MODEL, FrontDoor, running_gateway
from tests.node.helpers.providers import new_wallet

BODY: dict[str, Any] = {"model": MODEL, "messages": HI, "max_tokens": 2, "temperature": 0}
LONG = {**BODY, "max_tokens": 900, "stream": True, "logit_bias": {"319": -100}}


def ask(door: FrontDoor, key: str, **fields: Any) -> httpx.Response:
    return door.http(key).post("/chat/completions", json=BODY | fields)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer sk-hc-unknown"},
        {"authorization": "Basic c2s6aGM="},
        {"authorization": "Bearer " + "x" * 5000},
        {"x-api-key": "sk-hc-unknown"},
        {"cookie": "hc_1=x"},
    ],
    ids=str,
)
def test_nobody_asks_without_a_key_that_counts(front_door: FrontDoor, headers: dict[str, str]) -> None:
    for path, body in (
        ("/chat/completions", BODY),
        ("/models", None),
        ("/responses", BODY),
        ("/completions", BODY),
    ):
        url = front_door.base_url + path
        answer = (
            httpx.get(url, headers=headers) if body is None else httpx.post(url, json=body, headers=headers)
        )
        assert refusal(answer) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert len(answer.headers["x-request-id"]) == 16


def test_either_header_carries_a_key(front_door: FrontDoor) -> None:
    named = {"x-api-key": front_door.key}
    for headers in (
        named,
        {**named, "authorization": "Bearer"},
        {"authorization": f"bearer {front_door.key}"},
    ):
        assert httpx.get(f"{front_door.base_url}/models", headers=headers).status_code == 200


def test_a_key_counts_until_it_expires_and_is_noted_when_it_was_used(front_door: FrontDoor) -> None:
    _, dead = front_door.new_key("dead", expires=datetime.now(UTC) - timedelta(seconds=1))
    assert refusal(ask(front_door, dead)) == (401, "invalid_api_key")
    row, alive = front_door.new_key("alive", expires=datetime.now(UTC) + timedelta(hours=1))
    assert ask(front_door, alive).status_code == 200
    front_door.inside(front_door.gateway.keyring._note_uses)
    assert front_door.market.ledger.api_keys.named(row.key_id).last_used is not None


def test_a_key_for_some_models_sees_and_asks_no_other(front_door: FrontDoor) -> None:
    _, here = front_door.new_key("here", models=[ALIAS])
    _, elsewhere = front_door.new_key("elsewhere", models=["gpt-5"])
    assert ask(front_door, here).status_code == 200
    assert refusal(ask(front_door, elsewhere)) == (403, "model_not_allowed")
    assert front_door.http(elsewhere).get("/models").json()["data"] == []
    assert front_door.http(elsewhere).get(f"/models/{MODEL}").status_code == 403


def test_a_key_may_be_used_so_many_times_a_minute(front_door: FrontDoor) -> None:
    _, key = front_door.new_key("twice", rpm=2)
    assert [ask(front_door, key).status_code for _ in range(2)] == [200, 200]
    answer = ask(front_door, key)
    assert refusal(answer) == (429, "rate_limit_exceeded")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert front_door.http(key).get("/models").status_code == 200


def test_a_key_without_any_budget_left_is_told_to_pay_and_still_sees_the_models(
    front_door: FrontDoor,
) -> None:
    _, key = front_door.new_key("poor", budget=0)
    answer = ask(front_door, key)
    assert refusal(answer) == (402, "insufficient_quota")
    assert answer.json()["error"]["type"] == "insufficient_quota"
    assert "retry-after" not in answer.headers
    assert front_door.http(key).get("/models").status_code == 200


def lines(answer: httpx.Response) -> Iterator[str]:
    return (line for line in answer.iter_lines() if line.startswith("data: "))


def test_revoking_a_key_ends_what_runs_with_it_at_its_next_token(front_door: FrontDoor) -> None:
    row, key = front_door.new_key("doomed")
    with front_door.http(key).stream("POST", "/chat/completions", json=LONG) as answer:
        told = lines(answer)
        next(told), next(told)
        front_door.market.ledger.api_keys.revoke(row.key_id)
        rest = list(told)
    assert rest[-1] == "data: [DONE]"
    assert '"code":"invalid_api_key"' in rest[-2]
    assert len(rest) < 900
    assert "was revoked" in ask(front_door, key).json()["error"]["message"]


def test_a_budget_ends_an_answer_with_what_was_paid_for_and_is_never_passed(front_door: FrontDoor) -> None:
    row, key = front_door.new_key("thrifty", budget=60_000, period="total")
    fields = {"max_tokens": 900, "logit_bias": {"319": -100}}
    document = ask(front_door, key, **fields).json()
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["hypercluster"]["finish"] == "cost"
    assert document["usage"]["completion_tokens"] > 5
    spent = int(document["usage"]["cost_wei"])
    assert 55_000 < spent <= 60_000
    answer = ask(front_door, key, **fields)
    assert refusal(answer) == (402, "insufficient_quota")
    assert "budget of the key 'thrifty'" in answer.json()["error"]["message"]
    assert front_door.market.ledger.requests.spent_in(row.key_id, None) == spent
    detail = front_door.row(document["hypercluster"]["request_id"])
    assert (detail.row.outcome, detail.row.cost, detail.row.key_id) == ("cost", spent, row.key_id)
    assert detail.row.app.startswith("python-httpx/")
    assert detail.row.endpoint == "chat"


def test_two_answers_at_once_share_a_budget_and_do_not_pass_it(front_door: FrontDoor) -> None:
    row, key = front_door.new_key("shared", budget=80_000, period="day")
    document = ask(front_door, key, n=2, max_tokens=900, logit_bias={"319": -100}).json()
    assert {each["finish"] for each in document["hypercluster"]["choices"]} == {"cost"}
    assert int(document["usage"]["cost_wei"]) <= 80_000
    assert front_door.market.ledger.requests.spent_in(row.key_id, None) <= 80_000


def test_an_empty_wallet_is_told_to_pay_and_not_to_try_again(
    front_door: FrontDoor, chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    poor = new_wallet(chain, 0)
    with running_gateway(chain, stored_chatty, tmp_path, providers=front_door.providers, wallet=poor) as door:
        answer = ask(door, door.key)
        assert refusal(answer) == (402, "insufficient_quota")
        assert "retry-after" not in answer.headers


def test_all_choices_of_a_call_share_what_the_policy_gives_a_request(front_door: FrontDoor) -> None:
    """Whoever of them is first; one that begins when the others have used it all is refused, and the call with it."""
    spent = int(ask(front_door, front_door.key).json()["usage"]["cost_wei"])
    before, requests = load_policy(front_door.home), front_door.market.ledger.requests
    paid = requests.spent_in(None, None)
    save_policy(front_door.home, replace(before, per_request_wei=4 * spent))
    try:
        answer = ask(front_door, front_door.key, **(LONG | {"stream": False, "n": 3}))
    finally:
        save_policy(front_door.home, before)
    paid = requests.spent_in(None, None) - paid
    assert 0 < paid <= 4 * spent
    if answer.status_code == 402:
        assert "limit for a request" in answer.json()["error"]["message"]
    else:
        assert answer.status_code == 200, answer.text
        assert [each["finish_reason"] for each in answer.json()["choices"]] == ["length"] * 3
        assert 3 * spent <= paid == int(answer.json()["usage"]["cost_wei"])
