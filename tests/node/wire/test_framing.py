"""Frames over a byte stream, in order, cut anywhere, too long, too slow."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from hypercluster.node.errors import ConnectionLost, ErrorCode, FrameError, FrameTimeout, FrameTooLong
from hypercluster.node.wire.framing import PIECE, Frames, decode_length, encode_length


class Bytes:
    """A trio stream under the names the frames expect."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self.stream = stream
        self.writes: list[int] = []

    async def read(self) -> bytes:
        return bytes(await self.stream.receive_some(65536))

    async def write(self, data: bytes) -> None:
        self.writes.append(len(data))
        await self.stream.send_all(data)


def pair() -> tuple[Bytes, Bytes]:
    left, right = memory_stream_pair()
    return Bytes(left), Bytes(right)


@given(st.integers(0, 2**35 - 1))
def test_lengths_round_trip(length: int) -> None:
    prefix = encode_length(length)
    assert decode_length(prefix + b"rest") == (length, len(prefix))
    assert decode_length(prefix[:-1]) is None


@pytest.mark.parametrize("prefix", [b"\x80\x00", b"\xff\x80\x00", b"\xff" * 5, b"\x80" * 9])
def test_bad_lengths(prefix: bytes) -> None:
    with pytest.raises(FrameError):
        decode_length(prefix)


async def test_frames_keep_their_borders_and_go_out_in_one_write() -> None:
    left, right = pair()
    bodies = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 60000]
    sender, receiver = Frames(left), Frames(right)
    for body in bodies:
        await sender.send(body)
    assert [await receiver.receive(1) for _ in bodies] == bodies
    assert len(left.writes) == len(bodies)


async def test_a_frame_in_single_bytes() -> None:
    left, right = pair()
    body = bytes(range(256)) * 2

    async def drip() -> None:
        for byte in encode_length(len(body)) + body:
            await left.write(bytes([byte]))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        assert await Frames(right).receive(1) == body


class Prompt:
    """Takes some bytes at once and the rest later, and gives what it took, cut at random."""

    def __init__(self, draw: random.Random) -> None:
        self._draw, self.taken = draw, bytearray()

    def begin(self, data: bytes | memoryview) -> bytes:
        kept = self._draw.choice([0, 1, len(data)])
        self.taken += data[:kept]
        return bytes(data[kept:])

    async def finish(self, rest: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.taken += rest

    async def write(self, data: bytes) -> None:
        raise AssertionError("it sends without waiting")

    async def read(self) -> bytes:
        size = self._draw.choice([1, 2, 5000, 70_000, 300_000])
        data = bytes(self.taken[:size])
        del self.taken[:size]
        return data


@pytest.mark.parametrize("seed", range(20))
async def test_frames_of_every_size_cut_anywhere(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [0, 1, 127, 128, 5000, PIECE - 3, PIECE - 1, PIECE, 2 * PIECE, 3 * PIECE + 1]
    bodies = [draw.randbytes(draw.choice(sizes)) for _ in range(8)]
    stream = Prompt(draw)
    frames = Frames(stream, max_frame=4 * PIECE)
    for body in bodies:
        await frames.send(body)
    assert [await frames.receive() for _ in bodies] == bodies
    with pytest.raises(ConnectionLost, match="closed the connection"):
        await frames.receive()


async def test_four_gibibytes_are_refused_before_the_body() -> None:
    left, right = pair()
    await left.write(encode_length(1 << 32) + b"x" * 10)
    with pytest.raises(FrameTooLong) as caught:
        await Frames(right).receive(1)
    assert caught.value.code is ErrorCode.TOO_LONG


async def test_the_bound_may_be_raised() -> None:
    left, right = pair()
    sender, receiver = Frames(left), Frames(right)
    body = b"x" * (sender.max_frame + 1)
    with pytest.raises(FrameTooLong):
        await sender.send(body)
    sender.max_frame = receiver.max_frame = len(body)
    await sender.send(body)
    assert await receiver.receive(1) == body


async def test_silence(autojump_clock: trio.testing.MockClock) -> None:
    _left, right = pair()
    with pytest.raises(FrameTimeout, match="nothing for 300 s") as caught:
        await Frames(right).receive(300)
    assert caught.value.code is ErrorCode.TIMEOUT
    assert trio.current_time() == pytest.approx(300, abs=1)


async def test_one_byte_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    left, right = pair()

    async def drip() -> None:
        for byte in encode_length(100) + b"x" * 100:
            await left.write(bytes([byte]))
            await trio.sleep(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        begun = trio.current_time()
        with pytest.raises(FrameTimeout):
            await Frames(right, frame_seconds=90).receive(None)
        assert trio.current_time() - begun == pytest.approx(90, abs=1)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    left, _right = trio.testing.lockstep_stream_pair()
    with pytest.raises(FrameTimeout, match="did not take"):
        await Frames(Bytes(left), frame_seconds=5).send(b"x")


async def test_the_end() -> None:
    left, right = pair()
    await left.write(encode_length(5) + b"xx")
    await left.stream.aclose()
    with pytest.raises(ConnectionLost):
        await Frames(right).receive(1)
