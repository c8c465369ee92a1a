"""Providers that stand by for those of a path: opened and paid as they are, and brought level in the background.

When a hop fails, who stands by for it takes its place (mending.py), and only what came since it was last brought level
is replayed. No token waits for it, and what becomes of it ends no completion: who fails, is full, or would be paid with
what the answer itself may need is let go, and nobody stands by instead until the path is another one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import InsufficientFunds, MarketError
from hypercluster.node.client.blame import seen_in
from hypercluster.node.client.completion import HopBill
from hypercluster.node.client.events import ChannelsOpened, ChannelsPlanned, SparesChanged
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.client.gaps import Kept
from hypercluster.node.client.opening import adverts_of
from hypercluster.node.client.pipeline import CLOSE_SECONDS
from hypercluster.node.client.spare import Spare
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.wire.messages import REWIND

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.client.account import OutgoingAccount, Recipient
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.funding import Funds
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.looking import Looking
    from hypercluster.node.client.opening import Terms
    from hypercluster.node.client.pipeline import Pipeline

log = logging.getLogger(__name__)

TAKE_SECONDS = 5.0
"""for a step that is under way when its place is to be taken"""
END_SECONDS = 2.0
"""for one that is under way when the completion ends"""


class Standby:
    """Those who stand by for one path of a completion; nobody does unless its wishes say so.

    Args:
        spending: of what goes to providers.
    """

    def __init__(self, client: Client, looking: Looking, done: Completion, spending: Spending) -> None:
        self._client, self._looking, self._done = client, looking, done
        self._whole = spending
        # What a step of the path has set aside is not for them.
        self._spending = spending.within()
        self._wished = looking.wishes.spare and client.background is not None
        self._spares: list[Spare] = []
        """who stands by now"""
        self._begun: list[Spare] = []
        """who ever did"""
        self._over: tuple[Pipeline, Terms, Mapping[Recipient, OutgoingAccount]] | None = None
        self._reason = ""
        self._told: list[SparesChanged] = []

    async def fund(
        self,
        funds: Funds,
        adverts: Sequence[Advert],
        rows: int,
        accounts: dict[Recipient, OutgoingAccount],
        cached: int,
    ) -> AsyncGenerator[ChannelsPlanned | ChannelsOpened, None]:
        """See that there are channels to the providers of a path, as Funds.open does, and in the same transaction to
        those who can stand by for them, where the wallet can pay these as well. Raises what that raises.
        """
        if self._wished and adverts:
            await self._choose(adverts)
        if self._spares:
            spares = [each for spare in self._spares for each in spare.adverts]
            try:
                async with aclosing(funds.open(adverts, rows, accounts, cached, spares)) as funding:
                    async for sent in funding:
                        yield sent
                return
            except InsufficientFunds as error:
                self._spares.clear()
                self._reason = str(error)
        async with aclosing(funds.open(adverts, rows, accounts, cached)) as funding:
            async for sent in funding:
                yield sent

    async def _choose(self, adverts: Sequence[Advert]) -> None:
        """Find who can stand by: for each place those of least weight among others than the providers of the path and
        their operators.
        """
        done, book = self._done, self._client.network.discovery.book
        features = frozenset({REWIND} if all(REWIND in each.features for each in adverts) else ())
        on_path = {each.peer for each in adverts} | {each.operator for each in adverts}
        for advert in adverts:
            others = [each for each in adverts if each is not advert]
            kept = Kept(others, len(done.prompt) + done.allowed, features)
            try:
                path = await self._looking.beside(kept, on_path)
                found = tuple(adverts_of([n for n in path.nodes if n.id not in kept.by_peer], book))
            except (NodeError, MarketError) as error:
                log.info("nobody stands by for %s: %s", advert.peer, error)
                continue
            if found and not on_path & {each.operator for each in found}:
                self._spares.append(Spare(advert.layer_start, advert.layer_stop, found))

    def over(self, pipeline: Pipeline, terms: Terms, accounts: Mapping[Recipient, OutgoingAccount]) -> None:
        """Note which sessions they stand by for, and that theirs are to be opened on these terms."""
        self._over = pipeline, terms, accounts

    def level(self, sure: int) -> None:
        """Note that the sessions of the path hold `sure` tokens that none of them forgets any more. With that theirs
        are opened, if they are not: the first step of a session has to come soon.
        """
        if not self._wished or self._over is None:
            return
        nursery = self._client.background
        if not self._begun and nursery is not None:
            for spare in self._spares:
                self._client.vacancies.hold(spare.peers)
                self._begun.append(spare)
                nursery.start_soon(
                    spare.run, self._client, self._done, *self._over, self._spending, self._let_go
                )
            self._tell(self._reason)
            self._wished = bool(self._spares)
        for spare in self._spares:
            spare.level(sure)

    def told(self) -> list[SparesChanged]:
        """What has changed since this was asked last."""
        told, self._told = self._told, []
        return told

    async def take(self, broken: Sequence[Hop]) -> list[tuple[Hop, Sequence[Hop]]]:
        """Who stands by for each of some hops of the path that broke, at rest, and part of the path from now on."""
        taken: list[tuple[Hop, Sequence[Hop]]] = []
        for hop in broken:
            place = hop.advert.layer_start, hop.advert.layer_stop
            for spare in [each for each in self._begun if (each.start, each.stop) == place]:
                await spare.rest(TAKE_SECONDS)
                if spare not in self._spares:
                    continue
                if not spare.is_ready:
                    await self._let_go(spare)
                    continue
                self._forget(spare)
                for each in spare.hops:
                    each.take_over(self._whole, self._looking.leash(each.advert))
                taken.append((hop, spare.hops))
        if taken:
            self._tell("")
        return taken

    async def end(self) -> None:
        """End the sessions of all who still stand by, cancelled or not; they stand in the bill from then on."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for spare in self._begun:
                    # Of who is being let go the end is awaited as well.
                    nursery.start_soon(spare.rest, END_SECONDS)
            for spare in [each for each in self._begun if each in self._spares]:
                await self._close(spare)

    async def _let_go(self, spare: Spare) -> None:
        """End the sessions of one that failed, or is not to be paid any more, and leave it alone from now on."""
        error = spare.error
        silent = {hop.advert.peer for hop in spare.hops if hop.broken} or {*spare.peers}
        for advert in spare.adverts:
            if error is None and advert.peer in silent:
                self._looking.avoid(advert)
            elif isinstance(error, HopFailed) and error.peer == advert.peer:
                self._looking.shun(advert)
                if error.code is ErrorCode.FULL:
                    self._client.vacancies.full(advert, error.wait)
                elif error.how is How.BROKE:
                    seen = seen_in(error)
                    await self._client.chooser.note(advert.peer, advert.operator, seen, str(error))
        await self._close(spare)
        self._tell(str(error or "It was not at rest in time."))

    async def _close(self, spare: Spare) -> None:
        self._forget(spare)
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for hop in spare.hops:
                    nursery.start_soon(hop.close)
        self._done.bills += [HopBill.of(hop) for hop in spare.hops]
        # Before those of the path, whose neighbours they never were.
        self._looking.hops[:0] = spare.hops

    def _forget(self, spare: Spare) -> None:
        self._spares.remove(spare)
        self._client.vacancies.release(spare.peers)

    def _tell(self, reason: str) -> None:
        assert self._over is not None
        covered = {(spare.start, spare.stop) for spare in self._spares}
        places = [(hop.advert.layer_start, hop.advert.layer_stop) for hop in self._over[0].hops]
        peers = tuple(peer for spare in self._spares for peer in spare.peers)
        self._told.append(SparesChanged(peers, tuple(each for each in places if each not in covered), reason))
