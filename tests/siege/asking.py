"""Requests through our whole client, as a gateway makes them: many at once over one wallet, on paths that it finds."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from hypercluster.market.money.units import HCT
from hypercluster.node.client.client import Client
from hypercluster.node.client.events import Finished, Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import Purse as ClientPurse
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.errors import NodeError
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import open_model
from tests.siege.honest import PROMPT, TOKENS, Crowd, Seen, crowd
from tests.siege.paying import Purse
from tests.siege.target import Target

GIVE_UP_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How one request went."""

    ok: bool
    """whether all of its tokens came"""
    billed: bool
    """whether it ended with a bill, as every request must"""
    seconds: float
    first_token_seconds: float
    """0 where none came"""
    failures: tuple[str, ...]
    """peers that were left on the way"""
    paid_wei: int
    risked_wei: int
    """that providers may claim without having answered"""
    why: str
    """the error's name, empty without one"""


@asynccontextmanager
async def gateway(target: Target, home: Path, *others: Target) -> AsyncIterator[Client]:
    """A client with a ledger of its own in `home` that joins through the targets. Raises NodeError, MarketError."""
    paying = await trio.to_thread.run_sync(Purse.filled, target)
    home.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        home=home,
        rpc_url=target.url,
        deployment=Path(target.deployment),
        bootstrap=tuple(each.address for each in (target, *others)),
    )
    purse = ClientPurse(
        session_key=secrets.token_bytes(32), wallet=paying.sender.address, unlock=lambda: paying.sender
    )
    stored = open_model(Path(target.model), Path(target.deployment).parent / "models")
    async with joined(settings, target.chain, stored, purse) as client:
        client.wishes = replace(client.wishes, deposit_wei=HCT // 100)
        yield client


async def ask(client: Client, key: str = "") -> Asked:
    """One request to its end, whatever that is."""
    request = Request(prompt=PROMPT, allowance=Allowance(tokens=TOKENS))
    start = time.perf_counter()
    first, finished = 0.0, None
    with trio.move_on_after(GIVE_UP_SECONDS):
        async with client.complete(request, key) as completing:
            async for event in completing:
                if isinstance(event, Token) and not first:
                    first = time.perf_counter() - start
                if isinstance(event, Finished):
                    finished = event
    done = completing.completion
    return Asked(
        ok=finished is not None and finished.error is None and len(done.tokens) == TOKENS,
        billed=finished is not None,
        seconds=time.perf_counter() - start,
        first_token_seconds=first,
        failures=tuple(done.failures),
        paid_wei=done.spent_wei,
        risked_wei=done.risked_wei,
        why=type(finished.error).__name__ if finished and finished.error else "",
    )


@dataclass(frozen=True, eq=False, slots=True)
class Asker:
    """Somebody behind a gateway. A session is a request; what it opens is not told apart."""

    client: Client
    key: str

    async def session(self, seen: Seen) -> None:
        """Ask once. Raises Unanswered where not all tokens came."""
        asked = await ask(self.client, self.key)
        if not asked.ok:
            raise Unanswered(asked.why or "gave up")
        seen.sessions += 1
        seen.first_ms.append(1000 * asked.first_token_seconds)


class Unanswered(NodeError):
    """A request ended before its time."""


@asynccontextmanager
async def mixed_crowd(target: Target, payers: int = 2, askers: int = 2) -> AsyncIterator[Crowd]:
    """Payers with a session at a time each, and askers behind one gateway, who all have been served before."""
    home = Path(target.deployment).parent / f"gateway-{secrets.token_hex(4)}"
    async with crowd(target, payers) as plain, gateway(target, home) as client:
        behind = [Asker(client, str(index)) for index in range(askers)]
        with trio.fail_after(300):
            while not client.adverts():
                await trio.sleep(0.05)
        for one in behind:
            await one.session(Seen())
        yield Crowd(target, [*plain.payers, *behind])


async def ask_many(client: Client, count: int, at_once: int) -> Sequence[Asked]:
    """`count` requests, so many at a time."""
    found: list[Asked] = []
    limit = trio.CapacityLimiter(at_once)

    async def one() -> None:
        async with limit:
            found.append(await ask(client))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return found
