"""Who may ask for the JSON of the pages, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response
from starlette.routing import Route

from hypercluster.market.errors import LedgerError
from hypercluster.node.gateway.errors import ApiError, bad
from hypercluster.node.gateway.live import json_response, new_request_id
from hypercluster.node.gateway.sse import compact
from hypercluster.node.threads import Threads
from hypercluster.node.web.login import TooManyPasswords

if TYPE_CHECKING:
    from starlette.requests import Request

    from hypercluster.node.gateway.gateway import Gateway

T = TypeVar("T")
Answerer = Callable[["Request"], Awaitable[Any]]

ledger_threads = Threads(2)
"""for what pages read, so that they never use up the threads in which money is booked"""
chain_threads = Threads(4, abandon=True)


def page_route(gateway: Gateway, path: str, answer: Answerer, method: str = "GET") -> Route:
    """A route for browsers that are logged in; `answer` gives a document, or a Response, or None for nothing."""

    async def endpoint(request: Request) -> Response:
        if not gateway.logins.logged_in(request.scope):
            raise ApiError(401, "login_required", "Open these pages by a link that `hc-gateway link` prints.")
        try:
            document = await answer(request)
        except LedgerError as error:
            raise ApiError(400, "refused", str(error)) from error
        if isinstance(document, Response):
            return document
        if document is None:
            return Response(status_code=204)
        return json_response(compact(document), 200, new_request_id())

    return Route(path, endpoint, methods=[method])


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that a page sent. Raises ApiError."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise bad("", "The body is no JSON.") from None
    if not isinstance(body, dict):
        raise bad("", "The body is no JSON object.")
    return body


async def confirm(gateway: Gateway, body: dict[str, Any]) -> None:
    """Check that `password` is that of the wallet. Raises ApiError: 401 wrong_password, 429 after too many."""
    password = body.get("password")
    try:
        good = isinstance(password, str) and await gateway.logins.confirm(password)
    except TooManyPasswords as error:
        raise ApiError(
            429, "too_many_passwords", str(error), retry_after=int(error.retry_after) + 1
        ) from error
    if not good:
        raise ApiError(401, "wrong_password", "This is not the password of the wallet.")


def amount(body: dict[str, Any], name: str) -> int | None:
    """Wei that a page sent as a decimal text; None for none. Raises ApiError."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 28:
        return int(value)
    raise bad(name, f"{name} is an amount in wei, as a text of digits, or null.")


def whole(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from the query, between 1 and `most`. Raises ApiError."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise bad(name, f"{name} is a number from 1 to {most}.")
    return int(text)


def seconds(moment: datetime | None) -> float | None:
    """Unix seconds."""
    return None if moment is None else moment.timestamp()


def text(wei: int | None) -> str | None:
    """Wei as a decimal text, as JavaScript's numbers do not hold them."""
    return None if wei is None else str(wei)
