"""The step exchange over real connections of both kinds, and what strangers do to it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import trio

from hypercluster.market.advert import Advert
from hypercluster.node.errors import (
    ConnectionLost,
    ErrorCode,
    FrameError,
    FrameTimeout,
    NodeError,
    PeerUnreachable,
)
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.connection import Connection, Handler
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps, serve_steps
from hypercluster.node.network.swarm import HostLimits
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.framing import encode_length
from hypercluster.node.wire.messages import INFER_PROTOCOL, Close, Error, Step, StepResult

LOCAL = ["/ip4/127.0.0.1/tcp/0"]
N_EMBD = 2048
KINDS = pytest.mark.parametrize("direct", [True, False], ids=["direct", "stream"])


def step(seq: int, rows: int = 1) -> Step:
    activations = np.full((rows, N_EMBD), seq, np.float32).tobytes()
    return Step(seq, seq, rows, 10 * seq, b"v" * 64, activations)


async def echo(connection: Connection) -> None:
    """Answers each step with its input, until Close."""
    connection.raise_bound(frame_bound(512, N_EMBD))
    try:
        while isinstance(message := await connection.receive(10), Step):
            result = StepResult(
                seq=message.seq,
                rows=message.rows,
                billed_wei=0,
                compute_ms=0.5,
                output=message.input,
                issued=1,
                receipt=bytes(64),
            )
            await connection.send(result, 10)
    except ConnectionLost:
        pass
    except NodeError as error:
        await connection.send(Error.of(error.code, str(error)))


@asynccontextmanager
async def provider(
    handler: Handler = echo, limits: HostLimits | None = None, frame_seconds: float = 30.0
) -> AsyncIterator[tuple[Host, Host, Advert]]:
    async with (
        running_host(secrets.token_bytes(32), LOCAL, limits=limits) as server,
        running_host(secrets.token_bytes(32)) as client,
    ):
        direct = await serve_steps(server, handler, direct_listen=LOCAL[0], frame_seconds=frame_seconds)
        advert = Advert(
            peer=server.peer,
            model_id="ab" * 32,
            layer_start=0,
            layer_stop=1,
            price_wei=1,
            prompt_price_wei=1,
            cost_ms=1.0,
            prompt_ms=1.0,
            operator="0x" + "11" * 20,
            capacity=1,
            free=1,
            session_tokens=512,
            max_top_k=8,
            sequence=1,
            issued=0,
            expires=1,
            width=N_EMBD,
            addrs=server.addrs,
            direct=direct,
        )
        yield server, client, advert


async def exchange(client: Host, advert: Advert, direct: bool, steps: int = 3, rows: int = 1) -> None:
    connection = await dial_steps(client, advert, direct=direct)
    assert connection.direct is direct
    assert connection.peer == advert.peer
    connection.raise_bound(frame_bound(512, N_EMBD))
    for seq in range(steps):
        sent = step(seq, rows)
        await connection.send(sent)
        result = await connection.receive(10)
        assert isinstance(result, StepResult)
        assert result.seq == seq
        assert result.output == sent.input
    await connection.send(Close())
    await connection.close()


async def raw(client: Host, advert: Advert, direct: bool) -> trio.abc.AsyncResource:
    """A connection below the frames."""
    if direct:
        return await dial_direct(client, advert.peer, advert.direct, 5)  # type: ignore[return-value]
    return await client.open_stream(advert.peer, INFER_PROTOCOL, advert.addrs)  # type: ignore[return-value]


@KINDS
async def test_steps(direct: bool) -> None:
    async with provider() as (_server, client, advert):
        await exchange(client, advert, direct, steps=20)


@KINDS
async def test_a_large_prefill(direct: bool) -> None:
    async with provider() as (_server, client, advert):
        await exchange(client, advert, direct, steps=2, rows=512)


@KINDS
async def test_many_sessions_at_once(direct: bool) -> None:
    async with provider() as (_server, client, advert), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(exchange, client, advert, direct)


async def test_falls_back_to_a_stream() -> None:
    async with provider() as (_server, client, advert):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            dead = f"/ip4/127.0.0.1/tcp/{closed.getsockname()[1]}"
        for address in ("", dead, "nonsense", advert.addrs[0]):
            connection = await dial_steps(client, replace(advert, direct=address))
            assert not connection.direct
            await connection.close()


async def test_an_impostor_at_the_direct_address() -> None:
    async with provider() as (_server, client, advert):
        other = peer_of_key(secrets.token_bytes(32))
        with pytest.raises(PeerUnreachable):
            await dial_direct(client, other, advert.direct, 5)


async def test_nobody_there() -> None:
    async with provider() as (_server, client, advert):
        pass
    async with running_host(secrets.token_bytes(32)) as client:
        with pytest.raises(PeerUnreachable):
            await dial_steps(client, advert, 3)


@KINDS
async def test_no_delay_for_small_messages(direct: bool) -> None:
    async with provider() as (_server, client, advert):
        stream = await raw(client, advert, direct)
        tcp = stream._socket.socket if direct else None  # type: ignore[attr-defined]
        if tcp is not None:
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await stream.close()  # type: ignore[attr-defined]


GARBAGE = [
    pytest.param(encode_length(5) + b"\xff" * 5, ErrorCode.BAD_REQUEST, id="no protobuf"),
    pytest.param(encode_length(0), ErrorCode.UNSUPPORTED_VERSION, id="empty frame"),
    pytest.param(encode_length(1 << 32) + b"x" * 100, ErrorCode.TOO_LONG, id="4 GiB"),
    pytest.param(b"\xff" * 1000, ErrorCode.BAD_REQUEST, id="endless length"),
    pytest.param(b"\x80\x00", ErrorCode.BAD_REQUEST, id="padded length"),
]


@KINDS
@pytest.mark.parametrize(("sent", "code"), GARBAGE)
async def test_garbage_gets_its_code_and_hurts_nobody(direct: bool, sent: bytes, code: ErrorCode) -> None:
    async with provider() as (_server, client, advert):
        good = await dial_steps(client, advert, direct=direct)
        stream = await raw(client, advert, direct)
        await stream.write(sent)  # type: ignore[attr-defined]
        connection = Connection(stream)  # type: ignore[arg-type]
        answer = await connection.receive(5)
        assert isinstance(answer, Error)
        assert answer.code is code
        with pytest.raises(ConnectionLost):
            await connection.receive(5)
        await connection.close()
        await good.send(step(1))
        assert isinstance(await good.receive(5), StepResult)
        await good.close()


@KINDS
async def test_a_byte_now_and_then(direct: bool) -> None:
    async with provider(frame_seconds=0.5) as (_server, client, advert):
        stream = await raw(client, advert, direct)
        connection = Connection(stream)  # type: ignore[arg-type]

        answered = trio.Event()

        async def drip() -> None:
            # Not cancelled: half a yamux frame would be the end of the whole connection.
            for byte in encode_length(100) + b"x" * 100:
                if answered.is_set():
                    return
                try:
                    await stream.write(bytes([byte]))  # type: ignore[attr-defined]
                except ConnectionLost:
                    return
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            answer = await connection.receive(5)
            answered.set()
            assert isinstance(answer, Error)
            assert answer.code is ErrorCode.TIMEOUT
        await connection.close()
        await exchange(client, advert, direct)


@KINDS
async def test_silence(direct: bool) -> None:
    async def impatient(connection: Connection) -> None:
        try:
            await connection.receive(0.3)
        except FrameTimeout as error:
            await connection.send(Error.of(error.code, str(error)))

    async with provider(impatient) as (_server, client, advert):
        connection = await dial_steps(client, advert, direct=direct)
        answer = await connection.receive(5)
        assert isinstance(answer, Error)
        assert answer.code is ErrorCode.TIMEOUT
        with pytest.raises(ConnectionLost):
            await connection.receive(5)
        await connection.close()


@KINDS
async def test_a_handler_that_raises(direct: bool) -> None:
    async def fail(connection: Connection) -> None:
        await connection.receive(5)
        raise RuntimeError("on purpose")

    async with provider(fail) as (_server, client, advert):
        for _ in range(3):
            connection = await dial_steps(client, advert, direct=direct)
            await connection.send(Close())
            with pytest.raises(ConnectionLost):
                await connection.receive(5)
            await connection.close()


@KINDS
async def test_the_client_vanishes(direct: bool) -> None:
    ended = trio.Event()

    async def watch(connection: Connection) -> None:
        try:
            await connection.receive(None)
        except ConnectionLost:
            ended.set()

    async with provider(watch) as (_server, _client, advert):
        async with running_host(secrets.token_bytes(32)) as passing:
            await dial_steps(passing, advert, direct=direct)
            if direct:
                await dial_steps(passing, advert, direct=False)
        with trio.fail_after(300):
            await ended.wait()


async def test_too_many_direct_connections_of_one_peer() -> None:
    async with provider(limits=HostLimits(streams_per_peer=3)) as (_server, client, advert):
        held = [await dial_steps(client, advert) for _ in range(3)]
        extra = await dial_steps(client, advert)
        with pytest.raises((ConnectionLost, FrameError)):
            await extra.receive(5)
        await held.pop().close()
        await trio.sleep(0.05)
        await exchange(client, advert, True)
        for connection in [*held, extra]:
            await connection.close()


async def test_garbage_instead_of_a_handshake() -> None:
    async with provider(limits=HostLimits(handshake_seconds=0.5)) as (_server, client, advert):
        port = int(advert.direct.rsplit("/", 1)[1])
        strangers = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
        for index, stranger in enumerate(strangers):
            with suppress(trio.BrokenResourceError):
                await stranger.send_all([b"", b"\xff" * 500, b"\0\0", secrets.token_bytes(400)][index % 4])
        with trio.fail_after(300):
            for stranger in strangers:
                try:
                    while await stranger.receive_some(4096):
                        pass
                except trio.BrokenResourceError:
                    pass
        await exchange(client, advert, True)


@KINDS
async def test_a_tampered_byte_ends_a_direct_connection_only(direct: bool) -> None:
    async with provider() as (_server, client, advert):
        secure = await dial_direct(client, advert.peer, advert.direct, 5)
        await secure._socket.send_all(b"\0\x20" + secrets.token_bytes(32))
        with trio.fail_after(300):
            assert await secure.read() == b""
        await secure.close()
        await exchange(client, advert, direct)
