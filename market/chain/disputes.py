"""DisputeManager: proofs of faults, cases before committees of verifiers, and demands for rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from itertools import count
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import event_abi_to_log_topic
from web3.types import FilterParams, LogReceipt

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.dispute_events import (
    CaseOpened,
    CaseResolved,
    Committed,
    CommitteeDrawn,
    ContradictionProven,
    CreditsClaimed,
    Delisted,
    Demanded,
    DisputeEvent,
    Enlisted,
    EquivocationProven,
    Outcome,
    Revealed,
    Served,
    Vote,
    Withheld,
    dispute_event,
)
from hypercluster.market.chain.dispute_terms import LOCAL_TERMS, DisputeTerms
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Receipt as Mined
from hypercluster.market.chain.sender import Sender
from hypercluster.market.chain.token import Token
from hypercluster.market.errors import InvalidAmount, InvalidSignature
from hypercluster.market.money.signing import SIGNATURE_BYTES, checksum, keccak
from hypercluster.market.trust.receipt import DisputeDomain, Receipt, Stage, Verdict

__all__ = [
    "LOCAL_TERMS",
    "Case",
    "CaseOpened",
    "CaseResolved",
    "Committed",
    "CommitteeDrawn",
    "ContradictionProven",
    "Credit",
    "CreditsClaimed",
    "Delisted",
    "Demand",
    "DemandStatus",
    "Demanded",
    "DisputeEvent",
    "DisputeTerms",
    "Disputes",
    "Enlisted",
    "EquivocationProven",
    "Outcome",
    "Phase",
    "Revealed",
    "Served",
    "Vote",
    "Withheld",
    "commitment_of",
]

BLOCKS_PER_QUERY = 2000
_NOBODY = "0x" + "00" * 20
_COMMITMENT = ["uint256", "address", "uint8", "bytes32", "bytes32"]


class Phase(IntEnum):
    """Where a case stands; see `Case` for what a deadline that has passed means."""

    NONE = 0
    DRAWING = 1
    COMMITTING = 2
    REVEALING = 3
    CLOSED = 4


class DemandStatus(IntEnum):
    """Where a demand stands."""

    NONE = 0
    OPEN = 1
    SERVED = 2
    LAPSED = 3


@dataclass(frozen=True)
class Case:
    """The chain's view of a case.

    The contract moves on when somebody sends something, and not by itself: a case whose ``deadline`` has passed is
    still in its old phase here. ``may_reveal`` and ``may_resolve`` know that.

    Attributes:
        phase: NONE for a number that no case has.
        outcome: NONE until it is closed.
        deadline: last second of the phase (unix).
        accuser: who opened it.
        node: the node key that signed the receipt.
        bond_wei: what is held for it; 0 when it is closed.
        opened_block: when it was opened.
        seq: step of the receipt.
        stage_hash, receipt_hash: struct hashes, 32 bytes.
        seats: members of its committee.
        committed, revealed: how many have.
        guilty, innocent, unserved: votes revealed so far.
        commit_seconds, reveal_seconds: length of those phases.
    """

    phase: Phase
    outcome: Outcome
    deadline: int
    accuser: str
    node: str
    bond_wei: int
    opened_block: int
    seq: int
    stage_hash: bytes
    receipt_hash: bytes
    seats: int
    committed: int
    revealed: int
    guilty: int
    innocent: int
    unserved: int
    commit_seconds: int
    reveal_seconds: int

    def may_reveal(self, now: float) -> bool:
        """Say whether votes are revealed at ``now`` (unix seconds)."""
        return self._revealing(now) and now <= self._last_deadline

    def may_resolve(self, now: float) -> bool:
        """Say whether no draw or vote is awaited any more at ``now`` (unix seconds)."""
        if self.phase is Phase.DRAWING:
            return now > self.deadline
        return self._revealing(now) and (self.committed == self.revealed or now > self._last_deadline)

    def _revealing(self, now: float) -> bool:
        return self.phase is Phase.REVEALING or (self.phase is Phase.COMMITTING and now > self.deadline)

    @property
    def _last_deadline(self) -> int:
        return self.deadline + (self.reveal_seconds if self.phase is Phase.COMMITTING else 0)


@dataclass(frozen=True)
class Demand:
    """The chain's view of a demand: row ``row`` of the ``size`` rows under ``root``, until ``deadline`` (unix)."""

    demander: str
    row: int
    size: int
    status: DemandStatus
    node: str
    deadline: int
    root: bytes


