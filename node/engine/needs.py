"""What a shard takes of a machine, and how fast it is there: measured by loading it in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from hypercluster.node.engine.devices import free_card_bytes
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.llama import LoadFailed
from hypercluster.node.engine.profile import Backend
from hypercluster.node.engine.speed import measure
from hypercluster.node.errors import NodeError

SECONDS = 600
_REFUSED = 3  # exit code of the child


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A shard as it is to be served: its place in the model, and `sessions` of so many tokens each."""

    shard: Path
    first: bool
    last: bool
    sessions: int
    session_tokens: int
    threads: int
    backend: Backend


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of the machine's memory and of its cards' with all sessions, and ms of a generated token alone."""

    memory_bytes: int
    card_bytes: int
    decode_ms: float


def measured(load: Load) -> Needs:
    """Load a shard, run a chunk and some single tokens, and say what that took. Raises LoadFailed."""
    told = json.dumps({**asdict(load), "shard": str(load.shard)})
    command = [sys.executable, "-m", "hypercluster.node.engine.needs", told]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{load.shard} was not loaded and run within {SECONDS} s.") from error
    if done.returncode == _REFUSED:
        raise LoadFailed(done.stdout.strip())
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1].rstrip(".")
        raise LoadFailed(f"llama.cpp breaks down on {load.shard} (exit code {done.returncode}): {last}.")
    return Needs(**json.loads(done.stdout))


def _main() -> int:
    told = json.loads(sys.argv[1])
    backend = Backend(**{**told["backend"], "tensor_split": tuple(told["backend"]["tensor_split"])})
    held, cards = _held(), free_card_bytes()
    try:
        with Engine(
            Path(told["shard"]),
            told["first"],
            told["last"],
            told["sessions"] * told["session_tokens"],
            told["sessions"],
            told["threads"],
            **backend.settings(),
        ) as engine:
            decode_ms = measure(engine).decode_ms
            memory = _held() - held
            on_cards = cards - free_card_bytes()
    except NodeError as error:
        sys.stdout.write(f"{error}\n")
        return _REFUSED
    if not on_cards:
        # experts that no token chose have not been read yet
        memory = max(memory, Path(told["shard"]).stat().st_size)
    sys.stdout.write(json.dumps(asdict(Needs(max(0, memory), max(0, on_cards), decode_ms))))
    return 0


def _held() -> int:
    """Bytes that this process and what it started have in memory, pages of mapped files included."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in [own, *own.children(recursive=True)])


if __name__ == "__main__":
    raise SystemExit(_main())
