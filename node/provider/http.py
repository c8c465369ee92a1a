"""What a provider shows over HTTP, for its pages and for scripts.

Amounts are wei as text, moments unix seconds, layers [start, stop). Every path needs the cookie of a one-time link.

- GET /hc/me: role "provider", version, name, peer, wallet {address, hct_wei, gas_wei}, chain {id, head_age_s} | null.
- GET /hc/provider: model {id, layers}, layers, sessions {open, parked, free, most, tokens}, queue (steps that wait),
  decode_ms, prompt_ms, steps, tokens (both answered since the start), price_wei, prompt_price_wei, cached_price_wei,
  price_rule "fixed" | "gradient", operator, node, stake {active_wei, thawing_wei, thaw_end, eligible, backing_wei (of
  it behind this node), carries (sessions)} | null, balance_wei, node_gas_wei, unclaimed_wei, claim {owed_wei,
  channels, gas_coin_wei, gas_wei, net_wei, multiple, due} | null, demands [{id, demander, seq, row, deadline}],
  addresses, notices, since, uptime_s, ready {name: sentence | null}.
- GET /hc/provider/earnings?days=30: days [{day "2026-01-31", earned_wei, tokens, prompt_tokens, sessions}], the oldest
  first and none left out; channels [{channel, payer, earned_wei, claimed_wei, unclaimed_wei, deposit_wei, state
  "open" | "closing" | "ended", opened}], the newest first; earned_wei, claimed_wei, unclaimed_wei of all of them.
- GET /hc/provider/prices?limit=200: history [{id, at, layers, price_wei, next_price_wei, gradient, probability, rivals,
  best_response_wei, revenue_wei, floor_wei, bound}], the newest first; curve {id, at, price_wei, next_price_wei,
  best_response_wei, points [[price_wei, revenue_wei, probability]]} | null of the newest, or of ?curve=ID.
- GET /hc/provider/sessions?limit=100&before=MOMENT: sessions [{session, peer, started, ended, layers, prompt_tokens,
  tokens, billed_wei, price_wei, outcome, refused, code, channel}], the newest first; refusals since the start of the
  process are among them, with price_wei and channel null.
- GET /hc/provider/advise: machine {memory_bytes, layer_ms} | null, prompt_ratio (prompt tokens that are taken to come
  with a generated one) | null, ranges [{layers, price_wei, prompt_price_wei, cost_ms, probability, revenue_wei,
  unserved}], the best first, at, why (a sentence where there are none) | null.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import trio
from starlette.requests import Request

from hypercluster.market.ledger import Ledger, PriceRow, Role, SessionRecord
from hypercluster.node.provider.curve import curve_document
from hypercluster.node.provider.demands import Demands
from hypercluster.node.provider.offers import Offer
from hypercluster.node.provider.prospects import Prospects
from hypercluster.node.provider.visits import Visit, Visits
from hypercluster.node.serving.jobs import Jobs
from hypercluster.node.serving.presence import Presence
from hypercluster.node.serving.standing import LOOK_SECONDS, Standings, channel_documents
from hypercluster.node.serving.terms import HttpTerms
from hypercluster.node.web.desk import Ask, BadQuery, Desk, first_look, number, open_desk
from hypercluster.node.web.health import Check, found_by
from hypercluster.node.web.metrics import ProcessMetrics

MOST_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What the documents are made from; `documents` and `checks` are for the desk."""

    offer: Offer
    presence: Presence
    standings: Standings
    ledger: Ledger
    demands: Demands
    visits: Visits
    prospects: Prospects
    node: str
    operator: str

    def documents(self) -> Mapping[str, Ask]:
        """What is asked at each path."""
        return {
            "/hc/me": self._me,
            "/hc/provider": self._provider,
            "/hc/provider/earnings": self._earnings,
            "/hc/provider/prices": self._prices,
            "/hc/provider/sessions": self._sessions,
            "/hc/provider/advise": self._advise,
        }

    def checks(self) -> list[Check]:
        """What must be there for the provider to be of use; its shard is loaded by now."""

        async def advert() -> str | None:
            late = time.time() > self.presence.told.expires
            return "The advert has not been renewed in time." if late else None

        async def staying() -> str | None:
            return "The provider is moving to other layers." if self.offer.leaving.is_set() else None

        async def transcripts() -> str | None:
            return self.prospects.transcripts.full

        return [
            Check("chain", self.standings.chain_wrong),
            Check("stake", self.standings.stake_wrong),
            Check("advert", advert),
            Check("staying", staying),
            Check("transcripts", transcripts),
        ]

    async def _me(self, request: Request) -> Mapping[str, Any]:
        return self.standings.me("provider", self.presence.host.peer)

    async def _provider(self, request: Request) -> Mapping[str, Any]:
        offer, stats, running = self.offer, self.offer.engine.stats(), self.presence.running_node()
        prices = offer.asking.prices
        return {
            "model": {"id": offer.manifest.model_id, "layers": offer.manifest.layers},
            "layers": [offer.terms.start, offer.terms.stop],
            "sessions": {
                "open": offer.open_sessions,
                "parked": len(offer.parking),
                "free": offer.free,
                "most": offer.terms.sessions,
                "tokens": offer.engine.max_capacity,
            },
            "queue": stats.waiting,
            "decode_ms": offer.speed.cost_ms,
            "prompt_ms": offer.speed.prompt_ms,
            "steps": self.visits.steps,
            "tokens": self.visits.tokens,
            "price_wei": str(prices.price_wei),
            "prompt_price_wei": str(prices.prompt_price_wei),
            "cached_price_wei": str(offer.cached_price_wei),
            "price_rule": "gradient" if offer.asking.rule.adapt else "fixed",
            "operator": self.operator,
            "node": self.node,
            **self.standings.document(),
            "demands": [
                {
                    "id": each.demand_id,
                    "demander": each.demander,
                    "seq": each.seq,
                    "row": each.row,
                    "deadline": each.deadline,
                }
                for each in list(self.demands.open.values())
            ],
            "addresses": list(running.addresses),
            "notices": list(running.notices),
            "since": self.presence.since,
            "uptime_s": time.time() - self.presence.since,
            "ready": await found_by(self.checks()),
        }

    async def _earnings(self, request: Request) -> Mapping[str, Any]:
        days = number(request, "days", 30, 1, 366)
        today = datetime.now(UTC).date()
        first = today - timedelta(days=days - 1)
        since = datetime(first.year, first.month, first.day, tzinfo=UTC)
        found = await trio.to_thread.run_sync(self.ledger.history.earned_by_day, since)
        by_day = {each.day: each for each in found}

        def of(day: date) -> dict[str, Any]:
            each = by_day.get(day.isoformat())
            return {
                "day": day.isoformat(),
                "earned_wei": str(each.billed if each else 0),
                "tokens": each.tokens if each else 0,
                "prompt_tokens": each.prompt_tokens if each else 0,
                "sessions": each.sessions if each else 0,
            }

        channels = self.standings.now.channels if self.standings.now else ()
        return {
            "days": [of(first + timedelta(days=index)) for index in range(days)],
            "channels": channel_documents(channels)[:MOST_ROWS],
            "earned_wei": str(sum(row.best for row in channels)),
            "claimed_wei": str(sum(row.settled for row in channels)),
            "unclaimed_wei": str(sum(row.unclaimed for row in channels)),
        }

    async def _prices(self, request: Request) -> Mapping[str, Any]:
        limit = number(request, "limit", 200, 1, MOST_ROWS)
        history = self.ledger.history
        rows = await trio.to_thread.run_sync(
            partial(history.prices, self.offer.manifest.model_id, limit=limit)
        )
        shown = rows[0] if rows else None
        if "curve" in request.query_params:
            shown = await trio.to_thread.run_sync(history.price, number(request, "curve", 0, 1, 2**62))
            if shown is None:
                raise BadQuery("There is no such update of the price.")
        curve = await trio.to_thread.run_sync(curve_document, shown) if shown else None
        return {"history": [_price(row) for row in rows], "curve": curve}

    async def _sessions(self, request: Request) -> Mapping[str, Any]:
        limit = number(request, "limit", 100, 1, MOST_ROWS)
        before = _moment(request)
        rows = await trio.to_thread.run_sync(
            partial(self.ledger.history.sessions, role=Role.PROVIDER, limit=limit, before=before)
        )
        layers = [self.offer.terms.start, self.offer.terms.stop]
        nothing = [
            _visit(each, layers)
            for each in self.visits.latest
            if before is None or each.started < before.timestamp()
        ]
        both = sorted([*map(_session, rows), *nothing], key=lambda each: -each["started"])
        return {"sessions": both[:limit]}

    async def _advise(self, request: Request) -> Mapping[str, Any]:
        return await self.prospects.document()


