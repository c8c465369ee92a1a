"""py-libp2p's muxer with less work for each frame: frames are most of what a node does that serves nobody.

As it comes it answers every read of a stream with a frame that extends its window, be it of a single byte; writes and
reads a log line and half a dozen turns of the event loop more than it needs for every frame; and takes each packet from
the system in two reads.
"""

from __future__ import annotations

from typing import Any

from libp2p.abc import ISecureConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.stream.net_stream import NetStream
from libp2p.security.noise.io import NoisePacketReadWriter, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from hypercluster.node.network.locks import Lock, WriteLock

_CHUNK = 64 * 1024
_LENGTH = 2
"""bytes of the length before a packet"""


class Muxer(Yamux):
    """A yamux connection."""

    def __init__(self, secured_conn: ISecureConn, *args: Any, **kwargs: Any) -> None:
        super().__init__(secured_conn, *args, **kwargs)
        self._write_lock: Any = Lock()
        if isinstance(secured_conn, SecureSession) and isinstance(
            secured_conn.conn, NoiseTransportReadWriter
        ):
            # Until now whole packets were read.
            noise = secured_conn.conn
            noise.read_writer = Packets(noise.read_writer.read_write_closer)

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            await self.secured_conn.write(data)


class Packets(NoisePacketReadWriter):
    """Noise packets, of which as many are taken from the system at a time as lie there."""

    def __init__(self, inner: ReadWriteCloser) -> None:
        super().__init__(inner)
        self._held = bytearray()

    async def read_msg(self) -> bytes:
        """The next packet. Raises IncompleteReadError at the end of the connection."""
        held = self._held
        while len(held) < _LENGTH or len(held) < _LENGTH + int.from_bytes(held[:_LENGTH]):
            data = await self.read_write_closer.read(_CHUNK)
            if not data:
                raise IncompleteReadError("The connection ended.", _LENGTH, len(held))
            held += data
        end = _LENGTH + int.from_bytes(held[:_LENGTH])
        packet = bytes(held[_LENGTH:end])
        del held[:end]
        return packet


async def _extend(self: YamuxStream, *, bytes_read: int = 0) -> None:
    """Let the other side send more once half of what it may send is used up, as yamux does elsewhere."""
    buffered = len(self.conn.stream_buffers.get(self.stream_id, b""))
    used = self.target_recv_window - self.recv_window - buffered
    if used > 0 and used >= self._grow_threshold():
        await self.send_window_update(self._grow_to_delta(buffered) + self._apply_autotune_epoch(buffered))


def _with_locks(kind: type[Any], **locks: type[Lock]) -> None:
    """Have the objects of a class use our locks in place of trio's."""
    begin = kind.__init__

    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        for name, lock in locks.items():
            setattr(self, name, lock())

    kind.__init__ = begun


_with_locks(YamuxStream, window_lock=Lock, rw_lock=WriteLock, close_lock=Lock)
_with_locks(NetStream, _state_lock=Lock)
_with_locks(TrioTCPStream, read_lock=Lock, write_lock=Lock)
YamuxStream._auto_tune_and_send_window_update = _extend  # type: ignore[method-assign]
# It makes a connection of this name, whatever class it was given.
muxer_multistream.Yamux = Muxer  # type: ignore[attr-defined]
