"""Vouchers on their way into the ledger: one synced append is all that an answer waits for, the tables follow.

The file stands beside the database. Whoever reads channels sees what it holds, also in another process; one process at
a time writes to it, and takes out what the tables have.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from hypercluster.market.record_file import FileInUse, RecordFile, read_records

log = logging.getLogger(__name__)

StoredVoucher: TypeAlias = tuple[bytes, int, bytes, int]
"""Channel id (32 bytes), cumulative wei, signature (64 bytes or none), billed wei."""
SUFFIX = "-vouchers"
"""behind the name of the database's file"""
COMPACT_BYTES = 4 * 2**20
"""a file that is longer is written anew, with what the tables do not have"""
_RECORD = struct.Struct(">32s12s64s12s")


class VoucherJournal:
    """The best voucher of each channel that the tables may lack. Methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock, self._syncing = threading.Lock(), threading.Lock()
        """around what is known, and around the file while the disk is waited for; the second one is taken first"""
        self._file: RecordFile | None = None
        self._held: dict[bytes, StoredVoucher] = {}
        self._failed = False

    @property
    def waiting(self) -> bool:
        """Whether there is something that this process has to bring into the tables, as far as it knows."""
        return bool(self._held)

    def held(self) -> dict[bytes, StoredVoucher]:
        """The best voucher of each channel in it. Tables that are read after this lack no others."""
        with self._lock:
            if self._file is not None:
                return dict(self._held)
        try:
            return _best(read_records(self._path, _RECORD.size))
        except OSError as error:
            log.warning("%s cannot be read: %s", self._path, error)
            return {}

    def keep(self, vouchers: Sequence[StoredVoucher]) -> bool:
        """Take vouchers up, durably; False where that cannot be done."""
        with self._syncing:
            if not self.note(vouchers):
                return False
            assert self._file is not None
            try:
                self._file.sync()
            except OSError as error:
                self._fails(error)
                return False
            self._failed = False
            return True

    def note(self, vouchers: Sequence[StoredVoucher]) -> bool:
        """Take vouchers up for as long as the machine runs, without waiting for the disk; False as above."""
        with self._lock:
            if (file := self._opened()) is None:
                return False
            try:
                file.append([_packed(each) for each in vouchers])
            except OSError as error:
                self._fails(error)
                return False
            for each in vouchers:
                _note(self._held, each)
            return True

    def to_feed(self) -> list[StoredVoucher]:
        """What is to go into the tables; nothing where another process writes to the file."""
        with self._lock:
            return list(self._held.values()) if self._opened() is not None else []

    def fed(self, vouchers: Sequence[StoredVoucher]) -> None:
        """Let go of vouchers that the tables have now."""
        with self._syncing, self._lock:
            if (file := self._opened()) is None:
                return
            for each in vouchers:
                if self._held.get(each[0]) == each:
                    del self._held[each[0]]
            try:
                if not self._held:
                    file.clear()
                elif file.size > COMPACT_BYTES:
                    file.rewrite([_packed(each) for each in self._held.values()])
            except (OSError, FileInUse) as error:
                self._fails(error)

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        with self._syncing, self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _opened(self) -> RecordFile | None:
        if self._file is None:
            try:
                self._file = RecordFile(self._path, _RECORD.size)
            except (OSError, FileInUse) as error:
                self._fails(error)
                return None
            self._held = _best(self._file.records)
        return self._file

    def _fails(self, error: Exception) -> None:
        if not self._failed:
            log.warning("vouchers go into the ledger one by one, as %s cannot be used: %s", self._path, error)
        self._failed = True


def _best(records: Iterable[bytes]) -> dict[bytes, StoredVoucher]:
    held: dict[bytes, StoredVoucher] = {}
    for record in records:
        _note(held, _unpacked(record))
    return held


def _note(held: dict[bytes, StoredVoucher], voucher: StoredVoucher) -> None:
    """One at least as good takes the place of the one before: a step that was taken back is billed no more."""
    before = held.get(voucher[0])
    if before is None or voucher[1] >= before[1]:
        held[voucher[0]] = voucher


def _packed(voucher: StoredVoucher) -> bytes:
    channel_id, cumulative, signature, billed = voucher
    return _RECORD.pack(channel_id, cumulative.to_bytes(12), signature, billed.to_bytes(12))


def _unpacked(record: bytes) -> StoredVoucher:
    channel_id, cumulative, signature, billed = _RECORD.unpack(record)
    # Of what somebody else settled there is none.
    return (
        channel_id,
        int.from_bytes(cumulative),
        signature if any(signature) else b"",
        int.from_bytes(billed),
    )
