"""How far away a peer is: the median of a few libp2p pings, remembered for a while."""

from __future__ import annotations

import logging
import secrets
import statistics
from collections.abc import Sequence

import trio

from hypercluster.market.advert import Advert
from hypercluster.node.errors import ConnectionLost, NodeError
from hypercluster.node.network.host import Host

log = logging.getLogger(__name__)

PING_PROTOCOL = "/ipfs/ping/1.0.0"
UNREACHABLE_MS = 60_000.0
"""what a peer that does not answer counts as"""
_PAYLOAD = 32


async def ping(
    host: Host, peer: str, addrs: Sequence[str] = (), *, count: int = 5, timeout: float = 5.0
) -> float:
    """The median round trip to `peer` over `count` pings in ms; `timeout` (s) covers it all.

    Raises NodeError if it does not answer.
    """
    times = []
    deadline = trio.current_time() + timeout
    stream = await host.open_stream(peer, PING_PROTOCOL, addrs, timeout)
    try:
        with trio.move_on_at(deadline):
            for _ in range(count):
                payload, answer = secrets.token_bytes(_PAYLOAD), b""
                start = trio.current_time()
                await stream.write(payload)
                while len(answer) < _PAYLOAD:
                    data = await stream.read()
                    if not data:
                        raise ConnectionLost(f"Peer {peer} closed while it was pinged.")
                    answer += data
                if answer != payload:
                    raise ConnectionLost(f"Peer {peer} answered a ping with other bytes.")
                times.append(1000 * (trio.current_time() - start))
    finally:
        await stream.reset()
    if not times:
        raise ConnectionLost(f"Peer {peer} did not answer a ping in {timeout:g} s.")
    return statistics.median(times)


class Latencies:
    """Round trips to providers, measured when asked for and kept for `keep_seconds`."""

    def __init__(self, host: Host, *, keep_seconds: float = 60.0) -> None:
        self._host = host
        self._keep = keep_seconds
        self._known: dict[str, tuple[float, float]] = {}

    async def one_way_ms(self, advert: Advert) -> float:
        """Half the round trip to the provider in ms; UNREACHABLE_MS if it does not answer."""
        known = self._known.get(advert.peer)
        if known is None or trio.current_time() - known[0] > self._keep:
            known = (trio.current_time(), await self._measure(advert))
            self._known[advert.peer] = known
        return known[1]

    def known(self) -> dict[str, float]:
        """One-way delays in ms as they were measured last, by peer; without those who did not answer."""
        return {peer: ms for peer, (_, ms) in self._known.items() if ms < UNREACHABLE_MS}

    async def measure(self, adverts: Sequence[Advert]) -> None:
        """Measure all of them at once, so that `one_way_ms` answers without waiting."""
        self._known = {p: k for p, k in self._known.items() if trio.current_time() - k[0] <= self._keep}
        async with trio.open_nursery() as nursery:
            for advert in adverts:
                nursery.start_soon(self.one_way_ms, advert)

    async def _measure(self, advert: Advert) -> float:
        try:
            return await ping(self._host, advert.peer, advert.addrs) / 2
        except NodeError as error:
            log.info("%s does not answer a ping: %s", advert.peer, error)
            return UNREACHABLE_MS
