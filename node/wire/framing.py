"""Length-prefixed frames over any byte stream, bounded in size and in time.

A frame is an unsigned varint (multiformats: minimal, here of at most five bytes) and that many bytes. The
length is checked before any of the body is read, a frame that has begun must end within a deadline, and a
message is written in one call. libp2p's own read_exactly gives up after 100 reads, hence a loop of our own.
"""

from __future__ import annotations

from typing import Protocol, cast

import trio

from hypercluster.node.errors import ConnectionLost, FrameError, FrameTimeout, FrameTooLong
from hypercluster.node.wire.bounds import MAX_OPENING_FRAME

_MAX_VARINT = 5
_SMALL = 4096
PIECE = 4 * 65_519
"""bytes of a long frame that are handed to a prompt stream at a time: what four Noise packets hold"""


class ByteStream(Protocol):
    """What a libp2p stream and a secured TCP connection have in common.

    Both raise ConnectionLost when the peer is gone.
    """

    async def read(self) -> bytes:
        """Return at least one byte and at most some 64 KiB, or none at the end."""

    async def write(self, data: bytes) -> None:
        """Send all of data."""


class Prompt(ByteStream, Protocol):
    """A stream that can send without waiting, which saves a deadline and a turn of the event loop."""

    def begin(self, data: bytes | memoryview) -> bytes:
        """Send what can be sent at once, and return what `finish` is to send. Raises ConnectionLost."""

    async def finish(self, rest: bytes) -> None:
        """Send what is left. Raises ConnectionLost."""


def encode_length(length: int) -> bytes:
    """The unsigned varint of a frame's length."""
    out = bytearray()
    while length > 0x7F:
        out.append(0x80 | length & 0x7F)
        length >>= 7
    out.append(length)
    return bytes(out)


def decode_length(buffer: bytes | bytearray) -> tuple[int, int] | None:
    """The length at the start of `buffer` and the bytes it takes, or None while it is incomplete.

    Raises FrameError for a varint that is not minimal or longer than five bytes.
    """
    value = 0
    for index, byte in enumerate(buffer[:_MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise FrameError("A frame length is not a minimal varint.")
            return value, index + 1
    if len(buffer) >= _MAX_VARINT:
        raise FrameError("A frame length has more than five bytes.")
    return None


class Frames:
    """Frames over one byte stream. One task may receive while another sends.

    `max_frame` (bytes) may be raised once both sides agree on more. `frame_seconds` bounds the time from the
    first byte of a frame to its last, and the time to send one.
    """

    def __init__(
        self, stream: ByteStream, *, max_frame: int = MAX_OPENING_FRAME, frame_seconds: float = 30.0
    ) -> None:
        self.max_frame = max_frame
        self.frame_seconds = frame_seconds
        self._stream = stream
        self._prompt = cast(Prompt, stream) if hasattr(stream, "begin") else None
        self._buffer = bytearray()
        self._parts: list[bytes | bytearray] = []
        """of the body of a frame that has not come whole"""
        self._missing = 0

    async def send(self, body: bytes | memoryview, timeout: float | None = None) -> None:
        """Send one frame, in one write unless it is long, within `timeout` (s, default `frame_seconds`).

        Raises FrameTooLong, FrameTimeout, ConnectionLost.
        """
        seconds = self.frame_seconds if timeout is None else timeout
        if len(body) > self.max_frame:
            raise FrameTooLong(f"A frame of {len(body)} bytes is longer than the {self.max_frame} agreed.")
        length, prompt = encode_length(len(body)), self._prompt
        if prompt is None:
            sending = self._stream.write(b"".join((length, body)))
        elif len(body) >= PIECE:
            sending = self._send_pieces(prompt, length, memoryview(body))
        elif rest := prompt.begin(b"".join((length, body))):
            sending = prompt.finish(rest)
        else:
            return
        with trio.move_on_after(seconds):
            await sending
            return
        raise FrameTimeout(f"The peer did not take a frame of {len(body)} bytes in {seconds:g} s.")

    @staticmethod
    async def _send_pieces(prompt: Prompt, length: bytes, body: memoryview) -> None:
        first = PIECE - len(length)
        if rest := prompt.begin(b"".join((length, body[:first]))):
            await prompt.finish(rest)
        for at in range(first, len(body), PIECE):
            if rest := prompt.begin(body[at : at + PIECE]):
                await prompt.finish(rest)
            else:
                await trio.lowlevel.checkpoint()

    async def receive(self, timeout: float | None = None) -> bytes:
        """The body of the next frame; `timeout` (s) is how long it may take to begin, None for ever.

        Raises FrameTimeout, FrameTooLong, FrameError, ConnectionLost. After any of them close the stream.
        """
        if not self._buffer and not self._parts:
            if timeout is None:
                await self._fill()
            else:
                with trio.move_on_after(timeout):
                    await self._fill()
            if not self._buffer:
                raise FrameTimeout(f"The peer sent nothing for {timeout:g} s.")
        if (body := self._taken()) is not None:
            return body
        with trio.move_on_after(self.frame_seconds):
            while (body := self._taken()) is None:
                await self._fill()
            return body
        raise FrameTimeout(f"A frame took more than {self.frame_seconds:g} s to arrive.")

    def _taken(self) -> bytes | None:
        """The next frame out of what has come; None while it is not whole. Raises FrameTooLong, FrameError."""
        if self._parts:
            return None if self._missing > 0 else self._joined()
        prefix = decode_length(self._buffer)
        if prefix is None:
            return None
        length, start = prefix
        if length > self.max_frame:
            raise FrameTooLong(f"A frame of {length} bytes is longer than the {self.max_frame} agreed.")
        if len(self._buffer) < start + length:
            self._parts.append(self._buffer[start:])
            self._missing = start + length - len(self._buffer)
            self._buffer = bytearray()
            return None
        body = bytes(memoryview(self._buffer)[start : start + length])
        del self._buffer[: start + length]
        return body

    def _joined(self) -> bytes:
        """The body whose parts have all come; what came behind it is kept."""
        if self._missing:
            last = self._parts[-1]
            whole = len(last) + self._missing
            self._parts[-1], self._buffer = last[:whole], bytearray(last[whole:])
        body = b"".join(self._parts)
        self._parts, self._missing = [], 0
        return body

    async def _fill(self) -> None:
        data = await self._stream.read()
        if not data:
            where = "within a frame" if self._buffer or self._parts else "the connection"
            raise ConnectionLost(f"The peer closed {where}.")
        if not self._parts:
            self._buffer += data
            return
        self._missing -= len(data)
        if len(data) < _SMALL:  # so that many small ones take no more than their bytes
            if not isinstance(self._parts[-1], bytearray):
                self._parts.append(bytearray())
            self._parts[-1] += data
        else:
            self._parts.append(data)