@asynccontextmanager
async def shown(
    showing: Showing, http: HttpTerms, metrics: ProcessMetrics, jobs: Jobs
) -> AsyncIterator[None]:
    """Show the provider at its addresses until the end of the block. Raises CannotServe, PageMissing."""
    desk = Desk(
        documents=showing.documents(),
        checks=showing.checks(),
        registry=metrics.registry,
        hosts=http.hosts,
        link_file=http.link_file,
    )
    jobs.every(
        LOOK_SECONDS, "looking at the figures", await first_look(showing.standings.look, desk.checks, metrics)
    )
    async with open_desk(desk, http.binds) as link:
        showing.presence.link = link
        yield


def _moment(request: Request) -> datetime | None:
    text = request.query_params.get("before")
    if text is None:
        return None
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise BadQuery("before is no moment in unix seconds.") from None


def _price(row: PriceRow) -> dict[str, Any]:
    inputs = row.inputs
    return {
        "id": row.step_id,
        "at": row.taken.timestamp(),
        "layers": [row.layer_start, row.layer_stop],
        "price_wei": str(row.price_before),
        "next_price_wei": str(row.price_after),
        "gradient": row.gradient,
        "probability": row.probability,
        "rivals": inputs.get("rivals"),
        "best_response_wei": _text(inputs.get("best_response_wei")),
        "revenue_wei": _text(inputs.get("revenue_wei")),
        "floor_wei": _text(inputs.get("floor_wei")),
        "bound": inputs.get("bound"),
    }


def _text(wei: object) -> str | None:
    return None if wei is None else str(wei)


def _session(row: SessionRecord) -> dict[str, Any]:
    return {
        "session": row.session_id.hex(),
        "peer": row.peer,
        "started": row.started.timestamp(),
        "ended": row.ended.timestamp() if row.ended else None,
        "layers": [row.layer_start, row.layer_stop],
        "prompt_tokens": row.prompt_tokens,
        "tokens": row.tokens,
        "billed_wei": str(row.billed),
        "price_wei": str(row.price_wei),
        "outcome": row.outcome,
        "refused": False,
        "code": None,
        "channel": "0x" + row.channel_id.hex(),
    }


def _visit(visit: Visit, layers: list[int]) -> dict[str, Any]:
    return {
        "session": visit.session.hex(),
        "peer": visit.peer,
        "started": visit.started,
        "ended": visit.ended,
        "layers": layers,
        "prompt_tokens": 0,
        "tokens": 0,
        "billed_wei": "0",
        "price_wei": None,
        "outcome": visit.outcome,
        "refused": visit.code is not None,
        "code": visit.code.name.lower() if visit.code is not None else None,
        "channel": None,
    }
