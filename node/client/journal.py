"""Vouchers that are signed, written down before they leave: what a process that was killed had spent."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from hypercluster.market.record_file import FileInUse, RecordFile
from hypercluster.node.errors import NodeError

log = logging.getLogger(__name__)

COMPACT_BYTES = 4 * 2**20
"""a file that is longer is written anew, with what still counts"""
_RECORD = struct.Struct(">B32s32s12s12s")


class JournalInUse(NodeError):
    """Another process writes to the same journal."""


class _Kind(IntEnum):
    BEGUN = 1
    SIGNED = 2
    ANSWERED = 3
    CLOSED = 4
    COVERED = 5


_KINDS = frozenset(_Kind)


@dataclass(slots=True)
class Spent:
    """What one request had signed for on one channel, in wei, what of that was answered, and what of it earlier
    requests had signed.
    """

    signed: int = 0
    answered: int = 0
    covered: int = 0


@dataclass(slots=True)
class Recovered:
    """What a journal holds, in wei: by channel the most that was signed and the most known to be spent; by request
    what it spent on each channel since it was written down in the ledger.
    """

    channels: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    requests: dict[str, dict[bytes, Spent]] = field(default_factory=dict)


class Journal:
    """An append-only file of vouchers, for one process at a time. To be closed.

    One system call a record, without a sync: that survives the end of the process, however it comes. Records go when
    the ledger knows all that they say. Where they cannot be written, vouchers go out all the same: then the
    providers' books tell.

    Raises:
        JournalInUse: another process has it open.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._file = RecordFile(file, _RECORD.size)
        except FileInUse as error:
            raise JournalInUse(str(error)) from None
        self._failed = False
        self._state = Recovered()
        for record in self._file.records:
            if record[0] in _KINDS:  # of a newer version there may be others
                self._note(*_unpacked(record))

    @property
    def state(self) -> Recovered:
        """What is in it."""
        return self._state

    def begun(self, request_id: str) -> None:
        """A request is about to be spent on."""
        self._write(_Kind.BEGUN, bytes(32), request_id, 0, 0)

    def signed(self, channel_id: bytes, request_id: str, amount: int, cumulative: int) -> None:
        """A voucher over `cumulative` wei is about to leave, for a step of `amount`."""
        self._write(_Kind.SIGNED, channel_id, request_id, amount, cumulative)

    def answered(self, channel_id: bytes, request_id: str, amount: int, spent: int) -> None:
        """The step of `amount` was answered; `spent` wei are gone from the channel in all."""
        self._write(_Kind.ANSWERED, channel_id, request_id, amount, spent)

    def covered(self, channel_id: bytes, request_id: str, amount: int) -> None:
        """Of what was signed last `amount` wei are paid with vouchers that earlier requests had risked."""
        self._write(_Kind.COVERED, channel_id, request_id, amount, 0)

    def closed(self, request_id: str) -> None:
        """The ledger has all that a request spent so far, and the channels as they are now."""
        self._write(_Kind.CLOSED, bytes(32), request_id, 0, 0)
        if not self._state.requests:
            self.clear()
        elif self._file.size > COMPACT_BYTES:
            self._compact()

    def clear(self) -> None:
        """Forget everything: the ledger has it."""
        self._state = Recovered()
        try:
            self._file.clear()
        except OSError as error:
            log.warning("the journal of vouchers could not be emptied: %s", error)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _note(self, kind: _Kind, channel_id: bytes, request_id: str, amount: int, total: int) -> None:
        state = self._state
        if kind is _Kind.CLOSED:
            state.requests.pop(request_id, None)
            return
        # Sessions of no request are known by their channels alone.
        of_request = state.requests.setdefault(request_id, {}) if request_id else {}
        if kind is _Kind.BEGUN:
            return
        spent_on = of_request.setdefault(channel_id, Spent())
        signed, spent = state.channels.get(channel_id, (0, 0))
        if kind is _Kind.SIGNED:
            spent_on.signed += amount
            state.channels[channel_id] = max(signed, total), spent
        elif kind is _Kind.COVERED:
            spent_on.covered += amount
        else:
            spent_on.answered += amount
            state.channels[channel_id] = signed, max(spent, total)

    def _write(self, kind: _Kind, channel_id: bytes, request_id: str, amount: int, total: int) -> None:
        self._note(kind, channel_id, request_id, amount, total)
        try:
            self._file.append([_packed(kind, channel_id, request_id, amount, total)])
        except OSError as error:
            if not self._failed:
                log.warning("vouchers cannot be written down, providers' books would have to tell: %s", error)
            self._failed = True

    def _compact(self) -> None:
        """Write the file anew, with one record of each kind for each request and channel."""
        records = []
        for request_id, spent_on in self._state.requests.items():
            records.append(_packed(_Kind.BEGUN, bytes(32), request_id, 0, 0))
            for channel_id, of in spent_on.items():
                signed, spent = self._state.channels.get(channel_id, (0, 0))
                records.append(_packed(_Kind.SIGNED, channel_id, request_id, of.signed, signed))
                records.append(_packed(_Kind.ANSWERED, channel_id, request_id, of.answered, spent))
                if of.covered:
                    records.append(_packed(_Kind.COVERED, channel_id, request_id, of.covered, 0))
        try:
            self._file.rewrite(records)
        except (OSError, FileInUse) as error:
            log.warning("the journal of vouchers stays as long as it is: %s", error)


def _packed(kind: _Kind, channel_id: bytes, request_id: str, amount: int, total: int) -> bytes:
    return _RECORD.pack(kind, channel_id, request_id.encode()[:32], amount.to_bytes(12), total.to_bytes(12))


def _unpacked(record: bytes) -> tuple[_Kind, bytes, str, int, int]:
    kind, channel_id, request_id, amount, total = _RECORD.unpack(record)
    name = request_id.rstrip(b"\0").decode(errors="replace")
    return _Kind(kind), channel_id, name, int.from_bytes(amount), int.from_bytes(total)
