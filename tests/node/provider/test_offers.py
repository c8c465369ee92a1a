"""What a provider offers, and what of it others should hear of before the next refresh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import trio

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.node.engine.engine import Engine
from hypercluster.node.provider.offers import Offer
from hypercluster.node.provider.prices import Asking, PriceRule, Prices
from hypercluster.node.provider.speed import SERVED, Speed
from hypercluster.node.provider.terms import ProviderTerms
from hypercluster.node.serving.presence import Issue
from hypercluster.node.shards.store import StoredModel

ISSUE = Issue("peer", ("/ip4/127.0.0.1/tcp/4001",), "0x" + "11" * 20, 1, 0, 60)


@pytest.fixture
def offer(stored_tiny: StoredModel) -> Iterator[Offer]:
    rule = PriceRule(start_wei=1000, start_prompt_wei=250, adapt=False)
    terms = ProviderTerms(start=0, stop=4, price=rule, sessions=2, session_tokens=10_000)
    manifest = stored_tiny.manifest
    with Engine(
        stored_tiny.shard(0, 4),
        first=True,
        last=True,
        n_ctx_total=2 * manifest.context,
        max_sessions=2,
        threads=1,
    ) as engine:
        speed = Speed(engine)
        speed.cost_ms = 10.0
        yield Offer(
            terms=terms,
            manifest=manifest,
            engine=engine,
            asking=Asking(rule, MarketParameters(), 4),
            speed=speed,
        )


async def test_who_promises_to_be_fast_takes_no_session_that_would_make_all_of_them_slow(
    offer: Offer,
) -> None:
    """What is measured at rest is no load; what was served a moment ago is."""
    offer.terms = replace(offer.terms, slowest_ms=5.0)
    assert (offer.crowded, offer.free) == (False, 2)
    offer.advert(ISSUE)
    slot = offer.engine.open(40)
    for position in range(SERVED):
        offer.engine.submit(slot, position, np.array([7], np.int32)).result()
    offer.speed.look()
    taken = offer.speed.cost_ms
    offer.terms = replace(offer.terms, slowest_ms=2 * taken)
    assert (offer.crowded, offer.free) == (False, 1)
    offer.terms = replace(offer.terms, slowest_ms=taken / 2)
    assert (offer.crowded, offer.free) == (True, 0)
    assert offer.changed()
    assert offer.advert(ISSUE).free == 0
    offer.engine.close(slot)


@pytest.mark.parametrize("certified", [(), ("f16",), ("q8",)])
def test_rows_as_q8_are_offered_where_they_do_the_model_no_harm(
    offer: Offer, certified: tuple[str, ...]
) -> None:
    again = Offer(
        terms=offer.terms,
        manifest=offer.manifest,
        engine=offer.engine,
        asking=offer.asking,
        speed=offer.speed,
        certified=certified,
    )
    taken = ("f32", "f16", "q8") if "q8" in certified else ("f32", "f16")
    assert again.advert(ISSUE).wire_dtypes == taken
    assert [dtype.name.lower() for dtype in again.wire_dtypes] == [*taken]


async def test_o6_o8_the_advert_follows_what_has_changed(offer: Offer) -> None:
    """O6, O8: speed, price and room are told when they change; a session is as long as the model and the flag allow."""
    advert = offer.advert(ISSUE)
    assert (advert.cost_ms, advert.free, advert.session_tokens) == (10.0, 2, offer.manifest.context)
    assert not offer.changed()
    offer.speed.cost_ms = 10.5
    assert not offer.changed()
    offer.speed.cost_ms = 6.8
    assert offer.changed()
    assert offer.advert(ISSUE).cost_ms == 6.8
    offer.asking.prices = Prices(2000, 500)
    assert offer.changed()
    offer.advert(ISSUE)
    slots = [offer.engine.open(16) for _ in range(2)]
    assert offer.changed()
    assert offer.advert(ISSUE).free == 0
    for slot in slots:
        offer.engine.close(slot)
    assert offer.changed()
    offer.advert(ISSUE)
    offer.leaving.set()
    await trio.lowlevel.checkpoint()
    assert offer.changed()
    assert offer.free == 0
