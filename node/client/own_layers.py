"""Layers that the client computes itself, at the ends of the path: then no provider sees token ids, or logits.

Providers serve the layers between. Own layers cost nothing, are audited by nobody, and what enters and leaves them
travels as between providers, so the same tokens come.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import trio

from hypercluster.node.client import kept
from hypercluster.node.client.kept import NotKept
from hypercluster.node.client.needs import AllBusy
from hypercluster.node.engine.steps import EngineFull
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK, WireDtype, unpack_activations
from hypercluster.node.threads import completed

if TYPE_CHECKING:
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.shards.store import StoredModel

SESSION_TOKENS = 8192
"""that a session in own layers holds at most"""
MOST_TOP_K = 4096
WAIT_SECONDS = 60.0
"""for a session, where others of this client have all"""


class BadLayers(NodeError):
    """Layers that no client can run itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Which ends of a model the client runs itself, as "0:a" and "b:m", for so many completions at once, with `threads`
    for each.
    """

    ranges: tuple[str, ...]
    sessions: int = 1
    threads: int = max(1, (os.cpu_count() or 1) // 2)

    def of(self, stored: StoredModel) -> tuple[int, int]:
        """The layers [start, stop) that are left for providers; start = stop = m where none are.

        Raises BadLayers for what is no end of this model, or no place to cut it.
        """
        manifest = stored.manifest
        layers, start, stop = manifest.layers, 0, manifest.layers
        for text in self.ranges:
            first, last = (int(part) for part in text.split(":"))
            if last > layers or (first and last < layers):
                raise BadLayers(
                    f"Layers {text} are no end of this model, which has {layers}: own layers are 0:N or N:{layers}."
                )
            if first == 0:
                start = max(start, last)
            if last == layers:
                stop = min(stop, first)
        if start >= stop:
            return layers, layers
        for edge in {start, stop} - {0, layers}:
            if manifest.starts is not None and edge not in manifest.starts:
                at = ", ".join(map(str, manifest.starts))
                raise BadLayers(f"This model cannot be cut before layer {edge}: its parts begin at {at}.")
        if manifest.reads_tokens:
            raise BadLayers(
                "All layers of this model read the token ids, so each provider is sent them: own layers would hide "
                "nothing. Run all of it yourself, or none."
            )
        return start, stop


class OwnLayers:
    """Own layers of one model, loaded. To be closed.

    Raises BadLayers, ModelMissing, ShardError, LlamaError; takes its time.
    """

    def __init__(self, own: Ends, stored: StoredModel) -> None:
        manifest = stored.manifest
        self.start, self.stop = own.of(stored)
        self._width = manifest.width
        self.layers = manifest.layers
        self.tokens = min(SESSION_TOKENS, manifest.context)
        """of a session at most"""
        self.sessions = own.sessions
        """at once at most"""
        self._free = trio.Semaphore(own.sessions)
        self._parked: list[OwnSession] = []
        """the oldest first"""
        self._engines: list[tuple[Engine, bool]] = []
        ends = {(0, self.start), (self.stop, self.layers)}
        try:
            for first, last in sorted((a, b) for a, b in ends if a < b):
                self._engines.append((self._load(stored, first, last, own), first == 0))
        except BaseException:
            self.close()
            raise

    def _load(self, stored: StoredModel, first: int, last: int, own: Ends) -> Engine:
        from hypercluster.node.engine.engine import Engine

        return Engine(
            stored.shard(first, last),
            first=first == 0,
            last=last == self.layers,
            n_ctx_total=own.sessions * self.tokens,
            max_sessions=own.sessions,
            threads=own.threads,
        )

    @property
    def last(self) -> bool:
        """Whether the head is among them, so that candidates are found here."""
        return any(engine.last for engine, _ in self._engines)

    async def open(self, capacity: int, top_k: int, dtype: WireDtype) -> OwnSession:
        """A session of `capacity` tokens, for which parked ones give way. To be closed. Raises AllBusy, EngineError."""
        await self._place()
        stages: list[OwnStage] = []
        try:
            for engine, first in self._engines:
                slot = self._slot(engine, capacity)
                stages.append(OwnStage(engine, slot, capacity, top_k, dtype, self._width, first=first))
        except BaseException:
            OwnSession(stages, self).close()
            raise
        return OwnSession(stages, self)

    async def go_on(
        self, session: OwnSession, position: int, capacity: int, top_k: int, dtype: WireDtype
    ) -> bool:
        """Go on with a session that was parked, from `position`; False where it is gone, or would be another one.

        Raises AllBusy.
        """
        await self._place()
        there = session in self._parked
        if there and all(stage.goes_on(position, capacity, top_k, dtype) for stage in session.stages):
            self._parked.remove(session)
            return True
        self.left(session)
        return False

    def park(self, session: OwnSession) -> None:
        """Keep a session that gives its place to others, until one of them needs its room."""
        self._parked.append(session)
        self._free.release()

    def left(self, session: OwnSession) -> None:
        """Note that a session is closed: its place is free, unless it had left it before."""
        if session in self._parked:
            self._parked.remove(session)
        else:
            self._free.release()

    async def _place(self) -> None:
        with trio.move_on_after(WAIT_SECONDS) as waiting:
            await self._free.acquire()
        if waiting.cancelled_caught:
            raise AllBusy("All sessions of your own layers are taken: try again in a while.")

    def _slot(self, engine: Engine, capacity: int) -> int:
        while True:
            try:
                return engine.open(capacity)
            except EngineFull:
                if not self._parked:
                    raise
                self._parked[0].close()

    def close(self) -> None:
        """End them."""
        for engine, _ in self._engines:
            engine.stop()


class OwnStage:
    """One end of a path: a session in the client's own engine. Steps are as those of a Hop, and cost nothing."""

    def __init__(
        self,
        engine: Engine,
        slot: int,
        capacity: int,
        top_k: int,
        dtype: WireDtype,
        width: int,
        *,
        first: bool,
    ) -> None:
        self.position, self.capacity, self.first = 0, capacity, first
        self.rewinds = engine.rewinds
        self._engine, self._slot = engine, slot
        self._top_k, self._dtype, self._width = top_k, dtype, width
        self._answered: bytearray | None = bytearray() if first else None
        """the packed rows that it put out, by position, for who takes over behind it; None: they are not kept"""

    async def step(
        self, payload: Sequence[int] | bytes, rows: int, *, all_outputs: bool = False
    ) -> bytes | TopK:
        """Run `rows` tokens: token ids at the first stage, packed activations later.

        Returns the packed activations for the next stage, or the logits. Raises EngineError, WireError.
        """
        if isinstance(payload, bytes):
            entering = unpack_activations(payload, rows, self._width, self._dtype)
        else:
            entering = np.asarray(payload, np.int32)
        output = await completed(
            self._engine.submit(
                self._slot, self.position, entering, "all" if all_outputs else "last", self._top_k
            )
        )
        self.position += rows
        if output.topk is not None:
            return output.topk
        packed = output.packed(self._dtype)[0]
        self._keep(packed, rows)
        return packed

    def kept(self, start: int, stop: int) -> bytes:
        """The packed rows that it put out for positions [start, stop). Raises NotKept."""
        width, held = self._dtype.row_bytes(self._width), self._answered
        if held is None or len(held) < stop * width:
            raise NotKept(f"Rows {start} to {stop} of own layers are not kept any more.")
        return bytes(memoryview(held)[start * width : stop * width])

    def _keep(self, packed: bytes, rows: int) -> None:
        if self._answered is None:
            return
        del self._answered[(self.position - rows) * self._dtype.row_bytes(self._width) :]
        self._answered += packed
        if len(self._answered) > kept.MOST_BYTES:
            self._answered = None

    def goes_on(self, position: int, capacity: int, top_k: int, dtype: WireDtype) -> bool:
        """Go on from `position` with another capacity, if what comes then is what it would be anew."""
        if dtype != self._dtype or (self._engine.last and top_k != self._top_k):
            return False
        try:
            held = self._engine.resize(self._slot, capacity)
        except NodeError:
            return False
        if held < position or (held > position and not self.rewinds):
            return False
        self.position, self.capacity = position, capacity
        return True

    def close(self) -> None:
        """End the session."""
        self._engine.close(self._slot)


class OwnSession:
    """The own stages of one path, in the order of their layers; they give their place back when they are closed."""

    def __init__(self, stages: Sequence[OwnStage], layers: OwnLayers) -> None:
        self.stages, self._layers, self._open = tuple(stages), layers, True

    def park(self) -> None:
        """Keep what they hold as long as nobody else needs the room."""
        self._layers.park(self)

    def close(self) -> None:
        """End all sessions; nothing the second time."""
        if self._open:
            self._open = False
            self._layers.left(self)
            for each in self.stages:
                each.close()
