"""The JSON behind the pages, over a gateway that serves and is paid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.money.units import HCT
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.gateway.pages.budgets import DEPOSITS, LIMITS
from hypercluster.node.home.policy import load_policy
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway

PASSWORD = "correct horse"
PATHS = (
    "/hc/me", "/hc/models", "/hc/network", "/hc/network/history", "/hc/requests", "/hc/spend", "/hc/channels",
    "/hc/keys", "/hc/events", "/hc/requests/0011", "/hc/requests/0011/bundle", "/hc/policy",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(front_door: FrontDoor) -> Iterator[httpx.Client]:
    """A browser that is logged in."""
    with httpx.Client(base_url=front_door.url, timeout=600, follow_redirects=True) as browser:
        link = front_door.gateway.logins.one_time_link()
        assert browser.get(link, headers={"accept": "text/html"}).status_code == 200
        yield browser


@pytest.fixture(scope="module")
def door(
    chain: Chain, stored_chatty: StoredModel, front_door: FrontDoor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontDoor]:
    """Another gateway over the same providers, whose policy and channels may be changed."""

    async def is_password(text: str) -> bool:
        return text == PASSWORD

    home = tmp_path_factory.mktemp("pages")
    with running_gateway(
        chain, stored_chatty, home, providers=front_door.providers, password=is_password
    ) as found:
        yield found


def ask(page: httpx.Client) -> str:
    """Make a request as the chat page does; returns its id."""
    answer = page.post(
        "/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-request-id"])


def test_nothing_is_told_to_who_is_not_logged_in_and_keys_open_no_page(front_door: FrontDoor) -> None:
    for path in PATHS:
        for headers in ({}, {"authorization": f"Bearer {front_door.key}"}, {"x-api-key": front_door.key}):
            answer = httpx.get(front_door.url + path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.json()["error"]["code"] == "login_required"


def test_a_link_that_is_used_leads_a_person_to_the_shell_and_gives_no_cookie(front_door: FrontDoor) -> None:
    link = front_door.gateway.logins.one_time_link()
    assert "set-cookie" in httpx.get(link).headers
    again = httpx.get(link, headers={"accept": "text/html"})
    assert (again.status_code, again.headers["location"]) == (303, "/")
    assert "set-cookie" not in again.headers
    assert httpx.get(link).status_code == 401


def test_what_another_origin_sends_with_the_cookie_is_refused(page: httpx.Client) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        body = {"name": "thief", "budget_wei": None, "period": "day"}
        answer = page.post("/hc/keys", json=body, headers=headers)
        assert answer.status_code in (401, 403), headers
    assert "thief" not in page.get("/hc/keys").text


def test_the_shell_shows_wallet_chain_and_models(page: httpx.Client, front_door: FrontDoor) -> None:
    me = page.get("/hc/me").json()
    assert me["role"] == "gateway"
    assert me["wallet"]["address"] == front_door.market.payer.payer
    assert int(me["wallet"]["hct_wei"]) > 0
    assert me["chain"]["head_age_s"] is not None
    (model,) = page.get("/hc/models").json()["models"]
    assert (model["name"], model["layers"], model["coverage"]) == (MODEL, 4, 1.0)
    assert int(model["price_wei"]) > int(model["prompt_price_wei"]) > 0


def test_the_network_has_providers_coverage_and_the_path(page: httpx.Client, front_door: FrontDoor) -> None:
    found = page.get("/hc/network", params={"model": MODEL}).json()
    assert sorted(each["layers"] for each in found["providers"]) == [[0, 2], [2, 4]]
    assert {each["peer"] for each in found["providers"]} == {hop["peer"] for hop in found["path"]["hops"]}
    assert all(each["on_path"] and each["ms"] > 0 for each in found["providers"])
    assert found["coverage"] == [1, 1, 1, 1]
    assert int(found["path"]["price_wei"]) == sum(int(hop["price_wei"]) for hop in found["path"]["hops"])
    assert page.get("/hc/network", params={"model": "nobody's"}).status_code == 404
    assert page.get("/hc/network/history", params={"model": MODEL, "hours": "0"}).status_code == 400


def test_keys_are_made_used_and_revoked(page: httpx.Client, front_door: FrontDoor) -> None:
    body = {
        "name": "from the page",
        "budget_wei": "5" + "0" * 17,
        "period": "day",
        "rpm": 100,
        "models": [MODEL],
    }
    made = page.post("/hc/keys", json=body)
    assert made.status_code == 200, made.text
    key, key_id = made.json()["key"], made.json()["key_id"]
    listed = page.get("/hc/keys").text
    assert key not in listed
    row = next(each for each in page.get("/hc/keys").json()["keys"] if each["key_id"] == key_id)
    assert (row["state"], row["budget_wei"], row["left_wei"]) == (
        "active",
        body["budget_wei"],
        body["budget_wei"],
    )
    bearer = {"authorization": f"Bearer {key}"}
    assert httpx.get(front_door.base_url + "/models", headers=bearer).status_code == 200
    assert page.delete(f"/hc/keys/{key_id}").status_code == 204
    assert httpx.get(front_door.base_url + "/models", headers=bearer).status_code == 401
    row = next(each for each in page.get("/hc/keys").json()["keys"] if each["key_id"] == key_id)
    assert row["state"] == "revoked"


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": None}, {"budget_wei": "1.5"}, {"budget_wei": 5}, {"budget_wei": "-1"},
        {"budget_wei": "9" * 29}, {"period": "year"}, {"rpm": 0}, {"rpm": True}, {"rpm": "5"},
        {"expires_in": -1}, {"models": "all"}, {"models": [1]}, {"name": "x" * 81}, {"name": "a\nb"},
    ],
)  # fmt: skip
def test_keys_that_cannot_be_are_refused_with_a_sentence(page: httpx.Client, change: dict[str, Any]) -> None:
    body: dict[str, Any] = {"name": "odd", "budget_wei": None, "period": "day"} | change
    answer = page.post("/hc/keys", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].endswith(".")
    assert "odd" not in [each["name"] for each in page.get("/hc/keys").json()["keys"]]


@pytest.mark.parametrize("number", ["0", "-1", "1e1", "0000000010000000000", "9" * 5000, "x", ""])
def test_a_number_of_a_query_that_cannot_be_is_a_sentence(page: httpx.Client, number: str) -> None:
    for path in (f"/hc/spend?hours={number}", f"/hc/requests?limit={number}"):
        answer = page.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value"), path


def test_a_key_without_a_word_on_its_budget_is_not_unlimited(page: httpx.Client) -> None:
    answer = page.post("/hc/keys", json={"name": "no word", "period": "day"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "budget_wei")


def test_the_policy_is_shown_and_set_with_the_password_alone(chain: Chain, door: FrontDoor) -> None:
    with httpx.Client(base_url=door.url, timeout=600) as page:
        page.get(door.gateway.logins.one_time_link())
        policy = page.get("/hc/policy").json()
        assert int(policy["float_wei"]) > 0
        body = {name: policy[name] for name in (*LIMITS, *DEPOSITS, "per_key_period")} | {
            "per_day_wei": "7" + "0" * 18
        }
        for password in (None, "", "wrong", 5):
            refused = page.put("/hc/policy", json=body | {"password": password})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "wrong_password")
        for wrong in (
            {"per_day_wei": "1.5"},
            {"float_wei": None},
            {"float_wei": "1"},
            {"per_key_period": "year"},
        ):
            assert page.put("/hc/policy", json=body | wrong | {"password": PASSWORD}).status_code == 400, (
                wrong
            )
        assert page.get("/hc/policy").json() == policy
        changed = page.put("/hc/policy", json=body | {"password": PASSWORD})
        assert changed.json()["per_day_wei"] == body["per_day_wei"]
        assert load_policy(door.home).per_day_wei == 7 * HCT
        budgets = page.get("/hc/spend").json()["budgets"]
        assert [each["limit_wei"] for each in budgets if each["name"] == "wallet, a day"] == [
            body["per_day_wei"]
        ]
        assert page.get("/hc/keys").json()["default"]["budget_wei"] == policy["per_key_wei"]


def test_a_channel_is_closed_with_the_password_and_the_next_request_opens_another(
    chain: Chain, door: FrontDoor
) -> None:
    with httpx.Client(base_url=door.url, timeout=600) as page:
        page.get(door.gateway.logins.one_time_link())
        ask(page)
        first = {each["channel_id"]: each for each in page.get("/hc/channels").json()["channels"]}
        assert len(first) == 2
        assert all(each["state"] == "open" and int(each["left_wei"]) > 0 for each in first.values())
        chosen = next(iter(first))
        url = f"/hc/channels/{chosen}/close"
        assert page.post(url, json={"password": "wrong"}).status_code == 401
        assert page.post("/hc/channels/zz/close", json={"password": PASSWORD}).status_code == 404
        assert page.post(url, json={"password": PASSWORD}).json() == {"action": "asked to close"}
        assert chain.channels.state(bytes.fromhex(chosen)).close_at > 0
        ask(page)
        after = {each["channel_id"]: each for each in page.get("/hc/channels").json()["channels"]}
        assert len(after) == 3
        assert (after[chosen]["state"], after[chosen]["can_close"]) == ("closing", False)


def test_what_happens_is_told_as_it_comes(page: httpx.Client) -> None:
    with page.stream("GET", "/hc/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines) == ": hello"
        request_id = ask(page)
        seen = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        told = list(takewhile(lambda each: each["kind"] != "request_ended", seen))
        assert {"kind": "request_begun", "request_id": request_id} in [
            {name: each.get(name) for name in ("kind", "request_id")} for each in told
        ]


def test_the_receipts_of_a_request_are_downloaded_and_hold(page: httpx.Client) -> None:
    request_id = ask(page)
    shown = page.get(f"/hc/requests/{request_id}").json()
    answer = page.get(f"/hc/requests/{request_id}/bundle")
    assert answer.status_code == 200
    assert f'filename="{request_id}.receipts"' in answer.headers["content-disposition"]
    checked = check_bundle(answer.content)
    assert checked.faults == ()
    assert checked.bundle.request_id == request_id
    assert str(checked.bundle.cost_wei) == shown["cost_wei"]
    assert shown["receipts"] == len(checked.bundle.sessions) == len(shown["hops"])
    assert {hop["session"] for hop in shown["hops"]} == {
        each.record.session.hex() for each in checked.bundle.sessions
    }
    for nothing in ("0011", "..%2Fkeys", "*"):
        assert page.get(f"/hc/requests/{nothing}/bundle").status_code == 404
