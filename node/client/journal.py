"""Vouchers that are signed, written down before they leave: what a process that was killed had spent."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

log = logging.getLogger(__name__)

VOUCHERS = "vouchers.journal"
"""file in a home"""
_RECORD = struct.Struct(">B32s32s12s12sI")


class _Kind(IntEnum):
    SIGNED = 1
    ANSWERED = 2
    CLOSED = 3


@dataclass(slots=True)
class Spent:
    """What one request had signed for on one channel, in wei, and what of that was answered."""

    signed: int = 0
    answered: int = 0


@dataclass(slots=True)
class Recovered:
    """What a journal holds, in wei: by channel the highest amount signed and the highest known to be spent; by request
    what it spent on each channel. Requests that were closed are left out.
    """

    channels: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    requests: dict[str, dict[bytes, Spent]] = field(default_factory=dict)


class Journal:
    """An append-only file of vouchers. To be closed.

    One system call a record, without a sync: that survives the end of the process, however it comes. Records are
    dropped when no request that they belong to is open any more, as the ledger knows all of it by then. Where the disk
    is full, vouchers go out unwritten: then the providers' books tell it.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._open: set[str] = set()
        self._failed = False

    def signed(self, channel_id: bytes, request_id: str, amount: int, cumulative: int) -> None:
        """A voucher over `cumulative` wei is about to leave, for a step of `amount`."""
        self._open.add(request_id)
        self._write(_Kind.SIGNED, channel_id, request_id, amount, cumulative)

    def answered(self, channel_id: bytes, request_id: str, amount: int, spent: int) -> None:
        """The step of `amount` was answered; `spent` wei are gone from the channel in all."""
        self._write(_Kind.ANSWERED, channel_id, request_id, amount, spent)

    def closed(self, request_id: str) -> None:
        """All that a request spent so far is in the ledger, the state of its channels too."""
        self._write(_Kind.CLOSED, bytes(32), request_id, 0, 0)
        self._open.discard(request_id)
        if not self._open:
            self.clear()

    def clear(self) -> None:
        """Forget everything: the ledger has it."""
        try:
            os.ftruncate(self._fd, 0)
        except OSError as error:
            log.warning("the journal of vouchers could not be emptied: %s", error)

    def recover(self) -> Recovered:
        """What was written before, up to a record that is broken."""
        found = Recovered()
        for kind, channel_id, request_id, amount, total in self._records():
            if kind is _Kind.CLOSED:
                found.requests.pop(request_id, None)
                continue
            signed, spent = found.channels.get(channel_id, (0, 0))
            of_request = found.requests.setdefault(request_id, {}).setdefault(channel_id, Spent())
            if kind is _Kind.SIGNED:
                of_request.signed += amount
                found.channels[channel_id] = max(signed, total), spent
            else:
                of_request.answered += amount
                found.channels[channel_id] = signed, max(spent, total)
        return found

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _write(self, kind: _Kind, channel_id: bytes, request_id: str, amount: int, total: int) -> None:
        body = _RECORD.pack(
            kind, channel_id, request_id.encode()[:32], amount.to_bytes(12), total.to_bytes(12), 0
        )[:-4]
        try:
            os.write(self._fd, body + zlib.crc32(body).to_bytes(4))
        except OSError as error:
            if not self._failed:
                log.warning("vouchers cannot be written down, providers' books will have to tell: %s", error)
            self._failed = True

    def _records(self) -> Iterator[tuple[_Kind, bytes, str, int, int]]:
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, size, 0)
        for at in range(0, size - _RECORD.size + 1, _RECORD.size):
            record = data[at : at + _RECORD.size]
            kind, channel_id, request_id, amount, total, check = _RECORD.unpack(record)
            if zlib.crc32(record[:-4]) != check or kind not in list(_Kind):
                log.warning("the journal of vouchers is broken at byte %d: the rest is left out", at)
                return
            name = request_id.rstrip(b"\0").decode(errors="replace")
            yield _Kind(kind), channel_id, name, int.from_bytes(amount), int.from_bytes(total)
