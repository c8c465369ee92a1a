"""What a gateway tells probes and Prometheus."""

from __future__ import annotations

import time

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.node.gateway.test_keys import ask
from tests.node.helpers.gateways import MODEL, FrontDoor

WALLET = ("hypercluster_wallet_hct", ())


def samples(door: FrontDoor) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = httpx.get(f"{door.url}/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_asked_and_paid_is_counted(front_door: FrontDoor) -> None:
    _, key = front_door.new_key("counted")
    before = samples(front_door)
    document = ask(front_door, key).json()
    after = samples(front_door)
    model, named = ("model", MODEL), ("key", "counted")
    finish = document["hypercluster"]["finish"]

    def grown(name: str, *labels: tuple[str, str]) -> float:
        at = (f"hypercluster_{name}", tuple(sorted(labels)))
        return after[at] - before.get(at, 0.0)

    assert grown("requests_total", model, ("endpoint", "chat"), ("outcome", finish)) == 1
    assert grown("prompt_tokens_total", model) == document["usage"]["prompt_tokens"]
    assert grown("generated_tokens_total", model) == document["usage"]["completion_tokens"]
    assert abs(grown("spent_hct_total", model, named) - document["usage"]["cost"]) < 1e-21
    assert after["hypercluster_layers_covered_ratio", (model,)] == 1
    assert front_door.key not in str(after)


def test_who_asks_through_a_proxy_on_this_machine_needs_a_key(front_door: FrontDoor) -> None:
    for header in ("x-forwarded-for", "x-forwarded-proto", "forwarded"):
        through = {header: "for=192.0.2.1"}
        assert httpx.get(f"{front_door.url}/metrics", headers=through).status_code == 401
        through["authorization"] = f"Bearer {front_door.key}"
        assert httpx.get(f"{front_door.url}/metrics", headers=through).status_code == 200


def test_a_gateway_over_a_whole_model_is_ready(front_door: FrontDoor) -> None:
    assert httpx.get(f"{front_door.url}/healthz").json() == {"status": "ok"}
    deadline = time.monotonic() + 300
    while (ready := httpx.get(f"{front_door.url}/readyz")).status_code != 200:
        assert time.monotonic() < deadline, ready.text
        time.sleep(0.1)
    assert set(ready.json()["checks"]) == {"chain", "models", "staying"}
    assert samples(front_door)[WALLET] > 0
