"""Opening sessions with all providers of a path at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from hypercluster.market.money.voucher import charge
from hypercluster.node.client.account import Recipient
from hypercluster.node.client.ended import EndedPipeline
from hypercluster.node.client.exchanging import HopFailed, How, too_slow
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.kept import KeptRows
from hypercluster.node.client.linking import Joint, LinkBook
from hypercluster.node.client.own_layers import MOST_TOP_K
from hypercluster.node.client.patience import Leash, TooSlow
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.client.stays import ComingBack
from hypercluster.node.errors import NodeError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.steps import dial_steps

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.graph import Node
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.own_layers import OwnLayers
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.network.host import Host
    from hypercluster.node.network.orderbook import OrderBook
    from hypercluster.node.rows import WireDtype

CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Of one session with every provider: its length in tokens, candidates of the last, form of the activations, and
    whether rows go from provider to provider, and how many tokens one voucher pays for.
    """

    capacity: int
    top_k: int
    wire_dtype: WireDtype
    chain: bool = False
    pay_ahead: int = 1

    def given_by(self, adverts: Sequence[Advert]) -> Terms:
        """The same where some take over: another last provider may give fewer candidates, as many as are needed it
        does.
        """
        most = min((each.max_top_k for each in adverts if each.max_top_k), default=self.top_k)
        return replace(self, top_k=min(self.top_k, most))


def adverts_of(nodes: Sequence[Node], book: OrderBook) -> list[Advert]:
    """The current adverts of a path's providers. Raises HopFailed: one has expired."""
    adverts = []
    for node in nodes:
        advert = book.get(node.id)
        if advert is None:
            raise HopFailed(node.id, "its advert has expired.", how=How.EXPIRED)
        adverts.append(advert)
    return adverts


def bounds_of(adverts: Sequence[Advert], own: OwnLayers | None) -> tuple[int, int]:
    """Tokens that the sessions of a path hold at most, and candidates that its end gives, own layers included."""
    tokens = [each.session_tokens for each in adverts] + ([own.tokens] if own else [])
    return min(tokens), MOST_TOP_K if own and own.last else adverts[-1].max_top_k


def recipient_of(advert: Advert) -> Recipient:
    """Who is paid for what the advert offers."""
    return Recipient(advert.operator, address_of_peer(advert.peer))


def needed(
    adverts: Sequence[Advert], prompt: int, tokens: int, cost_wei: int | None = None, cached: int = 0
) -> dict[Recipient, int]:
    """Wei that `tokens` generated after a prompt of so many tokens cost at each provider, `cost_wei` at most; with
    `cached` tokens before that prompt which it holds.

    A channel holds what the provider wants reserved, even where less will be spent.
    """
    needs: dict[Recipient, int] = {}
    for advert in adverts:
        need = tokens * advert.price_wei
        need += charge(advert.price_wei, advert.prompt_price_wei, prompt) if prompt else 0
        need += cached * advert.cached_price_wei
        need = need if cost_wei is None else min(need, cost_wei)
        needs[recipient_of(advert)] = max(need, advert.reserve_wei)
    return needs


