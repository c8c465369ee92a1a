"""A client's side of a dispute: open the case, hand the evidence to the committee, see it through."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import coincurve
import trio

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.chain.disputes import (
    CaseOpened,
    CaseResolved,
    CommitteeDrawn,
    Disputes,
    Outcome,
    Phase,
)
from hypercluster.market.chain.disputes.terms import TRIES
from hypercluster.market.chain.logs import again_from
from hypercluster.market.errors import Reverted
from hypercluster.market.money.signing import NOBODY
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.market.trust.delivery import delivery_hash
from hypercluster.node.client.auditing.delivery import delivering, opening_for
from hypercluster.node.client.auditing.reporter import LOOK_SECONDS, Reporter, Ruling
from hypercluster.node.client.exchanging import HopFailed, exchange
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.audit import AuditEnd, AuditOpen

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host

log = logging.getLogger(__name__)

SEND_SECONDS = 60.0
MOST_WAIT_SECONDS = 5.0
"""that a member may put us off with: the time to commit runs"""
OPENING_SECONDS = 120.0
"""for a chain that does not answer before there is a case"""
NO_CHANNEL = ChannelDescriptor(NOBODY, NOBODY, NOBODY, bytes(32))


class Accuser(Reporter):
    """Takes accusations to the chain as well, and hands the evidence to the committee over the network."""

    def __init__(
        self, *, chain: Chain, sender: Callable[[], Sender], host: Host, discovery: Discovery
    ) -> None:
        super().__init__(chain=chain, sender=sender)
        self._host, self._discovery = host, discovery

    async def accuse(self, transcript: Transcript) -> Ruling:
        """Have a committee run a transcript again and see the case to its end.

        A case of ours about it that is open is seen to its end instead: the chain's answer was lost. Cases of others
        do not count, since they may be those of the accused. Where a committee did not come together, or more of it
        said guilty than innocent and too few decided, another is asked, as often as the contract lets us.

        Raises:
            MarketError: the wallet cannot pay the bond, the receipts are too old, nothing is at stake.
        """
        return await self.go_on(await self.open(transcript), transcript)

    async def open(self, transcript: Transcript) -> int:
        """Open a case, or find the one of ours that is open; returns its number. Raises MarketError."""
        receipt, signature = transcript.receipts(self._disputes.domain)[-1]
        try:
            send = partial(self._send, self._disputes.cases.open, receipt, signature)
            mined = await self._patiently(send, OPENING_SECONDS)
        except Reverted as error:
            if error.name != "CaseExists":
                raise
            case_id = int(str(error.args_by_name["caseId"]))
        else:
            case_id = next(e.case_id for e in self._disputes.events_in(mined) if isinstance(e, CaseOpened))
        log.warning("opened case %d against %s", case_id, transcript.record.peer)
        return case_id

    async def go_on(self, case_id: int, transcript: Transcript | None) -> Ruling:
        """See a case of ours to its end, and where that decided nothing, another one. Raises MarketError."""
        ruling = await self.see_through(case_id, transcript)
        for _ in range(TRIES - 1):
            assert ruling.case_id is not None
            case = await self._patiently(partial(self._on_chain, self._disputes.cases.state, ruling.case_id))
            undecided = case.outcome in (Outcome.INCONCLUSIVE, Outcome.UNSERVED)
            decided = case.outcome is not Outcome.VOID and not (undecided and case.guilty > case.innocent)
            if decided or transcript is None:
                break
            log.warning("case %d decided nothing: %s. Another is opened", ruling.case_id, ruling.outcome)
            try:
                ruling = await self.see_through(await self.open(transcript), transcript)
            except Reverted as error:
                log.warning("no other case can be opened: %s", error)
                break
        return ruling

    async def see_through(self, case_id: int, transcript: Transcript | None) -> Ruling:
        """Follow a case until it is decided, do what is due, and hand the evidence over, if there is any.

        A chain that does not answer for a while ends nothing: a bond hangs on it.

        Raises:
            MarketError: the wallet cannot be unlocked, or has no coin for gas.
        """
        await self._send(lambda sender: sender)  # it signs what is handed over
        case = await self._patiently(partial(self._on_chain, self._disputes.cases.state, case_id))
        watch, served = _Watch(self._disputes, case.opened_block, case_id), _Served()
        while True:
            await self._patiently(partial(self._on_chain, watch.look))
            if watch.resolved is not None:
                return Ruling(case_id, watch.resolved.outcome.name.lower(), watch.resolved.taken)
            await self._patiently(partial(self._push_on, watch, transcript, served))
            await trio.sleep(LOOK_SECONDS)

    async def _push_on(self, watch: _Watch, transcript: Transcript | None, served: _Served) -> None:
        """Do what is due. Others may do it first, which is as good."""
        now = time.time()
        case = await self._on_chain(self._disputes.cases.state, watch.case_id)
        try:
            if case.may_resolve(now):
                await self._send(self._disputes.cases.resolve, watch.case_id, watch.members)
            elif case.phase is Phase.DRAWING:
                if await self._on_chain(self._disputes.rpc.block_number) >= case.draw_block:
                    await self._send(self._disputes.cases.draw, watch.case_id)
            elif case.phase is Phase.COMMITTING and transcript is not None:
                await self._serve(watch, transcript, served)
        except Reverted as error:
            log.info("case %d: %s", watch.case_id, error)
            if error.name == "EarlierCase":
                await self._close(int(str(error.args_by_name["caseId"])))

    async def _close(self, case_id: int) -> None:
        """Close somebody else's case that is over, since ours has to wait for it."""
        case = await self._on_chain(self._disputes.cases.state, case_id)
        if not case.may_resolve(time.time()):
            return
        watch = _Watch(self._disputes, case.opened_block, case_id)
        await self._on_chain(watch.look)
        try:
            await self._send(self._disputes.cases.resolve, case_id, watch.members)
        except Reverted as error:
            log.info("case %d: %s", case_id, error)

    async def _serve(self, watch: _Watch, transcript: Transcript, served: _Served) -> None:
        """Hand the evidence to every member that has not got it and whose advert is known, to all at once: one that
        dawdles holds up nobody else.
        """
        by_node = {address_of_peer(a.peer): a for a in self._discovery.book.snapshot("verifier")}
        async with trio.open_nursery() as nursery:
            for member in watch.members:
                if member in by_node and served.lacks(member):
                    nursery.start_soon(self._serve_one, watch.case_id, by_node[member], transcript, served)

    async def _serve_one(self, case_id: int, member: Advert, transcript: Transcript, served: _Served) -> None:
        node = address_of_peer(member.peer)
        try:
            await self._hand_over(case_id, member, transcript)
            served.done(node)
        except NodeError as error:
            served.later(node, error.wait if isinstance(error, HopFailed) else 0.0)
            log.warning("the evidence of case %d did not reach %s: %s", case_id, member.peer, error)

    async def _hand_over(self, case_id: int, member: Advert, transcript: Transcript) -> None:
        opening = opening_for(transcript, secrets.token_bytes(16), NO_CHANNEL)
        opened = AuditOpen(
            opening,
            secrets.token_bytes(32),
            transcript.record.profile,
            case_id,
            transcript.record,
            self._proof(case_id, member),
        )
        async with delivering(self._host, member, opened, SEND_SECONDS) as (connection, _):
            for step in transcript.steps:
                await connection.send(step, SEND_SECONDS)
            answer = await exchange(connection, member.peer, AuditEnd(), SEND_SECONDS)
            if not isinstance(answer, AuditEnd):
                raise HopFailed(member.peer, f"it answered with {type(answer).__name__}.")

    def _proof(self, case_id: int, member: Advert) -> bytes:
        """That we are the accuser, whom the chain knows by the wallet and the member by our session key."""
        assert self._sender is not None
        said = delivery_hash(case_id, address_of_peer(member.peer), address_of_peer(self._host.peer))
        return self._disputes.domain.sign(coincurve.PrivateKey(bytes(self._sender.account.key)), said)


