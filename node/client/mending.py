"""A path that broke in mid-completion: who is left keeps its session, and others take the place of who is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import InsufficientFunds
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.completion import HopBill
from hypercluster.node.client.events import Event, PathChosen
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.gaps import Kept
from hypercluster.node.client.kept import NotKept
from hypercluster.node.client.levelling import Levelling
from hypercluster.node.client.opening import Terms, adverts_of
from hypercluster.node.client.waking import now
from hypercluster.node.errors import NodeError
from hypercluster.node.wire.messages import REWIND

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.account import OutgoingAccount, Recipient
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.funding import Funds
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.linking import Joint
    from hypercluster.node.client.looking import Looking
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.standing_by import Standby
    from hypercluster.node.rows import TopK

LEAVE_SECONDS = 0.5
"""to take leave of a session that broke"""


class Unmended(NodeError):
    """A path broke and is not mended: another whole one has to be found, unless it is over for `last`."""

    def __init__(self, reason: str, last: HopFailed | None = None) -> None:
        super().__init__(reason)
        self.last = last


class Mending:
    """Mends the paths of one completion.

    Args:
        spending: of what goes to providers.
        standby: who takes the place of one that broke before anybody else does.

    Attributes:
        best: the logits behind the last tokens that were run, once a path is mended.
    """

    def __init__(
        self,
        client: Client,
        looking: Looking,
        done: Completion,
        funds: Funds,
        spending: Spending,
        standby: Standby,
    ) -> None:
        self._client, self._looking, self._done = client, looking, done
        self._funds, self._spending, self._standby = funds, spending, standby
        self._unlinked: set[str] = set()
        """who stood by, and has no link to its neighbours yet"""
        self.best: TopK | None = None

    async def mended(
        self, pipeline: Pipeline, failure: HopFailed, terms: Terms, tokens: Sequence[int], wanted: int
    ) -> AsyncGenerator[Event, None]:
        """Replace the sessions that broke, and run `tokens`, by position, to their end through all that are there.

        `best` has the logits behind the last `wanted` of them then. Nobody who is left has to go back, so it works
        for every model.

        Raises:
            Unmended: it is not done.
            MarketError: the chain does not answer, or a channel does not cover a step.
        """
        # Whoever takes over may have to forget drafts as those before could.
        features = frozenset({REWIND} if pipeline.rewinds else ())
        self.best = failure.best
        while True:
            for hop in pipeline.hops:
                # One may have failed at rest, by what it did not show.
                hop.broken |= hop.advert.peer == failure.peer
            try:
                yield await self._looking.after(failure)
            except HopFailed as last:
                raise Unmended(str(last), last) from last
            await self._stand_in(pipeline)
            sessions = [hop for hop in pipeline.hops if not hop.broken]
            kept = Kept([hop.advert for hop in sessions], terms.capacity, features)
            path = await self._looking.mended(kept)
            if path is None:
                raise Unmended(str(failure)) from failure
            await self._let_go(pipeline)
            yield PathChosen(path)
            try:
                async with aclosing(self._with(pipeline, path, sessions, terms, tokens, wanted)) as events:
                    async for event in events:
                        yield event
                return
            except HopFailed as error:
                failure = error
            except (NotKept, InsufficientFunds) as error:
                raise Unmended(str(error)) from error

    async def _with(
        self,
        pipeline: Pipeline,
        path: Path,
        kept: Sequence[Hop],
        terms: Terms,
        tokens: Sequence[int],
        wanted: int,
    ) -> AsyncGenerator[Event, None]:
        client, looking, done = self._client, self._looking, self._done
        sessions = {hop.advert.peer: hop for hop in kept}
        missing = [node for node in path.nodes if node.id not in sessions]
        adverts = adverts_of(missing, client.network.discovery.book)
        replay = sum(charge(each.price_wei, each.prompt_price_wei, len(tokens)) for each in adverts)
        if reached := self._spending.refusal(replay):
            raise Unmended(str(reached))
        accounts: dict[Recipient, OutgoingAccount] = {}
        if adverts:
            async with aclosing(self._funds.open(adverts, len(tokens), accounts)) as funding:
                async for sent in funding:
                    yield sent
        terms = terms.given_by(adverts)
        joints = self._joints(path, sessions, adverts, terms)
        new = await client.opener.sessions(
            adverts, accounts, terms, self._spending, looking.leash, joints=joints
        )
        # Who is left lets go of the link that it had before anybody makes another one to it.
        for joint in joints:
            if joint.after.peer in sessions:
                await sessions[joint.after.peer].expect(joint)
        kept_peers = {*sessions}
        sessions |= {hop.advert.peer: hop for hop in new}
        pipeline.replace([sessions[peer] for peer in path.ids])
        looking.opened()
        await client.opened(done, new)
        levelling = Levelling(
            pipeline.stages,
            tokens,
            wanted,
            pipeline.chunks,
            client.opener.kept.of,
            reads_tokens=pipeline.reads_tokens,
            best=self.best,
        )
        cost = levelling.cost()
        if reached := self._spending.refusal(cost):
            raise Unmended(str(reached))
        with self._spending.step(cost):
            try:
                self.best = await levelling.run()
            except HopFailed:
                self.best = levelling.best
                raise
        for joint in joints:
            before = sessions[joint.before.peer]
            if kept_peers & {joint.before.peer, joint.after.peer}:
                await before.join(joint)
            before.relayed = False
        pipeline.held = [*tokens]
        looking.alive, looking.idled = now(), False

    def _joints(
        self, path: Path, kept: Mapping[str, Hop], adverts: Sequence[Advert], terms: Terms
    ) -> list[Joint]:
        """The links of a path that have to be made anew."""
        found = {advert.peer: advert for advert in adverts} | {peer: hop.advert for peer, hop in kept.items()}
        joints = self._client.opener.joints([found[peer] for peer in path.ids], terms)
        linked = kept.keys() - self._unlinked
        return [joint for joint in joints if not {joint.before.peer, joint.after.peer} <= linked]

    async def _stand_in(self, pipeline: Pipeline) -> None:
        """Let who stands by for those that broke be part of the path, each behind the one whose place it takes."""
        broken = [hop for hop in pipeline.hops if hop.broken]
        for hop, spares in await self._standby.take(broken):
            place = pipeline.hops.index(hop) + 1
            pipeline.replace([*pipeline.hops[:place], *spares, *pipeline.hops[place:]])
            self._unlinked |= {each.advert.peer for each in spares}

    async def _let_go(self, pipeline: Pipeline) -> None:
        """End the sessions that broke, which stand in the bill from now on."""
        broken = [hop for hop in pipeline.hops if hop.broken]
        pipeline.replace([hop for hop in pipeline.hops if not hop.broken])
        self._done.bills += [HopBill.of(hop) for hop in broken]
        self._looking.hops += broken
        with trio.CancelScope(deadline=trio.current_time() + LEAVE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for hop in broken:
                    nursery.start_soon(hop.close)
