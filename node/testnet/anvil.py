"""A local EVM chain: Anvil, from the npm package beside the contracts, as a child process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypercluster import contracts
from hypercluster.node.errors import NodeError

CHAIN_ID = 31337
# Anvil's first account, the same on every machine and known to everybody: for play money only.
DEPLOYER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
START_SECONDS = 120.0


class AnvilError(NodeError):
    """Anvil is missing or did not start."""


def executable() -> str:
    """Path of the Anvil program: the npm package's own binary, else the one on PATH.

    The npm package's launcher is a Node script that leaves its child behind when it is killed, so the
    platform's binary is taken from the package directly.
    """
    found = shutil.which("anvil")
    packages = [Path(contracts.__file__).parent / "node_modules"]
    if found and (launcher := Path(found).resolve()).suffix == ".mjs":  # npm install -g
        packages += [launcher.parent / "node_modules", launcher.parents[2]]
    for modules in packages:
        for binary in sorted(modules.glob("@foundry-rs/anvil-*/bin/anvil*")):
            if os.access(binary, os.X_OK):
                return str(binary)
    if not found:
        raise AnvilError(
            "Anvil, which runs chains with play money, is not installed: `npm install -g @foundry-rs/anvil` brings it "
            "(in a checkout `make setup`), or put foundry's anvil on PATH."
        )
    return found


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_anvil(port: int | None = None, *, block_time: int | None = None) -> Iterator[str]:
    """Run Anvil on loopback and yield its RPC URL; the process ends with the block.

    Args:
        port: TCP port, a free one by default.
        block_time: seconds between blocks; by default every transaction is mined at once.

    Raises:
        AnvilError: the program is missing, the port is taken, or it does not answer in time.
    """
    port = port or free_port()
    # Asked first: whoever else is there may be an Anvil too, and would answer for ours.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AnvilError(f"Port {port} cannot be used, choose another one: {error.strerror}.") from None
    # Slots in an epoch = 1 makes "finalized" follow the head, as a local chain has no forks.
    command = [
        executable(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--chain-id",
        str(CHAIN_ID),
        "--silent",
    ]
    if block_time:
        command += ["--block-time", str(block_time), "--mixed-mining"]
    with ExitStack() as stack:
        stack.enter_context(_told_to_end())
        # Anvil keeps old states under HOME, hundreds of megabytes over time, and never removes them.
        spill = stack.enter_context(TemporaryDirectory(prefix="anvil-", ignore_cleanup_errors=True))
        process = stack.enter_context(
            subprocess.Popen(
                command,
                env={**os.environ, "HOME": spill},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # Ctrl-C reaches it from us, after the providers have ended, not from the terminal.
                start_new_session=True,
            )
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(url, process)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block as Ctrl-C does, where they would end this process at once and leave
    behind what it started.
    """
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - a loopback URL
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            reason = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            raise AnvilError(f"Anvil ended at once: {''.join(reason) or process.returncode}.")
        try:
            with urllib.request.urlopen(request, timeout=1):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AnvilError(f"Anvil did not answer on {url} within {START_SECONDS:.0f} s.")
