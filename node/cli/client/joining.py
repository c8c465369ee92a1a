"""A client for one command: it joins the network, works, and leaves it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hypercluster.node.cli.console import err, password, say
from hypercluster.node.cli.opening import opened, sought
from hypercluster.node.home.lock import Hold, Holder, held, lock_file, name_of
from hypercluster.node.home.resources import open_chain, open_chain_to_look
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.onlooking import Onlooker
    from hypercluster.node.client.request import Wishes

T = TypeVar("T")

ONCE = ("hc-client generate", "hc-client close")
"""commands that spend, and end when they have done so"""
BESIDE_SECONDS = 15.0
"""to wait beside a program that goes on: longer than one takes to end (node.serving.stopping)"""


@contextmanager
def wallet_held(home: Path, program: str) -> Iterator[None]:
    """Spend from the wallet of `home` alone: who comes second waits until the first has ended.

    Where one of the two only ends when it is told to, that is BESIDE_SECONDS at most: at a restart the first is about
    to. Raises HomeInUse then.
    """

    def waiting(who: Holder | None) -> float:
        seconds = math.inf if program in ONCE and who is not None and who.program in ONCE else BESIDE_SECONDS
        until = "until it has ended" if seconds == math.inf else f"{seconds:g} s for it to end"
        path = lock_file(home, Hold.WALLET)
        say(
            f"{name_of(who)} spends from the wallet of {home} and holds {path}: waiting {until}. Ctrl-C gives up.",
            err,
        )
        return seconds

    with held(home, Hold.WALLET, program, on_wait=waiting):
        yield


def with_client(
    work: Callable[[Client], Awaitable[T]],
    *,
    model: str | None,
    bootstrap: list[str] | None,
    wishes: Wishes | None = None,
    auditing: Auditing | None = None,
    draft_model: str | None = None,
    local: list[str] | None = None,
    program: str,
) -> T:
    """Run `work` with a client that has joined the network; it holds the wallet meanwhile, as `program`."""
    import trio

    from hypercluster.node.cli.client.asking import drafting_of, own_of
    from hypercluster.node.client.joining import joined
    from hypercluster.node.client.purse import purse_of

    settings = with_bootstrap(bootstrap)
    chain = open_chain(settings)
    purse = purse_of(settings.home, chain, password(settings))
    with wallet_held(settings.home, program):
        stored = opened(model, settings)
        drafting = drafting_of(draft_model, settings)
        if drafting is not None:
            drafting.check([stored])
        own = own_of(local)
        if own is not None:
            own.of(stored)

        async def main() -> T:
            async with joined(
                settings, chain, stored, purse, wishes=wishes, auditing=auditing, drafting=drafting, own=own
            ) as client:
                return await work(client)

        return trio.run(main)


def with_onlooker(
    work: Callable[[Onlooker], Awaitable[T]],
    *,
    model: str | None,
    bootstrap: list[str] | None,
    wishes: Wishes | None = None,
) -> tuple[T, str]:
    """Run `work` with somebody who only looks, without keys; also why what is seen was not checked against stake."""
    import trio

    from hypercluster.node.client.onlooking import looking_on

    settings = with_bootstrap(bootstrap)
    chain, why = open_chain_to_look(settings)
    wanted = sought(model, settings)

    async def main() -> T:
        async with looking_on(settings, wanted, chain, wishes) as onlooker:
            return await work(onlooker)

    return trio.run(main), why


def say_unchecked(why: str) -> None:
    """Say that nobody asked the chain whether a stake is behind the adverts, if that is so."""
    if why:
        say(f"Not checked against stake, so anybody may have made these adverts. {why}", err)


def with_bootstrap(bootstrap: list[str] | None) -> Settings:
    """The settings, to join through the nodes named rather than those that they name."""
    from hypercluster.node.network.addresses import through

    settings = Settings()
    return settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
