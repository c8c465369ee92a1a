from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hypercluster.market.economics.deterrence import (
    BadDeterrence,
    cheating_profit,
    cheats,
    required_stake,
    stake_table,
)
from hypercluster.market.economics.simulation.cheater import Deterrent, learn
from hypercluster.market.money.units import HCT
from hypercluster.node.cli.market.app import app

rates = st.fractions(min_value=Fraction(1, 1000), max_value=1, max_denominator=1000)
shares = st.fractions(min_value=0, max_value=Fraction(99, 100), max_denominator=100)
flights = st.fractions(min_value=0, max_value=5000, max_denominator=10)
gains = st.integers(0, 10**24)


def played(
    rng: np.random.Generator,
    runs: int,
    *,
    stake: float,
    rate: float,
    detection: float,
    reward: float,
    in_flight: int,
    often: float,
) -> np.ndarray:
    """Profit of each of ``runs`` providers that cheat on a share of their sessions until a verdict lands.

    Session by session, without the closed form: a gain of 1 is paid with each cheated session; some sessions
    are audited; an audit sees some cheats; the verdict comes ``in_flight`` - 1 further cheated sessions later.
    """
    profit, left = np.zeros(runs), np.full(runs, -1)
    alive = np.ones(runs, dtype=bool)
    while alive.any():
        cheating = alive & (rng.random(runs) < often)
        profit += cheating
        audited = rng.random(runs) < rate
        seen = cheating & audited & (rng.random(runs) < detection)
        left = np.where(cheating & (left > 0), left - 1, left)
        left = np.where(seen & (left < 0), in_flight - 1, left)
        slashed = alive & (left == 0)
        profit -= slashed * stake * (1 - reward)
        alive &= ~slashed
    return profit


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.2, 0.7]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.integers(1, 30),
    st.sampled_from([0.3, 1.0]),
)
def test_at_the_required_stake_cheating_neither_gains_nor_loses(
    seed: int, rate: float, detection: float, reward: float, in_flight: int, often: float
) -> None:
    stake = required_stake(HCT, rate, detection, reward, in_flight) / HCT
    profit = played(
        np.random.default_rng(seed),
        4000,
        stake=stake,
        rate=rate,
        detection=detection,
        reward=reward,
        in_flight=in_flight,
        often=often,
    )
    error = profit.std() / math.sqrt(len(profit))
    # Six standard errors: a right formula fails once in 10**8 draws, and 1 % of the stake is seen.
    assert abs(profit.mean()) < 6 * error + 1e-9
    assert 6 * error < 0.2 * stake


def test_folding_the_reward_into_the_rate_alone_falls_short_of_what_is_in_flight() -> None:
    rate, reward, in_flight = 0.2, 0.5, 30
    folded = rate * (1 - reward)
    short = (1 - folded) / folded + in_flight
    profit = played(
        np.random.default_rng(0),
        4000,
        stake=short,
        rate=rate,
        detection=1.0,
        reward=reward,
        in_flight=in_flight,
        often=1.0,
    )
    assert profit.mean() > 10
    assert required_stake(HCT, rate, 1.0, reward, in_flight) == pytest.approx(
        (short + (in_flight - 1) * reward / (1 - reward)) * HCT
    )


@given(gains, rates, rates, shares)
def test_caught_on_the_spot_it_is_the_gain_over_the_rate_of_loss(
    gain: int, rate: Fraction, detection: Fraction, reward: Fraction
) -> None:
    lost = rate * detection * (1 - reward)
    assert required_stake(gain, rate, detection, reward) == math.ceil(gain * ((1 - lost) / lost + 1))


@given(gains, rates, rates, shares, flights, st.integers(0, 10**24))
def test_it_is_the_least_whole_stake_without_profit(
    gain: int, rate: Fraction, detection: Fraction, reward: Fraction, in_flight: int, standing: int
) -> None:
    terms = (gain, rate, detection, reward, in_flight, standing)
    stake = required_stake(*terms)
    assert cheating_profit(stake, *terms) <= 0
    assert stake == 0 or cheating_profit(stake - 1, *terms) > 0


@given(gains, rates, rates, shares, flights, st.data())
def test_it_falls_with_every_chance_to_be_caught_and_rises_with_every_gain(
    gain: int, rate: Fraction, detection: Fraction, reward: Fraction, in_flight: int, data: st.DataObject
) -> None:
    stake = required_stake(gain, rate, detection, reward, in_flight)
    higher = data.draw(st.fractions(rate, 1, max_denominator=1000))
    assert required_stake(gain, higher, detection, reward, in_flight) <= stake
    assert required_stake(gain, rate, higher * detection, reward, in_flight) >= stake
    assert required_stake(gain, rate, detection, reward / 2, in_flight) <= stake
    assert required_stake(gain, rate, detection, reward, in_flight + 1) >= stake
    assert required_stake(gain + 1, rate, detection, reward, in_flight) >= stake
    assert required_stake(gain, rate, detection, reward, in_flight, standing=gain) <= stake


