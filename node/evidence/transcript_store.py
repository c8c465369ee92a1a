"""Transcripts in files, for a bounded time and within a bounded space.

A file holds frames as they travel: one StageRecord, then an AuditStep for each step. It comes into being with the first
step, so that a stage that did nothing leaves nothing, and is only appended to, so that of a process that dies at most
the last step is lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hypercluster.node.errors import ErrorCode, NodeError, WireError
from hypercluster.node.evidence.transcript import Held, Transcript
from hypercluster.node.wire.bounds import MAX_OPENING_FRAME
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import decode_length, encode_length
from hypercluster.node.wire.records import AuditStep, StageRecord, StepRoots

log = logging.getLogger(__name__)

BLOCK = 4096
"""bytes of disk that a file takes are a multiple of this"""
LEAN = 0.9
"""share of the space that is left in use when the oldest transcripts make room"""


class NoTranscript(NodeError):
    """There is no transcript of this stage, or no longer."""


class StoreFull(NodeError):
    """The transcripts that must still be kept fill the space there is for them."""

    code = ErrorCode.FULL


class TranscriptWriter:
    """Appends the steps of one stage; `create` makes its file when the first one comes, and opens it after a rest.

    `grown` is told by how many bytes of disk the file has grown, `closed` that nothing more comes.
    """

    def __init__(
        self,
        record: StageRecord,
        create: Callable[[], BinaryIO],
        grown: Callable[[int], None],
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.stage_hash = record.stage.struct_hash()
        self._record, self._create, self._grown, self._closed = record, create, grown, closed
        self._file: BinaryIO | None = None
        self._bytes = 0

    def append(self, step: AuditStep | StepRoots) -> None:
        """Add a step; in the operating system's hands when this returns. Raises StoreFull if the disk is full."""
        try:
            if self._file is None:
                self._file = self._create()
                if not self._bytes:
                    self._write(self._file, encode(self._record))
            self._write(self._file, encode(step))
        except OSError as error:
            raise StoreFull(f"A transcript cannot be written: {error.strerror or error}.") from error

    def rest(self) -> None:
        """Hold no open file until the next step comes; the transcript still counts as being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """End it; calling it again does nothing."""
        if self._file is not None:
            self._file.close()
        self._closed()

    def _write(self, file: BinaryIO, frame: bytes) -> None:
        data = encode_length(len(frame)) + frame
        file.write(data)
        before, self._bytes = self._bytes, self._bytes + len(data)
        self._grown(_taken(self._bytes) - _taken(before))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TranscriptStore:
    """A folder of transcripts, for one process at a time to write and for any to read.

    Args:
        keep_seconds: how long after its last step a transcript stays.
        max_bytes: when they take more, no further one begins, or the oldest go if `drop_oldest`.
    """

    def __init__(
        self, folder: Path, *, keep_seconds: float, max_bytes: int, drop_oldest: bool = False
    ) -> None:
        self.folder = folder
        self.keep_seconds = keep_seconds
        self.max_bytes = max_bytes
        self._drop_oldest = drop_oldest
        self._total: int | None = None
        self._counting = threading.Lock()
        self._written: set[Path] = set()
        """now, so none of them is deleted"""

    def begin(self, record: StageRecord) -> TranscriptWriter:
        """Start the transcript of a stage. Raises StoreFull."""
        self._make_ready()
        path = self._path(record.stage.struct_hash())

        def create() -> BinaryIO:
            known = path in self._written
            self._written.add(path)
            # Appended to by `fill` as well, while a stage is parked.
            return open(path, "ab", buffering=0, opener=None if known else _new)

        return TranscriptWriter(record, create, self._count, lambda: self._written.discard(path))

    def keep(self, transcript: Transcript) -> None:
        """Write a whole transcript, in one move, over whatever was there of its stage. Raises StoreFull."""
        self._make_ready()
        path = self._path(transcript.record.stage.struct_hash())
        partial = path.with_suffix(".part")
        before = _size(path)
        with TranscriptWriter(
            transcript.record, lambda: partial.open("wb", buffering=0), self._count
        ) as writer:
            for step in transcript.steps:
                writer.append(step)
        partial.replace(path)
        self._count(-before)

    def fill(self, transcript: Transcript, missing: Collection[int]) -> None:
        """Add the steps whose numbers were missing of a stage that there is. Raises StoreFull."""
        path = self._path(transcript.record.stage.struct_hash())
        before = _size(path)
        try:
            with path.open("ab", buffering=0) as file:
                for step in transcript.steps:
                    if step.seq in missing:
                        frame = encode(step)
                        file.write(encode_length(len(frame)) + frame)
        except OSError as error:
            raise StoreFull(f"A transcript cannot be written: {error.strerror or error}.") from error
        self._count(_size(path) - before)

    @property
    def full(self) -> str | None:
        """What is wrong, as a sentence, while no further transcript may begin."""
        if self._drop_oldest or self.size() <= self.max_bytes:
            return None
        return (
            f"The transcripts in {self.folder} take more than {self.max_bytes} bytes: wait until the oldest "
            "may go, or allow more."
        )

    def load(self, stage_hash: bytes, last_seq: int | None = None) -> Transcript:
        """The transcript of a stage, up to and including step `last_seq` if given. Raises NoTranscript: there is none,
        or rows of it are elsewhere.
        """
        held = self.held(stage_hash)
        steps = held.steps if last_seq is None else held.steps[: last_seq + 1]
        whole = Held(held.record, steps).whole()
        if whole is None:
            raise NoTranscript(
                f"Rows of stage {stage_hash.hex()} went from provider to provider, and are not here."
            )
        return whole

    def held(self, stage_hash: bytes) -> Held:
        """What there is of a stage here. Raises NoTranscript."""
        path = self._path(stage_hash)
        try:
            frames = _frames(path.read_bytes())
            record = decode(next(frames))
            steps: dict[int, AuditStep | StepRoots] = {}
            for step in map(decode, frames):
                # What was fetched later stands behind.
                if isinstance(step, AuditStep) or (isinstance(step, StepRoots) and step.seq not in steps):
                    steps[step.seq] = step
        except (OSError, StopIteration):
            raise NoTranscript(f"There is no transcript of stage {stage_hash.hex()}.") from None
        if not isinstance(record, StageRecord):
            raise NoTranscript(f"The file {path} is no transcript.")
        return Held(record, tuple(steps.values()))

    def record(self, stage_hash: bytes) -> StageRecord:
        """What a transcript says of its stage, without reading its steps. Raises NoTranscript."""
        path = self._path(stage_hash)
        try:
            with path.open("rb") as file:
                record = decode(next(_frames(file.read(2 * MAX_OPENING_FRAME))))
        except (OSError, StopIteration):
            raise NoTranscript(f"There is no transcript of stage {stage_hash.hex()}.") from None
        if not isinstance(record, StageRecord):
            raise NoTranscript(f"The file {path} is no transcript.")
        return record

    def records(self) -> Iterator[tuple[bytes, StageRecord]]:
        """All stages that there are transcripts of: the hash of each, and what is said of it. Damaged ones are left
        out.
        """
        for path in self._files():
            try:
                stage_hash = bytes.fromhex(path.stem)
                yield stage_hash, self.record(stage_hash)
            except (ValueError, NodeError) as error:
                log.debug("passed over: %s", error)

    def latest(self, wanted: Callable[[StageRecord], bool]) -> Held | None:
        """What there is of the newest stage that is `wanted`, None if there is none."""
        for path, _ in reversed(self._by_age()):
            try:
                held = self.held(bytes.fromhex(path.stem))
            except (NoTranscript, WireError) as error:
                log.debug("passed over: %s", error)
                continue
            if held.steps and wanted(held.record):
                return held
        return None

    def size(self) -> int:
        """Bytes of disk that all of them take. The first call asks for every file, later ones know."""
        with self._counting:
            if self._total is None:
                self._total = sum(map(_size, self._files()))
            return self._total

    def prune(self, now: float | None = None) -> int:
        """Delete those whose time is over (`now` in unix seconds); returns how many."""
        before = (time.time() if now is None else now) - self.keep_seconds
        old = [path for path, written in self._by_age() if written < before]
        return sum([self._delete(path) for path in old])

    def _make_ready(self) -> None:
        """See to it that there is a folder, and room in it. Raises StoreFull."""
        if self._drop_oldest:
            self._make_room()
        if problem := self.full:
            raise StoreFull(problem)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _make_room(self) -> None:
        if self.size() <= self.max_bytes:
            return
        for path, _ in self._by_age():
            if self.size() <= LEAN * self.max_bytes:
                return
            self._delete(path)

    def _delete(self, path: Path) -> bool:
        """Whether it was this call that deleted it."""
        if path in self._written:
            return False
        size = _size(path)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        self._count(-size)
        return True

    def _count(self, taken: int) -> None:
        with self._counting:
            if self._total is not None:
                self._total = max(0, self._total + taken)

    def _by_age(self) -> list[tuple[Path, float]]:
        """All files with the moment of their last step, the oldest first; without those that are gone by now."""
        found = ((path, _written(path)) for path in self._files())
        return sorted(
            ((path, at) for path, at in found if at is not None), key=lambda each: (each[1], each[0])
        )

    def _files(self) -> Iterator[Path]:
        return self.folder.glob("*.transcript")

    def _path(self, stage_hash: bytes) -> Path:
        return self.folder / f"{stage_hash.hex()}.transcript"


def _new(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o666)


def _taken(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _size(path: Path) -> int:
    try:
        return _taken(path.stat().st_size)
    except FileNotFoundError:  # deleted since it was listed
        return 0


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _frames(data: bytes) -> Iterator[bytes]:
    """The whole frames in `data`; a cut off last one is left out."""
    view, at = memoryview(data), 0
    while at < len(view):
        prefix = decode_length(bytearray(view[at : at + 5]))
        if prefix is None or at + sum(prefix) > len(view):
            log.debug("a transcript ends within a frame")
            return
        length, header = prefix
        yield bytes(view[at + header : at + header + length])
        at += header + length
