"""A provider reads its shard again while it serves it, and stops where the file is not what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from hypercluster.node.shards import ShardError
from hypercluster.node.shards.rereading import Rereading
from hypercluster.node.shards.store import StoredModel

REREAD_SECONDS = 60.0
REREAD_BLOCKS = 32
"""of a MiB each at a time: a thousandth of a core, and a shard of 40 GB once in a day"""


class ShardRereading:
    """`look` reads some of the shard of layers [start, stop); `on_rot` is called once what is read is wrong.

    `rot` is why, from then on.
    """

    def __init__(self, stored: StoredModel, shard: Path, start: int, stop: int) -> None:
        self._stored, self._shard, self._range = stored, shard, (start, stop)
        self._rereading: Rereading | None = None
        self.rot = ShardError("")
        self.on_rot: Callable[[], object] = lambda: None

    async def look(self) -> None:
        """Read some of it, in a thread."""
        try:
            await trio.to_thread.run_sync(self._look)
        except ShardError as error:
            self.rot = type(error)(
                f"{error} It was good when it was loaded, so the disk rots or somebody wrote to it: serving ends here. "
                "At the next start the shard is made again where the whole model is at hand."
            )
            self.on_rot()

    def _look(self) -> None:
        if self._rereading is None:
            start, stop = self._range
            self._rereading = Rereading(
                self._shard, self._stored.manifest, start, stop, self._stored.block_hashes()
            )
        self._rereading.look(REREAD_BLOCKS)
