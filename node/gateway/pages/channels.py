"""GET /hc/channels: the channels of the wallet; POST /hc/channels/ID/close: getting back what is left of one."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.pages.asking import body_of, confirm, ledger_threads, page_route, seconds

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.market.ledger import OutgoingChannel
    from hypercluster.node.gateway.gateway import Gateway


def routes(gateway: Gateway) -> list[Route]:
    """Channels for the spend page."""
    return [
        page_route(gateway, "/hc/channels", partial(channels, gateway)),
        page_route(gateway, "/hc/channels/{id}/close", partial(close, gateway), "POST"),
    ]


async def channels(gateway: Gateway, request: Request) -> dict[str, Any]:
    """The channels as the ledger has them, newest first; with `?ended=1` also those that are over.

    `left_wei` is what was not signed away: it comes back.
    """
    payer = gateway.market.payer
    ended = request.query_params.get("ended") == "1"
    rows = await ledger_threads(gateway.market.ledger.payer.channels, payer.domain, ended=ended)
    return {"channels": [_channel(row) for row in reversed(rows)]}


async def close(gateway: Gateway, request: Request) -> dict[str, Any]:
    """With the wallet's `password`: ask to close, or withdraw what the grace period has released."""
    await confirm(gateway, await body_of(request))
    try:
        channel_id = bytes.fromhex(request.path_params["id"])
    except ValueError:
        channel_id = b""
    row = await ledger_threads(gateway.market.ledger.payer.channel, channel_id)
    if row is None:
        raise ApiError(404, "not_found", "There is no such channel.")
    return {"action": await gateway.market.payer.close(row)}


def _channel(row: OutgoingChannel) -> dict[str, Any]:
    state = "closed" if row.ended else "closing" if row.close_at else "open"
    return {
        "channel_id": row.channel_id.hex(),
        "payee": row.payee,
        "opened": seconds(row.opened),
        "deposit_wei": str(row.deposit),
        "signed_wei": str(row.signed),
        "spent_wei": str(row.spent),
        "settled_wei": str(row.settled),
        "left_wei": str(0 if row.ended else max(0, row.deposit - max(row.signed, row.settled))),
        "gas_wei": str(row.gas),
        "close_at": row.close_at,
        "state": state,
        "can_close": state == "open" or (state == "closing" and row.close_at <= time.time()),
    }
