"""/healthz: the loop runs. /readyz: what it needs to be of use is there. Neither says anything secret."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

log = logging.getLogger(__name__)

CHECK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be there: `wrong` gives a sentence for what is not, or None."""

    name: str
    wrong: Callable[[], Awaitable[str | None]]


def health(checks: Sequence[Check]) -> list[Route]:
    """GET /healthz, always 200, and GET /readyz: 200, or 503 with what is wrong, check by check."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        found = await found_by(checks)
        ready = not any(found.values())
        document = {"status": "ready" if ready else "not ready", "checks": found}
        return JSONResponse(document, status_code=200 if ready else 503)

    return [Route("/healthz", healthz, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]


async def found_by(checks: Sequence[Check]) -> dict[str, str | None]:
    """What each check found wrong, or None; all at once, none longer than CHECK_SECONDS."""
    found: dict[str, str | None] = {check.name: "no answer in time" for check in checks}

    async def ask(check: Check) -> None:
        try:
            with trio.move_on_after(CHECK_SECONDS):
                found[check.name] = await check.wrong()
        except Exception:
            log.exception("the check %s of /readyz failed", check.name)
            found[check.name] = "could not be looked at"

    async with trio.open_nursery() as nursery:
        for check in checks:
            nursery.start_soon(ask, check)
    return found
