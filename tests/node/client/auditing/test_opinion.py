"""Whose doing it is when an audit does not come about."""

from __future__ import annotations

from typing import cast

import pytest

from hypercluster.market.errors import ChainError
from hypercluster.node.client.account import Recipient
from hypercluster.node.client.auditing.opinion import AuditFailed, NoAuditor, asking, funded
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.client.payer import Payer
from hypercluster.node.errors import ErrorCode, NodeError
from tests.node.helpers.providers import FREE


class SilentChain:
    async def fund(self, needs: dict[Recipient, int]) -> None:
        raise ChainError("The node at http://127.0.0.1:1 does not answer.")


async def test_b_an_audit_that_we_cannot_pay_is_no_fault_of_the_auditor() -> None:
    """B: an empty wallet or a chain that hangs is ours; a verifier lost reputation for it."""
    with pytest.raises(NoAuditor, match=r"cannot be paid: The node at .* does not answer"), asking("V"):
        await funded(cast(Payer, SilentChain()), Recipient("0x" + "0" * 40, "0x" + "1" * 40), 1, FREE)


@pytest.mark.parametrize("code", [ErrorCode.FULL, ErrorCode.PRICE_TOO_LOW, ErrorCode.UNKNOWN_CHANNEL])
def test_b_an_auditor_that_refuses_with_a_reason_has_done_nothing_wrong(code: ErrorCode) -> None:
    """B: what is no evidence against a provider is none against an auditor."""
    with pytest.raises(NoAuditor, match="V refused: busy"), asking("V"):
        raise HopFailed("V", "busy", code, How.REFUSED)


@pytest.mark.parametrize(
    "error",
    [
        HopFailed("V", "the connection is lost.", how=How.LOST),
        HopFailed("V", "it broke.", ErrorCode.INTERNAL, How.REFUSED),
        NodeError("It cannot be reached."),
    ],
    ids=["lost", "internal", "unreachable"],
)
def test_an_auditor_that_does_not_do_its_work_has_failed(error: NodeError) -> None:
    with pytest.raises(AuditFailed), asking("V"):
        raise error
