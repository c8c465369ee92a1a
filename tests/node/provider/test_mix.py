"""What a provider takes to be asked of it: as many prompt tokens for each of an answer as it has seen."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.placement import Machine, ModelSize, Placement, placements
from hypercluster.market.ledger import Ledger, Role, SessionRecord
from hypercluster.node.cli.provider import stands
from hypercluster.node.engine.profile import Backend
from hypercluster.node.home.settings import Settings
from hypercluster.node.provider.mix import LATELY, LEAST_TOKENS, USUAL, as_seen
from hypercluster.node.provider.placing import Serving
from hypercluster.node.shards.store import StoredModel

MARKET = MarketParameters(p_ref=1000)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def served(
    ledger: Ledger, prompt: int, tokens: int, role: Role = Role.PROVIDER, ago: timedelta = timedelta(days=1)
) -> None:
    record = SessionRecord(
        session_id=secrets.token_bytes(16),
        peer="peer",
        layer_start=0,
        layer_stop=4,
        role=role,
        model_id="ab" * 32,
        channel_id=b"\1" * 32,
        price_wei=1,
        prompt_price_wei=1,
        prompt_tokens=prompt,
        tokens=tokens,
        ended=datetime.now(UTC) - ago,
    )
    ledger.history.save_session(record)


def test_it_is_what_was_served_lately_and_not_what_was_bought(ledger: Ledger) -> None:
    served(ledger, 6 * LEAST_TOKENS, LEAST_TOKENS)
    served(ledger, 0, LEAST_TOKENS)
    served(ledger, 10**6, 1, Role.CLIENT)
    served(ledger, 10**6, 1, ago=LATELY + timedelta(days=1))
    assert as_seen(MARKET, ledger).prompt_ratio == 3.0
    assert as_seen(MARKET, ledger).p_ref == MARKET.p_ref


def test_before_much_was_seen_it_is_what_is_usual(ledger: Ledger) -> None:
    assert as_seen(MARKET, ledger).prompt_ratio == USUAL
    served(ledger, 10**6, LEAST_TOKENS - 1)
    assert as_seen(MARKET, ledger).prompt_ratio == USUAL


def test_a_market_that_says_it_itself_is_believed(ledger: Ledger) -> None:
    told = MarketParameters(prompt_ratio=0.5)
    assert as_seen(told, ledger) == told


@pytest.mark.parametrize(("told", "ratio"), [(2.5, 2.5), (0.0, 0.0), (None, 3.0)])
def test_a_provider_that_places_itself_is_told_it_as_one_that_asks_where(
    stored_tiny: StoredModel,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: float | None,
    ratio: float,
) -> None:
    """Also none at all, and when it looks again later."""
    served(ledger, 3 * LEAST_TOKENS, LEAST_TOKENS)
    machine, size = Machine(memory_bytes=2, layer_ms=1.0), ModelSize(layer_bytes=[1, 1, 1, 1])
    markets = []

    def found(
        *_: object, market: MarketParameters, **__: object
    ) -> tuple[Machine, ModelSize, list[Placement]]:
        markets.append(market)
        return machine, size, placements(machine, size, [], market=market)

    monkeypatch.setattr(stands, "prospects", found)
    serving = Serving(sessions=1, session_tokens=16, threads=1, backend=Backend())
    asked = stands.asked_for(None, "auto", [])
    (place,) = stands.places(Settings(home=tmp_path), None, asked, [stored_tiny], serving, 2, told)  # type: ignore[arg-type]
    assert markets[0].prompt_ratio == ratio
    assert place.move is not None
    assert as_seen(MARKET, ledger, place.move.prompt_tokens).prompt_ratio == ratio
