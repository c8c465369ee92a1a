"""Connections of strangers are read by turns: what they send costs this node time, and nothing else does."""

from __future__ import annotations

from typing import Any

from libp2p.abc import ISecureConn

from hypercluster.node.network.strangers import Charge


class PacedConn:
    """A secured connection that is read when it is its turn; else the connection itself.

    The muxer reads twice for each frame, whatever the frame is for. Who sends too much is not refused: its own
    connection fills up and it has to wait.
    """

    def __init__(self, inner: ISecureConn, charge: Charge) -> None:
        self._inner = inner
        self._charge = charge

    async def read(self, n: int | None = None) -> bytes:
        """What the connection gives, a while later for a stranger that sent much."""
        data = await self._inner.read(n)
        await self._charge.owner.turn(self._charge)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
