"""Ways to cheat on a link: what a provider sends on is not what it signed for, or it does not send it."""

from __future__ import annotations

from dataclasses import replace

from hypercluster.node.provider.links import Outlet
from hypercluster.node.testnet.cheats import LinkCheat
from hypercluster.node.wire.links import Rows
from hypercluster.node.wire.messages import LinkState


class CheatingOutlet(Outlet):
    """Says that it has sent rows on, and cheats in one way."""

    def __init__(self, cheat: LinkCheat, frame_bound: int) -> None:
        super().__init__(frame_bound)
        self.cheat = cheat
        self._old: Rows | None = None

    async def send(self, rows: Rows) -> bool:
        """As Outlet.send, to the one who looks on."""
        old, self._old = self._old, rows
        if self.state is not LinkState.STANDS:
            return False
        match self.cheat:
            case "forward-wrong":
                # The first half of the bytes comes last: numbers as good as any.
                half = len(rows.data) // 8 * 4
                sent = replace(rows, data=rows.data[half:] + rows.data[:half])
            case "replay-old-rows":
                fits = old is not None and len(old.data) == len(rows.data)
                sent = replace(rows, data=old.data) if old is not None and fits else rows
            case "withhold-rows" | "stall":
                self.last = rows
                return True
        done = await super().send(sent)
        self.last = rows if done else None
        return done

    def shown(self) -> Rows | None:
        """Who withholds rows shows them to nobody."""
        shown = super().shown()
        return None if self.cheat == "withhold-rows" else shown
