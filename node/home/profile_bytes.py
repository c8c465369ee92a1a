"""The bytes of a network profile: from a file, or from an https URL that answers in time."""

from __future__ import annotations

import time
from pathlib import Path

from hypercluster.market.redaction import place
from hypercluster.node.catalogue import is_safe
from hypercluster.node.errors import NodeError

MOST_BYTES = 1 << 20
SECONDS, MOST_SECONDS = 15.0, 60.0
"""of silence, and for all of a profile"""


class BadProfile(NodeError):
    """A profile cannot be had or read, breaks a rule, or is of other contracts than before."""


def get(url: str) -> bytes:
    """What a URL gives. Raises BadProfile."""
    import httpx

    until = time.monotonic() + MOST_SECONDS
    try:
        with (
            httpx.Client(timeout=SECONDS, follow_redirects=True, max_redirects=5) as client,
            client.stream("GET", url) as answer,
        ):
            if not all(is_safe(str(each.url)) for each in (*answer.history, answer)):
                raise BadProfile(f"{place(url)} leads to where it is not https: its profile is not taken.")
            if not answer.is_success:
                raise BadProfile(
                    f"{place(url)} answers {answer.status_code} {answer.reason_phrase}: no profile there."
                )
            raw = bytearray()
            for chunk in answer.iter_bytes():
                raw += chunk
                _bounded(raw, place(url))
                if time.monotonic() > until:
                    raise BadProfile(
                        f"{place(url)} gives its profile too slowly: look at the network, or try again."
                    )
            return bytes(raw)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadProfile(
            f"{place(url)} gives no network profile: {str(error) or type(error).__name__}."
        ) from None


def read(path: Path) -> bytes:
    """What a file holds. Raises BadProfile."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadProfile(f"The network profile {path} cannot be read: {error.strerror}.") from None
    _bounded(raw, str(path))
    return raw


def _bounded(raw: bytes | bytearray, where: str) -> None:
    if len(raw) > MOST_BYTES:
        raise BadProfile(f"{where} is longer than a network profile may be ({MOST_BYTES >> 10} KiB).")
