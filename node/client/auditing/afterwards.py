"""Audits in the background: they begin when a completion has ended, and report under its id."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.inspection import Inspector
    from hypercluster.node.client.auditing.policy import Report, Served
    from hypercluster.node.client.auditing.resuming import OpenCases
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending

log = logging.getLogger(__name__)

MOST_REMEMBERED = 256
"""completions whose reports can be asked for"""


class _Audited:
    def __init__(self, completion: Completion) -> None:
        self.completion = completion
        self.reports = completion.reports
        self.done = False
        self.changed = trio.Condition()


class Audits:
    """The audits of one client.

    Args:
        nursery: in which they run; they end with it.
        saved: called after every audit, with how many stages are still to be audited, to write down what it cost
            and found.
        cases: of an earlier run, which are taken up at once.
    """

    def __init__(
        self,
        inspector: Inspector,
        nursery: trio.Nursery,
        saved: Callable[[Completion, int], Awaitable[None]],
        cases: OpenCases | None = None,
    ) -> None:
        self.inspector, self.cases = inspector, cases
        self._nursery, self._saved = nursery, saved
        self._of: dict[str, _Audited] = {}
        self.over = False
        """whether the nursery has ended, so that nothing is audited any more"""
        if cases is not None:
            nursery.start_soon(cases.see_through)

    def begin(self, completion: Completion, hops: Sequence[Hop], spending: Spending) -> bool:
        """Look over the stages of a completion, paid within `spending`; each report is added to it and told to who
        follows. False where nothing is audited any more.
        """
        if self.over:
            return False
        for old in [*self._of][: len(self._of) + 1 - MOST_REMEMBERED]:
            del self._of[old]
        audited = self._of[completion.request_id] = _Audited(completion)
        completion.auditing = spending.for_audits()
        self._nursery.start_soon(self._look, audited, self.inspector.sampled(hops), completion.auditing)
        return True

    def due(self, hops: Sequence[Hop]) -> int:
        """How many of these stages are going to be audited."""
        return 0 if self.over else len(self.inspector.sampled(hops))

    async def follow(self, request_id: str) -> AsyncIterator[Report]:
        """The reports on a completion, each as soon as it is there, until all are; none if it is not known."""
        audited = self._of.get(request_id)
        told = 0
        while audited is not None:
            while told < len(audited.reports):
                told += 1
                yield audited.reports[told - 1]
            if audited.done:
                return
            async with audited.changed:
                while told == len(audited.reports) and not audited.done:
                    await audited.changed.wait()

    async def _look(self, audited: _Audited, stages: Sequence[Served], spending: Spending) -> None:
        open_stages = len(stages)

        async def on_stage(reports: Sequence[Report]) -> None:
            nonlocal open_stages
            open_stages -= 1
            audited.reports.extend(reports)
            if open_stages:
                await self._saved(audited.completion, open_stages)
            await self._tell(audited)

        try:
            await self.inspector.inspect(stages, spending, on_stage)
        except (NodeError, MarketError, OSError) as error:
            # A chain, a ledger or a disk that fails: the completion is whole all the same.
            log.warning("the audits of completion %s ended early: %s", audited.completion.request_id, error)
        finally:
            with trio.CancelScope(shield=True):
                if stages:
                    # What is left is not lost: a watch takes it up.
                    await self._saved(audited.completion, open_stages)
                audited.done = True
                await self._tell(audited)

    async def _tell(self, audited: _Audited) -> None:
        async with audited.changed:
            audited.changed.notify_all()