@dataclass(frozen=True)
class Credit:
    """What an operator may claim in wei, from ``claimable_at`` on (unix seconds)."""

    amount: int
    claimable_at: int


def commitment_of(case_id: int, member: str, vote: int, fingerprint: bytes, salt: bytes) -> bytes:
    """Return the 32 bytes by which a member commits to a vote; ``fingerprint`` and ``salt`` are 32 bytes each.

    Raises InvalidAmount for other lengths.
    """
    if (len(fingerprint), len(salt)) != (32, 32):
        raise InvalidAmount("A commitment needs a fingerprint and a salt of 32 bytes each.")
    return keccak(encode(_COMMITMENT, [case_id, checksum(member), int(vote), fingerprint, salt]))


class Disputes(Contract):
    """The disputes contract. Methods that take a sender return when the transaction is mined.

    All of those raise Reverted, InsufficientFunds, NodeUnreachable, TransactionTimeout, TransactionReplaced.
    Signatures have 64 bytes (EIP-2098), or InvalidSignature is raised.
    """

    artifact_name = "DisputeManager"

    def __init__(self, rpc: Rpc, address: str, token: Token) -> None:
        super().__init__(rpc, address)
        self.token = token
        self.domain = DisputeDomain(self.address, rpc.chain_id)
        """The EIP-712 domain in which receipts and verdicts for this contract are signed."""

    @cached_property
    def terms(self) -> DisputeTerms:
        """What faults cost and how long everything takes."""
        names = (field.name for field in fields(DisputeTerms))
        return DisputeTerms(**dict(zip(names, self._read("parameters"), strict=True)))

    @property
    def keep_seconds(self) -> int:
        """How long after its issue a receipt can matter, so how long a node keeps what it is about."""
        return self.terms.longest_seconds

    @property
    def lookback_blocks(self) -> int:
        """How many blocks back a case may have been opened that is still open. Asks the chain some dozen times."""
        now, newest = self.rpc.timestamp(), self.rpc.block_number()
        low, high = 0, newest
        while low < high:
            middle = (low + high) // 2
            if self._timestamp(middle) < now - self.terms.case_seconds:
                low = middle + 1
            else:
                high = middle
        return newest - low

    # ------------------------------------------------------------------ proofs

    def prove_equivocation(
        self, sender: Sender, first: Receipt, first_signature: bytes, second: Receipt, second_signature: bytes
    ) -> Mined:
        """Show two different receipts of one node for one step of a stage, for a reward."""
        if first.stage != second.stage:
            raise InvalidAmount("Two receipts contradict each other only in one stage.")
        rows = [
            _receipt_row(first),
            *_words(first_signature),
            _receipt_row(second),
            *_words(second_signature),
        ]
        return self._send(
            sender, "to prove an equivocation", "proveEquivocation", first.stage.struct_hash(), *rows
        )

    def prove_contradiction(
        self,
        sender: Sender,
        first: Verdict,
        first_signature: bytes,
        second: Verdict,
        second_signature: bytes,
        row: int,
        first_row: tuple[bytes, Sequence[bytes]],
        second_row: tuple[bytes, Sequence[bytes]],
    ) -> Mined:
        """Show two verdicts of one verifier that pass different outputs of one input, for a reward.

        Args:
            row: number of a row of output that differs.
            first_row: that row under the first verdict's ``out_root``, with its Merkle proof.
            second_row: the same of the second.
        """
        signed = [
            _verdict_row(first),
            *_words(first_signature),
            _verdict_row(second),
            *_words(second_signature),
        ]
        rows = [first_row[0], list(first_row[1]), second_row[0], list(second_row[1])]
        return self._send(sender, "to prove a contradiction", "proveContradiction", *signed, row, *rows)

    def is_equivocator(self, node: str, stage_hash: bytes, seq: int) -> bool:
        """Say whether a node was punished for two receipts of a step."""
        return bool(self._read("isEquivocator", checksum(node), stage_hash, seq))

    def is_contradictor(self, node: str, in_root: bytes) -> bool:
        """Say whether a verifier was punished for two passes of an input."""
        return bool(self._read("isContradictor", checksum(node), in_root))

    # --------------------------------------------------------------- verifiers

    def enlist(self, sender: Sender) -> Mined:
        """Put the sender, a node key, on the list of verifiers."""
        return self._send(sender, "to join the verifiers", "enlist")

    def delist(self, sender: Sender, verifier: str) -> Mined:
        """Take a verifier off the list, as itself or its operator, or when it is not eligible."""
        return self._send(sender, "to leave the verifiers", "delist", checksum(verifier))

    def is_enlisted(self, verifier: str) -> bool:
        """Say whether a node key is on the list of verifiers."""
        return bool(self._read("isEnlisted", checksum(verifier)))

    def verifier_of(self, operator: str) -> str | None:
        """Return an operator's verifier on the list, or None."""
        return _somebody(self._read("verifierOf", checksum(operator)))

    def verifiers(self) -> list[str]:
        """Return all verifiers on the list, eligible or not."""
        places = [self._read("verifierAt", place) for place in range(self._read("verifierCount"))]
        return [checksum(verifier) for verifier in places if verifier != _NOBODY]

    # ------------------------------------------------------------------- cases

    def open_case(self, sender: Sender, receipt: Receipt, signature: bytes) -> Mined:
        """Accuse the signer of a receipt, with a permit over the bond in the same transaction.

        The number of the case is in the `CaseOpened` event: see `events_in`.
        """
        with sender.permits:
            permit = self.token.permit(sender, self.address, self.terms.bond)
            arguments = *_signed(receipt, signature), *permit
            return self._send(sender, "to open a case", "openCaseWithPermit", *arguments)

    def draw(self, sender: Sender, case_id: int) -> Mined:
        """Draw the committee of a case, from the block after its opening on."""
        return self._send(sender, "to draw a committee", "draw", case_id)

    def commit(self, sender: Sender, case_id: int, seat: int, commitment: bytes) -> Mined:
        """Commit the sender, who has that seat, to a vote; see `commitment_of`."""
        return self._send(sender, "to commit to a vote", "commit", case_id, seat, commitment)

    def reveal(
        self, sender: Sender, case_id: int, seat: int, vote: int, fingerprint: bytes, salt: bytes
    ) -> Mined:
        """Reveal the sender's vote."""
        return self._send(sender, "to reveal a vote", "reveal", case_id, seat, int(vote), fingerprint, salt)

    def resolve(self, sender: Sender, case_id: int, members: Sequence[str]) -> Mined:
        """Close a case: ``members`` are its committee in the order of their seats, empty if none was drawn."""
        accounts = [checksum(member) for member in members]
        return self._send(sender, "to resolve a case", "resolve", case_id, accounts)

    def case(self, case_id: int) -> Case:
        """Return the chain's view of a case."""
        values: tuple[Any, ...] = tuple(self._read("cases", case_id))
        phase, outcome, deadline, accuser, node, bond, block, seq, stage_hash, receipt_hash, *counts = values
        seats, committed, revealed, guilty, innocent, unserved = counts
        return Case(
            Phase(phase),
            Outcome(outcome),
            deadline,
            checksum(accuser),
            checksum(node),
            bond,
            block,
            seq,
            bytes(stage_hash),
            bytes(receipt_hash),
            seats,
            committed,
            revealed,
            guilty,
            innocent,
            unserved,
            self.terms.commit_window,
            self.terms.reveal_window,
        )

    def is_convicted(self, node: str, stage_hash: bytes) -> bool:
        """Say whether a committee found a node guilty of a stage."""
        return bool(self._read("isConvicted", checksum(node), stage_hash))

    def credit_of(self, operator: str) -> Credit:
        """Return what an operator may claim for votes on innocent nodes."""
        return Credit(*self._read("credits", checksum(operator)))

    def claim_credits(self, sender: Sender) -> Mined:
        """Take the sender's credits."""
        return self._send(sender, "to claim credits", "claimCredits")

    # ----------------------------------------------------------------- demands

    def demand(self, sender: Sender, receipt: Receipt, signature: bytes, *, output: bool, row: int) -> Mined:
        """Demand that a row of a receipt be shown, with a permit over the bond in the same transaction.

        The number of the demand is in the `Demanded` event: see `events_in`.
        """
        with sender.permits:
            permit = self.token.permit(sender, self.address, self.terms.demand_bond)
            arguments = *_signed(receipt, signature), output, row, *permit
            return self._send(sender, "to demand a row", "demandWithPermit", *arguments)

    def serve(self, sender: Sender, demand_id: int, data: bytes, proof: Sequence[bytes]) -> Mined:
        """Show a demanded row with its Merkle proof; the bond goes to the node's operator."""
        return self._send(sender, "to serve a demand", "serve", demand_id, data, list(proof))

    def lapse(self, sender: Sender, demand_id: int) -> Mined:
        """End a demand that was not served in time."""
        return self._send(sender, "to end a demand", "lapse", demand_id)

    def demand_state(self, demand_id: int) -> Demand:
        """Return the chain's view of a demand."""
        demander, row, size, status, node, deadline, root = self._read("demands", demand_id)
        return Demand(
            checksum(demander), row, size, DemandStatus(status), checksum(node), deadline, bytes(root)
        )

    # ------------------------------------------------------------------ events

    def events_in(self, receipt: Mined) -> list[DisputeEvent]:
        """Return the events of a transaction."""
        return self._parsed(log for log in receipt.logs if log["address"] == self.address)

    def events_from(self, from_block: int) -> tuple[list[DisputeEvent], int]:
        """Return everything that happened from a block on, in order, and the block to read from the next time."""
        next_block = self.rpc.block_number() + 1
        logs: list[LogReceipt] = []
        for first in count(from_block, BLOCKS_PER_QUERY):
            if first >= next_block:
                break
            query: FilterParams = {
                "address": self._contract.address,
                "fromBlock": first,
                "toBlock": min(first + BLOCKS_PER_QUERY, next_block) - 1,
            }
            with self.rpc.clear_errors("to list events"):
                logs += self.rpc.web3.eth.get_logs(query)
        return self._parsed(logs), max(next_block, from_block)

    @cached_property
    def _topics(self) -> dict[str, str]:
        abis = [entry for entry in self._contract.abi if entry["type"] == "event"]
        return {event_abi_to_log_topic(abi).hex(): str(abi["name"]) for abi in abis}

    def _parsed(self, logs: Iterable[LogReceipt]) -> list[DisputeEvent]:
        events = []
        for log in logs:
            name = self._topics[bytes(log["topics"][0]).hex()]
            values: dict[str, Any] = dict(self._contract.events[name]().process_log(log)["args"])
            event = dispute_event(name, int(log["blockNumber"]), int(log["logIndex"]), values)
            if event is not None:
                events.append(event)
        return sorted(events, key=lambda event: (event.block, event.index))

    def _timestamp(self, block: int) -> int:
        with self.rpc.clear_errors("to show a block"):
            return int(self.rpc.web3.eth.get_block(block)["timestamp"])


