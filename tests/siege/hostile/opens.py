"""Opens that nobody has paid for: on channels that do not exist, are another's, or hold one wei; and sessions held."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from eth_account import Account as Accounts

from hypercluster.market.advert import Advert
from hypercluster.market.chain import Sender
from hypercluster.market.money.units import HCT
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.wire.messages import Accept, Close, Open
from tests.node.helpers.providers import opening
from tests.siege.honest import Payer
from tests.siege.hostile.identities import STARTED, identities, on_and_on, said, strangers
from tests.siege.paying import Purse
from tests.siege.tally import Tally
from tests.siege.target import Target, advert_of

if TYPE_CHECKING:
    from trio_typing import TaskStatus

ANSWER_SECONDS = 100.0


def asked(advert: Advert, account: OutgoingAccount, **changes: object) -> Open:
    """An Open as good as a stranger can make it."""
    wanted = {"max_price_wei": 2**90, "max_prompt_price_wei": 2**90, "capacity": 64, **changes}
    return opening(advert, account, **wanted)


@asynccontextmanager
async def session(
    host: Host, advert: Advert, account: OutgoingAccount, *, direct: bool = True
) -> AsyncIterator[tuple[Connection, str]]:
    """A connection on which an Open was sent, and what came for an answer."""
    connection = await dial_steps(host, advert, 20, direct=direct)
    try:
        await connection.send(asked(advert, account), ANSWER_SECONDS)
        yield connection, said(await connection.receive(ANSWER_SECONDS))
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
            await connection.close()


async def open_without_channel(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Opens for channels that do not exist, a new one each time: no money, no transaction."""
    penniless = Purse(target, Sender(target.chain, Accounts.create()), tally)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)

        async def act(index: int) -> str:
            host = hosts[index % len(hosts)]
            async with session(host, advert, penniless.described(host.key)) as (_, answer):
                return answer

        await on_and_on(strength, act, tally, task_status)


async def open_foreign_channel(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Opens for one real channel whose signer is somebody else."""
    purse = await trio.to_thread.run_sync(Purse.filled, target, tally)
    account = await trio.to_thread.run_sync(purse.opened, secrets.token_bytes(32), 1)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)

        async def act(index: int) -> str:
            async with session(hosts[index % len(hosts)], advert, account) as (_, answer):
                return answer

        await on_and_on(strength, act, tally, task_status)


async def hold_sessions(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Sessions on channels of one wei that never pay a step and stay as long as they may."""
    await _on_channels(target, strength, tally, task_status, deposit=1, after=_held)


async def hold_sessions_rich(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """The same with a whole HCT in each channel."""
    await _on_channels(target, strength, tally, task_status, deposit=HCT, after=_held)


async def open_and_close(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Open and Close on channels of one wei, again and again, without a step."""
    await _on_channels(target, strength, tally, task_status, deposit=1, after=_closed)


async def open_and_vanish(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Sessions that are opened on channels of a whole HCT and left without a word."""
    await _on_channels(target, strength, tally, task_status, deposit=HCT, after=_left)


async def open_closed_channel(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Opens on channels of one wei that were asked to close as soon as they were open."""
    await _on_channels(target, strength, tally, task_status, deposit=1, after=_closed, ending=True)


async def pay_once(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Sessions on a whole HCT that pay for one token and stay."""
    purse = await trio.to_thread.run_sync(Purse.filled, target, tally)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)
        accounts = [await trio.to_thread.run_sync(purse.opened, host.key, HCT) for host in hosts]

        async def act(index: int) -> str:
            which = index % len(hosts)
            payer = Payer(hosts[which], advert, accounts[which], target)
            hop = await payer.open()
            try:
                await hop.step([1], 1)
                tally.answered("paid")
                tally.spent_wei += hop.cost(1)
                since = trio.current_time()
                ended = said(await hop._connection.receive(400))
                return f"held {10 * round((trio.current_time() - since) / 10)} s, {ended}"
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
                    await hop.close()

        await on_and_on(strength, act, tally, task_status)


async def _held(connection: Connection) -> str:
    started = trio.current_time()
    answer = said(await connection.receive(400))
    return f"held {10 * round((trio.current_time() - started) / 10)} s, {answer}"


async def _closed(connection: Connection) -> str:
    await connection.send(Close(), 10)
    return "closed"


async def _left(connection: Connection) -> str:
    return "left"


async def _on_channels(
    target: Target,
    strength: int,
    tally: Tally,
    started: TaskStatus[None],
    *,
    deposit: int,
    after: Callable[[Connection], Awaitable[str]],
    ending: bool = False,
) -> None:
    """Sessions on a channel for each identity; `after` is awaited with each that was accepted."""
    purse = await trio.to_thread.run_sync(Purse.filled, target, tally)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)
        accounts = [await trio.to_thread.run_sync(purse.opened, host.key, deposit) for host in hosts]
        if ending:
            for account in accounts:
                close = partial(target.chain.channels.request_close, purse.sender, account.descriptor)
                tally.mined(await trio.to_thread.run_sync(close))

        async def act(index: int) -> str:
            which = index % len(hosts)
            async with session(hosts[which], advert, accounts[which]) as (connection, answer):
                if answer != Accept.__name__:
                    return answer
                tally.answered(answer)
                return await after(connection)

        await on_and_on(strength, act, tally, started)
