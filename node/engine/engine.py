"""Runs the steps of many sessions through one shard: one thread has them computed, in a process apart.

A head shard takes token ids, any other the residual of the layer before it. A tail shard answers with the
best candidates of the rows asked for, any other with the residual behind its last layer. Single-row steps of
different sessions that wait at the same time go into one llama_decode; longer steps (prefill) run in chunks
of a fixed size, and between two chunks the waiting single-row steps have their turn.

Where llama.cpp's process ends, by itself or because it hangs, its sessions are lost, and it is started again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from hypercluster.node.engine.alone import Alone
from hypercluster.node.engine.apart import Apart
from hypercluster.node.engine.batching import check_payload
from hypercluster.node.engine.loading import Loading
from hypercluster.node.engine.rounds import Rounds
from hypercluster.node.engine.steps import (
    BadShape,
    EngineStats,
    Outputs,
    StepOutput,
    Work,
)
from hypercluster.node.rows import Payload

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
"""that the call under way may still take when an engine is stopped"""


class Engine(Rounds):
    """One shard, loaded. Every method may be called from any thread.

    n_ctx_total tokens of cache are divided evenly between max_sessions sessions. `chunk` is the number of
    rows of one prefill call: it bounds how long a waiting single-row step can be held up, and is always the
    same, so that a session's results do not depend on how busy the engine is. llama.cpp runs in a process of its own
    unless that is not wanted (`apart`) or cannot be (Windows). Raises LoadFailed, LlamaError (node.engine.llama).
    """

    def __init__(
        self,
        shard: Path,
        first: bool,
        last: bool,
        n_ctx_total: int,
        max_sessions: int,
        threads: int,
        chunk: int = 64,
        gpu_layers: int = -1,
        *,
        flash_attention: bool = False,
        kv_type: str = "f16",
        repack: bool = True,
        main_gpu: int = -1,
        tensor_split: Sequence[float] = (),
        apart: bool = True,
    ) -> None:
        loading = Loading(
            shard=shard, first=first, last=last,
            n_ctx_total=n_ctx_total, max_sessions=max_sessions, threads=threads, chunk=chunk,
            gpu_layers=gpu_layers, main_gpu=main_gpu, tensor_split=tuple(tensor_split),
            flash_attention=flash_attention, kv_type=kv_type, repack=repack,
        )  # fmt: skip
        super().__init__(loading, apart=apart)
        facts = self._facts
        self.first, self.last = first, last
        self.width, self.reads_tokens = facts.width, facts.reads_tokens
        self.n_vocab, self.n_layer = facts.n_vocab, facts.n_layer
        self.max_sessions, self.max_capacity = max_sessions, facts.capacity
        self.rewinds = facts.rewinds
        """whether a step may start below what its session holds"""

    @property
    def trouble(self) -> str | None:
        """Why nothing can be computed now, as a sentence; it passes by itself."""
        return None if self._slots.trouble is None else str(self._slots.trouble)

    def open(self, capacity: int) -> int:
        """Reserve a session of `capacity` tokens and return its slot, a number never used again.

        Raises EngineFull, EngineFailed, TooLong (more than max_capacity), EngineStopped.
        """
        with self._wake:
            return self._slots.take(capacity, self.max_capacity)

    def resize(self, slot: int, capacity: int) -> int:
        """Let a session hold `capacity` tokens from now on; returns how many it does. Raises as `open`, UnknownSlot."""
        with self._wake:
            return self._slots.resize(slot, capacity, self.max_capacity)

    def branch(self, slot: int, position: int, capacity: int) -> int:
        """Reserve a session of `capacity` tokens that holds the first `position` of another's, in cells of its own.

        Only where the shard `rewinds`. Raises as `open`, UnknownSlot, OutOfOrder (so many are not there to stay).
        """
        with self._wake:
            return self._slots.branch(slot, position, capacity, self.max_capacity)

    def submit(
        self,
        slot: int,
        position: int,
        payload: Payload,
        outputs: Outputs = "last",
        top_k: int = 40,
    ) -> Future[StepOutput]:
        """Queue a step from `position` on: see node.rows.Payload for what the shard takes.

        What the session holds from `position` on is forgotten before the step runs. `outputs` and `top_k` matter
        at the tail only. The payload must not change until the future is done; it cannot be cancelled, and what is
        called when it is done runs on the engine's thread. It fails with an EngineError.

        Raises UnknownSlot, OutOfOrder (also while a step of this session runs), CannotRewind, TooLong, BadShape,
        NotFinite, EngineStopped: then the session is as it was. Where a step failed it stands at `position`. With
        EngineFailed, raised or of the future, the session is lost and can only be closed.
        """
        check_payload(payload, self._loading, self._facts)
        if top_k < 1:
            raise BadShape(f"A step asks for at least one candidate, not {top_k}.")
        rows = len(payload)
        with self._wake:
            place = self._slots.begin(slot, position, rows, rewinds=self.rewinds)
            place.work = work = Work(place.sequence, position, payload, outputs == "all", top_k)
            (self._singles if rows == 1 else self._longs).append(place)
            self._wake.notify()
        return work.done

    def begin(
        self, slot: int, position: int, payload: Payload, outputs: Outputs = "last", top_k: int = 40
    ) -> Alone | None:
        """Have a step computed at once that needs one llama_decode; None where it has to be submitted.

        Raises as `submit` does.
        """
        if len(payload) > self.chunk or not isinstance(self._computing, Apart) or self._busy:
            # A payload that is submitted is looked through there.
            return None
        check_payload(payload, self._loading, self._facts)
        with self._wake:
            place = self._slots.begin(slot, position, len(payload), rewinds=self.rewinds)
            ready = not place.stray and position == place.length and not self._slots.is_due and top_k > 0
            if not ready or self._busy or self._stopping or self._slots.trouble is not None:
                return None
            place.work = Work(place.sequence, position, payload, outputs == "all", top_k)
            self._alone = step = Alone(self._computing, self._loading, place, self._ended, self._left)
        return step

    def close(self, slot: int) -> None:
        """End the session. Of a step under way the rows that still wait are dropped, and it fails with
        UnknownSlot. Raises UnknownSlot; does nothing once the engine has been stopped.
        """
        with self._wake:
            if not self._stopping:
                self._slots.drop(slot)

    def stats(self) -> EngineStats:
        """Return what has been done so far."""
        with self._wake:
            sessions, waiting = len(self._slots), len(self._singles) + len(self._longs)
            return self._tally.stats(sessions=sessions, free=self._slots.free, waiting=waiting)

    def stop(self) -> None:
        """Fail what waits with EngineStopped, end the thread and free the memory. Idempotent."""
        with self._wake:
            self._stopping = self._slots.stopped = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                self._computing.kill()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
