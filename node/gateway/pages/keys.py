"""GET and POST /hc/keys, DELETE /hc/keys/ID: who else may spend from this wallet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from hypercluster.market.money.budget import Period
from hypercluster.node.gateway.errors import bad
from hypercluster.node.gateway.pages.asking import (
    amount,
    body_of,
    ledger_threads,
    page_route,
    seconds,
    text,
)
from hypercluster.node.gateway.pages.budgets import policy

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.market.ledger import ApiKeyRow
    from hypercluster.node.gateway.gateway import Gateway

MOST_LIFE = 10 * 366 * 86400
"""seconds"""


def routes(gateway: Gateway) -> list[Route]:
    """What the keys page asks for."""
    return [
        page_route(gateway, "/hc/keys", partial(keys, gateway)),
        page_route(gateway, "/hc/keys", partial(create, gateway), "POST"),
        page_route(gateway, "/hc/keys/{id}", partial(revoke, gateway), "DELETE"),
    ]


async def keys(gateway: Gateway, request: Request) -> dict[str, Any]:
    """All keys, newest first, with what they spent in their period; `default` is what a new one gets."""
    rows = await ledger_threads(gateway.market.ledger.api_keys.list)
    now = datetime.now(UTC)
    found = await policy(gateway, request)
    return {
        "keys": [await _key(gateway, row, now) for row in rows],
        "default": {"budget_wei": found["per_key_wei"], "period": found["per_key_period"]},
    }


async def create(gateway: Gateway, request: Request) -> dict[str, Any]:
    """A new key; `key` is its text, which is told this once.

    The body has name, budget_wei or null for no bound, period, models ([]: all), rpm or null, expires_in in seconds
    or null.
    """
    body = await body_of(request)
    name, models, period = body.get("name"), body.get("models", []), body.get("period")
    rpm, life = _number(body, "rpm", 10**6), _number(body, "expires_in", MOST_LIFE)
    if not isinstance(name, str):
        raise bad("name", "A key needs a name.")
    if not (isinstance(models, list) and all(isinstance(each, str) for each in models)):
        raise bad("models", "models is a list of names.")
    if period not in list(Period):
        raise bad("period", f"period is one of {', '.join(Period)}.")
    if "budget_wei" not in body:
        raise bad("budget_wei", "A key needs a budget, or null for no bound.")
    row, key = await ledger_threads(
        partial(
            gateway.market.ledger.api_keys.create,
            name,
            budget=amount(body, "budget_wei"),
            period=Period(period),
            models=models,
            rpm=rpm,
            expires=None if life is None else datetime.now(UTC) + timedelta(seconds=life),
        )
    )
    entries = gateway.market.models()
    model = next(iter(row.models), entries[0].name if entries else None)
    return {"key_id": row.key_id, "name": row.name, "key": key, "model": model}


async def revoke(gateway: Gateway, request: Request) -> None:
    """End a key, and what runs with it."""
    await ledger_threads(gateway.market.ledger.api_keys.revoke, request.path_params["id"])
    await gateway.keyring.refresh()


async def _key(gateway: Gateway, row: ApiKeyRow, now: datetime) -> dict[str, Any]:
    budget = await gateway.keyring.budget(row)
    refused = row.refusal(now)
    return {
        "key_id": row.key_id,
        "name": row.name,
        "prefix": row.prefix,
        "models": list(row.models),
        "budget_wei": text(row.budget),
        "period": row.period,
        "spent_wei": str(budget.spent_wei),
        "left_wei": text(budget.left_wei),
        "rpm": row.rpm,
        "created": seconds(row.created),
        "expires": seconds(row.expires),
        "last_used": seconds(row.last_used),
        "revoked": seconds(row.revoked),
        "state": "active" if not refused else "revoked" if row.revoked else "expired",
    }


def _number(body: dict[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    raise bad(name, f"{name} is a number from 1 to {most}, or null.")
