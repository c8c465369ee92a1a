"""A client: finds providers, takes the min-weight path, pays every hop for every token, samples itself."""

import logging
import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import trio

from hypercluster.market.advert import Advert
from hypercluster.market.economics.gibbs import sample_paths
from hypercluster.market.economics.graph import AdvertTable, Node, NoPath, node_of
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import Path, best_path, path_of
from hypercluster.market.errors import OverDeposit
from hypercluster.market.money.voucher import charge
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.market.trust.reputation import Evidence, Reputation
from hypercluster.node.client.hop import Hop, HopFailed, Timing
from hypercluster.node.client.payer import Recipient
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from hypercluster.market.ledger.trust import Standing, Trust
    from hypercluster.node.client.auditing.inspection import Inspector, Report
    from hypercluster.node.client.payer import OutgoingAccount, Payer
    from hypercluster.node.engine.sampler import Sampler
    from hypercluster.node.engine.tokenizer import TextStream, Tokenizer
    from hypercluster.node.evidence.transcript import TranscriptStore
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host
    from hypercluster.node.network.latency import Latencies

log = logging.getLogger(__name__)

FinishReason = Literal["stop", "length", "cost", "context"]

LIE_FACTOR, LIE_MS = 5.0, 100.0
"""A provider that takes this many times what it advertised, and this much more, said what is not so."""


class TooExpensive(NodeError):
    """The prompt alone costs more than the client allows."""


@dataclass(slots=True)
class Bill:
    """What one provider did and was paid for one completion."""

    peer: str
    operator: str
    layer_start: int
    layer_stop: int
    price_wei: int
    prompt_price_wei: int
    tokens: int = 0
    paid_wei: int = 0
    risked_wei: int = 0
    """of steps that never got a good answer; their vouchers are with the provider"""
    channel_id: bytes = b""
    timing: Timing = field(default_factory=Timing)