class Opener:
    """Opens sessions for one client.

    Args:
        layers, n_vocab, reads_tokens: of the model.
        domain: in which receipts are signed.
        transcripts: keeps what is sent and answered, if given.
        own: what of the layers the client computes itself.
        links: what is known of those between providers.
    """

    def __init__(
        self,
        host: Host,
        *,
        layers: int,
        n_vocab: int,
        reads_tokens: bool,
        domain: DisputeDomain,
        transcripts: TranscriptStore | None,
        own: OwnLayers | None = None,
        links: LinkBook | None = None,
    ) -> None:
        self._own = own
        self._host, self._layers, self._n_vocab = host, layers, n_vocab
        self._reads_tokens = reads_tokens
        self._domain, self._transcripts = domain, transcripts
        self.links = links or LinkBook()
        self.kept = KeptRows(host, domain)

    async def open(
        self,
        adverts: Sequence[Advert],
        accounts: Mapping[Recipient, OutgoingAccount],
        terms: Terms,
        spending: Spending,
        leash_of: Callable[[Advert], Leash] | None = None,
        coming_back: ComingBack | None = None,
    ) -> Pipeline:
        """The sessions of a whole path; see `sessions`.

        Where we are `coming_back`, those that the providers keep go on if all of them can; Pipeline.position says so.
        Raises AllBusy, EngineError besides, where own layers have no session.
        """
        if self._own is None:
            joints = self.joints(adverts, terms)
            hops = await self.sessions(adverts, accounts, terms, spending, leash_of, coming_back, joints)
            pipeline = Pipeline(hops, reads_tokens=self._reads_tokens, strained=self._strained)
            if coming_back is not None:
                pipeline.go_on(coming_back.tokens, coming_back.path.best)
            return pipeline
        form = terms.capacity, terms.top_k, terms.wire_dtype
        own = None if coming_back is None else coming_back.path.own
        if coming_back is not None and (
            own is None or not await self._own.go_on(own, len(coming_back.tokens), *form)
        ):
            coming_back.path.close()
            coming_back = own = None
        own = own or await self._own.open(*form)
        try:
            joints = self.joints(adverts, terms)
            hops = await self.sessions(adverts, accounts, terms, spending, leash_of, coming_back, joints)
        except BaseException:
            own.close()
            raise
        pipeline = EndedPipeline(hops, own, self._strained)
        if coming_back is not None:
            pipeline.go_on(coming_back.tokens)
        return pipeline

    def joints(self, adverts: Sequence[Advert], terms: Terms) -> list[Joint]:
        """The links of a path with these providers."""
        return self.links.joints(adverts) if terms.chain else []

    async def sessions(
        self,
        adverts: Sequence[Advert],
        accounts: Mapping[Recipient, OutgoingAccount],
        terms: Terms,
        spending: Spending,
        leash_of: Callable[[Advert], Leash] | None = None,
        coming_back: ComingBack | None = None,
        joints: Sequence[Joint] = (),
    ) -> list[Hop]:
        """Open a session with every provider, paid from its account and within `spending`.

        `leash_of` says how long each may take; without it all have the longest time. Where we are `coming_back`, a
        session goes on that its provider keeps. Of the `joints` those between these providers are made; who comes
        after one of others knows it.

        Raises:
            HopFailed: a provider does not take it; those already open are closed.
        """
        hops: dict[str, Hop] = {}
        before = {joint.after.peer: joint for joint in joints}
        failures: list[HopFailed] = []

        async def open_hop(advert: Advert) -> None:
            joint = before.get(advert.peer)
            try:
                leash = leash_of(advert) if leash_of else None
                account = accounts[recipient_of(advert)]
                hops[advert.peer] = await self._open_in_time(
                    advert, account, terms, spending, leash, coming_back, joint
                )
            except HopFailed as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()

        opened = False
        try:
            async with trio.open_nursery() as nursery:
                for advert in adverts:
                    nursery.start_soon(open_hop, advert)
            if not failures:
                for joint in joints:
                    if {joint.before.peer, joint.after.peer} <= hops.keys():
                        await hops[joint.before.peer].join(joint)
            opened = not failures
        finally:
            if coming_back is not None:
                coming_back.close_but(hop.record.session for hop in hops.values())
            if not opened:
                with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
                    for hop in hops.values():
                        await hop.close()
        if failures:
            raise failures[0]
        return [hops[advert.peer] for advert in adverts]

    def _strained(self, one: Hop, other: Hop) -> None:
        self.links.strain(one.advert.peer, other.advert.peer)

    async def _open_in_time(
        self,
        advert: Advert,
        account: OutgoingAccount,
        terms: Terms,
        spending: Spending,
        leash: Leash | None,
        coming_back: ComingBack | None,
        joint: Joint | None,
    ) -> Hop:
        try:
            with nullcontext() if leash is None else leash.opening():
                return await self._open_hop(advert, account, terms, spending, leash, coming_back, joint)
        except TooSlow as slow:
            raise too_slow(advert.peer, slow) from None

    async def _open_hop(
        self,
        advert: Advert,
        account: OutgoingAccount,
        terms: Terms,
        spending: Spending,
        leash: Leash | None,
        coming_back: ComingBack | None,
        joint: Joint | None,
    ) -> Hop:
        stay = coming_back.stay(advert.peer, account.channel_id, terms) if coming_back else None
        begun = await stay.origin.steps() if stay is not None and stay.origin is not None else ()
        if stay is not None and stay.origin is not None and not begun:
            stay = None
        try:
            connection = await dial_steps(self._host, advert)
        except NodeError as error:
            raise HopFailed(advert.peer, str(error), how=How.LOST) from error
        try:
            return await Hop.open(
                connection,
                advert,
                account,
                wire_dtype=terms.wire_dtype,
                capacity=terms.capacity,
                top_k=terms.top_k,
                n_vocab=self._n_vocab,
                is_last=advert.layer_stop == self._layers,
                domain=self._domain,
                spending=spending,
                transcripts=self._transcripts,
                leash=leash,
                stay=stay,
                begun=begun,
                position=len(coming_back.tokens) if coming_back else 0,
                joint=joint,
                pay_ahead=terms.pay_ahead,
            )
        except BaseException:
            with trio.CancelScope(shield=True):
                await connection.close()
            raise
