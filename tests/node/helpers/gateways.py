"""A gateway over real providers, in a thread of this process, and how tests speak to it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import ApiKeyRow
from hypercluster.market.ledger.requests import RequestDetail
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.request import Wishes
from hypercluster.node.gateway.gateway import Gateway
from hypercluster.node.gateway.running import GatewayOptions, RunningGateway, serve_gateway
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.traffic.entries import NamedModel
from hypercluster.node.traffic.market import Market
from hypercluster.node.traffic.opening import open_market
from tests.node.helpers.providers import Served, Wallet, new_wallet, running_provider

T = TypeVar("T")
TERMS: dict[str, Any] = {"sessions": 4, "session_tokens": 1024, "step_tokens": 64, "refresh_seconds": 5.0}
MODEL, ALIAS = "tiny-chat", "tiny"


@dataclass(eq=False)
class FrontDoor:
    """A gateway that serves; `key` is the text of a key without bounds."""

    running: RunningGateway
    providers: tuple[Served, ...]
    wallet: Wallet
    home: Path
    token: trio.lowlevel.TrioToken
    stop: trio.CancelScope
    key: str = ""
    _clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT"""
        return self.running.urls[0]

    @property
    def base_url(self) -> str:
        """The same with /v1."""
        return self.running.base_url

    @property
    def gateway(self) -> Gateway:
        return self.running.gateway

    @property
    def market(self) -> Market:
        return self.gateway.market

    def new_key(self, name: str, **bounds: Any) -> tuple[ApiKeyRow, str]:
        """A key as `hc-gateway keys create` makes it."""
        return self.market.ledger.api_keys.create(name, **({"budget": None} | bounds))

    def http(self, key: str | None = None, **how: Any) -> httpx.Client:
        """A client with a key, closed with the gateway."""
        headers = {"authorization": f"Bearer {key or self.key}"} | how.pop("headers", {})
        client = httpx.Client(base_url=self.base_url, headers=headers, timeout=600, **how)
        self._clients.append(client)
        return client

    def inside(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an asynchronous function in the gateway's own loop."""
        return trio.from_thread.run(function, *arguments, trio_token=self.token)

    def row(self, request_id: str) -> RequestDetail:
        """What the ledger has of a request."""
        found = self.market.ledger.requests.one(request_id)
        assert found is not None
        return found

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()


@contextmanager
def running_gateway(
    chain: Chain,
    stored: StoredModel,
    home: Path,
    *,
    ranges: Sequence[tuple[int, int]] = ((0, 2), (2, 4)),
    terms: dict[str, Any] | None = None,
    wallet: Wallet | None = None,
    providers: Sequence[Served] = (),
    auditing: Auditing | None = None,
    wishes: Wishes | None = None,
    **options: Any,
) -> Iterator[FrontDoor]:
    """A gateway over providers of `ranges`, or over those given; `options` are those of GatewayOptions."""
    wallet = wallet or new_wallet(chain)
    with ExitStack() as stack:
        served = [
            *providers,
            *(
                stack.enter_context(
                    running_provider(
                        chain, stored, home / f"provider-{index}", layers, **(TERMS | (terms or {}))
                    )
                )
                for index, layers in enumerate(() if providers else ranges)
            ),
        ]
        settings = Settings(home=home, bootstrap=tuple(each.address for each in served))
        chosen = GatewayOptions(**({"binds": ("127.0.0.1:0",)} | options))
        started = threading.Event()
        found: list[FrontDoor] = []

        async def main() -> None:
            with trio.CancelScope() as scope:
                async with (
                    open_market(
                        settings,
                        chain,
                        wallet.purse,
                        [NamedModel(MODEL, stored, (ALIAS,))],
                        wishes=wishes,
                        auditing=auditing,
                    ) as market,
                    trio.open_nursery() as nursery,
                ):
                    while market.model().coverage < 1:
                        await trio.sleep(0.05)
                    running = await nursery.start(partial(serve_gateway, market, chosen))
                    found.append(
                        FrontDoor(
                            running, tuple(served), wallet, home, trio.lowlevel.current_trio_token(), scope
                        )
                    )
                    started.set()

        def work() -> None:
            try:
                trio.run(main)
            finally:
                started.set()

        thread = threading.Thread(target=work, name="gateway", daemon=True)
        thread.start()
        assert started.wait(300)
        assert found, "the gateway did not start"
        door = found[0]
        _, door.key = door.new_key("everything")
        try:
            yield door
        finally:
            door.close()
            if thread.is_alive():
                door.token.run_sync_soon(door.stop.cancel)
                thread.join(300)
            assert not thread.is_alive()
