"""What all audits and deliveries of one verifier share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypercluster.market.ledger import SoldAudit
from hypercluster.market.money.voucher import VoucherDomain
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.network.budgets import BOUNDS, Budget
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.serving.lapses import Lapses
from hypercluster.node.threads import Threads
from hypercluster.node.verifier.places import Places

if TYPE_CHECKING:
    import coincurve

    from hypercluster.node.serving.collector import Collector

Judge = Callable[[Transcript], Judgement]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditService:
    """What all audits of one verifier share.

    Attributes:
        first_passed: given what was asked (Verdict.question) and the digest of our own computation of it, the digest
            of the first one that anything was passed by.
        price_wei: per audited token.
        offered: whether a stage of layers [start, stop) may be audited for pay.
        accuser_of: given a case, the address that opened it, empty if we do not know; asks nobody.
        expect_evidence: given a case and the hash of a stage; refuses what is not awaited.
        take_evidence: given a case and a transcript whose receipts are not yet checked; raises what is wrong with it.
        lapses: payers who kept places and sent nothing to audit; they wait twice as long each time.
        jobs: for paid audits, the waiting ones included; `deliveries`: for evidence from whoever knows the stage;
            `accusers`: for evidence from those whom the chain names, one for a case.
    """

    replayer: Replayer
    judge: Judge
    first_passed: Callable[[bytes, bytes], Awaitable[bytes]]
    collector: Collector
    price_wei: int
    vouchers: VoucherDomain
    disputes: DisputeDomain
    node_key: coincurve.PrivateKey
    offered: Callable[[int, int], bool]
    accuser_of: Callable[[int], str]
    expect_evidence: Callable[[int, bytes], Awaitable[None]]
    take_evidence: Callable[[int, Transcript], Awaitable[None]]
    jobs: Places
    deliveries: Places
    accusers: Places
    computing: Threads
    on_sale: Callable[[SoldAudit], Awaitable[None]]
    """told of every audit that was paid for and run, before its verdict is sent"""
    lapses: Lapses = field(default_factory=Lapses)
    audit_budget: Budget = field(default_factory=lambda: Budget(BOUNDS["audit"]))
    evidence_budget: Budget = field(default_factory=lambda: Budget(BOUNDS["evidence"]))