def test_rates_mean_what_they_are_written_as() -> None:
    assert required_stake(7, 0.05) == 140
    assert required_stake(1, 0.3, 0.1) == 34
    assert required_stake(10**30 + 1, 0.1, 1.0, 0.2, 1) == (10**30 + 1) * 100 // 8 + 1
    assert required_stake(0, 0.01) == 0
    assert required_stake(5, 0.5, standing=100) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"audit_rate": 0.0},
        {"detection": 0.0},
        {"audit_rate": 1.5},
        {"audit_rate": -0.1},
        {"audit_rate": math.nan},
        {"detection": math.inf},
        {"reward_share": 1.0},
        {"reward_share": -0.5},
        {"in_flight": -1.0},
        {"gain": -1},
        {"standing": -1},
    ],
    ids=str,
)
def test_senseless_terms_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadDeterrence):
        required_stake(**{"gain": 1, "audit_rate": 0.1, **arguments})


def test_what_each_cheat_gains() -> None:
    gains = {cheat.name: cheat.gain_wei(1001, 10) for cheat in cheats(8)}
    assert gains == {"skip a layer": 1252, "quantised": 5005, "other model": 9009, "lazy": 10010, "noise": 0}
    with pytest.raises(BadDeterrence, match="at least one layer"):
        cheats(0)


def test_the_table_holds_the_closed_form() -> None:
    table = stake_table(
        cheats(4), [0.01, 0.1], price_wei=10**12, tokens=500, detection=0.9, reward_share=0.2, in_flight=10
    )
    assert len(table) == 5
    for row in table:
        wanted = tuple(required_stake(row.gain_wei, rate, 0.9, 0.2, 10) for rate in (0.01, 0.1))
        assert row.stakes_wei == wanted
    assert table[-1].stakes_wei == (0, 0)


def test_the_command_prints_the_stakes() -> None:
    args = [
        "deterrence",
        "--price",
        "2",
        "--tokens",
        "1000",
        "--rate",
        "0.01",
        "--rate",
        "0.5",
        "--layers",
        "4",
    ]
    args += ["--detection", "0.8", "--reward", "0.25", "--in-flight", "7"]
    result = CliRunner().invoke(app, [*args, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert found["price_wei"] == 2 * 10**12
    rows = {row["cheat"]: row for row in found["cheats"]}
    assert rows["lazy"]["gain_wei"] == 2 * 10**15
    assert rows["skip a layer"]["gain_wei"] == 5 * 10**14
    for row in rows.values():
        assert [stake["audit_rate"] for stake in row["stakes"]] == [0.01, 0.5]
        for stake in row["stakes"]:
            assert stake["stake_wei"] == required_stake(row["gain_wei"], stake["audit_rate"], 0.8, 0.25, 7)
    text = CliRunner().invoke(app, args, catch_exceptions=False).stdout
    assert "lazy" in text
    assert "50 %" in text


def test_the_command_refuses_rates_that_catch_nothing() -> None:
    with pytest.raises(BadDeterrence, match="no stake deters"):
        CliRunner().invoke(app, ["deterrence", "--rate", "0"], catch_exceptions=False)


def test_cheaters_learn_to_stop_above_the_required_stake_and_not_below() -> None:
    terms = [Deterrent(0.1, 0.9, 0.2, 20, stake) for stake in (0.4, 2.5)]
    shares = learn(terms, sessions=4000, copies=60, seed=1).cheating
    assert shares.shape == (4000, 2)
    assert (shares[:50].mean(axis=0) > 0.2).all()  # nobody knows at first
    below, above = shares[-1000:].mean(axis=0)
    assert below > 0.85
    assert above < 0.15


def test_what_cheaters_earn_is_what_the_closed_form_says() -> None:
    """Cheaters that only explore have a known mix of choices."""
    terms = [Deterrent(0.2, 0.5, 0.25, 5, stake) for stake in (0.5, 1.0, 3.0)]
    learned = learn(terms, sessions=3000, copies=200, seed=3, levels=(1.0,))
    assert learned.cheating.min() == 1
    gain = 1 + 0.1 * (5 - 1)
    for column, stake in enumerate((0.5, 1.0, 3.0)):
        assert learned.profit[:, column].mean() == pytest.approx(gain * (1 - stake), abs=0.15)


def test_learning_repeats_with_its_seed() -> None:
    terms = [Deterrent(0.1, 1.0, 0.0, 1, 1.0)]
    first, again, other = (learn(terms, sessions=200, copies=5, seed=seed).cheating for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
