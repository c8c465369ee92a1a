"""A gateway while it serves."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hypercluster.node.gateway.app import application
from hypercluster.node.gateway.gateway import PORT, Gateway
from hypercluster.node.gateway.keyring import Keyring
from hypercluster.node.gateway.ollama.api import SECRET_PATHS
from hypercluster.node.gateway.sights import Sights
from hypercluster.node.web.guard import guarded
from hypercluster.node.web.login import Logins, Password
from hypercluster.node.web.serving import serve

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from hypercluster.node.traffic.market import Market

log = logging.getLogger(__name__)

LINK_FILE = "gateway.link"
"""in the home, with the secret of links to the pages"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Where a gateway listens and whom it lets near."""

    binds: tuple[str, ...] = (f"127.0.0.1:{PORT}",)
    """HOST:PORT each; port 0 takes a free one"""
    hosts: tuple[str, ...] = ()
    """names that it goes by, beside localhost and addresses"""
    origins: tuple[str, ...] = ()
    """of pages elsewhere that may use it with a key"""
    ollama_open: str | None = None
    """name of the key as which calls of Ollama's API without one count"""
    patience: float = 30.0
    """seconds that a request waits for a path or a free session"""
    keep: Path | None = None
    """file for the secret of links; None where only this process gives them out"""
    password: Password | None = None
    """whether a password is the wallet's"""


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that serves: `urls` are where, the first of them for people."""

    gateway: Gateway
    urls: tuple[str, ...]

    @property
    def base_url(self) -> str:
        """What OpenAI's SDKs call so."""
        return f"{self.urls[0]}/v1"


async def serve_gateway(
    market: Market,
    options: GatewayOptions,
    *,
    task_status: TaskStatus[RunningGateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then streams that run end with what was paid for, within two seconds.

    Raises:
        CannotServe: an address is taken, or is none of this machine.
        OSError: `keep` cannot be written.
    """
    logins = Logins(keep=options.keep, password=options.password)
    gateway = Gateway(
        market=market,
        keyring=Keyring(market.ledger, logins),
        logins=logins,
        ollama_open=options.ollama_open,
        patience=options.patience,
    )
    if options.keep is not None:
        gateway.metrics.process.stores(options.keep.parent)
    sights = Sights(gateway)
    app = guarded(
        application(gateway, sights), hosts=options.hosts, origins=options.origins, secret_paths=SECRET_PATHS
    )
    try:
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(serve, app, options.binds)
            nursery.start_soon(gateway.keyring.watch)
            nursery.start_soon(sights.watch)
            nursery.start_soon(gateway.metrics.follow, market)
            nursery.start_soon(_say_when_ending, gateway)
            logins.opened_at(urls[0])
            task_status.started(RunningGateway(gateway, urls))
    finally:
        logins.close()


async def _say_when_ending(gateway: Gateway) -> None:
    """What runs is told at once, as `serve` gives it some seconds to end by itself."""
    try:
        await trio.sleep_forever()
    finally:
        gateway.stopping.set()
