"""How `hc-market` shows paths, rivals, chances and prices to people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hypercluster.market.money.units import round_price
from hypercluster.node.cli.tables import Table

if TYPE_CHECKING:
    from hypercluster.market.economics.graph import Node
    from hypercluster.market.economics.pricing import PriceStep
    from hypercluster.market.economics.routing import Path, Rival


def paths_table(paths: Iterable[Path], title: str) -> Table:
    """Paths with their weight, price, time and nodes."""
    table = Table("weight", "HCT per M tokens", "ms per token", "nodes", title=title)
    for path in paths:
        hops = " → ".join(f"{node.id} [{node.start},{node.stop})" for node in path.nodes)
        table.row(f"{path.weight:.4f}", round_price(path.price_wei), f"{path.ms:.2f}", hops)
    return table


def rivals_table(others: Iterable[Rival]) -> Table:
    """The nodes that would be taken next."""
    table = Table(
        "node", "layers", "HCT per M tokens", "ms per token", "path heavier by", title="closest rivals"
    )
    for rival in others:
        node = rival.node
        table.row(
            node.id,
            f"[{node.start},{node.stop})",
            round_price(node.price_wei),
            f"{node.total_ms:.2f}",
            f"{rival.excess:.4f}",
        )
    return table


def chances_table(nodes: Iterable[Node], chances: dict[str, float], outside: float) -> Table:
    """Each node's chance of being on a client's path."""
    table = Table("node", "layers", "probability", title=f"outside option {outside:.4f}")
    for node in sorted(nodes, key=lambda node: (node.start, -chances[node.id])):
        table.row(node.id, f"[{node.start},{node.stop})", f"{chances[node.id]:.4f}")
    return table


def price_table(own: Node, step: PriceStep) -> Table:
    """What a node earns and where its price should go."""
    table = Table(title=f"{own.id} on layers [{own.start},{own.stop})")
    table.row("price", f"{round_price(step.price_wei)} HCT per M tokens")
    table.row("on a client's path", f"{step.marginal:.4f}")
    table.row("expected revenue", f"{round_price(round(step.revenue_wei))} HCT per M tokens asked for")
    table.row("gradient", f"{step.gradient:+.6f}")
    table.row("next step to", f"{round_price(step.next_price_wei)} HCT per M tokens")
    table.row("best response", f"{round_price(step.best_response_wei)} HCT per M tokens")
    table.row("rivals on these layers", str(step.rivals))
    return table


def rows_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Findings of an experiment, numbers to four digits."""
    table = Table(*(rows[0] if rows else ()), title=title)
    for row in rows:
        table.row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table
