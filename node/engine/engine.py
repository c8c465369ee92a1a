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
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hypercluster.node.engine import ranking as topk
from hypercluster.node.engine.llama import Batch, Context, Floats, LlamaError, Model, tap
from hypercluster.node.engine.ranking import NoCandidates
from hypercluster.node.engine.steps import (
    BadShape,
    Done,
    EngineError,
    EngineFull,
    EngineStats,
    EngineStopped,
    Measurement,
    NotFinite,
    OutOfOrder,
    Outputs,
    Payload,
    Session,
    Step,
    StepFailed,
    StepOutput,
    TooLong,
    UnknownSlot,
)
from hypercluster.node.rows import TopK

__all__ = [
    "BadShape",
    "Done",
    "Engine",
    "EngineError",
    "EngineFull",
    "EngineStats",
    "EngineStopped",
    "Measurement",
    "NotFinite",
    "OutOfOrder",
    "Outputs",
    "Payload",
    "StepFailed",
    "StepOutput",
    "TooLong",
    "TopK",
    "UnknownSlot",
]

log = logging.getLogger(__name__)

# Beyond this, squares and sums inside a norm could overflow; real residuals stay below 1e6.
MAX_ACTIVATION = 1e15


class Engine:
    """One shard, loaded. Every method may be called from any thread; `done` callbacks run on the engine's
    own.

    n_ctx_total tokens of cache are divided evenly between max_sessions sessions. `chunk` is the number of
    rows of one prefill call: it bounds how long a waiting single-row step can be held up, and is always the
    same, so that a session's results do not depend on how busy the engine is. Raises node.llama.LoadFailed.
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
    ) -> None:
        if max_sessions < 1 or threads < 1 or chunk < 1 or n_ctx_total < max_sessions:
            raise TooLong("An engine needs at least one session, thread, row and one token for each session.")
        self._model = Model(shard, gpu_layers=gpu_layers, repack=repack)
        self.first, self.last = first, last
        self.n_embd, self.n_vocab, self.n_layer = self._model.n_embd, self._model.n_vocab, self._model.n_layer
        self.max_sessions = max_sessions
        self.max_capacity = min(n_ctx_total // max_sessions, self._model.n_ctx_train)
        self.chunk = chunk
        n_batch = max(chunk, max_sessions)
        self._batch = Batch(n_batch, 0 if first else self.n_embd)
        self._residual: Floats = np.empty((n_batch, self.n_embd), np.float32)
        self._tapped = 0  # bytes of the residual written by the running llama_decode
        self._tap = None if last else tap(f"l_out-{self.n_layer - 1}", self._room_for_residual)
        try:
            self._context = Context(
                self._model,
                self.max_capacity,
                max_sessions,
                threads,
                n_batch,
                n_batch,
                self._tap,
                flash_attention=flash_attention,
                kv_type=kv_type,
            )
        except LlamaError:
            self._model.close()
            raise
        self._wake = threading.Condition()
        self._sessions: dict[int, Session] = {}
        self._free = list(range(max_sessions))
        self._quarantine: list[int] = []
        self._wipe = False
        self._next_slot = 1
        self._singles: collections.deque[Session] = collections.deque()
        self._longs: collections.deque[Session] = collections.deque()
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
            if self._quarantine and not self._sessions:
                # cells that are not finite would reach whoever has them next (0 x nan): zero them first
                self._free += self._quarantine
                self._quarantine.clear()
                self._wipe = True
            if not self._free:
                raise EngineFull(f"All {self.max_sessions} sessions are taken; try again later.")
            sequence = min(self._free)  # llama.cpp batches neighbouring sequences only: keep them dense
            self._free.remove(sequence)
            slot = self._next_slot
            self._next_slot += 1
            self._sessions[slot] = Session(sequence, capacity)
            return slot

    def submit(
        self,
        slot: int,
        position: int,
        payload: Payload,
        done: Done,
        outputs: Outputs = "last",
        top_k: int = 40,
    ) -> None:
        """Queue a step: token ids int32 [n] at the head, float32 [n, n_embd] elsewhere, from `position` on.

        `done` is called once, on the engine's thread, with the StepOutput or an EngineError; it must be quick
        and must not raise. `outputs` and `top_k` matter at the tail only. The payload must not change until
        then. Raises at once, without calling `done`: UnknownSlot, OutOfOrder (also while a step of this
        session runs), TooLong, BadShape, NotFinite, EngineStopped. A refused or failed step leaves the
        session where it was.
        """
        self._check_payload(payload)
        if top_k < 1:
            raise BadShape(f"A step asks for at least one candidate, not {top_k}.")
        rows = len(payload)
        with self._wake:
            session = self._session(slot)
            if session.step is not None:
                raise OutOfOrder("The session's step before this one is still running.")
            if position != session.length:
                raise OutOfOrder(f"The step starts at {position}, the session stands at {session.length}.")
            if position + rows > session.capacity:
                raise TooLong(f"The step ends at {position + rows}, the session holds {session.capacity}.")
            session.step = Step(position, payload, done, outputs == "all", top_k)
            (self._singles if rows == 1 else self._longs).append(session)
            self._wake.notify()

    def position(self, slot: int) -> int:
        """Return the number of tokens the session holds. Raises UnknownSlot."""
        with self._wake:
            return self._session(slot).length

    def truncate(self, slot: int, position: int) -> None:
        """Forget the session's tokens from `position` on. Raises UnknownSlot; OutOfOrder if a step runs or
        `position` is not within the session.
        """
        with self._wake:
            session = self._session(slot)
            if session.step is not None:
                raise OutOfOrder("A session cannot be cut back while its step is running.")
            if not 0 <= position <= session.length:
                raise OutOfOrder(f"The session is at {session.length} and cannot be cut back to {position}.")
            session.length, session.stray = position, True

    def close(self, slot: int) -> None:
        """End the session. Of a step under way the rows that still wait are dropped, and it fails with
        UnknownSlot. Raises UnknownSlot; does nothing once the engine has been stopped.
        """
        with self._wake:
            if self._stopping:
                return
            session = self._session(slot)
            del self._sessions[slot]
            session.closed = True
            if session.step is None:
                self._release(session)

    def idle(self, seconds: float) -> list[int]:
        """Return the slots of sessions that have had no step for that long."""
        limit = time.monotonic() - seconds
        with self._wake:
            return [slot for slot, s in self._sessions.items() if s.step is None and s.used < limit]

    def stats(self) -> EngineStats:
        """Return what has been done so far."""
        with self._wake:
            return EngineStats(
                sessions=len(self._sessions),
                free=len(self._free),
                steps=self._steps,
                tokens=self._tokens,
                decodes=self._decodes,
                batched_rows=self._batched_rows,
                largest_batch=self._largest,
                busy_ms=1e3 * self._busy,
                ms_per_decode=1e3 * statistics.median(self._recent) if self._recent else 0.0,
            )

    def run(
        self,
        slot: int,
        position: int,
        payload: Payload,
        outputs: Outputs = "last",
        top_k: int = 40,
    ) -> StepOutput:
        """Submit a step and wait for its result; not to be called by a `done`. Raises what submit() raises or
        the step failed with.
        """
        answered = threading.Event()
        result: list[StepOutput | EngineError] = []

        def done(answer: StepOutput | EngineError) -> None:
            result.append(answer)
            answered.set()

        self.submit(slot, position, payload, done, outputs, top_k)
        answered.wait()
        answer = result[0]
        if isinstance(answer, EngineError):
            raise answer
        return answer

    def measure(self, steps: int = 8) -> Measurement:
        """Time a prefill chunk and `steps` single tokens in a session of its own. Raises EngineFull."""
        rows = min(self.chunk, self.max_capacity // 2)
        steps = min(steps, self.max_capacity - rows)
        slot = self.open(rows + steps)
        try:
            draw = np.random.default_rng(0)

            def payload(n: int) -> Payload:
                if self.first:
                    return draw.integers(0, self.n_vocab, n, dtype=np.int32)
                return draw.standard_normal((n, self.n_embd), dtype=np.float32)

            prefill = self.run(slot, 0, payload(rows)).compute_ms / rows
            decode = [self.run(slot, rows + i, payload(1)).compute_ms for i in range(steps)]
            return Measurement(statistics.median(decode), prefill)
        finally:
            self.close(slot)

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

    def _session(self, slot: int) -> Session:
        self._refuse_if_stopped()
        session = self._sessions.get(slot)
        if session is None:
            raise UnknownSlot(f"There is no session in slot {slot}.")
        return session

    def _check_payload(self, payload: Payload) -> None:
        if self.first:
            if payload.dtype != np.int32 or payload.ndim != 1 or not len(payload):
                raise BadShape("A head shard takes at least one token id as int32 [n].")
            if payload.min() < 0 or payload.max() >= self.n_vocab:
                raise BadShape(f"A token id lies outside the vocabulary of {self.n_vocab}.")
            return
        if (
            payload.dtype != np.float32
            or payload.ndim != 2
            or payload.shape[1] != self.n_embd
            or not len(payload)
        ):
            raise BadShape(f"This shard takes at least one row of float32 [n, {self.n_embd}].")
        # the largest magnitude is nan if any value is
        if not max(-payload.min(), payload.max()) <= MAX_ACTIVATION:
            raise NotFinite(f"The activations hold a value that is not finite or beyond {MAX_ACTIVATION:g}.")

    # --- the engine's thread -------------------------------------------------------------------------------

    def _release(self, session: Session) -> None:
        (self._quarantine if session.tainted else self._free).append(session.sequence)

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._singles or self._longs or self._stopping)
                    if self._stopping:
                        break
                    singles = sorted(self._singles, key=lambda s: s.sequence)
                    self._singles.clear()
                    # one chunk of the oldest prefill, then everyone else again
                    long = self._longs.popleft() if self._longs else None
                if singles:
                    self._turn(singles, 1)
                if long is not None:
                    step = long.running
                    self._turn([long], min(self.chunk, len(step.payload) - step.at))
        finally:
            self._shut()

    def _turn(self, sessions: list[Session], rows: int) -> None:
        """Run the next `rows` rows of each session's step in one llama_decode; answer what is finished."""
        with self._wake:
            gone = [s for s in sessions if s.closed]
        for session in gone:
            self._answer(session, UnknownSlot("The session was closed before its step had run."))
        sessions = [s for s in sessions if s not in gone]
        if not sessions:
            return
        started = time.monotonic()
        results: list[Floats | TopK | EngineError | None]
        try:
            if self._wipe:
                self._context.wipe()
                self._wipe = False
            n = self._fill(sessions, rows)
            self._tapped = 0
            self._context.decode(self._batch, n)
            if not self.last and self._tapped != self._residual[:n].nbytes:
                raise LlamaError("llama.cpp did not compute the residual of every row")
            results = [self._collect(s, i * rows, rows) for i, s in enumerate(sessions)]
        except Exception as error:
            log.exception("a step of %d sessions failed", len(sessions))
            results = [StepFailed(f"The step failed: {error}") for _ in sessions]
        seconds = time.monotonic() - started
        with self._wake:
            self._decodes += 1
            self._busy += seconds
            self._tokens += len(sessions) * rows
            if rows == 1:
                self._batched_rows += len(sessions)
                self._largest = max(self._largest, len(sessions))
                self._recent.append(seconds)
        for session, result in zip(sessions, results, strict=True):
            self._advance(session, rows, result, started, seconds)

    def _advance(
        self,
        session: Session,
        rows: int,
        result: Floats | TopK | EngineError | None,
        started: float,
        seconds: float,
    ) -> None:
        step = session.running
        if step.at == 0:
            step.started = started
        step.compute_ms += 1e3 * seconds
        step.at += rows
        if isinstance(result, EngineError):
            self._answer(session, result)
            return
        if result is not None:
            step.parts.append(result)
        if step.at < len(step.payload):
            with self._wake:
                self._longs.append(session)
        else:
            self._answer(session, step.output())

    def _fill(self, sessions: list[Session], rows: int) -> int:
        batch = self._batch
        row = 0
        for session in sessions:
            step = session.running
            if session.stray:
                self._context.truncate(session.sequence, session.length)
                session.stray = False
            span = slice(row, row + rows)
            source = step.payload[step.at : step.at + rows]
            if self.first:
                batch.tokens[span] = source
            else:
                batch.embd[span] = source
            position = step.start + step.at
            batch.positions[span] = np.arange(position, position + rows, dtype=np.int32)
            batch.slots[span] = session.sequence
            # off the tail every row is an output: llama.cpp drops the others within the last layer
            batch.wanted[span] = not self.last or step.all_rows
            if step.at + rows == len(step.payload):
                batch.wanted[row + rows - 1] = 1
            row += rows
        return row

    def _room_for_residual(self, size: int) -> int:
        at = self._tapped
        self._tapped += size
        return self._residual.ctypes.data + at if self._tapped <= self._residual.nbytes else 0

    def _collect(self, session: Session, row: int, rows: int) -> Floats | TopK | NotFinite | None:
        """Take the results of `rows` rows of the batch from `row` on, None where nobody wants any."""
        if not self.last:
            out = self._residual[row : row + rows].copy()
            if np.isfinite(out).all():
                return out
        else:
            wanted = np.flatnonzero(self._batch.wanted[row : row + rows])
            if not len(wanted):
                return None
            try:
                return topk.best([self._context.logits(row + int(i)) for i in wanted], session.running.k)
            except NoCandidates:
                pass
        session.tainted = True
        return NotFinite("The result of the step is not finite.")

    def _answer(self, session: Session, answer: StepOutput | EngineError) -> None:
        with self._wake:
            step = session.running
            session.step = None
            session.used = time.monotonic()
            if isinstance(answer, EngineError):
                session.stray = True
            else:
                session.length = step.start + len(step.payload)
                self._steps += 1
            if session.closed:
                self._release(session)
        try:
            step.done(answer)
        except Exception:
            log.exception("the caller's callback raised")

    def _shut(self) -> None:
        with self._wake:
            self._stopping = True
            waiting = [*self._singles, *self._longs]
            self._singles.clear()
            self._longs.clear()
        for session in waiting:
            self._answer(session, EngineStopped("The engine was stopped before the step ran."))
        self._context.close()
        self._model.close()
