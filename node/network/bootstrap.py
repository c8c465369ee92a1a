"""Joining through known addresses, for as long as the node runs, and what is known of each of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import trio

from hypercluster.node.errors import NodeError, PeerUnreachable, Trouble, UnknownHost
from hypercluster.node.network.addresses import Address, joined_through
from hypercluster.node.network.host import Host
from hypercluster.node.network.names import resolve

log = logging.getLogger(__name__)

ENOUGH_TRIES = 2
"""after so many failures in a row an address counts as dead; it is tried on all the same"""

SETTLED_JOINS = 4
"""looks at a connection that holds after which its peer is taken in again, and so asked whether it lives"""

Join = Callable[[str, Sequence[str]], Awaitable[None]]
"""Takes a connected peer and the addresses it was dialled at into the network"""


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of one address to join through; `at` is when it was last tried (unix seconds)."""

    address: str
    state: Literal["trying", "joined", "failed", "self"] = "trying"
    trouble: Trouble | None = None
    failures: int = 0
    """in a row"""
    at: float = 0.0

    @property
    def dead(self) -> bool:
        """Whether it did not answer more than once, or not at all in all the time that one attempt has."""
        return self.state == "failed" and (self.failures >= ENOUGH_TRIES or self.trouble is Trouble.TIMEOUT)

    @property
    def sentence(self) -> str:
        """What to say of it, with a full stop."""
        if self.state == "failed" and self.trouble is not None:
            return f"{self.address} {self.trouble.value}."
        return (
            f"{self.address} "
            + {
                "trying": "has not answered yet.",
                "joined": "answers.",
                "self": "is this node itself.",
                "failed": "does not answer.",
            }[self.state]
        )


class Bootstrap:
    """Keeps a host joined through `addresses`, each of them tried for ever with a growing pause.

    Args:
        join: called with each peer that is connected.
        first, steady: the shortest and the longest pause, in seconds.
        dial: how long one attempt may take, in seconds.
    """

    def __init__(
        self,
        host: Host,
        addresses: Sequence[str],
        join: Join,
        *,
        first: float,
        steady: float,
        dial: float,
    ) -> None:
        self._host = host
        self._join = join
        self._first, self._steady, self._dial = first, steady, dial
        self._contacts = {text: Contact(text) for text in addresses}
        self._addresses = {text: joined_through(text) for text in addresses}

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """The state of each address now, in the order given."""
        return tuple(self._contacts.values())

    async def keep_joined(self) -> None:
        """Join through every address at once, and again when a connection is lost; never returns."""
        async with trio.open_nursery() as nursery:
            for text, address in self._addresses.items():
                nursery.start_soon(self._keep, text, address)

    async def _keep(self, text: str, address: Address) -> None:
        delay = self._first
        held = 0
        while True:
            before = self._contacts[text]
            peers = set(self._host.peers)
            try:
                reached = await self._reach(address)
                self._contacts[text] = Contact(text, "joined" if reached else "self", at=time.time())
                delay = self._steady
                if reached:
                    held = held + 1 if reached.peer in peers and before.state == "joined" else 0
                    if held % SETTLED_JOINS == 0:
                        await self._join(reached.peer, [str(reached)])
            except NodeError as error:
                trouble = error.trouble if isinstance(error, PeerUnreachable) else Trouble.NO_NODE
                if isinstance(error, UnknownHost):
                    trouble = Trouble.UNKNOWN_HOST
                log.info("cannot join through %s: %s", text, error)
                self._contacts[text] = replace(
                    before,
                    state="failed",
                    trouble=trouble,
                    failures=before.failures + 1,
                    at=time.time(),
                )
                delay = min(2 * delay, self._steady) if before.state == "failed" else self._first
            await trio.sleep(delay)

    async def _reach(self, address: Address) -> Address | None:
        """Be connected to the peer at `address` and return where; None if that is this host. Raises NodeError."""
        targets = [address] if address.kind != "dnsaddr" else await resolve(address)
        failure: NodeError | None = None
        for target in targets:
            if target.peer == self._host.peer:
                return None
            try:
                await self._host.connect(target.peer, [str(target)], self._dial)
                return target
            except NodeError as error:
                failure = failure or error
        assert failure is not None
        raise failure
