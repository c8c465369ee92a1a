"""What all APIs and pages of one gateway share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hypercluster.node.gateway.metrics import GatewayMetrics

if TYPE_CHECKING:
    from hypercluster.node.gateway.keyring import Keyring
    from hypercluster.node.traffic.market import Market
    from hypercluster.node.web.login import Logins

PORT = 11535


@dataclass(eq=False, kw_only=True)
class Gateway:
    """A market behind HTTP: who may ask, and whether it is about to end."""

    market: Market
    keyring: Keyring
    logins: Logins
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    ollama_open: str | None = None
    """name of the key as which calls of Ollama's API without one count; None refuses them"""
    patience: float = 30.0
    """seconds that a request waits for a path or a free session, before it is refused"""
    started: float = field(default_factory=time.time)
    """unix seconds"""
    stopping: trio.Event = field(default_factory=trio.Event)
    """set when the process is about to end: what runs is answered with what was paid for"""
