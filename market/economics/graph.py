"""Adverts as nodes of the layer graph: one at a time (`Node`) and in columns (`AdvertTable`).

A path is a chain of nodes whose half-open layer ranges abut from 0 to m. Every edge leads from a node to one
that starts at a higher layer, so the graph has no cycles and its topological order is the order of `start`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hypercluster.market.advert import MAX_LAYERS, Advert
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.errors import MarketError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_PRICE_WEI = 2**52
"""Highest price in wei per token that is routed: sums over a path stay exact in int64 and float64."""


class BadNode(MarketError):
    """A node's fields make no sense in the layer graph."""


class NoPath(MarketError):
    """No chain of nodes covers the model.

    ``layer`` is the first layer that nobody serves or, where each layer has a server but the ranges do not
    join, the layer at which the longest chain ends and nobody starts.
    """

    def __init__(self, layer: int, layers: int, served: bool = False) -> None:
        what = (
            f"the chains end at layer {layer} and no node starts there"
            if served
            else f"nobody serves layer {layer}"
        )
        super().__init__(
            f"No path covers the {layers} layers: {what}; "
            "wait for a provider of that layer or serve it yourself."
        )
        self.layer = layer
        self.layers = layers


@dataclass(frozen=True, slots=True)
class Node:
    """One advert as routing and pricing see it (the paper's N(l, l_ij, c, p)).

    Attributes:
        id: unique name, the peer id in a running network.
        start, stop: half-open range of layers, ``0 <= start < stop``.
        price_wei: price of one generated token; above `MAX_PRICE_WEI` the node is on no path.
        cost_ms, prompt_ms: compute time of one generated token, and of one prompt token among many.
        latency_ms: one way from the client to the node.
        prompt_price_wei: price of one prompt token.
        cached_price_wei: price of one prompt token that a parked session holds.
        capacity: sessions the node holds at most; 0 where unknown.
        free: sessions it could still take.
        session_tokens: tokens that a session may hold at most; None where unknown.
        max_top_k: candidates per row that a session may ask for at most; None where unknown.
        wait_ms: further delay per token that the client has seen (slow answers), beyond ``cost_ms``.
        risk: minus the log of the probability that it serves honestly, as this client believes; 0 is trusted
            blindly.
        operator: account that answers for it with a stake; "" where unknown, then it stands for itself.
        stake_wei: what of that stake is behind this node; 0 where unknown.
    """

    id: str
    start: int
    stop: int
    price_wei: int
    cost_ms: float
    latency_ms: float = 0.0
    prompt_price_wei: int = 0
    capacity: int = 0
    free: int = 0
    wait_ms: float = 0.0
    risk: float = 0.0
    prompt_ms: float = 0.0
    session_tokens: int | None = None
    max_top_k: int | None = None
    operator: str = ""
    stake_wei: int = 0
    cached_price_wei: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise BadNode(f"Node {self.id} has layers [{self.start}, {self.stop}), which is not a range.")
        if min(self.price_wei, self.prompt_price_wei, self.cached_price_wei) < 0:
            raise BadNode(f"Node {self.id} has a price below zero.")
        for name, ms in (
            ("cost_ms", self.cost_ms),
            ("latency_ms", self.latency_ms),
            ("wait_ms", self.wait_ms),
            ("prompt_ms", self.prompt_ms),
        ):
            if not 0 <= ms < math.inf:
                raise BadNode(f"Node {self.id} has {name} {ms}, not a finite number of ms from 0.")
        if not 0 <= self.risk < math.inf:
            raise BadNode(f"Node {self.id} has risk {self.risk}, not a finite number from 0.")
        if not 0 <= self.free <= max(self.capacity, 0):
            raise BadNode(f"Node {self.id} has {self.free} free sessions of {self.capacity}.")
        if self.session_tokens is not None and self.session_tokens < 1:
            raise BadNode(f"Node {self.id} has sessions of {self.session_tokens} tokens, which hold nothing.")
        if self.max_top_k is not None and self.max_top_k < 0:
            raise BadNode(f"Node {self.id} has max_top_k {self.max_top_k}, below zero.")
        if self.stake_wei < 0:
            raise BadNode(f"Node {self.id} has a stake below zero.")

    @property
    def owner(self) -> str:
        """Who answers for it: its operator, or it itself where none is known."""
        return self.operator or self.id

    @property
    def service_ms(self) -> float:
        """Time from a token's arrival at the node to its answer: compute, observed wait and queue, in ms."""
        return self.cost_ms + self.wait_ms + self.cost_ms * float(crowding(self.capacity, self.free))

    @property
    def total_ms(self) -> float:
        """Time per token as seen by a client that relays every hop: service and a round trip, in ms."""
        return self.service_ms + 2 * self.latency_ms

    def prompt_wei(self, held: float) -> float:
        """Price of a prompt token of which a share ``held`` is in a parked session."""
        return (1.0 - held) * self.prompt_price_wei + held * self.cached_price_wei

    def shares(self, market: MarketParameters) -> tuple[float, float, float]:
        """What the node's weight is the sum of (`AdvertTable.weights`): its price, its time, its risk."""
        price = self.price_wei + market.prompt_ratio * self.prompt_wei(market.held)
        return (
            price * market.alpha / market.p_ref,
            self.total_ms * (1.0 - market.alpha) / market.c_ref,
            market.risk_weight * self.risk,
        )


