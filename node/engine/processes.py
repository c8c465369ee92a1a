"""Processes that llama.cpp is to run in. One can be begun before anybody knows what it will load.

Nothing of weight is imported here: such a process loads its libraries while ours loads its own.
"""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

POSSIBLE = os.name == "posix"
"""whether this system hands open files to a child; elsewhere llama.cpp runs in our own process"""

LENGTH = struct.Struct("<I")
"""of how a shard is loaded, as JSON: what a process waits for on its standard input"""
_TUNABLES, _HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


class Begun:
    """A process that waits for what it shall load: see node.engine.child.

    Attributes:
        memory: an open file that is memory, which is shared with it.
        words: what it writes to its standard error.
    """

    def __init__(self) -> None:
        self.memory = _memory()
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 - read when the child has ended
        level = logging.getLogger("hypercluster.llama").getEffectiveLevel()
        command = [sys.executable, "-P", "-m", "hypercluster.node.engine.child", str(self.memory), str(level)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            pass_fds=(self.memory,),
            env=_environment(),
        )

    def end(self) -> None:
        """End one that nobody took."""
        with self.process:
            self.process.kill()
        self.words.close()
        os.close(self.memory)


_ahead: list[Begun] = []


@contextmanager
def begun_ahead() -> Iterator[None]:
    """A process for the first shard that is loaded before the end of the block, where this system can have one."""
    if not POSSIBLE:
        yield
        return
    begun = Begun()
    _ahead.append(begun)
    try:
        yield
    finally:
        if begun in _ahead:
            _ahead.remove(begun)
            begun.end()


def one() -> Begun:
    """The process that was begun ahead, or else a new one. Whoever takes it ends it."""
    try:
        return _ahead.pop()
    except IndexError:
        return Begun()


def _memory() -> int:
    """An open file that is memory; the child sizes it when it knows how wide a row is."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hypercluster rows")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _environment() -> dict[str, str]:
    """Of the child: with huge pages for large blocks, if the user has not said anything of that.

    Each token reads all weights that were rearranged, and in pages of 4 KiB a tenth of the time goes into finding them.
    Other libraries than glibc do not read it.
    """
    told = os.environ.get(_TUNABLES, "")
    if _HUGE_PAGES in told:
        return dict(os.environ)
    return {**os.environ, _TUNABLES: ":".join(filter(None, (told, f"{_HUGE_PAGES}=1")))}
