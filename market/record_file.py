"""An append-only file of records of one length, each with its checksum: what was written whole is read, wherever the
process or the file ended.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from hypercluster.market.errors import MarketError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

log = logging.getLogger(__name__)

CHECK_BYTES = 4
"""of the checksum behind each record"""
_LOCKED_AT = 1 << 30
"""byte that stands for the file where only ranges of bytes can be locked; no such file is that long"""


class FileInUse(MarketError):
    """Another process writes to the same file."""


class RecordFile:
    """Such a file, for one process at a time to write. To be closed. Not for several threads at once.

    Args:
        length: bytes of a record.

    Raises:
        FileInUse: another process has it open. OSError.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path, self._length = path, length
        self._fd = _opened(path)
        self.records = _whole(_content(self._fd), length, path)
        """those that it held when it was opened"""
        self.size = len(self.records) * (length + CHECK_BYTES)
        """bytes"""
        # What follows a torn record would not be read again.
        os.ftruncate(self._fd, self.size)
        _sync_name(path)

    def append(self, records: Sequence[bytes]) -> None:
        """Add records with one system call: they survive the end of the process, however it comes.

        Raises OSError: none of them is in it.
        """
        data = _checked(records)
        try:
            if os.write(self._fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            # What is written once there is room again would not be read behind a part of a record.
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Return when what was added survives the end of the machine. Raises OSError. Others may append meanwhile."""
        _sync(self._fd)

    def clear(self) -> None:
        """Take all records out. Raises OSError."""
        os.ftruncate(self._fd, 0)
        self.size = 0

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Write the file anew, with these records, in one move. Raises OSError, FileInUse: it is as it was."""
        fresh = self.path.with_name(self.path.name + ".new")
        data = _checked(records)
        fresh.write_bytes(data)
        fd = _opened(fresh)
        try:
            _sync(fd)
            fresh.replace(self.path)
            _sync_name(self.path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self.size = fd, len(data)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def read_records(path: Path, length: int) -> list[bytes]:
    """The records in such a file now, whoever writes to it; none where there is no file. Raises OSError."""
    try:
        return _whole(path.read_bytes(), length, path)
    except FileNotFoundError:
        return []


def _content(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)  # what is written goes to the end wherever it stands
    return os.read(fd, os.fstat(fd).st_size)


def _whole(data: bytes, length: int, path: Path) -> list[bytes]:
    """The records in `data` up to one that is torn or broken."""
    records, step = [], length + CHECK_BYTES
    for at in range(0, len(data) - step + 1, step):
        record = data[at : at + length]
        if _check(record) != data[at + length : at + step]:
            log.warning("%s is broken at byte %d: the rest is left out", path, at)
            break
        records.append(record)
    return records


def _checked(records: Sequence[bytes]) -> bytes:
    return b"".join(record + _check(record) for record in records)


def _check(record: bytes) -> bytes:
    return zlib.crc32(record).to_bytes(CHECK_BYTES)


def _sync(fd: int) -> None:
    if sys.platform == "linux":
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _sync_name(path: Path) -> None:
    """Have the folder remember that the file is there, where that is for us to see to."""
    if sys.platform == "linux":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    try:
        if sys.platform == "win32":
            os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise FileInUse(f"Another process writes to {path}: stop it first.") from None
    return fd
