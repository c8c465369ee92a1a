"""Who has no channel delays nobody.

What a stranger did: each Open for a channel that does not exist cost a read of the chain under one lock. With a chain
100 ms away, 200 connections and four free keys, honest sessions went from 9 in 5 s to none in 40 s, and so did the
watch for payers who close. Now an Open for a known channel asks no chain, new channels are learned from the chain's
events, and a look-up at once is a shortcut: few, remembered, within 5 s, and under no lock.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.money.claiming import ClaimRule
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import ChannelDescriptor, channel_salt
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.hop import Hop
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Error
from tests.market.proxy import proxy
from tests.node.helpers.providers import FREE, Served, Wallet, new_wallet, opening, running_provider

PROMPT = [72, 101, 108]
BOUND = 20.0
STRANGERS = 12


@dataclass(eq=False)
class Line:
    """The provider's line to the chain: what asks about certain channels, or everything, waits until `over`."""

    held: set[str] = field(default_factory=set)
    """ids in hex"""
    all_held: bool = False
    caught: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def see(self, body: bytes) -> None:
        text = body.decode()
        found = [each for each in [*self.held] if each in text]
        self.caught += found
        if found or self.all_held:
            self.over.wait()


@dataclass(frozen=True, eq=False)
class Post:
    served: Served
    line: Line
    chain: Chain
    """without the proxy in between"""


@pytest.fixture
def post(chain: Chain, anvil: str, stored_tiny: StoredModel, tmp_path: Path) -> Iterator[Post]:
    line = Line()
    with proxy(anvil, lambda method, ask: (200, ask()), line.see) as url:
        slow = Chain(url, chain.deployment)
        terms: dict[str, Any] = {"session_tokens": 200, "watch_seconds": 0.3}
        # What is owed here is not worth its gas.
        terms |= {"claim": ClaimRule(multiple=0)}
        with running_provider(slow, stored_tiny, tmp_path, (0, 4), **terms) as served:
            try:
                yield Post(served, line, chain)
            finally:
                line.over.set()


def nowhere(wallet: Wallet, served: Served) -> OutgoingAccount:
    """A channel that the chain does not have."""
    salt = channel_salt(address_of_peer(served.advert.peer), secrets.randbits(48))
    return wallet.account(
        ChannelDescriptor(wallet.sender.address, served.operator, address_of(wallet.signer), salt)
    )


async def answered(host: Host, served: Served, account: OutgoingAccount) -> Message:
    connection = await dial_steps(host, served.advert, BOUND)
    try:
        await connection.send(opening(served.advert, account), BOUND)
        return await connection.receive(BOUND)
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()


async def session(host: Host, served: Served, account: OutgoingAccount) -> None:
    """Open, pay for a prompt and a token, close. Raises NodeError."""
    connection = await dial_steps(host, served.advert, BOUND)
    hop = await Hop.open(
        connection,
        served.advert,
        account,
        wire_dtype=WireDtype.F32,
        capacity=100,
        top_k=8,
        n_vocab=320,
        is_last=True,
        domain=served.chain.disputes.domain,
        spending=FREE,
    )
    await hop.step(PROMPT, len(PROMPT))
    await hop.step([5], 1)
    await hop.close()


async def got_in(host: Host, served: Served, account: OutgoingAccount) -> bool:
    """Whether a session went well; who is new may have to come back."""
    try:
        await session(host, served, account)
    except NodeError:
        return False
    return True


@asynccontextmanager
async def strangers(post: Post) -> AsyncIterator[list[OutgoingAccount]]:
    """Peers without a channel whose look-ups hang until the end of the block."""
    broke = new_wallet(post.chain, 0)
    async with trio.open_nursery() as nursery:
        accounts = []
        for _ in range(STRANGERS):
            key = Wallet(post.chain, broke.sender, secrets.token_bytes(32))
            account = nowhere(key, post.served)
            accounts.append(account)
            post.line.held.add(account.channel_id.hex())

            async def ask(key: Wallet = key, account: OutgoingAccount = account) -> None:
                async with running_host(key.session_key) as host:
                    while True:
                        try:
                            await answered(host, post.served, account)
                        except NodeError:
                            await trio.sleep(0.01)

            nursery.start_soon(ask)
        with trio.fail_after(BOUND):
            while not post.line.caught:
                await trio.sleep(0.02)
        yield accounts
        nursery.cancel_scope.cancel()
        post.line.over.set()


async def test_s1_payers_are_served_newcomers_get_in_and_who_closes_is_claimed_while_look_ups_of_strangers_hang(
    post: Post,
) -> None:
    served, wallet = post.served, new_wallet(post.chain)
    account = wallet.channel(served)
    async with running_host(wallet.session_key) as host:
        await session(host, served, account)
        async with strangers(post):
            await session(host, served, account)
            fresh = new_wallet(post.chain)
            opened = await trio.to_thread.run_sync(fresh.channel, served)
            async with running_host(fresh.session_key) as another:
                with trio.fail_after(BOUND):
                    while not await got_in(another, served, opened):
                        await trio.sleep(0.1)
            owed = account.channel.signed
            await trio.to_thread.run_sync(
                post.chain.channels.request_close, wallet.sender, account.descriptor
            )
            with trio.fail_after(BOUND):
                while post.chain.channels.state(account.channel_id).settled != owed:
                    await trio.sleep(0.1)


async def test_s1_a_channel_that_is_not_there_is_looked_up_once(post: Post) -> None:
    wallet = new_wallet(post.chain, 0)
    account = nowhere(wallet, post.served)
    post.line.over.set()
    post.line.held.add(account.channel_id.hex())
    async with running_host(wallet.session_key) as host:
        for _ in range(5):
            answer = await answered(host, post.served, account)
            assert isinstance(answer, Error)
            assert answer.code is ErrorCode.UNKNOWN_CHANNEL
            assert answer.wait_ms > 0
    assert len(post.line.caught) == 1


async def test_s1_while_the_chain_is_away_payers_are_served_and_who_is_new_hears_when_to_come_back(
    post: Post,
) -> None:
    served, wallet = post.served, new_wallet(post.chain)
    account = wallet.channel(served)
    fresh = new_wallet(post.chain, 0)
    async with running_host(wallet.session_key) as host, running_host(fresh.session_key) as another:
        await session(host, served, account)
        post.line.all_held = True
        await session(host, served, account)
        with pytest.raises(HopFailed) as refused:
            await session(another, served, nowhere(fresh, served))
        assert refused.value.code is ErrorCode.UNKNOWN_CHANNEL
        assert refused.value.wait > 0
        await session(host, served, account)
