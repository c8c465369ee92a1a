"""Runs the steps of many sessions through one shard: one thread owns the llama.cpp context.

A head shard takes token ids, any other the residual of the layer before it. A tail shard answers with the
best candidates of the rows asked for, any other with the residual behind its last layer. Single-row steps of
different sessions that wait at the same time go into one llama_decode; longer steps (prefill) run in chunks
of a fixed size, and between two chunks the waiting single-row steps have their turn.
"""

from __future__ import annotations

import collections
import logging
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from hypercluster.node.engine.computing import Computer, Found
from hypercluster.node.engine.llama import LlamaError, LoadedModel
from hypercluster.node.engine.steps import (
    BadShape,
    CannotRewind,
    EngineError,
    EngineFull,
    EngineStats,
    EngineStopped,
    NotFinite,
    OutOfOrder,
    Outputs,
    Payload,
    Slot,
    StepFailed,
    StepOutput,
    TooLong,
    UnknownSlot,
    Work,
)

log = logging.getLogger(__name__)


class Engine:
    """One shard, loaded. Every method may be called from any thread.

    n_ctx_total tokens of cache are divided evenly between max_sessions sessions. `chunk` is the number of
    rows of one prefill call: it bounds how long a waiting single-row step can be held up, and is always the
    same, so that a session's results do not depend on how busy the engine is. Raises LoadFailed, LlamaError
    (node.engine.llama).
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
    ) -> None:
        if max_sessions < 1 or threads < 1 or chunk < 1 or n_ctx_total < max_sessions:
            raise TooLong("An engine needs at least one session, thread, row and one token for each session.")
        model = LoadedModel(
            shard, gpu_layers=gpu_layers, repack=repack, main_gpu=main_gpu, tensor_split=tensor_split
        )
        self.first, self.last = first, last
        self.n_embd, self.n_vocab, self.n_layer = model.n_embd, model.n_vocab, model.n_layer
        self.max_sessions = max_sessions
        self.max_capacity = min(n_ctx_total // max_sessions, model.n_ctx_train)
        self.chunk = chunk
        self.rewinds = model.has_cells
        """whether a step may start below what its session holds"""
        try:
            self._computer = Computer(
                model,
                first=first,
                last=last,
                n_ctx=self.max_capacity,
                sequences=max_sessions,
                threads=threads,
                chunk=chunk,
                flash_attention=flash_attention,
                kv_type=kv_type,
            )
        except LlamaError:
            model.close()
            raise
        self._wake = threading.Condition()
        self._slots: dict[int, Slot] = {}
        self._free = list(range(max_sessions))
        self._quarantine: list[int] = []
        self._wipe = False
        self._next_slot = 1
        self._singles: collections.deque[Slot] = collections.deque()
        self._longs: collections.deque[Slot] = collections.deque()
        self._stopping = False
        self._steps = self._tokens = self._decodes = self._batched_rows = self._largest = 0
        self._busy = 0.0
        self._recent: collections.deque[float] = collections.deque(maxlen=64)
        self._thread = threading.Thread(target=self._run, name=f"engine {shard.name}", daemon=True)
        self._thread.start()

    # --- what callers use ----------------------------------------------------------------------------------

    def open(self, capacity: int) -> int:
        """Reserve a session of `capacity` tokens and return its slot, a number never used again.

        Raises EngineFull, TooLong (more than max_capacity), EngineStopped.
        """
        if not 1 <= capacity <= self.max_capacity:
            raise TooLong(
                f"A session of {capacity} tokens was asked for, this engine has 1 to {self.max_capacity}."
            )
        with self._wake:
            self._refuse_if_stopped()
            if self._quarantine and not self._slots:
                # cells that are not finite would reach whoever has them next (0 x nan): zero them first
                self._free += self._quarantine
                self._quarantine.clear()
                self._wipe = True
            if not self._free:
                raise EngineFull(f"All {self.max_sessions} sessions are taken; try again later.")
            sequence = min(self._free)  # llama.cpp batches neighbouring sequences only: keep them dense
            self._free.remove(sequence)
            number = self._next_slot
            self._next_slot += 1
            self._slots[number] = Slot(sequence, capacity)
            return number

    def submit(
        self,
        slot: int,
        position: int,
        payload: Payload,
        outputs: Outputs = "last",
        top_k: int = 40,
    ) -> Future[StepOutput]:
        """Queue a step: token ids int32 [n] at the head, float32 [n, n_embd] elsewhere, from `position` on.

        What the session holds from `position` on is forgotten before the step runs. `outputs` and `top_k` matter
        at the tail only. The payload must not change until the future is done; it cannot be cancelled, and what is
        called when it is done runs on the engine's thread. It fails with an EngineError.

        Raises UnknownSlot, OutOfOrder (also while a step of this session runs), CannotRewind, TooLong, BadShape,
        NotFinite, EngineStopped: then the session is as it was. Where a step failed it stands at `position`.
        """
        self._computer.check(payload)
        if top_k < 1:
            raise BadShape(f"A step asks for at least one candidate, not {top_k}.")
        rows = len(payload)
        with self._wake:
            place = self._slot(slot)
            if place.work is not None:
                raise OutOfOrder("The session's step before this one is still running.")
            if not 0 <= position <= place.length:
                raise OutOfOrder(f"The step starts at {position}, the session stands at {place.length}.")
            if position < place.length and position > 0 and not self.rewinds:
                raise CannotRewind(f"The session stands at {place.length} and this model cannot go back.")
            if position + rows > place.capacity:
                raise TooLong(f"The step ends at {position + rows}, the session holds {place.capacity}.")
            place.work = work = Work(place.sequence, position, payload, outputs == "all", top_k)
            (self._singles if rows == 1 else self._longs).append(place)
            self._wake.notify()
        return work.done

    def close(self, slot: int) -> None:
        """End the session. Of a step under way the rows that still wait are dropped, and it fails with
        UnknownSlot. Raises UnknownSlot; does nothing once the engine has been stopped.
        """
        with self._wake:
            if self._stopping:
                return
            place = self._slot(slot)
            del self._slots[slot]
            place.closed = True
            if place.work is None:
                self._release(place)

    def stats(self) -> EngineStats:
        """Return what has been done so far."""
        with self._wake:
            return EngineStats(
                sessions=len(self._slots),
                free=len(self._free),
                waiting=len(self._singles) + len(self._longs),
                steps=self._steps,
                tokens=self._tokens,
                decodes=self._decodes,
                batched_rows=self._batched_rows,
                largest_batch=self._largest,
                busy_ms=1e3 * self._busy,
                ms_per_decode=1e3 * statistics.median(self._recent) if self._recent else 0.0,
            )

    def stop(self) -> None:
        """Fail what waits with EngineStopped, end the thread and free the memory. Idempotent."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- checks --------------------------------------------------------------------------------------------

    def _refuse_if_stopped(self) -> None:
        if self._stopping:
            raise EngineStopped("The engine has been stopped.")

    def _slot(self, slot: int) -> Slot:
        self._refuse_if_stopped()
        place = self._slots.get(slot)
        if place is None:
            raise UnknownSlot(f"There is no session in slot {slot}.")
        return place

    # --- the engine's thread -------------------------------------------------------------------------------

    def _release(self, place: Slot) -> None:
        (self._quarantine if place.tainted else self._free).append(place.sequence)

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._singles or self._longs or self._stopping)
                    if self._stopping:
                        break
                    singles = sorted(self._singles, key=lambda place: place.sequence)
                    self._singles.clear()
                    # one chunk of the oldest prefill, then everyone else again
                    long = self._longs.popleft() if self._longs else None
                if singles:
                    self._turn(singles, 1)
                if long is not None:
                    work = long.running
                    self._turn([long], min(self.chunk, len(work.payload) - work.at))
        finally:
            self._shut()

    def _turn(self, places: list[Slot], rows: int) -> None:
        """Run the next `rows` rows of each place's step in one llama_decode; answer what is finished."""
        ready = [place for place in places if self._is_ready(place)]
        if not ready:
            return
        started = time.monotonic()
        results: list[Found | EngineError]
        try:
            results = [*self._computer.compute([place.running for place in ready], rows)]
        except Exception as error:
            log.exception("a step of %d sessions failed", len(ready))
            results = [StepFailed(f"The step failed: {error}") for _ in ready]
        seconds = time.monotonic() - started
        with self._wake:
            self._decodes += 1
            self._busy += seconds
            self._tokens += len(ready) * rows
            if rows == 1:
                self._batched_rows += len(ready)
                self._largest = max(self._largest, len(ready))
                self._recent.append(seconds)
        for place, result in zip(ready, results, strict=True):
            self._advance(place, rows, result, started, seconds)

    def _is_ready(self, place: Slot) -> bool:
        """Whether a step can run on: its session is still there, and holds what lies before the step, no more."""
        with self._wake:
            closed = place.closed
        if closed:
            self._answer(place, UnknownSlot("The session was closed before its step had run."))
            return False
        if self._wipe:
            self._computer.wipe()
            self._wipe = False
        work = place.running
        if not place.stray and (work.at or work.start == place.length):
            return True
        if not self._computer.cut_back(work.sequence, work.start):
            self._answer(place, CannotRewind(f"This model cannot go back to position {work.start}."))
            return False
        place.length, place.stray = work.start, False
        return True

    def _advance(
        self, place: Slot, rows: int, result: Found | EngineError, started: float, seconds: float
    ) -> None:
        work = place.running
        if work.at == 0:
            work.started = started
        work.compute_ms += 1e3 * seconds
        work.at += rows
        if isinstance(result, EngineError):
            place.stray = True
            place.tainted |= isinstance(result, NotFinite)
            self._answer(place, result)
            return
        if result is not None:
            work.parts.append(result)
        if work.at < len(work.payload):
            with self._wake:
                self._longs.append(place)
        else:
            self._answer(place, work.output())

    def _answer(self, place: Slot, answer: StepOutput | EngineError) -> None:
        work = place.running
        with self._wake:
            place.work = None
            if not isinstance(answer, EngineError):
                place.length = work.start + len(work.payload)
                self._steps += 1
            if place.closed:
                self._release(place)
        if isinstance(answer, EngineError):
            work.done.set_exception(answer)
        else:
            work.done.set_result(answer)

    def _shut(self) -> None:
        with self._wake:
            self._stopping = True
            waiting = [*self._singles, *self._longs]
            self._singles.clear()
            self._longs.clear()
        for place in waiting:
            self._answer(place, EngineStopped("The engine was stopped before the step ran."))
        self._computer.close()
