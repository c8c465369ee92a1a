"""llama.cpp's own RPC servers, built from the source that llama-cpp-python brings, for comparison."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from own_environment import program
from proxies import free_ports

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
READY_SECONDS = 30
CMAKE = "cmake==4.1.2"  # where the machine has none
SERVER, BENCH = "ggml-rpc-server", "llama-bench"


def programs(kept: Path) -> Path:
    """The folder with SERVER and BENCH, of the locked version; built in `kept` when they are not there (minutes).

    Raises subprocess.CalledProcessError, with what CMake said, where it cannot be built.
    """
    found = re.search(r"^llama-cpp-python==\S+.*(?:\n    --hash.*)*", LOCK.read_text(), flags=re.M)
    assert found is not None
    folder = kept / f"rpc-{found[0].split()[0].partition('==')[2]}"
    done = folder / "bin"
    if (done / BENCH).exists():
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        wanted = Path(work) / "llama.txt"
        wanted.write_text(found[0] + "\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        _run([*pip, "--no-binary", "llama-cpp-python", "--require-hashes", "-r", str(wanted), "-d", work])
        (archive,) = Path(work).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(work, filter="data")
        (source,) = Path(work).glob("*/vendor/llama.cpp")
        build = Path(work) / "build"
        options = [
            "-DGGML_RPC=ON",
            "-DLLAMA_CURL=OFF",
            "-DBUILD_SHARED_LIBS=OFF",
            "-DCMAKE_BUILD_TYPE=Release",
        ]
        cmake = shutil.which("cmake") or str(program("cmake", CMAKE, kept / "cmake"))
        _run([cmake, "-S", str(source), "-B", str(build), *options])
        targets = ["--target", SERVER, "--target", BENCH]
        _run([cmake, "--build", str(build), "-j", str(os.cpu_count() or 1), *targets])
        (build / "bin").rename(done)
    return done


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout[-4000:], file=sys.stderr)
        done.check_returncode()


@contextmanager
def servers(folder: Path, count: int, threads: int) -> Iterator[list[str]]:
    """`count` servers on loopback with so many threads each; gives their places as host:port."""
    with ExitStack() as stack:
        ports = free_ports(count)
        for port in ports:
            command = [str(folder / SERVER), "-H", "127.0.0.1", "-p", str(port), "-t", str(threads)]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            stack.callback(process.terminate)
        for port in ports:
            _wait_for(port)
        yield [f"127.0.0.1:{port}" for port in ports]


def _wait_for(port: int) -> None:
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def decode_rate(
    folder: Path, model: Path, places: Sequence[str], *, layers: int, prompt: int, tokens: int, threads: int
) -> float:
    """Tokens per second that BENCH generates behind a prompt.

    The last `layers` and the head are spread evenly over the servers, the other layers are its own process's.
    """
    shares = "/".join("1" for _ in places)
    split = ["-rpc", ",".join(places), "-ts", shares, "-ngl", str(layers + 1)]
    command = [
        *(str(folder / BENCH), "-m", str(model), "-p", "0", "-n", str(tokens), "-d", str(prompt)),
        *("-r", "1", "-t", str(threads), "-fa", "0", "-o", "json", *split),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])
