"""The limit of descriptors is raised at the start, and connections stay within it where it cannot be."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable

import trio

from hypercluster.node.errors import PeerUnreachable
from hypercluster.node.network.descriptors import NEEDED, STRANGERS, complaint, share_for
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.host import Host, running_host

LIMITS = """
import resource, sys
from hypercluster.node.network.descriptors import raise_limit
soft, hard, needed = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_limit(needed), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
NODE = """
import resource, secrets, sys, trio
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import serve_steps
async def handler(connection):
    await connection.receive(10)
async def main():
    async with running_host(secrets.token_bytes(32), ["/ip4/127.0.0.1/tcp/0"]) as host:
        direct = await serve_steps(host, handler, direct_listen="/ip4/127.0.0.1/tcp/0")
        print(host.peer, direct, host.addrs[0], flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def limits(soft: int, hard: int, needed: int) -> str:
    """What is allowed afterwards, in a process of its own: a hard limit does not go up again."""
    command = [sys.executable, "-c", LIMITS, str(soft), str(hard), str(needed)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_soft_limit_is_raised_to_what_is_needed() -> None:
    assert limits(256, 900, 800) == "800 800 900"


def test_a_higher_limit_stays() -> None:
    assert limits(700, 900, 600) == "700 700 900"


def test_where_the_system_forbids_it_there_are_fewer_places_and_a_sentence() -> None:
    assert limits(256, 500, 800) == "500 500 500"
    assert "allows a process 500" in complaint(500)
    assert f"ulimit -Hn {NEEDED}" in complaint(500)
    assert complaint(NEEDED) == ""
    assert share_for(NEEDED) == 1
    for got in (256, 512, 1024, 2048):
        assert share_for(got) * STRANGERS < got


async def _in_and_out(client: Host, peer: str, direct: str) -> None:
    await (await dial_direct(client, peer, direct, 10)).close()


async def _patiently(dial: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(300):
        while True:
            try:
                return await dial()
            except PeerUnreachable:
                await trio.sleep(0.2)


async def test_a_node_with_few_descriptors_does_not_run_out_of_them() -> None:
    with subprocess.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            peer, direct, addr = (await trio.to_thread.run_sync(process.stdout.readline)).split()
            ports = [int(address.rsplit("/", 1)[1]) for address in (direct, addr)]
            strangers = [await trio.open_tcp_stream("127.0.0.1", port) for port in ports for _ in range(250)]
            # Until the node has seen them all, a newcomer may have to give way to one of them.
            for stranger in (strangers[0], strangers[200], strangers[250], strangers[450]):
                with trio.fail_after(300):
                    assert await stranger.receive_some(1) == b""
            async with running_host(secrets.token_bytes(32)) as client:
                for _ in range(3):
                    await _patiently(lambda: _in_and_out(client, peer, direct))
                await _patiently(lambda: client.connect(peer, [addr]))
            for stranger in strangers:
                await trio.aclose_forcefully(stranger)
        finally:
            process.kill()
