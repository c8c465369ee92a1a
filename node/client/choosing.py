"""Which providers a completion goes over: what is offered, what was learned of them, and the path of least weight."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import trio

from hypercluster.market.economics.graph import Floats, Node, NoPath, node_of
from hypercluster.market.economics.routing import Path
from hypercluster.market.errors import MarketError
from hypercluster.market.trust.reputation import Evidence, Reputation
from hypercluster.node.client.between import NOTHING, Between
from hypercluster.node.client.experience import Experience
from hypercluster.node.client.gaps import Kept
from hypercluster.node.client.linking import LinkBook
from hypercluster.node.client.needs import BUSY, AllBusy, Needs, NoRoute, explain, session_length
from hypercluster.node.client.newness import newness
from hypercluster.node.client.rules import Rules, path_by_rules
from hypercluster.node.client.wishing import TooDear, fitting_path, travels
from hypercluster.node.errors import NodeError
from hypercluster.node.network.budgets import OverBudget
from hypercluster.node.network.diagnosis import Wanted, why_no_path

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.ledger.trust import Trust
    from hypercluster.market.trust.standing import Standing
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.client.vacancies import Vacancies
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.latency import Latencies

log = logging.getLogger(__name__)

LEAST_ANSWERED = 0.5
"""of the evidence of one session that went well, with which its operator counts as one who has served: for a week"""
LATELY_SECONDS = 60.0
"""for which a path that was there is expected to come back"""
MOST_MET = 4096
"""providers that are remembered"""
LIE_FACTOR, LIE_MS = 5.0, 100.0
"""A provider that takes this many times what it advertised, and this much more, said what is not so."""


class Chooser:
    """Knows the providers of one model and picks a path over them.

    Args:
        layers, starts: of the model, and where its ranges may begin (None: anywhere).
        served: the layers [start, stop) that are asked of providers; None for all.
        links: what is known of those between providers.
        trust: what the ledger knows of them; None trusts everybody.
        seed: fixes the draws of paths that are spread, and of requests that may try somebody.
        experience: what the process saw of operators lately; of its own where None.
    """

    def __init__(
        self,
        discovery: Discovery,
        latencies: Latencies,
        vacancies: Vacancies,
        layers: int,
        trust: Trust | None,
        seed: int | None = None,
        experience: Experience | None = None,
        starts: Collection[int] | None = None,
        served: tuple[int, int] | None = None,
        links: LinkBook | None = None,
    ) -> None:
        self._links = links or LinkBook()
        self.between = Between(*(served or (0, layers)), layers)
        self.layers = self.between.layers
        """that are asked of providers"""
        self._edges = None if starts is None else {*starts, layers}
        self.experience = experience or Experience()
        self._discovery, self._latencies, self._vacancies = discovery, latencies, vacancies
        self._trust = trust
        self.found = -math.inf
        """when there last was a path, in trio's time"""
        self._rng = np.random.default_rng(seed)
        self._waits: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._distrusted: frozenset[str] = frozenset()
        self._tried: frozenset[str] = frozenset()
        """operators who served, as the ledger says"""
        self._met: dict[str, tuple[str, ...]] = {}

    @property
    def nobody_comes(self) -> bool:
        """Whether there is nobody to wait for; who served a moment ago may be late with an advert."""
        lately = trio.current_time() < self.found + LATELY_SECONDS
        return self._discovery.hopeless and not lately

    async def nodes(self, wishes: Wishes, *, full: bool = False) -> list[Node]:
        """The adverts with the latency measured to each; those with no free session only if `full`."""
        offered = [a for a in self._offered(wishes) if full or self._vacancies.free(a) > 0]
        return self.between.told(await self._nodes(offered))

    def delays(self, wishes: Wishes, nodes: Sequence[Node]) -> Floats | None:
        """One-way ms between nodes, float64 [n, n], where rows go from provider to provider; None where they do not."""
        if not wishes.chain:
            return None
        return self._links.delays(nodes, {a.peer: a for a in self._discovery.book.snapshot()})

    async def route(
        self,
        wishes: Wishes,
        needs: Needs,
        exclude: Collection[str] = (),
        *,
        failed: Collection[str] = (),
        trial: bool = False,
        kept: Kept | None = None,
    ) -> Path:
        """The path of least weight over the adverts known now, or one drawn by weight where they are spread.

        Peers in `exclude` are left out, and so are those that the wishes avoid or this client distrusts. Of what is
        free the sessions are long enough for the whole request, or for as much of it as there is to be had. Owners in
        `failed` are left out where somebody else serves, as the other rules say (rules.py); a `trial` may go over
        somebody who never served. With `kept`, sessions that are open, it goes over all of these.

        Raises:
            RequestTooLong, TooManyCandidates: there are paths, but none that holds the request.
            AllBusy: there are, but for want of free sessions.
            NoRoute: there are none.
            TooDear: all of them cost more than the wishes allow.
        """
        if not self.layers:
            return NOTHING
        kept = replace(kept, adverts=self.between.within(kept.adverts)) if kept else Kept()
        offered = kept.fitting(self._offered(wishes))
        free_now = [a for a in offered if self._vacancies.free(a) and needs.chosen_from(a)]
        nodes = await self._nodes([*kept.adverts, *free_now])
        shunned = {*exclude, *wishes.avoid, *(a.peer for a in offered if a.operator in self._distrusted)}
        usable = {a.peer: a for a in offered if a.peer not in shunned and needs.chosen_from(a)}
        usable |= kept.by_peer
        # Measuring took its time: what was free may be taken by now.
        free = {peer: a for peer, a in usable.items() if peer in kept.by_peer or self._vacancies.free(a)}
        nodes = [node for node in nodes if node.id in free]
        rules = self._rules(nodes, wishes, failed, trial)

        def candidates(left_out: Collection[str]) -> list[Node]:
            some = [node for node in nodes if node.owner not in left_out or node.id in kept.by_peer]
            there = [a for a in usable.values() if a.operator not in left_out and a.peer not in left_out]
            length = session_length(needs, there, [free[node.id] for node in some], self.layers)
            return [
                node for node in some if free[node.id].session_tokens >= length or node.id in kept.by_peer
            ]

        try:
            delays = partial(self._links.delays, adverts=free) if wishes.chain else None
            path = path_by_rules(candidates, self.layers, wishes, rules, self._rng, delays)
        except NoPath:
            explain([a for a in offered if a.peer not in shunned], needs, self.layers)
            raise NoRoute(self._why(exclude, wishes)) from None
        except TooDear:
            # Those that are cheap enough may only be busy.
            fitting_path(await self._nodes(list(usable.values())), self.layers, wishes, self._rng)
            raise AllBusy(BUSY) from None
        self.found = trio.current_time()
        return replace(path, nodes=tuple(self.between.told(path.nodes)))

    def draw_trial(self, wishes: Wishes) -> bool:
        """Whether the next request may go over somebody who never served, as many of them as the wishes say."""
        return self._rng.random() < wishes.shares.trials

    def could_go_on(
        self, slow: Advert, wishes: Wishes, needs: Needs, out: Collection[str], held: Collection[str]
    ) -> bool:
        """Whether there is a path without the operator of `slow`, and without the peers and owners in `out`, that
        holds as much as its session; sessions with the peers in `held` would be given back for it.
        """
        shunned = {
            *out,
            *wishes.avoid,
            *self._distrusted,
            *self.experience.left_out(),
            slow.operator,
            slow.peer,
        }
        length = min(needs.session, slow.session_tokens)
        nodes = [
            node_of(a)
            for a in self._offered(wishes)
            if not {a.peer, a.operator} & shunned
            and needs.chosen_from(a)
            and a.session_tokens >= length
            and (a.peer in held or self._vacancies.free(a))
        ]
        try:
            fitting_path(nodes, self.layers, wishes, self._rng)
        except (NoPath, TooDear):
            return False
        return True

    def learn(self, hop: Hop, sharing: int = 1, late: float = 0.0) -> tuple[Evidence, str] | None:
        """Remember by how much a provider was slower than it says, half of it from this time.

        What we did to it ourselves is not held against it: the sessions that it had to serve for us at once, `sharing`,
        and the seconds by which this process was late itself.

        Returns what the session says of it, if anything, with a note.
        """
        peer = hop.advert.peer
        if not hop.timing.total or peer not in self._expected:
            return None
        took = statistics.median(hop.timing.total)
        wait = max(0.0, took - self._expected[peer])
        self._waits[peer] = (self._waits.get(peer, wait) + wait) / 2
        if took > LIE_FACTOR * (sharing * self._expected[peer] + 1000 * late) + LIE_MS:
            return (
                Evidence.LATENCY_LIE,
                f"{took:.1f} ms a step where {self._expected[peer]:.1f} ms were to be expected",
            )
        return Evidence.SERVED, ""

    async def note(self, peer: str, operator: str, kind: Evidence, note: str = "") -> None:
        """Write evidence down. A ledger that cannot be written to is logged: what was paid for goes on."""
        if self._trust is None:
            return
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(
                    self._trust.record, peer, operator, kind, datetime.now(UTC), note
                )
            except (MarketError, OSError) as error:
                log.warning("what was seen of %s could not be written down: %s", peer, error)

    async def ask(self, peer: str, addrs: Sequence[str] = ()) -> bool:
        """Get a provider's current advert; whether it gave one."""
        known = self._discovery.book.get(peer)
        try:
            await self._discovery.ask(peer, known.addrs if known else addrs)
        except (NodeError, MarketError) as error:
            log.info("%s has no new advert: %s", peer, error)
            # It gave one that there is no time to check: somebody is there.
            return isinstance(error, OverBudget)
        return True

    async def nobody_answers(self, but: Collection[str]) -> bool:
        """Whether of all providers met so far, `but` left out, none gives its advert; false where there are none."""
        others = {peer: addrs for peer, addrs in self._met.items() if peer not in but}
        answered = False

        async def try_one(peer: str, addrs: Sequence[str]) -> None:
            nonlocal answered
            if await self.ask(peer, addrs):
                answered = True
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for each in others.items():
                nursery.start_soon(try_one, *each)
        return bool(others) and not answered

    def _offered(self, wishes: Wishes, *, unlike: bool = False) -> list[Advert]:
        """Counted from the first layer that is asked of providers; those with other rows only if `unlike`."""
        only = wishes.only
        offered = (
            a
            for a in self._discovery.book.snapshot()
            if (unlike or travels(a, wishes)) and (only is None or a.peer in only) and self._begins(a)
        )
        return self.between.within(offered)

    def _begins(self, advert: Advert) -> bool:
        """Whether a model can be cut where an advert says; no honest provider has other layers."""
        return self._edges is None or {advert.layer_start, advert.layer_stop} <= self._edges

    async def _nodes(self, adverts: Sequence[Advert]) -> list[Node]:
        for remembered in (self._met, self._waits, self._expected):
            if len(remembered) > MOST_MET:
                remembered.clear()
        self._met |= {advert.peer: advert.addrs for advert in adverts}
        await self._latencies.measure(adverts)
        standings = await self._standings()
        trusted, unknown = self._trust is None, Reputation()

        def risk(advert: Advert) -> float:
            known = standings.get(advert.operator)
            return 0.0 if trusted else (known.of(advert.peer) if known else unknown).risk

        book = self._discovery.book
        stakes = {a.peer: backing.wei for a in adverts if (backing := book.backing_of(a.peer))}
        new = newness(adverts, stakes, self._has_served)
        nodes = [
            node_of(
                advert,
                await self._latencies.one_way_ms(advert),
                self._waits.get(advert.peer, 0.0),
                risk(advert) * new.get(advert.peer, 1.0),
                stakes.get(advert.peer, 0),
            )
            for advert in adverts
        ]
        self._expected |= {node.id: node.cost_ms + 2 * node.latency_ms for node in nodes}
        return nodes

    async def _standings(self) -> dict[str, Standing]:
        """Of the operators that the ledger knows, as of now; who is distrusted is on no path."""
        if self._trust is None:
            return {}
        standings = await trio.to_thread.run_sync(self._trust.standings, datetime.now(UTC))
        self._distrusted = frozenset(whose for whose, each in standings.items() if each.reputation.distrusted)
        self._tried = frozenset(
            whose
            for whose, each in standings.items()
            if any(node.answered > LEAST_ANSWERED for node in each.nodes.values())
        )
        return standings

    def _has_served(self, owner: str) -> bool:
        return owner in self._tried or self.experience.has_served(owner)

    def _rules(self, nodes: Sequence[Node], wishes: Wishes, failed: Collection[str], trial: bool) -> Rules:
        seen = self.experience
        return Rules(
            failed=frozenset(failed),
            resting=seen.left_out(),
            untried=frozenset(node.owner for node in nodes if not self._has_served(node.owner)),
            trying=seen.trying(),
            crowded=seen.crowded(wishes.shares),
            trial=trial,
        )

    def _why(self, failed: Collection[str], wishes: Wishes) -> str:
        """The reason that explains best why no path is there at all."""
        book, ranges = self._discovery.book, self.between.ranges
        offered = self._offered(wishes, unlike=True)
        wanted = Wanted(
            model_id=book.model_id,
            name=book.name,
            layers=self.between.whole,
            ranges=[*self.between.own, *ranges(offered)],
            unlike=ranges([a for a in offered if not travels(a, wishes)]),
            full=ranges([a for a in offered if not self._vacancies.free(a)]),
            distrusted=ranges([a for a in offered if a.operator in self._distrusted]),
            failed=ranges([a for a in offered if a.peer in failed or a.peer in wishes.avoid]),
        )
        return why_no_path(self._discovery.facts(), wanted) + self.between.note
