"""What a client sees before it pays: the providers, and the path that it would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypercluster.market.money.units import round_price
from hypercluster.node.cli.client.options import Alpha, OperatorHops, Wait
from hypercluster.node.cli.console import Json, err, say, show
from hypercluster.node.cli.opening import Model
from hypercluster.node.cli.options import Bootstrap
from hypercluster.node.cli.progress import status
from hypercluster.node.cli.tables import Table

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.graph import Node
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.market.economics.routing import Path as Route
    from hypercluster.market.economics.routing import Rival
    from hypercluster.node.client.onlooking import Onlooker


def peers(model: Model = None, bootstrap: Bootstrap = None, wait: Wait = 5.0, json_: Json = False) -> None:
    """List the providers of a model: layers, price, speed, free sessions and their length, latency.

    Example: [bold]hc-client peers --profile network.json --model smollm2[/]

    Needs no keys, and with a profile neither the model's file nor a chain that answers.
    """

    async def look(onlooker: Onlooker) -> list[tuple[Node, Advert | None]]:
        discovery = onlooker.discovery
        await discovery.settle(wait, lambda: discovery.complete)
        if not onlooker.adverts():
            await onlooker.route()  # says why there is nobody
        adverts = {advert.peer: advert for advert in onlooker.adverts()}
        return [(node, adverts.get(node.id)) for node in await onlooker.nodes(full=True)]

    with status("Looking for providers"):
        from hypercluster.node.cli.client.joining import say_unchecked, with_onlooker

        found, why = with_onlooker(look, model=model, bootstrap=bootstrap)
    data = [
        _node_json(node)
        | {"session_tokens": advert.session_tokens if advert else None, "stake_checked": not why}
        for node, advert in found
    ]
    show(data, _peers_view, json_)
    say_unchecked(why)


def _peers_view(data: list[dict[str, Any]]) -> Table:
    table = Table(
        "peer", "layers", "HCT per M tokens", "prompt", "ms a token", "latency ms", "free", "session tokens"
    )
    for each in data:
        room = str(each["session_tokens"] or "")
        table.row(*_node_row(each), f"{each['free']}/{each['capacity']}", room)
    return table


def path(
    model: Model = None,
    bootstrap: Bootstrap = None,
    alpha: Alpha = 0.5,
    operator_hops: OperatorHops = None,
    wait: Wait = 10.0,
    json_: Json = False,
) -> None:
    """Show the path that would be taken, what its weight is made of, and by how much each rival lost.

    Example: [bold]hc-client path --alpha 1[/]

    The weight of a provider is the sum of its price, its time and its risk, which is -ln of how reliable it was to
    you; --alpha weighs price against time and leaves the risk as it is. A rival that lost by less than nothing is
    lighter and was left out by operator; where a share could not be kept, the reason is said.
    """

    async def look(onlooker: Onlooker) -> tuple[Route, list[Rival]]:
        from hypercluster.market.economics.routing import rivals

        route = await onlooker.wait_for_path(wait)
        nodes, layers = await onlooker.nodes(), route.nodes[-1].stop
        delays = onlooker.delays(nodes)
        return route, rivals(nodes, layers=layers, market=wishes.market, latency=delays)

    with status("Looking for a path"):
        from hypercluster.node.cli.client.asking import shares_of, wishes_of
        from hypercluster.node.cli.client.joining import say_unchecked, with_onlooker

        wishes = wishes_of(alpha, shares=shares_of(operator_hops, None, None))
        (route, others), why = with_onlooker(look, model=model, bootstrap=bootstrap, wishes=wishes)
    from hypercluster.node.client.rules import WAIVED

    waived = {name: WAIVED[name] for name in route.waived}
    document = {
        "alpha": alpha,
        "stake_checked": not why,
        "weight": route.weight,
        "price_wei": route.price_wei,
        "ms": route.ms,
        "waived": waived,
        "nodes": [_node_json(node) | _shares(node, wishes.market) for node in route.nodes],
        "rivals": [
            _node_json(each.node)
            | _shares(each.node, wishes.market)
            | {"weight": each.weight, "excess": each.excess}
            for each in others
        ],
    }
    show(document, _path_view, json_)
    if not json_:
        for reason in waived.values():
            say(f"Not all shares are kept: {reason}.", err)
    say_unchecked(why)


def _path_view(document: dict[str, Any]) -> Table:
    total = f"{round_price(document['price_wei'])} HCT per million tokens, {document['ms']:.2f} ms a token"
    table = Table(
        *("", "peer", "layers", "HCT per M tokens", "prompt", "ms a token", "latency ms"),
        *("weight of price", "of time", "of risk", "path weight"),
        title=f"alpha {document['alpha']:g}: weight {document['weight']:.4f}, {total}",
    )
    for node in document["nodes"]:
        table.row("taken", *_node_row(node), *_share_row(node), f"{document['weight']:.4f}")
    for node in document["rivals"]:
        lost = f"{node['weight']:.4f} (+{node['excess']:.4f})"
        table.row("not", *_node_row(node), *_share_row(node), lost, style="dim")
    return table


def _shares(node: Node, market: MarketParameters) -> dict[str, Any]:
    """What the node's weight is made of."""
    price, time, risk = node.shares(market)
    return {"price_share": price, "time_share": time, "risk_share": risk}


def _share_row(node: dict[str, Any]) -> Sequence[str]:
    return [f"{node[name]:.4f}" for name in ("price_share", "time_share", "risk_share")]


def _node_json(node: Node) -> dict[str, Any]:
    return {
        "peer": node.id,
        "operator": node.operator,
        "stake_wei": node.stake_wei,
        "layers": [node.start, node.stop],
        "price_wei": node.price_wei,
        "prompt_price_wei": node.prompt_price_wei,
        "cost_ms": node.cost_ms,
        "latency_ms": node.latency_ms,
        "capacity": node.capacity,
        "free": node.free,
    }


def _node_row(node: dict[str, Any]) -> list[str]:
    return [
        node["peer"],
        "{}:{}".format(*node["layers"]),
        round_price(node["price_wei"]),
        round_price(node["prompt_price_wei"]),
        f"{node['cost_ms']:.2f}",
        f"{node['latency_ms']:.2f}",
    ]
