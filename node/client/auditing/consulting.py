"""Whose word is believed: another auditor is asked where one alone is not enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypercluster.market.trust.receipt import Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.auditing.opinion import AuditFailed, NoAuditor, Opinion

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.opinion import Auditor
    from hypercluster.node.client.auditing.verifier import VerifierAuditor
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.evidence.transcript import Transcript

MOST_WITNESSES = 3
"""verifiers that are asked about one fault, the first included: two of them decide"""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What others made of a finding: the finding that stands, what asking them cost (wei), and in words what they said.

    `sure` is false where nobody confirmed it, so that no bond should hang on it; `overruled` are auditors (peer ids)
    whom two others contradicted.
    """

    finding: Finding
    sure: bool = True
    cost_wei: int = 0
    overruled: tuple[str, ...] = ()
    note: str = ""


class Consulting:
    """Asks an auditor, and others where it has to.

    Args:
        own: makes the client's own auditor, when it is first needed.
        note: writes evidence down: peer, operator ("" if not known), kind, words.
    """

    def __init__(
        self,
        auditor: Auditor,
        verifiers: VerifierAuditor,
        own: Callable[[], Auditor],
        note: Callable[[str, str, Evidence, str], Awaitable[None]],
    ) -> None:
        self._auditor, self._verifiers, self._note = auditor, verifiers, note
        self._make_own = own
        self._own: Auditor | None = None

    async def opinion(
        self, transcript: Transcript, operator: str, spending: Spending, tested: str
    ) -> Opinion:
        """The auditor's; where that is another provider's word against this one's, a verifier's as well.

        A verifier that was `tested` with the same rows knows that these are the true ones, and is asked last. Where one
        auditor fails, such as one that has just gone, another one is asked, once. Raises NoAuditor, AuditFailed.
        """
        if tested and not self._verifiers.verifiers({operator, transcript.record.peer, tested}):
            tested = ""
        opinion = await self._first(transcript, {operator, tested} - {""}, spending)
        if opinion.certain:
            return opinion
        try:
            second = await self._verifiers.audit(transcript, {operator, opinion.auditor}, spending)
        except NoAuditor:
            return opinion
        if second.finding is Finding.PASS:
            # It is the other provider that differs from both.
            await self._note(opinion.auditor, "", Evidence.AUDIT_GREY, "It differed from a verifier.")
        return replace(second, cost_wei=opinion.cost_wei + second.cost_wei)

    async def _first(self, transcript: Transcript, avoid: set[str], spending: Spending) -> Opinion:
        before = spending.spent_wei
        try:
            return await self._auditor.audit(transcript, avoid, spending)
        except AuditFailed as error:
            if error.evidence is None:
                raise  # it was our own run, which would do the same again
            failed = error
        try:
            opinion = await self._auditor.audit(transcript, avoid | {failed.auditor}, spending)
        except NoAuditor:
            raise failed from None
        except AuditFailed:
            await self.blame(failed)
            raise
        await self.blame(failed)
        return replace(opinion, cost_wei=spending.spent_wei - before)

    async def blame(self, failed: AuditFailed) -> None:
        """Note what an auditor's failure shows of it, if anything."""
        if failed.evidence is not None:
            await self._note(failed.auditor, "", failed.evidence, str(failed))

    async def confirm(
        self, transcript: Transcript, operator: str, first: Opinion, spending: Spending
    ) -> Confirmed:
        """What stands of a fault that one verifier signed: our own run decides if it finds the same, else two of three
        verifiers of different operators.

        Where too few can be asked it stands, but is not sure. Never raises for what peers do.
        """
        if await self._own_fails(transcript, spending):
            return Confirmed(first.finding, note="Our own run finds the same.")
        before = spending.spent_wei
        found: dict[Finding, list[str]] = {first.finding: [first.auditor]}
        asked = {first.auditor, self._verifiers.operator_of(first.auditor)}
        for _ in range(MOST_WITNESSES - 1):
            try:
                word = await self._verifiers.audit(transcript, {operator, *asked}, spending)
            except NoAuditor:
                break
            except AuditFailed as error:
                asked |= {error.auditor, self._verifiers.operator_of(error.auditor)}
                await self.blame(error)
                continue
            await self._note(word.auditor, "", Evidence.SERVED, "It audited.")
            found.setdefault(word.finding, []).append(word.auditor)
            asked |= {word.auditor, self._verifiers.operator_of(word.auditor)}
            if len(found[word.finding]) == 2:
                break
        cost = spending.spent_wei - before
        failed, passed = len(found[Finding.FAIL]), len(found.get(Finding.PASS, ()))
        if failed >= 2:
            overruled = tuple(found.get(Finding.PASS, ()))
            return Confirmed(Finding.FAIL, True, cost, overruled, "Two verifiers find the same.")
        if passed >= 2:
            return Confirmed(
                Finding.PASS, True, cost, tuple(found[Finding.FAIL]), "Two other verifiers pass it."
            )
        if len(found) > 1:
            return Confirmed(Finding.GREY, False, cost, (), "Verifiers differ.")
        return Confirmed(first.finding, False, cost, (), "No second verifier: not taken to the chain.")

    async def _own_fails(self, transcript: Transcript, spending: Spending) -> bool:
        """Whether running it again here finds the fault. That it finds none says little: its bounds may be wide."""
        if self._own is None:
            self._own = self._make_own()
        try:
            return (await self._own.audit(transcript, (), spending)).finding is Finding.FAIL
        except (NoAuditor, AuditFailed):
            return False