class _Served:
    """Who has the evidence, and when the others are tried again."""

    def __init__(self) -> None:
        self._again: dict[str, float] = {}

    def lacks(self, member: str) -> bool:
        """Whether a member should be handed the evidence now."""
        return trio.current_time() >= self._again.get(member, 0.0)

    def done(self, member: str) -> None:
        """It has it."""
        self._again[member] = math.inf

    def later(self, member: str, wait: float) -> None:
        """It could not be handed over; the member asked for `wait` seconds, of which few are believed."""
        self._again[member] = trio.current_time() + min(wait, MOST_WAIT_SECONDS)


class _Watch:
    """Follows one case in the chain's events: its committee, and how it ended."""

    def __init__(self, disputes: Disputes, block: int, case_id: int) -> None:
        self.case_id = case_id
        self.members: tuple[str, ...] = ()
        self.resolved: CaseResolved | None = None
        self._disputes, self._next_block, self._first = disputes, block, block

    def look(self) -> None:
        """Read what happened since the last time. Raises ChainError."""
        start = max(self._first, again_from(self._next_block))
        events, self._next_block = self._disputes.events_from(start)
        for event in events:
            if isinstance(event, CommitteeDrawn) and event.case_id == self.case_id:
                self.members = event.members
            elif isinstance(event, CaseResolved) and event.case_id == self.case_id:
                self.resolved = event