def node_of(
    advert: Advert, latency_ms: float = 0.0, wait_ms: float = 0.0, risk: float = 0.0, stake_wei: int = 0
) -> Node:
    """Return an advert as a `Node`, with what this client measured and believes; raises `BadNode` on fields
    out of bounds.
    """
    return Node(
        id=advert.peer,
        start=advert.layer_start,
        stop=advert.layer_stop,
        price_wei=advert.price_wei,
        cost_ms=advert.cost_ms,
        latency_ms=latency_ms,
        prompt_price_wei=advert.prompt_price_wei,
        capacity=advert.capacity,
        free=min(advert.free, advert.capacity),
        wait_ms=wait_ms,
        risk=risk,
        prompt_ms=advert.prompt_ms,
        session_tokens=advert.session_tokens,
        max_top_k=advert.max_top_k,
        operator=advert.operator,
        stake_wei=stake_wei,
        cached_price_wei=advert.cached_price_wei,
    )


def routable(nodes: Sequence[Node], layers: int, exclude: Collection[str] = ()) -> list[int]:
    """Return the places of the nodes that can be on a path of a model of ``layers`` layers.

    Left out are those named in ``exclude``, those that reach beyond the model, and those that ask more than
    `MAX_PRICE_WEI`: adverts come from strangers, and a silly one must not stop the others.
    """
    if not 0 < layers <= MAX_LAYERS:
        raise BadNode(f"A model has 1 to {MAX_LAYERS} layers, not {layers}.")
    barred = frozenset(exclude)
    return [
        i
        for i, node in enumerate(nodes)
        if node.stop <= layers
        and max(node.price_wei, node.prompt_price_wei, node.cached_price_wei) <= MAX_PRICE_WEI
        and node.id not in barred
    ]


def crowding(capacity: npt.ArrayLike, free: npt.ArrayLike) -> Floats:
    """Return the expected queue in units of the compute time: u / (1 - u + 1/capacity) at utilisation u.

    It is 0 for an idle node or an unknown capacity, grows as in an M/M/1 queue, and reaches ``capacity``
    for a full node, which so is weighed down long before it has to be excluded.
    """
    slots = np.asarray(capacity, dtype=np.float64)
    known = slots > 0
    slots = np.where(known, slots, 1.0)
    used = np.where(known, 1.0 - np.asarray(free, dtype=np.float64) / slots, 0.0)
    return np.asarray(used / (1.0 - used + 1.0 / slots))


