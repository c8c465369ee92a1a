"""GET /hc/spend: four figures, a curve, and the budgets with what is left of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from hypercluster.market.ledger import By, Total
from hypercluster.node.gateway.errors import bad
from hypercluster.node.gateway.pages.asking import ledger_threads, page_route, whole
from hypercluster.node.gateway.pages.budgets import budgets
from hypercluster.node.gateway.pages.requests import which

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.market.ledger import Which
    from hypercluster.node.gateway.gateway import Gateway

STEPS = {By.HOUR: timedelta(hours=1), By.DAY: timedelta(days=1)}


def routes(gateway: Gateway) -> list[Route]:
    """The figures and the curve of the spend page."""
    return [page_route(gateway, "/hc/spend", partial(spend, gateway))]


async def spend(gateway: Gateway, request: Request) -> dict[str, Any]:
    """`?by=hour|day&hours=` and what `requests.which` takes.

    The figures are of today (UTC) but for `per_million_wei`, which is of the whole time, prompt and answer together;
    null where there were no tokens. `at` begins each hour or day; those without requests are there with zeros.
    """
    by = request.query_params.get("by", By.HOUR)
    if by not in STEPS:
        raise bad("by", "by is hour or day.")
    now = datetime.now(UTC)
    since = now - timedelta(hours=whole(request, "hours", 24, 24 * 366))
    return await ledger_threads(_spend, gateway, which(request), By(by), since, now) | {
        "budgets": await budgets(gateway)
    }


def _spend(gateway: Gateway, of: Which, by: By, since: datetime, now: datetime) -> dict[str, Any]:
    ledger = gateway.market.ledger
    until = now + timedelta(seconds=1)
    start = _begin(since, by)
    steps = [start + i * STEPS[by] for i in range(int((now - start) / STEPS[by]) + 1)]
    found = ledger.requests.totals(start, until, by, of)
    totals = {datetime.fromisoformat(each.group): each for each in found}
    sums = [totals.get(each) for each in steps]
    today = ledger.requests.totals(_begin(now, By.DAY), until, By.DAY, of)
    spent = sum(each.spent for each in found)
    tokens = sum(each.tokens_in + each.tokens_out for each in found)
    channels = ledger.payer.channels(gateway.market.payer.domain, ended=False)
    names = {row.key_id: row.name for row in ledger.api_keys.list()}
    return {
        "by": by,
        "at": [each.timestamp() for each in steps],
        "cost_wei": [str(each.spent if each else 0) for each in sums],
        "requests": [each.requests if each else 0 for each in sums],
        "sum_wei": str(spent),
        "figures": {
            "today_wei": str(sum(each.spent for each in today)),
            "today_requests": sum(each.requests for each in today),
            "per_million_wei": str(spent * 1_000_000 // tokens) if tokens else None,
            "risk_wei": str(sum(max(0, row.signed - row.spent) for row in channels)),
            "gas_wei": str(sum(each.gas for each in today)),
            "deposited_wei": str(sum(each.deposited for each in today)),
        },
        "keys": _named(ledger.requests.totals(start, until, By.KEY), names),
        "apps": [each.group for each in ledger.requests.totals(start, until, By.APP) if each.group],
        "models": [
            {"model_id": each.group, "name": _model(gateway, each.group)}
            for each in ledger.requests.totals(start, until, By.MODEL)
        ],
    }


def _begin(at: datetime, by: By) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour if by is By.HOUR else hour.replace(hour=0)


def _named(totals: list[Total], names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"key_id": each.group, "name": names.get(each.group, each.group)} for each in totals if each.group
    ]


def _model(gateway: Gateway, model_id: str) -> str:
    return next((each.name for each in gateway.market.models() if each.model_id == model_id), model_id[:12])
