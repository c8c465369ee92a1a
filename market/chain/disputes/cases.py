"""DisputeCases: cases before committees of verifiers, the list of those, and what they earn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import Any

from eth_abi.abi import encode

from hypercluster.market.chain.contract import Contract, somebody
from hypercluster.market.chain.disputes.events import Outcome
from hypercluster.market.chain.disputes.statements import signed_receipt
from hypercluster.market.chain.disputes.terms import DisputeTerms
from hypercluster.market.chain.dues import Owed
from hypercluster.market.chain.header import header_of
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender
from hypercluster.market.chain.token import Token
from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.signing import NOBODY, checksum, keccak
from hypercluster.market.trust.receipt import Receipt

_COMMITMENT = ["uint256", "address", "uint8", "bytes32", "bytes32"]


class Phase(IntEnum):
    """Where a case stands; see `Case` for what a deadline that has passed means."""

    NONE = 0
    DRAWING = 1
    COMMITTING = 2
    REVEALING = 3
    CLOSED = 4


@dataclass(frozen=True)
class Case:
    """The chain's view of a case.

    The contract moves on when somebody sends something, and not by itself: a case whose ``deadline`` has passed is
    still in its old phase here. ``may_reveal`` and ``may_resolve`` know that.

    Attributes:
        phase: NONE for a number that no case has.
        outcome: NONE until it is closed.
        deadline: last second of the phase (unix); of a closed case the second in which it ended.
        accuser: who opened it.
        node: the node key that signed the receipt.
        bond_wei: what is held for it; 0 when it is closed.
        opened_block: when it was opened.
        draw_block: whose randomness draws the committee, from the next block on.
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
    draw_block: int
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


def commitment_of(case_id: int, member: str, vote: int, fingerprint: bytes, salt: bytes) -> bytes:
    """Return the 32 bytes by which a member commits to a vote; ``fingerprint`` and ``salt`` are 32 bytes each.

    Raises InvalidAmount for other lengths.
    """
    if (len(fingerprint), len(salt)) != (32, 32):
        raise InvalidAmount("A commitment needs a fingerprint and a salt of 32 bytes each.")
    return keccak(encode(_COMMITMENT, [case_id, checksum(member), int(vote), fingerprint, salt]))


class Cases(Contract):
    """The contract of cases, which also holds the terms of all disputes.

    Methods that take a sender return when the transaction is mined.
    All of those raise Reverted, InsufficientFunds, NodeUnreachable, TransactionTimeout, TransactionReplaced.
    Signatures have 64 bytes (EIP-2098), or InvalidSignature is raised.
    """

    artifact_name = "DisputeCases"

    def __init__(self, rpc: Rpc, address: str, token: Token) -> None:
        super().__init__(rpc, address)
        self.token = token

    @cached_property
    def terms(self) -> DisputeTerms:
        """What faults cost and how long everything takes."""
        names = (field.name for field in fields(DisputeTerms))
        return DisputeTerms(**dict(zip(names, self._read("parameters"), strict=True)))

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
        return somebody(self._read("verifierOf", checksum(operator)))

    def verifiers(self) -> list[str]:
        """Return all verifiers on the list, eligible or not."""
        places = [self._read("verifierAt", place) for place in range(self._read("verifierCount"))]
        return [checksum(verifier) for verifier in places if verifier != NOBODY]

    # ------------------------------------------------------------------- cases

    def open(self, sender: Sender, receipt: Receipt, signature: bytes) -> Mined:
        """Accuse the signer of a receipt, with a permit over the bond in the same transaction.

        The number of the case is in the `CaseOpened` event: see `Disputes.events_in`.
        """
        with sender.permits:
            permit = self.token.permit(sender, self.address, self.terms.bond)
            arguments = *signed_receipt(receipt, signature), *permit
            return self._send(sender, "to open a case", "openCaseWithPermit", *arguments)

    def draw(self, sender: Sender, case_id: int) -> Mined:
        """Draw the committee of a case, from the block after its ``draw_block`` on.

        A draw from a list with many vacant places may need another call: without a `CommitteeDrawn` event it goes on.
        """
        header = header_of(self.rpc, self.state(case_id).draw_block)
        return self._send(sender, "to draw a committee", "draw", case_id, header)

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

    def state(self, case_id: int) -> Case:
        """Return the chain's view of a case."""
        values: tuple[Any, ...] = tuple(self._read("cases", case_id))
        phase, outcome, deadline, accuser, node, bond, block, draw_block, seq, *hashes_counts = values
        stage_hash, receipt_hash, *counts = hashes_counts
        seats, committed, revealed, guilty, innocent, unserved = counts
        return Case(
            Phase(phase),
            Outcome(outcome),
            deadline,
            checksum(accuser),
            checksum(node),
            bond,
            block,
            draw_block,
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

    def credit_of(self, operator: str) -> Owed:
        """Return what an operator may claim out of bonds for its votes, and when."""
        return Owed(*self._read("credits", checksum(operator)))

    def claim_credits(self, sender: Sender) -> Mined:
        """Take those of the sender's credits that have waited long enough."""
        return self._send(sender, "to claim credits", "claimCredits")
