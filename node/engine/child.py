"""The process that llama.cpp runs in: see node.engine.apart, which starts it.

Arguments: the number of the open file that is the shared memory, the least level of llama.cpp's log lines that are
told, and how the shard is loaded, as JSON. Requests come on standard input; its end is the end of the process.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import signal
import sys

from hypercluster.node.engine import apart
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


def _request() -> tuple[int, int, int] | None:
    data = b""
    while len(data) < apart.REQUEST.size:
        more = os.read(0, apart.REQUEST.size - len(data))
        if not more:
            return None
        data += more
    what, first, second = apart.REQUEST.unpack(data)
    return what, first, second


if __name__ == "__main__":
    # these may go to a whole group of processes; who started this one ends it after its sessions
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    main(int(sys.argv[1]), int(sys.argv[2]), Loading.of(json.loads(sys.argv[3])))
