"""Finding a path for one completion: standing in line for it, and going around those who fail."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.blame import Then, judge
from hypercluster.node.client.completion import PathLost
from hypercluster.node.client.events import HopReplaced, PathChosen, Queued, Waiting
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.client.gaps import Kept
from hypercluster.node.client.leanness import leanest_path
from hypercluster.node.client.line import QueueFull
from hypercluster.node.client.needs import AllBusy, Needs, NoRoute
from hypercluster.node.client.opening import recipient_of
from hypercluster.node.client.patience import Leash
from hypercluster.node.client.returning import Returning
from hypercluster.node.client.vacancies import MOST_REST_SECONDS, REST_SECONDS
from hypercluster.node.client.waking import now
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.request import Request
    from hypercluster.node.client.siblings import Siblings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.3
TELL_SECONDS = 5.0
"""after which a place in the line is told again though it is the same"""
MOST_RESTS = 3
"""that an operator may ask for in one completion, after which others are preferred"""
MOST_WORSE = 2.0
"""times the weight of a whole new path, beyond which it is not worth keeping sessions"""
QUIET_SECONDS = 2.0
"""a wait that is no news: providers are found in this time"""


class Looking:
    """Looks for paths for a completion; what it knows of those who failed lasts as long as the completion.

    Args:
        key: with whose requests this one takes turns.
        siblings: other answers to the same prompt.

    Attributes:
        returning: the path that it may begin with, if there is one.
        hops: the sessions that have ended.
        sharing: paths that were taken at the same time at most, this one included.
        asked, wishes: the wishes of the request, and those that the path in use was found by.
        alive, idled: when a session last went forward, and whether it stood idle after that before its next step.
    """

    def __init__(
        self,
        client: Client,
        request: Request,
        done: Completion,
        key: str,
        siblings: Siblings | None = None,
    ) -> None:
        self.asked = client.wishes_of(request)
        self.wishes = replace(self.asked, wire_dtype=self.asked.wire_dtype or WireDtype.F32)
        self.hops: list[Hop] = []
        self.began = self.alive = now()
        self.idled = False
        self.sharing = 1
        self._client, self._request, self._done, self._key = client, request, done, key
        self._resting: dict[str, float] = {}
        """until when a peer is left out, in trio's time; for ever where it failed"""
        self._failed: set[str] = set()
        """operators with a peer that failed: their others are taken only where nobody else serves"""
        self._trial = client.chooser.draw_trial(self.wishes)
        self._trying: frozenset[str] = frozenset()
        """operators that the first answer is waited for of"""
        self._counted = self._stepped = False
        self._tries: dict[str, int] = {}
        self._rests: dict[str, int] = {}
        self._since: float | None = None
        self._last: HopFailed | None = None
        self._taken: tuple[Path, float] | None = None
        self._admitted = False
        self._suspect = False
        """whether the last session may have ended through us, so that the others are likely over as well"""
        self.returning = Returning(client, self.asked, done, key, siblings)

    def went_on(self) -> None:
        """Note that a step was answered, so that what comes next has all the patience again."""
        self._since, self._last = None, None
        self._try(())

    def opened(self) -> None:
        """Note that all providers of the path took their sessions."""
        assert self._taken is not None
        self._stepped = True
        self._client.vacancies.accepted(self._taken[0].ids)
        self.returning.opened()

    def give_back(self) -> None:
        """Note that the sessions of the path have ended; nothing if there is none."""
        self.returning.give_up()
        if self._taken is not None:
            path, since = self._taken
            self._taken = None
            self._try(())
            self._client.vacancies.give_back(path, trio.current_time() - since)

    async def paths(self) -> AsyncGenerator[Queued | Waiting | PathChosen, None]:
        """Wait for a path, as long as one may still appear; it comes last and is taken until `give_back`.

        Raises why there is none.
        """
        line, patience = self._client.line, self._request.allowance.patience
        place = line.join(self._key, self._find, first=self._admitted)
        began = trio.current_time()
        if self._since is None:
            self._since = began
        deadline = self._since + patience
        told, position, at_told = "", 0, -math.inf
        try:
            while True:
                back = self._coming_back()
                pauses = (until - trio.current_time() for until in back.values())
                seconds = max(0.01, min([LOOK_SECONDS, deadline - trio.current_time(), *pauses]))
                if await line.wait(place, seconds):
                    if place.path is None:
                        assert place.error is not None
                        raise place.error
                    path, place.path = place.path, None
                    self._taken, self._admitted = (path, trio.current_time()), True
                    self._stepped = False
                    if not self._counted:
                        self._counted = True
                        self._client.experience.requested({node.owner for node in path.nodes})
                    yield PathChosen(path)
                    return
                reason = self._give_up(place.error, back, over=trio.current_time() >= deadline)
                at = trio.current_time()
                if isinstance(place.error, AllBusy):
                    now_at = line.position(place)
                    if now_at != position or at - at_told > TELL_SECONDS:
                        position, at_told = now_at, at
                        yield Queued(now_at, at - began)
                if reason != told and at - began >= QUIET_SECONDS:
                    told = reason
                    yield Waiting(reason, seconds)
        finally:
            line.leave(place)
            if self._taken is None:
                self._try(())
            if place.path is not None:
                self._client.vacancies.give_back(place.path, 0.0)

    async def mended(self, kept: Kept) -> Path | None:
        """A path over all sessions in `kept`, and between own layers, with others where some are missing. It is taken
        instead of the one before; None where there is none at this moment, or a whole new one is far better.
        """
        holding = bool(kept.adverts) or self._client.own_layers is not None
        if self._taken is None or not holding or self._suspect:
            return None
        chooser, needs, out = self._client.chooser, self._needs(), self._out()
        try:
            path = await chooser.route(self.wishes, needs, out, failed=self._failed, kept=kept)
        except NodeError as error:
            log.info("the path is not mended: %s", error)
            return None
        with suppress(NodeError):
            whole = await chooser.route(self.wishes, needs, out, failed=self._failed)
            if path.weight > MOST_WORSE * whole.weight:
                return None
        before, since = self._taken
        self._client.vacancies.exchange(before, path)
        self._taken, self._stepped = (path, since), False
        self._try({node.owner for node in path.nodes if node.id not in kept.by_peer})
        return path

    async def beside(self, kept: Kept, shunned: Collection[str]) -> Path:
        """A path over all sessions in `kept` and, where others are missing, over nobody that is among these peers and
        operators if somebody else serves. It is not taken. Raises NodeError, MarketError.
        """
        out, failed = {*self._out(), *shunned}, {*self._failed, *shunned}
        return await self._client.chooser.route(self.wishes, self._needs(), out, failed=failed, kept=kept)

    def shun(self, advert: Advert) -> None:
        """Finish this completion without a provider, which loses nothing by that."""
        self._resting[advert.peer] = math.inf
        self.avoid(advert)

    def avoid(self, advert: Advert) -> None:
        """Finish this completion without a provider's operator as long as somebody else serves."""
        self._failed.add(advert.operator or advert.peer)

    def _coming_back(self) -> dict[str, float]:
        at = trio.current_time()
        return {peer: until for peer, until in self._resting.items() if at < until < math.inf}

    def leash(self, advert: Advert) -> Leash:
        """How long a session with one provider may take for each answer."""
        client = self._client
        return Leash(client.experience.pace, client.patience, advert, partial(self._could_go_on, advert))

    def _could_go_on(self, slow: Advert) -> bool:
        """Whether this completion could go on without a provider that is slow, and may lose one more."""
        client, done = self._client, self._done
        if len(done.failures) >= self._request.allowance.failures:
            return False
        if self.idled or client.wakefulness.absent_since(self.alive):
            return False
        held = self._taken[0].ids if self._taken else ()
        out = {*self._out(), *self._failed}
        return client.chooser.could_go_on(slow, self.wishes, self._needs(), out, held)

    def _needs(self) -> Needs:
        done = self._done
        return Needs(
            prompt=len(done.prompt) + len(done.tokens),
            tokens=self._request.allowance.tokens - len(done.tokens),
            top_k=min(self._request.top_k, self._client.model.n_vocab),
        )

    def _out(self) -> set[str]:
        at = trio.current_time()
        return {peer for peer, until in self._resting.items() if until > at}

    async def _find(self) -> Path:
        # Who lost a provider already takes no more chances.
        back = await self.returning.way(self._needs(), {*self._out(), *self._done.failures})
        if back is not None:
            self.wishes = self.returning.settled(self.wishes)
            self._try({node.owner for node in back.nodes})
            return back
        chooser, model = self._client.chooser, self._client.model
        trial = self._trial and not self._failed
        route = partial(
            chooser.route, needs=self._needs(), exclude=self._out(), failed=self._failed, trial=trial
        )
        path, self.wishes = await leanest_path(route, self.asked, model.certified)
        # At once, as the next in line is looked for a moment later.
        self._try({node.owner for node in path.nodes})
        return path

    def _try(self, operators: Collection[str]) -> None:
        """Note whose first answer is waited for from now on, and of nobody else any more."""
        before, self._trying = self._trying, frozenset(operators)
        self._client.experience.answered(before)
        self._client.experience.begun(self._trying)

    def _give_up(self, error: Exception | None, back: dict[str, float], *, over: bool) -> str:
        """Raise where there is nothing to wait for; else return why there is no path yet."""
        if error is not None and not isinstance(error, NoRoute | AllBusy):
            raise error
        busy = isinstance(error, AllBusy)
        reason = str(error or "Providers are being looked for.")
        if self._last is not None and not busy:
            reason = f"{self._last} Without it there is no path: {error}"
        # Who failed for good does not come back; who is full or not yet found may.
        hopeless = not back and not busy and error is not None
        hopeless = hopeless and (bool(self._done.failures) or self._client.chooser.nobody_comes)
        if not (hopeless or over):
            return reason
        if busy:
            line = self._client.line
            raise QueueFull(reason, line.retry_after()) from error
        if self._last is None and error is not None:
            raise error
        raise PathLost(reason) from error

    async def after(self, failure: HopFailed) -> HopReplaced:
        """Decide what becomes of a provider whose session ended. Raises the failure where too many have."""
        client, peer = self._client, failure.peer
        advert = client.network.discovery.book.get(peer)
        tried = self._tries.get(peer, 0)
        absent = self.idled or client.wakefulness.absent_since(self.alive)
        confirmed = any(hop.receipts.last is not None and hop.advert.peer != peer for hop in self.hops)
        alone = failure.how is How.LOST and not absent
        if alone and (alone := await client.chooser.nobody_answers({peer, *self._done.failures})):
            failure = failure.through_us()
        self._suspect = absent or alone
        found = judge(failure, absent=absent, alone=alone, clock_confirmed=confirmed, tried=tried)
        self._last = failure
        log.info("%s", failure)
        if found.evidence is not None and advert is not None:
            await client.chooser.note(peer, advert.operator, found.evidence, str(failure))
        operator = (advert.operator if advert else "") or peer
        if found.forget:
            client.network.discovery.book.remove(peer)
        then = found.then
        if then is not Then.LEAVE and not absent:
            self._tries[peer] = tried + 1
        match then:
            case Then.ASK:
                if not await client.chooser.ask(peer) and failure.how is not How.EXPIRED:
                    then = Then.LEAVE
            case Then.REOPEN if absent:
                await self._rejoin()
            case Then.FUND:
                if advert is not None:
                    client.payer.forget(recipient_of(advert))
            case Then.REST if failure.code is ErrorCode.FULL and advert is not None:
                client.vacancies.full(advert, failure.wait)
                self._put_off(operator, failure)
            case Then.REST:
                self._resting[peer] = trio.current_time() + self._put_off(operator, failure)
        if then is Then.LEAVE:
            self._resting[peer] = math.inf
            self._failed.add(operator)
            if found.evidence is not None:
                client.experience.failed(operator, peer, found.evidence, failure.wait)
            self._done.failures.append(peer)
            if len(self._done.failures) > self._request.allowance.failures:
                raise failure
        return HopReplaced(peer, str(failure), found.evidence is not None, failure.word)

    def _put_off(self, operator: str, failure: HopFailed) -> float:
        """For how many seconds who cannot serve now is left alone; who puts off again and again is as good as failed.

        All keys of an operator count together: with fifty of them it could go on for ever.
        """
        count = self._rests[operator] = self._rests.get(operator, 0) + 1
        if count > MOST_RESTS or (self._stepped and failure.code is ErrorCode.FULL):
            # Who takes a session has room for its steps.
            self._failed.add(operator)
            self._client.experience.failed(operator, failure.peer, None, failure.wait)
        return min(MOST_REST_SECONDS, max(failure.wait, REST_SECONDS * 2.0 ** (count - 1)))

    async def _rejoin(self) -> None:
        """After an absence adverts have expired: get those of the path again from who is known to be there."""
        self.alive = now()
        async with trio.open_nursery() as nursery:
            for advert in {hop.advert.peer: hop.advert for hop in self.hops}.values():
                if advert.peer not in self._done.failures:
                    nursery.start_soon(self._client.chooser.ask, advert.peer, advert.addrs)
