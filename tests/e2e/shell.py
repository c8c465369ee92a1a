"""The command lines as a user has them: programs started in terminals of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypercluster.node.testnet.localnet import LocalNetwork

SECONDS = 600.0
"""for anything that a command does, on a machine that is slow and has other work; nothing here waits for it to pass"""
BIN = Path(sys.executable).parent


@dataclass(eq=False)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(eq=False)
class Terminal:
    """Runs our programs with settings of its own; `home` is HC_HOME."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def beside(cls, network: LocalNetwork, name: str, **more: str) -> Terminal:
        """One with a home of its own below that of a local network, and with what it takes to find its chain."""
        home = network.home / name
        home.mkdir(exist_ok=True)
        found = network.environment(home)
        return cls(home, {key: value for key, value in found.items() if key.startswith("HC_")} | more)

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HC_")}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)
        return {**clean, "COLUMNS": "300", "HC_HOME": str(self.home), **self.settings}

    def run(self, *command: str, stdin: bytes = b"", seconds: float = SECONDS) -> Result:
        """Run a command to its end; one that takes too long ends with all that it started."""
        process = subprocess.Popen(
            self._command(command),
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(stdin, seconds)
        except subprocess.TimeoutExpired:
            end(process)
            out, err = process.communicate()
            raise AssertionError(f"{command} took more than {seconds:g} s:\n{(out + err).decode()}") from None
        return Result(process.returncode, out.decode(), err.decode())

    def json(self, *command: str, seconds: float = SECONDS) -> Any:
        """Run a command that succeeds, with --json, and return the document."""
        done = self.run(*command, "--json", seconds=seconds)
        assert done.code == 0, done.err
        return done.json

    @contextmanager
    def running(self, *command: str, until: str) -> Iterator[Running]:
        """A command that goes on; it has printed `until` when the block begins, and gets Ctrl-C at its end."""
        process = subprocess.Popen(
            self._command(command),
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        running = Running(process)
        try:
            running.wait_for(until)
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(SECONDS)
            finally:
                end(process)
                running.join()

    @staticmethod
    def _command(command: tuple[str, ...]) -> list[str]:
        return [str(BIN / command[0]), *command[1:]]


class Running:
    """A program under way, all that it prints collected."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._printed: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def printed(self) -> str:
        return "".join(self._printed)

    def wait_for(self, text: str) -> None:
        """Return when it has printed `text`."""
        deadline = time.monotonic() + SECONDS
        while text not in self.printed:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.02)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)

    def _collect(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._printed.append(line.decode(errors="replace"))


def processes_that_mention(text: str) -> list[str]:
    """Command lines and environments of this machine's processes that hold `text`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                content = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in content:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of all children and children's children."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started, which would take the machine from other tests for ever."""
    for pid in [process.pid, *descendants(process.pid)] if process.poll() is None else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
