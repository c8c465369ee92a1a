"""llama.cpp's own RPC, for comparison: its backend, built for the libraries of the installed llama-cpp-python.

python scripts/llama_rpc.py serve LIBRARY HOST:PORT THREADS
"""

from __future__ import annotations

import ctypes
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
from proxies import free_ports

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
LIBRARIES = Path(llama_cpp.__file__).parent / "lib"
READY_SECONDS = 30
SOURCES = ("ggml-rpc.cpp", "transport.cpp")
CPU = 0  # a kind of device


def backend(kept: Path) -> Path:
    """The backend as a library that llama.cpp loads, of the locked version; built in `kept` when it is not there.

    Raises subprocess.CalledProcessError where it cannot be built.
    """
    found = re.search(r"^llama-cpp-python==\S+.*(?:\n    --hash.*)*", LOCK.read_text(), flags=re.M)
    assert found is not None
    library = kept / f"libggml-rpc-{found[0].split()[0].partition('==')[2]}.so"
    if library.exists():
        return library
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as work:
        wanted = Path(work) / "llama.txt"
        wanted.write_text(found[0] + "\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--no-binary", "llama-cpp-python", "--require-hashes", "-r", str(wanted), "-d", work]
        subprocess.run(pip, check=True)
        (archive,) = Path(work).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(work, filter="data")
        (ggml,) = Path(work).glob("*/vendor/llama.cpp/ggml")
        made = Path(work) / library.name
        subprocess.run(
            [
                *("g++", "-std=c++17", "-O3", "-DNDEBUG", "-shared", "-fPIC"),
                *("-DGGML_BACKEND_DL", "-DGGML_BACKEND_BUILD", "-DGGML_BACKEND_SHARED", "-DGGML_SHARED"),
                *(f"-I{ggml / 'include'}", f"-I{ggml / 'src'}"),
                *(str(ggml / "src" / "ggml-rpc" / source) for source in SOURCES),
                *("-o", str(made), f"-L{LIBRARIES}", "-lggml-base", "-lggml", f"-Wl,-rpath,{LIBRARIES}"),
            ],
            check=True,
        )
        made.rename(library)
    return library


@contextmanager
def servers(library: Path, count: int, threads: int) -> Iterator[list[str]]:
    """`count` servers on loopback with so many threads each; gives their places as host:port."""
    with ExitStack() as stack:
        places = [f"127.0.0.1:{port}" for port in free_ports(count)]
        for place in places:
            command = [sys.executable, __file__, "serve", str(library), place, str(threads)]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            stack.callback(process.terminate)
        for place in places:
            _wait_for(place)
        yield places


def _wait_for(place: str) -> None:
    host, _, port = place.partition(":")
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def add(library: Path, places: Sequence[str]) -> None:
    """Make servers the devices of all models that this process loads from now on, with equal parts of the layers.

    Raises OSError: they are not.
    """
    ggml, base, registry = _loaded(library)
    add_server = _function(base, registry, "ggml_backend_rpc_add_server", ctypes.c_void_p, ctypes.c_char_p)
    ggml.ggml_backend_register.argtypes = [ctypes.c_void_p]
    for place in places:
        ggml.ggml_backend_register(add_server(place.encode()))
    if not llama_cpp.llama_supports_gpu_offload():
        raise OSError("llama.cpp computes nothing with its RPC servers.")


def serve(library: Path, place: str, threads: int) -> None:
    """Compute with the processor for whoever connects, until the process is ended."""
    ggml, base, registry = _loaded(library)
    ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    devices = (ctypes.c_void_p * 1)(ggml.ggml_backend_dev_by_type(CPU))
    kinds = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
    start = _function(base, registry, "ggml_backend_rpc_start_server", None, *kinds)
    start(place.encode(), None, threads, 1, ctypes.addressof(devices))


def _loaded(library: Path) -> tuple[Any, Any, int]:
    """ggml's two libraries, and the backend's registry."""
    # By the names that libllama asks for: beside them lie copies, with registries of their own.
    ggml, base = (ctypes.CDLL(str(LIBRARIES / name)) for name in ("libggml.so.0", "libggml-base.so.0"))
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    registry = ggml.ggml_backend_load(str(library).encode())
    if not registry:
        raise OSError(f"llama.cpp cannot load {library}.")
    return ggml, base, registry


def _function(base: Any, registry: int, name: str, result: Any, *kinds: Any) -> Any:
    find = base.ggml_backend_reg_get_proc_address
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(result, *kinds)(find(registry, name.encode()))


if __name__ == "__main__":
    _, _, built, where, count = sys.argv
    serve(Path(built), where, int(count))
