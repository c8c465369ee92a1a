"""What requests leave in the ledger: a row each, a row for each of their sessions, and the state of the channels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from hypercluster.market.errors import MarketError
from hypercluster.market.ledger import Outcome, RequestRow, Role, SessionRecord
from hypercluster.node.client.limits import AUDITS
from hypercluster.node.client.receipt_files import ReceiptFiles, bundle_of
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger
    from hypercluster.node.client.completion import Completion, HopBill
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.client.request import Request

log = logging.getLogger(__name__)


class RequestBook:
    """Keeps the rows of one client's requests.

    A ledger that fails stops nobody: it is logged, and what was spent is written down at the next start.
    """

    def __init__(self, ledger: Ledger, payer: Payer, receipts: ReceiptFiles) -> None:
        self._ledger, self._payer, self._receipts = ledger, payer, receipts
        self._in_ledger = Threads(2)

    async def begun(self, completion: Completion, request: Request, model_id: str) -> None:
        """Write down a request before anything is spent on it."""
        asker = request.asker
        row = RequestRow(
            request_id=completion.request_id,
            key_id=asker.key_id,
            app=asker.app,
            endpoint=asker.endpoint,
            model_id=model_id,
            model_name=asker.model_name,
        )
        self._payer.begun(completion.request_id)
        await self._keep(partial(self._ledger.requests.add, row))

    async def opened(self, completion: Completion, hops: Sequence[Hop]) -> None:
        """Write down the sessions of a path before their first step."""
        sessions = [_session(completion, hop) for hop in hops]
        await self._keep(partial(self._ledger.history.save_sessions, sessions))

    async def ended(self, completion: Completion, hops: Sequence[Hop], audits: int) -> None:
        """Write down what came of a request and of its sessions, and how many of them are audited from now on."""
        sessions = [_session(completion, hop) for hop in hops]
        for session in sessions:
            session.ended = datetime.now(UTC)
        await self._keep(partial(self._ledger.history.save_sessions, sessions))
        values = _values(completion)
        finish = partial(
            self._ledger.requests.finish,
            completion.request_id,
            Outcome(completion.finish),
            audits_open=audits,
            **values,
        )
        await self._keep(partial(self._keep_receipts, completion, hops))
        if audits:
            self.auditing(completion.request_id, 0, 0, completion.covered_wei)
        await self._close(completion.request_id, finish)

    async def audited(
        self,
        request_id: str,
        cost_wei: int,
        risked_wei: int,
        doubtful: bool,
        still_open: int,
        covered_wei: int,
    ) -> None:
        """Write down what the audits of a request found and cost so far, and what it risked with them, and how much of
        all that the request costs was covered by what earlier ones had risked.

        While some are open the journal keeps what was signed for them: the next start counts what was never answered.
        """
        update = partial(
            self._ledger.requests.update,
            request_id,
            audit_cost=cost_wei,
            risked=risked_wei,
            covered=covered_wei,
            doubtful=doubtful,
            audits_open=still_open,
        )
        if still_open:
            await self._keep(self._payer.store)
            await self._keep(update)
        else:
            await self._close(request_id + AUDITS, update)

    def auditing(self, request_id: str, cost_wei: int, risked_wei: int, covered_wei: int) -> None:
        """Audits of a request are about to be paid for; earlier ones cost and risked so much, and all that the request
        cost before was covered with so much of what others had risked.
        """
        self._payer.begun(request_id + AUDITS, cost_wei, risked_wei, covered_wei)

    async def _close(self, name: str, write: Callable[[], None]) -> None:
        """Write all down that the journal has under a name, which it can forget then."""
        saved = await self._keep(self._payer.store)
        if await self._keep(write) and saved:
            self._payer.closed(name)

    def _keep_receipts(self, completion: Completion, hops: Sequence[Hop]) -> None:
        if (data := bundle_of(completion, hops)) is not None:
            self._receipts.save(completion.request_id, data)

    async def _keep(self, write: Callable[[], None]) -> bool:
        try:
            await self._in_ledger(write)
        except (MarketError, OSError) as error:
            log.warning("what a request did could not be written down: %s", error)
            return False
        return True


def billed_entry(hop: HopBill) -> dict[str, Any]:
    """What a session did and cost: amounts in wei as texts, ms for a step on average."""
    spent = hop.timing.total
    return {
        "peer": hop.peer,
        "layers": [hop.layer_start, hop.layer_stop],
        "price_wei": str(hop.price_wei),
        "prompt_price_wei": str(hop.prompt_price_wei),
        "tokens": hop.tokens,
        "cost_wei": str(hop.paid_wei),
        "risked_wei": str(hop.risked_wei),
        "ms": round(sum(spent) / len(spent), 2) if spent else None,
        **({"stood_by": True} if hop.stood_by else {}),
    }


def path_entry(hop: HopBill) -> dict[str, Any]:
    """The same as a request's row lists it: with who was paid, and the ids of session and channel in hex."""
    ids = {"operator": hop.operator, "session": hop.session.hex(), "channel": hop.channel_id.hex()}
    return billed_entry(hop) | ids


def _values(completion: Completion) -> dict[str, Any]:
    bill = completion.bill
    return {
        "path": [path_entry(hop) for hop in bill.hops],
        "tokens_in": len(completion.prompt),
        "tokens_out": len(completion.tokens),
        "tokens_cached": completion.cached,
        "cost": bill.spent_wei,
        "risked": bill.risked_wei,
        "covered": completion.covered_wei,
        "gas": bill.gas_wei,
        "deposited": bill.deposited_wei,
        "first_token": completion.first_token,
        "error": str(completion.error or completion.limit or ""),
        "seed": completion.seed,
    }


def _session(completion: Completion, hop: Hop) -> SessionRecord:
    failed = hop.broken or hop.advert.peer in completion.failures
    return SessionRecord(
        session_id=hop.visit,
        goes_on=hop.record.session if hop.record.session != hop.visit else None,
        peer=hop.advert.peer,
        layer_start=hop.advert.layer_start,
        layer_stop=hop.advert.layer_stop,
        role=Role.CLIENT,
        model_id=hop.record.model_id,
        channel_id=hop.account.channel_id,
        price_wei=hop.price_wei,
        prompt_price_wei=hop.prompt_price_wei,
        prompt_tokens=hop.tokens - hop.generated,
        tokens=hop.generated,
        billed=hop.paid_wei,
        started=hop.opened,
        outcome="failed" if failed else "",
        request_id=completion.request_id,
    )
