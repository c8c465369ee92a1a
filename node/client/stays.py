"""Paths that may be taken again: sessions that their providers keep, and the tokens that are in their caches.

Only who asked before comes back to a path: what one key asked is nobody else's to use, or to push out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.choosing import Chooser
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.needs import Needs
    from hypercluster.node.client.opening import Terms
    from hypercluster.node.client.own_layers import OwnSession
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.evidence.receipts import ReceiptChain
    from hypercluster.node.evidence.transcript import Held
    from hypercluster.node.evidence.transcript_store import TranscriptWriter
    from hypercluster.node.network.orderbook import OrderBook
    from hypercluster.node.rows import TopK, WireDtype
    from hypercluster.node.wire.records import AuditStep, StageRecord, StepRoots

LEAST_SHARED = 32
"""tokens for which coming back is worth it"""
MOST_PATHS = 64
MOST_BYTES = 2**27
"""of rows of one session, over all visits: a stage that has grown longer could not be audited any more"""
OWN_SECONDS = 600
"""for which own layers keep a session where no provider has a part of the path"""
PARK_SECONDS = 2.0
"""for a provider to say whether it keeps a session: until then the completion has not ended"""
MARGIN_SECONDS = 2.0
"""by which we come back sooner than a provider's time is over"""


class Origin:
    """The first `count` steps of a session, with which others begin that are copies of it.

    `held` gives what there is here of its steps, and may raise NotKept.
    """

    def __init__(self, count: int, held: Callable[[], Held]) -> None:
        self.count = count
        self._held, self._reading = held, trio.Lock()
        self._steps: tuple[AuditStep | StepRoots, ...] | None = None

    async def steps(self) -> tuple[AuditStep | StepRoots, ...]:
        """All of them, or none where not all are here."""
        async with self._reading:
            if self._steps is None:
                try:
                    found = (await trio.to_thread.run_sync(self._held)).steps[: self.count]
                except NodeError:
                    found = ()
                whole = [step.seq for step in found] == [*range(self.count)]
                self._steps = found if whole else ()
        return self._steps


@dataclass(frozen=True, slots=True)
class Stay:
    """A session that its provider keeps for `seconds`. `rows` is how many tokens it ran over all visits.

    With an `origin` it goes on by itself, and a session begins with a copy of it.
    """

    record: StageRecord
    receipts: ReceiptChain
    transcript: TranscriptWriter | None
    rows: int
    seconds: int
    origin: Origin | None = None

    def close(self) -> None:
        """Nobody comes back to it."""
        if self.transcript is not None:
            self.transcript.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedPath:
    """The sessions of one path, by peer and in the order of its layers; all of them hold `tokens`.

    `rewinds` is whether they may go on from an earlier one, `until` is in trio's time. Where the logits behind all
    `tokens` are known, in `best`, it is for a request of these tokens, none of which has to be run again.
    """

    key: str
    wishes: Wishes
    tokens: tuple[int, ...]
    stays: Mapping[str, Stay]
    rewinds: bool
    until: float
    best: TopK | None = None
    own: OwnSession | None = None
    """what the client's own layers keep of it, if it has any"""

    @property
    def wire_dtype(self) -> WireDtype | None:
        """In which its rows travel; None where no provider is on it."""
        return next((stay.record.wire_dtype for stay in self.stays.values()), None)

    def shared(self, tokens: Sequence[int]) -> int:
        """How many of these tokens need not be run again; 0 where coming back is not worth it.

        The last one always is, for the sake of what follows it. Where most of what is held would be given up for
        little, as when two talks begin alike, the path is left to the other.
        """
        if self.best is not None:
            return len(tokens) if self.tokens == tuple(tokens) else 0
        same = _common(self.tokens, tuple(tokens[:-1]))
        if same < LEAST_SHARED or (same < len(self.tokens) and not self.rewinds):
            return 0
        return same if same == len(tokens) - 1 or 2 * same >= len(self.tokens) else 0

    def close(self) -> None:
        """Nobody comes back to it."""
        if self.own is not None:
            self.own.close()
        for stay in self.stays.values():
            stay.close()


