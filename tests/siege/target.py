"""Who is attacked, in a form that another process can be told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.chain import Chain, Deployment
from hypercluster.node.network.adverts import verify_advert
from hypercluster.node.wire.codec import decode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, SignedAdvert

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.network.host import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A node that serves, and the chain that it lives on."""

    url: str
    """JSON-RPC of the chain"""
    deployment: str
    """file with the addresses of the contracts"""
    peer: str
    addrs: tuple[str, ...]
    """its multiaddrs without /p2p"""
    operator: str
    pid: int
    """of the node's process; ours where it runs in a thread"""
    home: str
    """folder of what it keeps on disk"""
    model: str
    """the model's GGUF file"""

    @classmethod
    def from_json(cls, text: str) -> Target:
        fields = json.loads(text)
        return cls(**{**fields, "addrs": tuple(fields["addrs"])})

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def chain(self) -> Chain:
        """The bindings of its contracts, the same for all who ask in this process."""
        return _chain(self.url, self.deployment)

    @property
    def address(self) -> str:
        """To join the network through."""
        return f"{self.addrs[0]}/p2p/{self.peer}"


@lru_cache(maxsize=8)
def _chain(url: str, deployment: str) -> Chain:
    return Chain(url, Deployment.load(Path(deployment)))


async def advert_of(host: Host, target: Target, seconds: float = 15.0) -> Advert:
    """What the target offers now, from itself. Raises NodeError."""
    stream = await host.open_stream(target.peer, ADVERT_PROTOCOL, target.addrs, seconds)
    try:
        signed = decode(await Frames(stream).receive(seconds))
    finally:
        await stream.close()
    assert isinstance(signed, SignedAdvert)
    return verify_advert(signed)
