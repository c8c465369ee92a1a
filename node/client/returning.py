"""What a completion may begin with: sessions that an earlier request left, or those of another answer to its prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypercluster.node.client.siblings import stem_of
from hypercluster.node.client.stays import LEAST_SHARED, ComingBack, parked_path, way_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.needs import Needs
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.client.siblings import Siblings
    from hypercluster.node.client.stays import ParkedPath
    from hypercluster.node.rows import TopK


class Returning:
    """The path that a completion of one `key` may go back to, and those that it leaves to be gone back to.

    Args:
        siblings: the other answers to its prompt, if there are any.
    """

    def __init__(
        self, client: Client, wishes: Wishes, done: Completion, key: str, siblings: Siblings | None
    ) -> None:
        self._client, self._wishes, self._done, self._key = client, wishes, done, key
        self._siblings = siblings
        self._parked: ParkedPath | None = None
        """that would be gone back to"""
        if siblings is not None:
            siblings.join(self)

    async def remember(self) -> None:
        """See whether there is a path that holds what the prompt begins with, once another answer has run it."""
        if self._siblings is not None and (stem := await self._siblings.stem(self)) is not None:
            self._parked = stem
        elif self._wishes.stays:
            self._parked = self._client.stays.take(self._key, self._wishes, self._done.prompt)

    async def way(self, needs: Needs, out: set[str]) -> Path | None:
        """The path to go back to, without the peers in `out`; None where there is none."""
        if self._parked is None:
            return None
        client = self._client
        return await way_back(client.chooser, client.network.discovery.book, self._parked, needs, out)

    def settled(self, wishes: Wishes) -> Wishes:
        """What is wished of the path to go back to: that rows travel over it as before."""
        dtype = self._parked.wire_dtype if self._parked is not None else None
        return wishes if dtype is None else replace(wishes, wire_dtype=dtype)

    def begin(self, taken: Path, tokens: Sequence[int]) -> ComingBack | None:
        """How `tokens` are begun with over a path that is taken now, if it is the one to go back to."""
        parked = self._parked
        if parked is None or tuple(taken.ids) != tuple(parked.stays):
            return None
        return ComingBack(parked, tuple(tokens[: parked.shared(tokens)]))

    def begins(self) -> None:
        """Note that the sessions of the path to go back to are about to be opened: that is done once."""
        self._parked = None

    def opened(self) -> None:
        """Note that the sessions of a path are open."""
        if self._siblings is not None and self._siblings.has_stem:
            self._siblings.leaves(self)

    def ran(self, pipeline: Pipeline, best: TopK) -> None:
        """Note that the prompt was run, with these logits behind it, [1, k]: others may begin with it."""
        if self._siblings is not None and self._siblings.wait_for(self):
            stem = stem_of(pipeline, self._key, self._wishes, self._done.prompt, best)
            self._siblings.ran(self, stem)

    async def leave(self, pipeline: Pipeline) -> None:
        """End the sessions of a path, or have them kept in case that the same key goes on with it, or that copies of
        them are still wanted.
        """
        wanted = self._siblings is not None and self._siblings.want(self)
        if not (self._wishes.stays or wanted):
            await pipeline.close()
            return
        parked = await parked_path(pipeline, self._key, self._wishes, 1 if wanted else LEAST_SHARED)
        if parked is not None and self._wishes.stays:
            self._client.stays.put(parked)
        elif parked is not None:
            parked.close()

    @property
    def others_ran(self) -> bool:
        """Whether the prompt has another answer, which has run it."""
        return self._siblings is not None and self._siblings.has_run

    def give_up(self) -> None:
        """Leave the path that was not gone back to to others."""
        if self._parked is not None and self._parked.best is None:
            self._client.stays.put(self._parked)
        self._parked = None

    def end(self) -> None:
        """Note that the completion has ended."""
        if self._siblings is not None:
            self._siblings.leaves(self)
