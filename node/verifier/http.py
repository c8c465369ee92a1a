"""What a verifier shows over HTTP, for its pages and for scripts.

Amounts are wei as text, moments unix seconds, layers [start, stop). Every path needs the cookie of a one-time link.

- GET /hc/me: role "verifier", version, name, peer, wallet {address, hct_wei, gas_wei}, chain {id, head_age_s} | null.
- GET /hc/verifier: model {id, layers}, price_wei (per audited token), audits {running, most}, operator, node, enlisted,
  credits_wei, credits_at (when more of them may be claimed) | null, stake (as a provider's) | null, balance_wei,
  node_gas_wei, unclaimed_wei, claim {owed_wei, channels, gas_coin_wei, gas_wei, net_wei, multiple, due} | null, cases
  [{case, accused, seat, seats, phase, vote, outcome, drawn, commit_deadline, reveal_deadline}], the newest first,
  addresses, notices, since, uptime_s, ready {name: sentence | null}. Phases are drawn, judged, committed, revealed,
  resolved, missed; votes innocent, grey, guilty, unserved; null what is not known yet, or no more to come.
- GET /hc/verifier/audits?limit=100&before=ID: audits [{id, at, layers, tokens, finding, median_error, max_error,
  agreement, exact, paid_wei, seconds, channel}], the newest first, null for an error that is no finite number; total
  {audits, paid_wei}.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from starlette.requests import Request

from hypercluster.market.chain import Chain
from hypercluster.market.chain.disputes import Case, Phase, Vote
from hypercluster.market.ledger import Duty, Ledger, SoldAudit
from hypercluster.node.serving.jobs import Jobs
from hypercluster.node.serving.presence import Presence
from hypercluster.node.serving.standing import LOOK_SECONDS, Standings
from hypercluster.node.serving.terms import HttpTerms, Wallets
from hypercluster.node.shards import Manifest
from hypercluster.node.threads import Threads
from hypercluster.node.verifier.places import Places
from hypercluster.node.web.desk import Ask, Desk, first_look, number, open_desk
from hypercluster.node.web.health import Check, found_by
from hypercluster.node.web.metrics import ProcessMetrics

MOST_ROWS = 1000
MOST_CASES = 200


@dataclass(slots=True, kw_only=True)
class Showing:
    """What the documents are made from; `look` brings what the chain says up to date."""

    presence: Presence
    standings: Standings
    chain: Chain
    ledger: Ledger
    places: Places
    wallets: Wallets
    model: Manifest
    price_wei: int
    duties: tuple[Duty, ...] = ()
    """the newest first"""
    enlisted: bool | None = None
    credits_wei: int = 0
    credits_at: int = 0
    _tip: tuple[int, bytes] | None = None
    """as of which the chain was read"""
    _cases: dict[int, Case] = field(default_factory=dict)
    _in_thread: Threads = field(default_factory=lambda: Threads(1, abandon=True))

    async def look(self) -> None:
        """Read chain and ledger. Raises MarketError."""
        await self.standings.look()
        await self._in_thread(self._look, self.standings.tip)

    def _look(self, tip: tuple[int, bytes] | None) -> None:
        new_block = self._tip != tip
        cases = self.chain.disputes.cases
        duties = self.ledger.trust.duties(cases.address, self.chain.chain_id, open_only=False)
        latest = tuple(reversed(duties[-MOST_CASES:]))
        for duty in latest:
            known = self._cases.get(duty.case_id)
            if known is None or (new_block and known.phase is not Phase.CLOSED):
                self._cases[duty.case_id] = cases.state(duty.case_id)
        if new_block:
            credit = cases.credit_of(self.wallets.operator)
            self.credits_wei, self.credits_at = credit.amount, credit.claimable_at
            self.enlisted = cases.is_enlisted(self.wallets.sender.address)
        self.duties, self._tip = latest, tip

    def documents(self) -> Mapping[str, Ask]:
        """What is asked at each path."""
        return {"/hc/me": self._me, "/hc/verifier": self._verifier, "/hc/verifier/audits": self._audits}

    def checks(self) -> list[Check]:
        """What must be there for the verifier to be of use; its model is opened by now."""

        async def advert() -> str | None:
            late = time.time() > self.presence.told.expires
            return "The advert has not been renewed in time." if late else None

        return [
            Check("chain", self.standings.chain_wrong),
            Check("stake", self.standings.stake_wrong),
            Check("advert", advert),
        ]

    async def _me(self, request: Request) -> Mapping[str, Any]:
        return self.standings.me("verifier", self.presence.host.peer)

    async def _verifier(self, request: Request) -> Mapping[str, Any]:
        running = self.presence.running_node()
        return {
            "model": {"id": self.model.model_id, "layers": self.model.layers},
            "price_wei": str(self.price_wei),
            "audits": {"running": self.places.most - self.places.free, "most": self.places.most},
            "operator": self.wallets.operator,
            "node": self.wallets.sender.address,
            "enlisted": self.enlisted,
            "credits_wei": str(self.credits_wei),
            "credits_at": self.credits_at or None,
            **self.standings.document(),
            "cases": [self._case(duty) for duty in self.duties],
            "addresses": list(running.addresses),
            "notices": list(running.notices),
            "since": self.presence.since,
            "uptime_s": time.time() - self.presence.since,
            "ready": await found_by(self.checks()),
        }

    def _case(self, duty: Duty) -> dict[str, Any]:
        case = self._cases.get(duty.case_id)
        return {
            "case": duty.case_id,
            "accused": duty.node,
            "seat": duty.seat,
            "seats": len(duty.members),
            "phase": duty.phase,
            "vote": Vote(duty.vote).name.lower() if duty.vote is not None else None,
            "outcome": case.outcome.name.lower() if case and case.outcome else None,
            "drawn": duty.drawn.timestamp(),
            "commit_deadline": duty.commit_deadline,
            "reveal_deadline": self.reveal_deadline(duty),
        }

    def reveal_deadline(self, duty: Duty) -> int | None:
        """The last second to reveal a vote in an open case, should everybody take their time to commit."""
        case = self._cases.get(duty.case_id)
        if case is None or case.phase is Phase.CLOSED:
            return None
        return case.deadline if case.phase is Phase.REVEALING else case.deadline + case.reveal_seconds

    async def _audits(self, request: Request) -> Mapping[str, Any]:
        limit = number(request, "limit", 100, 1, MOST_ROWS)
        before = number(request, "before", 0, 1, 2**62) if "before" in request.query_params else None
        trust = self.ledger.trust
        rows = await trio.to_thread.run_sync(partial(trust.sales, limit=limit, before=before))
        count, paid = await trio.to_thread.run_sync(trust.sold)
        return {"audits": [_audit(row) for row in rows], "total": {"audits": count, "paid_wei": str(paid)}}


@asynccontextmanager
async def shown(
    showing: Showing, http: HttpTerms, metrics: ProcessMetrics, jobs: Jobs
) -> AsyncIterator[None]:
    """Show the verifier at its addresses until the end of the block. Raises CannotServe, PageMissing."""
    desk = Desk(
        documents=showing.documents(),
        checks=showing.checks(),
        registry=metrics.registry,
        hosts=http.hosts,
        link_file=http.link_file,
    )
    jobs.every(LOOK_SECONDS, "looking at the figures", await first_look(showing.look, desk.checks, metrics))
    async with open_desk(desk, http.binds) as link:
        showing.presence.link = link
        yield


def _audit(row: SoldAudit) -> dict[str, Any]:
    return {
        "id": row.sale_id,
        "at": row.at.timestamp(),
        "layers": [row.layer_start, row.layer_stop],
        "tokens": row.tokens,
        "finding": row.finding,
        "median_error": row.median_error,
        "max_error": row.max_error,
        "agreement": row.agreement,
        "exact": row.exact,
        "paid_wei": str(row.paid),
        "seconds": row.seconds,
        "channel": "0x" + row.channel_id.hex(),
    }
