"""What others say: by stake and not by names, bounded, and never enough to distrust anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.trust.hearsay import (
    HALF_LIFE,
    MOST_HEARD,
    MOST_OF_WITNESS,
    QUORUM,
    Rumour,
    weights,
)
from hypercluster.market.trust.reputation import Reputation

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ACCUSED = "0x" + "aa" * 20


def said(*shares: float, at: datetime = NOW) -> float:
    """What witnesses of these shares weigh together."""
    rumours = [Rumour(ACCUSED, f"0x{number:040x}", share, at) for number, share in enumerate(shares)]
    return weights(rumours, NOW).get(ACCUSED, 0.0)


@given(st.lists(st.floats(0, 1), max_size=50))
def test_all_the_slander_in_the_world_distrusts_nobody(shares: list[float]) -> None:
    heard = said(*shares)
    assert 0 <= heard <= MOST_HEARD
    assert not Reputation(heard=heard).distrusted
    assert Reputation(heard=heard).reliability == Reputation().reliability


@given(st.floats(0.001, 0.08), st.integers(1, 20))
def test_many_names_of_one_stake_weigh_what_one_name_does(share: float, names: int) -> None:
    assert said(*[share / names] * names) == pytest.approx(said(share))


def test_a_single_witness_is_bounded_whatever_its_stake() -> None:
    assert said(1.0) == MOST_OF_WITNESS
    assert said(*[QUORUM / 5] * 5) == pytest.approx(MOST_HEARD)


def test_nobody_witnesses_about_himself_and_saying_it_twice_is_saying_it_once() -> None:
    assert weights([Rumour(ACCUSED, ACCUSED, 1.0, NOW)], NOW) == {}
    assert weights([Rumour(ACCUSED, "", 1.0, NOW)], NOW) == {}
    assert said(0.05) == weights([Rumour(ACCUSED, "0xb", 0.05, NOW)] * 9, NOW)[ACCUSED]


def test_what_was_said_is_forgotten() -> None:
    assert said(0.05, at=NOW - HALF_LIFE) == pytest.approx(said(0.05) / 2)
    assert said(0.05, at=NOW + timedelta(days=9)) == said(0.05), "a clock that is ahead adds nothing"
