"""Processes with limits in which model files that may be hostile are judged, and computed with.

What judges a file and says what its shards are runs in nodes themselves, so it has to take anything, with one sentence.
What it lets pass goes to llama.cpp, which runs in processes of its own: there, ending the process is allowed. A process
goes from file to file, as forking costs more than all that is done with one. One that ends is followed by another,
which gets the same file first: so what a file does alone is known, whatever others have left behind.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from hypercluster.node.engine import reference
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.errors import NodeError
from hypercluster.node.shards import check_source
from hypercluster.node.shards.planning import plan
from hypercluster.node.shards.traits import traits_of
from hypercluster.node.shards.values import values_of

MEMORY, SECONDS = 6 << 30, 20
"""bytes of addresses of a process; of the processor for one file, and three times as many by the clock"""
FILES = 200
"""of one process, so that nothing piles up"""
PASSED = "passed"


@dataclass(frozen=True, slots=True)
class Ending:
    """What a process told of a file, or how it ended over it.

    `died`: a process ended over this file alone. `after_others`: only one that had had others before ended over it.
    """

    told: str
    died: bool = False
    after_others: bool = False


class Trial:
    """A forked process that does `work` with one file after the other. `doing` names it where it ends."""

    def __init__(self, doing: str, work: Callable[[Path], str]) -> None:
        self._doing, self._work = doing, work
        self._process: _Process | None = None

    def ending(self, path: Path) -> Ending:
        """What comes of a file."""
        if self._process is not None and self._process.files >= FILES:
            self.close()
        others = self._process is not None
        told = self._told(path)
        if told is not None:
            return Ending(told)
        if others:
            told = self._told(path)
            if told is not None:
                return Ending(told, after_others=True)
        return Ending(f"{self._how} while {self._doing}", died=True)

    def close(self) -> None:
        """End the process, and whatever it has started."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _told(self, path: Path) -> str | None:
        """What is told of a file, None where the process ended, as `_how` says."""
        if self._process is None:
            self._process = _Process(self._work)
        told = self._process.told(path)
        if told is None:
            process, self._process = self._process, None
            self._how = process.end()
        return told


class _Process:
    def __init__(self, work: Callable[[Path], str]) -> None:
        self.files = 0
        asked, self._asking = os.pipe()
        self._hearing, telling = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _close(self._asking, self._hearing)
            _serve(work, asked, telling)
        os.setpgid(self._pid, self._pid)
        _close(asked, telling)

    def told(self, path: Path) -> str | None:
        """What is told of a file; None where the process ended, or took longer than it may."""
        self.files += 1
        said, end = b"", time.monotonic() + 4 * SECONDS
        try:
            os.write(self._asking, f"{path}\n".encode())
        except BrokenPipeError:
            return None
        while not said.endswith(b"\n"):
            if not select.select([self._hearing], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            more = os.read(self._hearing, 1 << 16)
            if not more:
                return None
            said += more
        return said.decode("utf-8", "replace").rstrip("\n")

    def end(self) -> str:
        """End it where it has not ended. Returns how it did."""
        _close(self._asking, self._hearing)
        os.killpg(self._pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return signal.Signals(-status).name if status < 0 else f"exit {status}"


def _close(*files: int) -> None:
    for file in files:
        os.close(file)


def _serve(work: Callable[[Path], str], asked: int, telling: int) -> NoReturn:
    """What runs in the process: a line for each path that is read."""
    faulthandler.disable()  # pytest's would tell of each end at length
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(asked) as paths:
        for path in paths:
            resource.setrlimit(
                resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS + 1, resource.RLIM_INFINITY)
            )
            signal.alarm(3 * SECONDS)
            try:
                told = work(Path(path.rstrip("\n")))
            except MemoryError:
                told = "out of memory"
            except Exception as error:  # noqa: BLE001
                told = f"wrong: {type(error).__name__} {str(error)[:200]!a}"
            os.write(telling, f"{told}\n".encode("utf-8", "replace"))
    os._exit(0)


def judged(path: Path) -> str:
    """PASSED, 'refused', or what was wrong with how it was."""
    try:
        model = check_source(path)
        values_of(model.file)
        starts = traits_of(model).starts
        for start in range(model.blueprint.layers) if starts is None else starts:
            plan(model.blueprint, start, start + 1)
    except NodeError as error:
        sentence = str(error)
        fits = (
            "\n" not in sentence
            and sentence.isprintable()
            and sentence.endswith(".")
            and len(sentence) < 1000
        )
        return "refused" if fits else f"wrong: no sentence: {sentence[:300]!a}"
    except MemoryError:
        return "wrong: judging takes too much memory"
    return PASSED


def computed(path: Path) -> str:
    """What llama.cpp makes of a file that passed."""
    try:
        generated = reference.generate(path, [1, 2, 3], 3, 1, gpu_layers=0)
    except LlamaError:
        return "refused by llama.cpp"
    return "computed" if bool((generated.logits == generated.logits).all()) else "computed no numbers"
