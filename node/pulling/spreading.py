"""Work that is shared out among peers: each does what it has the tensors for, and what one leaves another takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from hypercluster.node.errors import NodeError
from hypercluster.node.network.host import Host
from hypercluster.node.pulling.asking import Asker, Lied, Refused, Whereabouts, asking
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.wire.blocks import Held

log = logging.getLogger(__name__)

Peers = Callable[[], Mapping[str, Whereabouts]]
"""whom there is to ask now, by peer id"""
CONVERSATIONS = 2
"""with one peer at a time: while one block is hashed and written, another is on its way"""
LOOK_SECONDS = 0.2
REST_SECONDS = 1.0
"""before a peer that failed is asked again; it doubles"""
MOST_FAILURES = 4
"""of one peer without a job done between them"""


class Job(Protocol):
    """Something to ask a peer for."""

    @property
    def tensor(self) -> str:
        """The tensor of the model that a peer needs to have for it; empty for what all have."""


J = TypeVar("J", bound=Job)


class Spread(Generic[J]):
    """Jobs on their way to whoever can do them.

    Args:
        do: does a job with a peer; NodeError leaves it to another, Lied has that peer asked no more.
        patience: seconds for which nobody can do what is left before it is given up.
    """

    def __init__(
        self,
        host: Host,
        peers: Peers,
        model_id: str,
        jobs: Sequence[J],
        do: Callable[[Asker, J], Awaitable[None]],
        patience: float = 60.0,
    ) -> None:
        self._host, self._peers, self._model_id = host, peers, model_id
        self._todo, self._doing = list(jobs), 0
        self._do, self._patience = do, patience
        self._at_work: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._why: dict[str, str] = {}
        self._out: set[str] = set()
        self._fatal: FetchFailed | None = None
        self._moved = trio.Event()
        """a job has come to an end since it was last looked"""

    async def run(self) -> None:
        """Return when all jobs are done. Raises FetchFailed: nobody does what is left."""
        moved = trio.current_time()
        left = len(self._todo)
        async with trio.open_nursery() as nursery:
            while (self._todo or self._doing) and self._fatal is None:
                for peer, where in self._peers().items():
                    if peer in self._out or peer == self._host.peer:
                        continue
                    while self._at_work[peer] < min(CONVERSATIONS, len(self._todo)):
                        self._at_work[peer] += 1
                        nursery.start_soon(self._work, peer, where)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._moved.wait()
                self._moved = trio.Event()
                if len(self._todo) + self._doing != left or self._doing:
                    left, moved = len(self._todo) + self._doing, trio.current_time()
                elif trio.current_time() > moved + self._patience:
                    break
            nursery.cancel_scope.cancel()
        if self._fatal is not None:
            raise self._fatal
        if self._todo:
            raise FetchFailed(self._excuse())

    def _excuse(self) -> str:
        told = "; ".join(list(self._why.values())[:3]) or "nobody who serves the model was found"
        return (
            f"Nobody gives {self._todo[0].tensor} of the model {self._model_id[:16]} now, nor {len(self._todo) - 1} "
            f"other parts ({told}). What has come is kept: try again when more peers are there."
        )

    async def _work(self, peer: str, where: Whereabouts) -> None:
        try:
            while (self._todo or self._doing) and peer not in self._out:
                try:
                    async with asking(self._host, peer, where, self._model_id) as asker:
                        await self._converse(asker)
                except FetchFailed as error:  # here, and of no peer's making: a full disk
                    self._fatal = error
                    return
                except Lied as error:
                    self._out.add(peer)
                    self._why[peer] = str(error)
                    log.warning("%s It is asked no more.", error)
                except NodeError as error:
                    log.info("%s", error)
                    self._why[peer] = str(error)
                    self._failures[peer] += 1
                    wait = error.wait if isinstance(error, Refused) else REST_SECONDS
                    if self._failures[peer] >= MOST_FAILURES or not wait:
                        self._out.add(peer)
                        return
                    await trio.sleep(max(wait, REST_SECONDS * 2 ** (self._failures[peer] - 1)))
        finally:
            self._at_work[peer] -= 1

    async def _converse(self, asker: Asker) -> None:
        held = await asker.held()
        while self._todo or self._doing:
            index = next((at for at, job in enumerate(self._todo) if _has(held, job.tensor)), None)
            if index is None:
                await trio.sleep(LOOK_SECONDS)
                continue
            job = self._todo.pop(index)
            self._doing += 1
            done = False
            try:
                await self._do(asker, job)
                done = True
                self._failures[asker.peer] = 0
            finally:
                self._doing -= 1
                if not done:
                    self._todo.insert(0, job)
                self._moved.set()


def _has(held: Held, tensor: str) -> bool:
    if not tensor:
        return True
    if tensor.startswith("blk."):
        number = tensor.split(".", 2)[1]
        layer = int(number) if number.isdecimal() else -1
        return any(start <= layer < stop for start, stop in held.layers)
    return tensor in held.outside
