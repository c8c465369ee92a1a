"""How far others are to whom rows would go from here, or come from: measured now and then, for the advert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hypercluster.market.advert import Advert
from hypercluster.node.network.host import Host
from hypercluster.node.network.latency import UNREACHABLE_MS, Latencies
from hypercluster.node.network.nearness import MOST_TOLD, pack_delays
from hypercluster.node.wire.messages import CHAIN

LOOK_SECONDS = 60.0
FIRST_SECONDS = 5.0
KEEP_SECONDS = 300.0
"""a delay is measured again after"""


class Nearness:
    """The delays to those who could stand beside layers [start, stop) on a path.

    Args:
        others: what everybody else offers.
        stake: wei behind a peer: of many neighbours those with the most are measured, one of each operator first.
    """

    def __init__(
        self,
        host: Host,
        start: int,
        stop: int,
        others: Callable[[], Iterable[Advert]],
        stake: Callable[[str], int],
    ) -> None:
        self._latencies = Latencies(host, keep_seconds=KEEP_SECONDS)
        self._start, self._stop = start, stop
        self._others, self._stake = others, stake
        self.packed = b""
        """as the advert tells it"""

    async def look(self) -> None:
        """Measure those that are there."""
        near = self._neighbours()
        await self._latencies.measure(near)
        delays = {advert.peer: await self._latencies.one_way_ms(advert) for advert in near}
        self.packed = pack_delays({peer: ms for peer, ms in delays.items() if ms < UNREACHABLE_MS})

    def _neighbours(self) -> Sequence[Advert]:
        beside = [
            advert
            for advert in self._others()
            if CHAIN in advert.features
            and (advert.layer_start == self._stop or advert.layer_stop == self._start)
        ]
        beside.sort(key=lambda advert: (-self._stake(advert.peer), advert.peer))
        seen: dict[str, int] = {}
        ranked: list[tuple[int, int, Advert]] = []
        for place, advert in enumerate(beside):
            nth = seen[advert.operator] = seen.get(advert.operator, 0) + 1
            ranked.append((nth, place, advert))
        return [advert for _, _, advert in sorted(ranked, key=lambda each: each[:2])[:MOST_TOLD]]
