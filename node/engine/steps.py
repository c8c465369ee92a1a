"""What travels through an engine: steps on their way, the slots they belong to, results and refusals."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.rows import Float32s, Payload, TopK, WireDtype, join, pack_activations, pack_topk

Outputs = Literal["last", "all"]


class EngineError(NodeError):
    """A step, or the engine itself, was refused or failed."""


class EngineFull(EngineError):
    """No session is free; `wait` is in how many seconds one may be."""

    code = ErrorCode.FULL
    wait = 1.0


class UnknownSlot(EngineError):
    """No session has this slot, or no longer."""

    code = ErrorCode.UNKNOWN_SESSION


class OutOfOrder(EngineError):
    """A step starts beyond what the session holds, or the step before it still runs."""

    code = ErrorCode.OUT_OF_ORDER


class CannotRewind(EngineError):
    """A step starts within what the session holds, and this model's memory cannot be cut back to there."""

    code = ErrorCode.OUT_OF_ORDER


class TooLong(EngineError):
    """A step or session needs more tokens than it may have."""

    code = ErrorCode.TOO_LONG


class BadShape(EngineError):
    """A payload has the wrong dtype, shape or token ids."""

    code = ErrorCode.BAD_SHAPE


class NotFinite(EngineError):
    """A payload or a result holds nan, infinity or an absurdly large number."""

    code = ErrorCode.NOT_FINITE


class StepFailed(EngineError):
    """llama.cpp could not run the step; the session stands where the step began."""


class EngineFailed(EngineError):
    """llama.cpp's process ended by itself, and with it what its sessions held; `wait` as in EngineFull."""

    code = ErrorCode.ENGINE_FAILED

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class EngineStopped(EngineError):
    """The engine has been stopped."""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Result of a step: activations float32 [n, width], or at the tail topk of the rows asked for.

    compute_ms is the time of the llama_decode calls the step took part in, waited_ms the time in the queue
    before the first of them.
    """

    activations: Float32s | None
    topk: TopK | None
    compute_ms: float
    waited_ms: float

    def packed(self, dtype: WireDtype) -> tuple[bytes, int]:
        """The rows as they travel, and how many there are. Raises WireError(NOT_FINITE), see pack_activations."""
        if self.topk is not None:
            return pack_topk(self.topk), len(self.topk.ids)
        assert self.activations is not None
        return pack_activations(self.activations, dtype), len(self.activations)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the start. decodes counts llama_decode calls; batched_rows the single-row steps in them;
    largest_batch the most of these in one call; ms_per_decode is the median of the last 64 such calls.
    """

    sessions: int
    free: int
    waiting: int
    """steps that are not computed yet"""
    steps: int
    tokens: int
    decodes: int
    batched_rows: int
    largest_batch: int
    busy_ms: float
    ms_per_decode: float
    failures: int
    """times that llama.cpp's process ended by itself"""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Median ms for one decoded token alone, and ms per token of a prefill chunk."""

    decode_ms: float
    prefill_ms: float


class Work:
    """A step on its way through the engine: `start` is the position of its first row in the cells of `sequence`,
    `at` the number of rows already run, `done` what its caller waits for.
    """

    def __init__(self, sequence: int, start: int, payload: Payload, all_rows: bool, k: int) -> None:
        self.sequence = sequence
        self.start = start
        self.payload = payload
        self.all_rows = all_rows
        self.k = k
        self.at = 0
        self.parts: list[Float32s | TopK] = []
        self.compute_ms = 0.0
        self.queued = time.monotonic()
        self.started = 0.0
        self.done: Future[StepOutput] = Future()
        # Nobody can call it back: llama.cpp cannot be interrupted.
        self.done.set_running_or_notify_cancel()

    def output(self) -> StepOutput:
        """What the finished step answers with."""
        waited = 1e3 * (self.started - self.queued)
        best = [part for part in self.parts if isinstance(part, TopK)]
        if best:
            return StepOutput(None, join(best), self.compute_ms, waited)
        rows = [part for part in self.parts if isinstance(part, np.ndarray)]
        return StepOutput(rows[0] if len(rows) == 1 else np.concatenate(rows), None, self.compute_ms, waited)
