"""What a provider serves, and what it checks of an opening before it looks at any channel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypercluster.market.money.voucher import VoucherDomain
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.budgets import BOUNDS, Budget
from hypercluster.node.provider.prices import Prices
from hypercluster.node.provider.visits import Visits
from hypercluster.node.rows import WireDtype
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.refusals import Refused
from hypercluster.node.wire.messages import Open

if TYPE_CHECKING:
    import coincurve

    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.provider.links import Links
    from hypercluster.node.provider.parking import Parking
    from hypercluster.node.provider.seats import Seats
    from hypercluster.node.serving.collector import Collector

CROWDED_SECONDS = 5.0
BLOCKED_SECONDS = 60.0
"""after which asking a provider again is worth it that has no room for transcripts"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all sessions of one provider share."""

    model_id: str
    layer_start: int
    layer_stop: int
    layers: int
    """of the whole model"""
    width: int
    reads_tokens: bool
    max_top_k: int
    max_step_tokens: int
    wire_dtypes: tuple[WireDtype, ...]
    accepting: Callable[[], bool]
    """false while the provider is about to leave"""
    blocked: Callable[[], str | None]
    """why no session can be taken now; told to nobody but the operator"""
    seats: "Seats"
    parking: "Parking"
    cached_percent: int
    """of a prompt token's price, for each token that a parked session holds"""
    reserve: Callable[[], int]
    """wei of unspent deposit that a channel holds for each session open on it, as advertised"""
    throttle_seconds: float
    engine: "Engine"
    crowded: Callable[[], bool]
    """whether the sessions that there are leave no time for another one"""
    collector: "Collector"
    prices: Callable[[], Prices]
    domain: VoucherDomain
    disputes: "DisputeDomain"
    """in which receipts are signed"""
    node_key: "coincurve.PrivateKey"
    peer: str
    """our own peer id"""
    profile: str
    """our backend profile, see node.engine.profile"""
    transcripts: "TranscriptStore"
    links: "Links"
    seconds_before: Callable[[int], float]
    """how long the layers before ours may take for a step of so many rows, s"""
    visits: Visits = field(default_factory=Visits)
    strangers: Budget = field(default_factory=lambda: Budget(BOUNDS["open"]))
    newcomers: Budget = field(default_factory=lambda: Budget(BOUNDS["open"]))
    """openings by peers whose channel is known and over which nothing was paid yet; strangers have theirs"""

    @property
    def is_first(self) -> bool:
        """It embeds tokens."""
        return self.layer_start == 0

    @property
    def is_last(self) -> bool:
        """It ends in logits."""
        return self.layer_stop == self.layers

    def check(self, opening: Open) -> Prices:
        """The prices at which an opening would be served now. Raises Refused for what is not offered."""
        if opening.model_id != self.model_id:
            raise Refused(ErrorCode.WRONG_MODEL, f"This provider serves model {self.model_id[:16]}.")
        if (opening.layer_start, opening.layer_stop) != (self.layer_start, self.layer_stop):
            served = f"[{self.layer_start}, {self.layer_stop})"
            raise Refused(ErrorCode.WRONG_RANGE, f"This provider serves layers {served}.")
        if not self.accepting():
            raise Refused(ErrorCode.FULL, "This provider takes no new sessions, it is about to leave.")
        if self.blocked() is not None:
            raise Refused(
                ErrorCode.FULL,
                "This provider has no room for what another session would leave to keep.",
                wait=BLOCKED_SECONDS,
            )
        if self.crowded():
            raise Refused(
                ErrorCode.FULL,
                "Another session would make all of them slower here than this provider wants to be.",
                wait=CROWDED_SECONDS,
            )
        if opening.wire_dtype not in self.wire_dtypes:
            names = ", ".join(dtype.name.lower() for dtype in self.wire_dtypes)
            raise Refused(
                ErrorCode.BAD_REQUEST, f"wire_dtype is {opening.wire_dtype.name.lower()}, not one of {names}."
            )
        if self.is_last and not 1 <= opening.top_k <= self.max_top_k:
            raise Refused(ErrorCode.BAD_REQUEST, f"top_k is {opening.top_k}, outside 1 to {self.max_top_k}.")
        prices = self.prices()
        if opening.max_price_wei < prices.price_wei or opening.max_prompt_price_wei < prices.prompt_price_wei:
            raise Refused(
                ErrorCode.PRICE_TOO_LOW,
                f"The price is {prices.price_wei} wei a token and {prices.prompt_price_wei} wei a prompt token now.",
            )
        cached_wei = prices.cached_wei(self.cached_percent)
        if opening.resume and opening.max_cached_price_wei < cached_wei:
            raise Refused(
                ErrorCode.PRICE_TOO_LOW, f"The price is {cached_wei} wei for a token that is held now."
            )
        return prices

    @contextmanager
    def asking(self, connection: "Connection", opening: Open) -> Iterator[None]:
        """An opening is looked at within the block. Who never paid has a budget for it. Raises OverBudget."""
        if self.collector.class_of(connection.peer) is Class.PAYER:
            yield
            return
        budget = self.newcomers if self.collector.knows(opening.channel) else self.strangers
        with budget.holding(connection.source):
            yield
