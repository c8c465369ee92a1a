"""A file that is filled block by block, in any order, by whoever has a block: what is there outlives the process.

The file lies beside its later name with holes where blocks are missing; a second file says which blocks are there. A
block with a digest is taken only if it is right, and looked at again when the filling goes on later.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hypercluster.node.shards.blocks import block_hash
from hypercluster.node.shards.errors import FetchFailed

SAVE_BYTES = 64 << 20
"""fetched at most between two notes of what is there"""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of bytes of the file: `offset` and `size` in bytes, and its hash (blocks.py) where that is known."""

    offset: int
    size: int
    digest: bytes | None = None


class Filling:
    """A file of `size` bytes at `path` while it is filled.

    Args:
        of: what is filled in, so that what is left of something else is thrown away: any text.
        given: bytes outside of the blocks and where they begin, written at once.

    Raises:
        FetchFailed: the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        blocks: Sequence[Block],
        *,
        of: str,
        given: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        self.path, self.size, self.blocks = path, size, blocks
        self.part = path.with_name(f".{path.name}.part")
        self._notes = path.with_name(f".{path.name}.part.json")
        self._of = hashlib.sha256(f"{of}\n{size}\n{len(blocks)}".encode()).hexdigest()
        self._there = bytearray(len(blocks))
        self._unsaved = 0
        self._turn = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            known = self._noted()
            # What was there for something else has no block of this.
            self._file = self.part.open("r+b" if known and self.part.exists() else "w+b")
            self._file.truncate(size)
            for at, data in given:
                self._file.seek(at)
                self._file.write(data)
        except OSError as error:
            raise FetchFailed(_why(path, error)) from error
        for index in known:
            block = blocks[index]
            if block.digest is None or self._digest(block) == block.digest:
                self._there[index] = 1

    def __enter__(self) -> Filling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._save()
            self._file.close()

    def missing(self) -> list[int]:
        """The numbers of the blocks that are not there."""
        return [index for index, there in enumerate(self._there) if not there]

    def has(self, index: int) -> bool:
        """Whether a block is there."""
        return bool(self._there[index])

    @property
    def bytes_missing(self) -> int:
        """How many bytes are still to come."""
        return sum(self.blocks[index].size for index in self.missing())

    def check_room(self, more: int = 0) -> None:
        """Raise FetchFailed where the disk has no room for what is missing and `more` bytes."""
        needed, free = self.bytes_missing + more, shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise FetchFailed(
                f"{self.path.name} takes {-(-needed >> 20)} MiB more, and {self.path.parent} has {free >> 20} MiB "
                "left. Make room, or name a folder on another disk."
            )

    def put(self, index: int, data: bytes) -> bool:
        """Write a block, and say whether it was the right one; from any thread. Raises FetchFailed: no room."""
        block = self.blocks[index]
        if len(data) != block.size or (block.digest is not None and block_hash(data) != block.digest):
            return False
        try:
            with self._turn:
                self._file.seek(block.offset)
                self._file.write(data)
                self._there[index] = 1
                self._unsaved += block.size
                if self._unsaved >= SAVE_BYTES:
                    self._save()
        except OSError as error:
            raise FetchFailed(_why(self.path, error)) from error
        return True

    def finish(self) -> Path:
        """Give the file its name; all blocks must be there. Raises FetchFailed."""
        assert not self.missing(), "blocks are missing"
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.part.replace(self.path)
            self._notes.unlink(missing_ok=True)
        except OSError as error:
            raise FetchFailed(_why(self.path, error)) from error
        return self.path

    def discard(self) -> None:
        """Throw away what has come."""
        self._file.close()
        self.part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def _digest(self, block: Block) -> bytes:
        self._file.seek(block.offset)
        return block_hash(self._file.read(block.size))

    def _noted(self) -> list[int]:
        try:
            notes = json.loads(self._notes.read_bytes())
            runs = notes["there"] if notes["of"] == self._of else []
            return [index for first, stop in runs for index in range(first, min(stop, len(self.blocks)))]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _save(self) -> None:
        """Note what is there, after it is on the disk where nothing would tell later that it is not."""
        self._file.flush()
        if any(block.digest is None for block in self.blocks):
            os.fsync(self._file.fileno())
        runs: list[list[int]] = []
        for index, there in enumerate(self._there):
            if there and runs and runs[-1][1] == index:
                runs[-1][1] += 1
            elif there:
                runs.append([index, index + 1])
        fresh = self._notes.with_suffix(".new")
        fresh.write_text(json.dumps({"of": self._of, "there": runs}))
        fresh.replace(self._notes)
        self._unsaved = 0


def _why(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk is full, {path.name} does not fit: make room; what has come is kept."
    return f"{path} cannot be written: {error.strerror or error}."
