"""What a model costs before it earns: times and peak memory of pulling, hashing, cutting, loading and serving it.

    python scripts/bench_models.py [--model FILE] [--parts 2] [--runs 3]

Without --model one of a billion random weights is written (Q4_0, 16 layers of 2,048). Each step is a command of its own
in a fresh home; what it needs from the disk is in the system's cache. A provider is started twice over the middle part:
its shard is cut at the first start and only checked and loaded at the next ones.

Behind it, what llama.cpp's processes over one shard hold: all pages (RSS), those with pages that several map divided
among them (PSS), and those of their own (USS). That is after a prompt, with the weights rearranged for the processor,
as they are by default, and as they are in the file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
from random_model import LlamaShape, write_random_llama

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.needs import Load, measured
from hypercluster.node.engine.profile import Backend
from hypercluster.node.engine.speed import random_input
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.testnet.localnet import NodeProcess, running_chain
from hypercluster.node.testnet.specs import ProviderSpec

BIN = Path(sys.executable).parent
MIB = 2**20
SESSIONS, SESSION_TOKENS = 4, 2048


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of processor time, and bytes of memory at its peak: all pages, and those that no file
    stands behind.
    """

    step: str
    seconds: float
    peak: int
    own: int = 0
    cpu: float = 0.0
    note: str = ""


class Watch(threading.Thread):
    """Looks at the memory and the processor time of a process and all that it starts until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = self.own = 0
        self.cpu = 0.0
        self._root = psutil.Process(pid)
        self.start()

    def run(self) -> None:
        """Look."""
        while self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE:
            try:
                family = [self._root, *self._root.children(recursive=True)]
                seen = [each.memory_info() for each in family]
                self.cpu = max(self.cpu, sum(sum(each.cpu_times()[:2]) for each in family))
            except psutil.NoSuchProcess:
                continue
            self.peak = max(self.peak, sum(each.rss for each in seen))
            self.own = max(self.own, sum(each.rss - each.shared for each in seen))
            time.sleep(0.05)  # a look takes milliseconds, of the two cores that are measured


def command(step: str, *words: str, home: Path, note: str = "") -> Cost:
    """Run one of our programs to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HC_")}
    environment |= {"HC_HOME": str(home), "HC_CACHE": str(home / "cache")}
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    watch = Watch(process.pid)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: {said.decode()}")
    return Cost(step, time.perf_counter() - began, watch.peak, watch.own, watch.cpu, note)


