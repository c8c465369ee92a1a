"""The evidence of a case, brought to a member of its committee: nobody pays, and the accuser comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercluster.market.errors import InvalidSignature
from hypercluster.market.money.signing import address_of
from hypercluster.market.trust.delivery import delivery_hash
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import address_of_peer
from hypercluster.node.serving.refusals import SEND_SECONDS
from hypercluster.node.verifier.service import AuditService
from hypercluster.node.verifier.taking import accept, steps_of
from hypercluster.node.wire.audit import AuditEnd, AuditOpen

if TYPE_CHECKING:
    from hypercluster.node.network.connection import Connection


async def serve_delivery(connection: Connection, service: AuditService, opened: AuditOpen) -> None:
    """Take the evidence of a case.

    Whoever proves to be its accuser has a place of its own; the others share what there is, and the slowest of them
    goes when all is taken.

    Raises:
        OverBudget, Refused, NodeError, MarketError: why not.
    """
    assert opened.stage is not None
    stage_hash = opened.stage.stage.struct_hash()
    if _is_from_accuser(connection.peer, service, opened):
        await service.expect_evidence(opened.case_id, stage_hash)
        places, key = service.accusers, opened.case_id
    else:
        with service.evidence_budget.holding(connection.source):
            await service.expect_evidence(opened.case_id, stage_hash)
        places, key = service.deliveries, None
    async with places.place(key=key) as place:
        await accept(connection, service, opened.opening, None)
        steps = await steps_of(connection, service, opened.opening, place, lambda step: None)
        await service.take_evidence(opened.case_id, Transcript(opened.stage, steps))
        await connection.send(AuditEnd(), SEND_SECONDS)


def _is_from_accuser(peer: str, service: AuditService, opened: AuditOpen) -> bool:
    """Whether the account that the chain names as the accuser says that this peer brings its evidence to us."""
    accuser = service.accuser_of(opened.case_id) if opened.proof else ""
    if not accuser:
        return False
    said = delivery_hash(opened.case_id, address_of(service.node_key), address_of_peer(peer))
    try:
        return service.disputes.recover(said, opened.proof) == accuser
    except InvalidSignature:
        return False
