"""A path whose ends are the client's own: own layers before the providers, behind them, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.rows import TopK

if TYPE_CHECKING:
    from hypercluster.node.client.chaining import Strained
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.own_layers import OwnSession, OwnStage


class EndedPipeline(Pipeline):
    """The hops between own layers; none where these are all."""

    def __init__(self, hops: Sequence[Hop], own: OwnSession, strained: Strained) -> None:
        super().__init__(hops, strained=strained)
        self.own: OwnSession = own
        self._between = bool(hops)

    @property
    def stages(self) -> Sequence[Hop | OwnStage]:
        """The sessions in the order of their layers."""
        before, behind = (
            [each for each in self.own.stages if each.first is first] for first in (True, False)
        )
        return [*before, *self.hops, *behind]

    @property
    def position(self) -> int:
        """Tokens in the session."""
        return min(stage.position for stage in self.own.stages)

    @property
    def capacity(self) -> int:
        """Tokens that the session may hold."""
        return min([*(hop.capacity for hop in self.hops), *(stage.capacity for stage in self.own.stages)])

    @property
    def linked(self) -> bool:
        """Never: what enters and leaves the providers goes through us."""
        return False

    @property
    def rewinds(self) -> bool:
        """Whether all take a step at a position below what they hold."""
        return super().rewinds and all(stage.rewinds for stage in self.own.stages)

    def rewind(self, position: int) -> None:
        """Let the next step begin at `position`, with own layers too."""
        super().rewind(position)
        for stage in self.own.stages:
            stage.position = min(stage.position, position)

    @property
    def is_level(self) -> bool:
        """Whether all sessions hold the same tokens, own ones too, and none is missing between these."""
        if self._between and not self.hops:
            return False
        return super().is_level and all(stage.position == len(self.held) for stage in self.own.stages)

    async def run(self, tokens: Sequence[int], drafts: Sequence[int] = ()) -> TopK:
        """As that of a path without ends. Raises EngineError besides, of own layers."""
        start, ids, every = self.position, [*tokens, *drafts], bool(drafts)
        found: TopK | bytes | None = None
        for stage in self.own.stages:
            if not stage.first:
                break
            found = await stage.step(ids, len(ids), all_outputs=every)
        if self.hops:
            assert not isinstance(found, TopK)
            found = await self.through(ids, found, all_outputs=every)
        for stage in self.own.stages:
            if not stage.first:
                assert isinstance(found, bytes)
                found = await stage.step(found, len(ids), all_outputs=every)
        assert isinstance(found, TopK)
        self.held[start:] = ids
        return found[-1 - len(drafts) :]

    async def close(self) -> None:
        """End all sessions, cancelled or not."""
        self.own.close()
        await super().close()
