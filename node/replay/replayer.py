"""Runs the inputs of a transcript again: as one prefill, or step by step as they were served."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from hypercluster.market.trust.audit import Bounds, Difference, Kind, Thresholds, Tier
from hypercluster.market.trust.receipt import MOST_TOLERANCE, Finding
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.engine.profile import Backend, profile
from hypercluster.node.engine.steps import EngineFailed
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.comparing import BadEvidence, claimed_outputs, compare, is_within, numbers
from hypercluster.node.replay.running import inputs_of, prefill, replay
from hypercluster.node.replay.shelf import Shelf, ShelfFull
from hypercluster.node.rows import Float32s, Payload, WireDtype
from hypercluster.node.shards.store import StoredModel

log = logging.getLogger(__name__)

ENGINES = 2
MEMORY_SHARE = 2
"""the shards that are loaded at once, if there is more than one, take so much of the memory: one in two bytes"""
LEAST_TOKENS = 256
SPOT_STEPS = 32
"""that are run again one by one although the prefill was within its bounds, if these are not exact themselves"""
SPREAD_MARGIN = 4.0
"""times what honest computations of the very inputs are apart: closer than that nobody is accused"""
JITTER = 2.0**-10


@dataclass(frozen=True, slots=True)
class Judgement:
    """What running a transcript again showed.

    Attributes:
        tier: the comparison that decided.
        rows: one's own outputs, float32 [n, width]: activations, or log-probabilities of the best candidates.
        prefill_ms, replay_ms: what it took; the second is 0 where the prefill was enough.
        own_digest: SHA-256 of one's own prefill, against which all passes are measured.
        tolerance: how far from it a row may be to pass, in millionths.
    """

    finding: Finding
    difference: Difference
    tier: Tier
    rows: Float32s
    prefill_ms: float
    replay_ms: float
    own_digest: bytes = bytes(32)
    tolerance: int = MOST_TOLERANCE


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An engine and the shard that it runs."""

    path: Path
    bytes: int
    engine: Engine


