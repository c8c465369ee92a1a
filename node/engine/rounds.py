"""What an engine's thread does: the rows of many sessions, round by round, and starting llama.cpp again."""

from __future__ import annotations

import collections
import logging
import threading
import time

from hypercluster.node.engine.alone import Alone
from hypercluster.node.engine.apart import Ended
from hypercluster.node.engine.batching import Found, compute
from hypercluster.node.engine.loading import Loading
from hypercluster.node.engine.slots import Slot, Slots
from hypercluster.node.engine.starting import Starts
from hypercluster.node.engine.steps import (
    CannotRewind,
    EngineError,
    EngineFailed,
    EngineStopped,
    NotFinite,
    StepFailed,
    StepOutput,
    UnknownSlot,
)
from hypercluster.node.engine.tally import Tally
from hypercluster.node.errors import NodeError

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""after which an engine that has nothing to do looks whether llama.cpp's process still runs"""


class Rounds:
    """The steps that wait for one loaded shard, and the thread that has them computed.

    A round takes every single-row step that waits, and one chunk of a longer one.
    """

    def __init__(self, loading: Loading, *, apart: bool) -> None:
        self.chunk = loading.chunk
        self._loading = loading
        self._starts = Starts(loading, apart=apart)
        self._computing = self._starts.load()
        self._facts = self._computing.facts
        self._wake = threading.Condition()
        self._slots = Slots(loading.max_sessions)
        self._singles: collections.deque[Slot] = collections.deque()
        self._longs: collections.deque[Slot] = collections.deque()
        self._stopping = False
        self._working = self._was_left = False
        """whether the thread computes, and whether a step alone was left to it"""
        self._alone: Alone | None = None
        self._tally = Tally()
        self._thread = threading.Thread(target=self._run, name=f"engine {loading.shard.name}", daemon=True)
        self._thread.start()

    @property
    def _busy(self) -> bool:
        return self._working or self._alone is not None or bool(self._singles or self._longs)

    def _run(self) -> None:
        try:
            while not self._stopping or self._alone is not None:
                if self._slots.trouble is not None:
                    self._start_again(self._slots.trouble.wait)
                    continue
                with self._wake:
                    self._working = False
                    self._wake.wait_for(self._is_due, LOOK_SECONDS)
                    singles = sorted(self._singles, key=lambda place: place.sequence)
                    # one chunk of the oldest prefill, then everyone else again
                    long = self._longs[0] if self._longs else None
                    alone = self._alone
                    self._working = alone is None
                if alone is None and not self._stopping:
                    self._round(singles, long)
                elif alone is not None and (self._was_left or self._stopping):
                    self._finish(alone)
        finally:
            self._shut()

    def _is_due(self) -> bool:
        if self._alone is not None:
            return self._was_left or self._stopping
        return bool(self._singles or self._longs or self._stopping)

    def _ended(self, alone: Alone, found: Found | EngineError) -> None:
        """A step alone is done; told by whichever thread saw to it."""
        if isinstance(found, StepFailed):
            log.error("%s", found)
        with self._wake:
            self._tally.decoded(1, alone.rows, alone.seconds_taken)
        self._advance(alone.place, alone.rows, found, alone.started, alone.seconds_taken)
        self._over()

    def _left(self) -> None:
        with self._wake:
            self._was_left = self._alone is not None
            self._wake.notify()

    def _over(self) -> None:
        with self._wake:
            self._alone, self._was_left = None, False
            if self._singles or self._longs or self._stopping:
                self._wake.notify()

    def _finish(self, alone: Alone) -> None:
        try:
            alone.finish()
        except Ended as error:
            self._fail([alone.place], error)
            self._over()

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
        self._slots.prepare(self._computing)
        if not place.stands(self._computing):
            self._answer(place, CannotRewind(f"This model cannot go back to position {place.running.start}."))
            return False
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
