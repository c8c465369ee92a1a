"""Whose doing it is when an audit does not come about."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import pytest

from hypercluster.market.errors import ChainError
from hypercluster.market.trust.audit import Difference
from hypercluster.market.trust.receipt import Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.account import Recipient
from hypercluster.node.client.auditing.consulting import Consulting
from hypercluster.node.client.auditing.opinion import AuditFailed, NoAuditor, Opinion, asking, funded
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


class Asked:
    """Auditors, of whom those in `failing` fail, in that order, and the last one is `there` or not."""

    def __init__(self, *failing: AuditFailed, there: bool = True) -> None:
        self.failing, self.there = failing, there

    async def audit(self, transcript: object, avoid: Collection[str], spending: object) -> Opinion:
        left = [error for error in self.failing if error.auditor not in avoid]
        if left:
            raise left[0]
        if not self.there:
            raise NoAuditor("Nobody is there.")
        return Opinion(Finding.PASS, Difference(0.0, 0.0, 1.0, True, 1), "here")


GONE, SILENT = (
    AuditFailed("gone", "It cannot be reached.", Evidence.DEATH),
    AuditFailed("silent", "It does not answer.", Evidence.SILENCE),
)
OWN = AuditFailed("own", "The engine fails.")


@pytest.mark.parametrize(
    ("asked", "said", "noted"),
    [
        (Asked(), "here", []),
        (Asked(GONE), "here", ["gone"]),
        (Asked(GONE, there=False), "gone", []),
        (Asked(GONE, SILENT), "silent", ["gone"]),
        (Asked(OWN), "own", []),
    ],
    ids=["nobody", "one", "the only one", "two", "our own"],
)
async def test_where_an_auditor_fails_another_one_is_asked(asked: Asked, said: str, noted: list[str]) -> None:
    """What the one shows that is told of last is for who asked to note."""
    seen: list[tuple[str, Evidence]] = []

    async def note(peer: str, operator: str, kind: Evidence, words: str) -> None:
        seen.append((peer, kind))

    consulting = Consulting(cast(Any, asked), cast(Any, None), cast(Any, None), note)
    try:
        who = (await consulting.opinion(cast(Any, None), "operator", FREE, "")).auditor
    except AuditFailed as error:
        who = error.auditor
    assert (who, seen) == (said, [(each, Evidence.DEATH) for each in noted])
