"""Runs the steps of many sessions through one shard: one thread has them computed, in a process apart.

A head shard takes token ids, any other the residual of the layer before it. A tail shard answers with the
best candidates of the rows asked for, any other with the residual behind its last layer. Single-row steps of
different sessions that wait at the same time go into one llama_decode; longer steps (prefill) run in chunks
of a fixed size, and between two chunks the waiting single-row steps have their turn.

Where llama.cpp's process ends, by itself or because it hangs, its sessions are lost, and it is started again.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from hypercluster.node.engine.apart import Ended
from hypercluster.node.engine.batching import Found, check_payload, compute
from hypercluster.node.engine.loading import Loading
from hypercluster.node.engine.slots import Slot, Slots
from hypercluster.node.engine.starting import Starts
from hypercluster.node.engine.steps import (
    BadShape,
    CannotRewind,
    EngineError,
    EngineFailed,
    EngineStats,
    EngineStopped,
    NotFinite,
    OutOfOrder,
    Outputs,
    StepFailed,
    StepOutput,
    TooLong,
    UnknownSlot,
    Work,
)
from hypercluster.node.engine.tally import Tally
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import Payload

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
"""that the call under way may still take when an engine is stopped"""
LOOK_SECONDS = 2.0
"""after which an engine that has nothing to do looks whether llama.cpp's process still runs"""


class Engine:
    """One shard, loaded. Every method may be called from any thread.

    n_ctx_total tokens of cache are divided evenly between max_sessions sessions. `chunk` is the number of
    rows of one prefill call: it bounds how long a waiting single-row step can be held up, and is always the
    same, so that a session's results do not depend on how busy the engine is. llama.cpp runs in a process of its own
    unless that is not wanted (`apart`) or the system hands no open files to a child (Windows). Raises LoadFailed,
    LlamaError (node.engine.llama).
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
        self._loading = Loading(
            shard=shard, first=first, last=last,
            n_ctx_total=n_ctx_total, max_sessions=max_sessions, threads=threads, chunk=chunk,
            gpu_layers=gpu_layers, main_gpu=main_gpu, tensor_split=tuple(tensor_split),
            flash_attention=flash_attention, kv_type=kv_type, repack=repack,
        )  # fmt: skip
        self._starts = Starts(self._loading, apart=apart)
        self._computing = self._starts.load()
        self._facts = facts = self._computing.facts
        self.first, self.last, self.chunk = first, last, chunk
        self.width, self.reads_tokens = facts.width, facts.reads_tokens
        self.n_vocab, self.n_layer = facts.n_vocab, facts.n_layer
        self.max_sessions, self.max_capacity = max_sessions, facts.capacity
        self.rewinds = facts.rewinds
        """whether a step may start below what its session holds"""
        self._wake = threading.Condition()
        self._slots = Slots(max_sessions)
        self._singles: collections.deque[Slot] = collections.deque()
        self._longs: collections.deque[Slot] = collections.deque()
        self._stopping = False
        self._tally = Tally()
        self._thread = threading.Thread(target=self._run, name=f"engine {shard.name}", daemon=True)
        self._thread.start()

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
            place = self._slots.of(slot)
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
            if not self._stopping:
                self._slots.drop(slot)

    def stats(self) -> EngineStats:
        """Return what has been done so far."""
        with self._wake:
            waiting = len(self._singles) + len(self._longs)
            return self._tally.stats(sessions=len(self._slots), free=self._slots.free, waiting=waiting)

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

    # --- the engine's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                if self._slots.trouble is not None:
                    self._start_again(self._slots.trouble.wait)
                    continue
                with self._wake:
                    self._wake.wait_for(lambda: self._singles or self._longs or self._stopping, LOOK_SECONDS)
                    singles = sorted(self._singles, key=lambda place: place.sequence)
                    # one chunk of the oldest prefill, then everyone else again
                    long = self._longs[0] if self._longs else None
                if not self._stopping:
                    self._round(singles, long)
        finally:
            self._shut()

    def _round(self, singles: list[Slot], long: Slot | None) -> None:
        """Every single-row step that waits, and one chunk of a longer one."""
        together = [singles] if self._facts.shares else [[place] for place in singles]
        turns = [(self._singles, places, 1) for places in together if places]
        if long is not None:
            work = long.running
            turns.append((self._longs, [long], min(self.chunk, len(work.payload) - work.at)))
        under_way: list[Slot] = []
        try:
            for queue, under_way, rows in turns:
                with self._wake:
                    for place in under_way:
                        queue.remove(place)
                self._turn(under_way, rows)
            if not turns:
                self._computing.look()
        except Ended as error:
            self._fail(under_way, error)

    def _turn(self, places: list[Slot], rows: int) -> None:
        """Run the next `rows` rows of each place's step in one llama_decode; answer what is finished. Raises Ended."""
        ready = [place for place in places if self._is_ready(place)]
        if not ready:
            return
        started = time.monotonic()
        results: list[Found | EngineError]
        works = [place.running for place in ready]
        try:
            results = [*compute(self._computing, self._loading, works, rows)]
        except Ended:
            raise
        except Exception as error:
            log.exception("a step of %d sessions failed", len(ready))
            results = [StepFailed(f"The step failed: {error}") for _ in ready]
        seconds = time.monotonic() - started
        with self._wake:
            self._tally.decoded(len(ready), rows, seconds)
        for place, result in zip(ready, results, strict=True):
            self._advance(place, rows, result, started, seconds)

    def _fail(self, places: list[Slot], error: Ended) -> None:
        """All sessions are lost; `places` have a step under way."""
        pause = self._starts.pause()
        why = f"{error}, and with it this session."
        with self._wake:
            self._slots.trouble = EngineFailed(f"{error}. It is started again in {pause:g} s.", pause)
            log.error("%s", self._slots.trouble)
            self._tally.failures += 1
            waiting = [*places, *self._singles, *self._longs]
            self._singles.clear()
            self._longs.clear()
            self._slots.lose(waiting, why)
        for place in waiting:
            if place.work is not None:
                self._answer(place, EngineFailed(why))

    def _start_again(self, pause: float) -> None:
        """Wait so many seconds, and load the shard in another process."""
        with self._wake:
            if self._wake.wait_for(lambda: self._stopping, pause):
                return
        self._computing.close()
        try:
            self._computing = self._starts.load()
        except (NodeError, OSError) as error:
            self._slots.trouble = EngineFailed(
                f"The shard does not load again: {error}", self._starts.pause()
            )
            log.error("%s", self._slots.trouble)
        else:
            self._slots.trouble = None
            log.info("llama.cpp's process runs again")

    def _is_ready(self, place: Slot) -> bool:
        """Whether a step can run on: its session is still there, and holds what lies before the step, no more."""
        with self._wake:
            closed = place.closed
        if closed:
            self._answer(place, UnknownSlot("The session was closed before its step had run."))
            return False
        if self._slots.to_wipe:
            self._computing.wipe()
            self._slots.to_wipe = False
        work = place.running
        if not place.stray and (work.at or work.start == place.length):
            return True
        if not self._computing.cut_back(work.sequence, work.start):
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
                self._tally.steps += 1
            if place.closed:
                self._slots.release(place)
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
        self._computing.close()
