"""A client for one command: it joins the network, works, and leaves it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hypercluster.node.cli.console import err, password, say
from hypercluster.node.cli.opening import opened
from hypercluster.node.home.lock import Hold, Holder, held
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.request import Wishes

T = TypeVar("T")


@contextmanager
def wallet_held(home: Path, program: str) -> Iterator[None]:
    """Spend from the wallet of `home` alone: who comes second waits until the first has ended."""

    def waiting(who: Holder | None) -> None:
        name = f"{who.program} (pid {who.pid})" if who else "Another process"
        say(f"{name} spends from the wallet of {home}: waiting until it has ended. Ctrl-C gives up.", err)

    with held(home, Hold.WALLET, program, patience=math.inf, on_wait=waiting):
        yield


def with_client(
    work: Callable[[Client], Awaitable[T]],
    *,
    model: str | None,
    bootstrap: list[str] | None,
    wishes: Wishes | None = None,
    auditing: Auditing | None = None,
    paying: str = "",
) -> T:
    """Run `work` with a client that has joined the network.

    Only one that pays needs keys; it holds the wallet meanwhile, under the name `paying`.
    """
    import trio

    from hypercluster.node.client.joining import joined
    from hypercluster.node.client.purse import empty_purse, purse_of
    from hypercluster.node.network.addresses import through

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    chain = open_chain(settings)
    purse = purse_of(settings.home, chain, password(settings)) if paying else empty_purse()
    with wallet_held(settings.home, paying) if paying else nullcontext():
        stored = opened(model, settings)

        async def main() -> T:
            async with joined(
                settings, chain, stored, purse, wishes=wishes, auditing=auditing, reading=bool(paying)
            ) as client:
                return await work(client)

        return trio.run(main)
