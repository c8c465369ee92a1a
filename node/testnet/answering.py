"""One request to a network, whose answer is told as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercluster.node.client.events import Finished, PathChosen, Token

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path as Route
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.request import Request
    from hypercluster.node.testnet.telling import Telling


async def completed(client: Client, request: Request, tell: Telling) -> tuple[Completion, Route | None]:
    """Run a request to its end, audits included, and tell its text; what came of it, and the path that it took last.

    Raises NodeError, MarketError: what ended it.
    """
    route: Route | None = None
    async with client.complete(request) as completing:
        async for event in completing:
            if isinstance(event, PathChosen):
                route = event.path
            elif isinstance(event, Token):
                tell.text(event.text)
            elif isinstance(event, Finished):
                tell.text(event.rest)
                if event.error is not None:
                    raise event.error
    tell.text("\n")
    await client.reports(completing.completion.request_id)
    return completing.completion, route
