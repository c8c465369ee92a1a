"""Honest payers and attackers meet: the parts on which the other tests of this folder stand."""

from __future__ import annotations

import pytest
import trio

from tests.siege.attacks import ATTACKS
from tests.siege.honest import crowd, newcomer
from tests.siege.sieges import besiege
from tests.siege.tally import Tally
from tests.siege.target import Target

FEW = 2


async def test_honest_payers_are_served_and_a_newcomer_too(besieged: Target) -> None:
    async with crowd(besieged) as payers:
        quiet = await payers.measure(0.5, least=3)
        assert quiet.failed == {}
        assert quiet.sessions >= 3
        assert 0 < quiet.open_ms < quiet.first_token_ms
        assert quiet.step_ms > 0
        assert await newcomer(besieged) > 0


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_gets_answers(request: pytest.FixtureRequest, name: str) -> None:
    tally = Tally()
    target = request.getfixturevalue("judging" if ATTACKS[name].role == "verifier" else "besieged")
    async with trio.open_nursery() as nursery:
        await nursery.start(ATTACKS[name].run, target, FEW, tally)
        with trio.fail_after(300):
            while not tally.acts:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_a_siege_tells_what_honest_payers_kept_and_what_the_attack_cost(besieged: Target) -> None:
    async with crowd(besieged, payers=1) as payers:
        siege = await besiege(payers, "open-foreign", 10, 0.5, least=1, lead=0.0)
    assert siege.quiet_rate > 0
    assert siege.during.sessions + len(siege.during.failed) > 0
    assert siege.during.node_cpu > 0
    assert siege.tally.answers
    assert siege.tally.gas > 21_000
    assert siege.tally.locked_wei == 1
    assert siege.tally.sent_bytes > 1_000
    assert siege.tally.cpu_seconds > 0
