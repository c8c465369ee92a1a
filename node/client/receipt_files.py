"""The receipts of requests, kept in a home: a bundle for each, in a folder for each day, up to a size."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from hypercluster.node.evidence.bundle import Bundle, NoBundle, PaidSession, write_bundle

if TYPE_CHECKING:
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.hop import Hop

RECEIPTS = "receipts"
"""folder in a home"""
SUFFIX = ".receipts"
MOST_BYTES = 512 * 2**20
_ID = re.compile(r"[0-9a-f]{1,32}")


class ReceiptFiles:
    """Bundles of receipts by the ids of requests. For one process at a time to write, in any thread; for any to read.

    Args:
        max_bytes: where they take more, the oldest days go.
    """

    def __init__(self, home: Path, *, max_bytes: int = MOST_BYTES) -> None:
        self._folder = home / RECEIPTS
        self._max_bytes = max_bytes
        self._sizes: dict[str, int] | None = None
        """bytes by day, once they were counted"""
        self._lock = Lock()

    def save(self, request_id: str, data: bytes) -> None:
        """Keep a bundle. Raises OSError."""
        day = datetime.now(UTC).date().isoformat()
        folder = self._folder / day
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            sizes = self._counted()
            (folder / (request_id + SUFFIX)).write_bytes(data)
            sizes[day] = sizes.get(day, 0) + len(data)
            while sum(sizes.values()) > self._max_bytes and len(sizes) > 1:
                oldest = min(sizes)
                shutil.rmtree(self._folder / oldest, ignore_errors=True)
                del sizes[oldest]

    def load(self, request_id: str) -> bytes:
        """The bundle of a request. Raises NoBundle."""
        try:
            return self._files(request_id)[0].read_bytes()
        except (IndexError, OSError):
            raise NoBundle(
                f"There are no receipts of request {request_id[:32]!r}: nothing was paid, or they are no longer kept."
            ) from None

    def has(self, request_id: str) -> bool:
        """Whether there is a bundle of a request."""
        return bool(self._files(request_id))

    def _files(self, request_id: str) -> list[Path]:
        return [*self._folder.glob(f"*/{request_id}{SUFFIX}")] if _ID.fullmatch(request_id) else []

    def _counted(self) -> dict[str, int]:
        if self._sizes is None:
            self._sizes = {
                day.name: sum(file.stat().st_size for file in day.iterdir())
                for day in self._folder.iterdir()
                if day.is_dir()
            }
        return self._sizes


def bundle_of(completion: Completion, hops: Sequence[Hop]) -> bytes | None:
    """What is kept of a completion over these sessions, signed by their payer; None if no step was answered."""
    paid = [hop for hop in hops if hop.packed]
    if not paid:
        return None
    first = paid[0]
    bundle = Bundle(
        request_id=completion.request_id,
        model_id=first.record.model_id,
        made=int(time.time()),
        cost_wei=sum(hop.paid_wei for hop in hops),
        risked_wei=sum(hop.at_risk_wei for hop in hops),
        payments=first.account.domain,
        disputes=first.receipts.domain,
        sessions=tuple(map(paid_session, hops)),
        begins=completion.begins,
    )
    return write_bundle(bundle, first.account.session_key)


def paid_session(hop: Hop) -> PaidSession:
    """What a session was, cost and was answered with."""
    return PaidSession(
        record=hop.record,
        channel=hop.account.descriptor,
        quote=hop.quote,
        quote_signature=hop.quote_signature,
        packed=bytes(hop.packed),
        cost_wei=hop.paid_wei,
        risked_wei=hop.at_risk_wei,
        first_seq=hop.first_seq,
        previous=hop.previous,
        aside=hop.aside,
    )
