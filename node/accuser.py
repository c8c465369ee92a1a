"""A client's side of a dispute: open the case, hand the evidence to the committee, see it through."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import trio

from market.chain import Chain, Sender
from market.chain.disputes import Case, Phase
from market.errors import Reverted
from market.signing import SIGNATURE_BYTES
from market.voucher import ChannelDescriptor
from node.errors import NodeError
from node.hop import HopFailed, exchange
from node.identity import address_of_peer
from node.stream import Connection
from node.transcript import Transcript
from node.wire import Accept, Open, frame_bound
from node.wire_audit import AUDIT_PROTOCOL, AuditEnd, AuditOpen

if TYPE_CHECKING:
    from market.advert import Advert
    from node.auditors import SignedVerdict
    from node.discovery import Discovery
    from node.host import Host
    from node.recall import Equivocation

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 0.5
SEND_SECONDS = 60.0
NOBODY = ChannelDescriptor("0x" + "00" * 20, "0x" + "00" * 20, "0x" + "00" * 20, bytes(32))


class NoVerdict(NodeError):
    """A case could not be opened or was not decided in time."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """How a case ended: `slashed_wei` was taken from the accused."""

    case_id: int | None
    outcome: str
    slashed_wei: int


class Accuser:
    """Takes faults to the chain.

    Args:
        sender: pays bonds and gas, and gets bonds and rewards; unlocked when it is first needed.
    """

    def __init__(
        self, *, chain: Chain, sender: Callable[[], Sender], host: Host, discovery: Discovery
    ) -> None:
        self._chain, self._disputes = chain, chain.disputes
        self._unlock = sender
        self._sender: Sender | None = None
        self._host, self._discovery = host, discovery
        self._threads = trio.CapacityLimiter(2)

    async def accuse(self, transcript: Transcript) -> Ruling:
        """Have a committee run a transcript again and see the case to its end.

        Raises:
            NoVerdict: it was not decided within the contract's deadlines.
            MarketError: the wallet cannot pay the bond, the receipts are too old, nothing is at stake.
        """
        receipt, signature = transcript.receipts(self._disputes.domain)[-1]
        case_id = await self._send(self._disputes.open_case, receipt, signature)
        log.warning("opened case %d against %s", case_id, transcript.record.peer)
        served: set[str] = set()
        while True:
            case = await self._on_chain(self._disputes.case, case_id)
            if case.phase is Phase.CLOSED:
                return Ruling(case_id, case.outcome.name.lower(), case.taken)
            await self._push_on(case_id, case, transcript, served)
            await trio.sleep(LOOK_SECONDS)

    async def _push_on(self, case_id: int, case: Case, transcript: Transcript, served: set[str]) -> None:
        """Do what is due. Others may do it first, which is as good."""
        now = time.time()
        try:
            if case.phase is Phase.DRAWING and now > case.deadline:
                await self._send(self._disputes.resolve, case_id, [])
            elif case.phase is Phase.DRAWING:
                await self._send(self._disputes.draw, case_id)
            elif case.phase is Phase.COMMITTING and now <= case.deadline:
                await self._serve(case_id, transcript, served)
            elif case.may_resolve(now):
                members = await self._on_chain(self._disputes.members, case_id)
                await self._send(self._disputes.resolve, case_id, members)
        except Reverted as error:
            log.info("case %d: %s", case_id, error)

    async def _serve(self, case_id: int, transcript: Transcript, served: set[str]) -> None:
        """Hand the evidence to every member that has not got it and whose advert is known."""
        members = await self._on_chain(self._disputes.members, case_id)
        by_node = {address_of_peer(a.peer): a for a in self._discovery.book.snapshot("verifier")}
        for member in members:
            advert = by_node.get(member)
            if member in served or advert is None:
                continue
            try:
                await self._hand_over(case_id, advert, transcript)
                served.add(member)
            except NodeError as error:
                log.warning("the evidence of case %d did not reach %s: %s", case_id, advert.peer, error)

    async def _hand_over(self, case_id: int, member: Advert, transcript: Transcript) -> None:
        record = transcript.record
        opening = Open(
            session=secrets.token_bytes(16),
            model_id=record.model_id,
            layer_start=record.layer_start,
            layer_stop=record.layer_stop,
            channel=NOBODY,
            wire_dtype=record.wire_dtype,
            capacity=transcript.tokens,
            max_price_wei=0,
            max_prompt_price_wei=0,
            top_k=record.top_k,
        )
        opened = AuditOpen(opening, secrets.token_bytes(32), record.profile, case_id, record)
        stream = await self._host.open_stream(member.peer, AUDIT_PROTOCOL, member.addrs)
        connection = Connection(stream)
        try:
            accepted = await exchange(connection, member.peer, opened, SEND_SECONDS)
            if not isinstance(accepted, Accept):
                raise HopFailed(member.peer, f"it answered with {type(accepted).__name__}.")
            connection.raise_bound(2 * frame_bound(accepted.max_step_tokens, member.n_embd, record.top_k))
            for step in transcript.steps:
                await connection.send(step, SEND_SECONDS)
            answer = await exchange(connection, member.peer, AuditEnd(), SEND_SECONDS)
            if not isinstance(answer, AuditEnd):
                raise HopFailed(member.peer, f"it answered with {type(answer).__name__}.")
        finally:
            await connection.close()

    async def prove_equivocation(self, proof: Equivocation) -> Ruling:
        """Have a node slashed that signed two receipts for one step. Raises MarketError."""
        taken = await self._send(
            self._disputes.prove_equivocation,
            proof.first,
            proof.first_signature,
            proof.second,
            proof.second_signature,
        )
        return Ruling(None, "equivocation", taken)

    async def prove_contradiction(
        self,
        first: SignedVerdict,
        second: SignedVerdict,
        row: int,
        shown: tuple[bytes, list[bytes]],
        other: tuple[bytes, list[bytes]],
    ) -> Ruling:
        """Have a verifier slashed that passed two outputs for one input that differ by far in `row`: the row of
        each with its Merkle proof. Raises MarketError.
        """
        assert len(first.signature) == len(second.signature) == SIGNATURE_BYTES
        taken = await self._send(
            self._disputes.prove_contradiction,
            first.verdict,
            first.signature,
            second.verdict,
            second.signature,
            row,
            *shown,
            *other,
        )
        return Ruling(None, "contradiction", taken)

    async def demand(self, transcript: Transcript, *, output: bool, row: int) -> Ruling:
        """Make a provider show a row of its last step on chain, or lose stake; returns when either has happened.

        Raises MarketError.
        """
        receipt, signature = transcript.receipts(self._disputes.domain)[-1]
        demand_id = await self._send(self._disputes.demand, receipt, signature, output, row)
        while True:
            demand = await self._on_chain(self._disputes.demand_of, demand_id)
            if demand.closed:
                return Ruling(None, "served" if demand.served else "withheld", demand.taken)
            if time.time() > demand.deadline:
                try:
                    await self._send(self._disputes.lapse, demand_id)
                except Reverted as error:
                    log.info("demand %d: %s", demand_id, error)
            await trio.sleep(LOOK_SECONDS)

    async def _send(self, function: Callable[..., T], *arguments: object) -> T:
        return await self._on_chain(self._call, function, *arguments)

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        if self._sender is None:
            self._sender = self._unlock()
        return function(self._sender, *arguments)

    async def _on_chain(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await trio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._threads)
