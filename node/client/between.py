"""The layers between those that a client runs itself: how offers of them are counted from 0, and told as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypercluster.market.economics.routing import Path

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.graph import Node

NOTHING = Path((), 0.0, 0, 0, 0.0)
"""the path of who runs all layers itself"""


@dataclass(frozen=True, slots=True)
class Between:
    """Layers [start, stop) of a model of `whole` layers, which providers are asked for."""

    start: int
    stop: int
    whole: int

    @property
    def layers(self) -> int:
        """How many there are."""
        return self.stop - self.start

    def within(self, adverts: Iterable[Advert]) -> list[Advert]:
        """Those of layers that lie between, counted from the first of these."""
        inside = [a for a in adverts if self.start <= a.layer_start and a.layer_stop <= self.stop]
        if not self.start:
            return inside
        return [
            replace(a, layer_start=a.layer_start - self.start, layer_stop=a.layer_stop - self.start)
            for a in inside
        ]

    def told(self, nodes: Iterable[Node]) -> list[Node]:
        """Nodes of such adverts with the layers that they have."""
        if not self.start:
            return list(nodes)
        return [replace(node, start=node.start + self.start, stop=node.stop + self.start) for node in nodes]

    @property
    def own(self) -> list[tuple[int, int]]:
        """The others."""
        return [(a, b) for a, b in ((0, self.start), (self.stop, self.whole)) if a < b]

    @property
    def note(self) -> str:
        """What to say besides where nobody serves them."""
        asked = f" You run the others yourself, so of providers layers {self.start}:{self.stop} are asked, and no more."
        return asked if self.own else ""

    def ranges(self, adverts: Collection[Advert]) -> list[tuple[int, int]]:
        """The layers of such adverts as they are."""
        return [(a.layer_start + self.start, a.layer_stop + self.start) for a in adverts]
