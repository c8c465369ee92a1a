"""Checking a bundle of receipts without the network or the chain: every signature, every root, every amount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import format_hct
from hypercluster.market.money.voucher import charge
from hypercluster.market.trust.receipt import NO_RECEIPT, Receipt
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.bundle import Bundle, PaidSession, read_bundle
from hypercluster.node.evidence.seams import seam_faults
from hypercluster.node.identity import address_of_peer

MOST_FAULTS = 50


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a bundle: `faults` in sentences, none if all of it holds."""

    bundle: Bundle
    signer: str
    """the payer's session key, by its address"""
    steps: int
    faults: tuple[str, ...]


def check_bundle(data: bytes) -> Checked:
    """Check a bundle of receipts as far as it can be without anybody's help.

    That the providers named signed every step with its inputs and outputs, that each handed on what the one before it
    answered, that the prices were quoted and all steps paid by vouchers, and that this adds up to the bill. What was
    computed is not checked: that is what audits are for.

    Raises:
        NoBundle: it is none, or is not whole.
    """
    bundle, signer = read_bundle(data)
    faults = tuple(islice(_faults(bundle, signer), MOST_FAULTS))
    return Checked(bundle, signer, sum(len(each.steps) for each in bundle.sessions), faults)


def _faults(bundle: Bundle, signer: str) -> Iterator[str]:
    if not signer:
        yield "The file was changed after it was made: the signature in its last line does not hold."
    for number, session in enumerate(bundle.sessions, 1):
        record = session.record
        where = f"Session {number} (layers {record.layer_start}:{record.layer_stop}, peer {record.peer})"
        try:
            yield from (f"{where}: {fault}" for fault in _session_faults(bundle, session, signer))
        except (MarketError, NodeError, ValueError) as error:
            yield f"{where}: {error}"
    yield from seam_faults(bundle.sessions, bundle.begins)
    for name, said, found in (
        ("cost", bundle.cost_wei, sum(each.cost_wei for each in bundle.sessions)),
        ("risk", bundle.risked_wei, sum(each.risked_wei for each in bundle.sessions)),
    ):
        if said != found:
            yield (
                f"The bill says a {name} of {format_hct(said)} HCT, the sessions add up to {format_hct(found)} HCT."
            )


def _session_faults(bundle: Bundle, session: PaidSession, signer: str) -> Iterator[str]:
    record, channel = session.record, session.channel
    node = address_of_peer(record.peer)
    if bundle.payments.channel_id(channel) != record.channel_id:
        yield "the channel that is named is not the one that was paid from."
    if signer and channel.signer != signer:
        yield f"its vouchers are to be signed by {channel.signer}, the file is signed by {signer}."
    if _signer(bundle.payments.recover_quote, session.quote, session.quote_signature) != node:
        yield "its prices are not quoted by the provider's node key."
    if session.risked_wei < 0:
        yield "what was risked is below zero."
    if (session.first_seq > 0) != (session.previous != NO_RECEIPT):
        yield "its first step has another number than the receipt before it allows."
    previous, position, best, cost = session.previous, 0, 0, 0
    if session.first_seq and session.steps:
        # What it held before was served for an earlier request; that much of it counts is what its provider signed.
        position = session.steps[0].position
        cost = session.quote.cached_price_wei * position
    for number, step in enumerate(session.steps):
        receipt = Receipt(
            stage=record.stage,
            seq=step.seq,
            position=step.position,
            tokens=step.tokens,
            outputs=step.outputs,
            in_root=step.in_root,
            out_root=step.out_root,
            previous=previous,
            issued=step.issued,
        )
        struct_hash = receipt.struct_hash()
        if _signer(bundle.disputes.recover, struct_hash, step.receipt) != node:
            yield f"step {number}: its receipt is not signed by the provider's node key over what is here."
            return  # and none of those that follow would be
        paid_by = _signer(bundle.payments.recover, record.channel_id, step.cumulative_wei, step.voucher)
        if paid_by != channel.signer:
            yield f"step {number}: its voucher is not signed by the channel's signer over what is here."
        if step.seq != session.first_seq + number or step.position > position:
            yield f"step {number}: it is not the one that follows the step before."
        cost += charge(session.quote.price_wei, session.quote.prompt_price_wei, step.tokens)
        if step.cumulative_wei < best or step.cumulative_wei < cost:
            yield f"step {number}: its voucher does not pay for the steps so far."
        previous, position, best = struct_hash, step.position + step.tokens, step.cumulative_wei
    if position > session.quote.capacity:
        yield f"it has {position} tokens, the quote is for {session.quote.capacity}."
    if cost != session.cost_wei:
        yield (
            f"its steps cost {format_hct(cost)} HCT at the quoted prices, the bill says "
            f"{format_hct(session.cost_wei)} HCT."
        )


def _signer(recover: Callable[..., str], *signed: object) -> str:
    """Who signed it, "" for nobody."""
    try:
        return recover(*signed)
    except MarketError:
        return ""
