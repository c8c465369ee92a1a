"""The process that llama.cpp runs in: see node.engine.processes, which starts it, and node.engine.apart.

Arguments: the number of the open file that is the shared memory, and the least level of llama.cpp's log lines that are
told. On standard input comes how the shard is loaded, as JSON, and then what is to be done; its end is the end of the
process.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import signal
import sys

from hypercluster.node.engine import apart, processes
from hypercluster.node.engine.computing import Computer
from hypercluster.node.engine.llama import LlamaError, LoadFailed
from hypercluster.node.engine.loading import Loading
from hypercluster.node.errors import NodeError


class Replies(logging.Handler):
    """Writes replies, and log lines between them."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a log line."""
        self.tell(apart.LOGGED, f"{record.levelno} {record.getMessage()}")

    def done(self) -> None:
        """Write that it is done."""
        os.write(self._file, apart.ALL_DONE)  # so short a message is written as a whole

    def tell(self, kind: int, text: str = "") -> None:
        """Write one reply."""
        told = text.encode()[: apart.MOST_TEXT]
        data = apart.REPLY.pack(kind, len(told)) + told
        while data:
            data = data[os.write(self._file, data) :]


def main(memory: int, level: int, loading: Loading) -> None:
    """Load the shard, and do what is asked until standard input ends."""
    replies = Replies(os.dup(1))
    os.dup2(2, 1)  # whatever prints, prints to where errors go
    logger = logging.getLogger("hypercluster.llama")
    logger.addHandler(replies)
    logger.setLevel(level)
    logger.propagate = False

    def sized(size: int) -> mmap.mmap:
        os.ftruncate(memory, size)
        return mmap.mmap(memory, size)

    try:
        computer = Computer(loading, sized)
    except NodeError as error:
        replies.tell(apart.NOT_LOADED if isinstance(error, LoadFailed) else apart.FAILED, str(error))
        return
    replies.tell(apart.DONE, apart.describe(computer.facts))
    while request := _request():
        _serve(computer, replies, *request)
    computer.close()


def _serve(computer: Computer, replies: Replies, what: int, first: int, second: int) -> None:
    try:
        if what == apart.COMPUTE:
            computer.compute(first)
        elif what == apart.WIPE:
            computer.wipe()
        elif what == apart.COPY:
            computer.copy(first, second)
        elif not computer.cut_back(first, second):
            replies.tell(apart.REFUSED)
            return
    except LlamaError as error:
        replies.tell(apart.FAILED, str(error))
    else:
        replies.done()


def _loading() -> Loading | None:
    head = _read(processes.LENGTH.size)
    told = _read(*processes.LENGTH.unpack(head)) if head else None
    return Loading.of(json.loads(told)) if told else None


def _request() -> tuple[int, int, int] | None:
    data = _read(apart.REQUEST.size)
    if data is None:
        return None
    what, first, second = apart.REQUEST.unpack(data)
    return what, first, second


def _read(size: int) -> bytes | None:
    """So many bytes of standard input; None where it has ended."""
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            return None
        data += more
    return data


if __name__ == "__main__":
    # these may go to a whole group of processes; who started this one ends it after its sessions
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    if (asked := _loading()) is not None:
        main(int(sys.argv[1]), int(sys.argv[2]), asked)