@contextmanager
def served_over_http(file: Path) -> Iterator[str]:
    """The URL of a file on this machine, from a server that knows ranges."""
    size = file.stat().st_size

    class Giver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer with the file or a range of it."""
            wanted = self.headers.get("Range", "")
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start or 0), int(stop or size - 1)
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"1"')
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            with file.open("rb") as source:
                self.connection.sendfile(source, first, last - first + 1)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Giver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/{file.name}"
    finally:
        server.shutdown()


def provider_starts(model: Path, layers: str, folder: Path, runs: int) -> Iterator[Cost]:
    """The first start of a provider, whose shard is cut meanwhile, and the median of later ones."""
    spec = ProviderSpec(layers=layers, flags=("--sessions", str(SESSIONS), "--price-rule", "fixed"))
    with running_chain(folder) as network:
        home, operator = network.enlist("provider", SESSIONS)
        again = []
        for run in range(1 + runs):
            began = time.perf_counter()
            node: NodeProcess[ProviderSpec] = network.start(spec, home, operator, model=model)
            watch = Watch(node.process.pid)
            network.wait(node)
            took = time.perf_counter() - began
            cost = Cost("start, shard cut", took, watch.peak, watch.own, watch.cpu, layers)
            node.stop()
            node.process.wait()
            if run == 0:
                yield cost
            else:
                again.append(cost)
        yield replace(
            max(again, key=lambda each: each.peak),
            step="start, shard there",
            seconds=statistics.median(each.seconds for each in again),
            cpu=statistics.median(each.cpu for each in again),
        )


def serving(stored: StoredModel, start: int, stop: int) -> Cost:
    """What a part takes with all its sessions, and how long a token takes it."""
    needs = measured(
        Load(
            shard=stored.shard(start, stop),
            first=start == 0,
            last=stop == stored.manifest.layers,
            sessions=SESSIONS,
            session_tokens=min(SESSION_TOKENS, stored.manifest.context),
            threads=max(1, (os.cpu_count() or 2) // 2),
            backend=Backend(),
        )
    )
    return Cost("serve a token", needs.decode_ms / 1000, needs.memory_bytes, note=f"{start}:{stop}")


def sharing(shard: Path, start: int, stop: int, layers: int) -> Iterator[str]:
    """A line for one process with few and with many sessions, and for two processes."""
    for repack in (True, False):
        for processes, sessions in ((1, 1), (1, SESSIONS), (2, 1)):
            with ExitStack() as stack:
                engines = [
                    stack.enter_context(
                        Engine(
                            shard,
                            start == 0,
                            stop == layers,
                            n_ctx_total=sessions * 512,
                            max_sessions=sessions,
                            threads=1,
                            repack=repack,
                        )
                    )
                    for _ in range(processes)
                ]
                for engine in engines:
                    payload = random_input(engine, 64, np.random.default_rng(0))
                    for _ in range(sessions):
                        engine.submit(engine.open(512), 0, payload).result()
                found = [
                    each.memory_full_info()
                    for each in psutil.Process().children()
                    if "hypercluster.node.engine.child" in each.cmdline()
                ]
            told = (max(getattr(each, name) for each in found) for name in ("rss", "pss", "uss"))
            yield (
                f"{processes:9}{sessions:9}  {'rearranged' if repack else 'as in the file':16}"
                + "".join(f"{each / MIB:9.0f}" for each in told)
            )


def costs(model: Path, folder: Path, parts: int, runs: int) -> Iterator[Cost]:
    """All steps, one after the other."""
    home = partial(Path, folder)
    with served_over_http(model) as url:
        yield command("pull", "hc-model", "pull", url, home=home("pull"), note="HTTP, this machine")
    yield command("hash", "hc-model", "manifest", str(model), home=home("hash"))
    stored = open_model(model, home("cut"))
    ranges = partition(stored.manifest.layers, parts)
    start, stop = ranges[parts // 2]
    layers = f"{start}:{stop}"
    cut = ("hc-model", "split", str(model), "--layers", layers, "--no-check", "-o", str(home("shards")))
    yield command("hash and cut", *cut, home=home("split"), note=layers)
    yield from provider_starts(model, layers, home("network"), runs)
    for each in ranges:
        yield serving(stored, *each)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a GGUF file; default: a billion random weights")
    parser.add_argument("--parts", type=int, default=2, help="into which the model is cut")
    parser.add_argument("--runs", type=int, default=3, help="starts of a provider over a shard that is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or write_random_llama(Path(folder) / "random.gguf", LlamaShape())
        size = model.stat().st_size
        print(
            f"{model.name}, {size / MIB:.0f} MiB\n{'':20}{'s':>9}{'CPU s':>8}{'peak MiB':>10}{'own MiB':>9}"
        )
        for cost in costs(model, Path(folder), asked.parts, asked.runs):
            cpu = f"{cost.cpu:8.2f}" if cost.cpu else " " * 8
            own = f"{cost.own / MIB:9.0f}" if cost.own else " " * 9
            print(
                f"{cost.step:20}{cost.seconds:9.3f}{cpu}{cost.peak / MIB:10.0f}{own}  {cost.note}", flush=True
            )
        stored = open_model(model, Path(folder) / "sharing")
        start, stop = partition(stored.manifest.layers, asked.parts)[asked.parts // 2]
        shard = stored.shard(start, stop)
        print(
            f"\nlayers {start}:{stop}, {shard.stat().st_size / MIB:.0f} MiB\nprocesses sessions  {'weights':16}"
            + "".join(f"{name + ' MiB':>9}" for name in ("RSS", "PSS", "USS"))
        )
        for line in sharing(shard, start, stop, stored.manifest.layers):
            print(line, flush=True)


if __name__ == "__main__":
    main()