@dataclass(frozen=True, eq=False)
class AdvertTable:
    """Nodes in columns, for networks of up to millions of adverts; row i of each column is one advert.

    Attributes:
        layers: m, the number of layers of the model.
        ids: names, [n].
        start, stop: layer ranges, int64 [n], ``0 <= start < stop <= layers``.
        price_wei, prompt_price_wei, cached_price_wei: wei per token, int64 [n].
        service_ms: compute and waiting time per token, float64 [n].
        latency_ms: one way from the client, float64 [n].
        risk: minus the log of the reliability, float64 [n], finite and 0 or more.
    """

    layers: int
    ids: Sequence[str]
    start: Ints
    stop: Ints
    price_wei: Ints
    prompt_price_wei: Ints
    service_ms: Floats
    latency_ms: Floats
    risk: Floats
    cached_price_wei: Ints

    @classmethod
    def of(cls, nodes: Sequence[Node], layers: int, exclude: Collection[str] = ()) -> AdvertTable:
        """Gather the `routable` ones of ``nodes``."""
        kept = [nodes[i] for i in routable(nodes, layers, exclude)]
        return cls(
            layers=layers,
            ids=[node.id for node in kept],
            start=np.array([node.start for node in kept], dtype=np.int64),
            stop=np.array([node.stop for node in kept], dtype=np.int64),
            price_wei=np.array([node.price_wei for node in kept], dtype=np.int64),
            prompt_price_wei=np.array([node.prompt_price_wei for node in kept], dtype=np.int64),
            service_ms=np.array([node.service_ms for node in kept], dtype=np.float64),
            latency_ms=np.array([node.latency_ms for node in kept], dtype=np.float64),
            risk=np.array([node.risk for node in kept], dtype=np.float64),
            cached_price_wei=np.array([node.cached_price_wei for node in kept], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def total_ms(self) -> Floats:
        """Time per token of each node for a client that relays every hop, ms, float64 [n]."""
        return self.service_ms + 2.0 * self.latency_ms

    @cached_property
    def range_key(self) -> Ints:
        """Number of each node's layer range, ``start * (layers + 1) + stop``, int64 [n]."""
        return self.start * (self.layers + 1) + self.stop

    def prompt_wei(self, held: float) -> Floats:
        """Price of a prompt token of which a share ``held`` is in a parked session, float64 [n]."""
        return np.asarray((1.0 - held) * self.prompt_price_wei + held * self.cached_price_wei)

    def weights(self, market: MarketParameters) -> Floats:
        """Return each node's weight for a client that relays every hop (paper eq. 1, and its risk), float64
        [n].
        """
        price = self.price_wei * (market.alpha / market.p_ref)
        if market.prompt_ratio:
            price += self.prompt_wei(market.held) * (market.alpha * market.prompt_ratio / market.p_ref)
        weights = price + self.total_ms * ((1.0 - market.alpha) / market.c_ref)
        if market.risk_weight and self.risk.any():
            weights += market.risk_weight * self.risk
        return weights

    def rows(self, mask: npt.NDArray[np.bool_]) -> AdvertTable:
        """Return the table of the rows where ``mask``, bool [n], is true."""
        keep = np.flatnonzero(mask)
        return AdvertTable(
            layers=self.layers,
            ids=[self.ids[i] for i in keep.tolist()],
            start=self.start[keep],
            stop=self.stop[keep],
            price_wei=self.price_wei[keep],
            prompt_price_wei=self.prompt_price_wei[keep],
            service_ms=self.service_ms[keep],
            latency_ms=self.latency_ms[keep],
            risk=self.risk[keep],
            cached_price_wei=self.cached_price_wei[keep],
        )

    def joined(self, other: AdvertTable) -> AdvertTable:
        """Return the rows of this table followed by those of ``other``, which covers the same model."""
        return AdvertTable(
            layers=self.layers,
            ids=[*self.ids, *other.ids],
            start=np.concatenate([self.start, other.start]),
            stop=np.concatenate([self.stop, other.stop]),
            price_wei=np.concatenate([self.price_wei, other.price_wei]),
            prompt_price_wei=np.concatenate([self.prompt_price_wei, other.prompt_price_wei]),
            service_ms=np.concatenate([self.service_ms, other.service_ms]),
            latency_ms=np.concatenate([self.latency_ms, other.latency_ms]),
            risk=np.concatenate([self.risk, other.risk]),
            cached_price_wei=np.concatenate([self.cached_price_wei, other.cached_price_wei]),
        )

    def no_path(self) -> NoPath | None:
        """Return why no chain of ranges leads from 0 to m, or None where one does."""
        reached = np.zeros(self.layers + 1, dtype=bool)
        reached[0] = True
        cover = np.zeros(self.layers + 1, dtype=np.int64)
        for key in np.unique(self.range_key):
            start, stop = divmod(int(key), self.layers + 1)
            reached[stop] |= reached[start]
            cover[start] += 1
            cover[stop] -= 1
        if reached[self.layers]:
            return None
        unserved = np.flatnonzero(np.cumsum(cover)[:-1] == 0)
        if len(unserved):
            return NoPath(int(unserved[0]), self.layers)
        return NoPath(int(np.flatnonzero(reached)[-1]), self.layers, served=True)


def link_matrix(nodes: Sequence[Node], links: Mapping[tuple[str, str], float]) -> Floats:
    """Return one-way latencies between nodes in ms, float64 [n, n]; row i, column j is node i to node j.

    A pair that ``links`` (by ids) does not name is relayed by the client: ``latency_i + latency_j``.
    """
    own = np.array([node.latency_ms for node in nodes], dtype=np.float64)
    matrix = own[:, None] + own[None, :]
    place = {node.id: i for i, node in enumerate(nodes)}
    for (source, target), ms in links.items():
        if source in place and target in place:
            matrix[place[source], place[target]] = ms
    return matrix
