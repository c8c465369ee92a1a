"""Requests over HTTP whose answers are bounded: in bytes, and in the time that all of one may take."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

import requests
from eth_typing import URI
from urllib3.exceptions import HTTPError, ReadTimeoutError
from web3._utils.http_session_manager import HTTPSessionManager

MOST_BYTES = 64 * 2**20
"""of one answer; the events of many blocks are the longest"""
WHOLE_SECONDS = 30.0
"""for all of one answer, however it drips"""
_PIECE = 2**16


class TooLong(requests.RequestException):
    """An answer has more bytes than MOST_BYTES."""


class TooSlow(requests.ReadTimeout):
    """An answer is not whole after WHOLE_SECONDS."""


class BoundedPosts(HTTPSessionManager):
    """web3's sessions, which bound only the pause between two bytes, and put together anew for each request what is the
    same in all: here a session looks for proxies, certificates and passwords in environment and files once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun: WeakKeyDictionary[requests.Session, requests.PreparedRequest] = WeakKeyDictionary()
        """what is the same in all requests of a session"""

    def make_post_request(self, endpoint_uri: URI, data: bytes | dict[str, Any], **kwargs: Any) -> bytes:
        """Return the body of the answer. Raises requests.RequestException; TooLong and TooSlow are two of them."""
        until = time.monotonic() + WHOLE_SECONDS
        session = self.cache_and_return_session(endpoint_uri)
        begun = self._begun.get(session)
        if begun is None:
            begun = self._begun[session] = _begin(session, str(endpoint_uri), kwargs["headers"])
        request = begun.copy()
        request.prepare_body(data, None)
        if session.cookies:
            request.prepare_cookies(session.cookies)
        with session.send(request, stream=True, timeout=kwargs["timeout"]) as response:
            try:
                body = _body(response, until)
            except ReadTimeoutError as error:
                raise requests.ReadTimeout(error) from None
            except HTTPError as error:
                raise requests.ConnectionError(error) from None
            response._content = body  # what is said of an error is looked for there
            response.raise_for_status()
            return body


def _begin(session: requests.Session, url: str, headers: dict[str, str]) -> requests.PreparedRequest:
    """A request without a body, in a session that has what the environment says of this URL from now on."""
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify = found["proxies"], found["verify"]
    request = session.prepare_request(requests.Request("POST", url, headers))
    session.trust_env = False
    return request


def _body(response: requests.Response, until: float) -> bytes:
    found = bytearray()
    while piece := response.raw.read1(_PIECE, decode_content=True):
        found += piece
        if len(found) > MOST_BYTES:
            raise TooLong(f"more than {MOST_BYTES} bytes")
        if time.monotonic() > until:
            raise TooSlow(f"more than {WHOLE_SECONDS:g} s")
    return bytes(found)
