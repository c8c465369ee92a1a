"""The muxer: little goes over the wire for what is little, and much still flows."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.io.exceptions import IncompleteReadError
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT

from hypercluster.node.network.muxing import Muxer, Packets
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.framing import Frames
from tests.node.network.test_host import two

COUNT = "/test/count/1.0.0"


async def count(stream: Stream) -> None:
    """Take a frame, and say how many bytes it had."""
    frames = Frames(stream, max_frame=2**24)
    while True:
        await frames.send(str(len(await frames.receive())).encode())


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many frames went out, here and there, that only extend a stream's window, by that many bytes."""
    seen: Counter[int] = Counter()
    write = Muxer._write_frame

    async def counting(self: Muxer, data: bytes) -> None:
        _, kind, flags, _, length = struct.unpack(YAMUX_HEADER_FORMAT, data[:12])
        if kind == TYPE_WINDOW_UPDATE and not flags:
            seen[length] += 1
        await write(self, data)

    monkeypatch.setattr(Muxer, "_write_frame", counting)
    return seen


async def test_small_messages_extend_no_window(extensions: Counter[int]) -> None:
    async with two() as (server, client):
        server.serve(COUNT, count)
        frames = Frames(await client.open_stream(server.peer, COUNT, server.addrs))
        for length in range(1, 100):
            await frames.send(bytes(length))
            assert await frames.receive(5) == str(length).encode()
    assert not extensions


async def test_many_times_a_window_goes_through(extensions: Counter[int]) -> None:
    async with two() as (server, client):
        server.serve(COUNT, count)
        stream = await client.open_stream(server.peer, COUNT, server.addrs)
        frames = Frames(stream, max_frame=2**24)
        for length in (20 * DEFAULT_WINDOW_SIZE, 1, DEFAULT_WINDOW_SIZE + 1):
            with trio.fail_after(60):
                await frames.send(bytes(length))
                assert await frames.receive(30) == str(length).encode()
    assert extensions
    assert min(extensions) >= DEFAULT_WINDOW_SIZE // 2


class Pieces:
    """What a connection gives, piece by piece, and its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def read(self, n: int | None = None) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@given(st.lists(st.binary(max_size=600), max_size=12), st.data())
@settings(max_examples=40, deadline=None)
def test_packets_are_whole_wherever_they_are_cut(packets: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(len(each).to_bytes(2) + each for each in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    async def main() -> None:
        reader = Packets(Pieces([each for each in pieces if each]))  # type: ignore[arg-type]
        assert [await reader.read_msg() for _ in packets] == packets
        with pytest.raises(IncompleteReadError) as ended:
            await reader.read_msg()
        assert ended.value.is_clean_close

    trio.run(main)


async def test_a_connection_that_ends_within_a_packet_says_so() -> None:
    with pytest.raises(IncompleteReadError) as ended:
        await Packets(Pieces([b"\0\5abc"])).read_msg()  # type: ignore[arg-type]
    assert not ended.value.is_clean_close
