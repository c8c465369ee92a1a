"""What every paid node runs by, and who it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hypercluster.market.chain import Sender
from hypercluster.market.money.claiming import ClaimRule


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTerms:
    """Where a node shows how it stands over HTTP: HOST:PORT, names that it goes by, and the file of its links."""

    binds: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    link_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTerms:
    """How a node is reached, announced and paid: the operator's to choose. Times in seconds."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    announce: tuple[str, ...] = ()
    """told to others instead of what is listened on"""
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    peers_file: Path | None = None
    """where peers and adverts are remembered for the next start; nowhere if None"""
    refresh_seconds: float = 20.0
    """between adverts; one lives for three of these"""
    claim_seconds: float = 60.0
    claim: ClaimRule = field(default_factory=ClaimRule)
    watch_seconds: float = 2.0
    """between looks at the chain"""
    http: HttpTerms | None = None
    """no listener if None"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallets:
    """Who a node is: the hot node key (32 bytes), the operator that is paid, and the account that sends for it."""

    node_key: bytes
    operator: str
    sender: Sender
