"""The pages of a provider and of a verifier in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from hypercluster.market.chain import Chain
from hypercluster.market.economics.graph import node_of
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.pricing import price_step
from hypercluster.market.ledger import Duty, DutyPhase
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.provider.prices import PriceRule, price_row
from hypercluster.node.serving.terms import HttpTerms
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.browsers import NARROW, chromium, visitor
from tests.node.helpers.gateways import MODEL, running_gateway
from tests.node.helpers.providers import running_provider
from tests.node.helpers.verifiers import running_verifier

pytestmark = pytest.mark.slow

PRICE = PriceRule(start_wei=2 * 10**12, start_prompt_wei=10**12 // 2, adapt=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_a_provider_shows_what_it_earned_and_how_its_price_climbs(
    browser: Browser, chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    http = HttpTerms(binds=("127.0.0.1:0",), link_file=tmp_path / "provider.link")
    with (
        running_provider(chain, stored_chatty, tmp_path / "whole", (0, 4), http=http, price=PRICE) as served,
        running_gateway(chain, stored_chatty, tmp_path / "door", providers=[served]) as paying,
    ):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        assert paying.http().post("/chat/completions", json=body).status_code == 200
        own = replace(node_of(served.advert), price_wei=10**12)
        rival = replace(own, id="rival", price_wei=2 * 10**12)
        step = price_step(own, [rival], layers=4, market=MarketParameters())
        served.ledger.history.save_price(price_row(step, served.advert.model_id))
        link = served.presence.link
        with visitor(browser, link.partition("/login")[0], link) as person:
            page = person.page
            expect(page.get_by_role("heading", level=1)).to_have_text("Provider")
            expect(page.get_by_label("Sessions").get_by_role("row")).to_have_count(2)
            expect(page.get_by_label("Now").get_by_text("0:4 of 4")).to_be_visible()
            expect(page.get_by_role("img", name=re.compile("^Revenue over price: now 1.00"))).to_be_visible()
            earned = page.get_by_label("Channels that pay this provider").get_by_role("row")
            expect(earned).to_have_count(2)
            assert person.faults() == []
            page.set_viewport_size(NARROW)
            assert person.width_beyond() <= 0


def test_a_verifier_shows_cases_and_audits(
    browser: Browser, chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    http = HttpTerms(binds=("127.0.0.1:0",), link_file=tmp_path / "verifier.link")
    bounds = Bounds.conservative(stored_chatty.manifest.model_id)
    with running_verifier(chain, stored_chatty, bounds, tmp_path, http=http) as judging:
        judging.ledger.trust.save_duty(
            Duty(
                contract=chain.disputes.cases.address,
                chain_id=chain.chain_id,
                case_id=10**9,
                seat=1,
                members=[judging.node.address] * 3,
                node=judging.operator.address,
                receipt_hash=bytes(32),
                stage_hash=bytes(32),
                phase=DutyPhase.MISSED,
                vote=None,
                fingerprint=bytes(32),
                salt=bytes(32),
                commit_deadline=1,
                reveal_deadline=2,
            )
        )
        link = judging.presence.link
        with visitor(browser, link.partition("/login")[0], link) as person:
            page = person.page
            expect(page.get_by_role("heading", level=1)).to_have_text("Verifier")
            expect(page.get_by_label("Cases").get_by_text("missed")).to_be_visible()
            expect(page.get_by_label("Cases").get_by_text("2 of 3")).to_be_visible()
            expect(page.get_by_text("No audit yet")).to_be_visible()
            assert person.faults() == []
            page.set_viewport_size(NARROW)
            assert person.width_beyond() <= 0
