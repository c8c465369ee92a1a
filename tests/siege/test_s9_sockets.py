"""Sockets, handshakes and streams without end: descriptors ran out, and honest payers got one session of seven.

Now half-open connections give way to new ones, a payer's ticket goes before strangers' handshakes, and what strangers
may hold fits into the descriptors that the node asked for at its start.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest
import trio

from hypercluster.node.errors import PeerUnreachable
from tests.siege.honest import crowd, newcomer
from tests.siege.sieges import attacking

if TYPE_CHECKING:
    from tests.siege.target import Target

pytestmark = pytest.mark.slow
STRENGTH = 1000


@pytest.mark.parametrize("attack", ["connect", "half-open", "handshakes", "sit", "streams", "half-frame"])
async def test_payers_are_served_while_strangers_take_all_they_get(besieged: Target, attack: str) -> None:
    async with crowd(besieged, payers=2) as payers:
        async with attacking(besieged, attack, STRENGTH) as attackers:
            with trio.fail_after(300):
                while not (await attackers.tally()).acts:
                    await trio.sleep(0.2)
            measured = await payers.measure(3, least=8)
            held = psutil.Process(besieged.pid).num_fds()
        assert measured.failed == {}
        assert measured.sessions >= 8
        assert held < resource.prlimit(besieged.pid, resource.RLIMIT_NOFILE)[0] - 200
    # What strangers left in the queue of the port is looked at first, and takes turns.
    with trio.fail_after(300):
        while True:
            try:
                await newcomer(besieged)
                break
            except PeerUnreachable:
                await trio.sleep(1)
