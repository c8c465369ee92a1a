"""One step over a path: rows go from provider to provider where links stand, and through the client elsewhere.

All providers of a stretch of links get their vouchers at once. Their answers are awaited in the order of the path, so
that each one's time begins when the one before has answered. A link that lost rows, or at whose ends two receipts
differ, is relayed from then on; nobody can say whose doing it is, so it is held against nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.wire.messages import REWIND

if TYPE_CHECKING:
    from hypercluster.node.client.answers import Answer
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.rows import TopK

log = logging.getLogger(__name__)

REST_SECONDS = 2.0
"""for the providers after one that failed, to say that they have no rows of the step"""
Rows = Sequence[int] | bytes
Strained = Callable[["Hop", "Hop"], None]
"""told the two ends of a link that lost or changed rows"""


async def pass_on(
    hops: Sequence[Hop],
    payload: Rows,
    rows: int,
    *,
    all_outputs: bool,
    onward: Callable[[bytes], bytes],
    strained: Strained,
) -> TopK | bytes:
    """Run one step of `rows` tokens over all hops; `onward` makes of a stage's output what the next one is sent.

    Returns what the last hop puts out.

    After a failure every hop but the one that failed is at rest, and none holds more of the session than the ones
    before it, but for the step itself: those behind the one that failed may have taken it.

    Raises:
        HopFailed, OverDeposit, LimitReached: see Hop.step.
    """
    at = 0
    while True:
        stop = at + 1
        while stop < len(hops) and hops[stop - 1].forwards:
            stop += 1
        run = hops[at:stop]
        done, output = await _Run(run, all_outputs, strained).step(payload, rows)
        at += done
        if at == len(hops):
            return output
        assert isinstance(output, bytes)
        payload = onward(output)


class _Run:
    """A stretch of hops, each of which sends its rows on to the next one."""

    def __init__(self, hops: Sequence[Hop], all_outputs: bool, strained: Strained) -> None:
        self._hops, self._all_outputs, self._strained = hops, all_outputs, strained

    async def step(self, payload: Rows, rows: int) -> tuple[int, bytes | TopK]:
        """Run a step, and return how many hops have taken it and what the last one of them put out."""
        start = self._hops[0].position
        try:
            if all(hop.affords(rows) for hop in self._hops):
                # The first one computes while the vouchers of the others are signed.
                for place in range(len(self._hops)):
                    self._pay(place, payload, rows)
                    await self._hops[place].send()
            else:
                for place in range(len(self._hops)):
                    self._pay(place, payload, rows)
                for hop in self._hops:
                    await hop.send()
            return await self._answers(start)
        except HopFailed as failure:
            with trio.move_on_after(REST_SECONDS):
                await self._rest_behind(failure, start)
            raise
        finally:
            for hop in self._hops:
                if hop.unanswered:
                    hop.give_up()

    def _pay(self, place: int, payload: Rows, rows: int) -> None:
        following = self._hops[place + 1].awaits if place + 1 < len(self._hops) else 0
        rows_in = None if place else payload
        self._hops[place].pay(rows_in, rows, all_outputs=self._all_outputs, onward=following)

    async def _answers(self, start: int) -> tuple[int, bytes | TopK]:
        before: Answer | None = None
        for place, hop in enumerate(self._hops):
            answer = await hop.answer()
            if before is not None and (answer is None or answer.in_root != before.out_root):
                return place, await self._around(place, start)
            if answer is None:
                raise HopFailed(hop.advert.peer, "it answered something else than this step.")
            if answer.output is not None:
                if place + 1 < len(self._hops):
                    # It could not send them on.
                    self._relay(place)
                    await self._rest(self._hops[place + 1 :], start)
                return place + 1, answer.output
            before = answer
        raise HopFailed(self._hops[-1].advert.peer, "it sent on what nobody was to get.")

    async def _around(self, place: int, start: int) -> bytes:
        """The rows that did not get to the hop at `place` as they were, from the one before; later ones forget them."""
        self._relay(place - 1)
        # At once, while it has no reason to have given its session up; the others wait or have answered.
        rows = await self._hops[place - 1].shown()
        await self._rest(self._hops[place:], start)
        return rows

    def _relay(self, place: int) -> None:
        one, other = self._hops[place : place + 2]
        log.info("rows from %s to %s are relayed from now on", one.advert.peer, other.advert.peer)
        one.relayed = True
        self._strained(one, other)

    async def _rest(self, hops: Sequence[Hop], start: int) -> None:
        """Have hops drop a step whose rows do not come, or take it back where they had it all the same."""
        for hop in hops:
            if hop.unanswered:
                await hop.discard()
            if hop.position > start:
                if REWIND not in hop.advert.features:
                    raise HopFailed(
                        hop.advert.peer,
                        "rows on their way to it were changed, and its model cannot go back.",
                        how=How.UNLINKED,
                    )
                hop.position = start

    async def _rest_behind(self, failure: HopFailed, start: int) -> None:
        """The same for those behind a hop that failed, as far as they can; but who had the step by then keeps it.

        Nobody signed for the rows that it was sent. Whoever takes over has to come to the same ones (levelling.py).
        """
        places = [place for place, hop in enumerate(self._hops) if hop.advert.peer == failure.peer]
        before: Answer | None = None
        keeps = True
        for hop in self._hops[places[0] + 1 :] if places else ():
            try:
                answer = await hop.discard() if hop.unanswered else None
                keeps &= answer is not None and (before is None or answer.in_root == before.out_root)
                if keeps:
                    before = answer
                else:
                    await self._rest([hop], start)
            except HopFailed as error:
                keeps = False
                log.debug("%s", error)
        if before is not None and not isinstance(before.output, bytes):
            failure.best = before.output