def _stage_row(stage: Stage) -> tuple[object, ...]:
    ids = stage.session, stage.nonce, stage.channel_id, stage.model_id
    return *ids, stage.layer_start, stage.layer_stop, stage.wire_dtype, stage.profile


def _receipt_row(receipt: Receipt) -> tuple[object, ...]:
    figures = receipt.seq, receipt.position, receipt.tokens, receipt.outputs
    return *figures, receipt.in_root, receipt.out_root, receipt.previous, receipt.issued


def _verdict_row(verdict: Verdict) -> tuple[object, ...]:
    what = verdict.model_id, verdict.layer_start, verdict.layer_stop, verdict.wire_dtype, verdict.tail
    rows = verdict.in_root, verdict.out_root, verdict.tokens, verdict.outputs
    return *what, *rows, int(verdict.finding), verdict.fingerprint, verdict.job, verdict.issued


def _signed(receipt: Receipt, signature: bytes) -> tuple[object, ...]:
    return _stage_row(receipt.stage), _receipt_row(receipt), *_words(signature)


def _words(signature: bytes) -> tuple[bytes, bytes]:
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(f"The signature has {len(signature)} bytes, and a compact one has 64.")
    return signature[:32], signature[32:]


def _somebody(address: str) -> str | None:
    return None if address == _NOBODY else checksum(address)