@dataclass(slots=True)
class Completion:
    """A finished completion and what it cost."""

    prompt: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: FinishReason = "length"
    bills: list[Bill] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    reports: list["Report"] = field(default_factory=list)
    """audits of its stages"""

    @property
    def audit_wei(self) -> int:
        """Paid to auditors, on top of what was spent."""
        return sum(report.cost_wei for report in self.reports)

    @property
    def doubtful(self) -> bool:
        """Whether a provider on the path was found at fault: the text may be wrong."""
        return any(report.fault == report.peer for report in self.reports)

    @property
    def spent_wei(self) -> int:
        """Sum over all hops, those that failed midway included."""
        return sum(bill.paid_wei for bill in self.bills)

    @property
    def risked_wei(self) -> int:
        """What providers that failed may claim on top, for steps they never answered."""
        return sum(bill.risked_wei for bill in self.bills)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a completion may go: tokens to generate, wei to spend (None: no bound), providers to lose."""

    tokens: int
    cost_wei: int | None = None
    failures: int = 3


class Client:
    """Runs completions over the network.

    Args:
        layers: m of the model; `model_id` names it.
        market: how price is weighed against time.
        deposit: least wei to put into a channel that is opened.
        spread: draw the path from the Gibbs distribution over all paths (paper eq. 3) instead of taking the
            lightest, so that many clients share the providers; `seed` fixes the draws.
    """

    def __init__(
        self,
        *,
        host: "Host",
        discovery: "Discovery",
        latencies: "Latencies",
        payer: "Payer",
        tokenizer: "Tokenizer",
        layers: int,
        market: MarketParameters,
        wire_dtype: WireDtype = WireDtype.F32,
        top_k: int = 64,
        deposit: int = 0,
        spread: bool = False,
        seed: int | None = None,
        domain: DisputeDomain,
        transcripts: "TranscriptStore | None" = None,
        trust: "Trust | None" = None,
        inspector: "Inspector | None" = None,
    ) -> None:
        self.layers = layers
        self.market = market
        self._host = host
        self._discovery = discovery
        self._latencies = latencies
        self._payer = payer
        self.tokenizer = tokenizer
        self._wire_dtype = wire_dtype
        self._top_k = top_k
        self._deposit = deposit
        self._spread = spread
        self._domain = domain
        self._transcripts = transcripts
        self._trust = trust
        self._inspector = inspector
        self._distrusted: frozenset[str] = frozenset()
        self._rng = np.random.default_rng(seed)
        self._waits: dict[str, float] = {}
        self._expected: dict[str, float] = {}

    def adverts(self) -> list[Advert]:
        """What is offered now."""
        return self._discovery.book.snapshot()

    def verifiers(self) -> list[Advert]:
        """Who offers to audit now."""
        return self._discovery.book.snapshot("verifier")

    async def nodes(self, *, full: bool = False) -> list[Node]:
        """The adverts with the latency measured to each; those with no free session only if `full`."""
        usable = [
            advert
            for advert in self.adverts()
            if (full or advert.free > 0) and self._wire_dtype.name.lower() in advert.wire_dtypes
        ]
        await self._latencies.measure(usable)
        standings = await self._standings()
        risks = {peer: standing.reputation.risk for peer, standing in standings.items()}
        unknown = Reputation().risk
        nodes = [
            node_of(
                advert,
                await self._latencies.one_way_ms(advert),
                self._waits.get(advert.peer, 0.0),
                risks.get(advert.peer, unknown) if self._trust else 0.0,
            )
            for advert in usable
        ]
        self._expected = {node.id: node.cost_ms + 2 * node.latency_ms for node in nodes}
        return nodes

    async def _standings(self) -> dict[str, "Standing"]:
        """What the ledger says of everybody, decayed to now; who is distrusted is on no path."""
        if self._trust is None:
            return {}
        standings = await trio.to_thread.run_sync(self._trust.reputations, datetime.now(UTC))
        self._distrusted = frozenset(peer for peer, each in standings.items() if each.reputation.distrusted)
        return standings

    async def _note(self, peer: str, operator: str, kind: Evidence, note: str = "") -> None:
        if self._trust is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(
                    self._trust.record, peer, operator, kind, datetime.now(UTC), note
                )

    async def route(self, exclude: Collection[str] = ()) -> Path:
        """The min-weight path over the adverts known now, or with `spread` one drawn by weight. Raises NoPath.

        Peers in `exclude` are left out, and so are those that this client distrusts.
        """
        nodes = await self.nodes()
        exclude = {*exclude, *self._distrusted}
        if not self._spread:
            return best_path(nodes, layers=self.layers, market=self.market, exclude=exclude)
        table = AdvertTable.of(nodes, self.layers, exclude)
        inside = replace(self.market, outside_weight=math.inf)
        rows = sample_paths(table, inside, 1, self._rng)[0]
        by_id = {node.id: node for node in nodes}
        return path_of([by_id[table.ids[row]] for row in rows if row >= 0], self.market)

    async def wait_for_path(self, seconds: float) -> Path:
        """The min-weight path as soon as there is one. Raises NoPath when there is none in time."""
        deadline = trio.current_time() + seconds
        while True:
            try:
                return await self.route()
            except NoPath:
                if trio.current_time() >= deadline:
                    raise
            await trio.sleep(0.2)

    async def open(
        self, path: Path, *, capacity: int, prompt: int, tokens: int, cost_wei: int | None = None
    ) -> Pipeline:
        """Fund the channels for `tokens` generated after `prompt` tokens and open a session with every hop.

        No channel gets more than `cost_wei` when that is given.

        Raises:
            HopFailed: a provider does not take the session; those already open are closed.
            MarketError: the wallet cannot pay, or the chain does not answer.
        """
        adverts = [advert for node in path.nodes if (advert := self._discovery.book.get(node.id))]
        if len(adverts) < len(path.nodes):
            gone = next(node.id for node in path.nodes if not self._discovery.book.get(node.id))
            raise HopFailed(gone, "its advert has expired.")
        needs: dict[Recipient, int] = {}
        for advert in adverts:
            need = charge(advert.price_wei, advert.prompt_price_wei, prompt) + tokens * advert.price_wei
            needs[_payee(advert)] = need
        if cost_wei is not None:
            needs = {payee: min(need, cost_wei) for payee, need in needs.items()}
        accounts = await self._payer.fund(needs, self._deposit)
        hops: dict[str, Hop] = {}

        async def open_hop(advert: Advert) -> None:
            hops[advert.peer] = await self._open_hop(advert, accounts[_payee(advert)], capacity)

        try:
            async with trio.open_nursery() as nursery:
                for advert in adverts:
                    nursery.start_soon(open_hop, advert)
        except BaseExceptionGroup as group:
            with trio.CancelScope(shield=True):
                for hop in hops.values():
                    await hop.close()
            failed = group.subgroup(HopFailed)
            while failed is not None:
                if isinstance(failed, HopFailed):
                    raise failed from None
                failed = failed.exceptions[0]  # type: ignore[assignment]
            raise
        return Pipeline([hops[advert.peer] for advert in adverts])

    async def _open_hop(self, advert: Advert, account: "OutgoingAccount", capacity: int) -> Hop:
        try:
            connection = await dial_steps(self._host, advert)
        except NodeError as error:
            raise HopFailed(advert.peer, str(error)) from error
        try:
            return await Hop.open(
                connection,
                advert,
                account,
                wire_dtype=self._wire_dtype,
                capacity=capacity,
                top_k=self._top_k,
                n_vocab=self.tokenizer.n_vocab,
                is_last=advert.layer_stop == self.layers,
                domain=self._domain,
                transcripts=self._transcripts,
            )
        except BaseException:
            with trio.CancelScope(shield=True):
                await connection.close()
            raise

    async def generate(
        self,
        prompt: Sequence[int],
        *,
        sampler: "Sampler",
        limits: Limits,
        on_path: Callable[[Path], None] = lambda path: None,
        on_text: Callable[[str], None] = lambda text: None,
        on_report: Callable[["Report"], None] = lambda report: None,
    ) -> Completion:
        """Run one completion, token by token, then have the stages looked over that the inspector picks.

        A provider that fails is left out, the next best path takes over, and the tokens so far are replayed on
        it as a prompt, so the text goes on where it was (a prefill may differ from single steps in the last bits of
        a logit, and so, rarely, in a token). One that moved its price since its advert is asked for
        a new one, once, and stays in the choice.

        Args:
            prompt: token ids, at least one.
            on_path: called with each path before its sessions open.
            on_text: called with each piece of text as soon as it is whole UTF-8.
            on_report: called with each audit when it is done.

        Raises:
            TooExpensive: `limits.cost_wei` does not cover the prompt.
            NoPath: no path is left.
            HopFailed: more providers failed than `limits.failures`.
            OverDeposit: channels ran out more often than that although they were topped up.
        """
        completion = Completion(prompt=tuple(prompt))
        text = self.tokenizer.stream()
        failed: set[str] = set()
        repriced: set[str] = set()
        hops: list[Hop] = []
        shortages = 0
        try:
            while True:
                path = await self.route(exclude=failed)
                on_path(path)
                try:
                    await self._run(path, completion, sampler, limits, text, on_text, hops)
                    break
                except OverDeposit:
                    # The ledger was behind, or another completion drew on the same channel: top up and go on.
                    shortages += 1
                    if shortages > limits.failures:
                        raise
                except HopFailed as failure:
                    moved = failure.code is ErrorCode.PRICE_TOO_LOW and failure.peer not in repriced
                    if moved and await self._ask_again(failure.peer):
                        repriced.add(failure.peer)
                        continue
                    log.warning("%s", failure)
                    failed.add(failure.peer)
                    await self._note_failure(failure)
                    self._discovery.book.remove(failure.peer)
                    completion.failures.append(failure.peer)
                    if len(completion.failures) > limits.failures:
                        raise
        finally:
            with trio.CancelScope(shield=True):
                await self._payer.save()
        rest = text.finish()
        if rest:
            on_text(rest)
        completion.text += rest
        if self._inspector is not None:
            completion.reports = await self._inspector.inspect(hops, on_report)
            with trio.CancelScope(shield=True):
                await self._payer.save()
        return completion

    async def _note_failure(self, failure: HopFailed) -> None:
        advert = self._discovery.book.get(failure.peer)
        if advert is not None:
            wrong = failure.code is ErrorCode.BAD_SIGNATURE
            kind = Evidence.RECEIPT_WRONG if wrong else Evidence.SESSION_FAILED
            await self._note(failure.peer, advert.operator, kind, str(failure))

    async def _ask_again(self, peer: str) -> bool:
        """Whether the provider gave its current advert."""
        advert = self._discovery.book.get(peer)
        try:
            await self._discovery.ask(peer, advert.addrs if advert else ())
        except NodeError as error:
            log.info("%s has no new advert: %s", peer, error)
            return False
        return True

    async def _run(
        self,
        path: Path,
        completion: Completion,
        sampler: "Sampler",
        limits: Limits,
        text: "TextStream",
        on_text: Callable[[str], None],
        hops: list[Hop],
    ) -> None:
        """Go on with a completion on one path until it is finished; raises HopFailed where the path breaks."""
        pending = [*completion.prompt, *completion.tokens]
        pipeline = await self.open(
            path,
            capacity=len(completion.prompt) + limits.tokens,
            prompt=len(pending),
            tokens=limits.tokens - len(completion.tokens),
            cost_wei=limits.cost_wei,
        )
        async with pipeline:
            try:
                while True:
                    spent = completion.spent_wei + completion.risked_wei + pipeline.paid_wei
                    if limits.cost_wei is not None and spent + pipeline.cost(len(pending)) > limits.cost_wei:
                        if not completion.tokens:
                            raise TooExpensive(
                                f"The prompt costs {pipeline.cost(len(pending))} wei and at most "
                                f"{limits.cost_wei - spent} wei may be spent: raise --max-cost."
                            )
                        completion.finish = "cost"
                        return
                    token = sampler.sample(await pipeline.run(pending))
                    if token in self.tokenizer.end_ids:
                        completion.finish = "stop"
                        return
                    completion.tokens.append(token)
                    piece = text.push(token)
                    completion.text += piece
                    if piece:
                        on_text(piece)
                    if len(completion.tokens) == limits.tokens:
                        completion.finish = "length"
                        return
                    pending = [token]
            finally:
                completion.bills += [_bill(hop) for hop in pipeline.hops]
                hops += pipeline.hops
                for hop in pipeline.hops:
                    await self._learn(hop)

    async def _learn(self, hop: Hop) -> None:
        """Remember by how much a provider was slower than it says, half of it from this time."""
        peer, operator = hop.advert.peer, hop.advert.operator
        if not hop.timing.total or peer not in self._expected:
            return
        took = statistics.median(hop.timing.total)
        wait = max(0.0, took - self._expected[peer])
        self._waits[peer] = (self._waits.get(peer, wait) + wait) / 2
        if took > LIE_FACTOR * self._expected[peer] + LIE_MS:
            note = f"{took:.1f} ms a step where {self._expected[peer]:.1f} ms were to be expected"
            await self._note(peer, operator, Evidence.LATENCY_LIE, note)
        else:
            await self._note(peer, operator, Evidence.SERVED)


def _payee(advert: Advert) -> Recipient:
    return Recipient(advert.operator, address_of_peer(advert.peer))


def _bill(hop: Hop) -> Bill:
    advert = hop.advert
    return Bill(
        peer=advert.peer,
        operator=advert.operator,
        layer_start=advert.layer_start,
        layer_stop=advert.layer_stop,
        price_wei=hop.price_wei,
        prompt_price_wei=hop.prompt_price_wei,
        tokens=hop.tokens,
        paid_wei=hop.paid_wei,
        risked_wei=hop.risked_wei,
        channel_id=hop.account.channel_id,
        timing=hop.timing,
    )
