"""GET /hc/requests, /hc/requests/ID and /hc/requests/ID/bundle: what was asked, down to its audits and receipts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from hypercluster.market.ledger import Which
from hypercluster.node.client.receipt_files import SUFFIX, ReceiptFiles
from hypercluster.node.evidence.bundle import NoBundle
from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.pages.asking import ledger_threads, page_route, seconds, whole

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from hypercluster.market.ledger import AuditRecord, RequestDetail, SessionRecord
    from hypercluster.node.gateway.gateway import Gateway

OWNER = "-"
"""in the place of a key's id: requests of whoever owns the wallet"""


def routes(gateway: Gateway) -> list[Route]:
    """What the spend page asks for of requests."""
    return [
        page_route(gateway, "/hc/requests", partial(latest, gateway)),
        page_route(gateway, "/hc/requests/{id}", partial(one, gateway)),
        page_route(gateway, "/hc/requests/{id}/bundle", partial(bundle, gateway)),
    ]


def which(request: Request) -> Which:
    """The requests that `?key=&app=&model=` name; a key of OWNER is no key, a model is named by its id."""
    asked = request.query_params
    return Which(
        key_id="" if asked.get("key") == OWNER else asked.get("key") or None,
        app=asked.get("app") or None,
        model_id=asked.get("model") or None,
    )


async def latest(gateway: Gateway, request: Request) -> dict[str, Any]:
    """`?before=ID&limit=` and what `which` takes: requests, newest first; `next` is the `before` of the page after."""
    ledger = gateway.market.ledger.requests
    limit = whole(request, "limit", 25, 100)
    before = request.query_params.get("before") or None
    rows = await ledger_threads(ledger.latest, which(request), before=before, limit=limit + 1)
    shown = [row.request_id for row in rows[:limit]]
    found = await ledger_threads(ledger.stages, shown)
    return {
        "requests": [_request(found[each]) for each in shown if each in found],
        "next": shown[-1] if len(rows) > limit else None,
    }


async def one(gateway: Gateway, request: Request) -> dict[str, Any]:
    """A request with its hops, and each hop with its audits; `receipts` is of how many stages there are any."""
    detail = await ledger_threads(gateway.market.ledger.requests.one, request.path_params["id"])
    if detail is None:
        raise ApiError(404, "not_found", "There is no such request, or it is too long ago.")
    names = {row.key_id: row.name for row in await ledger_threads(gateway.market.ledger.api_keys.list)}
    kept = await ledger_threads(ReceiptFiles(gateway.market.settings.home).has, detail.row.request_id)
    return _request(detail) | {
        "key_name": names.get(detail.row.key_id or "", ""),
        "receipts": sum(hop.prompt_tokens + hop.tokens > 0 for hop in detail.hops) if kept else 0,
    }


async def bundle(gateway: Gateway, request: Request) -> Response:
    """The receipts of a request as a file, which `hc-client verify` checks."""
    request_id = request.path_params["id"]
    try:
        data = await ledger_threads(ReceiptFiles(gateway.market.settings.home).load, request_id)
    except NoBundle as error:
        raise ApiError(404, "not_found", str(error)) from error
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{request_id}{SUFFIX}"'},
    )


def _request(detail: RequestDetail) -> dict[str, Any]:
    row = detail.row
    return {
        "request_id": row.request_id,
        "key_id": row.key_id,
        "app": row.app,
        "endpoint": row.endpoint,
        "model": row.model_name or row.model_id[:12],
        "tokens_in": row.tokens_in,
        "tokens_cached": row.tokens_cached,
        "tokens_out": row.tokens_out,
        "cost_wei": str(row.cost),
        "risked_wei": str(row.risked),
        "audit_cost_wei": str(row.audit_cost),
        "spent_wei": str(row.spent),
        "gas_wei": str(row.gas),
        "deposited_wei": str(row.deposited),
        "started": seconds(row.started),
        "ended": seconds(row.ended),
        "first_ms": (row.first_token - row.started).total_seconds() * 1000 if row.first_token else None,
        "took_ms": (row.ended - row.started).total_seconds() * 1000 if row.ended else None,
        "outcome": row.outcome,
        "error": row.error,
        "seed": row.seed if row.seed is None else str(row.seed),
        "doubtful": row.doubtful,
        "audits_open": row.audits_open,
        "hops": [_hop(hop, detail) for hop in sorted(detail.hops, key=lambda each: each.layer_start)],
    }


def _hop(hop: SessionRecord, detail: RequestDetail) -> dict[str, Any]:
    session, layers = hop.session_id.hex(), [hop.layer_start, hop.layer_stop]
    billed: dict[str, Any] = next(
        (each for each in detail.row.path if each.get("session") == session and each.get("layers") == layers),
        {},
    )
    audits = [
        audit
        for audit in detail.audits
        if (audit.session, audit.peer, audit.layer_start) == (hop.stage_session, hop.peer, hop.layer_start)
    ]
    return {
        "peer": hop.peer,
        "layers": layers,
        "session": session,
        "channel": hop.channel_id.hex(),
        "price_wei": str(hop.price_wei),
        "prompt_price_wei": str(hop.prompt_price_wei),
        "tokens": hop.prompt_tokens + hop.tokens,
        "paid_wei": str(hop.billed),
        "risked_wei": billed.get("risked_wei", "0"),
        "ms": billed.get("ms"),
        "outcome": hop.outcome,
        "doubtful": any(audit.finding == "fail" for audit in audits),
        "audits": [_audit(audit) for audit in audits],
    }


def _audit(audit: AuditRecord) -> dict[str, Any]:
    return {
        "audit_id": audit.audit_id,
        "at": seconds(audit.at),
        "finding": audit.finding,
        "auditor": audit.auditor,
        "tokens": audit.tokens,
        "median_error": audit.median_error,
        "max_error": audit.max_error,
        "agreement": audit.agreement,
        "exact": audit.exact,
        "cost_wei": str(audit.cost),
        "case_id": audit.case_id,
        "note": audit.note,
    }
