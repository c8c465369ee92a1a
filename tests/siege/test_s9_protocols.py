"""Requests on the small protocols without end, records and gossip that nobody needs: each cost the node
a core, and honest payers waited for it. Now every one has its budget, and what strangers send is read at a pace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from hypercluster.node.errors import NodeError
from hypercluster.node.network.budgets import BOUNDS
from hypercluster.node.wire.audit import RECALL_PROTOCOL, Recall
from hypercluster.node.wire.codec import encode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import ADVERT_PROTOCOL
from tests.siege.honest import crowd
from tests.siege.hostile.identities import strangers
from tests.siege.sieges import attacking

if TYPE_CHECKING:
    from tests.siege.target import Target

pytestmark = pytest.mark.slow
STRENGTH = 100


@pytest.mark.parametrize(
    ("name", "protocol", "question"),
    [
        ("advert request", ADVERT_PROTOCOL, b""),
        ("recall", RECALL_PROTOCOL, encode(Recall(bytes(32), 2**32 - 1))),
    ],
    ids=["advert", "recall"],
)
async def test_one_name_is_answered_no_more_often_than_its_budget_says(
    besieged: Target, name: str, protocol: str, question: bytes
) -> None:
    """Honest payers may be served well for other reasons; this is the budget itself."""
    bound = BOUNDS[name]
    assert bound.per_peer is not None
    rate, at_first = bound.per_peer
    async with strangers(1) as (host,):
        await host.connect(besieged.peer, besieged.addrs, 60)
        start, answered, asked = trio.current_time(), 0, 3 * int(at_first)
        for _ in range(asked):
            try:
                stream = await host.open_stream(besieged.peer, protocol, besieged.addrs, 60)
                try:
                    frames = Frames(stream)
                    if question:
                        await frames.send(question, 60)
                    await frames.receive(60)
                finally:
                    await stream.reset()
            except NodeError:
                continue
            answered += 1
        seconds = trio.current_time() - start
    assert 1 <= answered <= at_first + rate * seconds + 1


@pytest.mark.parametrize("attack", ["adverts", "recall", "records", "gossip", "gossip-forged"])
async def test_payers_are_served_while_strangers_ask_without_end(besieged: Target, attack: str) -> None:
    async with crowd(besieged, payers=2) as payers:
        async with attacking(besieged, attack, STRENGTH):
            measured = await payers.measure(3, least=8)
        assert measured.failed == {}
        assert measured.sessions >= 8
