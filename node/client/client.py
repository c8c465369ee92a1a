"""A client: finds providers, takes the min-weight path, pays every hop for every token, samples itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.routing import Path
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.choosing import Chooser
from hypercluster.node.client.completing import Completing
from hypercluster.node.client.experience import Experience
from hypercluster.node.client.line import Line
from hypercluster.node.client.linking import LinkBook
from hypercluster.node.client.needs import Needs
from hypercluster.node.client.opening import Opener, Terms, adverts_of, needed
from hypercluster.node.client.patience import Patience
from hypercluster.node.client.patiently import patiently
from hypercluster.node.client.request import Wishes
from hypercluster.node.client.stays import Stays
from hypercluster.node.client.vacancies import Vacancies
from hypercluster.node.client.waking import Wakefulness
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    import trio

    from hypercluster.market.advert import Advert
    from hypercluster.market.ledger.trust import Trust
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.auditing.afterwards import Audits
    from hypercluster.node.client.auditing.policy import Report
    from hypercluster.node.client.bookkeeping import RequestBook
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.draft_model import DraftModel
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.model import Model
    from hypercluster.node.client.own_layers import OwnLayers
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.request import Request
    from hypercluster.node.client.siblings import Siblings
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host
    from hypercluster.node.network.latency import Latencies

log = logging.getLogger(__name__)

TOP_K = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where a client stands: its host, how it finds providers, how far they are."""

    host: Host
    discovery: Discovery
    latencies: Latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What a client keeps of its sessions: receipts are signed in `domain`, steps kept in `transcripts`, what
    providers proved to be in `trust`, and what was asked and paid in `requests`; None keeps nothing.
    """

    domain: DisputeDomain
    transcripts: TranscriptStore | None = None
    trust: Trust | None = None
    requests: RequestBook | None = None


class Client:
    """Runs completions over the network; `audits` looks them over afterwards, if given.

    `wishes` are those of a request that has none of its own, `seed` fixes the draws of paths that are spread,
    `experience` is what the process saw of operators lately, `draft_model` guesses ahead for requests that wish so, and
    `own_layers` are those that no provider is asked for.
    """

    def __init__(
        self,
        *,
        network: Network,
        model: Model,
        payer: Payer,
        records: Records,
        audits: Audits | None = None,
        wishes: Wishes | None = None,
        seed: int | None = None,
        experience: Experience | None = None,
        draft_model: DraftModel | None = None,
        own_layers: OwnLayers | None = None,
    ) -> None:
        self.draft_model, self.own_layers = draft_model, own_layers
        self.network, self.model, self.payer = network, model, payer
        self.wishes = wishes or Wishes()
        self.records = records
        self.audits = audits
        self.patience = Patience()
        self.wakefulness = Wakefulness(self.patience.somebody)
        self.experience = experience or Experience()
        self.vacancies = Vacancies()
        self.line = Line(self.vacancies)
        self.stays = Stays()
        self.background: trio.Nursery | None = None
        """in which things are done beside completions; None: nothing is"""
        links = LinkBook()
        self.chooser = Chooser(
            network.discovery,
            network.latencies,
            self.vacancies,
            model.layers,
            records.trust,
            seed,
            self.experience,
            model.starts,
            served=(own_layers.start, own_layers.stop) if own_layers else None,
            links=links,
        )
        self.opener = Opener(
            network.host,
            layers=model.layers,
            n_vocab=model.n_vocab,
            reads_tokens=model.reads_tokens,
            domain=records.domain,
            transcripts=records.transcripts,
            own=own_layers,
            links=links,
        )

    def complete(self, request: Request, key: str = "", siblings: Siblings | None = None) -> Completing:
        """Run one completion, token by token: an asynchronous iterator of its events.

        ::

            async with client.complete(request) as completing:
                async for event in completing:
                    ...

        The last event is Finished, with the reason, the bill, and the error where it failed: nothing is raised for
        what providers, chain, disk or budget do. Whoever leaves the block before, or is cancelled, finds what came
        and what it cost in `completing.completion`. Without the block an iteration that is left early ends a moment
        later.

        A provider that fails is left out. Others take over its layers and are sent the rows so far as a prompt, while
        the rest of the path stays as it is; where nobody can, a whole new path reads all tokens. So the text goes on
        where it was (a prefill may differ from single steps in the last bits of a logit, and so, rarely, in a token).

        Where all sessions are taken it waits its turn: those of one `key` after each other, the keys in turn.

        Of `siblings`, which differ in nothing but how tokens are drawn, one runs the prompt, and the others go on from
        copies of what its sessions hold, where their providers make copies.

        Audits of its stages begin when it has ended, however it did; `reports` waits for them.
        """
        return Completing(self, request, key, siblings)

    def wishes_of(self, request: Request) -> Wishes:
        """What a request wishes."""
        return request.wishes or self.wishes

    async def reports(self, request_id: str) -> list[Report]:
        """The audits of a completion that has ended, when all of them are done."""
        return [report async for report in self.follow(request_id)]

    async def follow(self, request_id: str) -> AsyncIterator[Report]:
        """The audits of a completion that has ended, each as soon as it is done."""
        if self.audits is not None:
            async for report in self.audits.follow(request_id):
                yield report

    def adverts(self) -> list[Advert]:
        """What is offered now."""
        return self.network.discovery.book.snapshot()

    def verifiers(self) -> list[Advert]:
        """Who offers to audit now."""
        return self.network.discovery.book.snapshot("verifier")

    async def nodes(self, *, full: bool = False) -> list[Node]:
        """The adverts with the latency measured to each; those with no free session only if `full`."""
        return await self.chooser.nodes(self.wishes, full=full)

    async def route(self, exclude: Sequence[str] = ()) -> Path:
        """The path that a small request would take now. Raises NoRoute, AllBusy."""
        return await self.chooser.route(self.wishes, Needs(), exclude)

    async def wait_for_path(self, seconds: float) -> Path:
        """The same as soon as there is one. Raises NoRoute or AllBusy when there is none in time."""
        return await patiently(self.route, self.network.discovery, seconds)

    async def open(
        self,
        path: Path,
        *,
        capacity: int,
        prompt: int,
        tokens: int,
        top_k: int = TOP_K,
        wire_dtype: WireDtype | None = None,
    ) -> Pipeline:
        """Fund the channels for `tokens` generated after `prompt` tokens and open a session with every hop.

        Raises:
            HopFailed: a provider does not take the session; those already open are closed.
            MarketError: the wallet cannot pay, or the chain does not answer.
        """
        adverts = adverts_of(path.nodes, self.network.discovery.book)
        accounts = await self.payer.fund(needed(adverts, prompt, tokens), self.wishes.deposit_wei)
        terms = Terms(
            capacity=capacity,
            top_k=top_k,
            wire_dtype=wire_dtype or self.wishes.wire_dtype or WireDtype.F32,
            chain=self.wishes.chain,
            pay_ahead=self.wishes.pay_ahead,
        )
        return await self.opener.open(adverts, accounts, terms, self.payer.spending())

    async def begin(self, completion: Completion, request: Request) -> None:
        """Write a request down before anything is spent on it. Never raises for a disk."""
        if self.records.requests is not None:
            await self.records.requests.begun(completion, request, self.model.model_id)

    async def opened(self, completion: Completion, hops: Sequence[Hop]) -> None:
        """Write the sessions of a path down before their first step. Never raises for a disk."""
        if self.records.requests is not None:
            await self.records.requests.opened(completion, hops)

    async def settle(
        self, completion: Completion, hops: Sequence[Hop], since: float, sharing: int, spending: Spending
    ) -> None:
        """Write down what a completion did that began at `since` (node.client.waking.now), beside `sharing` - 1 others,
        and have it looked over, paid within `spending`.

        Never raises for a disk or a chain.
        """
        if not self.wakefulness.absent_since(since):
            self.opener.links.learn(hops, self.network.latencies.known())
        for hop in hops:
            if hop.stands_by:
                continue  # its steps say nothing of what a token takes
            if not self.wakefulness.absent_since(since) and (
                said := self.chooser.learn(hop, sharing, self.wakefulness.late)
            ):
                if said[0] is Evidence.SERVED and hop.advert.peer not in completion.failures:
                    self.experience.served(hop.advert.operator)
                    if hop.leash is not None:
                        hop.leash.served()
                await self.chooser.note(hop.advert.peer, hop.advert.operator, *said)
        if self.records.requests is not None:
            await self.records.requests.ended(completion, hops, self.audits.due(hops) if self.audits else 0)
        if self.audits is not None and not self.audits.begin(completion, hops, spending):
            await self.audited(completion, 0)

    async def audited(self, completion: Completion, still_open: int) -> None:
        """Write down what audits found and were paid. Never raises for a disk."""
        if self.records.requests is not None:
            await self.records.requests.audited(
                completion.request_id,
                completion.audit_wei,
                completion.risked_wei + completion.audit_risked_wei,
                completion.doubtful,
                still_open,
                completion.covered_wei,
            )
