"""Writing GGUF files as a stream: header first, then tensor by tensor, then an atomic rename."""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gguf.constants import GGMLQuantizationType, GGUFValueType

from hypercluster.node.shards.container import CHUNK, MAGIC, padded, tensor_bytes
from hypercluster.node.shards.errors import WriteFailed

Progress = Callable[[int], None]  # told how many bytes have just been handled


@dataclass(frozen=True)
class Value:
    """A metadata value: its type and its encoding after the type word."""

    type: GGUFValueType
    raw: bytes


@dataclass(frozen=True)
class Part:
    """A tensor to write: shape in ggml order (row length first) and where its bytes come from.

    Without `chunks` it is zeros, which take no space on the disk: a hole of the file.
    """

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[bytes]] | None

    @property
    def size(self) -> int:
        """Bytes of tensor data."""
        return tensor_bytes(self.type, self.shape)


def text(value: str) -> Value:
    """A string value."""
    return Value(GGUFValueType.STRING, _string(value.encode()))


def uint32(value: int) -> Value:
    """A 32-bit unsigned value."""
    return Value(GGUFValueType.UINT32, struct.pack("<I", value))


def int32s(values: Sequence[int]) -> Value:
    """A list of 32-bit signed values."""
    return Value(
        GGUFValueType.ARRAY,
        _array(GGUFValueType.INT32, len(values)) + struct.pack(f"<{len(values)}i", *values),
    )


def uint32s(values: Sequence[int]) -> Value:
    """A list of 32-bit unsigned values."""
    return Value(
        GGUFValueType.ARRAY,
        _array(GGUFValueType.UINT32, len(values)) + struct.pack(f"<{len(values)}I", *values),
    )


def array(item: GGUFValueType, items: Sequence[bytes]) -> Value:
    """A list of items that are encoded already, all of one type."""
    return Value(GGUFValueType.ARRAY, _array(item, len(items)) + b"".join(items))


def float32(value: float) -> Value:
    """A 32-bit float value."""
    return Value(GGUFValueType.FLOAT32, struct.pack("<f", value))


def texts(values: Iterable[str | bytes]) -> Value:
    """A list of strings."""
    items = [_string(value.encode() if isinstance(value, str) else value) for value in values]
    return Value(GGUFValueType.ARRAY, _array(GGUFValueType.STRING, len(items)) + b"".join(items))


def zeros(size: int) -> Callable[[], Iterator[bytes]]:
    """A source of `size` zero bytes: the placeholders that llama.cpp wants but never uses."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, size, CHUNK):
            yield bytes(min(CHUNK, size - start))

    return chunks


@contextmanager
def replacing(dest: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name `dest` when the block ends well, and vanishes otherwise.

    Raises WriteFailed when the disk is full or the folder cannot be written.
    """
    partial = dest.with_name(f".{dest.name}.{secrets.token_hex(4)}.part")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(dest)
    except OSError as error:
        raise WriteFailed(f"{dest} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_gguf(
    dest: Path, metadata: dict[str, Value], parts: Sequence[Part], progress: Progress | None = None
) -> Path:
    """Write a GGUF version 3 file, which appears under its name only when complete, and return its path.

    `progress` is called with the number of tensor bytes just written. Raises WriteFailed.
    """
    with replacing(dest) as file:
        write_parts(file, metadata, parts, progress)
    return dest


def write_parts(
    file: BinaryIO, metadata: dict[str, Value], parts: Sequence[Part], progress: Progress | None = None
) -> None:
    """The same into an open file."""
    file.write(laid_out(metadata, parts)[0])
    for part in parts:
        if part.chunks is None:
            file.seek(padded(part.size), os.SEEK_CUR)
            continue
        written = 0
        for chunk in part.chunks():
            written += file.write(chunk)
            if progress is not None:
                progress(len(chunk))
        if written != part.size:
            raise ValueError(f"tensor {part.name} brought {written} bytes instead of {part.size}")
        file.write(bytes(padded(written) - written))
    file.truncate()


def laid_out(metadata: dict[str, Value], parts: Sequence[Part]) -> tuple[bytes, list[int], int]:
    """The beginning of a file, the byte of the file at which each tensor begins, and the file's bytes in all."""
    header = _header(metadata, parts)
    header = header.ljust(padded(len(header)) if parts else len(header), b"\0")
    offsets, at = [], len(header)
    for part in parts:
        offsets.append(at)
        at = padded(at + part.size)
    return header, offsets, at


def _header(metadata: dict[str, Value], parts: Sequence[Part]) -> bytes:
    pieces = [MAGIC, struct.pack("<IQQ", 3, len(parts), len(metadata))]
    for key, value in metadata.items():
        pieces += [_string(key.encode()), struct.pack("<I", value.type), value.raw]
    offset = 0
    for part in parts:
        pieces += [
            _string(part.name.encode()),
            struct.pack(f"<I{len(part.shape)}Q", len(part.shape), *part.shape),
        ]
        pieces.append(struct.pack("<IQ", part.type, offset))
        offset = padded(offset + part.size)
    return b"".join(pieces)


def _string(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _array(item: GGUFValueType, count: int) -> bytes:
    return struct.pack("<IQ", item, count)
