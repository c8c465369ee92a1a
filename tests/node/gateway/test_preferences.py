"""Whom a request goes over: OpenRouter's preferences, over providers that share layers at different prices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hypercluster.market.chain import Chain
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.shards.store import StoredModel
from tests.node.gateway.test_chat import HI
from tests.node.helpers.gateways import MODEL, TERMS, FrontDoor, running_gateway
from tests.node.helpers.providers import Served, running_provider


@pytest.fixture(scope="module")
def dear(
    chain: Chain, stored_chatty: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A provider of the whole model that asks a thousand times as much as the others."""
    price = PriceRule(start_wei=10**6, start_prompt_wei=10**6, adapt=False)
    folder = tmp_path_factory.mktemp("dear")
    with running_provider(chain, stored_chatty, folder, (0, 4), **TERMS, price=price) as provider:
        yield provider


@pytest.fixture(scope="module")
def door(
    front_door: FrontDoor,
    dear: Served,
    chain: Chain,
    stored_chatty: StoredModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FrontDoor]:
    """A gateway over two cheap providers of half a model each, and the dear one of all of it."""
    providers = (*front_door.providers, dear)
    home = tmp_path_factory.mktemp("preferring")
    with running_gateway(chain, stored_chatty, home, providers=providers) as door:
        yield door


def ask(door: FrontDoor, **provider: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": HI, "max_tokens": 2, "temperature": 0, "provider": provider}
    return door.http().post("/chat/completions", json=body)


def peers(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hop["peer"] for hop in answer.json()["hypercluster"]["path"]]


def test_peers_are_asked_for_ignored_and_preferred_by_id_or_its_beginning(
    door: FrontDoor, dear: Served
) -> None:
    cheap = [each.advert.peer for each in door.providers[:2]]
    whole = dear.advert.peer
    assert peers(ask(door, sort="price")) == cheap
    assert peers(ask(door, only=[whole])) == [whole]
    assert peers(ask(door, order=[whole])) == [whole]
    assert peers(ask(door, order=[whole], allow_fallbacks=False)) == [whole]
    assert peers(ask(door, ignore=[whole])) == cheap
    assert peers(ask(door, ignore=[cheap[0][:30]])) == (
        [whole] if not whole.startswith(cheap[0][:30]) else cheap
    )
    assert peers(ask(door, order=[cheap[1], cheap[0]], require_parameters=True)) == cheap


def test_peers_that_cover_no_whole_path_are_no_path(door: FrontDoor) -> None:
    answer = ask(door, only=[door.providers[0].advert.peer])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "provider.only"
    everybody = [each.advert.peer for each in door.providers]
    for provider, field in (
        ({"ignore": everybody}, "ignore"),
        ({"only": everybody, "ignore": everybody}, "only"),
    ):
        answer = ask(door, **provider)
        assert answer.status_code == 400, answer.text  # nobody failed, and waiting would change nothing
        assert answer.json()["error"]["param"] == f"provider.{field}"


def test_a_ceiling_of_prices_is_kept_or_refused(door: FrontDoor, dear: Served) -> None:
    cheap = [each.advert.peer for each in door.providers[:2]]
    million = 10**6 / 10**18
    assert peers(ask(door, max_price={"completion": 3000 * million}, order=[dear.advert.peer])) == cheap
    answer = ask(door, max_price={"completion": 1000 * million})
    assert answer.status_code == 400
    assert "cheapest path" in answer.json()["error"]["message"]
    assert ask(door, max_price={"prompt": "0"}).status_code == 400
