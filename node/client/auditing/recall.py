"""Asking a provider to show a step again that it signed for.

A provider keeps what its receipts commit to for as long as the chain may ask for it. A client asks before an audit:
one that shows something else than it signed before has signed twice, which is proof enough by itself.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.trust.receipt import DisputeDomain, Receipt
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.errors import ErrorCode, FrameError, FrameTimeout, NodeError
from hypercluster.node.evidence.receipts import BadReceipt, ReceiptChain
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.budgets import BOUNDS
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host
from hypercluster.node.network.rate import Rate
from hypercluster.node.serving.refusals import SEND_SECONDS
from hypercluster.node.wire.audit import RECALL_PROTOCOL, Recall, Recalled
from hypercluster.node.wire.bounds import MAX_FRAME
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Error

RECALL_SECONDS = 20.0
_LEAST_WAIT = 0.2
_SPARING = 0.8
"""of what a provider hears that is asked: what was sent a second apart may come sooner after each other"""


class NotShown(NodeError):
    """The provider did not show the step: it refuses, does not answer, or what it shows is not signed by it.

    `evidence` says what that shows of it.
    """

    def __init__(self, reason: str, evidence: Evidence) -> None:
        super().__init__(reason)
        self.evidence = evidence


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two receipts for one step, by one node, over different data: proof of a fault."""

    first: Receipt
    first_signature: bytes
    second: Receipt
    second_signature: bytes


class Turns:
    """Whose turn it is to ask a provider: one question at a time, and not more often than it hears one.

    What is beyond that it resets, which would look as if it was gone.
    """

    def __init__(self) -> None:
        heard = BOUNDS["recall"].per_peer
        assert heard is not None
        self._rate = Rate(*(_SPARING * each for each in heard))
        self._asking: dict[str, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def of(self, peer: str) -> AsyncIterator[None]:
        """Wait for the turn, and have it within the block."""
        async with self._asking.setdefault(peer, trio.CapacityLimiter(1)):
            while not self._rate.allows(peer):
                await trio.sleep(self._rate.wait(peer))
            yield


_turns: WeakKeyDictionary[Host, Turns] = WeakKeyDictionary()


@asynccontextmanager
async def asking(
    host: Host, peer: str, addrs: Sequence[str], asked: Recall
) -> AsyncIterator[tuple[Message, Connection]]:
    """The first answer to a question for steps, and the connection that the others come over. There are RECALL_SECONDS
    for all of it from when it is our turn; one that is asked by too many, and says for how long, is asked again then.

    Raises TooSlowError, NodeError.
    """
    async with _turns.setdefault(host, Turns()).of(peer):
        with trio.fail_after(RECALL_SECONDS) as scope:
            while True:
                connection = Connection(await host.open_stream(peer, RECALL_PROTOCOL, addrs, RECALL_SECONDS))
                connection.raise_bound(MAX_FRAME)
                try:
                    await connection.send(asked, SEND_SECONDS)
                    first = await connection.receive(RECALL_SECONDS)
                    again = trio.current_time() + _wait_of(first)
                    if again >= scope.deadline:
                        yield first, connection
                        return
                finally:
                    await connection.close()
                await trio.sleep_until(again)


def _wait_of(answer: Message) -> float:
    """Seconds after which asking again is worth it, however little it says itself; infinite where it never is."""
    if isinstance(answer, Error) and answer.code is ErrorCode.FULL and answer.wait_ms:
        return max(_LEAST_WAIT, answer.wait_ms / 1000)
    return math.inf


async def recall(
    host: Host, addrs: Sequence[str], transcript: Transcript, seq: int, domain: DisputeDomain
) -> Equivocation | None:
    """Have the provider of a stage show step `seq` again; None if it is what it signed at the time.

    Raises:
        NotShown: it does not.
        MarketError: our own transcript does not hold.
    """
    record = transcript.record
    receipts = transcript.receipts(domain)
    try:
        async with asking(host, record.peer, addrs, Recall(record.stage.struct_hash(), seq)) as (shown, _):
            if not isinstance(shown, Recalled) or shown.step.seq != seq:
                raise NotShown(
                    f"{record.peer} does not show step {seq}: {getattr(shown, 'message', shown)}",
                    Evidence.REFUSAL,
                )
        ours, our_signature = receipts[seq]
        chain = ReceiptChain(record.stage, domain)
        if seq:
            chain.last, chain.previous = receipts[seq - 1][0], shown.previous
        theirs = chain.next(shown.step)
        chain.accept(theirs, shown.step.receipt, address_of_peer(record.peer))
    except (trio.TooSlowError, MarketError, NodeError) as error:
        if isinstance(error, NotShown):
            raise
        seen = seen_in(error)
        raise NotShown(f"{record.peer} does not show step {seq}: {error or 'no answer'}", seen) from None
    if (theirs.in_root, theirs.out_root) == (ours.in_root, ours.out_root):
        return None
    return Equivocation(ours, our_signature, theirs, shown.step.receipt)


def seen_in(error: Exception) -> Evidence:
    """What it says of a provider that it did not show a step."""
    if isinstance(error, trio.TooSlowError | FrameTimeout):
        return Evidence.SILENCE
    # What it showed may have suffered on its disk, and is no receipt that it is held to.
    return Evidence.REFUSAL if isinstance(error, MarketError | BadReceipt | FrameError) else Evidence.DEATH
