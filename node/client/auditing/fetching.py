"""Fetching the rows of a stage that went from provider to provider: from the one who signed for them.

Only those of stages that are looked over travel. What comes is held against the receipts that the client has: a
provider that shows something else, and signs it, has signed twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.trust.receipt import DisputeDomain, Receipt
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.auditing.recall import (
    RECALL_SECONDS,
    Equivocation,
    NotShown,
    asking,
    recall,
    seen_in,
)
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.audit import MOST_RECALLED, Recall, Recalled
from hypercluster.node.wire.messages import Error
from hypercluster.node.wire.records import AuditStep

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.evidence.transcript import Held, Transcript
    from hypercluster.node.network.host import Host


async def shown_again(
    host: Host, provider: Advert | None, held: Held, domain: DisputeDomain
) -> Transcript | Equivocation:
    """The transcript of a stage, once its provider has shown the rows that are not here, or one step at random where
    all are; or proof that it signed others as well. Of a provider that nobody knows nothing is asked.

    Raises:
        NotShown: rows are missing and it does not show them, or not the one step.
    """
    whole = held.whole()
    if provider is None:
        if whole is None:
            raise NotShown("Nobody knows where the rows of this stage are now.", Evidence.REFUSAL)
        return whole
    if whole is None:
        return await fetch(host, provider.addrs, held, domain)
    seq = secrets.randbelow(len(whole.steps))
    return await recall(host, provider.addrs, whole, seq, domain) or whole


async def fetch(
    host: Host, addrs: Sequence[str], held: Held, domain: DisputeDomain
) -> Transcript | Equivocation:
    """The whole transcript of a stage, with the rows that its provider has; or proof that it signed others as well.

    Raises:
        NotShown: it does not show them, and what that says of it.
        MarketError, NodeError: what is held here does not hold.
    """
    found = await fetch_steps(host, addrs, held, held.receipts(domain), held.missing, domain)
    if isinstance(found, Equivocation):
        return found
    whole = held.whole(found)
    assert whole is not None
    return whole


async def fetch_steps(
    host: Host,
    addrs: Sequence[str],
    held: Held,
    receipts: Sequence[tuple[Receipt, bytes]],
    missing: Sequence[int],
    domain: DisputeDomain,
) -> dict[int, AuditStep] | Equivocation:
    """Those steps of a stage whose numbers are `missing`, ascending, with the rows that its provider has; or proof that
    it signed others as well. `receipts` are those of all steps in `held`.

    Raises NotShown: it does not show them, and what that says of it.
    """
    found: dict[int, AuditStep] = {}
    while left := [seq for seq in missing if seq not in found]:
        first = left[0]
        count = next((at for at, seq in enumerate(left) if seq != first + at), len(left))
        asked = Recall(held.record.stage.struct_hash(), first, min(count, MOST_RECALLED))
        shown = await _ask(host, addrs, held, asked)
        for each in shown:
            proof = _compared(held, receipts, each, domain)
            if proof is not None:
                return proof
            found[each.step.seq] = each.step
    return found


async def _ask(host: Host, addrs: Sequence[str], held: Held, asked: Recall) -> list[Recalled]:
    """At least the first of the steps asked for. Raises NotShown."""
    peer, shown = held.record.peer, list[Recalled]()
    try:
        async with asking(host, peer, addrs, asked) as (answer, connection):
            while True:
                if not isinstance(answer, Recalled) or answer.step.seq != asked.seq + len(shown):
                    raise NotShown(
                        f"{peer} does not show step {asked.seq}: {getattr(answer, 'message', answer)}",
                        _refusing(answer),
                    )
                shown.append(answer)
                if len(shown) == asked.count:
                    break
                answer = await connection.receive(RECALL_SECONDS)
    except NotShown:
        if not shown:
            raise
    except (trio.TooSlowError, NodeError) as error:
        if not shown:
            raise NotShown(
                f"{peer} does not show step {asked.seq}: {error or 'no answer'}", seen_in(error)
            ) from None
    return shown


def _refusing(answer: object) -> Evidence:
    """Who says that it has no such step has not kept what it signed for; who has no time now may have it."""
    gone = not isinstance(answer, Error) or answer.code is ErrorCode.UNKNOWN_SESSION
    return Evidence.WRONG if gone else Evidence.REFUSAL


def _compared(
    held: Held, receipts: Sequence[tuple[Receipt, bytes]], shown: Recalled, domain: DisputeDomain
) -> Equivocation | None:
    """None where the step is that of the receipt. Raises NotShown: it is another, which nobody signed."""
    seq = shown.step.seq
    ours, our_signature = receipts[seq]
    chain = ReceiptChain(held.record.stage, domain)
    if seq:
        chain.last, chain.previous = receipts[seq - 1][0], shown.previous
    try:
        theirs = chain.next(shown.step)
        if (
            theirs.in_root == ours.in_root
            and theirs.out_root == ours.out_root
            and theirs.tokens == ours.tokens
            and theirs.outputs == ours.outputs
            and theirs.position == ours.position
            and shown.step.receipt == our_signature
        ):
            return None
        chain.accept(theirs, shown.step.receipt, address_of_peer(held.record.peer))
    except (MarketError, NodeError) as error:
        raise NotShown(
            f"{held.record.peer} shows other rows of step {seq} than it signed for: {error}", Evidence.WRONG
        ) from None
    return Equivocation(ours, our_signature, theirs, shown.step.receipt)
