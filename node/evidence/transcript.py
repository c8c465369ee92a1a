"""What a stage was asked and what it answered, step by step, kept in files for a bounded time.

Both ends keep them: the client to have a stage audited and to accuse it, the provider because it may be asked to
show what its receipts commit to. A file holds frames as they travel: one StageRecord, then an AuditStep for each
step. It is only appended to, so of a process that dies at most the last step is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hypercluster.market.trust.receipt import DisputeDomain, Receipt
from hypercluster.node.errors import ErrorCode, NodeError, WireError
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.bounds import MAX_OPENING_FRAME
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import decode_length, encode_length
from hypercluster.node.wire.records import AuditStep, StageRecord

log = logging.getLogger(__name__)


class NoTranscript(NodeError):
    """There is no transcript of this stage, or no longer."""


class StoreFull(NodeError):
    """The transcripts that must still be kept fill the space there is for them."""

    code = ErrorCode.FULL


@dataclass(frozen=True)
class Transcript:
    """A stage and its steps so far, in order."""

    record: StageRecord
    steps: tuple[AuditStep, ...]

    @property
    def tokens(self) -> int:
        """Rows of input over all steps, those that were forgotten later included."""
        return sum(step.rows for step in self.steps)

    @property
    def length(self) -> int:
        """The most tokens that the stage held at once, in the cells of its model."""
        return max((step.position + step.rows for step in self.steps), default=0)

    @property
    def runs(self) -> list[list[AuditStep]]:
        """The steps, cut where one goes back: each begins within what was held, and forgets what lay behind."""
        runs: list[list[AuditStep]] = []
        end = -1
        for step in self.steps:
            if step.position != end:
                runs.append([])
            runs[-1].append(step)
            end = step.position + step.rows
        return runs

    @property
    def outputs(self) -> int:
        """Rows of output over all steps."""
        return sum(step.outputs for step in self.steps)

    @property
    def generated(self) -> int:
        """Steps of a single token."""
        return sum(step.rows == 1 for step in self.steps)

    @property
    def input(self) -> bytes:
        """All rows of input, packed."""
        return b"".join(step.input for step in self.steps)

    @property
    def output(self) -> bytes:
        """All rows of output, packed."""
        return b"".join(step.output for step in self.steps)

    def receipts(self, domain: DisputeDomain, *, own: bool = False) -> list[tuple[Receipt, bytes]]:
        """The chain of receipts with their signatures, all checked against the data and the peer's key.

        Those of one's `own` file are not checked again, which saves most of the time.

        Raises:
            BadReceipt: one does not belong to what is here.
            WireError, MarketError: the data do not have the rows that they should.
        """
        chain = ReceiptChain(self.record.stage, domain)
        node = address_of_peer(self.record.peer)
        found: list[tuple[Receipt, bytes]] = []
        for step in self.steps:
            if step.seq != len(found):
                raise WireError("seq", f"is {step.seq} where {len(found)} comes next")
            receipt = chain.next(step)
            if own:
                chain.follow(receipt)
            else:
                chain.accept(receipt, step.receipt, node)
            found.append((receipt, step.receipt))
        return found


class TranscriptWriter:
    """Appends the steps of one stage."""

    def __init__(self, file: BinaryIO, record: StageRecord) -> None:
        self.stage_hash = record.stage.struct_hash()
        self._file = file
        self._write(encode(record))

    def append(self, step: AuditStep) -> None:
        """Add a step; in the operating system's hands when this returns. Raises NodeError if the disk is full."""
        self._write(encode(step))

    def close(self) -> None:
        """End it; calling it again does nothing."""
        self._file.close()

    def _write(self, frame: bytes) -> None:
        try:
            self._file.write(encode_length(len(frame)) + frame)
        except OSError as error:
            raise StoreFull(f"A transcript cannot be written: {error.strerror or error}.") from error

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

    def begin(self, record: StageRecord) -> TranscriptWriter:
        """Start the transcript of a stage. Raises StoreFull."""
        self._make_ready()
        return TranscriptWriter(self._path(record.stage.struct_hash()).open("xb", buffering=0), record)

    def keep(self, transcript: Transcript) -> None:
        """Write a whole transcript, in one move, over whatever was there of its stage. Raises StoreFull."""
        self._make_ready()
        path = self._path(transcript.record.stage.struct_hash())
        partial = path.with_suffix(".part")
        with TranscriptWriter(partial.open("wb", buffering=0), transcript.record) as writer:
            for step in transcript.steps:
                writer.append(step)
        partial.replace(path)

    def _make_ready(self) -> None:
        """See to it that there is a folder, and room in it. Raises StoreFull."""
        if self.size() > self.max_bytes:
            self.prune()
            if self._drop_oldest:
                self._make_room()
            if self.size() > self.max_bytes:
                raise StoreFull(
                    f"The transcripts in {self.folder} take more than {self.max_bytes} bytes: wait until the oldest "
                    "may go, or allow more."
                )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _make_room(self) -> None:
        for path in sorted(self._files(), key=lambda path: path.stat().st_mtime):
            if self.size() <= self.max_bytes:
                return
            path.unlink(missing_ok=True)

    def load(self, stage_hash: bytes, last_seq: int | None = None) -> Transcript:
        """The transcript of a stage, up to and including step `last_seq` if given. Raises NoTranscript."""
        path = self._path(stage_hash)
        try:
            frames = _frames(path.read_bytes())
            record = decode(next(frames))
            steps = tuple(step for step in map(decode, frames) if isinstance(step, AuditStep))
        except (OSError, StopIteration):
            raise NoTranscript(f"There is no transcript of stage {stage_hash.hex()}.") from None
        if not isinstance(record, StageRecord):
            raise NoTranscript(f"The file {path} is no transcript.")
        return Transcript(record, steps if last_seq is None else steps[: last_seq + 1])

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

    def latest(self, wanted: Callable[[StageRecord], bool]) -> Transcript | None:
        """The newest transcript of a stage that is `wanted`, None if there is none."""
        for path in sorted(self._files(), key=lambda path: path.stat().st_mtime, reverse=True):
            try:
                transcript = self.load(bytes.fromhex(path.stem))
            except (NoTranscript, WireError) as error:
                log.debug("passed over: %s", error)
                continue
            if transcript.steps and wanted(transcript.record):
                return transcript
        return None

    def size(self) -> int:
        """Bytes that all of them take."""
        return sum(map(_size, self._files()))

    def prune(self, now: float | None = None) -> int:
        """Delete those whose time is over (`now` in unix seconds); returns how many."""
        before = (time.time() if now is None else now) - self.keep_seconds
        old = [path for path in self._files() if path.stat().st_mtime < before]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _files(self) -> Iterator[Path]:
        return self.folder.glob("*.transcript")

    def _path(self, stage_hash: bytes) -> Path:
        return self.folder / f"{stage_hash.hex()}.transcript"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted since it was listed
        return 0


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
