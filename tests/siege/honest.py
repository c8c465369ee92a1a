"""Honest payers: short paid sessions one after the other with our own client's code, and what they get of the node."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

import psutil  # type: ignore[import-untyped]
import trio

from hypercluster.market.advert import Advert
from hypercluster.market.errors import MarketError
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.hop import Hop
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.rows import WireDtype
from tests.node.helpers.providers import FREE
from tests.siege.paying import Purse
from tests.siege.target import Target, advert_of

PROMPT = (1, 2, 3)
TOKENS = 8
"""of one session, after the prompt"""
THINK_SECONDS = 0.25
"""between two sessions of one payer: people read what they got, and the machine has time for attackers"""
GIVE_UP_SECONDS = 20.0
VOCABULARY = 320
"""tokens of the tiny model"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What honest payers got in `seconds`, and CPU in seconds per second."""

    seconds: float
    sessions: int
    failed: dict[str, int]
    open_ms: float
    """median, dial included; 0 without any"""
    first_token_ms: float
    """median, from the dial to the answer to the prompt"""
    step_ms: float
    node_cpu: float
    own_cpu: float

    @property
    def rate(self) -> float:
        """Whole sessions in a second."""
        return self.sessions / self.seconds


@dataclass(eq=False, slots=True)
class Seen:
    """What the payers of a crowd note while they are measured."""

    sessions: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    open_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Payer:
    """One who has a channel with the target."""

    host: Host
    advert: Advert
    account: OutgoingAccount
    target: Target

    async def open(self, *, direct: bool = True) -> Hop:
        """A session with the target. Raises NodeError."""
        connection = await dial_steps(self.host, self.advert, 10, direct=direct)
        try:
            return await Hop.open(
                connection,
                self.advert,
                self.account,
                wire_dtype=WireDtype.F32,
                capacity=64,
                top_k=8,
                n_vocab=VOCABULARY,
                is_last=True,
                domain=self.target.chain.disputes.domain,
                spending=FREE,
            )
        except BaseException:
            with trio.CancelScope(shield=True):
                await connection.close()
            raise

    async def session(self, seen: Seen) -> None:
        """Open, pay for a prompt and some tokens, close. Raises NodeError, trio.TooSlowError."""
        with trio.fail_after(GIVE_UP_SECONDS):
            start = time.perf_counter()
            hop = await self.open()
            try:
                opened = time.perf_counter()
                await hop.step(list(PROMPT), len(PROMPT))
                first = last = time.perf_counter()
                steps = []
                for _ in range(TOKENS):
                    await hop.step([5], 1)
                    steps.append(1000 * (time.perf_counter() - last))
                    last = time.perf_counter()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                    await hop.close()
        seen.sessions += 1
        seen.open_ms.append(1000 * (opened - start))
        seen.first_ms.append(1000 * (first - start))
        seen.step_ms += steps


def word(error: BaseException) -> str:
    """What went wrong in a word or two, the same for the same."""
    if isinstance(error, HopFailed):
        return error.word
    told = str(error) if type(error).__name__ == "Unanswered" else ""
    return told or type(error).__name__


@asynccontextmanager
async def payer(target: Target, purse: Purse | None = None) -> AsyncIterator[Payer]:
    """Somebody with a wallet of its own who opens a channel with the target. Raises NodeError, MarketError."""
    if purse is None:
        purse = await trio.to_thread.run_sync(Purse.filled, target)
    key = secrets.token_bytes(32)
    account = await trio.to_thread.run_sync(purse.opened, key)
    async with running_host(key) as host:
        yield Payer(host, await advert_of(host, target), account, target)


class Honest(Protocol):
    """Somebody who pays for the same thing again and again."""

    async def session(self, seen: Seen) -> None:
        """Do it once. Raises NodeError, MarketError, trio.TooSlowError."""


class Crowd:
    """Honest payers of one target, each with its wallet and channel, who have all paid before."""

    def __init__(self, target: Target, payers: Sequence[Honest]) -> None:
        self.target, self.payers = target, payers

    async def measure(self, seconds: float, *, least: int = 0) -> Measured:
        """Let each payer do session after session for `seconds`, and on until `least` were done or failed."""
        seen = Seen()

        async def work(one: Honest) -> None:
            while True:
                try:
                    await one.session(seen)
                except (NodeError, MarketError, trio.TooSlowError, OSError) as error:
                    seen.failed[word(error)] += 1
                await trio.sleep(THINK_SECONDS)

        node, own = psutil.Process(self.target.pid), psutil.Process(os.getpid())
        before = _cpu(node), _cpu(own)
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for one in self.payers:
                nursery.start_soon(work, one)
            await trio.sleep(seconds)
            while seen.sessions + seen.failed.total() < least:
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        # Leaving takes a moment where the node does not answer; who finished in it does not count.
        took = time.perf_counter() - start
        return Measured(
            seconds=took,
            sessions=seen.sessions,
            failed=dict(seen.failed),
            open_ms=median(seen.open_ms or [0.0]),
            first_token_ms=median(seen.first_ms or [0.0]),
            step_ms=median(seen.step_ms or [0.0]),
            node_cpu=(_cpu(node) - before[0]) / took,
            own_cpu=(_cpu(own) - before[1]) / took,
        )

    async def rate(self, seconds: float) -> float:
        """Whole sessions in a second."""
        return (await self.measure(seconds)).rate


@asynccontextmanager
async def crowd(target: Target, payers: int = 3) -> AsyncIterator[Crowd]:
    """Honest payers who have had a session each. Raises NodeError, MarketError."""
    async with AsyncExitStack() as stack:
        purse = await trio.to_thread.run_sync(Purse.filled, target)
        found = [await stack.enter_async_context(payer(target, purse)) for _ in range(payers)]
        for one in found:
            hop = await _patiently(one)
            await hop.step(list(PROMPT), len(PROMPT))
            await hop.close()
        yield Crowd(target, found)


async def newcomer(target: Target) -> float:
    """Seconds from a wallet with money to the first token: a channel opened on chain, a session, a paid prompt.

    Raises NodeError, MarketError, trio.TooSlowError.
    """
    purse = await trio.to_thread.run_sync(Purse.filled, target)
    start = time.perf_counter()
    with trio.fail_after(GIVE_UP_SECONDS):
        async with payer(target, purse) as one:
            hop = await _patiently(one)
            try:
                await hop.step(list(PROMPT), len(PROMPT))
                return time.perf_counter() - start
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                    await hop.close()


async def _patiently(one: Payer) -> Hop:
    """A session as soon as there is one: who is full, or does not know a channel yet, says when to ask again."""
    while True:
        try:
            return await one.open()
        except HopFailed as failure:
            if failure.code not in (ErrorCode.FULL, ErrorCode.UNKNOWN_CHANNEL):
                raise
            await trio.sleep(max(0.2, min(failure.wait, 5.0)))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