class Replayer:
    """Engines for the stages of one model, loaded when they are needed; the last few stay.

    May be called from several threads; one audit runs at a time.

    Args:
        shelf_bytes: of shards that are cut for it and stay on disk, see Shelf; ShelfFull if that is too little.
    """

    def __init__(
        self,
        stored: StoredModel,
        bounds: Bounds,
        *,
        threads: int,
        chunk: int = 64,
        backend: Backend | None = None,
        shelf_bytes: int | None = None,
    ) -> None:
        self.stored = stored
        self.bounds = bounds
        self._threads, self._chunk, self._backend = threads, chunk, backend or Backend()
        self._shelf = Shelf(stored, shelf_bytes)
        self._memory = psutil.virtual_memory().total // MEMORY_SHARE
        self._engines: dict[tuple[int, int], _Loaded] = {}
        self._lock = threading.Lock()

    @property
    def profile(self) -> str:
        """Our own backend profile."""
        return profile(self._backend, threads=self._threads, chunk=self._chunk)

    def has(self, start: int, stop: int) -> bool:
        """Whether layers [start, stop) can be run here."""
        manifest = self.stored.manifest
        whole = 0 <= start < stop <= manifest.layers
        return whole and (self.stored.whole or self.stored.shard_path(start, stop).exists())

    def is_cut(self, start: int, stop: int) -> bool:
        """Whether the shard of layers [start, stop) is on disk, so that running it again takes no more room."""
        return self._shelf.has(start, stop)

    def judge(self, transcript: Transcript) -> Judgement:
        """Run a transcript again and compare.

        Raises:
            BadEvidence, WireError, EngineError: inputs or outputs that no honest stage can have had.
            EngineFailed: llama.cpp's process ended of them, twice.
            ModelMissing, ShardError, LlamaError: the layers are not here or do not load.
        """
        with self._lock:
            try:
                return self._judge(transcript)
            except EngineFailed:
                # The process that it was found in may have died of something else before.
                self._unload(0)
                return self._judge(transcript)

    def close(self) -> None:
        """Free all engines."""
        with self._lock:
            self._unload(0)

    def _judge(self, transcript: Transcript) -> Judgement:
        record = transcript.record
        is_tail = record.layer_stop == self.stored.manifest.layers
        kind: Kind = "tail" if is_tail else "body"
        engine = self._engine(record.layer_start, record.layer_stop, transcript.length)
        inputs = inputs_of(transcript, engine)
        claimed = claimed_outputs(transcript, engine.width, is_tail)
        own_profile = record.profile == self.profile
        started = time.monotonic()
        k = record.top_k or 1
        own = whole = prefill(engine, transcript, inputs)
        own_digest = hashlib.sha256(numbers(own, k).tobytes()).digest()
        prefill_ms = 1e3 * (time.monotonic() - started)
        tier: Tier = "prefill" if own_profile else "foreign"
        first = difference = compare(claimed, own, record.wire_dtype)
        finding = self.bounds.of(kind, tier).judge(difference)
        replay_ms = 0.0
        if own_profile and not difference.exact:
            # Where the same steps give the same bits, the beginning is looked at as closely as that goes.
            spot = finding is Finding.PASS
            if not spot or self.bounds.is_exact(kind, "replay"):
                part = Transcript(record, transcript.steps[:SPOT_STEPS]) if spot else transcript
                started = time.monotonic()
                again = replay(engine, part, inputs[: len(part.steps)])
                replay_ms = 1e3 * (time.monotonic() - started)
                closer = compare(claimed_outputs(part, engine.width, is_tail), again, record.wire_dtype)
                found = self.bounds.of(kind, "replay").judge(closer)
                if not spot or found is not Finding.PASS:
                    finding, difference, tier, own = found, closer, "replay", again if not spot else own
        dtype = record.wire_dtype
        tolerance = self.bounds.tolerance(kind, own=own_profile, rounding=dtype.rounding)
        passed = finding is Finding.PASS and kind == "body"
        if passed and not is_within(tolerance, first, claimed, whole, dtype):
            # Two passes for one input have to lie within the tolerance of one computation, and this is the one.
            finding = Finding.GREY
        if finding is Finding.FAIL and not (tier == "replay" and self.bounds.is_exact(kind, tier)):
            finding = self._wider(kind, tier, self._spread(transcript, inputs)).judge(difference)
        return Judgement(
            finding, difference, tier, numbers(own, k), prefill_ms, replay_ms, own_digest, tolerance
        )

    def _wider(self, kind: Kind, tier: Tier, spread: Difference) -> Thresholds:
        """The bounds with the rejection moved out to what these inputs do to honest computations.

        Whoever chose the inputs may have chosen such as tear rounding errors apart; then nobody is to blame.
        """
        limits = self.bounds.of(kind, tier)
        return replace(
            limits,
            reject_median=max(limits.reject_median, SPREAD_MARGIN * spread.median),
            reject_maximum=max(limits.reject_maximum, SPREAD_MARGIN * spread.maximum),
            reject_agreement=min(
                limits.reject_agreement, max(0.0, 1.0 - SPREAD_MARGIN * (1.0 - spread.agreement))
            ),
        )

    def _spread(self, transcript: Transcript, inputs: list[Payload]) -> Difference:
        """How far apart honest ways to compute just these inputs are, here and now: the worst of a few."""
        record = transcript.record
        stage = record.layer_start, record.layer_stop
        kept = self._engine(*stage, transcript.length)
        path = self._engines[stage].path
        own = prefill(kept, transcript, inputs)
        others = [
            (Backend(flash_attention=True), inputs),
            (Backend(kv_type="f32"), inputs),
            (Backend(flash_attention=True, kv_type="q8_0"), inputs),
        ]
        if not kept.first:
            others.append((self._backend, _jittered(inputs)))
        found = []
        for backend, payloads in others:
            try:
                with self._new_engine(path, *stage, transcript.length, backend) as engine:
                    found.append(compare(prefill(engine, transcript, payloads), own, WireDtype.F32))
            except LlamaError as error:
                # Not every shape of model can have every kind of cache.
                log.debug("%s: %s", backend, error)
        if not found:
            raise BadEvidence(
                "No second way to compute this is to be had here, to see what an error is worth."
            )
        return Difference(
            max(each.median for each in found),
            max(each.maximum for each in found),
            min(each.agreement for each in found),
            all(each.exact for each in found),
            found[0].rows,
        )

    def _engine(self, start: int, stop: int, tokens: int) -> Engine:
        manifest = self.stored.manifest
        if tokens > manifest.context:
            raise BadEvidence(f"{tokens} tokens are beyond the model's context of {manifest.context}.")
        loaded = self._engines.pop((start, stop), None)
        if loaded is not None and (loaded.engine.max_capacity < tokens or loaded.engine.trouble is not None):
            self._stop(loaded)
            loaded = None
        if loaded is None:
            # What is kept goes first, so that there are never more in memory than that.
            self._unload(ENGINES - 1)
            room = min(manifest.context, max(LEAST_TOKENS, 1 << (tokens - 1).bit_length()))
            loaded = self._load(start, stop, room)
        self._engines[start, stop] = loaded
        return loaded.engine

    def _load(self, start: int, stop: int, room: int) -> _Loaded:
        try:
            path = self._shelf.take(start, stop)
        except ShelfFull:
            # Of a small shelf the shards that are loaded may be all.
            self._unload(0)
            path = self._shelf.take(start, stop)
        size = path.stat().st_size
        if size + sum(each.bytes for each in self._engines.values()) > self._memory:
            self._unload(0)
        try:
            return _Loaded(path, size, self._new_engine(path, start, stop, room, self._backend))
        except BaseException:
            self._shelf.give_back(path)
            raise

    def _unload(self, most: int) -> None:
        """Free the longest unused engines but `most`."""
        while len(self._engines) > most:
            self._stop(self._engines.pop(next(iter(self._engines))))

    def _stop(self, loaded: _Loaded) -> None:
        loaded.engine.stop()
        self._shelf.give_back(loaded.path)

    def _new_engine(self, path: Path, start: int, stop: int, room: int, backend: Backend) -> Engine:
        return Engine(
            path,
            first=start == 0,
            last=stop == self.stored.manifest.layers,
            n_ctx_total=room,
            max_sessions=1,
            threads=self._threads,
            chunk=self._chunk,
            **backend.settings(),
        )


def _jittered(inputs: list[Payload]) -> list[Payload]:
    """The same activations but for the last bits that f16 keeps."""
    draw = np.random.default_rng(0)
    jittered = [rows.copy() for rows in inputs]
    for rows in jittered:
        residual = rows["residual"] if rows.dtype.names else rows
        residual *= 1 + JITTER * draw.uniform(-1, 1, residual.shape)
    return jittered
