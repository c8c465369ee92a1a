"""What the gateway refuses, and what went wrong, as HTTP tells it; each API writes it in its own words."""

from __future__ import annotations

import logging
import math

from hypercluster.market.errors import (
    InsufficientFunds,
    LedgerError,
    MarketError,
    NodeUnreachable,
    OverDeposit,
)
from hypercluster.market.money.budget import LimitReached
from hypercluster.market.money.units import named
from hypercluster.node.client.completion import PathLost, TooExpensive
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.needs import AllBusy, NoRoute, RequestTooLong, TooManyCandidates
from hypercluster.node.client.request import BadRequest
from hypercluster.node.engine.chat import ChatError
from hypercluster.node.engine.grammar import BadFormat
from hypercluster.node.errors import NodeError
from hypercluster.node.threads import first_cause
from hypercluster.node.traffic.entries import UnknownModel
from hypercluster.node.traffic.events import QueueFull

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 5
"""after which those who found no path, or only full ones, may come again"""


class ApiError(Exception):
    """An answer that is an error; the message is a sentence for people.

    Attributes:
        status: of HTTP.
        code: one word for programs, such as "model_not_found".
        type: the kind of error in OpenAI's words; the other APIs make theirs from the status.
        param: the field of the body that is wrong, as "messages[1].content"; None for none of them.
        retry_after: seconds; None where waiting changes nothing.
        retry: whether SDKs should try again by themselves; None leaves it to what they do at the status.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        retry_after: int | None = None,
        retry: bool | None = None,
    ) -> None:
        super().__init__(named(message))
        self.status, self.code, self.type, self.param = status, code, type, param
        self.retry_after, self.retry = retry_after, retry

    @property
    def headers(self) -> dict[str, str]:
        """What goes beside the body."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.retry is not None:
            headers["x-should-retry"] = "true" if self.retry else "false"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def bad(param: str, message: str) -> ApiError:
    """A field of the body that is wrong: 400."""
    return ApiError(400, "invalid_value", message, param=param)


def api_error_of(error: BaseException, *, spent: bool = False, field: str = "messages") -> ApiError:
    """What a completion failed of, as HTTP tells it; of a group its first cause.

    Args:
        spent: whether money was spent before, so that trying again would be a second purchase.
        field: of the body, which the prompt came in.
    """
    error = first_cause(error, ApiError, MarketError, NodeError)
    found = _api_error_of(error, field)
    if spent and found.status >= 429:
        return ApiError(502, "upstream_failed", str(found), type="server_error", retry=False)
    return found


def _api_error_of(error: BaseException, field: str) -> ApiError:
    said = str(error)
    match error:
        case ApiError():
            return error
        case RequestTooLong():
            return ApiError(400, "context_length_exceeded", said, param=field)
        case UnknownModel():
            return ApiError(404, "model_not_found", said, param="model")
        case _ if isinstance(error, BadFormat) or isinstance(error.__cause__, BadFormat):
            return ApiError(400, "invalid_value", said, param="response_format")
        case TooManyCandidates() | BadRequest() | ChatError():
            return ApiError(400, "invalid_value", said)
        case TooExpensive() | LimitReached() | InsufficientFunds() | OverDeposit():
            return ApiError(402, "insufficient_quota", said, type="insufficient_quota")
        case QueueFull():
            wait = max(1, math.ceil(error.retry_after))
            return ApiError(429, "rate_limit_exceeded", said, type="rate_limit_error", retry_after=wait)
        case AllBusy():
            return ApiError(503, "overloaded", said, type="server_error", retry_after=PATIENCE_SECONDS)
        case NoRoute():
            return ApiError(503, "no_path", said, type="server_error", retry_after=PATIENCE_SECONDS)
        case LedgerError():
            return ApiError(503, "ledger_busy", said, type="server_error", retry_after=1)
        case NodeUnreachable():
            return ApiError(503, "chain_unreachable", said, type="server_error", retry_after=PATIENCE_SECONDS)
        case PathLost() | HopFailed() | NodeError() | MarketError():
            return ApiError(502, "upstream_failed", said, type="server_error")
        case OSError():
            log.error("a completion failed: %s", error)
            return ApiError(500, "internal_error", "This machine could not do its part.", type="server_error")
    log.error("a completion failed in a way that is a bug", exc_info=error)
    return ApiError(
        500, "internal_error", "This is a bug in the gateway; its log says more.", type="server_error"
    )
