"""llama.cpp in a process of its own: an abort or a segfault ends that process, and ours goes on.

The rows go through shared memory (loading.Area). Over a pipe goes what is to be done, and back that it is done; so
llama.cpp, what its callbacks do and the ranking of candidates share no interpreter lock with the node.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import mmap
import os
import select
import signal
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from hypercluster.node.engine import leash, processes
from hypercluster.node.engine.llama import LlamaError, LoadFailed
from hypercluster.node.engine.loading import Area, Facts, Loading, area_bytes

log = logging.getLogger("hypercluster.llama")

COMPUTE, CUT_BACK, WIPE, COPY = range(4)
REQUEST = struct.Struct("<Iii")
"""what is to be done; rows, a sequence and a position, or two sequences"""
DONE, REFUSED, FAILED, NOT_LOADED, LOGGED = range(5)
REPLY = struct.Struct("<II")
"""what came of it, and the length of the text behind it"""
ALL_DONE = REPLY.pack(DONE, 0)
MOST_TEXT = 1 << 16
_LAST_WORDS = 2000
_STOP_SECONDS = 10


class Ended(LlamaError):
    """llama.cpp's process ended, by itself or because it hung, and with it all that its sessions held."""


class Apart:
    """A shard loaded in a child process, which goes when this process does. For one thread at a time.

    Raises LoadFailed, LlamaError, Ended.
    """

    def __init__(self, loading: Loading) -> None:
        begun = processes.one()
        self._process, self._words, memory = begun.process, begun.words, begun.memory
        atexit.register(self.close)  # a command that has ended leaves nothing running
        self._to, self._from = _file(self._process.stdin), _file(self._process.stdout)
        self._arriving = select.poll()
        self._arriving.register(self._from, select.POLLIN)
        self._leash = leash.Leash()
        self._left = self._limit = math.inf  # large files load from slow disks
        self._loaded = False
        told = json.dumps(loading.fields()).encode()
        try:
            with suppress(OSError, ValueError):  # of a process that is gone its answer tells
                os.write(self._to.fileno(), processes.LENGTH.pack(len(told)) + told)
            self.facts = Facts(**json.loads(self._reply()[1]))
            self._loaded = True
            size = area_bytes(loading, self.facts)
            self.area = Area.over(mmap.mmap(memory, size), loading, self.facts)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    @property
    def fd(self) -> int:
        """Of the file that can be read when there is an answer."""
        return self._from.fileno()

    def compute(self, n: int) -> None:
        """Run the first n rows of the area. Raises LlamaError; Ended if that was the end of the process."""
        began = time.monotonic()
        self.begin(n)
        self.finish()
        self.took(n, time.monotonic() - began)

    def begin(self, n: int) -> float:
        """Have the first n rows run, and return within how many seconds the answer has to come. Nothing else may be
        asked before it.
        """
        self._left = self._limit = self._leash.limit(n)
        # Of a process that is gone its answer tells.
        with suppress(OSError, ValueError):
            os.write(self._to.fileno(), REQUEST.pack(COMPUTE, n, 0))
        return self._limit

    def came(self) -> bool | None:
        """Read what has come; whether it was the answer, None if none comes any more. Raises LlamaError."""
        head = os.read(self._from.fileno(), REPLY.size)
        if not head:
            return None
        return self._message(head) is not None

    def finish(self) -> None:
        """Wait for the answer. Raises LlamaError; Ended if the process has ended, or gives none in time."""
        self._reply()

    def took(self, n: int, seconds: float) -> None:
        """Note how long n rows took."""
        self._leash.took(n, seconds)

    def cut_back(self, sequence: int, position: int) -> bool:
        """Forget what a sequence holds from `position` on; False where the model's memory cannot do that."""
        return self._ask(CUT_BACK, sequence, position)

    def copy(self, source: int, target: int) -> None:
        """Let one sequence hold what another does, instead of what it held."""
        self._ask(COPY, source, target)

    def wipe(self) -> None:
        """Forget every sequence and zero the cells."""
        self._ask(WIPE, 0, 0)

    def look(self) -> None:
        """Raise Ended if the process has ended."""
        if self._process.poll() is not None:
            raise self._ended()

    def kill(self) -> None:
        """End the child at once; whoever waits for it gets Ended. From any thread."""
        self._process.kill()

    def close(self) -> None:
        """End the child and wait for it; calling it again does nothing."""
        atexit.unregister(self.close)
        self._to.close()
        if not self._loaded:  # it looks at its input only when it has loaded
            self._process.kill()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()
        self._words.close()

    def _ask(self, what: int, first: int, second: int) -> bool:
        self._left = self._limit = leash.LEAST_SECONDS
        try:
            os.write(self._to.fileno(), REQUEST.pack(what, first, second))
        except (OSError, ValueError):
            raise self._ended() from None
        return self._reply()[0] == DONE

    def _reply(self) -> tuple[int, str]:
        while (told := self._message(self._read(REPLY.size))) is None:
            pass
        return told

    def _message(self, head: bytes) -> tuple[int, str] | None:
        """The message that begins so; None for a line of the log."""
        if head == ALL_DONE:  # of nearly every step
            return DONE, ""
        kind, length = REPLY.unpack(head)
        text = self._read(min(length, MOST_TEXT)).decode("utf-8", "replace") if length else ""
        if kind == LOGGED:
            level, _, line = text.partition(" ")
            log.log(int(level), "%s", line)
            return None
        if kind == FAILED:
            raise LlamaError(text)
        if kind == NOT_LOADED:
            raise LoadFailed(text)
        return kind, text

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            self._wait()
            try:
                more = os.read(self._from.fileno(), size - len(found))
            except (OSError, ValueError):
                more = b""
            if not more:
                raise self._ended()
            found += more
        return found

    def _wait(self) -> None:
        """Return when there is something to read. Raises Ended where that takes too long."""
        while not self._arriving.poll(1000 * leash.LOOK_SECONDS):
            self._left -= leash.LOOK_SECONDS
            if self._left <= 0:
                self._process.kill()
                self._process.wait()
                raise Ended(f"llama.cpp's process gave no answer within {self._limit:.0f} s and was ended")

    def _ended(self) -> Ended:
        """Why there is no answer any more."""
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        how = f"with code {code}"
        if code < 0:
            how = f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"by signal {-code}"
        return Ended(f"llama.cpp's process ended {how}{self._last_words()}")

    def _last_words(self) -> str:
        if self._words.closed:
            return ""
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _LAST_WORDS))
        lines = self._words.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:300].rstrip('.')}" if lines else ""


def describe(facts: Facts) -> str:
    """Facts as the child tells them."""
    return json.dumps(asdict(facts))


def _file(stream: IO[Any] | None) -> IO[Any]:
    assert stream is not None
    return stream
