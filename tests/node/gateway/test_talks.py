"""A talk goes on where it was, by itself; each form of usage tells what the providers still held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from hypercluster.market.chain import Chain
from hypercluster.node.client.request import Wishes
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.gateways import MODEL, running_gateway

SAID = "The harbour master wrote down every ship that came in: its name, its flag and its cargo."


def answered(http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    response = http.post(path, json={"model": MODEL, "max_tokens": 6, "temperature": 0, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_each_form_tells_what_the_providers_still_held(
    chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    with running_gateway(chain, stored_chatty, tmp_path, wishes=Wishes(stays=True)) as door:
        http = door.http()
        first = [{"role": "user", "content": SAID}]
        begun = answered(http, "chat/completions", messages=first)
        assert begun["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        reply = begun["choices"][0]["message"]["content"]
        talk = [*first, {"role": "assistant", "content": reply}, {"role": "user", "content": "And then?"}]
        # What others asked is not theirs to go on with.
        _, key = door.new_key("others")
        strange = answered(door.http(key), "chat/completions", messages=talk)
        assert strange["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        second = answered(http, "chat/completions", messages=talk)
        cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert begun["usage"]["prompt_tokens"] - 1 <= cached < second["usage"]["prompt_tokens"]
        assert second["choices"][0]["message"] == strange["choices"][0]["message"]
        assert int(second["usage"]["cost_wei"]) < int(strange["usage"]["cost_wei"]) / 2
        assert door.row(second["hypercluster"]["request_id"]).row.tokens_cached == cached
        # The same again, through another door.
        third = answered(http, "messages", messages=talk)["usage"]
        assert third["cache_read_input_tokens"] == second["usage"]["prompt_tokens"] - 1
        assert third["input_tokens"] == 1
