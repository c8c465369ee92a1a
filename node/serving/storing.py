"""One thread that puts vouchers on the disk. Those that come while it writes share its next sync, and whoever hands one
over goes on with other work meanwhile: nobody is woken that does not wait.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hypercluster.market.ledger.voucher_journal import StoredVoucher

IDLE_SECONDS = 10.0
"""after which the thread ends until it is needed again"""


class Storing:
    """A voucher on its way to the disk."""

    __slots__ = ("_done", "_error", "_wake", "voucher")

    def __init__(self, voucher: StoredVoucher) -> None:
        self.voucher = voucher
        self._done = False
        self._error: Exception | None = None
        self._wake: Callable[[], None] | None = None

    async def stored(self) -> None:
        """Return when the voucher survives any crash. Raises LedgerError: it could not be written down."""
        if not self._done:
            event, token = trio.Event(), trio.lowlevel.current_trio_token()
            self._wake = lambda: token.run_sync_soon(event.set)
            # The thread sets the one and reads the other in the opposite order.
            if not self._done:
                await event.wait()
        if self._error is not None:
            raise self._error

    def end(self, error: Exception | None) -> None:
        """It is stored, or failed; told by the thread."""
        self._error, self._done = error, True
        if self._wake is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._wake()


class Storer:
    """Stores vouchers with `store`, which blocks, in the order in which they come."""

    def __init__(self, store: Callable[[Sequence[StoredVoucher]], None]) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[Storing] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def put(self, voucher: StoredVoucher) -> Storing:
        """Have a voucher stored."""
        storing = Storing(voucher)
        self._queue.put(storing)
        if self._thread is None:
            self._start()
        return storing

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._queue.empty():
                self._thread = threading.Thread(target=self._run, name="vouchers", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                batch = [self._queue.get(timeout=IDLE_SECONDS)]
            except queue.Empty:
                with self._starting:
                    self._thread = None
                self._start()  # if one came just now
                return
            while not self._queue.empty():
                batch.append(self._queue.get())
            error: Exception | None = None
            try:
                self._store([each.voucher for each in batch])
            except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait are told
                error = failure
            for each in batch:
                each.end(error)
