"""The shards that audits run on: cut when one is needed, the longest unused ones deleted to stay within bytes.

They stand in a folder of their own beside the model's shards, so nothing is ever deleted that a provider serves from.
Which was used last is in the date of the file, so it is known after a restart too.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.shards import shard_bytes
from hypercluster.node.shards.store import StoredModel

FOLDER = "audited"
HEADER_BYTES = 1 << 16
"""more than any shard has beside its tensors: it repeats no vocabulary"""
LEFT_OVER_SECONDS = 3600.0
"""after which a file that was never finished belongs to nobody"""


class ShelfFull(NodeError):
    """The shards in use leave no room for another one, or it alone is more than may be kept."""

    code = ErrorCode.FULL


class Shelf:
    """The shards of one model for audits, `max_bytes` of them on disk; for one thread at a time.

    A folder of shards without the whole model is used as it is: nothing is cut there and nothing deleted.

    Args:
        max_bytes: twice the model if not given.
    """

    def __init__(self, stored: StoredModel, max_bytes: int | None = None) -> None:
        self.stored = stored
        self._cut = replace(stored, folder=stored.folder / FOLDER)
        whole = self._needed(0, stored.manifest.layers)
        self.max_bytes = 2 * whole if max_bytes is None else max_bytes
        if self.max_bytes < whole:
            raise ShelfFull(
                f"Audits of this model need {whole} bytes on disk for its shards and {self.max_bytes} are allowed: "
                "allow more with --keep-shards."
            )
        self._held: Counter[Path] = Counter()
        self._tidy()

    def has(self, start: int, stop: int) -> bool:
        """Whether the shard of layers [start, stop) is on disk already."""
        return any(model.shard_path(start, stop).exists() for model in (self.stored, self._cut))

    def take(self, start: int, stop: int) -> Path:
        """The checked file of layers [start, stop), cut now if need be, which stays until `give_back`.

        Raises:
            ShelfFull: what is held leaves no room.
            ModelMissing, ShardError: see StoredModel.shard.
        """
        if not self.stored.whole or self.stored.shard_path(start, stop).exists():
            return self.stored.shard(start, stop)
        if not self._cut.shard_path(start, stop).exists():
            self._make_room(self._needed(start, stop), start, stop)
        path = self._cut.shard(start, stop)
        path.touch()
        self._held[path] += 1
        return path

    def give_back(self, path: Path) -> None:
        """Say that a file which `take` gave is used no more."""
        self._held -= Counter([path])

    def size(self) -> int:
        """Bytes on disk of what was cut here."""
        return sum(path.stat().st_size for path in self._files())

    def _needed(self, start: int, stop: int) -> int:
        stored = self.stored
        return shard_bytes(stored.manifest.blueprint, start, stop) + HEADER_BYTES if stored.whole else 0

    def _make_room(self, needed: int, start: int, stop: int) -> None:
        if not self._shrink(self.max_bytes - needed):
            raise ShelfFull(
                f"The shard of layers [{start}, {stop}) needs {needed} bytes, and of the {self.max_bytes} that "
                "--keep-shards allows the others are in use."
            )

    def _tidy(self) -> None:
        """Delete what a run that was killed left half written, and what a smaller bound no longer holds."""
        before = time.time() - LEFT_OVER_SECONDS
        for path in self._cut.folder.glob(".*.part"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
        self._shrink(self.max_bytes)

    def _shrink(self, most: int) -> bool:
        """Delete the longest unused until they take `most` bytes; say whether that could be had."""
        for path in sorted(self._files(), key=lambda path: path.stat().st_mtime):
            if self.size() <= most:
                break
            if not self._held[path]:
                path.unlink(missing_ok=True)
        return self.size() <= most

    def _files(self) -> list[Path]:
        return list(self._cut.folder.glob("layers-*.gguf"))
