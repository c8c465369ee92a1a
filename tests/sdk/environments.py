"""An environment for each client, made of its lock alone, kept under .build/ for as long as the lock stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / ".build" / "sdk"
UV = Path(sys.executable).with_name("uv")


class NotInstalled(Exception):
    """An environment could not be made; the message holds the end of what the installer said."""


@dataclass(frozen=True)
class Program:
    """A client's script and what runs it."""

    command: tuple[str, ...]
    environment: dict[str, str]


PYTHON = ("anthropic", "instructor", "langchain-openai", "llm", "ollama", "openai")
NODE = ("ai", "openai")


def programs() -> dict[str, Future[Program]]:
    """All clients by name ("openai-node" is npm's), their environments being made at the same time."""
    pool = ThreadPoolExecutor(4)
    made = {name: pool.submit(python_program, name) for name in PYTHON}
    node = pool.submit(node_modules)
    made |= {f"{name}-node": pool.submit(node_program, name, node) for name in NODE}
    pool.shutdown(wait=False)
    return made


def python_program(name: str) -> Program:
    """The script of a Python client in a virtual environment of its own."""
    lock = HERE / name / "requirements.lock"
    folder = KEPT / f"{name}-{_digest([lock])}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"

    def make() -> None:
        _run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder)
        chosen = ("--no-deps", "--require-hashes", "--requirement", lock)
        _run(UV, "pip", "install", "--quiet", "--python", python, *chosen)

    _once(folder, make)
    return Program((str(python), str(HERE / name / "client.py")), {"PYTHONPATH": str(HERE)})


def node_modules() -> Path:
    """The folder with npm's clients, in which the scripts run."""
    locks = [HERE / "node" / name for name in ("package.json", "package-lock.json")]
    folder = KEPT / f"node-{_digest(locks)}"

    def make() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in locks:
            shutil.copy(path, folder)
        _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder)

    _once(folder, make)
    return folder


def node_program(name: str, modules: Future[Path]) -> Program:
    """A script for Node.js; imports are looked up from where a module lies, so it is copied beside its packages."""
    folder = modules.result()
    for path in (HERE / "node").glob("*.mjs"):
        with FileLock(folder / ".copying"):
            shutil.copy(path, folder)
    return Program(("node", str(folder / f"{name}.mjs")), {})


def facts(program: Program, given: dict[str, str], timeout: float) -> dict[str, Any]:
    """Run a client's script; returns what it tells.

    Args:
        given: its environment beside PATH and a home of its own: no settings of the person who runs the tests.
        timeout: seconds.
    """
    said = _said(program.command, {**program.environment, **given}, timeout)
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    return told


def run_text(program: Program, code: str, timeout: float) -> str:
    """Run other code in a client's environment; returns what it prints."""
    interpreter, script = program.command
    path = Path(script)
    if interpreter != "node":
        return _said((interpreter, "-c", code), {}, timeout)
    with tempfile.NamedTemporaryFile(
        "w", suffix=".mjs", dir=path.parent
    ) as file:  # where its packages are found
        file.write(code)
        file.flush()
        return _said(("node", file.name), {}, timeout)


def _said(command: Sequence[str], given: dict[str, str], timeout: float) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = {**kept, "HOME": str(KEPT), **given}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def _once(folder: Path, make: Callable[[], None]) -> None:
    """Make a folder unless it is whole; processes beside this one wait for it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / ".ready").exists():
            make()
            (folder / ".ready").touch()


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotInstalled(f"`{' '.join(map(str, command))}` failed: {(done.stdout + done.stderr)[-2000:]}")
