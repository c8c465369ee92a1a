"""A stranger put up node keys of one stake at 1 wei that took sessions and never served: six of seven requests failed,
each after two minutes, none of the keys was distrusted, and the next client began anew.

Now the operator fails once, under all of its keys; whoever is silent is left after its own time; all requests of a
client know of it at once, and the next client from the ledger.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.shares import Shares
from hypercluster.node.client.client import Client
from hypercluster.node.testnet.localnet import LocalNetwork
from tests.siege.asking import ask_many, gateway
from tests.siege.scenes import market
from tests.siege.sieges import attacking

HONEST, POTS = 2, 6
"""one pot of each kind: silent, full, nonsense, gone, late, closed"""
REQUESTS, AT_ONCE = 12, 3


async def until_known(client: Client) -> None:
    with trio.fail_after(300):
        while len(client.adverts()) < HONEST + POTS:
            await trio.sleep(0.1)


@pytest.mark.slow
async def test_honeypots_of_one_stake_cost_one_failure_and_all_requests_learn_of_it(
    field: LocalNetwork, tmp_path: Path
) -> None:
    with market(field, HONEST) as targets:
        async with attacking(targets[0], "honeypots", POTS):
            async with gateway(targets[0], tmp_path / "client", *targets[1:]) as client:
                await until_known(client)
                # Newcomers are not tried again while somebody known is free, so that the count is sure.
                client.wishes = replace(client.wishes, shares=Shares(trials=0.0))
                asked = await ask_many(client, REQUESTS, AT_ONCE)
                # Who failed is an operator: its keys are not left out one by one.
                pots = {each.operator for each in client.adverts()} - {each.operator for each in targets}
                assert client.experience.left_out(0.0) == pots
                assert len(pots) == 1
            assert all(each.billed for each in asked)
            assert sum(each.ok for each in asked) == REQUESTS
            # Those that began before anybody had failed may each have met the operator, and nobody twice.
            assert max(len(each.failures) for each in asked) <= 1
            assert sum(len(each.failures) for each in asked) <= AT_ONCE
            async with gateway(targets[0], tmp_path / "client", *targets[1:]) as client:
                await until_known(client)
                client.wishes = replace(client.wishes, shares=Shares(trials=0.0))
                again = await ask_many(client, AT_ONCE, 1)
    assert [(each.ok, each.failures) for each in again] == [(True, ())] * AT_ONCE
