"""Brings the sessions of a path to the same position after some of them were replaced.

A new session is sent all rows again, in steps as large as may be: those that the session before it answered while the
path was whole, and then what that one answers now. Whoever holds rows already is sent only what is missing, so every
session goes on from where it is, and none has to go back. Only who took the last step over rows that nobody signed for,
as they came from one that was gone before it had, takes it again if whoever is in its place comes to others. Own layers
of the client are sessions as the others are, which never break and cost nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.trust.receipt import Receipt
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.kept import NotKept
from hypercluster.node.client.own_layers import OwnStage
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK, rows_root, with_tokens
from hypercluster.node.wire.messages import REWIND


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows for positions [start, start + rows): packed activations, or none of them for the first stage."""

    start: int
    rows: int
    data: bytes = b""

    def beyond(self, position: int) -> _Piece:
        """What of it lies at `position` and behind."""
        cut = min(self.rows, max(0, position - self.start))
        width = len(self.data) // self.rows
        return _Piece(self.start + cut, self.rows - cut, self.data[cut * width :])


class Levelling:
    """One path whose stages are at different positions, none behind one that comes after it unless it is new.

    Args:
        stages: the hops, and own layers before and behind them.
        tokens: all that the sessions are to hold in the end, by position.
        wanted: of the last of them, for how many the logits behind them are asked for.
        chunks: sizes of the steps that so many rows are cut into.
        kept: the rows that a hop's session answered for positions [start, stop), packed.
        reads_tokens: of the model.
        best: the logits behind the last `wanted`, if the last stage has put them out already.

    Attributes:
        best: these, or the latest ones.
    """

    def __init__(
        self,
        stages: Sequence[Hop | OwnStage],
        tokens: Sequence[int],
        wanted: int,
        chunks: Callable[[int], list[int]],
        kept: Callable[[Hop, int, int], Awaitable[bytes]],
        *,
        reads_tokens: bool,
        best: TopK | None = None,
    ) -> None:
        self.best = best
        self._stages, self._tokens, self._wanted = stages, tokens, wanted
        self._chunks, self._kept, self._reads_tokens = chunks, kept, reads_tokens
        self._begun = [stage.position for stage in stages]
        self._unsure = [self._step_to_check(at) for at in range(len(stages))]

    def cost(self) -> int:
        """Wei that it costs on all hops together, with what is owed."""
        hops = [(at, stage) for at, stage in enumerate(self._stages) if isinstance(stage, Hop)]
        steps = sum(hop.cost(piece.rows) for at, hop in hops for piece in self._plan(at))
        steps += sum(hop.cost(unsure.tokens) for at, hop in hops if (unsure := self._unsure[at]) is not None)
        return steps + sum(hop.owed for _, hop in hops)

    async def run(self) -> TopK:
        """Run what is missing through every stage, all at work at once; returns the logits [wanted, k].

        Raises:
            NotKept: rows that a session answered before are not there any more.
            HopFailed: besides, somebody does not show rows that went on and that another one has to be sent.
            OverDeposit, LimitReached: see Hop.step.
        """
        failures: list[NodeError | MarketError] = []

        async def work(
            at: int, source: trio.MemoryReceiveChannel[_Piece], sink: trio.MemorySendChannel[_Piece]
        ) -> None:
            try:
                async with source, aclosing(self._pieces(at, source)) as pieces:
                    async for piece in pieces:
                        output = await self._step(at, piece)
                        if isinstance(output, TopK):
                            self.best = output
                        else:
                            await sink.send(_Piece(piece.start, piece.rows, output))
            except trio.BrokenResourceError:
                pass
            except (NodeError, MarketError) as error:
                failures.append(error)
            finally:
                sink.close()

        async with trio.open_nursery() as nursery:
            sink, source = trio.open_memory_channel[_Piece](0)
            sink.close()
            for at in range(len(self._stages)):
                sink, following = trio.open_memory_channel[_Piece](0)
                nursery.start_soon(work, at, source, sink)
                source = following
        if failures:
            raise failures[0]
        assert self.best is not None
        return self.best[-self._wanted :]

    async def _pieces(
        self, at: int, source: trio.MemoryReceiveChannel[_Piece]
    ) -> AsyncGenerator[_Piece, None]:
        """What a stage is sent: rows that are known, then what the one before it answers."""
        begun, before = self._begun[at], self._held_before(at)
        if at == 0:
            for piece in self._cut(begun, len(self._tokens)):
                yield piece
            return
        if begun < before:
            data = await self._answered(at - 1, begun, before)
            width = len(data) // (before - begun)
            for piece in self._cut(begun, before):
                first = (piece.start - begun) * width
                yield _Piece(piece.start, piece.rows, data[first : first + piece.rows * width])
        unsure, rows, data = self._unsure[at], 0, b""
        async for piece in source:
            if (rest := piece.beyond(begun)).rows:
                # Of what was known the one before may have taken a step again.
                self._go_back(at, rest.start)
                yield rest
            if unsure is not None:
                late = piece.beyond(unsure.position)
                rows, data = rows + late.rows, data + late.data
        if unsure is not None and rows == unsure.tokens and not self._is_of(data, unsure):
            self._go_back(at, unsure.position)
            yield _Piece(unsure.position, rows, data)

    def _go_back(self, at: int, position: int) -> None:
        """Have a stage take a step again, unless its next one begins there anyway. Raises HopFailed, NotKept."""
        stage = self._stages[at]
        if position >= stage.position:
            return
        if isinstance(stage, Hop) and REWIND not in stage.advert.features:
            raise HopFailed(
                stage.advert.peer,
                "it went on with rows that nobody vouches for, and its model cannot go back.",
                how=How.UNLINKED,
            )
        if isinstance(stage, OwnStage) and not stage.rewinds:
            raise NotKept(
                "Own layers went on with rows that nobody vouches for, and the model cannot go back."
            )
        stage.position = position

    async def _answered(self, at: int, start: int, stop: int) -> bytes:
        """What a stage answered for positions [start, stop), packed. Raises NotKept, HopFailed."""
        stage = self._stages[at]
        return (
            stage.kept(start, stop) if isinstance(stage, OwnStage) else await self._kept(stage, start, stop)
        )

    async def _step(self, at: int, piece: _Piece) -> bytes | TopK:
        tokens = self._tokens[piece.start : piece.start + piece.rows]
        payload: Sequence[int] | bytes = tokens
        if at:
            payload = with_tokens(piece.data, tokens) if self._reads_tokens else piece.data
        ends = piece.start + piece.rows == len(self._tokens)
        return await self._stages[at].step(payload, piece.rows, all_outputs=ends and self._wanted > 1)

    def _step_to_check(self, at: int) -> Receipt | None:
        """The last step of a hop, if somebody before it has yet to come to where that ended."""
        stage = self._stages[at]
        ahead = at and self._begun[at] == len(self._tokens) > min(self._begun[:at])
        return stage.receipts.last if ahead and isinstance(stage, Hop) else None

    def _is_of(self, data: bytes, receipt: Receipt) -> bool:
        """Whether these rows are what a step was taken with."""
        tokens = self._tokens[receipt.position : receipt.position + receipt.tokens]
        sent = with_tokens(data, tokens) if self._reads_tokens else data
        return rows_root(sent, receipt.tokens) == receipt.in_root

    def _plan(self, at: int) -> list[_Piece]:
        """The steps of a stage."""
        begun = self._begun[at]
        known = self._cut(begun, self._held_before(at))
        answered = [piece.beyond(begun) for piece in self._plan(at - 1)] if at else []
        return known + [piece for piece in answered if piece.rows]

    def _held_before(self, at: int) -> int:
        """Positions for which the rows that a stage is sent are known without another step."""
        return self._begun[at - 1] if at else len(self._tokens)

    def _cut(self, start: int, stop: int) -> list[_Piece]:
        """Positions [start, stop) in steps, the last rows in one of their own where logits of several are wanted."""
        last = len(self._tokens)
        edge = last - self._wanted if self._wanted > 1 and stop == last else stop
        pieces: list[_Piece] = []
        for begin, end in ((start, max(start, edge)), (max(start, edge), stop)):
            for rows in self._chunks(end - begin) if end > begin else ():
                pieces.append(_Piece(begin, rows))
                begin += rows
        return pieces
