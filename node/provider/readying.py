"""A shard is loaded, compared with the manifest and timed in threads, while the rest of a provider is being started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import Backend
from hypercluster.node.provider.speed import START_ROWS, Speed
from hypercluster.node.shards import Manifest, ShardError, check_shard
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.shards.writing import Progress
from hypercluster.node.threads import in_thread

STEP_TOKENS = 64
"""of a prompt that go through a shard together"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How the shard of layers [start, stop) is loaded.

    `engine` takes the arguments of Engine, and `throttle_ms` is the rest before each step.
    """

    start: int
    stop: int
    sessions: int
    session_tokens: int
    threads: int
    backend: Backend
    step_tokens: int = STEP_TOKENS
    throttle_ms: float = 0.0
    engine: Callable[..., Engine] = Engine

    def load(self, shard: Path, manifest: Manifest) -> Engine:
        """Load it. Raises LoadFailed, LlamaError."""
        return self.engine(
            shard,
            first=self.start == 0,
            last=self.stop == manifest.layers,
            n_ctx_total=self.sessions * min(self.session_tokens, manifest.context),
            max_sessions=self.sessions,
            threads=self.threads,
            chunk=self.step_tokens,
            **self.backend.settings(),
        )

    def timed(self, engine: Engine) -> Speed:
        """How fast it is. Raises EngineFull, EngineFailed, EngineStopped."""
        speed = Speed(engine, throttle_ms=self.throttle_ms, step_tokens=self.step_tokens)
        speed.measure(START_ROWS)
        return speed


class Readying:
    """A shard of a model that is made ready: its threads begin at once where its file is here.

    Close it in the end: that stops the engine.
    """

    def __init__(self, stored: StoredModel, loader: Loader) -> None:
        self._stored, self._loader = stored, loader
        self._lock = threading.Lock()
        self._hashed = 0
        self._progress: Progress = lambda _size: None
        self._loaded: Future[tuple[Engine, Speed]] | None = None
        self._checked: Future[Path] | None = None
        self._closed = False
        path, layers = stored.shard_path(loader.start, loader.stop), (loader.start, loader.stop)
        if path.exists():
            try:
                check_shard(path, stored.manifest, *layers, verify=False)
            except ShardError:
                return  # `shard` says why, or makes it again
            self._checked = in_thread(lambda: self._check(path), f"checking {path.name}")
            self._loaded = in_thread(lambda: self._load(path), f"loading {path.name}")

    def shard(self, progress: Progress) -> Path:
        """The shard's file, found to be what the manifest says, cut now if need be. Raises as StoredModel.shard.

        `progress` is told of the bytes that were written and checked.
        """
        with self._lock:
            self._progress = progress
            progress(self._hashed)
        if self._checked is not None:
            try:
                return self._checked.result()
            except ShardError:
                self._unload()
        path = self._stored.shard(self._loader.start, self._loader.stop, progress)
        self._loaded = in_thread(lambda: self._load(path), f"loading {path.name}")
        return path

    def ready(self) -> tuple[Engine, Speed]:
        """The engine and how fast it is, once `shard` has come back. Raises LoadFailed, LlamaError, EngineError."""
        assert self._loaded is not None
        return self._loaded.result()

    def close(self) -> None:
        """End the threads and stop the engine, which while it loads is done when it has; again it does nothing."""
        self._closed = True
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.add_done_callback(_stop)  # at once where it has loaded

    def _unload(self) -> None:
        """Wait until what was loaded is gone."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.exception()
            _stop(loaded)

    def _load(self, path: Path) -> tuple[Engine, Speed]:
        engine = self._loader.load(path, self._stored.manifest)
        try:
            if self._checked is not None:
                self._checked.exception()  # who hashes wants the cores as well
            if self._closed:
                raise _unwanted()
            return engine, self._loader.timed(engine)
        except BaseException:
            engine.stop()
            raise

    def _check(self, path: Path) -> Path:
        loader = self._loader
        check_shard(path, self._stored.manifest, loader.start, loader.stop, progress=self._tell)
        return path

    def _tell(self, size: int) -> None:
        if self._closed:
            raise _unwanted()
        with self._lock:
            self._hashed += size
            self._progress(size)


def _unwanted() -> ShardError:
    return ShardError("Nobody waits for the shard any more.")


def _stop(loaded: Future[tuple[Engine, Speed]]) -> None:
    if loaded.exception() is None:
        loaded.result()[0].stop()
