"""A call while it runs: all its choices side by side, their events made into one stream of chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

from hypercluster.market.money.units import counted
from hypercluster.node.client import events
from hypercluster.node.client.siblings import Siblings
from hypercluster.node.engine.replies import Piece, ReasoningPiece, TextPiece
from hypercluster.node.gateway.chunks import (
    Chunk,
    Done,
    Ended,
    PathKnown,
    Reason,
    Reasoning,
    Text,
    ToolCall,
    Usage,
    Waiting,
)
from hypercluster.node.gateway.errors import ApiError, api_error_of
from hypercluster.node.gateway.facts import facts_of, known_path
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.node.engine.replies import Reply
    from hypercluster.node.gateway.asking import Asked
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.keyring import Visit
    from hypercluster.node.gateway.metrics import Watch
    from hypercluster.node.traffic.answer import Answer
    from hypercluster.node.traffic.events import Event

_REASONS: dict[str, Reason] = {"stop": "stop", "length": "length", "cost": "length", "cancelled": "length"}


class Answering:
    """The choices of one call, each a request of its own in the market.

    Raises at once:
        ApiError: there is no such model, the key is not for it, a wish makes no sense, or the queue is full.
    """

    def __init__(self, gateway: Gateway, visit: Visit, asked: Asked) -> None:
        market = gateway.market
        if gateway.stopping.is_set():
            raise _closing()
        self.asked, self.visit = asked, visit
        try:
            self.entry = market.model(asked.model)
            visit.check(self.entry)
            client = market.client(self.entry.model_id)
            self.requests = asked.requests(self.entry, client, gateway.patience)
            self._model, self._gateway = client.model, gateway
            caller = visit.caller
            if len(self.requests) > 1:
                # What the wallet's policy gives a request, it gives to all of a call's choices together.
                of_request = market.payer.limits.budgets()[0]
                caller = replace(caller, budgets=(*caller.budgets, of_request))
            groups = [Siblings() if asked.n > 1 else None for _ in asked.prompts]
            self.answers = [
                market.run(request, caller, groups[place // asked.n])
                for place, request in enumerate(self.requests)
            ]
        except Exception as error:
            raise api_error_of(error) from error
        self.request_id = self.answers[0].request_id
        self.error: ApiError | None = None
        """why the stream of chunks ended without Done"""
        self._halts = [trio.CancelScope() for _ in self.answers]
        self._thought = 0
        self._late: list[tuple[_Choice, Exception]] = []
        """choices that failed, and of what; they are ended when it is known that others came"""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.MemoryReceiveChannel[Chunk]]:
        """The chunks, for as long as the block lasts; leaving it early ends all choices and what they cost.

        The channel ends after Done, or without it where `error` says why.
        """
        send, receive = trio.open_memory_channel[Chunk](0)
        with receive:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, send)
                nursery.start_soon(self._halt_at, self.visit.ended)
                nursery.start_soon(self._halt_at, self._gateway.stopping)
                yield receive
                nursery.cancel_scope.cancel()

    @property
    def spent_wei(self) -> int:
        """Paid for all choices so far, what is at risk included."""
        return sum(each.completion.spent_wei + each.completion.risked_wei for each in self.answers)

    # --- how it runs ----------------------------------------------------------------------------------------------

    async def _run(self, out: trio.MemorySendChannel[Chunk]) -> None:
        async with out:
            try:
                await self._check_lengths()
                async with trio.open_nursery() as nursery:
                    for index in range(len(self.answers)):
                        nursery.start_soon(self._follow, index, out)
                if self._late and not any(answer.completion.tokens for answer in self.answers):
                    raise self._late[0][1]
                for choice, _ in self._late:
                    await self._end(choice, "length", None, out)
                if self.visit.refusal is not None:
                    raise self.visit.refusal
                if self._gateway.stopping.is_set() and not any(
                    answer.completion.tokens for answer in self.answers
                ):
                    raise _closing()
                await out.send(Done(self._usage(), self._facts()))
            except Exception as error:  # noqa: BLE001 - told to the caller, and logged where it is a bug
                self.error = api_error_of(error, spent=self.spent_wei > 0, field=self.asked.prompt_field)

    async def _check_lengths(self) -> None:
        """Of several prompts none is run, and paid, before all are known to fit. Raises ApiError, and what encoding
        does.
        """
        if len(self.asked.prompts) == 1:
            return
        in_thread = Threads(1)
        for index, prompt in enumerate(self.asked.prompts):
            length = len(await in_thread(self._model.encode, prompt))
            if length >= self.entry.context:
                where = f"prompt[{index}]"
                raise ApiError(
                    400,
                    "context_length_exceeded",
                    f"{where} has {length} tokens, and no path here holds more than {self.entry.context} with the "
                    "answer: shorten it.",
                    param=where,
                )

    async def _follow(self, index: int, out: trio.MemorySendChannel[Chunk]) -> None:
        """Run one choice to its end. Raises what it failed of, where no other one was paid for."""
        answer = self.answers[index]
        choice = _Choice(index, self._model.reply(self.requests[index]), self.asked.logprobs is not None)
        watch = self._gateway.metrics.begin(self.entry.name, self.visit.caller)
        failure: Exception | None = None
        try:
            with self._halts[index]:
                async with answer:
                    async for event in answer:
                        _note(watch, event)
                        if isinstance(event, events.Finished) and event.error is not None:
                            if not self._others_paid(answer):
                                raise event.error
                            failure = event.error
                        for chunk in choice.take(event, answer):
                            await out.send(chunk)
        finally:
            watch.end(answer.completion, answer.completion.finish)
        completion = answer.completion
        self._thought += choice.thought
        if failure is not None:
            self._late.append((choice, failure))
        else:
            await self._end(choice, _REASONS[completion.finish], completion.stop, out)

    def _others_paid(self, answer: Answer) -> bool:
        """Whether another choice has cost something, which is not to be thrown away."""
        return any(other.completion.spent_wei for other in self.answers if other is not answer)

    async def _end(
        self, choice: _Choice, reason: Reason, stop: str | None, out: trio.MemorySendChannel[Chunk]
    ) -> None:
        if self.visit.refusal is None:
            for chunk in choice.end(reason, stop):
                await out.send(chunk)

    async def _halt_at(self, event: trio.Event) -> None:
        await event.wait()
        for halt in self._halts:
            halt.cancel()

    # --- what it took ---------------------------------------------------------------------------------------------

    def _usage(self) -> Usage:
        done = [answer.completion for answer in self.answers]
        # Each prompt counts once, as whoever ran it found it: the other answers to it begin with copies.
        prompts = [done[first : first + self.asked.n] for first in range(0, len(done), self.asked.n)]
        return Usage(
            prompt=sum(len(each[0].prompt) for each in prompts),
            cached=sum(min(one.cached for one in each) for each in prompts),
            generated=sum(len(each.tokens) for each in done),
            thought=self._thought,
            cost_wei=self.spent_wei,
        )

    def _facts(self) -> dict[str, Any]:
        """Those of the first choice, and with several of them those of each."""
        stopping = self._gateway.stopping.is_set()
        each = [facts_of(answer, self.asked.tokens, stopping=stopping) for answer in self.answers]
        return each[0] if len(each) == 1 else {**each[0], "choices": each}


class _Choice:
    """Makes one choice's events into chunks."""

    def __init__(self, index: int, reply: Reply, probable: bool) -> None:
        self._index, self._reply, self._probable = index, reply, probable
        self._tokens: list[events.Token] = []
        self._calls = 0
        self._thinking = False
        self.thought = 0

    def take(self, event: Event, answer: Answer) -> Iterator[Chunk]:
        """The chunks that an event completes."""
        match event:
            case events.Queued():
                yield Waiting(f"queued at place {event.position} for {event.seconds:.1f} s")
            case events.PathChosen():
                yield PathKnown(self._index, known_path(event.path))
                yield Waiting(f"going over {counted(len(event.path.nodes), 'provider')}")
            case events.ChannelsPlanned():
                yield Waiting("opening payment channels")
            case events.ChannelsOpened():
                yield Waiting("payment channels are open, the prompt goes through the layers")
            case events.Prefilled():
                yield Waiting(
                    f"the prompt of {counted(len(answer.completion.prompt), 'token')} is read",
                    len(answer.completion.prompt),
                )
            case events.HopReplaced():
                yield Waiting("a session ended early, another takes over")
            case events.Waiting():
                yield Waiting(event.reason)
            case events.Token():
                if self._probable:
                    self._tokens.append(event)
                yield from self._pieces(self._reply.push(event.text))
                self.thought += self._thinking
            case events.Finished():
                yield from self._pieces(self._reply.push(event.rest))

    def end(self, reason: Reason, stop: str | None) -> Iterator[Chunk]:
        """What was held back, and the end."""
        yield from self._pieces(self._reply.finish())
        if self._calls and reason == "stop":
            reason = "tool_calls"
        yield Ended(self._index, reason, stop, self._taken())

    def _pieces(self, pieces: list[Piece]) -> Iterator[Chunk]:
        for piece in pieces:
            self._thinking = isinstance(piece, ReasoningPiece)
            if isinstance(piece, TextPiece):
                yield Text(self._index, piece.text, self._taken())
            elif isinstance(piece, ReasoningPiece):
                yield Reasoning(self._index, piece.text, self._taken())
            else:
                self._calls = max(self._calls, piece.index + 1)
                yield ToolCall(self._index, piece.index, piece.id, piece.name, piece.arguments, self._taken())

    def _taken(self) -> tuple[events.Token, ...]:
        tokens, self._tokens = tuple(self._tokens), []
        return tokens


def _note(watch: Watch, event: Event) -> None:
    """Count an event."""
    match event:
        case events.Queued():
            watch.wait()
        case events.PathChosen():
            watch.go()
        case events.Token():
            watch.token()
        case events.HopReplaced():
            watch.lost(event.code, event.blamed)


def _closing() -> ApiError:
    return ApiError(
        503,
        "shutting_down",
        "The gateway is shutting down: try again in a moment.",
        type="server_error",
        retry_after=2,
    )
