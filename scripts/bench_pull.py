"""How fast layers come from peers over loopback, next to what plain TCP gives there, and what memory that takes.

python scripts/bench_pull.py [--mib 1024] [--givers 1]

A model of that size is written to a temporary folder. Plain TCP: one process reads the shard's file and sends it,
another receives it and writes it. From peers: as providers and those who join do it, over Noise, each block hashed, the
file synced and checked as a whole; without the last check and with it. Memory is each process's most (VmHWM) over what
it had before; processor time is what tells on a machine that others use too.

What comes from peers is encrypted, decrypted and hashed besides. How long that takes a core is measured as well, and
what could be reached at most where processors are what bounds both: plain TCP's processor time, of both ends together,
in proportion to that and the three.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from hypercluster.node.cli import start
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.pulling.asking import Whereabouts
from hypercluster.node.pulling.giving import Giver, shelf_of
from hypercluster.node.pulling.layers import Layers
from hypercluster.node.pulling.taking import Network, take_layers
from hypercluster.node.shards import Manifest
from hypercluster.node.shards.store import StoredModel, open_model

# The writer of models belongs to the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.node.helpers.random_models import Shape, write_random_model

LOCAL = "/ip4/127.0.0.1/tcp/0"
CHUNK = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast layers come from peers.")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--givers", type=int, default=1)
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _PARTS[arguments.part[0]](*arguments.part[1:])
        return
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as name:
        _bench(Path(name), arguments.mib, arguments.givers)


def _bench(folder: Path, mib: int, givers: int) -> None:
    width = 1024
    layers = max(1, math.ceil(mib * 2**20 / (4 * width * (2.5 * width + 3 * 4 * width))))
    shape = Shape(n_embd=width, n_ff=4 * width, heads=16, kv_heads=4, layers=layers, n_vocab=512)
    model = write_random_model(folder / "model.gguf", shape)
    stored = open_model(model, folder / "home")
    shard = stored.shard(0, layers)
    size = shard.stat().st_size
    print(f"{size / 2**20:.0f} MiB, {layers} layers; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    plain, plain_ms = _plain(shard, folder / "plain")
    size_mib = size / 2**20
    print(f"plain TCP, read, sent and written       {size_mib / plain:8.0f} MiB/s")
    print(f"processor time of both ends of it       {plain_ms:8.2f} ms/MiB")
    seal, digest = _seconds(_sealing()), _seconds(_hashing())
    print(f"ChaCha20-Poly1305, once                 {1000 * seal:8.2f} ms/MiB")
    print(f"SHA-256, once                           {1000 * digest:8.2f} ms/MiB")
    least = plain_ms + 1000 * (2 * seal + digest)
    print(f"share of plain TCP that this leaves     {plain_ms / least:8.2f}")
    processes = [
        _start("give", str(model), str(folder / "home"), str(number)) for number in range(1, givers + 1)
    ]
    try:
        places = [json.loads(_line(process)) for process in processes]
        (folder / "taker").mkdir()
        stored.manifest.save(folder / "taker" / "manifest.json")
        taker = _start("take", str(folder / "taker"), str(layers), json.dumps(places))
        told = json.loads(_line(taker))
        taker.wait()
        print(f"from {givers} peers, hashed and written        {size_mib / told['fetched']:8.0f} MiB/s")
        print(f"the same with the check of the whole    {size_mib / told['seconds']:8.0f} MiB/s")
        print(f"share of plain TCP                      {plain / told['fetched']:8.2f}")
        print(f"memory of who takes                     {told['memory']:8.0f} MiB")
        took = 1000 * told["cpu"] / size_mib
        print(f"processor time of who takes             {took:8.2f} ms/MiB")
        for process, place in zip(processes, places, strict=True):
            used = sum(psutil.Process(process.pid).cpu_times()[:2]) - place["cpu"]
            print(f"memory of who gives                     {_peak(process.pid) - place['memory']:8.0f} MiB")
            print(f"processor time of who gives             {1000 * used / size_mib:8.2f} ms/MiB")
            took += 1000 * used / size_mib
        print(f"share of plain TCP by processor time    {plain_ms / took:8.2f}")
        print(f"share of the least processor time       {least / took:8.2f}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _sealing() -> Callable[[], object]:
    """A MiB as packets of Noise."""
    cipher, nonce, packet = ChaCha20Poly1305(bytes(32)), bytes(12), bytes(2**16)
    return lambda: [cipher.encrypt(nonce, packet, None) for _ in range(16)]


def _hashing() -> Callable[[], object]:
    block = bytes(2**20)
    return lambda: hashlib.sha256(block).digest()


def _seconds(work: Callable[[], object]) -> float:
    """Processor time of the quickest of some rounds."""
    found = []
    for _ in range(9):
        began = time.process_time()
        for _ in range(20):
            work()
        found.append((time.process_time() - began) / 20)
    return min(found)


def _plain(shard: Path, dest: Path) -> tuple[float, float]:
    """Seconds, and processor time of both ends in ms/MiB."""
    receiver = _start("receive", str(dest))
    port = int(_line(receiver))
    began, cpu = time.monotonic(), time.process_time()
    with socket.create_connection(("127.0.0.1", port)) as connection, shard.open("rb") as file:
        while chunk := file.read(CHUNK):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    seconds = time.monotonic() - began
    cpu = time.process_time() - cpu + float(_line(receiver))
    receiver.wait()
    dest.unlink()
    return seconds, 1000 * cpu / (shard.stat().st_size / 2**20)


def _receive(dest: str) -> None:
    buffer = bytearray(CHUNK)
    with socket.create_server(("127.0.0.1", 0)) as server, Path(dest).open("wb") as file:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        cpu = time.process_time()
        with connection:
            while count := connection.recv_into(buffer):
                file.write(memoryview(buffer)[:count])
            file.flush()  # as far as the blocks from peers are when the last one has come
            connection.sendall(b"!")
        print(time.process_time() - cpu, flush=True)


def _give(model: str, home: str, number: str) -> None:
    start.settle()

    async def serve() -> None:
        stored = open_model(Path(model), Path(home))
        async with running_host(bytes([int(number)]) * 32, [LOCAL]) as host:
            # As to a peer that has paid: what strangers get is bounded by seconds of this process.
            host.class_of = lambda peer: 2

            async def nobody(connection: object) -> None: ...

            others = Giver([shelf_of(stored, [])], 1e12).open_at(host)
            direct = await serve_steps(host, nobody, direct_listen=LOCAL, others=others)
            told = {"peer": host.peer, "addrs": host.addrs, "direct": direct, "memory": _peak(os.getpid())}
            told["cpu"] = time.process_time()
            print(json.dumps(told), flush=True)
            await trio.sleep_forever()

    trio.run(serve)


def _take(folder: str, layers: str, places: str) -> None:
    peers = {each["peer"]: Whereabouts(tuple(each["addrs"]), each["direct"]) for each in json.loads(places)}
    stored = StoredModel(Manifest.load(Path(folder) / "manifest.json"), Path(folder), None)
    wanted = Layers(stored.manifest, 0, int(layers), Path(folder))
    left, fetched, fetched_cpu = wanted.copied, 0.0, 0.0

    def told(size: int) -> None:
        nonlocal left, fetched, fetched_cpu
        left -= size
        if not left:
            fetched, fetched_cpu = time.monotonic(), time.process_time()

    start.settle()

    async def take() -> dict[str, float]:
        async with running_host(bytes([99]) * 32) as host:
            before, began, began_cpu = _peak(os.getpid()), time.monotonic(), time.process_time()
            await take_layers(Network(host, lambda: peers, stored.manifest.model_id), wanted, told)
            seconds = time.monotonic() - began
            return {
                "fetched": fetched - began,
                "seconds": seconds,
                "memory": _peak(os.getpid()) - before,
                "cpu": fetched_cpu - began_cpu,
            }

    print(json.dumps(trio.run(take)), flush=True)


def _peak(pid: int) -> float:
    """Most resident memory of a process so far, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _start(*part: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, "--part", *part], stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


_PARTS: dict[str, Callable[..., None]] = {"receive": _receive, "give": _give, "take": _take}

if __name__ == "__main__":
    main()
