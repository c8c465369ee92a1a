"""One completion while it runs: a stream of events, and a bill that is right whenever it ends."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from hypercluster.market.errors import MarketError, OverDeposit
from hypercluster.node.client.blame import Then, judge
from hypercluster.node.client.choosing import AllBusy, Needs, NoRoute
from hypercluster.node.client.completion import Completion, HopBill, PathLost, TooExpensive
from hypercluster.node.client.drawing import Drawing
from hypercluster.node.client.events import (
    ChannelsOpened,
    ChannelsPlanned,
    Event,
    Finished,
    HopReplaced,
    PathChosen,
    Prefilled,
    Token,
    Waiting,
)
from hypercluster.node.client.hop import HopFailed, How
from hypercluster.node.client.opening import Terms, adverts_of, needed, recipient_of
from hypercluster.node.client.payer import Funding
from hypercluster.node.client.request import BadRequest
from hypercluster.node.client.stops import StopGate
from hypercluster.node.client.waking import ABSENT_SECONDS, now
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.request import Request

log = logging.getLogger(__name__)

REST_SECONDS = 0.5
"""a provider that is full is left alone for so long, and for twice as long each time"""
MOST_REST_SECONDS = 8.0
LOOK_SECONDS = 0.3
QUIET_SECONDS = 2.0
"""a wait that is no news: providers are found in this time"""


class Completing:
    """A completion as a stream of its events; see `Client.complete`.

    No scope or nursery is open while an event is out, so that it may be left at any of them. `completion` is what
    has come so far, and is whole, its bill included, when the stream has ended or its block is left.
    """

    def __init__(self, client: Client, request: Request) -> None:
        self.request = request
        self.completion = Completion(secrets.token_hex(8))
        self._client = client
        self._wishes = request.wishes or client.wishes
        self._text = client.model.tokenizer.stream()
        self._gate = StopGate(request.stop)
        self._hops: list[Hop] = []
        self._resting: dict[str, float] = {}
        """until when a peer is left out, in trio's time; for ever where it failed"""
        self._tries: dict[str, int] = {}
        self._rests: dict[str, int] = {}
        self._began = self._alive = now()
        """when a session last went forward, and whether it stood idle after that before its next step"""
        self._idled = False
        self._waiting_since: float | None = None
        self._last: HopFailed | None = None
        self._events = self._run()

    # --- how it is used -------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it here: sessions are closed, the books written; nothing if it has ended."""
        with trio.CancelScope(shield=True):
            await self._events.aclose()

    async def finished(self) -> Completion:
        """Run it to its end.

        Raises:
            NodeError, MarketError, OSError: what made it fail; `completion` holds what came before.
        """
        async with self:
            async for event in self:
                if isinstance(event, Finished) and event.error is not None:
                    raise event.error
        return self.completion

    # --- how it runs ----------------------------------------------------------------------------------------------

    async def _run(self) -> AsyncGenerator[Event, None]:
        done = self.completion
        try:
            async with aclosing(self._over_paths()) as events:
                async for event in events:
                    yield event
        except (NodeError, MarketError, OSError) as error:
            done.finish, done.error = "failed", error
            log.info("completion %s failed: %s", done.request_id, error)
        finally:
            rest = self._gate.push(self._text.finish()) + self._gate.finish()
            done.text += rest
            with trio.CancelScope(shield=True):
                await self._client.settle(done, self._hops, self._began)
        yield Finished(done.finish, done.bill, rest, done.error)

    async def _over_paths(self) -> AsyncGenerator[Event, None]:
        """Go on from path to path until it is finished. Raises what ends it otherwise."""
        request, done, client = self.request, self.completion, self._client
        if request.model not in (None, client.model.model_id):
            raise BadRequest(f"This client is for model {client.model.model_id}, not {request.model}.")
        # A chat's template runs in a process of its own, for seconds where it is a bad one.
        done.prompt = tuple(await Threads(1)(client.model.encode, request.prompt))
        if not done.prompt:
            raise BadRequest("The prompt has no tokens: give at least one character.")
        with Drawing(client.model, request, done) as drawing:
            while True:
                path: Path | None = None
                async with aclosing(self._looking()) as looking:
                    async for found in looking:
                        if isinstance(found, PathChosen):
                            path = found.path
                        yield found
                assert path is not None
                failure: HopFailed | OverDeposit
                try:
                    async with aclosing(self._on(path, drawing)) as events:
                        async for event in events:
                            yield event
                    return
                except (HopFailed, OverDeposit) as error:
                    failure = error
                if isinstance(failure, HopFailed):
                    yield await self._go_on_after(failure)
                else:
                    # The ledger was behind, or another completion drew on the same channel: top up and go on.
                    self._tries[""] = self._tries.get("", 0) + 1
                    if self._tries[""] > request.allowance.failures:
                        raise failure

    async def _looking(self) -> AsyncGenerator[Waiting | PathChosen, None]:
        """Wait for a path, as long as one may still appear. Raises why there is none."""
        request, done = self.request, self.completion
        needs = Needs(len(done.prompt), request.allowance.tokens, request.top_k)
        if self._waiting_since is None:
            self._waiting_since = trio.current_time()
        deadline = self._waiting_since + request.allowance.patience
        discovery = self._client.network.discovery
        began, told = trio.current_time(), ""
        while True:
            at = trio.current_time()
            back = {peer: until for peer, until in self._resting.items() if at < until < math.inf}
            busy = back if self._last is not None and self._last.code is ErrorCode.FULL else {}
            out = {peer for peer, until in self._resting.items() if until > at} - busy.keys()
            try:
                yield PathChosen(await self._client.chooser.route(self._wishes, needs, out, busy))
                return
            except (NoRoute, AllBusy) as error:
                reason = str(error)
                if self._last is not None and not isinstance(error, AllBusy):
                    reason = f"{self._last} Without it there is no path: {error}"
                # Who failed for good does not come back; who is full or not yet found may.
                hopeless = not back and not isinstance(error, AllBusy)
                hopeless = hopeless and bool(done.failures or discovery.hopeless)
                if hopeless or at >= deadline:
                    if self._last is None or isinstance(error, AllBusy):
                        raise
                    raise PathLost(reason) from error
            pause = min([LOOK_SECONDS, deadline - at, *(max(0.0, until - at) for until in back.values())])
            if reason != told and at - began >= QUIET_SECONDS:
                told = reason
                yield Waiting(reason, pause)
            await trio.sleep(max(0.01, pause))

    async def _on(self, path: Path, drawing: Drawing) -> AsyncGenerator[Event, None]:
        """Go on over one path until it is finished. Raises HopFailed where the path breaks."""
        request, done, client = self.request, self.completion, self._client
        allowance, wishes = request.allowance, self._wishes
        pending = [*done.prompt, *done.tokens]
        adverts = adverts_of(path, client.network.discovery.book)
        self._check_budget(adverts, len(pending))
        needs = needed(adverts, len(pending), allowance.tokens - len(done.tokens), allowance.cost_wei)
        planned = await client.payer.plan(needs, wishes.deposit_wei)
        if planned.deposits:
            yield ChannelsPlanned(planned)
        before = len(done.fundings)
        accounts = await client.payer.fund(needs, wishes.deposit_wei, done.fundings.append)
        if sent := done.fundings[before:]:
            deposits = tuple(deposit for each in sent for deposit in each.deposits)
            yield ChannelsOpened(Funding(deposits, sum(each.gas_wei for each in sent)))
        self._alive, self._idled = now(), False
        terms = Terms(
            capacity=len(done.prompt) + allowance.tokens,
            top_k=max(request.top_k, min(request.wanted_top_k, adverts[-1].max_top_k)),
            wire_dtype=wishes.wire_dtype,
        )
        pipeline = await client.opener.open(adverts, accounts, terms)
        try:
            async with aclosing(self._generate(pipeline, pending, drawing)) as events:
                async for event in events:
                    yield event
        finally:
            done.bills += [HopBill.of(hop) for hop in pipeline.hops]
            self._hops += pipeline.hops
            await pipeline.close()

    async def _generate(
        self, pipeline: Pipeline, pending: list[int], drawing: Drawing
    ) -> AsyncGenerator[Event, None]:
        done, allowance = self.completion, self.request.allowance
        first = True
        while True:
            left = self._left(pipeline)
            if left is not None and pipeline.cost(len(pending)) > left:
                if not done.tokens:
                    raise TooExpensive(pipeline.cost(len(pending)), left)
                done.finish = "cost"
                return
            began = time.perf_counter()
            self._idled = now() - self._alive > ABSENT_SECONDS
            best = await pipeline.run(pending)
            self._alive, self._idled = now(), False
            took = 1000 * (time.perf_counter() - began)
            if first:
                first, self._waiting_since, self._last = False, None, None
                yield Prefilled(len(pending), took)
            drawn = drawing.draw(best)
            if drawn.ends:
                done.finish = "stop"
                return
            done.tokens.append(drawn.id)
            text = self._gate.push(self._text.push(drawn.id))
            done.text += text
            yield Token(
                drawn.id, text, drawn.piece, best.ids.shape[1], took, logprob=drawn.logprob, top=drawn.top
            )
            if self._gate.stopped:
                done.finish = "stop"
                return
            if len(done.tokens) == allowance.tokens:
                done.finish = "length"
                return
            pending = [drawn.id]

    # --- what ends a path -----------------------------------------------------------------------------------------

    async def _go_on_after(self, failure: HopFailed) -> HopReplaced:
        """Decide what becomes of a provider whose session ended. Raises the failure where too many have."""
        client, peer = self._client, failure.peer
        advert = client.network.discovery.book.get(peer)
        tried = self._tries.get(peer, 0)
        absent = self._idled or client.wakefulness.absent_since(self._alive)
        confirmed = any(hop.receipts.last is not None and hop.advert.peer != peer for hop in self._hops)
        alone = failure.how is How.LOST and not absent
        if alone and (alone := await client.chooser.nobody_answers({peer, *self.completion.failures})):
            failure = failure.through_us()
        found = judge(failure, absent=absent, alone=alone, clock_confirmed=confirmed, tried=tried)
        self._last = failure
        log.info("%s", failure)
        if found.evidence is not None and advert is not None:
            await client.chooser.note(peer, advert.operator, found.evidence, str(failure))
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
            case Then.REST:
                count = self._rests[peer] = self._rests.get(peer, 0) + 1
                rest = min(MOST_REST_SECONDS, REST_SECONDS * 2 ** (count - 1))
                self._resting[peer] = trio.current_time() + rest
        if then is Then.LEAVE:
            self._resting[peer] = math.inf
            self.completion.failures.append(peer)
            if len(self.completion.failures) > self.request.allowance.failures:
                raise failure
        return HopReplaced(peer, str(failure), found.evidence is not None)

    async def _rejoin(self) -> None:
        """After an absence adverts have expired: get those of the path again from who is known to be there."""
        self._alive = now()
        async with trio.open_nursery() as nursery:
            for advert in {hop.advert.peer: hop.advert for hop in self._hops}.values():
                if advert.peer not in self.completion.failures:
                    nursery.start_soon(self._client.chooser.ask, advert.peer, advert.addrs)

    def _left(self, pipeline: Pipeline | None = None) -> int | None:
        """Wei that may still be spent; None without a bound."""
        cost = self.request.allowance.cost_wei
        if cost is None:
            return None
        spent = self.completion.spent_wei + self.completion.risked_wei
        return cost - spent - (pipeline.paid_wei if pipeline else 0)

    def _check_budget(self, adverts: list[Advert], prompt: int) -> None:
        """Refuse what cannot be paid before a channel is opened for it."""
        left = self._left()
        if left is None or self.completion.tokens:
            return
        least = sum(min(each.prompt_price_wei, each.price_wei) for each in adverts) * prompt
        if least > left:
            raise TooExpensive(least, left)
