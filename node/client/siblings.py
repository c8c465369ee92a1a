"""Several answers to one prompt: one of them runs it, and the others begin with copies of what its sessions hold.

Each copy is a session of its own, with its own receipts and bill, and goes on by itself. Where there can be none, as at
providers that make none, each answer runs the prompt as if it were alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.kept import NotKept
from hypercluster.node.client.stays import ParkedPath, Stay, is_dear, is_short
from hypercluster.node.wire.messages import BRANCH, MOST_INHERITED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.rows import TopK


class Siblings:
    """Requests that differ in nothing but how their tokens are drawn, and run at the same time. Each joins when it is
    made; all are made before any of them runs.
    """

    def __init__(self) -> None:
        self._waiting: set[object] = set()
        """who may still want a copy"""
        self._eldest: object | None = None
        self._stem: ParkedPath | None = None
        self._known = False
        self._news = trio.Event()

    def join(self, member: object) -> None:
        """Count a request in; it `leaves` when it has what it wanted, or has ended."""
        self._waiting.add(member)

    async def stem(self, member: object) -> ParkedPath | None:
        """What a request may begin with, once that is known; None: it is to run the prompt itself.

        The first one that asks gets None at once, and the others wait for it.
        """
        while not self._known:
            if self._eldest is None:
                self._eldest = member
                return None
            await self._news.wait()
        return self._stem

    def wait_for(self, member: object) -> bool:
        """Whether the others wait for this one to run the prompt."""
        return member is self._eldest and not self._known

    def ran(self, member: object, stem: ParkedPath | None) -> None:
        """Note that the one that is waited for has run the prompt, and with what the others may begin, if they may."""
        self._stem, self._known = stem, True
        self._waiting.discard(member)
        self._tell()

    def leaves(self, member: object) -> None:
        """Note that a request wants no copy any more. Where it was to run the prompt and did not, another one does."""
        self._waiting.discard(member)
        if self.wait_for(member):
            self._eldest = None
            self._tell()

    @property
    def has_run(self) -> bool:
        """Whether one of them has run the prompt."""
        return self._known

    @property
    def has_stem(self) -> bool:
        """Whether there is, or was, something that others may begin with."""
        return self._stem is not None

    def want(self, member: object) -> bool:
        """Whether others may still begin with what this one's sessions hold."""
        return self._stem is not None and member is self._eldest and bool(self._waiting)

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


def stem_of(
    pipeline: Pipeline, key: str, wishes: Wishes, prompt: Sequence[int], best: TopK
) -> ParkedPath | None:
    """The sessions of a path as they stand, for others to begin with; None where one of them is not to be copied.

    They have run the `prompt`, and maybe guesses behind it; `best` are the logits behind it, [1, k].
    """
    if pipeline.own is not None or tuple(pipeline.held[: len(prompt)]) != tuple(prompt):
        return None
    stays: dict[str, Stay] = {}
    for hop in pipeline.hops:
        if BRANCH not in hop.advert.features or is_dear(hop.advert) or not is_short(hop):
            return None
        try:
            origin = hop.origin()
        except NotKept:
            return None
        if not 0 < origin.count <= MOST_INHERITED:
            return None
        rows = hop.rows_before + hop.tokens
        stays[hop.advert.peer] = Stay(hop.record, hop.receipts, None, rows, 0, origin)
    return ParkedPath(
        key=key,
        wishes=wishes,
        tokens=tuple(prompt),
        stays=stays,
        rewinds=True,
        until=math.inf,
        best=best,
    )
