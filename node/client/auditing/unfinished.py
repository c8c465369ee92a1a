"""Audits that an earlier run of a client had drawn and did not come to: killed, stopped, or cut off from the chain."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.money.budget import Period, PeriodBudget
from hypercluster.node.client.auditing.policy import Report, Served
from hypercluster.node.client.auditing.trial import TRAP
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.ledger.requests import RequestDetail
    from hypercluster.market.money.budget import Budget
    from hypercluster.node.client.auditing.inspection import Inspector
    from hypercluster.node.client.bookkeeping import RequestBook
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.network.orderbook import OrderBook

log = logging.getLogger(__name__)

_draw = secrets.SystemRandom()


class UnfinishedAudits:
    """Looks over what is left of one model's requests, as many stages as were drawn and not looked at.

    Which ones they were was never written down, so that nobody can know it: as many are drawn again, among those that
    were not looked at and whose transcripts are still here.

    Args:
        book: where the providers are found now.
        records: where it is written down.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        payer: Payer,
        inspector: Inspector,
        transcripts: TranscriptStore,
        book: OrderBook,
        records: RequestBook,
    ) -> None:
        self._ledger, self._payer, self._inspector = ledger, payer, inspector
        self._transcripts, self._book, self._records = transcripts, book, records
        self._in_thread = Threads(1)

    async def finish(self, request_id: str) -> list[Report]:
        """Look over what is left of one request, paid within the budget of its key and the wallet's limits.

        Never raises for what peers, chain or disk do.
        """
        try:
            # Read again: what was spent before a kill was written down since.
            detail = await self._in_thread(self._ledger.requests.one, request_id)
            stages = [] if detail is None else await self._in_thread(self._left, detail)
            budgets = [] if detail is None else await self._in_thread(self._budgets, detail.row.key_id)
        except MarketError as error:
            log.warning("the audits of request %s are not to be had: %s", request_id, error)
            return []
        if detail is None:
            return []
        cost, risked, covered = detail.row.audit_cost, detail.row.risked, detail.row.covered
        before = risked - sum(int(hop["risked_wei"]) for hop in detail.row.path)
        # A kill may have come between what an audit found and the row of its request.
        doubtful = detail.row.doubtful or any(
            audit.finding == "fail" and not audit.note.startswith(TRAP) for audit in detail.audits
        )
        open_stages, found = len(stages), list[Report]()
        spending = self._payer.spending(request_id, budgets).for_audits()

        async def note() -> None:
            await self._records.audited(
                request_id,
                cost + spending.spent_wei,
                risked + spending.risked_wei,
                doubtful,
                open_stages,
                covered + spending.covered_wei,
            )

        async def on_stage(reports: Sequence[Report]) -> None:
            nonlocal open_stages, doubtful
            open_stages -= 1
            found.extend(reports)
            doubtful |= any(report.fault == report.peer for report in reports)
            await note()

        self._records.auditing(request_id, cost, before, covered)
        try:
            await self._inspector.inspect(stages, spending, on_stage)
        except (NodeError, MarketError, OSError) as error:
            log.warning("the audits of request %s ended early: %s", request_id, error)
        finally:
            with trio.CancelScope(shield=True):
                await note()
        return found

    def _budgets(self, key_id: str | None) -> list[Budget]:
        """What the key that asked for a request has left."""
        found: list[Budget] = []
        for row in self._ledger.api_keys.list():
            if row.key_id == key_id:
                period = Period(row.period)
                spent = self._ledger.requests.spent_in(row.key_id, period.start(datetime.now(UTC)))
                found.append(PeriodBudget(f"budget of the key {row.name!r}", row.budget, period, spent))
        return found

    def _left(self, detail: RequestDetail) -> list[Served]:
        seen = {
            (audit.session, audit.peer, audit.layer_start)
            for audit in detail.audits
            if not audit.note.startswith(TRAP)
        }
        wanted, trusted = {}, self._inspector.policy.trusted
        for hop in detail.hops:
            key = (hop.stage_session, hop.peer, hop.layer_start)
            channel = self._ledger.payer.channel(hop.channel_id)
            if key not in seen and channel is not None and channel.payee.lower() not in trusted:
                wanted[key] = channel.payee
        left = []
        for stage_hash, record in self._transcripts.records():
            operator = wanted.get((record.session, record.peer, record.layer_start))
            if operator is not None:
                left.append(Served(stage_hash, operator, self._book.get(record.peer)))
        return _draw.sample(left, min(len(left), detail.row.audits_open))
