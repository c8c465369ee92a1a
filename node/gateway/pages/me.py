"""GET /hc/me: whose wallet this is, what it holds and may spend; GET /hc/models: what can be asked."""

from __future__ import annotations

import time
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import trio

from hypercluster.market.errors import ChainError, MarketError
from hypercluster.market.money.units import unit
from hypercluster.node.gateway.pages.asking import chain_threads, ledger_threads, page_route, text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.node.gateway.gateway import Gateway

CHAIN_SECONDS = 3.0
"""until the chain's answer counts as none"""


def routes(gateway: Gateway) -> list[Route]:
    """What every page asks for."""
    return [
        page_route(gateway, "/hc/me", partial(me, gateway)),
        page_route(gateway, "/hc/models", partial(models, gateway)),
    ]


async def me(gateway: Gateway, request: Request) -> dict[str, Any]:
    """`wallet` and `chain.head_age_s` are null while the chain does not answer."""
    market = gateway.market
    limits = market.payer.limits
    rows = await ledger_threads(market.ledger.payer.channels, market.payer.domain, ended=False)
    wallet: dict[str, Any] | None = None
    head_age: float | None = None
    with trio.move_on_after(CHAIN_SECONDS):
        try:
            hct, gas, head = await chain_threads(_balances, gateway)
            wallet = {
                "address": market.payer.payer,
                "hct_wei": str(hct),
                "gas_wei": str(gas),
                "in_channels_wei": str(sum(max(0, row.deposit - row.signed) for row in rows)),
                "channels": len(rows),
            }
            head_age = max(0.0, time.time() - head)
        except (ChainError, MarketError):
            pass
    return {
        "role": "gateway",
        "version": version("hypercluster"),
        **unit()._asdict(),
        "wallet": wallet,
        "chain": {"id": market.payer.domain.chain_id, "head_age_s": head_age},
        "limits": {
            "request_wei": text(limits.policy.per_request_wei),
            "day_wei": text(limits.day.limit_wei),
            "day_spent_wei": str(limits.day.spent_wei),
        },
    }


async def models(gateway: Gateway, request: Request) -> dict[str, Any]:
    """The models that this gateway trades in, with their prices over the cheapest path."""
    return {
        "models": [
            {
                "name": entry.name,
                "aliases": list(entry.aliases),
                "model_id": entry.model_id,
                "layers": entry.layers,
                "context": entry.context,
                "price_wei": text(entry.price_wei),
                "prompt_price_wei": text(entry.prompt_price_wei),
                "coverage": entry.coverage,
                "sessions": entry.sessions,
                "has_template": entry.has_template,
            }
            for entry in gateway.market.models()
        ]
    }


def _balances(gateway: Gateway) -> tuple[int, int, int]:
    """HCT and coin of the wallet in wei, and when the newest block is of, in unix seconds."""
    chain, wallet = gateway.market.chain, gateway.market.payer.payer
    return chain.token.balance(wallet), chain.balance(wallet), chain.timestamp()
