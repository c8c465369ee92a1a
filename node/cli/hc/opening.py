"""A market with a gateway in front of it, open until Ctrl-C, and a key that the next run gives out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import LedgerError
from hypercluster.node.cli.client.asking import auditing_of, wishes_of
from hypercluster.node.cli.client.joining import wallet_held
from hypercluster.node.cli.console import err, say
from hypercluster.node.cli.gateway.running import is_password
from hypercluster.node.cli.hc.door import KEY, kept_key, open_door, write_privately
from hypercluster.node.gateway.running import LINK_FILE, GatewayOptions, serve_gateway
from hypercluster.node.serving.stopping import until_signal
from hypercluster.node.traffic.connecting import connect

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.traffic.entries import NamedModel
    from hypercluster.node.traffic.market import Market

NAME = "hc up"
"""of the key"""
PATH_SECONDS, TELL_SECONDS = 60.0, 10.0
AUDIT_RATE, TRAP_RATE = 0.25, 0.1


@dataclass(frozen=True, slots=True)
class Opened:
    """What is told when people and programs may come in."""

    link: str
    base_url: str
    key: str
    market: Market


def serve_until_signal(
    home: Path,
    settings: Settings,
    models: Sequence[NamedModel],
    *,
    password: str,
    port: int,
    budget: int | None,
    on_open: Callable[[Opened], None],
    beside: Callable[[], object] = lambda: None,
    before_end: Callable[[], None] = lambda: None,
) -> None:
    """Serve until Ctrl-C, SIGTERM or the end of the terminal.

    Args:
        home: where commands of the same user look for the door.
        settings: of the client that pays; its home has the ledger, and its wallet is held meanwhile.
        password: of its keys.
        budget: of a key that is made now, wei; None for none of its own.
        beside: done every second meanwhile.
        before_end: done if the process has to end at once.

    Raises:
        CannotServe: the port is taken.
        NodeError, MarketError: the network cannot be joined.
    """
    options = GatewayOptions(
        binds=(f"127.0.0.1:{port}",),
        keep=settings.home / LINK_FILE,
        password=partial(is_password, settings.home),
    )
    connection = connect(
        models=models,
        password=password,
        wishes=wishes_of(0.5, stays=True),
        auditing=auditing_of(AUDIT_RATE, "auto", TRAP_RATE, False),
        settings=settings,
        wallet_held=True,
    )

    async def main() -> None:
        async with (
            until_signal(before_end),
            connection as market,
            trio.open_nursery() as nursery,
        ):
            await _path(market)
            running = await nursery.start(partial(serve_gateway, market, options))
            key = _key(market.ledger, home, budget)
            with open_door(home, running.base_url, key, tuple(each.name for each in market.models())):
                on_open(Opened(running.gateway.logins.one_time_link(), running.base_url, key, market))
                while True:
                    beside()
                    await trio.sleep(1)

    with wallet_held(settings.home, "hc up"):
        trio.run(main)


async def _path(market: Market) -> None:
    """Wait until the model is served, and not for ever: the pages show what is missing."""
    began, told = trio.current_time(), False
    while market.model().price_wei is None and (waited := trio.current_time() - began) < PATH_SECONDS:
        if waited > TELL_SECONDS and not told:
            told = True
            say(
                f"Nobody is found yet who serves all layers of {market.model().name}; "
                f"looking for {PATH_SECONDS:.0f} s before the door opens without.",
                err,
            )
        await trio.sleep(0.05)


def _key(ledger: Ledger, home: Path, budget: int | None) -> str:
    """The text of the last run's key where it still counts, or can count again; else of a new one."""
    text = kept_key(home)
    row = ledger.api_keys.by_text(text) if text else None
    if text and row is not None and not row.refusal(datetime.now(UTC)):
        return text
    if row is not None:
        text = None
    with suppress(LedgerError):
        ledger.api_keys.revoke(NAME)  # one whose text is lost
    _, text = ledger.api_keys.create(NAME, budget=budget, text=text)
    write_privately(home / KEY, text + "\n")
    return text
