"""The HTTP side of RPC nodes: what may pass is tried again, at the next one where there are several, then named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from eth_typing import URI
from tenacity import RetryCallState, Retrying
from web3 import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from hypercluster.market.chain.posting import BoundedPosts, TooLong, TooSlow
from hypercluster.market.errors import ChainError, NodeUnreachable
from hypercluster.market.redaction import hide, place

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
"""for one answer"""
PATIENCE_SECONDS = 12.0
"""for all attempts at one request, beyond the last one's own time"""
REFUSED_SECONDS = 1.0
"""the same where nothing listens: it seldom starts in the meantime"""
_LONGEST_PAUSE = 4.0
_LIMIT_CODES = (-32005, -32029, -32097, 429)
_LIMIT_WORDS = (
    "rate limit",
    "ratelimit",
    "too many requests",
    "request limit",
    "exceeded the limit",
    "quota",
)
_SENDING = ("eth_sendRawTransaction", "eth_sendTransaction")

T = TypeVar("T")


class RateLimited(NodeUnreachable):
    """The RPC endpoint answers fewer requests than were made, and went on doing so."""


class Unconnected(NodeUnreachable):
    """Nobody could connect to the endpoint: it has seen nothing of the request."""


class Malformed(NodeUnreachable):
    """The endpoint refuses the request as such (HTTP 400 or 413), as some do where it asks for too much."""


