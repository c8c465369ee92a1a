"""The JSON behind the pages of the gateway. It is for browsers that are logged in, never for keys.

Amounts are wei as decimal texts, prices wei per token, moments unix seconds, layers [start, stop].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercluster.node.gateway.pages import budgets, channels, happenings, keys, me, network, requests, spend

if TYPE_CHECKING:
    from starlette.routing import Route

    from hypercluster.node.gateway.gateway import Gateway


def routes(gateway: Gateway) -> list[Route]:
    """Everything under /hc."""
    return [
        route
        for module in (me, network, requests, spend, channels, budgets, keys, happenings)
        for route in module.routes(gateway)
    ]
