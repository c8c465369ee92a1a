"""Rumours: what a client may tell others against an operator, and what they check before they believe a word of it.

Two things can be shown to strangers. Two receipts for one step, both signed by the accused, prove themselves. And a
verifier's failing verdict over the very rows of a receipt that the accused signed: the word of a stake. The verdict has
to be over a stage of one step, since then its roots are those of the receipt: nothing else ties what a verifier saw to
what the accused signed without showing the rows. A node that took a payment and never answered signed nothing, so of
that there is nothing to show.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypercluster.market.errors import InvalidSignature
from hypercluster.market.trust.receipt import (
    NO_RECEIPT,
    DisputeDomain,
    Finding,
    Receipt,
    Verdict,
    profile_hash,
)
from hypercluster.node.errors import ForgedRumour, IdentityError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.records import StageRecord
from hypercluster.node.wire.rumours import Rumour, SignedReceipt, Testimony


@dataclass(frozen=True, slots=True)
class Claim:
    """What a genuine rumour says. Whether the operators answer for these nodes, the chain says.

    Attributes:
        peer, node, operator: the accused: peer id, node key's address, and who is said to answer for it.
        verifier, verifier_node, witness: the same of who testifies; empty where two receipts prove it.
        issued: unix seconds (UTC) of the latest signature.
    """

    model_id: str
    peer: str
    node: str
    operator: str
    issued: int
    verifier: str = ""
    verifier_node: str = ""
    witness: str = ""

    @property
    def proven(self) -> bool:
        """Whether it is proof by itself, and nobody's word."""
        return not self.witness


def claim_of(rumour: Rumour, domain: DisputeDomain) -> Claim:
    """What a rumour says, if all that it shows is signed by whom it names. Raises ForgedRumour."""
    first = rumour.receipt
    node = _signed_by(rumour.peer, receipt_of(rumour, first).struct_hash(), first.signature, domain)
    if (other := rumour.other) is not None:
        if other.seq != first.seq or (other.in_root, other.out_root) == (first.in_root, first.out_root):
            raise ForgedRumour("Its two receipts do not contradict each other.")
        _signed_by(rumour.peer, receipt_of(rumour, other).struct_hash(), other.signature, domain)
        issued = max(first.issued, other.issued)
        return Claim(rumour.model_id, rumour.peer, node, rumour.operator, issued)
    said = rumour.testimony
    assert said is not None
    if (first.seq, first.position, first.previous) != (0, 0, NO_RECEIPT):
        raise ForgedRumour("Its verdict cannot be over this receipt, which is not the first of its stage.")
    verdict = _verdict(rumour, said)
    verifier = _signed_by(said.verifier, verdict.struct_hash(), said.signature, domain)
    if said.witness == rumour.operator or verifier == node:
        raise ForgedRumour("Nobody is a witness against himself.")
    return Claim(
        rumour.model_id,
        rumour.peer,
        node,
        rumour.operator,
        max(first.issued, said.issued),
        said.verifier,
        verifier,
        said.witness,
    )


def contradiction(
    record: StageRecord, operator: str, first: tuple[Receipt, bytes], second: tuple[Receipt, bytes]
) -> Rumour:
    """The rumour of two receipts for one step of a stage, each with its signature."""
    return _rumour(record, operator, first, other=_signed(*second))


def testified(record: StageRecord, operator: str, receipt: tuple[Receipt, bytes], said: Testimony) -> Rumour:
    """The rumour of a failing verdict over the only step of a stage."""
    return _rumour(record, operator, receipt, testimony=said)


def receipt_of(rumour: Rumour, signed: SignedReceipt) -> Receipt:
    """A receipt of the rumour's stage, as it was signed."""
    return Receipt(
        stage=rumour.stage,
        seq=signed.seq,
        position=signed.position,
        tokens=signed.tokens,
        outputs=signed.outputs,
        in_root=signed.in_root,
        out_root=signed.out_root,
        previous=signed.previous,
        issued=signed.issued,
    )


def _verdict(rumour: Rumour, said: Testimony) -> Verdict:
    return Verdict(
        model_id=bytes.fromhex(rumour.model_id),
        layer_start=rumour.layer_start,
        layer_stop=rumour.layer_stop,
        wire_dtype=int(rumour.wire_dtype),
        tail=said.tail,
        profile=rumour.profile,
        in_root=rumour.receipt.in_root,
        out_root=rumour.receipt.out_root,
        tokens=rumour.receipt.tokens,
        outputs=rumour.receipt.outputs,
        finding=Finding.FAIL,
        tolerance=said.tolerance,
        fingerprint=said.fingerprint,
        job=said.job,
        issued=said.issued,
    )


def _signed_by(peer: str, struct_hash: bytes, signature: bytes, domain: DisputeDomain) -> str:
    """The address of the node key of `peer`, which signed this. Raises ForgedRumour."""
    try:
        node = address_of_peer(peer)
        if domain.recover(struct_hash, signature) != node:
            raise ForgedRumour(f"It shows what {peer} never signed.")
    except (InvalidSignature, IdentityError) as error:
        raise ForgedRumour(f"A signature or peer id of it is invalid: {error}") from None
    return node


def _signed(receipt: Receipt, signature: bytes) -> SignedReceipt:
    return SignedReceipt(
        seq=receipt.seq,
        position=receipt.position,
        tokens=receipt.tokens,
        outputs=receipt.outputs,
        in_root=receipt.in_root,
        out_root=receipt.out_root,
        previous=receipt.previous,
        issued=receipt.issued,
        signature=signature,
    )


def _rumour(
    record: StageRecord,
    operator: str,
    receipt: tuple[Receipt, bytes],
    *,
    other: SignedReceipt | None = None,
    testimony: Testimony | None = None,
) -> Rumour:
    return Rumour(
        operator=operator,
        peer=record.peer,
        session=record.session,
        nonce=record.nonce,
        channel_id=record.channel_id,
        model_id=record.model_id,
        layer_start=record.layer_start,
        layer_stop=record.layer_stop,
        wire_dtype=record.wire_dtype,
        profile=profile_hash(record.profile),
        receipt=_signed(*receipt),
        other=other,
        testimony=testimony,
    )
