"""One completion while it runs: a stream of events, and a bill that is right whenever it ends."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from hypercluster.market.errors import InsufficientFunds, MarketError, OverDeposit
from hypercluster.market.money.budget import LimitReached
from hypercluster.node.client.completion import Completion, HopBill, TooExpensive
from hypercluster.node.client.drafting import Drafts, drafts_for
from hypercluster.node.client.drawing import Drawing
from hypercluster.node.client.events import (
    Event,
    Finished,
    PathChosen,
    Prefilled,
    Token,
)
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.funding import Funds
from hypercluster.node.client.looking import Looking
from hypercluster.node.client.mending import Mending, Unmended
from hypercluster.node.client.needs import RequestTooLong
from hypercluster.node.client.opening import Terms, adverts_of, bounds_of
from hypercluster.node.client.request import BadRequest
from hypercluster.node.client.standing_by import Standby
from hypercluster.node.client.stops import StopGate
from hypercluster.node.client.trips import Trips
from hypercluster.node.client.waking import ABSENT_SECONDS, now
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import WireDtype
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.account import OutgoingAccount, Recipient
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.request import Request
    from hypercluster.node.client.siblings import Siblings

log = logging.getLogger(__name__)


class Completing:
    """A completion as a stream of its events; see `Client.complete`.

    No scope or nursery is open while an event is out, so that it may be left at any of them. `completion` is what
    has come so far, and is whole, its bill included, when the stream has ended or its block is left.
    """

    def __init__(
        self, client: Client, request: Request, key: str = "", siblings: Siblings | None = None
    ) -> None:
        self.request = request
        own = client.own_layers
        self.completion = Completion(secrets.token_hex(8), begins=own.start if own else 0)
        self._client = client
        self._looking = Looking(client, request, self.completion, key, siblings)
        self._paying = client.payer.spending(self.completion.request_id, request.budgets)
        """what it may cost in all; `_spending` is what of that may go to providers"""
        self.completion.paying = self._paying
        self._spending = self._paying.within(*request.allowance.budgets())
        self._funds = Funds(client, self.completion, self._spending, self._looking.wishes.deposit_wei)
        self._text = client.model.stream(request)
        self._gate = StopGate(client.model.stops(request))
        self._topped_up = 0
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
        with trio.CancelScope(shield=True):
            await self._client.begin(done, self.request)
        try:
            async with aclosing(self._over_paths()) as events:
                async for event in events:
                    yield event
        except (NodeError, MarketError, OSError) as error:
            log.info("completion %s ends early: %s", done.request_id, error)
            self._cut_short(error)
        finally:
            self._looking.give_back()
            self._looking.returning.end()
            rest = self._gate.push(self._text.finish()) + self._gate.finish()
            done.text += rest
            done.stop = self._gate.stop
            with trio.CancelScope(shield=True):
                looking = self._looking
                await self._client.settle(done, looking.hops, looking.began, looking.sharing, self._paying)
        yield Finished(done.finish, done.bill, rest, done.error)

    def _cut_short(self, error: Exception) -> None:
        """End with what came, where no other path or wallet would go on with it, and else with the error."""
        done = self.completion
        limit = error.limit if isinstance(error, TooExpensive) else error
        if done.tokens and isinstance(error, RequestTooLong):
            done.finish = "length"
        elif isinstance(limit, LimitReached) and (done.tokens or self._looking.returning.others_ran):
            done.finish, done.limit = "cost", limit
        elif done.tokens and isinstance(error, InsufficientFunds):
            done.finish = "cost"
        else:
            done.finish, done.error = "failed", error

    async def _over_paths(self) -> AsyncGenerator[Event, None]:
        """Go on from path to path until it is finished. Raises what ends it otherwise."""
        request, done, client = self.request, self.completion, self._client
        if request.model not in (None, client.model.model_id):
            raise BadRequest(f"This client is for model {client.model.model_id}, not {request.model}.")
        # A chat's template runs in a process of its own, for seconds where it is a bad one.
        done.prompt = tuple(await Threads(1)(client.model.encode, request.prompt))
        if not done.prompt:
            raise BadRequest("The prompt has no tokens: give at least one character.")
        await self._looking.returning.remember()
        drafts = drafts_for(self._looking.wishes, client.draft_model)
        with await Threads(1)(Drawing, client.model, request, done) as drawing, drafts:
            while True:
                path: Path | None = None
                async with aclosing(self._looking.paths()) as looking:
                    async for found in looking:
                        if isinstance(found, PathChosen):
                            path = found.path
                        yield found
                assert path is not None
                failure: HopFailed | OverDeposit
                try:
                    async with aclosing(self._on(path, drawing, drafts)) as events:
                        async for event in events:
                            yield event
                    return
                except Unmended as error:
                    if error.last is not None:
                        raise error.last from None
                    continue
                except (HopFailed, OverDeposit) as error:
                    failure = error
                finally:
                    self._looking.give_back()
                if isinstance(failure, HopFailed):
                    yield await self._looking.after(failure)
                else:
                    # The ledger was behind, or another completion drew on the same channel: top up and go on.
                    self._topped_up += 1
                    if self._topped_up > request.allowance.failures:
                        raise failure

    async def _on(self, path: Path, drawing: Drawing, drafts: Drafts) -> AsyncGenerator[Event, None]:
        """Go on over one path until it is finished. Raises HopFailed where the path breaks."""
        request, done, client = self.request, self.completion, self._client
        wishes = self._looking.wishes
        pending = [*done.prompt, *done.tokens]
        adverts = adverts_of(path.nodes, client.network.discovery.book)
        standby = Standby(client, self._looking, done, self._spending)
        capacity, most_top_k = bounds_of(adverts, client.own_layers)
        done.allowed = min(request.allowance.tokens, capacity - len(done.prompt))
        if done.allowed <= len(done.tokens):
            raise RequestTooLong(
                f"The sessions of this path hold {capacity} tokens by now, which are used up."
            )
        back = self._looking.returning.begin(path, pending)
        cached = len(back.tokens) if back else 0
        if cached < len(pending):
            self._funds.check(adverts, len(pending) - cached, cached)
        accounts: dict[Recipient, OutgoingAccount] = {}
        opening = standby.fund(self._funds, adverts, len(pending) - cached, accounts, cached)
        async with aclosing(opening) as funding:
            async for sent in funding:
                yield sent
        self._looking.alive, self._looking.idled = now(), False
        terms = Terms(
            capacity=len(done.prompt) + done.allowed,
            top_k=max(request.top_k, min(drawing.wanted_top_k, most_top_k)),
            wire_dtype=wishes.wire_dtype or WireDtype.F32,
            chain=wishes.chain,
            pay_ahead=wishes.pay_ahead,
        )
        if back is not None:
            self._looking.returning.begins()
        pipeline = await client.opener.open(
            adverts, accounts, terms, self._spending, self._looking.leash, back
        )
        self._looking.opened()
        done.cached = pipeline.position
        pending = pending[pipeline.position :]
        try:
            await client.opened(done, pipeline.hops)
            standby.over(pipeline, terms, accounts)
            generated = self._generate(pipeline, pending, drawing, drafts, terms, standby)
            async with aclosing(generated) as events:
                async for event in events:
                    yield event
        finally:
            await standby.end()
            done.bills += [HopBill.of(hop) for hop in pipeline.hops]
            self._looking.hops += pipeline.hops
            await self._looking.returning.leave(pipeline)

    async def _generate(
        self,
        pipeline: Pipeline,
        pending: list[int],
        drawing: Drawing,
        drafts: Drafts,
        terms: Terms,
        standby: Standby,
    ) -> AsyncGenerator[Event, None]:
        most_wei = self._client.payer.limits.policy.ahead_wei
        trips = Trips(pipeline, drafts, self._spending, self._looking.wishes.in_flight, most_wei)
        drafts.over(rewinds=pipeline.rewinds, history=(*self.completion.prompt, *self.completion.tokens))
        try:
            made = self._trips(trips, pipeline, pending, drawing, drafts, terms, standby)
            async with aclosing(made) as events:
                async for event in events:
                    yield event
        finally:
            await trips.end()

    async def _trips(
        self,
        trips: Trips,
        pipeline: Pipeline,
        pending: list[int],
        drawing: Drawing,
        drafts: Drafts,
        terms: Terms,
        standby: Standby,
    ) -> AsyncGenerator[Event, None]:
        done, looking = self.completion, self._looking
        first, drafted = True, done.drafted
        while True:
            for changed in standby.told():
                yield changed
            room = min(done.allowed - len(done.tokens), pipeline.most_rows) - 1
            start = len(done.prompt) + len(done.tokens)
            if rows := await trips.plan(pending, room):
                if reached := self._spending.refusal(pipeline.due(rows)):
                    raise reached if done.tokens else TooExpensive(reached)
                async with aclosing(self._funds.top_up(pipeline, rows)) as topping_up:
                    async for event in topping_up:
                        yield event
            began = time.perf_counter()
            looking.idled = now() - looking.alive > ABSENT_SECONDS
            looking.sharing = max(looking.sharing, self._client.vacancies.paths)
            mending: Mending | None = None
            try:
                found = await trips.go(pending, start - len(pending))
                if found is None:
                    continue
                best = found
            except HopFailed as failure:
                mending = Mending(self._client, looking, done, self._funds, self._spending, standby)
                tokens = [*done.prompt, *done.tokens, *trips.guessed]
                async with aclosing(
                    mending.mended(pipeline, failure, terms, tokens, 1 + len(trips.guessed))
                ) as mended:
                    async for told in mended:
                        yield told
                assert mending.best is not None
                best, first, pending = mending.best, True, tokens
            looking.alive, looking.idled = now(), False
            took = 1000 * (time.perf_counter() - began)
            if first:
                first = False
                looking.went_on()
                if not done.tokens:
                    looking.returning.ran(pipeline, best[:1])
                yield Prefilled(len(pending), took)
            guessed, held = trips.guessed, 0
            done.drafted = drafted + trips.drafted
            for row in range(len(best.ids)):
                drawn = drawing.draw(best[row : row + 1])
                if drawn.ends:
                    done.finish = "stop"
                    return
                done.first_token = done.first_token or datetime.now(UTC)
                done.tokens.append(drawn.id)
                text = self._gate.push(self._text.push(drawn.id))
                done.text += text
                yield Token(
                    drawn.id,
                    text,
                    drawn.piece,
                    best.ids.shape[1],
                    0.0 if row else took,
                    logprob=drawn.logprob,
                    top=drawn.top,
                )
                if self._gate.stopped or drawn.last:
                    done.finish = "stop"
                    return
                if len(done.tokens) >= done.allowed:
                    done.finish = "length"
                    return
                if row == len(guessed) or drawn.id != guessed[row]:
                    break
                held, done.draft_held = held + 1, done.draft_held + 1
            if mending is None:
                await trips.drawn(rows, took, held)
            drafts.came(done.tokens[-1 - held :])
            pipeline.rewind(start + held)
            standby.level(start + held)
            pending = [drawn.id]