class _Failed(Exception):
    """One attempt that failed: `again` says whether another is safe, `error` is what to say in the end."""

    def __init__(self, error: ChainError, *, again: bool, patience: float, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.again, self.patience, self.after = error, again, patience, after


class PatientProvider(HTTPProvider):
    """web3's provider for one URL, or for several separated by commas. None is ever shown whole.

    Reads are tried again after refusals for their number, server errors, timeouts and broken connections, at the
    next URL where there is one; whichever answers is kept until it fails. A transaction is sent again only where it
    certainly was not taken: a node that limits requests has not looked at it, and one that nobody could connect to
    has not seen it.
    """

    def __init__(self, url: str) -> None:
        self._urls = url.replace(",", " ").split()
        for each in self._urls:
            hide(each)
        if not self._urls or not all(place(each).startswith(("http://", "https://")) for each in self._urls):
            raise NodeUnreachable(
                "The RPC URL is no http:// or https:// URL: set HC_RPC_URL to one such as http://127.0.0.1:8545, "
                "or to several separated by commas."
            )
        self.chain_id: int | None = None
        """for which all of them must speak, once it is known"""
        self._asked = {self._urls[0]}
        super().__init__(
            self._urls[0], request_kwargs={"timeout": TIMEOUT_SECONDS}, exception_retry_configuration=None
        )
        self._request_session_manager = BoundedPosts()

    @property
    def place(self) -> str:
        """What may be shown of the URL that is in use."""
        return place(str(self.endpoint_uri))

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Make one request. Raises RateLimited, NodeUnreachable, ChainError."""

        def once() -> RPCResponse:
            response = super(PatientProvider, self).make_request(method, params)
            self._check_limit(response)
            return response

        return self._patiently(once, sending=method in _SENDING)

    def make_batch_request(
        self, batch_requests: list[tuple[RPCEndpoint, Any]]
    ) -> list[RPCResponse] | RPCResponse:
        """Make several reads at once; errors as for one."""

        def once() -> list[RPCResponse] | RPCResponse:
            responses = super(PatientProvider, self).make_batch_request(batch_requests)
            for response in responses if isinstance(responses, list) else [responses]:
                self._check_limit(response)
            return responses

        return self._patiently(once, sending=False)

    def _patiently(self, once: Callable[[], T], *, sending: bool) -> T:
        others = len(self._urls) - 1

        def attempt() -> T:
            used = str(self.endpoint_uri)
            try:
                try:
                    self._check_chain(used)
                    return once()
                except requests.RequestException as error:
                    raise self._failed(error, sending=sending) from None
                except (ValueError, RecursionError):  # no UTF-8, no JSON, or JSON that nests without end
                    raise self._no_node("what it sends is no JSON") from None
            except _Failed as failed:
                self._turn(used, failed)
                raise

        def may_pass(state: RetryCallState) -> bool:
            failed = state.outcome.exception() if state.outcome else None
            # What one node refuses for good, another may answer.
            elsewhere = not sending and state.attempt_number <= others
            return isinstance(failed, _Failed) and (failed.again or elsewhere)

        try:
            return Retrying(
                retry=may_pass,
                stop=lambda state: state.attempt_number > others and _stop(state),
                wait=lambda state: 0.0 if state.attempt_number <= others else _pause(state),
                sleep=time.sleep,
                reraise=True,
            )(attempt)
        except _Failed as failed:
            raise failed.error from None

    def _turn(self, used: str, failed: _Failed) -> None:
        """Ask the next node from now on, unless somebody has turned away from this one already."""
        if len(self._urls) > 1 and str(self.endpoint_uri) == used:
            self.endpoint_uri = URI(self._urls[(self._urls.index(used) + 1) % len(self._urls)])
            log.warning("%s The next requests go to %s.", failed.error, self.place)

    def _check_chain(self, url: str) -> None:
        """Before the first request to it: whether the node there speaks for the chain that the others do."""
        if url in self._asked or self.chain_id is None:
            return
        answer = super().make_request(RPCEndpoint("eth_chainId"), [])
        if not isinstance(answer, dict) or answer.get("result") != hex(self.chain_id):
            raise self._no_node(f"it does not speak for chain {self.chain_id}")
        self._asked.add(url)

    def _check_limit(self, response: Any) -> None:
        if not isinstance(response, dict):
            raise self._no_node("what it sends is no JSON-RPC")
        error = response.get("error")
        if not isinstance(error, dict):
            return
        message = str(error.get("message", ""))
        # The code also stands for queries that find too much, which no waiting helps.
        if (error.get("code") in _LIMIT_CODES and "returned more than" not in message) or _limits(message):
            raise self._limited(f"JSON-RPC error {error.get('code')}")

    def _failed(self, error: requests.RequestException, *, sending: bool) -> _Failed:
        response = error.response
        if response is not None:
            return self._bad_status(response, sending=sending)
        if isinstance(error, requests.ConnectTimeout) or "NewConnectionError" in repr(error):
            refused = "refused" in repr(error).lower()
            why = "nothing listens there" if refused else "no connection"
            failed = self._unreachable(
                why, again=True, patience=REFUSED_SECONDS if refused else PATIENCE_SECONDS
            )
            failed.error = Unconnected(str(failed.error))
            return failed
        if isinstance(error, TooSlow):
            return self._unreachable(f"its answer takes {error}", again=not sending)
        if isinstance(error, TooLong):
            return self._no_node(f"what it sends has {error}")
        if isinstance(error, requests.Timeout):
            return self._unreachable(f"nothing came in {TIMEOUT_SECONDS:g} s", again=not sending)
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return self._no_node("the URL is malformed")
        if isinstance(error, (requests.exceptions.JSONDecodeError, requests.exceptions.ContentDecodingError)):
            return self._no_node("what it sends is no JSON")
        return self._unreachable(f"the connection broke: {type(error).__name__}", again=not sending)

    def _bad_status(self, response: requests.Response, *, sending: bool) -> _Failed:
        status = response.status_code
        if status == 429 or (status in (402, 403, 503) and _limits(response.text[:1000])):
            return self._limited(f"HTTP {status}", _seconds(response.headers.get("Retry-After", "")))
        if status in (401, 403, 407):
            return _Failed(
                NodeUnreachable(
                    f"The node at {self.place} refuses the credentials in its URL (HTTP {status}): "
                    "correct the user and password, or the key, in HC_RPC_URL."
                ),
                again=False,
                patience=0,
            )
        if status >= 500 or status == 408:
            return _Failed(
                NodeUnreachable(
                    f"The node at {self.place} has trouble of its own (HTTP {status}) and went on having it: "
                    "try later, or set HC_RPC_URL to another node."
                ),
                again=not sending,
                patience=PATIENCE_SECONDS,
            )
        failed = self._no_node(f"HTTP {status}")
        if status in (400, 413):
            failed.error = Malformed(str(failed.error))
        return failed

    def _limited(self, what: str, after: float = 0.0) -> _Failed:
        error = RateLimited(
            f"The RPC at {self.place} limits requests ({what}) and still did after {PATIENCE_SECONDS:g} s: "
            "wait, or set HC_RPC_URL to a node that allows more."
        )
        return _Failed(error, again=True, patience=PATIENCE_SECONDS, after=after)

    def _unreachable(self, why: str, *, again: bool, patience: float | None = None) -> _Failed:
        error = NodeUnreachable(
            f"The node at {self.place} does not answer ({why}): start it, or correct its URL in HC_RPC_URL."
        )
        return _Failed(error, again=again, patience=PATIENCE_SECONDS if patience is None else patience)

    def _no_node(self, why: str) -> _Failed:
        error = NodeUnreachable(
            f"{self.place} answers, but not as an Ethereum node ({why}): correct HC_RPC_URL."
        )
        return _Failed(error, again=False, patience=0)


def _stop(state: RetryCallState) -> bool:
    failed = state.outcome.exception() if state.outcome else None
    elapsed = state.seconds_since_start or 0.0
    return not isinstance(failed, _Failed) or elapsed + _pause(state) > failed.patience


def _pause(state: RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    after = failed.after if isinstance(failed, _Failed) else 0.0
    return max(after, min(_LONGEST_PAUSE, 0.1 * 2.0**state.attempt_number))


def _limits(text: str) -> bool:
    return any(words in text.lower() for words in _LIMIT_WORDS)


def _seconds(text: str) -> float:
    return min(float(text), PATIENCE_SECONDS) if text.isascii() and text.isdigit() else 0.0
