"""GET /hc/network: providers, verifiers, coverage and the path of a model now; GET /hc/network/history: how it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from hypercluster.market.economics.graph import Node, NoPath
from hypercluster.market.economics.routing import best_path
from hypercluster.market.trust.reputation import Reputation
from hypercluster.node.client.rules import WAIVED
from hypercluster.node.errors import NodeError
from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.pages.asking import ledger_threads, page_route, text, whole
from hypercluster.node.traffic.entries import UnknownModel
from hypercluster.node.traffic.offers import CHEAPEST

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path
    from hypercluster.market.ledger import AdvertRow
    from hypercluster.market.trust.standing import Standing
    from hypercluster.node.client.client import Client
    from hypercluster.node.gateway.gateway import Gateway

MOST_PROVIDERS = 500
MOST_POINTS = 300
"""of a curve"""


def routes(gateway: Gateway) -> list[Route]:
    """What the network page asks for."""
    return [
        page_route(gateway, "/hc/network", partial(network, gateway)),
        page_route(gateway, "/hc/network/history", partial(history, gateway)),
    ]


async def network(gateway: Gateway, request: Request) -> dict[str, Any]:
    """`?model=` by name; `path` is null where there is none, and `reason` says why. `ms` is what a token takes there
    and back as this gateway measured it.
    """
    market = gateway.market
    try:
        entry = market.model(request.query_params.get("model"))
        client = market.client(entry.name)
    except UnknownModel as error:
        raise ApiError(404, "model_not_found", str(error), param="model") from error
    nodes = {node.id: node for node in await client.nodes(full=True)}
    standings = await ledger_threads(market.ledger.trust.standings, datetime.now(UTC))
    path, reason = await _path(client)
    on_path = set(path.ids) if path else set()
    adverts = client.adverts()
    return {
        "model": entry.name,
        "model_id": entry.model_id,
        "layers": entry.layers,
        "providers": [
            _peer(advert, standings)
            | _speed(nodes.get(advert.peer), advert)
            | {"on_path": advert.peer in on_path}
            for advert in sorted(adverts, key=lambda each: (each.layer_start, each.peer))[:MOST_PROVIDERS]
        ],
        "coverage": _coverage(adverts, entry.layers),
        "path": None if path is None else _path_document(path, client.wishes.market.alpha),
        "reason": reason,
        "verifiers": [_peer(advert, standings) for advert in client.verifiers()[:MOST_PROVIDERS]],
    }


async def history(gateway: Gateway, request: Request) -> dict[str, Any]:
    """`?model=&hours=`: lists of moments, of the price of the cheapest path then (null for none), of the providers."""
    market = gateway.market
    try:
        entry = market.model(request.query_params.get("model"))
    except UnknownModel as error:
        raise ApiError(404, "model_not_found", str(error), param="model") from error
    now = datetime.now(UTC)
    since = now - timedelta(hours=whole(request, "hours", 24, 24 * 366))
    # An offer that stays as it is is written down once an hour: what held at the beginning stands shortly before it.
    rows = await ledger_threads(market.ledger.adverts.history, entry.model_id, since - timedelta(hours=2))
    return await ledger_threads(curve, rows, entry.layers, since, now)


def curve(rows: Sequence[AdvertRow], layers: int, since: datetime, until: datetime) -> dict[str, Any]:
    """The offers of `rows`, oldest first, as they held at up to MOST_POINTS moments of [since, until]."""
    changes = sorted({max(row.seen, since) for row in rows})
    moments = [*changes[:: len(changes) // MOST_POINTS + 1], until] if changes else []
    offered: dict[str, AdvertRow] = {}
    waiting = deque(rows)
    prices: list[int | None] = []
    providers: list[int] = []
    for at in moments:
        while waiting and waiting[0].seen <= at:
            row = waiting.popleft()
            offered.pop(row.peer, None)
            if not row.gone:
                offered[row.peer] = row
        prices.append(_cheapest(offered.values(), layers))
        providers.append(len(offered))
    return {
        "at": [each.timestamp() for each in moments],
        "price_wei": [text(price) for price in prices],
        "providers": providers,
    }


def _cheapest(offers: Iterable[AdvertRow], layers: int) -> int | None:
    nodes = [
        Node(
            id=row.peer,
            start=row.layer_start,
            stop=row.layer_stop,
            price_wei=row.price_wei,
            prompt_price_wei=row.prompt_price_wei,
            cost_ms=row.cost_ms,
        )
        for row in offers
    ]
    try:
        return best_path(nodes, layers=layers, market=CHEAPEST).price_wei
    except NoPath:
        return None


async def _path(client: Client) -> tuple[Path | None, str]:
    try:
        return await client.route(), ""
    except NodeError as error:
        return None, str(error)


def _path_document(path: Path, alpha: float) -> dict[str, Any]:
    return {
        "hops": [
            {
                "peer": node.id,
                "operator": node.operator,
                "layers": [node.start, node.stop],
                "price_wei": str(node.price_wei),
                "prompt_price_wei": str(node.prompt_price_wei),
                "ms": round(node.service_ms + 2 * node.latency_ms, 2),
            }
            for node in path.nodes
        ],
        "price_wei": str(path.price_wei),
        "prompt_price_wei": str(path.prompt_price_wei),
        "ms": round(path.ms, 2),
        "weight": path.weight,
        "waived": [WAIVED[name] for name in path.waived],
        "alpha": alpha,
    }


def _peer(advert: Advert, standings: dict[str, Standing]) -> dict[str, Any]:
    known = standings.get(advert.operator)
    believed = known.of(advert.peer) if known else Reputation()
    return {
        "peer": advert.peer,
        "operator": advert.operator,
        "layers": [advert.layer_start, advert.layer_stop],
        "price_wei": str(advert.price_wei),
        "prompt_price_wei": str(advert.prompt_price_wei),
        "capacity": advert.capacity,
        "free": advert.free,
        "session_tokens": advert.session_tokens,
        "reliability": believed.reliability,
        "availability": believed.availability,
        "good": believed.good,
        "bad": believed.bad,
        "heard": believed.heard,
        "distrusted": believed.distrusted,
    }


def _speed(node: Node | None, advert: Advert) -> dict[str, Any]:
    if node is None:
        return {"ms": None, "cost_ms": advert.cost_ms, "latency_ms": None}
    return {
        "ms": round(node.service_ms + 2 * node.latency_ms, 2),
        "cost_ms": node.cost_ms,
        "latency_ms": node.latency_ms,
    }


def _coverage(adverts: Iterable[Advert], layers: int) -> list[int]:
    """How many serve each layer."""
    served = [0] * layers
    for advert in adverts:
        for layer in range(advert.layer_start, min(advert.layer_stop, layers)):
            served[layer] += 1
    return served
