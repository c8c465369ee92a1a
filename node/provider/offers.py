"""What a provider offers: its layers, its prices, how fast it is, and how many sessions it would take."""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

from hypercluster.market.advert import Advert
from hypercluster.market.economics.graph import node_of
from hypercluster.market.economics.pricing import PriceStep
from hypercluster.node.engine.engine import Engine
from hypercluster.node.provider.parking import Parking
from hypercluster.node.provider.prices import Asking
from hypercluster.node.provider.seats import Seats
from hypercluster.node.provider.speed import Speed
from hypercluster.node.provider.terms import ProviderTerms
from hypercluster.node.rows import WireDtype
from hypercluster.node.serving.presence import Issue, Presence
from hypercluster.node.shards import Manifest
from hypercluster.node.wire.messages import BRANCH, CHAIN, FLIGHT, REWIND

MAX_TOP_K = 1024
"""candidates per row that a tail returns at most"""
MOST_RESERVE = 2**96 - 1
AHEAD_FACTOR = 4.0
"""by which providers before us may be slower than we are, with their queues"""
NOTEWORTHY = 0.1
"""share by which a time must have changed to be told before the next refresh"""


class Offer:
    """One range of layers on one engine, for sale. `leaving` is set when no new session is taken; `certified` are the
    types on the wire that do the model no harm.
    """

    def __init__(
        self,
        *,
        terms: ProviderTerms,
        manifest: Manifest,
        engine: Engine,
        asking: Asking,
        speed: Speed,
        certified: Collection[str] = (),
    ) -> None:
        self.terms, self.manifest, self.engine = terms, manifest, engine
        self.asking, self.speed = asking, speed
        self.leaving = trio.Event()
        self.blocked: Callable[[], str | None] = lambda: None
        """why no session can be taken now, as a sentence"""
        self.seats = Seats(
            terms.sessions, first_seconds=lambda: self.first_seconds, most_idle=terms.idle_seconds
        )
        self.parking = Parking(engine, seconds=terms.park_seconds)
        self.neighbours: Callable[[], bytes] = lambda: b""
        """how far others are, as the advert tells it"""
        self.wire_dtypes = tuple(
            each
            for each in terms.wire_dtypes
            if each is not WireDtype.Q8 or (each.name.lower() in certified and each.fits(engine.width))
        )
        self._told: Advert | None = None

    @property
    def free(self) -> int:
        """Sessions that it would take now."""
        if self.leaving.is_set() or self.blocked() is not None or self.engine.trouble is not None:
            return 0
        if self.crowded:
            return 0
        # The session in which the speed is measured is over before anybody could be sent away for it, and who has one
        # and does not use it gives way, as what is parked does.
        free = self.engine.stats().free + len(self.parking) + self.speed.measuring + self.seats.yielding
        return min(self.terms.sessions, free)

    @property
    def crowded(self) -> bool:
        """Whether those who are served get a token so slowly by now that another one would break what was promised."""
        slowest = self.terms.slowest_ms
        return slowest is not None and self.speed.loaded and self.speed.cost_ms > slowest

    @property
    def open_sessions(self) -> int:
        """Those that their clients are at, and that in which the speed is measured."""
        return max(0, self.engine.stats().sessions - len(self.parking))

    @property
    def cached_price_wei(self) -> int:
        """Per token that a parked session holds; 0 where none is parked."""
        return self.asking.prices.cached_wei(self.terms.cached_percent) if self.parking.seconds else 0

    @property
    def reserve_wei(self) -> int:
        """Unspent deposit that a channel holds for each session: the price of some tokens, at the lower one of both."""
        prices = self.asking.prices
        lower = min(prices.price_wei, prices.prompt_price_wei) or max(
            prices.price_wei, prices.prompt_price_wei
        )
        return min(MOST_RESERVE, lower * min(self.terms.reserve_tokens, self.engine.max_capacity))

    @property
    def first_seconds(self) -> float:
        """That a client gets for its first step: it comes when the layers before ours have had theirs."""
        terms = self.terms
        chunks = terms.start / (terms.stop - terms.start)
        own_chunk = terms.step_tokens * self.speed.prompt_ms / 1000
        return terms.first_step_seconds + AHEAD_FACTOR * chunks * own_chunk

    def seconds_before(self, rows: int) -> float:
        """How long the layers before ours may take for a step of so many rows, by our own speed, s."""
        layers = self.terms.start / (self.terms.stop - self.terms.start)
        row_ms = self.speed.prompt_ms if rows > 1 else self.speed.cost_ms
        return AHEAD_FACTOR * layers * rows * row_ms / 1000

    @property
    def max_top_k(self) -> int:
        """Candidates per row that a session may ask for; 0 where the range ends in activations."""
        tail = self.terms.stop == self.manifest.layers
        return min(self.manifest.n_vocab, MAX_TOP_K) if tail else 0

    def advert(self, issue: Issue, *, direct: str = "") -> Advert:
        """The advert of it; `direct` is where steps go without a muxer."""
        terms, prices = self.terms, self.asking.prices
        self._told = Advert(
            peer=issue.peer,
            model_id=self.manifest.model_id,
            layer_start=terms.start,
            layer_stop=terms.stop,
            price_wei=prices.price_wei,
            prompt_price_wei=prices.prompt_price_wei,
            cost_ms=self.speed.cost_ms,
            prompt_ms=self.speed.prompt_ms,
            operator=issue.operator,
            capacity=terms.sessions,
            free=self.free,
            session_tokens=self.engine.max_capacity,
            max_top_k=self.max_top_k,
            sequence=issue.sequence,
            issued=issue.issued,
            expires=issue.expires,
            width=self.engine.width,
            addrs=issue.addrs,
            direct=direct,
            wire_dtypes=tuple(dtype.name.lower() for dtype in self.wire_dtypes),
            features=self._features(direct),
            reserve_wei=self.reserve_wei,
            cached_price_wei=self.cached_price_wei,
            parked_seconds=self.parking.seconds,
            neighbours=self.neighbours(),
        )
        return self._told

    def _features(self, direct: str) -> tuple[str, ...]:
        # Where a model reads token ids beside the rows, each stage needs them from the client.
        chain = direct and not self.engine.reads_tokens
        flight = chain and self.engine.rewinds
        return (
            ((REWIND, BRANCH) if self.engine.rewinds else ())
            + ((CHAIN,) if chain else ())
            + ((FLIGHT,) if flight else ())
        )

    def changed(self) -> bool:
        """Whether something has changed that others should hear of before the next refresh.

        A full node is not chosen, one that is free again is; a price or a speed that moved moves paths.
        """
        told, prices = self._told, self.asking.prices
        if told is None:
            return False
        return (
            (told.free == 0) != (self.free == 0)
            or (told.price_wei, told.prompt_price_wei) != (prices.price_wei, prices.prompt_price_wei)
            or abs(told.cost_ms - self.speed.cost_ms) > NOTEWORTHY * told.cost_ms
        )

    def reprice(self, presence: Presence) -> PriceStep | None:
        """Move the price by one step against what others offer now; None where it is not to move."""
        own = node_of(presence.advert())
        return self.asking.step(own, [node_of(advert) for advert in presence.others()])