@dataclass(frozen=True, slots=True)
class ComingBack:
    """A request that goes on over a parked path, after `tokens` that it shares with what that holds."""

    path: ParkedPath
    tokens: tuple[int, ...]

    def stay(self, peer: str, channel_id: bytes, terms: Terms) -> Stay | None:
        """The session that `peer` keeps, if it fits: it is of one channel and one form."""
        stay = self.path.stays.get(peer)
        if stay is None:
            return None
        record = stay.record
        fits = (channel_id, terms.wire_dtype) == (record.channel_id, record.wire_dtype)
        return stay if fits and record.top_k in (0, terms.top_k) else None

    def close_but(self, sessions: Iterable[bytes]) -> None:
        """Give up the sessions that do not go on."""
        on = {*sessions}
        for stay in self.path.stays.values():
            if stay.record.session not in on:
                stay.close()


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """With how many tokens both begin. Halves are compared, as of long prompts one after the other takes too long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class Stays:
    """The paths that one client may come back to, the latest last."""

    def __init__(self) -> None:
        self._paths: list[ParkedPath] = []

    def __len__(self) -> int:
        return len(self._paths)

    def put(self, path: ParkedPath) -> None:
        """Remember a path; of too many the one longest unused is forgotten."""
        self._paths.append(path)
        self._forget(self._paths[:-MOST_PATHS])

    def take(self, key: str, wishes: Wishes, tokens: Sequence[int]) -> ParkedPath | None:
        """The path that holds most of these tokens, which nobody else gets from here on; None if none is worth it."""
        at = trio.current_time()
        self._forget([path for path in self._paths if path.until <= at])
        shared = [
            (path.shared(tokens), place)
            for place, path in enumerate(self._paths)
            if (path.key, path.wishes) == (key, wishes)
        ]
        most, place = max(shared, default=(0, 0))
        return self._paths.pop(place) if most else None

    def close(self) -> None:
        """Forget all."""
        self._forget(self._paths[:])

    def _forget(self, paths: Sequence[ParkedPath]) -> None:
        for path in paths:
            self._paths.remove(path)
            path.close()


async def parked_path(
    pipeline: Pipeline, key: str, wishes: Wishes, least: int = LEAST_SHARED
) -> ParkedPath | None:
    """End this visit of a path's sessions and have them kept for whoever has the same key and wishes; None where they
    are closed instead, as where they hold less than `least` tokens.
    """
    if not _may_stay(pipeline, least):
        await pipeline.close()
        return None
    stays: dict[str, Stay] = {}

    async def park(hop: Hop) -> None:
        if (stay := await hop.park()) is not None:
            stays[hop.advert.peer] = stay

    with trio.CancelScope(deadline=trio.current_time() + PARK_SECONDS, shield=True):
        async with trio.open_nursery() as nursery:
            for hop in pipeline.hops:
                nursery.start_soon(park, hop)
    seconds = min((stay.seconds for stay in stays.values()), default=0 if pipeline.hops else OWN_SECONDS)
    if pipeline.own is not None:
        pipeline.own.park()
    parked = ParkedPath(
        key=key,
        wishes=wishes,
        tokens=tuple(pipeline.held),
        stays={hop.advert.peer: stays[hop.advert.peer] for hop in pipeline.hops if hop.advert.peer in stays},
        rewinds=pipeline.rewinds,
        until=trio.current_time() + seconds - MARGIN_SECONDS,
        own=pipeline.own,
    )
    if len(parked.stays) < len(pipeline.hops):
        parked.close()
        return None
    return parked


def _may_stay(pipeline: Pipeline, least: int) -> bool:
    """Whether all sessions stand still at the same token, and their providers keep some."""
    return (
        pipeline.is_level
        and len(pipeline.held) >= least
        and all(
            not (hop.broken or hop.unanswered or hop.out) and hop.advert.parked_seconds and is_short(hop)
            for hop in pipeline.hops
        )
    )


def is_dear(advert: Advert) -> bool:
    """Whether what is held costs more than to have it computed."""
    return advert.cached_price_wei > min(advert.price_wei, advert.prompt_price_wei)


def is_short(hop: Hop) -> bool:
    """Whether a session has not run so much that it could not be audited any more."""
    row_bytes = 2 * hop.wire_dtype.row_bytes(hop.advert.width) + 8 * hop.record.top_k
    return (hop.rows_before + hop.tokens) * row_bytes <= MOST_BYTES


async def way_back(
    chooser: Chooser, book: OrderBook, parked: ParkedPath, needs: Needs, exclude: set[str]
) -> Path | None:
    """The path as it would be taken now, by all the rules that hold for any; None where it would not be."""
    peers = frozenset(parked.stays)
    adverts = [book.get(peer) for peer in peers]
    if exclude & peers or any(each is None or is_dear(each) for each in adverts):
        return None
    dtype = parked.wire_dtype or parked.wishes.wire_dtype
    only = replace(parked.wishes, only=peers, prefer=(), spread=False, wire_dtype=dtype)
    try:
        path = await chooser.route(only, needs, exclude)
    except (NodeError, MarketError):
        return None
    rests = chooser.experience.left_out() & {node.owner for node in path.nodes}
    return path if tuple(path.ids) == tuple(parked.stays) and not rests else None
