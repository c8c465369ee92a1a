"""Honest accusers: paid audits of one token, one after the other, and how long a verdict takes."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from hypercluster.market.advert import Advert
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.wire.audit import AuditVerdict
from hypercluster.node.wire.messages import Error
from tests.siege.honest import GIVE_UP_SECONDS, Crowd, Seen
from tests.siege.hostile.audits import WHOLE, one_token
from tests.siege.paying import Purse
from tests.siege.target import Target, advert_of


@dataclass(frozen=True, eq=False, slots=True)
class Auditor:
    """One who has a channel with a verifier. A session is an audit, its first token the verdict."""

    host: Host
    advert: Advert
    account: OutgoingAccount

    async def session(self, seen: Seen) -> None:
        """Have one token audited. Raises NodeError, trio.TooSlowError."""
        with trio.fail_after(GIVE_UP_SECONDS):
            start = time.perf_counter()
            answer = await one_token(self.host, self.advert, self.account, WHOLE)
            took = 1000 * (time.perf_counter() - start)
        if isinstance(answer, Error):
            raise HopFailed(self.advert.peer, answer.message, answer.code, How.REFUSED)
        assert isinstance(answer, AuditVerdict)
        seen.sessions += 1
        seen.open_ms.append(took)
        seen.first_ms.append(took)


@asynccontextmanager
async def auditors(target: Target, count: int = 2) -> AsyncIterator[Crowd]:
    """Those who have had an audit each. Raises NodeError, MarketError."""
    purse = await trio.to_thread.run_sync(Purse.filled, target)
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            key = secrets.token_bytes(32)
            host = await stack.enter_async_context(running_host(key))
            account = await trio.to_thread.run_sync(purse.opened, key)
            one = Auditor(host, await advert_of(host, target), account)
            await one.session(Seen())
            found.append(one)
        yield Crowd(target, found)
