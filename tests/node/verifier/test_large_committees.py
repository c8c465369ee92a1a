"""Committees of five, the default, and of seven, in which as many lie as two thirds can outvote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.market.chain.disputes import Vote
from hypercluster.market.money.units import HCT
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet import cheating
from hypercluster.node.testnet.cheats import Tampering
from tests.node.helpers.courts import FAULT, SILENCE, TERMS, new_court
from tests.node.helpers.providers import new_wallet
from tests.node.helpers.verifiers import staked

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("seats", "liars"), [(5, 1), (7, 2)])
async def test_a_cheat_is_convicted_though_a_third_lies(
    stored_tiny: StoredModel, tmp_path: Path, seats: int, liars: int
) -> None:
    # Nobody is silent, so nobody is waited for; seven that fetch the rows and judge at once may take their time.
    terms = replace(TERMS, seats=seats, commit_window=300, serve_window=200)
    with new_court(stored_tiny, tmp_path / "court", terms) as court:
        replayer = Replayer(court.stored, court.bounds, threads=1)
        for number in range(seats):
            court.start(str(number), judge=cheating.lazy_judge(replayer) if number < liars else None)
        node, operator = staked(court.chain)
        transcript = court.served(node, tamper=Tampering("noise"))
        wallet = new_wallet(court.chain, 100 * HCT)
        ruling = await court.accuse(wallet, tmp_path / "client", transcript)
        assert (ruling.outcome, ruling.slashed_wei) == ("guilty", FAULT)
        assert court.stake(operator.address) == court.chain.staking.minimum - FAULT
        votes = court.votes(ruling.case_id or 0)
        wanted = [Vote.INNOCENT] * liars + [Vote.GUILTY] * (seats - liars)
        assert [votes[node.address] for node, _ in court.keys.values()] == wanted
        fines = [SILENCE] * liars + [0] * (seats - liars)
        assert [court.chain.staking.minimum - court.stake(judge) for judge in court.judges] == fines
        court.stop_all()
        replayer.close()
