"""A long prompt: chunks that follow each other through the path, so that all providers work at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.client.answers import Answer
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK

if TYPE_CHECKING:
    from hypercluster.node.client.chaining import Strained
    from hypercluster.node.client.hop import Hop


class Stream:
    """One prompt on its way.

    Args:
        pieces: token ids of the chunks.
        onward: what a stage is sent, of what the one before put out and the token ids.
        strained: told of a link that lost or changed rows.
        sent: what the first hop is sent for each chunk: the ids, or rows where it takes these.
    """

    def __init__(
        self,
        hops: Sequence[Hop],
        pieces: Sequence[Sequence[int]],
        onward: Callable[[bytes, Sequence[int]], bytes],
        strained: Strained,
        sent: Sequence[Sequence[int] | bytes],
    ) -> None:
        self._sent = sent
        self._hops, self._pieces, self._onward, self._strained = hops, pieces, onward, strained
        self._first = [hop.awaits for hop in hops]
        self._found: list[TopK | bytes] = []
        self._failures: list[NodeError | MarketError] = []

    async def run(self) -> TopK | bytes:
        """The candidates after the last token, or all rows that a last hop puts out which ends in none.

        Where one fails nobody is interrupted: a session whose step is answered can go on with somebody else beside it.

        Raises HopFailed, OverDeposit, LimitReached.
        """
        async with trio.open_nursery() as nursery:
            source: trio.MemoryReceiveChannel[Answer] | None = None
            for place in range(len(self._hops) - 1):
                sink, following = trio.open_memory_channel[Answer](0)
                nursery.start_soon(self._work, place, source, sink)
                source = following
            nursery.start_soon(self._work, len(self._hops) - 1, source, None)
        if self._failures:
            raise self._failures[0]
        return b"".join(each for each in self._found if isinstance(each, bytes)) or self._found[-1]

    async def _work(
        self,
        place: int,
        source: trio.MemoryReceiveChannel[Answer] | None,
        sink: trio.MemorySendChannel[Answer] | None,
    ) -> None:
        """Run all chunks at one hop, as long as nothing fails."""
        try:
            for number, piece in enumerate(self._pieces):
                before = await source.receive() if source is not None else None
                answer = await self._step(place, number, piece, before)
                if sink is not None:
                    await sink.send(answer)
                elif answer.output is not None:
                    self._found.append(answer.output)
        except (trio.BrokenResourceError, trio.EndOfChannel):
            pass
        except (NodeError, MarketError) as error:
            self._failures.append(error)
        finally:
            for end in (source, sink):
                if end is not None:
                    end.close()

    async def _step(self, place: int, number: int, piece: Sequence[int], before: Answer | None) -> Answer:
        hop = self._hops[place]
        payload: Sequence[int] | bytes | None = self._sent[number]
        if before is not None:
            payload = None if before.output is None else self._rows(before, piece)
        onward = self._first[place + 1] + number if hop.forwards else 0
        try:
            hop.pay(payload, len(piece), onward=onward)
            await hop.send()
            answer = await hop.answer()
            if payload is None and (answer is None or before is None or answer.in_root != before.out_root):
                # The one before has gone on meanwhile, so that nobody can be asked for just these rows.
                self._hops[place - 1].relayed = True
                self._strained(self._hops[place - 1], hop)
                raise HopFailed(
                    hop.advert.peer, "rows on their way to it were lost or changed.", how=How.UNLINKED
                )
        finally:
            if hop.unanswered:
                hop.give_up()
        if answer is None:
            raise HopFailed(hop.advert.peer, "it answered something else than this step.")
        return answer

    def _rows(self, before: Answer, piece: Sequence[int]) -> bytes:
        assert isinstance(before.output, bytes)
        return self._onward(before.output, piece)
