"""GET and PUT /hc/policy: what the wallet may spend at all; and every budget with what is left of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypercluster.market.money.budget import Period
from hypercluster.node.gateway.errors import ApiError, bad
from hypercluster.node.gateway.pages.asking import (
    amount,
    body_of,
    confirm,
    ledger_threads,
    page_route,
    text,
)
from hypercluster.node.home.policy import BadPolicy, WalletPolicy, load_policy, save_policy

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.market.money.budget import Budget
    from hypercluster.node.gateway.gateway import Gateway

LIMITS = ("per_request_wei", "per_day_wei", "total_wei", "per_key_wei")
DEPOSITS = ("float_wei", "top_up_below_wei")


def routes(gateway: Gateway) -> list[Route]:
    """The policy of the wallet."""
    return [
        page_route(gateway, "/hc/policy", partial(policy, gateway)),
        page_route(gateway, "/hc/policy", partial(set_policy, gateway), "PUT"),
    ]


async def policy(gateway: Gateway, request: Request) -> dict[str, Any]:
    """As `node.home.policy.WalletPolicy` has it; null is no limit."""
    try:
        found = await ledger_threads(load_policy, gateway.market.settings.home)
    except BadPolicy as error:
        raise ApiError(409, "bad_policy", str(error)) from error
    limits = gateway.market.payer.limits
    return {
        **{name: text(getattr(found, name)) for name in (*LIMITS, *DEPOSITS)},
        "per_key_period": found.per_key_period,
        "spent_today_wei": str(limits.day.spent_wei),
        "spent_wei": str(limits.total.spent_wei),
    }


async def set_policy(gateway: Gateway, request: Request) -> dict[str, Any]:
    """With the wallet's `password`: all values at once; what runs is bound by the new ones from its next request."""
    body = await body_of(request)
    values: dict[str, Any] = {name: amount(body, name) for name in (*LIMITS, *DEPOSITS)}
    period = body.get("per_key_period")
    if period not in list(Period):
        raise bad("per_key_period", f"per_key_period is one of {', '.join(Period)}.")
    for name in DEPOSITS:
        if values[name] is None:
            raise bad(name, f"{name} needs an amount, as much must be deposited.")
    await confirm(gateway, body)
    try:
        changed = WalletPolicy(**values, per_key_period=Period(period))
        await ledger_threads(save_policy, gateway.market.settings.home, changed)
        gateway.market.payer.limits.use(changed)
    except BadPolicy as error:
        raise ApiError(400, "bad_policy", str(error)) from error
    return await policy(gateway, request)


async def budgets(gateway: Gateway) -> list[dict[str, Any]]:
    """The limits of the wallet and of the keys that count, with what is spent and left of each."""
    limits = gateway.market.payer.limits
    limits.budgets()  # as the file says now
    rows = await ledger_threads(gateway.market.ledger.api_keys.list, revoked=False)
    keys = [(f"key {row.name}", row.period, await gateway.keyring.budget(row)) for row in rows]
    found: list[tuple[str, str, Budget]] = [
        ("wallet, a day", Period.DAY, limits.day),
        ("wallet, in all", Period.TOTAL, limits.total),
        *keys,
    ]
    return [
        {
            "name": name,
            "period": period,
            "limit_wei": str(budget.limit_wei),
            "spent_wei": str(budget.spent_wei),
            "left_wei": str(budget.left_wei),
        }
        for name, period, budget in found
        if budget.limit_wei is not None
    ]
